/* granted.c - see granted.h. */
#include "os/granted.h"

#include "base/mem.h"
#include "base/str.h"
#include "os/random.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The next directory of the list, which is the caller's; NULL: the end. */
static char *next_dir(const char **list)
{
	while (**list == ':') {
		(*list)++;
	}
	size_t len = strcspn(*list, ":");
	char *dir = len ? mg_strndup(*list, len) : NULL;

	*list += len;
	return dir;
}

int mg_granted_check(const char *dirs, struct mg_error *err)
{
	const char *list = dirs ? dirs : "";
	int code = 0;

	for (char *dir = next_dir(&list); dir; dir = next_dir(&list)) {
		struct stat info;

		if (!code && (*dir != '/' || stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))) {
			code = mg_error_set(err, MG_E_USAGE, "\"%s\" is no absolute path of a directory", dir);
		}
		mg_free(dir);
	}
	return code;
}

/* What of the path lies below the directory, as it is written; NULL: it lies elsewhere. */
static const char *below(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	if (*path != '/') {
		return path;
	}
	while (len > 0 && dir[len - 1] == '/') {
		len--;
	}
	if (strncmp(path, dir, len) != 0 || path[len] != '/') {
		return NULL;
	}
	path += len;
	return path + strspn(path, "/");
}

/* No FIFO keeps us waiting, no terminal becomes ours. */
enum {
	TO_READ = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	AS_PLACE = O_RDONLY | O_DIRECTORY | O_CLOEXEC
};

static int open_below(const char *dir, const char *rest, int flags)
{
	const struct open_how how = {
		.flags = (unsigned)flags,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int base = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (base < 0) {
		return -1;
	}
	int fd = (int)syscall(SYS_openat2, base, rest, &how, sizeof how);
	int failed = errno;

	(void)close(base);
	errno = failed;
	return fd;
}

static int refuse(const char *path, int failed, struct mg_error *err)
{
	switch (failed) {
	case ENOENT:
	case ENOTDIR:
		return mg_error_set(err, MG_E_NOT_FOUND, "there is no file \"%s\"", path);
	case EXDEV:
	case ELOOP:
		mg_error_set(err, MG_E_DENIED, "\"%s\" leads out of the directories of COPY", path);
		mg_error_hint(err, "Absolute links are not followed, nor is \"..\" above it.");
		return MG_E_DENIED;
	case EACCES:
		return mg_error_set(err, MG_E_DENIED, "the server may not open \"%s\"", path);
	case ENOSYS:
		return mg_error_set(err, MG_E_UNSUPPORTED,
		                    "this system cannot open a file safely: Linux "
		                    "has openat2 since 5.6");
	default:
		return mg_error_errno(err, failed, "cannot open \"%s\"", path);
	}
}

/* Of a file that was opened. */
static int look(int fd, const char *path, uint64_t *size, struct mg_error *err)
{
	struct stat info;

	if (fstat(fd, &info) != 0) {
		return mg_error_errno(err, errno, "cannot look at \"%s\"", path);
	}
	*size = (uint64_t)info.st_size;
	return S_ISREG(info.st_mode) ? 0
	                             : mg_error_set(err, MG_E_USAGE, "\"%s\" is no plain file", path);
}

/* Where below one of the directories does path lie?  Its file, or, for a file that is made, its
 * directory, is opened; -1: err tells why there is none. */
static int find(const char *dirs, const char *path, bool made, struct mg_error *err)
{
	const char *list = dirs ? dirs : "", *name = strrchr(path, '/');
	bool granted = false;
	int fd = -1, failed = ENOENT;

	name = name ? name + 1 : path;
	for (char *dir; fd < 0 && (dir = next_dir(&list)) != NULL;) {
		const char *rest = below(dir, path);

		if (rest && *rest) {
			size_t len = (size_t)(name - path) - (size_t)(rest - path);
			char *place = made ? mg_format("%.*s.", (int)len, rest) : NULL;

			granted = true;
			fd = open_below(dir, made ? place : rest, made ? AS_PLACE : TO_READ);
			/* What is not here may be in the next one. */
			failed = fd < 0 && errno != ENOENT ? errno : failed;
			mg_free(place);
		}
		mg_free(dir);
	}
	if (!granted) {
		mg_error_set(err, MG_E_DENIED, "\"%s\" lies in no directory that COPY may %s", path,
		             made ? "write" : "read");
		mg_error_hint(err, "The server's %s names them.",
		              made ? "--copy-path-write" : "--copy-path");
	} else if (fd < 0) {
		(void)refuse(path, failed, err);
	}
	return fd;
}

int mg_granted_open(const char *dirs, const char *path, int *fd, uint64_t *size,
                    struct mg_error *err)
{
	*fd = find(dirs, path, false, err);
	if (*fd < 0) {
		return err->code;
	}
	int code = look(*fd, path, size, err);

	if (code) {
		(void)close(*fd);
		*fd = -1;
	}
	return code;
}

/* ---- files that are made ---- */

struct mg_granted_new {
	int dir, fd;
	char *path, *name; /* whole, for messages; below dir */
	char *beside;      /* its name until it is kept */
	bool named;        /* it has that */
};

static int make(struct mg_granted_new *file, struct mg_error *err)
{
	file->fd = openat(file->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
	if (file->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		file->fd = openat(file->dir, file->beside,
		                  O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0640);
		file->named = file->fd >= 0;
	}
	return file->fd < 0 ? refuse(file->path, errno, err) : 0;
}

int mg_granted_create(const char *dirs, const char *path, struct mg_granted_new **out,
                      struct mg_error *err)
{
	const char *name = strrchr(path, '/');
	int dir = find(dirs, path, true, err);

	name = name ? name + 1 : path;
	*out = NULL;
	if (dir < 0) {
		return err->code;
	}
	struct mg_granted_new *file = mg_alloc0(sizeof *file);

	*file = (struct mg_granted_new){ .dir = dir, .fd = -1, .path = mg_strdup(path) };
	file->name = mg_strdup(name);
	file->beside = mg_format(".merganser-%016llx.new", (unsigned long long)mg_random_u64());
	int code = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0
	               ? mg_error_set(err, MG_E_USAGE, "\"%s\" is no plain file", path)
	               : make(file, err);

	if (code) {
		mg_granted_drop(file);
		return code;
	}
	*out = file;
	return 0;
}

int mg_granted_fd(const struct mg_granted_new *file)
{
	return file->fd;
}

int mg_granted_write(struct mg_granted_new *file, const void *data, size_t size,
                     struct mg_error *err)
{
	const char *from = data;

	while (size > 0) {
		ssize_t put = write(file->fd, from, size);

		if (put < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot write \"%s\"", file->path);
		}
		from += put > 0 ? put : 0;
		size -= put > 0 ? (size_t)put : 0;
	}
	return 0;
}

int mg_granted_keep(struct mg_granted_new *file, struct mg_error *err)
{
	char self[40];

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
	if (fsync(file->fd) != 0) {
		return mg_error_errno(err, errno, "cannot write \"%s\"", file->path);
	}
	if (!file->named && linkat(AT_FDCWD, self, file->dir, file->beside, AT_SYMLINK_FOLLOW) != 0) {
		return mg_error_errno(err, errno, "cannot write \"%s\"", file->path);
	}
	file->named = true;
	if (renameat(file->dir, file->beside, file->dir, file->name) != 0) {
		return errno == EISDIR ? mg_error_set(err, MG_E_USAGE, "\"%s\" is a directory", file->path)
		                       : mg_error_errno(err, errno, "cannot write \"%s\"", file->path);
	}
	file->named = false;
	return fsync(file->dir) == 0 ? 0
	                             : mg_error_errno(err, errno, "cannot write \"%s\"", file->path);
}

void mg_granted_drop(struct mg_granted_new *file)
{
	if (!file) {
		return;
	}
	if (file->named) {
		(void)unlinkat(file->dir, file->beside, 0);
	}
	if (file->fd >= 0) {
		(void)close(file->fd);
	}
	(void)close(file->dir);
	mg_free(file->path);
	mg_free(file->name);
	mg_free(file->beside);
	mg_free(file);
}
