/*
 * test_write_merge.c - MERGE against plain DuckDB: every clause, statements made by chance, and
 * what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chance_kit.h"

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
	KIT_ODD_TABLES,
	KIT_PK_TABLE,
	{ .schema = "main",
	  .name = "def",
	  .columns = { { "k", "INTEGER" }, { "a", "INTEGER" }, { "b", "VARCHAR" }, { "c", "DATE" } },
	  .definition =
	      "k INTEGER NOT NULL DEFAULT 40 + 2, a INTEGER DEFAULT 7 CHECK (a < 100), b VARCHAR "
	      "DEFAULT 'x' || 'y', c DATE, CHECK (k <> a)",
	  .keys = { "k" },
	  .id = 12,
	  .rows = "SELECT i, i + 20, 'd' || i, DATE '2021-01-01' + i::INT FROM range(9) r(i)" },
};

KIT_GROUP(tables)

static void test_clauses(void **state)
{
	static const char *const texts[] = {
		"MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN DELETE",
		"MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN UPDATE SET a = r.id + 1, b = name",
		"MERGE INTO t AS x USING r AS s ON x.k = s.id * 30 WHEN MATCHED THEN UPDATE SET b = s.name "
		"WHEN NOT MATCHED THEN INSERT VALUES (s.id * 1000, s.id, name, 1.5) RETURNING "
		"merge_action, x.k, *",
		"MERGE INTO t USING (SELECT id * 3 AS k, name FROM r UNION ALL SELECT 1000 + id, 'new' "
		"FROM r) AS s USING (k) WHEN MATCHED AND s.k < 10 THEN DELETE WHEN MATCHED AND t.a = 3 "
		"THEN DO NOTHING WHEN MATCHED THEN UPDATE SET b = s.name || t.b WHEN NOT MATCHED BY "
		"TARGET AND s.k % 2 = 0 THEN INSERT (k, b) VALUES (s.k, name) RETURNING *, merge_action "
		"AS what",
		"MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED BY SOURCE AND k > 20 THEN DELETE WHEN "
		"NOT MATCHED BY SOURCE THEN UPDATE SET a = -1, b = b || '!'",
		"MERGE INTO t USING r ON t.k = r.id * 40 WHEN MATCHED THEN UPDATE SET k = t.k + 7 WHEN NOT "
		"MATCHED THEN INSERT (k) VALUES (id) WHEN NOT MATCHED BY SOURCE AND k < 9 THEN DELETE",
		/* A WHEN without a condition comes last, wherever it stands. */
		"MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN DELETE WHEN MATCHED AND t.k = 3 THEN "
		"UPDATE SET b = 'first' RETURNING merge_action, k, b",
		"MERGE INTO t USING (SELECT id + 190, id, name, 2 FROM r) AS s(k, a, b, d) ON t.k = s.k "
		"WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
		"MERGE INTO t USING (SELECT id + 195 AS k, name AS b FROM r) AS s ON t.k = s.k WHEN "
		"MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME RETURNING "
		"merge_action, *",
		"MERGE INTO t USING (SELECT id + 195 AS k, id, name, 9.25 FROM r) AS s ON t.k = s.k WHEN "
		"MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT BY POSITION",
		"WITH s AS (SELECT k + 1 AS k, 'w' AS b FROM t WHERE k > 195) MERGE INTO t USING s ON "
		"t.k = s.k WHEN MATCHED THEN UPDATE SET b = CASE WHEN t.k > 198 THEN 'when' ELSE s.b END "
		"WHEN NOT MATCHED THEN INSERT (k, b) VALUES (s.k, (SELECT max(name) FROM r))",
		"MERGE INTO t USING r JOIN r AS q USING (id) ON t.k = r.id AND t.k = CASE WHEN q.id > 5 "
		"THEN q.id ELSE -1 END WHEN MATCHED THEN DELETE RETURNING k",
		"MERGE INTO main.t USING range(3) AS s(n) ON t.k = n WHEN MATCHED THEN UPDATE SET (a, b) = "
		"(n, 'row'), d = NULL",
		"MERGE INTO t USING r ON false WHEN NOT MATCHED THEN INSERT (k, d) VALUES (id, NULL)",
		"MERGE INTO t USING r ON NULL WHEN MATCHED THEN DELETE RETURNING k",
		"MERGE INTO t USING (VALUES (NULL, 1), (5, 2)) AS s(k, a) ON t.k = s.k WHEN NOT MATCHED "
		"AND s.k IS NULL THEN DO NOTHING WHEN MATCHED THEN UPDATE SET a = s.a",
		/* Deleted several times: gone once. */
		"MERGE INTO t USING r ON true WHEN MATCHED THEN DELETE",
		"MERGE INTO t USING r ON t.k > r.id WHEN MATCHED AND t.k < 20 THEN DELETE RETURNING k",
		/* Several rows of the source, of which one does something. */
		"MERGE INTO t USING (FROM r UNION ALL FROM r) AS s ON t.k = s.id WHEN MATCHED THEN DO "
		"NOTHING",
		"MERGE INTO t USING (SELECT id, 'a' AS x FROM r UNION ALL SELECT id, 'b' FROM r) AS s ON "
		"t.k = s.id WHEN MATCHED AND s.x = 'b' THEN UPDATE SET b = s.x",
		"MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN INSERT (k, b) VALUES (t.k + 500, "
		"name) RETURNING merge_action, k",
		"MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED BY SOURCE AND k > 190 THEN INSERT (k, "
		"a) VALUES (t.k + 500, a)",
		"MERGE INTO t USING r ON t.k = r.id AND false WHEN MATCHED THEN ERROR 'never'",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
}

static void test_other_tables(void **state)
{
	(void)state;
	/* A reference table, from a partitioned one. */
	kit_same("main", "r",
	         "MERGE INTO r USING t ON r.id = t.k AND t.k < 14 WHEN MATCHED THEN UPDATE SET name = "
	         "t.b WHEN NOT MATCHED AND t.k BETWEEN 8 AND 15 THEN INSERT VALUES (k, b)");
	kit_same("main", "types",
	         "MERGE INTO types USING (SELECT 'k' || i AS k, i FROM range(15, 25) g(i)) AS s ON "
	         "types.k = s.k WHEN MATCHED THEN UPDATE SET e = 'high', l = [s.i::INT], st = {'x': "
	         "s.i::INT, 'y': types.k} WHEN NOT MATCHED THEN INSERT (k, e, m) VALUES (s.k, 'low', "
	         "MAP {'n': s.i::INT}) RETURNING merge_action, *");
	kit_same("s", "Odd name",
	         "MERGE INTO s.\"Odd name\" AS \"o n\" USING range(5) AS g(i) ON slot = i WHEN MATCHED "
	         "THEN UPDATE SET \"a b\" = 'moved' || i WHEN NOT MATCHED BY SOURCE AND slot > 20 THEN "
	         "DELETE RETURNING merge_action, \"o n\".slot");
	kit_same("main", "def",
	         "MERGE INTO def USING range(8, 12) AS g(i) ON k = i WHEN MATCHED THEN UPDATE SET a = "
	         "DEFAULT, b = DEFAULT WHEN NOT MATCHED THEN INSERT (k, a, b) VALUES (i, DEFAULT, "
	         "'new') RETURNING merge_action, k, a, b, c");
	kit_same("main", "def",
	         "MERGE INTO def USING range(3) AS g(i) ON false WHEN NOT MATCHED THEN INSERT DEFAULT "
	         "VALUES");
	kit_same("main", "pk",
	         "MERGE INTO pk USING (SELECT i AS k, 1 AS j FROM range(28, 33) g(i)) AS s USING (k, "
	         "j) WHEN MATCHED THEN UPDATE SET v = 'new' WHEN NOT MATCHED THEN INSERT VALUES "
	         "(s.k, s.j, 'in')");
}

static void test_refused(void **state)
{
	(void)state;
	kit_fails("MERGE INTO t USING r ON t.k = r.id", "42601", NULL);
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN UPDATE SET nope = 1", "42703",
	          NULL);
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED THEN INSERT VALUES (t.k, 1, "
	          "'x', 2)",
	          "42P01", NULL);
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED THEN INSERT VALUES (1, 2)",
	          "42000", NULL);
	kit_fails("MERGE INTO t USING (SELECT 1 AS k) AS s ON t.k = s.k WHEN MATCHED THEN UPDATE SET "
	          "a = k",
	          "42702", NULL);
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN UPDATE SET k = NULL", "23502",
	          NULL);
	kit_fails("MERGE INTO def USING r ON k = id WHEN MATCHED THEN UPDATE SET a = 100", "23514", "");
	kit_fails("MERGE INTO pk USING r ON false WHEN NOT MATCHED THEN INSERT VALUES (id, 0, 'x')",
	          "23505", "duplicate key");
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN MATCHED AND t.k = 4 THEN ERROR 'row ' || "
	          "name",
	          "23000", "Merge error condition WHEN MATCHED AND (");
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED BY SOURCE THEN ERROR", "23000",
	          "Merge error condition WHEN NOT MATCHED BY SOURCE");
	/* DuckDB takes any of them. */
	kit_fails("MERGE INTO t USING (FROM r UNION ALL FROM r) AS s ON t.k = s.id WHEN MATCHED THEN "
	          "UPDATE SET b = s.name",
	          "21000", "a row of \"t\" is to be changed twice");
	kit_fails("MERGE INTO t USING (FROM r UNION ALL SELECT id, 'x' FROM r) AS s ON t.k = s.id WHEN "
	          "MATCHED AND name = 'x' THEN DELETE WHEN MATCHED THEN UPDATE SET b = s.name",
	          "21000", "a row of \"t\" is to be changed twice");
	kit_fails("MERGE INTO t USING r ON t.rowid = r.id WHEN MATCHED THEN DELETE", "0A000", "");
	kit_fails("MERGE INTO t USING read_csv('/etc/passwd') AS s ON true WHEN MATCHED THEN DELETE",
	          "42501", "");
	kit_fails("MERGE INTO t USING r ON true WHEN MATCHED THEN UPDATE SET b = "
	          "getenv('HOME')", "42501",
	          "");
	kit_fails("MERGE INTO t USING r ON true WHEN MATCHED THEN ERROR getenv('HOME')", "42501", "");
	kit_fails("MERGE INTO t USING r ON true WHEN MATCHED THEN DELETE RETURNING getenv('HOME')",
	          "42501", "");
	kit_fails("MERGE INTO v USING r ON true WHEN MATCHED THEN DELETE", "42809",
	          "MERGE needs a table, and \"v\" is a view");
	kit_fails("MERGE INTO nope USING r ON true WHEN MATCHED THEN DELETE", "42P01", NULL);
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN NOT MATCHED THEN DELETE", "42601",
	          "WHEN NOT MATCHED (BY TARGET) cannot be combined with UPDATE or DELETE");
	kit_fails("MERGE INTO t USING r ON t.k = r.id WHEN MATCHED THEN DELETE WHEN MATCHED THEN DO "
	          "NOTHING",
	          "42601", "");
}

/* ---- by chance ---- */

static void add_when(struct mg_sb *sql, unsigned kind, bool always)
{
	static const char *const matched[] = { "t.a = 3", "s.n > 100", "t.k < 50", "s.w LIKE '%1'",
		                                   "t.d IS NULL OR s.n = 4" };
	static const char *const missing[] = { "n % 2 = 0", "w IS NOT NULL", "s.n > 150",
		                                   "n IN (SELECT id FROM r)" };
	static const char *const left[] = { "a = 5", "t.k > 190", "b LIKE '%7'", "false",
		                                "NOT EXISTS (SELECT 1 FROM r WHERE r.id = t.a)" };
	static const char *const changes[] = { "UPDATE SET b = s.w",
		                                   "UPDATE SET a = s.n % 100, d = t.d + 1",
		                                   "UPDATE SET k = t.k + 1000",
		                                   "DELETE",
		                                   "DO NOTHING",
		                                   "UPDATE SET b = CASE WHEN t.a > 3 THEN w END" };
	static const char *const adds[] = { "INSERT (k, b) VALUES (n + 2000, w)",
		                                "INSERT VALUES (s.n, 1, s.w, 2.5)", "DO NOTHING",
		                                "INSERT (d, k) VALUES (s.n / 2, n)" };
	static const char *const ends[] = { "DELETE", "UPDATE SET a = a + 1", "DO NOTHING",
		                                "UPDATE SET b = upper(t.b), k = -k" };
	static const char *const names[] = { "MATCHED", "NOT MATCHED", "NOT MATCHED BY SOURCE" };
	const char *condition = kind == 0   ? KIT_PICK(matched)
	                        : kind == 1 ? KIT_PICK(missing)
	                                    : KIT_PICK(left);

	mg_sb_addf(sql, " WHEN %s", names[kind]);
	if (!always) {
		mg_sb_addf(sql, " AND %s", condition);
	}
	mg_sb_addf(sql, " THEN %s",
	           kind == 0   ? KIT_PICK(changes)
	           : kind == 1 ? KIT_PICK(adds)
	                       : KIT_PICK(ends));
}

static void add_statement(struct mg_sb *sql)
{
	static const char *const sources[] = {
		"(SELECT id * 3 AS n, name AS w FROM r)",
		"(SELECT k + 100 AS n, b AS w FROM t WHERE k % 3 = 0)",
		"(SELECT DISTINCT a AS n, 'dist' AS w FROM t)",
		"(SELECT id + 195 AS n, NULL AS w FROM r)",
		"(SELECT a AS n, max(b) AS w FROM t GROUP BY a)",
		"(VALUES (NULL, 'null'), (7, 'seven'), (777, 'more')) ",
	};
	static const char *const joins[] = { "t.k = s.n", "s.n = t.k AND t.a < 6", "t.k + 1 = s.n",
		                                 "t.k IS NOT DISTINCT FROM s.n" };
	static const char *const lists[] = { "merge_action, *", "k, upper(merge_action)", "t.b, k" };
	unsigned count = 1 + kit_pick(4), always[3] = { 0 };

	mg_sb_addf(sql, "MERGE INTO t USING %s AS s(n, w) ON %s", KIT_PICK(sources), KIT_PICK(joins));
	for (unsigned i = 0; i < count; i++) {
		unsigned kind = kit_pick(3);
		bool last = !always[kind] && kit_pick(2);

		always[kind] |= last;
		add_when(sql, kind, last);
	}
	/* DuckDB 1.5.5 reads columns that it has not fetched for what an UPDATE BY SOURCE returns. */
	bool broken = strstr(mg_sb_text(sql), "BY SOURCE") && strstr(mg_sb_text(sql), "UPDATE");

	if (!kit_pick(2) && !broken) {
		mg_sb_addf(sql, " RETURNING %s", KIT_PICK(lists));
	}
}

static void test_by_chance(void **state)
{
	(void)state;
	kit_agree_by_chance(60, add_statement);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clauses),
		cmocka_unit_test(test_other_tables),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_by_chance),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
