/*
 * handover.h - sockets between processes of ours, and descriptors that go over them.
 *
 * Thread: any; one at a time for a descriptor.
 */
#ifndef MG_OS_HANDOVER_H
#define MG_OS_HANDOVER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Two connected ends of a stream of bytes; the caller closes both. */
int mg_handover_pair(int fds[2], struct mg_error *err);
/* All bytes into such a stream.  MG_E_DISCONNECTED when the other end is gone; MG_E_CANCELLED when
 * stopped (asked every 100 ms while it takes nothing; may be NULL) says so. */
int mg_handover_write(int fd, const void *data, size_t size, bool (*stopped)(void *arg), void *arg,
                      struct mg_error *err);
/* One message over a socket of whole messages (MG_STDIO_SOCKET), and with it a descriptor, which
 * stays the caller's, too; -1: none.  Does not wait: MG_E_BUSY when the other end takes none. */
int mg_handover_send(int socket, const void *data, size_t size, int fd, struct mg_error *err);
/* The next message, into size bytes; *got 0: the other end is gone.  Waits.  A longer one is cut.
 */
int mg_handover_receive(int socket, void *data, size_t size, size_t *got, struct mg_error *err);

#endif
