/*
 * pipe.c - see pipe.h.
 *
 * Rule: a call gives all bytes or an error, never a part.
 */
#include "os/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)
#define LOOK_MS 100

void mg_pipe_widen(int fd)
{
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
}

int mg_pipe_read(int fd, void *data, size_t size, bool (*stopped)(void *arg), void *arg,
                 struct mg_error *err)
{
	char *to = data;
	while (size > 0) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		int found = poll(&ready, 1, LOOK_MS);
		if (stopped && stopped(arg)) {
			return mg_error_set(err, MG_E_CANCELLED, "reading was stopped");
		}
		if (found == 0 || (found < 0 && errno == EINTR)) {
			continue;
		}
		ssize_t got = read(fd, to, size);
		if (got == 0) {
			return mg_error_set(err, MG_E_DISCONNECTED, "the other process is gone");
		}
		if (got < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot read from another process");
		}
		if (got > 0) {
			to += got;
			size -= (size_t)got;
		}
	}
	return 0;
}

int mg_pipe_write(int fd, const void *data, size_t size, struct mg_error *err)
{
	const char *from = data;
	while (size > 0) {
		ssize_t put = write(fd, from, size);
		if (put < 0 && errno == EPIPE) {
			return mg_error_set(err, MG_E_DISCONNECTED, "the other process is gone");
		}
		if (put < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot write to another process");
		}
		if (put > 0) {
			from += put;
			size -= (size_t)put;
		}
	}
	return 0;
}
