/*
 * test_write_chance.c - statements that write, made by chance, against plain DuckDB: both do the
 * same or fail for the same reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chance_kit.h"

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
};

KIT_GROUP(tables)

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

	mg_sb_add(sql, KIT_PICK(exprs));
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

	if (kit_pick(4)) {
		mg_sb_addf(sql, " WHERE %s", KIT_PICK(conditions));
		if (!kit_pick(3)) {
			mg_sb_addf(sql, "%s(%s)", kit_pick(2) ? " AND " : " OR NOT ", KIT_PICK(conditions));
		}
	}
}

static void add_returning(struct mg_sb *sql)
{
	static const char *const lists[] = { "*", "k", "t.a, b || '!'", "d * 2 AS twice, k" };

	if (!kit_pick(3)) {
		mg_sb_addf(sql, " RETURNING %s", KIT_PICK(lists));
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
	unsigned verb = kit_pick(4), sets = 1 + kit_pick(3);

	if (verb == 0) {
		mg_sb_addf(sql, "INSERT INTO t %s", KIT_PICK(sources));
		/* Rows of a query have no order. */
		return;
	}
	if (verb == 1) {
		mg_sb_addf(sql, "DELETE FROM t%s", kit_pick(3) ? "" : " USING r AS q");
		if (strstr(mg_sb_text(sql), "USING")) {
			mg_sb_add(sql, " WHERE q.id = t.a AND t.k > 3");
		} else {
			add_where(sql);
		}
	} else {
		unsigned first = kit_pick(4);

		mg_sb_add(sql, "UPDATE t SET ");
		for (unsigned i = 0; i < sets; i++) {
			mg_sb_addf(sql, "%s%s = ", i ? ", " : "", columns[(first + i) % 4]);
			add_expr(sql);
		}
		if (!kit_pick(4)) {
			mg_sb_add(sql, " FROM (SELECT id AS other FROM r) AS q WHERE q.other = t.k % 10");
		} else {
			add_where(sql);
		}
	}
	add_returning(sql);
}

static void test_by_chance(void **state)
{
	(void)state;
	kit_agree_by_chance(100, add_statement);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_by_chance) };

	return cmocka_run_group_tests(tests, open_all, close_all);
}
