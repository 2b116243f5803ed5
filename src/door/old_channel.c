/*
 * old_channel.c - /client as clients of the predecessors speak it (docs/protocol.md, "The old
 * frames"): the first text frame is "user:password", each further one a whole statement or a dot
 * command; the answer is lines of text and one binary frame, an Arrow IPC stream with the whole
 * result.
 *
 *   loop   text frame -> queue -> job --post--> query thread: mg_session_run -> sink -> messages
 *   loop   <- messages, all at once <- job_done
 *
 * Rule: one statement at a time, in order, so that answers need no ids; the next one starts when
 * the client has taken most of the last answer.
 *
 * owner: the channel, its queue, login and job belong to the loop; a login and a job are lent to a
 * thread and come back by job_done and login_done, which free them.
 * Limits: RESULT_MAX for one answer, MESSAGE_MAX for a frame and for what waits, QUEUE_MAX frames.
 */
#include "door/doors_int.h"

#include "base/log.h"
#include "codec/arrow_ipc.h"
#include "door/link.h"
#include "session/running.h"
#include "os/clock.h"

#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum {
	MESSAGE_MAX = 1 << 20,
	QUEUE_MAX = 64,
	RESULT_MAX = 64 << 20,
	LOGIN_MS = 10000,
	HEARTBEAT_MS = 15000,
	SILENCE_MS = 90000,
	CLOSE_FAILED = 1011,
};

/* What goes to the client: a text, or with `arrow` a binary frame. */
struct message {
	struct mg_buf *buf;
	bool arrow;
};

struct channel;

/* One text frame that is being answered. */
struct job {
	struct channel *channel; /* loop; NULL when the connection is gone */
	struct mg_loop *loop;
	struct mg_session *session; /* a ref */
	char *sql;
	struct mg_running running;
	/* thread, then loop: */
	struct mg_arrow_encoder *encoder;
	struct mg_buf **blocks; /* of the result that is being collected */
	size_t block_count, block_cap, bytes;
	struct message *messages;
	size_t message_count, message_cap;
};

struct login {
	struct channel *channel; /* loop; NULL when the connection is gone */
	struct mg_doors *doors;
	struct mg_loop *loop;
	char *user, *password;
	enum mg_role role;
	struct mg_error err;
};

struct channel {
	struct mg_link link; /* first: it frees the whole */
	struct mg_doors *doors;
	struct mg_session *session; /* NULL: not logged in */
	struct login *login;        /* being checked */
	struct job *job;            /* that runs */
	char *queue[QUEUE_MAX];
	size_t queued, queued_bytes;
	bool paused;
	struct mg_timer *timer; /* for the login, then heartbeats */
};
static_assert(offsetof(struct channel, link) == 0, "the link frees the channel");

static void send_text(struct channel *channel, const char *text)
{
	if (channel->link.ws) {
		mg_ws_send_text(channel->link.ws, text, strlen(text));
	}
}

/* ---- an answer, on the query's thread ---- */

static void add_message(struct job *job, struct mg_buf *buf, bool arrow)
{
	mg_grow(job->messages, job->message_count, job->message_cap);
	job->messages[job->message_count++] = (struct message){ .buf = buf, .arrow = arrow };
}

__attribute__((format(printf, 2, 3))) static void say(struct job *job, const char *fmt, ...)
{
	struct mg_sb text = { 0 };
	va_list ap;

	va_start(ap, fmt);
	mg_sb_addv(&text, fmt, ap);
	va_end(ap);
	size_t size = text.len;
	char *bytes = mg_sb_take(&text);

	add_message(job, mg_buf_wrap(bytes, size, mg_free, bytes), false);
}

static void drop_blocks(struct job *job)
{
	while (job->block_count) {
		mg_buf_unref(job->blocks[--job->block_count]);
	}
}

/* Takes the buffer. */
static int add_block(struct job *job, struct mg_buf *buf, struct mg_error *err)
{
	mg_grow(job->blocks, job->block_count, job->block_cap);
	job->blocks[job->block_count++] = buf;
	job->bytes += buf->size;
	if (job->bytes <= RESULT_MAX) {
		return 0;
	}
	mg_error_set(err, MG_E_LIMIT, "the result is larger than the %d MiB that one message may have",
	             RESULT_MAX >> 20);
	mg_error_hint(err, "Ask for less, or use a client of this version, which streams.");
	return MG_E_LIMIT;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct job *job = arg;
	struct mg_buf *schema = NULL;

	mg_arrow_encoder_free(job->encoder);
	job->encoder = NULL;
	drop_blocks(job);
	if (answer->count == 0) {
		return 0;
	}
	int code = mg_arrow_encoder_new(&job->encoder, answer->schema, false, err);

	if (!code) {
		code = mg_arrow_encode_schema(job->encoder, &schema, err);
	}
	return code ? code : add_block(job, schema, err);
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct job *job = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw_bytes = 0;
	int code = mg_arrow_encode_batch(job->encoder, batch, &buf, &raw_bytes, err);

	return code ? code : add_block(job, buf, err);
}

/* The blocks and the end of the stream, in one piece. */
static int add_result(struct job *job, struct mg_error *err)
{
	size_t size = sizeof mg_arrow_end;

	for (size_t i = 0; i < job->block_count; i++) {
		size += job->blocks[i]->size;
	}
	struct mg_buf *whole = mg_buf_new(size);

	if (!whole) {
		return mg_error_set(err, MG_E_NOMEM, "not enough memory for a result in one message");
	}
	for (size_t i = 0; i < job->block_count; i++) {
		memcpy(whole->data + whole->size, job->blocks[i]->data, job->blocks[i]->size);
		whole->size += job->blocks[i]->size;
	}
	memcpy(whole->data + whole->size, mg_arrow_end, sizeof mg_arrow_end);
	whole->size = size;
	drop_blocks(job);
	add_message(job, whole, true);
	return 0;
}

/* h:mm:ss.ffffff */
static void say_elapsed(struct job *job, const char *query, double elapsed_ms)
{
	uint64_t micros = (uint64_t)(elapsed_ms * 1000), seconds = micros / 1000000;

	say(job, "Query: '%s' - execution elapsed time: %llu:%02llu:%02llu.%06llu", query,
	    (unsigned long long)(seconds / 3600), (unsigned long long)(seconds / 60 % 60),
	    (unsigned long long)(seconds % 60), (unsigned long long)(micros % 1000000));
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct job *job = arg;
	const struct mg_run_stats *stats = answer->stats;

	if (answer->query_id[0] && stats->workers) {
		say(job, "Query: '%s' - distributed to %u worker(s) by server", answer->query_id,
		    stats->workers);
	} else if (answer->query_id[0]) {
		say(job, "Query: '%s' - will NOT be distributed - reason: '%s'. Running server-side...",
		    answer->query_id, stats->reason);
	}
	int code = answer->count ? add_result(job, err) : 0;

	if (!code) {
		say_elapsed(job, answer->query_id, answer->elapsed_ms);
	}
	return code;
}

static void sink_notice(void *arg, const char *message)
{
	say(arg, "%s", message);
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct job *job = arg;

	mg_running_set(&job->running, query);
}

static bool job_cancelled(void *arg)
{
	struct job *job = arg;

	return atomic_load(&job->running.cancelled);
}

static void say_failed(struct job *job, const char *query, const struct mg_error *err)
{
	const char *what = "FAILED on the server - with error";

	if (err->origin == MG_ORIGIN_PARSER || err->code == MG_E_SYNTAX) {
		what = "failed to parse - error";
	} else if (err->origin == MG_ORIGIN_NODE && err->node[0]) {
		say(job, "Query: '%s' - FAILED with error on worker: '%s' - error: %s%s%s", query,
		    err->node, err->message, err->hint[0] ? ". " : "", err->hint);
		return;
	} else if (err->origin == MG_ORIGIN_MERGE) {
		what = "succeeded on the worker(s) - but failed to summarize with error";
	}
	say(job, "Query: '%s' - %s: %s%s%s", query, what, err->message, err->hint[0] ? ". " : "",
	    err->hint);
}

static void job_done(void *arg);

static void job_run(void *arg)
{
	struct job *job = arg;
	struct mg_error err = { 0 };
	struct mg_outcome outcome;
	struct mg_sink sink = {
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.notice = sink_notice,
		.query = sink_query,
		.arg = job,
	};
	const struct mg_request what = {
		.sql = mg_str(job->sql),
		.cancelled = job_cancelled,
		.arg = job,
	};

	if (mg_session_run(job->session, &what, &sink, &outcome, &err)) {
		drop_blocks(job);
		say_failed(job, outcome.query_id, &err);
	} else if (outcome.statements == 0) {
		say_elapsed(job, "", 0); /* blanks and comments: every frame has an answer */
	}
	mg_loop_post(job->loop, job_done, job);
}

static void job_free(struct job *job)
{
	drop_blocks(job);
	for (size_t i = 0; i < job->message_count; i++) {
		mg_buf_unref(job->messages[i].buf);
	}
	mg_free(job->messages);
	mg_free(job->blocks);
	mg_arrow_encoder_free(job->encoder);
	mg_session_unref(job->session);
	mg_running_fini(&job->running);
	mg_free(job->sql);
	mg_free(job);
}

/* ---- dot commands: on the loop, for they only look at the session ---- */

/* The word at *text, in lower case; *text goes behind it and the blanks around. */
static void take_word(const char **text, char *word, size_t size)
{
	size_t len = 0;

	*text += strspn(*text, " \t\r\n");
	while (**text && !strchr(" \t\r\n=;", **text)) {
		if (len + 1 < size) {
			word[len++] = (char)tolower((unsigned char)**text);
		}
		++*text;
	}
	word[len] = '\0';
	*text += strspn(*text, " \t\r\n");
}

static void show(struct channel *channel, const char *name)
{
	struct mg_settings settings = mg_session_settings(channel->session);
	struct mg_sb value = { 0 };
	struct mg_error err = { 0 };
	char line[80];

	if (mg_settings_get(&settings, name, &value, &err) == 0) {
		(void)snprintf(line, sizeof line, "%c%s set to: %s", toupper((unsigned char)name[0]),
		               name + 1, mg_sb_text(&value));
		send_text(channel, line);
	}
	mg_sb_fini(&value);
}

static void set(struct channel *channel, const char *rest)
{
	char name[32], value[32], line[120];
	struct mg_error err = { 0 };

	take_word(&rest, name, sizeof name);
	bool equals = *rest == '=';

	rest += equals;
	take_word(&rest, value, sizeof value);
	bool summarize = strcmp(name, "summarize") == 0;
	bool known = summarize || strcmp(name, "distributed") == 0;

	if (summarize && strcmp(value, "true") != 0) {
		(void)snprintf(value, sizeof value, "false"); /* as it always was */
	}
	if (!known || !equals || mg_session_set(channel->session, name, value, &err)) {
		char *wrong = known && equals ? value : name;

		for (char *at = wrong; *at; at++) {
			*at = (char)toupper((unsigned char)*at);
		}
		(void)snprintf(line, sizeof line, ".set command failed with error: '%s'", wrong);
		send_text(channel, line);
		return;
	}
	show(channel, name);
}

/* True when it was a dot command; what is none of ours is a statement. */
static bool dot_command(struct channel *channel, const char *text)
{
	char word[32];

	take_word(&text, word, sizeof word);
	if (strcmp(word, ".set") == 0) {
		set(channel, text);
		return true;
	}
	if (strcmp(word, ".show") != 0) {
		return false;
	}
	take_word(&text, word, sizeof word);
	if (strcmp(word, "summarize") != 0) {
		show(channel, "distributed");
	}
	if (strcmp(word, "distributed") != 0) {
		show(channel, "summarize");
	}
	return true;
}

/* ---- one statement after the other: on the loop ---- */

static void start(struct channel *channel, char *text)
{
	struct job *job = mg_alloc0(sizeof *job);
	struct mg_error err = { 0 };

	job->channel = channel;
	job->loop = channel->link.loop;
	job->session = mg_session_ref(channel->session);
	job->sql = text;
	mg_running_init(&job->running);
	if (mg_pool_post(mg_sessions_pool(channel->doors->sessions), job_run, job, &err)) {
		struct mg_sb line = { 0 };

		mg_sb_addf(&line, "Query: '' - FAILED on the server - with error: %s", err.message);
		send_text(channel, mg_sb_text(&line));
		mg_sb_fini(&line);
		job_free(job);
		return;
	}
	channel->job = job;
}

/* Take from the queue what can be taken now. */
static void go_on(struct channel *channel)
{
	mg_link_ref(&channel->link); /* sending can end the connection */
	while (channel->link.ws && channel->session && !channel->job && channel->queued &&
	       mg_ws_queued(channel->link.ws) < MG_STREAM_LOW) {
		char *text = channel->queue[0];

		channel->queued--;
		channel->queued_bytes -= strlen(text);
		memmove(channel->queue, channel->queue + 1, channel->queued * sizeof channel->queue[0]);
		if (dot_command(channel, text)) {
			mg_free(text);
		} else {
			start(channel, text);
		}
	}
	bool pause = channel->login || channel->queued >= QUEUE_MAX / 2;

	if (channel->link.ws && pause != channel->paused) {
		channel->paused = pause;
		mg_ws_pause_read(channel->link.ws, pause);
	}
	mg_link_unref(&channel->link);
}

static void job_done(void *arg)
{
	struct job *job = arg;
	struct channel *channel = job->channel;

	if (channel) {
		mg_link_ref(&channel->link); /* sending can end the connection */
		channel->job = NULL;
		for (size_t i = 0; channel->link.ws && i < job->message_count; i++) {
			struct mg_buf *buf = job->messages[i].buf;

			if (job->messages[i].arrow) {
				mg_ws_send_binary(channel->link.ws, NULL, 0, buf);
			} else {
				mg_ws_send_text(channel->link.ws, (const char *)buf->data, buf->size);
			}
		}
		go_on(channel);
		mg_link_unref(&channel->link);
	}
	job_free(job);
}

static void on_drain(struct mg_ws *ws, void *state)
{
	(void)ws;
	go_on(state);
}

/* ---- login ---- */

/* A client that is only quiet answers pings, which we read unless it has sent too much ahead. */
static void on_heartbeat(void *arg)
{
	struct channel *channel = arg;
	uint64_t silent_ms = mg_clock_ms() - mg_ws_last_heard_ms(channel->link.ws);

	if (silent_ms > SILENCE_MS && !channel->paused) {
		mg_ws_close(channel->link.ws, 1001, "no sign of life");
	} else {
		mg_ws_ping(channel->link.ws);
	}
}

static void refuse(struct channel *channel, const char *text)
{
	send_text(channel, text);
	if (channel->link.ws) {
		mg_ws_close(channel->link.ws, CLOSE_FAILED, "authentication failed");
	}
}

static void on_late(void *arg)
{
	struct channel *channel = arg;

	refuse(channel, "Authentication failed: no \"user:password\" came");
}

static void admit(struct channel *channel, const char *user, enum mg_role role)
{
	char line[200];

	if (role != MG_ROLE_CLIENT && role != MG_ROLE_ADMIN) {
		mg_rest_count_login("wrong_role");
		mg_log(MG_LOG_WARN, "login.refused", "user=%.64s peer=%s door=client", user,
		       mg_conn_peer(mg_ws_conn(channel->link.ws)));
		refuse(channel, "Authentication failed: this user opens /worker and nothing else");
		return;
	}
	mg_rest_count_login("ok");
	mg_timer_stop(channel->timer);
	channel->timer =
		mg_timer_start(channel->link.loop, HEARTBEAT_MS, HEARTBEAT_MS, on_heartbeat, channel);
	channel->session = mg_session_open(channel->doors->sessions, &(struct mg_session_open){
																	 .user = user,
																	 .role = role,
																	 .door = "shell",
																	 .kill = mg_link_kill,
																	 .arg = &channel->link,
																 });
	(void)snprintf(line, sizeof line,
	               "Authentication successful - user: '%.64s', server: '%.63s', session: '%s'",
	               user, channel->doors->node_name, mg_session_id(channel->session));
	send_text(channel, line);
}

static void login_free(struct login *login)
{
	mg_free(login->user);
	if (login->password) {
		explicit_bzero(login->password, strlen(login->password));
	}
	mg_free(login->password);
	mg_free(login);
}

/* On the loop: the password was checked. */
static void login_done(void *arg)
{
	struct login *login = arg;
	struct channel *channel = login->channel;

	if (channel) {
		mg_link_ref(&channel->link);
		channel->login = NULL;
		if (atomic_load(&channel->doors->stopping)) {
			refuse(channel, "The server is shutting down");
		} else if (login->err.code) {
			if (login->err.code == MG_E_AUTH) {
				mg_rest_count_login("refused");
				mg_log(MG_LOG_WARN, "login.refused", "user=%.64s peer=%s", login->user,
				       mg_conn_peer(mg_ws_conn(channel->link.ws)));
			}
			char line[300];

			(void)snprintf(line, sizeof line, "Authentication failed: %.200s", login->err.message);
			refuse(channel, line);
		} else {
			admit(channel, login->user, login->role);
		}
		go_on(channel);
		mg_link_unref(&channel->link);
	}
	login_free(login);
}

/* On a query thread: argon2id takes 50 ms on purpose. */
static void login_check(void *arg)
{
	struct login *login = arg;

	if (mg_admission_enter(login->doors->logins, NULL, NULL, &login->err) == 0) {
		(void)mg_login_check(login->doors->options.login, login->user, login->password,
		                     &login->role, &login->err);
		mg_admission_leave(login->doors->logins);
	}
	mg_loop_post(login->loop, login_done, login);
}

static void on_login(struct channel *channel, const char *text, size_t len)
{
	const char *colon = memchr(text, ':', len);

	if (!colon) {
		refuse(channel, "Authentication failed: the first message is \"user:password\"");
		return;
	}
	struct login *login = mg_alloc0(sizeof *login);

	*login =
		(struct login){ .channel = channel, .doors = channel->doors, .loop = channel->link.loop };
	login->user = mg_strndup(text, (size_t)(colon - text));
	login->password = mg_strndup(colon + 1, len - (size_t)(colon - text) - 1);
	channel->login = login;
	if (mg_pool_post(mg_sessions_pool(channel->doors->sessions), login_check, login, &login->err)) {
		login_done(login);
	} else {
		go_on(channel); /* holds back what comes before the answer */
	}
}

/* ---- frames of the client ---- */

static void on_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct channel *channel = state;

	if (memchr(text, '\0', len)) {
		mg_ws_close(ws, 1007, "a zero byte in a text");
	} else if (!channel->session && !channel->login) {
		on_login(channel, text, len);
	} else if (channel->queued == QUEUE_MAX || channel->queued_bytes + len > MESSAGE_MAX) {
		mg_ws_close(ws, 1008, "too many statements wait");
	} else {
		char *copy = mg_strndup(text, len);

		channel->queue[channel->queued++] = copy;
		channel->queued_bytes += strlen(copy);
		go_on(channel);
	}
}

static void on_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	(void)state;
	(void)message;
	mg_ws_close(ws, 1003, "no binary messages are expected here");
}

/* ---- life ---- */

static void on_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	struct channel *channel = state;

	(void)ws;
	mg_log(MG_LOG_DEBUG, "old.closed", "session=%s code=%d reason=%s",
	       channel->session ? mg_session_id(channel->session) : "-", code,
	       reason && reason[0] ? reason : "-");
	channel->link.ws = NULL;
	mg_timer_stop(channel->timer);
	channel->timer = NULL;
	if (channel->login) {
		channel->login->channel = NULL;
	}
	if (channel->job) {
		channel->job->channel = NULL;
		mg_running_cancel(&channel->job->running, mg_sessions_queries(channel->doors->sessions));
	}
	while (channel->queued) {
		mg_free(channel->queue[--channel->queued]);
	}
	if (channel->session) {
		mg_session_close(channel->session);
		mg_session_unref(channel->session);
	}
	mg_link_unref(&channel->link);
}

static const struct mg_ws_handler ws_handler = {
	.text = on_text,
	.binary = on_binary,
	.drain = on_drain,
	.closed = on_closed,
	.message_max = MESSAGE_MAX,
};

bool mg_old_channel_wanted(const struct mg_doors *doors, struct mg_http_request *request)
{
	return !doors->options.require_cert && !mg_conn_cert(mg_http_conn(request)) &&
	       mg_http_header(request, "sec-websocket-key") &&
	       !mg_http_header(request, "authorization") &&
	       !mg_http_header(request, "sec-websocket-protocol");
}

void mg_old_channel(struct mg_doors *doors, struct mg_http_request *request)
{
	struct channel *channel = mg_alloc0(sizeof *channel);

	channel->doors = doors;
	mg_link_init(&channel->link, mg_conn_loop(mg_http_conn(request)));
	channel->link.ws = mg_ws_accept(request, &ws_handler, channel);
	if (!channel->link.ws) {
		mg_link_unref(&channel->link);
		return;
	}
	channel->timer = mg_timer_start(channel->link.loop, LOGIN_MS, 0, on_late, channel);
	mg_log(MG_LOG_DEBUG, "old.open", "peer=%s", mg_conn_peer(mg_ws_conn(channel->link.ws)));
}
