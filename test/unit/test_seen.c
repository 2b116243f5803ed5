/* test_seen.c - what a session has seen, as a text: there and back, and nothing but that. */
#include "codec/seen.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static struct mg_error err;

static uint32_t cluster(void)
{
	return mg_seen_cluster("0123456789abcdef0123456789abcdef");
}

static struct mg_seen example(void)
{
	struct mg_seen seen = { 0 };

	mg_seen_version(&seen, cluster(), 77);
	mg_seen_index(&seen, 2, 0xabcdef);
	mg_seen_index(&seen, 0, 5);
	return seen;
}

static char *text_of(const struct mg_seen *seen)
{
	struct mg_sb out = { 0 };

	mg_seen_add(&out, seen);
	return mg_sb_take(&out);
}

static void assert_same(const struct mg_seen *a, const struct mg_seen *b)
{
	assert_int_equal(a->any, b->any);
	assert_int_equal(a->all, b->all);
	assert_int_equal(a->cluster, b->cluster);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++) {
		assert_int_equal(a->indexes[i], b->indexes[i]);
	}
}

static void test_there_and_back(void **state)
{
	struct mg_seen seen = example(), back = { 0 }, nothing = { 0 };
	char *text = text_of(&seen), *none = text_of(&nothing);

	(void)state;
	assert_string_equal(none, "");
	assert_int_equal(mg_seen_parse(&back, mg_str(text), &err), 0);
	assert_same(&seen, &back);
	mg_free(text);
	mg_free(none);
	mg_seen_fini(&seen);
	mg_seen_fini(&back);
	/* The highest numbers, too. */
	mg_seen_version(&seen, UINT32_MAX, UINT64_MAX);
	mg_seen_index(&seen, 0, UINT64_MAX);
	text = text_of(&seen);
	assert_int_equal(mg_seen_parse(&back, mg_str(text), &err), 0);
	assert_same(&seen, &back);
	mg_free(text);
	mg_seen_fini(&seen);
	mg_seen_fini(&back);
}

static void test_of_two_the_maximum(void **state)
{
	struct mg_seen one = example(), two = { 0 }, both = { 0 }, other = { 0 };

	(void)state;
	mg_seen_version(&two, cluster(), 70);
	mg_seen_index(&two, 3, 9);
	mg_seen_index(&two, 2, 7);
	char *first = text_of(&one), *second = text_of(&two);
	char *list = mg_format(" %s,\t%s ,%s", first, second, first);

	assert_int_equal(mg_seen_parse(&both, mg_str(list), &err), 0);
	mg_seen_merge(&two, &one);
	assert_same(&two, &both);
	assert_int_equal(both.version, 77);
	assert_int_equal(both.indexes[2], 0xabcdef);
	assert_int_equal(both.indexes[3], 9);
	/* Of another cluster it is another session. */
	mg_seen_version(&other, cluster() + 1, 3);
	char *third = text_of(&other);
	char *mixed = mg_format("%s,%s", first, third);
	struct mg_seen none = { 0 };

	assert_int_equal(mg_seen_parse(&none, mg_str(mixed), &err), MG_E_USAGE);
	assert_false(none.any);
	mg_seen_merge(&both, &other);
	assert_same(&both, &other);
	mg_free(first);
	mg_free(second);
	mg_free(third);
	mg_free(list);
	mg_free(mixed);
	mg_seen_fini(&one);
	mg_seen_fini(&two);
	mg_seen_fini(&both);
	mg_seen_fini(&other);
}

static void test_no_other_text(void **state)
{
	struct mg_seen seen = example(), back = { 0 };
	char *text = text_of(&seen);
	size_t len = strlen(text);

	(void)state;
	/* Each byte as each other one; cut anywhere; longer. */
	for (size_t i = 0; i < len; i++) {
		char good = text[i];

		for (int c = 0; c < 256; c++) {
			text[i] = (char)c;
			if (text[i] != good) {
				assert_int_equal(mg_seen_parse(&back, (struct mg_str){ text, len }, &err),
				                 MG_E_USAGE);
			}
		}
		text[i] = good;
		assert_int_equal(mg_seen_parse(&back, (struct mg_str){ text, i }, &err), MG_E_USAGE);
	}
	char *longer = mg_format("%s0", text);

	assert_int_equal(mg_seen_parse(&back, mg_str(longer), &err), MG_E_USAGE);
	assert_int_equal(mg_seen_parse(&back, mg_str(""), &err), MG_E_USAGE);
	assert_int_equal(mg_seen_parse(&back, mg_str(" , "), &err), MG_E_USAGE);
	assert_false(back.any);
	mg_free(longer);
	mg_free(text);
	mg_seen_fini(&seen);
}

/* However many shards there are, it stays short. */
static void test_too_much_is_all(void **state)
{
	struct mg_seen seen = example(), back = { 0 };

	(void)state;
	for (size_t i = 0; i < 4000; i++) {
		mg_seen_index(&seen, i, 1000000 + i);
	}
	char *text = text_of(&seen);

	assert_true(strlen(text) <= MG_SEEN_TEXT_MAX);
	assert_int_equal(mg_seen_parse(&back, mg_str(text), &err), 0);
	assert_true(back.any && back.all);
	assert_int_equal(back.cluster, cluster());
	char *again = text_of(&back);

	assert_string_equal(text, again);
	mg_free(again);
	mg_free(text);
	/* And a list has an end. */
	struct mg_sb list = { 0 };
	struct mg_seen one = example();

	for (int i = 0; i <= MG_SEEN_TEXTS_MAX; i++) {
		mg_sb_add(&list, i ? "," : "");
		mg_seen_add(&list, &one);
	}
	mg_seen_fini(&back);
	assert_int_equal(mg_seen_parse(&back, mg_str(mg_sb_text(&list)), &err), MG_E_USAGE);
	mg_sb_fini(&list);
	mg_seen_fini(&one);
	mg_seen_fini(&seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_of_two_the_maximum),
		cmocka_unit_test(test_no_other_text),
		cmocka_unit_test(test_too_much_is_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
