/*
 * worker_cache.c - see worker_cache.h.
 *
 * Rule: a file goes only when its owner says so and no other process holds a lock on it: DuckDB
 * locks what it has attached, the fetcher locks what it writes.
 */
#include "exec/worker_cache.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH_LEN = 64, NAME_MAX_LEN = 80, OWN_MAX = 1000, LOCK_REST_MS = 10 };

struct copy {
	char *path;
	char name[NAME_MAX_LEN]; /* the hash; of an own one all but the ending */
	bool part;
	uint64_t bytes;
	int64_t used_s; /* when it was used last */
};

/* Is it the name of a copy, whole or not? */
static bool is_copy(const char *name, struct copy *copy)
{
	size_t len = strlen(name), end = strlen(".duckdb");
	if (strncmp(name, "own-", 4) == 0 && len > end && len - end < NAME_MAX_LEN &&
	    strcmp(name + len - end, ".duckdb") == 0) {
		memcpy(copy->name, name, len - end);
		copy->name[len - end] = '\0';
		copy->part = false;
		return true;
	}
	if (strspn(name, "0123456789abcdef") != HASH_LEN) {
		return false;
	}
	memcpy(copy->name, name, HASH_LEN);
	copy->name[HASH_LEN] = '\0';
	copy->part = len > 5 && strcmp(name + len - 5, ".part") == 0;
	return copy->part || strcmp(name + HASH_LEN, ".duckdb") == 0;
}

static int older_first(const void *a, const void *b)
{
	const struct copy *x = a, *y = b;
	return x->used_s < y->used_s ? -1 : x->used_s > y->used_s;
}

/* The copies in the folder, oldest first, in the arena; their bytes together. */
static uint64_t list_copies(struct mg_arena *arena, const char *dir, struct copy **out,
                            size_t *count)
{
	char **names = NULL;
	size_t name_count = 0;
	uint64_t bytes = 0;
	*count = 0;
	*out = NULL;
	if (mg_dir_list(dir, &names, &name_count, NULL)) {
		return 0;
	}
	*out = mg_arena_new_array(arena, struct copy, name_count + 1);
	for (size_t i = 0; i < name_count; i++) {
		struct copy *copy = &(*out)[*count];
		struct stat info;
		if (!is_copy(names[i], copy)) {
			continue;
		}
		copy->path = mg_arena_format(arena, "%s/%s", dir, names[i]);
		if (lstat(copy->path, &info) != 0 || !S_ISREG(info.st_mode)) {
			continue;
		}
		copy->bytes = (uint64_t)info.st_size;
		copy->used_s = info.st_mtim.tv_sec;
		bytes += copy->bytes;
		(*count)++;
	}
	mg_free(names);
	qsort(*out, *count, sizeof **out, older_first);
	return bytes;
}

uint64_t mg_cache_default_bytes(const char *dir)
{
	struct mg_arena *arena = mg_arena_new();
	struct copy *copies;
	size_t count;
	uint64_t bytes = list_copies(arena, dir, &copies, &count), free_bytes = 0;
	(void)mg_disk_free(dir, &free_bytes, NULL);
	mg_arena_free(arena);
	return (bytes + free_bytes) / 2;
}

uint64_t mg_cache_trim(const char *dir, uint64_t bytes,
                       bool (*may_remove)(void *arg, const char *name), void *arg)
{
	struct mg_arena *arena = mg_arena_new();
	struct copy *copies;
	size_t count;
	uint64_t left = list_copies(arena, dir, &copies, &count);
	for (size_t i = 0; left > bytes && i < count; i++) {
		struct copy *copy = &copies[i];
		if (!may_remove(arg, copy->name) || mg_file_is_locked(copy->path) ||
		    mg_file_remove(copy->path, NULL)) {
			continue;
		}
		left -= copy->bytes;
		mg_log(MG_LOG_INFO, "cache.removed", "file=\"%s\" bytes=%llu", copy->path,
		       (unsigned long long)copy->bytes);
	}
	mg_arena_free(arena);
	return left;
}

int mg_cache_own_number(const char *dir, unsigned *number, int *lock, struct mg_error *err)
{
	for (unsigned i = 1; i <= OWN_MAX; i++) {
		char *path = mg_format("%s/own-%u.lock", dir, i);
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		int failed = fd < 0 ? errno : 0;
		mg_free(path);
		if (fd < 0) {
			return mg_error_errno(err, failed, "cannot write to \"%s\"", dir);
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			*number = i;
			*lock = fd;
			return 0;
		}
		close(fd);
	}
	return mg_error_set(err, MG_E_BUSY, "%d workers share \"%s\"", OWN_MAX, dir);
}

int mg_cache_lock(const char *dir, uint64_t wait_ms, int *lock, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + wait_ms;
	char *path = mg_format("%s/own.lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int failed = fd < 0 ? errno : 0;
	mg_free(path);
	if (fd < 0) {
		return mg_error_errno(err, failed, "cannot write to \"%s\"", dir);
	}
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (mg_clock_ms() >= until) {
			close(fd);
			return mg_error_set(err, MG_E_BUSY, "another worker is changing files of \"%s\"", dir);
		}
		mg_sleep_ms(LOCK_REST_MS);
	}
	*lock = fd;
	return 0;
}

void mg_cache_remove_spills(const char *dir)
{
	static const char prefix[] = "spill-";
	char **names = NULL;
	size_t count = 0;
	if (mg_dir_list(dir, &names, &count, NULL)) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		char *end = NULL;
		long pid = strncmp(names[i], prefix, sizeof prefix - 1) == 0
		               ? strtol(names[i] + sizeof prefix - 1, &end, 10)
		               : 0;
		/* A worker in another container has other pids; its lock is what tells. */
		if (pid > 0 && (*end == '-' || *end == '\0') && kill((pid_t)pid, 0) != 0 &&
		    errno == ESRCH) {
			char *path = mg_path_join(dir, names[i]);
			int lock = -1;
			if (mg_dir_lock(path, &lock, NULL) == 0) {
				(void)mg_tree_remove(path, NULL);
				mg_dir_unlock(lock);
			}
			mg_free(path);
		}
	}
	mg_free(names);
}
