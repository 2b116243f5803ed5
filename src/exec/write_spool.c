/*
 * write_spool.c - the rows of a statement that writes: between its steps, and into its redo.
 *
 * Rule: what one step made is sealed before the next one reads it.
 *
 * owner: the query's thread; DuckDB's threads read sealed spools.
 */
#include "codec/arrow_ipc.h"
#include "exec/staging.h"
#include "exec/tx.h"
#include "exec/write_int.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

#define NAMED_MAX 1000 /* columns of a source whose names are compared with each other */

static struct mg_spool *find_spool(void *arg, uint32_t stage)
{
	struct mg_write *write = arg;

	return stage < MG_WRITE_SPOOLS && write->spools[stage].sealed ? write->spools[stage].spool
	                                                              : NULL;
}

void mg_write__open(struct mg_write *write)
{
	write->stored = mg_table_stored(write->arena, write->table);
	write->written = mg_arena_new_array(write->arena, bool, write->data->shard_count + 1);
	write->uniques = mg_arena_new_array(write->arena, const char *, write->table->column_count + 1);
	write->unique_count = mg_table_key_columns(write->table, write->uniques);
	mg_engine_budget(write->engine, &write->budget);
	write->context = (struct mg_duck_context){
		.owner = write->owner,
		.find_spool = find_spool,
		.arg = write,
	};
	if (write->table->key_count) {
		mg_catalog_owners(write->data, write->owner);
	}
}

void mg_write__close(struct mg_write *write)
{
	for (size_t i = 0; i < MG_WRITE_SPOOLS; i++) {
		mg_write__spool_drop(write, i);
	}
	mg_free(write->rids.ids);
	mg_free(write->moved.ids);
	for (size_t i = 0; i <= MG_REDO_DELETE; i++) {
		if (write->outlets[i].encoder) {
			mg_arrow_encoder_free(write->outlets[i].encoder);
		}
		mg_buf_unref(write->outlets[i].schema);
	}
}

/* ---- spools ---- */

int mg_write__spool_begin(struct mg_write *write, size_t id, const struct ArrowSchema *schema,
                          struct mg_error *err)
{
	struct mg_write_spool *own = &write->spools[id];
	struct ArrowSchema renamed;

	if (own->spool) {
		return 0;
	}
	if (ArrowSchemaDeepCopy(schema, &renamed) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the columns of the rows");
	}
	int code = 0;

	for (int64_t i = 0; !code && i < renamed.n_children; i++) {
		char name[24];

		(void)snprintf(name, sizeof name, "c%lld", (long long)i);
		code = ArrowSchemaSetName(renamed.children[i], name) == NANOARROW_OK
		           ? 0
		           : mg_error_set(err, MG_E_NOMEM, "no memory for the columns of the rows");
	}
	code = code ? code : mg_arrow_encoder_new(&own->encoder, &renamed, false, err);
	code = code ? code : mg_arrow_encode_schema(own->encoder, &own->schema, err);
	ArrowSchemaRelease(&renamed);
	return code ? code : mg_write__spool_empty(write, id, err);
}

int mg_write__spool_empty(struct mg_write *write, size_t id, struct mg_error *err)
{
	struct mg_write_spool *own = &write->spools[id];

	if (own->spool) {
		mg_spool_unref(own->spool);
	}
	own->spool = mg_spool_new(&write->budget);
	own->rows = own->bytes = 0;
	own->sealed = false;
	return mg_spool_set_schema(own->spool, own->schema, err);
}

int mg_write__spool_put(struct mg_write *write, size_t id, struct ArrowArray *batch,
                        struct mg_error *err)
{
	struct mg_write_spool *own = &write->spools[id];
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int code = mg_arrow_encode_batch(own->encoder, batch, &buf, &raw, err);

	mg_assert(!own->sealed);
	code = code ? code : mg_spool_put(own->spool, buf, (uint64_t)batch->length, err);
	own->rows += (uint64_t)batch->length;
	own->bytes += raw;
	mg_buf_unref(buf);
	return code;
}

void mg_write__spool_drop(struct mg_write *write, size_t id)
{
	struct mg_write_spool *own = &write->spools[id];

	if (own->encoder) {
		mg_arrow_encoder_free(own->encoder);
	}
	mg_buf_unref(own->schema);
	if (own->spool) {
		mg_spool_unref(own->spool);
	}
	*own = (struct mg_write_spool){ 0 };
}

void mg_write__spool_seal(struct mg_write *write, size_t id)
{
	mg_spool_seal(write->spools[id].spool);
	write->spools[id].sealed = true;
}

/* A spool as a sink of mg_duck_scatter. */
struct inflow {
	struct mg_write *write;
	size_t id;
};

static int inflow_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct inflow *inflow = arg;

	return mg_write__spool_begin(inflow->write, inflow->id, schema, err);
}

static int inflow_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct inflow *inflow = arg;

	(void)target;
	return mg_write__spool_put(inflow->write, inflow->id, batch, err);
}

int mg_write__spool_query(struct mg_write *write, size_t id, struct mg_duck_conn *conn,
                          const char *sql, struct mg_error *err)
{
	struct inflow inflow = { write, id };
	const struct mg_duck_sink sink = { .begin = inflow_begin, .put = inflow_put, .arg = &inflow };

	return mg_duck_scatter(conn, sql, NULL, 1, &sink, err);
}

/* ---- the redo ---- */

/* Columns of users that are called as ours get another name: whoever reads the batch as a table
 * needs each name once, and knows the user's by their place. */
static int rename_clashes(struct ArrowSchema *schema, enum mg_redo_kind kind, struct mg_error *err)
{
	int64_t first = kind == MG_REDO_INSERT ? 0 : 1;

	for (int64_t i = first; i + 1 < schema->n_children; i++) {
		const char *name = schema->children[i]->name;
		const char *other = mg_text_eq_nocase(name, "rid")    ? "merganser rid"
		                    : mg_text_eq_nocase(name, "slot") ? "merganser slot"
		                                                      : NULL;

		if (other && ArrowSchemaSetName(schema->children[i], other) != NANOARROW_OK) {
			return mg_error_set(err, MG_E_NOMEM, "no memory for the columns of the rows");
		}
	}
	return 0;
}

int mg_write__redo_begin(struct mg_write *write, enum mg_redo_kind kind,
                         const struct ArrowSchema *schema, struct mg_error *err)
{
	struct mg_write_outlet *outlet = &write->outlets[kind];

	/* Every chunk has the columns of the first: they come from the same table. */
	if (outlet->encoder) {
		return 0;
	}
	outlet->write = write;
	outlet->kind = kind;
	struct ArrowSchema own;

	if (ArrowSchemaDeepCopy(schema, &own) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the columns of the rows");
	}
	int code = rename_clashes(&own, kind, err);

	code = code ? code : mg_arrow_encoder_new(&outlet->encoder, &own, false, err);
	code = code ? code : mg_arrow_encode_schema(outlet->encoder, &outlet->schema, err);
	ArrowSchemaRelease(&own);
	return code;
}

int mg_write__flush_from(struct mg_write *write, size_t bytes, struct mg_error *err)
{
	const struct mg_write_request *request = write->request;

	return request && request->flush && mg_redo_total(write->redo) >= bytes
	           ? request->flush(request->flush_arg, write->data, write->table, write->redo, err)
	           : 0;
}

int mg_write__redo_put(struct mg_write *write, enum mg_redo_kind kind, uint32_t shard,
                       struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_write_outlet *outlet = &write->outlets[kind];
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int code = mg_arrow_encode_batch(outlet->encoder, batch, &buf, &raw, err);

	/* In the middle of a chunk, which may become much more than what it came from. */
	if (!code && mg_redo_size(write->redo, shard) + buf->size > MG_STAGING_BYTES_MAX) {
		code = mg_write__flush_from(write, 1, err);
	}
	code = code ? code : mg_write__flush_from(write, 2 * mg_staging_bytes(write->engine), err);
	write->written[shard] = true;
	code = code ? code
	            : mg_redo_rows(write->redo, shard, kind, write->table->schema, write->stored,
	                           outlet->schema, buf, (uint32_t)batch->length, err);
	outlet->rows += (uint64_t)batch->length;
	mg_buf_unref(buf);
	return code;
}

static int outflow_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct mg_write_outlet *outlet = arg;

	return mg_write__redo_begin(outlet->write, outlet->kind, schema, err);
}

static int outflow_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_write_outlet *outlet = arg;

	return mg_write__redo_put(outlet->write, outlet->kind, target, batch, err);
}

int mg_write__redo_query(struct mg_write *write, enum mg_redo_kind kind, struct mg_duck_conn *conn,
                         const char *sql, struct mg_error *err)
{
	struct mg_write_outlet *outlet = &write->outlets[kind];
	const struct mg_duck_sink sink = { .begin = outflow_begin, .put = outflow_put, .arg = outlet };

	outlet->write = write;
	outlet->kind = kind;
	return mg_duck_scatter(conn, sql, write->owner, write->data->shard_count + 1, &sink, err);
}

/* ---- SQL ---- */

void mg_write__add_table(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add_path(sql, write->table->schema, write->table->name);
}

void mg_write__add_target(struct mg_sb *sql, const struct mg_write *write)
{
	mg_write__add_table(sql, write);
	if (write->dml.alias) {
		mg_sb_add(sql, " AS ");
		mg_sb_add_ident(sql, write->dml.alias);
	}
}

void mg_write__add_own(struct mg_sb *sql, const struct mg_write *write, const char *name)
{
	mg_sb_add_ident(sql, write->dml.alias ? write->dml.alias : write->table->name);
	mg_sb_add_char(sql, '.');
	if (name) {
		mg_sb_add_ident(sql, name);
	} else {
		mg_sb_add(sql, "rowid");
	}
}

void mg_write__add_columns(struct mg_sb *sql, const struct mg_write *write)
{
	for (size_t i = 0; i < write->table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, write->table->columns[i].name);
	}
}

/* Types without values of their own need no cast, and have none. */
static bool has_values(const char *type)
{
	return !strstr(type, "\"NULL\"") && !strchr(type, '{');
}

void mg_write__add_type(struct mg_sb *sql, const char *type)
{
	if (has_values(type)) {
		mg_sb_addf(sql, "::%s", type);
	}
}

/* Types may be structs without field names: ROW(1, 2). */
void mg_write__add_as(struct mg_sb *sql, const char *what, const char *type)
{
	if (has_values(type)) {
		mg_cast_add(sql, what, type);
	} else {
		mg_sb_add(sql, what);
	}
}

void mg_write__add_cast(struct mg_sb *sql, size_t column, const char *type)
{
	char name[24];

	snprintf(name, sizeof name, "c%zu", column);
	mg_write__add_as(sql, name, type);
}

void mg_write__add_stored(struct mg_sb *sql, const struct mg_write *write, size_t first, bool named)
{
	for (size_t i = 0; i < write->table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_write__add_cast(sql, first + i, write->table->columns[i].type);
		if (named) {
			mg_sb_add(sql, " AS ");
			mg_sb_add_ident(sql, write->table->columns[i].name);
		}
	}
}

/* A name of the source that stands for one column: DuckDB's messages name it. */
static bool is_own_name(const struct mg_write *write, size_t column)
{
	if (write->source_columns > NAMED_MAX || !write->source_names[column][0]) {
		return false;
	}
	for (size_t i = 0; i < write->source_columns; i++) {
		if (i != column && mg_text_eq_nocase(write->source_names[i], write->source_names[column])) {
			return false;
		}
	}
	return true;
}

void mg_write__add_chunk(struct mg_sb *sql, const struct mg_write *write, const bool *skip)
{
	struct mg_sb names = { 0 };
	bool first = true;

	mg_sb_add(sql, "SELECT ");
	for (size_t i = 0; i < write->source_columns; i++) {
		char *name = is_own_name(write, i) ? mg_strdup(write->source_names[i])
		                                   : mg_format("merganser c%zu", i);

		mg_sb_add(&names, i ? ", " : "");
		mg_sb_add_ident(&names, name);
		if (!skip || !skip[i]) {
			struct mg_sb quoted = { 0 };

			mg_sb_add_ident(&quoted, name);
			mg_sb_add(sql, first ? "" : ", ");
			mg_write__add_as(sql, mg_sb_text(&quoted), write->source_types[i]);
			mg_sb_fini(&quoted);
			first = false;
		}
		mg_free(name);
	}
	mg_sb_addf(sql, " FROM merganser_exchange(%d) AS mg(%s)", MG_WRITE_SOURCE, mg_sb_text(&names));
	mg_sb_fini(&names);
}

void mg_write__add_slot(struct mg_sb *sql, const struct mg_write *write)
{
	const struct mg_table *table = write->table;

	if (!table->key_count) {
		mg_sb_add(sql, "0::USMALLINT");
		return;
	}
	for (size_t i = 0; i < table->key_count; i++) {
		mg_sb_add(sql, i ? ", " : "mg_slot(");
		mg_sb_add_ident(sql, table->keys[i]);
	}
	mg_sb_add_char(sql, ')');
}

void mg_write__add_rows(struct mg_sb *sql, const struct mg_write *write, uint32_t shard)
{
	struct mg_exec_table *seen;

	mg_engine_exec_tables(write->arena, write->table, 1, &shard, 1, &seen);
	mg_engine_exec_row_ids(write->arena, seen, 1);
	if (write->settings.tx) {
		uint32_t *only = mg_arena_new_array(write->arena, uint32_t, 1);

		*only = shard;
		mg_tx_show(write->settings.tx, write->arena, seen, 1, only, 1);
	}
	mg_exec_table_select(sql, seen);
}

void mg_write__add_slots(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add(sql, ", ");
	mg_write__add_slot(sql, write);
	mg_sb_add(sql, " AS slot, ");
	mg_write__add_slot(sql, write);
}
