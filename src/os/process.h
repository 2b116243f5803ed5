/*
 * process.h - start another program and hear how it ended.
 *
 * With die_with_parent the kernel kills the child when the THREAD that started it ends, so such
 * children are started from a thread that lives as long as they shall (usually main).
 * Descriptors of ours are close-on-exec throughout; a child gets only stdin, stdout and stderr.
 * Thread: any; a struct mg_process belongs to its starter.  Blocks: wait and run do.
 */
#ifndef MG_OS_PROCESS_H
#define MG_OS_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mg_stdio {
	MG_STDIO_INHERIT,
	MG_STDIO_NULL, /* /dev/null */
	MG_STDIO_PIPE, /* the starter holds the other end */
	MG_STDIO_FILE, /* out and err only: appended to out_path / err_path */
	MG_STDIO_OUT,  /* err only: where stdout goes */
	MG_STDIO_SOCKET /* in only: both ways, of whole messages (handover.h); our end is in_fd */
};

struct mg_process_options {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
	const char *const
		*env;        /* "NAME=value" added to or replacing ours; NULL-terminated; may be NULL */
	bool only_env;   /* nothing of ours: env is all that it gets */
	const char *cwd; /* NULL: ours */
	enum mg_stdio in, out, err;
	const char *out_path, *err_path;
	bool die_with_parent; /* SIGKILL when the starting thread ends */
	bool new_group;       /* own process group, so that Ctrl-C does not reach it */
};

struct mg_process {
	int pid;   /* 0: none, or waited for */
	int in_fd; /* our end of a pipe, or -1; close with mg_process_close */
	int out_fd;
	int err_fd;
};

/* MG_E_NOT_FOUND when there is no such program. */
int mg_process_start(struct mg_process *process, const struct mg_process_options *options,
                     struct mg_error *err);
/* Wait up to timeout_ms (0: look only; UINT32_MAX: for ever).  True when it has ended; then
 * *status is its exit status, or 128 + the signal that ended it. */
bool mg_process_wait(struct mg_process *process, uint32_t timeout_ms, int *status);
void mg_process_signal(const struct mg_process *process, int signal_number);
/* SIGTERM, wait grace_ms, SIGKILL, wait; closes the pipes. Safe on one that has ended. */
void mg_process_stop(struct mg_process *process, uint32_t grace_ms);
void mg_process_close(struct mg_process *process); /* pipes only */

/* Start, collect stdout and stderr together (heap text, at most 16 MiB), wait.  out may be NULL. */
int mg_process_run(const char *const *argv, char **out, int *status, struct mg_error *err);

/* Ask the kernel to end this process when its parent's thread ends (for children of our own). */
void mg_process_die_with_parent(void);
/* Absolute path of the running program, heap; NULL when the system does not say. */
char *mg_process_self_path(void);

#endif
