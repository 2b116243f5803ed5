/*
 * duck_append.c - bulk load: chunks of a statement, split by slot, into appenders.
 *
 * Rows stay DuckDB's vectors all the way: per source chunk and target one copy of the selected rows
 * into a chunk with _mg_rid and _mg_slot in front, which the appender takes over.  Row order within
 * a target is that of the statement.
 *
 * owner: the thread that calls.
 */
#include "store/duck_append.h"

#include "codec/slot.h"
#include "store/duck_int.h"

#include <string.h>

#define HIDDEN_COLUMNS 2

struct mg_duck_appender {
	struct mg_duck_conn *conn;
	duckdb_appender appender;
	uint64_t *next_rid;
	uint64_t rows;
	uint64_t buffered;
	char *name; /* for messages */
};

/* ---- appenders ---- */

static int appender_failed(struct mg_duck_appender *appender, struct mg_error *err)
{
	int rc = mg_duck__error_data(err, duckdb_appender_error_data(appender->appender));
	if (rc == 0) {
		return mg_error_set(err, MG_E_INTERNAL, "cannot write table \"%s\"", appender->name);
	}
	mg_error_wrap(err, "while writing table \"%s\"", appender->name);
	return rc;
}

int mg_duck_appender_open(struct mg_duck_appender **out, struct mg_duck_conn *conn,
                          const char *database, const char *schema, const char *table,
                          uint64_t *next_rid, struct mg_error *err)
{
	struct mg_duck_appender *appender = mg_alloc0(sizeof *appender);
	appender->conn = conn;
	appender->next_rid = next_rid;
	appender->name = mg_format("%s.%s.%s", database, schema, table);
	*out = NULL;
	if (duckdb_appender_create_ext(conn->con, database, schema, table, &appender->appender) !=
	    DuckDBSuccess) {
		int rc = appender_failed(appender, err);
		mg_duck_appender_drop(appender);
		return rc;
	}
	*out = appender;
	return 0;
}

int mg_duck_appender_flush(struct mg_duck_appender *appender, struct mg_error *err)
{
	if (appender->buffered == 0) {
		return 0;
	}
	appender->buffered = 0;
	if (duckdb_appender_flush(appender->appender) != DuckDBSuccess) {
		return appender_failed(appender, err);
	}
	return 0;
}

uint64_t mg_duck_appender_rows(const struct mg_duck_appender *appender)
{
	return appender->rows;
}

uint64_t mg_duck_appender_buffered(const struct mg_duck_appender *appender)
{
	return appender->buffered;
}

void mg_duck_appender_drop(struct mg_duck_appender *appender)
{
	if (appender) {
		if (appender->appender) {
			duckdb_appender_clear(appender->appender);
			duckdb_appender_destroy(&appender->appender);
		}
		mg_free(appender->name);
		mg_free(appender);
	}
}

int mg_duck__appender_put(struct mg_duck_appender *appender, duckdb_data_chunk chunk,
                          const int64_t *rids, idx_t rows, struct mg_error *err)
{
	int64_t *to = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	for (idx_t i = 0; i < rows; i++) {
		to[i] = rids ? rids[i] : (int64_t)(*appender->next_rid)++;
	}
	duckdb_data_chunk_set_size(chunk, rows);
	if (duckdb_append_data_chunk(appender->appender, chunk) != DuckDBSuccess) {
		return appender_failed(appender, err);
	}
	appender->rows += rows;
	appender->buffered += rows;
	return 0;
}

int mg_duck_appender_close(struct mg_duck_appender *appender, struct mg_error *err)
{
	if (!appender) {
		return 0;
	}
	int rc = mg_duck_appender_flush(appender, err);
	mg_duck_appender_drop(appender);
	return rc;
}

/* ---- routing ---- */

struct route {
	const uint16_t *owner;
	struct mg_duck_appender *const *appenders;
	uint32_t count;
	size_t columns;                      /* of the table, without hidden ones */
	duckdb_data_chunk out;               /* hidden columns, then the table's */
	duckdb_selection_vector *selections; /* per target, made when first needed */
	uint32_t *selected;
	uint32_t *touched; /* targets with rows in the chunk at hand */
	uint32_t touched_count;
};

static void route_close(struct route *route)
{
	for (uint32_t i = 0; route->selections && i < route->count; i++) {
		if (route->selections[i]) {
			duckdb_destroy_selection_vector(route->selections[i]);
		}
	}
	duckdb_destroy_data_chunk(&route->out);
	mg_free(route->selections);
	mg_free(route->selected);
	mg_free(route->touched);
}

static int route_open(struct route *route, struct mg_duck_result *res, struct mg_error *err)
{
	route->columns = res->count - (route->owner ? 1 : 0);
	if (route->owner && (res->count < 2 ||
	                     duckdb_get_type_id(res->types[res->count - 1]) != DUCKDB_TYPE_USMALLINT)) {
		return mg_error_set(err, MG_E_INTERNAL,
		                    "the last column of rows to be stored must be their slot");
	}
	duckdb_logical_type *types = mg_alloc((route->columns + HIDDEN_COLUMNS) * sizeof *types);
	types[0] = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	types[1] = duckdb_create_logical_type(DUCKDB_TYPE_USMALLINT);
	memcpy(types + HIDDEN_COLUMNS, res->types, route->columns * sizeof *types);
	route->out = duckdb_create_data_chunk(types, route->columns + HIDDEN_COLUMNS);
	duckdb_destroy_logical_type(&types[0]);
	duckdb_destroy_logical_type(&types[1]);
	mg_free(types);
	route->selections = mg_alloc0(route->count * sizeof *route->selections);
	route->selected = mg_alloc0(route->count * sizeof *route->selected);
	route->touched = mg_alloc0(route->count * sizeof *route->touched);
	return 0;
}

static void select_row(struct route *route, uint32_t target, sel_t row)
{
	if (!route->selections[target]) {
		route->selections[target] = duckdb_create_selection_vector(MG_DUCK_CHUNK_ROWS);
	}
	if (route->selected[target] == 0) {
		route->touched[route->touched_count++] = target;
	}
	duckdb_selection_vector_get_data_ptr(route->selections[target])[route->selected[target]++] =
		row;
}

/* Which rows of the chunk go where. */
static int choose(struct route *route, duckdb_data_chunk chunk, const uint16_t **slots,
                  struct mg_error *err)
{
	idx_t rows = duckdb_data_chunk_get_size(chunk);
	route->touched_count = 0;
	memset(route->selected, 0, route->count * sizeof *route->selected);
	*slots = NULL;
	if (!route->owner) {
		for (sel_t row = 0; row < rows; row++) {
			select_row(route, 0, row);
		}
		return 0;
	}
	*slots = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, route->columns));
	for (sel_t row = 0; row < rows; row++) {
		uint32_t target = (*slots)[row] < MG_SLOTS ? route->owner[(*slots)[row]] : UINT32_MAX;
		if (target >= route->count) {
			return mg_error_set(err, MG_E_INTERNAL, "a row to be stored has no shard");
		}
		if (route->appenders[target]) {
			select_row(route, target, row);
		}
	}
	return 0;
}

static int append(struct route *route, uint32_t target, duckdb_data_chunk chunk,
                  const uint16_t *slots, struct mg_error *err)
{
	struct mg_duck_appender *appender = route->appenders[target];
	uint32_t rows = route->selected[target];
	const sel_t *sel = duckdb_selection_vector_get_data_ptr(route->selections[target]);
	duckdb_data_chunk_reset(route->out);
	uint16_t *out_slots = duckdb_vector_get_data(duckdb_data_chunk_get_vector(route->out, 1));
	for (uint32_t i = 0; i < rows; i++) {
		out_slots[i] = slots ? slots[sel[i]] : 0;
	}
	for (size_t c = 0; c < route->columns; c++) {
		duckdb_vector_copy_sel(duckdb_data_chunk_get_vector(chunk, c),
		                       duckdb_data_chunk_get_vector(route->out, c + HIDDEN_COLUMNS),
		                       route->selections[target], rows, 0, 0);
	}
	return mg_duck__appender_put(appender, route->out, NULL, rows, err);
}

int mg_duck_route(struct mg_duck_conn *conn, const char *sql, const uint16_t *owner,
                  struct mg_duck_appender *const *appenders, uint32_t count, struct mg_error *err)
{
	struct route route = { .owner = owner, .appenders = appenders, .count = count };
	struct mg_duck_result *res = NULL;
	duckdb_data_chunk chunk = NULL;
	const uint16_t *slots = NULL;
	int rc = mg_duck_query(conn, sql, &res, err);
	if (rc == 0) {
		rc = route_open(&route, res, err);
	}
	while (rc == 0) {
		rc = mg_duck__fetch(res, &chunk, err);
		if (rc != 0 || !chunk) {
			break;
		}
		rc = choose(&route, chunk, &slots, err);
		for (uint32_t i = 0; rc == 0 && i < route.touched_count; i++) {
			rc = append(&route, route.touched[i], chunk, slots, err);
		}
		duckdb_destroy_data_chunk(&chunk);
	}
	route_close(&route);
	mg_duck_result_free(res);
	return rc;
}
