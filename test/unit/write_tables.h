/*
 * write_tables.h - the tables that write_kit.h makes.
 */
#ifndef TEST_UNIT_WRITE_TABLES_H
#define TEST_UNIT_WRITE_TABLES_H

#include <stdbool.h>
#include <stdint.h>

struct kit_column {
	const char *name, *type;
	bool not_null;
};

struct kit_table {
	const char *schema, *name;
	struct kit_column columns[12];
	const char *keys[3], *primary_key[3];
	const char *rows; /* SELECT that fills it */
	const char *definition;
	uint64_t id; /* in its stored name */
};

/* Tables that several tests have: a plain one with its reference table, one with
 * a primary key, an odd one, many types. */
/* clang-format off */
#define KIT_PLAIN_TABLES \
	{ .schema = "main", \
	  .name = "t", \
	  .columns = { { "k", "BIGINT", true }, \
	               { "a", "INTEGER", false }, \
	               { "b", "VARCHAR", false }, \
	               { "d", "DECIMAL(10,2)", false } }, \
	  .keys = { "k" }, \
	  .rows = "SELECT i, i % 7, 'x' || i, i / 4 FROM range(200) r(i)" }, \
	{ .schema = "main", \
	  .name = "r", \
	  .columns = { { "id", "INTEGER", true }, { "name", "VARCHAR", false } }, \
	  .rows = "SELECT i, 'n' || i FROM range(10) r(i)" }
#define KIT_PK_TABLE \
	{ .schema = "main", \
	  .name = "pk", \
	  .columns = { { "k", "INTEGER", true }, \
	               { "j", "INTEGER", false }, \
	               { "v", "VARCHAR", false } }, \
	  .keys = { "k" }, \
	  .primary_key = { "k", "j" }, \
	  .rows = "SELECT i // 3, i % 3, 'v' || i FROM range(90) r(i)" }
#define KIT_ODD_TABLES \
	{ .schema = "s", \
	  .name = "Odd name", \
	  .columns = { { "a b", "VARCHAR", false }, { "slot", "INTEGER", false }, { "rid", "DATE" } }, \
	  .keys = { "a b", "slot" }, \
	  .rows = "SELECT 'q' || i, i, DATE '2020-01-01' + i::INT FROM range(30) r(i)" }, \
	{ .schema = "main", \
	  .name = "types", \
	  .columns = { { "k", "VARCHAR", false }, \
	               { "e", "ENUM('low', 'mid', 'high')", false }, \
	               { "l", "INTEGER[]", false }, \
	               { "st", "STRUCT(x INTEGER, y VARCHAR)", false }, \
	               { "h", "HUGEINT", false }, \
	               { "u", "UUID", false }, \
	               { "ts", "TIMESTAMP WITH TIME ZONE", false }, \
	               { "j", "JSON", false }, \
	               { "m", "MAP(VARCHAR, INTEGER)", false }, \
	               { "bl", "BLOB", false }, \
	               { "iv", "INTERVAL", false } }, \
	  .keys = { "k" }, \
	  .rows = \
	      "SELECT 'k' || i, 'mid', [i, NULL], {'x': i, 'y': 'z'}, i::HUGEINT << 70, " \
	      "'00000000-0000-0000-0000-00000000000' || i % 10, TIMESTAMPTZ '2020-01-01 00:00:00+00' " \
	      "+ INTERVAL (i) HOUR, '{\"a\": ' || i || '}', MAP {'q': i::INT}, 'ab'::BLOB, INTERVAL " \
	      "(i) DAY FROM range(20) r(i)" }
/* clang-format on */

#endif
