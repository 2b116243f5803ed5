/*
 * shard_redo.c - what a transaction writes (redo.h) into a shard's file, operation by operation.
 *
 * The rows of a staging table take the same way as those of an entry, batch by batch, so that ids,
 * conflicts and followers of the table see no difference.
 *
 * owner: the lane.
 */
#include "base/log.h"
#include "replica/shard_sm_int.h"

#include <inttypes.h>

static int begin_writing(struct mg_shard_sm *sm, struct mg_error *err)
{
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
	sm->told = true;
	int code = mg_shard_writer_begin(sm->writer, err);

	sm->writing = code == 0;
	return code;
}

static int write_op(struct mg_shard_sm *sm, const struct mg_redo_op *op, struct mg_error *err)
{
	switch (op->kind) {
	case MG_REDO_INSERT:
		return mg_shard_writer_insert(sm->writer, op->schema, op->table, op->ipc_schema,
		                              op->ipc_batch, err);
	case MG_REDO_REPLACE:
		return mg_shard_writer_replace(sm->writer, op->schema, op->table, op->ipc_schema,
		                               op->ipc_batch, err);
	case MG_REDO_DELETE:
		return mg_shard_writer_delete(sm->writer, op->schema, op->table, op->ipc_schema,
		                              op->ipc_batch, err);
	case MG_REDO_CREATE:
		return mg_shard_writer_create(sm->writer, op->schema, op->table, op->columns, err);
	case MG_REDO_DROP:
		return mg_shard_writer_drop(sm->writer, op->schema, op->table, err);
	case MG_REDO_PUBLISH:
		break; /* it is what its rows are */
	}
	return mg_error_set(err, MG_E_CORRUPT, "a redo operation of kind %d", op->kind);
}

/* And tell it to those who follow the table, and to transactions that have read it before. */
static int apply_op(struct mg_shard_sm *sm, const struct mg_redo_op *op, struct mg_error *err)
{
	struct mg_shard_change change;

	mg_shard_change_begin(&change, sm, op);
	int code = write_op(sm, op, err);

	mg_shard_change_end(&change, code == 0);
	return code ? code : mg_shard_late_note(sm->late, sm->entries[sm->at].index, op, err);
}

/* ---- rows that were staged ---- */

struct publishing {
	struct mg_shard_sm *sm;
	const struct mg_redo_op *op;
};

static int publish_batch(void *arg, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                         uint32_t rows, struct mg_error *err)
{
	const struct publishing *publishing = arg;
	const struct mg_redo_op op = {
		.kind = publishing->op->staged_kind,
		.schema = publishing->op->schema,
		.table = publishing->op->table,
		.ipc_schema = ipc_schema,
		.ipc_batch = ipc_batch,
		.rows = rows,
	};

	return apply_op(publishing->sm, &op, err);
}

static int publish(struct mg_shard_sm *sm, const struct mg_redo_op *op, struct mg_error *err)
{
	struct publishing publishing = { sm, op };

	/* Its statement has given up and dropped it, and this was on its way for longer. */
	if (!mg_shard_writer_has(sm->writer, MG_REDO_STAGING, op->staged)) {
		mg_log(MG_LOG_WARN, "staging.gone", "shard=%" PRIu32 " table=%s", sm->options.shard,
		       op->staged);
		return 0;
	}
	int code = mg_shard_writer_read(sm->writer, MG_REDO_STAGING, op->staged, publish_batch,
	                                &publishing, err);

	return code ? code : mg_shard_writer_drop(sm->writer, MG_REDO_STAGING, op->staged, err);
}

/* ---- all of it ---- */

int mg_shard_sm__apply_redo(struct mg_shard_sm *sm, struct mg_in in, struct mg_error *err)
{
	struct mg_redo *redo = mg_redo_new();
	size_t count = 0;
	int code = mg_redo_decode(redo, sm->options.shard, &in, err);

	code = code ? code : begin_writing(sm, err);
	const struct mg_redo_op *ops = mg_redo_ops(redo, sm->options.shard, &count);

	for (size_t i = 0; !code && i < count; i++) {
		code = ops[i].kind == MG_REDO_PUBLISH ? publish(sm, &ops[i], err)
		                                      : apply_op(sm, &ops[i], err);
	}
	mg_redo_free(redo);
	return code;
}
