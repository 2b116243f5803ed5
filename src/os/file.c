/*
 * file.c - reading, replacing, hashing and removing files.
 *
 * Every write loop takes short writes and EINTR; every close after writing is checked, because
 * some file systems report a full disk only there.
 */
#include "os/file.h"

#include "base/mem.h"
#include "os/clock.h"
#include "os/random.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECE (1024 * 1024)

static ssize_t read_some(int fd, void *to, size_t size)
{
	ssize_t got;
	do {
		got = read(fd, to, size);
	} while (got < 0 && errno == EINTR);
	return got;
}

static int open_read(const char *path, int *fd, struct mg_error *err)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0) {
		return mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	return MG_OK;
}

/* Reads until the end, not until st_size: /proc and /sys say 0 there. */
static int read_all(int fd, const char *path, size_t size_max, char **out, size_t *size,
                    struct mg_error *err)
{
	size_t used = 0;
	size_t cap = 4096;
	struct stat info;
	if (fstat(fd, &info) == 0 && info.st_size > 0 && (uint64_t)info.st_size <= size_max) {
		cap = (size_t)info.st_size + 2;
	}
	char *text = mg_alloc(cap);
	for (;;) {
		ssize_t got = read_some(fd, text + used, cap - used - 1);
		if (got < 0) {
			int code = mg_error_errno(err, errno, "cannot read \"%s\"", path);
			mg_free(text);
			return code;
		}
		used += (size_t)got;
		if (used > size_max) {
			mg_free(text);
			return mg_error_set(err, MG_E_LIMIT, "file \"%s\" is larger than %zu bytes", path,
			                    size_max);
		}
		if (got == 0) {
			break;
		}
		if (cap - used < 2) {
			cap *= 2;
			text = mg_realloc(text, cap);
		}
	}
	text[used] = '\0';
	*out = text;
	*size = used;
	return MG_OK;
}

int mg_file_read(const char *path, size_t size_max, char **out, size_t *size, struct mg_error *err)
{
	int fd;
	int code = open_read(path, &fd, err);
	if (code) {
		return code;
	}
	size_t length = 0;
	code = read_all(fd, path, size_max, out, &length, err);
	close(fd);
	if (size && code == MG_OK) {
		*size = length;
	}
	return code;
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t done = write(fd, data, size);
		if (done < 0) {
			if (errno == EINTR) {
				continue;
			}
			return errno;
		}
		data += done;
		size -= (size_t)done;
	}
	return 0;
}

/* Write, sync and close a new file; errno or 0. */
static int fill_new(const char *path, const void *data, size_t size, unsigned mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return errno;
	}
	int failed = write_all(fd, data, size);
	if (!failed && fchmod(fd, (mode_t)mode) != 0) {
		failed = errno;
	}
	if (!failed && fsync(fd) != 0) {
		failed = errno;
	}
	if (close(fd) != 0 && !failed) {
		failed = errno;
	}
	return failed;
}

/* The directory part of a path, heap. */
static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	if (!slash) {
		return mg_strdup(".");
	}
	return slash == path ? mg_strdup("/") : mg_strndup(path, (size_t)(slash - path));
}

static int sync_parent(const char *path, struct mg_error *err)
{
	char *parent = parent_of(path);
	int code = mg_file_sync(parent, err);
	mg_free(parent);
	return code;
}

int mg_file_write(const char *path, const void *data, size_t size, unsigned mode,
                  struct mg_error *err)
{
	char suffix[17];
	char *temporary = mg_format("%s.%s.tmp", path, mg_random_hex(suffix, 8));
	int code = MG_OK;
	int failed = fill_new(temporary, data, size, mode);
	if (!failed && rename(temporary, path) != 0) {
		failed = errno;
	}
	if (failed) {
		unlink(temporary);
		code = mg_error_errno(err, failed, "cannot write \"%s\"", path);
		goto out;
	}
	code = sync_parent(path, err);
out:
	mg_free(temporary);
	return code;
}

int mg_file_remove(const char *path, struct mg_error *err)
{
	if (unlink(path) != 0 && errno != ENOENT) {
		return mg_error_errno(err, errno, "cannot remove \"%s\"", path);
	}
	return MG_OK;
}

bool mg_file_is_locked(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		return false;
	}
	bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0 ||
	              (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK);
	close(fd);
	return locked;
}

void mg_file_touch(const char *path)
{
	(void)utimensat(AT_FDCWD, path, NULL, 0);
}

int mg_file_rename(const char *from, const char *to, struct mg_error *err)
{
	if (rename(from, to) != 0) {
		return mg_error_errno(err, errno, "cannot rename \"%s\" to \"%s\"", from, to);
	}
	return sync_parent(to, err);
}

int mg_file_sync(const char *path, struct mg_error *err)
{
	int fd;
	int code = open_read(path, &fd, err);
	if (code) {
		return code;
	}
	/* Some file systems have no sync of directories and say EINVAL. */
	if (fsync(fd) != 0 && errno != EINVAL) {
		code = mg_error_errno(err, errno, "cannot sync \"%s\"", path);
	}
	close(fd);
	return code;
}

bool mg_file_exists(const char *path)
{
	struct stat info;
	return lstat(path, &info) == 0;
}

bool mg_dir_exists(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

uint64_t mg_file_fd_size(int fd)
{
	struct stat info;
	return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
}

void mg_file_fd_empty(int fd)
{
	if (mg_file_fd_size(fd) > 0 && ftruncate(fd, 0) != 0) {
		return; /* What stays has no footer, so nobody can take it for whole. */
	}
}

int mg_file_size(const char *path, uint64_t *size, struct mg_error *err)
{
	struct stat info;
	if (stat(path, &info) != 0) {
		return mg_error_errno(err, errno, "cannot look at \"%s\"", path);
	}
	*size = (uint64_t)info.st_size;
	return MG_OK;
}

int mg_file_sha256(const char *path, char out[MG_SHA256_TEXT_SIZE], struct mg_error *err)
{
	int fd;
	int code = open_read(path, &fd, err);
	if (code) {
		return code;
	}
	unsigned char digest[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	unsigned char *piece = mg_alloc(PIECE);
	ssize_t got;
	crypto_hash_sha256_init(&state);
	while ((got = read_some(fd, piece, PIECE)) > 0) {
		crypto_hash_sha256_update(&state, piece, (unsigned long long)got);
	}
	if (got < 0) {
		code = mg_error_errno(err, errno, "cannot read \"%s\"", path);
		goto out;
	}
	crypto_hash_sha256_final(&state, digest);
	sodium_bin2hex(out, MG_SHA256_TEXT_SIZE, digest, sizeof digest);
out:
	mg_free(piece);
	close(fd);
	return code;
}

char *mg_path_join(const char *dir, const char *name)
{
	size_t len = strlen(dir);
	const char *between = len == 0 || dir[len - 1] == '/' ? "" : "/";
	return mg_format("%s%s%s", dir, between, name);
}

int mg_disk_free(const char *path, uint64_t *bytes, struct mg_error *err)
{
	struct statvfs info;
	if (statvfs(path, &info) != 0) {
		return mg_error_errno(err, errno, "cannot ask for free space of \"%s\"", path);
	}
	*bytes = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
	return MG_OK;
}

int mg_disk_room(struct mg_disk_room *room, const char *path, uint64_t *bytes,
                 struct mg_error *err)
{
	uint64_t now_ms = mg_clock_ms();

	if (now_ms >= atomic_load(&room->until_ms)) {
		int code = mg_disk_free(path, bytes, err);

		if (code) {
			return code;
		}
		atomic_store(&room->bytes, *bytes);
		atomic_store(&room->until_ms, now_ms + MG_DISK_ROOM_MS);
	}
	*bytes = atomic_load(&room->bytes);
	return 0;
}
