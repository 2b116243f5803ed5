/*
 * doors.c - which protocol a new connection speaks, and what the doors share.
 *
 * Rule (decisions.md, "The port"): ALPN decides when there is one; else the first bytes.  A
 * protocol whose door is not there yet is refused in its own words, so that psql and gRPC clients
 * show a sentence instead of a broken connection.
 *
 * owner: choose runs on loops and touches nothing that changes.
 */
#include "door/doors.h"

#include "base/mem.h"
#include "door/doors_int.h"
#include "door/resp.h"
#include "os/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
	LINE_MAX_SIZE = 4096,
	LOGINS_AT_ONCE = 4,
	LOGINS_WAITING = 256,
	JOINS_AT_ONCE = 2,
	JOINS_WAITING = 16,
	NODES_MAX = 256,
	SLOW_MS = 10000,
	IDLE_MS = 300000
};

/* ---- refusals ---- */

static long swallow(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	(void)conn;
	(void)state;
	(void)bytes;
	return (long)size;
}

static void refused_closed(struct mg_conn *conn, void *state, const char *reason)
{
	(void)conn;
	(void)state;
	(void)reason;
}

static const struct mg_protocol refused = { .name = "refused",
	                                        .data = swallow,
	                                        .closed = refused_closed };

static void refuse(struct mg_conn *conn, const void *bytes, size_t size)
{
	mg_conn_set_protocol(conn, &refused, NULL);
	mg_conn_write(conn, bytes, size);
	mg_conn_close_after_write(conn);
}

#define NOT_YET \
	"is not served by this version; use merganser sql, or /db/query and /db/execute over HTTPS"

/* ErrorResponse: 'E', length, fields that end with a zero byte, a zero byte. */
static void refuse_postgres(struct mg_conn *conn)
{
	static const char fields[] = "SFATAL\0VFATAL\0C0A000\0Mthe PostgreSQL protocol " NOT_YET "\0";
	uint8_t message[5 + sizeof fields] = { 'E' };
	uint32_t size = 4 + sizeof fields;

	for (size_t i = 0; i < 4; i++) {
		message[1 + i] = (uint8_t)(size >> (8 * (3 - i)));
	}
	memcpy(message + 5, fields, sizeof fields);
	refuse(conn, message, sizeof message);
}

/* SETTINGS without members, then GOAWAY with HTTP_1_1_REQUIRED and our sentence. */
static void refuse_http2(struct mg_conn *conn)
{
	static const char text[] = "HTTP/2 and Arrow Flight SQL " NOT_YET;
	uint8_t frames[9 + 9 + 8 + sizeof text - 1] = { 0, 0, 0, 4 };
	uint8_t *goaway = frames + 9;
	size_t size = 8 + sizeof text - 1;

	goaway[1] = (uint8_t)(size >> 8);
	goaway[2] = (uint8_t)size;
	goaway[3] = 7;
	goaway[9 + 7] = 0xd;
	memcpy(goaway + 9 + 8, text, sizeof text - 1);
	refuse(conn, frames, sizeof frames);
}

/* ---- what speaks ---- */

enum speaker { SPEAKER_UNKNOWN, SPEAKER_HTTP, SPEAKER_HTTP2, SPEAKER_POSTGRES, SPEAKER_REDIS };

static enum speaker speaker_of_line(const char *text, size_t size)
{
	const char *end = memchr(text, '\n', size);

	if (!end) {
		return size < LINE_MAX_SIZE ? SPEAKER_UNKNOWN : SPEAKER_HTTP;
	}
	size_t len = (size_t)(end - text);

	if (len > 0 && text[len - 1] == '\r') {
		len--;
	}
	/* " HTTP/1.x" */
	if (len >= 9 && memcmp(text + len - 9, " HTTP/1.", 8) == 0) {
		return SPEAKER_HTTP;
	}
	return isalpha((unsigned char)text[0]) && !memmem(text, len, " HTTP/", 6) ? SPEAKER_REDIS
	                                                                          : SPEAKER_HTTP;
}

static enum speaker speaker_of(const uint8_t *bytes, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0";
	size_t same = size < sizeof preface - 1 ? size : sizeof preface - 1;

	if (size == 0) {
		return SPEAKER_UNKNOWN;
	}
	if (bytes[0] == 0) {
		return size < 8 ? SPEAKER_UNKNOWN : SPEAKER_POSTGRES;
	}
	if (bytes[0] == '*') {
		return SPEAKER_REDIS;
	}
	if (memcmp(bytes, preface, same) == 0) {
		return same == sizeof preface - 1 ? SPEAKER_HTTP2 : SPEAKER_UNKNOWN;
	}
	return speaker_of_line((const char *)bytes, size);
}

#define LOADING "LOADING this node is starting: it does not have its data yet"

/* doors NULL: they are not open yet. */
static void open_redis(struct mg_conn *conn, struct mg_doors *doors)
{
	if (doors) {
		mg_redis_open(doors, conn);
	} else {
		mg_redis_refuse(conn, LOADING);
	}
}

static bool choose(struct mg_conn *conn, struct mg_doors *doors,
                   const struct mg_http_handler *handler, const uint8_t *bytes, size_t size)
{
	enum speaker speaker = mg_text_eq(mg_conn_alpn(conn), "http/1.1") ? SPEAKER_HTTP
	                                                                  : speaker_of(bytes, size);

	switch (speaker) {
	case SPEAKER_UNKNOWN:
		return false;
	case SPEAKER_HTTP:
		mg_conn_set_protocol(conn, &mg_http_protocol, mg_http_state_new(handler));
		break;
	case SPEAKER_HTTP2:
		refuse_http2(conn);
		break;
	case SPEAKER_POSTGRES:
		refuse_postgres(conn);
		break;
	case SPEAKER_REDIS:
		open_redis(conn, doors);
		break;
	}
	return true;
}

bool mg_doors_choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	struct mg_doors *doors = arg;

	return choose(conn, doors, &doors->handler, bytes, size);
}

bool mg_doors_choose_redis(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	(void)bytes;
	if (size) {
		open_redis(conn, arg);
	}
	return size > 0;
}

/* ---- before there are doors ---- */

static void answer_closed(struct mg_http_request *request, void *arg)
{
	static const char body[] =
		"{\"error\": {\"code\": \"unavailable\", \"sqlstate\": \"57P03\", \"message\": \"this "
		"node is starting: it does not have its data yet\", \"hint\": \"Try again in a moment, or "
		"at another node.\", \"retry\": \"safe\"}}\n";

	struct mg_conn *conn = mg_http_conn(request);

	(void)arg;
	mg_http_reply(request, 503, "application/json", body, sizeof body - 1, "Retry-After: 1\r\n");
	if (conn) {
		mg_conn_close_after_write(conn); /* the next time there may be doors */
	}
}

bool mg_doors_choose_closed(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	static const struct mg_http_handler handler = { .request = answer_closed };

	(void)arg;
	return choose(conn, NULL, &handler, bytes, size);
}

/* ---- life ---- */

int mg_doors_new(struct mg_doors **out, const struct mg_doors_options *options,
                 struct mg_error *err)
{
	struct mg_doors *doors = mg_alloc0(sizeof *doors);

	doors->options = *options;
	doors->options.idle_ms = options->idle_ms ? options->idle_ms : IDLE_MS;
	(void)snprintf(doors->node_name, sizeof doors->node_name, "%s",
	               options->node_name ? options->node_name : "");
	doors->handler =
		(struct mg_http_handler){ .head = mg_rest_head, .request = mg_rest_request, .arg = doors };
	mg_shell_channel_init(doors);
	mg_rest_changes_init(doors);
	mg_rest_kv_watch_init(doors);
	doors->started_ms = mg_clock_ms();
	doors->once = mg_once_new();
	doors->logins = mg_admission_new(LOGINS_AT_ONCE, LOGINS_WAITING);
	doors->joins = mg_admission_new(JOINS_AT_ONCE, JOINS_WAITING);
	int code = mg_sessions_new(
		&doors->sessions,
		&(struct mg_sessions_options){ .engine = options->engine,
	                                   .running_max = options->running_max,
	                                   .queue_max = options->queue_max,
	                                   .threads_max = options->threads_max,
	                                   .slow_ms = options->slow_ms ? options->slow_ms : SLOW_MS,
	                                   .peers = mg_engine_peers(options->engine),
	                                   .replicas = options->replicas,
	                                   .settings = options->settings,
	                                   .setting_count = options->setting_count,
	                                   .arg = options->arg },
		err);

	if (code) {
		mg_doors_free(doors);
		return code;
	}
	doors->tx_handles = mg_tx_handles_new(doors->sessions);
	if (options->nursery) {
		doors->jobs = mg_jobs_new(&(struct mg_jobs_options){ .nursery = options->nursery,
		                                                     .sessions = doors->sessions,
		                                                     .node = doors->node_name });
	}
	*out = doors;
	return 0;
}

void mg_doors_stop(struct mg_doors *doors)
{
	atomic_store(&doors->stopping, true);
	mg_rest_kv_watch_stop(doors);
	mg_rest_changes_stop(doors);
	mg_tx_handles_close(doors->tx_handles);
	if (doors->jobs) {
		mg_jobs_stop(doors->jobs);
	}
	mg_sessions_stop(doors->sessions);
}

void mg_doors_free(struct mg_doors *doors)
{
	if (!doors) {
		return;
	}
	mg_tx_handles_free(doors->tx_handles);
	mg_jobs_free(doors->jobs);
	mg_sessions_free(doors->sessions);
	mg_once_free(doors->once);
	mg_rest_changes_free(doors);
	mg_rest_kv_watch_free(doors);
	mg_admission_free(doors->logins);
	mg_admission_free(doors->joins);
	mg_free(doors);
}

struct mg_sessions *mg_doors_sessions(struct mg_doors *doors)
{
	return doors->sessions;
}

void mg_doors_count(struct mg_doors *doors, struct mg_door_counts *counts)
{
	struct mg_node_info *nodes = mg_alloc(NODES_MAX * sizeof *nodes);
	size_t count = mg_engine_nodes(doors->options.engine, nodes, NODES_MAX);

	memset(counts, 0, sizeof *counts);
	for (size_t i = 0; i < count && i < NODES_MAX; i++) {
		bool ready = mg_text_eq(nodes[i].state, "ready");

		counts->nodes += ready;
		counts->workers += ready && mg_text_eq(nodes[i].role, "worker");
	}
	mg_free(nodes);
	const struct mg_catalog_data *data = mg_catalog_take(doors->options.catalog);

	counts->shards = data->shard_count;
	counts->tables = (uint32_t)data->table_count;
	(void)snprintf(counts->cluster, sizeof counts->cluster, "%s",
	               data->cluster_id ? data->cluster_id : "");
	mg_catalog_give(doors->options.catalog, data);
}
