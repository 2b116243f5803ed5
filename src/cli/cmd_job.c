/*
 * cmd_job.c - `job`: a Python file over the rows of its source, by /jobs.
 *
 * The result alone goes to standard output; what the file prints, and its traceback, to standard
 * error.
 */
#include "cli/cluster.h"
#include "cli/commands.h"
#include "os/file.h"

#include <inttypes.h>
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

static int make_request(const struct mg_options *options, struct mg_sb *out, struct mg_error *err)
{
	const char *path = mg_options_argument(options, 0);
	const char *source = mg_options_text(options, "source");
	char *code_text = NULL;
	size_t size = 0;
	int code = mg_file_read(path, FILE_MAX, &code_text, &size, err);

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
	mg_sb_addf(out, ", \"deferred\": %s}",
	           mg_options_flag(options, "deferred") ? "true" : "false");
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

enum { STILL_RUNS = 4 };

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
	struct mg_sb line = { 0 };

	if (wants_json(options)) {
		mg_json_print(&line, job);
		printf("%s\n", mg_sb_text(&line));
	} else {
		print_state(job);
	}
	mg_sb_fini(&line);
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
	struct mg_connection connection = { 0 };
	struct mg_error err = { 0 };
	int code = mg_connection_read(&connection, options, NULL, &err);

	if (!code) {
		struct mg_endpoint endpoint = mg_connection_endpoint(&connection);

		code = mg_http_fetch(&endpoint, method, path, content.len ? "application/json" : NULL, NULL,
		                     content, status, body, &err);
	}
	if (!code && *status == 401) {
		code = mg_error_set(&err, MG_E_AUTH, "wrong user or password for \"%s\"", connection.user);
	}
	mg_connection_fini(&connection);
	return code ? mg_cli_fail(&err) : 0;
}

static int refuse(const struct mg_sb *body, int status)
{
	struct mg_error err = { 0 };
	int code = mg_cluster_refusal(body, status, &err);

	mg_cli_print_error(&err);
	return mg_client_exit_code(code, true);
}

int mg_command_job_run(const struct mg_options *options)
{
	bool deferred = mg_options_flag(options, "deferred");
	struct mg_sb request = { 0 }, body = { 0 };
	struct mg_error err = { 0 };
	int status = 0, exit_code = make_request(options, &request, &err) ? mg_cli_fail(&err) : 0;

	if (!exit_code) {
		exit_code = ask(options, "POST", "/jobs", (struct mg_str){ request.ptr, request.len },
		                &status, &body);
	}
	if (!exit_code) {
		exit_code = show(options, &body, status);
		exit_code = exit_code == STILL_RUNS && deferred ? 0 : exit_code;
	}
	mg_sb_fini(&request);
	mg_sb_fini(&body);
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

static void add_path(struct mg_sb *path, const struct mg_options *options, const char *behind)
{
	mg_sb_add(path, "/jobs/");
	mg_url_add_escaped(path, mg_options_argument(options, 0));
	mg_sb_add(path, behind);
}

int mg_command_job_show(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 };
	int status = 0;

	add_path(&path, options, "/result");
	int exit_code = ask(options, "GET", mg_sb_text(&path), (struct mg_str){ 0 }, &status, &body);

	exit_code = exit_code ? exit_code : show(options, &body, status);
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

int mg_command_job_cancel(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 };
	int status = 0;

	add_path(&path, options, "");
	int exit_code =
		ask(options, "DELETE", mg_sb_text(&path), (struct mg_str){ 0 }, &status, &body);

	if (!exit_code && status / 100 != 2) {
		exit_code = refuse(&body, status);
	}
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}
