/*
 * shard_changes.c - what a shard's entries change, into its log of changes.
 *
 * An operation becomes a record as it stands in the redo, with what only applying it tells: the
 * ids of new rows, and what rows were that it replaces or deletes.  The DELETE that takes those
 * away returns them, so nothing is looked for twice.  Rows that wait in a table beside theirs are
 * told there, as they come; that they were moved is one record more.
 *
 * owner: the lane.
 */
#include "replica/shard_sm_int.h"

#include <string.h>

static const enum mg_changes_kind kinds[] = {
	[MG_REDO_INSERT] = MG_CHANGES_INSERT, [MG_REDO_REPLACE] = MG_CHANGES_REPLACE,
	[MG_REDO_DELETE] = MG_CHANGES_DELETE, [MG_REDO_CREATE] = MG_CHANGES_CREATE,
	[MG_REDO_DROP] = MG_CHANGES_DROP,     [MG_REDO_MOVE] = MG_CHANGES_MOVED,
};

static struct mg_changes_record record_of(const struct mg_shard_change *change,
                                          enum mg_changes_kind kind)
{
	const struct mg_shard_sm *sm = change->sm;

	return (struct mg_changes_record){
		.kind = kind,
		.index = sm->entries[sm->at].index,
		.together = sm->together != NULL,
		.transaction = sm->together ? *sm->together : (struct mg_txid){ { 0 } },
		.schema = change->op->schema,
		.table = change->op->table,
		.first_rid = change->first_rid,
	};
}

static int on_old_rows(void *arg, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                       uint32_t rows, struct mg_error *err)
{
	const struct mg_shard_change *change = arg;
	struct mg_changes_record record = record_of(change, MG_CHANGES_OLD);

	(void)err;
	record.rows = rows;
	mg_changes_log_add(change->sm->changes, &record, ipc_schema, ipc_batch);
	return 0;
}

void mg_shard_change_begin(struct mg_shard_change *change, struct mg_shard_sm *sm,
                           const struct mg_redo_op *op)
{
	bool comes = op->kind == MG_REDO_CREATE;

	*change = (struct mg_shard_change){ .sm = sm, .op = op };
	change->told = sm->changes && strncmp(op->schema, "_mg", 3) != 0 &&
	               (size_t)op->kind < sizeof kinds / sizeof kinds[0] && kinds[op->kind] &&
	               (comes || mg_shard_writer_has(sm->writer, op->schema, op->table));
	change->first_rid = mg_shard_writer_next_rid(sm->writer);
	if (change->told && (op->kind == MG_REDO_REPLACE || op->kind == MG_REDO_DELETE)) {
		change->watch = (struct mg_shard_watch){ on_old_rows, change };
		mg_shard_writer_watch(sm->writer, &change->watch);
	}
}

void mg_shard_change_end(struct mg_shard_change *change, bool done)
{
	const struct mg_redo_op *op = change->op;

	mg_shard_writer_watch(change->sm->writer, NULL);
	if (!change->told || !done) {
		return;
	}
	struct mg_changes_record record = record_of(change, kinds[op->kind]);

	record.rows = op->rows;
	if (op->kind == MG_REDO_CREATE) {
		record.payload = (const uint8_t *)op->columns;
		record.payload_size = strlen(op->columns);
	} else if (op->kind == MG_REDO_MOVE) {
		record.payload = (const uint8_t *)op->staged;
		record.payload_size = strlen(op->staged) + 1;
	}
	mg_changes_log_add(change->sm->changes, &record, op->ipc_schema, op->ipc_batch);
}
