/*
 * duck_functions.c - mg_slot(keys...), mg_mine(keys...), mg_node(): placement as SQL.
 *
 * mg_slot   the hash slot of its arguments, NULL included: the same number as C's and as every
 * node's mg_mine   whether the slot belongs to the participant that runs the statement mg_node the
 * participant's index
 *
 * The query's context is found when a thread begins to evaluate, by the connection's id, and stays
 * with that thread's state.  mg_node is not volatile: within one statement on one connection it is
 * a constant, and folding it lets DuckDB skip whole scans.
 *
 * Thread: DuckDB's.
 */
#include "store/duck_int.h"

#include "base/assert.h"
#include "codec/slot.h"

#include <stdio.h>
#include <string.h>

/* Enough for any key anyone writes; more columns are refused. */
#define KEYS_MAX 64

/* ---- the context of the running query, per thread ---- */

static void state_init(duckdb_init_info info)
{
	struct mg_duck *duck = duckdb_scalar_function_init_get_extra_info(info);
	duckdb_client_context context = NULL;
	duckdb_scalar_function_init_get_client_context(info, &context);
	struct mg_duck_conn *conn = mg_duck__find(duck, context);
	if (!conn || !conn->context) {
		duckdb_scalar_function_init_set_error(
			info, "this function only works inside of a distributed statement");
		return;
	}
	/* Borrowed: the context outlives the statement. */
	duckdb_scalar_function_init_set_state(info, (void *)(uintptr_t)conn->context, NULL);
}

/* ---- bind: refuse what cannot be hashed, before any row is read ---- */

static void keys_bind(duckdb_bind_info info)
{
	idx_t count = duckdb_scalar_function_bind_get_argument_count(info);
	if (count == 0 || count > KEYS_MAX) {
		duckdb_scalar_function_bind_set_error(info, "between 1 and 64 key columns are needed");
		return;
	}
	for (idx_t i = 0; i < count; i++) {
		duckdb_expression expr = duckdb_scalar_function_bind_get_argument(info, i);
		duckdb_logical_type type = duckdb_expression_return_type(expr);
		const char *refused = mg_duck__slot_refuses(type);
		duckdb_destroy_logical_type(&type);
		duckdb_destroy_expression(&expr);
		if (refused) {
			char message[96];
			snprintf(message, sizeof message, "values of type %s cannot be hashed to a slot",
			         refused);
			duckdb_scalar_function_bind_set_error(info, message);
			return;
		}
	}
}

/* ---- evaluation ---- */

static size_t keys_of(duckdb_data_chunk input, duckdb_vector *keys)
{
	size_t count = (size_t)duckdb_data_chunk_get_column_count(input);
	mg_assert(count <= KEYS_MAX);
	for (size_t i = 0; i < count; i++) {
		keys[i] = duckdb_data_chunk_get_vector(input, i);
	}
	return count;
}

static void slot_run(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	duckdb_vector keys[KEYS_MAX];
	(void)info;
	size_t count = keys_of(input, keys);
	mg_duck__slots(keys, count, (size_t)duckdb_data_chunk_get_size(input),
	               duckdb_vector_get_data(output));
}

static void mine_run(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	const struct mg_duck_context *context = duckdb_scalar_function_get_state(info);
	size_t rows = (size_t)duckdb_data_chunk_get_size(input);
	duckdb_vector keys[KEYS_MAX];
	uint16_t slots[MG_DUCK_CHUNK_ROWS];
	bool *mine = duckdb_vector_get_data(output);
	if (!context || !context->owner) {
		duckdb_scalar_function_set_error(info, "this statement has no map of slots");
		return;
	}
	size_t count = keys_of(input, keys);
	mg_assert(rows <= MG_DUCK_CHUNK_ROWS);
	mg_duck__slots(keys, count, rows, slots);
	for (size_t row = 0; row < rows; row++) {
		mine[row] = context->owner[slots[row]] == context->node_index;
	}
}

static void node_run(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	const struct mg_duck_context *context = duckdb_scalar_function_get_state(info);
	size_t rows = (size_t)duckdb_data_chunk_get_size(input);
	int64_t *values = duckdb_vector_get_data(output);
	if (!context) {
		duckdb_scalar_function_set_error(
			info, "this function only works inside of a distributed statement");
		return;
	}
	for (size_t row = 0; row < rows; row++) {
		values[row] = context->node_index;
	}
}

/* ---- registration ---- */

struct definition {
	const char *name;
	duckdb_type returns;
	bool keys;    /* takes keys... */
	bool context; /* needs the query's context */
	duckdb_scalar_function_t run;
};

static const struct definition definitions[] = {
	{ "mg_slot", DUCKDB_TYPE_USMALLINT, true, false, slot_run },
	{ "mg_mine", DUCKDB_TYPE_BOOLEAN, true, true, mine_run },
	{ "mg_node", DUCKDB_TYPE_BIGINT, false, true, node_run },
};

static int define(struct mg_duck *duck, duckdb_connection con, const struct definition *definition,
                  struct mg_error *err)
{
	duckdb_scalar_function function = duckdb_create_scalar_function();
	duckdb_logical_type returns = duckdb_create_logical_type(definition->returns);
	duckdb_scalar_function_set_name(function, definition->name);
	duckdb_scalar_function_set_return_type(function, returns);
	duckdb_scalar_function_set_extra_info(function, duck, NULL);
	duckdb_scalar_function_set_function(function, definition->run);
	if (definition->keys) {
		duckdb_logical_type any = duckdb_create_logical_type(DUCKDB_TYPE_ANY);
		duckdb_scalar_function_set_varargs(function, any);
		duckdb_destroy_logical_type(&any);
		/* NULL is a key like any other. */
		duckdb_scalar_function_set_special_handling(function);
		duckdb_scalar_function_set_bind(function, keys_bind);
	}
	if (definition->context) {
		duckdb_scalar_function_set_init(function, state_init);
	}
	int rc = 0;
	if (duckdb_register_scalar_function(con, function) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"%s\"",
		                  definition->name);
	}
	duckdb_destroy_logical_type(&returns);
	duckdb_destroy_scalar_function(&function);
	return rc;
}

int mg_duck__register_functions(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof definitions / sizeof *definitions; i++) {
		rc = define(duck, con, &definitions[i], err);
	}
	return rc;
}
