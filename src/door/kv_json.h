/*
 * kv_json.h - a key and what it holds as members of a JSON object, and how a request says in which
 * form: what pages of keys and watches of them share.
 *
 *     ?encoding=hex|base64    of keys, here and in the request's parameters; else they are text
 *     ?values=hex|base64      values stand there, too
 *
 * Pure; any thread.
 */
#ifndef MG_DOOR_KV_JSON_H
#define MG_DOOR_KV_JSON_H

#include "door/kv_text.h"
#include "net/http.h"
#include "replica/kv_state.h"

enum mg_kv_form { MG_KV_FORM_TEXT, MG_KV_FORM_HEX, MG_KV_FORM_BASE64, MG_KV_FORM_NONE };

struct mg_kv_forms {
	enum mg_kv_form keys, values;
};

/* ?encoding= and ?values=.  Fails: MG_E_USAGE. */
int mg_kv_read_forms(struct mg_http_request *request, struct mg_kv_forms *out,
                     struct mg_error *err);
/* A key, or the beginning of one, in the form of keys; NULL: none.  False: it is not in that form.
 * *out: in arena, or the text itself. */
bool mg_kv_read_bytes(struct mg_arena *arena, enum mg_kv_form form, const char *text,
                      struct mg_str *out);

/* "..." */
void mg_kv_add_bytes(struct mg_sb *json, enum mg_kv_form form, struct mg_str bytes);
/* "key": "..."; or "key_hex", when it is no text and text was asked for. */
void mg_kv_add_key(struct mg_sb *json, struct mg_kv_forms forms, struct mg_str key);
/* , "size": ... and the rest of what there is to a key but its version. */
void mg_kv_add_found(struct mg_sb *json, struct mg_kv_forms forms,
                     const struct mg_kv_found *found);

/* What is no name of a namespace is refused in these words. */
int mg_kv_refuse_space(struct mg_error *err);

#endif
