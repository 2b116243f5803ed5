/*
 * rest_job_events.c - GET /jobs/ID/events: how far a job is, as events that the server sends, and
 * then its end.
 *
 *     event: progress    data: its state, when that is another one than before
 *     event: done, failed or cancelled    data: all of it but its result; then the answer ends
 *
 * owner: the connection's loop.
 */
#include "door/doors_int.h"
#include "net/stream.h"

#include <string.h>

enum { LOOK_MS = 250, HEARTBEAT_LOOKS = 60 };

struct follower {
	struct mg_listed_job *listed;
	struct mg_stream *stream;
	struct mg_timer *timer; /* NULL: it has heard the end */
	struct mg_sb told;      /* the last state */
	unsigned quiet;         /* looks without an event */
};

static void push(struct follower *follower, struct mg_sb *text)
{
	size_t size = text->len;
	char *bytes = mg_sb_take(text);
	struct mg_buf *buf = mg_buf_wrap(bytes, size, mg_free, bytes);

	(void)mg_stream_push(follower->stream, buf, NULL); /* else its client has gone, and it ends */
	mg_buf_unref(buf);
	follower->quiet = 0;
}

static void push_event(struct follower *follower, const char *name, const struct mg_sb *data)
{
	struct mg_sb text = { 0 };

	mg_sb_addf(&text, "event: %s\ndata: ", name);
	mg_sb_add_len(&text, data->ptr, data->len);
	mg_sb_add(&text, "\n\n");
	push(follower, &text);
}

static void stop_looking(struct follower *follower)
{
	mg_timer_stop(follower->timer);
	follower->timer = NULL;
}

/* All that a client hears of the time that has passed changes with each look: what else does? */
static bool is_news(const struct follower *follower, const struct mg_sb *state)
{
	const char *before = strstr(mg_sb_text(&follower->told), ", \"elapsed_ms\"");
	const char *now = strstr(mg_sb_text(state), ", \"elapsed_ms\"");
	size_t size = now ? (size_t)(now - state->ptr) : 0;

	return !before || !now || size != (size_t)(before - follower->told.ptr) ||
	       memcmp(follower->told.ptr, state->ptr, size) != 0;
}

static void look(void *arg)
{
	struct follower *follower = arg;
	enum mg_job_state job_state = mg_listed_job_state(follower->listed);
	struct mg_sb state = { 0 };

	mg_listed_job_json(follower->listed, job_state >= MG_JOB_DONE, &state);
	if (job_state >= MG_JOB_DONE) {
		push_event(follower, mg_job_state_names[job_state], &state);
		mg_stream_finish(follower->stream);
		stop_looking(follower);
	} else if (is_news(follower, &state) && !mg_stream_is_full(follower->stream)) {
		push_event(follower, "progress", &state);
		mg_sb_clear(&follower->told);
		mg_sb_add_len(&follower->told, state.ptr, state.len);
	} else if (++follower->quiet >= HEARTBEAT_LOOKS && !mg_stream_is_full(follower->stream)) {
		struct mg_sb beat = { 0 };

		mg_sb_add(&beat, ": \n\n");
		push(follower, &beat);
	}
	mg_sb_fini(&state);
}

/* Hook of the request's arena. */
static void follower_free(void *arg)
{
	struct follower *follower = arg;

	stop_looking(follower);
	mg_stream_unref(follower->stream);
	mg_listed_job_unref(follower->listed);
	mg_sb_fini(&follower->told);
	mg_free(follower);
}

void mg_rest_job_events(struct mg_http_request *request, struct mg_listed_job *listed)
{
	struct mg_loop *loop = mg_conn_loop(mg_http_conn(request));
	struct follower *follower = mg_alloc0(sizeof *follower);

	follower->listed = listed;
	follower->stream = mg_stream_new(loop, NULL, NULL);
	follower->timer = mg_timer_start(loop, LOOK_MS, LOOK_MS, look, follower);
	mg_arena_defer(mg_http_arena(request), follower_free, follower);
	look(follower);
	mg_rest_count(request, 200);
	mg_http_reply_stream(request, 200, "text/event-stream",
	                     "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", follower->stream);
}
