/*
 * cmd_job.c - `job`: a Python file over the rows of its source, by /jobs.
 *
 * The result alone goes to standard output; what the file prints, and its traceback, to standard
 * error.
 */
#include "cli/cluster.h"
#include "cli/commands.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/tty.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

/* NAME=VALUE: a value that is JSON is that, another one is a text. */
static int add_value(struct mg_sb *out, const char *text, bool first, struct mg_error *err)
{
	const char *equals = strchr(text, '=');
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *value = NULL;

	if (!equals || equals == text) {
		mg_error_set(err, MG_E_USAGE, "--set takes NAME=VALUE, not \"%.80s\"", text);
		mg_arena_free(arena);
		return MG_E_USAGE;
	}
	mg_sb_add(out, first ? "" : ", ");
	mg_sb_add_json(out, text, (size_t)(equals - text));
	mg_sb_add(out, ": ");
	if (mg_json_parse(arena, equals + 1, strlen(equals + 1), &value, NULL) == 0) {
		mg_json_print(out, value);
	} else {
		mg_sb_add_json(out, equals + 1, strlen(equals + 1));
	}
	mg_arena_free(arena);
	return 0;
}

static int add_values(const struct mg_options *options, struct mg_sb *out, struct mg_error *err)
{
	const char *name = NULL, *text;
	bool first = true;
	int code = 0;

	mg_sb_add_char(out, '{');
	for (size_t i = 0; !code && (text = mg_options_occurrence(options, i, &name)); i++) {
		if (strcmp(name, "set") == 0) {
			code = add_value(out, text, first, err);
			first = false;
		}
	}
	mg_sb_add_char(out, '}');
	return code;
}

static int make_request(const struct mg_options *options, bool deferred, struct mg_sb *out,
                        struct mg_error *err)
{
	const char *path = mg_options_argument(options, 0);
	const char *source = mg_options_text(options, "source");
	char *code_text = NULL;
	size_t size = 0;
	int code = mg_file_read(path, FILE_MAX, &code_text, &size, err);

	if (!code && !mg_utf8_valid(code_text, size)) {
		code = mg_error_set(err, MG_E_USAGE, "\"%s\" is not UTF-8", path);
		mg_free(code_text);
	}
	if (code) {
		return code;
	}
	mg_sb_add(out, "{\"code\": ");
	mg_sb_add_json(out, code_text, size);
	mg_sb_add(out, ", \"values\": ");
	code = add_values(options, out, err);
	if (source) {
		mg_sb_add(out, ", \"source\": ");
		mg_sb_add_json(out, source, strlen(source));
	}
	mg_sb_addf(out, ", \"deferred\": %s}", deferred ? "true" : "false");
	mg_free(code_text);
	return code;
}

static void print_text(FILE *to, const char *text)
{
	if (text && *text) {
		fprintf(to, "%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
	}
}

static void print_result(const struct mg_json *result, bool as_json)
{
	struct mg_sb line = { 0 };

	if (!as_json && mg_json_is(result, MG_JSON_STRING)) {
		printf("%s\n", mg_json_text(result));
		return;
	}
	mg_json_print(&line, result);
	printf("%s\n", mg_sb_text(&line));
	mg_sb_fini(&line);
}

/* ---- what the server has answered ---- */

enum { NO_CONNECTION = 2, STILL_RUNS = 5, INTERRUPTED = 130, LOOK_MS = 200 };

static bool wants_json(const struct mg_options *options)
{
	return strcmp(mg_options_text(options, "format"), "json") == 0;
}

static void print_state(const struct mg_json *job)
{
	printf("%s\t%s\t%s\t%" PRId64 " rows\t%.1f s\n", mg_json_text(mg_json_get(job, "id")),
	       mg_json_text(mg_json_get(job, "state")), mg_json_text(mg_json_get(job, "user")),
	       mg_json_get_int(job, "rows", 0),
	       (double)mg_json_get_int(job, "elapsed_ms", 0) / 1000);
}

/* An answer that is no job's end. */
static int show_state(const struct mg_options *options, const struct mg_json *job)
{
	if (wants_json(options)) {
		print_result(job, true);
	} else {
		print_state(job);
	}
	return STILL_RUNS;
}

static int show_end(const struct mg_options *options, const struct mg_json *job,
                    const struct mg_sb *body, int status)
{
	struct mg_error err = { 0 };

	print_text(stderr, mg_json_get_text(job, "printed"));
	if (status == 200) {
		print_result(mg_json_get(job, "result"), wants_json(options));
		return 0;
	}
	print_text(stderr, mg_json_get_text(job, "traceback"));
	int code = mg_cluster_refusal(body, status, &err);

	mg_cli_print_error(&err);
	return mg_client_exit_code(code, true);
}

/* The exit code. */
static int show(const struct mg_options *options, const struct mg_sb *body, int status)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };
	int exit_code;

	if (mg_json_parse(arena, mg_sb_text(body), body->len, &json, &err)) {
		exit_code = mg_cli_fail(&err);
	} else if (status == 202) {
		exit_code = show_state(options, json);
	} else {
		exit_code = show_end(options, json, body, status);
	}
	mg_arena_free(arena);
	return exit_code;
}

/* ---- requests ---- */

/* 0, with status and body; or the exit code of an error that was printed. */
static int ask(const struct mg_options *options, const char *method, const char *path,
               struct mg_str content, int *status, struct mg_sb *body)
{
	struct mg_error err = { 0 };
	const char *type = content.len ? "application/json" : NULL;

	return mg_cluster_send(options, method, path, type, NULL, content, status, body, &err)
	           ? mg_cli_fail(&err)
	           : 0;
}

static int refuse(const struct mg_sb *body, int status)
{
	struct mg_error err = { 0 };
	int code = mg_cluster_refusal(body, status, &err);

	mg_cli_print_error(&err);
	return mg_client_exit_code(code, true);
}

static void add_path(struct mg_sb *path, const char *id, const char *behind)
{
	mg_sb_add(path, "/jobs/");
	mg_url_add_escaped(path, id);
	mg_sb_add(path, behind);
}

/* DELETE /jobs/ID; the exit code. */
static int cancel(const struct mg_options *options, const char *id)
{
	struct mg_sb path = { 0 }, body = { 0 };
	int status = 0;

	add_path(&path, id, "");
	int exit_code =
		ask(options, "DELETE", mg_sb_text(&path), (struct mg_str){ 0 }, &status, &body);

	if (!exit_code && status / 100 != 2) {
		exit_code = refuse(&body, status);
	}
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

/* ---- somebody looks on ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static void print_progress(const struct mg_json *job)
{
	fprintf(stderr, "\r\x1b[K%" PRId64 " rows  %" PRId64 " chunks  %.1f s",
	        mg_json_get_int(job, "rows", 0), mg_json_get_int(job, "chunks", 0),
	        (double)mg_json_get_int(job, "elapsed_ms", 0) / 1000);
	fflush(stderr);
}

/* One look: its end, or, with *runs, how far it is.  The exit code. */
static int look(const struct mg_options *options, const char *path, bool *runs)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_sb body = { 0 };
	int status = 0, exit_code = ask(options, "GET", path, (struct mg_str){ 0 }, &status, &body);

	*runs = !exit_code && status == 202;
	if (*runs && mg_json_parse(arena, mg_sb_text(&body), body.len, &json, NULL) == 0) {
		print_progress(json);
	} else if (!exit_code && !*runs) {
		fputs("\r\x1b[K", stderr);
		exit_code = show(options, &body, status);
	}
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return exit_code;
}

/* Until its end, or Ctrl-C. */
static int look_on(const struct mg_options *options, const char *id)
{
	struct sigaction action = { .sa_handler = on_interrupt };
	struct mg_sb path = { 0 };
	bool runs = true;
	int exit_code = 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	add_path(&path, id, "/result");
	while (runs && !interrupted) {
		mg_sleep_ms(LOOK_MS); /* a signal ends it */
		exit_code = interrupted ? 0 : look(options, mg_sb_text(&path), &runs);
	}
	if (runs && interrupted) {
		fputs("\r\x1b[Kcancelled\n", stderr);
		(void)cancel(options, id);
		exit_code = INTERRUPTED;
	} else if (exit_code == NO_CONNECTION) {
		(void)cancel(options, id); /* nobody looks on any more */
	}
	mg_sb_fini(&path);
	return exit_code;
}

/* ---- the commands ---- */

static int begin(const struct mg_options *options, bool looked_at, struct mg_sb *body, int *status)
{
	struct mg_sb request = { 0 };
	struct mg_error err = { 0 };
	bool deferred = looked_at || mg_options_flag(options, "deferred");
	int exit_code = make_request(options, deferred, &request, &err) ? mg_cli_fail(&err) : 0;

	if (!exit_code) {
		exit_code = ask(options, "POST", "/jobs", (struct mg_str){ request.ptr, request.len },
		                status, body);
	}
	mg_sb_fini(&request);
	return exit_code;
}

/* On a terminal its progress is shown; else the connection waits, and its end ends the job. */
int mg_command_job_run(const struct mg_options *options)
{
	bool deferred = mg_options_flag(options, "deferred"), looked_at = !deferred && mg_tty_is(2);
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_sb body = { 0 };
	int status = 0, exit_code = begin(options, looked_at, &body, &status);

	if (!exit_code && looked_at && status == 202 &&
	    mg_json_parse(arena, mg_sb_text(&body), body.len, &json, NULL) == 0) {
		exit_code = look_on(options, mg_json_text(mg_json_get(json, "id")));
	} else if (!exit_code) {
		exit_code = show(options, &body, status);
		exit_code = exit_code == STILL_RUNS && deferred ? 0 : exit_code;
	}
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return exit_code;
}

int mg_command_job_list(const struct mg_options *options)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb body = { 0 };
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };
	int status = 0, exit_code = ask(options, "GET", "/jobs", (struct mg_str){ 0 }, &status, &body);

	if (!exit_code && status != 200) {
		exit_code = refuse(&body, status);
	} else if (!exit_code && mg_json_parse(arena, mg_sb_text(&body), body.len, &json, &err)) {
		exit_code = mg_cli_fail(&err);
	}
	const struct mg_json *jobs = mg_json_get(json, "jobs");

	if (!exit_code && wants_json(options)) {
		print_result(jobs, true);
	} else if (!exit_code) {
		mg_json_each(job, jobs) {
			print_state(job);
		}
	}
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return exit_code;
}

int mg_command_job_show(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 };
	int status = 0;

	add_path(&path, mg_options_argument(options, 0), "/result");
	int exit_code = ask(options, "GET", mg_sb_text(&path), (struct mg_str){ 0 }, &status, &body);

	exit_code = exit_code ? exit_code : show(options, &body, status);
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

int mg_command_job_cancel(const struct mg_options *options)
{
	return cancel(options, mg_options_argument(options, 0));
}
