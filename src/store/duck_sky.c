/*
 * duck_sky.c - crossmatch(coord, targets, radius): which targets lie within radius of a row's
 * coordinate; and the scalars of astronomers: flux2mag, degree, arcmin, arcsec.
 *
 * coord is [ra, dec] in radian or a unit vector [x, y, z], targets a list of the same, radius an
 * angle in radian.  The answer is the targets' positions, from 0 on, in order.  A thread makes the
 * tree of the targets once and keeps it while they are the same.
 *
 * Thread: DuckDB's.
 */
#include "store/duck_int.h"
#include "store/sky.h"

#include <math.h>
#include <string.h>

#define AB_ZERO_POINT 31.4 /* magnitude of 1 nJy */
#define FOUND_MAX ((size_t)64 << 20) /* of the rows that the engine asks for at once */

/* ---- crossmatch ---- */

/* Of one thread; owner: DuckDB's function state. */
struct matcher {
	double *targets; /* as they were given, axes numbers each */
	size_t count, axes;
	struct mg_sky_tree *tree; /* of them; NULL: none yet */
	struct mg_sky_found found;
};

static const char no_memory[] = "too many targets for the memory that is left";
static const char too_many[] =
	"crossmatch finds too many targets for its rows: ask for a smaller radius or fewer targets";

static void matcher_clear(struct matcher *matcher)
{
	mg_sky_tree_free(matcher->tree);
	mg_free(matcher->targets);
	matcher->tree = NULL;
	matcher->targets = NULL;
}

static void matcher_free(void *arg)
{
	struct matcher *matcher = arg;

	matcher_clear(matcher);
	mg_free(matcher->found.index);
	mg_free(matcher);
}

static void matcher_init(duckdb_init_info info)
{
	duckdb_scalar_function_init_set_state(info, mg_alloc0(sizeof(struct matcher)), matcher_free);
}

static bool is_null(duckdb_vector vector, idx_t row)
{
	uint64_t *validity = duckdb_vector_get_validity(vector);

	return validity && !duckdb_validity_row_is_valid(validity, row);
}

static duckdb_list_entry list_at(duckdb_vector vector, idx_t row)
{
	return ((const duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
}

/* The numbers of one coordinate, from the first NULL on NaN (the child may have no more: read_pair
 * in duck_histogram.c); false: it has not so many. */
static bool read_numbers(duckdb_vector list, idx_t row, size_t axes, double *out)
{
	duckdb_vector child = duckdb_list_vector_get_child(list);
	const double *numbers = duckdb_vector_get_data(child);
	duckdb_list_entry entry = is_null(list, row) ? (duckdb_list_entry){ 0 } : list_at(list, row);

	if (entry.length != axes) {
		return false;
	}
	bool null = false;

	for (size_t i = 0; i < axes; i++) {
		null = null || is_null(child, entry.offset + i);
		out[i] = null ? NAN : numbers[entry.offset + i];
	}
	return true;
}

static struct mg_sky_point point_of(const double *numbers, size_t axes)
{
	return axes == 2 ? mg_sky_point(numbers[0], numbers[1])
	                 : (struct mg_sky_point){ { numbers[0], numbers[1], numbers[2] } };
}

static struct mg_sky_tree *plant(const double *targets, size_t count, size_t axes)
{
	struct mg_sky_point *points = mg_try_alloc((count + 1) * sizeof *points);

	if (!points) {
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		points[i] = point_of(&targets[i * axes], axes);
	}
	struct mg_sky_tree *tree = mg_sky_tree_new(points, count);

	mg_free(points);
	return tree;
}

/* Are they those of the matcher's tree?  NaN is as good as another NaN. */
static bool same_targets(const struct matcher *matcher, duckdb_vector list, duckdb_list_entry entry,
                         size_t axes)
{
	double target[3];

	if (!matcher->tree || matcher->count != entry.length || matcher->axes != axes) {
		return false;
	}
	for (size_t i = 0; i < entry.length; i++) {
		const double *mine = &matcher->targets[i * axes];

		if (!read_numbers(list, entry.offset + i, axes, target)) {
			return false;
		}
		for (size_t k = 0; k < axes; k++) {
			if (!(target[k] == mine[k]) && !(isnan(target[k]) && isnan(mine[k]))) {
				return false;
			}
		}
	}
	return true;
}

/* The matcher's tree becomes that of the row's targets. */
static const char *take_targets(struct matcher *matcher, duckdb_vector vector, idx_t row,
                                size_t axes)
{
	duckdb_vector list = duckdb_list_vector_get_child(vector);
	duckdb_list_entry entry = list_at(vector, row);
	size_t count = entry.length;

	if (same_targets(matcher, list, entry, axes)) {
		return NULL;
	}
	matcher_clear(matcher);
	matcher->targets = mg_try_alloc((count * axes + 1) * sizeof *matcher->targets);
	matcher->count = count;
	matcher->axes = axes;
	if (!matcher->targets) {
		return no_memory;
	}
	for (size_t i = 0; i < count; i++) {
		if (!read_numbers(list, entry.offset + i, axes, &matcher->targets[i * axes])) {
			return "each target must have as many numbers as the coordinate, 2 or 3";
		}
	}
	matcher->tree = plant(matcher->targets, count, axes);
	return matcher->tree ? NULL : no_memory;
}

/* Of one row that has no NULL: finds into matcher->found.  *last: the targets of the row before in
 * this chunk, whose tree the matcher has, if it is the same. */
static const char *match_row(struct matcher *matcher, duckdb_data_chunk input, idx_t row,
                             duckdb_list_entry *last)
{
	duckdb_vector coords = duckdb_data_chunk_get_vector(input, 0);
	duckdb_vector targets = duckdb_data_chunk_get_vector(input, 1);
	duckdb_vector radii = duckdb_data_chunk_get_vector(input, 2);
	double radius = ((const double *)duckdb_vector_get_data(radii))[row], at[3];
	size_t axes = list_at(coords, row).length;
	duckdb_list_entry entry = list_at(targets, row);
	const char *wrong = NULL;

	if ((axes != 2 && axes != 3) || !read_numbers(coords, row, axes, at)) {
		return "a coordinate is [ra, dec] in radian, or a unit vector [x, y, z]";
	}
	if (!(radius >= 0)) {
		return "the radius must be 0 or more";
	}
	if (!matcher->tree || axes != matcher->axes || entry.offset != last->offset ||
	    entry.length != last->length) {
		wrong = take_targets(matcher, targets, row, axes);
		*last = entry;
	}
	if (wrong) {
		return wrong;
	}
	struct mg_sky_point point = point_of(at, axes);

	return mg_sky_tree_near(matcher->tree, &point, radius, &matcher->found) ? NULL : no_memory;
}

/* What is found for a chunk is in memory at once, which DuckDB does not count. */
static size_t found_max(const struct mg_duck *duck)
{
	size_t room = duck->aggregate_bytes_max / sizeof(int64_t);

	return room < FOUND_MAX ? room : FOUND_MAX;
}

static const char *append_found(duckdb_vector output, idx_t row, const struct mg_sky_found *found,
                                size_t max)
{
	duckdb_list_entry *entries = duckdb_vector_get_data(output);
	idx_t first = duckdb_list_vector_get_size(output);

	if (first + found->count > max) {
		return too_many;
	}
	if (duckdb_list_vector_reserve(output, first + found->count) != DuckDBSuccess ||
	    duckdb_list_vector_set_size(output, first + found->count) != DuckDBSuccess) {
		return no_memory;
	}
	int64_t *values = duckdb_vector_get_data(duckdb_list_vector_get_child(output));

	if (found->count) {
		memcpy(&values[first], found->index, found->count * sizeof *values);
	}
	entries[row] = (duckdb_list_entry){ .offset = first, .length = found->count };
	return NULL;
}

static void crossmatch(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	struct matcher *matcher = duckdb_scalar_function_get_state(info);
	size_t max = found_max(duckdb_scalar_function_get_extra_info(info));
	idx_t rows = duckdb_data_chunk_get_size(input);
	duckdb_list_entry last = { .offset = UINT64_MAX };
	const char *wrong = NULL;

	for (idx_t row = 0; !wrong && row < rows; row++) {
		bool null = false;

		for (idx_t i = 0; i < 3; i++) {
			null = null || is_null(duckdb_data_chunk_get_vector(input, i), row);
		}
		matcher->found.count = 0;
		wrong = null ? NULL : match_row(matcher, input, row, &last);
		wrong = wrong ? wrong : append_found(output, row, &matcher->found, max);
		if (null) {
			duckdb_vector_ensure_validity_writable(output);
			duckdb_validity_set_row_invalid(duckdb_vector_get_validity(output), row);
		}
	}
	if (wrong) {
		duckdb_scalar_function_set_error(info, wrong);
	}
}

/* ---- scalars ---- */

/* As numpy: 0 is infinitely faint, what is negative has no magnitude. */
static double flux2mag(double flux)
{
	return AB_ZERO_POINT - 2.5 * log10(flux);
}

static double degree(double x)
{
	return x * (M_PI / 180);
}

static double arcmin(double x)
{
	return x * (M_PI / 180 / 60);
}

static double arcsec(double x)
{
	return x * (M_PI / 180 / 3600);
}

struct scalar {
	const char *name;
	double (*run)(double);
	bool constant; /* also without an argument, for 1 */
};

static const struct scalar scalars[] = {
	{ "flux2mag", flux2mag, false },
	{ "degree", degree, true },
	{ "arcmin", arcmin, true },
	{ "arcsec", arcsec, true },
};

static void scalar_run(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	const struct scalar *scalar = duckdb_scalar_function_get_extra_info(info);
	bool constant = duckdb_data_chunk_get_column_count(input) == 0;
	duckdb_vector vector = constant ? NULL : duckdb_data_chunk_get_vector(input, 0);
	const double *values = constant ? NULL : duckdb_vector_get_data(vector);
	double *out = duckdb_vector_get_data(output);
	idx_t rows = duckdb_data_chunk_get_size(input);

	for (idx_t row = 0; row < rows; row++) {
		out[row] = scalar->run(constant ? 1 : values[row]);
		if (!constant && is_null(vector, row)) {
			duckdb_vector_ensure_validity_writable(output);
			duckdb_validity_set_row_invalid(duckdb_vector_get_validity(output), row);
		}
	}
}

/* ---- registration ---- */

static duckdb_scalar_function scalar_new(const struct scalar *scalar, bool argument)
{
	duckdb_scalar_function function = duckdb_create_scalar_function();
	duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);

	duckdb_scalar_function_set_name(function, scalar->name);
	duckdb_scalar_function_set_return_type(function, number);
	duckdb_scalar_function_set_function(function, scalar_run);
	duckdb_scalar_function_set_extra_info(function, (void *)(uintptr_t)scalar, NULL);
	if (argument) {
		duckdb_scalar_function_add_parameter(function, number);
	}
	duckdb_destroy_logical_type(&number);
	return function;
}

static int define_scalar(duckdb_connection con, const struct scalar *scalar, struct mg_error *err)
{
	duckdb_scalar_function_set set = duckdb_create_scalar_function_set(scalar->name);
	bool good = true;

	for (int argument = scalar->constant ? 0 : 1; argument < 2; argument++) {
		duckdb_scalar_function function = scalar_new(scalar, argument == 1);

		good = good && duckdb_add_scalar_function_to_set(set, function) == DuckDBSuccess;
		duckdb_destroy_scalar_function(&function);
	}
	good = good && duckdb_register_scalar_function_set(con, set) == DuckDBSuccess;
	duckdb_destroy_scalar_function_set(&set);
	return good ? 0
	            : mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"%s\"",
	                           scalar->name);
}

static int define_crossmatch(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	duckdb_scalar_function function = duckdb_create_scalar_function();
	duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
	duckdb_logical_type bigint = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	duckdb_logical_type coord = duckdb_create_list_type(number);
	duckdb_logical_type targets = duckdb_create_list_type(coord);
	duckdb_logical_type returns = duckdb_create_list_type(bigint);
	int rc = 0;

	duckdb_scalar_function_set_name(function, "crossmatch");
	duckdb_scalar_function_add_parameter(function, coord);
	duckdb_scalar_function_add_parameter(function, targets);
	duckdb_scalar_function_add_parameter(function, number);
	duckdb_scalar_function_set_return_type(function, returns);
	duckdb_scalar_function_set_function(function, crossmatch);
	duckdb_scalar_function_set_init(function, matcher_init);
	duckdb_scalar_function_set_extra_info(function, duck, NULL);
	if (duckdb_register_scalar_function(con, function) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"crossmatch\"");
	}
	duckdb_destroy_logical_type(&number);
	duckdb_destroy_logical_type(&bigint);
	duckdb_destroy_logical_type(&coord);
	duckdb_destroy_logical_type(&targets);
	duckdb_destroy_logical_type(&returns);
	duckdb_destroy_scalar_function(&function);
	return rc;
}

int mg_duck__register_sky(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	int rc = define_crossmatch(duck, con, err);

	for (size_t i = 0; rc == 0 && i < sizeof scalars / sizeof *scalars; i++) {
		rc = define_scalar(con, &scalars[i], err);
	}
	return rc;
}
