/*
 * test_granted.c - files inside of granted directories are opened, and nothing else is.
 */
#include "os/granted.h"

#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char top[] = "/tmp/mg-granted-XXXXXX";
static char *dirs; /* one/, two */

static char *at(const char *name)
{
	return mg_format("%s/%s", top, name);
}

static void write_file(const char *name, const char *text)
{
	char *path = at(name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
	mg_free(path);
}

static void link_to(const char *name, const char *target)
{
	char *path = at(name);

	assert_int_equal(symlink(target, path), 0);
	mg_free(path);
}

static int begin(void **state)
{
	static const char *const made[] = { "one", "two", "one/in", "secret", "one-more" };

	(void)state;
	assert_non_null(mkdtemp(top));
	for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
		char *path = at(made[i]);

		assert_int_equal(mkdir(path, 0700), 0);
		mg_free(path);
	}
	write_file("one/a", "12345");
	write_file("one/in/b", "1");
	write_file("two/c", "");
	write_file("secret/s", "no");
	write_file("one-more/s", "no");
	link_to("one/inside", "in/b");
	link_to("one/up", "../secret/s");
	link_to("one/absolute", "/etc/passwd");
	link_to("one/door", "../secret");
	link_to("one/loop", "loop");
	char *fifo = at("one/fifo");

	assert_int_equal(mkfifo(fifo, 0600), 0);
	mg_free(fifo);
	dirs = mg_format("%s/one/:%s/two", top, top);
	return 0;
}

static int end(void **state)
{
	(void)state;
	mg_free(dirs);
	return mg_tree_remove(top, NULL);
}

static int open_it(const char *granted, const char *path, uint64_t *size)
{
	struct mg_error err = { 0 };
	int fd = -1, code = mg_granted_open(granted, path, &fd, size, &err);

	assert_true((code == 0) == (fd >= 0));
	assert_true(code == 0 || err.message[0]);
	if (fd >= 0) {
		(void)close(fd);
	}
	return code;
}

static int below_top(const char *name, uint64_t *size)
{
	char *path = at(name);
	int code = open_it(dirs, path, size);

	mg_free(path);
	return code;
}

static void test_files_inside_are_opened(void **state)
{
	uint64_t size = 9;

	(void)state;
	assert_int_equal(below_top("one/a", &size), 0);
	assert_int_equal(size, 5);
	assert_int_equal(below_top("one//in/../a", &size), 0);
	assert_int_equal(below_top("one/inside", &size), 0);
	assert_int_equal(size, 1);
	assert_int_equal(below_top("two/c", &size), 0);
	assert_int_equal(open_it(dirs, "in/b", &size), 0);
	assert_int_equal(open_it(dirs, "c", &size), 0); /* in the second one */
	assert_int_equal(size, 0);
}

static void test_nothing_else_is(void **state)
{
	static const char *const denied[] = { "one/../secret/s", "one/up",   "one/absolute",
		                                  "one/door/s",      "secret/s", "one-more/s",
		                                  "one",             "one/loop", "two/../secret/s" };
	uint64_t size;

	(void)state;
	for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
		assert_int_equal(below_top(denied[i], &size), MG_E_DENIED);
	}
	assert_int_equal(open_it(dirs, "/etc/passwd", &size), MG_E_DENIED);
	assert_int_equal(open_it(dirs, "../secret/s", &size), MG_E_DENIED);
	assert_int_equal(open_it(NULL, "/etc/passwd", &size), MG_E_DENIED);
	assert_int_equal(open_it("", "a", &size), MG_E_DENIED);
	assert_int_equal(open_it(":::", "a", &size), MG_E_DENIED);
	assert_int_equal(below_top("one/nowhere", &size), MG_E_NOT_FOUND);
	assert_int_equal(below_top("one/a/b", &size), MG_E_NOT_FOUND);
	assert_int_equal(below_top("one/in", &size), MG_E_USAGE);
	assert_int_equal(below_top("one/fifo", &size), MG_E_USAGE); /* and does not wait */
}

static void test_what_is_granted_is_looked_at(void **state)
{
	struct mg_error err = { 0 };
	char *missing = mg_format("%s:%s/none", dirs, top);

	(void)state;
	assert_int_equal(mg_granted_check(NULL, &err), 0);
	assert_int_equal(mg_granted_check(dirs, &err), 0);
	assert_int_equal(mg_granted_check(missing, &err), MG_E_USAGE);
	assert_non_null(strstr(err.message, "/none"));
	assert_int_equal(mg_granted_check("tmp", &err), MG_E_USAGE);
	mg_free(missing);
}

static char *read_whole(const char *name)
{
	char *path = at(name), *text = NULL;
	size_t size = 0;

	if (mg_file_read(path, 100, &text, &size, NULL)) {
		text = mg_strdup("(none)");
	}
	mg_free(path);
	return text;
}

static void assert_holds(const char *name, const char *want)
{
	char *text = read_whole(name);

	assert_string_equal(text, want);
	mg_free(text);
}

static struct mg_granted_new *create(const char *path, int want)
{
	struct mg_error err = { 0 };
	struct mg_granted_new *file = NULL;
	int code = mg_granted_create(dirs, path, &file, &err);

	assert_int_equal(code, want);
	assert_true((file != NULL) == (code == 0));
	assert_int_equal(file ? mg_granted_write(file, "new", 3, &err) : 0, 0);
	return file;
}

static void test_a_file_appears_whole_or_not_at_all(void **state)
{
	struct mg_error err = { 0 };
	char *inside = at("one/in/made");

	(void)state;
	write_file("two/old", "old");
	struct mg_granted_new *first = create("old", 0), *second = create(inside, 0);

	assert_holds("two/old", "old");
	assert_holds("one/in/made", "(none)");
	mg_granted_drop(second);
	assert_holds("one/in/made", "(none)");
	/* "old" went to the first directory that could take it. */
	assert_int_equal(mg_granted_keep(first, &err), 0);
	assert_holds("one/old", "new");
	mg_granted_drop(first);
	assert_holds("one/old", "new");
	/* What is there is replaced, a link itself and not what it leads to. */
	first = create("old", 0), second = create("up", 0);
	assert_int_equal(mg_granted_write(first, "er", 2, &err), 0);
	assert_int_equal(mg_granted_keep(first, &err) | mg_granted_keep(second, &err), 0);
	mg_granted_drop(first);
	mg_granted_drop(second);
	assert_holds("one/old", "newer");
	assert_holds("one/up", "new");
	assert_holds("secret/s", "no");
	mg_free(inside);
}

static void test_no_file_is_made_elsewhere(void **state)
{
	static const struct {
		const char *path;
		int want;
	} cases[] = {
		{ "../made", MG_E_DENIED },  { "door/made", MG_E_DENIED },  { "/etc/made", MG_E_DENIED },
		{ "none/x", MG_E_NOT_FOUND }, { "a/x", MG_E_NOT_FOUND },     { "in/", MG_E_USAGE },
		{ "in/..", MG_E_USAGE },     { "in/../../x", MG_E_DENIED }, { "", MG_E_DENIED },
	};
	struct mg_error err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mg_granted_drop(create(cases[i].path, cases[i].want));
	}
	char *secret = at("secret/made");

	mg_granted_drop(create(secret, MG_E_DENIED));
	mg_free(secret);
	struct mg_granted_new *file = create("in", 0);

	assert_int_equal(mg_granted_keep(file, &err), MG_E_USAGE); /* it is a directory */
	mg_granted_drop(file);
	file = NULL;
	assert_int_equal(mg_granted_create("", "x", &file, &err), MG_E_DENIED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_inside_are_opened),
		cmocka_unit_test(test_nothing_else_is),
		cmocka_unit_test(test_what_is_granted_is_looked_at),
		cmocka_unit_test(test_a_file_appears_whole_or_not_at_all),
		cmocka_unit_test(test_no_file_is_made_elsewhere),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
