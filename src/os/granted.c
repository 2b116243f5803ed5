/* granted.c - see granted.h. */
#include "os/granted.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
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

static int open_below(const char *dir, const char *rest)
{
	/* No FIFO keeps us waiting, no terminal becomes ours. */
	const struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
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
		mg_error_set(err, MG_E_DENIED, "\"%s\" leads out of the directory that COPY may read",
		             path);
		mg_error_hint(err, "Absolute links are not followed, nor is \"..\" above it.");
		return MG_E_DENIED;
	case EACCES:
		return mg_error_set(err, MG_E_DENIED, "the server may not read \"%s\"", path);
	case ENOSYS:
		return mg_error_set(err, MG_E_UNSUPPORTED, "this system cannot open a file safely: Linux "
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
	return S_ISREG(info.st_mode)
	           ? 0
	           : mg_error_set(err, MG_E_USAGE, "\"%s\" is no plain file", path);
}

int mg_granted_open(const char *dirs, const char *path, int *fd, uint64_t *size,
                    struct mg_error *err)
{
	const char *list = dirs ? dirs : "";
	bool granted = false;
	int failed = ENOENT;

	*fd = -1;
	for (char *dir; *fd < 0 && (dir = next_dir(&list)) != NULL;) {
		const char *rest = below(dir, path);

		if (rest && *rest) {
			granted = true;
			*fd = open_below(dir, rest);
			/* What is not here may be in the next one. */
			failed = *fd < 0 && errno != ENOENT ? errno : failed;
		}
		mg_free(dir);
	}
	if (!granted) {
		mg_error_set(err, MG_E_DENIED, "\"%s\" lies in no directory that COPY may read", path);
		mg_error_hint(err, "The server's --copy-path names them.");
		return MG_E_DENIED;
	}
	int code = *fd < 0 ? refuse(path, failed, err) : look(*fd, path, size, err);

	if (code && *fd >= 0) {
		(void)close(*fd);
		*fd = -1;
	}
	return code;
}
