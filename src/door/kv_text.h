/*
 * kv_text.h - bytes of keys and values as text.  Pure; any thread.
 */
#ifndef MG_DOOR_KV_TEXT_H
#define MG_DOOR_KV_TEXT_H

#include "base/mem.h"
#include "base/str.h"

/* False: it is none.  *out: in arena. */
bool mg_kv_from_hex(struct mg_arena *arena, struct mg_str text, struct mg_str *out);
bool mg_kv_from_base64(struct mg_arena *arena, struct mg_str text, struct mg_str *out);
void mg_kv_add_hex(struct mg_sb *out, struct mg_str bytes); /* lower case */
void mg_kv_add_base64(struct mg_sb *out, struct mg_str bytes);

#endif
