/*
 * kv_alter.h - ALTER NAMESPACE: what is wanted of a namespace of keys and values.
 *
 *     ALTER NAMESPACE name SET (setting = value, ...)     value: a number, a text, or NULL
 *     ALTER NAMESPACE name RESET (setting, ...)
 *
 * Pure; any thread.
 */
#ifndef MG_SQL_KV_ALTER_H
#define MG_SQL_KV_ALTER_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

enum mg_kv_setting {
	MG_KV_DEFAULT_TTL, /* ms; written in seconds or as '1 hour' */
	MG_KV_QUOTA_BYTES, /* written as a number or as '1 GB' */
	MG_KV_QUOTA_KEYS,
	MG_KV_SETTING_COUNT
};

struct mg_kv_alter {
	const char *space;
	bool changes[MG_KV_SETTING_COUNT];
	uint64_t values[MG_KV_SETTING_COUNT]; /* 0: it is taken away */
};

/* text: a statement of kind MG_S_NAMESPACE, without its ";".  Fails: MG_E_SYNTAX; MG_E_USAGE there
 * is no such setting or value; MG_E_UNSUPPORTED CREATE and DROP. */
int mg_kv_alter_parse(struct mg_arena *arena, struct mg_str text, struct mg_kv_alter *out,
                      struct mg_error *err);

#endif
