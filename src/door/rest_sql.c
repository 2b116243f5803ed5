/* rest_sql.c - see rest_sql.h. */
#include "door/rest_sql.h"

#include "session/params.h"

#include <string.h>
#include <strings.h>

bool mg_rest_is_type(const char *header, const char *type)
{
	size_t len = strlen(type);

	return header && strncasecmp(header, type, len) == 0 &&
	       (header[len] == '\0' || strchr("; \t", header[len]));
}

int mg_rest_read_body(struct mg_arena *arena, const char *content_type, struct mg_str body,
                      struct mg_str *text, struct mg_json **json, struct mg_error *err)
{
	*json = NULL;
	if (mg_rest_is_type(content_type, "text/plain") ||
	    mg_rest_is_type(content_type, "application/sql")) {
		*text = (struct mg_str){ mg_arena_strndup(arena, body.ptr, body.len), body.len };
		return 0;
	}
	if (mg_json_parse(arena, body.ptr, body.len, json, err)) {
		mg_error_wrap(err, "the body is not JSON");
		mg_error_hint(
			err, "Send {\"sql\": \"...\", \"params\": [...]}, or the statement as text/plain.");
		return err->code;
	}
	if (!mg_json_is(*json, MG_JSON_OBJECT)) {
		mg_error_set(err, MG_E_USAGE, "the body is JSON, but no object");
		mg_error_hint(err, "Send {\"sql\": \"...\", \"params\": [...]}.");
		return MG_E_USAGE;
	}
	return 0;
}

int mg_rest_read_sql(const struct mg_json *object, struct mg_str *sql,
                     const struct mg_json **params, struct mg_error *err)
{
	const struct mg_json *text = mg_json_get(object, "sql");

	if (!mg_json_is(text, MG_JSON_STRING)) {
		mg_error_set(err, MG_E_USAGE, text ? "\"sql\" is no text" : "there is no text \"sql\"");
		mg_error_hint(err, "Send {\"sql\": \"...\", \"params\": [...]}.");
		return MG_E_USAGE;
	}
	*sql = text->text;
	*params = mg_json_get(object, "params");
	return 0;
}

int mg_rest_bind(struct mg_arena *arena, struct mg_str sql, const struct mg_json *params,
                 struct mg_str *out, struct mg_error *err)
{
	if (sql.len > 0 && memchr(sql.ptr, '\0', sql.len)) {
		return mg_error_set(err, MG_E_SYNTAX, "the statement holds a zero character");
	}
	return mg_params_bind(arena, sql, params, out, err);
}

int mg_rest_settings(struct mg_session *session, struct mg_http_request *request,
                     struct mg_error *err)
{
	static const char *const names[][2] = {
		{ "distributed", "distributed" },
		{ "summarize", "summarize" },
		{ "strategy", "strategy" },
		{ "consistency", "read_consistency" },
		{ "max_staleness", "max_staleness" },
		{ "timeout", "statement_timeout" },
		{ "statement_timeout", "statement_timeout" },
		{ "timezone", "TimeZone" },
		{ "default_partitioning", "default_partitioning" },
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *value = mg_http_query(request, names[i][0]);
		int code = value ? mg_session_set(session, names[i][1], value, err) : 0;

		if (code) {
			return code;
		}
	}
	const char *const seen[] = { mg_http_header(request, "merganser-seen"),
		                         mg_http_query(request, "seen") };
	int code = 0;

	for (size_t i = 0; !code && i < sizeof seen / sizeof seen[0]; i++) {
		code = seen[i] ? mg_session_see(session, mg_str(seen[i]), err) : 0;
	}
	return code;
}

void mg_rest_add_seen(struct mg_sb *out, struct mg_session *session)
{
	struct mg_sb seen = { 0 };

	mg_session_add_seen(session, &seen);
	if (seen.len > 0) {
		mg_sb_addf(out, MG_REST_SEEN ": %s\r\n", mg_sb_text(&seen));
	}
	mg_sb_fini(&seen);
}

bool mg_rest_flag(struct mg_http_request *request, const char *name)
{
	const char *value = mg_http_query(request, name);

	return value && strcmp(value, "0") != 0 && strcasecmp(value, "false") != 0;
}

void mg_rest_add_query_without(struct mg_sb *out, const char *query, const char *name)
{
	size_t name_len = strlen(name);
	bool any = false;

	while (*query) {
		size_t len = strcspn(query, "&");
		bool same = len >= name_len && strncmp(query, name, name_len) == 0 &&
		            (len == name_len || query[name_len] == '=');

		if (len > 0 && !same) {
			mg_sb_add_char(out, any ? '&' : '?');
			mg_sb_add_len(out, query, len);
			any = true;
		}
		query += len + (query[len] == '&');
	}
}

/* A table that is not there is a wrong request, not a wrong path; what meets rows that are there
 * already, or another writer, is a conflict. */
int mg_rest_sql_status(const struct mg_error *err)
{
	if (strncmp(err->sqlstate, "23", 2) == 0 || strcmp(err->sqlstate, "40001") == 0) {
		return 409;
	}
	switch (err->code) {
	case MG_E_NO_TABLE:
	case MG_E_NOT_FOUND:
	case MG_E_UNSUPPORTED:
		return 400;
	default:
		return mg_code_info(err->code)->http_status;
	}
}
