/*
 * duck.c - instances and connections of DuckDB, and statements whose rows nobody streams.
 *
 * Idea: everything DuckDB could decide by itself is decided here, at open: memory, threads, spill
 * directory, no loading of extensions, and no checkpoint but ours (wal_autocheckpoint also fires
 * for files without a log).  Each connection stands in a list of its instance, so that our
 * functions, which run on DuckDB's threads, find their query's context by connection id.
 *
 * owner: see duck.h.  Lock: mg_duck.lock guards the list, contexts and failures; nothing else is
 * done under it.
 */
#include "store/duck_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define AGGREGATE_BYTES (UINT64_C(4) << 30) /* a quarter of it, where nothing is set */

const char *mg_duck_version(void)
{
	return duckdb_library_version();
}

/* ---- open and close ---- */

static int config_set(duckdb_config config, const char *name, const char *value,
                      struct mg_error *err)
{
	if (duckdb_set_config(config, name, value) != DuckDBSuccess) {
		return mg_error_set(err, MG_E_INTERNAL, "the engine refuses the setting \"%s\" = \"%s\"",
		                    name, value);
	}
	return 0;
}

static int config_bytes(duckdb_config config, const char *name, uint64_t bytes,
                        struct mg_error *err)
{
	char text[32];
	snprintf(text, sizeof text, "%llu B", (unsigned long long)bytes);
	return config_set(config, name, text, err);
}

static int config_fill(duckdb_config config, const struct mg_duck_options *options,
                       struct mg_error *err)
{
	static const char *const fixed[][2] = {
		{ "wal_autocheckpoint", "1TB" },
		{ "autoinstall_known_extensions", "false" },
		{ "autoload_known_extensions", "false" },
		{ "allow_community_extensions", "false" },
	};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof fixed / sizeof *fixed; i++) {
		rc = config_set(config, fixed[i][0], fixed[i][1], err);
	}
	if (rc == 0 && options->lossless_arrow) {
		rc = config_set(config, "arrow_lossless_conversion", "true", err);
	}
	if (rc == 0 && options->threads > 0) {
		char text[16];
		snprintf(text, sizeof text, "%u", options->threads);
		rc = config_set(config, "threads", text, err);
	}
	if (rc == 0 && options->memory_bytes > 0) {
		rc = config_bytes(config, "memory_limit", options->memory_bytes, err);
	}
	if (rc == 0) {
		/* The empty text turns spilling off; DuckDB's default would be ".tmp" where we stand. */
		rc =
			config_set(config, "temp_directory", options->spill_dir ? options->spill_dir : "", err);
	}
	if (rc == 0 && options->spill_dir && options->spill_bytes_max > 0) {
		rc = config_bytes(config, "max_temp_directory_size", options->spill_bytes_max, err);
	}
	return rc;
}

/* What every instance knows: the planning database binds it, nodes run it. */
static int register_all(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	int rc = mg_duck__register_functions(duck, con, err);

	rc = rc ? rc : mg_duck__register_exchange(duck, con, err);
	rc = rc ? rc : mg_duck__register_feed(duck, con, err);
	rc = rc ? rc : mg_duck__register_keys(duck, con, err);
	rc = rc ? rc : mg_duck__register_minmax(con, err);
	rc = rc ? rc : mg_duck__register_histograms(duck, con, err);
	rc = rc ? rc : mg_duck__register_histogram_sums(duck, con, err);
	return rc ? rc : mg_duck__register_sky(duck, con, err);
}

int mg_duck_open(struct mg_duck **out, const struct mg_duck_options *options, struct mg_error *err)
{
	if (strcmp(duckdb_library_version(), "v1.5.5") != 0) {
		return mg_error_set(err, MG_E_INTERNAL,
		                    "this program needs DuckDB v1.5.5 and was linked with %s",
		                    duckdb_library_version());
	}
	struct mg_duck *duck = mg_alloc0(sizeof *duck);
	duckdb_config config = NULL;
	duckdb_connection con = NULL;
	char *message = NULL;
	int rc = 0;
	pthread_mutex_init(&duck->lock, NULL);
	duck->lossless = options->lossless_arrow;
	duck->aggregate_bytes_max = (size_t)(options->memory_bytes ? options->memory_bytes
	                                                           : AGGREGATE_BYTES) /
	                            4;
	if (duckdb_create_config(&config) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_NOMEM, "cannot configure the engine");
		goto out;
	}
	rc = config_fill(config, options, err);
	if (rc != 0) {
		goto out;
	}
	if (duckdb_open_ext(options->path, &duck->db, config, &message) != DuckDBSuccess) {
		rc = mg_duck__error(err, message);
		duckdb_free(message);
		goto out;
	}
	if (duckdb_connect(duck->db, &con) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot connect to the engine");
		goto out;
	}
	rc = register_all(duck, con, err);
out:
	if (con) {
		duckdb_disconnect(&con);
	}
	duckdb_destroy_config(&config);
	if (rc != 0) {
		mg_duck_close(duck);
		duck = NULL;
	}
	*out = duck;
	return rc;
}

void mg_duck_close(struct mg_duck *duck)
{
	if (!duck) {
		return;
	}
	if (duck->db) {
		duckdb_close(&duck->db);
	}
	pthread_mutex_destroy(&duck->lock);
	mg_free(duck);
}

int mg_duck_load_tpch(struct mg_duck *duck, struct mg_error *err)
{
	char message[256] = "";
	if (mg_tpch_shim_register(duck->db, message, sizeof message) != 0) {
		return mg_error_set(err, MG_E_INTERNAL, "cannot register the TPC generators: %s", message);
	}
	return 0;
}

int mg_duck_fence(struct mg_duck *duck, const char *const *dirs, size_t count, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_sb sql = { 0 };
	int rc = mg_duck_connect(duck, &conn, err);
	if (rc != 0) {
		return rc;
	}
	mg_sb_add(&sql, "SET GLOBAL allowed_directories = [");
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_sb_add_literal(&sql, dirs[i], strlen(dirs[i]));
	}
	mg_sb_add(&sql, "]; SET GLOBAL enable_external_access = false");
	rc = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	mg_duck_disconnect(conn);
	return rc;
}

int mg_duck_set_threads(struct mg_duck *duck, unsigned threads, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int rc = mg_duck_connect(duck, &conn, err);
	if (rc == 0) {
		rc = mg_duck_execf(conn, err, "SET GLOBAL threads = %u", threads);
		mg_duck_disconnect(conn);
	}
	return rc;
}

/* ---- connections ---- */

int mg_duck_connect(struct mg_duck *duck, struct mg_duck_conn **out, struct mg_error *err)
{
	struct mg_duck_conn *conn = mg_alloc0(sizeof *conn);
	conn->duck = duck;
	*out = NULL;
	if (duckdb_connect(duck->db, &conn->con) != DuckDBSuccess) {
		mg_free(conn);
		return mg_error_set(err, MG_E_INTERNAL, "cannot connect to the engine");
	}
	duckdb_client_context context = NULL;
	duckdb_connection_get_client_context(conn->con, &context);
	conn->id = duckdb_client_context_get_connection_id(context);
	duckdb_destroy_client_context(&context);
	duckdb_connection_get_arrow_options(conn->con, &conn->arrow);

	pthread_mutex_lock(&duck->lock);
	conn->next = duck->conns;
	duck->conns = conn;
	pthread_mutex_unlock(&duck->lock);

	*out = conn;
	return 0;
}

int mg_duck_set_plain(struct mg_duck_conn *conn, bool plain, struct mg_error *err)
{
	if (!conn->duck->lossless || plain == conn->plain) {
		return 0;
	}
	if (!conn->other) {
		/* The setting is this connection's alone, and is only looked at here. */
		int code = mg_duck_exec(conn, "SET SESSION arrow_lossless_conversion = false", err);
		if (code) {
			return code;
		}
		duckdb_connection_get_arrow_options(conn->con, &conn->other);
		code = mg_duck_exec(conn, "SET SESSION arrow_lossless_conversion = true", err);
		if (code) {
			duckdb_destroy_arrow_options(&conn->other);
			return code;
		}
	}
	duckdb_arrow_options now = conn->other;
	conn->other = conn->arrow;
	conn->arrow = now;
	conn->plain = plain;
	return 0;
}

void mg_duck_disconnect(struct mg_duck_conn *conn)
{
	if (!conn) {
		return;
	}
	pthread_mutex_lock(&conn->duck->lock);
	struct mg_duck_conn **link = &conn->duck->conns;
	while (*link != conn) {
		link = &(*link)->next;
	}
	*link = conn->next;
	pthread_mutex_unlock(&conn->duck->lock);
	for (size_t i = 0; i < MG_DUCK_KEPT_MAX; i++) {
		duckdb_destroy_prepare(&conn->kept[i].statement);
		mg_free(conn->kept[i].sql);
	}
	duckdb_destroy_arrow_options(&conn->arrow);
	duckdb_destroy_arrow_options(&conn->other);
	duckdb_disconnect(&conn->con);
	mg_free(conn);
}

struct mg_duck_conn *mg_duck__find(struct mg_duck *duck, duckdb_client_context context)
{
	idx_t id = duckdb_client_context_get_connection_id(context);
	duckdb_destroy_client_context(&context);
	pthread_mutex_lock(&duck->lock);
	struct mg_duck_conn *conn = duck->conns;
	while (conn && conn->id != id) {
		conn = conn->next;
	}
	pthread_mutex_unlock(&duck->lock);
	return conn;
}

void mg_duck_set_context(struct mg_duck_conn *conn, const struct mg_duck_context *context)
{
	pthread_mutex_lock(&conn->duck->lock);
	conn->context = context;
	pthread_mutex_unlock(&conn->duck->lock);
}

void mg_duck_set_stop(struct mg_duck_conn *conn, const atomic_bool *stop)
{
	conn->stop = stop;
}

void mg_duck_interrupt(struct mg_duck_conn *conn)
{
	duckdb_interrupt(conn->con);
}

int mg_duck_set_now(struct mg_duck_conn *conn, int64_t us, struct mg_error *err)
{
	return mg_now_shim_set(conn->con, us)
	           ? 0
	           : mg_error_set(err, MG_E_INTERNAL, "no transaction is open whose time could be set");
}

/* Progress is counted only when the bar is on; it must not print. */
int mg_duck_count_progress(struct mg_duck_conn *conn, struct mg_error *err)
{
	return mg_duck_exec(
		conn, "SET enable_progress_bar_print = false; SET enable_progress_bar = true", err);
}

double mg_duck_progress(struct mg_duck_conn *conn)
{
	duckdb_query_progress_type progress = duckdb_query_progress(conn->con);
	return progress.percentage < 0 ? -1.0 : progress.percentage / 100.0;
}

/* ---- statements without a stream ---- */

static int run(struct mg_duck_conn *conn, const char *sql, duckdb_result *result,
               struct mg_error *err)
{
	if (conn->stop && atomic_load(conn->stop)) {
		return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
	}
	mg_duck__failure_clear(conn);
	if (duckdb_query(conn->con, sql, result) != DuckDBSuccess) {
		return mg_duck__failed(conn, err, duckdb_result_error(result));
	}
	return 0;
}

/* As a stream, which looks at the stop flag once the statement cannot forget an interrupt. */
static int exec_stoppable(struct mg_duck_conn *conn, const char *sql, struct mg_error *err)
{
	struct mg_duck_result *res = NULL;
	int rc = mg_duck_query(conn, sql, &res, err);
	while (rc == 0) {
		duckdb_data_chunk chunk = NULL;
		rc = mg_duck__fetch(res, &chunk, err);
		if (!chunk) {
			break;
		}
		duckdb_destroy_data_chunk(&chunk);
	}
	mg_duck_result_free(res);
	return rc;
}

int mg_duck_exec(struct mg_duck_conn *conn, const char *sql, struct mg_error *err)
{
	if (conn->stop) {
		return exec_stoppable(conn, sql, err);
	}
	duckdb_result result;
	memset(&result, 0, sizeof result);
	int rc = run(conn, sql, &result, err);
	duckdb_destroy_result(&result);
	return rc;
}

int mg_duck_execf(struct mg_duck_conn *conn, struct mg_error *err, const char *fmt, ...)
{
	struct mg_sb sql = { 0 };
	va_list ap;
	va_start(ap, fmt);
	mg_sb_addv(&sql, fmt, ap);
	va_end(ap);
	int rc = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return rc;
}

/* The first value of the first row, flat; NULL when there is none. */
static const void *first_value(duckdb_result *result, duckdb_data_chunk *chunk)
{
	*chunk = duckdb_fetch_chunk(*result);
	if (!*chunk || duckdb_data_chunk_get_size(*chunk) == 0 ||
	    duckdb_data_chunk_get_column_count(*chunk) == 0) {
		return NULL;
	}
	duckdb_vector vector = duckdb_data_chunk_get_vector(*chunk, 0);
	uint64_t *validity = duckdb_vector_get_validity(vector);
	if (validity && !duckdb_validity_row_is_valid(validity, 0)) {
		return NULL;
	}
	return duckdb_vector_get_data(vector);
}

/* A number of any width that fits; false for other types. */
static bool value_int(duckdb_type type, const void *value, int64_t *out)
{
	switch (type) {
	case DUCKDB_TYPE_BOOLEAN:
		*out = *(const bool *)value;
		return true;
	case DUCKDB_TYPE_TINYINT:
		*out = *(const int8_t *)value;
		return true;
	case DUCKDB_TYPE_SMALLINT:
		*out = *(const int16_t *)value;
		return true;
	case DUCKDB_TYPE_INTEGER:
		*out = *(const int32_t *)value;
		return true;
	case DUCKDB_TYPE_BIGINT:
		*out = *(const int64_t *)value;
		return true;
	case DUCKDB_TYPE_UTINYINT:
		*out = *(const uint8_t *)value;
		return true;
	case DUCKDB_TYPE_USMALLINT:
		*out = *(const uint16_t *)value;
		return true;
	case DUCKDB_TYPE_UINTEGER:
		*out = *(const uint32_t *)value;
		return true;
	case DUCKDB_TYPE_UBIGINT:
		*out = (int64_t) * (const uint64_t *)value;
		return *(const uint64_t *)value <= INT64_MAX;
	case DUCKDB_TYPE_HUGEINT: {
		const duckdb_hugeint *huge = value;
		*out = (int64_t)huge->lower;
		return huge->upper == (*out < 0 ? -1 : 0);
	}
	default:
		return false;
	}
}

static int first_text(duckdb_result *result, const char *sql, char **out, struct mg_error *err)
{
	duckdb_data_chunk chunk = NULL;
	int64_t number = 0;
	int rc = 0;
	const void *value = first_value(result, &chunk);
	if (value) {
		duckdb_type type = duckdb_column_type(result, 0);
		if (type == DUCKDB_TYPE_VARCHAR) {
			duckdb_string_t text = *(const duckdb_string_t *)value;
			size_t len = duckdb_string_t_length(text);
			*out = mg_try_alloc(len + 1);
			if (*out) {
				memcpy(*out, duckdb_string_t_data(&text), len);
				(*out)[len] = '\0';
			} else {
				rc = mg_error_set(err, MG_E_NOMEM, "no memory for a text of %zu bytes", len);
			}
		} else if (type == DUCKDB_TYPE_DOUBLE) {
			*out = mg_format("%.17g", *(const double *)value);
		} else if (type == DUCKDB_TYPE_BOOLEAN) {
			*out = mg_strdup(*(const bool *)value ? "true" : "false");
		} else if (value_int(type, value, &number)) {
			*out = mg_format("%lld", (long long)number);
		} else {
			rc = mg_error_set(err, MG_E_INTERNAL, "this statement must give text: %.200s", sql);
		}
	}
	duckdb_destroy_data_chunk(&chunk);
	return rc;
}

int mg_duck_text(struct mg_duck_conn *conn, const char *sql, char **out, struct mg_error *err)
{
	duckdb_result result;
	memset(&result, 0, sizeof result);
	*out = NULL;
	int rc = run(conn, sql, &result, err);
	rc = rc ? rc : first_text(&result, sql, out, err);
	duckdb_destroy_result(&result);
	return rc;
}

/* The statement, prepared now or before; it stays the connection's. */
static int prepare_once(struct mg_duck_conn *conn, const char *sql, duckdb_prepared_statement *out,
                        struct mg_error *err)
{
	for (size_t i = 0; i < MG_DUCK_KEPT_MAX; i++) {
		if (conn->kept[i].sql && strcmp(conn->kept[i].sql, sql) == 0) {
			*out = conn->kept[i].statement;
			return 0;
		}
	}
	duckdb_prepared_statement statement = NULL;
	if (duckdb_prepare(conn->con, sql, &statement) != DuckDBSuccess) {
		int rc = mg_duck__failed(conn, err, duckdb_prepare_error(statement));
		duckdb_destroy_prepare(&statement);
		return rc;
	}
	size_t place = conn->kept_next++ % MG_DUCK_KEPT_MAX;
	duckdb_destroy_prepare(&conn->kept[place].statement);
	mg_free(conn->kept[place].sql);
	conn->kept[place].sql = mg_strdup(sql);
	*out = conn->kept[place].statement = statement;
	return 0;
}

int mg_duck_text_of(struct mg_duck_conn *conn, const char *sql, struct mg_str value, char **out,
                    struct mg_error *err)
{
	duckdb_prepared_statement prepared = NULL;
	duckdb_result result;
	memset(&result, 0, sizeof result);
	*out = NULL;
	if (conn->stop && atomic_load(conn->stop)) {
		return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
	}
	mg_duck__failure_clear(conn);
	int rc = prepare_once(conn, sql, &prepared, err);
	if (rc != 0) {
		return rc;
	}
	if (duckdb_bind_varchar_length(prepared, 1, value.ptr, value.len) != DuckDBSuccess) {
		rc = mg_duck__failed(conn, err, duckdb_prepare_error(prepared));
	} else if (duckdb_execute_prepared(prepared, &result) != DuckDBSuccess) {
		rc = mg_duck__failed(conn, err, duckdb_result_error(&result));
	}
	rc = rc ? rc : first_text(&result, sql, out, err);
	duckdb_destroy_result(&result);
	duckdb_clear_bindings(prepared); /* the value may be large */
	return rc;
}

int mg_duck_int(struct mg_duck_conn *conn, const char *sql, int64_t *out, struct mg_error *err)
{
	duckdb_result result;
	duckdb_data_chunk chunk = NULL;
	memset(&result, 0, sizeof result);
	*out = 0;
	int rc = run(conn, sql, &result, err);
	const void *value = rc == 0 ? first_value(&result, &chunk) : NULL;
	if (rc == 0 && !value) {
		rc = mg_error_set(err, MG_E_NOT_FOUND, "this statement gave no number: %.200s", sql);
	} else if (rc == 0 && !value_int(duckdb_column_type(&result, 0), value, out)) {
		rc = mg_error_set(err, MG_E_INTERNAL, "this statement must give a whole number: %.200s",
		                  sql);
	}
	duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return rc;
}

/* ---- describe ---- */

static int describe_prepared(duckdb_prepared_statement prepared, struct mg_arena *arena,
                             size_t *count, const char ***names, const char ***types,
                             struct mg_error *err)
{
	if (duckdb_nparams(prepared) > 0) {
		return mg_error_set(err, MG_E_UNSUPPORTED,
		                    "a statement with parameters needs values for them");
	}
	size_t columns = (size_t)duckdb_prepared_statement_column_count(prepared);
	*count = columns;
	*names = mg_arena_new_array(arena, const char *, columns + 1);
	*types = mg_arena_new_array(arena, const char *, columns + 1);
	for (size_t i = 0; i < columns; i++) {
		const char *name = duckdb_prepared_statement_column_name(prepared, i);
		(*names)[i] = mg_arena_strdup(arena, name ? name : "");
		duckdb_free((void *)(uintptr_t)name);
		duckdb_logical_type type = duckdb_prepared_statement_column_logical_type(prepared, i);
		struct mg_sb sb = { 0 };
		mg_duck__type_text(&sb, type);
		(*types)[i] = mg_arena_strdup(arena, mg_sb_text(&sb));
		mg_sb_fini(&sb);
		duckdb_destroy_logical_type(&type);
	}
	return 0;
}

int mg_duck_describe(struct mg_duck_conn *conn, struct mg_arena *arena, const char *sql,
                     size_t *count, const char ***names, const char ***types, struct mg_error *err)
{
	duckdb_extracted_statements statements = NULL;
	duckdb_prepared_statement prepared = NULL;
	int rc = 0;
	idx_t found = duckdb_extract_statements(conn->con, sql, &statements);
	const char *message = found == 0 ? duckdb_extract_statements_error(statements) : NULL;
	if (message) {
		rc = mg_duck__failed(conn, err, message);
	} else if (found == 0) {
		rc = mg_error_set(err, MG_E_SYNTAX, "the statement is empty");
	} else if (found > 1) {
		rc = mg_error_set(err, MG_E_UNSUPPORTED, "only one statement can be described");
	} else if (duckdb_prepare_extracted_statement(conn->con, statements, 0, &prepared) !=
	           DuckDBSuccess) {
		rc = mg_duck__failed(conn, err, duckdb_prepare_error(prepared));
	} else {
		rc = describe_prepared(prepared, arena, count, names, types, err);
	}
	duckdb_destroy_prepare(&prepared);
	duckdb_destroy_extracted(&statements);
	return rc;
}
