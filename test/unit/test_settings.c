/*
 * test_settings.c - what can be SET, what is refused and how.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "session/settings.h"

static struct mg_settings settings;
static struct mg_error err;

static int setup(void **state)
{
	(void)state;
	mg_settings_init(&settings);
	mg_error_clear(&err);
	return 0;
}

static void assert_value(const char *name, const char *value)
{
	struct mg_sb sb = { 0 };

	assert_int_equal(mg_settings_get(&settings, name, &sb, &err), 0);
	assert_string_equal(mg_sb_text(&sb), value);
	mg_sb_fini(&sb);
}

static void test_defaults_are_those_of_the_contract(void **state)
{
	(void)state;
	assert_value("distributed", "true");
	assert_value("summarize", "true");
	assert_value("strategy", "auto");
	assert_value("read_consistency", "linearizable");
	assert_value("max_staleness", "5s");
	assert_value("statement_timeout", "0s");
	assert_value("timezone", "UTC");
	assert_value("default_partitioning", "none");
	assert_int_equal(settings.run.distributed, MG_DISTRIBUTED_TRUE);
	assert_int_equal(settings.run.timeout_ms, 0);
}

static void test_every_value_that_get_prints_set_takes(void **state)
{
	static const char *const changes[][2] = {
		{ "distributed", "force" },
		{ "distributed", "false" },
		{ "summarize", "false" },
		{ "strategy", "repartition" },
		{ "read_consistency", "any" },
		{ "max_staleness", "250ms" },
		{ "statement_timeout", "1500ms" },
		{ "TimeZone", "Europe/Berlin" },
		{ "default_partitioning", "primary key" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		assert_int_equal(mg_settings_set(&settings, changes[i][0], changes[i][1], &err), 0);
		assert_value(changes[i][0], changes[i][1]);
		struct mg_settings before = settings;
		struct mg_sb sb = { 0 };

		assert_int_equal(mg_settings_get(&settings, changes[i][0], &sb, &err), 0);
		assert_int_equal(mg_settings_set(&settings, changes[i][0], mg_sb_text(&sb), &err), 0);
		assert_memory_equal(&before, &settings, sizeof settings);
		mg_sb_fini(&sb);
	}
}

static void test_words_of_booleans_and_case(void **state)
{
	(void)state;
	assert_int_equal(mg_settings_set(&settings, "DISTRIBUTED", "FORCE", &err), 0);
	assert_int_equal(settings.run.distributed, MG_DISTRIBUTED_FORCE);
	assert_int_equal(mg_settings_set(&settings, "distributed", "off", &err), 0);
	assert_int_equal(settings.run.distributed, MG_DISTRIBUTED_FALSE);
	assert_int_equal(mg_settings_set(&settings, "distributed", "default", &err), 0);
	assert_int_equal(settings.run.distributed, MG_DISTRIBUTED_TRUE);
	assert_int_equal(mg_settings_set(&settings, "statement_timeout", "2min", &err), 0);
	assert_int_equal(settings.run.timeout_ms, 120000);
}

static void test_wrong_values_change_nothing_and_say_what_is_right(void **state)
{
	static const char *const wrong[][2] = {
		{ "distributed", "MAYBE" },
		{ "summarize", "" },
		{ "strategy", "best" },
		{ "read_consistency", "strong" },
		{ "max_staleness", "soon" },
		{ "statement_timeout", "-5s" },
		{ "timezone", "x'; DROP TABLE t" },
		{ "timezone", "" },
		{ "default_partitioning", "all" },
		{ "statement_timeout", "99999999999999999999" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct mg_settings before = settings;

		assert_int_equal(mg_settings_set(&settings, wrong[i][0], wrong[i][1], &err), MG_E_USAGE);
		assert_string_equal(err.sqlstate, "22023");
		assert_memory_equal(&before, &settings, sizeof settings);
	}
	assert_int_equal(mg_settings_set(&settings, "distributed", "MAYBE", &err), MG_E_USAGE);
	assert_string_equal(err.message,
	                    "setting \"distributed\" takes true, false or force, not \"MAYBE\"");
}

static void test_unknown_and_engine_settings_are_told_apart(void **state)
{
	(void)state;
	assert_int_equal(mg_settings_set(&settings, "no_such", "1", &err), MG_E_USAGE);
	assert_string_equal(err.sqlstate, "22023");
	assert_non_null(strstr(err.hint, "distributed"));
	assert_non_null(strstr(err.hint, "TimeZone"));
	assert_int_equal(mg_settings_set(&settings, "memory_limit", "1GB", &err), MG_E_DENIED);
	assert_string_equal(err.sqlstate, "42501");
	assert_int_equal(mg_settings_set(&settings, "enable_external_access", "true", &err),
	                 MG_E_DENIED);
}

static void test_reset_of_one_and_of_all(void **state)
{
	(void)state;
	assert_int_equal(mg_settings_set(&settings, "distributed", "false", &err), 0);
	assert_int_equal(mg_settings_set(&settings, "strategy", "gather", &err), 0);
	assert_int_equal(mg_settings_reset(&settings, "distributed", &err), 0);
	assert_value("distributed", "true");
	assert_value("strategy", "gather");
	assert_int_equal(mg_settings_reset(&settings, "all", &err), 0);
	assert_value("strategy", "auto");
	assert_int_equal(mg_settings_reset(&settings, "threads", &err), MG_E_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_defaults_are_those_of_the_contract, setup),
		cmocka_unit_test_setup(test_every_value_that_get_prints_set_takes, setup),
		cmocka_unit_test_setup(test_words_of_booleans_and_case, setup),
		cmocka_unit_test_setup(test_wrong_values_change_nothing_and_say_what_is_right, setup),
		cmocka_unit_test_setup(test_unknown_and_engine_settings_are_told_apart, setup),
		cmocka_unit_test_setup(test_reset_of_one_and_of_all, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
