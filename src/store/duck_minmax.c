/*
 * duck_minmax.c - the aggregate minmax(x): STRUCT(min DOUBLE, max DOUBLE) over the finite values;
 * of none, both are NaN.
 *
 * -0 counts as 0, so that the order of rows does not show in the sign.
 *
 * Thread: DuckDB's.
 */
#include "store/duck_int.h"

#include <math.h>

struct minmax {
	double min, max; /* NaN: nothing yet */
};

static struct minmax *of(duckdb_aggregate_state state)
{
	return (struct minmax *)(void *)state;
}

static idx_t size(duckdb_function_info info)
{
	(void)info;
	return sizeof(struct minmax);
}

static void init(duckdb_function_info info, duckdb_aggregate_state state)
{
	(void)info;
	*of(state) = (struct minmax){ NAN, NAN };
}

static void take(struct minmax *into, double min, double max)
{
	/* Comparisons with NaN are false. */
	into->min = into->min <= min ? into->min : min;
	into->max = into->max >= max ? into->max : max;
}

static void update(duckdb_function_info info, duckdb_data_chunk input,
                   duckdb_aggregate_state *states)
{
	duckdb_vector vector = duckdb_data_chunk_get_vector(input, 0);
	const double *values = duckdb_vector_get_data(vector);
	uint64_t *validity = duckdb_vector_get_validity(vector);
	idx_t rows = duckdb_data_chunk_get_size(input);

	(void)info;
	for (idx_t row = 0; row < rows; row++) {
		bool valid = !validity || duckdb_validity_row_is_valid(validity, row);

		if (valid && isfinite(values[row])) {
			take(of(states[mg_aggregate_shim_row(row)]), values[row] + 0.0, values[row] + 0.0);
		}
	}
}

static void combine(duckdb_function_info info, duckdb_aggregate_state *source,
                    duckdb_aggregate_state *target, idx_t count)
{
	(void)info;
	for (idx_t i = 0; i < count; i++) {
		if (!isnan(of(source[i])->min)) {
			take(of(target[i]), of(source[i])->min, of(source[i])->max);
		}
	}
}

static void finalize(duckdb_function_info info, duckdb_aggregate_state *source,
                     duckdb_vector result, idx_t count, idx_t offset)
{
	double *min = duckdb_vector_get_data(duckdb_struct_vector_get_child(result, 0));
	double *max = duckdb_vector_get_data(duckdb_struct_vector_get_child(result, 1));

	(void)info;
	for (idx_t i = 0; i < count; i++) {
		min[offset + i] = of(source[i])->min;
		max[offset + i] = of(source[i])->max;
	}
}

int mg_duck__register_minmax(duckdb_connection con, struct mg_error *err)
{
	const char *names[] = { "min", "max" };
	duckdb_aggregate_function function = duckdb_create_aggregate_function();
	duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
	duckdb_logical_type members[] = { number, number };
	duckdb_logical_type returns = duckdb_create_struct_type(members, names, 2);
	int rc = 0;

	duckdb_aggregate_function_set_name(function, "minmax");
	duckdb_aggregate_function_add_parameter(function, number);
	duckdb_aggregate_function_set_return_type(function, returns);
	duckdb_aggregate_function_set_functions(function, size, init, update, combine, finalize);
	/* Without it DuckDB leaves out rows of NULL itself, by a copy of the others. */
	duckdb_aggregate_function_set_special_handling(function);
	if (!mg_aggregate_shim_prepare(function) ||
	    duckdb_register_aggregate_function(con, function) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"minmax\"");
	}
	duckdb_destroy_logical_type(&number);
	duckdb_destroy_logical_type(&returns);
	duckdb_destroy_aggregate_function(&function);
	return rc;
}
