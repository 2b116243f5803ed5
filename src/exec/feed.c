/*
 * feed.c - see feed.h: which table and from where, and the turns over its shards.
 *
 * A turn goes once over the shards, a part of what each has at a time, and tells a token when it is
 * due.  When there is nothing more it waits until the shards' logs have grown (or somebody kicks).
 */
#include "exec/feed_int.h"

#include "os/clock.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <string.h>

enum {
	RECORDS_A_TURN = 256, /* of one shard, and the rest of what was committed with the last one */
	TOKEN_MS = 200,       /* between tokens, while there are changes */
	WAIT_MS = 1000,       /* who is stopped without a kick */
};

const char *mg_feed_op_name(enum mg_feed_op op)
{
	static const char *const names[] = { "read", "insert", "update", "delete",
		                                 "drop", "columns", "resolved", "end" };

	return names[op];
}

/* ---- the table ---- */

/* "a.b" is table b of schema a, or table "a.b" of main. */
static const struct mg_table *find_table(struct mg_feed *feed, const struct mg_catalog_data *data,
                                         bool *view)
{
	const char *name = feed->options->table;
	const struct mg_table *table = mg_catalog_find_table(data, "main", name);

	*view = mg_catalog_find_view(data, "main", name) != NULL;
	for (const char *dot = strchr(name, '.'); dot && !table && !*view; dot = strchr(dot + 1, '.')) {
		const char *schema = mg_arena_strndup(feed->arena, name, (size_t)(dot - name));

		table = mg_catalog_find_table(data, schema, dot + 1);
		*view = mg_catalog_find_view(data, schema, dot + 1) != NULL;
	}
	return table;
}

static int say_no_table(const struct mg_feed *feed, bool view, struct mg_error *err)
{
	int code = view ? MG_E_BIND : MG_E_NO_TABLE;

	mg_error_set(err, code, view ? "\"%.200s\" is a view: changes are those of tables"
	                             : "table with name %.200s does not exist",
	             feed->options->table);
	if (view) {
		mg_copy_text(err->sqlstate, sizeof err->sqlstate, "42809");
	}
	return code;
}

static void take_columns(struct mg_feed *feed, const struct mg_table *table)
{
	feed->column_count = table->column_count;
	feed->columns = mg_arena_new_array(feed->arena, const char *, table->column_count + 1);
	for (size_t i = 0; i < table->column_count; i++) {
		feed->columns[i] = mg_arena_strdup(feed->arena, table->columns[i].name);
	}
}

static void take_table(struct mg_feed *feed, const struct mg_table *table)
{
	feed->schema = mg_arena_strdup(feed->arena, table->schema);
	feed->table = mg_arena_strdup(feed->arena, table->name);
	feed->stored = mg_arena_strdup(feed->arena, mg_table_stored(feed->arena, table));
	take_columns(feed, table);
	feed->token_table = mg_feed_token_table(feed->schema, feed->stored);
}

static int take_shards(struct mg_feed *feed, bool partitioned, uint32_t shard_count,
                       struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(feed->options->engine);

	feed->count = partitioned ? shard_count : 1;
	feed->shards = mg_arena_new_array(feed->arena, struct mg_feed_shard, feed->count);
	feed->places = mg_arena_new_array(feed->arena, struct mg_feed_place, feed->count);
	for (size_t i = 0; i < feed->count; i++) {
		struct mg_feed_shard *shard = &feed->shards[i];
		uint64_t after = 0;

		shard->shard = partitioned ? (uint32_t)i + 1 : 0;
		shard->log = mg_replica_changes(replica, shard->shard);
		if (!shard->log) {
			mg_error_set(err, MG_E_UNSUPPORTED, "this server keeps no changes");
			mg_error_hint(err, "Start it with --changes-retention above 0.");
			return MG_E_UNSUPPORTED;
		}
		mg_changes_log_range(shard->log, &after, &shard->target);
		feed->places[i].shard = shard->shard;
	}
	return 0;
}

static int find(struct mg_feed *feed, struct mg_error *err)
{
	struct mg_engine *engine = feed->options->engine;
	struct mg_catalog *catalog = mg_engine_catalog(engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint32_t count = data->shard_count;

	mg_catalog_give(catalog, data);
	uint32_t *all = mg_shard_ids(feed->arena, 0, count);

	/* So what was acknowledged before is applied here, and the catalog knows the table. */
	int code = mg_replica_long_barrier(mg_engine_replica(engine), all, (size_t)count + 1,
	                                   feed->options->stopped, feed->options->arg, err);

	if (code) {
		return code;
	}
	bool view = false, partitioned = false;

	data = mg_catalog_take(catalog);
	const struct mg_table *table = find_table(feed, data, &view);

	if (table) {
		take_table(feed, table);
		feed->version = data->version;
		partitioned = table->key_count > 0;
	}
	mg_catalog_give(catalog, data);
	return table ? take_shards(feed, partitioned, count, err) : say_no_table(feed, view, err);
}

/* ---- from where ---- */

/* A place that the log has not reached is none of this cluster: all that was acknowledged, and so
 * all that was ever told, is here. */
static int check_place(const struct mg_feed *feed, size_t i, struct mg_error *err)
{
	if (feed->places[i].index <= feed->shards[i].target) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE,
	             "the token is ahead of shard %" PRIu32 ": it is not of this cluster",
	             feed->places[i].shard);
	mg_error_hint(err, "Begin again with a snapshot: from=start.");
	return MG_E_USAGE;
}

static int open_reader(struct mg_feed *feed, size_t i, struct mg_error *err)
{
	struct mg_feed_shard *shard = &feed->shards[i];

	return mg_changes_reader_open(&shard->reader, shard->log, feed->places[i].index, err);
}

/* Where it begins; a snapshot's places come with it. */
static int place(struct mg_feed *feed, bool *snapshot, struct mg_error *err)
{
	const char *from = feed->options->from;
	bool now = mg_text_eq(from, "now"), kept = mg_text_eq(from, "kept");
	int code = 0;

	*snapshot = mg_text_eq(from, "start") || mg_text_eq(from, "0");
	if (*snapshot) {
		return 0;
	}
	if (!now && !kept) {
		code = mg_feed_token_parse(from, feed->token_table, feed->places, feed->count, err);
	}
	for (size_t i = 0; !code && i < feed->count; i++) {
		struct mg_feed_place *at = &feed->places[i];
		uint64_t to = 0;

		if (kept) {
			mg_changes_log_range(feed->shards[i].log, &at->index, &to);
		} else if (now) {
			at->index = feed->shards[i].target;
		} else {
			code = check_place(feed, i, err);
		}
		code = code ? code : open_reader(feed, i, err);
	}
	return code;
}

static int tell_snapshot(struct mg_feed *feed, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < feed->count; i++) {
		code = mg_feed__snapshot(feed, &feed->shards[i], &feed->places[i].index, err);
		code = code ? code : open_reader(feed, i, err);
	}
	feed->untold = true; /* also when there are no rows */
	return code;
}

/* ---- its columns meanwhile ---- */

static bool has_columns(const struct mg_feed *feed, const struct mg_table *table)
{
	bool same = table->column_count == feed->column_count;

	for (size_t i = 0; same && i < feed->column_count; i++) {
		same = mg_text_eq(table->columns[i].name, feed->columns[i]);
	}
	return same;
}

/* The table under whatever name it has now; NULL: it is gone, or its rows lie in another one. */
static const struct mg_table *find_stored(const struct mg_feed *feed, struct mg_arena *arena,
                                          const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];

		if (mg_text_eq(table->schema, feed->schema) &&
		    mg_text_eq(mg_table_stored(arena, table), feed->stored)) {
			return table;
		}
	}
	return NULL;
}

static int tell_columns(struct mg_feed *feed, struct mg_error *err)
{
	struct mg_sb list = { 0 };

	for (size_t i = 0; i < feed->column_count; i++) {
		mg_sb_add(&list, i ? ", " : "[");
		mg_sb_add_json(&list, feed->columns[i], strlen(feed->columns[i]));
	}
	mg_sb_add_char(&list, ']');
	int code = mg_feed__tell(feed,
	                         &(struct mg_feed_event){ .op = MG_FEED_COLUMNS,
	                                                  .row = mg_sb_text(&list) },
	                         err);

	mg_sb_fini(&list);
	return code;
}

/* Names may change while rows stay as they are. */
static int look_at_columns(struct mg_feed *feed, struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(feed->options->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	bool changed = false;

	if (data->version != feed->version) {
		struct mg_arena *arena = mg_arena_new();
		const struct mg_table *table = find_stored(feed, arena, data);

		feed->version = data->version;
		if (table && !mg_text_eq(table->name, feed->table)) { /* as which it may be replaced */
			feed->table = mg_arena_strdup(feed->arena, table->name);
		}
		changed = table && !has_columns(feed, table);
		if (changed) {
			take_columns(feed, table);
		}
		mg_arena_free(arena);
	}
	mg_catalog_give(catalog, data);
	return changed ? tell_columns(feed, err) : 0;
}

/* ---- turns ---- */

static int tell_token(struct mg_feed *feed, struct mg_error *err)
{
	mg_sb_clear(&feed->token);
	mg_feed_token_add(&feed->token, feed->token_table, feed->places, feed->count);
	feed->token_ms = mg_clock_ms();
	feed->untold = false;
	return mg_feed__tell(feed,
	                     &(struct mg_feed_event){ .op = MG_FEED_RESOLVED,
	                                              .token = mg_sb_text(&feed->token) },
	                     err);
}

static bool is_full(const struct mg_feed *feed)
{
	return feed->options->limit && feed->rows >= feed->options->limit;
}

static bool is_ours(const struct mg_feed *feed, const struct mg_changes_record *record)
{
	return mg_text_eq(record->table, feed->stored) && mg_text_eq(record->schema, feed->schema);
}

/* The next record, when there is one. */
static int read_record(struct mg_feed *feed, size_t i, bool *more, struct mg_error *err)
{
	struct mg_feed_shard *shard = &feed->shards[i];
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	int code = mg_changes_reader_next(shard->reader, &record, &columns, more, err);

	if (code) {
		return code;
	}
	if (!*more || record.kind == MG_CHANGES_MARK) {
		feed->places[i].index = record.index;
		shard->telling = false;
	} else if (is_ours(feed, &record)) {
		if (record.index != shard->index) { /* the entry before is complete */
			feed->places[i].index = record.index - 1;
			shard->telling = !is_full(feed);
			shard->index = record.index;
			shard->n = 0;
		}
		code = shard->telling ? mg_feed__record(feed, shard, &record, columns, err) : 0;
	}
	return code;
}

/* A part of what the shard has, and on to a place between entries, as a token may be told next: who
 * goes on from one that lies before the entry would hear its changes twice.  *more: there may be
 * more now. */
static int read_shard(struct mg_feed *feed, size_t i, bool *more, struct mg_error *err)
{
	struct mg_feed_shard *shard = &feed->shards[i];
	int code = 0;

	*more = !shard->over;
	for (int count = 0; !code && *more && (count < RECORDS_A_TURN || shard->telling); count++) {
		if (is_full(feed) && !shard->telling) {
			break;
		}
		code = read_record(feed, i, more, err);
		*more = *more && !shard->over;
	}
	return code;
}

static bool is_between_entries(const struct mg_feed *feed)
{
	bool between = true;

	for (size_t i = 0; i < feed->count && between; i++) {
		between = !feed->shards[i].telling || feed->shards[i].over;
	}
	return between;
}

/* Another one of the same name is there. */
static bool is_replaced(struct mg_feed *feed)
{
	struct mg_catalog *catalog = mg_engine_catalog(feed->options->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	bool there = mg_catalog_find_table(data, feed->schema, feed->table) != NULL;

	mg_catalog_give(catalog, data);
	return there;
}

static bool is_dropped(const struct mg_feed *feed)
{
	size_t over = 0;

	for (size_t i = 0; i < feed->count; i++) {
		over += feed->shards[i].over;
	}
	return over == feed->count;
}

/* What was acknowledged before the feed began has been told. */
static bool has_caught_up(const struct mg_feed *feed)
{
	bool all = true;

	for (size_t i = 0; i < feed->count && all; i++) {
		all = feed->shards[i].over || feed->places[i].index >= feed->shards[i].target;
	}
	return all;
}

static uint64_t token_due_ms(const struct mg_feed *feed)
{
	uint64_t every = feed->untold && feed->options->heartbeat_ms > TOKEN_MS
	                     ? TOKEN_MS
	                     : feed->options->heartbeat_ms;

	return feed->token_ms + every;
}

/* *done: nothing comes any more. */
static int turn(struct mg_feed *feed, bool *done, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(feed->options->engine);
	uint64_t seen = mg_replica_changes_count(replica);
	bool any = false;
	int code = look_at_columns(feed, err);

	for (size_t i = 0; !code && i < feed->count; i++) {
		bool more = false;

		code = read_shard(feed, i, &more, err);
		any = any || more;
	}
	if (code) {
		return code;
	}
	if (is_dropped(feed)) {
		*done = true;
		return mg_feed__tell(feed,
		                     &(struct mg_feed_event){ .op = MG_FEED_END,
		                                              .reason = is_replaced(feed) ? "replaced"
		                                                                          : "dropped" },
		                     err);
	}
	*done = (is_full(feed) && is_between_entries(feed)) ||
	        (!feed->options->follow && !any && has_caught_up(feed));
	if (*done || mg_clock_ms() >= token_due_ms(feed)) {
		code = tell_token(feed, err);
	}
	if (code || *done || any) {
		return code;
	}
	code = feed->options->flush(feed->options->arg, err);
	uint64_t now = mg_clock_ms(), due = token_due_ms(feed);

	if (!code && now < due) {
		mg_replica_changes_wait(replica, seen,
		                        (unsigned)(due - now < WAIT_MS ? due - now : WAIT_MS));
	}
	if (!code && feed->options->stopped && feed->options->stopped(feed->options->arg)) {
		code = mg_error_set(err, MG_E_CANCELLED, "the feed was ended");
	}
	return code;
}

static void fini(struct mg_feed *feed)
{
	for (size_t i = 0; feed->shards && i < feed->count; i++) {
		mg_changes_reader_close(feed->shards[i].reader);
		mg_feed__forget_old(feed, &feed->shards[i]);
		mg_free(feed->shards[i].old);
	}
	mg_feed__shape_fini(&feed->shape);
	mg_feed__shape_fini(&feed->old_shape);
	mg_sb_fini(&feed->row);
	mg_sb_fini(&feed->old_row);
	mg_sb_fini(&feed->commit);
	mg_sb_fini(&feed->token);
	mg_arena_free(feed->arena);
}

int mg_feed_run(const struct mg_feed_options *options, struct mg_error *err)
{
	struct mg_feed feed = { .options = options, .arena = mg_arena_new() };
	bool snapshot = false, done = false;
	mg_feed__budget(&feed, &feed.old_budget);
	int code = find(&feed, err);

	code = code ? code : place(&feed, &snapshot, err);
	code = code ? code : options->begin(options->arg, err);
	feed.token_ms = mg_clock_ms();
	if (!code && snapshot) {
		code = tell_snapshot(&feed, err);
	}
	while (!code && !done) {
		code = turn(&feed, &done, err);
	}
	code = code ? code : options->flush(options->arg, err);
	fini(&feed);
	return code;
}
