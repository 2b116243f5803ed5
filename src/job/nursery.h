/*
 * nursery.h - where the processes of jobs come from: one Python of this server that has loaded what
 * jobs need (zygote.py), and forks a confined process (confine.py) for each that begins.
 *
 * It is started when the first job comes, and again when it was lost.  What lives in it has none of
 * our descriptors and none of our environment.  Nothing in it outlives us.
 *
 * Thread: any.
 */
#ifndef MG_JOB_NURSERY_H
#define MG_JOB_NURSERY_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mg_nursery;

struct mg_nursery_options {
	const char *python;    /* a program, by its path or in PATH; NULL: mg_nursery_python */
	uint64_t memory_bytes; /* of a process, beside Python and its packages; 0: 1 GiB */
	uint32_t cpu_s;        /* processor time of one; 0: 600 */
	size_t processes_max;  /* at once; 0: 32 */
};

struct mg_nursery *mg_nursery_new(const struct mg_nursery_options *options);
/* Ends all; no call may be under way.  NULL is fine. */
void mg_nursery_free(struct mg_nursery *nursery);
/* Ends all, and whoever waits for Python; none begins any more. */
void mg_nursery_stop(struct mg_nursery *nursery);
/* The Python that the build has set up, when it is there; else "python3".  Heap. */
char *mg_nursery_python(void);

struct mg_nursery_begin {
	const char *user;           /* who has at most half of the processes */
	bool (*stopped)(void *arg); /* asked every 100 ms while Python starts; NULL: never */
	void *arg;
};

/* Begins a process; *fd: our end of its socket, the caller's.  Waits while Python starts.  Fails:
 * MG_E_UNAVAILABLE (there is no Python, or it does not start), MG_E_UNSUPPORTED (this machine
 * cannot confine it), MG_E_BUSY (there are processes_max), MG_E_CANCELLED, MG_E_SHUTDOWN. */
int mg_nursery_begin(struct mg_nursery *nursery, const struct mg_nursery_begin *begin,
                     uint64_t *number, int *fd, struct mg_error *err);
/* Ends a process that was begun; one that is gone is fine. */
void mg_nursery_end(struct mg_nursery *nursery, uint64_t number);
#define MG_NURSERY_LOST 1000     /* with its Python, which has ended */
#define MG_NURSERY_UNCONFINED 71 /* it could not be confined here */
#define MG_NURSERY_NOT_BEGUN 72  /* the machine gave no process */

/* How it has ended: its exit status, or minus the signal, or one of these.  False: not heard of
 * within a second. */
bool mg_nursery_ended(struct mg_nursery *nursery, uint64_t number, int *status);

#endif
