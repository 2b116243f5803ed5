/* duck_prepared.c - statements that are planned once and run often: see duck.h. */
#include "store/duck_int.h"

#include <string.h>

struct mg_duck_prepared {
	struct mg_duck_conn *conn;
	duckdb_prepared_statement statement;
};

int mg_duck_prepare(struct mg_duck_prepared **out, struct mg_duck_conn *conn, const char *sql,
                    struct mg_error *err)
{
	struct mg_duck_prepared *prepared = mg_alloc0(sizeof *prepared);
	int rc = 0;
	prepared->conn = conn;
	*out = NULL;
	mg_duck__failure_clear(conn);
	if (duckdb_prepare(conn->con, sql, &prepared->statement) != DuckDBSuccess) {
		rc = mg_duck__failed(conn, err, duckdb_prepare_error(prepared->statement));
		mg_duck_prepared_free(prepared);
		return rc;
	}
	*out = prepared;
	return 0;
}

int mg_duck_prepared_run(struct mg_duck_prepared *prepared, const uint64_t *values, size_t count,
                         struct mg_error *err)
{
	duckdb_result result;
	int rc = 0;
	memset(&result, 0, sizeof result);
	mg_duck__failure_clear(prepared->conn);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (duckdb_bind_uint64(prepared->statement, i + 1, values[i]) != DuckDBSuccess) {
			rc = mg_duck__failed(prepared->conn, err, duckdb_prepare_error(prepared->statement));
		}
	}
	if (rc == 0 && duckdb_execute_prepared(prepared->statement, &result) != DuckDBSuccess) {
		rc = mg_duck__failed(prepared->conn, err, duckdb_result_error(&result));
	}
	duckdb_destroy_result(&result);
	return rc;
}

void mg_duck_prepared_free(struct mg_duck_prepared *prepared)
{
	if (prepared) {
		duckdb_destroy_prepare(&prepared->statement);
		mg_free(prepared);
	}
}
