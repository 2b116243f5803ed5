/*
 * tx_kit.h - transactions of the engine of write_kit.h, and the same statements in plain DuckDB.
 */
#ifndef TEST_UNIT_TX_KIT_H
#define TEST_UNIT_TX_KIT_H

#include "write_kit.h"

#include "exec/change.h"
#include "exec/tx.h"
#include "sql/statement.h"

static inline bool kit_reads(const char *sql)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *statements = NULL;
	struct mg_error err;
	size_t count = 0;

	kit_must(mg_statement_split(arena, mg_str(sql), &statements, &count, &err), &err, sql);
	bool reads = count == 1 && statements[0].kind == MG_S_SELECT;

	mg_arena_free(arena);
	return reads;
}

/* A statement of a transaction, or of its own with tx NULL. */
static inline int kit_run(struct mg_tx *tx, const char *sql, struct kit_rows *rows,
                          int64_t *affected, struct mg_error *err)
{
	struct mg_run_settings settings = kit_settings;
	const struct mg_rows sink = {
		.begin = kit_rows_begin, .batch = kit_rows_batch, .lossless = true, .arg = rows
	};
	const struct mg_change_request request = { .statement = mg_str(sql), .rows = &sink };
	struct mg_change_result result = { 0 };
	struct mg_run *run = mg_run_new();

	mg_error_clear(err);
	settings.tx = tx;
	int code = tx ? mg_tx_enter(tx, err) : 0;
	bool entered = tx && !code;

	if (!code && kit_reads(sql)) {
		code = mg_coordinator_run(kit_engine, run, &settings, mg_str(sql), &sink, err);
	} else if (!code) {
		code = mg_change_run(kit_engine, run, &settings, &request, &result, err);
		*affected = (int64_t)result.rows;
	}
	if (entered) {
		mg_tx_leave(tx, code ? err : NULL);
	}
	mg_run_free(run);
	return code;
}

static inline int kit_commit(struct mg_tx *tx, struct mg_error *err)
{
	struct mg_run *run = mg_run_new();

	mg_error_clear(err);
	int code = mg_tx_enter(tx, err);

	if (!code) {
		bool repeated;

		code = mg_tx_commit(tx, run, NULL, &repeated, err);
		mg_tx_leave(tx, code ? err : NULL);
	}
	mg_run_free(run);
	mg_tx_unref(tx);
	return code;
}

static inline void kit_rollback(struct mg_tx *tx)
{
	mg_tx_end(tx, MG_TX_ROLLED_BACK);
	mg_tx_unref(tx);
}

/* The statement must succeed. */
static inline void kit_do(struct mg_tx *tx, const char *sql)
{
	struct kit_rows rows = { 0 };
	struct mg_error err;
	int64_t affected = 0;

	kit_must(kit_run(tx, sql, &rows, &affected, &err), &err, sql);
	kit_rows_fini(&rows);
}

/* The one value that it reads. */
static inline int64_t kit_ask(struct mg_tx *tx, const char *sql)
{
	struct kit_rows rows = { 0 };
	struct mg_error err;
	int64_t affected = 0;

	kit_must(kit_run(tx, sql, &rows, &affected, &err), &err, sql);
	int64_t value = strtoll(strchr(mg_sb_text(&rows.text), '\n') + 1, NULL, 10);

	kit_rows_fini(&rows);
	return value;
}

static inline void kit_expect(struct mg_tx *tx, const char *sql, const char *sqlstate)
{
	struct kit_rows rows = { 0 };
	struct mg_error err;
	int64_t affected = 0;

	if (!kit_run(tx, sql, &rows, &affected, &err)) {
		fail_msg("%s: did not fail", sql);
	}
	if (strcmp(err.sqlstate, sqlstate) != 0) {
		fail_msg("%s: %s \"%s\" instead of %s", sql, err.sqlstate, err.message, sqlstate);
	}
	kit_rows_fini(&rows);
}

static inline bool kit_is_ordered(const char *sql)
{
	return strstr(sql, "ORDER BY") != NULL;
}

/* Both say the same, or fail for the same reason.  Returns the code. */
static inline int kit_both(struct mg_tx *tx, const char *sql)
{
	struct kit_rows have = { 0 }, want = { 0 };
	struct mg_error err, plain;
	int64_t affected = 0, expected = 0;

	mg_error_clear(&plain);
	int code = kit_run(tx, sql, &have, &affected, &err);
	int other = kit_plain(sql, &want, &expected, &plain);

	if ((code != 0) != (other != 0) || (code && strcmp(err.sqlstate, plain.sqlstate) != 0)) {
		fail_msg("%s: ours %s \"%s\" (%s), plain %s \"%s\"", sql, err.sqlstate,
		         code ? err.message : "", code ? err.detail : "", plain.sqlstate,
		         other ? plain.message : "");
	}
	if (!code && have.text.len) {
		if (!kit_is_ordered(sql)) {
			kit_sort(&have.text);
			kit_sort(&want.text);
		}
		if (strcmp(mg_sb_text(&have.text), mg_sb_text(&want.text)) != 0) {
			fail_msg("%s:\n%s instead of\n%s", sql, mg_sb_text(&have.text), mg_sb_text(&want.text));
		}
	} else if (!code) {
		sscanf(strchr(mg_sb_text(&want.text), '\n') + 1, "%ld", &expected);
		if (affected != expected) {
			fail_msg("%s: %ld rows instead of %ld", sql, affected, expected);
		}
	}
	kit_rows_fini(&have);
	kit_rows_fini(&want);
	return code;
}

#endif
