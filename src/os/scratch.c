/*
 * scratch.c - temporary files without a name, by O_TMPFILE or, where the file system lacks it, by a
 * name that is removed at once.
 *
 * Appends reserve their place by one atomic addition, so writers do not wait for each other.
 */
#include "os/scratch.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct mg_scratch {
	int fd;
	atomic_ullong end;
};

static int open_unnamed(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
		return fd;
	}
	char *name = mg_format("%s/scratch-XXXXXX", dir);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0) {
		unlink(name);
	}
	mg_free(name);
	return fd;
}

int mg_scratch_open(struct mg_scratch **out, const char *dir, struct mg_error *err)
{
	*out = NULL;
	int fd = open_unnamed(dir);
	if (fd < 0) {
		return mg_error_errno(err, errno, "cannot make a temporary file in \"%s\"", dir);
	}
	struct mg_scratch *scratch = mg_alloc(sizeof *scratch);
	scratch->fd = fd;
	atomic_init(&scratch->end, 0);
	*out = scratch;
	return 0;
}

void mg_scratch_close(struct mg_scratch *scratch)
{
	if (scratch) {
		close(scratch->fd);
		mg_free(scratch);
	}
}

int mg_scratch_fd(const struct mg_scratch *scratch)
{
	return scratch->fd;
}

int mg_scratch_append(struct mg_scratch *scratch, const void *data, size_t size, uint64_t *offset,
                      struct mg_error *err)
{
	const char *bytes = data;
	*offset = atomic_fetch_add(&scratch->end, size);
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(scratch->fd, bytes + done, size - done, (off_t)(*offset + done));
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return mg_error_errno(err, n < 0 ? errno : ENOSPC, "cannot write to a temporary file");
		}
		done += (size_t)n;
	}
	return 0;
}

int mg_scratch_read(struct mg_scratch *scratch, uint64_t offset, void *data, size_t size,
                    struct mg_error *err)
{
	char *bytes = data;
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(scratch->fd, bytes + done, size - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return mg_error_errno(err, errno, "cannot read from a temporary file");
		}
		if (n == 0) {
			return mg_error_set(err, MG_E_CORRUPT,
			                    "a temporary file is shorter than what was written");
		}
		done += (size_t)n;
	}
	return 0;
}
