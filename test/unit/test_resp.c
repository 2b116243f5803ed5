/*
 * test_resp.c - the Redis protocol: what comes in, in whatever pieces, is the same commands; what
 * goes too far is refused before memory is taken for it; patterns; answers of both versions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "door/resp_parse.h"
#include "door/resp_reply.h"

static const struct mg_resp_limits wide = { .args = 1000, .arg = 100000, .command = 200000 };

/* All commands of the bytes, given in pieces: "SET|k|v;" for each, then "!error". */
static void read_all(struct mg_sb *out, struct mg_resp_limits limits, const char *bytes,
                     size_t size, size_t piece)
{
	struct mg_resp_parser parser = { .limits = limits };
	char error[MG_RESP_ERROR_SIZE] = "";
	bool bad = false;

	mg_sb_clear(out);
	for (size_t at = 0; at < size && !bad;) {
		size_t part = size - at < piece ? size - at : piece, used = 0;
		struct mg_resp_command *command = NULL;
		enum mg_resp_parsed parsed = mg_resp_parse(&parser, (const uint8_t *)bytes + at, part,
		                                           &used, &command, error);

		assert_true(used <= part);
		assert_true(parsed != MG_RESP_MORE || used == part);
		at += used;
		bad = parsed == MG_RESP_BAD;
		if (parsed == MG_RESP_COMMAND) {
			for (size_t i = 0; i < command->count; i++) {
				mg_sb_add(out, i ? "|" : "");
				mg_sb_add_len(out, command->args[i].ptr, command->args[i].len);
			}
			mg_sb_add(out, ";");
			mg_resp_command_free(command);
		}
	}
	if (bad) {
		mg_sb_add(out, "!");
		mg_sb_add(out, error);
	}
	mg_resp_parser_fini(&parser);
}

static void expect_len(struct mg_resp_limits limits, const char *bytes, size_t size,
                       const char *expected)
{
	struct mg_sb out = { 0 };

	for (size_t piece = 1; piece <= size; piece++) {
		read_all(&out, limits, bytes, size, piece);
		assert_string_equal(mg_sb_text(&out), expected);
	}
	mg_sb_fini(&out);
}

static void expect(const char *bytes, const char *expected)
{
	expect_len(wide, bytes, strlen(bytes), expected);
}

/* ---- commands ---- */

static void test_arrays(void **state)
{
	(void)state;
	expect("*1\r\n$4\r\nPING\r\n", "PING;");
	expect("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
	       "SET|k|a\r\nbc;GET|;");
	expect("*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n", "PING;");
	expect("*2\r\n$4\r\nECHO\r\n$12\r\n*1\r\n$4\r\nPING\r\n", "ECHO|*1\r\n$4\r\nPING;");
}

static void test_lines(void **state)
{
	(void)state;
	expect("PING\r\nPING\n\r\n   \r\n", "PING;PING;");
	expect("set  k 'a b' \"c\\x41\\n\\\"\"\r\n", "set|k|a b|cA\n\";");
	expect("echo 'it\\'s'\r\n*1\r\n$4\r\nQUIT\r\n", "echo|it's;QUIT;");
	expect("echo \"\"\r\n", "echo|;");
}

static void test_zero_bytes(void **state)
{
	static const char bytes[] = "*2\r\n$4\r\nECHO\r\n$3\r\n\0\r\n\r\n";
	struct mg_sb out = { 0 };

	(void)state;
	for (size_t piece = 1; piece < sizeof bytes; piece++) {
		read_all(&out, wide, bytes, sizeof bytes - 1, piece);
		assert_int_equal(out.len, 9);
		assert_memory_equal(out.ptr, "ECHO|\0\r\n;", 9);
	}
	mg_sb_fini(&out);
}

static void test_garbage(void **state)
{
	(void)state;
	expect("*x\r\n", "!Protocol error: invalid multibulk length");
	expect("*1048577\r\n", "!Protocol error: invalid multibulk length");
	expect("*99999999999999999999\r\n", "!Protocol error: invalid multibulk length");
	expect("*1\r\n:1\r\n", "!Protocol error: expected '$', got ':'");
	expect("*1\r\n\r\n", "!Protocol error: expected '$', got ' '");
	expect("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length");
	expect("*1\r\n$100001\r\n", "!Protocol error: invalid bulk length");
	expect("*1\r\n$4\r\nPINGxx", "!Protocol error: invalid bulk length");
	expect("PING\r\necho \"a\r\n", "PING;!Protocol error: unbalanced quotes in request");
	expect("echo \"a\"b\r\n", "!Protocol error: unbalanced quotes in request");
}

static void test_limits(void **state)
{
	struct mg_resp_limits few = { .args = 2, .arg = 5, .command = 8 };
	static char line[MG_RESP_LINE_MAX + 2];

	(void)state;
	expect_len(few, "*2\r\n$3\r\nGET\r\n$5\r\nabcde\r\n", 24, "GET|abcde;");
	expect_len(few, "*2\r\n$4\r\nMGET\r\n$5\r\nabcde\r\n", 25,
	           "!Protocol error: invalid bulk length");
	expect_len(few, "*3\r\n", 4, "!Protocol error: invalid multibulk length");
	few.strangers = true;
	expect_len(few, "*3\r\n", 4, "!Protocol error: unauthenticated multibulk length");
	expect_len(few, "*1\r\n$6\r\n", 8, "!Protocol error: unauthenticated bulk length");
	memset(line, 'a', sizeof line);
	struct mg_sb out = { 0 };

	read_all(&out, wide, line, sizeof line, 1000);
	assert_string_equal(mg_sb_text(&out), "!Protocol error: too big inline request");
	line[0] = '*';
	read_all(&out, wide, line, sizeof line, sizeof line);
	assert_string_equal(mg_sb_text(&out), "!Protocol error: too big mbulk count string");
	mg_sb_fini(&out);
}

/* A length alone takes no memory; a large argument is taken over, not copied once more. */
static void test_memory(void **state)
{
	static const char head[] = "*1000\r\n$100000\r\n";
	struct mg_resp_parser parser = { .limits = wide };
	struct mg_resp_command *command = NULL;
	char error[MG_RESP_ERROR_SIZE];
	size_t used = 0;

	(void)state;
	assert_int_equal(mg_resp_parse(&parser, (const uint8_t *)head, sizeof head - 1, &used, &command,
	                               error),
	                 MG_RESP_MORE);
	assert_true(mg_resp_parser_bytes(&parser) < 4096);
	mg_resp_parser_fini(&parser);

	struct mg_sb bytes = { 0 };

	parser.limits = wide;
	mg_sb_add(&bytes, "*1\r\n$100000\r\n");
	for (size_t i = 0; i < 100000; i++) {
		mg_sb_add_char(&bytes, 'v');
	}
	mg_sb_add(&bytes, "\r\n");
	assert_int_equal(mg_resp_parse(&parser, (const uint8_t *)bytes.ptr, bytes.len, &used, &command,
	                               error),
	                 MG_RESP_COMMAND);
	assert_int_equal(command->args[0].len, 100000);
	assert_non_null(command->text);
	assert_true(mg_resp_parser_bytes(&parser) < 16384);
	mg_resp_command_free(command);
	mg_resp_parser_fini(&parser);
	mg_sb_fini(&bytes);
}

/* ---- numbers, patterns ---- */

static bool is_int(const char *text, int64_t expected)
{
	int64_t value = 0;

	return mg_resp_int(mg_str(text), &value) && value == expected;
}

static void test_numbers(void **state)
{
	static const char *const none[] = { "",   "-",  "+1", "01",  "-0", " 1",
		                                "1 ", "1x", "-a", "1.0", "9223372036854775808",
		                                "-9223372036854775809", "99999999999999999999" };
	int64_t value = 0;

	(void)state;
	assert_true(is_int("0", 0) && is_int("7", 7) && is_int("-7", -7));
	assert_true(is_int("9223372036854775807", INT64_MAX));
	assert_true(is_int("-9223372036854775808", INT64_MIN));
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		assert_false(mg_resp_int(mg_str(none[i]), &value));
	}
}

static bool fits(const char *pattern, const char *text)
{
	return mg_resp_glob(mg_str(pattern), mg_str(text));
}

static void test_patterns(void **state)
{
	(void)state;
	assert_true(fits("*", "") && fits("*", "abc") && fits("a*c", "abbc") && fits("a?c", "abc"));
	assert_true(fits("h[ae]llo", "hallo") && fits("h[^e]llo", "hallo") && fits("[a-c]", "b"));
	assert_true(fits("\\*", "*") && fits("[\\]]", "]") && fits("a**b", "ab") && fits("", ""));
	assert_false(fits("a", "b") || fits("", "a") || fits("a?", "a") || fits("[^a]", "a"));
	assert_false(fits("a*b", "abc") || fits("[c-a]", "d") || fits("\\*", "a"));
	assert_true(fits("[c-a]", "b") && fits("*b*", "abc") && fits("*aab", "aaaab"));
	/* what takes others for ever */
	assert_false(fits("a*a*a*a*a*a*a*a*a*a*b",
	                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

/* ---- answers ---- */

static void say_all(struct mg_resp_out *out)
{
	mg_resp_simple(out, "OK");
	mg_resp_error(out, "ERR a\r\n%s", "b");
	mg_resp_number(out, INT64_MIN);
	mg_resp_bulk(out, (struct mg_str){ 0 });
	mg_resp_nil(out);
	mg_resp_nil_array(out);
	mg_resp_map(out, 1);
	mg_resp_set(out, 0);
	mg_resp_array(out, 10);
	mg_resp_verbatim(out, MG_STR("x"));
}

static void test_answers(void **state)
{
	struct mg_resp_out two = { 0 }, three = { .v3 = true };

	(void)state;
	say_all(&two);
	say_all(&three);
	assert_string_equal(mg_sb_text(&two.bytes),
	                    "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n$0\r\n\r\n$-1\r\n*-1\r\n"
	                    "*2\r\n*0\r\n*10\r\n$1\r\nx\r\n");
	assert_string_equal(mg_sb_text(&three.bytes),
	                    "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n$0\r\n\r\n_\r\n_\r\n"
	                    "%1\r\n~0\r\n*10\r\n=5\r\ntxt:x\r\n");
	mg_sb_fini(&two.bytes);
	mg_sb_fini(&three.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrays),  cmocka_unit_test(test_lines),
		cmocka_unit_test(test_zero_bytes), cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_limits),  cmocka_unit_test(test_memory),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
