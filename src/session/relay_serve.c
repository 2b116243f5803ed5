/*
 * relay_serve.c - the other end: statements of other nodes' sessions run here.  See relay.h.
 *
 *   loop    RUN -> work --post--> query thread: mg_session_run -> sink -> frames
 *   loop    <- pump <- stream of the work <- frames; last frame <- when the stream has ended
 *
 * A BATCH is two blocks of the stream, its head and Arrow's bytes, which so are never copied; they
 * go out together or not at all.  Ending a work closes its stream: rows that wait are dropped, and
 * the last frame still follows.
 *
 * owner: a peer, and which work it has, belong to its loop; a work has two owners, loop and thread.
 */
#include "session/relay_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "codec/arrow_ipc.h"
#include "exec/engine.h"
#include "exec/hub.h"
#include "net/stream.h"
#include "session/inbox.h"

#include <inttypes.h>
#include <string.h>

enum {
	TICK_MS = 500,
	IDLE_MS = 600 * 1000, /* who asks nothing for so long may connect again */
	TAKE_MS = 300 * 1000, /* rows that nobody takes, or sends, for so long end their statement */
};

/* A connection that another node has opened. */
struct peer {
	struct mg_relay *relay;
	struct mg_loop *loop;
	uint64_t node;
	struct mg_conn *conn;
	size_t skip; /* bytes of the hello, which come again */
	struct mg_relay_reader reader;
	struct work *work; /* counted; NULL: it waits for a RUN */
	struct mg_session
		*session; /* with an open transaction, which its next RUN goes on with; NULL */
	struct mg_timer *tick;
};

/* A statement of it. */
struct work {
	atomic_int refs;
	struct mg_relay *relay;
	struct mg_loop *loop;
	struct peer *peer;          /* loop; NULL: the connection is gone */
	struct mg_session *session; /* counted: the peer's, or one for this statement; then the peer's
	                             * again, or NULL */
	struct mg_buf *whole;       /* the RUN, which run points into */
	struct mg_arena *arena;
	struct mg_relay_run run;
	struct mg_stream *stream;
	struct mg_buf *head; /* loop: of a BATCH, its rows not yet */
	atomic_bool cancelled;
	pthread_mutex_t lock;
	struct mg_query *query; /* under lock */
	struct mg_inbox inbox;  /* of what COPY stores */
	/* thread */
	struct mg_arrow_encoder *encoder;
	struct mg_buf *seen, *last; /* the end of the answer, once the stream is finished */
};

/* Rolls back what is open. */
static void end_session(struct mg_session *session)
{
	if (session) {
		mg_session_close(session);
		mg_session_unref(session);
	}
}

static void work_unref(struct work *work)
{
	if (atomic_fetch_sub(&work->refs, 1) != 1) {
		return;
	}
	mg_buf_unref(work->head);
	mg_buf_unref(work->seen);
	mg_buf_unref(work->last);
	mg_stream_unref(work->stream);
	mg_arrow_encoder_free(work->encoder);
	pthread_mutex_destroy(&work->lock);
	mg_inbox_fini(&work->inbox);
	mg_arena_free(work->arena);
	mg_buf_unref(work->whole);
	end_session(work->session);
	mg_free(work);
}

/* Any thread. */
static void work_cancel(struct work *work)
{
	char id[48] = "";

	atomic_store(&work->cancelled, true);
	pthread_mutex_lock(&work->lock);
	if (work->query) {
		mg_copy_text(id, sizeof id, mg_query_id(work->query));
	}
	pthread_mutex_unlock(&work->lock);
	if (id[0]) { /* not under our lock, which the list's is held over */
		(void)mg_queries_cancel(mg_sessions_queries(work->relay->sessions), id, NULL, NULL);
	}
	mg_inbox_close(&work->inbox);
	mg_stream_close(work->stream);
}

/* ---- sink: on the query's thread ---- */

/* Takes the frame. */
static int put_frame(struct work *work, struct mg_buf *frame, struct mg_error *err)
{
	int code = mg_stream_put(work->stream, frame, err);

	mg_buf_unref(frame);
	return code;
}

/* What the session has seen, for its client to hear before what it is about; or NULL. */
static struct mg_buf *seen_frame(struct work *work)
{
	struct mg_sb seen = { 0 };
	struct mg_buf *frame = NULL;

	mg_session_add_seen(work->session, &seen);
	if (seen.len > 0) {
		frame = mg_relay_frame_encode(
			&(struct mg_relay_frame){ .kind = MG_RELAY_SEEN, .notice = mg_sb_text(&seen) });
	}
	mg_sb_fini(&seen);
	return frame;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct work *work = arg;
	struct mg_buf *schema = NULL;

	if (answer->count == 0) {
		return 0;
	}
	struct mg_buf *seen = seen_frame(work);
	int code = seen ? put_frame(work, seen, err) : 0;

	code = code ? code : mg_arrow_encoder_new(&work->encoder, answer->schema, false, err);
	code = code ? code : mg_arrow_encode_schema(work->encoder, &schema, err);
	if (!code) {
		const struct mg_relay_frame frame = {
			.kind = MG_RELAY_BEGIN,
			.begin = { .count = answer->count,
			           .names = (const char **)answer->names,
			           .types = (const char **)answer->types,
			           .schema = schema->data,
			           .schema_size = schema->size },
		};

		code = put_frame(work, mg_relay_frame_encode(&frame), err);
	}
	mg_buf_unref(schema);
	return code;
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct work *work = arg;
	struct mg_buf *rows = NULL;
	uint64_t raw_bytes = 0;
	int code = mg_arrow_encode_batch(work->encoder, batch, &rows, &raw_bytes, err);

	if (!code && rows->size > MG_RELAY_ANSWER_MAX - MG_RELAY_BATCH_HEAD) {
		code = mg_error_set(err, MG_E_LIMIT,
		                    "a row of the answer of %zu bytes is larger than %u MB, which a server "
		                    "hands to another",
		                    rows->size, MG_RELAY_ANSWER_MAX >> 20);
	}
	if (!code) {
		const struct mg_relay_frame frame = {
			.kind = MG_RELAY_BATCH,
			.batch = { .rows = (uint64_t)batch->length, .data = rows->data, .size = rows->size },
		};

		code = put_frame(work, mg_relay_frame_encode(&frame), err);
		code = code ? code : mg_stream_put(work->stream, rows, err);
	}
	mg_buf_unref(rows);
	return code;
}

static uint32_t workers_here(const struct work *work)
{
	return mg_hub_workers(mg_engine_hub(mg_sessions_engine(work->relay->sessions)));
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct work *work = arg;
	struct mg_relay_frame frame = {
		.kind = MG_RELAY_DONE,
		.done = { .tag = answer->tag, .stats = *answer->stats },
	};

	/* Not by the stream, which a cancel closes: what has happened is said to have happened. */
	(void)err;
	work->seen = seen_frame(work);
	frame.done.stats.workers_there = workers_here(work);
	work->last = mg_relay_frame_encode(&frame);
	return 0;
}

static void sink_notice(void *arg, const char *text)
{
	struct work *work = arg;
	const struct mg_relay_frame frame = { .kind = MG_RELAY_NOTICE, .notice = text };

	(void)put_frame(work, mg_relay_frame_encode(&frame), NULL);
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct work *work = arg;

	pthread_mutex_lock(&work->lock);
	work->query = query;
	pthread_mutex_unlock(&work->lock);
	if (query && atomic_load(&work->cancelled)) { /* it came before there was one */
		(void)mg_queries_cancel(mg_sessions_queries(work->relay->sessions), mg_query_id(query),
		                        NULL, NULL);
	}
}

static int sink_input(void *arg, struct mg_buf **out, struct mg_error *err)
{
	struct work *work = arg;
	const struct mg_relay_frame frame = { .kind = MG_RELAY_MORE };

	mg_inbox_ask(&work->inbox);
	int code = put_frame(work, mg_relay_frame_encode(&frame), err);

	return code ? code : mg_inbox_wait(&work->inbox, out, err);
}

static void sink_stop(void *arg)
{
	struct work *work = arg;

	mg_inbox_close(&work->inbox);
	mg_stream_close(work->stream);
}

static bool is_cancelled(void *arg)
{
	struct work *work = arg;

	return atomic_load(&work->cancelled);
}

static int run_settings(struct mg_session *session, const struct mg_relay_run *run,
                        struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < run->setting_count; i++) {
		code = mg_session_set(session, run->settings[i].name, run->settings[i].value, err);
	}
	return code || !run->seen[0] ? code : mg_session_see(session, mg_str(run->seen), err);
}

static void work_over(void *arg);

/* On a query thread: the whole statement. */
static void work_run(void *arg)
{
	struct work *work = arg;
	struct mg_relay_frame failed = { .kind = MG_RELAY_FAILED };
	struct mg_error *err = &failed.failed.error;
	struct mg_outcome outcome = { 0 };
	struct mg_sink sink = {
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.notice = sink_notice,
		.input = sink_input,
		.query = sink_query,
		.stop = sink_stop,
		.arg = work,
		.lossless = work->run.lossless,
		.batch_rows = work->run.batch_rows,
	};
	const struct mg_request request = {
		.sql = work->run.statement,
		.relayed = true,
		.in_transaction = work->run.goes_on,
		.once = { .key = work->run.once[0] ? work->run.once : NULL, .digest = work->run.digest },
		.cancelled = is_cancelled,
		.arg = work,
	};
	if (!work->session) {
		work->session = mg_session_open(work->relay->sessions,
		                                &(struct mg_session_open){ .user = work->run.user,
		                                                           .role = work->run.role,
		                                                           .door = "relay" });
	}
	struct mg_session *session = work->session;
	int code = atomic_load(&work->relay->stopping)
	               ? mg_error_set(err, MG_E_SHUTDOWN, "the server is shutting down")
	               : run_settings(session, &work->run, err);

	mg_stream_on_wait(work->stream, mg_slot_pause, mg_slot_resume, &sink.slot);
	code = code ? code : mg_session_run(session, &request, &sink, &outcome, err);
	mg_stream_on_wait(work->stream, NULL, NULL, NULL);
	if (!*mg_session_transaction(session)) {
		end_session(session);
		work->session = NULL;
	}
	if (!code && !work->last) {
		code = mg_error_set(err, MG_E_INTERNAL, "the statement gave no answer");
	}
	if (code) {
		if (code == MG_E_DISCONNECTED && atomic_load(&work->cancelled)) {
			mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
		}
		failed.failed.elsewhere = outcome.elsewhere;
		failed.failed.coordinator = outcome.coordinator;
		mg_buf_unref(work->last);
		work->last = mg_relay_frame_encode(&failed);
	}
	mg_stream_finish(work->stream);
	mg_loop_post(work->loop, work_over, work);
}

/* ---- from the stream to the connection: on the loop ---- */

static void end_work(struct peer *peer)
{
	struct work *work = peer->work;

	mg_timer_stop(peer->tick);
	peer->tick = NULL;
	peer->work = NULL;
	work->peer = NULL;
	if (peer->conn) { /* the thread is done with it; else the session goes with the work */
		peer->session = work->session;
		work->session = NULL;
		mg_conn_idle_limit(peer->conn, peer->session ? 0 : IDLE_MS); /* it has one of its own */
	}
	work_unref(work);
}

static bool is_batch_head(const struct mg_buf *block)
{
	uint32_t told;

	memcpy(&told, block->data, sizeof told);
	return block->data[4] == MG_RELAY_BATCH && block->size == MG_RELAY_BATCH_HEAD &&
	       told != block->size;
}

/* Takes the block. */
static void send_block(struct work *work, struct mg_buf *block)
{
	struct mg_conn *conn = work->peer->conn;

	if (work->head) {
		mg_conn_write_buf(conn, work->head);
		mg_buf_unref(work->head);
		work->head = NULL;
		mg_conn_write_buf(conn, block);
	} else if (is_batch_head(block)) {
		work->head = mg_buf_ref(block);
	} else {
		mg_conn_write_buf(conn, block);
	}
	mg_buf_unref(block);
}

static void pump(struct peer *peer)
{
	while (peer->work && peer->conn && mg_conn_write_queued(peer->conn) < MG_STREAM_LOW) {
		struct work *work = peer->work;
		bool finished = false;
		struct mg_buf *block = mg_stream_take(work->stream, &finished);

		if (block) {
			send_block(work, block);
		}
		if (finished) {
			if (work->seen) {
				mg_conn_write_buf(peer->conn, work->seen);
			}
			mg_conn_write_buf(peer->conn, work->last);
			end_work(peer);
		} else if (!block) {
			return;
		}
	}
}

static void work_wake(void *arg)
{
	struct work *work = arg;

	if (work->peer) {
		pump(work->peer);
	}
}

/* The thread is done with it.  When the stream was closed nobody else woke us for the last frame.
 */
static void work_over(void *arg)
{
	work_wake(arg);
	work_unref(arg);
}

/* A sign of life, too. */
static void on_tick(void *arg)
{
	struct peer *peer = arg;
	struct work *work = peer->work;
	struct mg_relay_frame frame = { .kind = MG_RELAY_PROGRESS, .progress = { .done = -1 } };
	struct mg_relay_progress *progress = &frame.progress;

	pthread_mutex_lock(&work->lock);
	if (work->query) {
		mg_run_progress(mg_query_run(work->query), &progress->done, &progress->rows,
		                &progress->bytes, &progress->nodes);
	}
	pthread_mutex_unlock(&work->lock);
	if (mg_conn_write_queued(peer->conn) == 0) { /* else something goes out already */
		struct mg_buf *buf = mg_relay_frame_encode(&frame);

		mg_conn_write_buf(peer->conn, buf);
		mg_buf_unref(buf);
	}
}

/* ---- what the other node sends ---- */

/* The answer to a statement that never ran. */
static void refuse(struct peer *peer, const struct mg_error *err)
{
	const struct mg_relay_frame frame = { .kind = MG_RELAY_FAILED, .failed = { .error = *err } };
	struct mg_buf *buf = mg_relay_frame_encode(&frame);

	mg_conn_write_buf(peer->conn, buf);
	mg_buf_unref(buf);
}

/* Takes both. */
static struct work *work_new(struct peer *peer, struct mg_buf *whole, struct mg_arena *arena,
                             const struct mg_relay_run *run)
{
	struct work *work = mg_alloc0(sizeof *work);

	atomic_init(&work->refs, 2);
	work->relay = peer->relay;
	work->loop = peer->loop;
	work->peer = peer;
	work->whole = whole;
	work->arena = arena;
	work->run = *run;
	work->session = peer->session; /* a transaction goes on */
	peer->session = NULL;
	work->stream = mg_stream_new(peer->loop, work_wake, work);
	mg_stream_idle_limit(work->stream, TAKE_MS);
	pthread_mutex_init(&work->lock, NULL);
	mg_inbox_init(&work->inbox, TAKE_MS);
	return work;
}

static void on_run(struct peer *peer, struct work *work)
{
	struct mg_error err = { 0 };

	if (mg_pool_post(peer->relay->pool, work_run, work, &err)) {
		refuse(peer, &err);
		peer->session = work->session;
		work->session = NULL;
		work_unref(work);
		work_unref(work);
		return;
	}
	mg_metric_add(peer->relay->served, 1);
	peer->work = work;
	peer->tick = mg_timer_start(peer->loop, TICK_MS, TICK_MS, on_tick, peer);
}

/* The transaction that is open here is the one that the statement means, and its user's; without
 * one it means none. */
static int check_session(const struct peer *peer, const struct mg_relay_run *run,
                         struct mg_error *err)
{
	const struct mg_session *session = peer->session;

	if (run->goes_on ? session && mg_text_eq(mg_session_user(session), run->user) &&
	                       mg_session_role(session) == run->role
	                 : !session) {
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL,
	                    session ? "the connection has another transaction open"
	                            : "the connection has no transaction open");
}

/* Takes the frame. */
static int on_frame(struct peer *peer, struct mg_buf *whole, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_frame frame;
	int code = mg_relay_frame_decode(arena, whole->data, whole->size, &frame, err);

	if (!code && frame.kind == MG_RELAY_RUN && !peer->work) {
		struct mg_error wrong = { 0 };

		if (!check_session(peer, &frame.run, &wrong)) {
			on_run(peer, work_new(peer, whole, arena, &frame.run));
			return 0;
		}
		mg_log(MG_LOG_WARN, "relay.protocol", "server=%" PRIu64 " error=%s", peer->node,
		       wrong.message);
		refuse(peer, &wrong);
		mg_conn_close_after_write(peer->conn); /* which rolls back */
	} else if (!code && frame.kind == MG_RELAY_CANCEL) {
		if (peer->work) { /* else it has ended meanwhile */
			work_cancel(peer->work);
		}
	} else if (!code && frame.kind == MG_RELAY_DATA) {
		struct mg_buf *piece =
			frame.batch.size ? mg_buf_copy(frame.batch.data, frame.batch.size) : NULL;

		if (peer->work) { /* else it has ended meanwhile */
			(void)mg_inbox_put(&peer->work->inbox, piece, frame.batch.size && !piece);
		}
		mg_buf_unref(piece);
	} else if (!code) {
		code = mg_error_set(err, MG_E_PROTOCOL, "a frame of kind %u is not due", frame.kind);
	}
	mg_arena_free(arena);
	mg_buf_unref(whole);
	return code;
}

static long peer_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct peer *peer = state;
	struct mg_error err = { 0 };
	size_t at = size < peer->skip ? size : peer->skip;

	peer->skip -= at;
	for (size_t used; !err.code && at < size; at += used) {
		struct mg_buf *whole = NULL;

		(void)mg_relay_reader_take(&peer->reader, bytes + at, size - at, &used, &whole, &err);
		if (whole) {
			(void)on_frame(peer, whole, &err);
		}
	}
	if (err.code) {
		mg_log(MG_LOG_WARN, "relay.protocol", "server=%" PRIu64 " error=\"%s\"", peer->node,
		       err.message);
		mg_conn_close(conn);
	}
	return (long)size;
}

static void peer_drain(struct mg_conn *conn, void *state)
{
	(void)conn;
	pump(state);
}

/* Nobody wants the answer any more. */
static void peer_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct peer *peer = state;

	(void)conn;
	(void)reason;
	peer->conn = NULL;
	if (peer->work) {
		work_cancel(peer->work);
		end_work(peer);
	}
	end_session(peer->session);
	mg_relay_reader_fini(&peer->reader);
	(void)atomic_fetch_sub(&peer->relay->serving, 1);
	mg_free(peer);
}

static const struct mg_protocol peer_protocol = {
	.name = "peer relay",
	.data = peer_data,
	.drain = peer_drain,
	.closed = peer_closed,
};

bool mg_relay__take(void *arg, struct mg_conn *conn, uint64_t node, size_t skip)
{
	struct mg_relay *relay = arg;

	if (atomic_fetch_add(&relay->serving, 1) >= MG_RELAY_PEERS_MAX ||
	    atomic_load(&relay->stopping)) {
		(void)atomic_fetch_sub(&relay->serving, 1);
		return false;
	}
	struct peer *peer = mg_alloc0(sizeof *peer);

	peer->relay = relay;
	peer->loop = mg_conn_loop(conn);
	peer->node = node;
	peer->conn = conn;
	peer->skip = skip;
	peer->reader.max = MG_RELAY_ASK_MAX;
	mg_conn_idle_limit(conn, IDLE_MS);
	mg_conn_set_protocol(conn, &peer_protocol, peer);
	return true;
}
