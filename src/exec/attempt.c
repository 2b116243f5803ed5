/*
 * attempt.c - see attempt.h.
 *
 * Rule: nothing that a worker sends can change an answer: frames count only while their stage runs,
 * only from a participant that has not yet said that it ran, and only for targets that exist.
 *
 * `lock` guards the state of the participants and of the running stage; the query's thread waits on
 * `changed`.
 */
#include "exec/attempt_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/tx.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/replica.h"

#include <stdlib.h>
#include <string.h>

void mg_attempt_ref(struct mg_attempt *attempt)
{
	atomic_fetch_add(&attempt->refs, 1);
}

void mg_attempt_unref(struct mg_attempt *attempt)
{
	if (atomic_fetch_sub(&attempt->refs, 1) != 1) {
		return;
	}
	for (size_t i = 0; i < attempt->part_count; i++) {
		mg_worker_unref(attempt->parts[i].worker);
		mg_exec_reads_fini(&attempt->parts[i].reads);
	}
	mg_participant_close(attempt->local);
	pthread_cond_destroy(&attempt->changed);
	pthread_mutex_destroy(&attempt->lock);
	mg_arena_free(attempt->arena);
	mg_free(attempt);
}

/* ---- who does what ---- */

static struct part *add_part(struct mg_attempt *attempt, struct mg_worker *worker, const char *name)
{
	struct part *part = &attempt->parts[attempt->part_count++];
	part->worker = worker ? mg_worker_ref(worker) : NULL;
	part->info.remote = worker != NULL;
	mg_copy_text(part->info.node, sizeof part->info.node, name);
	part->info.shards =
		mg_arena_new_array(attempt->arena, uint32_t, attempt->options.shard_count + 1);
	return part;
}

static bool holds(const struct mg_hub_member *member, uint32_t shard)
{
	for (size_t i = 0; i < member->shard_count; i++) {
		if (member->shards[i] == shard) {
			return true;
		}
	}
	return false;
}

/* Give each shard to the node that holds it and has least to do for its threads; the server holds
 * them all.  Rarely held shards are given first, and to who holds few others, so that the rest can
 * even the load out. */
static void share_out(struct mg_attempt *attempt, struct mg_hub_member *members,
                      size_t member_count)
{
	const struct mg_attempt_options *options = &attempt->options;
	size_t *load = mg_arena_new_array(attempt->arena, size_t, member_count + 1);
	size_t *taken_by = mg_arena_new_array(attempt->arena, size_t, options->shard_count + 1);
	bool *done = mg_arena_new_array(attempt->arena, bool, options->shard_count + 1);
	unsigned own_threads = mg_hub_server_threads(mg_engine_hub(options->engine));
	for (size_t round = 0; round < options->shard_count; round++) {
		size_t next = 0, fewest = SIZE_MAX;
		for (size_t i = 0; i < options->shard_count; i++) {
			size_t holders = 0;
			for (size_t m = 0; m < member_count; m++) {
				holders += holds(&members[m], options->shards[i]);
			}
			if (!done[i] && holders < fewest) {
				fewest = holders;
				next = i;
			}
		}
		double best_load = (double)(load[0] + 1) / own_threads;
		size_t best = 0;
		for (size_t m = 0; m < member_count; m++) {
			double would = (double)(load[m + 1] + 1) / members[m].threads;
			bool even = would <= best_load;
			bool freer = best == 0 || members[m].shard_count < members[best - 1].shard_count;
			if (holds(&members[m], options->shards[next]) &&
			    (would < best_load || (even && freer))) {
				best = m + 1;
				best_load = would;
			}
		}
		taken_by[next] = best;
		load[best]++;
		done[next] = true;
	}
	attempt->parts = mg_arena_new_array(attempt->arena, struct part, member_count + 1);
	add_part(attempt, NULL, "server");
	size_t *index = mg_arena_new_array(attempt->arena, size_t, member_count + 1);
	for (size_t m = 0; m < member_count && attempt->part_count < MG_ATTEMPT_PARTICIPANTS_MAX; m++) {
		if (load[m + 1]) {
			index[m + 1] = attempt->part_count;
			add_part(attempt, members[m].worker, mg_worker_id(members[m].worker));
		}
	}
	for (size_t i = 0; i < options->shard_count; i++) {
		size_t at = index[taken_by[i]];
		struct mg_attempt_part *info = &attempt->parts[at].info;
		info->shards[info->shard_count++] = options->shards[i];
		const struct mg_shard *shard = &options->data->shards[options->shards[i]];
		for (uint32_t slot = shard->slot_first; slot <= shard->slot_last; slot++) {
			attempt->owner[slot] = (uint16_t)at;
		}
	}
}

/* ---- rows that leave the server's own part ---- */

static int send_to_part(struct mg_attempt *attempt, size_t target, const struct mg_frame *frame,
                        struct mg_buf *buf, struct mg_error *err)
{
	struct part *part = &attempt->parts[target];
	struct mg_error why;
	mg_error_clear(&why);
	int code = mg_channel_send_data(mg_worker_channel(part->worker), frame, buf, &why);
	if (code) {
		pthread_mutex_lock(&attempt->lock);
		attempt->lost = true;
		pthread_mutex_unlock(&attempt->lock);
		mg_error_set(err, MG_E_NODE, "%s", why.message);
		return MG_E_NODE;
	}
	pthread_mutex_lock(&attempt->lock);
	attempt->moved_bytes += buf->size;
	attempt->moved_rows += frame->rows;
	pthread_mutex_unlock(&attempt->lock);
	return 0;
}

static int send_from(struct mg_attempt *attempt, size_t from, const struct mg_frame *frame,
                     struct mg_buf *buf, struct mg_error *err)
{
	int code = 0;
	for (size_t i = 0; !code && i < attempt->part_count; i++) {
		if (i == from || (frame->target != MG_EXEC_EVERYBODY && frame->target != i)) {
			continue;
		}
		if (i == 0) {
			code = mg_participant_accept(attempt->local, frame->stage,
			                             frame->kind == MG_FRAME_SCHEMA, buf, frame->rows, err);
			pthread_mutex_lock(&attempt->lock);
			attempt->moved_bytes += buf->size;
			attempt->moved_rows += frame->rows;
			pthread_mutex_unlock(&attempt->lock);
		} else {
			code = send_to_part(attempt, i, frame, buf, err);
		}
	}
	return code;
}

static int send_local(void *arg, uint32_t stage, uint32_t target, bool schema, struct mg_buf *buf,
                      uint64_t rows, struct mg_error *err)
{
	struct mg_attempt *attempt = arg;
	struct mg_frame frame = { .kind = schema ? MG_FRAME_SCHEMA : MG_FRAME_BATCH,
		                      .id = attempt->number,
		                      .stage = stage,
		                      .target = target,
		                      .rows = rows };
	return send_from(attempt, 0, &frame, buf, err);
}

/* ---- opening ---- */

/* Rows on their way to another host are compressed; on one host that costs more than it saves. */
static bool is_far(const struct part *part)
{
	return part->worker && !mg_channel_is_same_host(mg_worker_channel(part->worker));
}

/* All shards that are read, also by workers: their copies hold what the files here hold. */
static size_t cut_shards(struct mg_attempt *attempt, uint32_t **shards)
{
	const struct mg_attempt_options *options = &attempt->options;
	size_t count = 0;
	*shards = mg_arena_new_array(attempt->arena, uint32_t, options->shard_count + 1);
	if (options->reference) {
		(*shards)[count++] = 0;
	}
	for (size_t i = 0; i < options->shard_count; i++) {
		(*shards)[count++] = options->shards[i];
	}
	return count;
}

/* The statement's tables as they are here, of these shards. */
static struct mg_exec_table *local_tables(struct mg_attempt *attempt, const uint32_t *shards,
                                          size_t shard_count)
{
	const struct mg_attempt_options *options = &attempt->options;
	struct mg_exec_table *tables;

	mg_engine_exec_tables(attempt->arena, options->tables, options->table_count, shards,
	                      shard_count, &tables);
	if (options->row_ids) {
		mg_engine_exec_row_ids(attempt->arena, tables, options->table_count);
	}
	if (options->tx) {
		mg_tx_show(options->tx, attempt->arena, tables, options->table_count, shards, shard_count);
	}
	return tables;
}

int mg_attempt_show_shard(struct mg_attempt *attempt, uint32_t shard, struct mg_error *err)
{
	mg_assert(attempt->part_count == 1);
	return mg_participant_show(attempt->local, local_tables(attempt, &shard, 1),
	                           attempt->options.table_count, err);
}

/* The server's own part, of what it was given: in the arena. */
static void describe_local(struct mg_attempt *attempt, struct mg_exec_open *open)
{
	const struct mg_attempt_options *options = &attempt->options;
	const struct mg_attempt_part *own = &attempt->parts[0].info;
	bool any_far = false;
	size_t read_count = own->shard_count + options->reference;
	uint32_t *touched = mg_arena_new_array(attempt->arena, uint32_t, read_count + 1), *cut;
	size_t cut_count = cut_shards(attempt, &cut);
	if (options->reference) {
		touched[0] = 0;
	}
	for (size_t i = 0; i < own->shard_count; i++) {
		touched[i + options->reference] = own->shards[i];
	}
	for (size_t i = 1; i < attempt->part_count; i++) {
		any_far |= is_far(&attempt->parts[i]);
	}
	*open = (struct mg_exec_open){
		.duck = mg_engine_duck(options->engine),
		.gate = mg_engine_gate(options->engine),
		.conn = options->tx ? mg_tx_conn(options->tx) : NULL,
		.node_index = 0,
		.node_count = (uint32_t)attempt->part_count,
		.owner = attempt->owner,
		.tables = local_tables(attempt, own->shards, own->shard_count),
		.table_count = options->table_count,
		.timezone = options->timezone,
		.budget = &attempt->budget,
		.lz4 = any_far,
		.profile = options->profile,
		.cuts = cut_count > 1 ? mg_replica_cuts(mg_engine_replica(options->engine)) : NULL,
		.cut_shards = cut,
		.cut_count = cut_count,
		.cut_wait_ms = options->cut_wait_ms,
		.cut_patient = options->cut_patient,
		.cut_stopped = options->cut_stopped,
		.cut_stopped_arg = options->cut_stopped_arg,
		.touched = touched,
		.touched_count = options->table_count ? 0 : read_count,
		.send = send_local,
		.arg = attempt,
	};
}

static int open_alone(struct mg_attempt *attempt, struct mg_participant **local,
                      struct mg_error *err)
{
	struct mg_exec_open open;
	describe_local(attempt, &open);
	return mg_participant_open(local, &open, err);
}

/* With workers: our own snapshot of all that is read comes first, also of what they are to read.
 * They take theirs at the same indexes of the shards' logs, which is the same cut; what one of them
 * cannot is read here. */
static int open_shared(struct mg_attempt *attempt, struct mg_participant **local,
                       struct mg_error *err)
{
	struct mg_exec_open open;
	describe_local(attempt, &open);
	open.cut_at = mg_arena_new_array(attempt->arena, uint64_t, open.cut_count + 1);
	int code = mg_participant_open(local, &open, err);
	if (!code) {
		mg_attempt__pin(attempt, open.cut_shards, open.cut_at, open.cut_count);
		describe_local(attempt, &open);
		code = mg_participant_share(*local, &open, err);
	}
	return code;
}

/* From here on a worker that is lost interrupts it (mg_attempt_on_lost).  One that was lost while
 * it was being opened has not: opening would have failed as if the user had cancelled it. */
static void set_local(struct mg_attempt *attempt, struct mg_participant *local)
{
	pthread_mutex_lock(&attempt->lock);
	attempt->local = local;
	bool lost = attempt->lost;
	pthread_mutex_unlock(&attempt->lock);
	if (local && lost) {
		mg_participant_cancel(local);
	}
}

static void add_text(struct mg_sb *json, const char *before, const char *text)
{
	mg_sb_add(json, before);
	mg_sb_add_json(json, text, strlen(text));
}

/* As it was planned: what a worker holds is of the same moment. */
static void add_table(struct mg_sb *json, const struct mg_table *table)
{
	add_text(json, "{\"schema\":", table->schema);
	add_text(json, ",\"name\":", table->name);
	if (table->stored && *table->stored) {
		add_text(json, ",\"stored\":", table->stored);
	}
	mg_sb_addf(json, ",\"id\":%llu,\"partitioned\":%s,\"columns\":[", (unsigned long long)table->id,
	           table->key_count ? "true" : "false");
	for (size_t i = 0; i < table->column_count; i++) {
		const struct mg_column *column = &table->columns[i];
		add_text(json, i ? ",[" : "[", column->name);
		add_text(json, ",", column->type);
		if (column->stored && *column->stored) {
			add_text(json, ",", column->stored);
		}
		mg_sb_add_char(json, ']');
	}
	mg_sb_add(json, "]}");
}

/* Ask each worker to take part; what goes wrong there comes back as the answer to its first stage.
 */
static void open_remote(struct mg_attempt *attempt)
{
	const struct mg_attempt_options *options = &attempt->options;
	for (size_t i = 1; i < attempt->part_count; i++) {
		struct mg_sb json = { 0 };
		struct part *part = &attempt->parts[i];
		mg_sb_addf(&json, "{\"type\":\"open\",\"query\":%llu,\"name\":",
		           (unsigned long long)attempt->number);
		mg_sb_add_json(&json, options->name, strlen(options->name));
		mg_sb_addf(&json, ",\"node\":%zu,\"nodes\":%zu,\"lz4\":%s,%s\"timezone\":", i,
		           attempt->part_count, is_far(part) ? "true" : "false",
		           options->profile ? "\"profile\":true," : "");
		mg_sb_add_json(&json, options->timezone ? options->timezone : "",
		               options->timezone ? strlen(options->timezone) : 0);
		mg_sb_add(&json, ",\"tables\":[");
		for (size_t t = 0; t < options->table_count; t++) {
			mg_sb_add(&json, t ? "," : "");
			add_table(&json, &options->tables[t]);
		}
		mg_sb_add(&json, "],\"shards\":[");
		for (size_t s = 0; s < part->info.shard_count; s++) {
			mg_sb_addf(&json, "%s%u", s ? "," : "", part->info.shards[s]);
		}
		/* Owners as runs: [last slot, participant]. */
		mg_sb_add(&json, "],\"owners\":[");
		for (uint32_t slot = 0, first = 1; slot < MG_SLOT_COUNT; slot++) {
			if (slot + 1 == MG_SLOT_COUNT || attempt->owner[slot + 1] != attempt->owner[slot]) {
				mg_sb_addf(&json, "%s[%u,%u]", first ? "" : ",", slot, attempt->owner[slot]);
				first = 0;
			}
		}
		mg_sb_add(&json, "]}");
		mg_channel_send(mg_worker_channel(part->worker), mg_sb_text(&json));
		mg_sb_fini(&json);
		part->opened = true;
	}
}

int mg_attempt_open(struct mg_attempt **out, const struct mg_attempt_options *options,
                    struct mg_error *err)
{
	struct mg_attempt *attempt = mg_alloc0(sizeof *attempt);
	atomic_init(&attempt->refs, 1);
	attempt->options = *options;
	attempt->arena = mg_arena_new();
	pthread_mutex_init(&attempt->lock, NULL);
	mg_cond_init(&attempt->changed);
	mg_engine_budget(options->engine, &attempt->budget);

	struct mg_hub *hub = mg_engine_hub(options->engine);
	struct mg_hub_member *members = NULL;
	size_t member_count = 0;
	attempt->number = mg_hub_add_query(hub);
	if (options->workers) {
		mg_hub_members(hub, attempt->arena, &members, &member_count);
	}
	share_out(attempt, members, member_count);
	for (size_t i = 0; i < member_count; i++) {
		mg_worker_unref(members[i].worker);
	}
	attempt->pinning = attempt->part_count > 1;
	mg_hub_show_query(hub, attempt->number, attempt);
	for (size_t i = 0; options->workers && i < attempt->part_count; i++) {
		const struct part *part = &attempt->parts[i];
		if (!mg_hub_ask(hub, part->worker, part->info.shards, part->info.shard_count)) {
			mg_attempt_on_lost(attempt, part->worker, "it left as the query began");
		}
	}
	struct mg_participant *local = NULL;
	int code = attempt->part_count > 1 ? open_shared(attempt, &local, err)
	                                   : open_alone(attempt, &local, err);
	set_local(attempt, local);
	if (code) {
		mg_attempt_close(attempt);
		return code;
	}
	open_remote(attempt);
	*out = attempt;
	return 0;
}

void mg_attempt_close(struct mg_attempt *attempt)
{
	if (!attempt) {
		return;
	}
	mg_hub_remove_query(mg_engine_hub(attempt->options.engine), attempt->number);
	if (attempt->local) {
		mg_participant_give_back(attempt->local);
	}
	pthread_mutex_lock(&attempt->lock);
	attempt->closed = true;
	pthread_mutex_unlock(&attempt->lock);
	for (size_t i = 1; i < attempt->part_count; i++) {
		if (attempt->parts[i].opened || attempt->parts[i].pinned) {
			mg_channel_sendf(mg_worker_channel(attempt->parts[i].worker),
			                 "{\"type\":\"close\",\"query\":%llu}",
			                 (unsigned long long)attempt->number);
		}
	}
	mg_attempt_unref(attempt);
}

/* ---- frames of workers ---- */

static size_t index_of_locked(const struct mg_attempt *attempt, const struct mg_worker *worker)
{
	for (size_t i = 1; i < attempt->part_count; i++) {
		if (attempt->parts[i].worker == worker) {
			return i;
		}
	}
	return 0;
}

static size_t index_of(struct mg_attempt *attempt, const struct mg_worker *worker)
{
	pthread_mutex_lock(&attempt->lock);
	size_t index = index_of_locked(attempt, worker);
	pthread_mutex_unlock(&attempt->lock);
	return index;
}

void mg_attempt_on_pinned(struct mg_attempt *attempt, const struct mg_worker *from,
                          const char *missed)
{
	pthread_mutex_lock(&attempt->lock);
	size_t index = index_of_locked(attempt, from);
	if (index && attempt->pinning && attempt->parts[index].asked) {
		attempt->parts[index].asked = false;
		attempt->parts[index].pinned = !missed;
		pthread_cond_broadcast(&attempt->changed);
	}
	pthread_mutex_unlock(&attempt->lock);
}

/* May this worker deliver rows of this stage to this target now? */
static bool may_deliver(struct mg_attempt *attempt, size_t from, uint32_t stage, uint32_t target)
{
	pthread_mutex_lock(&attempt->lock);
	bool runs = attempt->stage == stage;
	bool copies = attempt->copy_few && attempt->stage + MG_STAGE_COPY == stage && target == 0;
	bool may = from && (runs || copies) && attempt->parts[from].state == PART_RUNNING;
	pthread_mutex_unlock(&attempt->lock);
	return may;
}

int mg_attempt_on_data(struct mg_attempt *attempt, const struct mg_worker *from,
                       const struct mg_frame *frame, struct mg_buf *payload, struct mg_error *err)
{
	size_t index = index_of(attempt, from);
	pthread_mutex_lock(&attempt->lock);
	bool over = attempt->closed || attempt->cancelled || attempt->lost;
	pthread_mutex_unlock(&attempt->lock);
	if (over) {
		return 0;
	}
	if (!may_deliver(attempt, index, frame->stage, frame->target) ||
	    (frame->target != MG_EXEC_EVERYBODY && frame->target >= attempt->part_count)) {
		return mg_error_set(err, MG_E_PROTOCOL, "rows of stage %u, which \"%s\" does not run",
		                    frame->stage, mg_worker_id(from));
	}
	struct mg_error why;
	mg_error_clear(&why);
	int code = send_from(attempt, index, frame, payload, &why);
	if (code == MG_E_PROTOCOL || code == MG_E_CORRUPT) {
		return mg_error_set(err, code, "%s", why.message); /* the sender's fault */
	}
	if (code) {
		pthread_mutex_lock(&attempt->lock);
		attempt->parts[index].state = PART_FAILED;
		attempt->parts[index].err = why;
		pthread_cond_broadcast(&attempt->changed);
		pthread_mutex_unlock(&attempt->lock);
	}
	return 0;
}

static void read_error(const struct mg_json *json, const char *node, struct mg_error *err)
{
	const char *sqlstate = mg_json_get_text(json, "sqlstate");
	const char *message = mg_json_get_text(json, "message"),
			   *detail = mg_json_get_text(json, "detail");
	mg_error_set(err, mg_code_from_sqlstate(sqlstate ? sqlstate : "XX000"), "%s",
	             message ? message : "failed");
	if (sqlstate) {
		mg_copy_text(err->sqlstate, sizeof err->sqlstate, sqlstate);
	}
	if (detail && detail[0]) {
		mg_error_detail(err, "%s", detail);
	}
	err->origin = MG_ORIGIN_NODE;
	mg_copy_text(err->node, sizeof err->node, node);
}

static bool is_given(const struct part *part, uint32_t shard)
{
	bool given = shard == 0; /* the reference group is everybody's */
	for (size_t i = 0; i < part->info.shard_count && !given; i++) {
		given = part->info.shards[i] == shard;
	}
	return given;
}

/* A worker tells only of shards that it was given. */
static int read_reads(struct part *part, const struct mg_json *list, struct mg_error *err)
{
	mg_exec_reads_clear(&part->reads);
	mg_json_each(item, list) {
		const char *shard = mg_json_text(mg_json_at(item, 0)),
				   *table = mg_json_text(mg_json_at(item, 1)),
				   *rows = mg_json_text(mg_json_at(item, 2)),
				   *scanned = mg_json_text(mg_json_at(item, 3));
		unsigned long id = strtoul(shard, NULL, 10);
		if (id > UINT32_MAX || !is_given(part, (uint32_t)id) || !table[0]) {
			return mg_error_set(err, MG_E_PROTOCOL,
			                    "worker \"%s\" read a shard that it was not given",
			                    part->info.node);
		}
		mg_exec_reads_add(&part->reads, (uint32_t)id, table, strtoull(rows, NULL, 10),
		                  strtoull(scanned, NULL, 10));
	}
	return 0;
}

int mg_attempt_on_ran(struct mg_attempt *attempt, const struct mg_worker *from,
                      const struct mg_json *json, struct mg_error *err)
{
	size_t index = index_of(attempt, from);
	uint32_t stage = (uint32_t)mg_json_get_int(json, "stage", 0);
	pthread_mutex_lock(&attempt->lock);
	struct part *part = &attempt->parts[index];
	bool over = attempt->closed || attempt->cancelled || attempt->lost;
	bool expected = index && attempt->stage == stage && part->state == PART_RUNNING;
	int code = 0;
	if (expected && attempt->options.profile) {
		code = read_reads(part, mg_json_get(json, "reads"), err);
	}
	if (expected && !code) {
		const struct mg_json *error = mg_json_get(json, "error");
		part->stats = (struct mg_exec_stats){
			.rows = (uint64_t)mg_json_get_int(json, "rows", 0),
			.bytes = (uint64_t)mg_json_get_int(json, "bytes", 0),
			.rows_sent = (uint64_t)mg_json_get_int(json, "rows_sent", 0),
			.bytes_sent = (uint64_t)mg_json_get_int(json, "bytes_sent", 0),
			.micros = (uint64_t)mg_json_get_int(json, "micros", 0),
			.copied = mg_json_get_bool(json, "copied", false),
		};
		part->state = error ? PART_FAILED : PART_RAN;
		if (error) {
			read_error(error, part->info.node, &part->err);
		}
		pthread_cond_broadcast(&attempt->changed);
	}
	pthread_mutex_unlock(&attempt->lock);
	if (code) {
		return code;
	}
	if (!expected && !over) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "worker \"%s\" ran stage %u, which it was not asked to",
		                    mg_worker_id(from), stage);
	}
	return 0;
}

void mg_attempt_on_lost(struct mg_attempt *attempt, const struct mg_worker *worker,
                        const char *reason)
{
	pthread_mutex_lock(&attempt->lock);
	size_t index = index_of_locked(attempt, worker);
	if (!index || attempt->finishing || attempt->pinning) {
		if (index && attempt->pinning) { /* it does not come to take part */
			attempt->parts[index].lost = true;
			pthread_cond_broadcast(&attempt->changed);
		}
		pthread_mutex_unlock(&attempt->lock);
		return;
	}
	struct part *part = &attempt->parts[index];
	attempt->lost = true;
	part->state = PART_FAILED;
	mg_error_set(&part->err, MG_E_NODE, "worker \"%s\" was lost: %s", part->info.node, reason);
	pthread_cond_broadcast(&attempt->changed);
	struct mg_participant *local = attempt->local; /* NULL while the attempt is being opened */
	pthread_mutex_unlock(&attempt->lock);
	if (local) {
		mg_participant_cancel(local); /* its rows would belong to nothing */
	}
}

/* ---- running a stage ---- */

static const char *ship_name(enum mg_ship ship)
{
	static const char *const names[] = { "keep", "gather", "broadcast", "hash", "result" };
	return names[ship];
}

static void start_remote(struct mg_attempt *attempt, const struct mg_stage *stage)
{
	struct mg_sb json = { 0 };
	mg_sb_addf(&json, "{\"type\":\"run\",\"query\":%llu,\"stage\":%u,\"ship\":\"%s\",%s\"sql\":",
	           (unsigned long long)attempt->number, stage->id, ship_name(stage->ship),
	           stage->copy_few ? "\"copy_few\":true," : "");
	mg_sb_add_json(&json, stage->sql, strlen(stage->sql));
	mg_sb_add_char(&json, '}');
	for (size_t i = 1; i < attempt->part_count; i++) {
		mg_channel_send(mg_worker_channel(attempt->parts[i].worker), mg_sb_text(&json));
	}
	mg_sb_fini(&json);
}

/* Wait until every part has run or failed; a failure or a cancel ends the wait at once. */
static int await_parts(struct mg_attempt *attempt, struct mg_error *err)
{
	int code = 0;
	pthread_mutex_lock(&attempt->lock);
	for (;;) {
		size_t running = 0;
		for (size_t i = 0; i < attempt->part_count; i++) {
			running += attempt->parts[i].state == PART_RUNNING;
			if (attempt->parts[i].state == PART_FAILED && !code) {
				*err = attempt->parts[i].err;
				code = err->code;
			}
		}
		if (attempt->cancelled) {
			code = mg_error_set(err, MG_E_CANCELLED, "cancelled");
		}
		if (code || !running) {
			break;
		}
		pthread_cond_wait(&attempt->changed, &attempt->lock);
	}
	attempt->stage = 0;
	pthread_mutex_unlock(&attempt->lock);
	return code;
}

static int run_local(struct mg_attempt *attempt, const struct mg_stage *stage, struct mg_error *err)
{
	struct part *self = &attempt->parts[0];
	struct mg_exec_order order = {
		.stage = stage->id, .ship = stage->ship, .sql = stage->sql, .copy_few = stage->copy_few
	};
	int code = mg_participant_run(attempt->local, &order, &self->stats, err);
	mg_participant_reads(attempt->local, &self->reads);
	pthread_mutex_lock(&attempt->lock);
	/* A lost worker interrupts our own part: that loss is the reason, not the interruption. */
	if (code && !attempt->lost && !attempt->cancelled) {
		if (err->origin == MG_ORIGIN_NONE) {
			err->origin = MG_ORIGIN_NODE;
			mg_copy_text(err->node, sizeof err->node, self->info.node);
		}
		self->err = *err;
	} else if (code && attempt->lost) {
		mg_error_set(&self->err, MG_E_NODE, "a participant was lost");
	} else if (code) {
		mg_error_set(&self->err, MG_E_CANCELLED, "cancelled");
	}
	self->state = code ? PART_FAILED : PART_RAN;
	pthread_mutex_unlock(&attempt->lock);
	return code;
}

/* Rows that the coordinator alone made and keeps: the others need the schema to read none of them.
 */
static int share_schema(struct mg_attempt *attempt, uint32_t stage, struct mg_error *err)
{
	struct mg_buf *schema = mg_participant_schema(attempt->local, stage);
	int code = 0;
	for (size_t i = 1; !code && schema && i < attempt->part_count; i++) {
		struct mg_frame frame = {
			.kind = MG_FRAME_SCHEMA, .id = attempt->number, .stage = stage, .target = (uint32_t)i
		};
		code = send_to_part(attempt, i, &frame, schema, err);
	}
	mg_buf_unref(schema);
	return code;
}

static void seal(struct mg_attempt *attempt, uint32_t stage)
{
	mg_participant_seal(attempt->local, stage);
	for (size_t i = 1; i < attempt->part_count; i++) {
		mg_channel_sendf(mg_worker_channel(attempt->parts[i].worker),
		                 "{\"type\":\"seal\",\"query\":%llu,\"stage\":%u}",
		                 (unsigned long long)attempt->number, stage);
	}
}

int mg_attempt_run_stage(struct mg_attempt *attempt, const struct mg_stage *stage,
                         struct mg_count *count, struct mg_exec_stats *stats_of_part,
                         struct mg_error *err)
{
	pthread_mutex_lock(&attempt->lock);
	attempt->stage = stage->id;
	attempt->copy_few = stage->copy_few;
	for (size_t i = 0; i < attempt->part_count; i++) {
		struct part *part = &attempt->parts[i];
		if (part->state != PART_FAILED) {
			part->state = i == 0 || stage->everywhere ? PART_RUNNING : PART_IDLE;
			part->stats = (struct mg_exec_stats){ 0 };
			mg_exec_reads_clear(&part->reads);
		}
	}
	pthread_mutex_unlock(&attempt->lock);
	if (stage->everywhere) {
		start_remote(attempt, stage);
	}
	run_local(attempt, stage, err);
	int code = await_parts(attempt, err);
	if (!code && !stage->everywhere && stage->ship == MG_SHIP_KEEP) {
		code = share_schema(attempt, stage->id, err);
	}
	if (code) {
		mg_attempt_cancel_parts(attempt);
		return code;
	}
	seal(attempt, stage->id);
	*count = (struct mg_count){ .copied = stage->copy_few };
	for (size_t i = 0; i < attempt->part_count; i++) {
		const struct mg_exec_stats *stats = &attempt->parts[i].stats;
		count->rows += stats->rows;
		count->bytes += stats->bytes;
		count->copied = count->copied && stats->copied;
		if (stats_of_part) {
			stats_of_part[i] = *stats;
		}
	}
	if (count->copied) {
		mg_participant_seal(attempt->local, stage->id + MG_STAGE_COPY);
	}
	pthread_mutex_lock(&attempt->lock);
	attempt->rows_seen += count->rows;
	attempt->bytes_seen += count->bytes;
	pthread_mutex_unlock(&attempt->lock);
	return 0;
}

/* ---- cancel and figures ---- */

void mg_attempt_finish(struct mg_attempt *attempt)
{
	pthread_mutex_lock(&attempt->lock);
	attempt->finishing = !attempt->lost;
	pthread_mutex_unlock(&attempt->lock);
}

void mg_attempt_cancel_parts(struct mg_attempt *attempt)
{
	for (size_t i = 1; i < attempt->part_count; i++) {
		mg_channel_sendf(mg_worker_channel(attempt->parts[i].worker),
		                 "{\"type\":\"cancel\",\"query\":%llu}",
		                 (unsigned long long)attempt->number);
	}
	mg_participant_cancel(attempt->local);
}

void mg_attempt_cancel(struct mg_attempt *attempt)
{
	pthread_mutex_lock(&attempt->lock);
	attempt->cancelled = true;
	pthread_cond_broadcast(&attempt->changed);
	pthread_mutex_unlock(&attempt->lock);
	mg_attempt_cancel_parts(attempt);
	mg_log(MG_LOG_INFO, "query.cancel", "query=%s number=%llu nodes=%zu", attempt->options.name,
	       (unsigned long long)attempt->number, attempt->part_count);
}

bool mg_attempt_is_lost(const struct mg_attempt *attempt)
{
	struct mg_attempt *unlocked = (struct mg_attempt *)attempt;
	pthread_mutex_lock(&unlocked->lock); /* a channel's thread may be setting it */
	bool lost = attempt->lost;
	pthread_mutex_unlock(&unlocked->lock);
	return lost;
}

size_t mg_attempt_part_count(const struct mg_attempt *attempt)
{
	return attempt->part_count;
}

const struct mg_attempt_part *mg_attempt_part(const struct mg_attempt *attempt, size_t index)
{
	mg_assert(index < attempt->part_count);
	return &attempt->parts[index].info;
}

const struct mg_exec_reads *mg_attempt_reads(const struct mg_attempt *attempt, size_t index)
{
	mg_assert(index < attempt->part_count);
	return &attempt->parts[index].reads;
}

struct mg_participant *mg_attempt_local(struct mg_attempt *attempt)
{
	return attempt->local;
}

/* One figure under the lock. */
static uint64_t figure(const struct mg_attempt *attempt, const uint64_t *value)
{
	struct mg_attempt *unlocked = (struct mg_attempt *)attempt;
	pthread_mutex_lock(&unlocked->lock);
	uint64_t copy = *value;
	pthread_mutex_unlock(&unlocked->lock);
	return copy;
}

uint32_t mg_attempt_missed(const struct mg_attempt *attempt)
{
	return attempt->missed;
}

uint64_t mg_attempt_moved_bytes(const struct mg_attempt *attempt)
{
	return figure(attempt, &attempt->moved_bytes);
}

uint64_t mg_attempt_moved_rows(const struct mg_attempt *attempt)
{
	return figure(attempt, &attempt->moved_rows);
}

uint64_t mg_attempt_rows_seen(const struct mg_attempt *attempt)
{
	return figure(attempt, &attempt->rows_seen);
}

uint64_t mg_attempt_bytes_seen(const struct mg_attempt *attempt)
{
	return figure(attempt, &attempt->bytes_seen);
}

double mg_attempt_progress(struct mg_attempt *attempt)
{
	return mg_participant_progress(attempt->local);
}
