/*
 * cmd_cluster.c - `cluster`: what an operator asks a running cluster, and the manifest of its
 * files.
 *
 * status asks GET /status; drain and remove PUT /cluster/nodes/NAME, enable-keys PUT /cluster/keys;
 * nodes and shards are SELECTs over the schema cluster, so their columns are what SQL shows; check
 * is for scripts and answers by its exit code (what it compares: cmd_replicas.c).
 */
#include "catalog/catalog.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/shell.h"

#include <string.h>

static bool wants_json(const struct mg_options *options)
{
	return strcmp(mg_options_text(options, "format"), "json") == 0;
}

int mg_cluster_refusal(const struct mg_sb *body, int status, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;

	(void)mg_json_parse(arena, mg_sb_text(body), body->len, &json, NULL);
	const struct mg_json *error = mg_json_get(json, "error");
	const char *message = mg_json_get_text(error, "message");
	const char *hint = mg_json_get_text(error, "hint");
	int code = mg_code_from_sqlstate(mg_json_get_text(error, "sqlstate"));

	code = code ? code : MG_E_INTERNAL;
	if (message) {
		mg_error_set(err, code, "%s", message);
	} else {
		mg_error_set(err, code, "the server answered HTTP %d", status);
	}
	if (hint && *hint) {
		mg_error_hint(err, "%s", hint);
	}
	mg_arena_free(arena);
	return code;
}

int mg_cluster_send(const struct mg_options *options, const char *method, const char *path,
                    const char *type, const char *headers, struct mg_str content, int *status,
                    struct mg_sb *body, struct mg_error *err)
{
	struct mg_connection connection = { 0 };
	int code = mg_connection_read(&connection, options, NULL, err);

	if (code == 0) {
		struct mg_endpoint endpoint = mg_connection_endpoint(&connection);

		code = mg_http_fetch(&endpoint, method, path, type, headers, content, status, body, err);
	}
	if (code == 0 && *status == 401) {
		code = mg_error_set(err, MG_E_AUTH, "wrong user or password for \"%s\"", connection.user);
	}
	mg_connection_fini(&connection);
	return code;
}

int mg_cluster_fetch(const struct mg_options *options, const char *method, const char *path,
                     int *status, struct mg_sb *body, struct mg_error *err)
{
	const struct mg_str nothing = { 0 };
	int code = mg_cluster_send(options, method, path, NULL, NULL, nothing, status, body, err);

	return code == 0 && *status == 403 ? mg_cluster_refusal(body, *status, err) : code;
}

static void print_member(const struct mg_json *member, int depth)
{
	struct mg_sb text = { 0 };

	if (mg_json_is(member, MG_JSON_STRING)) {
		mg_sb_add(&text, mg_json_text(member));
	} else {
		mg_json_print(&text, member);
	}
	printf("%*s%-*s %s\n", depth, "", 16 - depth, member->key.ptr,
	       mg_sb_text(&text));
	mg_sb_fini(&text);
}

static void print_status(const struct mg_json *status)
{
	mg_json_each(member, status) {
		if (mg_json_is(member, MG_JSON_OBJECT)) {
			printf("%s\n", member->key.ptr);
			mg_json_each(inner, member) {
				print_member(inner, 2);
			}
		} else {
			print_member(member, 0);
		}
	}
}

int mg_command_cluster_status(const struct mg_options *options)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err = { 0 };
	struct mg_sb body = { 0 };
	struct mg_json *json = NULL;
	int status = 0, code = mg_cluster_fetch(options, "GET", "/status", &status, &body, &err);

	if (code == 0 && status != 200) {
		code = mg_error_set(&err, MG_E_CONNECT, "the server answered HTTP %d to /status", status);
	}
	if (code == 0) {
		code = mg_json_parse(arena, mg_sb_text(&body), body.len, &json, &err);
	}
	if (code == 0 && wants_json(options)) {
		struct mg_sb line = { 0 };

		mg_json_print(&line, json);
		printf("%s\n", mg_sb_text(&line));
		mg_sb_fini(&line);
	} else if (code == 0) {
		print_status(json);
	}
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return code ? mg_cli_fail(&err) : 0;
}

int mg_cluster_run(const struct mg_options *options, const char *first, const char *sql)
{
	struct mg_shell shell;
	struct mg_error err = { 0 };
	int exit_code = 0;

	mg_shell_init(&shell);
	shell.format = wants_json(options) ? MG_FORMAT_JSON : MG_FORMAT_BOX;
	shell.rows_max = 0;
	shell.timer = false;
	shell.quiet = true;
	if (mg_connection_read(&shell.connection, options, NULL, &err) ||
	    mg_shell_connect(&shell, &err)) {
		exit_code = mg_cli_fail_connect(&err);
	} else {
		exit_code = first ? mg_shell_statement(&shell, first, strlen(first)) : 0;
		exit_code = exit_code ? exit_code : mg_shell_statement(&shell, sql, strlen(sql));
	}
	mg_shell_fini(&shell);
	return exit_code;
}

int mg_command_cluster_nodes(const struct mg_options *options)
{
	return mg_cluster_run(options, NULL, "FROM cluster.nodes ORDER BY role, id");
}

int mg_command_cluster_shards(const struct mg_options *options)
{
	return mg_cluster_run(options, NULL, "FROM cluster.shards ORDER BY id");
}

/* ---- what is wanted of a node ---- */

static int put_wish(const struct mg_options *options, const char *path, const struct mg_sb *body,
                    struct mg_sb *answer, struct mg_error *err)
{
	struct mg_connection connection = { 0 };
	int status = 0, code = mg_connection_read(&connection, options, NULL, err);

	if (code == 0) {
		struct mg_endpoint endpoint = mg_connection_endpoint(&connection);

		code = mg_http_fetch(&endpoint, "PUT", path, "application/json", NULL,
		                     (struct mg_str){ mg_sb_text(body), body->len }, &status, answer, err);
	}
	if (code == 0 && status == 401) {
		code = mg_error_set(err, MG_E_AUTH, "wrong user or password for \"%s\"", connection.user);
	} else if (code == 0 && status != 200) {
		code = mg_cluster_refusal(answer, status, err);
	}
	mg_connection_fini(&connection);
	return code;
}

static int put_state(const struct mg_options *options, const char *name, const char *state,
                     struct mg_sb *answer, struct mg_error *err)
{
	struct mg_sb path = { 0 }, body = { 0 };

	mg_sb_add(&path, "/cluster/nodes/");
	mg_url_add_escaped(&path, name);
	mg_sb_addf(&body, "{\"state\":\"%s\"}", state);
	int code = put_wish(options, mg_sb_text(&path), &body, answer, err);

	mg_sb_fini(&body);
	mg_sb_fini(&path);
	return code;
}

static int change_node(const struct mg_options *options, const char *state, const char *told)
{
	const char *name = mg_options_argument(options, 0);
	struct mg_error err = { 0 };
	struct mg_sb answer = { 0 };
	int code = put_state(options, name, state, &answer, &err);

	if (code == 0 && wants_json(options)) {
		printf("%s", mg_sb_text(&answer));
	} else if (code == 0) {
		printf("%s %s\n", name, told);
	}
	mg_sb_fini(&answer);
	return code ? mg_cli_fail(&err) : 0;
}

int mg_command_cluster_drain(const struct mg_options *options)
{
	return mg_options_flag(options, "undo") ? change_node(options, "member", "takes replicas again")
	                                        : change_node(options, "draining", "is being drained");
}

int mg_command_cluster_remove(const struct mg_options *options)
{
	return change_node(options, "removed", "is no node of the cluster any more");
}

int mg_command_cluster_enable_keys(const struct mg_options *options)
{
	uint64_t shards = mg_options_int(options, "kv-shard-count");
	struct mg_error err = { 0 };
	struct mg_sb body = { 0 }, answer = { 0 };

	mg_sb_addf(&body, "{\"kv_shards\":%llu}", (unsigned long long)shards);
	int code = put_wish(options, "/cluster/keys", &body, &answer, &err);

	if (code == 0 && wants_json(options)) {
		printf("%s", mg_sb_text(&answer));
	} else if (code == 0) {
		printf("the cluster gets %llu shards of keys and values\n", (unsigned long long)shards);
	}
	mg_sb_fini(&answer);
	mg_sb_fini(&body);
	return code ? mg_cli_fail(&err) : 0;
}

/* ---- is all well? ---- */

/* First column of the first row of a SELECT, as text. */
static int ask_text(mg_client *client, const char *sql, struct mg_sb *out)
{
	const struct mg_client_statement *s;
	struct ArrowArray batch;
	int code = mg_client_query(client, sql, 0), done = 0;

	if (code || (code = mg_client_next_statement(client, &s)) || !s) {
		return code;
	}
	for (;;) {
		code = mg_client_next_batch(client, &batch, &done);
		if (code || done) {
			return code;
		}
		mg_render_first_value(mg_client_schema(client), &batch, out);
		ArrowArrayRelease(&batch);
	}
}

static int check_nodes(const struct mg_options *options, struct mg_sb *bad, struct mg_error *err)
{
	struct mg_connection connection = { 0 };
	struct mg_client_options client_options;
	mg_client *client = NULL;
	int code = mg_connection_read(&connection, options, NULL, err);

	if (code == 0) {
		client_options = mg_connection_client_options(&connection);
		code = mg_client_connect(&client, &client_options);
		if (code == 0) {
			code = ask_text(client, "SELECT string_agg(id || ' is ' || state, ', ' ORDER BY id) "
			                        "FROM cluster.nodes WHERE state <> 'ready'", bad);
		}
		if (code) {
			*err = *mg_client_failure(client);
		}
	}
	mg_client_close(client);
	mg_connection_fini(&connection);
	return code;
}

int mg_command_cluster_check(const struct mg_options *options)
{
	struct mg_error err = { 0 };
	struct mg_sb body = { 0 }, bad = { 0 }, report = { 0 }, differing = { 0 };
	int status = 0, code = mg_cluster_fetch(options, "GET", "/health", &status, &body, &err);
	bool fine = false, equal = true;

	if (code == 0) {
		code = check_nodes(options, &bad, &err);
	}
	if (code == 0 && !mg_options_flag(options, "quick")) {
		code = mg_cluster_compare(options, &report, &equal, &differing, &err);
	}
	if (code == 0) {
		fine = status == 200 && bad.len == 0 && equal;
		if (wants_json(options)) {
			struct mg_sb line = { 0 };

			mg_sb_addf(&line, "{\"ok\":%s,\"health\":%d,\"not_ready\":", fine ? "true" : "false",
			           status);
			mg_sb_add_json(&line, mg_sb_text(&bad), bad.len);
			mg_sb_addf(&line, ",\"replicas\":%s", report.len ? mg_sb_text(&report) : "null");
			printf("%s}\n", mg_sb_text(&line));
			mg_sb_fini(&line);
		} else {
			printf("%s%s%s\n",
			       fine                       ? "ok"
			       : status != 200            ? "the server is not healthy"
			       : bad.len || differing.len ? "not ready"
			                                  : "the replicas could not all be compared",
			       bad.len ? ": " : "", mg_sb_text(&bad));
			printf("%s", mg_sb_text(&differing));
		}
	}
	mg_sb_fini(&body);
	mg_sb_fini(&bad);
	mg_sb_fini(&report);
	mg_sb_fini(&differing);
	return code ? mg_cli_fail(&err) : fine ? 0 : 3;
}

int mg_command_cluster_manifest(const struct mg_options *options)
{
	struct mg_catalog *catalog = NULL;
	const struct mg_catalog_data *data;
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	if (mg_catalog_load(&catalog, mg_options_text(options, "data-dir"), &err)) {
		return mg_cli_fail(&err);
	}
	data = mg_catalog_take(catalog);
	if (wants_json(options)) {
		mg_catalog_manifest_json(data, &out);
	} else {
		mg_catalog_manifest_yaml(data, &out);
	}
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
	if (out.len && out.ptr[out.len - 1] != '\n') {
		mg_sb_add_char(&out, '\n');
	}
	fputs(mg_sb_text(&out), stdout);
	mg_sb_fini(&out);
	return 0;
}
