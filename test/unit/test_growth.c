/* test_growth.c - a reference table that grows is told of once each time that it has doubled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exec/growth.h"

#include <string.h>

#define MB 1000000ull

static const struct mg_table small = { .schema = "main", .name = "t", .id = 1, .column_count = 2 };

static bool look(struct mg_growth *growth, const struct mg_table *table, uint64_t rows,
                 uint64_t bytes)
{
	char text[MG_GROWTH_TEXT_SIZE] = "";
	bool told = mg_growth_look(growth, table, rows, bytes, text, sizeof text);

	assert_true(told == (text[0] != '\0'));
	assert_true(!told || strstr(text, "SET PARTITIONED BY"));
	return told;
}

static void test_once_for_each_doubling(void **state)
{
	struct mg_growth *growth = mg_growth_new();

	(void)state;
	assert_false(look(growth, &small, 0, 99 * MB));
	assert_true(look(growth, &small, 0, 1 * MB));
	assert_false(look(growth, &small, 0, 99 * MB));
	assert_true(look(growth, &small, 0, 1 * MB));
	assert_false(look(growth, &small, 0, 199 * MB));
	assert_true(look(growth, &small, 0, 1000 * MB)); /* several at once */
	assert_false(look(growth, &small, 0, 200 * MB));
	assert_true(look(growth, &small, 0, 1 * MB));
	mg_growth_free(growth);
}

static void test_another_coordinator_begins_with_what_is_there(void **state)
{
	struct mg_growth *growth = mg_growth_new();

	(void)state;
	/* 10 million rows of two columns are 160 MB, which somebody was told of. */
	assert_false(look(growth, &small, 10 * MB, 39 * MB));
	assert_true(look(growth, &small, 10 * MB, 1 * MB));
	/* What came without a word counts when it is seen. */
	assert_true(look(growth, &small, 25 * MB, 0));
	mg_growth_forget(growth, &small);
	assert_false(look(growth, &small, 0, 99 * MB));
	assert_true(look(growth, &small, 0, 1 * MB));
	mg_growth_free(growth);
}

static void test_only_reference_tables_and_not_without_end(void **state)
{
	const char *const keys[] = { "k" };
	const struct mg_table spread = { .schema = "main", .name = "p", .id = 2, .column_count = 2,
		                             .keys = (const char **)keys, .key_count = 1 };
	struct mg_growth *growth = mg_growth_new();

	(void)state;
	assert_false(look(growth, &spread, 0, 1000 * MB));
	for (uint64_t id = 10; id < 10 + 2 * MG_GROWTH_TABLES_MAX; id++) {
		struct mg_table table = small;

		table.id = id;
		assert_true(look(growth, &table, 0, 150 * MB));
	}
	mg_growth_free(growth);
}

static void test_tables_without_ids_are_apart(void **state)
{
	struct mg_table one = small, other = small;
	struct mg_growth *growth = mg_growth_new();

	(void)state;
	one.id = other.id = 0;
	other.name = "u";
	assert_false(look(growth, &one, 0, 60 * MB));
	assert_false(look(growth, &other, 0, 60 * MB));
	assert_true(look(growth, &one, 0, 60 * MB));
	assert_true(look(growth, &other, 0, 60 * MB));
	mg_growth_free(growth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once_for_each_doubling),
		cmocka_unit_test(test_another_coordinator_begins_with_what_is_there),
		cmocka_unit_test(test_only_reference_tables_and_not_without_end),
		cmocka_unit_test(test_tables_without_ids_are_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
