/*
 * client.c - the public C client: one request at a time over a wire.
 *
 * A request is in one of three states: none, running, or over (answered or failed).  Frames of an
 * older request that is still dying are recognised by their id and dropped.  Cancelling writes one
 * byte into a pipe, which wakes the thread that waits; that thread then sends the cancel frame, so
 * TLS is only touched by one thread.
 *
 * owner: one thread; mg_client_cancel: any.
 */
#define MG_API __attribute__((visibility("default")))
#include "merganser.h"

#include "base/json.h"
#include "client/client.h"
#include "client/wire.h"
#include "codec/arrow_ipc.h"
#include "codec/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HELLO_TIMEOUT_MS 15000
#define CANCEL_TIMEOUT_MS 10000
#define BINARY_HEAD 16
#define KIND_SCHEMA 1
#define KIND_BATCH 2
#define KIND_DATA 3
#define KIND_GIVE_UP 4

struct mg_client {
	struct mg_client_options options;
	struct mg_endpoint endpoint;
	struct mg_arena *arena;         /* texts of the connection */
	struct mg_wire *wire;
	int pipe[2];
	struct mg_client_info info;
	struct mg_error failure;
	struct mg_client_error error;
	bool connected;

	uint32_t id;                    /* of the current request */
	bool running;
	bool cancelled;                 /* the cancel frame was sent */
	int64_t deadline_ms;            /* 0: none */
	struct mg_arena *statement_arena;
	struct mg_client_statement statement;
	bool in_statement;              /* begin has come, end has not */
	bool begun;                     /* a begin that next_statement has not given out */
	const char *transaction;        /* "", "open", "failed" */
	struct mg_seen seen;            /* of all answers */
	struct mg_sb seen_text;         /* as of the last answer */
	struct mg_arrow_decoder *decoder;
	bool has_schema;
	struct mg_json *names;          /* answer to complete, in names_arena */
	struct mg_arena *names_arena;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- errors ---------------------------------------------------------------------------------- */

int mg_client_exit_code(int code, bool connected)
{
	switch (code) {
	case MG_OK: return 0;
	case MG_E_CONNECT:
	case MG_E_DISCONNECTED:
	case MG_E_AUTH: return 2;
	case MG_E_CANCELLED:
	case MG_E_TIMEOUT: return 4;
	case MG_E_UNKNOWN_OUTCOME: return 5;
	case MG_E_USAGE:
	case MG_E_IO:
	case MG_E_NOT_FOUND: return connected ? 3 : 1;
	case MG_E_NOMEM:
	case MG_E_INTERNAL: return connected ? 3 : 1;
	default: return connected ? 3 : 2;
	}
}

static const char *origin_name(unsigned origin)
{
	static const char *const names[] = { "", "parser", "planner", "node", "merge" };

	return origin < sizeof names / sizeof *names ? names[origin] : "";
}

static enum mg_error_origin origin_parse(const char *name)
{
	for (unsigned i = 1; name && i <= MG_ORIGIN_MERGE; i++) {
		if (strcmp(name, origin_name(i)) == 0) {
			return (enum mg_error_origin)i;
		}
	}
	return MG_ORIGIN_NONE;
}

/* Publish client->failure; returns its code. */
static int fail(struct mg_client *client, unsigned statement)
{
	struct mg_error *e = &client->failure;
	const struct mg_code_info *info = mg_code_info(e->code);

	if (e->code == MG_E_DISCONNECTED || e->code == MG_E_PROTOCOL || !client->connected) {
		client->running = client->in_statement = client->begun = false;
		client->error.connected = 0;
	} else {
		client->error.connected = 1;
	}
	client->error.code = e->code;
	client->error.name = info->name;
	client->error.sqlstate = e->sqlstate;
	client->error.message = e->message;
	client->error.detail = e->detail;
	client->error.hint = e->hint;
	client->error.origin = origin_name(e->origin);
	client->error.node = e->node;
	client->error.shard = e->shard;
	client->error.statement = statement;
	client->error.exit_code = mg_client_exit_code(e->code, client->connected);
	if (!client->error.connected) {
		mg_wire_close(client->wire);
		client->wire = NULL;
		client->connected = false;
	}
	return e->code;
}

static int fail_with(struct mg_client *client, int code, const char *message)
{
	mg_error_set(&client->failure, code, "%s", message);
	return fail(client, 0);
}

static void set_sqlstate(struct mg_error *err, const char *sqlstate)
{
	if (sqlstate && strlen(sqlstate) == 5) {
		memcpy(err->sqlstate, sqlstate, 6);
	}
}

static int code_of(const char *name, const char *sqlstate)
{
	for (int code = 1; name && code < MG_CODE_COUNT; code++) {
		if (strcmp(mg_code_info(code)->name, name) == 0) {
			return code;
		}
	}
	return mg_code_from_sqlstate(sqlstate);
}

static void read_error(struct mg_client *client, const struct mg_json *frame)
{
	const struct mg_json *e = mg_json_get(frame, "error");
	const char *sqlstate = mg_json_text(mg_json_get(e, "sqlstate"));
	const char *node = mg_json_text(mg_json_get(e, "node"));
	struct mg_error *out = &client->failure;

	mg_error_set(out, code_of(mg_json_get_text(e, "code"), sqlstate), "%s",
	             mg_json_text(mg_json_get(e, "message")));
	mg_error_detail(out, "%s", mg_json_text(mg_json_get(e, "detail")));
	mg_error_hint(out, "%s", mg_json_text(mg_json_get(e, "hint")));
	set_sqlstate(out, sqlstate);
	snprintf(out->node, sizeof out->node, "%s", node);
	out->shard = (uint32_t)mg_json_get_int(e, "shard", 0);
	out->origin = (uint8_t)origin_parse(mg_json_get_text(e, "origin"));
}

const struct mg_client_error *mg_client_error(const mg_client *client)
{
	return &client->error;
}

const struct mg_error *mg_client_failure(const mg_client *client)
{
	return &client->failure;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static int send_frame(struct mg_client *client, struct mg_sb *frame)
{
	int code = mg_wire_send_text(client->wire, mg_sb_text(frame), frame->len, &client->failure);

	mg_sb_fini(frame);
	return code ? fail(client, 0) : 0;
}

static void drain_pipe(struct mg_client *client)
{
	char bytes[64];

	while (read(client->pipe[0], bytes, sizeof bytes) > 0) {
		/* every byte means the same */
	}
}

static int send_cancel(struct mg_client *client)
{
	struct mg_sb frame = { 0 };

	if (!client->running || client->cancelled) {
		return 0;
	}
	client->cancelled = true;
	client->deadline_ms = now_ms() + CANCEL_TIMEOUT_MS;
	mg_sb_addf(&frame, "{\"type\":\"cancel\",\"id\":%u}", client->id);
	return send_frame(client, &frame);
}

/* Wait for a message; acts on wake-ups and on the deadline. */
static int receive(struct mg_client *client, struct mg_wire_message *message)
{
	for (;;) {
		int64_t left = client->deadline_ms ? client->deadline_ms - now_ms() : -1;
		enum mg_client_wait wait;
		int code;

		if (client->deadline_ms && left < 0) {
			left = 0;
		}
		if (mg_wire_receive(client->wire, left, &wait, message, &client->failure)) {
			return fail(client, 0);
		}
		if (wait == MG_WAIT_BYTES) {
			return 0;
		}
		if (wait == MG_WAIT_TIMEOUT && (client->cancelled || !client->running)) {
			client->connected = false;
			return fail_with(client, MG_E_DISCONNECTED, "the server does not answer");
		}
		if (wait == MG_WAIT_WOKEN) {
			drain_pipe(client);
		}
		code = send_cancel(client);
		if (code) {
			return code;
		}
	}
}

static void read_progress(struct mg_client *client, const struct mg_json *frame)
{
	struct mg_client_progress progress = {
		.done = mg_json_get_double(frame, "done", -1),
		.rows = (uint64_t)mg_json_get_int(frame, "rows", 0),
		.bytes = (uint64_t)mg_json_get_int(frame, "bytes", 0),
		.nodes = (unsigned)mg_json_get_int(frame, "nodes", 0),
	};

	if (client->options.on_progress) {
		client->options.on_progress(client->options.arg, &progress);
	}
}

static const char *const *read_texts(struct mg_arena *arena, const struct mg_json *array,
                                     size_t count)
{
	const char **texts = mg_arena_new_array(arena, const char *, count + 1);
	size_t i = 0;

	mg_json_each(item, array) {
		if (i < count) {
			texts[i++] = mg_arena_strdup(arena, mg_json_text(item));
		}
	}
	while (i < count) {
		texts[i++] = "";
	}
	return texts;
}

static void read_begin(struct mg_client *client, const struct mg_json *frame)
{
	const struct mg_json *columns = mg_json_get(frame, "columns");
	struct mg_client_statement *s = &client->statement;
	struct mg_arena *arena;

	mg_arena_free(client->statement_arena);
	client->statement_arena = arena = mg_arena_new();
	*s = (struct mg_client_statement){
		.number = (unsigned)mg_json_get_int(frame, "statement", 1),
		.query = mg_arena_strdup(arena, mg_json_text(mg_json_get(frame, "query"))),
		.verb = mg_arena_strdup(arena, mg_json_text(mg_json_get(frame, "verb"))),
		.column_count = columns ? columns->count : 0,
		.tag = "",
		.step = "",
		.reason = "",
	};
	s->names = read_texts(arena, columns, s->column_count);
	s->types = read_texts(arena, mg_json_get(frame, "types"), s->column_count);
	client->in_statement = client->begun = true;
	client->has_schema = false;
}

static void read_end(struct mg_client *client, const struct mg_json *frame)
{
	struct mg_client_statement *s = &client->statement;
	struct mg_arena *arena = client->statement_arena;

	s->tag = mg_arena_strdup(arena, mg_json_text(mg_json_get(frame, "tag")));
	s->step = mg_arena_strdup(arena, mg_json_text(mg_json_get(frame, "step")));
	s->reason = mg_arena_strdup(arena, mg_json_text(mg_json_get(frame, "reason")));
	s->rows = (uint64_t)mg_json_get_int(frame, "rows", 0);
	s->bytes = (uint64_t)mg_json_get_int(frame, "bytes", 0);
	s->moved_bytes = (uint64_t)mg_json_get_int(frame, "moved_bytes", 0);
	s->elapsed_ms = mg_json_get_double(frame, "elapsed_ms", 0);
	s->nodes = (unsigned)mg_json_get_int(frame, "nodes", 0);
	s->workers = (unsigned)mg_json_get_int(frame, "workers", 0);
	s->shards = (unsigned)mg_json_get_int(frame, "shards", 0);
	client->in_statement = false;
}

static void read_transaction(struct mg_client *client, const struct mg_json *frame)
{
	const char *state = mg_json_get_text(frame, "transaction");

	client->transaction = !state || !*state ? "" : strcmp(state, "open") == 0 ? "open" : "failed";
}

/* Requests may have been answered in another order than the server has worked on them: of two
 * answers the maximum counts.  What cannot be read is of a later version, and left alone. */
static void see(struct mg_client *client, const char *text)
{
	struct mg_seen seen = { 0 };
	struct mg_error ignored = { 0 };

	if (text && mg_seen_parse(&seen, mg_str(text), &ignored) == 0) {
		mg_seen_merge(&client->seen, &seen);
		mg_sb_clear(&client->seen_text);
		mg_seen_add(&client->seen_text, &client->seen);
	}
	mg_seen_fini(&seen);
}

const char *mg_client_seen(mg_client *client)
{
	return mg_sb_text(&client->seen_text);
}

const char *mg_client_transaction(const mg_client *client)
{
	return client->transaction;
}

/* The server wants the next piece of what COPY stores. */
static int send_piece(struct mg_client *client, const struct mg_json *frame)
{
	int64_t size_max = mg_json_get_int(frame, "bytes", 0);
	const void *bytes = NULL;
	size_t size = 0;
	bool given_up =
		!client->options.on_input || size_max < 1 ||
		client->options.on_input(client->options.arg, (size_t)size_max, &bytes, &size) != 0;
	struct mg_sb message = { 0 };
	uint8_t head[BINARY_HEAD] = { given_up ? KIND_GIVE_UP : KIND_DATA };

	memcpy(head + 4, &client->id, sizeof client->id);
	mg_sb_add_len(&message, (const char *)head, sizeof head);
	mg_sb_add_len(&message, given_up ? "" : bytes, given_up ? 0 : size);
	int code = mg_wire_send_binary(client->wire, message.ptr, message.len, &client->failure);

	mg_sb_fini(&message);
	return code ? fail(client, 0) : 0;
}

static int read_text_frame(struct mg_client *client, const struct mg_json *frame)
{
	const char *type = mg_json_text(mg_json_get(frame, "type"));
	uint32_t id = (uint32_t)mg_json_get_int(frame, "id", 0);

	if (id != client->id || !client->running) {
		return 0;
	}
	if (strcmp(type, "progress") == 0) {
		read_progress(client, frame);
	} else if (strcmp(type, "notice") == 0) {
		if (client->options.on_notice) {
			client->options.on_notice(client->options.arg,
			                          mg_json_text(mg_json_get(frame, "message")));
		}
	} else if (strcmp(type, "more") == 0) {
		return send_piece(client, frame);
	} else if (strcmp(type, "begin") == 0) {
		read_begin(client, frame);
	} else if (strcmp(type, "end") == 0 && client->in_statement) {
		read_end(client, frame);
	} else if (strcmp(type, "error") == 0) {
		client->running = client->in_statement = client->begun = false;
		read_transaction(client, frame);
		see(client, mg_json_get_text(frame, "seen"));
		read_error(client, frame);
		return fail(client, (unsigned)mg_json_get_int(frame, "statement", 0));
	} else if (strcmp(type, "done") == 0) {
		client->running = client->in_statement = false;
		read_transaction(client, frame);
		see(client, mg_json_get_text(frame, "seen"));
	} else if (strcmp(type, "names") == 0) {
		client->running = false;
		client->names = (struct mg_json *)(uintptr_t)frame;
	}
	return 0;
}

static int take_text(struct mg_client *client, struct mg_buf *bytes)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *frame;
	int code;

	if (mg_json_parse(arena, (const char *)bytes->data, bytes->size, &frame, &client->failure)) {
		mg_arena_free(arena);
		client->connected = false;
		return fail_with(client, MG_E_PROTOCOL, "the server sent a frame that is no JSON");
	}
	code = read_text_frame(client, frame);
	if (client->names == frame) {
		client->names_arena = arena;
	} else {
		mg_arena_free(arena);
	}
	return code;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static uint32_t read_u32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

static int broken(struct mg_client *client)
{
	struct mg_error why = client->failure;

	client->connected = false;
	mg_error_set(&client->failure, MG_E_PROTOCOL, "the server sent rows that cannot be read: %s",
	             why.message);
	return fail(client, client->statement.number);
}

static int take_schema(struct mg_client *client, const uint8_t *bytes, size_t size)
{
	size_t used;

	mg_arrow_decoder_free(client->decoder);
	client->decoder = NULL;
	if (mg_arrow_decoder_new(&client->decoder, &client->failure) ||
	    mg_arrow_decode_schema(client->decoder, bytes, size, &used, &client->failure)) {
		return broken(client);
	}
	client->has_schema = true;
	return 0;
}

static void release_parent(void *arg)
{
	mg_buf_unref(arg);
}

static int take_batch(struct mg_client *client, struct mg_buf *message, struct ArrowArray *out)
{
	struct mg_buf *rows = mg_buf_wrap(message->data + BINARY_HEAD, message->size - BINARY_HEAD,
	                                  release_parent, mg_buf_ref(message));
	int code;

	if (!rows) {
		mg_buf_unref(message);
		return fail_with(client, MG_E_NOMEM, "no memory for rows");
	}
	code = mg_arrow_decode_batch(client->decoder, rows, out, &client->failure);
	mg_buf_unref(rows);
	return code ? broken(client) : 0;
}

/* *rows: out was filled (out NULL: batches are dropped). */
static int take_binary(struct mg_client *client, struct mg_buf *message, struct ArrowArray *out,
                       bool *rows)
{
	const uint8_t *head = message->data;

	if (message->size < BINARY_HEAD) {
		client->connected = false;
		return fail_with(client, MG_E_PROTOCOL, "the server sent a short frame");
	}
	if (read_u32(head + 4) != client->id || !client->running || !client->in_statement) {
		return 0;
	}
	if (head[0] == KIND_SCHEMA) {
		return take_schema(client, head + BINARY_HEAD, message->size - BINARY_HEAD);
	}
	if (head[0] != KIND_BATCH || !client->has_schema) {
		client->connected = false;
		return fail_with(client, MG_E_PROTOCOL, "the server sent rows without a schema");
	}
	if (out) {
		*rows = true;
		return take_batch(client, message, out);
	}
	return 0;
}

/* Take one message and act on it. */
static int step(struct mg_client *client, struct ArrowArray *out, bool *rows)
{
	struct mg_wire_message message;
	int code = receive(client, &message);

	*rows = false;
	if (code) {
		return code;
	}
	code = message.text ? take_text(client, message.bytes)
	                    : take_binary(client, message.bytes, out, rows);
	mg_buf_unref(message.bytes);
	return code;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int read_hello(struct mg_client *client)
{
	struct mg_wire_message message;
	struct mg_json *frame;
	struct mg_client_info *info = &client->info;
	int code;

	client->deadline_ms = now_ms() + HELLO_TIMEOUT_MS;
	code = receive(client, &message);
	client->deadline_ms = 0;
	if (code) {
		return code;
	}
	if (!message.text || mg_json_parse(client->arena, (const char *)message.bytes->data,
	                                   message.bytes->size, &frame, &client->failure) ||
	    strcmp(mg_json_text(mg_json_get(frame, "type")), "hello") != 0) {
		mg_buf_unref(message.bytes);
		client->connected = false;
		return fail_with(client, MG_E_PROTOCOL, "the server did not say hello");
	}
	mg_buf_unref(message.bytes);
	info->version = mg_json_text(mg_json_get(frame, "version"));
	info->engine = mg_json_text(mg_json_get(frame, "engine"));
	info->cluster = mg_json_text(mg_json_get(frame, "cluster"));
	info->node = mg_json_text(mg_json_get(frame, "node"));
	if (client->seen.cluster != mg_seen_cluster(info->cluster)) { /* of another one, or nothing */
		mg_seen_fini(&client->seen);
		mg_sb_clear(&client->seen_text);
	}
	info->user = mg_json_text(mg_json_get(frame, "user"));
	info->session = mg_json_text(mg_json_get(frame, "session"));
	info->nodes = (unsigned)mg_json_get_int(frame, "nodes", 0);
	info->workers = (unsigned)mg_json_get_int(frame, "workers", 0);
	info->shards = (unsigned)mg_json_get_int(frame, "shards", 0);
	if (mg_json_get_int(frame, "protocol", 1) != 1) {
		client->connected = false;
		return fail_with(client, MG_E_PROTOCOL, "the server speaks another protocol version");
	}
	if (client->endpoint.user && strcmp(client->endpoint.user, info->user) != 0) {
		client->connected = false;
		mg_error_set(&client->failure, MG_E_AUTH, "the certificate logs in \"%s\", not \"%s\"",
		             info->user, client->endpoint.user);
		return fail(client, 0);
	}
	return 0;
}

static const char *keep(struct mg_client *client, const char *text)
{
	return text ? mg_arena_strdup(client->arena, text) : NULL;
}

int mg_client_connect(mg_client **out, const struct mg_client_options *options)
{
	struct mg_client *client = mg_alloc0(sizeof *client);
	size_t size = options->size < sizeof client->options ? options->size : sizeof client->options;

	client->pipe[0] = client->pipe[1] = -1;
	*out = client;      /* from here a signal handler may cancel */
	client->transaction = "";
	client->arena = mg_arena_new();
	memcpy(&client->options, options, size);
	see(client, client->options.seen);
	client->info = (struct mg_client_info){ "", "", "", "", "", "", 0, 0, 0 };
	client->error.sqlstate = client->error.message = client->error.detail = client->error.hint =
		client->error.origin = client->error.node = client->error.name = "";
	if (pipe2(client->pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
		client->pipe[0] = client->pipe[1] = -1;
		mg_error_errno(&client->failure, errno, "cannot make a pipe");
		return fail(client, 0);
	}
	client->endpoint = (struct mg_endpoint){
		.url = keep(client, options->url),
		.user = keep(client, options->user),
		.password = keep(client, options->password),
		.tls = {
			.roots_file = keep(client, options->tls_roots),
			.insecure_skip_verify = options->insecure_skip_verify != 0,
			.cert_file = keep(client, options->tls_cert),
			.key_file = keep(client, options->tls_key),
			.key_password = keep(client, client->options.tls_key_password),
		},
		.timeout_ms = client->options.connect_timeout_ms,
		.wake_fd = client->pipe[0],
	};
	if (mg_wire_open(&client->wire, &client->endpoint, "/client", &client->failure)) {
		return fail(client, 0);
	}
	client->connected = true;
	return read_hello(client);
}

void mg_client_close(mg_client *client)
{
	if (!client) {
		return;
	}
	mg_wire_close(client->wire);
	mg_arrow_decoder_free(client->decoder);
	mg_arena_free(client->statement_arena);
	mg_arena_free(client->names_arena);
	mg_arena_free(client->arena);
	mg_seen_fini(&client->seen);
	mg_sb_fini(&client->seen_text);
	if (client->pipe[0] >= 0) {
		close(client->pipe[0]);
		close(client->pipe[1]);
	}
	mg_free(client);
}

const struct mg_client_info *mg_client_info(const mg_client *client)
{
	return &client->info;
}

void mg_client_cancel(mg_client *client)
{
	int saved = errno;
	ssize_t written = write(client->pipe[1], "c", 1);

	(void)written;      /* a full pipe wakes as well */
	errno = saved;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Begin a request of our own id; the one before is cancelled and its frames are dropped. */
static int begin_request(struct mg_client *client)
{
	int code = 0;

	if (!client->connected) {
		return fail_with(client, MG_E_DISCONNECTED, "there is no connection");
	}
	if (client->running) {
		code = send_cancel(client);
	}
	drain_pipe(client);
	mg_error_clear(&client->failure);
	client->error.code = 0;
	client->error.exit_code = 0;
	client->id = client->id == UINT32_MAX ? 1 : client->id + 1;
	client->running = true;
	client->cancelled = client->in_statement = client->begun = false;
	client->deadline_ms = client->options.statement_timeout_ms
	                          ? now_ms() + (int64_t)client->options.statement_timeout_ms : 0;
	return code;
}

int mg_client_query(mg_client *client, const char *sql, size_t size)
{
	return mg_client_query_params(client, sql, size, NULL);
}

int mg_client_query_params(mg_client *client, const char *sql, size_t size, const char *params)
{
	struct mg_sb frame = { 0 };
	int code = begin_request(client);

	if (code) {
		return code;
	}
	mg_sb_addf(&frame,
	           "{\"type\":\"query\",\"id\":%u,\"progress\":%s,\"lossless\":%s,\"input\":%s,"
	           "\"sql\":",
	           client->id, client->options.on_progress ? "true" : "false",
	           client->options.plain_types ? "false" : "true",
	           client->options.on_input ? "true" : "false");
	mg_sb_add_json(&frame, sql, size ? size : strlen(sql));
	if (params) {
		mg_sb_add(&frame, ",\"params\":");
		mg_sb_add(&frame, params);
	}
	if (client->seen_text.len > 0) {
		mg_sb_addf(&frame, ",\"seen\":\"%s\"", mg_sb_text(&client->seen_text));
	}
	mg_sb_add_char(&frame, '}');
	return send_frame(client, &frame);
}

int mg_client_next_statement(mg_client *client, const struct mg_client_statement **out)
{
	bool rows;

	*out = NULL;
	while (client->running || client->begun) {
		int code;

		if (client->begun &&
		    (client->has_schema || !client->in_statement || !client->statement.column_count)) {
			client->begun = false;
			*out = &client->statement;
			return 0;
		}
		code = step(client, NULL, &rows);
		if (code) {
			return code;
		}
	}
	return client->error.code;
}

const struct ArrowSchema *mg_client_schema(const mg_client *client)
{
	return client->has_schema ? mg_arrow_decoder_schema(client->decoder) : NULL;
}

int mg_client_next_batch(mg_client *client, struct ArrowArray *out, int *done)
{
	*done = 0;
	while (client->in_statement && !client->begun) {
		bool rows = false;
		int code = step(client, out, &rows);

		if (code) {
			return code;
		}
		if (rows) {
			return 0;
		}
	}
	*done = 1;
	return client->error.code;
}

int mg_client_complete(mg_client *client, const struct mg_json **out)
{
	struct mg_sb frame = { 0 };
	bool rows;
	int code = begin_request(client);

	*out = NULL;
	if (code) {
		return code;
	}
	mg_arena_free(client->names_arena);
	client->names_arena = NULL;
	client->names = NULL;
	client->deadline_ms = now_ms() + CANCEL_TIMEOUT_MS;
	mg_sb_addf(&frame, "{\"type\":\"complete\",\"id\":%u}", client->id);
	code = send_frame(client, &frame);
	while (code == 0 && client->running) {
		code = step(client, NULL, &rows);
	}
	*out = client->names;
	return code;
}
