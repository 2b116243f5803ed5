/*
 * test_build.c - the libraries that the build puts together are there, and are the right ones.
 *
 * Rule: the program is bound to exactly one version of DuckDB (the shim of the TPC generators
 * depends on its layout), so the version that was linked must be the one that was locked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <duckdb.h>
#include <llhttp.h>
#include <nanoarrow/nanoarrow.h>
#include <nanoarrow/nanoarrow_ipc.h>

#include "mg_version.h"

static void test_duckdb_is_the_locked_version(void **state)
{
	duckdb_database db = NULL;
	duckdb_connection conn = NULL;
	duckdb_result result;

	(void)state;
	assert_string_equal(duckdb_library_version(), "v" MG_DUCKDB_VERSION);
	assert_int_equal(duckdb_open(NULL, &db), DuckDBSuccess);
	assert_int_equal(duckdb_connect(db, &conn), DuckDBSuccess);
	assert_int_equal(duckdb_query(conn, "SELECT to_json({'a': 6 * 7})", &result), DuckDBSuccess);
	assert_int_equal(duckdb_row_count(&result), 1);
	duckdb_destroy_result(&result);
	duckdb_disconnect(&conn);
	duckdb_close(&db);
}

static void test_arrow_decoder_has_its_codecs(void **state)
{
	struct ArrowIpcDecoder decoder;

	(void)state;
	assert_int_equal(ArrowIpcDecoderInit(&decoder), NANOARROW_OK);
	ArrowIpcDecoderReset(&decoder);
	assert_string_equal(ArrowNanoarrowVersion(), "0.9.0");
	assert_non_null(ArrowIpcGetLZ4DecompressionFunction());
	assert_non_null(ArrowIpcGetZstdDecompressionFunction());
}

static void test_http_parser_refuses_two_lengths(void **state)
{
	static const char text[] = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
	llhttp_settings_t settings;
	llhttp_t parser;

	(void)state;
	llhttp_settings_init(&settings);
	llhttp_init(&parser, HTTP_REQUEST, &settings);
	assert_int_not_equal(llhttp_execute(&parser, text, sizeof text - 1), HPE_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_duckdb_is_the_locked_version),
		cmocka_unit_test(test_arrow_decoder_has_its_codecs),
		cmocka_unit_test(test_http_parser_refuses_two_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
