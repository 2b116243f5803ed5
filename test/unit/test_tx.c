/*
 * test_tx.c - transactions over several statements: each sees its own changes as plain DuckDB shows
 * them, others see them whole or not at all, and who comes second is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chance_kit.h"
#include "tx_kit.h"

#include "exec/gate.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <pthread.h>
#include <stdatomic.h>

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
	KIT_ODD_TABLES,
	{ .schema = "main",
	  .name = "pk",
	  .columns = { { "k", "INTEGER", true }, { "j", "INTEGER", false }, { "v", "VARCHAR", false } },
	  .definition = "k INTEGER NOT NULL, j INTEGER, v VARCHAR",
	  .keys = { "k" },
	  .primary_key = { "k", "j" },
	  .id = 3,
	  .rows = "SELECT i // 3, i % 3, 'v' || i FROM range(90) r(i)" },
	{ .schema = "main",
	  .name = "pr",
	  .columns = { { "name", "VARCHAR", true }, { "n", "INTEGER", false } },
	  .definition = "name VARCHAR NOT NULL, n INTEGER CHECK (n < 1000)",
	  .primary_key = { "name" },
	  .id = 7,
	  .rows = "SELECT 'n' || i, i FROM range(10) r(i)" },
	{ .schema = "main",
	  .name = "bank",
	  .columns = { { "id", "INTEGER", true }, { "money", "INTEGER", true } },
	  .definition = "id INTEGER NOT NULL, money INTEGER NOT NULL",
	  .keys = { "id" },
	  .primary_key = { "id" },
	  .id = 9,
	  .rows = "SELECT i, 100 FROM range(20) r(i)" },
};

KIT_GROUP(tables)

static struct mg_tx *begin(void)
{
	return mg_tx_new(kit_engine, false);
}

/* ---- what a transaction sees ---- */

static void check_tables(struct mg_tx *tx)
{
	static const char *const questions[] = {
		"SELECT * FROM t",
		"SELECT * FROM r",
		"SELECT * FROM s.\"Odd name\"",
		"SELECT * FROM types",
		"SELECT * FROM pk",
		"SELECT * FROM pr",
		"SELECT * FROM v",
		"SELECT a, count(*), sum(k), min(b), avg(d) FROM t GROUP BY a ORDER BY a NULLS FIRST",
		"SELECT count(*), count(a), count(DISTINCT b) FROM t",
		"SELECT t.k, r.name FROM t LEFT JOIN r ON t.a = r.id WHERE t.k < 50 ORDER BY t.k, r.name",
		"SELECT k, d FROM t ORDER BY d DESC NULLS LAST, k LIMIT 7",
		"SELECT * FROM t WHERE k = 17",
		"SELECT * FROM pk WHERE k = 4 ORDER BY j",
		"SELECT (SELECT max(n) FROM pr), (SELECT count(*) FROM types WHERE e = 'mid')",
		"SELECT k FROM t WHERE NOT EXISTS (SELECT 1 FROM pk WHERE pk.k = t.k) ORDER BY k",
		"SELECT b, row_number() OVER (PARTITION BY a ORDER BY k, b) FROM t ORDER BY ALL",
	};

	for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
		(void)kit_both(tx, questions[i]);
	}
}

/* One list of statements in one transaction, which ends with COMMIT or ROLLBACK. */
static void check_script(const char *const *script)
{
	struct mg_tx *tx = begin();
	struct mg_error err;

	kit_sql("BEGIN");
	for (; script[1]; script++) {
		if (kit_both(tx, *script)) {
			fail_msg("%s: fails", *script);
		}
		check_tables(tx);
	}
	kit_sql(*script);
	if (strcmp(*script, "COMMIT") == 0) {
		kit_must(kit_commit(tx, &err), &err, "commit");
	} else {
		kit_rollback(tx);
	}
	check_tables(NULL);
}

static void test_own_changes_are_seen(void **state)
{
	static const char *const inserts[] = {
		"INSERT INTO t VALUES (1000, 1, 'a', 1.5), (1001, NULL, NULL, NULL)",
		"INSERT INTO t SELECT k + 5000, a, b, d FROM t WHERE k > 900 OR k < 5",
		"INSERT INTO r VALUES (11, 'eleven')",
		"INSERT INTO r SELECT k, b FROM t WHERE k >= 5000",
		"INSERT INTO s.\"Odd name\" VALUES (NULL, NULL, NULL), ('new', -1, '2024-02-29')",
		"INSERT INTO types (k, e, l, st, h, j) VALUES ('n', 'high', [1, 2, NULL], {'x': 1, 'y': "
		"NULL}, 170141183460469231731687303715884105727, '[1]')",
		"COMMIT",
		NULL
	};
	static const char *const updates[] = {
		"UPDATE t SET b = b || '!' WHERE k < 20",
		"UPDATE t SET a = a + 1, d = NULL WHERE k BETWEEN 10 AND 30",
		"UPDATE t SET b = 'own' WHERE b LIKE '%!'",
		"INSERT INTO t VALUES (2000, 1, 'later', 1)",
		"UPDATE t SET a = 99 WHERE k >= 1000",
		"UPDATE t SET a = 98 WHERE k = 2000 RETURNING k, a, b",
		"UPDATE t SET k = k + 10000 WHERE k IN (3, 5, 2000)",
		"UPDATE r SET name = t.b FROM t WHERE t.k = r.id AND r.id < 5",
		"UPDATE types SET l = list_append(l, 7), e = 'low' WHERE k < 'k15'",
		"UPDATE s.\"Odd name\" SET slot = slot + 1 WHERE slot > 3",
		"COMMIT",
		NULL
	};
	static const char *const deletes[] = {
		"DELETE FROM t WHERE k = 17 RETURNING *",
		"DELETE FROM t WHERE k % 3 = 0",
		"INSERT INTO t VALUES (3, 3, 'again', 3), (6, 6, 'again', 6)",
		"DELETE FROM t WHERE k = 6",
		"DELETE FROM r USING t WHERE t.a = r.id AND t.k > 100",
		"INSERT INTO r VALUES (1, 'back')",
		"TRUNCATE types",
		"INSERT INTO types (k) VALUES ('only')",
		"DELETE FROM s.\"Odd name\" WHERE rid IS NULL",
		"COMMIT",
		NULL
	};
	static const char *const undone[] = { "DELETE FROM t",
		                                  "INSERT INTO t VALUES (1, 1, '1', 1)",
		                                  "UPDATE t SET b = 'two'",
		                                  "DELETE FROM r",
		                                  "INSERT INTO pk VALUES (777, 7, 'seven')",
		                                  "ROLLBACK",
		                                  NULL };

	(void)state;
	check_script(inserts);
	check_script(updates);
	check_script(deletes);
	check_script(undone);
}

static void test_keys(void **state)
{
	static const char *const script[] = {
		"INSERT INTO pk VALUES (500, 1, 'new')",
		"INSERT INTO pk VALUES (500, 1, 'other') ON CONFLICT DO NOTHING",
		"INSERT INTO pk VALUES (500, 1, 'changed') ON CONFLICT DO UPDATE SET v = excluded.v "
		"RETURNING *",
		"INSERT OR REPLACE INTO pk VALUES (0, 0, 'replaced'), (501, 1, 'fresh')",
		"INSERT INTO pk VALUES (0, 0, 'x') ON CONFLICT DO UPDATE SET v = pk.v || excluded.v",
		"DELETE FROM pk WHERE k = 1",
		"UPDATE pk SET v = 'u' WHERE k = 2 RETURNING k, j, v",
		"INSERT INTO pr VALUES ('x1', 5)",
		"UPDATE pr SET n = n + 1",
		"DELETE FROM pr WHERE name = 'n5'",
		"COMMIT",
		NULL
	};
	struct mg_tx *tx = begin();
	struct mg_error err;

	(void)state;
	check_script(script);
	/* A key that was given up in the transaction is free in it. */
	kit_do(tx, "DELETE FROM pr WHERE name = 'n1'");
	kit_do(tx, "INSERT INTO pr VALUES ('n1', 41)");
	kit_do(tx, "UPDATE pr SET name = 'n1b' WHERE name = 'n1'");
	kit_do(tx, "INSERT INTO pr VALUES ('n1', 42)");
	kit_do(tx, "DELETE FROM pk WHERE k = 3 AND j = 1");
	kit_do(tx, "INSERT INTO pk VALUES (3, 1, 'once more')");
	kit_must(kit_commit(tx, &err), &err, "commit");
	assert_int_equal(kit_ask(NULL, "SELECT n FROM pr WHERE name = 'n1'"), 42);
	assert_int_equal(kit_ask(NULL, "SELECT n FROM pr WHERE name = 'n1b'"), 41);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM pk WHERE k = 3 AND j = 1"), 1);
	kit_sql("UPDATE pr SET name = 'n1b', n = 41 WHERE name = 'n1'; INSERT INTO pr VALUES ('n1', "
	        "42); UPDATE pk SET v = 'once more' WHERE k = 3 AND j = 1");
	check_tables(NULL);
	/* Own rows and stored ones hold a key alike. */
	tx = begin();
	kit_do(tx, "INSERT INTO pr VALUES ('mine', 1)");
	kit_expect(tx, "INSERT INTO pr VALUES ('mine', 2)", "23505");
	kit_expect(tx, "SELECT 1", "25P02");
	kit_rollback(tx);
	tx = begin();
	kit_expect(tx, "UPDATE pr SET name = 'n3' WHERE name = 'n4'", "23505");
	kit_rollback(tx);
}

/* ---- by chance ---- */

static void add_condition(struct mg_sb *sql)
{
	static const char *const conditions[] = {
		"k < 20",
		"a = 3",
		"b LIKE '%1%'",
		"d IS NULL",
		"k IN (SELECT id FROM r)",
		"k = 17",
		"a > d",
		"k BETWEEN 5 AND 50",
		"k >= 1000",
		"NOT EXISTS (SELECT 1 FROM r WHERE r.id = t.a)",
		"k = (SELECT max(k) FROM t)",
	};

	mg_sb_addf(sql, " WHERE %s", KIT_PICK(conditions));
}

static void add_statement(struct mg_sb *sql)
{
	static const char *const inserts[] = {
		"INSERT INTO t SELECT k + 1000, a, b, d FROM t WHERE k % 11 = 3",
		"INSERT INTO t SELECT id, id * 2, name, 1 FROM r",
		"INSERT INTO t VALUES (17, 2, 'x', 3), (1717, NULL, NULL, 5)",
		"INSERT INTO t (k) VALUES ((SELECT count(*) FROM t))",
		"INSERT INTO r SELECT a, b FROM t WHERE k < 4 AND a IS NOT NULL",
		"INSERT INTO r VALUES (3, 'three')",
		"INSERT INTO t VALUES (NULL, 1, 'bad', 1)",
		"INSERT INTO t SELECT k, 'no number', b, d FROM t",
		"INSERT INTO pr VALUES ('n3', 3) ON CONFLICT DO UPDATE SET n = pr.n + 1",
		"INSERT INTO pr SELECT 'c' || k, 1 FROM t WHERE k < 5 ON CONFLICT DO NOTHING",
		"INSERT INTO pr VALUES ('n' || (SELECT count(*) FROM pr), 7) ON CONFLICT DO NOTHING",
	};
	static const char *const sets[] = {
		"a = a + 1",         "b = b || '.'", "d = NULL",
		"a = NULL, b = 'n'", "k = k + 1",    "a = (SELECT count(*) FROM r)",
		"d = k / 3, a = 5",
	};
	static const char *const others[] = {
		"UPDATE r SET name = name || '+' WHERE id % 2 = 0",
		"DELETE FROM r WHERE id > 7",
		"UPDATE pr SET n = n + 1 WHERE n < 900",
		"UPDATE t SET nothing = 1",
		"SELECT nothing FROM t",
		"DELETE FROM pr WHERE name LIKE 'c%'",
		"SELECT 1 + 'x' FROM t",
	};

	switch (kit_pick(8)) {
	case 0:
	case 1:
	case 2:
		mg_sb_add(sql, KIT_PICK(inserts));
		break;
	case 3:
	case 4:
		mg_sb_addf(sql, "UPDATE t SET %s", KIT_PICK(sets));
		add_condition(sql);
		mg_sb_add(sql, kit_pick(3) ? "" : " RETURNING k, a, b, d");
		break;
	case 5:
	case 6:
		mg_sb_add(sql, "DELETE FROM t");
		add_condition(sql);
		mg_sb_add(sql, kit_pick(3) ? "" : " RETURNING *");
		break;
	default:
		mg_sb_add(sql, KIT_PICK(others));
	}
}

/* Plain DuckDB can only roll back. */
static bool plain_is_aborted(void)
{
	struct mg_error err;
	int64_t one;

	return mg_duck_int(kit_conn, "SELECT 1", &one, &err) != 0;
}

static void run_by_chance(void)
{
	struct mg_tx *tx = begin();
	struct mg_sb sql = { 0 };
	struct mg_error err;
	bool failed = false;

	kit_sql("BEGIN");
	for (unsigned i = 0, count = 1 + kit_pick(6); !failed && i < count; i++) {
		mg_sb_clear(&sql);
		add_statement(&sql);
		int code = kit_both(tx, mg_sb_text(&sql));

		failed = mg_tx_state(tx) == MG_TX_FAILED;
		if (failed != plain_is_aborted()) {
			fail_msg("%s (%d): the transaction is %s", mg_sb_text(&sql), code,
			         failed ? "lost, and DuckDB's is not" : "alive, and DuckDB's is not");
		}
		if (!failed) {
			check_tables(tx);
		}
	}
	if (failed || !kit_pick(4)) {
		kit_sql("ROLLBACK");
		kit_rollback(tx);
	} else {
		kit_sql("COMMIT");
		kit_must(kit_commit(tx, &err), &err, "commit");
	}
	mg_sb_fini(&sql);
	check_tables(NULL);
}

static void test_by_chance(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		kit_chance = seed;
		run_by_chance();
	}
}

/* ---- others ---- */

static void test_snapshot(void **state)
{
	struct mg_tx *tx = begin(), *late = begin();
	struct mg_error err;

	(void)state;
	int64_t before = kit_ask(tx, "SELECT count(*) FROM t");

	kit_do(NULL, "INSERT INTO t VALUES (70000, 1, 'other', 1)");
	kit_do(NULL, "UPDATE r SET name = 'seen?' WHERE id = 3");
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM t"), before);
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM r WHERE name = 'seen?'"), 0);
	/* A snapshot is taken by the first statement that needs one. */
	assert_int_equal(kit_ask(late, "SELECT count(*) FROM t"), before + 1);
	/* Own changes and the old state of everything else. */
	kit_do(tx, "INSERT INTO t VALUES (70001, 1, 'own', 1)");
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM t"), before + 1);
	kit_do(tx, "DELETE FROM t WHERE k = 70001 OR k = (SELECT min(k) FROM t)");
	kit_do(tx, "INSERT INTO t VALUES (70001, 1, 'own', 1)");
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM t WHERE k >= 70000"), 1);
	assert_int_equal(kit_ask(late, "SELECT count(*) FROM t WHERE k >= 70000"), 1);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM t WHERE k >= 70000"), 1);
	kit_must(kit_commit(tx, &err), &err, "commit");
	assert_int_equal(kit_ask(late, "SELECT count(*) FROM t WHERE k >= 70000"), 1);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM t WHERE k >= 70000"), 2);
	kit_must(kit_commit(late, &err), &err, "commit of a reader");
	kit_do(NULL, "DELETE FROM t WHERE k >= 70000");
	kit_do(NULL,
	       "INSERT INTO t SELECT 0, 0, 'x0', 0 WHERE (SELECT count(*) FROM t WHERE k = 0) = 0");
}

/* Two transactions; the second one to commit fails, and has changed nothing. */
static void expect_conflict(const char *first, const char *second, const char *check)
{
	struct mg_tx *a = begin(), *b = begin();
	struct mg_error err;
	struct kit_rows rows = { 0 };
	int64_t affected;

	(void)kit_ask(b, "SELECT count(*) FROM t"); /* its snapshot is older */
	kit_do(a, first);
	kit_do(b, second);
	kit_must(kit_commit(a, &err), &err, first);
	if (!kit_commit(b, &err)) {
		fail_msg("%s, then %s: both committed", first, second);
	}
	if (strcmp(err.sqlstate, "40001") != 0 || !err.hint[0]) {
		fail_msg("%s: %s \"%s\"", second, err.sqlstate, err.message);
	}
	kit_must(kit_run(NULL, check, &rows, &affected, &err), &err, check);
	assert_non_null(strstr(mg_sb_text(&rows.text), "\nfirst|"));
	kit_rows_fini(&rows);
}

static void test_first_committer_wins(void **state)
{
	struct mg_tx *a, *b;
	struct mg_error err;

	(void)state;
	kit_do(NULL, "INSERT INTO t VALUES (80001, 1, 'old', 1), (80002, 1, 'old', 1)");
	expect_conflict("UPDATE t SET b = 'first' WHERE k = 80001",
	                "UPDATE t SET b = 'second' WHERE k = 80001", "SELECT b FROM t WHERE k = 80001");
	expect_conflict("UPDATE t SET b = 'first' WHERE k = 80001", "DELETE FROM t WHERE k = 80001",
	                "SELECT b FROM t WHERE k = 80001");
	expect_conflict("DELETE FROM t WHERE k = 80002", "UPDATE t SET b = 'second' WHERE k = 80002",
	                "SELECT CASE count(*) WHEN 0 THEN 'first' END FROM t WHERE k = 80002");
	expect_conflict("INSERT INTO pk VALUES (900, 1, 'first')",
	                "INSERT INTO pk VALUES (900, 1, 'second')", "SELECT v FROM pk WHERE k = 900");
	expect_conflict("INSERT INTO pr VALUES ('same', 1)", "INSERT INTO pr VALUES ('same', 2)",
	                "SELECT CASE n WHEN 1 THEN 'first' END FROM pr WHERE name = 'same'");
	expect_conflict("INSERT INTO pk VALUES (901, 1, 'first') ON CONFLICT DO UPDATE SET v = 'no'",
	                "INSERT INTO pk VALUES (901, 1, 'second') ON CONFLICT DO UPDATE SET v = 'no'",
	                "SELECT v FROM pk WHERE k = 901");
	/* Other rows of the same table: no conflict. */
	kit_do(NULL, "INSERT INTO t VALUES (80003, 1, 'old', 1), (80004, 1, 'old', 1)");
	a = begin();
	b = begin();
	kit_do(a, "UPDATE t SET b = 'a' WHERE k = 80003");
	kit_do(b, "UPDATE t SET b = 'b' WHERE k = 80004");
	kit_do(a, "INSERT INTO pk VALUES (902, 1, 'a')");
	kit_do(b, "INSERT INTO pk VALUES (902, 2, 'b')");
	kit_must(kit_commit(a, &err), &err, "other rows");
	kit_must(kit_commit(b, &err), &err, "other rows");
	/* A statement of its own comes in between. */
	a = begin();
	kit_do(a, "UPDATE t SET a = a + 1 WHERE k = 80003");
	kit_do(NULL, "UPDATE t SET a = a + 1 WHERE k = 80003");
	assert_int_equal(kit_commit(a, &err), MG_E_CONFLICT);
	/* A deleted row whose key another one has taken: the row conflicts. */
	a = begin();
	b = begin();
	kit_do(b, "DELETE FROM pk WHERE k = 902 AND j = 1");
	kit_do(b, "INSERT INTO pk VALUES (902, 1, 'second')");
	kit_do(a, "UPDATE pk SET v = 'first' WHERE k = 902 AND j = 1");
	kit_must(kit_commit(a, &err), &err, "update");
	assert_int_equal(kit_commit(b, &err), MG_E_CONFLICT);
	/* What was deleted and came back under its key, while others changed the shard. */
	a = begin();
	kit_do(a, "DELETE FROM pk WHERE k = 902 AND j = 1");
	kit_do(a, "INSERT INTO pk VALUES (902, 1, 'back')");
	kit_do(NULL, "INSERT INTO pk SELECT 10000 + i, 1, 'x' FROM range(30) r(i)");
	kit_must(kit_commit(a, &err), &err, "other keys");
	kit_do(NULL, "DELETE FROM t WHERE k > 80000");
	kit_do(NULL, "DELETE FROM pk WHERE k >= 900");
	kit_do(NULL, "DELETE FROM pr WHERE name = 'same'");
}

/* Each alone keeps the sum at 0 or more; together they do not: snapshot isolation allows it, and
 * docs/sql.md says so. */
static void test_write_skew(void **state)
{
	struct mg_tx *a = begin(), *b = begin();
	struct mg_error err;

	(void)state;
	kit_do(NULL, "INSERT INTO t VALUES (81001, 1, 'doctor', 1), (81002, 1, 'doctor', 1)");
	kit_do(a, "UPDATE t SET a = 0 WHERE k = 81001 AND (SELECT sum(a) FROM t WHERE k > 81000) > 1");
	kit_do(b, "UPDATE t SET a = 0 WHERE k = 81002 AND (SELECT sum(a) FROM t WHERE k > 81000) > 1");
	kit_must(kit_commit(a, &err), &err, "a");
	kit_must(kit_commit(b, &err), &err, "b");
	assert_int_equal(kit_ask(NULL, "SELECT sum(a) FROM t WHERE k > 81000"), 0);
	kit_do(NULL, "DELETE FROM t WHERE k > 81000");
}

/* ---- states ---- */

static void test_states(void **state)
{
	struct mg_tx *tx = begin();
	struct mg_error err;

	(void)state;
	assert_int_equal(mg_tx_state(tx), MG_TX_OPEN);
	assert_true(mg_tx_idle_since(tx) > 0);
	kit_expect(tx, "SELECT nothing FROM t", "42703"); /* not understood: nothing is lost */
	assert_int_equal(mg_tx_state(tx), MG_TX_OPEN);
	kit_do(tx, "INSERT INTO t VALUES (82000, 1, 'x', 1)");
	kit_expect(tx, "INSERT INTO t VALUES (NULL, 1, 'x', 1)", "23502");
	assert_int_equal(mg_tx_state(tx), MG_TX_FAILED);
	kit_expect(tx, "SELECT 1", "25P02");
	assert_int_equal(mg_tx_enter(tx, &err), MG_E_TRANSACTION);
	mg_tx_end(tx, MG_TX_ROLLED_BACK);
	kit_expect(tx, "SELECT 1", "25P01");
	mg_tx_unref(tx);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM t WHERE k = 82000"), 0);

	tx = mg_tx_new(kit_engine, true);
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM bank WHERE id = 0"), 1);
	kit_expect(tx, "INSERT INTO r VALUES (1, 'x')", "25006");
	assert_int_equal(kit_commit(tx, &err), 0);

	/* What would leave it as it was does not, once the statement has changed it. */
	static const enum mg_tx_state after[] = { MG_TX_OPEN, MG_TX_FAILED };

	for (int bound = 0; bound < 2; bound++) {
		tx = begin();
		assert_int_equal(mg_tx_enter(tx, &err), 0);
		if (bound) {
			mg_tx_bind(tx);
		}
		(void)mg_error_set(&err, MG_E_UNSUPPORTED, "no");
		mg_tx_leave(tx, &err);
		assert_int_equal(mg_tx_state(tx), after[bound]);
		kit_rollback(tx);
	}

	/* One statement at a time; an end from outside waits for it. */
	tx = begin();
	kit_do(tx, "INSERT INTO r VALUES (83000, 'x')");
	assert_int_equal(mg_tx_enter(tx, &err), 0);
	assert_int_equal(mg_tx_idle_since(tx), 0);
	assert_int_equal(mg_tx_enter(tx, &err), MG_E_BUSY);
	mg_tx_end_idle(tx); /* it is not idle */
	assert_int_equal(mg_tx_state(tx), MG_TX_OPEN);
	mg_tx_end(tx, MG_TX_CLOSED);
	assert_non_null(mg_tx_conn(tx)); /* still the statement's */
	mg_tx_leave(tx, NULL);
	assert_null(mg_tx_conn(tx));
	kit_expect(tx, "SELECT 1", "25P01");
	mg_tx_unref(tx);

	tx = begin();
	kit_do(tx, "INSERT INTO r VALUES (83000, 'x')");
	mg_tx_end_idle(tx);
	kit_expect(tx, "SELECT 1", "25P03");
	mg_tx_unref(tx);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM r WHERE id = 83000"), 0);
}

static int refuse_rows(void *arg, const struct ArrowSchema *schema, size_t count,
                       const char *const *names, const char *const *types, struct mg_error *err)
{
	(void)arg, (void)schema, (void)count, (void)names, (void)types;
	return mg_error_set(err, MG_E_UNSUPPORTED, "these rows cannot be handed out");
}

/* Its rows are in the transaction already, but the client hears that it failed. */
static void test_an_answer_that_fails_fails_the_transaction(void **state)
{
	const struct mg_rows sink = { .begin = refuse_rows, .lossless = true };
	const struct mg_change_request request = {
		.statement = MG_STR("INSERT INTO r VALUES (84000, 'x') RETURNING id"), .rows = &sink
	};
	struct mg_run_settings settings = kit_settings;
	struct mg_change_result result = { 0 };
	struct mg_run *run = mg_run_new();
	struct mg_tx *tx = begin();
	struct mg_error err;

	(void)state;
	settings.tx = tx;
	assert_int_equal(mg_tx_enter(tx, &err), 0);
	assert_int_equal(mg_change_run(kit_engine, run, &settings, &request, &result, &err),
	                 MG_E_UNSUPPORTED);
	mg_tx_leave(tx, &err);
	mg_run_free(run);
	assert_int_equal(mg_tx_state(tx), MG_TX_FAILED);
	kit_expect(tx, "SELECT 1", "25P02");
	assert_int_equal(kit_commit(tx, &err), MG_E_TRANSACTION);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM r WHERE id = 84000"), 0);
}

struct commit {
	struct mg_tx *tx;
	struct mg_error err;
	int code;
};

static void *commit_it(void *arg)
{
	struct commit *commit = arg;

	commit->code = kit_commit(commit->tx, &commit->err);
	return NULL;
}

/* Either the COMMIT comes to nothing, or the ROLLBACK is told that it comes too late. */
static void test_a_rollback_while_it_commits(void **state)
{
	struct mg_replica *replica = mg_engine_replica(kit_engine);
	const uint32_t all[] = { 0, 1, 2, 3 };
	struct mg_tx *tx = begin();
	struct commit commit = { .tx = mg_tx_ref(tx) };
	struct mg_error err;
	pthread_t thread;

	(void)state;
	kit_do(tx, "INSERT INTO r VALUES (85000, 'x')");
	kit_must(mg_replica_lock(replica, MG_LOCK_ALTER, all, 4, NULL, NULL, &err), &err, "lock");
	assert_int_equal(pthread_create(&thread, NULL, commit_it, &commit), 0);
	while (mg_tx_idle_since(tx)) { /* until it works: it will wait for the lock */
		mg_sleep_ms(1);
	}
	assert_int_equal(mg_tx_rollback(tx, &err), 0);
	mg_replica_unlock(replica, MG_LOCK_ALTER, all, 4);
	pthread_join(thread, NULL);
	assert_int_equal(commit.code, MG_E_TRANSACTION);
	assert_string_equal(commit.err.sqlstate, "25P01");
	mg_tx_unref(tx);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM r WHERE id = 85000"), 0);

	static const int codes[] = { 0, MG_E_CONFLICT, MG_E_UNKNOWN_OUTCOME };
	static const int then[] = { MG_E_TRANSACTION, 0, MG_E_BUSY };

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		tx = begin();
		assert_int_equal(mg_tx_enter(tx, &err), 0);
		assert_int_equal(mg_tx_commit_begin(tx, &err), 0);
		assert_int_equal(mg_tx_rollback(tx, &err), MG_E_BUSY);
		assert_true(err.hint[0] != '\0');
		assert_int_equal(mg_tx_state(tx), MG_TX_OPEN);
		mg_tx_settle(tx, codes[i]);
		assert_int_equal(mg_tx_rollback(tx, &err), then[i]);
		mg_tx_leave(tx, NULL);
		mg_tx_unref(tx);
	}
}

static void test_reading_takes_no_lock(void **state)
{
	struct mg_replica *replica = mg_engine_replica(kit_engine);
	const uint32_t all[] = { 0, 1, 2, 3 };
	struct mg_tx *tx = begin();
	struct mg_error err;

	(void)state;
	kit_must(mg_replica_lock(replica, MG_LOCK_ALTER, all, 4, NULL, NULL, &err), &err, "lock");
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM bank WHERE id = 0"), 1);
	kit_do(tx, "INSERT INTO pr VALUES ('undone', 1)"); /* nor does writing, before the commit */
	kit_do(tx, "DELETE FROM pr WHERE name = 'undone'");
	assert_int_equal(kit_commit(tx, &err), 0); /* nothing is left to write */
	mg_replica_unlock(replica, MG_LOCK_ALTER, all, 4);
}

/* Shard 1 shows what shard 2 does not yet. */
static void test_the_wait_for_a_snapshot_can_be_cancelled(void **state)
{
	struct mg_cuts *cuts = mg_replica_cuts(mg_engine_replica(kit_engine));
	const uint64_t seen[KIT_SHARDS + 1] = { 0, 0, UINT64_MAX }; /* its own one counts for all */
	struct mg_tx *tx = begin();
	struct mg_run *run = mg_run_new();
	struct mg_error err;

	(void)state;
	mg_cuts_publish_begin(cuts, 1);
	mg_cuts_publish_end(cuts, 1, seen, false);
	mg_run_cancel(run, MG_E_TIMEOUT);
	assert_int_equal(mg_tx_snapshot(tx, run, &err), MG_E_TIMEOUT);
	mg_run_free(run);
	mg_tx_unref(tx);
	/* Which tells of each shard as it is, and reads none. */
	kit_do(NULL, "INSERT INTO t (k) VALUES (-1), (-2), (-3), (-4), (-5), (-6), (-7), (-8), (-9)");
	kit_do(NULL, "DELETE FROM t WHERE k < 0");
}

static void test_more_than_an_entry_holds(void **state)
{
	struct mg_tx *tx = begin();
	struct mg_error err;

	(void)state;
	for (int i = 0; i < 8; i++) { /* 8 MB each; an entry of a shard holds 48 */
		kit_do(tx, "INSERT INTO r SELECT i, repeat('0123456789', 100) FROM range(8000) r(i)");
	}
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM r WHERE length(name) = 1000"), 64000);
	assert_int_equal(kit_commit(tx, &err), 0);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM r WHERE length(name) = 1000"), 64000);
	kit_do(NULL, "DELETE FROM r WHERE length(name) = 1000");
}

/* ---- who replaces a file ---- */

static atomic_bool evicted;

static void on_evicted(void *arg)
{
	(void)arg;
	atomic_store(&evicted, true);
}

static int swap_nothing(void *arg, struct mg_error *err)
{
	(void)arg, (void)err;
	return 0;
}

static void *swap_file(void *arg)
{
	struct mg_error err;

	(void)arg;
	assert_int_equal(mg_gate_swap(mg_engine_gate(kit_engine), swap_nothing, NULL, &err), 0);
	return NULL;
}

/* A snapshot gives way when a shard's file is replaced: idle here, and in the middle of a
 * statement. */
static void test_a_swap_evicts(void **state)
{
	struct mg_tx *idle = begin(), *busy = begin();
	struct mg_error err;
	pthread_t thread;

	(void)state;
	mg_tx_on_evicted(idle, on_evicted, NULL);
	kit_do(idle, "INSERT INTO t VALUES (95000, 1, 'x', 1)");
	kit_do(busy, "INSERT INTO t VALUES (95001, 1, 'x', 1)");
	assert_int_equal(mg_tx_enter(busy, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap_file, NULL), 0);
	while (!atomic_load(&evicted)) {
		mg_sleep_ms(1);
	}
	assert_true(mg_tx_is_evicted(idle));
	mg_tx_reap(idle);
	assert_false(mg_tx_is_evicted(idle));
	mg_tx_reap(busy); /* its statement will */
	assert_non_null(mg_tx_conn(busy));
	mg_tx_leave(busy, NULL);
	pthread_join(thread, NULL);
	kit_expect(idle, "SELECT 1", "40001");
	kit_expect(busy, "SELECT 1", "40001");
	mg_tx_unref(idle);
	mg_tx_unref(busy);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM t WHERE k >= 95000"), 0);
}

/* ---- ways, files, windows ---- */

static void test_every_way_sees_the_changes(void **state)
{
	static const enum mg_strategy strategies[] = { MG_STRATEGY_AUTO,        MG_STRATEGY_LOCAL,
		                                           MG_STRATEGY_CUT,         MG_STRATEGY_BROADCAST,
		                                           MG_STRATEGY_REPARTITION, MG_STRATEGY_GATHER };
	struct mg_run_settings before = kit_settings;
	struct mg_tx *tx = begin();
	struct mg_error err;
	struct kit_rows rows = { 0 };
	int64_t affected;

	(void)state;
	kit_do(tx, "DELETE FROM bank WHERE id < 5");
	kit_do(tx, "UPDATE bank SET money = 7 WHERE id = 5");
	kit_do(tx, "INSERT INTO bank SELECT 1000 + i, 1 FROM range(10) r(i)");
	for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
		kit_settings.strategy = strategies[i];
		assert_int_equal(kit_ask(tx, "SELECT sum(money) FROM bank"), 1417);
		assert_int_equal(kit_ask(tx, "SELECT count(*) FROM bank a JOIN bank b ON a.id = b.money"),
		                 1);
		assert_int_equal(kit_ask(tx, "SELECT max(money) FROM bank WHERE id = 1003"), 1);
		/* Without a plan for shards: the text itself. */
		assert_int_equal(
			kit_ask(tx, "SELECT (SELECT x FROM (VALUES (b.id)) AS q(x)) FROM bank b WHERE id = 5"),
			5);
	}
	/* Each shard for itself: an own row lies where its slot leads, once. */
	kit_settings.strategy = MG_STRATEGY_AUTO;
	kit_settings.summarize = false;
	kit_must(kit_run(tx, "SELECT count(*), sum(money) FROM bank", &rows, &affected, &err), &err,
	         "unmerged");
	long shard, count, sum, counts = 0, sums = 0;
	const char *at = strchr(mg_sb_text(&rows.text), '\n') + 1;

	for (int n = 0; sscanf(at, "%ld|%ld|%ld|\n%n", &shard, &count, &sum, &n) == 3; at += n) {
		counts += count;
		sums += sum;
	}
	assert_int_equal(counts, 25);
	assert_int_equal(sums, 1417);
	kit_rows_fini(&rows);
	kit_settings = before;
	kit_rollback(tx);
}

/* Entries are applied, and files are written, under an open snapshot with changes. */
static void test_checkpoints_go_on(void **state)
{
	struct mg_error err;

	(void)state;
	/* The first one makes a table of its own in the files. */
	kit_must(mg_engine_checkpoint(kit_engine, &err), &err, "first checkpoint");
	struct mg_tx *tx = begin();

	kit_do(tx, "UPDATE bank SET money = money + 1");
	kit_do(NULL, "INSERT INTO t SELECT 90000 + i, 1, 'x', 1 FROM range(1000) r(i)");
	kit_do(NULL, "UPDATE t SET b = 'y' WHERE k >= 90000");
	kit_must(mg_engine_checkpoint(kit_engine, &err), &err, "checkpoint");
	kit_do(NULL, "DELETE FROM t WHERE k >= 90000");
	kit_must(mg_engine_checkpoint(kit_engine, &err), &err, "checkpoint");
	assert_int_equal(kit_ask(tx, "SELECT count(*) FROM t WHERE k >= 90000"), 0);
	assert_int_equal(kit_ask(tx, "SELECT sum(money) FROM bank"), 2020);
	kit_do(tx, "UPDATE bank SET money = money - 1");
	kit_must(kit_commit(tx, &err), &err, "commit");
}

/* More rows than the shards remember: who replaces rows there is told to run again, who only adds
 * is not. */
static void test_too_many_changes_meanwhile(void **state)
{
	struct mg_tx *changes = begin(), *adds = begin();
	struct mg_error err;

	(void)state;
	kit_do(NULL, "INSERT INTO r SELECT 100000 + i, 'x' FROM range(70000) r(i)");
	kit_do(NULL, "INSERT INTO r VALUES (99998, 'old')");
	kit_do(changes, "UPDATE r SET name = 'mine' WHERE id = 99998");
	kit_do(adds, "INSERT INTO r VALUES (99999, 'added')");
	kit_do(NULL, "DELETE FROM r WHERE id >= 100000");
	assert_int_equal(kit_commit(changes, &err), MG_E_CONFLICT);
	assert_non_null(strstr(err.message, "too many"));
	kit_must(kit_commit(adds, &err), &err, "adds");
	assert_int_equal(
		kit_ask(NULL, "SELECT count(*) FROM r WHERE name IN ('old', 'added') AND id > 99990"), 2);
	kit_do(NULL, "DELETE FROM r WHERE id > 99990");
}

/* ---- many at once ---- */

enum { TRANSFERS = 15, WRITERS = 3, MONEY = 2000 };

static atomic_int writing, conflicts, wrong;

static int transfer(unsigned from, unsigned to, unsigned amount, struct mg_error *err)
{
	struct mg_tx *tx = begin();
	struct kit_rows rows = { 0 };
	int64_t affected = 0;
	char sql[120];

	snprintf(sql, sizeof sql, "UPDATE bank SET money = money - %u WHERE id = %u", amount, from);
	int code = kit_run(tx, sql, &rows, &affected, err);

	snprintf(sql, sizeof sql, "UPDATE bank SET money = money + %u WHERE id = %u", amount, to);
	code = code ? code : kit_run(tx, sql, &rows, &affected, err);
	kit_rows_fini(&rows);
	if (code) {
		kit_rollback(tx);
		return code;
	}
	return kit_commit(tx, err);
}

static void *transfers(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct mg_error err;

	for (int i = 0; i < TRANSFERS;) {
		seed = seed * 1103515245u + 12345u;
		int code = transfer(seed >> 16 & 3, 4 + (seed >> 20 & 3), 1 + (seed >> 24) % 5, &err);

		if (code == MG_E_CONFLICT) {
			atomic_fetch_add(&conflicts, 1);
		} else if (code) {
			fprintf(stderr, "transfer: %s %s\n", err.sqlstate, err.message);
			atomic_fetch_add(&wrong, 1);
			break;
		} else {
			i++;
		}
	}
	atomic_fetch_sub(&writing, 1);
	return NULL;
}

static void test_bank(void **state)
{
	pthread_t threads[WRITERS];

	(void)state;
	atomic_store(&writing, WRITERS);
	for (uintptr_t i = 0; i < WRITERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, transfers, (void *)(i + 1)), 0);
	}
	while (atomic_load(&writing) > 0) {
		struct mg_tx *tx = begin();

		/* Two statements see one moment; so does one outside. */
		assert_int_equal(kit_ask(tx, "SELECT sum(money) FROM bank"), MONEY);
		int64_t low = kit_ask(tx, "SELECT sum(money) FROM bank WHERE id < 4");

		assert_int_equal(kit_ask(tx, "SELECT sum(money) FROM bank WHERE id >= 4"), MONEY - low);
		kit_rollback(tx);
		assert_int_equal(kit_ask(NULL, "SELECT sum(money) FROM bank"), MONEY);
	}
	for (size_t i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&wrong), 0);
	assert_int_equal(kit_ask(NULL, "SELECT sum(money) FROM bank"), MONEY);
	assert_int_equal(kit_ask(NULL, "SELECT count(*) FROM bank"), 20);
	print_message("%d transfers, %d conflicts\n", TRANSFERS * WRITERS, atomic_load(&conflicts));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_changes_are_seen),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_by_chance),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_first_committer_wins),
		cmocka_unit_test(test_write_skew),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_an_answer_that_fails_fails_the_transaction),
		cmocka_unit_test(test_a_rollback_while_it_commits),
		cmocka_unit_test(test_reading_takes_no_lock),
		cmocka_unit_test(test_the_wait_for_a_snapshot_can_be_cancelled),
		cmocka_unit_test(test_more_than_an_entry_holds),
		cmocka_unit_test(test_a_swap_evicts),
		cmocka_unit_test(test_every_way_sees_the_changes),
		cmocka_unit_test(test_checkpoints_go_on),
		cmocka_unit_test(test_too_many_changes_meanwhile),
		cmocka_unit_test(test_bank),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
