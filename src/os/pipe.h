/*
 * pipe.h - whole pieces of bytes through a pipe between two processes of ours.
 *
 * Both calls block until all bytes went through, the other side is gone, or they are told to stop.
 * SIGPIPE must be ignored in the process.  Thread: any; one at a time for a descriptor.
 */
#ifndef MG_OS_PIPE_H
#define MG_OS_PIPE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Room for as much as the system gives an ordinary user, so that the sides alternate seldom. */
void mg_pipe_widen(int fd);
/* MG_E_DISCONNECTED at the end of the stream; MG_E_CANCELLED when stopped (asked every 100 ms while
 * nothing comes; may be NULL) says so. */
int mg_pipe_read(int fd, void *data, size_t size, bool (*stopped)(void *arg), void *arg,
                 struct mg_error *err);
/* MG_E_DISCONNECTED when nobody reads any more. */
int mg_pipe_write(int fd, const void *data, size_t size, struct mg_error *err);

#endif
