/*
 * shard_redo.c - what a transaction writes into this replica's file (redo_apply.h), and who hears
 * of it: those who follow the table, transactions that have read it before, and workers.
 *
 * owner: the lane.
 */
#include "replica/redo_apply.h"
#include "replica/shard_sm_int.h"

static int begin_writing(void *arg, struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;

	if (sm->writing) {
		return 0;
	}
	/* First, so that who has heard of this write finds it. */
	pthread_mutex_lock(&sm->lock);
	sm->changing = true;
	pthread_mutex_unlock(&sm->lock);
	if (sm->options.on_write) {
		sm->options.on_write(sm->options.arg, sm->options.shard);
	}
	int code = mg_shard_writer_begin(sm->writer, err);

	sm->writing = code == 0;
	return code;
}

static int apply_op(void *arg, const struct mg_redo_op *op, struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;
	struct mg_shard_change change;

	mg_shard_change_begin(&change, sm, op);
	int code = mg_redo_write(sm->writer, op, err);

	mg_shard_change_end(&change, code == 0);
	return code ? code : mg_shard_late_note(sm->late, sm->entries[sm->at].index, op, err);
}

int mg_shard_sm__apply_redo(struct mg_shard_sm *sm, struct mg_in in, struct mg_error *err)
{
	const struct mg_redo_apply apply = {
		.writer = sm->writer,
		.shard = sm->options.shard,
		.op = apply_op,
		.arg = sm,
	};
	int code = mg_redo_apply(&apply, in, begin_writing, err);

	if (!code) {
		mg_follow_log_add(sm->follow, sm->entries[sm->at].index, in.at, (size_t)(in.end - in.at));
	}
	return code;
}
