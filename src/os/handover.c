/* handover.c - see handover.h. */
#include "os/handover.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { LOOK_MS = 100 };

static int say_lost(int error, struct mg_error *err)
{
	return error == EPIPE || error == ECONNRESET
	           ? mg_error_set(err, MG_E_DISCONNECTED, "the other process is gone")
	           : mg_error_errno(err, error, "cannot send to another process");
}

int mg_handover_pair(int fds[2], struct mg_error *err)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0
	           ? 0
	           : mg_error_errno(err, errno, "cannot make a pair of sockets");
}

int mg_handover_write(int fd, const void *data, size_t size, bool (*stopped)(void *arg), void *arg,
                      struct mg_error *err)
{
	const char *from = data;

	while (size > 0) {
		ssize_t put = send(fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (put > 0) {
			from += put;
			size -= (size_t)put;
		} else if (put < 0 && errno == EAGAIN) {
			struct pollfd ready = { .fd = fd, .events = POLLOUT };

			(void)poll(&ready, 1, LOOK_MS);
		} else if (put < 0 && errno != EINTR) {
			return say_lost(errno, err);
		}
		if (size > 0 && stopped && stopped(arg)) {
			return mg_error_set(err, MG_E_CANCELLED, "writing was stopped");
		}
	}
	return 0;
}

int mg_handover_send(int socket, const void *data, size_t size, int fd, struct mg_error *err)
{
	union {
		struct cmsghdr head; /* for its alignment */
		char room[CMSG_SPACE(sizeof fd)];
	} extra;
	struct iovec part = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t sent;

	memset(&extra, 0, sizeof extra);
	if (fd >= 0) {
		message.msg_control = &extra;
		message.msg_controllen = sizeof extra;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);

		*head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd),
			                      .cmsg_level = SOL_SOCKET,
			                      .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(head), &fd, sizeof fd);
	}
	do {
		sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno == EAGAIN) {
		return mg_error_set(err, MG_E_BUSY, "the other process does not listen");
	}
	return sent >= 0 ? 0 : say_lost(errno, err);
}

int mg_handover_receive(int socket, void *data, size_t size, size_t *got, struct mg_error *err)
{
	ssize_t count;

	do {
		count = recv(socket, data, size, 0);
	} while (count < 0 && errno == EINTR);
	*got = count > 0 ? (size_t)count : 0;
	return count >= 0 || errno == ECONNRESET
	           ? 0
	           : mg_error_errno(err, errno, "cannot hear another process");
}
