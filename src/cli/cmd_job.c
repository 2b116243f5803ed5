/*
 * cmd_job.c - `job run`: a Python file over the rows of its source, by POST /jobs.
 *
 * The result alone goes to standard output; what the file prints, and its traceback, to standard
 * error.
 */
#include "cli/cluster.h"
#include "cli/commands.h"
#include "os/file.h"

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
	mg_sb_add_char(out, '}');
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

/* The exit code of what the server has answered. */
static int show(const struct mg_options *options, const struct mg_sb *body, int status)
{
	bool as_json = strcmp(mg_options_text(options, "format"), "json") == 0;
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };
	int exit_code = 0;

	if (mg_json_parse(arena, mg_sb_text(body), body->len, &json, &err)) {
		exit_code = mg_cli_fail(&err);
	} else if (status == 200) {
		print_text(stderr, mg_json_get_text(json, "printed"));
		print_result(mg_json_get(json, "result"), as_json);
	} else {
		print_text(stderr, mg_json_get_text(json, "printed"));
		print_text(stderr, mg_json_get_text(json, "traceback"));
		int code = mg_cluster_refusal(body, status, &err);

		mg_cli_print_error(&err);
		exit_code = mg_client_exit_code(code, true);
	}
	mg_arena_free(arena);
	return exit_code;
}

int mg_command_job_run(const struct mg_options *options)
{
	struct mg_connection connection = { 0 };
	struct mg_sb request = { 0 }, body = { 0 };
	struct mg_error err = { 0 };
	int status = 0, code = make_request(options, &request, &err);

	code = code ? code : mg_connection_read(&connection, options, NULL, &err);
	if (!code) {
		struct mg_endpoint endpoint = mg_connection_endpoint(&connection);

		code = mg_http_fetch(&endpoint, "POST", "/jobs", "application/json", NULL,
		                     (struct mg_str){ request.ptr, request.len }, &status, &body, &err);
	}
	if (!code && status == 401) {
		code = mg_error_set(&err, MG_E_AUTH, "wrong user or password for \"%s\"", connection.user);
	}
	int exit_code = code ? mg_cli_fail(&err) : show(options, &body, status);

	mg_connection_fini(&connection);
	mg_sb_fini(&request);
	mg_sb_fini(&body);
	return exit_code;
}
