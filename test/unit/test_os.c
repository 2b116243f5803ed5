/* test_os.c - real files, real processes, and cgroups made of paper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "os/process.h"
#include "os/random.h"
#include "os/thread.h"
#include "os/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *folder; /* of its own for each test */

static int make_folder(void **state)
{
	(void)state;
	char name[17];
	folder = mg_format("/tmp/mg_test_os_%s", mg_random_hex(name, 8));
	return mg_dir_make(folder, 0700, NULL);
}

static int remove_folder(void **state)
{
	(void)state;
	int code = mg_tree_remove(folder, NULL);
	mg_free(folder);
	return code;
}

static void check(int code, const struct mg_error *err)
{
	if (code) {
		fail_msg("%s", err->message);
	}
}

/* ---- files ---- */

static void test_files_are_written_whole_with_their_mode(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *path = mg_path_join(folder, "file");
	char *text = NULL;
	size_t size = 0;
	struct stat info;
	mode_t before = umask(077);
	check(mg_file_write(path, "hello", 5, 0644, &err), &err);
	umask(before);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0644);
	check(mg_file_read(path, 100, &text, &size, &err), &err);
	assert_int_equal(size, 5);
	assert_string_equal(text, "hello");
	mg_free(text);
	check(mg_file_write(path, "", 0, 0600, &err), &err);
	check(mg_file_read(path, 0, &text, &size, &err), &err);
	assert_int_equal(size, 0);
	mg_free(text);
	check(mg_file_write(path, "0123456789", 10, 0600, &err), &err);
	assert_int_equal(mg_file_read(path, 9, &text, &size, &err), MG_E_LIMIT);
	/* nothing else was left behind */
	char **names = NULL;
	size_t count = 0;
	check(mg_dir_list(folder, &names, &count, &err), &err);
	assert_int_equal(count, 1);
	assert_string_equal(names[0], "file");
	mg_free(names);
	mg_free(path);
}

static void test_the_newest_two_are_kept(void **state)
{
	static const char *const before[] = { "bad-20250101T000000Z.x", "bad-20251231T000000Z.x",
		                                  "bad-20250202T000000Z.x", "other-20200101T000000Z.x" };
	struct mg_error err = { 0 };
	char **names = NULL;
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char *path = mg_path_join(folder, before[i]);
		int code = i == 2 ? mg_dir_make(path, 0700, &err)
		                  : mg_file_write(path, "", 0, 0600, &err);

		check(code, &err);
		mg_free(path);
	}
	char *path = mg_dir_keep(folder, "bad-");
	assert_int_equal(strlen(path), strlen(folder) + strlen("/bad-20250101T000000Z"));
	assert_int_equal(strncmp(path + strlen(folder), "/bad-20", 7), 0);
	assert_false(mg_file_exists(path));
	check(mg_dir_list(folder, &names, &count, &err), &err);
	assert_int_equal(count, 2);
	assert_string_equal(names[0], before[1]);
	assert_string_equal(names[1], before[3]);
	mg_free(names);
	mg_free(path);
}

static void test_missing_files_are_said_to_be_missing(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *path = mg_path_join(folder, "absent");
	char *text = NULL;
	uint64_t size;
	char digest[MG_SHA256_TEXT_SIZE];
	assert_int_equal(mg_file_read(path, 10, &text, NULL, &err), MG_E_NOT_FOUND);
	assert_non_null(strstr(err.message, path));
	assert_int_equal(mg_file_size(path, &size, &err), MG_E_NOT_FOUND);
	assert_int_equal(mg_file_sha256(path, digest, &err), MG_E_NOT_FOUND);
	assert_int_equal(mg_file_remove(path, &err), 0);
	assert_int_equal(mg_tree_remove(path, &err), 0);
	assert_false(mg_file_exists(path));
	char *below = mg_path_join(path, "x");
	assert_int_equal(mg_file_write(below, "x", 1, 0600, &err), MG_E_NOT_FOUND);
	mg_free(below);
	mg_free(path);
}

static void test_digests_are_sha256(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *path = mg_path_join(folder, "d");
	char digest[MG_SHA256_TEXT_SIZE];
	check(mg_file_write(path, "abc", 3, 0600, &err), &err);
	check(mg_file_sha256(path, digest, &err), &err);
	assert_string_equal(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	size_t size = 1024 * 1024 + 17; /* more than one piece */
	char *zeros = mg_alloc0(size);
	check(mg_file_write(path, zeros, size, 0600, &err), &err);
	check(mg_file_sha256(path, digest, &err), &err);
	assert_string_equal(digest, "f2c67c81372d31a24e3fe5ac0c10685e97d8d6b671ace65d75fd243d3741f59e");
	mg_free(zeros);
	mg_free(path);
}

static void test_trees_are_made_listed_measured_and_removed(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *deep = mg_path_join(folder, "a//b/c/");
	check(mg_dir_make(deep, 0755, &err), &err);
	check(mg_dir_make(deep, 0755, &err), &err);
	assert_true(mg_dir_exists(deep));
	char *file = mg_path_join(deep, "file");
	check(mg_file_write(file, "12345", 5, 0600, &err), &err);
	assert_int_equal(mg_dir_make(file, 0755, &err), MG_E_IO);
	/* a link out of the tree is removed, what it points to is not */
	char *outside = mg_format("%s.outside", folder);
	check(mg_file_write(outside, "keep", 4, 0600, &err), &err);
	char *link = mg_path_join(deep, "link");
	assert_int_equal(symlink(outside, link), 0);
	assert_int_equal(mg_dir_size(folder), 5);
	char *top = mg_path_join(folder, "a");
	check(mg_tree_remove(top, &err), &err);
	assert_false(mg_file_exists(top));
	assert_true(mg_file_exists(outside));
	check(mg_file_remove(outside, &err), &err);
	uint64_t bytes = 0;
	check(mg_disk_free(folder, &bytes, &err), &err);
	assert_true(bytes > 0);
	mg_free(top);
	mg_free(link);
	mg_free(outside);
	mg_free(file);
	mg_free(deep);
}

/* ---- the lock ---- */

static void test_a_locked_directory_is_refused_until_its_holder_is_killed(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	int ready[2];
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (child == 0) {
		int lock;
		char byte = mg_dir_lock(folder, &lock, NULL) == 0 ? 'y' : 'n';
		ssize_t done = write(ready[1], &byte, 1);
		(void)done;
		for (;;) {
			pause();
		}
	}
	char byte = 0;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	int lock = -1;
	assert_int_equal(mg_dir_lock(folder, &lock, &err), MG_E_BUSY);
	char pid[20];
	snprintf(pid, sizeof pid, "%d", (int)child);
	assert_non_null(strstr(err.message, pid));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	check(mg_dir_lock(folder, &lock, &err), &err);
	mg_dir_unlock(lock);
	check(mg_dir_lock(folder, &lock, &err), &err);
	mg_dir_unlock(lock);
	close(ready[0]);
	close(ready[1]);
}

/* A child that holds a lock on the file, by flock or by fcntl, until it is killed. */
static pid_t hold_lock(const char *path, bool by_flock)
{
	int ready[2];
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (child == 0) {
		struct flock shared = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
		int fd = open(path, O_RDONLY);
		int failed = by_flock ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLK, &shared);
		ssize_t done = write(ready[1], failed ? "n" : "y", 1);
		(void)done;
		for (;;) {
			pause();
		}
	}
	char byte = 0;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	close(ready[0]);
	close(ready[1]);
	return child;
}

static void test_locks_of_others_are_seen(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *path = mg_path_join(folder, "copy");
	assert_false(mg_file_is_locked(path));
	check(mg_file_write(path, "x", 1, 0600, &err), &err);
	assert_false(mg_file_is_locked(path));
	for (int by_flock = 0; by_flock < 2; by_flock++) {
		pid_t child = hold_lock(path, by_flock);
		assert_true(mg_file_is_locked(path));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		assert_false(mg_file_is_locked(path));
	}
	mg_free(path);
}

static void test_a_started_program_does_not_keep_the_lock(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	int lock = -1;
	check(mg_dir_lock(folder, &lock, &err), &err);
	struct mg_process child;
	const char *argv[] = { "sleep", "30", NULL };
	struct mg_process_options options = { .argv = argv, .die_with_parent = true };
	check(mg_process_start(&child, &options, &err), &err);
	mg_dir_unlock(lock);
	check(mg_dir_lock(folder, &lock, &err), &err);
	mg_dir_unlock(lock);
	mg_process_stop(&child, 0);
}

/* ---- processes ---- */

static void test_output_and_status_are_caught(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	char *out = NULL;
	int status = -1;
	const char *argv[] = { "sh", "-c", "echo out; echo err >&2; exit 3", NULL };
	check(mg_process_run(argv, &out, &status, &err), &err);
	assert_string_equal(out, "out\nerr\n");
	assert_int_equal(status, 3);
	mg_free(out);
	const char *killed[] = { "sh", "-c", "kill -9 $$", NULL };
	check(mg_process_run(killed, NULL, &status, &err), &err);
	assert_int_equal(status, 128 + SIGKILL);
	const char *absent[] = { "merganser-no-such-program", NULL };
	assert_int_equal(mg_process_run(absent, &out, &status, &err), MG_E_NOT_FOUND);
}

static void test_environment_input_and_folder_reach_the_child(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	struct mg_process child;
	setenv("MG_TEST_KEEP", "kept", 1);
	setenv("MG_TEST_REPLACE", "old", 1);
	const char *argv[] = { "sh", "-c",
		                   "read line; echo $line $MG_TEST_KEEP $MG_TEST_REPLACE $MG_TEST_NEW; pwd",
		                   NULL };
	const char *env[] = { "MG_TEST_REPLACE=new", "MG_TEST_NEW=added", NULL };
	struct mg_process_options options = {
		.argv = argv,
		.env = env,
		.cwd = folder,
		.in = MG_STDIO_PIPE,
		.out = MG_STDIO_PIPE,
		.err = MG_STDIO_NULL,
	};
	check(mg_process_start(&child, &options, &err), &err);
	assert_int_equal(write(child.in_fd, "typed\n", 6), 6);
	char text[512] = { 0 };
	size_t used = 0;
	ssize_t got;
	while ((got = read(child.out_fd, text + used, sizeof text - 1 - used)) > 0) {
		used += (size_t)got;
	}
	char *expected = mg_format("typed kept new added\n%s\n", folder);
	assert_string_equal(text, expected);
	int status = -1;
	assert_true(mg_process_wait(&child, UINT32_MAX, &status));
	assert_int_equal(status, 0);
	mg_process_close(&child);
	mg_free(expected);
}

static void test_waiting_has_an_end_and_stopping_insists(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	struct mg_process child;
	const char *argv[] = { "sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done", NULL };
	struct mg_process_options options = { .argv = argv,
		                                  .out = MG_STDIO_PIPE,
		                                  .die_with_parent = true };
	check(mg_process_start(&child, &options, &err), &err);
	char byte;
	assert_int_equal(read(child.out_fd, &byte, 1), 1); /* the trap is set */
	uint64_t start = mg_clock_ms();
	assert_false(mg_process_wait(&child, 50, NULL));
	assert_in_range(mg_clock_ms() - start, 50, 5000);
	int pid = child.pid;
	mg_process_stop(&child, 50);
	assert_int_equal(child.pid, 0);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void test_children_do_not_outlive_a_killed_parent(void **state)
{
	(void)state;
	int report[2];
	assert_int_equal(pipe(report), 0);
	pid_t middle = fork();
	if (middle == 0) {
		struct mg_process child;
		const char *argv[] = { "sleep", "60", NULL };
		struct mg_process_options options = { .argv = argv, .die_with_parent = true };
		int pid = mg_process_start(&child, &options, NULL) == 0 ? child.pid : 0;
		ssize_t done = write(report[1], &pid, sizeof pid);
		(void)done;
		for (;;) {
			pause();
		}
	}
	int pid = 0;
	assert_int_equal(read(report[0], &pid, sizeof pid), sizeof pid);
	assert_true(pid > 0);
	kill(middle, SIGKILL);
	waitpid(middle, NULL, 0);
	/* The orphan is dead, though perhaps not yet collected by init. */
	char *stat_path = mg_format("/proc/%d/stat", pid);
	bool gone = false;
	for (int i = 0; i < 200 && !gone; i++) {
		char *text = NULL;
		if (mg_file_read(stat_path, 4096, &text, NULL, NULL) != 0) {
			gone = true;
		} else {
			const char *name_end = strrchr(text, ')');
			gone = name_end && name_end[2] == 'Z';
			mg_free(text);
		}
		mg_sleep_ms(10);
	}
	assert_true(gone);
	mg_free(stat_path);
	close(report[0]);
	close(report[1]);
}

static void test_output_goes_to_files(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	struct mg_process child;
	char *path = mg_path_join(folder, "log");
	const char *argv[] = { "sh", "-c", "echo line; echo more >&2", NULL };
	struct mg_process_options options = {
		.argv = argv,
		.out = MG_STDIO_FILE,
		.err = MG_STDIO_OUT,
		.out_path = path,
	};
	for (int i = 0; i < 2; i++) {
		check(mg_process_start(&child, &options, &err), &err);
		assert_true(mg_process_wait(&child, UINT32_MAX, NULL));
	}
	char *text = NULL;
	check(mg_file_read(path, 1000, &text, NULL, &err), &err);
	assert_string_equal(text, "line\nmore\nline\nmore\n");
	mg_free(text);
	mg_free(path);
	char *self = mg_process_self_path();
	assert_non_null(self);
	assert_true(mg_file_exists(self));
	mg_free(self);
}

/* ---- limits ---- */

static void put(const char *path, const char *text)
{
	struct mg_error err = { 0 };
	char *whole = mg_format("%s%s", folder, path);
	char *dir = mg_strndup(whole, (size_t)(strrchr(whole, '/') - whole));
	check(mg_dir_make(dir, 0755, &err), &err);
	check(mg_file_write(whole, text, strlen(text), 0644, &err), &err);
	mg_free(dir);
	mg_free(whole);
}

static void test_cgroup_v2_limits_of_all_ancestors_hold(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/memory.max", "2147483648\n");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
	put("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
	assert_int_equal(mg_os_cgroup_memory(folder), UINT64_C(2147483648));
	assert_int_equal(mg_os_cgroup_millicores(folder), 1500);
	put("/sys/fs/cgroup/memory.max", "1048576\n");
	assert_int_equal(mg_os_cgroup_memory(folder), 1048576);
}

static void test_cgroup_v1_limits_hold(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "12:pids:/x\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n");
	/* inside of a container the named group is not visible, the mount's root is ours */
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
	put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
	put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
	assert_int_equal(mg_os_cgroup_memory(folder), 536870912);
	assert_int_equal(mg_os_cgroup_millicores(folder), 2000);
	put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
	assert_true(mg_os_cgroup_millicores(folder) == UINT64_MAX);
}

static void test_limits_of_this_machine_are_sane(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "");
	assert_true(mg_os_cgroup_memory(folder) == UINT64_MAX);
	assert_in_range(mg_os_cores(), 1, 4096);
	assert_true(mg_os_memory_bytes() >= 64u * 1024 * 1024);
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	assert_true((long)mg_os_cores() <= online);
}

static void test_the_name_of_the_cores_tells_places_apart(void **state)
{
	(void)state;
	char name[MG_OS_CORES_NAME_SIZE];
	char other[MG_OS_CORES_NAME_SIZE];
	mg_os_cores_name_below(folder, name);
	assert_string_equal(name, ""); /* no boot id: this machine does not say which one it is */
	put("/proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555\n");
	put("/proc/self/cgroup", "0::/a\n");
	mg_os_cores_name_below(folder, name);
	assert_int_equal(strlen(name), MG_OS_CORES_NAME_SIZE - 1);
	/* a group without a quota, or with one beyond the machine, uses the same cores */
	put("/proc/self/cgroup", "0::/b\n");
	put("/sys/fs/cgroup/b/cpu.max", "max 100000\n");
	mg_os_cores_name_below(folder, other);
	assert_string_equal(name, other);
	put("/sys/fs/cgroup/b/cpu.max", "900000000 100000\n");
	mg_os_cores_name_below(folder, other);
	assert_string_equal(name, other);
	/* two groups with quotas of their own do not */
	put("/sys/fs/cgroup/b/cpu.max", "50000 100000\n");
	mg_os_cores_name_below(folder, other);
	assert_string_not_equal(name, other);
	put("/proc/self/cgroup", "0::/c\n");
	put("/sys/fs/cgroup/c/cpu.max", "50000 100000\n");
	mg_os_cores_name_below(folder, name);
	assert_string_not_equal(name, other);
	/* nor do two machines */
	put("/proc/sys/kernel/random/boot_id", "66666666-2222-3333-4444-555555555555\n");
	mg_os_cores_name_below(folder, other);
	assert_string_not_equal(name, other);
}

/* ---- clock, chance, terminal ---- */

static void test_times_and_random_bytes(void **state)
{
	(void)state;
	char text[MG_CLOCK_TEXT_SIZE];
	assert_string_equal(mg_clock_format(0, text), "1970-01-01T00:00:00.000Z");
	assert_string_equal(mg_clock_format(1582974245678, text), "2020-02-29T11:04:05.678Z");
	assert_string_equal(mg_clock_format(-1, text), "1969-12-31T23:59:59.999Z");
	uint64_t start = mg_clock_us();
	mg_sleep_ms(5);
	assert_true(mg_clock_us() - start >= 5000);
	assert_true(mg_clock_wall_ms() > 1700000000000);
	char a[33];
	char b[33];
	mg_random_hex(a, 16);
	mg_random_hex(b, 16);
	assert_int_equal(strlen(a), 32);
	assert_int_equal(strspn(a, "0123456789abcdef"), 32);
	assert_string_not_equal(a, b);
	bool seen[5] = { false };
	for (int i = 0; i < 500; i++) {
		uint32_t value = mg_random_below(5);
		assert_true(value < 5);
		seen[value] = true;
	}
	assert_true(seen[0] && seen[1] && seen[2] && seen[3] && seen[4]);
	assert_true(mg_random_u64() != mg_random_u64());
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	assert_false(mg_tty_is(fds[0]));
	assert_int_equal(mg_tty_columns(fds[0]), 80);
	close(fds[0]);
	close(fds[1]);
}

/* In a process of its own: it stays so. */
static void test_a_prompt_thread_has_short_turns_and_no_larger_share(void **state)
{
	(void)state;
	pid_t child = fork();

	if (child == 0) {
		struct sched_attr before = { .size = sizeof before }, after = before;
		bool good = nice(1) != -1 && syscall(SYS_sched_getattr, 0, &before, sizeof before, 0) == 0;

		mg_thread_prompt();
		good = good && syscall(SYS_sched_getattr, 0, &after, sizeof after, 0) == 0 &&
		       after.sched_policy == before.sched_policy && after.sched_nice == before.sched_nice;
		/* 0: the system has one length for all. */
		good = good && (before.sched_runtime ? after.sched_runtime < 1000000
		                                     : after.sched_runtime == 0);
		mg_thread_patient();
		good = good && syscall(SYS_sched_getattr, 0, &after, sizeof after, 0) == 0 &&
		       after.sched_runtime == before.sched_runtime;
		_exit(good ? 0 : 1);
	}
	int status = -1;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

/* ---- memory ---- */

/* In a child, which gives up its memory at the end: at the fence large things are refused, small
 * ones are not. */
static int live_at_the_fence(bool hard)
{
	struct rlimit limit;
	void *last = NULL;

	if (getrlimit(RLIMIT_DATA, &limit) != 0) {
		return 1;
	}
	limit.rlim_cur = (rlim_t)512 << 20;
	limit.rlim_max = hard ? limit.rlim_cur : limit.rlim_max;
	if (setrlimit(RLIMIT_DATA, &limit) != 0) {
		return 1;
	}
	mg_os_memory_fence();
	if (mg_os_memory_short()) {
		return 4;
	}
	for (size_t size = (size_t)64 << 20; size > 16; size /= 2) {
		for (void **piece; (piece = mg_try_alloc(size)) != NULL; last = piece) {
			*piece = last;
		}
	}
	if (mg_try_alloc(64 << 10)) {
		return 2; /* there is no fence */
	}
	for (int i = 0; i < 1000; i++) {
		*(char *)mg_alloc(1000) = 1; /* ends the process when it gets nothing */
	}
	if (!mg_os_memory_short() || mg_os_memory_short()) {
		return 5; /* it is told, once */
	}
	if (mg_try_alloc((size_t)64 << 20)) {
		return 3;
	}
	for (int i = 0; mg_mem_small(10000, true); i++) {
		if (i == 100000) {
			return 6; /* a thread that can do without takes little of it */
		}
	}
	if (!mg_mem_small(10000, false)) {
		return 7;
	}
	while (mg_mem_small(10000, false)) { /* the reserve has an end, and says so */
	}
	return 0;
}

static void test_small_things_are_had_at_the_fence(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip();
#endif
	for (int hard = 0; hard < 2; hard++) {
		pid_t child = fork();
		int status = 0;

		if (child == 0) {
			_exit(live_at_the_fence(hard));
		}
		assert_true(child > 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(test_files_are_written_whole_with_their_mode),
		IN_FOLDER(test_the_newest_two_are_kept),
		IN_FOLDER(test_missing_files_are_said_to_be_missing),
		IN_FOLDER(test_digests_are_sha256),
		IN_FOLDER(test_trees_are_made_listed_measured_and_removed),
		IN_FOLDER(test_a_locked_directory_is_refused_until_its_holder_is_killed),
		IN_FOLDER(test_locks_of_others_are_seen),
		IN_FOLDER(test_a_started_program_does_not_keep_the_lock),
		IN_FOLDER(test_output_and_status_are_caught),
		IN_FOLDER(test_environment_input_and_folder_reach_the_child),
		IN_FOLDER(test_waiting_has_an_end_and_stopping_insists),
		IN_FOLDER(test_children_do_not_outlive_a_killed_parent),
		IN_FOLDER(test_output_goes_to_files),
		IN_FOLDER(test_cgroup_v2_limits_of_all_ancestors_hold),
		IN_FOLDER(test_cgroup_v1_limits_hold),
		IN_FOLDER(test_limits_of_this_machine_are_sane),
		IN_FOLDER(test_the_name_of_the_cores_tells_places_apart),
		cmocka_unit_test(test_times_and_random_bytes),
		cmocka_unit_test(test_a_prompt_thread_has_short_turns_and_no_larger_share),
		cmocka_unit_test(test_small_things_are_had_at_the_fence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
