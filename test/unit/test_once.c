/*
 * test_once.c - what is done once: the first answer for all who use its key, within its limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "door/once.h"

static struct mg_once_answer answer_of(const char *text)
{
	return (struct mg_once_answer){ .status = 200,
		                            .body = mg_buf_copy(text, strlen(text)),
		                            .query_id = "q-1" };
}

struct waiting {
	struct mg_once_wait wait;
	char text[40];
	int told;
};

static void tell(void *arg, const struct mg_once_answer *answer)
{
	struct waiting *waiting = arg;

	(void)snprintf(waiting->text, sizeof waiting->text, "%.*s", (int)answer->body->size,
	               (const char *)answer->body->data);
	waiting->told++;
}

static enum mg_once_state begin(struct mg_once *once, const char *user, const char *key,
                                uint64_t digest, uint64_t now_ms, struct waiting *waiting,
                                struct mg_once_answer *known, struct mg_once_entry **entry)
{
	const struct mg_once_request request = { user, key, digest, now_ms };

	waiting->wait = (struct mg_once_wait){ .told = tell, .arg = waiting };
	return mg_once_begin(once, &request, &waiting->wait, known, entry);
}

/* One key from begin to end with this answer. */
static void do_once(struct mg_once *once, const char *key, const char *text, uint64_t now_ms)
{
	struct mg_once_answer answer = answer_of(text), known;
	struct mg_once_entry *entry = NULL;
	struct waiting waiting = { 0 };

	assert_int_equal(begin(once, "u", key, 1, now_ms, &waiting, &known, &entry), MG_ONCE_FIRST);
	mg_once_end(once, entry, &answer, &answer, now_ms);
	mg_buf_unref(answer.body);
}

static void expect_known(struct mg_once *once, const char *key, const char *text, uint64_t now_ms)
{
	struct mg_once_answer known = { 0 };
	struct mg_once_entry *entry = NULL;
	struct waiting waiting = { 0 };

	assert_int_equal(begin(once, "u", key, 1, now_ms, &waiting, &known, &entry), MG_ONCE_KNOWN);
	assert_int_equal(known.body->size, strlen(text));
	assert_memory_equal(known.body->data, text, strlen(text));
	assert_int_equal(known.status, 200);
	assert_string_equal(known.query_id, "q-1");
	mg_buf_unref(known.body);
}

/* The key is forgotten; it is ended again without an answer that is kept. */
static void expect_first(struct mg_once *once, const char *key, uint64_t now_ms)
{
	struct mg_once_answer answer = answer_of("x"), known;
	struct mg_once_entry *entry = NULL;
	struct waiting waiting = { 0 };

	assert_int_equal(begin(once, "u", key, 1, now_ms, &waiting, &known, &entry), MG_ONCE_FIRST);
	mg_once_end(once, entry, &answer, NULL, now_ms);
	mg_buf_unref(answer.body);
}

static void test_second_gets_the_first_answer(void **state)
{
	struct mg_once *once = mg_once_new();

	(void)state;
	do_once(once, "k", "one", 0);
	expect_known(once, "k", "one", 1);
	expect_known(once, "k", "one", MG_ONCE_KEEP_MS - 1);
	expect_first(once, "other", 1);
	assert_int_equal(mg_once_count(once), 1);
	mg_once_free(once);
}

static void test_keys_belong_to_their_user_and_request(void **state)
{
	struct mg_once *once = mg_once_new();
	struct mg_once_answer answer = answer_of("mine"), known;
	struct mg_once_entry *entry = NULL;
	struct waiting waiting = { 0 };

	(void)state;
	do_once(once, "k", "one", 0);
	assert_int_equal(begin(once, "u", "k", 2, 0, &waiting, &known, &entry), MG_ONCE_OTHER);
	assert_int_equal(begin(once, "v", "k", 2, 0, &waiting, &known, &entry), MG_ONCE_FIRST);
	assert_int_equal(begin(once, "v", "k", 3, 0, &waiting, &known, &entry), MG_ONCE_OTHER);
	mg_once_end(once, entry, &answer, NULL, 0);
	mg_buf_unref(answer.body);
	expect_known(once, "k", "one", 0);
	mg_once_free(once);
}

static void test_who_waits_is_told(void **state)
{
	struct mg_once *once = mg_once_new();
	struct mg_once_answer answer = answer_of("done"), short_one = answer_of("short"), known;
	struct mg_once_entry *entry = NULL, *none = NULL;
	struct waiting first = { 0 }, waits[3] = { 0 };

	(void)state;
	assert_int_equal(begin(once, "u", "k", 1, 0, &first, &known, &entry), MG_ONCE_FIRST);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(begin(once, "u", "k", 1, 0, &waits[i], &known, &none), MG_ONCE_WAIT);
		assert_int_equal(waits[i].told, 0);
	}
	mg_once_end(once, entry, &answer, &short_one, 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(waits[i].told, 1);
		assert_string_equal(waits[i].text, "done");
	}
	assert_int_equal(first.told, 0);
	expect_known(once, "k", "short", 0);
	mg_buf_unref(answer.body);
	mg_buf_unref(short_one.body);
	mg_once_free(once);
}

static void test_what_did_not_happen_is_not_kept(void **state)
{
	struct mg_once *once = mg_once_new();
	struct mg_once_answer answer = answer_of("busy"), known;
	struct mg_once_entry *entry = NULL, *none = NULL;
	struct waiting first = { 0 }, second = { 0 };

	(void)state;
	assert_int_equal(begin(once, "u", "k", 1, 0, &first, &known, &entry), MG_ONCE_FIRST);
	assert_int_equal(begin(once, "u", "k", 1, 0, &second, &known, &none), MG_ONCE_WAIT);
	mg_once_end(once, entry, &answer, NULL, 0);
	assert_string_equal(second.text, "busy");
	assert_int_equal(mg_once_count(once), 0);
	expect_first(once, "k", 0);
	mg_buf_unref(answer.body);
	mg_once_free(once);
}

static void test_answers_go_after_their_time(void **state)
{
	struct mg_once *once = mg_once_new();
	struct mg_once_answer known, answer = answer_of("slow");
	struct mg_once_entry *entry = NULL;
	struct waiting waiting = { 0 };

	(void)state;
	assert_int_equal(begin(once, "u", "slow", 1, 0, &waiting, &known, &entry), MG_ONCE_FIRST);
	do_once(once, "a", "1", 0);
	do_once(once, "b", "2", 5000);
	expect_first(once, "a", MG_ONCE_KEEP_MS);
	expect_known(once, "b", "2", MG_ONCE_KEEP_MS);
	expect_first(once, "b", MG_ONCE_KEEP_MS + 5000);
	assert_int_equal(mg_once_count(once), 1); /* what is being carried out never goes */
	mg_once_end(once, entry, &answer, &answer, MG_ONCE_KEEP_MS * 3);
	expect_known(once, "slow", "slow", MG_ONCE_KEEP_MS * 3 + 1); /* counted from its end */
	mg_buf_unref(answer.body);
	mg_once_free(once);
}

static void test_the_oldest_goes_when_there_are_too_many(void **state)
{
	struct mg_once *once = mg_once_new();
	char key[20];

	(void)state;
	for (int i = 0; i < MG_ONCE_KEYS_MAX + 10; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		do_once(once, key, "x", 0);
	}
	assert_int_equal(mg_once_count(once), MG_ONCE_KEYS_MAX);
	expect_first(once, "k9", 0);
	expect_known(once, "k10", "x", 0);
	mg_once_free(once);
}

static void test_the_oldest_goes_when_they_are_too_large(void **state)
{
	struct mg_once *once = mg_once_new();
	size_t size = MG_ONCE_BYTES_MAX / 4;
	char key[20];

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct mg_once_answer known, answer = { .status = 200, .body = mg_buf_new(size) };
		struct mg_once_entry *entry = NULL;
		struct waiting waiting = { 0 };

		assert_non_null(answer.body);
		answer.body->size = size;
		(void)snprintf(key, sizeof key, "k%d", i);
		assert_int_equal(begin(once, "u", key, 1, 0, &waiting, &known, &entry), MG_ONCE_FIRST);
		mg_once_end(once, entry, &answer, &answer, 0);
		mg_buf_unref(answer.body);
	}
	assert_int_equal(mg_once_count(once), 4);
	expect_first(once, "k1", 0);
	mg_once_free(once);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_gets_the_first_answer),
		cmocka_unit_test(test_keys_belong_to_their_user_and_request),
		cmocka_unit_test(test_who_waits_is_told),
		cmocka_unit_test(test_what_did_not_happen_is_not_kept),
		cmocka_unit_test(test_answers_go_after_their_time),
		cmocka_unit_test(test_the_oldest_goes_when_there_are_too_many),
		cmocka_unit_test(test_the_oldest_goes_when_they_are_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
