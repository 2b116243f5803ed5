/*
 * engine.c - see engine.h.
 *
 * Rule: shard files are opened once, by one DuckDB instance; the replicas alone change them, and
 * what a client may see of them are the views (engine_tables.c).
 *
 * Thread: open and close by the node's main thread; everything else from any thread.
 */
#include "exec/engine_int.h"

#include "base/log.h"
#include "exec/growth.h"
#include "exec/hub.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "store/shard_file.h"

#include "mg_version.h"

#include <stdio.h>
#include <string.h>

enum { UNSHOWN_MS_MAX = 5000 }; /* that a server which serves may lack a new table */

unsigned mg_engine_default_threads(void)
{
	return mg_os_cores();
}

unsigned mg_engine_share_of_cores(unsigned cores, size_t nodes)
{
	size_t share = nodes ? (cores + nodes / 2) / nodes : cores;
	return share ? (unsigned)share : 1;
}

uint64_t mg_engine_default_memory(void)
{
	return mg_os_memory_bytes() / 4 * 3;
}

int mg_engine_attach(struct mg_duck *duck, uint32_t shard, const char *path, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	if (!code) {
		struct mg_sb sql = { 0 };
		mg_sb_add(&sql, "ATTACH ");
		mg_sb_add_literal(&sql, path, strlen(path));
		mg_sb_addf(&sql, " AS s%u (READ_ONLY)", shard);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
		mg_duck_disconnect(conn);
	}
	return code ? mg_error_wrap(err, "while attaching shard %u", shard) : 0;
}

int mg_engine_attach_own(struct mg_duck *duck, uint32_t shard, const char *path,
                         struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	code = code ? code : mg_shard_file_attach(conn, shard, path, err);
	mg_duck_disconnect(conn);
	return code ? mg_error_wrap(err, "while attaching shard %u", shard) : 0;
}

int mg_engine_no_checkpoints(struct mg_duck *duck, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	code = code ? code
	            : mg_duck_exec(conn,
	                           "SET GLOBAL wal_autocheckpoint = '1000TB'; "
	                           "PRAGMA disable_checkpoint_on_shutdown",
	                           err);
	mg_duck_disconnect(conn);
	return code;
}

int mg_engine_detach(struct mg_duck *duck, uint32_t shard, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	if (!code) {
		code = mg_duck_execf(conn, err, "DETACH s%u", shard);
		mg_duck_disconnect(conn);
	}
	return code;
}

void mg_engine_exec_tables(struct mg_arena *arena, const struct mg_table *tables,
                           size_t table_count, const uint32_t *shards, size_t shard_count,
                           struct mg_exec_table **out)
{
	const char **names = mg_arena_new_array(arena, const char *, shard_count + 1);
	const char **reference = mg_arena_new_array(arena, const char *, 1);
	for (size_t i = 0; i < shard_count; i++) {
		names[i] = mg_arena_format(arena, "s%u", shards[i]);
	}
	reference[0] = "s0";
	struct mg_exec_table *list = mg_arena_new_array(arena, struct mg_exec_table, table_count + 1);
	for (size_t i = 0; i < table_count; i++) {
		const struct mg_table *table = &tables[i];
		struct mg_exec_table *made = &list[i];
		made->schema = table->schema;
		made->table = table->name;
		made->stored = mg_table_stored(arena, table);
		made->column_count = table->column_count;
		made->columns = mg_arena_new_array(arena, const char *, table->column_count);
		made->stored_columns = mg_arena_new_array(arena, const char *, table->column_count);
		made->types = mg_arena_new_array(arena, const char *, table->column_count);
		for (size_t c = 0; c < table->column_count; c++) {
			made->columns[c] = table->columns[c].name;
			made->stored_columns[c] = mg_column_stored(&table->columns[c]);
			made->types[c] = table->columns[c].type;
		}
		made->databases = table->key_count ? names : reference;
		made->database_count = table->key_count ? shard_count : 1;
	}
	*out = list;
}

void mg_engine_exec_row_ids(struct mg_arena *arena, struct mg_exec_table *tables,
                            size_t table_count)
{
	for (size_t i = 0; i < table_count; i++) {
		struct mg_exec_table *table = &tables[i];
		size_t count = table->column_count;
		const char **columns = mg_arena_new_array(arena, const char *, count + 1);
		const char **stored = mg_arena_new_array(arena, const char *, count + 1);
		const char **types = mg_arena_new_array(arena, const char *, count + 1);
		columns[0] = stored[0] = "_mg_rid";
		types[0] = "BIGINT";
		memcpy(columns + 1, table->columns, count * sizeof *columns);
		memcpy(stored + 1, table->stored_columns, count * sizeof *stored);
		memcpy(types + 1, table->types, count * sizeof *types);
		table->columns = columns;
		table->stored_columns = stored;
		table->types = types;
		table->column_count = count + 1;
	}
}

/* Is the attached file the one that the catalog means? A file of another place, load or cluster
 * opens as well, and would answer wrongly. */
static int check_shard(struct mg_engine *engine, const struct mg_catalog_data *data, uint32_t index,
                       struct mg_error *err)
{
	struct mg_shard_meta meta;
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(engine->duck, &conn, err);
	mg_replica_shard_meta(data, index, &meta);
	if (!code) {
		code = mg_shard_file_check(conn, &meta, err);
		mg_duck_disconnect(conn);
	}
	return code;
}

/* A cluster without data has no files yet. */
static int make_shard(struct mg_engine *engine, const struct mg_catalog_data *data, uint32_t index,
                      struct mg_error *err)
{
	struct mg_shard_meta meta;
	struct mg_shard_file *file = NULL;
	char sha256[65];
	uint64_t bytes;
	mg_replica_shard_meta(data, index, &meta);
	int code = mg_shard_file_create(&file, engine->duck, engine->data_dir, &meta, err);
	return code ? code : mg_shard_file_finish(file, sha256, &bytes, err);
}

/* DuckDB would make an empty database of a file that is missing or empty. */
static int check_there(uint32_t shard, const char *path, struct mg_error *err)
{
	uint64_t size = 0;
	int code = mg_file_size(path, &size, err);
	if (!code && size == 0) {
		code = mg_error_set(err, MG_E_CORRUPT, "\"%s\" is empty", path);
	}
	return code ? mg_error_wrap(err, "while opening shard %u", shard) : 0;
}

static int open_shard(struct mg_engine *engine, const struct mg_catalog_data *data, uint32_t index,
                      struct mg_error *err)
{
	char *path = mg_format("%s/%s", engine->data_dir, data->shards[index].file);
	int code = 0;
	if (!data->table_count && !*data->sample && !data->applied && !mg_file_exists(path)) {
		code = make_shard(engine, data, index, err);
	}
	code = code ? code : check_there(index, path, err);
	code = code ? code : mg_engine_attach_own(engine->duck, index, path, err);
	code = code ? code : check_shard(engine, data, index, err);
	if (code) {
		mg_error_detail(err, "It is the file \"%s\".", path);
		mg_error_hint(err,
		              "The file is damaged or missing; restore it, or when it held nothing but "
		              "sample data, run \"merganser bootstrap\" again to rebuild it.");
	}
	mg_free(path);
	return code;
}

/* Another server that is no more than away has a replica of everything. */
static bool has_others(const struct mg_engine *engine, const struct mg_catalog_data *data)
{
	bool others = false;
	for (size_t i = 0; engine->options.peers && i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];
		others = others || (node->number != engine->options.number &&
		                    !mg_text_eq(node->state, MG_NODE_REMOVED));
	}
	return others;
}

/* Of what is no fault of the file. */
static bool may_be_damage(int code)
{
	return code != MG_E_NOMEM && code != MG_E_DISK_FULL && code != MG_E_DENIED &&
	       code != MG_E_CANCELLED && code != MG_E_UNSUPPORTED;
}

/* The replicas take a file from another server in place of this one (replica.h). */
static int stand_in(struct mg_engine *engine, const struct mg_catalog_data *data, uint32_t index,
                    const struct mg_error *why, struct mg_error *err)
{
	char *path = mg_format("%s/%s", engine->data_dir, data->shards[index].file);
	char *kept = mg_file_exists(path) ? mg_replica_kept_path(engine->data_dir, index) : NULL;
	struct mg_duck_conn *conn = NULL;
	struct mg_shard_meta meta;
	mg_replica_shard_meta(data, index, &meta);
	int code = mg_duck_connect(engine->duck, &conn, err);
	code = code ? code : mg_duck_execf(conn, err, "DETACH DATABASE IF EXISTS s%u", index);
	code = code || !kept ? code : mg_file_rename(path, kept, err);
	code = code ? code : mg_shard_file_stand_in(conn, &meta, err);
	mg_duck_disconnect(conn);
	engine->damaged[index] = kept ? mg_format("%s; it is kept as \"%s\"", why->message, kept)
	                              : mg_strdup(why->message);
	mg_free(kept);
	mg_free(path);
	return code;
}

static int open_shards(struct mg_engine *engine, const struct mg_catalog_data *data,
                       struct mg_error *err)
{
	bool others = has_others(engine, data);
	int code = 0;
	engine->damaged = mg_alloc0(((size_t)data->shard_count + 1) * sizeof *engine->damaged);
	for (uint32_t i = 0; !code && i <= data->shard_count; i++) {
		code = open_shard(engine, data, i, err);
		if (code && others && may_be_damage(code)) {
			struct mg_error why = *err;
			*err = (struct mg_error){ 0 };
			code = stand_in(engine, data, i, &why, err);
		}
	}
	return code;
}

static void forget_damage(struct mg_engine *engine, const struct mg_catalog_data *data)
{
	for (uint32_t i = 0; engine->damaged && i <= data->shard_count; i++) {
		mg_free((char *)engine->damaged[i]);
	}
	mg_free(engine->damaged);
	engine->damaged = NULL;
}

/* ---- replicas ---- */

static void on_write(void *arg, uint32_t shard)
{
	struct mg_engine *engine = arg;

	(void)shard;
	atomic_store(&engine->measured, false);
}

static void on_catalog(void *arg)
{
	struct mg_engine *engine = arg;
	if (atomic_load(&engine->served)) {
		mg_engine__show_again(engine);
	}
}

static void on_event(void *arg, const char *event, const char *detail)
{
	struct mg_engine *engine = arg;

	pthread_mutex_lock(&engine->event_lock);
	if (engine->tell) {
		engine->tell(engine->tell_arg, event, detail);
	} else if (strncmp(event, "replica.", 8) == 0 && engine->early_count < MG_EARLY_EVENTS_MAX) {
		engine->early[engine->early_count++] =
			(struct mg_early_event){ mg_strdup(event), mg_strdup(detail) };
	}
	pthread_mutex_unlock(&engine->event_lock);
}

/* To who listens now, or to nobody. */
static void tell_early(struct mg_engine *engine)
{
	for (size_t i = 0; i < engine->early_count; i++) {
		if (engine->tell) {
			engine->tell(engine->tell_arg, engine->early[i].event, engine->early[i].detail);
		}
		mg_free(engine->early[i].event);
		mg_free(engine->early[i].detail);
	}
	engine->early_count = 0;
}

/* A shard's file is about to be another one. */
static int gate(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *err),
                void *swap_arg, struct mg_error *err)
{
	struct mg_engine *engine = arg;

	(void)shard;
	return mg_gate_swap(engine->gate, swap, swap_arg, err);
}

static int open_replica(struct mg_engine *engine, const struct mg_catalog_data *data,
                        struct mg_error *err)
{
	const struct mg_replica_options options = {
		.self = engine->options.number,
		.peers = engine->options.peers,
		.dead_after_ms = engine->options.dead_after_ms,
		.check_ms = engine->options.check_ms,
		.name = engine->node_name,
		.address = engine->address,
		.on_event = on_event,
		.damaged = engine->damaged,
		.others = has_others(engine, data),
		.gate = gate,
		.dir = engine->data_dir,
		.duck = engine->duck,
		.catalog = engine->catalog,
		.shard_count = data->shard_count,
		.kv_shards = data->kv_shards,
		.changes_bytes = engine->options.changes_bytes,
		.no_leases = engine->options.no_leases,
		.on_write = on_write,
		.on_catalog = on_catalog,
		.arg = engine,
	};
	return mg_replica_open(&engine->replica, &options, err);
}

/* ---- life ---- */

static int open_duck(struct mg_engine *engine, struct mg_error *err)
{
	engine->spill_dir = mg_format("%s/spill", engine->data_dir);
	/* What an earlier life left behind, after kill -9. */
	mg_tree_remove(engine->spill_dir, NULL);
	int code = mg_dir_make(engine->spill_dir, 0700, err);
	if (code) {
		return code;
	}
	struct mg_duck_options options = {
		.threads = engine->options.threads,
		.memory_bytes = engine->options.memory_bytes,
		.spill_dir = engine->spill_dir,
		.lossless_arrow = true,
	};
	code = mg_duck_open(&engine->duck, &options, err);
	if (code) {
		return code;
	}
	char *shards = mg_format("%s/shards", engine->data_dir);
	const char *dirs[] = { shards, engine->spill_dir };
	code = mg_engine_no_checkpoints(engine->duck, err);
	code = code ? code : mg_dir_make(shards, 0700, err);
	code = code ? code : mg_duck_fence(engine->duck, dirs, 2, err);
	mg_free(shards);
	return code;
}

/* Versions that came while this one was being shown. */
static void show_what_came(struct mg_engine *engine, uint64_t version)
{
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	bool newer = data->version != version;

	mg_catalog_give(engine->catalog, data);
	if (newer) {
		mg_engine__show_again(engine);
	}
}

static void offer_keys(struct mg_engine *engine)
{
	mg_keys_of(engine->replica, &engine->keys);
	mg_duck_set_keys(engine->duck, &engine->keys);
	mg_plandb_set_keys(engine->plandb, &engine->keys);
}

static int open_parts(struct mg_engine *engine, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	int code = open_duck(engine, err);
	code = code ? code : open_shards(engine, data, err);
	code = code ? code : open_replica(engine, data, err);
	forget_damage(engine, data);
	mg_catalog_give(engine->catalog, data);
	if (code) {
		return code;
	}
	data = mg_catalog_take(engine->catalog); /* the log may have had a newer one */
	code = mg_plandb_open(&engine->plandb, err);
	if (!code) {
		offer_keys(engine); /* before views are made that read them */
	}
	/* With others, the log may be behind the catalog. */
	bool alone = !code && mg_replica_is_alone(engine->replica);
	uint64_t version = data->version;
	code = code ? code : mg_engine__show(engine, data, alone, err);
	code = code ? code : mg_hub_new(&engine->hub, engine, engine->data_dir, err);
	code = code ? code : mg_blind_new(&engine->blind, engine, err);
	code = code ? code : mg_copies_start(&engine->copies, engine, err);
	mg_catalog_give(engine->catalog, data);
	if (!code) {
		atomic_store(&engine->served, engine->hub);
		show_what_came(engine, version);
	}
	return code;
}

int mg_engine_open(struct mg_engine **out, const struct mg_engine_options *options,
                   struct mg_error *err)
{
	struct mg_engine *engine = mg_alloc0(sizeof *engine);
	engine->options = *options;
	engine->data_dir = mg_strdup(options->data_dir);
	engine->node_name = mg_strdup(options->node_name);
	engine->address = mg_strdup(options->address ? options->address : "");
	engine->catalog = options->catalog;
	engine->options.number = options->number ? options->number : 1;
	engine->since_ms = (uint64_t)mg_clock_wall_ms();
	engine->threads_given = options->threads > 0;
	engine->options.threads = options->threads ? options->threads : mg_engine_default_threads();
	engine->options.memory_bytes = options->memory_bytes ? options->memory_bytes
	                                                     : mg_engine_default_memory();
	pthread_mutex_init(&engine->shown_lock, NULL);
	pthread_mutex_init(&engine->show_lock, NULL);
	pthread_mutex_init(&engine->event_lock, NULL);
	engine->gate = mg_gate_new();
	engine->outcomes = mg_outcomes_new(engine);
	engine->sequences = mg_sequences_new(engine);
	engine->growth = mg_growth_new();
	*out = engine;
	return open_parts(engine, err);
}

int mg_engine_checkpoint(struct mg_engine *engine, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	int code = 0;
	for (uint32_t i = 0; !code && i <= data->shard_count; i++) {
		code = mg_replica_checkpoint(engine->replica, i, err);
	}
	mg_catalog_give(engine->catalog, data);
	return code;
}

void mg_engine_stop(struct mg_engine *engine)
{
	if (engine->stopped) {
		return;
	}
	engine->stopped = true;
	mg_copies_stop(engine->copies);
	if (engine->blind) {
		mg_blind_stop(engine->blind);
	}
	if (engine->replica) {
		mg_replica_stop(engine->replica);
	}
	atomic_store(&engine->served, NULL);
	mg_hub_free(engine->hub);
	engine->hub = NULL;
}

void mg_engine_close(struct mg_engine *engine)
{
	if (!engine) {
		return;
	}
	mg_engine_stop(engine);
	mg_blind_free(engine->blind);
	mg_replica_close(engine->replica);
	mg_plandb_close(engine->plandb);
	mg_duck_close(engine->duck);
	mg_engine__show_free(engine);
	engine->tell = NULL;
	tell_early(engine);
	pthread_mutex_destroy(&engine->shown_lock);
	pthread_mutex_destroy(&engine->show_lock);
	pthread_mutex_destroy(&engine->event_lock);
	mg_gate_free(engine->gate);
	mg_outcomes_free(engine->outcomes);
	mg_sequences_free(engine->sequences);
	mg_growth_free(engine->growth);
	if (engine->spill_dir) {
		mg_tree_remove(engine->spill_dir, NULL);
	}
	mg_free(engine->spill_dir);
	mg_free(engine->data_dir);
	mg_free(engine->node_name);
	mg_free(engine->address);
	mg_free(engine);
}

const char *mg_engine_node_name(const struct mg_engine *engine)
{
	return engine->node_name;
}

struct mg_catalog *mg_engine_catalog(struct mg_engine *engine)
{
	return engine->catalog;
}

struct mg_plandb *mg_engine_plandb(struct mg_engine *engine)
{
	return engine->plandb;
}

const char *mg_engine_spill_dir(struct mg_engine *engine)
{
	return engine->spill_dir;
}

struct mg_duck *mg_engine_duck(struct mg_engine *engine)
{
	return engine->duck;
}

struct mg_hub *mg_engine_hub(struct mg_engine *engine)
{
	return engine->hub;
}

bool mg_engine_lost_log(const struct mg_engine *engine)
{
	return engine && engine->replica && mg_replica_lost_log(engine->replica);
}

struct mg_replica *mg_engine_replica(struct mg_engine *engine)
{
	return engine->replica;
}

struct mg_peers *mg_engine_peers(struct mg_engine *engine)
{
	return engine->options.peers;
}

struct mg_growth *mg_engine_growth(struct mg_engine *engine)
{
	return engine->growth;
}

struct mg_sequences *mg_engine_sequences(struct mg_engine *engine)
{
	return engine->sequences;
}

struct mg_blind *mg_engine_blind(struct mg_engine *engine)
{
	return engine->blind;
}

struct mg_outcomes *mg_engine_outcomes(struct mg_engine *engine)
{
	return engine->outcomes;
}

struct mg_gate *mg_engine_gate(struct mg_engine *engine)
{
	return engine->gate;
}

const char *mg_engine_unready(struct mg_engine *engine)
{
	const char *why = mg_replica_unready(engine->replica);
	/* A table that has just been made is in the catalog a moment before it is in the shards. */
	bool lately = atomic_load(&engine->was_ready) &&
	              mg_clock_ms() - atomic_load(&engine->unshown_ms) < UNSHOWN_MS_MAX;

	if (!why && atomic_load(&engine->unshown) && !lately) {
		why = "this node does not show all tables yet";
	}
	atomic_store(&engine->was_ready, !why);
	return why;
}

void mg_engine_on_event(struct mg_engine *engine,
                        void (*tell)(void *arg, const char *event, const char *detail), void *arg)
{
	pthread_mutex_lock(&engine->event_lock);
	engine->tell = tell;
	engine->tell_arg = arg;
	tell_early(engine);
	pthread_mutex_unlock(&engine->event_lock);
	mg_hub_on_event(engine->hub, tell, arg);
}

unsigned mg_engine_threads(const struct mg_engine *engine)
{
	return engine->options.threads;
}

bool mg_engine_threads_given(const struct mg_engine *engine)
{
	return engine->threads_given;
}

uint64_t mg_engine_memory(const struct mg_engine *engine)
{
	return engine->options.memory_bytes;
}

void mg_engine_budget(struct mg_engine *engine, struct mg_spool_budget *budget)
{
	*budget = (struct mg_spool_budget){
		.limit = engine->options.query_memory_bytes ? engine->options.query_memory_bytes
		                                            : engine->options.memory_bytes / 8,
		.spill_dir = engine->spill_dir,
	};
}

/* ---- nodes ---- */

static void add_self(struct mg_engine *engine, struct mg_node_info *info)
{
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);

	*info = (struct mg_node_info){
		.role = "server",
		.state = mg_engine_unready(engine) ? "joining" : "ready",
		.shards = data->shard_count,
		.threads = engine->options.threads,
		.memory_bytes = engine->options.memory_bytes,
		.since_ms = engine->since_ms,
	};
	mg_catalog_give(engine->catalog, data);
	mg_copy_text(info->id, sizeof info->id, engine->node_name);
	mg_copy_text(info->address, sizeof info->address, engine->address);
	mg_copy_text(info->version, sizeof info->version, MG_VERSION);
}

/* A program says its version first. */
static void add_other(const struct mg_server_info *server, struct mg_node_info *info)
{
	*info = (struct mg_node_info){
		.role = "server",
		.state = server->state,
		.shards = server->shards,
	};
	mg_copy_text(info->id, sizeof info->id, server->id);
	mg_copy_text(info->address, sizeof info->address, server->address);
	mg_copy_text(info->version, sizeof info->version, server->program);
	info->version[strcspn(info->version, " ")] = '\0';
}

static size_t add_servers(struct mg_engine *engine, struct mg_node_info *infos, size_t max)
{
	size_t most = mg_replica_servers(engine->replica, NULL, 0) + 8, count = 1;
	struct mg_server_info *servers = mg_alloc0(most * sizeof *servers);
	size_t found = mg_replica_servers(engine->replica, servers, most);

	for (size_t i = 0; i < found && i < most; i++) {
		if (servers[i].number == engine->options.number) {
			if (max > 0 && strcmp(servers[i].state, "draining") == 0) {
				infos[0].state = servers[i].state;
			}
			continue;
		}
		if (count < max) {
			add_other(&servers[i], &infos[count]);
		}
		count++;
	}
	mg_free(servers);
	return count;
}

size_t mg_engine_nodes(struct mg_engine *engine, struct mg_node_info *infos, size_t max)
{
	if (max) {
		add_self(engine, &infos[0]);
	}
	size_t servers = add_servers(engine, infos, max), there = servers < max ? servers : max;
	return servers + mg_hub_nodes(engine->hub, infos ? infos + there : NULL, max - there);
}
