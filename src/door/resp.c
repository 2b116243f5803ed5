/*
 * resp.c - see resp.h: a connection, from its first byte to its last.
 *
 *     data -> parser -> queue -> wave -> answers
 *
 * What was read and not answered is bounded, as is what was answered and not taken: past either
 * the connection is not read.
 *
 * owner: the connection's loop.  A wave that is under way when the connection ends keeps the
 * struct until it is over.
 */
#include "door/resp.h"

#include "auth/auth.h"
#include "base/log.h"
#include "door/resp_int.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

enum {
	STRANGER_ARGS = 10, /* as Redis allows them */
	STRANGER_ARG = 16 << 10,
	COMMAND_BYTES = 32 << 20,
	ARG_BYTES = MG_KV_VALUE_MAX + MG_KV_KEY_MAX,
};

static void count_connections(int change)
{
	struct mg_metric *metric =
		mg_metric_gauge("merganser_redis_connections", "", "Connections of Redis clients.");

	mg_metric_add(metric, change);
}

/* ---- what commands set ---- */

void mg_redis_admit(struct mg_redis *redis, const char *user)
{
	redis->logged_in = user != NULL;
	mg_copy_text(redis->user, sizeof redis->user, user);
	redis->parser.limits = (struct mg_resp_limits){
		.args = user ? MG_RESP_ARGS_MAX : STRANGER_ARGS,
		.arg = user ? ARG_BYTES : STRANGER_ARG,
		.command = user ? COMMAND_BYTES : STRANGER_ARGS * STRANGER_ARG,
		.strangers = !user,
	};
}

/* A good certificate is a login. */
static void admit_certificate(struct mg_redis *redis)
{
	const struct mg_peer_cert *cert = mg_conn_cert(redis->conn);
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };

	mg_redis_admit(redis, NULL);
	if (cert && !mg_rest_check_cert(redis->doors, cert, NULL, &err) &&
	    !mg_login_certificate(redis->doors->options.login, cert->name, &role, &err) &&
	    (role == MG_ROLE_CLIENT || role == MG_ROLE_ADMIN)) {
		mg_redis_admit(redis, cert->name);
	}
}

void mg_redis_forget(struct mg_redis *redis)
{
	mg_redis_unwatch_all(redis);
	mg_redis_drop_queued(redis);
	mg_redis_drop_cursors(redis);
	redis->v3 = false;
	mg_copy_text(redis->space, sizeof redis->space, "default");
	redis->name[0] = redis->lib_name[0] = redis->lib_version[0] = '\0';
	if (redis->conn) {
		admit_certificate(redis);
	}
}

/* ---- its end ---- */

static void drop_queue(struct mg_redis *redis)
{
	for (struct mg_resp_command *command = redis->queue, *next; command; command = next) {
		next = command->next;
		redis->pending--;
		redis->pending_bytes -= command->bytes;
		mg_resp_command_free(command);
	}
	redis->queue = NULL;
	redis->queue_last = &redis->queue;
}

static void free_redis(struct mg_redis *redis)
{
	drop_queue(redis);
	mg_redis_forget(redis);
	mg_resp_parser_fini(&redis->parser);
	mg_free(redis->watches);
	mg_free(redis);
}

static void on_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_redis *redis = state;

	(void)conn;
	(void)reason;
	count_connections(-1);
	redis->conn = NULL;
	if (!redis->wave) {
		free_redis(redis);
	}
}

static void leave(struct mg_redis *redis)
{
	drop_queue(redis);
	redis->quitting = true;
	mg_conn_close_after_write(redis->conn);
}

/* ---- going on ---- */

/* What comes behind a login has larger limits, so it is not looked at before. */
static bool has_enough(const struct mg_redis *redis)
{
	return redis->pending >= MG_REDIS_COMMANDS_MAX ||
	       redis->pending_bytes >= MG_REDIS_COMMAND_BYTES || (!redis->logged_in && redis->wave);
}

static void end_wave(struct mg_redis *redis, struct mg_redis_wave *wave)
{
	struct mg_resp_out out = { .v3 = redis->v3 };

	mg_redis_wave_answer(wave, &out);
	mg_redis_wave_free(wave);
	if (redis->conn && out.bytes.len) {
		mg_conn_write(redis->conn, out.bytes.ptr, out.bytes.len);
	}
	mg_sb_fini(&out.bytes);
}

void mg_redis_wave_ended(struct mg_redis_wave *wave)
{
	struct mg_redis *redis = wave->redis;

	redis->wave = NULL;
	end_wave(redis, wave);
	if (redis->conn) {
		mg_redis_go_on(redis);
	} else {
		free_redis(redis);
	}
}

/* A client that takes nothing of its answers is let go after a while. */
static bool must_take(struct mg_redis *redis)
{
	bool must = mg_conn_write_queued(redis->conn) > MG_REDIS_QUEUED_MAX;

	mg_conn_idle_limit(redis->conn, must ? redis->doors->options.idle_ms : 0);
	return must;
}

static void say_and_leave(struct mg_redis *redis, const char *error)
{
	struct mg_resp_out out = { 0 };

	mg_resp_error(&out, "%s", error);
	mg_conn_write(redis->conn, out.bytes.ptr, out.bytes.len);
	mg_sb_fini(&out.bytes);
	leave(redis);
}

static bool ends_here(struct mg_redis *redis)
{
	if (redis->quitting) {
		leave(redis);
	} else if (atomic_load(&redis->doors->stopping)) {
		say_and_leave(redis, "ERR the server is shutting down");
	} else if (!redis->queue && redis->bad[0]) {
		char error[MG_RESP_ERROR_SIZE + 8];

		snprintf(error, sizeof error, "ERR %s", redis->bad);
		say_and_leave(redis, error);
	} else {
		return false;
	}
	return true;
}

void mg_redis_go_on(struct mg_redis *redis)
{
	bool waits = redis->wave != NULL;

	while (!waits) {
		if ((redis->queue || redis->bad[0] || redis->quitting) && ends_here(redis)) {
			return;
		}
		if (!redis->queue || must_take(redis)) {
			break;
		}
		struct mg_redis_wave *wave = mg_redis_wave_new(redis);

		waits = mg_redis_wave_start(wave);
		if (waits) {
			redis->wave = wave;
		} else {
			end_wave(redis, wave);
		}
	}
	mg_conn_pause_read(redis->conn, has_enough(redis) || must_take(redis));
}

/* ---- what comes ---- */

static void put_queue(struct mg_redis *redis, struct mg_resp_command *command)
{
	command->next = NULL;
	*redis->queue_last = command;
	redis->queue_last = &command->next;
	redis->pending++;
	redis->pending_bytes += command->bytes;
}

static long on_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_redis *redis = state;
	size_t all = 0;

	(void)conn;
	if (redis->quitting || redis->bad[0]) {
		return (long)size;
	}
	while (all < size && !has_enough(redis)) {
		struct mg_resp_command *command = NULL;
		size_t used = 0;
		enum mg_resp_parsed parsed = mg_resp_parse(&redis->parser, bytes + all, size - all, &used,
		                                           &command, redis->bad);

		all += used;
		if (parsed == MG_RESP_BAD) {
			all = size;
		} else if (parsed == MG_RESP_COMMAND) {
			put_queue(redis, command);
			if (!redis->logged_in) {
				mg_redis_go_on(redis);
			}
			if (redis->quitting) {
				return (long)size;
			}
		}
	}
	mg_redis_go_on(redis);
	return (long)all;
}

static void on_drain(struct mg_conn *conn, void *state)
{
	struct mg_redis *redis = state;

	(void)conn;
	if (!redis->quitting) {
		mg_redis_go_on(redis);
	}
}

/* ---- its begin ---- */

void mg_redis_open(struct mg_doors *doors, struct mg_conn *conn)
{
	static const struct mg_protocol protocol = {
		.name = "redis", .data = on_data, .drain = on_drain, .closed = on_closed
	};
	struct mg_redis *redis = mg_alloc0(sizeof *redis);

	redis->doors = doors;
	redis->conn = conn;
	redis->loop = mg_conn_loop(conn);
	redis->queue_last = &redis->queue;
	redis->queued_last = &redis->queued;
	redis->since_ms = mg_clock_ms();
	mg_redis_forget(redis);
	count_connections(1);
	mg_conn_set_protocol(conn, &protocol, redis);
}

static long swallow(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	(void)conn;
	(void)state;
	(void)bytes;
	return (long)size;
}

void mg_redis_refuse(struct mg_conn *conn, const char *error)
{
	static const struct mg_protocol refused = { .name = "redis", .data = swallow };
	struct mg_resp_out out = { 0 };

	mg_resp_error(&out, "%s", error);
	mg_conn_set_protocol(conn, &refused, NULL);
	mg_conn_write(conn, out.bytes.ptr, out.bytes.len);
	mg_conn_close_after_write(conn);
	mg_sb_fini(&out.bytes);
}
