/*
 * kv_dml.h - INSERT INTO kv.namespace and DELETE FROM kv.namespace, as the query whose rows are put
 * or deleted.
 *
 *     INSERT INTO kv.ns [(key, value, ...)] query    the query
 *     INSERT INTO kv.ns BY NAME query                the query; its names are the columns
 *     DELETE FROM kv.ns [AS a] [WHERE condition]     SELECT key, version FROM kv('ns') WHERE ...
 *
 * Pure; any thread.
 */
#ifndef MG_SQL_KV_DML_H
#define MG_SQL_KV_DML_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define MG_KV_SCHEMA "kv"

struct mg_kv_dml {
	bool deletes;
	struct mg_str space;
	const char **columns; /* INSERT; column_count 0: none are named */
	size_t column_count;
	bool by_name;
	struct mg_str query;
};

/* Does the statement, which writes, write to a table of the schema kv?  Looks no further than
 * that. */
bool mg_kv_dml_is(struct mg_str statement);
/* text: such a statement, without its ";".  Fails: as mg_dml_parse; MG_E_UNSUPPORTED what keys
 * cannot. */
int mg_kv_dml_parse(struct mg_arena *arena, struct mg_str text, struct mg_kv_dml *out,
                    struct mg_error *err);

#endif
