/*
 * rest_kv_watch.c - GET /kv/{namespace}/watch: what changes in its keys, as events that the server
 * sends.
 *
 *     ?prefix=                      of which keys
 *     ?encoding= ?values=           as of a page (kv_json.h)
 *     ?from= or Last-Event-ID       a token: what has changed since; else from now on
 *     ?consistency=any              do not await what other servers have acknowledged
 *
 *     where keys are applied --one post for each loop--> its perch -> each watch: what is new, as
 *     text -> stream -> the client; a client that has taken it: on
 *
 * A watch has no thread and no queue of changes: it reads the feeds of the node (replica/kv_feed.h)
 * from its place on whenever there is something, and rests while its client has QUEUE_BYTES to
 * take.  One that has rested for SLOW_MS and until half of what a feed keeps lies before it is too
 * slow, and ends with the token from which its client can go on; one that the feed has left behind
 * hears MG_E_GONE.
 *
 * Bound: MG_WATCHES_MAX at a server, each with QUEUE_BYTES and one event.
 *
 * owner: the connection's loop; while it waits for what was acknowledged, the raft thread.
 */
#include "base/assert.h"
#include "base/log.h"
#include "door/doors_int.h"
#include "door/kv_json.h"
#include "os/clock.h"
#include "replica/kv_scan.h"
#include "replica/kv_watch.h"
#include "session/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	HEARTBEAT_MS = 15000,
	SLOW_MS = 1000, /* a client that takes nothing for so long has not only been surprised */
	STOP_REST_MS = 10,
	BLOCK_BYTES = 32 << 10,
};
#define QUEUE_BYTES (256u << 10)
/* A client hears where it is at least so often, though nothing was for it: it would go on from far
 * behind. */
#define TOKEN_BYTES (1u << 20)

/* The watches of a loop. */
struct perch {
	struct perch *next;
	struct mg_doors *doors;
	struct mg_loop *loop;
	struct mg_kv_listener listener;
	/* owner: loop */
	struct watch *watches;      /* that have begun and not ended */
	struct watch *at;           /* whose turn is next; NULL: all have had theirs */
	bool again;                 /* and then all once more */
	struct mg_timer *heartbeat; /* while there are some */
};

struct mg_rest_watches {
	atomic_int count;
	pthread_mutex_t lock;
	struct perch *perches; /* guarded by lock: one for each loop that has had a watch */
	uint32_t open;         /* likewise: perches that have not ended theirs */
};

struct watch {
	struct perch *perch;
	struct watch *next, **link; /* link NULL: not on the perch */
	struct mg_http_request *request;
	bool gone, any;
	struct mg_kv_watch *changes;
	struct mg_kv_forms forms;
	struct mg_stream *stream;
	struct mg_sb text; /* block that fills */
	uint64_t told;     /* mg_kv_watch_looked at the last token */
	uint64_t full_ms;  /* its client has had enough since then; 0: it has not */
	struct mg_error err;
};

static struct mg_replica *replica_of(const struct mg_doors *doors)
{
	return mg_engine_replica(doors->options.engine);
}

/* ---- the answer's bytes ---- */

static void flush(struct watch *watch)
{
	struct mg_error ignored;
	size_t size = watch->text.len;

	if (size == 0) {
		return;
	}
	char *text = mg_sb_take(&watch->text);
	struct mg_buf *buf = mg_buf_wrap(text, size, mg_free, text);

	(void)mg_stream_push(watch->stream, buf, &ignored); /* else nobody listens, and it ends soon */
	mg_buf_unref(buf);
}

static void add_token(struct watch *watch, const char *before, const char *behind)
{
	mg_sb_add(&watch->text, before);
	mg_kv_watch_token(watch->changes, &watch->text);
	mg_sb_add(&watch->text, behind);
	watch->told = mg_kv_watch_looked(watch->changes);
}

static void tell_ready(struct watch *watch)
{
	add_token(watch, "event: ready\nid: ", "\n");
	add_token(watch, "data: {\"op\": \"ready\", \"token\": \"", "\"}\n\n");
}

static void tell_change(struct watch *watch, const struct mg_kv_change *change)
{
	static const char *const names[] = { [MG_KV_CHANGE_PUT] = "put",
		                                 [MG_KV_CHANGE_DELETE] = "delete",
		                                 [MG_KV_CHANGE_EXPIRE] = "expire" };
	const char *name = names[change->kind];
	struct mg_sb *text = &watch->text;

	mg_sb_addf(text, "event: %s\n", name);
	add_token(watch, "id: ", "\n");
	mg_sb_addf(text, "data: {\"op\": \"%s\", ", name);
	mg_kv_add_key(text, watch->forms, change->key);
	mg_sb_addf(text, ", \"version\": %" PRIu64, change->version);
	if (change->kind == MG_KV_CHANGE_PUT) {
		mg_kv_add_found(text, watch->forms,
		                &(struct mg_kv_found){ .version = change->version,
		                                       .created_ms = change->created_ms,
		                                       .changed_ms = change->changed_ms,
		                                       .expiry_ms = change->expiry_ms,
		                                       .size = change->size,
		                                       .value = change->value,
		                                       .type = change->type,
		                                       .encoding = change->encoding });
	} else {
		mg_sb_addf(text, ", \"changed_ms\": %" PRIu64, change->changed_ms);
	}
	mg_sb_add(text, "}\n\n");
}

/* The last thing that a client hears. */
static void tell_error(struct watch *watch)
{
	add_token(watch, "event: error\nid: ", "\n");
	add_token(watch, "data: {\"op\": \"error\", \"token\": \"", "\", \"error\": ");
	mg_error_json(&watch->text, &watch->err);
	mg_sb_add(&watch->text, "}\n\n");
	flush(watch);
}

/* ---- on and off the perch ---- */

static void beat_all(void *arg);

static void sit(struct watch *watch)
{
	struct perch *perch = watch->perch;

	watch->next = perch->watches;
	watch->link = &perch->watches;
	if (watch->next) {
		watch->next->link = &watch->next;
	} else {
		perch->heartbeat =
			mg_timer_start(perch->loop, HEARTBEAT_MS, HEARTBEAT_MS, beat_all, perch);
	}
	perch->watches = watch;
}

/* It looks at nothing any more. */
static void leave(struct watch *watch)
{
	struct perch *perch = watch->perch;

	if (!watch->link) {
		return;
	}
	*watch->link = watch->next;
	if (watch->next) {
		watch->next->link = watch->link;
	}
	watch->link = NULL;
	perch->at = perch->at == watch ? watch->next : perch->at;
	mg_kv_watch_rest(watch->changes);
	if (!perch->watches) {
		mg_timer_stop(perch->heartbeat);
		perch->heartbeat = NULL;
	}
}

/* With watch->err as its last event. */
static void end(struct watch *watch, const char *reason)
{
	char labels[40];

	(void)snprintf(labels, sizeof labels, "reason=\"%s\"", reason);
	mg_metric_add(mg_metric_counter("merganser_kv_watches_ended_total", labels,
	                                "Watches of keys that this server has ended."),
	              1);
	mg_log(MG_LOG_INFO, "kv.watch_ended", "error=\"%s\"", watch->err.message);
	leave(watch);
	tell_error(watch);
	mg_stream_finish(watch->stream);
}

static void say_slow(struct mg_error *err)
{
	mg_error_set(err, MG_E_BUSY, "the watch is too slow for what changes");
	mg_error_hint(err, "Go on from the token, here or at another server.");
}

/* ---- what is new ---- */

/* What there is for a client that takes it; *later: there may be more.  False: it has ended. */
static bool tell_new(struct watch *watch, bool *later)
{
	enum mg_kv_next next = MG_KV_NEXT_CHANGE;
	struct mg_kv_change change;

	while (next == MG_KV_NEXT_CHANGE && !mg_stream_is_full(watch->stream)) {
		next = mg_kv_watch_next(watch->changes, &change, &watch->err);
		if (next == MG_KV_NEXT_CHANGE) {
			tell_change(watch, &change);
		}
		if (watch->text.len >= BLOCK_BYTES) {
			flush(watch);
		}
	}
	if (next == MG_KV_NEXT_GONE) {
		end(watch, "gone");
		return false;
	}
	if (next == MG_KV_NEXT_CHANGE) {
		mg_kv_watch_rest(watch->changes);
	}
	if (mg_kv_watch_looked(watch->changes) - watch->told >= TOKEN_BYTES) {
		add_token(watch, "id: ", "\n\n");
	}
	flush(watch);
	*later = *later || next == MG_KV_NEXT_LATER;
	return true;
}

static void serve(struct watch *watch, bool *later)
{
	if (!mg_stream_is_full(watch->stream)) {
		watch->full_ms = 0;
		if (!tell_new(watch, later)) {
			return;
		}
	}
	if (!mg_stream_is_full(watch->stream)) {
		return;
	}
	watch->full_ms = watch->full_ms ? watch->full_ms : mg_clock_ms();
	if (mg_clock_ms() - watch->full_ms >= SLOW_MS && mg_kv_watch_is_slow(watch->changes)) {
		say_slow(&watch->err);
		end(watch, "slow");
	}
}

/* One after the other, for a millisecond; then the loop has its turn. */
static void serve_some(void *arg)
{
	struct perch *perch = arg;
	uint64_t begin_ms = mg_clock_ms();

	while (perch->at && mg_clock_ms() == begin_ms) {
		struct watch *watch = perch->at;

		perch->at = watch->next;
		serve(watch, &perch->again);
	}
	if (!perch->at && perch->again) {
		perch->again = false;
		perch->at = perch->watches;
	}
	if (perch->at) {
		mg_loop_post(perch->loop, serve_some, perch);
	}
}

static void serve_all(void *arg)
{
	struct perch *perch = arg;

	mg_kv_heard(&perch->listener);
	if (perch->at) {
		perch->again = true; /* it is under way */
		return;
	}
	perch->again = false;
	perch->at = perch->watches;
	serve_some(perch);
}

/* Where keys are applied. */
static void wake(void *arg)
{
	struct perch *perch = arg;

	mg_loop_post(perch->loop, serve_all, perch);
}

/* The client has taken enough. */
static void on_room(void *arg)
{
	struct watch *watch = arg;
	bool later = false;

	if (watch->link) {
		serve(watch, &later);
	}
	if (later) {
		wake(watch->perch);
	}
}

/* An id alone is no event, but where a client goes on from. */
static void beat_all(void *arg)
{
	struct perch *perch = arg;

	for (struct watch *watch = perch->watches; watch; watch = watch->next) {
		if (!mg_stream_is_full(watch->stream)) {
			add_token(watch, ": \nid: ", "\n\n");
			flush(watch);
		}
	}
}

/* ---- life of a watch ---- */

/* Hook of the request's arena: it was answered to its end, or its client went away. */
static void watch_free(void *arg)
{
	struct watch *watch = arg;

	leave(watch);
	(void)atomic_fetch_sub(&watch->perch->doors->watches->count, 1);
	mg_kv_watch_close(watch->changes);
	mg_stream_unref(watch->stream);
	mg_sb_fini(&watch->text);
	mg_free(watch);
}

static void watch_gone(void *arg)
{
	struct watch *watch = arg;

	watch->gone = true;
}

static void begin(struct watch *watch)
{
	struct mg_http_request *request = watch->request;
	struct perch *perch = watch->perch;

	watch->stream = mg_stream_new(perch->loop, NULL, NULL);
	mg_stream_set_room(watch->stream, QUEUE_BYTES, on_room, watch);
	sit(watch);
	tell_ready(watch);
	flush(watch);
	mg_rest_count(request, 200);
	mg_http_reply_stream(request, 200, "text/event-stream",
	                     "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", watch->stream);
	wake(perch); /* what has come since its place */
}

/* On the loop. */
static void awaited(void *arg)
{
	struct watch *watch = arg;

	if (watch->gone) {
		mg_http_abort(watch->request);
		return;
	}
	if (atomic_load(&watch->perch->doors->stopping)) {
		mg_error_set(&watch->err, MG_E_SHUTDOWN, "the server is shutting down");
	}
	if (watch->err.code || mg_kv_watch_begin(watch->changes, watch->any, &watch->err)) {
		mg_rest_error(watch->request, &watch->err, 0);
		return;
	}
	begin(watch);
}

/* Raft thread. */
static void on_awaited(void *arg, const struct mg_error *err)
{
	struct watch *watch = arg;

	if (err) {
		watch->err = *err;
	}
	mg_loop_post(watch->perch->loop, awaited, watch);
}

/* ---- the question ---- */

static int read_watch(struct watch *watch, struct mg_str space, struct mg_error *err)
{
	struct mg_http_request *request = watch->request;
	const char *word = mg_http_query(request, "consistency");
	const char *last = mg_http_header(request, "Last-Event-ID");
	struct mg_str prefix;

	watch->any = mg_text_eq(word, "any");
	if (mg_kv_read_forms(request, &watch->forms, err)) {
		return MG_E_USAGE;
	}
	if (!mg_kv_is_space(space)) {
		return mg_kv_refuse_space(err);
	}
	if (!mg_kv_read_bytes(mg_http_arena(request), watch->forms.keys,
	                      mg_http_query(request, "prefix"), &prefix) ||
	    prefix.len > MG_KV_KEY_MAX) {
		return mg_error_set(err, MG_E_USAGE, "?prefix= is too long, or not as ?encoding= says");
	}
	/* A client that comes back sends its first URL again, and where it was beside it. */
	return mg_kv_watch_open(&watch->changes, replica_of(watch->perch->doors), space, prefix,
	                        last && *last ? last : mg_http_query(request, "from"), err);
}

/* That of this loop; NULL: the server stops. */
static struct perch *find_perch(struct mg_doors *doors, struct mg_loop *loop)
{
	struct mg_rest_watches *watches = doors->watches;

	pthread_mutex_lock(&watches->lock);
	struct perch *perch = watches->perches;
	bool stopping = atomic_load(&doors->stopping);

	while (perch && perch->loop != loop) {
		perch = perch->next;
	}
	if (!perch && !stopping) {
		perch = mg_alloc0(sizeof *perch);
		perch->doors = doors;
		perch->loop = loop;
		perch->listener.wake = wake;
		perch->listener.arg = perch;
		perch->next = watches->perches;
		watches->perches = perch;
		watches->open++;
		mg_kv_listen(replica_of(doors), &perch->listener);
	}
	pthread_mutex_unlock(&watches->lock);
	return stopping ? NULL : perch;
}

void mg_rest_kv_watch(struct mg_doors *doors, struct mg_http_request *request,
                      struct mg_str space)
{
	struct perch *perch = find_perch(doors, mg_conn_loop(mg_http_conn(request)));
	struct mg_error err = { 0 };

	if (!perch) {
		mg_error_set(&err, MG_E_SHUTDOWN, "the server is shutting down");
		mg_rest_error(request, &err, 0);
		return;
	}
	struct watch *watch = mg_alloc0(sizeof *watch);

	watch->perch = perch;
	watch->request = request;
	mg_arena_defer(mg_http_arena(request), watch_free, watch);
	if (atomic_fetch_add(&doors->watches->count, 1) >= MG_WATCHES_MAX) {
		mg_error_set(&err, MG_E_BUSY, "%d watches are open at this server", MG_WATCHES_MAX);
		mg_error_hint(&err, "Watch at another server, or end some.");
		mg_rest_error(request, &err, 503);
	} else if (read_watch(watch, space, &err)) {
		mg_rest_error(request, &err, 400);
	} else {
		mg_http_defer(request, watch_gone, watch);
		if (watch->any) {
			mg_loop_post(perch->loop, awaited, watch);
		} else {
			mg_kv_await_begin(replica_of(doors), on_awaited, watch);
		}
	}
}

/* ---- life of all ---- */

void mg_rest_kv_watch_init(struct mg_doors *doors)
{
	doors->watches = mg_alloc0(sizeof *doors->watches);
	pthread_mutex_init(&doors->watches->lock, NULL);
}

static void end_all(void *arg)
{
	struct perch *perch = arg;
	struct mg_rest_watches *watches = perch->doors->watches;

	while (perch->watches) {
		struct watch *watch = perch->watches;

		mg_error_set(&watch->err, MG_E_SHUTDOWN, "the server is shutting down");
		mg_error_hint(&watch->err, "Go on at another server, from the token.");
		end(watch, "stopped");
	}
	pthread_mutex_lock(&watches->lock);
	watches->open--;
	pthread_mutex_unlock(&watches->lock);
}

static bool are_open(struct mg_rest_watches *watches)
{
	pthread_mutex_lock(&watches->lock);
	bool open = watches->open > 0;

	pthread_mutex_unlock(&watches->lock);
	return open;
}

void mg_rest_kv_watch_stop(struct mg_doors *doors)
{
	struct mg_rest_watches *watches = doors->watches;

	mg_assert(atomic_load(&doors->stopping));
	pthread_mutex_lock(&watches->lock);
	for (struct perch *perch = watches->perches; perch; perch = perch->next) {
		mg_kv_unlisten(replica_of(doors), &perch->listener);
		mg_loop_post(perch->loop, end_all, perch);
	}
	pthread_mutex_unlock(&watches->lock);
	while (are_open(watches)) {
		mg_sleep_ms(STOP_REST_MS);
	}
}

void mg_rest_kv_watch_free(struct mg_doors *doors)
{
	struct mg_rest_watches *watches = doors->watches;

	for (struct perch *perch = watches->perches, *next; perch; perch = next) {
		next = perch->next;
		mg_free(perch);
	}
	pthread_mutex_destroy(&watches->lock);
	mg_free(watches);
}

int mg_rest_kv_watch_count(const struct mg_doors *doors)
{
	return atomic_load(&doors->watches->count);
}
