/*
 * rest_changes.c - GET /changes/TABLE: a table's changes as lines of JSON, or as events that the
 * server sends.
 *
 *   loop: collect -> thread of its own pool: mg_feed_run -> blocks -> stream -> the client
 *
 * A feed blocks its thread for as long as the client follows, so there are MG_FEEDS_MAX of them,
 * apart from the threads of statements.  A slow client fills the stream, and then the feed waits:
 * what comes meanwhile lies in the shards' logs of changes.  When it has waited too long, or the
 * log has gone past it, the answer ends with an event that says so, and without the end of its
 * body.
 *
 * owner: a feed has two: the request (its arena's hook gives the reference back) and the thread.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "exec/feed.h"
#include "os/clock.h"
#include "replica/replica.h"
#include "session/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK_SIZE = 32 << 10,
	STOP_REST_MS = 10,
	HEARTBEAT_MS = 5000,
	HEARTBEAT_MIN_MS = 100,
	HEARTBEAT_MAX_MS = 3600 * 1000,
};

struct feed {
	atomic_int refs;
	struct mg_doors *doors;
	struct mg_loop *loop;
	struct mg_http_request *request; /* loop; NULL: answered, or the client has gone */
	bool streaming;                  /* loop: the answer has begun */
	atomic_bool gone;                /* nobody listens */
	struct mg_stream *stream;        /* made by the thread; NULL: not yet */
	/* of the thread */
	struct mg_arena *arena;
	struct mg_feed_options options;
	bool sse;
	struct mg_sb text; /* block that fills */
	struct mg_error err;
};

static void feed_unref(void *arg)
{
	struct feed *feed = arg;

	if (atomic_fetch_sub(&feed->refs, 1) > 1) {
		return;
	}
	mg_stream_unref(feed->stream);
	mg_sb_fini(&feed->text);
	mg_arena_free(feed->arena);
	mg_free(feed);
}

/* ---- the answer's bytes: on the thread ---- */

static int flush(void *arg, struct mg_error *err)
{
	struct feed *feed = arg;
	size_t size = feed->text.len;

	if (size == 0) {
		return 0;
	}
	char *text = mg_sb_take(&feed->text);
	struct mg_buf *buf = mg_buf_wrap(text, size, mg_free, text);
	int code = mg_stream_put(feed->stream, buf, err);

	mg_buf_unref(buf);
	return code;
}

static void add_rows(struct mg_sb *out, const struct mg_feed_event *event)
{
	mg_sb_addf(out, ", \"shard\": %" PRIu32 ", \"index\": %" PRIu64, event->shard, event->index);
	if (event->op == MG_FEED_DROP) {
		return;
	}
	mg_sb_addf(out, ", \"n\": %" PRIu64, event->n);
	if (event->commit) {
		mg_sb_addf(out, ", \"commit\": \"%s\"", event->commit);
	}
	mg_sb_addf(out, ", \"rid\": \"%" PRId64 "\"", event->rid);
	if (event->op == MG_FEED_UPDATE || event->op == MG_FEED_DELETE) {
		mg_sb_addf(out, ", \"old\": %s", event->old ? event->old : "null");
	}
	if (event->row) {
		mg_sb_addf(out, ", \"row\": %s", event->row);
	}
}

static void add_event(struct mg_sb *out, const struct mg_feed_event *event)
{
	mg_sb_addf(out, "{\"op\": \"%s\"", mg_feed_op_name(event->op));
	if (event->op == MG_FEED_RESOLVED) {
		mg_sb_addf(out, ", \"token\": \"%s\"", event->token);
	} else if (event->op == MG_FEED_COLUMNS) {
		mg_sb_addf(out, ", \"columns\": %s", event->row);
	} else if (event->op == MG_FEED_END) {
		mg_sb_addf(out, ", \"reason\": \"%s\"", event->reason);
	} else {
		add_rows(out, event);
	}
	mg_sb_add_char(out, '}');
}

static int tell_event(void *arg, const struct mg_feed_event *event, struct mg_error *err)
{
	struct feed *feed = arg;
	struct mg_sb *text = &feed->text;

	if (feed->sse) {
		mg_sb_addf(text, "event: %s\n", mg_feed_op_name(event->op));
		if (event->token) { /* comes back as Last-Event-ID */
			mg_sb_addf(text, "id: %s\n", event->token);
		}
		mg_sb_add(text, "data: ");
	}
	add_event(text, event);
	mg_sb_add(text, feed->sse ? "\n\n" : "\n");
	return text->len < BLOCK_SIZE ? 0 : flush(feed, err);
}

/* The last thing that a client hears which heard others before. */
static void tell_error(struct feed *feed)
{
	struct mg_error ignored;

	mg_sb_add(&feed->text, feed->sse ? "event: error\ndata: " : "");
	mg_sb_add(&feed->text, "{\"op\": \"error\", \"error\": ");
	mg_error_json(&feed->text, &feed->err);
	mg_sb_add(&feed->text, feed->sse ? "}\n\n" : "}\n");
	(void)flush(feed, &ignored);
}

/* In the place of another one. */
static void list_stream(struct mg_doors *doors, struct mg_stream *old, struct mg_stream *stream)
{
	bool done = false;

	pthread_mutex_lock(&doors->feed_lock);
	for (size_t i = 0; i < MG_FEEDS_MAX && !done; i++) {
		if (doors->feed_streams[i] == old) {
			doors->feed_streams[i] = stream;
			done = true;
		}
	}
	pthread_mutex_unlock(&doors->feed_lock);
	mg_assert(done);
}

static void stream_on_loop(void *arg)
{
	struct feed *feed = arg;

	feed->streaming = true;
	if (feed->request) {
		mg_rest_count(feed->request, 200);
		mg_http_reply_stream(feed->request, 200,
		                     feed->sse ? "text/event-stream" : "application/x-ndjson",
		                     "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", feed->stream);
	}
	feed_unref(feed);
}

static int begin(void *arg, struct mg_error *err)
{
	struct feed *feed = arg;

	(void)err;
	feed->stream = mg_stream_new(feed->loop, NULL, NULL);
	mg_stream_idle_limit(feed->stream, feed->doors->options.idle_ms);
	list_stream(feed->doors, NULL, feed->stream);
	(void)atomic_fetch_add(&feed->refs, 1);
	mg_loop_post(feed->loop, stream_on_loop, feed);
	return 0;
}

static bool is_stopped(void *arg)
{
	const struct feed *feed = arg;

	return atomic_load(&feed->gone) || atomic_load(&feed->doors->stopping);
}

static void feed_over(void *arg);

static void feed_thread(void *arg)
{
	struct feed *feed = arg;
	int code = mg_feed_run(&feed->options, &feed->err);

	if (code == MG_E_CANCELLED && atomic_load(&feed->doors->stopping)) {
		mg_error_set(&feed->err, MG_E_SHUTDOWN, "the server is shutting down");
		mg_error_hint(&feed->err, "Go on at another server, with the last token.");
	}
	if (feed->stream && code) {
		tell_error(feed);
		mg_stream_fail(feed->stream);
	} else if (feed->stream) {
		mg_stream_finish(feed->stream);
	}
	if (feed->stream) {
		list_stream(feed->doors, feed->stream, NULL);
	}
	mg_loop_post(feed->loop, feed_over, feed);
}

/* ---- on the loop ---- */

static void feed_over(void *arg)
{
	struct feed *feed = arg;

	(void)atomic_fetch_sub(&feed->doors->feeds, 1);
	if (feed->err.code && feed->streaming && !atomic_load(&feed->gone)) {
		mg_log(MG_LOG_INFO, "changes.cut", "table=%.200s error=\"%s\"", feed->options.table,
		       feed->err.message);
	}
	if (feed->request && !feed->streaming) {
		mg_rest_error(feed->request, &feed->err, 0);
	}
	feed_unref(feed);
}

/* Hook of the request's arena: it was answered to its end, or its client went away. */
static void request_freed(void *arg)
{
	struct feed *feed = arg;

	feed->request = NULL;
	atomic_store(&feed->gone, true);
	if (!atomic_load(&feed->doors->stopping)) {
		mg_replica_changes_kick(mg_engine_replica(feed->doors->options.engine));
	}
	feed_unref(feed);
}

/* The client went away before it heard anything. */
static void feed_gone(void *arg)
{
	struct feed *feed = arg;

	atomic_store(&feed->gone, true);
}

/* ---- what the request asks for: on the loop ---- */

static bool wants_sse(struct mg_http_request *request)
{
	const char *accept = mg_http_header(request, "accept");
	const char *format = mg_http_query(request, "format");

	return format ? strcmp(format, "sse") == 0 : accept && strstr(accept, "text/event-stream");
}

static int read_format(struct mg_http_request *request, struct mg_error *err)
{
	const char *format = mg_http_query(request, "format");

	return format && strcmp(format, "sse") != 0 && strcmp(format, "ndjson") != 0
	           ? mg_error_set(err, MG_E_USAGE, "format is ndjson or sse, not \"%.40s\"", format)
	           : 0;
}

static int read_number(struct mg_http_request *request, const char *name, uint64_t *out,
                       struct mg_error *err)
{
	const char *text = mg_http_query(request, name);

	if (!text) {
		return 0;
	}
	size_t len = strspn(text, "0123456789");

	if (len == 0 || len > 18 || text[len]) {
		return mg_error_set(err, MG_E_USAGE, "%s is a number, not \"%.40s\"", name, text);
	}
	*out = strtoull(text, NULL, 10);
	return 0;
}

/* "500ms", "5s", "1min", or seconds. */
static int read_heartbeat(struct mg_http_request *request, uint64_t *out, struct mg_error *err)
{
	const char *text = mg_http_query(request, "heartbeat");
	char unit[4] = "s";
	unsigned long long number = 0;
	int end = 0;

	if (!text) {
		return 0;
	}
	int count = sscanf(text, "%6llu%3[a-z]%n", &number, unit, &end);
	uint64_t each = strcmp(unit, "ms") == 0    ? 1
	                : strcmp(unit, "s") == 0   ? 1000
	                : strcmp(unit, "min") == 0 ? 60000
	                                           : 0;
	bool whole = count == 2 ? text[end] == '\0' : strspn(text, "0123456789") == strlen(text);

	*out = number * each;
	if (count < 1 || !whole || *out < HEARTBEAT_MIN_MS || *out > HEARTBEAT_MAX_MS) {
		return mg_error_set(err, MG_E_USAGE, "heartbeat is 100ms to 60min, not \"%.40s\"", text);
	}
	return 0;
}

static int read_options(struct feed *feed, struct mg_http_request *request, struct mg_error *err)
{
	struct mg_feed_options *options = &feed->options;
	const char *from = mg_http_query(request, "from");
	const char *follow = mg_http_query(request, "follow");

	from = from ? from : mg_http_header(request, "last-event-id");
	*options = (struct mg_feed_options){
		.engine = feed->doors->options.engine,
		.table = mg_arena_strdup(feed->arena, mg_http_path(request) + strlen(MG_CHANGES_PATH)),
		.from = mg_arena_strdup(feed->arena, from && *from ? from : "now"),
		.follow = !follow || mg_rest_flag(request, "follow"),
		.heartbeat_ms = HEARTBEAT_MS,
		.stopped = is_stopped,
		.begin = begin,
		.event = tell_event,
		.flush = flush,
		.arg = feed,
	};
	feed->sse = wants_sse(request);
	if (!*options->table) {
		return mg_error_set(err, MG_E_USAGE, "GET /changes/TABLE: the table is missing");
	}
	int code = read_format(request, err);

	code = code ? code : read_number(request, "limit", &options->limit, err);
	return code ? code : read_heartbeat(request, &options->heartbeat_ms, err);
}

static int start(struct feed *feed, struct mg_error *err)
{
	struct mg_doors *doors = feed->doors;

	if (atomic_fetch_add(&doors->feeds, 1) >= MG_FEEDS_MAX) {
		(void)atomic_fetch_sub(&doors->feeds, 1);
		mg_error_set(err, MG_E_BUSY, "%d feeds of changes are open at this server", MG_FEEDS_MAX);
		mg_error_hint(err, "Follow at another server, or end some.");
		return MG_E_BUSY;
	}
	int code = mg_pool_post(doors->feed_pool, feed_thread, feed, err);

	if (code) {
		(void)atomic_fetch_sub(&doors->feeds, 1);
	}
	return code;
}

/* A client that takes nothing is not waited for. */
static void let_go(struct mg_doors *doors)
{
	pthread_mutex_lock(&doors->feed_lock);
	for (size_t i = 0; i < MG_FEEDS_MAX; i++) {
		struct mg_stream *stream = doors->feed_streams[i];

		if (stream && mg_stream_queued(stream) > MG_STREAM_LOW) {
			mg_stream_close(stream);
		}
	}
	pthread_mutex_unlock(&doors->feed_lock);
}

void mg_rest_changes_stop(struct mg_doors *doors)
{
	mg_assert(atomic_load(&doors->stopping));
	while (atomic_load(&doors->feeds) > 0) {
		let_go(doors);
		mg_replica_changes_kick(mg_engine_replica(doors->options.engine));
		mg_sleep_ms(STOP_REST_MS);
	}
	mg_pool_stop(doors->feed_pool);
}

void mg_rest_changes_free(struct mg_doors *doors)
{
	mg_pool_free(doors->feed_pool);
	pthread_mutex_destroy(&doors->feed_lock);
}

void mg_rest_changes_init(struct mg_doors *doors)
{
	pthread_mutex_init(&doors->feed_lock, NULL);
	doors->feed_pool = mg_pool_new(MG_FEEDS_MAX, MG_FEEDS_MAX);
}

void mg_rest_changes(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role)
{
	struct feed *feed = mg_alloc0(sizeof *feed);
	struct mg_error err = { 0 };

	(void)user;
	(void)role;
	feed->doors = doors;
	feed->loop = mg_conn_loop(mg_http_conn(request));
	feed->request = request;
	feed->arena = mg_arena_new();
	atomic_init(&feed->refs, 2);
	mg_arena_defer(mg_http_arena(request), request_freed, feed);
	int code = read_options(feed, request, &err);

	if (!code) {
		mg_http_defer(request, feed_gone, feed);
		code = start(feed, &err);
	}
	if (code) {
		mg_rest_error(request, &err, code == MG_E_BUSY ? 503 : 0);
		feed_unref(feed);
	}
}
