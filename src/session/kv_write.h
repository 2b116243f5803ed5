/*
 * kv_write.h - INSERT INTO kv.namespace and DELETE FROM kv.namespace: a query's rows as keys that
 * are put or deleted.
 *
 *   the query --rows--> write.sink --> kv_batch.h --> the shards of the keys, by their leaders
 *
 * The query runs like any other, here or at another node; only its sink is ours.  Keys are put by
 * the server that was asked, whoever coordinates writes of tables.
 *
 * Rule: the first batch is sent when there is more, or when the query has ended well; so a
 * statement of one batch happens whole or not at all.  Past that, keys that were put stay put, and
 * the error says how many.
 *
 * Thread: that of the sink.
 */
#ifndef MG_SESSION_KV_WRITE_H
#define MG_SESSION_KV_WRITE_H

#include "session/kv_batch.h"
#include "session/session.h"
#include "sql/kv_dml.h"
#include "sql/statement.h"

/* What a column of the query's is for. */
enum mg_kv_role {
	MG_KV_ROLE_KEY,
	MG_KV_ROLE_VALUE,
	MG_KV_ROLE_TYPE,
	MG_KV_ROLE_ENCODING,
	MG_KV_ROLE_EXPIRES, /* a time */
	MG_KV_ROLE_TTL,     /* in seconds */
	MG_KV_ROLE_COUNT
};

struct mg_kv_column {
	int64_t at; /* in the query's; -1: not given */
	struct ArrowSchemaView schema;
	const char *type; /* in words */
};

struct mg_kv_write {
	struct mg_sink sink; /* for the query */
	struct mg_sink *client;
	struct mg_kv_dml dml;
	struct mg_arena *arena; /* of the caller */
	struct mg_kv_batch batch;
	struct mg_query *query; /* while it runs */
	struct mg_kv_column columns[MG_KV_ROLE_COUNT];
	struct ArrowSchema schema;
	struct ArrowArrayView view; /* of a batch of rows; once schema is there */
	struct mg_run_stats stats;
};

struct mg_kv_write_begin {
	struct mg_engine *engine;
	struct mg_sink *client;  /* borrowed */
	struct mg_str statement; /* without its ";" */
	bool in_transaction;
	bool has_key; /* an Idempotency-Key */
};

/* Is it one of these?  Not where users have a schema of that name: then it is theirs. */
bool mg_kv_write_is(struct mg_engine *engine, const struct mg_statement *statement);
bool mg_kv_write_is_ours(const struct mg_catalog_data *data, const struct mg_statement *statement);
/* Nothing runs yet.  mg_kv_write_fini in any case.  Fails: as mg_kv_dml_parse and mg_keys_check;
 * MG_E_UNSUPPORTED in a transaction, or with a key. */
int mg_kv_write_init(struct mg_kv_write *write, struct mg_arena *arena,
                     const struct mg_kv_write_begin *begin, struct mg_error *err);
void mg_kv_write_fini(struct mg_kv_write *write);
/* The query has failed, or its rows: err says what that means for the keys.  Returns its code. */
int mg_kv_write_failed(const struct mg_kv_write *write, struct mg_error *err);

#endif
