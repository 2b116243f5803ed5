/*
 * kv_download.c - see kv_download.h.
 *
 *     query thread: the next part is read -> post
 *     loop: into the stream; when that has room, again
 *
 * No thread waits for a client.  While all query threads have their hands full, and more wait for
 * one than may, an answer that has begun asks again, for a bounded time; one that has not is
 * refused.  All parts are of one moment, since one iterator reads them.
 *
 * owner: the request's loop; while a part is read, the query thread.
 */
#include "door/kv_download.h"

#include "replica/kv_groups.h"

#define HIGH_BYTES (1u << 20) /* that wait for the client; one part more is read */
enum { AGAIN_MS = 50, AGAIN_MAX = 200 }; /* times, for a query thread: ten seconds */

struct download {
	struct mg_arena *arena; /* this lies in it */
	struct mg_doors *doors;
	struct mg_http_request *request;
	struct mg_loop *loop;
	struct mg_str space, key;
	mg_kv_download_begin *begin;
	void *arg;
	struct mg_kv_iter *iter;
	struct mg_kv_found found;
	bool is_there;
	uint32_t left;      /* parts that were not read */
	struct mg_buf *buf; /* what was read last */
	struct mg_stream *stream; /* NULL: nothing was answered yet */
	struct mg_timer *timer;   /* it waits for a query thread */
	unsigned again;           /* how often it has */
	bool gone, over; /* the client; the request */
	bool busy;       /* a query thread, or we, use this */
	struct mg_error err;
};

/* ---- its end ---- */

static void free_download(struct download *download)
{
	struct mg_error ignored;

	mg_timer_stop(download->timer);
	(void)mg_kv_iter_close(download->iter, &ignored);
	mg_buf_unref(download->buf);
	mg_stream_unref(download->stream);
	mg_arena_free(download->arena);
}

/* Loop: with the request. */
static void on_over(void *arg)
{
	struct download *download = arg;

	download->over = true;
	if (!download->busy) {
		free_download(download);
	}
}

static void on_gone(void *arg)
{
	struct download *download = arg;

	download->gone = true;
}

/* ---- reading: on a query thread ---- */

static struct mg_str keep(struct download *download, struct mg_str text)
{
	return (struct mg_str){ mg_arena_strndup(download->arena, text.ptr ? text.ptr : "", text.len),
		                    text.len };
}

static void open_key(struct download *download)
{
	struct mg_replica *replica = mg_engine_replica(download->doors->options.engine);
	struct mg_kv_found *found = &download->found;
	uint32_t shard = mg_replica_kv_shard(replica, download->space, download->key);
	const struct mg_str behind = { download->key.ptr, download->key.len + 1 }; /* and a zero */
	struct mg_str key;

	download->iter = mg_kv_iter_open(mg_replica_kv_state(replica, shard), download->space,
	                                 download->key, behind);
	download->is_there = mg_kv_iter_next(download->iter, &key, found);
	if (download->is_there) { /* its texts are valid until the iterator moves */
		found->type = keep(download, found->type);
		found->encoding = keep(download, found->encoding);
		download->left = found->part_count ? found->part_count : 1;
	}
}

static void read_part(struct download *download)
{
	struct mg_str part = download->found.value;
	bool good = !download->found.part_count || mg_kv_iter_part(download->iter, &part);

	download->buf = good ? mg_buf_copy(part.ptr, part.len) : NULL;
	download->left--;
	if (good && !download->buf) {
		mg_error_set(&download->err, MG_E_NOMEM, "no memory for a part of a value");
	} else if (!good) {
		mg_error_set(&download->err, MG_E_CORRUPT, "a value cannot be read");
		(void)mg_kv_iter_close(download->iter, &download->err);
		download->iter = NULL;
	}
}

static void came(void *arg);

static void read_next(void *arg)
{
	struct download *download = arg;

	if (!download->iter) {
		open_key(download);
	}
	if (download->left) {
		read_part(download);
	} else {
		(void)mg_kv_iter_close(download->iter, &download->err); /* there is no such key, or: why */
		download->iter = NULL;
	}
	mg_loop_post(download->loop, came, download);
}

static void begin_read(struct download *download)
{
	download->busy = mg_pool_post(mg_sessions_pool(download->doors->sessions), read_next, download,
	                              &download->err) == 0;
}

/* ---- answering ---- */

/* The next part, or why not: the pool is full now, or for good. */
static void read_on(void *arg)
{
	struct download *download = arg;

	mg_timer_stop(download->timer);
	download->timer = NULL;
	begin_read(download);
	if (download->busy) {
		download->again = 0;
	} else if (download->err.code == MG_E_BUSY && download->again < AGAIN_MAX) {
		mg_error_clear(&download->err);
		download->again++;
		download->timer = mg_timer_start(download->loop, AGAIN_MS, 0, read_on, download);
	} else {
		mg_stream_fail(download->stream);
	}
}

static void on_room(void *arg)
{
	struct download *download = arg;

	if (!download->busy && !download->timer && download->left && !download->err.code) {
		read_on(download);
	}
}

/* False: it is over. */
static bool begin_answer(struct download *download)
{
	struct mg_sb extra = { 0 };
	const char *type = NULL;

	if (download->gone) {
		mg_http_abort(download->request);
		return false;
	}
	if (download->err.code) {
		mg_rest_error(download->request, &download->err, 0);
		return false;
	}
	if (!download->begin(download->arg, download->is_there ? &download->found : NULL, &extra,
	                     &type)) {
		return false;
	}
	download->stream = mg_stream_new(download->loop, NULL, NULL);
	mg_stream_set_room(download->stream, HIGH_BYTES, on_room, download);
	mg_rest_count(download->request, 200);
	mg_http_reply_sized(download->request, 200, type, mg_sb_text(&extra), download->stream,
	                    download->found.size);
	mg_sb_fini(&extra);
	return true;
}

static void pass_on(struct download *download)
{
	struct mg_error ignored;

	if (download->err.code) {
		mg_stream_fail(download->stream); /* never a short value that looks whole */
		return;
	}
	(void)mg_stream_push(download->stream, download->buf, &ignored); /* else it is over soon */
	mg_buf_unref(download->buf);
	download->buf = NULL;
	if (download->left == 0) {
		mg_stream_finish(download->stream);
	}
}

/* Loop: a part was read. */
static void came(void *arg)
{
	struct download *download = arg;

	if (!download->over && (download->stream || begin_answer(download))) {
		pass_on(download);
	}
	download->busy = false;
	if (download->over) {
		free_download(download);
	} else if (download->stream && !mg_stream_is_full(download->stream)) {
		on_room(download);
	}
}

void mg_kv_download(struct mg_doors *doors, struct mg_http_request *request, struct mg_str space,
                    struct mg_str key, mg_kv_download_begin *begin, void *arg)
{
	struct mg_arena *arena = mg_arena_new();
	struct download *download = mg_arena_alloc(arena, sizeof *download);

	*download = (struct download){ .arena = arena,
		                           .doors = doors,
		                           .request = request,
		                           .loop = mg_conn_loop(mg_http_conn(request)),
		                           .begin = begin,
		                           .arg = arg };
	download->space = keep(download, space);
	download->key = keep(download, key);
	mg_arena_defer(mg_http_arena(request), on_over, download);
	mg_http_defer(request, on_gone, download);
	begin_read(download);
	if (!download->busy) {
		mg_rest_error(request, &download->err, 0);
	}
}
