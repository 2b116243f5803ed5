/*
 * cmd_kv.c - `kv`: keys and values from the command line, by the requests of /kv/NAMESPACE/KEY.
 *
 * A value goes to standard output as it is, and comes from the last argument or standard input.
 */
#include "cli/cluster.h"
#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 64 << 20 };

/* ---- one request ---- */

/* A key that is called as GET calls a watch. */
#define WATCH "watch"
#define WATCH_HEX "7761746368"

static void add_path(const struct mg_options *options, const char *key, struct mg_sb *path)
{
	const char *encoding = mg_options_text(options, "encoding");
	bool text = strcmp(encoding, "text") == 0;
	bool is_watch = key && text && strcmp(key, WATCH) == 0;

	mg_sb_add(path, "/kv/");
	mg_url_add_escaped(path, mg_options_text(options, "namespace"));
	if (key) {
		mg_sb_add_char(path, '/');
		mg_url_add_escaped(path, is_watch ? WATCH_HEX : key);
	}
	if (!text || is_watch) {
		mg_sb_addf(path, "?encoding=%s", is_watch ? "hex" : encoding);
	}
}

/* The exit code of a request; its answer is in body. */
static int request(const struct mg_options *options, const char *method, const struct mg_sb *path,
                   const char *type, const char *headers, struct mg_str value, struct mg_sb *body)
{
	struct mg_error err = { 0 };
	int status = 0, code = mg_cluster_send(options, method, mg_sb_text(path), type, headers, value,
	                                       &status, body, &err);
	bool refused = code == 0 && status / 100 != 2;

	if (refused) {
		code = mg_cluster_refusal(body, status, &err);
	}
	if (code == 0) {
		return 0;
	}
	int exit_code = mg_cli_fail(&err);

	return refused ? mg_client_exit_code(code, true) : exit_code;
}

static int read_input(struct mg_sb *value)
{
	char piece[1 << 16];
	size_t got;

	while ((got = fread(piece, 1, sizeof piece, stdin)) > 0 && value->len <= VALUE_MAX) {
		mg_sb_add_len(value, piece, got);
	}
	return ferror(stdin) ? MG_E_IO : 0;
}

/* ---- get, delete ---- */

int mg_command_kv_get(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 };

	add_path(options, mg_options_argument(options, 0), &path);
	int exit_code = request(options, "GET", &path, NULL, NULL, (struct mg_str){ 0 }, &body);

	if (!exit_code && body.len) {
		fwrite(body.ptr, 1, body.len, stdout);
	}
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

int mg_command_kv_delete(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 };

	add_path(options, mg_options_argument(options, 0), &path);
	int exit_code = request(options, "DELETE", &path, NULL, NULL, (struct mg_str){ 0 }, &body);

	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

/* ---- put, cas, batch ---- */

/* An argument; NULL or "-": standard input, which input then holds.  The exit code. */
static int read_value(const char *argument, struct mg_sb *input, struct mg_str *out)
{
	struct mg_error err = { 0 };

	*out = mg_str(argument);
	if (argument && strcmp(argument, "-") != 0) {
		return 0;
	}
	if (read_input(input)) {
		mg_error_set(&err, MG_E_IO, "standard input cannot be read");
		return mg_cli_fail(&err);
	}
	if (input->len > VALUE_MAX) {
		mg_error_set(&err, MG_E_LIMIT, "standard input has more than %d MiB", VALUE_MAX >> 20);
		mg_error_hint(&err, "A value has up to 64 MiB; nothing was sent.");
		return mg_cli_fail(&err);
	}
	*out = (struct mg_str){ mg_sb_text(input), input->len };
	return 0;
}

/* headers: conditions; NULL: none.  value: NULL or "-": standard input. */
static int put(const struct mg_options *options, const char *value, const char *headers)
{
	struct mg_sb path = { 0 }, body = { 0 }, input = { 0 };
	struct mg_str bytes;
	int exit_code = read_value(value, &input, &bytes);

	add_path(options, mg_options_argument(options, 0), &path);
	if (mg_options_given(options, "ttl")) {
		char seconds[32];

		snprintf(seconds, sizeof seconds, "%.3f", (double)mg_options_int(options, "ttl") / 1000);
		mg_url_add_parameter(&path, "ttl", seconds);
	} else if (mg_options_flag(options, "no-ttl")) {
		mg_url_add_parameter(&path, "ttl", "none");
	}
	if (!exit_code) {
		exit_code = request(options, "PUT", &path, mg_options_text(options, "content-type"),
		                    headers, bytes, &body);
	}
	if (!exit_code) {
		printf("%s", mg_sb_text(&body));
	}
	mg_sb_fini(&input);
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

int mg_command_kv_put(const struct mg_options *options)
{
	return put(options, mg_options_argument(options, 1),
	           mg_options_flag(options, "if-absent") ? "If-None-Match: *\r\n" : NULL);
}

int mg_command_kv_cas(const struct mg_options *options)
{
	const char *text = mg_options_argument(options, 1);
	char *end = NULL;
	uint64_t version = strtoull(text, &end, 10);
	char headers[64];
	struct mg_error err = { 0 };

	if (*end || !*text || *text == '-') {
		mg_error_set(&err, MG_E_USAGE, "\"%.40s\" is no version", text);
		mg_error_hint(&err, "The number that put, cas and scan say; 0: the key is not there.");
		return mg_cli_fail(&err);
	}
	if (version) {
		snprintf(headers, sizeof headers, "If-Match: \"%" PRIu64 "\"\r\n", version);
	} else {
		snprintf(headers, sizeof headers, "If-None-Match: *\r\n");
	}
	return put(options, mg_options_argument(options, 2), headers);
}

int mg_command_kv_batch(const struct mg_options *options)
{
	struct mg_sb path = { 0 }, body = { 0 }, input = { 0 };
	struct mg_str operations;
	int exit_code = read_value(mg_options_argument(options, 0), &input, &operations);

	mg_sb_add(&path, "/kv/");
	mg_url_add_escaped(&path, mg_options_text(options, "namespace"));
	mg_sb_add(&path, "/batch");
	if (!exit_code) {
		exit_code = request(options, "POST", &path, "application/json", NULL, operations, &body);
	}
	if (!exit_code) {
		printf("%s", mg_sb_text(&body));
	}
	mg_sb_fini(&input);
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	return exit_code;
}

/* ---- scan ---- */

static void print_keys(const struct mg_json *page)
{
	mg_json_each(key, mg_json_get(page, "keys")) {
		const char *text = mg_json_get_text(key, "key");

		printf("%s%s\t%" PRId64 "\t%" PRId64 "\t%s\n", text ? "" : "hex:",
		       text ? text : mg_json_get_text(key, "key_hex"), mg_json_get_int(key, "version", 0),
		       mg_json_get_int(key, "size", 0), mg_json_get_text(key, "content_type"));
	}
	if (mg_json_get_text(page, "cursor")) {
		fprintf(stderr, "more: --cursor %s\n", mg_json_get_text(page, "cursor"));
	}
}

int mg_command_kv_scan(const struct mg_options *options)
{
	const char *prefix = mg_options_argument(options, 0);
	const char *cursor = mg_options_text(options, "cursor");
	bool wants_json = strcmp(mg_options_text(options, "format"), "json") == 0;
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb path = { 0 }, body = { 0 }, line = { 0 };
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };

	add_path(options, NULL, &path);
	mg_url_add_parameter(&path, "limit", mg_options_text(options, "limit"));
	if (prefix) {
		mg_url_add_parameter(&path, "prefix", prefix);
	}
	if (cursor) {
		mg_url_add_parameter(&path, "cursor", cursor);
	}
	int exit_code = request(options, "GET", &path, NULL, NULL, (struct mg_str){ 0 }, &body);

	if (!exit_code && mg_json_parse(arena, mg_sb_text(&body), body.len, &json, &err)) {
		exit_code = mg_cli_fail(&err);
	} else if (!exit_code && wants_json) {
		mg_json_print(&line, json);
		printf("%s\n", mg_sb_text(&line));
	} else if (!exit_code) {
		print_keys(json);
	}
	mg_sb_fini(&line);
	mg_sb_fini(&path);
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return exit_code;
}
