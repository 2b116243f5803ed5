/*
 * test_shard_undo.c - a checkpoint is killed in the middle of each of its writes.
 *
 * The file is written and read by children, which die as a killed process does: a part of their
 * last write has come to the file.  What opens it then must have the checkpoint before or the new
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "os/file.h"
#include "store/shard_file.h"
#include "store/shard_undo.h"
#include "store/shard_write.h"
#include "unit/batch_kit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARD = 3, ROWS = 1000, WRITES_MAX = 60 };

static char *dir, *path;
static struct mg_error err;
/* In a child: writes to the shard's file until one is torn; -1: none is. */
static int left = -1;

static bool is_shard_file(int fd)
{
	char name[32], target[512];

	(void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	ssize_t size = readlink(name, target, sizeof target);

	return size == (ssize_t)strlen(path) && memcmp(target, path, (size_t)size) == 0;
}

static ssize_t write_or_die(int fd, const void *data, size_t size, off_t at)
{
	bool torn = left >= 0 && is_shard_file(fd) && left-- == 0;
	/* The checksum is new, and most of what it stands for is not. */
	ssize_t wrote = syscall(SYS_pwrite64, fd, data, torn ? 12 : size, at);

	if (torn) {
		(void)raise(SIGKILL);
	}
	return wrote;
}

/* In the place of the C library's, by both of its names: DuckDB's and ours. */
#define EXPORTED(name) __asm__(name) __attribute__((visibility("default")))
ssize_t pwrite_of_engine(int fd, const void *data, size_t size, off_t at) EXPORTED("pwrite");
ssize_t pwrite_of_ours(int fd, const void *data, size_t size, off_t at) EXPORTED("pwrite64");

ssize_t pwrite_of_engine(int fd, const void *data, size_t size, off_t at)
{
	return write_or_die(fd, data, size, at);
}

ssize_t pwrite_of_ours(int fd, const void *data, size_t size, off_t at)
{
	return write_or_die(fd, data, size, at);
}

/* ---- in children ---- */

static void must(int code, const char *what)
{
	if (code) {
		(void)fprintf(stderr, "%s: %d %s %s\n", what, code, err.message, err.detail);
		_exit(1);
	}
}
#define MUST(call) must((call), #call)

static struct mg_duck *open_engine(void)
{
	const struct mg_duck_options options = { .threads = 1, .lossless_arrow = true };
	struct mg_duck *duck = NULL;

	MUST(mg_duck_open(&duck, &options, &err));
	return duck;
}

static void make(int unused)
{
	static const char *const names[] = { "k", "text" };
	static const char *const types[] = { "INTEGER", "VARCHAR" };
	const struct mg_shard_meta meta = { .cluster_id = "0123",
		                                .sample = "",
		                                .shard = SHARD,
		                                .shard_count = 4,
		                                .slot_last = 16383,
		                                .file_format = 1 };
	struct mg_shard_file *file = NULL;
	char sha256[MG_SHA256_TEXT_SIZE];
	uint64_t bytes;

	(void)unused;
	MUST(mg_shard_file_create(&file, open_engine(), dir, &meta, &err));
	MUST(mg_shard_file_table(file, "main", "t", names, types, 2, &err));
	MUST(mg_shard_file_finish(file, sha256, &bytes, &err));
}

static struct mg_shard_writer *open_writer(struct mg_duck_conn **conn)
{
	struct mg_duck *duck = open_engine();
	struct mg_shard_writer *writer = NULL;

	MUST(mg_duck_connect(duck, conn, &err));
	MUST(mg_shard_file_attach(*conn, SHARD, path, &err));
	MUST(mg_shard_writer_open(&writer, duck, "s3", &err));
	return writer;
}

/* As many rows with each index. */
static void write_more(int tear)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_shard_writer *writer = open_writer(&conn);
	struct batch batch;

	MUST(batch_make(&batch, conn,
	                "SELECT i::INTEGER AS k, md5(i::VARCHAR) AS text, (i % 16384)::USMALLINT AS "
	                "slot FROM range(1000) AS r(i)",
	                &err));
	MUST(mg_shard_writer_begin(writer, &err));
	MUST(mg_shard_writer_insert(writer, "main", "t", batch.schema, batch.rows, &err));
	MUST(mg_shard_writer_commit(writer, mg_shard_writer_applied(writer) + 1, 1, &err));
	batch_fini(&batch);
	left = tear;
	MUST(mg_shard_writer_checkpoint(writer, "in doubt", 8, path, &err));
}

static int count_rows(struct mg_duck_conn *conn)
{
	int64_t rows = 0, texts = 0;

	MUST(mg_duck_int(conn, "SELECT count(*) FROM s3.main.t", &rows, &err));
	MUST(mg_duck_int(conn, "SELECT count(*) FROM s3.main.t WHERE text = md5(k::VARCHAR)", &texts,
	                 &err));
	return rows == texts ? (int)rows : -1;
}

/* Its exit code: 100 and the index; all rows of that index are there, and no other ones. */
static void look(int tear)
{
	struct mg_duck_conn *conn = NULL;

	left = tear;
	struct mg_shard_writer *writer = open_writer(&conn);
	int index = (int)mg_shard_writer_applied(writer);

	left = -1;
	_exit(count_rows(conn) == index * ROWS ? 100 + index : 2);
}

/* ---- in the parent ---- */

/* Exit code of a child that runs it; -1: it was killed. */
static int in_child(void (*run)(int tear), int tear)
{
	int status = 0;

	(void)fflush(NULL);
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		(void)alarm(120);
		run(tear);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		return -1;
	}
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool has_journal(void)
{
	char *name = mg_format("%s.undo", path);
	bool there = mg_file_exists(name);

	mg_free(name);
	return there;
}

static int begin(void **state)
{
	char name[] = "/tmp/mg-shard-undo-XXXXXX", *shards;

	(void)state;
	dir = mg_strdup(mkdtemp(name));
	path = mg_format("%s/shards/0003.duckdb", dir);
	shards = mg_format("%s/shards", dir);
	assert_int_equal(mg_dir_make(shards, 0700, &err), 0);
	assert_int_equal(in_child(make, 0), 0);
	assert_int_equal(in_child(write_more, -1), 0);
	mg_free(shards);
	return 0;
}

static int end(void **state)
{
	(void)state;
	(void)mg_tree_remove(dir, NULL);
	mg_free(path);
	mg_free(dir);
	return 0;
}

static void test_each_write_of_a_checkpoint_may_be_torn(void **state)
{
	int index = 101, olds = 0;

	(void)state;
	for (int tear = 0; tear < WRITES_MAX; tear++) {
		int how = in_child(write_more, tear), then = in_child(look, -1);

		olds += then == index;
		assert_true(then == index || then == index + 1);
		assert_false(has_journal());
		index = then;
		if (how == 0) {
			assert_true(tear > 3 && olds == tear); /* each of them, and none was the last */
			return;
		}
		assert_int_equal(how, -1);
	}
	fail_msg("a checkpoint has more than %d writes", WRITES_MAX);
}

static void test_going_back_may_be_torn_too(void **state)
{
	(void)state;
	for (int tear = 0; tear < WRITES_MAX; tear++) {
		if (in_child(write_more, tear) == 0) {
			return;
		}
		int kills = 0;

		while (in_child(look, kills) == -1) {
			assert_true(has_journal());
			kills++;
		}
		assert_int_equal(in_child(look, -1), 101);
	}
	fail_msg("a checkpoint has more than %d writes", WRITES_MAX);
}

/* What a checkpoint has finished is not undone by a journal that has come back with the power. */
static void test_an_old_journal_changes_nothing(void **state)
{
	char *journal = mg_format("%s.undo", path), *kept = mg_format("%s/kept", dir);

	(void)state;
	assert_int_equal(in_child(write_more, 0), -1);
	assert_int_equal(mg_file_copy(journal, kept, &err), 0);
	assert_int_equal(in_child(look, -1), 101);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(in_child(write_more, -1), 0);
		assert_int_equal(mg_file_copy(kept, journal, &err), 0);
		assert_int_equal(in_child(look, -1), 102 + i);
		assert_false(has_journal());
	}
	mg_free(kept);
	mg_free(journal);
}

static void test_a_journal_of_another_file_changes_nothing(void **state)
{
	char *journal = mg_format("%s.undo", path), *other = mg_format("%s/shards/0004.duckdb", dir);
	char *others = mg_format("%s.undo", other), before[MG_SHA256_TEXT_SIZE];
	char after[MG_SHA256_TEXT_SIZE];

	(void)state;
	assert_int_equal(in_child(write_more, 3), -1); /* the list of tables is torn */
	assert_int_equal(mg_file_copy(path, other, &err), 0);
	assert_int_equal(mg_file_copy(journal, others, &err), 0);
	assert_int_equal(mg_file_sha256(other, before, &err), 0);
	assert_int_equal(mg_shard_undo_apply(other, &err), 0);
	assert_int_equal(mg_file_sha256(other, after, &err), 0);
	assert_string_equal(before, after);
	assert_false(mg_file_exists(others));
	assert_int_equal(in_child(look, -1), 101);
	mg_free(others);
	mg_free(other);
	mg_free(journal);
}

/* DuckDB's mark that a checkpoint has begun, of which the end has not come to the disk. */
static void test_half_a_mark_keeps_no_file_closed(void **state)
{
	char *log = mg_format("%s.wal", path), *text = NULL;
	size_t size = 0;

	(void)state;
	assert_int_equal(in_child(write_more, 0), -1);
	assert_int_equal(mg_file_read(log, 1 << 20, &text, &size, &err), 0);
	assert_true(size > 30);
	memset(text + 30, 0, size - 30);
	assert_int_equal(mg_file_write(log, text, size, 0600, &err), 0);
	assert_int_equal(in_child(look, -1), 101);
	mg_free(text);
	mg_free(log);
}

static void test_a_damaged_journal_is_put_away(void **state)
{
	char *journal = mg_format("%s.undo", path);

	(void)state;
	assert_int_equal(mg_file_write(journal, "rubbish", 7, 0600, &err), 0);
	assert_int_equal(in_child(look, -1), 101);
	assert_false(has_journal());
	mg_free(journal);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_write_of_a_checkpoint_may_be_torn, begin, end),
		cmocka_unit_test_setup_teardown(test_going_back_may_be_torn_too, begin, end),
		cmocka_unit_test_setup_teardown(test_an_old_journal_changes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_a_journal_of_another_file_changes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_half_a_mark_keeps_no_file_closed, begin, end),
		cmocka_unit_test_setup_teardown(test_a_damaged_journal_is_put_away, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
