/*
 * duck_histogram_sum.c - the aggregates mg_histogram_sum(h) and mg_histogram2d_sum(h): histograms
 * over the same edges as one, as the answers of mg_histogram over parts of the rows are brought
 * together.  NULL is left out; no histogram at all is NULL.
 *
 * Anybody may write such a value, so everything about it is checked.
 *
 * Thread: DuckDB's.
 */
#include "store/duck_histogram.h"

#include <string.h>

static const char not_one[] = "this is no histogram: a count is missing, or the edges do not fit";

static bool has_null(duckdb_vector vector, idx_t from, idx_t count)
{
	uint64_t *validity = duckdb_vector_get_validity(vector);

	for (idx_t i = 0; validity && i < count; i++) {
		if (!duckdb_validity_row_is_valid(validity, from + i)) {
			return true;
		}
	}
	return false;
}

/* Its numbers and how many they are; NULL: a NULL is among them, or in their place. */
static const void *numbers_of(duckdb_vector list, idx_t row, size_t *count)
{
	const duckdb_list_entry *entries = duckdb_vector_get_data(list);
	duckdb_vector child = duckdb_list_vector_get_child(list);

	if (has_null(list, row, 1) || has_null(child, entries[row].offset, entries[row].length)) {
		return NULL;
	}
	*count = entries[row].length;
	return (const char *)duckdb_vector_get_data(child) + entries[row].offset * sizeof(double);
}

/* Of the same edges as into, or into becomes one of them. */
static const char *take_edges(duckdb_vector vector, idx_t row, size_t axes, struct mg_duck *duck,
                              struct mg_histogram **into)
{
	struct mg_histogram_spec spec = { .axes = axes, .ranged = true };
	const double *edges[MG_HISTOGRAM_AXES];

	for (size_t i = 0; i < axes; i++) {
		size_t count = 0;

		edges[i] = numbers_of(duckdb_struct_vector_get_child(vector, i + 1), row, &count);
		if (!edges[i] || count < 2) {
			return not_one;
		}
		spec.bins[i] = count - 1;
		spec.range[i][0] = edges[i][0];
		spec.range[i][1] = edges[i][count - 1];
	}
	const char *wrong = *into ? NULL : mg_histogram__new(duck, &spec, into);

	for (size_t i = 0; !wrong && i < axes; i++) {
		const struct mg_bins *axis = &(*into)->axes[i];

		if (axis->count != spec.bins[i] ||
		    memcmp(axis->edges, edges[i], (axis->count + 1) * sizeof(double)) != 0) {
			wrong = "only histograms over the same edges can be summed, as mg_histogram makes them";
		}
	}
	return wrong;
}

static const char *add_line(duckdb_vector list, idx_t row, int64_t *counts, size_t width)
{
	size_t count = 0;
	const int64_t *numbers = numbers_of(list, row, &count);

	return numbers && count == width ? mg_histogram__count(counts, numbers, width) : not_one;
}

static const char *add_counts(duckdb_vector list, idx_t row, struct mg_histogram *into)
{
	if (into->spec.axes == 1) {
		return add_line(list, row, into->counts, into->cells);
	}
	const duckdb_list_entry *entries = duckdb_vector_get_data(list);
	size_t lines = into->axes[0].count, width = into->axes[1].count;

	if (has_null(list, row, 1) || entries[row].length != lines) {
		return not_one;
	}
	const char *wrong = NULL;

	for (size_t i = 0; !wrong && i < lines; i++) {
		wrong = add_line(duckdb_list_vector_get_child(list), entries[row].offset + i,
		                 &into->counts[i * width], width);
	}
	return wrong;
}

static void update(duckdb_function_info info, duckdb_data_chunk input, size_t axes,
                   duckdb_aggregate_state *states)
{
	struct mg_duck *duck = duckdb_aggregate_function_get_extra_info(info);
	duckdb_vector vector = duckdb_data_chunk_get_vector(input, 0);
	idx_t rows = duckdb_data_chunk_get_size(input);

	for (idx_t row = 0; row < rows; row++) {
		struct mg_histogram **into = mg_histogram__of(states[mg_aggregate_shim_row(row)]);
		const char *wrong = NULL;

		if (has_null(vector, row, 1)) {
			continue;
		}
		wrong = take_edges(vector, row, axes, duck, into);
		wrong = wrong ? wrong
		              : add_counts(duckdb_struct_vector_get_child(vector, 0), row, *into);
		if (wrong) {
			duckdb_aggregate_function_set_error(info, wrong);
			return;
		}
	}
}

static void update1(duckdb_function_info info, duckdb_data_chunk input,
                    duckdb_aggregate_state *states)
{
	update(info, input, 1, states);
}

static void update2(duckdb_function_info info, duckdb_data_chunk input,
                    duckdb_aggregate_state *states)
{
	update(info, input, 2, states);
}

static int define(struct mg_duck *duck, duckdb_connection con, const char *name, size_t axes,
                  duckdb_aggregate_update_t run, struct mg_error *err)
{
	duckdb_aggregate_function function = duckdb_create_aggregate_function();
	duckdb_logical_type type = mg_histogram__type(axes);
	int rc = 0;

	duckdb_aggregate_function_set_name(function, name);
	duckdb_aggregate_function_add_parameter(function, type);
	duckdb_aggregate_function_set_return_type(function, type);
	duckdb_aggregate_function_set_special_handling(function);
	duckdb_aggregate_function_set_extra_info(function, duck, NULL);
	duckdb_aggregate_function_set_functions(function, mg_histogram__size, mg_histogram__init, run,
	                                        mg_histogram__combine_all, mg_histogram__finalize);
	duckdb_aggregate_function_set_destructor(function, mg_histogram__destroy);
	if (!mg_aggregate_shim_prepare(function) ||
	    duckdb_register_aggregate_function(con, function) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"%s\"", name);
	}
	duckdb_destroy_logical_type(&type);
	duckdb_destroy_aggregate_function(&function);
	return rc;
}

int mg_duck__register_histogram_sums(struct mg_duck *duck, duckdb_connection con,
                                     struct mg_error *err)
{
	int rc = define(duck, con, "mg_histogram_sum", 1, update1, err);

	return rc ? rc : define(duck, con, "mg_histogram2d_sum", 2, update2, err);
}
