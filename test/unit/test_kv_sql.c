/*
 * test_kv_sql.c - kv('namespace') over keys in memory, as plans read it; heads of INSERT INTO
 * kv.ns.
 *
 * Rules: a plan reads no key that its filters rule out by bounds, and its rows are those of the
 * text as it stands; keys and values that are no text are told, not changed; a macro of old that
 * has the name is still meant.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "catalog/catalog.h"
#include "session/kv_write.h"
#include "sql/kv_dml.h"
#include "sql/plandb.h"
#include "store/duck.h"
#include "store/duck_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys in memory ---- */

struct item {
	const char *key, *value;
	size_t key_len;
};

/* In order of their keys. */
static const struct item items[] = {
	{ "A", "1", 1 },      { "a", "2", 1 },   { "a\0", "nul", 2 }, { "a0", "3", 2 },
	{ "ab", "4", 2 },     { "ab1", "5", 3 }, { "abc", "6", 3 },   { "b", "7", 1 },
	{ "b\x7f", "8", 2 },  { "ba", "9", 2 },  { "it's", "10", 4 }, { "z", "11", 1 },
	{ "z\xc3\xb6", "12", 3 }, { "\xc3\xa4", "13", 2 }, { "\xf0\x9f\xa6\x86", "14", 4 },
};
enum { ITEMS = sizeof items / sizeof items[0], MANY = 5000 };

struct scan {
	struct mg_str space, first, end;
	size_t at;
	char key[32];
};

static size_t scanned; /* keys that were given */
static char *large;    /* a value of 1 MiB */

static int compare(struct mg_str a, struct mg_str b)
{
	size_t both = a.len < b.len ? a.len : b.len;
	int order = both ? memcmp(a.ptr, b.ptr, both) : 0;

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int check(void *arg, struct mg_str space, struct mg_error *err)
{
	(void)arg;
	return mg_str_eq(space, MG_STR("bad")) || memchr(space.ptr, '\0', space.len)
	           ? mg_error_set(err, MG_E_USAGE, "no such name") : 0;
}

static uint64_t count(void *arg, struct mg_str space)
{
	(void)arg;
	(void)space;
	return ITEMS;
}

static struct mg_str copy(struct mg_str text)
{
	return (struct mg_str){ text.len ? mg_strndup(text.ptr, text.len) : NULL, text.len };
}

static int open_scan(void *arg, struct mg_str space, struct mg_str first, struct mg_str end,
                     void **out, struct mg_error *err)
{
	struct scan *scan = mg_alloc0(sizeof *scan);

	(void)arg;
	(void)err;
	scan->space = copy(space);
	scan->first = copy(first);
	scan->end = copy(end);
	*out = scan;
	return 0;
}

static bool next_item(struct scan *scan, struct mg_duck_key *out)
{
	for (; scan->at < ITEMS; scan->at++) {
		struct mg_str key = { items[scan->at].key, items[scan->at].key_len };

		if (compare(key, scan->first) >= 0 && (!scan->end.len || compare(key, scan->end) < 0)) {
			*out = (struct mg_duck_key){
				.key = key,
				.value = mg_str(items[scan->at].value),
				.version = ++scan->at,
				.created_ms = 1000,
				.changed_ms = 2000,
			};
			return true;
		}
	}
	return false;
}

static bool next(void *arg, struct mg_duck_key *out)
{
	struct scan *scan = arg;
	bool is_bytes = mg_str_eq(scan->space, MG_STR("bytes"));
	bool is_large = mg_str_eq(scan->space, MG_STR("large"));
	bool in_parts =
		mg_str_eq(scan->space, MG_STR("poor")) || mg_str_eq(scan->space, MG_STR("torn"));
	bool there = is_bytes || in_parts ? scan->at++ == 0 : scan->at < MANY;

	if (mg_str_eq(scan->space, MG_STR("broken"))) {
		return false;
	}
	if (there && in_parts) {
		*out = (struct mg_duck_key){ .key = MG_STR("a"), .in_parts = true };
	} else if (!in_parts && !is_bytes && !is_large && !mg_str_eq(scan->space, MG_STR("many"))) {
		there = next_item(scan, out);
	} else if (there && is_bytes) {
		*out = (struct mg_duck_key){ .key = { "\xff\0", 2 }, .value = { "\0\xfe", 2 },
			                         .type = MG_STR("image/png"), .expiry_ms = UINT64_MAX };
	} else if (there) {
		snprintf(scan->key, sizeof scan->key, "%06zu", scan->at++);
		*out = (struct mg_duck_key){ .key = mg_str(scan->key),
			                         .value = { is_large ? large : "", is_large ? 1 << 20 : 0 } };
	}
	scanned += there;
	return there;
}

/* Of a key of "poor", or "torn". */
static bool whole(void *arg, struct mg_str *value)
{
	(void)arg;
	(void)value;
	return false;
}

static int close_scan(void *arg, struct mg_error *err)
{
	struct scan *scan = arg;
	int code = 0;

	if (mg_str_eq(scan->space, MG_STR("broken"))) {
		code = mg_error_set(err, MG_E_CORRUPT, "a file is broken");
	} else if (mg_str_eq(scan->space, MG_STR("poor"))) {
		code = mg_error_set(err, MG_E_NOMEM, "no memory for a value");
	}

	mg_free((char *)scan->space.ptr);
	mg_free((char *)scan->first.ptr);
	mg_free((char *)scan->end.ptr);
	mg_free(scan);
	return code;
}

static const struct mg_duck_keys keys = {
	.check = check, .count = count, .open = open_scan, .next = next, .whole = whole,
	.close = close_scan
};

/* ---- the planning database, and an engine ---- */

static struct mg_plandb *plandb;
static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_arena *arena;

static int set_up(void **state)
{
	const struct mg_duck_options options = { .threads = 2, .memory_bytes = 256u << 20 };
	struct mg_error err;

	(void)state;
	large = mg_alloc0(1 << 20);
	memset(large, 'x', 1 << 20);
	arena = mg_arena_new();
	if (mg_plandb_open(&plandb, &err) || mg_duck_open(&duck, &options, &err) ||
	    mg_duck_connect(duck, &conn, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return -1;
	}
	mg_plandb_set_keys(plandb, &keys);
	mg_duck_set_keys(duck, &keys);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	mg_plandb_close(plandb);
	mg_arena_free(arena);
	mg_free(large);
	return 0;
}

static struct mg_bound bind(const char *sql)
{
	struct mg_bound bound;
	struct mg_error err;

	if (mg_plandb_bind(plandb, arena, NULL, sql, &bound, &err)) {
		fail_msg("%s: %s", sql, err.message);
	}
	return bound;
}

static char *text_of(const char *sql)
{
	struct mg_error err;
	char *out = NULL;

	if (mg_duck_text(conn, sql, &out, &err)) {
		fail_msg("%s: %s", sql, err.message);
	}
	return out;
}

/* The rows of a condition over kv('items'), by the text as it stands and by the plan; the plan
 * looks at `most` keys. */
static void same(const char *condition, size_t most)
{
	char *sql = mg_arena_format(
		arena, "SELECT string_agg(value, ',' ORDER BY version) FROM kv('items') WHERE %s",
		condition);
	struct mg_bound bound = bind(sql);
	struct mg_error err;
	char *printed = NULL;

	assert_true(bound.keys);
	assert_null(bound.text_refused);
	if (!bound.root || mg_plan_print(arena, bound.root, &printed, &err)) {
		fail_msg("%s: no plan: %s", sql, bound.unsupported ? bound.unsupported : "");
	}
	char *expected = text_of(sql);

	scanned = 0;
	char *found = text_of(printed);

	if ((expected == NULL) != (found == NULL) || (expected && strcmp(expected, found) != 0)) {
		fail_msg("%s: %s for %s by %s", condition, found, expected, printed);
	}
	if (scanned > most) {
		fail_msg("%s: %zu keys were read, not %zu: %s", condition, scanned, most, printed);
	}
	mg_free(expected);
	mg_free(found);
}

static void test_filters_bound_what_is_read(void **state)
{
	(void)state;
	same("key = 'ab'", 1);
	same("'ab' = key", 1);
	same("key = 'ab' AND value = '5'", 1);
	same("key = 'it''s'", 1);
	same("key = 'z\xc3\xb6'", 1);
	same("key = 'nothing'", 0);
	same("key = ''", 0);
	same("key < ''", ITEMS); /* no bound says so */
	same("key >= ''", ITEMS);
	same("key > 'ab'", 11);
	same("key >= 'ab'", 11);
	same("key < 'ab'", 4);
	same("key <= 'ab'", 5);
	same("'ab' > key", 4);
	same("'ab' <= key", 11);
	same("key BETWEEN 'ab' AND 'b'", 4);
	same("key >= 'ab' AND key < 'b'", 3);
	same("key >= 'ab' AND key < 'b' AND key <> 'abc'", 3);
	same("key LIKE 'ab%'", 3);
	same("starts_with(key, 'ab')", 3);
	same("key ^@ 'z'", 2);
	same("key LIKE 'z\xc3\xb6%'", 1);
	same("key LIKE '%b'", ITEMS);
	same("key = 'a' OR key = 'b'", ITEMS);
	same("key > 'b' AND key < 'a'", 0);
	same("upper(key) = 'A'", ITEMS);
	same("key = value", ITEMS);
	same("key COLLATE NOCASE = 'a'", ITEMS);
	same("key <> 'a'", ITEMS);
}

/* A condition of random comparisons. */
static char *random_condition(void)
{
	static const char *const forms[] = {
		"key = '%s'",  "key < '%s'",     "key <= '%s'",     "key > '%s'",         "key >= '%s'",
		"'%s' < key",  "key LIKE '%s%%'", "prefix(key, '%s')", "key <> '%s'",
		"key BETWEEN '%s' AND 'b'",
	};
	static const char *const texts[] = { "", "A", "a", "ab", "abc", "b", "ba", "z", "\xc3\xa4" };
	struct mg_sb out = { 0 };

	for (int i = 0, n = 1 + rand() % 3; i < n; i++) {
		const char *form = forms[(size_t)rand() % (sizeof forms / sizeof *forms)];
		const char *text = texts[(size_t)rand() % (sizeof texts / sizeof *texts)];

		mg_sb_add(&out, i == 0 ? "" : rand() % 4 ? " AND " : " OR ");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		char *part = mg_arena_format(arena, form, text);
#pragma GCC diagnostic pop

		mg_sb_add(&out, part);
	}
	char *text = mg_arena_strdup(arena, mg_sb_text(&out));

	mg_sb_fini(&out);
	return text;
}

static void test_any_filter_has_the_rows_of_its_text(void **state)
{
	(void)state;
	srand(7);
	for (int i = 0; i < 150; i++) {
		same(random_condition(), ITEMS);
	}
}

static void expect(const char *sql, const char *expected)
{
	char *found = text_of(sql);

	assert_string_equal(found ? found : "NULL", expected);
	mg_free(found);
}

static void test_columns(void **state)
{
	(void)state;
	expect("SELECT string_agg(column_name || ' ' || column_type, ', ') FROM (DESCRIBE FROM "
	       "kv('items'))",
	       "key VARCHAR, value VARCHAR, content_type VARCHAR, encoding VARCHAR, expires TIMESTAMP "
	       "WITH TIME ZONE, version UBIGINT, created TIMESTAMP WITH TIME ZONE, changed TIMESTAMP "
	       "WITH TIME ZONE");
	expect("SELECT count(*) FROM kv('items')", "15");
	expect("SELECT count(*) FROM kv('many')", "5000");
	expect("SELECT string_agg(key, ',') = string_agg(key, ',' ORDER BY key) FROM kv('many')",
	       "true");
	expect("SELECT (hex(key), hex(value), content_type, encoding, expires)::VARCHAR FROM "
	       "kv('bytes', binary := true)",
	       "(FF00, 00FE, image/png, NULL, infinity)");
	expect("SELECT epoch_ms(created) || ' ' || epoch_ms(changed) FROM kv('items') LIMIT 1",
	       "1000 2000");
	expect("SELECT content_type FROM kv('bytes')", "image/png"); /* nobody asks for the key */
	expect("SELECT hex(key_bytes) FROM kv('bytes', merganser_bytes := true) WHERE content_type = "
	       "'image/png'", "FF00");
}

static void refused(const char *sql, int code, const char *hint)
{
	struct mg_error err = { 0 };
	char *out = NULL;
	int found = mg_duck_text(conn, sql, &out, &err);

	if (found != code || !strstr(err.hint, hint)) {
		fail_msg("%s: %d %s (%s)", sql, found, err.message, err.hint);
	}
	mg_free(out);
}

static void test_what_is_no_text_is_told(void **state)
{
	(void)state;
	refused("SELECT key FROM kv('bytes')", MG_E_DATA, "binary := true");
	refused("SELECT value FROM kv('bytes')", MG_E_DATA, "binary := true");
	refused("SELECT * FROM kv('bad')", MG_E_USAGE, "");
	refused("SELECT * FROM kv(NULL)", MG_E_BIND, "");
	refused("SELECT * FROM kv('items' || chr(0))", MG_E_USAGE, "");
	refused("SELECT * FROM kv('items' || chr(0) || 'x')", MG_E_USAGE, "");
	refused("SELECT * FROM kv('\\x69tems')", MG_E_USAGE, "");
	refused("SELECT * FROM kv('broken')", MG_E_CORRUPT, "");
	refused("SELECT value FROM kv('poor')", MG_E_NOMEM, "");
	refused("SELECT value FROM kv('torn')", MG_E_CORRUPT, "");
	expect("SELECT key FROM kv('torn')", "a"); /* who does not want it does not read it */
}

/* 5,000 values of 1 MiB do not fit into the engine's memory; a few at a time do. */
static void test_large_values_come_a_few_at_a_time(void **state)
{
	(void)state;
	expect("SELECT count(*) || ' ' || sum(length(value)) FROM kv('large')", "5000 5242880000");
}

static void test_a_macro_of_old_is_still_meant(void **state)
{
	struct mg_error err;
	struct mg_plandb_view view;

	(void)state;
	assert_int_equal(mg_plandb_look(plandb, arena, NULL, "FROM kv('x')", &view, &err), 0);
	assert_true(view.tables && !view.own);
	assert_int_equal(
		mg_plandb_exec(plandb, "CREATE MACRO kv(n) AS TABLE SELECT n AS own FROM range(2)", &err),
		0);
	struct mg_bound bound = bind("FROM kv('x')");

	assert_int_equal(bound.column_count, 1);
	assert_string_equal(bound.names[0], "own");
	assert_non_null(bound.text_refused);
	assert_non_null(bound.root);
	assert_false(mg_plan_reads_keys(bound.root));
	assert_int_equal(mg_plandb_exec(plandb,
	                                "CREATE OR REPLACE MACRO kv(n) AS TABLE SELECT * FROM "
	                                "read_csv(n)",
	                                &err),
	                 0);
	assert_int_equal(mg_plandb_bind(plandb, arena, NULL, "FROM kv('x')", &bound, &err),
	                 MG_E_DENIED);
	assert_int_equal(mg_plandb_exec(plandb, "DROP MACRO TABLE kv", &err), 0);
	assert_int_equal(bind("FROM kv('x')").column_count, 8);
}

static void test_to_count_needs_no_text(void **state)
{
	char *printed = NULL;
	struct mg_error err;

	(void)state;
	assert_int_equal(mg_plan_print(arena, bind("SELECT count(*) FROM kv('bytes')").root, &printed,
	                               &err),
	                 0);
	expect(printed, "1");
	refused("SELECT max(key) FROM kv('bytes')", MG_E_DATA, "binary := true");
}

static void test_views_and_macros_read_keys(void **state)
{
	struct mg_error err;

	(void)state;
	assert_int_equal(mg_plandb_exec(plandb,
	                                "CREATE VIEW v AS SELECT key, value FROM kv('items'); CREATE "
	                                "MACRO m(n) AS TABLE FROM kv(n)",
	                                &err),
	                 0);
	assert_true(bind("SELECT * FROM v WHERE key = 'a'").keys);
	assert_true(bind("SELECT * FROM m('items') WHERE key = 'a'").keys);
	assert_true(bind("SELECT 1 WHERE EXISTS (FROM kv('x'))").keys);
	assert_false(bind("SELECT 1").keys);
	assert_int_equal(mg_plandb_exec(plandb, "DROP VIEW v; DROP MACRO TABLE m", &err), 0);
}

/* ---- heads ---- */

static void test_which_statements_write_keys(void **state)
{
	static const char *const yes[] = {
		"INSERT INTO kv.a VALUES ('x', 'y')",
		"insert or replace into \"kv\" . \"a-b\" (key) select 1",
		"WITH x AS (SELECT 1), y AS (DELETE FROM t) INSERT INTO KV.a SELECT * FROM x",
		"DELETE FROM kv.a",
		"UPDATE kv.a SET x = 1",
		"MERGE INTO kv.a USING t ON true WHEN MATCHED THEN DELETE",
		"TRUNCATE TABLE kv.a",
		"COPY kv.a FROM STDIN",
		"/* kv */ INSERT INTO kv.a SELECT 1",
	};
	static const char *const no[] = {
		"INSERT INTO t SELECT * FROM kv('a')", "INSERT INTO kv VALUES (1)",
		"INSERT INTO main.kv VALUES (1)",      "DELETE FROM t WHERE kv.a = 1",
		"UPDATE kv SET a = 1",                 "INSERT INTO kvx.a VALUES (1)",
		"INSERT INTO",                         "WITH",
	};

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
		if (!mg_kv_dml_is(mg_str(yes[i]))) {
			fail_msg("%s", yes[i]);
		}
	}
	for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
		if (mg_kv_dml_is(mg_str(no[i]))) {
			fail_msg("%s", no[i]);
		}
	}
}

static void test_a_schema_of_old_is_its_users(void **state)
{
	const struct mg_statement insert = { .kind = MG_S_DML,
		                                 .text = MG_STR("INSERT INTO kv.a VALUES (1)") };
	const struct mg_statement copy_to = { .kind = MG_S_COPY, .text = MG_STR("COPY kv.a TO 'x'") };
	const char *schemas[] = { "other", "Kv" };
	const struct mg_table table = { .schema = "kv", .name = "a" };
	struct mg_catalog_data data = { .schemas = schemas, .schema_count = 1 };

	(void)state;
	assert_true(mg_kv_write_is_ours(&data, &insert));
	assert_false(mg_kv_write_is_ours(&data, &copy_to));
	data.schema_count = 2;
	assert_false(mg_kv_write_is_ours(&data, &insert));
	data = (struct mg_catalog_data){ .tables = (struct mg_table *)&table, .table_count = 1 };
	assert_false(mg_kv_write_is_ours(&data, &insert));
}

static void reads(const char *text, const char *space, const char *query)
{
	struct mg_kv_dml dml;
	struct mg_error err;

	if (mg_kv_dml_parse(arena, mg_str(text), &dml, &err)) {
		fail_msg("%s: %s", text, err.message);
	}
	assert_string_equal(mg_arena_strndup(arena, dml.space.ptr, dml.space.len), space);
	assert_string_equal(mg_arena_strndup(arena, dml.query.ptr, dml.query.len), query);
}

static void test_a_head_becomes_a_query(void **state)
{
	struct mg_kv_dml dml;
	struct mg_error err;

	(void)state;
	reads("INSERT INTO kv.a VALUES ('x', 'y')", "a", "VALUES ('x', 'y')");
	reads("INSERT INTO kv.\"a-b.c\" (key, value) SELECT 1, 2", "a-b.c", "SELECT 1, 2");
	reads("WITH x AS (SELECT 1) INSERT INTO kv.a (key, value) FROM x", "a",
	      "WITH x AS (SELECT 1)\nFROM x");
	reads("DELETE FROM kv.a", "a",
	      "SELECT key_bytes, version FROM kv('a', merganser_bytes := true) AS \"a\"");
	reads("DELETE FROM kv.a AS k WHERE k.key = 'x'", "a",
	      "SELECT key_bytes, version FROM kv('a', merganser_bytes := true) AS \"k\" WHERE "
	      "k.key = 'x'");
	assert_int_equal(
		mg_kv_dml_parse(arena, MG_STR("INSERT INTO kv.a BY NAME SELECT 1 AS key"), &dml, &err), 0);
	assert_true(dml.by_name);
	assert_int_equal(mg_kv_dml_parse(arena,
	                                 MG_STR("INSERT INTO kv.a (key, \"value\") VALUES (1, 2)"),
	                                 &dml, &err),
	                 0);
	assert_int_equal(dml.column_count, 2);
	assert_string_equal(dml.columns[1], "value");
}

static void test_what_keys_cannot_is_refused_with_a_hint(void **state)
{
	static const char *const texts[] = {
		"UPDATE kv.a SET value = 'x'",
		"TRUNCATE kv.a",
		"COPY kv.a FROM STDIN",
		"MERGE INTO kv.a USING t ON (t.k = a.key) WHEN MATCHED THEN DELETE",
		"INSERT INTO kv.a VALUES ('x', 'y') RETURNING key",
		"INSERT INTO kv.a VALUES ('x', 'y') ON CONFLICT DO NOTHING",
		"INSERT OR IGNORE INTO kv.a VALUES ('x', 'y')",
		"INSERT INTO kv.a DEFAULT VALUES",
		"DELETE FROM kv.a USING t WHERE t.k = a.key",
		"DELETE FROM kv.a RETURNING key",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct mg_kv_dml dml;
		struct mg_error err;

		if (mg_kv_dml_parse(arena, mg_str(texts[i]), &dml, &err) != MG_E_UNSUPPORTED ||
		    !err.hint[0]) {
			fail_msg("%s: %s", texts[i], err.message);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters_bound_what_is_read),
		cmocka_unit_test(test_any_filter_has_the_rows_of_its_text),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_what_is_no_text_is_told),
		cmocka_unit_test(test_large_values_come_a_few_at_a_time),
		cmocka_unit_test(test_a_macro_of_old_is_still_meant),
		cmocka_unit_test(test_to_count_needs_no_text),
		cmocka_unit_test(test_views_and_macros_read_keys),
		cmocka_unit_test(test_which_statements_write_keys),
		cmocka_unit_test(test_a_schema_of_old_is_its_users),
		cmocka_unit_test(test_a_head_becomes_a_query),
		cmocka_unit_test(test_what_keys_cannot_is_refused_with_a_hint),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
