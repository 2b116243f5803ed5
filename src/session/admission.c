/*
 * admission.c - slots, and a queue of those who wait for one.
 *
 * Invariant, under the lock: while somebody waits, no slot is free.  A slot that is given back goes
 * straight to the first waiter (running does not fall), so nobody can slip in between.
 */
#include "session/admission.h"

#include "base/assert.h"
#include "base/mem.h"
#include "os/limits.h"

#include <pthread.h>

enum { QUEUE_DEFAULT = 1024 };

struct waiter {
	struct waiter *next;
	pthread_cond_t turn;
	bool granted;
};

struct mg_admission {
	pthread_mutex_t lock;
	struct waiter *first;
	struct mg_admission *also; /* woken with this one, or NULL */
	size_t running, running_max, waiting, queue_max;
};

struct mg_admission *mg_admission_new(size_t running_max, size_t queue_max)
{
	struct mg_admission *admission = mg_alloc0(sizeof *admission);

	admission->running_max = running_max ? running_max : (size_t)mg_os_cores() * 2;
	admission->queue_max = queue_max ? queue_max : QUEUE_DEFAULT;
	pthread_mutex_init(&admission->lock, NULL);
	return admission;
}

void mg_admission_free(struct mg_admission *admission)
{
	if (!admission) {
		return;
	}
	mg_assert(admission->first == NULL);
	mg_assert(admission->running == 0);
	pthread_mutex_destroy(&admission->lock);
	mg_free(admission);
}

static void waiter_remove(struct mg_admission *admission, struct waiter *waiter)
{
	struct waiter **link = &admission->first;

	while (*link != waiter) {
		mg_assert(*link != NULL);
		link = &(*link)->next;
	}
	*link = waiter->next;
	admission->waiting--;
}

/* Wait in the queue; true when the slot is ours.  Under the lock. */
static bool wait_turn(struct mg_admission *admission, bool in_front, bool (*stopped)(void *arg),
                      void *arg)
{
	struct waiter waiter = { .granted = false };
	struct waiter **link = &admission->first;

	pthread_cond_init(&waiter.turn, NULL);
	while (!in_front && *link) {
		link = &(*link)->next;
	}
	waiter.next = *link;
	*link = &waiter;
	admission->waiting++;
	while (!waiter.granted) {
		if (stopped && stopped(arg)) {
			waiter_remove(admission, &waiter);
			break;
		}
		pthread_cond_wait(&waiter.turn, &admission->lock);
	}
	pthread_cond_destroy(&waiter.turn);
	return waiter.granted;
}

int mg_admission_enter(struct mg_admission *admission, bool (*stopped)(void *arg), void *arg,
                       struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&admission->lock);
	if (admission->running < admission->running_max) {
		mg_assert(admission->first == NULL);
		admission->running++;
	} else if (admission->waiting >= admission->queue_max) {
		code = mg_error_set(err, MG_E_BUSY, "%zu statements run and %zu wait", admission->running,
		                    admission->waiting);
		mg_error_hint(err, "Try again in a moment.");
	} else if (!wait_turn(admission, false, stopped, arg)) {
		code =
			mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled while it waited to run");
	}
	pthread_mutex_unlock(&admission->lock);
	return code;
}

bool mg_admission_return(struct mg_admission *admission, bool (*stopped)(void *arg), void *arg)
{
	bool taken = true;

	pthread_mutex_lock(&admission->lock);
	if (admission->running < admission->running_max) {
		admission->running++;
	} else {
		taken = wait_turn(admission, true, stopped, arg);
	}
	pthread_mutex_unlock(&admission->lock);
	return taken;
}

void mg_admission_leave(struct mg_admission *admission)
{
	pthread_mutex_lock(&admission->lock);
	mg_assert(admission->running > 0);
	struct waiter *waiter = admission->first;

	if (waiter) {
		waiter_remove(admission, waiter);
		waiter->granted = true;
		pthread_cond_signal(&waiter->turn);
	} else {
		admission->running--;
	}
	pthread_mutex_unlock(&admission->lock);
}

void mg_admission_wake(struct mg_admission *admission)
{
	pthread_mutex_lock(&admission->lock);
	for (struct waiter *waiter = admission->first; waiter; waiter = waiter->next) {
		pthread_cond_signal(&waiter->turn);
	}
	pthread_mutex_unlock(&admission->lock);
	if (admission->also) {
		mg_admission_wake(admission->also);
	}
}

void mg_admission_wake_also(struct mg_admission *admission, struct mg_admission *other)
{
	admission->also = other;
}

void mg_admission_counts(struct mg_admission *admission, size_t *running, size_t *waiting,
                         size_t *running_max)
{
	pthread_mutex_lock(&admission->lock);
	*running = admission->running;
	*waiting = admission->waiting;
	*running_max = admission->running_max;
	pthread_mutex_unlock(&admission->lock);
}

int mg_slot_enter(struct mg_slot *slot, bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	int code = mg_admission_enter(slot->admission, stopped, arg, err);

	slot->stopped = stopped;
	slot->arg = arg;
	slot->held = code == 0;
	return code;
}

void mg_slot_leave(struct mg_slot *slot)
{
	if (slot->held) {
		slot->held = false;
		mg_admission_leave(slot->admission);
	}
}

/* held stays true over a pause: it says that the statement runs, not that it works.  A statement
 * that was ended meanwhile needs no slot to clean up, and does not wait for one. */
void mg_slot_pause(void *arg)
{
	struct mg_slot *slot = arg;

	if (slot->held) {
		mg_admission_leave(slot->admission);
	}
}

void mg_slot_resume(void *arg)
{
	struct mg_slot *slot = arg;

	if (slot->held) {
		slot->held = mg_admission_return(slot->admission, slot->stopped, slot->arg);
	}
}
