/*
 * duck_histogram_state.c - see duck_histogram.h.
 *
 * Counts are integers, so that the order of rows and of states does not show.
 */
#include "store/duck_histogram.h"

#include <math.h>
#include <string.h>

static const char no_memory[] =
	"too much memory for a histogram: ask for fewer bins or groups, or give a range "
	"(range := (SELECT minmax(x) FROM t)), so that values need not be kept";

const char mg_histogram_differs[] = "bins and range must be the same for all rows of a group";

/* ---- memory ---- */

/* Counts bytes as the histogram's, until it is freed. */
static bool reserve(struct mg_histogram *histogram, size_t bytes)
{
	struct mg_duck *duck = histogram->duck;

	if (atomic_fetch_add(&duck->aggregate_bytes, bytes) + bytes > duck->aggregate_bytes_max) {
		atomic_fetch_sub(&duck->aggregate_bytes, bytes);
		return false;
	}
	histogram->bytes += bytes;
	return true;
}

static void release(struct mg_histogram *histogram, size_t bytes)
{
	atomic_fetch_sub(&histogram->duck->aggregate_bytes, bytes);
	histogram->bytes -= bytes;
}

static void *take(struct mg_histogram *histogram, size_t bytes)
{
	if (!reserve(histogram, bytes)) {
		return NULL;
	}
	void *memory = mg_try_alloc(bytes);

	if (!memory) {
		release(histogram, bytes);
	}
	return memory;
}

static void give(struct mg_histogram *histogram, void *memory, size_t bytes)
{
	if (memory) {
		release(histogram, bytes);
		mg_free(memory);
	}
}

static const char *make_room(struct mg_histogram *histogram, size_t rows)
{
	size_t row_bytes = histogram->spec.axes * sizeof *histogram->values;
	size_t cap = histogram->rows_cap ? histogram->rows_cap : 64;

	if (rows <= histogram->rows_cap) {
		return NULL;
	}
	while (cap < rows) {
		cap *= 2;
	}
	double *values = take(histogram, cap * row_bytes);

	if (!values) {
		return no_memory;
	}
	if (histogram->rows) {
		memcpy(values, histogram->values, histogram->rows * row_bytes);
	}
	give(histogram, histogram->values, histogram->rows_cap * row_bytes);
	histogram->values = values;
	histogram->rows_cap = cap;
	return NULL;
}

void mg_histogram__free(struct mg_histogram *histogram)
{
	if (!histogram) {
		return;
	}
	struct mg_duck *duck = histogram->duck;
	size_t bytes = histogram->bytes;

	mg_histogram__free(histogram->settled); /* which has none itself */
	for (size_t i = 0; i < histogram->spec.axes; i++) {
		mg_free(histogram->axes[i].edges);
	}
	mg_free(histogram->counts);
	mg_free(histogram->values);
	mg_free(histogram);
	atomic_fetch_sub(&duck->aggregate_bytes, bytes);
}

/* ---- making ---- */

bool mg_histogram__same(const struct mg_histogram_spec *a, const struct mg_histogram_spec *b)
{
	bool same = a->axes == b->axes && a->ranged == b->ranged;

	for (size_t i = 0; same && i < a->axes; i++) {
		same = a->bins[i] == b->bins[i];
		if (same && a->ranged) {
			same = a->range[i][0] == b->range[i][0] && a->range[i][1] == b->range[i][1];
		}
	}
	return same;
}

/* Edges and zeros for the range. */
static const char *set_range(struct mg_histogram *histogram)
{
	for (size_t i = 0; i < histogram->spec.axes; i++) {
		struct mg_bins *axis = &histogram->axes[i];

		axis->edges = take(histogram, (axis->count + 1) * sizeof *axis->edges);
		if (!axis->edges) {
			return no_memory;
		}
		const double *range = histogram->spec.range[i];
		const char *wrong = mg_bins_set(axis, range[0], range[1]);

		if (wrong) {
			return wrong;
		}
	}
	histogram->counts = take(histogram, histogram->cells * sizeof *histogram->counts);
	if (!histogram->counts) {
		return no_memory;
	}
	memset(histogram->counts, 0, histogram->cells * sizeof *histogram->counts);
	return NULL;
}

/* The answer of each group will be as large, whatever its values are. */
static const char *foresee(struct mg_histogram *histogram)
{
	size_t numbers = histogram->cells;

	for (size_t i = 0; i < histogram->spec.axes; i++) {
		numbers += histogram->axes[i].count + 1;
	}
	return reserve(histogram, numbers * sizeof(double)) ? NULL : no_memory;
}

const char *mg_histogram__new(struct mg_duck *duck, const struct mg_histogram_spec *spec,
                              struct mg_histogram **out)
{
	struct mg_histogram bare = { .duck = duck, .spec = *spec, .cells = 1 };

	*out = NULL;
	for (size_t i = 0; i < spec->axes; i++) {
		if (spec->bins[i] < 1 || spec->bins[i] > MG_HISTOGRAM_BINS_MAX) {
			return "bins must be between 1 and 16777216";
		}
		bare.axes[i].count = spec->bins[i];
		bare.cells *= spec->bins[i];
	}
	if (bare.cells > MG_HISTOGRAM_BINS_MAX) {
		return "a histogram may have at most 16777216 bins";
	}
	struct mg_histogram *histogram = take(&bare, sizeof *histogram);

	if (!histogram) {
		return no_memory;
	}
	*histogram = bare;
	const char *wrong = spec->ranged ? set_range(histogram) : foresee(histogram);

	if (wrong) {
		mg_histogram__free(histogram);
		return wrong;
	}
	*out = histogram;
	return NULL;
}

/* ---- rows ---- */

static void count_row(struct mg_histogram *histogram, const double *value)
{
	size_t x = 0, y = 0;

	if (histogram->spec.axes == 1) {
		if (mg_bins_find(&histogram->axes[0], value[0], &x)) {
			histogram->counts[x]++;
		}
	} else if (mg_bins_search(&histogram->axes[0], value[0], &x) &&
	           mg_bins_search(&histogram->axes[1], value[1], &y)) {
		histogram->counts[x * histogram->axes[1].count + y]++;
	}
}

const char *mg_histogram__add(struct mg_histogram *histogram, const double *value)
{
	size_t axes = histogram->spec.axes;

	if (histogram->counts) {
		count_row(histogram, value);
		return NULL;
	}
	for (size_t i = 0; i < axes; i++) {
		if (!isfinite(value[i])) {
			return NULL;
		}
	}
	const char *wrong = make_room(histogram, histogram->rows + 1);

	if (!wrong) {
		memcpy(&histogram->values[histogram->rows++ * axes], value, axes * sizeof *value);
	}
	return wrong;
}

const char *mg_histogram__count(int64_t *counts, const int64_t *more, size_t cells)
{
	for (size_t i = 0; i < cells; i++) {
		if (more[i] < 0 || __builtin_add_overflow(counts[i], more[i], &counts[i])) {
			return "the counts of histograms are negative, or too large";
		}
	}
	return NULL;
}

const char *mg_histogram__combine(const struct mg_histogram *source, struct mg_histogram **target)
{
	struct mg_histogram *into = *target;

	if (!into) {
		const char *wrong = mg_histogram__new(source->duck, &source->spec, target);

		if (wrong) {
			return wrong;
		}
		into = *target;
	}
	if (!mg_histogram__same(&into->spec, &source->spec)) {
		return mg_histogram_differs;
	}
	if (source->counts) {
		return mg_histogram__count(into->counts, source->counts, source->cells);
	}
	const char *wrong = source->rows ? make_room(into, into->rows + source->rows) : NULL;

	if (!wrong && source->rows) {
		size_t axes = source->spec.axes;

		memcpy(&into->values[into->rows * axes], source->values,
		       source->rows * axes * sizeof *source->values);
		into->rows += source->rows;
	}
	return wrong;
}

const char *mg_histogram__settle(const struct mg_histogram *histogram, struct mg_histogram **out)
{
	struct mg_histogram_spec spec = histogram->spec;
	size_t axes = spec.axes;

	spec.ranged = true;
	for (size_t i = 0; i < axes; i++) {
		spec.range[i][0] = 0; /* of no values, as numpy */
		spec.range[i][1] = 1;
	}
	for (size_t r = 0; r < histogram->rows; r++) {
		for (size_t i = 0; i < axes; i++) {
			double value = histogram->values[r * axes + i];

			spec.range[i][0] = r == 0 || value < spec.range[i][0] ? value : spec.range[i][0];
			spec.range[i][1] = r == 0 || value > spec.range[i][1] ? value : spec.range[i][1];
		}
	}
	const char *wrong = mg_histogram__new(histogram->duck, &spec, out);

	for (size_t r = 0; !wrong && r < histogram->rows; r++) {
		count_row(*out, &histogram->values[r * axes]);
	}
	return wrong;
}

/* ---- the callbacks ---- */

struct mg_histogram **mg_histogram__of(duckdb_aggregate_state state)
{
	return (struct mg_histogram **)(void *)state;
}

idx_t mg_histogram__size(duckdb_function_info info)
{
	(void)info;
	return sizeof(struct mg_histogram *);
}

void mg_histogram__init(duckdb_function_info info, duckdb_aggregate_state state)
{
	(void)info;
	*mg_histogram__of(state) = NULL;
}

void mg_histogram__destroy(duckdb_aggregate_state *states, idx_t count)
{
	for (idx_t i = 0; i < count; i++) {
		mg_histogram__free(*mg_histogram__of(states[i]));
		*mg_histogram__of(states[i]) = NULL;
	}
}

void mg_histogram__combine_all(duckdb_function_info info, duckdb_aggregate_state *source,
                               duckdb_aggregate_state *target, idx_t count)
{
	for (idx_t i = 0; i < count; i++) {
		const struct mg_histogram *from = *mg_histogram__of(source[i]);
		const char *wrong = from ? mg_histogram__combine(from, mg_histogram__of(target[i])) : NULL;

		if (wrong) {
			duckdb_aggregate_function_set_error(info, wrong);
			return;
		}
	}
}

/* ---- results ---- */

duckdb_logical_type mg_histogram__type(size_t axes)
{
	const char *names1[] = { "counts", "edges" }, *names2[] = { "counts", "xedges", "yedges" };
	duckdb_logical_type bigint = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
	duckdb_logical_type row = duckdb_create_list_type(bigint);
	duckdb_logical_type edges = duckdb_create_list_type(number);
	duckdb_logical_type table = duckdb_create_list_type(row);
	duckdb_logical_type members[] = { axes == 1 ? row : table, edges, edges };
	duckdb_logical_type type =
		duckdb_create_struct_type(members, axes == 1 ? names1 : names2, axes + 1);

	duckdb_destroy_logical_type(&bigint);
	duckdb_destroy_logical_type(&number);
	duckdb_destroy_logical_type(&row);
	duckdb_destroy_logical_type(&edges);
	duckdb_destroy_logical_type(&table);
	return type;
}

/* Room for count entries more of list, as its row's value; NULL: there is none.  *first: where they
 * begin in the child. */
static duckdb_vector append(duckdb_vector list, idx_t row, size_t count, idx_t *first)
{
	duckdb_list_entry *entries = duckdb_vector_get_data(list);

	*first = duckdb_list_vector_get_size(list);
	if (duckdb_list_vector_reserve(list, *first + count) != DuckDBSuccess ||
	    duckdb_list_vector_set_size(list, *first + count) != DuckDBSuccess) {
		return NULL;
	}
	entries[row] = (duckdb_list_entry){ .offset = *first, .length = count };
	return duckdb_list_vector_get_child(list);
}

/* size bytes each: BIGINT or DOUBLE */
static bool append_numbers(duckdb_vector list, idx_t row, const void *numbers, size_t count)
{
	idx_t first;
	duckdb_vector child = append(list, row, count, &first);

	if (child) {
		memcpy((char *)duckdb_vector_get_data(child) + first * sizeof(double), numbers,
		       count * sizeof(double));
	}
	return child != NULL;
}

static bool append_counts(duckdb_vector list, idx_t row, const struct mg_histogram *histogram)
{
	if (histogram->spec.axes == 1) {
		return append_numbers(list, row, histogram->counts, histogram->cells);
	}
	size_t lines = histogram->axes[0].count, width = histogram->axes[1].count;
	idx_t first;
	duckdb_vector inner = append(list, row, lines, &first);

	for (size_t i = 0; inner && i < lines; i++) {
		if (!append_numbers(inner, first + i, &histogram->counts[i * width], width)) {
			return false;
		}
	}
	return inner != NULL;
}

static void set_null(duckdb_vector vector, idx_t row)
{
	duckdb_vector_ensure_validity_writable(vector);
	duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), row);
}

static void write_null(duckdb_vector result, size_t axes, idx_t row)
{
	idx_t first;

	set_null(result, row);
	for (size_t i = 0; i <= axes; i++) {
		duckdb_vector member = duckdb_struct_vector_get_child(result, i);

		(void)append(member, row, 0, &first);
		set_null(member, row);
	}
}

static size_t axes_of(duckdb_vector result)
{
	duckdb_logical_type type = duckdb_vector_get_column_type(result);
	size_t members = duckdb_struct_type_child_count(type);

	duckdb_destroy_logical_type(&type);
	return members - 1;
}

static bool write_counted(duckdb_vector result, idx_t row, const struct mg_histogram *histogram)
{
	bool written = append_counts(duckdb_struct_vector_get_child(result, 0), row, histogram);

	for (size_t i = 0; written && i < histogram->spec.axes; i++) {
		const struct mg_bins *axis = &histogram->axes[i];

		written = append_numbers(duckdb_struct_vector_get_child(result, i + 1), row, axis->edges,
		                         axis->count + 1);
	}
	return written;
}

/* The state may go on to take rows: it stays as it is. */
static const char *write_result(duckdb_vector result, idx_t row, struct mg_histogram *histogram)
{
	const char *wrong = NULL;

	if (!histogram->counts) {
		wrong = mg_histogram__settle(histogram, &histogram->settled);
	}
	if (!wrong &&
	    !write_counted(result, row, histogram->settled ? histogram->settled : histogram)) {
		wrong = no_memory;
	}
	mg_histogram__free(histogram->settled);
	histogram->settled = NULL;
	return wrong;
}

void mg_histogram__finalize(duckdb_function_info info, duckdb_aggregate_state *source,
                            duckdb_vector result, idx_t count, idx_t offset)
{
	size_t axes = axes_of(result);

	for (idx_t i = 0; i < count; i++) {
		struct mg_histogram *histogram = *mg_histogram__of(source[i]);
		const char *wrong = NULL;

		if (histogram) {
			wrong = write_result(result, offset + i, histogram);
		} else {
			write_null(result, axes, offset + i);
		}
		if (wrong) {
			duckdb_aggregate_function_set_error(info, wrong);
			return;
		}
	}
}
