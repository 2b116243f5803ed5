/*
 * admission.h - how many statements work at once.
 *
 * DuckDB gains nothing from more running statements than about twice the cores; each more costs
 * memory and latency.  So a statement takes a slot before it plans and gives it back when it ends,
 * and while it waits for a slow client.  Slots go in the order of asking; who waits for a slot
 * again, after its client woke up, comes first.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_ADMISSION_H
#define MG_SESSION_ADMISSION_H

#include "base/error.h"

#include <stddef.h>

struct mg_admission;

/* running_max 0: max(2, 2 * cores); queue_max 0: 1,024. */
struct mg_admission *mg_admission_new(size_t running_max, size_t queue_max);
void mg_admission_free(struct mg_admission *admission); /* nobody may hold a slot; NULL is fine */

/* Wait for a slot.  stopped(arg) is asked when mg_admission_wake was called, and ends the wait.
 * Fails: MG_E_BUSY when the queue is full, MG_E_CANCELLED when stopped. */
int mg_admission_enter(struct mg_admission *admission, bool (*stopped)(void *arg), void *arg,
                       struct mg_error *err);
/* Wait for a slot again, in front of the queue; false when stopped. */
bool mg_admission_return(struct mg_admission *admission, bool (*stopped)(void *arg), void *arg);
void mg_admission_leave(struct mg_admission *admission);
/* A statement was cancelled: who waits asks whether it is his. */
void mg_admission_wake(struct mg_admission *admission);
/* From now on a wake of admission wakes other, too; other lives as long.  Before threads share
 * them. */
void mg_admission_wake_also(struct mg_admission *admission, struct mg_admission *other);
void mg_admission_counts(struct mg_admission *admission, size_t *running, size_t *waiting,
                         size_t *running_max);

/* ---- a request's hold on a slot; one thread ---- */
struct mg_slot {
	struct mg_admission *admission;
	bool (*stopped)(void *arg); /* of the last enter */
	void *arg;
	bool held;
};
/* For mg_stream_on_wait: give the slot back while the client is slow, and take it again.  arg: the
 * slot. */
void mg_slot_pause(void *arg);
void mg_slot_resume(void *arg);
int mg_slot_enter(struct mg_slot *slot, bool (*stopped)(void *arg), void *arg,
                  struct mg_error *err);
void mg_slot_leave(struct mg_slot *slot); /* fine when it is not held */

#endif
