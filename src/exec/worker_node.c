/*
 * worker_node.c - see worker_node.h: the node and its parts in queries; fetching is in
 * worker_fetch.c.
 *
 * Rule: a stage runs on its query's thread; the channel's thread only stores rows and hands on
 * orders, so one slow query holds up no other.
 *
 * `lock` guards the list of queries, each query's orders, and the channel pointer.
 */
#include "exec/worker_node.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "exec/worker_cache.h"
#include "exec/worker_fetch.h"
#include "exec/worker_follow.h"
#include "mg_version.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "os/pool.h"
#include "os/random.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { QUERIES_MAX = 256 };

struct order {
	struct order *next;
	struct mg_exec_order run;
	char *sql; /* what run.sql is */
};

/* One part in a query.  References: the list's and the thread's. */
struct part {
	int refs; /* guarded by the node's lock */
	struct mg_worker_node *node;
	uint64_t number;
	char name[48];
	struct mg_channel *channel;
	struct mg_arena *arena;
	struct mg_exec_open open;
	struct mg_spool_budget budget;
	uint16_t owner[MG_SLOT_COUNT];
	uint32_t *pinned; /* shards, in the arena */
	size_t pinned_count;
	struct mg_duck_conn *conn; /* whose transaction is its snapshot */
	bool opened;               /* it has a thread; else it only has a snapshot, or waits for it */
	/* guarded by the node's lock: */
	struct mg_participant *participant;
	struct order *orders, *last_order;
	bool tried, closing, cancelled; /* tried: the participant is open, or failed to */
	struct mg_error err;            /* why it failed */
};

struct mg_worker_node {
	struct mg_worker_node_options options;
	char *name, *cache_dir, *spill_dir;
	int spill_lock;
	struct mg_duck *duck;
	struct mg_fetch *fetch;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct mg_channel *channel; /* with a reference; NULL while not connected */
	struct part *parts[QUERIES_MAX];
	size_t part_count, threads_alive; /* of the pool */
	struct mg_pool *pool;
	bool threads_given; /* by the operator: the server does not change them */
};

/* ---- parts ---- */

static void part_unref_locked(struct part *part)
{
	if (--part->refs == 0) {
		mg_follower_drop(mg_fetch_follower(part->node->fetch), part->number);
		if (part->conn) {
			mg_duck_disconnect(part->conn);
		}
		while (part->pinned_count) {
			mg_fetch_unpin(part->node->fetch, part->pinned[--part->pinned_count]);
		}
		while (part->orders) {
			struct order *order = part->orders;
			part->orders = order->next;
			mg_free(order->sql);
			mg_free(order);
		}
		mg_channel_unref(part->channel);
		mg_arena_free(part->arena);
		mg_free(part);
	}
}

static struct part *find_locked(struct mg_worker_node *node, uint64_t number)
{
	for (size_t i = 0; i < node->part_count; i++) {
		if (node->parts[i]->number == number) {
			return node->parts[i];
		}
	}
	return NULL;
}

static int send_rows(void *arg, uint32_t stage, uint32_t target, bool schema, struct mg_buf *buf,
                     uint64_t rows, struct mg_error *err)
{
	struct part *part = arg;
	struct mg_frame frame = { .kind = schema ? MG_FRAME_SCHEMA : MG_FRAME_BATCH,
		                      .id = part->number,
		                      .stage = stage,
		                      .target = target,
		                      .rows = rows };
	return mg_channel_send_data(part->channel, &frame, buf, err);
}

static void add_error(struct mg_sb *json, const struct mg_error *err)
{
	const struct mg_code_info *info = mg_code_info(err->code);
	const char *sqlstate = err->sqlstate[0] ? err->sqlstate : info->sqlstate;
	mg_sb_addf(json, ",\"error\":{\"code\":\"%s\",\"sqlstate\":\"%s\",\"message\":", info->name,
	           sqlstate);
	mg_sb_add_json(json, err->message, strlen(err->message));
	mg_sb_add(json, ",\"detail\":");
	mg_sb_add_json(json, err->detail, strlen(err->detail));
	mg_sb_add_char(json, '}');
}

static void add_reads(struct mg_sb *json, const struct mg_exec_reads *reads)
{
	mg_sb_add(json, ",\"reads\":[");
	for (size_t i = 0; i < reads->count; i++) {
		const struct mg_exec_read *read = &reads->items[i];
		mg_sb_addf(json, "%s[%u,", i ? "," : "", read->shard);
		mg_sb_add_json(json, read->table, strlen(read->table));
		mg_sb_addf(json, ",%llu,%llu]", (unsigned long long)read->rows,
		           (unsigned long long)read->scanned);
	}
	mg_sb_add_char(json, ']');
}

/* reads: NULL unless they are asked for. */
static void report(struct part *part, uint32_t stage, const struct mg_exec_stats *stats,
                   const struct mg_exec_reads *reads, const struct mg_error *err)
{
	struct mg_sb json = { 0 };
	mg_sb_addf(&json,
	           "{\"type\":\"ran\",\"query\":%llu,\"stage\":%u,\"rows\":%llu,\"bytes\":%llu,\"rows_"
	           "sent\":%llu,"
	           "\"bytes_sent\":%llu,\"micros\":%llu",
	           (unsigned long long)part->number, stage, (unsigned long long)stats->rows,
	           (unsigned long long)stats->bytes, (unsigned long long)stats->rows_sent,
	           (unsigned long long)stats->bytes_sent, (unsigned long long)stats->micros);
	if (stats->copied) {
		mg_sb_add(&json, ",\"copied\":true");
	}
	if (reads) {
		add_reads(&json, reads);
	}
	if (err->code) {
		add_error(&json, err);
	}
	mg_sb_add_char(&json, '}');
	mg_channel_send(part->channel, mg_sb_text(&json));
	mg_sb_fini(&json);
}

static void run_order(struct part *part, const struct order *order)
{
	struct mg_exec_stats stats = { 0 };
	struct mg_exec_reads reads = { 0 };
	struct mg_error err = part->err;
	mg_log(MG_LOG_DEBUG, "stage.begin", "query=%s stage=%u", part->name, order->run.stage);
	if (part->participant) {
		mg_error_clear(&err);
		mg_participant_run(part->participant, &order->run, &stats, &err);
		mg_participant_reads(part->participant, &reads);
	}
	report(part, order->run.stage, &stats, part->open.profile ? &reads : NULL, &err);
	mg_exec_reads_fini(&reads);
	mg_log(MG_LOG_DEBUG, "stage.ran", "query=%s stage=%u rows=%llu micros=%llu", part->name,
	       order->run.stage, (unsigned long long)stats.rows, (unsigned long long)stats.micros);
}

static void part_thread(void *arg)
{
	struct part *part = arg;
	struct mg_worker_node *node = part->node;
	struct mg_participant *participant = NULL;
	mg_participant_open(&participant, &part->open, &part->err);
	pthread_mutex_lock(&node->lock);
	part->participant = participant;
	part->tried = true;
	if (part->cancelled && participant) {
		mg_participant_cancel(participant);
	}
	pthread_cond_broadcast(&node->changed);
	while (!part->closing) {
		struct order *order = part->orders;
		if (!order) {
			pthread_cond_wait(&node->changed, &node->lock);
			continue;
		}
		part->orders = order->next;
		part->last_order = part->orders ? part->last_order : NULL;
		pthread_mutex_unlock(&node->lock);
		run_order(part, order);
		mg_free(order->sql);
		mg_free(order);
		pthread_mutex_lock(&node->lock);
	}
	/* Out of the list first: from here on nobody else can reach the participant. */
	for (size_t i = 0; i < node->part_count; i++) {
		if (node->parts[i] == part) {
			node->parts[i] = node->parts[--node->part_count];
			part_unref_locked(part);
			break;
		}
	}
	part->participant = NULL;
	while (part->refs > 1) {
		pthread_cond_wait(&node->changed, &node->lock); /* a frame is being stored */
	}
	pthread_mutex_unlock(&node->lock);
	mg_participant_close(participant);
	mg_duck_disconnect(part->conn);
	part->conn = NULL;
	pthread_mutex_lock(&node->lock);
	part_unref_locked(part);
	node->threads_alive--;
	pthread_cond_broadcast(&node->changed);
	pthread_mutex_unlock(&node->lock);
}

/* ---- orders of the server ---- */

static int read_owners(struct part *part, const struct mg_json *owners, uint32_t nodes,
                       struct mg_error *err)
{
	uint32_t slot = 0;
	mg_json_each(run, owners) {
		const struct mg_json *last = mg_json_at(run, 0), *owner = mg_json_at(run, 1);
		unsigned long last_slot = strtoul(mg_json_text(last), NULL, 10),
					  index = strtoul(mg_json_text(owner), NULL, 10);
		if (last_slot >= MG_SLOT_COUNT || index >= nodes || last_slot < slot) {
			return mg_error_set(err, MG_E_PROTOCOL, "the owners of the slots make no sense");
		}
		while (slot <= last_slot) {
			part->owner[slot++] = (uint16_t)index;
		}
	}
	return slot == MG_SLOT_COUNT ? 0
	                             : mg_error_set(err, MG_E_PROTOCOL, "%u slots have owners", slot);
}

/* From now on the copy stays until the part is over. */
static int pin(struct part *part, uint32_t shard, struct mg_error *err)
{
	if (!mg_fetch_pin(part->node->fetch, shard)) {
		return mg_error_set(err, MG_E_NODE, "shard %u is not held here", shard);
	}
	part->pinned[part->pinned_count++] = shard;
	return 0;
}

static int pin_all(struct part *part, const struct mg_json *at, struct mg_error *err)
{
	size_t count = mg_json_is(at, MG_JSON_ARRAY) ? at->count : 0;
	int code = 0;
	part->pinned = mg_arena_new_array(part->arena, uint32_t, count + 1);
	mg_json_each(item, at) {
		uint32_t shard = (uint32_t)strtoul(mg_json_text(mg_json_at(item, 0)), NULL, 10);
		code = code ? code : pin(part, shard, err);
	}
	return code;
}

static void miss(struct mg_channel *channel, uint64_t number, const struct mg_error *err)
{
	struct mg_sb json = { 0 };
	mg_sb_addf(&json, "{\"type\":\"pinned\",\"query\":%llu,\"missed\":",
	           (unsigned long long)number);
	mg_sb_add_json(&json, err->message, strlen(err->message));
	mg_sb_add_char(&json, '}');
	mg_channel_send(channel, mg_sb_text(&json));
	mg_sb_fini(&json);
}

/* A query is going to be opened: it reads these shards as of these indexes of their logs. */
static int on_pin(struct mg_worker_node *node, const struct mg_json *json, struct mg_error *err)
{
	struct part *part = mg_alloc0(sizeof *part);
	struct mg_error why = { 0 };
	part->refs = 1;
	part->node = node;
	part->arena = mg_arena_new();
	part->number = (uint64_t)mg_json_get_int(json, "query", 0);
	pthread_mutex_lock(&node->lock);
	part->channel = mg_channel_ref(node->channel);
	bool twice = find_locked(node, part->number);
	int code = twice || node->part_count == QUERIES_MAX
	               ? mg_error_set(&why, MG_E_BUSY, "it takes part in as many queries as it can")
	               : pin_all(part, mg_json_get(json, "at"), &why);
	if (twice) {
		code = mg_error_set(err, MG_E_PROTOCOL, "query %llu is pinned twice",
		                    (unsigned long long)part->number);
	} else if (code) {
		miss(part->channel, part->number, &why);
		code = 0;
	} else {
		code = mg_follower_pin(mg_fetch_follower(node->fetch), part->number,
		                       mg_json_get(json, "at"), err);
		if (!code) {
			node->parts[node->part_count++] = part;
			part = NULL;
		}
	}
	if (part) {
		part->number = UINT64_MAX; /* of it there is no pin */
		part_unref_locked(part);
	}
	pthread_mutex_unlock(&node->lock);
	return code;
}

/* One that was only pinned goes; under the lock. */
static void forget_locked(struct mg_worker_node *node, struct part *part)
{
	for (size_t i = 0; i < node->part_count; i++) {
		if (node->parts[i] == part) {
			node->parts[i] = node->parts[--node->part_count];
			part_unref_locked(part);
			return;
		}
	}
}

static const char *text_of(struct mg_arena *arena, const struct mg_json *json)
{
	return mg_arena_strdup(arena, mg_json_is(json, MG_JSON_STRING) ? mg_json_text(json) : "");
}

/* As it is where the query was planned. */
static struct mg_table read_table(struct mg_arena *arena, const struct mg_json *json)
{
	const struct mg_json *columns = mg_json_get(json, "columns");
	struct mg_table table = {
		.schema = text_of(arena, mg_json_get(json, "schema")),
		.name = text_of(arena, mg_json_get(json, "name")),
		.stored = text_of(arena, mg_json_get(json, "stored")),
		.id = (uint64_t)mg_json_get_int(json, "id", 0),
		.key_count = mg_json_get_bool(json, "partitioned", false),
		.columns = mg_arena_new_array(arena, struct mg_column, (columns ? columns->count : 0) + 1),
	};
	mg_json_each(column, columns) {
		table.columns[table.column_count++] = (struct mg_column){
			.name = text_of(arena, mg_json_at(column, 0)),
			.type = text_of(arena, mg_json_at(column, 1)),
			.stored = text_of(arena, mg_json_at(column, 2)),
		};
	}
	return table;
}

/* The shards that it is given are among those that it has pinned. */
static int read_tables(struct part *part, const struct mg_json *json, struct mg_error *err)
{
	const struct mg_json *wanted = mg_json_get(json, "tables"), *ids = mg_json_get(json, "shards");
	struct mg_table *tables =
		mg_arena_new_array(part->arena, struct mg_table, (wanted ? wanted->count : 0) + 1);
	uint32_t *shards = mg_arena_new_array(part->arena, uint32_t, (ids ? ids->count : 0) + 1);
	size_t table_count = 0, shard_count = 0;
	mg_json_each(id, ids) {
		uint32_t shard = (uint32_t)strtoul(mg_json_text(id), NULL, 10);
		bool pinned = false;
		for (size_t i = 0; i < part->pinned_count && !pinned; i++) {
			pinned = part->pinned[i] == shard;
		}
		if (!pinned) {
			return mg_error_set(err, MG_E_PROTOCOL, "shard %u was not pinned", shard);
		}
		shards[shard_count++] = shard;
	}
	mg_json_each(want, wanted) {
		tables[table_count++] = read_table(part->arena, want);
	}
	struct mg_exec_table *made;
	mg_engine_exec_tables(part->arena, tables, table_count, shards, shard_count, &made);
	part->open.tables = made;
	part->open.table_count = table_count;
	return 0;
}

/* What the frame says, of a part that is pinned; under the lock. */
static int read_open(struct part *part, const struct mg_json *json, struct mg_error *err)
{
	struct mg_worker_node *node = part->node;
	int64_t index = mg_json_get_int(json, "node", 0), nodes = mg_json_get_int(json, "nodes", 0);
	const char *timezone = mg_json_get_text(json, "timezone");
	mg_copy_text(part->name, sizeof part->name, mg_json_get_text(json, "name"));
	part->budget = (struct mg_spool_budget){ .limit = node->options.memory_bytes / 8,
		                                     .spill_dir = node->spill_dir };
	part->open = (struct mg_exec_open){
		.duck = node->duck,
		.conn = part->conn,
		.node_index = (uint32_t)index,
		.node_count = (uint32_t)nodes,
		.owner = part->owner,
		.timezone = mg_arena_strdup(part->arena, timezone ? timezone : ""),
		.budget = &part->budget,
		.lz4 = mg_json_get_bool(json, "lz4", false),
		.profile = mg_json_get_bool(json, "profile", false),
		.send = send_rows,
		.arg = part,
	};
	if (index < 1 || nodes > UINT16_MAX || index >= nodes) {
		return mg_error_set(err, MG_E_PROTOCOL, "query %llu cannot be opened",
		                    (unsigned long long)part->number);
	}
	int code = read_owners(part, mg_json_get(json, "owners"), (uint32_t)nodes, err);
	return code ? code : read_tables(part, json, err);
}

static int on_open(struct mg_worker_node *node, const struct mg_json *json, struct mg_error *err)
{
	uint64_t number = (uint64_t)mg_json_get_int(json, "query", 0);
	pthread_mutex_lock(&node->lock);
	struct part *part = find_locked(node, number);
	if (part && !part->opened) {
		part->conn = mg_follower_take(mg_fetch_follower(node->fetch), number);
	}
	int code = part && !part->opened && part->conn
	               ? read_open(part, json, err)
	               : mg_error_set(err, MG_E_PROTOCOL, "query %llu is opened, and not pinned",
	                              (unsigned long long)number);
	code = code ? code : mg_pool_post(node->pool, part_thread, part, err);
	if (!code) {
		part->refs++;
		part->opened = true;
		node->threads_alive++;
	} else if (part && !part->opened) {
		forget_locked(node, part);
	}
	pthread_mutex_unlock(&node->lock);
	return code;
}

static int ship_of(const char *name, enum mg_ship *ship)
{
	static const char *const names[] = { "keep", "gather", "broadcast", "hash" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (mg_text_eq(name, names[i])) {
			*ship = (enum mg_ship)i;
			return 0;
		}
	}
	return MG_E_PROTOCOL;
}

static int on_run(struct mg_worker_node *node, const struct mg_json *json, struct mg_error *err)
{
	const char *sql = mg_json_get_text(json, "sql");
	enum mg_ship ship;
	if (!sql || ship_of(mg_json_get_text(json, "ship"), &ship)) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a stage without SQL or with an unknown way to ship");
	}
	struct order *order = mg_alloc0(sizeof *order);
	order->run.stage = (uint32_t)mg_json_get_int(json, "stage", 0);
	order->run.ship = ship;
	order->run.copy_few = mg_json_get_bool(json, "copy_few", false);
	order->run.sql = order->sql = mg_strdup(sql);
	pthread_mutex_lock(&node->lock);
	struct part *part = find_locked(node, (uint64_t)mg_json_get_int(json, "query", 0));
	part = part && part->opened ? part : NULL;
	if (part) {
		if (part->last_order) {
			part->last_order->next = order;
		} else {
			part->orders = order;
		}
		part->last_order = order;
		pthread_cond_broadcast(&node->changed);
	}
	pthread_mutex_unlock(&node->lock);
	if (!part) {
		mg_free(order->sql);
		mg_free(order);
		return mg_error_set(err, MG_E_PROTOCOL, "a stage of a query that is not open");
	}
	return 0;
}

/* The participant of a query, once it is open, with the part held so that it stays; NULL when it
 * never will be. */
static struct part *hold(struct mg_worker_node *node, uint64_t number,
                         struct mg_participant **participant)
{
	*participant = NULL;
	pthread_mutex_lock(&node->lock);
	struct part *part = find_locked(node, number);
	part = part && part->opened ? part : NULL;
	if (part) {
		part->refs++;
		while (!part->tried) {
			pthread_cond_wait(&node->changed, &node->lock);
		}
		*participant = part->participant;
	}
	pthread_mutex_unlock(&node->lock);
	return part;
}

static void let_go(struct mg_worker_node *node, struct part *part)
{
	if (part) {
		pthread_mutex_lock(&node->lock);
		part_unref_locked(part);
		pthread_cond_broadcast(&node->changed);
		pthread_mutex_unlock(&node->lock);
	}
}

static void cancel(struct mg_worker_node *node, uint64_t number, bool close)
{
	pthread_mutex_lock(&node->lock);
	struct part *part = find_locked(node, number);
	if (part && !part->opened) {
		if (close) {
			forget_locked(node, part);
		}
	} else if (part) {
		part->cancelled = true;
		part->closing |= close;
		if (part->participant) {
			mg_participant_cancel(part->participant);
		}
		if (!close) {
			mg_log(MG_LOG_INFO, "query.cancelled", "query=%s number=%llu", part->name,
			       (unsigned long long)number);
		}
		pthread_cond_broadcast(&node->changed);
	}
	pthread_mutex_unlock(&node->lock);
}

static int on_welcome(struct mg_worker_node *node, const struct mg_json *json)
{
	const char *cluster = mg_json_get_text(json, "cluster");
	mg_fetch_welcome(node->fetch, cluster);
	mg_log(MG_LOG_INFO, "worker.welcome", "worker=%s cluster=%s",
	       mg_json_text(mg_json_get(json, "worker")), cluster ? cluster : "");
	return 0;
}

static int on_threads(struct mg_worker_node *node, const struct mg_json *json, struct mg_error *err)
{
	int64_t threads = mg_json_get_int(json, "threads", 0);
	if (node->threads_given || threads < 1 || threads > node->options.threads) {
		return mg_error_set(err, MG_E_PROTOCOL, "%lld threads are not ours to use",
		                    (long long)threads);
	}
	mg_fetch_threads(node->fetch, (unsigned)threads);
	return 0;
}

int mg_worker_node_control(struct mg_worker_node *node, const struct mg_json *json,
                           struct mg_error *err)
{
	const char *type = mg_json_get_text(json, "type");
	uint64_t number = (uint64_t)mg_json_get_int(json, "query", 0);
	if (mg_text_eq(type, "welcome")) {
		return on_welcome(node, json);
	}
	if (mg_text_eq(type, "lease")) {
		return mg_fetch_lease(node->fetch, json, err);
	}
	if (mg_text_eq(type, "release")) {
		return mg_fetch_release(node->fetch, json, err);
	}
	if (mg_text_eq(type, "servers")) {
		return mg_worker_servers_hear(node->options.servers, json, mg_clock_ms(), err);
	}
	if (mg_text_eq(type, "threads")) {
		return on_threads(node, json, err);
	}
	if (mg_text_eq(type, "pin")) {
		return on_pin(node, json, err);
	}
	if (mg_text_eq(type, "open")) {
		return on_open(node, json, err);
	}
	if (mg_text_eq(type, "run")) {
		return on_run(node, json, err);
	}
	if (mg_text_eq(type, "seal")) {
		struct mg_participant *participant;
		struct part *part = hold(node, number, &participant);
		if (participant) {
			mg_participant_seal(participant, (uint32_t)mg_json_get_int(json, "stage", 0));
		}
		let_go(node, part);
		return 0;
	}
	if (mg_text_eq(type, "cancel") || mg_text_eq(type, "close")) {
		cancel(node, number, mg_text_eq(type, "close"));
		return 0;
	}
	if (mg_text_eq(type, "draining")) {
		mg_log(MG_LOG_INFO, "worker.draining", "worker=%s", node->name);
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL, "unknown control frame \"%s\"", type);
}

int mg_worker_node_data(struct mg_worker_node *node, const struct mg_frame *frame,
                        struct mg_buf *payload, struct mg_error *err)
{
	if (frame->kind == MG_FRAME_CHUNK) {
		return mg_fetch_chunk(node->fetch, frame, payload, err);
	}
	if (frame->kind == MG_FRAME_HASHES) {
		mg_fetch_hashes(node->fetch, frame, payload);
		return 0;
	}
	if (frame->kind == MG_FRAME_ENTRIES) {
		return mg_follower_batch(mg_fetch_follower(node->fetch), (uint32_t)frame->id, payload, err);
	}
	struct mg_participant *participant;
	struct part *part = hold(node, frame->id, &participant);
	int code = 0;
	if (participant) {
		code = mg_participant_accept(participant, frame->stage, frame->kind == MG_FRAME_SCHEMA,
		                             payload, frame->rows, err);
	}
	if (code) {
		/* Our own trouble (memory, disk): this query fails, the connection lives. */
		struct mg_exec_stats none = { 0 };
		report(part, frame->stage, &none, NULL, err);
	}
	let_go(node, part);
	return 0;
}

/* ---- life ---- */

void mg_worker_node_greet(struct mg_worker_node *node, struct mg_channel *channel)
{
	pthread_mutex_lock(&node->lock);
	node->channel = mg_channel_ref(channel);
	pthread_mutex_unlock(&node->lock);
	mg_fetch_connect(node->fetch, channel);
	mg_fetch_threads(node->fetch, node->options.threads); /* until this server shares them out */
	struct mg_sb json = { 0 };
	mg_sb_addf(&json,
	           "{\"type\":\"hello\",\"protocol\":%d,\"version\":\"%s\",\"engine\":\"%s\",\"name\":",
	           MG_HUB_PROTOCOL, MG_VERSION, mg_duck_version());
	mg_sb_add_json(&json, node->name, strlen(node->name));
	char cores[MG_OS_CORES_NAME_SIZE];
	mg_os_cores_name(cores);
	mg_sb_addf(&json,
	           ",\"threads\":%u,\"cores\":\"%s\",\"share\":%s,\"memory\":%llu,"
	           "\"cache\":%llu}",
	           node->options.threads, cores, node->threads_given ? "false" : "true",
	           (unsigned long long)node->options.memory_bytes,
	           (unsigned long long)node->options.cache_bytes);
	mg_channel_send(channel, mg_sb_text(&json));
	mg_sb_fini(&json);
}

void mg_worker_node_lost(struct mg_worker_node *node)
{
	mg_fetch_disconnect(node->fetch);
	pthread_mutex_lock(&node->lock);
	for (size_t i = node->part_count; i-- > 0;) {
		if (!node->parts[i]->opened) {
			forget_locked(node, node->parts[i]);
		}
	}
	for (size_t i = 0; i < node->part_count; i++) {
		node->parts[i]->cancelled = node->parts[i]->closing = true;
		if (node->parts[i]->participant) {
			mg_participant_cancel(node->parts[i]->participant);
		}
	}
	pthread_cond_broadcast(&node->changed);
	while (node->threads_alive) {
		pthread_cond_wait(&node->changed, &node->lock);
	}
	mg_channel_unref(node->channel);
	node->channel = NULL;
	pthread_mutex_unlock(&node->lock);
}

bool mg_worker_node_idle(struct mg_worker_node *node)
{
	pthread_mutex_lock(&node->lock);
	bool idle = node->part_count == 0;
	pthread_mutex_unlock(&node->lock);
	return idle;
}

void mg_worker_node_drain(struct mg_worker_node *node)
{
	pthread_mutex_lock(&node->lock);
	if (node->channel) {
		mg_channel_send(node->channel, "{\"type\":\"drain\"}");
	}
	pthread_mutex_unlock(&node->lock);
}

int mg_worker_node_new(struct mg_worker_node **out, const struct mg_worker_node_options *options,
                       struct mg_error *err)
{
	struct mg_worker_node *node = mg_alloc0(sizeof *node);
	node->options = *options;
	node->name = mg_strdup(options->name);
	node->cache_dir = mg_strdup(options->cache_dir);
	node->threads_given = options->threads > 0;
	node->options.threads = options->threads ? options->threads : mg_engine_default_threads();
	node->options.memory_bytes = options->memory_bytes ? options->memory_bytes
	                                                   : mg_engine_default_memory();
	node->spill_lock = -1;
	char salt[9]; /* workers of several containers may share the folder, and have one pid */
	node->spill_dir =
		mg_format("%s/spill-%ld-%s", options->cache_dir, (long)getpid(), mg_random_hex(salt, 4));
	pthread_mutex_init(&node->lock, NULL);
	pthread_cond_init(&node->changed, NULL);
	node->pool = mg_pool_new(QUERIES_MAX, QUERIES_MAX);
	mg_cache_remove_spills(options->cache_dir);
	int code = mg_dir_make(node->spill_dir, 0700, err);
	if (!code) {
		code = mg_dir_lock(node->spill_dir, &node->spill_lock, err);
	}
	if (!code && !options->cache_bytes) {
		node->options.cache_bytes = mg_cache_default_bytes(options->cache_dir);
	}
	if (!code) {
		mg_log(MG_LOG_INFO, "cache.size", "bytes=%llu why=\"%s\"",
		       (unsigned long long)node->options.cache_bytes,
		       options->cache_bytes ? "--cache-size"
		                            : "half of what copies take and the disk has free");
		struct mg_duck_options duck = {
			.threads = node->options.threads,
			.memory_bytes = node->options.memory_bytes,
			.spill_dir = node->spill_dir,
			.lossless_arrow = true,
		};
		code = mg_duck_open(&node->duck, &duck, err);
	}
	code = code ? code : mg_engine_no_checkpoints(node->duck, err);
	if (!code) {
		const char *dirs[] = { node->cache_dir, node->spill_dir };
		code = mg_duck_fence(node->duck, dirs, 2, err);
	}
	if (!code) {
		code = mg_fetch_new(&node->fetch, node->duck, node->options.threads, node->cache_dir,
		                    node->options.cache_bytes, err);
	}
	if (code) {
		mg_worker_node_free(node);
		return code;
	}
	*out = node;
	return 0;
}

void mg_worker_node_free(struct mg_worker_node *node)
{
	if (!node) {
		return;
	}
	mg_assert(!node->channel);
	mg_pool_free(node->pool);
	mg_fetch_free(node->fetch);
	mg_duck_close(node->duck);
	if (node->spill_dir) {
		mg_tree_remove(node->spill_dir, NULL);
	}
	mg_dir_unlock(node->spill_lock);
	pthread_cond_destroy(&node->changed);
	pthread_mutex_destroy(&node->lock);
	mg_free(node->spill_dir);
	mg_free(node->cache_dir);
	mg_free(node->name);
	mg_free(node);
}
