/*
 * dir.c - directories: making, listing, removing, measuring, and the lock that makes one ours.
 */
#include "os/file.h"

#include "base/mem.h"
#include "base/str.h"
#include "os/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OPEN_DIRS_MAX 16

int mg_dir_make(const char *path, unsigned mode, struct mg_error *err)
{
	char *part = mg_strdup(path);
	int code = MG_OK;
	size_t len = strlen(part);
	for (size_t i = 1; i <= len && code == MG_OK; i++) {
		if (part[i] != '/' && part[i] != '\0') {
			continue;
		}
		char kept = part[i];
		part[i] = '\0';
		if (mkdir(part, (mode_t)mode) != 0 && errno != EEXIST && !mg_dir_exists(part)) {
			code = mg_error_errno(err, errno, "cannot make directory \"%s\"", part);
		}
		part[i] = kept;
	}
	if (code == MG_OK && !mg_dir_exists(path)) {
		code = mg_error_set(err, MG_E_IO, "\"%s\" is not a directory", path);
	}
	mg_free(part);
	return code;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
	(void)info;
	(void)where;
	int failed = kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path);
	return failed && errno != ENOENT ? errno : 0;
}

int mg_tree_remove(const char *path, struct mg_error *err)
{
	if (!mg_file_exists(path)) {
		return MG_OK;
	}
	int failed = nftw(path, remove_one, OPEN_DIRS_MAX, FTW_DEPTH | FTW_PHYS);
	if (failed == 0) {
		return MG_OK;
	}
	return mg_error_errno(err, failed < 0 ? errno : failed, "cannot remove \"%s\"", path);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names lie one after the other, each with its zero; move them and their index into one block.
 */
static char **index_names(const struct mg_sb *names, size_t count)
{
	size_t table = count * sizeof(char *);
	char **index = mg_alloc(table + names->len);
	char *text = (char *)index + table;
	if (names->len) {
		memcpy(text, names->ptr, names->len);
	}
	for (size_t i = 0; i < count; i++) {
		index[i] = text;
		text += strlen(text) + 1;
	}
	if (count > 1) {
		qsort(index, count, sizeof *index, compare_names);
	}
	return index;
}

int mg_dir_list(const char *path, char ***names, size_t *count, struct mg_error *err)
{
	DIR *dir = opendir(path);
	if (!dir) {
		return mg_error_errno(err, errno, "cannot list \"%s\"", path);
	}
	struct mg_sb found = { 0 };
	size_t number = 0;
	int code = MG_OK;
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry) {
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			mg_sb_add_len(&found, entry->d_name, strlen(entry->d_name) + 1);
			number++;
		}
	}
	if (errno) {
		code = mg_error_errno(err, errno, "cannot list \"%s\"", path);
		goto out;
	}
	*names = index_names(&found, number);
	*count = number;
out:
	mg_sb_fini(&found);
	closedir(dir);
	return code;
}

/* Names sort by their time. */
static void remove_all_but_newest(const char *dir, const char *prefix)
{
	char **names;
	size_t count, found = 0;
	if (mg_dir_list(dir, &names, &count, NULL) != MG_OK) {
		return;
	}
	for (size_t i = count; i > 0; i--) {
		if (strncmp(names[i - 1], prefix, strlen(prefix)) == 0 && found++ > 0) {
			char *path = mg_path_join(dir, names[i - 1]);
			(void)mg_tree_remove(path, NULL);
			mg_free(path);
		}
	}
	mg_free(names);
}

char *mg_dir_keep(const char *dir, const char *prefix)
{
	time_t now = (time_t)(mg_clock_wall_ms() / 1000);
	struct tm at;
	char text[32];
	remove_all_but_newest(dir, prefix);
	(void)gmtime_r(&now, &at);
	(void)strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &at);
	return mg_format("%s/%s%s", dir, prefix, text);
}

uint64_t mg_dir_size(const char *path)
{
	struct stat info;
	if (lstat(path, &info) != 0) {
		return 0;
	}
	if (!S_ISDIR(info.st_mode)) {
		return S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
	}
	char **names;
	size_t count;
	if (mg_dir_list(path, &names, &count, NULL) != MG_OK) {
		return 0;
	}
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++) {
		char *below = mg_path_join(path, names[i]);
		sum += mg_dir_size(below);
		mg_free(below);
	}
	mg_free(names);
	return sum;
}

/* ---- the lock ---- */

static int refuse_lock(int fd, const char *dir, struct mg_error *err)
{
	char holder[32] = { 0 };
	ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
	long pid = got > 0 ? strtol(holder, NULL, 10) : 0;
	int code =
		mg_error_set(err, MG_E_BUSY, "data directory \"%s\" is used by process %ld", dir, pid);
	mg_error_hint(err, "Stop that process, or choose another data directory.");
	return code;
}

int mg_dir_lock(const char *dir, int *lock, struct mg_error *err)
{
	char *path = mg_path_join(dir, "node.lock");
	int code = MG_OK;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		code = mg_error_errno(err, errno, "cannot open \"%s\"", path);
		goto out;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		code = errno == EWOULDBLOCK ? refuse_lock(fd, dir, err)
		                            : mg_error_errno(err, errno, "cannot lock \"%s\"", path);
		close(fd);
		goto out;
	}
	/* The pid is only for the message of whoever is refused; the kernel's lock decides. */
	char text[32];
	int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
		code = mg_error_errno(err, errno, "cannot write \"%s\"", path);
		close(fd);
		goto out;
	}
	*lock = fd;
out:
	mg_free(path);
	return code;
}

void mg_dir_unlock(int lock)
{
	if (lock >= 0) {
		close(lock);
	}
}
