/*
 * shard_read.c - the rows of a table of a shard's file, in the order in which they came, for who
 * writes them elsewhere in the same transaction.
 *
 * They are read page by page, by their ids: a page is whole in memory before its batches are handed
 * on, because the connection has one statement at a time.  A page ends when it has PAGE_BYTES_MAX,
 * however few rows these are, and the next one begins behind its last row: in such a table, where
 * rows are only ever inserted, they lie in the order of their ids.
 *
 * owner: as the writer's.
 */
#include "codec/arrow_ipc.h"
#include "store/shard_write_int.h"

enum {
	PAGE_ROWS_MIN = 2048,
	PAGE_ROWS_MAX = 122880,
	PAGE_BYTES_MIN = 2 << 20, /* of fewer the next page is longer */
	PAGE_BYTES_MAX = 16 << 20, /* and the last batch's */
};

struct reading {
	struct mg_shard_writer *writer;
	const char *schema, *table;
	struct mg_arrow_encoder *encoder;
	struct mg_buf *ipc_schema; /* the same for all pages */
	struct page {
		struct mg_buf **batches;
		uint32_t *rows;
		size_t count, cap, rows_cap;
		uint64_t bytes, row_count;
		bool full; /* and there may be more */
	} page;
};

static void forget_page(struct page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		mg_buf_unref(page->batches[i]);
	}
	page->count = 0;
	page->bytes = page->row_count = 0;
	page->full = false;
}

static int on_columns(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct reading *reading = arg;

	if (reading->encoder) {
		return 0;
	}
	int code = mg_arrow_encoder_new(&reading->encoder, schema, false, err);

	return code ? code : mg_arrow_encode_schema(reading->encoder, &reading->ipc_schema, err);
}

static int on_batch(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct reading *reading = arg;
	struct page *page = &reading->page;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;

	(void)target;
	if (page->bytes >= PAGE_BYTES_MAX) {
		page->full = true;
		return mg_error_set(err, MG_E_CANCELLED, "the page is full");
	}
	int code = mg_arrow_encode_batch(reading->encoder, batch, &buf, &raw, err);

	if (!code) {
		size_t count = page->count;

		mg_grow(page->batches, count, page->cap);
		mg_grow(page->rows, count, page->rows_cap);
		page->batches[count] = buf;
		page->rows[count] = (uint32_t)batch->length;
		page->count++;
		page->bytes += raw;
		page->row_count += (uint64_t)batch->length;
	}
	return code;
}

/* first, last: of all ids; last < first when there is no row. */
static int find_ids(struct reading *reading, int64_t *first, int64_t *last, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT coalesce(min(_mg_rid), 1) FROM ");
	mg_shard_writer__add_table(&sql, reading->writer, reading->schema, reading->table);
	int code = mg_duck_int(reading->writer->conn, mg_sb_text(&sql), first, err);

	mg_sb_clear(&sql);
	mg_sb_add(&sql, "SELECT coalesce(max(_mg_rid), 0) FROM ");
	mg_shard_writer__add_table(&sql, reading->writer, reading->schema, reading->table);
	code = code ? code : mg_duck_int(reading->writer->conn, mg_sb_text(&sql), last, err);
	mg_sb_fini(&sql);
	return code;
}

/* The id of the row that comes behind the page, which began at `from`. */
static int find_next(struct reading *reading, int64_t from, int64_t *next, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT _mg_rid FROM ");
	mg_shard_writer__add_table(&sql, reading->writer, reading->schema, reading->table);
	mg_sb_addf(&sql, " WHERE _mg_rid >= %lld ORDER BY _mg_rid LIMIT 1 OFFSET %llu", (long long)from,
	           (unsigned long long)reading->page.row_count);
	int code = mg_duck_int(reading->writer->conn, mg_sb_text(&sql), next, err);

	mg_sb_fini(&sql);
	return code;
}

/* Rows with ids from *from .. *from + ids - 1, or some of them; *from: where the next page begins.
 */
static int read_page(struct reading *reading, int64_t *from, int64_t ids, struct mg_error *err)
{
	const struct mg_duck_sink sink = { .begin = on_columns, .put = on_batch, .arg = reading };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT * EXCLUDE (_mg_rid, _mg_slot), _mg_slot AS slot FROM ");
	mg_shard_writer__add_table(&sql, reading->writer, reading->schema, reading->table);
	mg_sb_addf(&sql, " WHERE _mg_rid >= %lld AND _mg_rid < %lld", (long long)*from,
	           (long long)(*from + ids));
	int code = mg_duck_scatter(reading->writer->conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	mg_sb_fini(&sql);
	if (code && reading->page.full) {
		mg_error_clear(err);
		return find_next(reading, *from, from, err);
	}
	*from += ids;
	return code;
}

int mg_shard_writer_read(struct mg_shard_writer *writer, const char *schema, const char *table,
                         int (*batch)(void *arg, struct mg_buf *ipc_schema,
                                      struct mg_buf *ipc_batch, uint32_t rows,
                                      struct mg_error *err),
                         void *arg, struct mg_error *err)
{
	struct reading reading = { .writer = writer, .schema = schema, .table = table };
	int64_t from = 0, last = 0, ids = PAGE_ROWS_MIN;
	int code = mg_shard_writer__end_append(writer, err);

	code = code ? code : find_ids(&reading, &from, &last, err);
	while (!code && from <= last) {
		code = read_page(&reading, &from, ids, err);
		for (size_t i = 0; !code && i < reading.page.count; i++) {
			code = batch(arg, reading.ipc_schema, reading.page.batches[i], reading.page.rows[i],
			             err);
		}
		if (reading.page.bytes < PAGE_BYTES_MIN && ids < PAGE_ROWS_MAX) {
			ids *= 2;
		} else if (reading.page.full && ids > PAGE_ROWS_MIN) {
			ids /= 2;
		}
		forget_page(&reading.page);
	}
	mg_arrow_encoder_free(reading.encoder);
	mg_buf_unref(reading.ipc_schema);
	mg_free(reading.page.batches);
	mg_free(reading.page.rows);
	return code;
}
