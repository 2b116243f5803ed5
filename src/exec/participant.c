/*
 * participant.c - see participant.h.
 *
 * Rule: rows of a stage are read only after it is sealed, and a stage is sealed only after every
 * participant has made and delivered its rows; so readers never wait and never see a part.
 *
 * Threads: run and mg_participant_conn's statements belong to the query's thread; accept and seal
 * may come from another one (the channel's); the table of spools is guarded by `lock`.
 */
#include "exec/participant.h"

#include "base/assert.h"
#include "codec/arrow_ipc.h"
#include "exec/channel.h"
#include "exec/gate.h"
#include "os/clock.h"
#include "replica/cuts.h"
#include "store/shard_file.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Rows that are few enough to be sent along with their count: as encoded. */
enum { FEW_BYTES = 8 << 10, FEW_BATCHES = 4 };

struct slot_of_stage {
	uint32_t stage;
	bool sealed;
	struct mg_spool *spool;
};

struct mg_participant {
	struct mg_duck_conn *conn; /* with `borrowed`, NULL once it is given back: under lock */
	bool borrowed;             /* its owner stands in the gate */
	struct mg_gate *gate;
	struct mg_gate_pass pass;
	struct mg_duck_context context;
	uint16_t owner[MG_SLOT_COUNT];
	uint32_t node_index, node_count;
	struct mg_spool_budget *budget;
	bool lz4, profile;
	int (*send)(void *arg, uint32_t stage, uint32_t target, bool schema, struct mg_buf *buf,
	            uint64_t rows, struct mg_error *err);
	void *arg;
	uint64_t waited_ms;

	pthread_mutex_t lock; /* guards stages, and what others do with a borrowed connection */
	struct slot_of_stage *stages;
	size_t stage_count, stage_cap;
	atomic_bool cancelled; /* DuckDB looks at it before a statement starts */
};

/* ---- spools by stage ---- */

static struct slot_of_stage *find_locked(struct mg_participant *part, uint32_t stage)
{
	for (size_t i = 0; i < part->stage_count; i++) {
		if (part->stages[i].stage == stage) {
			return &part->stages[i];
		}
	}
	return NULL;
}

/* The spool that rows of `stage` go into; made when it is not there. A new reference. */
static struct mg_spool *spool_take(struct mg_participant *part, uint32_t stage)
{
	pthread_mutex_lock(&part->lock);
	struct slot_of_stage *slot = find_locked(part, stage);
	if (!slot) {
		mg_grow(part->stages, part->stage_count, part->stage_cap);
		slot = &part->stages[part->stage_count++];
		*slot = (struct slot_of_stage){ .stage = stage, .spool = mg_spool_new(part->budget) };
	}
	struct mg_spool *spool = mg_spool_ref(slot->spool);
	pthread_mutex_unlock(&part->lock);
	return spool;
}

static struct mg_spool *find_sealed(void *arg, uint32_t stage)
{
	struct mg_participant *part = arg;
	pthread_mutex_lock(&part->lock);
	struct slot_of_stage *slot = find_locked(part, stage);
	struct mg_spool *spool = slot && slot->sealed ? slot->spool : NULL;
	pthread_mutex_unlock(&part->lock);
	return spool;
}

/* ---- temp views over the shards that this participant was given ---- */

static void add_columns(struct mg_sb *sql, const struct mg_exec_table *table)
{
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, table->columns[i]);
	}
}

/* Of a database, where a column that was renamed has its first name. */
static void add_stored_columns(struct mg_sb *sql, const struct mg_exec_table *table)
{
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, table->stored_columns[i]);
		if (!mg_text_eq(table->stored_columns[i], table->columns[i])) {
			mg_sb_add(sql, " AS ");
			mg_sb_add_ident(sql, table->columns[i]);
		}
	}
}

static void add_temp(struct mg_sb *sql, const char *name)
{
	mg_sb_add(sql, "temp.main.");
	mg_sb_add_ident(sql, name);
}

/* Rows of the transaction itself. */
static void add_own(struct mg_sb *sql, const struct mg_exec_table *table)
{
	const struct mg_exec_overlay *overlay = table->overlay;
	mg_sb_add(sql, " UNION ALL SELECT ");
	add_columns(sql, table);
	mg_sb_add(sql, " FROM ");
	add_temp(sql, overlay->own);
	for (size_t i = 0; i < overlay->shard_count; i++) {
		if (i) {
			mg_sb_addf(sql, ", %u", overlay->shards[i]);
		} else {
			mg_sb_addf(sql, " WHERE _mg_rid >> %d IN (%u", MG_SHARD_RID_BITS, overlay->shards[i]);
		}
	}
	mg_sb_add(sql, overlay->shard_count ? ")" : "");
}

void mg_exec_table_select(struct mg_sb *sql, const struct mg_exec_table *table)
{
	for (size_t i = 0; i < table->database_count; i++) {
		mg_sb_add(sql, i ? " UNION ALL SELECT " : "SELECT ");
		add_stored_columns(sql, table);
		mg_sb_add(sql, " FROM ");
		mg_sb_add_path(sql, table->databases[i], table->schema);
		mg_sb_add_char(sql, '.');
		mg_sb_add_ident(sql, table->stored);
		if (table->overlay && table->overlay->dead) {
			mg_sb_add(sql, " ANTI JOIN ");
			add_temp(sql, table->overlay->dead);
			mg_sb_add(sql, " ON _mg_rid = \"merganser rid\"");
		}
	}
	if (!table->database_count) {
		mg_sb_add(sql, "SELECT ");
		for (size_t i = 0; i < table->column_count; i++) {
			mg_sb_addf(sql, "%sCAST(NULL AS %s) AS ", i ? ", " : "", table->types[i]);
			mg_sb_add_ident(sql, table->columns[i]);
		}
		mg_sb_add(sql, " WHERE false");
	}
	if (table->overlay) {
		add_own(sql, table);
	}
}

static int create_view(struct mg_duck_conn *conn, const struct mg_exec_table *table,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 }, name = { 0 };
	mg_sb_addf(&name, "%s.%s", table->schema, table->table);
	mg_sb_add(&sql, "CREATE OR REPLACE TEMP VIEW ");
	mg_sb_add_ident(&sql, mg_sb_text(&name));
	mg_sb_add(&sql, " AS ");
	mg_exec_table_select(&sql, table);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	mg_sb_fini(&name);
	return code ? mg_error_wrap(err, "while preparing table \"%s\"", table->table) : 0;
}

static int create_views(struct mg_duck_conn *conn, const struct mg_exec_table *tables,
                        size_t table_count, struct mg_error *err)
{
	int code = 0;
	for (size_t i = 0; !code && i < table_count; i++) {
		code = create_view(conn, &tables[i], err);
	}
	return code;
}

static int touch(struct mg_duck_conn *conn, const struct mg_exec_open *open, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	for (size_t i = 0; i < open->touched_count; i++) {
		mg_sb_addf(&sql, "%sSELECT 1 FROM s%u._mg.meta", i ? " UNION ALL " : "", open->touched[i]);
	}
	int code = open->touched_count ? mg_duck_exec(conn, mg_sb_text(&sql), err) : 0;
	mg_sb_fini(&sql);
	return code;
}

int mg_participant_touch(struct mg_duck_conn *conn, const uint32_t *shards, size_t count,
                         uint64_t *at, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *text = NULL;
	mg_sb_add(&sql, "SELECT string_agg(applied, ' ' ORDER BY n) FROM (");
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(&sql, "%sSELECT %zu AS n, applied_index::VARCHAR AS applied FROM s%u._mg.meta",
		           i ? " UNION ALL " : "", i, shards[i]);
	}
	mg_sb_add(&sql, ") AS touched");
	int code = count ? mg_duck_text(conn, mg_sb_text(&sql), &text, err) : 0;
	const char *next = text ? text : "";
	for (size_t i = 0; !code && i < count; i++) {
		char *end = NULL;
		at[i] = strtoull(next, &end, 10);
		code = end == next ? mg_error_set(err, MG_E_CORRUPT,
		                                  "the file of shard %u does not say at which index it is",
		                                  shards[i])
		                   : 0;
		next = end;
	}
	mg_free(text);
	mg_sb_fini(&sql);
	return code;
}

static bool is_cancelled(struct mg_participant *part)
{
	return atomic_load(&part->cancelled);
}

struct cutting {
	struct mg_participant *part;
	const struct mg_exec_open *open;
};

static bool is_stopped(void *arg)
{
	const struct cutting *cutting = arg;
	const struct mg_exec_open *open = cutting->open;
	return is_cancelled(cutting->part) ||
	       (open->cut_stopped && open->cut_stopped(open->cut_stopped_arg));
}

/* One snapshot of each database, all of one cut: DuckDB takes one when a transaction first touches
 * a database, which the views do.  Text has no views of ours and is bound later. */
static int create_views_of_one_cut(struct mg_participant *part, const struct mg_exec_open *open,
                                   struct mg_error *err)
{
	struct mg_cut cut = { .shards = open->cut_shards,
		                  .count = open->cut_count,
		                  .patient = open->cut_patient };
	struct cutting cutting = { part, open };
	int code = mg_duck_exec(part->conn, "BEGIN", err);
	if (!code && open->cuts) {
		code = mg_cuts_begin(open->cuts, &cut, open->cut_wait_ms, is_stopped, &cutting,
		                     &part->waited_ms, err);
	}
	if (code) {
		return code;
	}
	if (open->cut_at) {
		code = mg_participant_touch(part->conn, open->cut_shards, open->cut_count, open->cut_at,
		                            err);
	} else {
		code = create_views(part->conn, open->tables, open->table_count, err);
		code = code ? code : touch(part->conn, open, err);
	}
	if (open->cuts) {
		mg_cuts_end(open->cuts);
	}
	return code;
}

int mg_participant_share(struct mg_participant *part, const struct mg_exec_open *open,
                         struct mg_error *err)
{
	memcpy(part->owner, open->owner, sizeof part->owner);
	part->node_count = open->node_count;
	part->lz4 = open->lz4;
	int code = create_views(part->conn, open->tables, open->table_count, err);
	if (!code && open->profile) {
		code = mg_duck_profile(part->conn, err);
		part->profile = true;
	}
	return code;
}

/* The shards' files are to be replaced: what runs ends with an error. */
static void interrupt(void *arg)
{
	mg_participant_cancel(arg);
}

int mg_participant_open(struct mg_participant **out, const struct mg_exec_open *open,
                        struct mg_error *err)
{
	struct mg_participant *part = mg_alloc0(sizeof *part);
	pthread_mutex_init(&part->lock, NULL);
	memcpy(part->owner, open->owner, sizeof part->owner);
	part->node_index = open->node_index;
	part->node_count = open->node_count;
	part->budget = open->budget;
	part->lz4 = open->lz4;
	part->send = open->send;
	part->arg = open->arg;
	part->context = (struct mg_duck_context){
		.node_index = open->node_index,
		.owner = part->owner,
		.find_spool = find_sealed,
		.arg = part,
	};
	part->conn = open->conn;
	part->borrowed = open->conn != NULL;
	part->gate = part->borrowed ? NULL : open->gate;
	int code = part->borrowed ? 0 : mg_duck_connect(open->duck, &part->conn, err);
	code = code || part->borrowed ? code : mg_duck_count_progress(part->conn, err);
	code = code ? code : mg_gate_enter(part->gate, &part->pass, interrupt, part, err);
	if (code) {
		goto out;
	}
	mg_duck_set_context(part->conn, &part->context);
	mg_duck_set_stop(part->conn, &part->cancelled);
	if (open->timezone && open->timezone[0]) {
		struct mg_sb sql = { 0 };
		mg_sb_add(&sql, "SET SESSION TimeZone = ");
		mg_sb_add_literal(&sql, open->timezone, strlen(open->timezone));
		code = mg_duck_exec(part->conn, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
	}
	if (!code) {
		bool own_cut = (open->cuts || open->cut_at) && !part->borrowed;
		code = own_cut ? create_views_of_one_cut(part, open, err)
		               : create_views(part->conn, open->tables, open->table_count, err);
	}
	if (!code && open->profile && !open->cut_at) {
		code = mg_duck_profile(part->conn, err);
		part->profile = true;
	}
out:
	if (code) {
		mg_participant_close(part);
		return code;
	}
	*out = part;
	return 0;
}

int mg_participant_show(struct mg_participant *part, const struct mg_exec_table *tables,
                        size_t table_count, struct mg_error *err)
{
	return create_views(part->conn, tables, table_count, err);
}

void mg_participant_close(struct mg_participant *part)
{
	if (!part) {
		return;
	}
	mg_gate_mute(part->gate, &part->pass);
	mg_participant_give_back(part);
	if (part->conn) {
		mg_duck_interrupt(part->conn);
		mg_duck_disconnect(part->conn);
	}
	mg_gate_leave(part->gate, &part->pass);
	for (size_t i = 0; i < part->stage_count; i++) {
		mg_spool_unref(part->stages[i].spool);
	}
	mg_free(part->stages);
	pthread_mutex_destroy(&part->lock);
	mg_free(part);
}

void mg_participant_give_back(struct mg_participant *part)
{
	pthread_mutex_lock(&part->lock);
	if (part->borrowed && part->conn) {
		mg_duck_set_context(part->conn, NULL);
		mg_duck_set_stop(part->conn, NULL);
		part->conn = NULL;
	}
	pthread_mutex_unlock(&part->lock);
}

void mg_participant_cancel(struct mg_participant *part)
{
	atomic_store(&part->cancelled, true);
	pthread_mutex_lock(&part->lock);
	if (part->conn) {
		mg_duck_interrupt(part->conn);
	}
	pthread_mutex_unlock(&part->lock);
}

double mg_participant_progress(struct mg_participant *part)
{
	pthread_mutex_lock(&part->lock);
	double done = part->conn ? mg_duck_progress(part->conn) : -1;
	pthread_mutex_unlock(&part->lock);
	return done;
}

uint64_t mg_participant_waited_ms(const struct mg_participant *part)
{
	return part->waited_ms;
}

struct mg_duck_conn *mg_participant_conn(struct mg_participant *part)
{
	return part->conn;
}

/* ---- running a stage ---- */

/* Where the batches of the running stage go: the encoders are made with the first schema. */
struct shipment {
	struct mg_participant *part;
	uint32_t stage;
	enum mg_ship ship;
	struct mg_spool *own;
	struct mg_arrow_encoder *near_encoder; /* for our own spool */
	struct mg_arrow_encoder *far_encoder;  /* for the wire; the same one without compression */
	struct mg_exec_stats *stats;
	/* With copy_few: the schema and the rows that stay, as long as they are few. */
	bool copy;
	struct mg_buf *schema;
	struct {
		struct mg_buf *batch;
		uint64_t rows;
	} few[FEW_BATCHES];
	size_t few_count, few_bytes;
};

static bool goes_elsewhere(const struct shipment *shipment)
{
	const struct mg_participant *part = shipment->part;
	return part->node_count > 1 &&
	       (shipment->ship == MG_SHIP_BROADCAST || shipment->ship == MG_SHIP_HASH ||
	        (shipment->ship == MG_SHIP_GATHER && part->node_index != 0));
}

static bool stays_here(const struct shipment *shipment)
{
	return shipment->ship != MG_SHIP_GATHER || shipment->part->node_index == 0;
}

/* Targets of rows that leave by GATHER or BROADCAST. */
static uint32_t far_target(const struct shipment *shipment)
{
	return shipment->ship == MG_SHIP_GATHER ? 0 : MG_EXEC_EVERYBODY;
}

/* What does not fit into a frame cannot travel; where the rows lie together they need not. */
static int check_frame(const struct mg_buf *buf, const char *what, struct mg_error *err)
{
	return buf->size <= MG_FRAME_PAYLOAD_MAX
	           ? 0
	           : mg_error_set(err, MG_E_UNSUPPORTED,
	                          "%s of %zu bytes is larger than a frame between nodes, %u MB", what,
	                          buf->size, MG_CHANNEL_MESSAGE_MAX >> 20);
}

static void remember_few(struct shipment *shipment, struct mg_buf *batch, uint64_t rows)
{
	shipment->few_bytes += batch->size;
	if (shipment->few_count == FEW_BATCHES || shipment->few_bytes > FEW_BYTES) {
		shipment->copy = false;
		return;
	}
	shipment->few[shipment->few_count].rows = rows;
	shipment->few[shipment->few_count++].batch = mg_buf_ref(batch);
}

/* The schema travels with rows only: the coordinator has its own, and must find them equal. */
static int send_few(struct shipment *shipment, struct mg_error *err)
{
	struct mg_participant *part = shipment->part;
	bool own = part->node_index == 0;
	uint32_t stage = shipment->stage + MG_STAGE_COPY;
	int code = 0;
	if (own) {
		code = mg_participant_accept(part, stage, true, shipment->schema, 0, err);
	} else if (shipment->few_count) {
		code = part->send(part->arg, stage, 0, true, shipment->schema, 0, err);
	}
	for (size_t i = 0; !code && i < shipment->few_count; i++) {
		struct mg_buf *batch = shipment->few[i].batch;
		uint64_t rows = shipment->few[i].rows;
		code = own ? mg_participant_accept(part, stage, false, batch, rows, err)
		           : part->send(part->arg, stage, 0, false, batch, rows, err);
		shipment->stats->rows_sent += own ? 0 : rows;
		shipment->stats->bytes_sent += own ? 0 : batch->size;
	}
	shipment->stats->copied = !code;
	return code;
}

static int ship_schema(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct shipment *shipment = arg;
	struct mg_participant *part = shipment->part;
	struct mg_buf *message = NULL;
	int code = mg_arrow_encoder_new(&shipment->near_encoder, schema, false, err);
	if (!code && goes_elsewhere(shipment) && part->lz4) {
		code = mg_arrow_encoder_new(&shipment->far_encoder, schema, true, err);
	}
	if (!code) {
		code = mg_arrow_encode_schema(shipment->near_encoder, &message, err);
	}
	/* Every reader gets the schema, even one that gets no rows: an empty exchange has columns too.
	 */
	if (!code && stays_here(shipment)) {
		code = mg_spool_set_schema(shipment->own, message, err);
	}
	if (!code && shipment->copy) {
		shipment->schema = mg_buf_ref(message);
	}
	if (!code && goes_elsewhere(shipment)) {
		uint32_t target = far_target(shipment);
		code = check_frame(message, "a list of columns", err);
		code = code ? code : part->send(part->arg, shipment->stage, target, true, message, 0, err);
	}
	mg_buf_unref(message);
	return code;
}

static int send_far(struct shipment *shipment, uint32_t target, struct mg_buf *buf, uint64_t rows,
                    struct mg_error *err)
{
	struct mg_participant *part = shipment->part;
	int code = check_frame(buf, "a row", err);
	if (code) {
		return code;
	}
	uint64_t copies = target == MG_EXEC_EVERYBODY ? part->node_count - 1 : 1;
	shipment->stats->rows_sent += rows * copies;
	shipment->stats->bytes_sent += buf->size * copies;
	return part->send(part->arg, shipment->stage, target, false, buf, rows, err);
}

static int ship_batch(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct shipment *shipment = arg;
	struct mg_participant *part = shipment->part;
	struct mg_buf *near_buf = NULL, *far_buf = NULL;
	uint64_t rows = (uint64_t)batch->length, raw = 0;
	if (is_cancelled(part)) {
		return mg_error_set(err, MG_E_CANCELLED, "cancelled");
	}
	bool hashed = shipment->ship == MG_SHIP_HASH;
	bool here = hashed ? target == part->node_index : stays_here(shipment);
	bool away = hashed ? target != part->node_index : goes_elsewhere(shipment);
	int code = 0;
	if (here || !shipment->far_encoder) {
		code = mg_arrow_encode_batch(shipment->near_encoder, batch, &near_buf, &raw, err);
	}
	if (!code && away && shipment->far_encoder) {
		code = mg_arrow_encode_batch(shipment->far_encoder, batch, &far_buf, &raw, err);
	}
	shipment->stats->rows += rows;
	shipment->stats->bytes += raw;
	if (!code && here) {
		code = mg_spool_put(shipment->own, near_buf, rows, err);
		if (shipment->copy) {
			remember_few(shipment, near_buf, rows);
		}
	}
	if (!code && away) {
		uint32_t to = hashed ? target : far_target(shipment);
		code = send_far(shipment, to, far_buf ? far_buf : near_buf, rows, err);
	}
	mg_buf_unref(near_buf);
	mg_buf_unref(far_buf);
	return code;
}

int mg_participant_run(struct mg_participant *part, const struct mg_exec_order *order,
                       struct mg_exec_stats *stats, struct mg_error *err)
{
	mg_assert(order->ship != MG_SHIP_RESULT);
	*stats = (struct mg_exec_stats){ 0 };
	if (is_cancelled(part)) {
		return mg_error_set(err, MG_E_CANCELLED, "cancelled");
	}
	uint64_t start = mg_clock_us();
	struct shipment shipment = {
		.part = part,
		.stage = order->stage,
		.ship = order->ship,
		.stats = stats,
		.own = spool_take(part, order->stage),
		.copy = order->copy_few && order->ship == MG_SHIP_KEEP,
	};
	struct mg_duck_sink sink = { .begin = ship_schema, .put = ship_batch, .arg = &shipment };
	bool hashed = order->ship == MG_SHIP_HASH;
	int code = mg_duck_scatter(part->conn, order->sql, hashed ? part->owner : NULL,
	                           hashed ? part->node_count : 1, &sink, err);
	if (!code && shipment.copy && shipment.schema) {
		code = send_few(&shipment, err);
	}
	for (size_t i = 0; i < shipment.few_count; i++) {
		mg_buf_unref(shipment.few[i].batch);
	}
	mg_buf_unref(shipment.schema);
	if (shipment.far_encoder) {
		mg_arrow_encoder_free(shipment.far_encoder);
	}
	if (shipment.near_encoder) {
		mg_arrow_encoder_free(shipment.near_encoder);
	}
	mg_spool_unref(shipment.own);
	stats->micros = mg_clock_us() - start;
	return code;
}

int mg_participant_accept(struct mg_participant *part, uint32_t stage, bool schema,
                          struct mg_buf *buf, uint64_t rows, struct mg_error *err)
{
	struct mg_spool *spool = spool_take(part, stage);
	int code = schema ? mg_spool_set_schema(spool, buf, err) : mg_spool_put(spool, buf, rows, err);
	mg_spool_unref(spool);
	return code;
}

void mg_participant_seal(struct mg_participant *part, uint32_t stage)
{
	struct mg_spool *spool = spool_take(part, stage);
	mg_spool_seal(spool);
	pthread_mutex_lock(&part->lock);
	find_locked(part, stage)->sealed = true;
	pthread_mutex_unlock(&part->lock);
	mg_spool_unref(spool);
}

struct mg_buf *mg_participant_schema(struct mg_participant *part, uint32_t stage)
{
	struct mg_spool *spool = spool_take(part, stage);
	struct mg_buf *schema = mg_spool_schema(spool);
	if (schema) {
		mg_buf_ref(schema);
	}
	mg_spool_unref(spool);
	return schema;
}

void mg_participant_reads(struct mg_participant *part, struct mg_exec_reads *reads)
{
	mg_exec_reads_clear(reads);
	if (part->profile) {
		mg_duck_scans(part->conn, mg_exec_reads_add_scan, reads);
	}
}
