/*
 * rest_tx.c - POST /db/tx opens a transaction, POST /db/tx/{id}/commit and /rollback end it; in
 * between /db/execute and /db/query name it (?tx=).
 *
 * owner: the connection's loop; opening waits for nothing, ending is a statement like any other
 * (rest_execute.c).
 */
#include "base/mem.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "os/clock.h"

#include <string.h>
#include <strings.h>

static bool is_true(const char *value)
{
	return value && strcmp(value, "0") != 0 && strcasecmp(value, "false") != 0;
}

/* {"read_only": true}, or nothing at all. */
static int read_body(struct mg_http_request *request, bool *read_only, struct mg_error *err)
{
	struct mg_str body = mg_str_trim(mg_http_body(request));
	struct mg_json *json = NULL;

	*read_only = is_true(mg_http_query(request, "read_only"));
	if (body.len == 0) {
		return 0;
	}
	if (mg_json_parse(mg_http_arena(request), body.ptr, body.len, &json, err) ||
	    !mg_json_is(json, MG_JSON_OBJECT)) {
		mg_error_set(err, MG_E_USAGE, "the body is no JSON object");
		mg_error_hint(err, "Send nothing, or {\"read_only\": true}.");
		return MG_E_USAGE;
	}
	*read_only = mg_json_get_bool(json, "read_only", *read_only);
	return 0;
}

void mg_rest_tx_open(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role)
{
	uint64_t started_us = mg_clock_us();
	char id[MG_TX_HANDLE_SIZE];
	struct mg_error err = { 0 };
	struct mg_sb json = { 0 };
	bool read_only = false;
	int code = read_body(request, &read_only, &err);

	code = code ? code : mg_tx_handles_open(doors->tx_handles, user, role, read_only, id, &err);
	if (code) {
		mg_rest_error(request, &err, 0);
		return;
	}
	mg_sb_addf(&json,
	           "{\"result\": {\"id\": \"%s\", \"read_only\": %s, \"idle_seconds\": %u}, \"took\": "
	           "%.3f}\n",
	           id, read_only ? "true" : "false", MG_TX_HANDLE_IDLE_MS / 1000,
	           (double)(mg_clock_us() - started_us) / 1000);
	mg_rest_count(request, 200);
	mg_http_reply(request, 200, "application/json", mg_sb_text(&json), json.len,
	              "Cache-Control: no-store\r\n");
	mg_sb_fini(&json);
}

/* /db/tx/{id}/commit or /db/tx/{id}/rollback */
void mg_rest_tx_end(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                    enum mg_role role)
{
	const char *rest = mg_http_path(request) + strlen("/db/tx/");
	const char *slash = strchr(rest, '/');
	bool commit = slash && strcmp(slash, "/commit") == 0;
	bool rollback = slash && strcmp(slash, "/rollback") == 0;

	if (!commit && !rollback) {
		struct mg_error err = { 0 };

		mg_error_set(&err, MG_E_NOT_FOUND, "there is nothing at \"%s\"", mg_http_path(request));
		mg_error_hint(&err, "POST /db/tx/{id}/commit or /db/tx/{id}/rollback.");
		mg_rest_error(request, &err, 404);
		return;
	}
	char *id = mg_arena_strndup(mg_http_arena(request), rest, (size_t)(slash - rest));

	mg_rest_execute_in(doors, request, user, role, id, commit ? "COMMIT" : "ROLLBACK");
}
