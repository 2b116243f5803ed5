/*
 * feed_snapshot.c - the rows of one shard as they are at one index of its log, told as events.
 *
 * Rule: index and rows are read in one transaction of the engine, which changes both in one; so the
 * changes behind that index are those that the rows do not show.
 *
 * The rows are first spooled, in memory and then on disk, and told when the transaction is over: a
 * client as slow as it likes holds up no checkpoint and no other server's snapshot.  On disk all
 * feeds together take at most half of what is free (53100).
 */
#include "exec/feed_int.h"

#include "exec/gate.h"
#include "store/duck.h"
#include "store/spool.h"

#include <inttypes.h>

enum { TRIES = 5 };

struct taking {
	struct mg_feed *feed;
	struct mg_spool *spool;
	struct mg_arrow_encoder *encoder;
};

static int take_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct taking *taking = arg;
	struct mg_buf *buf = NULL;
	int code = mg_arrow_encoder_new(&taking->encoder, schema, false, err);

	code = code ? code : mg_arrow_encode_schema(taking->encoder, &buf, err);
	code = code ? code : mg_spool_set_schema(taking->spool, buf, err);
	mg_buf_unref(buf);
	return code;
}

static int take_batch(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct taking *taking = arg;
	const struct mg_feed_options *options = taking->feed->options;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;

	(void)target;
	if (options->stopped && options->stopped(options->arg)) {
		return mg_error_set(err, MG_E_CANCELLED, "the feed was ended");
	}
	int code = mg_arrow_encode_batch(taking->encoder, batch, &buf, &raw, err);

	code = code ? code : mg_spool_put(taking->spool, buf, (uint64_t)batch->length, err);
	mg_buf_unref(buf);
	return code;
}

static void interrupt(void *arg)
{
	mg_duck_interrupt(arg);
}

/* The user's columns stand in their order, whatever they are called now. */
static void write_select(struct mg_sb *sql, const struct mg_feed *feed, uint32_t shard)
{
	mg_sb_addf(sql, "SELECT * EXCLUDE (_mg_slot) FROM s%" PRIu32 ".", shard);
	mg_sb_add_path(sql, feed->schema, feed->stored);
}

static int read_rows(struct taking *taking, struct mg_duck_conn *conn, uint32_t shard,
                     uint64_t *index, struct mg_error *err)
{
	const struct mg_duck_sink sink = { .begin = take_begin, .put = take_batch, .arg = taking };
	struct mg_sb sql = { 0 };
	int64_t applied = 0;

	mg_sb_addf(&sql, "SELECT applied_index::BIGINT FROM s%" PRIu32 "._mg.meta", shard);
	int code = mg_duck_exec(conn, "BEGIN", err);

	code = code ? code : mg_duck_int(conn, mg_sb_text(&sql), &applied, err);
	mg_sb_clear(&sql);
	write_select(&sql, taking->feed, shard);
	code = code ? code : mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);
	mg_sb_fini(&sql);
	*index = (uint64_t)applied;
	return code;
}

static int take_rows(struct taking *taking, uint32_t shard, uint64_t *index, struct mg_error *err)
{
	struct mg_engine *engine = taking->feed->options->engine;
	struct mg_gate *gate = mg_engine_gate(engine);
	struct mg_gate_pass pass = { 0 };
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(mg_engine_duck(engine), &conn, err);

	code = code ? code : mg_gate_enter(gate, &pass, interrupt, conn, err);
	code = code ? code : read_rows(taking, conn, shard, index, err);
	mg_gate_mute(gate, &pass);
	if (conn) {
		mg_duck_disconnect(conn);
	}
	mg_gate_leave(gate, &pass);
	return code;
}

static int tell_batch(struct mg_feed *feed, struct mg_feed_shard *shard, uint64_t index,
                      const struct mg_buf *buf, struct mg_error *err)
{
	struct ArrowArray array = { 0 };
	int code = mg_feed__batch_of(&feed->shape, buf->data, buf->size, &array, err);

	for (int64_t i = 0; !code && i < array.length; i++) {
		mg_sb_clear(&feed->row);
		mg_feed__add_row(feed, &feed->shape, i, 1, 0, &feed->row);
		code = mg_feed__tell(feed,
		                     &(struct mg_feed_event){ .op = MG_FEED_READ,
		                                              .shard = shard->shard,
		                                              .index = index,
		                                              .n = shard->n++,
		                                              .rid = mg_feed__rids(&array)[i],
		                                              .row = mg_sb_text(&feed->row) },
		                     err);
	}
	if (array.release) {
		ArrowArrayRelease(&array);
	}
	return code;
}

static int tell_spool(struct mg_feed *feed, struct mg_feed_shard *shard, uint64_t index,
                      struct mg_spool *spool, struct mg_error *err)
{
	struct mg_buf *schema = mg_spool_schema(spool);
	int code = schema ? mg_feed__shape_of(&feed->shape, schema, err) : 0;

	for (size_t i = 0; !code && schema && i < mg_spool_count(spool); i++) {
		struct mg_buf *buf = NULL;

		code = mg_spool_get(spool, i, &buf, err);
		code = code ? code : tell_batch(feed, shard, index, buf, err);
		mg_buf_unref(buf);
	}
	return code;
}

void mg_feed__budget(const struct mg_feed *feed, struct mg_spool_budget *budget)
{
	static atomic_ullong together;

	mg_engine_budget(feed->options->engine, budget);
	budget->limit = MG_FEED_MEMORY_BYTES; /* many may follow */
	budget->together = &together;
}

int mg_feed__snapshot(struct mg_feed *feed, struct mg_feed_shard *shard, uint64_t *index,
                      struct mg_error *err)
{
	struct mg_spool_budget budget;
	struct taking taking = { .feed = feed };
	int code = MG_E_BUSY;

	mg_feed__budget(feed, &budget);
	/* A reader is interrupted when the shard's file is about to be another server's: then again. */
	for (int i = 0; code && i < TRIES; i++) {
		mg_arrow_encoder_free(taking.encoder);
		mg_spool_unref(taking.spool);
		taking.encoder = NULL;
		taking.spool = mg_spool_new(&budget);
		code = take_rows(&taking, shard->shard, index, err);
		if (code != MG_E_BUSY && code != MG_E_CANCELLED) {
			break;
		}
		if (feed->options->stopped && feed->options->stopped(feed->options->arg)) {
			break;
		}
	}
	mg_spool_seal(taking.spool);
	shard->n = 0;
	code = code ? code : tell_spool(feed, shard, *index, taking.spool, err);
	mg_arrow_encoder_free(taking.encoder);
	mg_spool_unref(taking.spool);
	return code;
}
