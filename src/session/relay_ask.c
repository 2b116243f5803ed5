/*
 * relay_ask.c - a statement of this node's session at another node; and life of what both ends
 * share.  See relay.h.
 *
 * Thread: the session's, which waits here as it would for an engine.
 */
#include "session/relay_int.h"

#include "base/log.h"
#include "codec/arrow_ipc.h"
#include "exec/engine.h"
#include "exec/hub.h"
#include "os/clock.h"
#include "session/intake.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
	LOOK_MS = 50,       /* how soon a cancel is seen */
	GRACE_MS = 2000,    /* that a read has to end when it was cancelled */
	SETTINGS_OURS = 32, /* at most, of settings.h */
};

/* ---- life ---- */

struct mg_relay *mg_relay_new(struct mg_sessions *sessions, struct mg_peers *peers,
                              size_t threads_max, size_t queue_max)
{
	struct mg_relay *relay = mg_alloc0(sizeof *relay);

	relay->sessions = sessions;
	relay->peers = peers;
	relay->pool = mg_pool_new(threads_max, queue_max);
	relay->asked = mg_metric_counter("merganser_relayed_statements_total", "direction=\"out\"",
	                                 "Statements that went to another server, or came from one.");
	relay->served = mg_metric_counter("merganser_relayed_statements_total", "direction=\"in\"",
	                                  "Statements that went to another server, or came from one.");
	relay->queued = mg_metric_gauge("merganser_relayed_queued_bytes", "",
	                                "Answers of other servers that wait for their client.");
	pthread_mutex_init(&relay->lock, NULL);
	mg_peers_set_relay(peers, mg_relay__take, relay);
	return relay;
}

void mg_relay_stop(struct mg_relay *relay)
{
	if (relay && !atomic_exchange(&relay->stopping, true)) {
		mg_peers_set_relay(relay->peers, NULL, NULL);
		mg_relay_link_drop_idle(relay);
		mg_pool_stop(relay->pool);
	}
}

void mg_relay_free(struct mg_relay *relay)
{
	if (relay) {
		mg_pool_free(relay->pool);
		pthread_mutex_destroy(&relay->lock);
		mg_free(relay);
	}
}

/* ---- a statement ---- */

struct asking {
	const struct mg_relay_ask *ask;
	struct mg_relay_link *link;
	struct mg_sink *sink;
	struct mg_answer *answer;
	struct mg_relay_answer *out;
	struct mg_arena *columns; /* what answer points into */
	struct mg_arrow_decoder *decoder;
	uint64_t cancelled_ms; /* 0: not */
	uint64_t input_at;     /* so much of the input was handed on */
	bool over;             /* the last frame has come */
};

static bool is_stopped(void *arg)
{
	const struct asking *asking = arg;

	return mg_query_stopped(asking->ask->query) != 0;
}

static void send_run(struct asking *asking)
{
	const struct mg_relay_ask *ask = asking->ask;
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_setting settings[SETTINGS_OURS];
	struct mg_relay_frame frame = {
		.kind = MG_RELAY_RUN,
		.run = { .user = ask->user,
		         .role = ask->role,
		         .lossless = asking->sink->lossless,
		         .goes_on = ask->link && *ask->link,
		         .batch_rows = asking->sink->batch_rows,
		         .once = ask->once.key ? ask->once.key : "",
		         .digest = ask->once.digest,
		         .settings = settings,
		         .statement = ask->statement },
	};
	const char *name, *standard, *description;
	size_t *count = &frame.run.setting_count;
	struct mg_sb seen = { 0 };

	for (size_t i = 0; *count < SETTINGS_OURS && mg_settings_at(i, &name, &standard, &description);
	     i++) {
		struct mg_sb value = { 0 };

		if (mg_settings_get(ask->settings, name, &value, NULL) == 0) {
			settings[(*count)++] =
				(struct mg_relay_setting){ name,
				                           mg_arena_strndup(arena, mg_sb_text(&value), value.len) };
		}
		mg_sb_fini(&value);
	}
	if (ask->session) {
		mg_session_add_seen(ask->session, &seen);
	}
	frame.run.seen = mg_sb_text(&seen);
	mg_relay_link_send(asking->link, mg_relay_frame_encode(&frame));
	mg_sb_fini(&seen);
	mg_arena_free(arena);
}

static void cancel(struct asking *asking)
{
	const struct mg_relay_frame frame = { .kind = MG_RELAY_CANCEL };

	if (!asking->cancelled_ms) {
		asking->cancelled_ms = mg_clock_ms();
		mg_relay_link_send(asking->link, mg_relay_frame_encode(&frame));
	}
}

/* The next piece of what the client has sent for COPY. */
static int on_more(struct asking *asking, struct mg_error *err)
{
	const struct mg_write_input *input = asking->ask->input;
	uint64_t left = input ? input->size - asking->input_at : 0;
	size_t size = left < MG_INTAKE_PIECE_BYTES ? (size_t)left : MG_INTAKE_PIECE_BYTES;
	uint8_t *bytes = mg_alloc(size + 1);
	int code = 0;

	if (size && pread(input->fd, bytes, size, (off_t)asking->input_at) != (ssize_t)size) {
		code = mg_error_set(err, MG_E_IO, "what was sent cannot be read again");
		cancel(asking);
	} else {
		const struct mg_relay_frame frame = { .kind = MG_RELAY_DATA,
			                                  .batch = { .data = bytes, .size = size } };

		asking->input_at += size;
		mg_relay_link_send(asking->link, mg_relay_frame_encode(&frame));
	}
	mg_free(bytes);
	return code;
}

static int on_begin(struct asking *asking, const struct mg_relay_begin *begin, struct mg_error *err)
{
	struct mg_answer *answer = asking->answer;
	size_t used = 0;
	int code = asking->out->began || begin->count == 0
	               ? mg_error_set(err, MG_E_PROTOCOL, "an answer that begins wrongly")
	               : mg_arrow_decoder_new(&asking->decoder, err);

	code = code ? code
	            : mg_arrow_decode_schema(asking->decoder, begin->schema, begin->schema_size, &used,
	                                     err);
	if (code) {
		return code;
	}
	answer->schema = mg_arrow_decoder_schema(asking->decoder);
	if (answer->schema->n_children != (int64_t)begin->count) {
		return mg_error_set(err, MG_E_PROTOCOL, "an answer with %zu names for %lld columns",
		                    begin->count, (long long)answer->schema->n_children);
	}
	answer->count = begin->count;
	answer->names = begin->names;
	answer->types = begin->types;
	asking->out->began = true;
	return asking->sink->begin(asking->sink->arg, answer, err);
}

static void unref_whole(void *arg)
{
	mg_buf_unref(arg);
}

static int on_batch(struct asking *asking, struct mg_buf *whole, struct mg_error *err)
{
	struct ArrowArray batch = { 0 };

	if (!asking->decoder) {
		return mg_error_set(err, MG_E_PROTOCOL, "rows without their columns");
	}
	/* Arrow's bytes alone, without a copy: they may stay in use. */
	struct mg_buf *rows = mg_buf_wrap(whole->data + MG_RELAY_BATCH_HEAD,
	                                  whole->size - MG_RELAY_BATCH_HEAD, unref_whole,
	                                  mg_buf_ref(whole));
	int code = mg_arrow_decode_batch(asking->decoder, rows, &batch, err);

	mg_buf_unref(rows);
	code = code ? code : asking->sink->batch(asking->sink->arg, &batch, err);
	if (batch.release) {
		ArrowArrayRelease(&batch);
	}
	return code;
}

static void on_done(struct asking *asking, const char *tag, const struct mg_run_stats *stats)
{
	struct mg_relay_answer *out = asking->out;

	mg_copy_text(out->tag, sizeof out->tag, tag);
	mg_copy_text(out->step, sizeof out->step, stats->step);
	out->stats = *stats;
	out->stats.step = out->step;
	asking->over = true;
}

static int on_failed(struct asking *asking, const struct mg_relay_failed *failed,
                     struct mg_error *err)
{
	asking->over = true;
	asking->out->elsewhere = failed->elsewhere;
	asking->out->coordinator = failed->coordinator;
	asking->out->nothing = failed->elsewhere ||
	                       mg_code_info(failed->error.code)->retry == MG_RETRY_SAFE;
	*err = failed->error;
	return err->code;
}

static int on_frame(struct asking *asking, struct mg_buf *whole, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_frame frame;
	int code = mg_relay_frame_decode(arena, whole->data, whole->size, &frame, err);

	switch (code ? 0 : frame.kind) {
	case MG_RELAY_BEGIN: {
		struct mg_arena *before = asking->columns;

		asking->columns = arena;
		arena = before;
		code = on_begin(asking, &frame.begin, err);
		break;
	}
	case MG_RELAY_BATCH:
		code = on_batch(asking, whole, err);
		break;
	case MG_RELAY_DONE:
		on_done(asking, frame.done.tag, &frame.done.stats);
		break;
	case MG_RELAY_FAILED:
		code = on_failed(asking, &frame.failed, err);
		break;
	case MG_RELAY_MORE:
		code = on_more(asking, err);
		break;
	case MG_RELAY_NOTICE:
		if (asking->sink->notice) {
			asking->sink->notice(asking->sink->arg, frame.notice);
		}
		break;
	case MG_RELAY_SEEN:
		if (asking->ask->session) {
			code = mg_session_see(asking->ask->session, mg_str(frame.notice), err)
			           ? mg_error_set(err, MG_E_PROTOCOL, "an answer that has seen nonsense")
			           : 0;
		}
		break;
	case MG_RELAY_PROGRESS:
		mg_run_set_progress(mg_query_run(asking->ask->query), frame.progress.done,
		                    frame.progress.rows, frame.progress.bytes, frame.progress.nodes);
		break;
	default:
		code = code ? code : mg_error_set(err, MG_E_PROTOCOL, "a question where an answer is due");
	}
	mg_arena_free(arena);
	return code;
}

/* The connection is lost, or the other node speaks nonsense. */
static int say_lost(struct asking *asking, struct mg_error *err)
{
	const struct mg_relay_ask *ask = asking->ask;
	char why[sizeof err->detail];

	mg_copy_text(why, sizeof why, err->message);
	if (mg_relay_link_sent_nothing(asking->link)) {
		asking->out->nothing = true;
		mg_error_set(err, MG_E_UNAVAILABLE, "node %" PRIu64 " cannot be reached", ask->node);
	} else if (ask->writes && !asking->out->began) { /* rows come when it has happened */
		mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "nobody knows yet whether the write happened");
		mg_error_hint(err, "Read what it would have changed before trying again.");
	} else if (asking->out->began) {
		mg_error_set(err, MG_E_NODE, "node %" PRIu64 " was lost while it answered", ask->node);
	} else {
		asking->out->nothing = true;
		mg_error_set(err, MG_E_UNAVAILABLE, "node %" PRIu64 " was lost", ask->node);
	}
	mg_error_detail(err, "%s.", why);
	return err->code;
}

/* It was asked to end and does not: a read is left to itself, a change is waited for. */
static bool is_left(const struct asking *asking)
{
	return asking->cancelled_ms && !asking->ask->writes &&
	       mg_clock_ms() - asking->cancelled_ms > GRACE_MS;
}

static int await_answer(struct asking *asking, struct mg_error *err)
{
	int code = 0;

	while (!code && !asking->over) {
		struct mg_buf *whole = NULL;

		code = mg_relay_link_receive(asking->link, LOOK_MS, &whole, err);
		if (code) {
			return say_lost(asking, err);
		}
		if (is_stopped(asking)) {
			cancel(asking);
		}
		if (whole) {
			code = on_frame(asking, whole, err);
			mg_buf_unref(whole);
		}
		if (code == MG_E_PROTOCOL && !asking->over) {
			return say_lost(asking, err);
		}
		if (!code && !asking->over && is_left(asking)) {
			code = mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
		}
	}
	return code;
}

int mg_relay_run(struct mg_relay *relay, const struct mg_relay_ask *ask, struct mg_sink *sink,
                 struct mg_answer *answer, struct mg_relay_answer *out, struct mg_error *err)
{
	struct asking asking = { .ask = ask, .sink = sink, .answer = answer, .out = out };

	*out = (struct mg_relay_answer){ 0 };
	int code = 0;

	asking.link = ask->link ? *ask->link : NULL;
	if (asking.link) {
		mg_relay_link_hold(asking.link, false);
	} else {
		code = mg_relay_link_take(relay, ask->node, is_stopped, &asking, &asking.link, err);
	}

	if (code) {
		out->nothing = true;
		if (code != MG_E_CANCELLED) {
			char why[sizeof err->detail];

			mg_copy_text(why, sizeof why, err->message);
			mg_error_set(err, MG_E_UNAVAILABLE, "node %" PRIu64 " cannot be reached", ask->node);
			mg_error_detail(err, "%s.", why);
		}
		return err->code;
	}
	mg_metric_add(relay->asked, 1);
	send_run(&asking);
	code = await_answer(&asking, err);
	if (!code) {
		mg_hub_told_elsewhere(mg_engine_hub(mg_sessions_engine(relay->sessions)),
		                      out->stats.workers_there);
	}
	bool usable = asking.over && code != MG_E_PROTOCOL; /* it hangs up after that */

	if (ask->link && usable) {
		mg_relay_link_hold(asking.link, true);
		*ask->link = asking.link;
	} else {
		mg_relay_link_give(asking.link, usable);
		if (ask->link) {
			*ask->link = NULL;
		}
	}
	mg_arrow_decoder_free(asking.decoder);
	mg_arena_free(asking.columns);
	answer->schema = NULL;
	answer->names = answer->types = NULL;
	return code;
}
