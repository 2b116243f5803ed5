/*
 * resp_client.c - commands about the connection and the server, none of which touches a key.
 *
 * owner: the connection's loop.
 */
#include "door/kv_text.h"
#include "door/resp_int.h"

#include "mg_version.h"
#include "os/clock.h"
#include "os/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* ---- the connection ---- */

void mg_redis_ping(struct mg_redis_job *job)
{
	if (job->arg_count > 2) {
		mg_redis_wrong_count(job);
	} else if (job->arg_count == 2) {
		mg_resp_bulk(&job->reply, job->args[1]);
	} else {
		mg_resp_simple(&job->reply, "PONG");
	}
}

void mg_redis_echo(struct mg_redis_job *job)
{
	mg_resp_bulk(&job->reply, job->args[1]);
}

void mg_redis_quit(struct mg_redis_job *job)
{
	job->redis->quitting = true;
	mg_redis_ok(job);
}

void mg_redis_reset(struct mg_redis_job *job)
{
	mg_redis_forget(job->redis);
	job->reply.v3 = false;
	mg_resp_simple(&job->reply, "RESET");
}

/* A namespace; what clients call 0 is the one of other doors. */
void mg_redis_select(struct mg_redis_job *job)
{
	struct mg_str name = job->args[1];

	if (mg_str_eq(name, MG_STR("0"))) {
		name = MG_STR("default");
	}
	if (!mg_kv_is_space(name)) {
		mg_redis_error(job, "ERR invalid DB index");
		return;
	}
	(void)snprintf(job->redis->space, sizeof job->redis->space, "%.*s", MG_STR_ARG(name));
	mg_redis_drop_cursors(job->redis);
	mg_redis_ok(job);
}

/* ---- CLIENT ---- */

bool mg_redis_is_name(struct mg_str text)
{
	bool good = true;

	for (size_t i = 0; good && i < text.len; i++) {
		good = text.ptr[i] >= '!' && text.ptr[i] <= '~';
	}
	return good;
}

static void set_name(struct mg_redis_job *job, struct mg_str name, char *field, size_t size)
{
	if (!mg_redis_is_name(name)) {
		mg_redis_error(job, MG_REDIS_BAD_NAME);
		return;
	}
	(void)snprintf(field, size, "%.*s", (int)(name.len < size ? name.len : size - 1), name.ptr);
	mg_redis_ok(job);
}

static void set_info(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;

	if (mg_redis_is(job->args[2], "lib-name")) {
		set_name(job, job->args[3], redis->lib_name, sizeof redis->lib_name);
	} else if (mg_redis_is(job->args[2], "lib-ver")) {
		set_name(job, job->args[3], redis->lib_version, sizeof redis->lib_version);
	} else {
		mg_resp_error(&job->reply, "ERR Unrecognized option '%.*s'",
		              (int)(job->args[2].len < 128 ? job->args[2].len : 128), job->args[2].ptr);
	}
}

/* A line as CLIENT LIST has it, of this connection. */
static void tell_client(struct mg_redis_job *job)
{
	const struct mg_redis *redis = job->redis;
	struct mg_sb text = { 0 };

	mg_sb_addf(&text,
	           "id=%" PRIu64 " addr=%s name=%s age=%" PRIu64 " idle=0 flags=%c db=%s "
	           "multi=%" PRId64 " watch=%zu cmd=client user=%s resp=%d lib-name=%s lib-ver=%s\n",
	           mg_conn_id(redis->conn), mg_conn_peer(redis->conn), redis->name,
	           (mg_clock_ms() - redis->since_ms) / 1000, redis->multi ? 'x' : 'N',
	           mg_text_eq(redis->space, "default") ? "0" : redis->space,
	           redis->multi ? (int64_t)redis->queued_count : -1, redis->watch_count, redis->user,
	           redis->v3 ? 3 : 2, redis->lib_name, redis->lib_version);
	mg_resp_verbatim(&job->reply, (struct mg_str){ text.ptr, text.len });
	mg_sb_fini(&text);
}

void mg_redis_client(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;
	struct mg_str part = job->args[1];
	size_t more = job->arg_count - 2;

	if (mg_redis_is(part, "id") && more == 0) {
		mg_resp_number(&job->reply, (int64_t)mg_conn_id(redis->conn));
	} else if (mg_redis_is(part, "getname") && more == 0) {
		if (redis->name[0]) {
			mg_resp_bulk(&job->reply, mg_str(redis->name));
		} else {
			mg_resp_nil(&job->reply);
		}
	} else if (mg_redis_is(part, "setname") && more == 1) {
		set_name(job, job->args[2], redis->name, sizeof redis->name);
	} else if (mg_redis_is(part, "setinfo") && more == 2) {
		set_info(job);
	} else if ((mg_redis_is(part, "info") && more == 0) || mg_redis_is(part, "list")) {
		tell_client(job);
	} else if ((mg_redis_is(part, "no-evict") || mg_redis_is(part, "no-touch")) && more == 1) {
		mg_redis_ok(job);
	} else {
		mg_redis_unknown_part(job);
	}
}

/* ---- the server ---- */

/* Nothing of Redis' settings is one here; tools ask all the same. */
void mg_redis_config(struct mg_redis_job *job)
{
	if (mg_redis_is(job->args[1], "get") && job->arg_count > 2) {
		mg_resp_map(&job->reply, 0);
	} else {
		mg_redis_unknown_part(job);
	}
}

void mg_redis_info(struct mg_redis_job *job)
{
	const struct mg_doors *doors = job->redis->doors;
	struct mg_sb text = { 0 };

	mg_sb_addf(&text,
	           "# Server\r\nredis_version:%s\r\nredis_mode:standalone\r\nserver_name:merganser\r\n"
	           "merganser_version:%s\r\nmerganser_node:%s\r\nos:Linux\r\nprocess_id:%d\r\n"
	           "uptime_in_seconds:%" PRIu64 "\r\n\r\n",
	           MG_REDIS_VERSION, MG_VERSION, doors->node_name, (int)getpid(),
	           (mg_clock_ms() - doors->started_ms) / 1000);
	mg_sb_addf(&text, "# Clients\r\nconnected_clients:%" PRId64 "\r\n\r\n",
	           mg_metric_value(mg_metric_gauge("merganser_redis_connections", "",
	                                           "Connections of Redis clients.")));
	mg_sb_addf(&text, "# Memory\r\nused_memory_rss:%" PRIu64 "\r\n\r\n",
	           (uint64_t)mg_os_resident_bytes());
	mg_sb_addf(&text,
	           "# Persistence\r\nloading:0\r\n\r\n# Replication\r\nrole:master\r\n"
	           "connected_slaves:0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\nkv_shards:%u\r\n",
	           mg_replica_kv_shards(mg_redis_replica(job->redis)));
	mg_resp_verbatim(&job->reply, (struct mg_str){ text.ptr, text.len });
	mg_sb_fini(&text);
}
