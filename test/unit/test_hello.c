/* Hellos of nodes: they come back as they were, later versions may say more, and half is nothing.
 */
#include "replica/hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct mg_hello example(void)
{
	return (struct mg_hello){
		.kind = MG_HELLO,
		.version_min = 1,
		.version_max = 3,
		.node = UINT64_MAX,
		.incarnation = 1790000000,
		.cluster = "0123456789abcdef",
		.program = "1.2.3 (duckdb 1.5.5)",
	};
}

static void assert_same(const struct mg_hello *a, const struct mg_hello *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->version_min, b->version_min);
	assert_int_equal(a->version_max, b->version_max);
	assert_true(a->node == b->node && a->incarnation == b->incarnation);
	assert_string_equal(a->cluster, b->cluster);
	assert_string_equal(a->program, b->program);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->address, b->address);
	assert_string_equal(a->text, b->text);
}

static void test_a_hello_comes_back(void **state)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello = example(), back;
	size_t size = mg_hello_encode(&hello, bytes), told;

	(void)state;
	assert_int_equal(mg_hello_size(bytes, 3, &told, NULL), 0);
	assert_int_equal(told, 0);
	assert_int_equal(mg_hello_size(bytes, size, &told, NULL), 0);
	assert_int_equal(told, size);
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	assert_same(&hello, &back);

	/* One that says who it is; earlier versions do not. */
	(void)snprintf(hello.name, sizeof hello.name, "server-2");
	(void)snprintf(hello.address, sizeof hello.address, "db2.example:8765");
	size = mg_hello_encode(&hello, bytes);
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	assert_same(&hello, &back);
	assert_int_equal(mg_hello_decode(bytes, size - 1, &back, NULL), MG_E_PROTOCOL);

	struct mg_hello refusal = { .kind = MG_HELLO_REFUSAL, .text = "not you, \xc3\xa4" };

	size = mg_hello_encode(&refusal, bytes);
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	assert_same(&refusal, &back);
}

static void test_a_long_text_is_cut_between_characters(void **state)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello refusal = { .kind = MG_HELLO_REFUSAL }, back;

	(void)state;
	for (size_t i = 0; i + 1 < MG_HELLO_TEXT_MAX; i += 2) {
		memcpy(refusal.text + i, "\xc3\xa4", 2);
	}
	refusal.text[MG_HELLO_TEXT_MAX - 1] = '\xc3'; /* as a copy into a fixed field leaves it */
	assert_int_equal(mg_hello_decode(bytes, mg_hello_encode(&refusal, bytes), &back, NULL), 0);
	assert_int_equal(strlen(back.text), MG_HELLO_TEXT_MAX - 1);
}

/* The bytes are frozen: other versions of this program read them. */
static void test_the_bytes_are_as_documented(void **state)
{
	static const uint8_t expected[] = { 31, 0, 0, 0, 1, 1, 1, 0, 7, 0,   0,   0, 0,   0,   0,  0,
		                                9,  1, 0, 0, 0, 0, 0, 0, 2, 'a', 'b', 3, '1', '.', '0' };
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello = {
		.kind = MG_HELLO,
		.version_min = 1,
		.version_max = 1,
		.node = 7,
		.incarnation = 265,
		.cluster = "ab",
		.program = "1.0",
	};

	(void)state;
	assert_int_equal(mg_hello_encode(&hello, bytes), sizeof expected);
	assert_memory_equal(bytes, expected, sizeof expected);
}

static void test_later_versions_may_say_more(void **state)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX] = { 0 };
	struct mg_hello hello = example(), back;
	uint32_t size = (uint32_t)mg_hello_encode(&hello, bytes) + 40;

	(void)state;
	memcpy(bytes, &size, sizeof size);
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	assert_same(&hello, &back);
}

static void test_half_of_it_and_texts_that_are_none_are_refused(void **state)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello = example(), back;
	size_t size = mg_hello_encode(&hello, bytes), told;

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		assert_int_equal(mg_hello_decode(bytes, cut, &back, NULL), MG_E_PROTOCOL);
	}
	for (size_t at = 25; at < 25 + strlen(hello.cluster); at++) {
		uint8_t before = bytes[at];

		bytes[at] = at % 2 ? 0xff : '\n';
		assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), MG_E_PROTOCOL);
		bytes[at] = before;
	}
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	bytes[4] = MG_HELLO_BULK;
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	bytes[4] = MG_HELLO_RELAY;
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), 0);
	bytes[4] = 5;
	assert_int_equal(mg_hello_decode(bytes, size, &back, NULL), MG_E_PROTOCOL);
	assert_int_equal(mg_hello_size((const uint8_t *)"\x05\0\0\0", 4, &told, NULL), MG_E_PROTOCOL);
	assert_int_equal(mg_hello_size((const uint8_t *)"\x01\x04\0\0", 4, &told, NULL), MG_E_PROTOCOL);
	assert_int_equal(mg_hello_size((const uint8_t *)"\0\x04\0\0", 4, &told, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hello_comes_back),
		cmocka_unit_test(test_a_long_text_is_cut_between_characters),
		cmocka_unit_test(test_the_bytes_are_as_documented),
		cmocka_unit_test(test_later_versions_may_say_more),
		cmocka_unit_test(test_half_of_it_and_texts_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
