/*
 * shard_accept.c - entries between the log and the lane: accepted in order, applied later.
 *
 *     raft thread: apply --copy--> queue, answered at once: who proposed them hears of it
 *     lane:        all that waits, as one transaction of the engine, when somebody wants it, when
 *                  it is much, or LAZY_MS after the first of it came
 *
 * A transaction of the engine costs as much as hundreds of rows in it, on every replica; so rows of
 * many clients wait for each other, and nobody for them: a write is acknowledged when it is
 * committed, and whoever reads waits until what he has to see is applied (mg_replica__reach), which
 * hurries the lane.
 *
 * Rule: what is accepted is in the log of a majority and will be applied, in this order; whether a
 * fence refuses it is known here already, for fences are noted as they are accepted.
 *
 * owner: accept: the raft thread; drain: the lane; `lock` guards the queue.
 */
#include "replica/shard_sm_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <string.h>

enum {
	LAZY_MS = 1000,
	AGAIN_MS = 5,
	AHEAD_MAX = 1 << 16, /* entries that have not come yet and are wanted */
};
#define EAGER_BYTES (2u << 20)        /* no need to wait for more */
#define TRANSACTION_BYTES (16u << 20) /* and no more at once */
#define QUEUES_BYTES_MAX (256u << 20) /* of all shards; beyond its part of that the log waits */

struct mg_accepted {
	struct mg_accepted *next;
	uint64_t ms; /* when it came */
	size_t bytes, count;
	struct mg_entry entries[]; /* their bytes behind them */
};

/* ---- under the lock ---- */

/* What the lane does not wait for more than, at least: of very many shards all are more. */
static bool is_full(const struct mg_shard_sm *sm)
{
	size_t part = QUEUES_BYTES_MAX / (sm->options.cuts ? mg_cuts_count(sm->options.cuts) : 1);

	return sm->queue_bytes >= (part > EAGER_BYTES ? part : EAGER_BYTES);
}

static bool is_due(const struct mg_shard_sm *sm, uint64_t now)
{
	const struct mg_accepted *first = sm->queue;

	return first && (sm->wanted >= first->entries[0].index || sm->queue_bytes >= EAGER_BYTES ||
	                 now >= first->ms + LAZY_MS);
}

static void drain(void *arg);

/* The lane works, when it should and does not yet; returns when to look again, or 0. */
static uint64_t wake(struct mg_shard_sm *sm)
{
	if (!sm->queue || sm->draining) {
		return 0;
	}
	if (is_due(sm, mg_clock_ms())) {
		sm->draining = true;
		mg_lane_run(sm->lane, drain, sm);
		return 0;
	}
	return sm->queue->ms + LAZY_MS;
}

/* ---- raft thread ---- */

static void look_again(void *arg);

/* At most one look is under way. */
static void wake_or_look(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t at = wake(sm);
	bool look = at && !sm->looking;

	sm->looking = sm->looking || look;
	pthread_mutex_unlock(&sm->lock);
	if (look) {
		mg_raft_host_post_at(sm->options.host, at, look_again, sm);
	}
}

static void look_again(void *arg)
{
	struct mg_shard_sm *sm = arg;

	pthread_mutex_lock(&sm->lock);
	sm->looking = false;
	pthread_mutex_unlock(&sm->lock);
	if (mg_shard_sm__group(sm)) {
		wake_or_look(sm);
	}
}

static struct mg_accepted *copy(const struct mg_entry *entries, size_t count)
{
	size_t bytes = 0, head = sizeof(struct mg_accepted) + count * sizeof *entries;

	for (size_t i = 0; i < count; i++) {
		bytes += entries[i].size;
	}
	struct mg_accepted *accepted = mg_try_alloc(head + bytes);

	if (!accepted) {
		return NULL;
	}
	uint8_t *at = (uint8_t *)accepted + head;

	*accepted = (struct mg_accepted){ .ms = mg_clock_ms(), .bytes = head + bytes, .count = count };
	for (size_t i = 0; i < count; i++) {
		accepted->entries[i] = entries[i];
		accepted->entries[i].data = at;
		if (entries[i].size) {
			memcpy(at, entries[i].data, entries[i].size);
		}
		at += entries[i].size;
	}
	return accepted;
}

/* What others ask before it is applied: fences, commits, and that the file does not hold all. */
static void note(struct mg_shard_sm *sm, const struct mg_entry *entry)
{
	struct mg_command command;

	if (entry->type != MG_ENTRY_COMMAND ||
	    mg_command_decode(entry->data, entry->size, &command, NULL)) {
		return; /* the lane says what is wrong with it */
	}
	if (command.kind == MG_COMMAND_FENCE) {
		mg_shard_sm__add_fence(sm, command.epoch, entry->index);
	}
	bool commits = command.kind == MG_COMMAND_COMMIT ||
	               (command.kind == MG_COMMAND_DECIDE && command.commit);

	if (commits && sm->options.cuts && command.epoch >= mg_shard_sm__fence_of(sm)) {
		mg_cuts_accept(sm->options.cuts, sm->options.shard, command.number);
	}
	sm->dirty = sm->dirty || command.kind == MG_COMMAND_WRITE ||
	            command.kind == MG_COMMAND_PREPARE || command.kind == MG_COMMAND_DECIDE ||
	            command.kind == MG_COMMAND_COMMIT;
}

static void tell_accepted(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_group *group = mg_shard_sm__group(sm);

	if (group) {
		mg_group_applied(group, sm->given[sm->given_count - 1].index);
	}
}

static void accept(void *arg)
{
	struct mg_shard_sm *sm = arg;

	if (!mg_shard_sm__group(sm)) {
		return;
	}
	pthread_mutex_lock(&sm->lock);
	bool full = is_full(sm);
	pthread_mutex_unlock(&sm->lock);
	/* Only this thread makes the queue longer. */
	struct mg_accepted *accepted = full ? NULL : copy(sm->given, sm->given_count);

	if (!accepted) {
		mg_raft_host_post_at(sm->options.host, mg_clock_ms() + AGAIN_MS, accept, sm);
		return;
	}
	pthread_mutex_lock(&sm->lock);
	for (size_t i = 0; i < accepted->count; i++) {
		note(sm, &accepted->entries[i]);
	}
	*(sm->queue ? sm->queue_end : &sm->queue) = accepted;
	sm->queue_end = &accepted->next;
	sm->queue_bytes += accepted->bytes;
	sm->accepted = accepted->entries[accepted->count - 1].index;
	if (sm->wanted < sm->accepted && sm->options.cuts && mg_cuts_awaited(sm->options.cuts)) {
		sm->wanted = sm->accepted;
	}
	pthread_mutex_unlock(&sm->lock);
	wake_or_look(sm);
	mg_raft_host_post(sm->options.host, tell_accepted, sm);
}

void mg_shard_sm__accept(struct mg_sm *seam, const struct mg_entry *entries, size_t count)
{
	struct mg_shard_sm *sm = (struct mg_shard_sm *)seam;

	mg_assert(count > 0);
	sm->given = entries;
	sm->given_count = count;
	accept(sm);
}

/* ---- any thread ---- */

uint64_t mg_shard_sm_accepted(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t accepted = sm->accepted;
	pthread_mutex_unlock(&sm->lock);
	return accepted;
}

uint64_t mg_shard_sm_applied(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t applied = sm->applied;
	pthread_mutex_unlock(&sm->lock);
	return applied;
}

uint64_t mg_shard_sm_showing(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t showing = sm->showing > sm->applied ? sm->showing : sm->applied;
	pthread_mutex_unlock(&sm->lock);
	return showing;
}

bool mg_shard_sm_moves(struct mg_shard_sm *sm)
{
	return mg_lane_is_busy(sm->lane);
}

/* A client may say that it has seen any index (codec/seen.h): the lane must not hurry for ever. */
void mg_shard_sm_want(struct mg_shard_sm *sm, uint64_t index)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t here = sm->accepted > sm->applied ? sm->accepted : sm->applied;

	index = index > here + AHEAD_MAX ? here + AHEAD_MAX : index;
	if (index > sm->wanted) {
		sm->wanted = index;
		(void)wake(sm);
	}
	pthread_mutex_unlock(&sm->lock);
}

/* ---- lane ---- */

/* What one transaction should hold, off the queue. */
static struct mg_accepted *take(struct mg_shard_sm *sm)
{
	struct mg_accepted *first = sm->queue, *last = first;
	size_t bytes = first ? first->bytes : 0;

	while (last && last->next && bytes + last->next->bytes <= TRANSACTION_BYTES) {
		last = last->next;
		bytes += last->bytes;
	}
	if (last) {
		sm->queue = last->next;
		sm->queue_bytes -= bytes;
		last->next = NULL;
	}
	return first;
}

static void free_list(struct mg_accepted *list)
{
	while (list) {
		struct mg_accepted *next = list->next;

		mg_free(list);
		list = next;
	}
}

static int apply_list(struct mg_shard_sm *sm, const struct mg_accepted *list, struct mg_error *err)
{
	size_t count = 0, at = 0;

	for (const struct mg_accepted *each = list; each; each = each->next) {
		count += each->count;
	}
	struct mg_entry *entries = mg_alloc(count * sizeof *entries);

	for (; list; list = list->next) {
		memcpy(entries + at, list->entries, list->count * sizeof *entries);
		at += list->count;
	}
	int code = mg_shard_sm__apply(sm, entries, count, err);

	mg_free(entries);
	return code;
}

static void fail_group(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_group *group = mg_shard_sm__group(sm);

	if (group) {
		mg_group_fail(group, sm->failed);
	}
}

/* One transaction. */
static int apply_some(struct mg_shard_sm *sm, struct mg_accepted *list)
{
	struct mg_error err = { 0 };
	int code = sm->failed ? sm->failed : apply_list(sm, list, &err);

	free_list(list);
	pthread_mutex_lock(&sm->lock);
	sm->applied = sm->index;
	pthread_mutex_unlock(&sm->lock);
	if (!code && sm->options.on_applied) {
		sm->options.on_applied(sm->options.arg, sm->options.group, sm->index);
	} else if (code && !sm->failed) {
		mg_shard_sm__fail(sm, &err);
		mg_raft_host_post(sm->options.host, fail_group, sm);
	}
	return code;
}

int mg_shard_sm__drain(struct mg_shard_sm *sm)
{
	int code = 0;

	for (;;) {
		pthread_mutex_lock(&sm->lock);
		struct mg_accepted *list = take(sm);
		pthread_mutex_unlock(&sm->lock);

		if (!list) {
			/* What it knows beside its rows may be ahead of them: it must not get into the file. */
			return code ? code : sm->failed;
		}
		code = apply_some(sm, list);
	}
}

static void look_later(void *arg)
{
	struct mg_shard_sm *sm = arg;

	if (mg_shard_sm__group(sm)) {
		wake_or_look(sm);
	}
}

static void drain(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_accepted *list;

	do {
		pthread_mutex_lock(&sm->lock);
		list = is_due(sm, mg_clock_ms()) ? take(sm) : NULL;
		sm->draining = list != NULL;
		bool more = !list && sm->queue;
		pthread_mutex_unlock(&sm->lock);
		if (list) {
			(void)apply_some(sm, list);
		} else if (more) {
			mg_raft_host_post(sm->options.host, look_later, sm);
		}
	} while (list);
}

void mg_shard_sm__forget_queue(struct mg_shard_sm *sm)
{
	free_list(sm->queue);
	sm->queue = NULL;
	sm->queue_bytes = 0;
	sm->accepted = sm->wanted = 0;
}

bool mg_shard_sm_rest(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	bool rests = !sm->draining;

	if (rests) {
		mg_shard_sm__forget_queue(sm);
	}
	pthread_mutex_unlock(&sm->lock);
	return rests;
}
