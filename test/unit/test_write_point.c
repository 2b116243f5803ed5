/*
 * test_write_point.c - UPDATE and DELETE of rows that their key finds (exec/point.h): which
 * statements are taken, and that they do what plain DuckDB does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chance_kit.h"
#include "exec/point.h"

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
	KIT_PK_TABLE,
	KIT_ODD_TABLES,
	{ .schema = "main",
	  .name = "checked",
	  .columns = { { "k", "BIGINT", true }, { "a", "INTEGER", false }, { "b", "BIGINT", false } },
	  .keys = { "k" },
	  .definition = "k BIGINT NOT NULL, a INTEGER DEFAULT 5, b BIGINT CHECK (b > 0)",
	  .rows = "SELECT i, i, i + 1 FROM range(20) r(i)" },
	{ .schema = "main",
	  .name = "nulls",
	  .columns = { { "k", "DECIMAL(10,2)", false },
	               { "a", "INTEGER", true },
	               { "b", "VARCHAR", true },
	               { "f", "DOUBLE", false },
	               { "ts", "TIMESTAMP", false } },
	  .keys = { "k" },
	  .id = 7,
	  .rows = "SELECT CASE WHEN i % 5 = 0 THEN NULL ELSE i END, i, 'b', i / 4, TIMESTAMP "
	          "'2020-01-01 00:00:00' FROM range(40) r(i)" },
	{ .schema = "main",
	  .name = "words", /* columns that are called as words of SQL */
	  .columns = { { "k", "INTEGER", false },
	               { "end", "BOOLEAN", false },
	               { "case", "INTEGER", false },
	               { "between", "INTEGER", false },
	               { "select", "INTEGER", false },
	               { "from", "INTEGER", false },
	               { "one", "INTEGER", false },
	               { "v", "INTEGER", false } },
	  .keys = { "k" },
	  .rows = "SELECT i, i % 2 = 0, i % 3, i, i, i, i, i % 4 FROM range(40) r(i)" },
	{ .schema = "main",
	  .name = "truth",
	  .columns = { { "true", "INTEGER", false }, { "v", "INTEGER", false } },
	  .keys = { "true" },
	  .rows = "SELECT i, i FROM range(40) r(i)" },
	{ .schema = "main",
	  .name = "one",
	  .columns = { { "v", "INTEGER", false } },
	  .rows = "SELECT 77" },
};

KIT_GROUP(tables)

static void same(const char *table, const char *statement, bool point)
{
	kit_same(strcmp(table, "Odd name") ? "main" : "s", table, statement);
	if (point != (strcmp(kit_step, "point") == 0)) {
		fail_msg("%s: %s", statement, kit_step);
	}
}

static void test_taken(void **state)
{
	(void)state;
	same("t", "UPDATE t SET a = a + 1 WHERE k = 7", true);
	same("t", "update T set A = a + 1, b = 'it''s' where (a = 1 or b like '%x%') and K = 8", true);
	same("t", "UPDATE main.t AS x SET a = x.a * 2, d = -1.5 WHERE x.k = 9 AND x.a > 0", true);
	same("t", "UPDATE t SET b = b || '!', a = NULL, d = CASE WHEN a > 1 THEN 2.345 ELSE d END "
	          "WHERE \"t\".\"k\" = 10",
	     true);
	same("t", "UPDATE t SET a = d, d = a WHERE k = 22", true); /* both as they were */
	same("t", "UPDATE t SET a = '12' /* text */, d = CAST('3.5' AS DOUBLE) WHERE k = 11 --", true);
	same("t", "UPDATE t SET a = 5 / 2, d = 7 % 4 WHERE a IN (1, 2, 3) AND k = 3", true);
	same("t", "UPDATE t SET (a, b) = (1, 'two') WHERE k = 7", true);
	same("t", "UPDATE t SET a = 1 WHERE k = 123456", true); /* there is none */
	same("t", "UPDATE t SET a = 1 WHERE k = -5 AND a = 3", true);
	same("t", "UPDATE t SET a = 1 WHERE k = 1 AND k = 2", true);
	same("t", "DELETE FROM t WHERE k = 12", true);
	same("t", "DELETE FROM t WHERE k = 12 AND (a = 100 OR NOT b = 'x')", true);
	same("r", "UPDATE r SET name = 'n' WHERE id > 5", true); /* a reference table has one shard */
	same("r", "UPDATE r SET id = 3 - id WHERE name LIKE 'n%'", true);
	same("r", "DELETE FROM r WHERE id < 3 OR id = 7", true);
	same("pk", "UPDATE pk SET v = v || 'z' WHERE k = 4", true); /* several rows */
	same("pk", "UPDATE pk SET v = 'z' WHERE k = 4 AND j = 2", true);
	same("pk", "DELETE FROM pk WHERE j = 1 AND k = 4", true);
	same("Odd name", "DELETE FROM s.\"Odd name\" WHERE \"a b\" = 'q3' AND slot = 3", true);
	same("Odd name",
	     "UPDATE s.\"Odd name\" SET rid = '1999-01-01' WHERE slot = 4 AND \"a b\" = 'q4'", true);
	same("nulls", "UPDATE nulls SET f = f / 3, ts = '2021-02-03 04:05:06' WHERE k = 7", true);
	same("nulls", "UPDATE nulls SET a = 3 WHERE k = 7.00", true);
	same("nulls", "DELETE FROM nulls WHERE k = 7.5", true);
}

/* What is left to the ordinary way, and why. */
static void test_not_taken(void **state)
{
	(void)state;
	same("t", "UPDATE t SET a = 1", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7 OR a = 1", false);
	same("t", "UPDATE t SET a = 1 WHERE NOT k = 7", false);
	same("t", "UPDATE t SET a = 1 WHERE k > 7 AND k < 9", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7 + 1", false);
	same("t", "UPDATE t SET a = 1 WHERE k = a", false);
	same("t", "UPDATE t SET a = 1 WHERE k = NULL", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7.0", false);
	same("t", "UPDATE t SET a = 1 WHERE k = '7'", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7 IS NOT NULL", false);
	same("t", "UPDATE t SET a = 1 WHERE CASE WHEN a > 0 AND k = 7 THEN true ELSE false END", false);
	same("t", "UPDATE t SET a = 1 WHERE a = 3 AND (k = 7 OR k = 8)", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7 AND a BETWEEN 0 AND 10", false);
	same("t", "UPDATE t SET k = 8 WHERE k = 7", false); /* it may move */
	same("t", "UPDATE t SET a = DEFAULT WHERE k = 7", false);
	same("t", "UPDATE t SET a = length(b) WHERE k = 7", false);
	same("t", "UPDATE t SET a = (SELECT count(*) FROM r) WHERE k = 7", false);
	same("t", "UPDATE t SET a = b.id FROM r AS b WHERE k = 7 AND b.id = 3", false);
	same("t", "UPDATE t SET a = b[2:]::INTEGER WHERE k = 7", false);
	same("t", "UPDATE t SET a = 1 WHERE k = 7 RETURNING *", false);
	same("t", "DELETE FROM t USING r WHERE k = 7 AND r.id = t.a", false);
	same("pk", "UPDATE pk SET j = 77 WHERE k = 4 AND j = 2", false); /* it may be there */
	same("checked", "UPDATE checked SET b = 7 WHERE k = 4", false);
	same("nulls", "DELETE FROM nulls WHERE k IS NULL", false);
}

/* Names that would be words of SQL without quotes. */
static void test_words(void **state)
{
	(void)state;
	same("words", "UPDATE words SET v = 9 WHERE NOT (words.end AND k = 5 AND true)", false);
	same("words", "DELETE FROM words WHERE NOT (words.end AND k = 5 AND true)", false);
	same("words", "UPDATE words SET v = 9 WHERE k = 5 AND words.case = 1 OR v = 1", false);
	same("words", "UPDATE words SET v = 0 WHERE v BETWEEN 1 AND k = 1", false);
	same("words", "UPDATE words SET v = (select v from one) WHERE k = 1", false);
	same("words", "UPDATE words SET v = 0 WHERE words.between = 3 AND k = 3", false);
	same("words", "UPDATE words SET v = 9 WHERE k = 5 AND words.\"case\" = 1 OR v = 1", false);
	same("words", "UPDATE words SET v = \"from\" WHERE NOT words.\"end\" AND k = 5", true);
	same("truth", "UPDATE truth SET v = 0 WHERE true = 1", false);
	same("truth", "UPDATE truth SET v = 0 WHERE truth.true = 1", false);
	same("truth", "UPDATE truth SET v = 0 WHERE \"true\" = 1", true);
	kit_fails("UPDATE words SET select = 1 WHERE k = 1", "42601", NULL);
	kit_fails("DELETE FROM words select WHERE k = 1", "42601", NULL);
}

/* The list of words is DuckDB's. */
static void test_reserved(void **state)
{
	char *list = NULL, *rest = NULL;
	struct mg_error err;

	(void)state;
	kit_must(mg_duck_text(kit_conn,
	                      "SELECT string_agg(keyword_name || '=' || (keyword_category <> "
	                      "'unreserved')::INT, ' ') FROM duckdb_keywords()",
	                      &list, &err),
	         &err, "keywords");
	for (char *word = strtok_r(list, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		char *sign = strchr(word, '=');

		*sign = '\0';
		if (mg_point_is_reserved(mg_str(word)) != (sign[1] == '1')) {
			fail_msg("\"%s\" is said to be %s", word, sign[1] == '1' ? "free" : "reserved");
		}
	}
	mg_free(list);
}

/* What is wrong is said as ever. */
static void test_wrong(void **state)
{
	(void)state;
	kit_fails("UPDATE nulls SET a = NULL WHERE k = 7", "23502", NULL);
	kit_fails("UPDATE nulls SET a = CASE WHEN f > 0 THEN NULL END WHERE k = 7", "23502", NULL);
	kit_fails("UPDATE t SET a = b WHERE k = 7", "22P02", NULL);
	kit_fails("UPDATE t SET a = 99999999999 WHERE k = 7", "22003", NULL);
	kit_fails("UPDATE t SET a = 'x' WHERE k = 7", "22P02", NULL);
	kit_fails("UPDATE t SET a = nope WHERE k = 7", "42703", NULL);
	kit_fails("UPDATE t SET a = 1 WHERE k = 7 AND nope = 3", "42703", NULL);
	kit_fails("UPDATE t SET a = 1, A = 2 WHERE k = 7", "42000", NULL);
	kit_fails("UPDATE t SET a = 1 WHERE k = 7 AND", "42601", NULL);
	kit_fails("UPDATE t SET a = (1 WHERE k = 7", "42601", NULL);
	kit_fails("UPDATE t SET a = 1) AS a, (2 WHERE k = 7", "42601", NULL);
	kit_fails("UPDATE t SET a = * WHERE k = 7", "0A000", "STAR");
	kit_fails("DELETE FROM t WHERE k = 7 AND rowid = 5", "0A000", "row id of table");
	kit_fails("DELETE FROM t WHERE k = 7 AND _mg_rid = 5", "42703", NULL);
	kit_fails("DELETE FROM t AS x WHERE t.k = 7", "42P01", NULL);
	kit_fails("UPDATE checked SET b = -7 WHERE k = 4", "23514", NULL);
}

static void add_statement(struct mg_sb *sql)
{
	static const char *const exprs[] = { "a",         "a + 1",
		                                 "-d",        "d * 1.5",
		                                 "NULL",      "'12'",
		                                 "k % 5",     "a + d",
		                                 "-a", "b",
		                                 "2 / 3",     "b || 'x'",
		                                 "CASE WHEN a > 3 THEN 1 END",
		                                 "k = 3",     "a IN (1, 2, NULL)" };
	static const char *const conditions[] = { "a = 3",          "b LIKE '%1%'",
		                                      "d IS NULL",      "a > d",
		                                      "NOT (a = 2)",    "true",
		                                      "(a = 1 OR d > 2)", "b <> 'x3'",
		                                      "a / 2 > 1.5",    "a" };
	static const char *const columns[] = { "a", "b", "d" };
	unsigned key = kit_pick(210), first = kit_pick(3), sets = 1 + kit_pick(3);

	if (kit_pick(4)) {
		mg_sb_add(sql, "UPDATE t SET ");
		for (unsigned i = 0; i < sets; i++) {
			mg_sb_addf(sql, "%s%s = %s", i ? ", " : "", columns[(first + i) % 3], KIT_PICK(exprs));
		}
	} else {
		mg_sb_add(sql, "DELETE FROM t");
	}
	if (kit_pick(2)) {
		mg_sb_addf(sql, " WHERE k = %u AND %s", key, KIT_PICK(conditions));
	} else {
		mg_sb_addf(sql, " WHERE %s AND k = %u", KIT_PICK(conditions), key);
	}
}

static void test_by_chance(void **state)
{
	(void)state;
	kit_agree_by_chance(150, add_statement);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_not_taken),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_by_chance),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
