/*
 * test_write_chance.c - statements that write, made by chance, against plain DuckDB: both do the
 * same or fail for the same reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "write_kit.h"

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
};

static int open_all(void **state)
{
	(void)state;
	kit_open(tables, sizeof tables / sizeof *tables);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	kit_close();
	return 0;
}

static uint64_t chance;

static unsigned pick(unsigned count)
{
	chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(chance >> 33) % count;
}

#define PICK(list) ((list)[pick(sizeof(list) / sizeof *(list))])

static void add_expr(struct mg_sb *sql)
{
	static const char *const exprs[] = { "k",
		                                 "a",
		                                 "d",
		                                 "a + 1",
		                                 "k * 2",
		                                 "-d",
		                                 "NULL",
		                                 "length(b)",
		                                 "7",
		                                 "'12'",
		                                 "k % 5",
		                                 "a + d",
		                                 "(SELECT count(*) FROM t)",
		                                 "(SELECT max(id) FROM r WHERE id < t.a)",
		                                 "1.5",
		                                 "DEFAULT",
		                                 "CASE WHEN a > 3 THEN k ELSE a END",
		                                 "coalesce(a, 3)",
		                                 "9999999999",
		                                 "b",
		                                 "2 / 3",
		                                 "abs(k)",
		                                 "least(a, k)" };

	mg_sb_add(sql, PICK(exprs));
}

static void add_where(struct mg_sb *sql)
{
	static const char *const conditions[] = { "t.k < 20",
		                                      "a = 3",
		                                      "b LIKE '%1%'",
		                                      "d IS NULL",
		                                      "k IN (SELECT id FROM r)",
		                                      "k = 17",
		                                      "a > d",
		                                      "k BETWEEN 5 AND 50",
		                                      "false",
		                                      "a IN (1, 2) OR k = 9",
		                                      "NOT EXISTS (SELECT 1 FROM r WHERE r.id = t.a)",
		                                      "k = (SELECT min(k) FROM t)",
		                                      "a / 0 IS NULL" };

	if (pick(4)) {
		mg_sb_addf(sql, " WHERE %s", PICK(conditions));
		if (!pick(3)) {
			mg_sb_addf(sql, "%s(%s)", pick(2) ? " AND " : " OR NOT ", PICK(conditions));
		}
	}
}

static void add_returning(struct mg_sb *sql)
{
	static const char *const lists[] = { "*", "k", "t.a, b || '!'", "d * 2 AS twice, k" };

	if (!pick(3)) {
		mg_sb_addf(sql, " RETURNING %s", PICK(lists));
	}
}

static void add_statement(struct mg_sb *sql)
{
	static const char *const columns[] = { "k", "a", "b", "d" };
	static const char *const sources[] = {
		"SELECT k, a, b, d FROM t",
		"SELECT id, id * 2, name, 1 FROM r",
		"SELECT a, count(*), max(b), sum(d) FROM t WHERE a IS NOT NULL GROUP BY a",
		"SELECT t.k, r.id, r.name, t.d FROM t JOIN r ON t.a = r.id",
		"SELECT k, k, b, NULL FROM t WHERE k > 150 UNION ALL SELECT id, 1, 'u', 2.555 FROM r",
		"VALUES (1, 2, 'x', 3), (4, NULL, DEFAULT, 5.125)",
		"VALUES (1, 2, 'x', 3), (4, NULL, NULL, 5)",
		"VALUES ((SELECT max(k) FROM t), 1, upper('q'), 2)",
		"SELECT NULL, 1, 'x', 2 FROM r",
		"SELECT DISTINCT a, 1, 'x', 1 FROM t WHERE a > 0",
	};
	unsigned verb = pick(4), sets = 1 + pick(3);

	if (verb == 0) {
		mg_sb_addf(sql, "INSERT INTO t %s", PICK(sources));
		/* Rows of a query have no order. */
		return;
	}
	if (verb == 1) {
		mg_sb_addf(sql, "DELETE FROM t%s", pick(3) ? "" : " USING r AS q");
		if (strstr(mg_sb_text(sql), "USING")) {
			mg_sb_add(sql, " WHERE q.id = t.a AND t.k > 3");
		} else {
			add_where(sql);
		}
	} else {
		unsigned first = pick(4);

		mg_sb_add(sql, "UPDATE t SET ");
		for (unsigned i = 0; i < sets; i++) {
			mg_sb_addf(sql, "%s%s = ", i ? ", " : "", columns[(first + i) % 4]);
			add_expr(sql);
		}
		if (!pick(4)) {
			mg_sb_add(sql, " FROM (SELECT id AS other FROM r) AS q WHERE q.other = t.k % 10");
		} else {
			add_where(sql);
		}
	}
	add_returning(sql);
}

/* Both succeed and do the same, or both fail for the same reason. */
static void agree(const char *statement)
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

static void test_by_chance(void **state)
{
	struct mg_sb sql = { 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= 100; seed++) {
		chance = seed;
		mg_sb_clear(&sql);
		add_statement(&sql);
		agree(mg_sb_text(&sql));
	}
	mg_sb_fini(&sql);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_by_chance) };

	return cmocka_run_group_tests(tests, open_all, close_all);
}
