/*
 * thread.c - see thread.h.
 *
 * Since Linux 6.12 a thread may ask for turns of its own length; one that wakes with a shorter one
 * comes before one with a longer one, at once, while all keep their shares.  A write passes through
 * about ten threads of three nodes, and on busy cores each would wait for a turn's end, which is
 * about 3 ms.
 */
#include "os/thread.h"

#include <linux/sched/types.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN_NS = 200000 };

static void ask_for(uint64_t turn_ns)
{
	struct sched_attr attributes = { .size = sizeof attributes };

	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0) {
		attributes.sched_runtime = turn_ns;
		(void)syscall(SYS_sched_setattr, 0, &attributes, 0);
	}
}

void mg_thread_prompt(void)
{
	ask_for(TURN_NS);
}

void mg_thread_patient(void)
{
	ask_for(0);
}
