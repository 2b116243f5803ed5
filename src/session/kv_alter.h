/*
 * kv_alter.h - ALTER NAMESPACE carried out: the catalog says what is wanted of a namespace.
 *
 * It holds at this server when it returns, and at each other one as soon as that has the catalog's
 * next version.  What is over a quota already stays; it only cannot grow.
 *
 * Thread: one that may wait.
 */
#ifndef MG_SESSION_KV_ALTER_H
#define MG_SESSION_KV_ALTER_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

struct mg_engine;

struct mg_kv_alter_begin {
	struct mg_engine *engine;
	struct mg_str statement; /* of kind MG_S_NAMESPACE, without its ";" */
	bool is_admin;
	bool in_transaction;
	bool has_key; /* an Idempotency-Key */
};

/* Fails: MG_E_DENIED; MG_E_UNSUPPORTED; as mg_kv_alter_parse, mg_keys_check and a change of the
 * catalog. */
int mg_kv_alter(struct mg_arena *arena, const struct mg_kv_alter_begin *begin,
                struct mg_error *err);

#endif
