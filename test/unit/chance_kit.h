/*
 * chance_kit.h - statements made by chance, over write_kit.h: plain DuckDB does the same, or fails
 * for the same reason.
 */
#ifndef TEST_UNIT_CHANCE_KIT_H
#define TEST_UNIT_CHANCE_KIT_H

#include "write_kit.h"

static uint64_t kit_chance; /* the seed of what follows */

static inline unsigned kit_pick(unsigned count)
{
	kit_chance = kit_chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(kit_chance >> 33) % count;
}

#define KIT_PICK(list) ((list)[kit_pick(sizeof(list) / sizeof *(list))])

/* Both succeed and do the same, or both fail for the same reason. */
static inline void kit_agree(const char *statement)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_write_result result;
	struct mg_error err;
	int code = kit_write(statement, redo, &result, &err);

	mg_write_result_fini(&result);
	mg_redo_free(redo);
	if (!code) {
		kit_same("main", "t", statement);
		return;
	}
	/* The row that fails first, and so the message, is another one. */
	struct kit_rows want = { 0 };
	struct mg_error plain;
	int64_t affected;

	kit_sql("BEGIN");
	if (!kit_plain(statement, &want, &affected, &plain) ||
	    strcmp(plain.sqlstate, err.sqlstate) != 0) {
		fail_msg("%s: %s \"%s\", which plain DuckDB does not say", statement, err.sqlstate,
		         err.message);
	}
	kit_sql("ROLLBACK");
	kit_rows_fini(&want);
}

/* So many statements, each of a seed of its own. */
static inline void kit_agree_by_chance(uint64_t count, void (*add_statement)(struct mg_sb *sql))
{
	struct mg_sb sql = { 0 };

	for (uint64_t seed = 1; seed <= count; seed++) {
		kit_chance = seed;
		mg_sb_clear(&sql);
		add_statement(&sql);
		kit_agree(mg_sb_text(&sql));
	}
	mg_sb_fini(&sql);
}

#endif
