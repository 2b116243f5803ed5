/*
 * hub.c - see hub.h; who holds which copies is decided in hub_lease.c.
 *
 * Rule: a worker counts as holding a shard only after it has proved or told what it has of it
 * (hub_files.c), over a connection that is still alive.
 */
#include "exec/hub_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/attempt.h"
#include "os/clock.h"
#include "os/random.h"
#include "os/wait.h"
#include "replica/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- references ---- */

struct mg_worker *mg_worker_ref(struct mg_worker *worker)
{
	atomic_fetch_add(&worker->refs, 1);
	return worker;
}

void mg_worker_unref(struct mg_worker *worker)
{
	if (worker && atomic_fetch_sub(&worker->refs, 1) == 1) {
		mg_channel_unref(worker->channel);
		mg_free(worker->holding);
		mg_free(worker->held);
		mg_free(worker->asked);
		mg_free(worker);
	}
}

const char *mg_worker_id(const struct mg_worker *worker)
{
	return worker->id;
}

struct mg_channel *mg_worker_channel(struct mg_worker *worker)
{
	return worker->channel;
}

/* Holds what a statement can be given: the reference group and a shard. */
static bool has_copies_locked(const struct mg_worker *worker)
{
	if (worker->holding[0] != MG_HELD) {
		return false;
	}
	for (uint32_t i = 1; i <= worker->hub->shard_count; i++) {
		if (worker->holding[i] == MG_HELD) {
			return true;
		}
	}
	return false;
}

/* A worker waits for its copies. */
static bool is_ready_locked(const struct mg_worker *worker)
{
	return worker->greeted && !worker->lost && !worker->draining && has_copies_locked(worker);
}

void mg_hub__tell(struct mg_hub *hub, const char *event, const char *worker)
{
	if (hub->on_event) {
		hub->on_event(hub->event_arg, event, worker);
	}
}

void mg_hub__tell_ready(struct mg_hub *hub, struct mg_worker *worker)
{
	if (!worker->was_ready && is_ready_locked(worker)) {
		worker->was_ready = true;
		mg_hub__tell(hub, "worker.ready", worker->id);
		mg_log(MG_LOG_INFO, "worker.ready", "worker=%s", worker->id);
	}
}

void mg_hub_on_event(struct mg_hub *hub,
                     void (*on_event)(void *arg, const char *event, const char *worker), void *arg)
{
	pthread_mutex_lock(&hub->lock);
	hub->on_event = on_event;
	hub->event_arg = arg;
	pthread_mutex_unlock(&hub->lock);
}

/* ---- threads ---- */

/* Nodes on the cores of that name, this server among them. */
static size_t neighbours_locked(const struct mg_hub *hub, const char *cores)
{
	size_t count = mg_text_eq(hub->cores, cores);
	for (size_t i = 0; i < hub->worker_count; i++) {
		count += hub->workers[i]->greeted && mg_text_eq(hub->workers[i]->cores, cores);
	}
	return count;
}

/* Nodes on one machine take part in the same statements at the same time.  Each with a thread for
 * every core, they would only get into each other's way: DuckDB's aggregates of many groups cost
 * more than twice the CPU time on two threads as on one (TPC-H 18). */
static void share_cores_locked(struct mg_hub *hub)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!worker->greeted || !worker->shares || !worker->cores[0]) {
			continue;
		}
		size_t nodes = neighbours_locked(hub, worker->cores);
		unsigned threads = mg_engine_share_of_cores(worker->threads_max, nodes);
		if (threads != worker->threads) {
			worker->threads = threads;
			mg_channel_sendf(worker->channel, "{\"type\":\"threads\",\"threads\":%u}", threads);
		}
	}
}

unsigned mg_hub_server_threads(struct mg_hub *hub)
{
	unsigned threads = mg_engine_threads(hub->engine);
	if (mg_engine_threads_given(hub->engine) || !hub->cores[0]) {
		return threads;
	}
	pthread_mutex_lock(&hub->lock);
	threads = mg_engine_share_of_cores(threads, neighbours_locked(hub, hub->cores));
	pthread_mutex_unlock(&hub->lock);
	return threads;
}

/* ---- frames of workers ---- */

/* Names stand in logs, errors and terminals. */
static bool is_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
								  "._:-";

	return strspn(name, letters) == strlen(name) && strlen(name) < 48;
}

/* A name that no other node has: the one asked for, or with a number behind it. */
static void choose_id_locked(struct mg_hub *hub, struct mg_worker *worker, const char *wanted)
{
	char base[48];
	mg_copy_text(base, sizeof base, wanted && wanted[0] ? wanted : "worker");
	mg_copy_text(worker->id, sizeof worker->id, base);
	for (unsigned n = 2;; n++) {
		bool taken = mg_text_eq(mg_engine_node_name(hub->engine), worker->id);
		for (size_t i = 0; i < hub->worker_count; i++) {
			taken |= hub->workers[i] != worker && mg_text_eq(hub->workers[i]->id, worker->id);
		}
		if (!taken) {
			return;
		}
		snprintf(worker->id, sizeof worker->id, "%s-%u", base, n);
	}
}

static int on_hello(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err)
{
	const char *engine = mg_json_get_text(json, "engine");
	if (mg_json_get_int(json, "protocol", 0) != MG_HUB_PROTOCOL) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "the worker speaks protocol %lld, this server speaks %d",
		                    (long long)mg_json_get_int(json, "protocol", 0), MG_HUB_PROTOCOL);
	}
	if (!mg_text_eq(engine, mg_duck_version())) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "the worker's engine is DuckDB %s, this server's is %s",
		                    engine ? engine : "unknown", mg_duck_version());
	}
	const char *name = mg_json_get_text(json, "name");
	if (name && !is_name(name)) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a worker's name has at most 47 letters, digits and the signs . _ : -");
	}
	const char *cores = mg_json_get_text(json, "cores");
	if (cores && !is_name(cores)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a name of cores must look like a worker's name");
	}
	struct mg_sb hello = { 0 };
	pthread_mutex_lock(&hub->lock);
	if (worker->greeted) {
		pthread_mutex_unlock(&hub->lock);
		return mg_error_set(err, MG_E_PROTOCOL, "a second hello");
	}
	choose_id_locked(hub, worker, name);
	mg_copy_text(worker->version, sizeof worker->version, mg_json_get_text(json, "version"));
	int64_t threads = mg_json_get_int(json, "threads", 1);
	worker->threads = threads < 1 ? 1 : threads > 1024 ? 1024 : (unsigned)threads;
	worker->threads_max = worker->threads;
	mg_copy_text(worker->cores, sizeof worker->cores, cores);
	worker->shares = mg_json_get_bool(json, "share", false);
	int64_t memory = mg_json_get_int(json, "memory", 0);
	worker->memory_bytes = memory < 0 ? 0 : (uint64_t)memory;
	int64_t cache = mg_json_get_int(json, "cache", 0);
	worker->cache_bytes = cache < 0 ? 0 : (uint64_t)cache;
	worker->greeted = true;
	mg_sb_addf(&hello,
	           "{\"type\":\"welcome\",\"worker\":\"%s\",\"cluster\":\"%s\",\"lease_ms\":%u}",
	           worker->id, hub->cluster_id, (unsigned)hub->silence_ms);
	mg_channel_send(worker->channel, mg_sb_text(&hello));
	mg_sb_fini(&hello);
	mg_hub__lease(hub, worker);
	share_cores_locked(hub);
	mg_hub__tell(hub, "worker.joined", worker->id);
	mg_log(MG_LOG_INFO, "worker.joined", "worker=%s address=%s threads=%u", worker->id,
	       mg_channel_peer(worker->channel), worker->threads);
	pthread_mutex_unlock(&hub->lock);
	return mg_hub__start_feeder(hub, worker, err);
}

/* A shard has applied more. */
static int on_applied(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                      struct mg_error *err)
{
	int64_t shard = mg_json_get_int(json, "shard", -1), index = mg_json_get_int(json, "index", -1);
	if (shard < 0 || shard > hub->shard_count || index < 0) {
		return mg_error_set(err, MG_E_PROTOCOL, "shard %lld is not one to apply anything to",
		                    (long long)shard);
	}
	return mg_hub__on_applied(hub, worker, (uint32_t)shard, (uint64_t)index, err);
}

/* The query that a frame names, with a reference; NULL when it is over, which is no fault: frames
 * of a cancelled query may still be under way. */
static struct mg_attempt *find_query(struct mg_hub *hub, uint64_t number)
{
	struct mg_attempt *query = NULL;
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number && hub->queries[i].query) {
			query = hub->queries[i].query;
			mg_attempt_ref(query);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return query;
}

/* It reads its copies as they were asked for, or cannot. */
static int on_pinned(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                     struct mg_error *err)
{
	struct mg_attempt *query = find_query(hub, (uint64_t)mg_json_get_int(json, "query", -1));
	(void)err;
	if (query) {
		mg_attempt_on_pinned(query, worker, mg_json_get_text(json, "missed"));
		mg_attempt_unref(query);
	}
	pthread_mutex_lock(&hub->lock);
	worker->late = false; /* after the query has heard: it may just have called it late */
	pthread_mutex_unlock(&hub->lock);
	return 0;
}

static int on_control(void *arg, const struct mg_json *json, struct mg_error *err)
{
	struct mg_worker *worker = arg;
	struct mg_hub *hub = worker->hub;
	const char *type = mg_json_get_text(json, "type");
	if (mg_text_eq(type, "hello")) {
		return on_hello(hub, worker, json, err);
	}
	if (!worker->greeted) {
		return mg_error_set(err, MG_E_PROTOCOL, "a frame \"%s\" before hello", type);
	}
	static const struct {
		const char *type;
		int (*on)(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
		          struct mg_error *err);
	} frames[] = {
		{ "fetch", mg_hub__on_fetch },   { "hashes", mg_hub__on_hashes },
		{ "held", mg_hub__on_held },     { "want", mg_hub__on_want },
		{ "applied", on_applied },       { "decline", mg_hub__on_decline },
		{ "pinned", on_pinned },
	};
	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
		if (mg_text_eq(type, frames[i].type)) {
			return frames[i].on(hub, worker, json, err);
		}
	}
	if (mg_text_eq(type, "ran")) {
		struct mg_attempt *query = find_query(hub, (uint64_t)mg_json_get_int(json, "query", -1));
		int code = 0;
		if (query) {
			code = mg_attempt_on_ran(query, worker, json, err);
			mg_attempt_unref(query);
		}
		return code;
	}
	if (mg_text_eq(type, "drain")) {
		mg_hub_drain(hub, worker->id);
		return 0;
	}
	if (mg_text_eq(type, "beat")) {
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL, "unknown control frame \"%s\"", type);
}

static int on_data(void *arg, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err)
{
	struct mg_worker *worker = arg;
	if (!worker->greeted || frame->kind >= MG_FRAME_CHUNK) {
		return mg_error_set(err, MG_E_PROTOCOL, "an unexpected data frame");
	}
	struct mg_attempt *query = find_query(worker->hub, frame->id);
	int code = 0;
	if (query) {
		atomic_fetch_add(&worker->hub->bytes_moved, payload->size);
		code = mg_attempt_on_data(query, worker, frame, payload, err);
		mg_attempt_unref(query);
	}
	return code;
}

/* The last call for a worker: its queries learn that it is gone, its shards go to others. */
static void on_closed(void *arg, const char *reason)
{
	struct mg_worker *worker = arg;
	struct mg_hub *hub = worker->hub;
	struct mg_arena *arena = mg_arena_new();
	pthread_mutex_lock(&hub->lock);
	worker->lost = true;
	size_t count = 0;
	struct mg_attempt **queries =
		mg_arena_new_array(arena, struct mg_attempt *, hub->query_count + 1);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].query) { /* the others will see for themselves that it is lost */
			queries[count] = hub->queries[i].query;
			mg_attempt_ref(queries[count++]);
		}
	}
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (hub->workers[i] == worker) {
			hub->workers[i] = hub->workers[--hub->worker_count];
			break;
		}
	}
	if (!hub->stopping) {
		mg_hub__lease_all(hub);
		share_cores_locked(hub);
		mg_hub__tell(hub, "worker.left", worker->id);
	}
	mg_log(worker->draining || hub->stopping ? MG_LOG_INFO : MG_LOG_WARN, "worker.left",
	       "worker=%s reason=\"%s\"", worker->id, reason);
	pthread_mutex_unlock(&hub->lock);
	for (size_t i = 0; i < count; i++) {
		mg_attempt_on_lost(queries[i], worker, reason);
		mg_attempt_unref(queries[i]);
	}
	mg_arena_free(arena);
	mg_hub__end_feeder(worker);
	pthread_mutex_lock(&hub->lock);
	hub->present--;
	pthread_cond_broadcast(&hub->left);
	pthread_mutex_unlock(&hub->lock);
	mg_worker_unref(worker);
}

void mg_hub_accept(struct mg_hub *hub, struct mg_http_request *request)
{
	struct mg_worker *worker = mg_alloc0(sizeof *worker);
	atomic_init(&worker->refs, 1); /* the channel's, given back in on_closed */
	worker->hub = hub;
	worker->holding = mg_alloc0(hub->shard_count + 1);
	worker->held = mg_alloc0((hub->shard_count + 1) * sizeof *worker->held);
	worker->asked = mg_alloc0(sizeof *worker->asked * (hub->shard_count + 1));
	worker->since_ms = (uint64_t)mg_clock_wall_ms();
	struct mg_channel_handler handler = {
		.control = on_control,
		.data = on_data,
		.closed = on_closed,
		.arg = worker,
		.message_max = hub->message_max,
	};
	pthread_mutex_lock(&hub->lock);
	bool full = hub->worker_count >= MG_HUB_WORKERS_MAX || hub->stopping;
	if (!full) {
		snprintf(worker->id, sizeof worker->id, "joining-%llu",
		         (unsigned long long)++hub->next_worker);
		worker->channel = mg_channel_accept(request, &handler);
		if (worker->channel) {
			mg_grow(hub->workers, hub->worker_count, hub->worker_cap);
			hub->workers[hub->worker_count++] = worker;
			hub->present++;
		}
	}
	pthread_mutex_unlock(&hub->lock);
	if (full) {
		struct mg_error err;
		mg_error_clear(&err);
		mg_error_set(&err, MG_E_BUSY, "this server has %d workers already", MG_HUB_WORKERS_MAX);
		mg_http_reply_error(request, &err);
	}
	if (!worker->channel) {
		mg_worker_unref(worker);
	}
}

/* ---- from time to time ---- */

void mg_hub_tick(struct mg_hub *hub)
{
	uint64_t now = mg_clock_ms();
	mg_hub__tell_servers(hub);
	pthread_mutex_lock(&hub->lock);
	/* When this server itself stood still, what its workers said meanwhile is not read yet: their
	 * silence is judged at the next tick. */
	bool slept = hub->ticked_ms && now - hub->ticked_ms > hub->silence_ms / 2;
	hub->ticked_ms = now;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		mg_channel_ping(worker->channel);
		if (!slept && mg_channel_silence_ms(worker->channel) > hub->silence_ms) {
			mg_log(MG_LOG_WARN, "worker.silent", "worker=%s", worker->id);
			mg_channel_abort(worker->channel, "no sign of life");
		}
	}
	mg_hub__drop_offers(hub);
	mg_hub__exchange(hub);
	pthread_mutex_unlock(&hub->lock);
}

size_t mg_hub_nodes(struct mg_hub *hub, struct mg_node_info *infos, size_t max)
{
	pthread_mutex_lock(&hub->lock);
	size_t count = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!worker->greeted) {
			continue;
		}
		if (count < max) {
			struct mg_node_info *info = &infos[count];
			*info = (struct mg_node_info){ .role = "worker" };
			info->state = worker->draining          ? "draining"
			              : is_ready_locked(worker) ? "ready"
			                                        : "joining";
			mg_copy_text(info->id, sizeof info->id, worker->id);
			mg_copy_text(info->address, sizeof info->address, mg_channel_peer(worker->channel));
			mg_copy_text(info->version, sizeof info->version, worker->version);
			for (uint32_t s = 1; s <= hub->shard_count; s++) {
				info->shards += worker->holding[s] == MG_HELD;
			}
			info->threads = worker->threads;
			info->memory_bytes = worker->memory_bytes;
			info->since_ms = worker->since_ms;
		}
		count++;
	}
	pthread_mutex_unlock(&hub->lock);
	return count;
}

bool mg_hub_drain(struct mg_hub *hub, const char *id)
{
	bool known = false;
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (mg_text_eq(hub->workers[i]->id, id)) {
			hub->workers[i]->draining = known = true;
			mg_channel_send(hub->workers[i]->channel, "{\"type\":\"draining\"}");
			mg_hub__tell(hub, "worker.draining", id);
			mg_log(MG_LOG_INFO, "worker.draining", "worker=%s", id);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return known;
}

uint64_t mg_hub_bytes_moved(struct mg_hub *hub)
{
	return atomic_load(&hub->bytes_moved);
}

/* ---- for queries ---- */

void mg_hub_members(struct mg_hub *hub, struct mg_arena *arena, struct mg_hub_member **out,
                    size_t *count)
{
	pthread_mutex_lock(&hub->lock);
	*out = mg_arena_new_array(arena, struct mg_hub_member, hub->worker_count + 1);
	*count = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!is_ready_locked(worker) || worker->late || mg_hub__is_behind(worker, 0)) {
			continue;
		}
		struct mg_hub_member *member = &(*out)[(*count)++];
		member->worker = mg_worker_ref(worker);
		member->threads = worker->threads;
		member->shards = mg_arena_new_array(arena, uint32_t, hub->shard_count + 1);
		for (uint32_t s = 1; s <= hub->shard_count; s++) {
			if (worker->holding[s] == MG_HELD && !mg_hub__is_behind(worker, s)) {
				member->shards[member->shard_count++] = s;
			}
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

uint64_t mg_hub_add_query(struct mg_hub *hub)
{
	pthread_mutex_lock(&hub->lock);
	mg_grow(hub->queries, hub->query_count, hub->query_cap);
	uint64_t number = ++hub->next_query;
	hub->queries[hub->query_count++] = (struct mg_open_query){ .number = number };
	pthread_mutex_unlock(&hub->lock);
	return number;
}

void mg_hub_show_query(struct mg_hub *hub, uint64_t number, struct mg_attempt *query)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number) {
			hub->queries[i].query = query;
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

bool mg_hub_ask(struct mg_hub *hub, struct mg_worker *worker, const uint32_t *shards, size_t count)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < count; i++) {
		mg_assert(shards[i] <= hub->shard_count);
		hub->asked[shards[i]]++;
		if (worker) {
			worker->asked[shards[i]]++;
		}
	}
	bool there = !worker || !worker->lost;
	pthread_mutex_unlock(&hub->lock);
	return there;
}

void mg_hub_remove_query(struct mg_hub *hub, uint64_t number)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number) {
			hub->queries[i] = hub->queries[--hub->query_count];
			break;
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

/* ---- life ---- */

void mg_hub_limits(struct mg_hub *hub, uint64_t silence_ms, size_t message_max)
{
	hub->silence_ms = silence_ms ? silence_ms : MG_HUB_SILENCE_MS;
	hub->message_max = message_max;
}

int mg_hub_new(struct mg_hub **out, struct mg_engine *engine, const char *data_dir,
               struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(engine));
	struct mg_replica *replica = mg_engine_replica(engine);
	struct mg_hub *hub = mg_alloc0(sizeof *hub);
	hub->engine = engine;
	hub->silence_ms = MG_HUB_SILENCE_MS;
	hub->shard_count = data->shard_count;
	mg_copy_text(hub->cluster_id, sizeof hub->cluster_id, data->cluster_id);
	mg_os_cores_name(hub->cores);
	hub->files = mg_alloc(sizeof *hub->files * (data->shard_count + 1));
	hub->shards = mg_alloc0(sizeof *hub->shards * (data->shard_count + 1));
	hub->asked = mg_alloc0(sizeof *hub->asked * (data->shard_count + 1));
	hub->offers = mg_alloc0(sizeof *hub->offers * (data->shard_count + 1));
	hub->data_dir = mg_strdup(data_dir);
	pthread_mutex_init(&hub->lock, NULL);
	pthread_cond_init(&hub->left, NULL);
	pthread_mutex_init(&hub->feed_lock, NULL);
	mg_cond_init(&hub->feed_more);
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		hub->files[i] = -1;
	}
	int code = 0;
	for (uint32_t i = 0; !code && i <= data->shard_count; i++) {
		hub->shards[i] =
			(struct mg_shard){ .id = data->shards[i].id, .bytes = data->shards[i].bytes };
		mg_copy_text(hub->shards[i].sha256, sizeof hub->shards[i].sha256, data->shards[i].sha256);
		/* The catalog has the hash of a file as it was loaded: it has not been written since. */
		struct mg_offer *offer = &hub->offers[i];
		offer->there = mg_replica_file_state(replica, i, &offer->index, &offer->term) &&
		               offer->index == 0 && data->shards[i].sha256[0];
		char path[4096];
		snprintf(path, sizeof path, "%s/%s", data_dir, data->shards[i].file);
		hub->files[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (hub->files[i] < 0 && errno == ENOENT) {
			offer->there = false; /* it is being taken from another server */
		} else if (hub->files[i] < 0) {
			code = mg_error_errno(err, errno, "cannot open \"%s\"", path);
		}
	}
	mg_catalog_give(mg_engine_catalog(engine), data);
	if (code) {
		mg_hub_free(hub);
		return code;
	}
	mg_hub__remove_copies(hub);
	mg_hub__watch_logs(hub, true);
	*out = hub;
	return 0;
}

void mg_hub_free(struct mg_hub *hub)
{
	if (!hub) {
		return;
	}
	pthread_mutex_lock(&hub->lock);
	hub->stopping = true;
	for (size_t i = 0; i < hub->worker_count; i++) {
		mg_channel_close(hub->workers[i]->channel, "the server stops");
	}
	while (hub->present) {
		pthread_cond_wait(&hub->left, &hub->lock);
	}
	pthread_mutex_unlock(&hub->lock);
	mg_hub__watch_logs(hub, false);
	mg_hub__remove_copies(hub);
	pthread_cond_destroy(&hub->feed_more);
	pthread_mutex_destroy(&hub->feed_lock);
	mg_free(hub->data_dir);
	for (uint32_t i = 0; i <= hub->shard_count; i++) {
		if (hub->files[i] >= 0) {
			close(hub->files[i]);
		}
	}
	pthread_cond_destroy(&hub->left);
	pthread_mutex_destroy(&hub->lock);
	mg_free(hub->workers);
	mg_free(hub->queries);
	mg_free(hub->files);
	mg_free(hub->shards);
	mg_free(hub->offers);
	mg_free(hub->asked);
	mg_free(hub);
}
