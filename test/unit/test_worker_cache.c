/* test_worker_cache.c - what goes from a worker's folder, in which order, and what never does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "exec/worker_cache.h"
#include "os/file.h"
#include "os/random.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder; /* of its own for each test */

static int make_folder(void **state)
{
	(void)state;
	char name[17];
	folder = mg_format("/tmp/mg_test_cache_%s", mg_random_hex(name, 8));
	return mg_dir_make(folder, 0700, NULL);
}

static int remove_folder(void **state)
{
	(void)state;
	int code = mg_tree_remove(folder, NULL);
	mg_free(folder);
	return code;
}

/* A file of `bytes`, used at second `used`; the name is 64 times the digit, and the ending. */
static char *put(char digit, const char *ending, size_t bytes, long used)
{
	char name[128];
	char *data = mg_alloc0(bytes);
	memset(name, digit, 64);
	snprintf(name + 64, sizeof name - 64, "%s", ending);
	char *path = mg_path_join(folder, name);
	assert_int_equal(mg_file_write(path, data, bytes, 0600, NULL), 0);
	struct timespec times[2] = { { .tv_sec = used }, { .tv_sec = used } };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	mg_free(data);
	return path;
}

/* Everything but what begins with the character at arg. */
static bool all_but(void *arg, const char *sha256)
{
	const char *kept = arg;
	return sha256[0] != *kept;
}

static void test_the_oldest_go_until_the_rest_fits(void **state)
{
	(void)state;
	char kept = '-';
	char *newest = put('a', ".duckdb", 1000, 300), *oldest = put('b', ".duckdb", 1000, 100);
	char *middle = put('c', ".part", 1000, 200), *pid_part = put('d', "-17.part", 1000, 150);
	assert_int_equal(mg_cache_trim(folder, 4000, all_but, &kept), 4000);
	assert_true(mg_file_exists(oldest));
	assert_int_equal(mg_cache_trim(folder, 2500, all_but, &kept), 2000);
	assert_false(mg_file_exists(oldest) || mg_file_exists(pid_part));
	assert_true(mg_file_exists(newest) && mg_file_exists(middle));
	mg_free(newest);
	mg_free(oldest);
	mg_free(middle);
	mg_free(pid_part);
}

static void test_what_is_kept_or_not_ours_stays(void **state)
{
	(void)state;
	char kept = 'a';
	char *used = put('a', ".duckdb", 1000, 100), *free_one = put('b', ".duckdb", 1000, 200);
	char *other = put('e', ".txt", 1000, 1), *no_hash = put('x', ".duckdb", 1000, 1);
	assert_int_equal(mg_cache_trim(folder, 0, all_but, &kept), 1000);
	assert_true(mg_file_exists(used) && mg_file_exists(other) && mg_file_exists(no_hash));
	assert_false(mg_file_exists(free_one));
	mg_free(used);
	mg_free(free_one);
	mg_free(other);
	mg_free(no_hash);
}

static bool any(void *arg, const char *name)
{
	(void)arg;
	return strcmp(name, "own-1-abc-0003") != 0;
}

/* Copies that have changed are a worker's own, and count like the others. */
static void test_own_copies_count(void **state)
{
	(void)state;
	char *ours = mg_path_join(folder, "own-1-abc-0003.duckdb");
	char *old = mg_path_join(folder, "own-2-abc-0003.duckdb");
	char *lock = mg_path_join(folder, "own-1.lock");
	const char *const all[] = { ours, old, lock };
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(mg_file_write(all[i], folder, 10, 0600, NULL), 0);
	}
	assert_int_equal(mg_cache_trim(folder, 20, any, NULL), 20);
	assert_int_equal(mg_cache_trim(folder, 0, any, NULL), 10);
	assert_true(mg_file_exists(ours) && mg_file_exists(lock));
	assert_false(mg_file_exists(old));
	mg_free(ours);
	mg_free(old);
	mg_free(lock);
}

static void test_workers_of_a_folder_have_numbers(void **state)
{
	(void)state;
	unsigned first = 0, second = 0, again = 0;
	int locks[3] = { -1, -1, -1 };
	assert_int_equal(mg_cache_own_number(folder, &first, &locks[0], NULL), 0);
	assert_int_equal(mg_cache_own_number(folder, &second, &locks[1], NULL), 0);
	assert_int_equal(first, 1);
	assert_int_equal(second, 2);
	mg_dir_unlock(locks[0]);
	assert_int_equal(mg_cache_own_number(folder, &again, &locks[2], NULL), 0);
	assert_int_equal(again, 1);
	mg_dir_unlock(locks[1]);
	mg_dir_unlock(locks[2]);
}

static void test_the_default_is_half_of_what_there_is(void **state)
{
	(void)state;
	uint64_t free_bytes = 0, bytes = mg_cache_default_bytes(folder);
	assert_int_equal(mg_disk_free(folder, &free_bytes, NULL), 0);
	/* Others write to the disk at the same time. */
	assert_true(bytes > free_bytes / 3 && bytes < free_bytes / 3 * 2);
}

static void test_spills_of_the_dead_go(void **state)
{
	(void)state;
	char *dead = mg_format("%s/spill-%d-ab", folder, 0x3fffffff); /* above any pid_max */
	char *alive = mg_format("%s/spill-%ld-ab", folder, (long)getpid());
	char *other = mg_path_join(folder, "spill-x");
	const char *const all[] = { dead, alive, other };
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(mg_dir_make(all[i], 0700, NULL), 0);
	}
	mg_cache_remove_spills(folder);
	assert_false(mg_dir_exists(dead));
	assert_true(mg_dir_exists(alive) && mg_dir_exists(other));
	mg_free(dead);
	mg_free(alive);
	mg_free(other);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(test_the_oldest_go_until_the_rest_fits),
		IN_FOLDER(test_what_is_kept_or_not_ours_stays),
		IN_FOLDER(test_own_copies_count),
		IN_FOLDER(test_workers_of_a_folder_have_numbers),
		IN_FOLDER(test_the_default_is_half_of_what_there_is),
		IN_FOLDER(test_spills_of_the_dead_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
