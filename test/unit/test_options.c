/*
 * test_options.c - precedence of the sources, types, aliases, what is refused and how.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/options.h"

static const struct mg_command *command_of(const char *name)
{
	const struct mg_command *c = mg_commands;

	while (c->name && strcmp(c->name, name) != 0) {
		c++;
	}
	assert_non_null(c->name);
	return c;
}

/* Parse words, ended by NULL, for a command. */
static int parse(struct mg_options **out, const char *command, struct mg_error *err, ...)
{
	char *argv[16];
	int argc = 0;
	bool help;
	va_list ap;

	va_start(ap, err);
	while (argc < 16 && (argv[argc] = va_arg(ap, char *))) {
		argc++;
	}
	va_end(ap);
	memset(err, 0, sizeof *err);
	return mg_options_parse(out, command_of(command), argc, argv, &help, err);
}

static char *write_bytes(const char *bytes, size_t len)
{
	char *path = strdup("/tmp/mg-options-XXXXXX");
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	close(fd);
	return path;
}

static char *write_file(const char *text)
{
	return write_bytes(text, strlen(text));
}

static void test_a_flag_beats_environment_beats_file_beats_default(void **state)
{
	char *file = write_file("# shared\nlisten = 127.0.0.1:1\nthreads = 3\nmemory_limit = 1GiB\n"
	                        "tpch-scale-factor = 2\n");
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	setenv("MERGANSER_LISTEN", "127.0.0.1:2", 1);
	setenv("MERGANSER_THREADS", "5", 1);
	assert_int_equal(parse(&o, "server", &err, "--config", file, "--listen=127.0.0.1:3", NULL), 0);
	assert_string_equal(mg_options_text(o, "listen"), "127.0.0.1:3");
	assert_int_equal(mg_options_int(o, "threads"), 5);
	assert_int_equal(mg_options_int(o, "memory-limit"), 1 << 30);
	assert_string_equal(mg_options_text(o, "data-dir"), "merganser-data");
	assert_true(mg_options_given(o, "memory-limit"));
	assert_false(mg_options_given(o, "data-dir"));
	mg_options_free(o);
	unsetenv("MERGANSER_LISTEN");
	unsetenv("MERGANSER_THREADS");
	unlink(file);
	free(file);
}

static void test_an_unknown_option_is_named_with_the_one_that_was_meant(void **state)
{
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "--lissten", "x", NULL), MG_E_USAGE);
	assert_string_equal(err.message, "unknown option \"--lissten\"");
	assert_string_equal(err.hint, "Did you mean \"--listen\"?");
	mg_options_free(o);
	assert_int_equal(parse(&o, "server", &err, "--qqqq", NULL), MG_E_USAGE);
	assert_string_equal(err.message, "unknown option \"--qqqq\"");
	mg_options_free(o);
	assert_int_equal(parse(&o, "server", &err, "a", "b", NULL), MG_E_USAGE);
	assert_string_equal(err.message, "unexpected argument \"b\"");
	mg_options_free(o);
}

static void test_an_unknown_line_of_a_file_is_named_with_its_line(void **state)
{
	char *file = write_file("threads = 2\nlissten = 127.0.0.1:1\n");
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "--config", file, NULL), MG_E_USAGE);
	assert_non_null(strstr(err.message, "\"lissten\""));
	assert_non_null(strstr(err.message, "line 2"));
	mg_options_free(o);
	unlink(file);
	free(file);
}

static void test_what_cannot_be_read_is_no_empty_file(void **state)
{
	static const char zero[] = "threads = 2\nlisten = 127.0.0.1:1\0 23\n";
	static const char marked[] = "\xEF\xBB\xBFthreads = 7\n";
	struct mg_options *o;
	struct mg_error err;
	char *file;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "--config", "/", NULL), MG_E_IO);
	assert_string_equal(err.message, "cannot read \"/\": Is a directory");
	mg_options_free(o);

	file = write_bytes(zero, sizeof zero - 1);
	assert_int_equal(parse(&o, "server", &err, "--config", file, NULL), MG_E_USAGE);
	assert_non_null(strstr(err.message, file));
	assert_non_null(strstr(err.message, "line 2 holds a zero byte"));
	mg_options_free(o);
	unlink(file);
	free(file);

	file = write_bytes(marked, sizeof marked - 1);
	assert_int_equal(parse(&o, "server", &err, "--config", file, NULL), 0);
	assert_int_equal(mg_options_int(o, "threads"), 7);
	mg_options_free(o);
	unlink(file);
	free(file);
	file = write_bytes("\xEF\xBB\xBF", 3);
	assert_int_equal(parse(&o, "server", &err, "--config", file, NULL), 0);
	mg_options_free(o);
	unlink(file);
	free(file);
}

static void test_a_value_of_the_wrong_type_is_refused_from_every_source(void **state)
{
	char *file = write_file("threads = many\n");
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "--threads", "-1", NULL), MG_E_USAGE);
	assert_string_equal(err.message,
	                    "option \"--threads\" wants a whole number up to 1024, not \"-1\"");
	mg_options_free(o);
	assert_int_equal(parse(&o, "server", &err, "--listen", "127.0.0.1:70000", NULL), MG_E_USAGE);
	mg_options_free(o);
	assert_int_equal(parse(&o, "sql", &err, "--format", "xml", NULL), MG_E_USAGE);
	assert_non_null(strstr(err.message, "one of box|csv"));
	mg_options_free(o);
	/* A hidden mistake is told as well. */
	assert_int_equal(parse(&o, "server", &err, "--config", file, "--threads", "2", NULL),
	                 MG_E_USAGE);
	assert_non_null(strstr(err.message, "line 1"));
	mg_options_free(o);
	setenv("MERGANSER_MEMORY_LIMIT", "much", 1);
	assert_int_equal(parse(&o, "server", &err, NULL), MG_E_USAGE);
	assert_non_null(strstr(err.message, "MERGANSER_MEMORY_LIMIT"));
	mg_options_free(o);
	unsetenv("MERGANSER_MEMORY_LIMIT");
	assert_int_equal(parse(&o, "server", &err, "--listen", NULL), MG_E_USAGE);
	assert_string_equal(err.message, "option \"--listen\" needs a value");
	mg_options_free(o);
	unlink(file);
	free(file);
}

static void test_the_old_names_of_the_server_work(void **state)
{
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "-id", "n7", "-http", "localhost:9301", "-raft",
	                       "localhost:9302", "-leader", "a:1,b:2", "/data", NULL),
	                 0);
	assert_string_equal(mg_options_text(o, "node-id"), "n7");
	assert_string_equal(mg_options_text(o, "listen"), "localhost:9301");
	assert_string_equal(mg_options_text(o, "join"), "a:1,b:2");
	assert_string_equal(mg_options_argument(o, 0), "/data");
	assert_null(mg_options_argument(o, 1));
	mg_options_free(o);
}

static void test_some_options_may_be_repeated(void **state)
{
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	setenv("MERGANSER_COPY_PATH", "/hidden", 1);
	assert_int_equal(parse(&o, "server", &err, "--copy-path", "/a:/b", "--copy-path=/c",
	                       "--node-id", "x", "--node-id", "y", NULL),
	                 0);
	assert_string_equal(mg_options_text(o, "copy-path"), "/a:/b:/c");
	assert_string_equal(mg_options_text(o, "node-id"), "y");
	mg_options_free(o);
	unsetenv("MERGANSER_COPY_PATH");
}

static void test_plaintext_needs_no_value(void **state)
{
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	assert_int_equal(parse(&o, "server", &err, "--insecure-plaintext", "dir", NULL), 0);
	assert_string_equal(mg_options_text(o, "insecure-plaintext"), "loopback");
	assert_string_equal(mg_options_argument(o, 0), "dir");
	mg_options_free(o);
	assert_int_equal(parse(&o, "server", &err, "--insecure-plaintext=any", NULL), 0);
	assert_string_equal(mg_options_text(o, "insecure-plaintext"), "any");
	mg_options_free(o);
}

static void test_statements_and_files_keep_their_order(void **state)
{
	struct mg_options *o;
	struct mg_error err;
	const char *name;

	(void)state;
	assert_int_equal(parse(&o, "sql", &err, "-c", "one", "-f", "two", "--command=three", NULL), 0);
	assert_string_equal(mg_options_occurrence(o, 0, &name), "one");
	assert_string_equal(name, "command");
	assert_string_equal(mg_options_occurrence(o, 1, &name), "two");
	assert_string_equal(name, "file");
	assert_string_equal(mg_options_occurrence(o, 2, &name), "three");
	assert_null(mg_options_occurrence(o, 3, &name));
	mg_options_free(o);
}

static void test_a_password_comes_from_the_source_of_the_highest_rank(void **state)
{
	char *file = write_file("from-file\nsecond line\n");
	struct mg_options *o;
	struct mg_error err;
	char *secret;

	(void)state;
	setenv("MERGANSER_PASSWORD", "from-environment", 1);
	assert_int_equal(parse(&o, "worker", &err, NULL), 0);
	assert_int_equal(mg_options_secret(o, "password", NULL, &secret, &err), 0);
	assert_string_equal(secret, "from-environment");
	mg_free(secret);
	mg_options_free(o);
	assert_int_equal(parse(&o, "worker", &err, "--password-file", file, NULL), 0);
	assert_int_equal(mg_options_secret(o, "password", NULL, &secret, &err), 0);
	assert_string_equal(secret, "from-file");
	mg_free(secret);
	mg_options_free(o);
	unsetenv("MERGANSER_PASSWORD");
	assert_int_equal(parse(&o, "worker", &err, NULL), 0);
	assert_int_equal(mg_options_secret(o, "password", NULL, &secret, &err), 0);
	assert_null(secret);
	mg_options_free(o);
	unlink(file);
	free(file);
}

static void test_sizes_and_times_have_units(void **state)
{
	uint64_t n;

	(void)state;
	assert_true(mg_parse_size("4GiB", &n));
	assert_int_equal(n, 4ull << 30);
	assert_true(mg_parse_size("1.5 MB", &n));
	assert_int_equal(n, 1500000);
	assert_true(mg_parse_size("0", &n));
	assert_false(mg_parse_size("4 apples", &n));
	assert_false(mg_parse_size("-1", &n));
	assert_false(mg_parse_size("1e300", &n));
	assert_true(mg_parse_ms("250ms", &n));
	assert_int_equal(n, 250);
	assert_true(mg_parse_ms("5m", &n));
	assert_int_equal(n, 300000);
	assert_true(mg_parse_ms("2", &n));
	assert_int_equal(n, 2000);
	assert_false(mg_parse_ms("soon", &n));
}

static void test_every_command_has_help_with_an_example(void **state)
{
	(void)state;
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		struct mg_sb page = { 0 };

		mg_options_help(c, &page);
		assert_non_null(strstr(page.ptr, c->name));
		assert_non_null(strstr(page.ptr, "example:\n  "));
		assert_non_null(strstr(page.ptr, "--help"));
		assert_non_null(c->run);
		mg_sb_fini(&page);
	}
}

static bool state_of(const struct mg_options *o, const char *name, struct mg_option_state *state)
{
	for (size_t i = 0; mg_options_at(o, i, state); i++) {
		if (strcmp(state->name, name) == 0) {
			return true;
		}
	}
	return false;
}

static void expect_state(const struct mg_options *o, const char *name, const char *value,
                         const char *source, const char *where)
{
	struct mg_option_state state;

	assert_true(state_of(o, name, &state));
	assert_string_equal(state.value ? state.value : "(null)", value);
	assert_string_equal(state.source, source);
	assert_non_null(strstr(state.where, where));
}

/* A command's own option stands before one of that name that all clients have, once. */
static void test_an_option_of_two_tables_is_one(void **state)
{
	struct mg_options *o;
	struct mg_error err;
	struct mg_sb page = { 0 };

	(void)state;
	assert_int_equal(parse(&o, "cluster rebalance", &err, "--timeout=3s", NULL), 0);
	mg_options_print(o, false, &page);
	mg_options_free(o);
	char *printed = write_file(mg_sb_text(&page));

	assert_int_equal(parse(&o, "cluster rebalance", &err, "--config", printed, NULL), 0);
	assert_int_equal(mg_options_int(o, "timeout"), 3000);
	mg_options_free(o);
	remove(printed);
	free(printed);
	mg_sb_fini(&page);
}

static void test_every_option_tells_where_it_came_from(void **state)
{
	char *file = write_file("threads = 3\nlisten = 127.0.0.1:1\n"), *printed;
	struct mg_option_state ignored;
	struct mg_options *o;
	struct mg_error err;
	struct mg_sb page = { 0 }, json = { 0 };

	(void)state;
	setenv("MERGANSER_MAX_QUERIES", "5", 1);
	setenv("MERGANSER_PASSWORD", "open sesame", 1);
	assert_int_equal(
		parse(&o, "server", &err, "--config", file, "--listen=127.0.0.1:3", "a b ", NULL), 0);
	expect_state(o, "listen", "127.0.0.1:3", "flag", "--listen");
	expect_state(o, "data-dir", "a b ", "flag", "argument");
	expect_state(o, "max-queries", "5", "environment", "MERGANSER_MAX_QUERIES");
	expect_state(o, "threads", "3", "file", "line 1");
	expect_state(o, "log-level", "info", "default", "");
	expect_state(o, "join", "(null)", "not set", "");
	expect_state(o, "password", "(hidden)", "environment", "MERGANSER_PASSWORD");
	assert_false(state_of(o, "print-config", &ignored));
	mg_options_print(o, false, &page);
	mg_options_print(o, true, &json);
	assert_null(strstr(mg_sb_text(&page), "sesame"));
	assert_null(strstr(mg_sb_text(&json), "sesame"));
	assert_non_null(strstr(mg_sb_text(&json), "{\"name\": \"join\", \"value\": null"));
	mg_options_free(o);
	unsetenv("MERGANSER_MAX_QUERIES");
	unsetenv("MERGANSER_PASSWORD");
	/* 0 threads are shown as the number that they are here, and stay 0 in the page. */
	char threads[16];

	snprintf(threads, sizeof threads, "%u", mg_engine_default_threads());
	assert_int_equal(parse(&o, "server", &err, NULL), 0);
	expect_state(o, "threads", threads, "default", "");
	assert_int_equal(mg_options_int(o, "threads"), 0);
	struct mg_sb zero = { 0 };

	mg_options_print(o, false, &zero);
	assert_non_null(strstr(mg_sb_text(&zero), "\n# 0, which is here:\n# threads = "));
	mg_sb_fini(&zero);
	mg_options_free(o);
	assert_int_equal(parse(&o, "worker", &err, "--threads=0", NULL), 0);
	expect_state(o, "threads", threads, "flag", "--threads");
	mg_options_free(o);
	/* The page is a file that says the same. */
	printed = write_file(mg_sb_text(&page));
	assert_int_equal(parse(&o, "server", &err, "--config", printed, NULL), 0);
	expect_state(o, "listen", "127.0.0.1:3", "file", "line");
	expect_state(o, "data-dir", "a b ", "file", "line");
	expect_state(o, "max-queries", "5", "file", "line");
	expect_state(o, "password", "(null)", "not set", "");
	mg_options_free(o);
	unlink(file);
	unlink(printed);
	free(file);
	free(printed);
	mg_sb_fini(&page);
	mg_sb_fini(&json);
}

static void test_limits_are_checked_and_told(void **state)
{
	static const char *const wrong[][2] = {
		{ "--max-message-size", "1KiB" },
		{ "--max-message-size", "2GiB" },
		{ "--max-websocket-message-size", "0" },
		{ "--ping-timeout", "10ms" },
		{ "--websocket-ping-timeout", "2d" },
		{ "--worker-ping-timeout", "1s" },
		{ "--threads", "1025" },
		{ "--ping-timeout", "-1" },
	};
	struct mg_options *o;
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(parse(&o, "server", &err, wrong[i][0], wrong[i][1], NULL), MG_E_USAGE);
		assert_non_null(strstr(err.message, wrong[i][1]));
		mg_options_free(o);
	}
	assert_int_equal(parse(&o, "server", &err, "--max-websocket-message-size", "1GiB",
	                       "--websocket-ping-timeout", "60", NULL),
	                 0);
	assert_int_equal(mg_options_int(o, "max-message-size"), 1 << 30);
	assert_int_equal(mg_options_int(o, "ping-timeout"), 60000);
	mg_options_free(o);
}

static void test_help_wins_over_mistakes(void **state)
{
	char *argv[] = { "--nonsense", "--help" };
	struct mg_options *o;
	struct mg_error err;
	bool help;

	(void)state;
	assert_int_equal(mg_options_parse(&o, command_of("sql"), 2, argv, &help, &err), 0);
	assert_true(help);
	mg_options_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_flag_beats_environment_beats_file_beats_default),
		cmocka_unit_test(test_an_unknown_option_is_named_with_the_one_that_was_meant),
		cmocka_unit_test(test_an_unknown_line_of_a_file_is_named_with_its_line),
		cmocka_unit_test(test_what_cannot_be_read_is_no_empty_file),
		cmocka_unit_test(test_a_value_of_the_wrong_type_is_refused_from_every_source),
		cmocka_unit_test(test_the_old_names_of_the_server_work),
		cmocka_unit_test(test_some_options_may_be_repeated),
		cmocka_unit_test(test_plaintext_needs_no_value),
		cmocka_unit_test(test_statements_and_files_keep_their_order),
		cmocka_unit_test(test_a_password_comes_from_the_source_of_the_highest_rank),
		cmocka_unit_test(test_sizes_and_times_have_units),
		cmocka_unit_test(test_every_command_has_help_with_an_example),
		cmocka_unit_test(test_an_option_of_two_tables_is_one),
		cmocka_unit_test(test_every_option_tells_where_it_came_from),
		cmocka_unit_test(test_limits_are_checked_and_told),
		cmocka_unit_test(test_help_wins_over_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
