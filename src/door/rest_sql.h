/*
 * rest_sql.h - what /db/query and /db/execute share: how a statement and its values stand in a
 * request, its parameters that are settings, and which status an error has at these paths.
 *
 * Thread: reading and binding on query threads (a body may be large), the rest on the loop.
 */
#ifndef MG_DOOR_REST_SQL_H
#define MG_DOOR_REST_SQL_H

#include "base/json.h"
#include "net/http.h"
#include "session/session.h"

/* Does a header, or an item of a list in one, name this type?  header may be NULL. */
bool mg_rest_is_type(const char *header, const char *type);

/* A body that is the statement itself (text/plain, application/sql): *json is NULL, *text is it.
 * Else *json is the body's object.  Fails: MG_E_SYNTAX, MG_E_USAGE. */
int mg_rest_read_body(struct mg_arena *arena, const char *content_type, struct mg_str body,
                      struct mg_str *text, struct mg_json **json, struct mg_error *err);
/* "sql" and "params" of an object.  Fails: MG_E_USAGE. */
int mg_rest_read_sql(const struct mg_json *object, struct mg_str *sql,
                     const struct mg_json **params, struct mg_error *err);
/* sql with its values; params may be NULL. */
int mg_rest_bind(struct mg_arena *arena, struct mg_str sql, const struct mg_json *params,
                 struct mg_str *out, struct mg_error *err);

#define MG_REST_SEEN "Merganser-Seen"

/* ?timeout=, ?distributed= and so on; and what the client has seen: a header, or ?seen=. */
int mg_rest_settings(struct mg_session *session, struct mg_http_request *request,
                     struct mg_error *err);
/* The header that says what the session has seen, with its line's end; or nothing. */
void mg_rest_add_seen(struct mg_sb *out, struct mg_session *session);
/* "?name", with neither 0 nor false behind it. */
bool mg_rest_flag(struct mg_http_request *request, const char *name);
/* "?" and what came behind it, but not this parameter; nothing when there is no other. */
void mg_rest_add_query_without(struct mg_sb *out, const char *query, const char *name);
int mg_rest_sql_status(const struct mg_error *err);

#endif
