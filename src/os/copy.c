/*
 * copy.c - a copy of a whole file; see file.h.
 *
 * A file system with reflinks shares the blocks, which costs nothing; others are asked to copy
 * inside the kernel; what cannot do that either is read and written.
 */
#include "base/mem.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PIECE (1u << 20)

static int write_piece(int fd, const uint8_t *data, size_t size)
{
	while (size > 0) {
		ssize_t wrote = write(fd, data, size);

		if (wrote < 0 && errno != EINTR) {
			return errno;
		}
		if (wrote > 0) {
			data += wrote;
			size -= (size_t)wrote;
		}
	}
	return 0;
}

/* From where both stand to the end. */
static int by_reading(int from, int to)
{
	uint8_t *piece = mg_alloc(PIECE);
	int error = 0;
	ssize_t got = 1;

	while (error == 0 && got != 0) {
		got = read(from, piece, PIECE);
		if (got > 0) {
			error = write_piece(to, piece, (size_t)got);
		} else if (got < 0 && errno != EINTR) {
			error = errno;
		}
	}
	mg_free(piece);
	return error;
}

static int copy_bytes(int from, int to)
{
	ssize_t got;

	if (ioctl(to, FICLONE, from) == 0) {
		return 0;
	}
	do {
		got = copy_file_range(from, NULL, to, NULL, 64 * PIECE, 0);
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got == 0) {
		/* Some systems say 0 at once for files that they cannot copy: at the end this reads none.
		 */
		return by_reading(from, to);
	}
	return errno == ENOSPC || errno == EIO || errno == EDQUOT ? errno : by_reading(from, to);
}

int mg_file_copy(const char *from, const char *to, struct mg_error *err)
{
	int source = open(from, O_RDONLY | O_CLOEXEC);

	if (source < 0) {
		return mg_error_errno(err, errno, "cannot open \"%s\"", from);
	}
	int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int code = target < 0 ? mg_error_errno(err, errno, "cannot make \"%s\"", to) : 0;

	if (!code) {
		int error = copy_bytes(source, target);

		error = error ? error : fsync(target) ? errno : 0;
		code = error ? mg_error_errno(err, error, "cannot copy \"%s\" to \"%s\"", from, to) : 0;
		close(target);
		if (code) {
			(void)unlink(to);
		}
	}
	close(source);
	return code;
}
