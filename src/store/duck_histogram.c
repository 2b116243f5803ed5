/*
 * duck_histogram.c - the aggregates mg_histogram(x, bins := 50, range := [low, high]) and
 * mg_histogram2d(x, y, bins := 50, range := [[xlow, xhigh], [ylow, yhigh]]).
 *
 * Each combination of the optional arguments is an overload, told apart by their types alone, so
 * that they may come in any order; DuckDB's aggregates do not look at the names of arguments, which
 * the wall does (sql/wall.c).  range also takes what minmax answers.
 *
 * A row whose x is NULL still tells bins and range: a group of such rows has zeros, no rows at all
 * are NULL.
 *
 * Thread: DuckDB's.
 */
#include "store/duck_histogram.h"

#include <math.h>
#include <string.h>

/* Arguments behind the axes: n bins BIGINT, N bins BIGINT[], r range DOUBLE[], m range as minmax's,
 * R range DOUBLE[][]. */
static const char *const calls1[] = { "", "n", "r", "m", "nr", "nm", "rn", "mn" };
static const char *const calls2[] = { "", "n", "N", "R", "nR", "NR", "Rn", "RN" };

/* Owner: the function. */
struct overload {
	struct mg_duck *duck;
	size_t axes;
	const char *arguments;
};

/* ---- reading arguments ---- */

static bool is_null(duckdb_vector vector, idx_t row)
{
	uint64_t *validity = duckdb_vector_get_validity(vector);

	return validity && !duckdb_validity_row_is_valid(validity, row);
}

static double number_at(duckdb_vector vector, idx_t row)
{
	return is_null(vector, row) ? NAN : ((const double *)duckdb_vector_get_data(vector))[row];
}

static duckdb_list_entry list_at(duckdb_vector vector, idx_t row)
{
	return ((const duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
}

static const char *read_count(duckdb_vector vector, idx_t row, size_t *out)
{
	int64_t count = is_null(vector, row) ? 0
	                                     : ((const int64_t *)duckdb_vector_get_data(vector))[row];

	*out = count > 0 ? (size_t)count : 0;
	return count > 0 ? NULL : "bins must be at least 1";
}

static const char *read_counts(duckdb_vector vector, idx_t row, struct mg_histogram_spec *spec)
{
	duckdb_list_entry entry = list_at(vector, row);
	const char *wrong = entry.length == spec->axes ? NULL : "bins must be one number, or two";

	for (size_t i = 0; !wrong && i < spec->axes; i++) {
		wrong = read_count(duckdb_list_vector_get_child(vector), entry.offset + i, &spec->bins[i]);
	}
	return wrong;
}

/* Of a list that is the same for all rows DuckDB 1.5.5 may give a child that has its first number
 * alone, when that is NULL: what follows a NULL is not read. */
static const char *read_pair(duckdb_vector list, idx_t row, double out[2])
{
	duckdb_vector child = duckdb_list_vector_get_child(list);

	if (is_null(list, row) || list_at(list, row).length != 2) {
		return "range must be two numbers, [low, high], for each axis";
	}
	out[0] = number_at(child, list_at(list, row).offset);
	out[1] = isnan(out[0]) ? NAN : number_at(child, list_at(list, row).offset + 1);
	return NULL;
}

static const char *read_pairs(duckdb_vector list, idx_t row, struct mg_histogram_spec *spec)
{
	duckdb_list_entry entry = list_at(list, row);
	const char *wrong =
		entry.length == spec->axes ? NULL : "range must be [[xlow, xhigh], [ylow, yhigh]]";

	for (size_t i = 0; !wrong && i < spec->axes; i++) {
		wrong = read_pair(duckdb_list_vector_get_child(list), entry.offset + i, spec->range[i]);
	}
	return wrong;
}

/* minmax of no finite value is NaN, NaN: then nothing will be counted, in numpy's range. */
static void read_minmax(duckdb_vector vector, idx_t row, double out[2])
{
	out[0] = number_at(duckdb_struct_vector_get_child(vector, 0), row);
	out[1] = number_at(duckdb_struct_vector_get_child(vector, 1), row);
	if (isnan(out[0]) && isnan(out[1])) {
		out[0] = 0;
		out[1] = 1;
	}
}

static const char *read_argument(char kind, duckdb_vector vector, idx_t row,
                                 struct mg_histogram_spec *spec)
{
	const char *wrong = NULL;

	if (is_null(vector, row)) {
		return "bins and range may not be NULL"; /* or some rows of a group had none */
	}
	switch (kind) {
	case 'n':
		wrong = read_count(vector, row, &spec->bins[0]);
		spec->bins[1] = spec->bins[0];
		return wrong;
	case 'N':
		return read_counts(vector, row, spec);
	case 'r':
		wrong = read_pair(vector, row, spec->range[0]);
		break;
	case 'm':
		read_minmax(vector, row, spec->range[0]);
		break;
	default:
		wrong = read_pairs(vector, row, spec);
		break;
	}
	spec->ranged = true;
	return wrong;
}

/* ---- rows ---- */

/* What was read of the row before: most calls have the same bins and range for all rows. */
struct rows {
	const struct overload *overload;
	duckdb_vector values[MG_HISTOGRAM_AXES];
	duckdb_vector arguments[2];
	idx_t last;                          /* the row that spec is of; UINT64_MAX: none */
	struct mg_histogram_spec spec;
	const struct mg_histogram *checked; /* it has this spec */
};

/* The same bytes in the vector itself: the same number, or the same place in a list's child. */
static bool same_argument(char kind, duckdb_vector vector, idx_t a, idx_t b)
{
	if (kind == 'm' || duckdb_vector_get_validity(vector)) {
		return false;
	}
	if (kind == 'n') {
		const int64_t *numbers = duckdb_vector_get_data(vector);

		return numbers[a] == numbers[b];
	}
	return list_at(vector, a).offset == list_at(vector, b).offset &&
	       list_at(vector, a).length == list_at(vector, b).length;
}

static bool same_as_last(const struct rows *rows, idx_t row)
{
	const char *kinds = rows->overload->arguments;
	bool same = rows->last != UINT64_MAX;

	for (size_t i = 0; same && kinds[i]; i++) {
		same = same_argument(kinds[i], rows->arguments[i], rows->last, row);
	}
	return same;
}

static const char *read_spec(struct rows *rows, idx_t row)
{
	const char *kinds = rows->overload->arguments, *wrong = NULL;

	if (same_as_last(rows, row)) {
		return NULL;
	}
	rows->spec = (struct mg_histogram_spec){ .axes = rows->overload->axes,
		                                     .bins = { MG_HISTOGRAM_BINS, MG_HISTOGRAM_BINS } };
	for (size_t i = 0; !wrong && kinds[i]; i++) {
		wrong = read_argument(kinds[i], rows->arguments[i], row, &rows->spec);
	}
	rows->last = row;
	rows->checked = NULL;
	return wrong;
}

static const char *add_row(struct rows *rows, idx_t row, struct mg_histogram **histogram)
{
	double values[MG_HISTOGRAM_AXES];
	const char *wrong = read_spec(rows, row);

	if (!wrong && !*histogram) {
		wrong = mg_histogram__new(rows->overload->duck, &rows->spec, histogram);
	} else if (!wrong && *histogram != rows->checked &&
	           !mg_histogram__same(&rows->spec, &(*histogram)->spec)) {
		wrong = mg_histogram_differs;
	}
	if (wrong) {
		return wrong;
	}
	rows->checked = *histogram;
	for (size_t i = 0; i < rows->overload->axes; i++) {
		values[i] = number_at(rows->values[i], row);
	}
	return mg_histogram__add(*histogram, values);
}

static void update(duckdb_function_info info, duckdb_data_chunk input,
                   duckdb_aggregate_state *states)
{
	struct rows rows = { .overload = duckdb_aggregate_function_get_extra_info(info),
		                 .last = UINT64_MAX };
	idx_t count = duckdb_data_chunk_get_size(input);
	size_t axes = rows.overload->axes;
	const char *wrong = NULL;

	for (size_t i = 0; i < axes; i++) {
		rows.values[i] = duckdb_data_chunk_get_vector(input, i);
	}
	for (size_t i = 0; rows.overload->arguments[i]; i++) {
		rows.arguments[i] = duckdb_data_chunk_get_vector(input, axes + i);
	}
	for (idx_t row = 0; !wrong && row < count; row++) {
		wrong = add_row(&rows, row, mg_histogram__of(states[mg_aggregate_shim_row(row)]));
	}
	if (wrong) {
		duckdb_aggregate_function_set_error(info, wrong);
	}
}

/* ---- registration ---- */

static duckdb_logical_type argument_type(char kind)
{
	static const char *names[] = { "min", "max" };
	duckdb_logical_type one = duckdb_create_logical_type(
		kind == 'n' || kind == 'N' ? DUCKDB_TYPE_BIGINT : DUCKDB_TYPE_DOUBLE);
	duckdb_logical_type list = duckdb_create_list_type(one), pair[] = { one, one };
	duckdb_logical_type out = kind == 'R'   ? duckdb_create_list_type(list)
	                          : kind == 'm' ? duckdb_create_struct_type(pair, names, 2)
	                          : kind == 'r' || kind == 'N' ? list
	                                                       : one;

	if (out != list) {
		duckdb_destroy_logical_type(&list);
	}
	if (out != one) {
		duckdb_destroy_logical_type(&one);
	}
	return out;
}

static void add_parameter(duckdb_aggregate_function function, char kind)
{
	duckdb_logical_type type = argument_type(kind);

	duckdb_aggregate_function_add_parameter(function, type);
	duckdb_destroy_logical_type(&type);
}

static bool add_overload(struct mg_duck *duck, duckdb_aggregate_function_set set, const char *name,
                         size_t axes, const char *arguments)
{
	duckdb_aggregate_function function = duckdb_create_aggregate_function();
	duckdb_logical_type returns = mg_histogram__type(axes);
	struct overload *overload = mg_alloc0(sizeof *overload);

	*overload = (struct overload){ duck, axes, arguments };
	duckdb_aggregate_function_set_name(function, name);
	for (size_t i = 0; i < axes; i++) {
		add_parameter(function, 'v');
	}
	for (size_t i = 0; arguments[i]; i++) {
		add_parameter(function, arguments[i]);
	}
	duckdb_aggregate_function_set_return_type(function, returns);
	duckdb_aggregate_function_set_special_handling(function);
	duckdb_aggregate_function_set_extra_info(function, overload, mg_free);
	duckdb_aggregate_function_set_functions(function, mg_histogram__size, mg_histogram__init,
	                                        update, mg_histogram__combine_all,
	                                        mg_histogram__finalize);
	duckdb_aggregate_function_set_destructor(function, mg_histogram__destroy);
	bool added = mg_aggregate_shim_prepare(function) &&
	             duckdb_add_aggregate_function_to_set(set, function) == DuckDBSuccess;

	duckdb_destroy_logical_type(&returns);
	duckdb_destroy_aggregate_function(&function);
	return added;
}

static int define(struct mg_duck *duck, duckdb_connection con, const char *name, size_t axes,
                  const char *const *calls, size_t count, struct mg_error *err)
{
	duckdb_aggregate_function_set set = duckdb_create_aggregate_function_set(name);
	bool good = true;

	for (size_t i = 0; good && i < count; i++) {
		good = add_overload(duck, set, name, axes, calls[i]);
	}
	good = good && duckdb_register_aggregate_function_set(con, set) == DuckDBSuccess;
	duckdb_destroy_aggregate_function_set(&set);
	return good ? 0 : mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"%s\"", name);
}

int mg_duck__register_histograms(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	int rc = define(duck, con, "mg_histogram", 1, calls1, sizeof calls1 / sizeof *calls1, err);

	return rc ? rc
	          : define(duck, con, "mg_histogram2d", 2, calls2, sizeof calls2 / sizeof *calls2, err);
}
