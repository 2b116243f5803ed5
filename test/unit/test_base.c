/* test_base.c - errors, memory, text and the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"
#include "os/random.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* ---- errors ---- */

static int fail_somewhere(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NO_TABLE, "no table \"%s\"", "t");
}

static void test_an_error_tells_its_whole_story(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	assert_int_equal(fail_somewhere(&err), MG_E_NO_TABLE);
	assert_string_equal(err.message, "no table \"t\"");
	assert_string_equal(err.sqlstate, "42P01");
	assert_true(strstr(err.file, "test_base.c") != NULL && err.line > 0);
	mg_error_detail(&err, "There are %d tables.", 3);
	mg_error_hint(&err, "Create it.");
	assert_int_equal(mg_error_wrap(&err, "while reading shard %d", 7), MG_E_NO_TABLE);
	assert_string_equal(err.message, "while reading shard 7: no table \"t\"");
	assert_string_equal(err.detail, "There are 3 tables.");
	assert_string_equal(err.hint, "Create it.");
	/* a new error forgets the old one, even when it quotes it */
	mg_error_set(&err, MG_E_IO, "again: %s", err.message);
	assert_string_equal(err.message, "again: while reading shard 7: no table \"t\"");
	assert_string_equal(err.detail, "");
	mg_error_clear(&err);
	assert_int_equal(err.code, 0);
	assert_int_equal(fail_somewhere(NULL), MG_E_NO_TABLE);
}

static void test_long_messages_are_cut_between_characters(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char text[2000];
	for (size_t shift = 0; shift < 4; shift++) {
		memset(text, 'a', shift);
		for (size_t i = shift; i + 4 < sizeof text; i += 4) {
			memcpy(text + i, "\xF0\x9F\x98\x80", 5);
		}
		mg_error_set(&err, MG_E_DATA, "%s", text);
		assert_true(strlen(err.message) >= sizeof err.message - 5);
		assert_true(mg_utf8_valid(err.message, strlen(err.message)));
		mg_error_wrap(&err, "b%s", "");
		assert_true(mg_utf8_valid(err.message, strlen(err.message)));
	}
}

static void test_errno_chooses_the_code(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	assert_int_equal(mg_error_errno(&err, ENOSPC, "cannot write \"%s\"", "x"), MG_E_DISK_FULL);
	assert_string_equal(err.message, "cannot write \"x\": No space left on device");
	assert_int_equal(mg_error_errno(&err, ENOENT, "x"), MG_E_NOT_FOUND);
	assert_int_equal(mg_error_errno(&err, EACCES, "x"), MG_E_IO);
	assert_int_equal(mg_error_errno(NULL, ENOMEM, "x"), MG_E_NOMEM);
}

static void test_every_code_is_described(void **state)
{
	(void)state;
	for (int code = 0; code < MG_CODE_COUNT; code++) {
		const struct mg_code_info *info = mg_code_info(code);
		assert_int_equal(strlen(info->sqlstate), 5);
		assert_true(info->name[0] && info->http_status >= 200 && info->http_status < 600);
		int back = mg_code_from_sqlstate(info->sqlstate);
		assert_string_equal(mg_code_info(back)->sqlstate, info->sqlstate);
	}
	assert_int_equal(mg_code_from_sqlstate("57014"), MG_E_CANCELLED);
	assert_int_equal(mg_code_from_sqlstate("ZZZZZ"), MG_E_INTERNAL);
	assert_string_equal(mg_code_info(9999)->name, "internal");
}

/* ---- memory ---- */

static int hook_order;

static void hook(void *arg)
{
	hook_order = hook_order * 10 + *(const int *)arg;
}

static void test_an_arena_gives_zeroed_aligned_memory_and_runs_hooks_backwards(void **state)
{
	(void)state;
	static const int numbers[] = { 1, 2, 3 };
	struct mg_arena *arena = mg_arena_new();
	hook_order = 0;
	for (size_t size = 0; size < 9000; size = size * 2 + 1) {
		for (int i = 0; i < 50; i++) {
			unsigned char *p = mg_arena_alloc(arena, size);
			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			for (size_t k = 0; k < size; k++) {
				assert_int_equal(p[k], 0);
				p[k] = 0xAA; /* a later piece that overlaps would not be zero */
			}
		}
	}
	char *big = mg_arena_alloc(arena, 3 * 1024 * 1024);
	big[3 * 1024 * 1024 - 1] = 1;
	assert_true(mg_arena_size(arena) > 3 * 1024 * 1024);
	assert_string_equal(mg_arena_format(arena, "%s-%d", "a", 5), "a-5");
	assert_string_equal(mg_arena_strndup(arena, "hello", 2), "he");
	for (int i = 0; i < 3; i++) {
		mg_arena_defer(arena, hook, (void *)(uintptr_t)&numbers[i]);
	}
	mg_arena_free(arena);
	assert_int_equal(hook_order, 321);
	mg_arena_free(NULL);
}

static int released;

static void release(void *arg)
{
	(void)arg;
	released++;
}

static void *ref_and_unref(void *arg)
{
	struct mg_buf *buf = arg;
	for (int i = 0; i < 20000; i++) {
		mg_buf_unref(mg_buf_ref(buf));
	}
	return NULL;
}

static void test_a_counted_buffer_is_freed_once(void **state)
{
	(void)state;
	char bytes[4] = "abc";
	struct mg_buf *buf = mg_buf_wrap(bytes, 4, release, NULL);
	pthread_t threads[2];
	released = 0;
	for (int i = 0; i < 2; i++) {
		pthread_create(&threads[i], NULL, ref_and_unref, buf);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(released, 0);
	mg_buf_unref(buf);
	assert_int_equal(released, 1);
	buf = mg_buf_copy("hello", 5);
	assert_int_equal(buf->size, 5);
	assert_memory_equal(buf->data, "hello", 5);
	assert_int_equal((uintptr_t)buf->data % 64, 0);
	mg_buf_unref(buf);
	mg_buf_unref(NULL);
	assert_null(mg_buf_new(SIZE_MAX - 10));
}

static void test_arrays_grow(void **state)
{
	(void)state;
	int *numbers = NULL;
	size_t count = 0;
	size_t cap = 0;
	for (int i = 0; i < 1000; i++) {
		mg_grow(numbers, count, cap);
		numbers[count++] = i;
	}
	assert_int_equal(numbers[999], 999);
	mg_free(numbers);
}

/* ---- text ---- */

static void test_slices_compare(void **state)
{
	(void)state;
	assert_true(mg_str_eq(mg_str("a"), MG_STR("a")));
	assert_false(mg_str_eq(mg_str("a"), MG_STR("ab")));
	assert_true(mg_str_eq(mg_str(NULL), MG_STR("")));
	assert_true(mg_str_eq_nocase(MG_STR("SeLeCt"), MG_STR("sElEcT")));
	assert_false(mg_str_eq_nocase(MG_STR("\xC3\x84"), MG_STR("\xC3\xA4"))); /* ASCII only */
	assert_true(mg_text_eq(NULL, NULL) && !mg_text_eq("a", NULL) && !mg_text_eq(NULL, "a"));
	assert_true(mg_text_eq_nocase("A", "a"));
	assert_true(mg_str_starts(MG_STR("select 1"), "select"));
	assert_false(mg_str_starts(MG_STR("sel"), "select"));
	assert_true(mg_str_eq(mg_str_trim(MG_STR(" \t\na b\r ")), MG_STR("a b")));
	assert_int_equal(mg_str_trim(MG_STR("   ")).len, 0);
}

static void test_utf8_is_checked_strictly(void **state)
{
	(void)state;
	static const char *const good[] = { "",
		                                "plain ascii text",
		                                "\xC2\x80",
		                                "\xDF\xBF",
		                                "\xE0\xA0\x80",
		                                "\xEF\xBF\xBF",
		                                "\xED\x9F\xBF",
		                                "\xF0\x90\x80\x80",
		                                "\xF4\x8F\xBF\xBF" };
	static const char *const bad[] = {
		"\x80",
		"\xC0\x80",
		"\xC1\xBF",
		"\xC2",
		"\xE0\x9F\xBF",
		"\xED\xA0\x80",
		"\xE2\x82",
		"\xF0\x8F\xBF\xBF",
		"\xF4\x90\x80\x80",
		"\xF5\x80\x80\x80",
		"\xFF",
		"1234567\xC3",
		"12345678\xC3(",
		"\xF0\x9F\x98",
	};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_true(mg_utf8_valid(good[i], strlen(good[i])));
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(mg_utf8_valid(bad[i], strlen(bad[i])));
	}
}

static void test_a_builder_grows_and_quotes(void **state)
{
	(void)state;
	struct mg_sb sb = { 0 };
	assert_string_equal(mg_sb_text(&sb), "");
	for (int i = 0; i < 500; i++) {
		mg_sb_addf(&sb, "%d,", i);
	}
	assert_true(sb.len > 1500 && strlen(sb.ptr) == sb.len);
	mg_sb_clear(&sb);
	mg_sb_addf(&sb, "%500s", "x");
	assert_int_equal(sb.len, 500);
	mg_sb_clear(&sb);
	mg_sb_add_ident(&sb, "a\"b");
	mg_sb_add_literal(&sb, "it's", 4);
	assert_string_equal(mg_sb_text(&sb), "\"a\"\"b\"'it''s'");
	mg_sb_clear(&sb);
	mg_sb_add_json(&sb, "a\"\\\n\x01\x7F\0\xC3\xA4\xFFz", 11);
	assert_string_equal(mg_sb_text(&sb),
	                    "\"a\\\"\\\\\\n\\u0001\\u007f\\u0000\xC3\xA4\xEF\xBF\xBDz\"");
	char *taken = mg_sb_take(&sb);
	assert_int_equal(sb.len, 0);
	mg_free(taken);
	taken = mg_sb_take(&sb);
	assert_string_equal(taken, "");
	mg_free(taken);
	mg_sb_fini(&sb);
}

/* ---- log ---- */

static void test_log_lines_cannot_be_forged(void **state)
{
	(void)state;
	char name[40] = "/tmp/mg_test_log_";
	mg_random_hex(name + strlen(name), 8);
	struct mg_log_options options = { .level = MG_LOG_INFO, .node = "n 1", .path = name };
	assert_int_equal(mg_log_open(&options), 0);
	mg_log(MG_LOG_DEBUG, "never.seen", "x=1");
	mg_log(MG_LOG_INFO, "query.done", "user=%s sql=%s rows=%d", "eve", "a=1 user=root\nlevel=error",
	       3);
	mg_log(MG_LOG_WARN, "plain", "only a text");
	mg_log(MG_LOG_WARN, "quoted.once",
	       "error=\"%s\" retry=\"with a pause, x=1\" why=\"%s\" left=%s", "no such \"table\"",
	       "down", "node \"a\"");
	options.json = true;
	assert_int_equal(mg_log_open(&options), 0);
	mg_log(MG_LOG_ERROR, "text.first", "hello world key=%s", "v \"q\"");
	struct mg_log_options back = { .level = MG_LOG_WARN };
	assert_int_equal(mg_log_open(&back), 0);

	char *text = NULL;
	assert_int_equal(mg_file_read(name, 1 << 20, &text, NULL, NULL), 0);
	mg_file_remove(name, NULL);
	assert_null(strstr(text, "never.seen"));
	const char *first = strstr(text, " level=info node=\"n 1\" event=query.done user=eve "
	                                 "sql=\"a=1 user=root\\nlevel=error\" rows=3\n");
	assert_non_null(first);
	assert_non_null(strstr(text, " level=warn node=\"n 1\" event=plain message=\"only a text\"\n"));
	assert_non_null(strstr(text, " event=quoted.once error=\"no such \\\"table\\\"\" "
	                             "retry=\"with a pause, x=1\" why=down left=\"node \\\"a\\\"\"\n"));
	const char *json = strstr(text, "{\"ts\":");
	assert_non_null(json);
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree = NULL;
	assert_int_equal(mg_json_parse(arena, json, strlen(json), &tree, NULL), 0);
	assert_string_equal(mg_json_get_text(tree, "message"), "hello world");
	assert_string_equal(mg_json_get_text(tree, "key"), "v \"q\"");
	assert_string_equal(mg_json_get_text(tree, "level"), "error");
	mg_arena_free(arena);
	mg_free(text);
	enum mg_log_level level;
	assert_true(mg_log_level_parse("WARN", &level) && level == MG_LOG_WARN);
	assert_false(mg_log_level_parse("loud", &level));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_error_tells_its_whole_story),
		cmocka_unit_test(test_long_messages_are_cut_between_characters),
		cmocka_unit_test(test_errno_chooses_the_code),
		cmocka_unit_test(test_every_code_is_described),
		cmocka_unit_test(test_an_arena_gives_zeroed_aligned_memory_and_runs_hooks_backwards),
		cmocka_unit_test(test_a_counted_buffer_is_freed_once),
		cmocka_unit_test(test_arrays_grow),
		cmocka_unit_test(test_slices_compare),
		cmocka_unit_test(test_utf8_is_checked_strictly),
		cmocka_unit_test(test_a_builder_grows_and_quotes),
		cmocka_unit_test(test_log_lines_cannot_be_forged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
