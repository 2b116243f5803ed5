/*
 * test_write.c - statements that write, against plain DuckDB: the rows of the redo, the count,
 * RETURNING, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "write_kit.h"

#include "replica/replica.h"

#include <pthread.h>
#include <time.h>

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
	KIT_ODD_TABLES,
	KIT_PK_TABLE,
	{ .schema = "main",
	  .name = "pr",
	  .columns = { { "name", "VARCHAR", true }, { "n", "INTEGER", false } },
	  .primary_key = { "name" },
	  .id = 7,
	  .rows = "SELECT 'n' || i, i FROM range(10) r(i)" },
	{ .schema = "main",
	  .name = "plain",
	  .columns = { { "k", "BIGINT" },
	               { "s", "VARCHAR", true },
	               { "d", "DECIMAL(10,2)" },
	               { "f", "DOUBLE" },
	               { "b", "BOOLEAN" },
	               { "t1", "TINYINT" },
	               { "t2", "SMALLINT" },
	               { "t4", "INTEGER" },
	               { "u1", "UTINYINT" },
	               { "u2", "USMALLINT" },
	               { "u4", "UINTEGER" },
	               { "dt", "DATE" } },
	  .definition =
	      "k BIGINT, s VARCHAR NOT NULL, d DECIMAL(10,2), f DOUBLE, b BOOLEAN, t1 TINYINT, t2 "
	      "SMALLINT, t4 INTEGER, u1 UTINYINT, u2 USMALLINT, u4 UINTEGER, dt DATE",
	  .keys = { "s", "d", "f" },
	  .id = 14 },
	{ .schema = "main",
	  .name = "def",
	  .columns = { { "k", "INTEGER" }, { "a", "INTEGER" }, { "b", "VARCHAR" }, { "c", "DATE" } },
	  .definition =
	      "k INTEGER NOT NULL DEFAULT 40 + 2, a INTEGER DEFAULT 7 CHECK (a < 100), b VARCHAR "
	      "DEFAULT 'x' || 'y', c DATE, CHECK (k <> a)",
	  .keys = { "k" },
	  .id = 12,
	  .rows = "SELECT i, i + 1, 'b', NULL FROM range(20) r(i)" },
	{ .schema = "main",
	  .name = "upsert",
	  .columns = { { "k", "BIGINT" }, { "n", "INTEGER" } },
	  .definition = "k BIGINT, n INTEGER NOT NULL DEFAULT 5 CHECK (n >= 0)",
	  .keys = { "k" },
	  .primary_key = { "k" },
	  .id = 13,
	  .rows = "SELECT i, i FROM range(50) r(i)" },
};

KIT_GROUP(tables)

static void test_values(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO t VALUES (1000, 1, 'a', 1.5)",
		"INSERT INTO t VALUES (1000, 1, 'a', 1.5), (1001, 2, 'b', '2.25'), (-5, NULL, NULL, NULL)",
		"INSERT INTO t (b, k) VALUES ('only', 7), (DEFAULT, 8)",
		"insert into main.t (k) values ('12')",
		"INSERT INTO main.t (k, a) VALUES (1 + 1, length('abc'))",
		"WITH x AS (SELECT 5 AS q) INSERT INTO t (k) VALUES ((SELECT q FROM x))",
		"INSERT INTO t (k) VALUES (1) -- end",
		"INSERT INTO t AS other (k) VALUES (1)",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
	kit_same("main", "r", "INSERT INTO r VALUES (100, 'x'), (101, 'y')");
	kit_same("s", "Odd name", "INSERT INTO s.\"Odd name\" VALUES ('x', 1, '2021-02-03')");
	kit_same("s", "Odd name", "INSERT INTO s.\"Odd name\" (slot, \"A B\") VALUES (NULL, NULL)");
}

static void test_every_type(void **state)
{
	(void)state;
	kit_same("main", "types",
	         "INSERT INTO types VALUES ('a', 'high', [1, 2, NULL], {'x': 1, 'y': 'q'}, "
	         "170141183460469231731687303715884105727, '0a0b0c0d-0000-0000-0000-000000000001', "
	         "'2024-05-06 07:08:09+02', '[1, {\"a\": null}]', MAP {'a': 1}, '\\xAA'::BLOB, "
	         "INTERVAL 3 MONTH)");
	kit_same("main", "types", "INSERT INTO types SELECT * FROM types");
	kit_same("main", "types", "INSERT INTO types BY NAME SELECT 'low' AS e, NULL AS st, [] AS l");
	kit_same("main", "types", "INSERT INTO types (k, e) SELECT k, e FROM types WHERE k <> 'k3'");
	kit_same("main", "types",
	         "INSERT INTO types VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
	         "NULL, NULL, NULL, NULL)");
}

static void test_select(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO t SELECT k + 1000, a, b, d FROM t",
		"INSERT INTO t SELECT id, id, name, id FROM r",
		"INSERT INTO t (a, k) SELECT count(*), a FROM t GROUP BY a",
		"INSERT INTO t BY NAME SELECT 'q' AS B, k FROM t WHERE k < 10",
		"INSERT INTO t BY POSITION SELECT k, 1, 'x', 2 FROM t WHERE k < 3",
		"INSERT INTO t FROM t",
		"INSERT INTO t FROM t SELECT k, a, b, d WHERE k > 190",
		"INSERT INTO t TABLE t",
		"INSERT INTO t (SELECT * FROM t ORDER BY k LIMIT 3)",
		"INSERT INTO t (k) (SELECT 5)",
		"WITH t AS (SELECT 77 AS k) INSERT INTO t (k) SELECT k FROM t",
		"WITH x AS (SELECT 3 AS q) INSERT INTO t (k) SELECT q FROM x UNION ALL SELECT id FROM r",
		"INSERT INTO t (k) WITH x AS (SELECT 3 AS q) SELECT q FROM x",
		"INSERT INTO t (k, a) SELECT x.k, y.a FROM t x JOIN t y ON x.k = y.k * 2",
		"INSERT INTO t (k) VALUES ((SELECT max(k) FROM t))",
		"INSERT INTO t (k) SELECT k FROM v WHERE k = 3",
		"INSERT INTO t (k, b) SELECT k, NULL FROM t WHERE false",
		"INSERT INTO t (k, b) SELECT range, range FROM range(300000)",
		"INSERT INTO t (k, a) SELECT k, 1 FROM t JOIN r ON conflict(k) RETURNING k",
	};

	(void)state;
	for (size_t i = 0; i + 1 < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
}

static void test_returning(void **state)
{
	(void)state;
	kit_same("main", "t", "INSERT INTO t VALUES (1, 2, 'c', 3) RETURNING *");
	kit_same("main", "t",
	         "INSERT INTO t (k, b) VALUES (1, 'x'), (2, NULL) RETURNING t.k * 2 AS twice, b, "
	         "upper(b), [k] AS l");
	kit_same("main", "types",
	         "INSERT INTO types (k, e, h) VALUES ('a', 'mid', 5) RETURNING e, h, k, ts");
	kit_same("main", "t", "INSERT INTO t (k) SELECT 5 FROM range(3) RETURNING k");
	kit_same("main", "t", "INSERT INTO t (k) SELECT k FROM t WHERE k < 0 RETURNING k, b");
}

static void test_insert_errors(void **state)
{
	(void)state;
	kit_fails("INSERT INTO t (a) VALUES (1)", "23502", NULL);
	kit_fails("INSERT INTO t (a) SELECT 1 FROM t", "23502", NULL);
	kit_fails("INSERT INTO t (k) VALUES ('abc')", "22P02", NULL);
	kit_fails("INSERT INTO t (k) SELECT b FROM t WHERE k = 3", "22P02", NULL);
	kit_fails("INSERT INTO t (k, a) VALUES (1, 99999999999)", "22003", NULL);
	kit_fails("INSERT INTO t (nope) VALUES (1)", "42703", NULL);
	kit_fails("INSERT INTO t (k, k) VALUES (1, 1)", "42000", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1, 2)", "42000", NULL);
	kit_fails("INSERT INTO t (k) SELECT 1, 2 FROM t", "42000", NULL);
	kit_fails("INSERT INTO t (k) SELECT nope FROM t", "42703", NULL);
	kit_fails("INSERT INTO t BY NAME SELECT 1 AS nope", "42703", NULL);
	kit_fails("INSERT INTO nope VALUES (1)", "42P01", NULL);
	kit_fails("INSERT INTO t SELEC 1", "42601", NULL);
	kit_fails("INSERT INTO t (k VALUES (1)", "42601", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING (SELECT 1)", "0A000", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING nope", "42703", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING rowid", "42703", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING count(*)", "0A000", NULL);
	kit_fails("INSERT INTO types (k, e) VALUES ('a', 'nope')", "22P02", NULL);
	kit_fails("INSERT INTO v VALUES (1)", "42809", "INSERT needs a table, and \"v\" is a view");
	kit_fails("INSERT INTO t (k) SELECT rowid FROM t", "0A000", "");
	kit_fails("INSERT INTO t (b, k) VALUES (getenv('HOME'), 1)", "42501", "");
	kit_fails("INSERT INTO t (b, k) SELECT content, 1 FROM read_text('/etc/passwd')", "42501", "");
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING getenv('HOME')", "42501", "");
	kit_fails("INSERT INTO t (k) FROM '/etc/passwd'", "42P01", "");
}

static void test_delete(void **state)
{
	static const char *const texts[] = {
		"DELETE FROM t",
		"DELETE FROM t WHERE k = 17",
		"DELETE FROM t WHERE k IN (1, 2, 3, 500) AND b LIKE 'x%'",
		"DELETE FROM main.t AS x WHERE x.a = 3 OR x.d > 40",
		"DELETE FROM t x WHERE x.k % 2 = 0 -- odd ones stay",
		"DELETE FROM t USING r WHERE t.k = r.id",
		"DELETE FROM t USING r, r AS q WHERE t.a = r.id AND q.id < 5",
		"DELETE FROM t USING r JOIN r AS q USING (id) WHERE t.a = id",
		"DELETE FROM t WHERE k = (SELECT max(k) FROM t)",
		"DELETE FROM t WHERE EXISTS (SELECT 1 FROM r WHERE r.id = t.k)",
		"DELETE FROM t WHERE a NOT IN (SELECT id FROM r WHERE id < 4)",
		"WITH x AS (SELECT k FROM t ORDER BY k DESC LIMIT 5) DELETE FROM t WHERE k IN (FROM x)",
		"WITH t AS (SELECT 3 AS q) DELETE FROM main.t WHERE k = (SELECT q FROM t)",
		"DELETE FROM t WHERE false",
		"DELETE FROM ONLY t WHERE k < 5",
		"DELETE FROM t WHERE k = ANY (SELECT id FROM r)",
		"DELETE FROM t USING (SELECT unnest([1, 2, 3]) AS u) q WHERE q.u = t.k",
		"WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x WHERE i < 5) DELETE FROM t "
		"WHERE "
		"k IN (SELECT i FROM x)",
		"TRUNCATE t",
		"TRUNCATE TABLE main.t",
		"DELETE FROM t WHERE k < 5 RETURNING k",
		"DELETE FROM t WHERE k = 9 RETURNING *, k + 1 AS next",
		"DELETE FROM t USING r, r AS q WHERE t.k = r.id AND r.id = 3 RETURNING t.k, b",
		"DELETE FROM t WHERE k < 0 RETURNING *",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
	kit_same("main", "r", "DELETE FROM r WHERE id > 5");
	kit_same("main", "r", "DELETE FROM r USING t WHERE r.id = t.k AND t.k < 3");
	kit_same("s", "Odd name", "DELETE FROM s.\"Odd name\" WHERE slot < 7 AND \"a b\" <> 'q3'");
	kit_same("main", "types", "DELETE FROM types WHERE e = 'mid' AND l[1] = 4 RETURNING *");
}

static void test_update(void **state)
{
	static const char *const texts[] = {
		"UPDATE t SET a = 5",
		"UPDATE t SET a = a + 1, b = b || '!' WHERE k < 20",
		"UPDATE main.t SET a = main.t.k WHERE main.t.k < 20",
		"UPDATE t AS x SET a = x.k, d = 1.005 WHERE x.k % 3 = 0",
		"UPDATE t x SET b = NULL WHERE x.k = 5",
		"UPDATE t SET (a, b) = (1, 'two') WHERE k = 5",
		"UPDATE t SET (a, b) = ROW(1, 'two'), d = -1 WHERE k = 5",
		"UPDATE t SET (a, d) = 7 WHERE k < 5",
		"UPDATE t SET a = DEFAULT, b = 'x' WHERE k < 5",
		"UPDATE t SET a = '12', d = '3.456' WHERE k < 5",
		"UPDATE t SET a = CASE WHEN a IS DISTINCT FROM 3 THEN 1 ELSE -a END",
		"UPDATE t SET a = r.id * 10, b = r.name FROM r WHERE t.k = r.id",
		"UPDATE t SET a = o.a FROM t AS o WHERE t.k = o.k + 1",
		"UPDATE t SET a = (SELECT count(*) FROM t AS o WHERE o.a = t.a)",
		"UPDATE t SET a = q.n FROM (SELECT a, count(*) AS n FROM t GROUP BY a) AS q WHERE q.a = "
		"t.a",
		"WITH x AS (SELECT id, name FROM r) UPDATE t SET b = x.name FROM x WHERE x.id = t.k",
		"UPDATE t SET a =-1 WHERE k = 3",
		"UPDATE t SET a = q.n FROM (SELECT k AS other, row_number() OVER (ORDER BY k) AS n FROM t) "
		"q "
		"WHERE q.other = t.k",
		"UPDATE t SET b = list_transform([a], lambda x: x + 1)::VARCHAR",
		"UPDATE t SET b = (SELECT string_agg(name, ',' ORDER BY id) FROM r WHERE r.id <= t.a)",
		"UPDATE t SET a = 5 FROM (PIVOT r ON id IN (1, 2) USING count(*)) AS p WHERE t.k = 3 AND "
		"p.name "
		"= 'n1'",
		"UPDATE t SET a = length(b) WHERE (a, k) IN (SELECT id, id FROM r)",
		"UPDATE t SET \"A\" = 3 WHERE k = 3",
		"UPDATE t SET a = 1 WHERE false",
		/* the partition key: rows move */
		"UPDATE t SET k = k + 1",
		"UPDATE t SET k = 77",
		"UPDATE t SET k = -k, a = 3 WHERE k BETWEEN 10 AND 60",
		"UPDATE t SET k = k",
		"UPDATE t SET a = 1 WHERE k < 5 RETURNING *",
		"UPDATE t SET k = k + 1000 WHERE k = 5 RETURNING k, upper(b)",
		"UPDATE t SET a = r.id FROM r WHERE t.k = r.id AND r.id = 4 RETURNING k, a",
		"UPDATE t SET a = 1 WHERE k < 0 RETURNING a",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
	kit_same("main", "r", "UPDATE r SET id = id + 1, name = 'x' WHERE id > 5");
	kit_same("main", "r", "UPDATE r SET name = t.b FROM t WHERE t.k = r.id");
	kit_same("s", "Odd name", "UPDATE s.\"Odd name\" SET rid = DATE '1999-01-01' WHERE slot < 7");
	kit_same("s", "Odd name", "UPDATE s.\"Odd name\" SET slot = slot + 1, \"a b\" = 'x' || slot");
	kit_same(
		"main", "types",
		"UPDATE types SET e = 'high', l = [7], h = -h, st = {'x': 9, 'y': NULL} WHERE e = 'mid'");
	kit_same("main", "types", "UPDATE types SET j = '[1]', k = k || 'z' RETURNING *");
}

static void test_change_errors(void **state)
{
	(void)state;
	kit_fails("DELETE FROM t WHERE nope = 1", "42703", NULL);
	kit_fails("DELETE FROM t WHERE k = 1 LIMIT 1", "42601", NULL);
	kit_fails("DELETE FROM t WHERE false UNION ALL SELECT 5", "42601", NULL);
	kit_fails("DELETE FROM t WHERE true) OR (true", "42601", NULL);
	kit_fails("DELETE FROM t WHERE", "42601", NULL);
	kit_fails("DELETE t", "42601", NULL);
	kit_fails("DELETE FROM t USING nope WHERE true", "42P01", NULL);
	kit_fails("DELETE FROM nope", "42P01", NULL);
	kit_fails("TRUNCATE nope", "42P01", NULL);
	kit_fails("DELETE FROM v", "42809", "DELETE needs a table");
	kit_fails("DELETE FROM t WHERE rowid = 5", "0A000", "row id of table");
	kit_fails("DELETE FROM t WHERE t.rowid IN (SELECT rowid FROM t)", "0A000", "row id of table");
	kit_fails("UPDATE t SET a = rowid", "0A000", "row id of table");
	kit_fails("DELETE FROM t WHERE b = getenv('HOME')", "42501", "");
	kit_fails("DELETE FROM t WHERE k / 0 = 'x'", "22P02", NULL);
	kit_fails("DELETE FROM t WHERE k IN (SELECT k FROM t USING SAMPLE 10 ROWS)", "0A000",
	          "these rows cannot be found");
	kit_fails("DELETE FROM t USING duckdb_tables() i WHERE i.table_name = t.b", "0A000",
	          "these rows cannot be found");
	kit_fails("UPDATE t SET k = NULL", "23502", NULL);
	kit_fails("UPDATE t SET k = NULL WHERE k = 3", "23502", NULL);
	kit_fails("UPDATE t SET a = b WHERE k = 3", "22P02", NULL);
	kit_fails("UPDATE t SET a = 99999999999", "22003", NULL);
	kit_fails("UPDATE t SET nope = 1", "42703", NULL);
	kit_fails("UPDATE t SET a = 1, a = 2", "42000", NULL);
	kit_fails("UPDATE t SET t.a = 1", "42601", NULL);
	kit_fails("UPDATE t SET a = 1 LIMIT 1", "42601", NULL);
	kit_fails("UPDATE t SET a", "42601", NULL);
	kit_fails("UPDATE t SET a = (SELECT k FROM t)", "21000", NULL);
	kit_fails("UPDATE t SET a = r.id FROM r WHERE t.k = 3", "21000",
	          "a row of \"t\" is to be updated twice");
	kit_fails("UPDATE t SET a = getenv('HOME')", "42501", "");
	kit_fails("UPDATE t SET a = 1 RETURNING r.id", "42P01", NULL);
	kit_fails("UPDATE v SET a = 1", "42809", "UPDATE needs a table");
}

static void test_primary_key(void **state)
{
	(void)state;
	kit_same("main", "pk", "INSERT INTO pk VALUES (100, 1, 'a'), (100, 2, 'b')");
	kit_same("main", "pk", "INSERT INTO pk SELECT k + 100, j, v FROM pk");
	kit_same("main", "pk", "INSERT INTO pk VALUES (100, 1, 'a') RETURNING v");
	kit_same("main", "pk", "UPDATE pk SET v = 'z'");
	kit_same("main", "pk", "UPDATE pk SET j = j + 1000");
	kit_same("main", "pk", "UPDATE pk SET k = k + 50, v = 'moved' WHERE k > 20");
	kit_same("main", "pk", "DELETE FROM pk WHERE k < 10");
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a')", "23505", NULL);
	kit_fails("INSERT INTO pk VALUES (500, 1, 'a'), (3, 0, 'a')", "23505", NULL);
	kit_fails("INSERT INTO pk VALUES (500, 1, 'a'), (500, 1, 'b')", "23505", NULL);
	kit_fails("INSERT INTO pk SELECT * FROM pk WHERE k = 4 AND j = 1", "23505", NULL);
	kit_fails("INSERT INTO pk (k, v) VALUES (500, 'x')", "23502", NULL);
	kit_fails("UPDATE pk SET k = 3, j = 0 WHERE k = 5 AND j = 1", "23505", NULL);
	kit_fails("UPDATE pk SET j = 7 WHERE k = 5", "23505", "");
	kit_fails("UPDATE pk SET k = NULL WHERE k = 5", "23502", NULL);
	kit_same("main", "pr", "INSERT INTO pr VALUES ('new', 1)");
	kit_same("main", "pr", "UPDATE pr SET name = name || '2'");
	kit_fails("INSERT INTO pr VALUES ('n1', 1)", "23505", NULL);
	kit_fails("INSERT INTO pr VALUES ('n100', 1), ('n100', 1)", "23505", NULL);
	kit_fails("UPDATE pr SET name = 'n4' WHERE name = 'n3'", "23505", NULL);
}

/* Literals are written without DuckDB, and as DuckDB would; what is no plain literal goes to it. */
static void test_literals(void **state)
{
	static const struct {
		const char *values;
		bool literals;
	} cases[] = {
		{ "(1, 'a', 1.25, 0.1, true, 1, 2, 3, 4, 5, 6, '2024-02-29')", true },
		{ "(NULL, 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)", true },
		{ "(-9223372036854775, '', -99999999.99, -0.0, FALSE, -128, -32768, -2147483648, 0, 0, 0, "
		  "'0001-01-01')",
		  true },
		{ "(999999999999999999, 'it''s; -- \"x\" /*', 0, 123456789012.345, True, 127, 32767, "
		  "2147483647, "
		  "255, 65535, 4294967295, '9999-12-31')",
		  true },
		{ "(1, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, '1970-01-01'), (2, 'b', 2.5, -7, NULL, 1, 1, 1, "
		  "1, 1, "
		  "1, '1969-12-31'), (3, 'ä€😀', 3.10, (-7), NULL, 1, 1, 1, 1, 1, 1, '1600-02-29')",
		  true },
		{ "((-5), 'p', (2), CAST('1e300' AS DOUBLE), (NULL), (1), 1, 1, 1, 1, 1, NULL)", true },
		{ "/* c */ (007, 'p', 1.50, CAST('-1.5E-3' AS DOUBLE), NULL, 1, 1, 1, 1, 1, 1, NULL) -- d",
		  true },
		{ "('1', 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 5, 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1.0, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1.255, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 1e3, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 0.12345678901234567, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 1, 1, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 1, 'yes', 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a' || 'b', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, E'a\\n', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, $$a$$, 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, '2024-1-1')", false },
		{ "(1, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, 'epoch')", false },
		{ "(1_000, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(- -1, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
		{ "(1, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL), (2, upper('b'), 1, 1, NULL, 1, 1, 1, 1, "
		  "1, 1, "
		  "NULL)",
		  false },
		{ "(DEFAULT, 'a', 1, 1, NULL, 1, 1, 1, 1, 1, 1, NULL)", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *text = mg_format("INSERT INTO plain VALUES %s", cases[i].values);

		kit_same("main", "plain", text);
		if (strcmp(kit_step, cases[i].literals ? "literals" : "values") != 0) {
			fail_msg("%s: went by \"%s\"", text, kit_step);
		}
		mg_free(text);
	}
	kit_same("main", "plain", "INSERT INTO plain (dt, \"S\", d) VALUES ('2000-01-01', 'q', 7)");
	assert_string_equal(kit_step, "literals");
	kit_fails("INSERT INTO plain (b) VALUES (1)", "23502", NULL);
	kit_fails("INSERT INTO plain (s, s) VALUES ('x', 'y')", "42000", NULL);
	kit_fails("INSERT INTO plain (s, nope) VALUES ('x', 'y')", "42703", NULL);
	kit_fails("INSERT INTO plain (s, t1) VALUES ('x', 128)", "22003", NULL);
	kit_fails("INSERT INTO plain (s, dt) VALUES ('x', '2023-02-29')", "22003", "");
	kit_fails("INSERT INTO plain (s) VALUES ('x', 1)", "42000", NULL);
	kit_fails("INSERT INTO plain (s) VALUES ('x'), ('y', 1)", "42601", NULL);
	kit_same("main", "plain", "INSERT INTO plain (s) VALUES ('x'),");
	kit_fails("INSERT INTO plain (s) VALUES ('x') ('y')", "42601", NULL);
	kit_fails("INSERT INTO plain (s) VALUES (NULL)", "23502", NULL);

	/* More rows than a batch of the redo holds, to every shard. */
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "INSERT INTO plain (s, k, d) VALUES ");
	for (int i = 0; i < 9000; i++) {
		mg_sb_addf(&sql, "%s('r%d', %d, %d.%d)", i ? ", " : "", i % 5000, i, i, i % 10);
	}
	kit_same("main", "plain", mg_sb_text(&sql));
	assert_string_equal(kit_step, "literals");
	mg_sb_fini(&sql);
	kit_same("main", "r", "INSERT INTO r VALUES (7, 'seven'), (8, NULL)");
	assert_string_equal(kit_step, "literals");
	/* Tables with more to say. */
	kit_same("main", "def", "INSERT INTO def VALUES (1, 2, 'x', NULL)");
	assert_string_equal(kit_step, "values");
	kit_same("main", "pk", "INSERT INTO pk VALUES (1000, 2, 'x')");
	assert_string_equal(kit_step, "values");
}

static void test_on_conflict(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO pk VALUES (3, 0, 'a'), (300, 0, 'b') ON CONFLICT DO NOTHING",
		"INSERT INTO pk VALUES (3, 0, 'a'), (300, 0, 'b') ON CONFLICT (j, k) DO NOTHING RETURNING "
		"*",
		"INSERT OR IGNORE INTO pk VALUES (3, 0, 'a'), (300, 0, 'b')",
		"INSERT OR REPLACE INTO pk VALUES (3, 0, 'a'), (300, 0, 'b')",
		"INSERT OR REPLACE INTO pk (j, k) VALUES (0, 3)",
		"INSERT OR REPLACE INTO pk BY NAME SELECT 3 AS k, 'x' AS v, 1 AS j",
		"INSERT INTO pk VALUES (3, 0, 'a'), (300, 0, 'b') ON CONFLICT DO UPDATE SET v = excluded.v",
		"INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT (k, j) DO UPDATE SET v = pk.v || excluded.v "
		"|| "
		"v RETURNING *",
		"INSERT INTO pk AS q VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET v = q.v || '!'",
		"INSERT INTO pk SELECT k, j, 'new' FROM pk ON CONFLICT DO UPDATE SET v = excluded.v WHERE "
		"pk.k % 2 = 0",
		"INSERT INTO pk SELECT k + 15, j, v FROM pk ON CONFLICT DO NOTHING RETURNING k, j",
		"INSERT INTO pk VALUES (3, 0, 'a'), (3, 0, 'b'), (400, 1, 'c'), (400, 1, 'd') ON CONFLICT "
		"DO "
		"UPDATE SET v = excluded.v",
		"INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET v = pk.v",
		"INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET k = 700",
		"INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET (j, v) = (55, DEFAULT)",
		"INSERT INTO pk (k, j) SELECT 1, 1 FROM pk WHERE false ON CONFLICT DO NOTHING",
		"INSERT INTO pk VALUES ((SELECT min(k) FROM pk), 0, 'm') ON CONFLICT DO UPDATE SET v = "
		"excluded.v",
		"WITH x AS (SELECT 4 AS k, 1 AS j) INSERT INTO pk (k, j) FROM x ON CONFLICT DO UPDATE SET "
		"v = "
		"NULL",
		"INSERT INTO pk (k, j, v) VALUES (3, 0, DEFAULT) ON CONFLICT DO UPDATE SET v = excluded.v",
		"INSERT INTO pk SELECT i // 3, i % 3, 'bulk' FROM range(60, 20000) r(i) ON CONFLICT DO "
		"UPDATE "
		"SET v = excluded.v || pk.v",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "pk", texts[i]);
	}
	kit_same("main", "pr",
	         "INSERT INTO pr VALUES ('n1', 100), ('z', 1) ON CONFLICT DO UPDATE SET n = "
	         "pr.n + excluded.n");
	kit_same("main", "pr", "INSERT OR REPLACE INTO pr VALUES ('n1', 100) RETURNING n");
	kit_same("main", "upsert",
	         "INSERT INTO upsert VALUES (1, 1) ON CONFLICT DO UPDATE SET n = "
	         "upsert.n + 1");
	kit_same("main", "upsert",
	         "INSERT INTO upsert (k) VALUES (1), (999) ON CONFLICT DO UPDATE SET n "
	         "= upsert.n + excluded.n");
	kit_same("main", "upsert",
	         "INSERT INTO upsert (k, n) VALUES ('1', NULL) ON CONFLICT DO UPDATE "
	         "SET n = upsert.n + 1");
	kit_fails("INSERT INTO upsert VALUES (1, NULL) ON CONFLICT DO UPDATE SET n = excluded.n",
	          "23502", NULL);
	kit_fails("INSERT INTO upsert VALUES (1, 5) ON CONFLICT DO UPDATE SET n = -1", "23514", NULL);
	kit_fails("INSERT INTO upsert VALUES (1000, -1) ON CONFLICT DO NOTHING", "23514", NULL);
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT (k) DO NOTHING", "42000", NULL);
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET k = 5", "23505", NULL);
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET nope = 5", "42703",
	          NULL);
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET v = (SELECT 1)", "42000",
	          NULL);
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET v = getenv('HOME')",
	          "42501", "");
	kit_fails("INSERT INTO pk VALUES (3, 0, 'a') ON CONFLICT DO UPDATE SET v = 1 WHERE "
	          "getenv('HOME') = 'x'",
	          "42501", "");
	kit_fails("INSERT INTO pk VALUES (3, 'x', 'a') ON CONFLICT DO NOTHING", "22P02", NULL);
	kit_fails("INSERT INTO pk SELECT 'x', 1, 'a' FROM pk ON CONFLICT DO NOTHING", "22P02", "");
	kit_fails("INSERT INTO pk VALUES (3, NULL, 'a') ON CONFLICT DO NOTHING", "23502", NULL);
	kit_fails("INSERT INTO pk (k) VALUES (3) ON CONFLICT DO NOTHING", "0A000", "");
	kit_fails("INSERT INTO t VALUES (3) ON CONFLICT DO NOTHING", "42000", "table \"t\" has no");
	kit_fails("INSERT INTO pk SELECT range, 1, 'x' FROM range(2000000) ON CONFLICT DO NOTHING",
	          "54000", "ON CONFLICT takes at most");
}

static void test_defaults_and_checks(void **state)
{
	(void)state;
	kit_same("main", "def", "INSERT INTO def DEFAULT VALUES");
	kit_same("main", "def", "INSERT INTO def DEFAULT VALUES RETURNING *");
	kit_same("main", "def", "INSERT INTO def (a, c) VALUES (DEFAULT, '2020-01-01'), (3, NULL)");
	kit_same("main", "def", "INSERT INTO def (b) SELECT b FROM t WHERE k < 3");
	kit_same("main", "def", "UPDATE def SET a = DEFAULT, b = DEFAULT WHERE k > 10");
	kit_same("main", "def", "UPDATE def SET k = DEFAULT WHERE k = 3");
	kit_same("main", "def", "UPDATE def SET (k, a, b, c) = (DEFAULT, DEFAULT, DEFAULT, NULL)");
	kit_fails("UPDATE def SET (k, a, b, c) = (DEFAULT, DEFAULT, DEFAULT, DEFAULT)", "0A000",
	          "UPDATE cannot set every column to DEFAULT");
	kit_fails("INSERT INTO def (k, a) VALUES (1, 100)", "23514", NULL);
	kit_fails("INSERT INTO def (k, a) SELECT 5, 5 FROM t", "23514", NULL);
	kit_fails("UPDATE def SET a = k", "23514", NULL);
	kit_fails("UPDATE def SET k = NULL", "23502", NULL);
}

/* rowid of our own statements is the id of the stored row, whichever way they take. */
static void test_row_ids(void **state)
{
	static const struct {
		const char *text, *model;
	} cases[] = {
		{ "SELECT t.rowid, k FROM t", "SELECT _mg_rid AS rowid, k FROM model.t" },
		{ "SELECT rowid, k FROM t WHERE k = 17",
		  "SELECT _mg_rid AS rowid, k FROM model.t WHERE k = 17" },
		{ "SELECT rowid FROM r", "SELECT _mg_rid AS rowid FROM model.r" },
		{ "SELECT t.rowid, r.rowid AS r2 FROM t, r WHERE t.a = r.id",
		  "SELECT t._mg_rid AS rowid, r._mg_rid AS r2 FROM model.t, model.r WHERE t.a = r.id" },
		{ "SELECT x.rowid, y.rowid AS r2 FROM t x JOIN t y ON x.k = y.a",
		  "SELECT x._mg_rid AS rowid, y._mg_rid AS r2 FROM model.t x JOIN model.t y ON x.k = y.a" },
		{ "SELECT rowid FROM t WHERE k > (SELECT avg(a) FROM t) AND EXISTS (SELECT 1 FROM t o "
		  "WHERE "
		  "o.k = t.a)",
		  "SELECT _mg_rid AS rowid FROM model.t WHERE k > (SELECT avg(a) FROM model.t) AND EXISTS "
		  "(SELECT 1 FROM model.t o WHERE o.k = t.a)" },
		{ "SELECT max(rowid) AS m, a FROM t GROUP BY a",
		  "SELECT max(_mg_rid) AS m, a FROM model.t GROUP BY a" },
		{ "SELECT count(*) AS n FROM t", "SELECT count(*) AS n FROM model.t" },
	};
	static const enum mg_strategy strategies[] = { MG_STRATEGY_AUTO,        MG_STRATEGY_LOCAL,
		                                           MG_STRATEGY_CUT,         MG_STRATEGY_BROADCAST,
		                                           MG_STRATEGY_REPARTITION, MG_STRATEGY_GATHER };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct kit_rows want = { 0 };
		struct mg_error err;
		int64_t count;

		kit_must(kit_plain(cases[i].model, &want, &count, &err), &err, cases[i].model);
		kit_sort(&want.text);
		for (size_t s = 0; s < sizeof strategies / sizeof *strategies; s++) {
			struct mg_run_settings settings = kit_settings;
			struct mg_run *run = mg_run_new();
			struct kit_rows have = { 0 };
			const struct mg_rows rows = {
				.begin = kit_rows_begin, .batch = kit_rows_batch, .lossless = true, .arg = &have
			};

			settings.strategy = strategies[s];
			settings.row_ids = true;
			kit_must(
				mg_coordinator_run(kit_engine, run, &settings, mg_str(cases[i].text), &rows, &err),
				&err, cases[i].text);
			kit_sort(&have.text);
			assert_string_equal(mg_sb_text(&have.text), mg_sb_text(&want.text));
			kit_rows_fini(&have);
			settings.row_ids = false;
			if (strstr(cases[i].text, "rowid")) {
				/* Users are refused. */
				assert_int_equal(mg_coordinator_run(kit_engine, run, &settings,
				                                    mg_str(cases[i].text), &rows, &err),
				                 MG_E_UNSUPPORTED);
			}
			mg_run_free(run);
		}
		kit_rows_fini(&want);
	}
}

/* What the head of a statement is refused for is told by DuckDB, with the place. */
static void test_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *message, *detail, *hint;
	} cases[] = {
		{ "INSERT t VALUES (1)", MG_E_SYNTAX, "syntax error at or near \"t\"", "INSERT t VALUES",
		  "" },
		{ "DELETE FROM typs", MG_E_NO_TABLE, "table with name typs does not exist", "",
		  "Did you mean \"types\"" },
		{ "DELETE FROM s.nope", MG_E_NO_TABLE, "table with name nope does not exist", "", "" },
		{ "DELETE FROM \"/etc/passwd\"", MG_E_NO_TABLE, "table with name /etc/passwd", "", "" },
		{ "DELETE FROM v", MG_E_BIND, "DELETE needs a table", "", "" },
	};
	const struct mg_catalog_data *data = mg_catalog_take(kit_catalog);
	struct mg_arena *arena = mg_arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mg_run *run = mg_run_new();
		struct mg_write_target target;
		struct mg_error err;
		int code = mg_write_target(data, arena, mg_str(cases[i].text), &target, &err);

		assert_int_equal(code, cases[i].code);
		code = mg_write_refused(kit_engine, run, &kit_settings, mg_str(cases[i].text), code, &err);
		assert_int_equal(code, cases[i].code);
		assert_int_equal(err.code, code);
		if (!strstr(err.message, cases[i].message) || !strstr(err.detail, cases[i].detail) ||
		    !strstr(err.hint, cases[i].hint)) {
			fail_msg("%s: \"%s\" (%s) %s", cases[i].text, err.message, err.detail, err.hint);
		}
		mg_run_free(run);
	}
	mg_arena_free(arena);
	mg_catalog_give(kit_catalog, data);
}

/* The database's own name may stand in front of the table's. */
static void test_full_name(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO merganser.main.t (k) VALUES (1)",
		"UPDATE merganser.main.t SET a = 1 WHERE t.k = 3",
		"DELETE FROM merganser.t WHERE k = 3",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct mg_redo *redo = mg_redo_new();
		struct mg_write_result result;
		struct mg_error err;

		kit_must(kit_write(texts[i], redo, &result, &err), &err, texts[i]);
		assert_int_equal(result.rows, 1);
		assert_string_equal(result.table, "t");
		mg_write_result_fini(&result);
		mg_redo_free(redo);
	}
}

/* What was tried leaves nothing behind: neither rows nor a transaction. */
static void test_planning_database_stays_as_it_was(void **state)
{
	struct mg_plandb *plandb = mg_engine_plandb(kit_engine);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct mg_duck_conn *conn = NULL;
		struct mg_error err;
		int64_t count = 0;

		kit_fails("INSERT INTO t (a) VALUES (1)", "23502", NULL);
		kit_same("main", "t", "INSERT INTO t (k) VALUES (5000) RETURNING k");
		kit_must(mg_plandb_borrow(plandb, NULL, &conn, &err), &err, "borrow");
		kit_must(mg_duck_int(conn, "SELECT count(*) FROM t", &count, &err), &err, "count");
		kit_must(mg_duck_exec(conn, "BEGIN; ROLLBACK", &err), &err, "transaction");
		mg_plandb_give_back(plandb, conn);
		assert_int_equal(count, 200);
	}
}

static void test_cancelled(void **state)
{
	const struct mg_write_request request = { .statement = mg_str(
												  "INSERT INTO t (k) SELECT 1 FROM range(100)") };
	struct mg_redo *redo = mg_redo_new();
	struct mg_run *run = mg_run_new();
	struct mg_write_result result;
	struct mg_error err;

	(void)state;
	mg_run_cancel(run, MG_E_CANCELLED);
	assert_int_equal(mg_write_rows(kit_engine, run, &kit_settings, &request, redo, &result, &err),
	                 MG_E_CANCELLED);
	mg_write_result_fini(&result);
	mg_run_free(run);
	mg_redo_free(redo);
}

/* A statement that is ended, by its client or by the limit, leaves a connection behind that works.
 */
static const char endless[] =
	"INSERT INTO r (id) VALUES ((SELECT count(*) FROM range(1000000000000)))";

static void *cancel_soon(void *arg)
{
	const struct timespec moment = { .tv_nsec = 20 * 1000 * 1000 };

	/* Wherever it is then: before it starts, inside, or between its steps. */
	nanosleep(&moment, NULL);
	mg_run_cancel(arg, MG_E_CANCELLED);
	return NULL;
}

static void test_cancelled_inside(void **state)
{
	const struct mg_write_request request = { .statement = mg_str(endless) };

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct mg_redo *redo = mg_redo_new();
		struct mg_run *run = mg_run_new();
		struct mg_write_result result;
		struct mg_error err;
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, cancel_soon, run), 0);
		assert_int_equal(
			mg_write_rows(kit_engine, run, &kit_settings, &request, redo, &result, &err),
			MG_E_CANCELLED);
		pthread_join(thread, NULL);
		mg_write_result_fini(&result);
		mg_run_free(run);
		mg_redo_free(redo);
		kit_same("main", "r", "INSERT INTO r (id) VALUES (1 + 1) RETURNING *");
	}
}

static void test_out_of_time(void **state)
{
	struct mg_plandb *plandb = mg_engine_plandb(kit_engine);

	(void)state;
	mg_plandb_set_limit(plandb, 200);
	kit_fails(endless, "57014", "planning took longer than 200 ms");
	mg_plandb_set_limit(plandb, 60 * 1000);
	kit_same("main", "r", "INSERT INTO r (id) VALUES (1 + 1) RETURNING *");
}

/* Clients without DuckDB's Arrow types get RETURNING's rows in plain ones. */
static void test_plain_types(void **state)
{
	const struct mg_write_request request = {
		.statement = mg_str("INSERT INTO types (k, h, u) VALUES ('a', 5, "
		                    "'00000000-0000-0000-0000-000000000001') RETURNING h, u")
	};
	struct mg_redo *redo = mg_redo_new();
	struct mg_run *run = mg_run_new();
	struct kit_rows have = { 0 };
	const struct mg_rows rows = { .begin = kit_rows_begin, .batch = kit_rows_batch, .arg = &have };
	struct mg_write_result result;
	struct mg_error err;

	(void)state;
	kit_must(mg_write_rows(kit_engine, run, &kit_settings, &request, redo, &result, &err), &err,
	         "returning");
	kit_must(mg_write_hand_out(&result, &rows, &err), &err, "hand out");
	assert_string_equal(mg_sb_text(&have.text),
	                    "h DECIMAL(38,0)|u VARCHAR|\n5|00000000-0000-0000-0000-000000000001|\n");
	kit_rows_fini(&have);
	mg_write_result_fini(&result);
	mg_run_free(run);
	mg_redo_free(redo);
}

static void test_target(void **state)
{
	static const struct {
		const char *text;
		bool reads;
	} cases[] = {
		{ "INSERT INTO t (k) VALUES (1)", false },
		{ "INSERT INTO T (k) VALUES (1) RETURNING k", false },
		{ "INSERT INTO t (k) VALUES ((SELECT 1))", true },
		{ "INSERT INTO t FROM t", true },
		{ "WITH x AS (SELECT 1) INSERT INTO t (k) VALUES (1)", true },
		{ "UPDATE t SET a = 1", true },
		{ "DELETE FROM t", true },
		{ "TRUNCATE t", true },
		{ "INSERT INTO t (k) VALUES (1) ON CONFLICT DO NOTHING", true },
	};
	const struct mg_catalog_data *data = mg_catalog_take(kit_catalog);
	struct mg_arena *arena = mg_arena_new();
	struct mg_write_target target;
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		kit_must(mg_write_target(data, arena, mg_str(cases[i].text), &target, &err), &err,
		         cases[i].text);
		assert_string_equal(target.table->name, "t");
		assert_int_equal(target.reads, cases[i].reads);
	}
	assert_int_equal(mg_write_target(data, arena, MG_STR("DELETE FROM nope"), &target, &err),
	                 MG_E_NO_TABLE);
	mg_arena_free(arena);
	mg_catalog_give(kit_catalog, data);
}

/* Statement after statement, each committed: the cluster answers as plain DuckDB does. */
static void commit(const char *table, const char *statement)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_run *run = mg_run_new();
	struct mg_write_result result;
	struct kit_rows want = { 0 }, have = { 0 };
	const struct mg_rows rows = {
		.begin = kit_rows_begin, .batch = kit_rows_batch, .lossless = true, .arg = &have
	};
	char *question = mg_format("SELECT * FROM %s", table);
	struct mg_error err;
	int64_t count;

	kit_must(kit_write(statement, redo, &result, &err), &err, statement);
	kit_must(mg_replica_commit(mg_engine_replica(kit_engine), redo, &err), &err, statement);
	kit_sql(statement);
	kit_must(kit_plain(question, &want, &count, &err), &err, question);
	kit_must(mg_coordinator_run(kit_engine, run, &kit_settings, mg_str(question), &rows, &err),
	         &err, question);
	kit_sort(&want.text);
	kit_sort(&have.text);
	if (strcmp(mg_sb_text(&have.text), mg_sb_text(&want.text)) != 0) {
		fail_msg("%s leaves other rows:\n%s\n---\n%s", statement, mg_sb_text(&have.text),
		         mg_sb_text(&want.text));
	}
	kit_rows_fini(&want);
	kit_rows_fini(&have);
	mg_write_result_fini(&result);
	mg_run_free(run);
	mg_redo_free(redo);
	mg_free(question);
}

static void test_committed(void **state)
{
	static const char *const texts[][2] = {
		{ "t", "INSERT INTO t VALUES (1000, 1, 'a', 1.5), (1001, NULL, 'ü', 2.25)" },
		{ "t", "UPDATE t SET a = a + 1, b = b || '!' WHERE k % 2 = 0" },
		{ "t", "UPDATE t SET k = k + 5000 WHERE k < 100" },
		{ "t", "INSERT INTO t SELECT k + 10000, a, b, d FROM t" },
		{ "t", "DELETE FROM t USING r WHERE t.a = r.id AND r.id < 3" },
		{ "t", "UPDATE t SET a = r.id, b = r.name FROM r WHERE t.a = r.id + 1" },
		{ "r", "INSERT INTO r SELECT id + 100, name FROM r" },
		{ "r", "UPDATE r SET name = NULL WHERE id > 105" },
		{ "r", "DELETE FROM r WHERE id = 3" },
		{ "types", "INSERT INTO types SELECT * REPLACE (k || 'b' AS k) FROM types" },
		{ "types", "UPDATE types SET e = 'high', l = [7], m = MAP {'z': 9} WHERE k LIKE '%1%'" },
		{ "types", "UPDATE types SET k = k || 'x', iv = INTERVAL 5 DAY" },
		{ "types", "INSERT INTO types (k) VALUES (NULL)" },
		{ "types", "DELETE FROM types WHERE e = 'mid' AND h > 1" },
		{ "s.\"Odd name\"", "UPDATE s.\"Odd name\" SET slot = 1 - slot, rid = NULL" },
		{ "s.\"Odd name\"", "INSERT INTO s.\"Odd name\" VALUES ('a', 1, '2020-02-02')" },
		{ "pk", "INSERT INTO pk VALUES (100, 1, 'a')" },
		{ "pk", "INSERT INTO pk VALUES (100, 1, 'b'), (101, 1, 'c') ON CONFLICT DO UPDATE SET v = "
		        "pk.v || excluded.v" },
		{ "pk", "UPDATE pk SET k = k + 1, v = 'up'" },
		{ "pk", "INSERT OR IGNORE INTO pk SELECT k + 1, j, 'dup' FROM pk" },
		{ "upsert",
		  "INSERT INTO upsert VALUES (1, 1), (77, 7) ON CONFLICT DO UPDATE SET n = upsert.n "
		  "+ 100" },
		{ "upsert",
		  "INSERT INTO upsert VALUES (1, 1), (77, 7) ON CONFLICT DO UPDATE SET n = upsert.n "
		  "+ 100" },
		{ "plain",
		  "INSERT INTO plain VALUES (1, 'a', 1.25, 0.1, true, 1, 2, 3, 4, 5, 6, '2024-02-29'), "
		  "(NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)" },
		{ "def", "INSERT INTO def DEFAULT VALUES" },
		{ "def", "UPDATE def SET a = DEFAULT WHERE k = 42" },
		{ "def", "TRUNCATE def" },
		{ "def", "INSERT INTO def (k) SELECT k FROM t WHERE k < 2000 AND k <> 7" },
		{ "t", "DELETE FROM t" },
		{ "t", "INSERT INTO t (k) SELECT range FROM range(20000)" },
		{ "t", "DELETE FROM t WHERE k % 3 = 0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		commit(texts[i][0], texts[i][1]);
	}
	kit_fails("INSERT INTO pk VALUES (102, 1, 'again')", "23505", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_returning),
		cmocka_unit_test(test_insert_errors),
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_change_errors),
		cmocka_unit_test(test_primary_key),
		cmocka_unit_test(test_literals),
		cmocka_unit_test(test_on_conflict),
		cmocka_unit_test(test_defaults_and_checks),
		cmocka_unit_test(test_row_ids),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full_name),
		cmocka_unit_test(test_planning_database_stays_as_it_was),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_cancelled_inside),
		cmocka_unit_test(test_out_of_time),
		cmocka_unit_test(test_plain_types),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_committed), /* the last one: the others know the first rows */
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
