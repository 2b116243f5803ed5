/*
 * redo.c - see redo.h.
 */
#include "replica/redo.h"

#include "base/assert.h"
#include "base/str.h"

#include <string.h>

#define NAME_SIZE_MAX 255u

/* The operations of one shard; strings and buffers are theirs. */
struct part {
	uint32_t shard;
	struct mg_redo_op *ops;
	size_t count, cap;
	size_t size; /* as encoded */
};

struct mg_redo {
	struct part *parts; /* by shard, ascending */
	size_t count, cap;
	uint32_t *shards; /* of parts, for who asks */
	size_t shards_cap;
};

static void op_fini(struct mg_redo_op *op)
{
	mg_free((char *)op->schema);
	mg_free((char *)op->table);
	mg_free((char *)op->columns);
	mg_free((char *)op->staged);
	mg_buf_unref(op->ipc_schema);
	mg_buf_unref(op->ipc_batch);
}

struct mg_redo *mg_redo_new(void)
{
	return mg_alloc0(sizeof(struct mg_redo));
}

void mg_redo_clear(struct mg_redo *redo)
{
	for (size_t i = 0; i < redo->count; i++) {
		for (size_t k = 0; k < redo->parts[i].count; k++) {
			op_fini(&redo->parts[i].ops[k]);
		}
		mg_free(redo->parts[i].ops);
	}
	redo->count = 0;
}

void mg_redo_free(struct mg_redo *redo)
{
	if (redo) {
		mg_redo_clear(redo);
		mg_free(redo->parts);
		mg_free(redo->shards);
		mg_free(redo);
	}
}

/* ---- building ---- */

/* Where the shard's part is, or belongs. */
static size_t find(const struct mg_redo *redo, uint32_t shard)
{
	size_t low = 0, high = redo->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (redo->parts[mid].shard < shard) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static struct part *part_of(struct mg_redo *redo, uint32_t shard)
{
	size_t at = find(redo, shard);

	if (at == redo->count || redo->parts[at].shard != shard) {
		mg_grow(redo->parts, redo->count, redo->cap);
		memmove(&redo->parts[at + 1], &redo->parts[at], (redo->count - at) * sizeof *redo->parts);
		redo->parts[at] = (struct part){ .shard = shard };
		redo->count++;
	}
	return &redo->parts[at];
}

bool mg_redo_has_rows(enum mg_redo_kind kind)
{
	return kind == MG_REDO_INSERT || kind == MG_REDO_REPLACE || kind == MG_REDO_DELETE;
}

/* The operation before has the same columns: they are not written again. */
static bool same_columns(const struct part *part, size_t index)
{
	return index > 0 && part->ops[index - 1].ipc_schema == part->ops[index].ipc_schema;
}

static size_t op_size(const struct part *part, size_t index)
{
	const struct mg_redo_op *op = &part->ops[index];
	size_t size = 3 + strlen(op->schema) + strlen(op->table);

	if (mg_redo_has_rows(op->kind)) {
		size += 12 + op->ipc_batch->size;
		size += same_columns(part, index) ? 0 : op->ipc_schema->size;
	} else if (op->kind == MG_REDO_CREATE) {
		size += 4 + strlen(op->columns);
	} else if (op->kind == MG_REDO_PUBLISH) {
		size += 2 + strlen(op->staged);
	} else if (op->kind == MG_REDO_MOVE) {
		size += 1 + strlen(op->staged);
	}
	return size;
}

static struct mg_redo_op *add(struct mg_redo *redo, uint32_t shard, const struct mg_redo_op *op)
{
	struct part *part = part_of(redo, shard);

	mg_assert(strlen(op->schema) <= NAME_SIZE_MAX && strlen(op->table) <= NAME_SIZE_MAX);
	mg_grow(part->ops, part->count, part->cap);
	struct mg_redo_op *own = &part->ops[part->count++];

	*own = *op;
	own->schema = mg_strdup(op->schema);
	own->table = mg_strdup(op->table);
	own->columns = op->columns ? mg_strdup(op->columns) : NULL;
	own->staged = op->staged ? mg_strdup(op->staged) : NULL;
	own->ipc_schema = op->ipc_schema ? mg_buf_ref(op->ipc_schema) : NULL;
	own->ipc_batch = op->ipc_batch ? mg_buf_ref(op->ipc_batch) : NULL;
	part->size += op_size(part, part->count - 1);
	return own;
}

int mg_redo_rows(struct mg_redo *redo, uint32_t shard, enum mg_redo_kind kind, const char *schema,
                 const char *table, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                 uint32_t rows, struct mg_error *err)
{
	const struct mg_redo_op op = { .kind = kind,
		                           .schema = schema,
		                           .table = table,
		                           .ipc_schema = ipc_schema,
		                           .ipc_batch = ipc_batch,
		                           .rows = rows };

	mg_assert(mg_redo_has_rows(kind) && ipc_schema && ipc_batch);
	if (rows > MG_REDO_ROWS_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "a batch of %u rows is larger than %u", rows,
		                    MG_REDO_ROWS_MAX);
	}
	if (part_of(redo, shard)->size + ipc_batch->size + ipc_schema->size > MG_REDO_BYTES_MAX) {
		mg_error_set(err, MG_E_LIMIT, "one statement writes more than %u MB to shard %u",
		             MG_REDO_BYTES_MAX >> 20, shard);
		mg_error_hint(err, "Write the rows in several statements.");
		return MG_E_LIMIT;
	}
	(void)add(redo, shard, &op);
	return 0;
}

void mg_redo_create(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table,
                    const char *columns)
{
	(void)add(redo, shard,
	          &(struct mg_redo_op){
				  .kind = MG_REDO_CREATE, .schema = schema, .table = table, .columns = columns });
}

void mg_redo_drop(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table)
{
	(void)add(redo, shard,
	          &(struct mg_redo_op){ .kind = MG_REDO_DROP, .schema = schema, .table = table });
}

void mg_redo_publish(struct mg_redo *redo, uint32_t shard, enum mg_redo_kind kind,
                     const char *schema, const char *table, const char *staged)
{
	mg_assert(mg_redo_has_rows(kind) && strlen(staged) <= NAME_SIZE_MAX);
	(void)add(redo, shard,
	          &(struct mg_redo_op){ .kind = MG_REDO_PUBLISH,
	                                .schema = schema,
	                                .table = table,
	                                .staged = staged,
	                                .staged_kind = kind });
}

void mg_redo_move(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table,
                  const char *staged)
{
	mg_assert(strlen(staged) <= NAME_SIZE_MAX);
	(void)add(redo, shard,
	          &(struct mg_redo_op){
				  .kind = MG_REDO_MOVE, .schema = schema, .table = table, .staged = staged });
}

int mg_redo_copy(struct mg_redo *redo, uint32_t shard, const struct mg_redo_op *op,
                 struct mg_error *err)
{
	if (mg_redo_has_rows(op->kind)) {
		return mg_redo_rows(redo, shard, op->kind, op->schema, op->table, op->ipc_schema,
		                    op->ipc_batch, op->rows, err);
	}
	(void)add(redo, shard, op);
	return 0;
}

/* ---- looking ---- */

size_t mg_redo_shards(const struct mg_redo *redo, const uint32_t **shards)
{
	struct mg_redo *own = (struct mg_redo *)redo; /* a list made on demand is no change */

	/* Who asked before still reads the list: it moves only when shards came to it. */
	if (own->shards_cap < redo->count + 1) {
		own->shards_cap = redo->count + 1;
		own->shards = mg_realloc(own->shards, own->shards_cap * sizeof *own->shards);
	}
	for (size_t i = 0; i < redo->count; i++) {
		own->shards[i] = redo->parts[i].shard;
	}
	*shards = own->shards;
	return redo->count;
}

static const struct part *look(const struct mg_redo *redo, uint32_t shard)
{
	size_t at = find(redo, shard);

	return at < redo->count && redo->parts[at].shard == shard ? &redo->parts[at] : NULL;
}

const struct mg_redo_op *mg_redo_ops(const struct mg_redo *redo, uint32_t shard, size_t *count)
{
	const struct part *part = look(redo, shard);

	*count = part ? part->count : 0;
	return part ? part->ops : NULL;
}

/* ---- bytes ---- */

size_t mg_redo_size(const struct mg_redo *redo, uint32_t shard)
{
	const struct part *part = look(redo, shard);

	return part ? part->size : 0;
}

size_t mg_redo_total(const struct mg_redo *redo)
{
	size_t total = 0;

	for (size_t i = 0; i < redo->count; i++) {
		total += redo->parts[i].size;
	}
	return total;
}

static void put_name(struct mg_out *out, const char *name)
{
	size_t len = strlen(name);

	mg_out_u8(out, (uint8_t)len);
	mg_out_bytes(out, name, len);
}

static void put_block(struct mg_out *out, const void *data, size_t size)
{
	mg_out_u32(out, (uint32_t)size);
	mg_out_bytes(out, data, size);
}

void mg_redo_encode(const struct mg_redo *redo, uint32_t shard, struct mg_out *out)
{
	const struct part *part = look(redo, shard);

	for (size_t i = 0; part && i < part->count; i++) {
		const struct mg_redo_op *op = &part->ops[i];

		mg_out_u8(out, (uint8_t)op->kind);
		put_name(out, op->schema);
		put_name(out, op->table);
		if (mg_redo_has_rows(op->kind)) {
			bool same = same_columns(part, i);

			mg_out_u32(out, op->rows);
			put_block(out, op->ipc_schema->data, same ? 0 : op->ipc_schema->size);
			put_block(out, op->ipc_batch->data, op->ipc_batch->size);
		} else if (op->kind == MG_REDO_CREATE) {
			put_block(out, op->columns, strlen(op->columns));
		} else if (op->kind == MG_REDO_PUBLISH) {
			mg_out_u8(out, (uint8_t)op->staged_kind);
			put_name(out, op->staged);
		} else if (op->kind == MG_REDO_MOVE) {
			put_name(out, op->staged);
		}
	}
}

/* Text of `size` bytes, without NUL inside; NULL when the bytes are not there. */
static char *take_text(struct mg_in *in, size_t size)
{
	const uint8_t *at = mg_in_bytes(in, size);

	if (!at || memchr(at, '\0', size)) {
		in->failed = true;
		return NULL;
	}
	return mg_strndup((const char *)at, size);
}

/* NULL for a size of 0 and for bytes that are not there. */
static struct mg_buf *take_block(struct mg_in *in)
{
	uint32_t size = mg_in_u32(in);
	const uint8_t *at = size ? mg_in_bytes(in, size) : NULL;
	struct mg_buf *buf = at ? mg_buf_copy(at, size) : NULL;

	if (at && !buf) {
		in->failed = true;
	}
	return buf;
}

static void take_rows(struct mg_in *in, struct mg_redo_op *op, const struct mg_redo_op *before)
{
	op->rows = mg_in_u32(in);
	op->ipc_schema = take_block(in);
	if (!op->ipc_schema && before && before->ipc_schema) {
		op->ipc_schema = mg_buf_ref(before->ipc_schema);
	}
	op->ipc_batch = take_block(in);
	if (!op->ipc_schema || !op->ipc_batch || op->rows == 0 || op->rows > MG_REDO_ROWS_MAX) {
		in->failed = true;
	}
}

static void take_publish(struct mg_in *in, struct mg_redo_op *op)
{
	op->staged_kind = mg_in_u8(in);
	op->staged = take_text(in, mg_in_u8(in));
	if (!mg_redo_has_rows(op->staged_kind)) {
		in->failed = true;
	}
}

int mg_redo_decode(struct mg_redo *redo, uint32_t shard, struct mg_in *in, struct mg_error *err)
{
	struct part *part = part_of(redo, shard);

	while (!in->failed && in->at < in->end) {
		struct mg_redo_op op = { .kind = mg_in_u8(in) };

		op.schema = take_text(in, mg_in_u8(in));
		op.table = take_text(in, mg_in_u8(in));
		if (mg_redo_has_rows(op.kind)) {
			take_rows(in, &op, part->count ? &part->ops[part->count - 1] : NULL);
		} else if (op.kind == MG_REDO_CREATE) {
			op.columns = take_text(in, mg_in_u32(in));
		} else if (op.kind == MG_REDO_PUBLISH) {
			take_publish(in, &op);
		} else if (op.kind == MG_REDO_MOVE) {
			op.staged = take_text(in, mg_in_u8(in));
		} else if (op.kind != MG_REDO_DROP) {
			in->failed = true;
		}
		if (in->failed) {
			op_fini(&op);
			break;
		}
		mg_grow(part->ops, part->count, part->cap);
		part->ops[part->count++] = op;
		part->size += op_size(part, part->count - 1);
	}
	return in->failed ? mg_error_set(err, MG_E_PROTOCOL, "a log entry cannot be read: bytes %s",
	                                 "are missing or wrong")
	                  : 0;
}
