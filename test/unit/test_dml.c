/* test_dml.c - heads of statements that write: what stands between the keywords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/copy_to.h"
#include "sql/dml.h"

#include <string.h>

static struct mg_arena *arena;

static int set_up(void **state)
{
	(void)state;
	arena = mg_arena_new();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	mg_arena_free(arena);
	return 0;
}

static void add_part(struct mg_sb *out, const char *name, struct mg_str text)
{
	if (text.len) {
		mg_sb_addf(out, " %s<%.*s>", name, MG_STR_ARG(text));
	}
}

/* All that was read, on one line. */
static const char *shown(const char *text)
{
	struct mg_dml dml;
	struct mg_error err;
	struct mg_sb out = { 0 };

	if (mg_dml_parse(arena, mg_str(text), &dml, &err)) {
		fail_msg("%s: %s", text, err.message);
	}
	mg_sb_addf(&out, "%s [%s][%s][%s]", dml.name, dml.catalog, dml.schema, dml.table);
	if (dml.alias) {
		mg_sb_addf(&out, " as[%s]", dml.alias);
	}
	for (size_t i = 0; i < dml.column_count; i++) {
		mg_sb_addf(&out, " (%s)", dml.columns[i]);
	}
	mg_sb_add(&out, dml.by_name ? " by name" : "");
	mg_sb_add(&out, dml.values ? " values" : "");
	mg_sb_add(&out, dml.default_values ? " default" : "");
	mg_sb_add(&out, dml.conflict == MG_DML_CONFLICT_IGNORE    ? " ignore"
	                : dml.conflict == MG_DML_CONFLICT_REPLACE ? " replace"
	                                                          : "");
	for (size_t i = 0; i < dml.set_count; i++) {
		mg_sb_addf(&out, " %s=%s%.*s", dml.sets[i].column, dml.sets[i].is_default ? "*" : "",
		           MG_STR_ARG(dml.sets[i].expr));
	}
	add_part(&out, "with", dml.with);
	add_part(&out, "source", dml.source);
	add_part(&out, "conflict", dml.conflict_text);
	add_part(&out, "from", dml.from);
	add_part(&out, "where", dml.where);
	add_part(&out, "returning", dml.returning);
	const char *line = mg_arena_strdup(arena, mg_sb_text(&out));

	mg_sb_fini(&out);
	return line;
}

struct shape {
	const char *text, *want;
};

static void check(const struct shape *shapes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *have = shown(shapes[i].text);

		if (strcmp(have, shapes[i].want) != 0) {
			fail_msg("%s\n  gives %s\n  not   %s", shapes[i].text, have, shapes[i].want);
		}
	}
}

static void test_insert(void **state)
{
	static const struct shape shapes[] = {
		{ "INSERT INTO t VALUES (1)", "INSERT [][][t] values source<VALUES (1)>" },
		{ "insert into a.b.c values (1)", "INSERT [a][b][c] values source<values (1)>" },
		{ "INSERT INTO \"a.b\".\"x\"\"y\" (\"k 1\", k2) VALUES (1, 2)",
		  "INSERT [][a.b][x\"y] (k 1) (k2) values source<VALUES (1, 2)>" },
		{ "INSERT INTO t AS \"other\" (a) SELECT 1",
		  "INSERT [][][t] as[other] (a) source<SELECT 1>" },
		{ "INSERT INTO t BY NAME SELECT 1 AS a", "INSERT [][][t] by name source<SELECT 1 AS a>" },
		{ "INSERT INTO t BY POSITION FROM u", "INSERT [][][t] source<FROM u>" },
		{ "INSERT INTO t DEFAULT VALUES", "INSERT [][][t] default" },
		{ "INSERT INTO t DEFAULT VALUES RETURNING a", "INSERT [][][t] default returning<a>" },
		{ "INSERT INTO t (SELECT 1)", "INSERT [][][t] source<(SELECT 1)>" },
		{ "INSERT INTO t (VALUES (1))", "INSERT [][][t] source<(VALUES (1))>" },
		{ "INSERT INTO t (a) (SELECT 1)", "INSERT [][][t] (a) source<(SELECT 1)>" },
		{ "INSERT INTO t TABLE u", "INSERT [][][t] source<TABLE u>" },
		{ "INSERT OR REPLACE INTO t VALUES (1)",
		  "INSERT [][][t] values replace source<VALUES (1)>" },
		{ "INSERT OR IGNORE INTO t VALUES (1)", "INSERT [][][t] values ignore source<VALUES (1)>" },
		{ "INSERT INTO t VALUES (1) RETURNING a, b + 1 AS c",
		  "INSERT [][][t] values source<VALUES (1)> returning<a, b + 1 AS c>" },
		{ "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
		  "INSERT [][][t] values source<VALUES (1)> conflict<ON CONFLICT DO NOTHING>" },
		{ "INSERT INTO t VALUES (1) ON CONFLICT (a, b) DO UPDATE SET c = excluded.c WHERE t.c > 1 "
		  "RETURNING *",
		  "INSERT [][][t] values c=excluded.c source<VALUES (1)> conflict<ON CONFLICT (a, b) DO "
		  "UPDATE SET c = excluded.c WHERE t.c > 1> where<t.c > 1> returning<*>" },
		{ "INSERT INTO t SELECT * FROM a JOIN b ON conflict = 1",
		  "INSERT [][][t] source<SELECT * FROM a JOIN b ON conflict = 1>" },
		{ "INSERT INTO t SELECT * FROM a JOIN b ON conflict ON CONFLICT DO NOTHING",
		  "INSERT [][][t] source<SELECT * FROM a JOIN b ON conflict> conflict<ON CONFLICT DO "
		  "NOTHING>" },
		{ "INSERT INTO t SELECT 1 AS returning, u.returning FROM u",
		  "INSERT [][][t] source<SELECT 1 AS returning, u.returning FROM u>" },
		{ "INSERT INTO t SELECT 'RETURNING a', \"returning\" /* RETURNING x */ FROM u -- RETURNING",
		  "INSERT [][][t] source<SELECT 'RETURNING a', \"returning\" /* RETURNING x */ FROM u>" },
		{ "INSERT INTO t SELECT (SELECT 1 ON CONFLICT DO RETURNING) RETURNING b",
		  "INSERT [][][t] source<SELECT (SELECT 1 ON CONFLICT DO RETURNING)> returning<b>" },
		{ "WITH x AS (SELECT 1), y (a) AS MATERIALIZED (SELECT 2) INSERT INTO t FROM x",
		  "INSERT [][][t] with<WITH x AS (SELECT 1), y (a) AS MATERIALIZED (SELECT 2)> source<FROM "
		  "x>" },
		{ "WITH RECURSIVE x AS (SELECT 'INSERT INTO u') INSERT INTO t FROM x",
		  "INSERT [][][t] with<WITH RECURSIVE x AS (SELECT 'INSERT INTO u')> source<FROM x>" },
		{ "INSERT INTO values VALUES (1)", "INSERT [][][values] values source<VALUES (1)>" },
		{ "/* a */ INSERT -- b\n INTO /* c */ t\n(a)\nVALUES\n('x;y')",
		  "INSERT [][][t] (a) values source<VALUES\n('x;y')>" },
		{ "INSERT INTO t VALUES ($$ RETURNING $$, E'\\' RETURNING')",
		  "INSERT [][][t] values source<VALUES ($$ RETURNING $$, E'\\' RETURNING')>" },
	};

	(void)state;
	check(shapes, sizeof shapes / sizeof *shapes);
}

static void test_update(void **state)
{
	static const struct shape shapes[] = {
		{ "UPDATE t SET a = 1", "UPDATE [][][t] a=1" },
		{ "UPDATE s.t AS x SET a = 1, \"b c\" = f(1, 2) WHERE a > 3",
		  "UPDATE [][s][t] as[x] a=1 b c=f(1, 2) where<a > 3>" },
		{ "UPDATE t x SET a = DEFAULT RETURNING *",
		  "UPDATE [][][t] as[x] a=*DEFAULT returning<*>" },
		{ "UPDATE t SET (a, b) = (1, (2, 3)), c = 4", "UPDATE [][][t] a=1 b=(2, 3) c=4" },
		{ "UPDATE t SET (a, b) = ROW(f(1, 2), DEFAULT)", "UPDATE [][][t] a=f(1, 2) b=*DEFAULT" },
		{ "UPDATE t SET (a, b) = 1", "UPDATE [][][t] a=1 b=1" },
		{ "UPDATE t SET (a) = (1)", "UPDATE [][][t] a=1" },
		{ "UPDATE t SET a =-1, b =+ 2", "UPDATE [][][t] a=-1 b=+ 2" },
		{ "UPDATE t SET a = b IS NOT DISTINCT FROM c FROM u, v WHERE true",
		  "UPDATE [][][t] a=b IS NOT DISTINCT FROM c from<u, v> where<true>" },
		{ "UPDATE t SET a = extract(year FROM d), b = [1, 2], c = {'x': 1, 'y': [2]}",
		  "UPDATE [][][t] a=extract(year FROM d) b=[1, 2] c={'x': 1, 'y': [2]}" },
		{ "UPDATE t SET a = (SELECT x FROM u WHERE y) FROM (SELECT 1 WHERE true) AS q WHERE (a)",
		  "UPDATE [][][t] a=(SELECT x FROM u WHERE y) from<(SELECT 1 WHERE true) AS q> "
		  "where<(a)>" },
		{ "UPDATE ONLY t SET a = 1", "UPDATE [][][t] a=1" },
		{ "UPDATE only SET a = 1", "UPDATE [][][only] a=1" },
		{ "UPDATE t * SET a = 1", "UPDATE [][][t] a=1" },
		{ "UPDATE t AS set SET a = 1", "UPDATE [][][t] as[set] a=1" },
		{ "WITH x AS (SELECT 1) UPDATE t SET a = 1 FROM x",
		  "UPDATE [][][t] a=1 with<WITH x AS (SELECT 1)> from<x>" },
	};

	(void)state;
	check(shapes, sizeof shapes / sizeof *shapes);
}

static void test_delete_and_truncate(void **state)
{
	static const struct shape shapes[] = {
		{ "DELETE FROM t", "DELETE [][][t]" },
		{ "DELETE FROM a.t AS x WHERE x.k IN (SELECT 1 WHERE false) RETURNING x.k",
		  "DELETE [][a][t] as[x] where<x.k IN (SELECT 1 WHERE false)> returning<x.k>" },
		{ "DELETE FROM t x USING u JOIN v USING (k) WHERE true",
		  "DELETE [][][t] as[x] from<u JOIN v USING (k)> where<true>" },
		{ "DELETE FROM t USING u", "DELETE [][][t] from<u>" },
		{ "TRUNCATE t", "TRUNCATE [][][t]" },
		{ "TRUNCATE TABLE a.t", "TRUNCATE [][a][t]" },
		{ "TRUNCATE table", "TRUNCATE [][][table]" },
	};

	(void)state;
	check(shapes, sizeof shapes / sizeof *shapes);
}

static void test_errors(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *message;
	} cases[] = {
		{ "INSERT t VALUES (1)", MG_E_SYNTAX, "INTO is missing at \"t\"" },
		{ "INSERT INTO", MG_E_SYNTAX, "the name of a table is missing at the end" },
		{ "INSERT INTO a.b.c.d VALUES (1)", MG_E_SYNTAX, "a table's name of at most three parts" },
		{ "INSERT INTO t", MG_E_SYNTAX, "VALUES or SELECT is missing" },
		{ "INSERT INTO t (a, b)", MG_E_SYNTAX, "VALUES or SELECT is missing" },
		{ "INSERT INTO t VALUES (1", MG_E_SYNTAX, "a parenthesis is not closed" },
		{ "INSERT INTO t VALUES (1))", MG_E_SYNTAX, "\")\" closes nothing" },
		{ "INSERT INTO t VALUES ('a)", MG_E_SYNTAX, "a parenthesis is not closed" },
		{ "INSERT OR FAIL INTO t VALUES (1)", MG_E_SYNTAX, "REPLACE or IGNORE" },
		{ "INSERT OR IGNORE INTO t VALUES (1) ON CONFLICT DO NOTHING", MG_E_SYNTAX,
		  "ON CONFLICT cannot stand beside INSERT OR IGNORE" },
		{ "INSERT INTO t VALUES (1) ON CONFLICT DO", MG_E_SYNTAX, "NOTHING or UPDATE is missing" },
		{ "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE", MG_E_SYNTAX, "SET is missing" },
		{ "INSERT INTO t VALUES (1) RETURNING", MG_E_SYNTAX, "the list of RETURNING" },
		{ "INSERT INTO t BY SELECT 1", MG_E_SYNTAX, "NAME or POSITION" },
		{ "UPDATE t", MG_E_SYNTAX, "SET is missing" },
		{ "UPDATE t SET a", MG_E_SYNTAX, "\"=\" is missing" },
		{ "UPDATE t SET a =", MG_E_SYNTAX, "an expression is missing" },
		{ "UPDATE t SET a.b = 1", MG_E_SYNTAX, "SET takes the name of a column alone" },
		{ "UPDATE t SET (a, b) = (1, 2, 3)", MG_E_SYNTAX, "SET of 2 columns has 3 values" },
		{ "UPDATE t SET (a, b) = (1, )", MG_E_SYNTAX, "an expression is missing" },
		{ "UPDATE t SET a = 1, WHERE", MG_E_SYNTAX, "\"=\" is missing" },
		{ "DELETE t", MG_E_SYNTAX, "FROM is missing" },
		{ "DELETE FROM t WHERE", MG_E_SYNTAX, "the condition of WHERE is missing" },
		{ "DELETE FROM t WHERE true) OR (true", MG_E_SYNTAX, "\")\" closes nothing" },
		{ "TRUNCATE t, u", MG_E_SYNTAX, "the end of the statement is missing at \",\"" },
		{ "WITH x AS (SELECT 1)", MG_E_SYNTAX, "a statement behind WITH" },
		{ "WITH x AS (SELECT 1", MG_E_SYNTAX, "a statement behind WITH" },
		{ "SELECT 1", MG_E_SYNTAX,
		  "INSERT, UPDATE, DELETE, MERGE or TRUNCATE is missing at \"SELECT\"" },
		{ "", MG_E_SYNTAX, "INSERT, UPDATE, DELETE, MERGE or TRUNCATE is missing" },
		{ "COPY t FROM", MG_E_SYNTAX, "STDIN or the path of a file is missing" },
		{ "COPY t FROM ''", MG_E_SYNTAX, "the path of a file is missing" },
		{ "COPY t FROM E'x'", MG_E_SYNTAX, "the path of a file is missing" },
		{ "COPY t FROM 'x.json' (header)", MG_E_UNSUPPORTED, "\"header\" for format json" },
		{ "COPY t FROM STDIN CSV now", MG_E_SYNTAX, "the end of the statement" },
		{ "COPY t FROM STDIN (HEADER) CSV", MG_E_SYNTAX, "the end of the statement" },
		{ "COPY t FROM STDIN (FORCE_NOT_NULL *)", MG_E_SYNTAX, "takes no \"*\"" },
		{ "COPY t FROM STDIN (FORMAT xls)", MG_E_UNSUPPORTED, "COPY knows no format 'xls'" },
		{ "COPY t FROM STDIN (header, filename 'x')", MG_E_UNSUPPORTED, "\"filename\"" },
		{ "COPY t FROM STDIN (FORMAT json, header)", MG_E_UNSUPPORTED, "\"header\"" },
		{ "COPY t FROM STDIN (delimiter ',' || ')", MG_E_SYNTAX, "" },
		{ "MERGE INTO t USING u ON true", MG_E_SYNTAX, "WHEN is missing" },
		{ "MERGE INTO t USING u WHEN MATCHED THEN DELETE", MG_E_SYNTAX, "ON or USING" },
		{ "MERGE INTO t USING u ON a WHEN MATCHED AND b DELETE", MG_E_SYNTAX, "THEN is missing" },
		{ "MERGE INTO t USING u ON a WHEN NOT MATCHED THEN INSERT (a, b) VALUES (1)", MG_E_SYNTAX,
		  "INSERT of 2 columns has 1 values" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mg_dml dml;
		struct mg_error err;
		int code = mg_dml_parse(arena, mg_str(cases[i].text), &dml, &err);

		if (code != cases[i].code || !strstr(err.message, cases[i].message)) {
			fail_msg("%s: %d \"%s\" instead of \"%s\"", cases[i].text, code,
			         code ? err.message : "", cases[i].message);
		}
	}
}

static void test_many_columns(void **state)
{
	struct mg_sb text = { 0 };
	struct mg_dml dml;
	struct mg_error err;

	(void)state;
	mg_sb_add(&text, "UPDATE t SET (");
	for (int i = 0; i < 1000; i++) {
		mg_sb_addf(&text, "%sc%d", i ? ", " : "", i);
	}
	mg_sb_add(&text, ") = (");
	for (int i = 0; i < 1000; i++) {
		mg_sb_addf(&text, "%s%d", i ? ", " : "", i);
	}
	mg_sb_add(&text, ")");
	assert_int_equal(mg_dml_parse(arena, mg_str(mg_sb_text(&text)), &dml, &err), 0);
	assert_int_equal(dml.set_count, 1000);
	assert_string_equal(dml.sets[999].column, "c999");
	assert_true(mg_str_eq(dml.sets[999].expr, MG_STR("999")));
	mg_sb_clear(&text);
	mg_sb_add(&text, "INSERT INTO t (");
	for (int i = 0; i <= MG_DML_COLUMNS_MAX; i++) {
		mg_sb_addf(&text, "%sc%d", i ? ", " : "", i);
	}
	mg_sb_add(&text, ") VALUES (1)");
	assert_int_equal(mg_dml_parse(arena, mg_str(mg_sb_text(&text)), &dml, &err), MG_E_LIMIT);
	mg_sb_fini(&text);
}

/* What COPY ... TO was read as, on one line. */
static const char *copied(const char *text)
{
	struct mg_copy_to to;
	struct mg_error err = { 0 };

	if (mg_copy_to_parse(arena, mg_str(text), &to, &err)) {
		return mg_arena_format(arena, "%s", err.message);
	}
	return mg_arena_format(arena, "[%.*s] to %s [%s]%s%s", MG_STR_ARG(to.query),
	                       to.path ? to.path : "-", to.how, to.header ? "" : " headless",
	                       to.array ? " array" : "");
}

static void test_copy_to(void **state)
{
	static const char *const cases[][2] = {
		{ "COPY t TO STDOUT", "[FROM \"t\"] to - [FORMAT csv]" },
		{ "COPY s.t (a, \"b c\") TO 'it''s.json'",
		  "[SELECT \"a\", \"b c\" FROM \"s\".\"t\"] to it's.json [FORMAT json]" },
		{ "COPY (SELECT a FROM t WHERE (b)) TO STDOUT (FORMAT 'csv', HEADER false, SEP '|')",
		  "[SELECT a FROM t WHERE (b)] to - [FORMAT csv, header false, delim '|'] headless" },
		{ "COPY ( FROM t -- )\n ) TO 'a.csv.gz' WITH CSV HEADER NULL AS 'NA'",
		  "[FROM t -- )] to a.csv.gz [FORMAT csv, header true, nullstr 'NA', compression 'gzip']" },
		{ "COPY t TO STDOUT (FORCE_QUOTE (a, b), FORMAT csv)",
		  "[FROM \"t\"] to - [FORMAT csv, force_quote ('a', 'b')]" },
		{ "COPY t TO STDOUT (FORCE_QUOTE *)", "[FROM \"t\"] to - [FORMAT csv, force_quote *]" },
		{ "COPY t TO STDOUT (FORMAT json, ARRAY)",
		  "[FROM \"t\"] to - [FORMAT json, array true] array" },
		{ "COPY t TO STDOUT (FORMAT arrow)", "[FROM \"t\"] to - []" },
		{ "COPY t TO STDOUT (FORMAT arrow, HEADER)", "COPY TO has no option \"HEADER\" for format "
		                                            "arrow" },
		{ "COPY t TO STDOUT (COMPRESSION gzip)", "COPY TO STDOUT does not compress csv" },
		{ "COPY t TO STDOUT (COMPRESSION none)", "[FROM \"t\"] to - [FORMAT csv, compression "
		                                         "'none']" },
		{ "COPY t TO 'x' (USE_TMP_FILE false)", "COPY TO has no option \"USE_TMP_FILE\" for format "
		                                        "csv" },
		{ "COPY t TO 'x' (NULL (SELECT 1))", "\")\" is missing at \"1\"" },
		{ "COPY (DELETE FROM t RETURNING a) TO STDOUT", "COPY (DELETE ...) TO does not read" },
		{ "COPY (SELECT 1; SELECT 2) TO STDOUT", "COPY wants one query in its parentheses" },
		{ "COPY () TO STDOUT", "COPY wants one query in its parentheses" },
		{ "COPY (SELECT 1 TO STDOUT", "a parenthesis is not closed" },
		{ "COPY t TO", "STDOUT or the path of a file is missing at the end of the statement" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_string_equal(copied(cases[i][0]), cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_insert, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_update, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_delete_and_truncate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_copy_to, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_columns, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
