/*
 * sample_tpcds.c - TPC-DS into the open shard files, in the schema tpcds.
 *
 * Partitioning: every fact table, and item, by item_sk.  In the 99 queries sales meet their returns
 * on (ticket or order number, item), and the channels meet each other, inventory and item on the
 * item; only the self-joins of catalog_sales and web_sales on the order number (16, 94, 95) would
 * rather have the number.  Dimensions that grow with the scale lie by their own key; those of a
 * fixed or slowly growing size are reference tables (the largest, customer_demographics, always
 * has 1,920,800 rows, 8 MB).
 *
 * Idea: DuckDB's dsdgen makes all tables at once, so it gets a database file of its own, in which
 * full row groups leave memory; from there the rows go by slot into the shard files, PIECE_ROWS at
 * a time.  The file is called shards/tpcds.new, so the next run removes it after a kill.
 *
 * owner: the caller's thread.  A stop is seen between two pieces, not while dsdgen runs.
 */
#include "server/sample.h"

#include "base/str.h"
#include "codec/slot.h"
#include "os/file.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PIECE_ROWS 250000 /* what the appenders of all files buffer at most */

struct table {
	const char *name, *key; /* key NULL: reference table */
	const char *primary_key[2];
};

/* Small ones first, so that errors come early. */
static const struct table tables[] = {
	{ "income_band", NULL, { "ib_income_band_sk", NULL } },
	{ "ship_mode", NULL, { "sm_ship_mode_sk", NULL } },
	{ "reason", NULL, { "r_reason_sk", NULL } },
	{ "warehouse", NULL, { "w_warehouse_sk", NULL } },
	{ "call_center", NULL, { "cc_call_center_sk", NULL } },
	{ "web_site", NULL, { "web_site_sk", NULL } },
	{ "web_page", NULL, { "wp_web_page_sk", NULL } },
	{ "store", NULL, { "s_store_sk", NULL } },
	{ "promotion", NULL, { "p_promo_sk", NULL } },
	{ "household_demographics", NULL, { "hd_demo_sk", NULL } },
	{ "catalog_page", NULL, { "cp_catalog_page_sk", NULL } },
	{ "date_dim", NULL, { "d_date_sk", NULL } },
	{ "time_dim", NULL, { "t_time_sk", NULL } },
	{ "customer_demographics", NULL, { "cd_demo_sk", NULL } },
	{ "item", "i_item_sk", { "i_item_sk", NULL } },
	{ "customer_address", "ca_address_sk", { "ca_address_sk", NULL } },
	{ "customer", "c_customer_sk", { "c_customer_sk", NULL } },
	{ "inventory", "inv_item_sk", { NULL, NULL } },
	{ "store_sales", "ss_item_sk", { "ss_item_sk", "ss_ticket_number" } },
	{ "store_returns", "sr_item_sk", { "sr_item_sk", "sr_ticket_number" } },
	{ "catalog_sales", "cs_item_sk", { "cs_item_sk", "cs_order_number" } },
	{ "catalog_returns", "cr_item_sk", { "cr_item_sk", "cr_order_number" } },
	{ "web_sales", "ws_item_sk", { "ws_item_sk", "ws_order_number" } },
	{ "web_returns", "wr_item_sk", { "wr_item_sk", "wr_order_number" } },
};
#define TABLES (sizeof tables / sizeof *tables)
static_assert(TABLES == MG_TPCDS_TABLES, "sample.h says how many tables there are");

struct fill {
	const struct mg_sample_options *options;
	struct mg_shard_file **files; /* [shard_count + 1]; NULL: not wanted */
	struct mg_duck_conn *conn;
	struct mg_duck_appender **appenders; /* of the table at hand; by shard - 1, or [0] */
	uint16_t *owner;                     /* [MG_SLOTS]: shard - 1 */
};

/* ---- generating ---- */

static char *scratch_path(const struct mg_sample_options *options)
{
	return mg_path_join(options->data_dir, "shards/tpcds.new");
}

static int generate(struct fill *fill, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *path = scratch_path(fill->options);
	int rc = mg_file_remove(path, err);
	mg_sb_add(&sql, "ATTACH ");
	mg_sb_add_literal(&sql, path, strlen(path));
	mg_sb_addf(&sql,
	           " AS gds (RECOVERY_MODE no_wal_writes); CALL dsdgen(sf = %.17g, catalog = 'gds')",
	           fill->options->tpcds_scale_factor);
	if (rc == 0) {
		rc = mg_duck_exec(fill->conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	mg_free(path);
	return rc;
}

/* ---- storing a table ---- */

static uint32_t target_count(const struct fill *fill, const struct table *table)
{
	return table->key ? fill->options->meta.shard_count : 1;
}

static int appenders_open(struct fill *fill, const struct table *table, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	const char **names = NULL;
	const char **types = NULL;
	size_t count = 0;
	char sql[80];
	snprintf(sql, sizeof sql, "FROM gds.main.%s", table->name);
	int rc = mg_duck_describe(fill->conn, arena, sql, &count, &names, &types, err);
	for (uint32_t i = 0; rc == 0 && i < target_count(fill, table); i++) {
		struct mg_shard_file *file = fill->files[table->key ? i + 1 : 0];
		if (!file) {
			continue;
		}
		rc = mg_shard_file_table(file, "tpcds", table->name, names, types, count, err);
		if (rc == 0) {
			rc = mg_duck_appender_open(&fill->appenders[i], file->conn, file->database, "tpcds",
			                           table->name, &file->next_rid, err);
		}
	}
	mg_arena_free(arena);
	return rc;
}

static int appenders_close(struct fill *fill, const struct table *table, int rc,
                           struct mg_error *err)
{
	for (uint32_t i = 0; i < target_count(fill, table); i++) {
		if (rc == 0) {
			rc = mg_duck_appender_close(fill->appenders[i], err);
		} else {
			mg_duck_appender_drop(fill->appenders[i]);
		}
		fill->appenders[i] = NULL;
	}
	return rc;
}

static int piece_store(struct fill *fill, const struct table *table, int64_t from,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "SELECT *");
	if (table->key) {
		mg_sb_addf(&sql, ", mg_slot(%s)", table->key);
	}
	mg_sb_addf(&sql, " FROM gds.main.%s WHERE rowid BETWEEN %lld AND %lld", table->name,
	           (long long)from, (long long)from + PIECE_ROWS - 1);
	int rc = mg_duck_route(fill->conn, mg_sb_text(&sql), table->key ? fill->owner : NULL,
	                       fill->appenders, target_count(fill, table), err);
	for (uint32_t i = 0; rc == 0 && i < target_count(fill, table); i++) {
		if (fill->appenders[i]) {
			rc = mg_duck_appender_flush(fill->appenders[i], err);
		}
	}
	mg_sb_fini(&sql);
	return rc;
}

static int table_store(struct fill *fill, const struct table *table, struct mg_error *err)
{
	const struct mg_sample_options *options = fill->options;
	char sql[80];
	int64_t rows = 0;
	if (!table->key && !fill->files[0]) {
		return 0;
	}
	snprintf(sql, sizeof sql, "SELECT count(*) FROM gds.main.%s", table->name);
	int rc = mg_duck_int(fill->conn, sql, &rows, err);
	if (rc == 0) {
		rc = appenders_open(fill, table, err);
	}
	for (int64_t from = 0; rc == 0 && from < rows; from += PIECE_ROWS) {
		if (options->stop && atomic_load(options->stop)) {
			rc = mg_error_set(err, MG_E_CANCELLED, "bootstrap was stopped");
		} else {
			rc = piece_store(fill, table, from, err);
		}
	}
	rc = appenders_close(fill, table, rc, err);
	return rc == 0 ? 0 : mg_error_wrap(err, "while making \"tpcds.%s\"", table->name);
}

static void report(const struct mg_sample_options *options, size_t done)
{
	if (options->progress) {
		options->progress(options->arg, "tpcds", (double)done / (TABLES + 1));
	}
}

int mg_tpcds_fill(const struct mg_sample_options *options, struct mg_shard_file **files,
                  struct mg_error *err)
{
	uint32_t shards = options->meta.shard_count;
	struct fill fill = {
		.options = options,
		.files = files,
		.appenders = mg_alloc0(shards * sizeof *fill.appenders),
		.owner = mg_alloc0(MG_SLOTS * sizeof *fill.owner),
	};
	struct mg_error ignored;
	for (uint32_t shard = 1; shard <= shards; shard++) {
		for (uint32_t slot = options->shards[shard].slot_first;
		     slot <= options->shards[shard].slot_last; slot++) {
			fill.owner[slot] = (uint16_t)(shard - 1);
		}
	}
	report(options, 0);
	int rc = mg_duck_connect(options->duck, &fill.conn, err);
	if (rc == 0) {
		rc = generate(&fill, err);
	}
	for (size_t t = 0; rc == 0 && t < TABLES; t++) {
		report(options, t + 1);
		rc = table_store(&fill, &tables[t], err);
	}
	if (fill.conn) {
		(void)mg_duck_exec(fill.conn, "DETACH gds", &ignored);
		mg_duck_disconnect(fill.conn);
	}
	char *path = scratch_path(options);
	(void)mg_file_remove(path, &ignored);
	mg_free(path);
	mg_free(fill.appenders);
	mg_free(fill.owner);
	return rc;
}

/* ---- what the catalog needs to know ---- */

int mg_tpcds_tables(struct mg_duck_conn *conn, struct mg_arena *arena, struct mg_table *list,
                    struct mg_error *err)
{
	int rc = mg_duck_exec(
		conn, "ATTACH IF NOT EXISTS ':memory:' AS shape_ds; "
		      "CALL dsdgen(sf = 0, catalog = 'shape_ds', overwrite = true)", err);
	for (size_t t = 0; rc == 0 && t < TABLES; t++) {
		const struct table *from = &tables[t];
		const char **names = NULL;
		const char **types = NULL;
		size_t count = 0;
		rc = mg_duck_describe(conn, arena,
		                      mg_arena_format(arena, "FROM shape_ds.main.%s", from->name), &count,
		                      &names, &types, err);
		list[t] = (struct mg_table){
			.schema = "tpcds",
			.name = from->name,
			.version = 1,
			.column_count = count,
			.columns = mg_arena_new_array(arena, struct mg_column, count + 1),
			.keys = mg_arena_new_array(arena, const char *, 1),
			.key_count = from->key ? 1 : 0,
			.primary_key = mg_arena_new_array(arena, const char *, 2),
		};
		for (size_t i = 0; rc == 0 && i < count; i++) {
			list[t].columns[i] = (struct mg_column){ .name = names[i], .type = types[i] };
		}
		list[t].keys[0] = from->key;
		for (size_t i = 0; i < 2 && from->primary_key[i]; i++) {
			list[t].primary_key[list[t].primary_key_count++] = from->primary_key[i];
		}
	}
	return rc;
}
