/*
 * shard_sm.c - see shard_sm.h.
 *
 * On the lane, for a batch of entries: begin, every command in order, commit with the last index;
 * then the raft thread hears it.  Commands that only move a transaction along change memory alone,
 * and the file's index stays behind until rows change or a checkpoint comes: both write it.
 *
 * `lock` guards what questions ask: parts in doubt, decisions, the failure.
 */
#include "replica/shard_sm_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "replica/redo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool same(const struct mg_txid *a, const struct mg_txid *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* ---- transactions, under the lock ---- */

static void drop_parts(struct mg_shard_sm *sm, const struct mg_txid *txid)
{
	size_t kept = 0;

	for (size_t i = 0; i < sm->part_count; i++) {
		if (same(&sm->parts[i].transaction, txid)) {
			mg_buf_unref(sm->parts[i].redo);
		} else {
			sm->parts[kept++] = sm->parts[i];
		}
	}
	sm->part_count = kept;
}

void mg_shard_sm__add_part(struct mg_shard_sm *sm, const struct mg_command *command,
                           struct mg_buf *redo)
{
	mg_grow(sm->parts, sm->part_count, sm->part_cap);
	sm->parts[sm->part_count++] = (struct mg_part){
		.transaction = command->transaction,
		.home = command->home,
		.old = !command->numbered,
		.redo = redo,
	};
}

static struct mg_decision *find_decision(struct mg_shard_sm *sm, const struct mg_txid *txid)
{
	for (size_t i = 0; i < sm->decision_count; i++) {
		if (same(&sm->decisions[i].transaction, txid)) {
			return &sm->decisions[i];
		}
	}
	return NULL;
}

/* Takes shards. */
void mg_shard_sm__add_decision(struct mg_shard_sm *sm, const struct mg_txid *txid, bool commit,
                               uint64_t number, struct mg_buf *shards)
{
	mg_grow(sm->decisions, sm->decision_count, sm->decision_cap);
	sm->decisions[sm->decision_count++] = (struct mg_decision){ *txid, commit, number, shards };
}

static void drop_decision(struct mg_shard_sm *sm, const struct mg_txid *txid)
{
	struct mg_decision *decision = find_decision(sm, txid);

	if (decision) {
		mg_buf_unref(decision->shards);
		*decision = sm->decisions[--sm->decision_count];
	}
}

/* ---- epochs, under the lock ---- */

uint64_t mg_shard_sm__fence_of(const struct mg_shard_sm *sm)
{
	return sm->fence_count ? sm->fences[sm->fence_count - 1].epoch : 0;
}

uint64_t mg_shard_sm__fence_at(const struct mg_shard_sm *sm, uint64_t index)
{
	size_t i = sm->fence_count;

	while (i > 0 && sm->fences[i - 1].index > index) {
		i--;
	}
	return i > 0 ? sm->fences[i - 1].epoch : 0;
}

void mg_shard_sm__add_fence(struct mg_shard_sm *sm, uint64_t epoch, uint64_t index)
{
	if (epoch > mg_shard_sm__fence_of(sm)) {
		mg_grow(sm->fences, sm->fence_count, sm->fence_cap);
		sm->fences[sm->fence_count++] = (struct mg_fence){ epoch, index };
	}
}

/* ---- commands, on the lane ---- */

/* The rows of a prepared transaction, as the lane alone changes the parts. */
static int apply_parts(struct mg_shard_sm *sm, const struct mg_txid *txid, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < sm->part_count; i++) {
		const struct mg_part *part = &sm->parts[i];

		if (same(&part->transaction, txid)) {
			sm->together = txid;
			code = mg_shard_sm__apply_redo(sm, mg_in(part->redo->data, part->redo->size), err);
			sm->together = NULL;
		}
	}
	return code;
}

static int prepare(struct mg_shard_sm *sm, const struct mg_command *command, struct mg_error *err)
{
	size_t size = (size_t)(command->rest.end - command->rest.at);
	struct mg_buf *redo = mg_buf_copy(command->rest.at, size);

	if (!redo) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a prepared transaction of %zu bytes",
		                    size);
	}
	pthread_mutex_lock(&sm->lock);
	mg_shard_sm__add_part(sm, command, redo);
	pthread_mutex_unlock(&sm->lock);
	return 0;
}

/* The transaction ends: with its rows, when it is to happen.  Then it is in doubt no more. */
static int settle(struct mg_shard_sm *sm, const struct mg_command *command, bool commit,
                  struct mg_error *err)
{
	int code = commit ? mg_shard_sm__enter_commit(sm, command->number, err) : 0;

	if (!code && commit) {
		code = apply_parts(sm, &command->transaction, err);
		mg_shard_sm__note_commit(sm, command);
	}
	pthread_mutex_lock(&sm->lock);
	drop_parts(sm, &command->transaction);
	pthread_mutex_unlock(&sm->lock);
	return code;
}

/* The first decision counts. */
static int decide(struct mg_shard_sm *sm, const struct mg_command *command, struct mg_error *err)
{
	const struct mg_in *rest = &command->rest;
	struct mg_buf *shards = mg_buf_copy(rest->at, (size_t)(rest->end - rest->at));

	if (!shards) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for what a transaction has decided");
	}
	pthread_mutex_lock(&sm->lock);
	const struct mg_decision *before = find_decision(sm, &command->transaction);
	bool commit = before ? before->commit : command->commit;

	if (before) {
		mg_buf_unref(shards);
	} else {
		mg_shard_sm__add_decision(sm, &command->transaction, commit, command->number, shards);
	}
	pthread_mutex_unlock(&sm->lock);
	return before ? 0 : settle(sm, command, commit, err);
}

/* The engine shows exactly what there is at this index. */
static int mark(struct mg_shard_sm *sm, const struct mg_entry *entry,
                const struct mg_command *command, struct mg_error *err)
{
	bool dirty = sm->writing;
	int code = mg_shard_sm__show(sm, entry, err);

	if (!code) {
		mg_shard_sm__note_state(sm, dirty);
		mg_shard_check_mark(sm->check, entry->index, &command->checking,
		                    mg_shard_writer_tables(sm->writer));
	}
	return code;
}

static int apply_command(struct mg_shard_sm *sm, const struct mg_entry *entry, struct mg_error *err)
{
	struct mg_command command;
	int code = mg_command_decode(entry->data, entry->size, &command, err);

	if (code) {
		return code;
	}
	if (command.kind == MG_COMMAND_FENCE) { /* noted when it was accepted */
		sm->old = sm->old && !command.numbered;
	}
	if (mg_shard_sm_refused(sm, command.epoch, entry->index)) {
		return 0;
	}
	switch (command.kind) {
	case MG_COMMAND_WRITE:
		return mg_shard_sm__apply_redo(sm, command.rest, err);
	case MG_COMMAND_PREPARE:
		return prepare(sm, &command, err);
	case MG_COMMAND_DECIDE:
		return decide(sm, &command, err);
	case MG_COMMAND_COMMIT:
	case MG_COMMAND_ABORT:
		return settle(sm, &command, command.kind == MG_COMMAND_COMMIT, err);
	case MG_COMMAND_FORGET:
		pthread_mutex_lock(&sm->lock);
		drop_decision(sm, &command.transaction);
		pthread_mutex_unlock(&sm->lock);
		return 0;
	case MG_COMMAND_FENCE:
		return 0;
	case MG_COMMAND_CHECK:
		return mark(sm, entry, &command, err);
	case MG_COMMAND_CHECKED:
		mg_shard_check_put(sm->check, &command.checked);
		return 0;
	}
	return mg_error_set(err, MG_E_CORRUPT, "a command of kind %d", command.kind);
}

/* ---- the seam ---- */

void mg_shard_sm__fail(struct mg_shard_sm *sm, const struct mg_error *err)
{
	mg_log(MG_LOG_ERROR, "shard.broken", "shard=%" PRIu32 " index=%" PRIu64 " error=\"%s\"",
	       sm->options.shard, sm->index, err->message);
	pthread_mutex_lock(&sm->lock);
	sm->failed = err->code ? err->code : MG_E_INTERNAL;
	sm->failure = *err;
	pthread_mutex_unlock(&sm->lock);
}

struct mg_group *mg_shard_sm__group(struct mg_shard_sm *sm)
{
	return mg_raft_host_group(sm->options.host, sm->options.group);
}

int mg_shard_sm__apply(struct mg_shard_sm *sm, const struct mg_entry *entries, size_t count,
                       struct mg_error *err)
{
	int code = 0;

	mg_assert(count > 0);
	sm->entries = entries;
	sm->entry_count = count;
	sm->writing = false;
	for (sm->at = 0; !code && sm->at < count; sm->at++) {
		if (entries[sm->at].type == MG_ENTRY_COMMAND) {
			code = apply_command(sm, &entries[sm->at], err);
		}
	}
	bool dirty = sm->writing || sm->part_count > 0 || sm->decision_count > 0;

	code = code ? code : mg_shard_sm__show(sm, &entries[count - 1], err);
	if (code) {
		mg_shard_writer_rollback(sm->writer);
		mg_changes_log_drop(sm->changes);
		mg_follow_log_drop(sm->follow);
	} else {
		mg_shard_sm__note_state(sm, dirty);
	}
	sm->entries = NULL;
	return code;
}

static struct mg_shard_sm *of(struct mg_sm *seam)
{
	return (struct mg_shard_sm *)seam;
}

static uint64_t sm_durable_index(struct mg_sm *seam)
{
	return of(seam)->durable;
}

static const struct mg_sm_ops ops = {
	.apply = mg_shard_sm__accept,
	.durable_index = sm_durable_index,
	.freeze = mg_shard_sm__freeze,
	.pull = mg_shard_sm__pull,
	.adopt = mg_shard_sm__adopt,
};

/* ---- life ---- */

int mg_shard_sm_open(struct mg_shard_sm **out, const struct mg_shard_sm_options *options,
                     struct mg_error *err)
{
	struct mg_shard_sm *sm = mg_alloc0(sizeof *sm);
	char database[16];

	*out = NULL;
	sm->seam.ops = &ops;
	sm->options = *options;
	sm->late = mg_shard_late_new();
	sm->follow = mg_follow_log_new(options->follow_bytes);
	sm->check = mg_shard_check_new(
		&(struct mg_shard_check_options){ .duck = options->duck,
	                                      .self = options->self, .shard = options->shard,
	                                      .hold_ms = MG_CHECK_HOLD_MS,
	                                      .on_mark = options->on_mark,
	                                      .on_differs = options->on_differs,
	                                      .arg = options->arg });
	sm->old = true;
	if (options->cuts) {
		sm->seen = mg_alloc0(mg_cuts_count(options->cuts) * sizeof *sm->seen);
	}
	pthread_mutex_init(&sm->lock, NULL);
	pthread_mutex_init(&sm->file_lock, NULL);
	(void)snprintf(database, sizeof database, "s%" PRIu32, options->shard);
	int code = mg_shard_writer_open(&sm->writer, options->duck, database, err);

	code = code ? code : mg_shard_sm__read_pending(sm, err);
	code = code ? code : mg_lane_start(&sm->lane, err);
	if (code) {
		mg_shard_sm_free(sm);
		return code;
	}
	sm->durable = sm->index = sm->applied = sm->checkpointed = mg_shard_writer_applied(sm->writer);
	sm->checkpointed_term = mg_shard_writer_term(sm->writer);
	sm->checkpoint_known = !options->stands_in;
	mg_follow_log_reset(sm->follow, sm->index, sm->checkpointed_term);
	if (options->changes.bytes_max) {
		sm->changes = mg_changes_log_open(&options->changes, sm->index);
	}
	if (!options->stands_in) {
		mg_shard_sm__begin_giving(sm);
	}
	*out = sm;
	return 0;
}

struct mg_sm *mg_shard_sm_seam(struct mg_shard_sm *sm)
{
	return &sm->seam;
}

void mg_shard_sm_stop(struct mg_shard_sm *sm)
{
	atomic_store(&sm->stopping, true);
	mg_shard_sm__end_giving(sm);
	mg_lane_stop(sm->lane);
}

void mg_shard_sm_free(struct mg_shard_sm *sm)
{
	if (!sm) {
		return;
	}
	mg_lane_free(sm->lane);
	mg_shard_sm__forget_queue(sm);
	mg_shard_writer_close(sm->writer);
	mg_shard_late_free(sm->late);
	mg_changes_log_close(sm->changes);
	mg_follow_log_free(sm->follow);
	mg_shard_check_free(sm->check);
	mg_shard_sm__forget_all(sm);
	mg_free(sm->seen);
	mg_free(sm->parts);
	mg_free(sm->decisions);
	mg_free(sm->fences);
	pthread_mutex_destroy(&sm->lock);
	pthread_mutex_destroy(&sm->file_lock);
	mg_free(sm);
}

/* ---- questions ---- */

enum mg_outcome_known mg_shard_sm_decided(struct mg_shard_sm *sm, const struct mg_txid *txid)
{
	pthread_mutex_lock(&sm->lock);
	const struct mg_decision *decision = find_decision(sm, txid);
	enum mg_outcome_known known = !decision          ? MG_OUTCOME_NONE
	                              : decision->commit ? MG_OUTCOME_COMMIT
	                                                 : MG_OUTCOME_ABORT;
	pthread_mutex_unlock(&sm->lock);
	return known;
}

uint64_t mg_shard_sm_commit(struct mg_shard_sm *sm, const struct mg_txid *txid,
                            struct mg_buf **shards)
{
	pthread_mutex_lock(&sm->lock);
	const struct mg_decision *decision = find_decision(sm, txid);
	uint64_t number = decision ? decision->number : 0;

	*shards = decision && decision->shards ? mg_buf_ref(decision->shards) : NULL;
	pthread_mutex_unlock(&sm->lock);
	return number;
}

size_t mg_shard_sm_in_doubt(struct mg_shard_sm *sm, struct mg_in_doubt *list, size_t max)
{
	size_t count = 0;

	pthread_mutex_lock(&sm->lock);
	for (size_t i = 0; i < sm->part_count; i++) {
		const struct mg_part *part = &sm->parts[i];
		bool again = false;

		for (size_t k = 0; k < i && !again; k++) {
			again = same(&sm->parts[k].transaction, &part->transaction);
		}
		if (!again && count < max) {
			list[count] = (struct mg_in_doubt){ part->transaction, part->home };
		}
		count += !again;
	}
	pthread_mutex_unlock(&sm->lock);
	return count;
}

size_t mg_shard_sm_decisions(struct mg_shard_sm *sm, struct mg_in_doubt *list, size_t max)
{
	pthread_mutex_lock(&sm->lock);
	size_t count = sm->decision_count;

	for (size_t i = 0; i < count && i < max; i++) {
		list[i] = (struct mg_in_doubt){ sm->decisions[i].transaction, sm->options.shard };
	}
	pthread_mutex_unlock(&sm->lock);
	return count;
}

bool mg_shard_sm_holds(struct mg_shard_sm *sm, const struct mg_txid *txid)
{
	bool holds = false;

	pthread_mutex_lock(&sm->lock);
	for (size_t i = 0; i < sm->part_count && !holds; i++) {
		holds = same(&sm->parts[i].transaction, txid);
	}
	pthread_mutex_unlock(&sm->lock);
	return holds;
}

uint64_t mg_shard_sm_fence(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t epoch = mg_shard_sm__fence_of(sm);

	pthread_mutex_unlock(&sm->lock);
	return epoch;
}

bool mg_shard_sm_refused(struct mg_shard_sm *sm, uint64_t epoch, uint64_t index)
{
	bool refused = false;

	pthread_mutex_lock(&sm->lock);
	for (size_t i = sm->fence_count; i > 0 && !refused; i--) {
		refused = sm->fences[i - 1].epoch > epoch && sm->fences[i - 1].index < index;
	}
	pthread_mutex_unlock(&sm->lock);
	return refused;
}

struct mg_shard_check *mg_shard_sm_check(struct mg_shard_sm *sm)
{
	return sm->check;
}

bool mg_shard_sm_dirty(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	bool dirty = sm->dirty;
	pthread_mutex_unlock(&sm->lock);
	return dirty;
}

bool mg_shard_sm_changing(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	bool changing = sm->changing || sm->queue; /* or soon */
	pthread_mutex_unlock(&sm->lock);
	return changing;
}

enum mg_late mg_shard_sm_changed_since(struct mg_shard_sm *sm, uint64_t index, const int64_t *rids,
                                       size_t count)
{
	return mg_shard_late_since(sm->late, index, rids, count);
}

struct mg_follow_log *mg_shard_sm_follow(struct mg_shard_sm *sm)
{
	return sm->follow;
}

struct mg_changes_log *mg_shard_sm_changes(struct mg_shard_sm *sm)
{
	return sm->changes;
}

int mg_shard_sm_failed(struct mg_shard_sm *sm, struct mg_error *err)
{
	pthread_mutex_lock(&sm->lock);
	int failed = sm->failed;

	if (failed && err) {
		*err = sm->failure;
	}
	pthread_mutex_unlock(&sm->lock);
	return failed;
}
