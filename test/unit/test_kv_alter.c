/* ALTER NAMESPACE: what it says, and what is wrong with it; the catalog's list of namespaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "catalog/catalog.h"
#include "sql/kv_alter.h"

#include <stdio.h>
#include <string.h>

static struct mg_arena *arena;
static struct mg_error err;

static int begin(void **unused)
{
	(void)unused;
	arena = mg_arena_new();
	return 0;
}

static int end(void **unused)
{
	(void)unused;
	mg_arena_free(arena);
	return 0;
}

static struct mg_kv_alter parse(const char *text)
{
	struct mg_kv_alter alter;

	assert_int_equal(mg_kv_alter_parse(arena, mg_str(text), &alter, &err), 0);
	return alter;
}

static void test_what_is_set(void **unused)
{
	struct mg_kv_alter alter =
		parse("alter namespace Sessions set (default_ttl = '1 hour', QUOTA_BYTES = '1.5 GB', "
	          "quota_keys = 1000)");

	(void)unused;
	assert_string_equal(alter.space, "Sessions");
	assert_true(alter.changes[0] && alter.changes[1] && alter.changes[2]);
	assert_int_equal(alter.values[MG_KV_DEFAULT_TTL], 3600000);
	assert_int_equal(alter.values[MG_KV_QUOTA_BYTES], 1500000000);
	assert_int_equal(alter.values[MG_KV_QUOTA_KEYS], 1000);
	alter = parse("ALTER NAMESPACE \"a-b\" SET (default_ttl = 0.5)");
	assert_string_equal(alter.space, "a-b");
	assert_int_equal(alter.values[MG_KV_DEFAULT_TTL], 500);
	assert_false(alter.changes[MG_KV_QUOTA_BYTES] || alter.changes[MG_KV_QUOTA_KEYS]);
	alter = parse("ALTER NAMESPACE default SET (quota_keys = NULL, quota_bytes = 5)");
	assert_true(alter.changes[MG_KV_QUOTA_KEYS] && alter.values[MG_KV_QUOTA_KEYS] == 0);
	assert_int_equal(alter.values[MG_KV_QUOTA_BYTES], 5);
	alter = parse("ALTER NAMESPACE set RESET (default_ttl, quota_keys)");
	assert_string_equal(alter.space, "set");
	assert_true(alter.changes[MG_KV_DEFAULT_TTL] && alter.values[MG_KV_DEFAULT_TTL] == 0);
	assert_false(alter.changes[MG_KV_QUOTA_BYTES]);
}

static void test_what_is_wrong(void **unused)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{ "ALTER NAMESPACE", MG_E_SYNTAX },
		{ "ALTER NAMESPACE 'a' SET (quota_keys = 1)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a.b SET (quota_keys = 1)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET quota_keys = 1", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET ()", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = )", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = -1)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = x)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = 1", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = 1) b", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = 1,)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = 1, quota_keys = 2)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a RESET (quota_keys = 1)", MG_E_SYNTAX },
		{ "ALTER NAMESPACE a SET (quota_keys = 0)", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (quota_keys = 1.5)", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (quota_keys = '')", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (quota_keys = 9999999999999999999)", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (quota_bytes = '5 apples')", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (default_ttl = 'soon')", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (default_ttl = 0.0001)", MG_E_USAGE },
		{ "ALTER NAMESPACE a SET (shards = 7)", MG_E_USAGE },
		{ "CREATE NAMESPACE a", MG_E_UNSUPPORTED },
		{ "DROP NAMESPACE a", MG_E_UNSUPPORTED },
	};

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mg_kv_alter alter;
		int code = mg_kv_alter_parse(arena, mg_str(cases[i].text), &alter, &err);

		if (code != cases[i].code) {
			print_error("%s: %d\n", cases[i].text, code);
		}
		assert_int_equal(code, cases[i].code);
		assert_true(err.message[0]);
	}
}

/* ---- the catalog's list ---- */

static int put(struct mg_catalog_data *data, const char *name, uint64_t keys)
{
	const struct mg_catalog_space space = { .name = mg_arena_strdup(arena, name),
		                                    .quota_keys = keys };

	return mg_catalog_put_space(arena, data, &space, &err);
}

static uint64_t keys_of(const struct mg_catalog_data *data, const char *name)
{
	const struct mg_catalog_space *space = mg_catalog_find_space(data, mg_str(name));

	return space ? space->quota_keys : 0;
}

static void test_namespaces_stand_in_order(void **unused)
{
	struct mg_catalog_data data = { 0 };
	char name[16];

	(void)unused;
	assert_int_equal(put(&data, "nothing", 0), 0);
	assert_int_equal(data.space_count, 0);
	for (unsigned i = 0; i < MG_CATALOG_SPACES_MAX; i++) {
		snprintf(name, sizeof name, "n%u", i * 7 % MG_CATALOG_SPACES_MAX);
		assert_int_equal(put(&data, name, i + 1), 0);
	}
	assert_int_equal(put(&data, "one-more", 1), MG_E_LIMIT);
	for (size_t i = 1; i < data.space_count; i++) {
		assert_true(strcmp(data.spaces[i - 1].name, data.spaces[i].name) < 0);
	}
	for (unsigned i = 0; i < MG_CATALOG_SPACES_MAX; i++) {
		snprintf(name, sizeof name, "n%u", i * 7 % MG_CATALOG_SPACES_MAX);
		assert_int_equal(keys_of(&data, name), i + 1);
	}
	assert_int_equal(put(&data, "n7", 70), 0);
	assert_int_equal(keys_of(&data, "n7"), 70);
	assert_int_equal(data.space_count, MG_CATALOG_SPACES_MAX);
	assert_int_equal(put(&data, "n7", 0), 0);
	assert_int_equal(data.space_count, MG_CATALOG_SPACES_MAX - 1);
	assert_null(mg_catalog_find_space(&data, MG_STR("n7")));
	assert_null(mg_catalog_find_space(&data, MG_STR("n")));
	assert_null(mg_catalog_find_space(&data, MG_STR("")));
	assert_int_equal(put(&data, "a", 1), 0);
	assert_string_equal(data.spaces[0].name, "a");
	assert_int_equal(put(&data, "a", 0), 0);
	assert_int_equal(put(&data, "z", 1), 0);
	assert_int_equal(keys_of(&data, "z"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_set, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_wrong, begin, end),
		cmocka_unit_test_setup_teardown(test_namespaces_stand_in_order, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
