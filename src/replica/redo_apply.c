/* redo_apply.c - see redo_apply.h. */
#include "replica/redo_apply.h"

#include "base/log.h"

#include <inttypes.h>

int mg_redo_write(struct mg_shard_writer *writer, const struct mg_redo_op *op, struct mg_error *err)
{
	switch (op->kind) {
	case MG_REDO_INSERT:
		return mg_shard_writer_insert(writer, op->schema, op->table, op->ipc_schema, op->ipc_batch,
		                              err);
	case MG_REDO_REPLACE:
		return mg_shard_writer_replace(writer, op->schema, op->table, op->ipc_schema, op->ipc_batch,
		                               err);
	case MG_REDO_DELETE:
		return mg_shard_writer_delete(writer, op->schema, op->table, op->ipc_schema, op->ipc_batch,
		                              err);
	case MG_REDO_CREATE:
		return mg_shard_writer_create(writer, op->schema, op->table, op->columns, err);
	case MG_REDO_DROP:
		return mg_shard_writer_drop(writer, op->schema, op->table, err);
	case MG_REDO_MOVE:
		return mg_shard_writer_move(writer, op->schema, op->staged, op->table, err);
	case MG_REDO_PUBLISH:
		break; /* it is what its rows are */
	}
	return mg_error_set(err, MG_E_CORRUPT, "a redo operation of kind %d", op->kind);
}

static int write_op(const struct mg_redo_apply *apply, const struct mg_redo_op *op,
                    struct mg_error *err)
{
	return apply->op ? apply->op(apply->arg, op, err) : mg_redo_write(apply->writer, op, err);
}

/* ---- rows that were staged ---- */

struct publishing {
	const struct mg_redo_apply *apply;
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

	return write_op(publishing->apply, &op, err);
}

/* False: its statement has given up and dropped it, and this was on its way for longer. */
static bool is_staged(const struct mg_redo_apply *apply, const char *schema,
                      const struct mg_redo_op *op)
{
	bool there = mg_shard_writer_has(apply->writer, schema, op->staged);

	if (!there) {
		mg_log(MG_LOG_WARN, "staging.gone", "shard=%" PRIu32 " table=%s", apply->shard, op->staged);
	}
	return there;
}

static int publish(const struct mg_redo_apply *apply, const struct mg_redo_op *op,
                   struct mg_error *err)
{
	struct publishing publishing = { apply, op };

	if (!is_staged(apply, MG_REDO_STAGING, op)) {
		return 0;
	}
	int code = mg_shard_writer_read(apply->writer, MG_REDO_STAGING, op->staged, publish_batch,
	                                &publishing, err);

	return code ? code : mg_shard_writer_drop(apply->writer, MG_REDO_STAGING, op->staged, err);
}

static int move(const struct mg_redo_apply *apply, const struct mg_redo_op *op,
                struct mg_error *err)
{
	return is_staged(apply, op->schema, op) ? write_op(apply, op, err) : 0;
}

/* ---- all of it ---- */

int mg_redo_apply(const struct mg_redo_apply *apply, struct mg_in in,
                  int (*begin)(void *arg, struct mg_error *err), struct mg_error *err)
{
	struct mg_redo *redo = mg_redo_new();
	size_t count = 0;
	int code = mg_redo_decode(redo, apply->shard, &in, err);

	code = code || !begin ? code : begin(apply->arg, err);
	const struct mg_redo_op *ops = mg_redo_ops(redo, apply->shard, &count);

	for (size_t i = 0; !code && i < count; i++) {
		code = ops[i].kind == MG_REDO_PUBLISH ? publish(apply, &ops[i], err)
		       : ops[i].kind == MG_REDO_MOVE  ? move(apply, &ops[i], err)
		                                      : write_op(apply, &ops[i], err);
	}
	mg_redo_free(redo);
	return code;
}
