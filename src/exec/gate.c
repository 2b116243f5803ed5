/* gate.c - see gate.h. */
#include "exec/gate.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/wait.h"

#include <pthread.h>

enum {
	ENTER_MS_MAX = 10000,
	MERCY_MS = 2000, /* for those inside to end by themselves */
	AGAIN_MS = 100,  /* then they are interrupted, each time */
	DRAIN_MS_MAX = 30000, /* then others come before the swap */
};

struct mg_gate {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	/* guarded by lock */
	struct mg_gate_pass inside; /* head of a ring */
	size_t count;
	bool closed;
};

struct mg_gate *mg_gate_new(void)
{
	struct mg_gate *gate = mg_alloc0(sizeof *gate);

	gate->inside.next = gate->inside.prev = &gate->inside;
	pthread_mutex_init(&gate->lock, NULL);
	mg_cond_init(&gate->changed);
	return gate;
}

void mg_gate_free(struct mg_gate *gate)
{
	if (gate) {
		mg_assert(gate->count == 0);
		pthread_cond_destroy(&gate->changed);
		pthread_mutex_destroy(&gate->lock);
		mg_free(gate);
	}
}

/* Under the lock.  False: the time has come. */
static bool wait_until(struct mg_gate *gate, uint64_t ms)
{
	return mg_cond_wait_until(&gate->changed, &gate->lock, ms);
}

int mg_gate_enter(struct mg_gate *gate, struct mg_gate_pass *pass, void (*interrupt)(void *arg),
                  void *arg, struct mg_error *err)
{
	uint64_t until_ms = mg_clock_ms() + ENTER_MS_MAX;

	*pass = (struct mg_gate_pass){ .interrupt = interrupt, .arg = arg };
	if (!gate) {
		return 0;
	}
	pthread_mutex_lock(&gate->lock);
	while (gate->closed && wait_until(gate, until_ms)) {
	}
	if (!gate->closed) {
		pass->inside = true;
		pass->next = &gate->inside;
		pass->prev = gate->inside.prev;
		pass->prev->next = pass->next->prev = pass;
		gate->count++;
	}
	bool inside = pass->inside;
	pthread_mutex_unlock(&gate->lock);
	if (!inside) {
		mg_error_set(err, MG_E_BUSY, "this node is taking over a snapshot of a shard");
		mg_error_hint(err, "Try again in a moment, or at another node.");
		return MG_E_BUSY;
	}
	return 0;
}

void mg_gate_mute(struct mg_gate *gate, struct mg_gate_pass *pass)
{
	if (gate) {
		pthread_mutex_lock(&gate->lock);
		pass->interrupt = NULL;
		pthread_mutex_unlock(&gate->lock);
	}
}

void mg_gate_leave(struct mg_gate *gate, struct mg_gate_pass *pass)
{
	if (!gate || !pass->inside) {
		return;
	}
	pthread_mutex_lock(&gate->lock);
	pass->prev->next = pass->next;
	pass->next->prev = pass->prev;
	pass->inside = false;
	gate->count--;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

/* Under the lock. */
static void interrupt_all(struct mg_gate *gate)
{
	for (struct mg_gate_pass *at = gate->inside.next; at != &gate->inside; at = at->next) {
		if (at->interrupt) {
			at->interrupt(at->arg);
		}
	}
}

int mg_gate_swap(struct mg_gate *gate, int (*swap)(void *arg, struct mg_error *err), void *arg,
                 struct mg_error *err)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->closed) { /* one shard after the other */
		pthread_cond_wait(&gate->changed, &gate->lock);
	}
	uint64_t start = mg_clock_ms(), next_ms = start + MERCY_MS;
	gate->closed = true;
	while (gate->count && mg_clock_ms() - start < DRAIN_MS_MAX) {
		if (!wait_until(gate, next_ms) && mg_clock_ms() >= next_ms) {
			interrupt_all(gate);
			next_ms = mg_clock_ms() + AGAIN_MS;
		}
	}
	size_t inside = gate->count;
	pthread_mutex_unlock(&gate->lock);
	uint64_t waited = mg_clock_ms() - start;
	int code = inside ? mg_error_set(err, MG_E_BUSY,
	                                 "%zu statements that read the shards do not end", inside)
	                  : swap(arg, err);

	pthread_mutex_lock(&gate->lock);
	gate->closed = false;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
	mg_log(MG_LOG_INFO, "gate.swap", "waited_ms=%llu took_ms=%llu", (unsigned long long)waited,
	       (unsigned long long)(mg_clock_ms() - start - waited));
	return code;
}
