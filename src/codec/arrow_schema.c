/* arrow_schema.c - the shapes of columns that may be encoded and decoded. */
#include "codec/arrow_schema.h"

#include "codec/arrow_ipc.h"

#include <errno.h>
#include <string.h>

static int check_type(enum ArrowType type, struct mg_error *err)
{
	switch (type) {
	case NANOARROW_TYPE_STRING_VIEW:
	case NANOARROW_TYPE_BINARY_VIEW:
	case NANOARROW_TYPE_LIST_VIEW:
	case NANOARROW_TYPE_LARGE_LIST_VIEW:
	case NANOARROW_TYPE_RUN_END_ENCODED:
	case NANOARROW_TYPE_DENSE_UNION:
	case NANOARROW_TYPE_UNINITIALIZED:
		return mg_error_set(err, MG_E_UNSUPPORTED, "Arrow type \"%s\" is not supported",
		                    ArrowTypeString(type));
	default:
		return MG_OK;
	}
}

static int check_dictionary(const struct ArrowArrayView *values, struct mg_error *err)
{
	if (values->n_children > 0 || values->dictionary) {
		return mg_error_set(err, MG_E_UNSUPPORTED,
		                    "a dictionary of nested values is not supported");
	}
	return check_type(values->storage_type, err);
}

static int check_node(const struct ArrowArrayView *view, unsigned depth, unsigned *nodes,
                      struct mg_error *err)
{
	if (depth > MG_ARROW_DEPTH_MAX || ++*nodes > MG_ARROW_COLUMNS_MAX) {
		return mg_error_set(err, MG_E_LIMIT,
		                    "columns are nested more than %d deep, or more than %d",
		                    MG_ARROW_DEPTH_MAX, MG_ARROW_COLUMNS_MAX);
	}
	int code = check_type(view->storage_type, err);
	if (code == MG_OK && view->dictionary) {
		code = check_dictionary(view->dictionary, err);
	}
	for (int64_t i = 0; i < view->n_children && code == MG_OK; i++) {
		code = check_node(view->children[i], depth + 1, nodes, err);
	}
	return code;
}

int mg_arrow__check_shape(const struct ArrowArrayView *view, struct mg_error *err)
{
	unsigned nodes = 0;
	if (view->storage_type != NANOARROW_TYPE_STRUCT) {
		return mg_error_set(err, MG_E_PROTOCOL, "the columns of a result must form a struct");
	}
	return check_node(view, 0, &nodes, err);
}

void mg_arrow__repair_maps(struct ArrowSchema *schema)
{
	if (schema->format && strcmp(schema->format, "+m") == 0 && schema->n_children == 1 &&
	    schema->children[0]->n_children > 0) {
		schema->children[0]->children[0]->flags &= ~(int64_t)ARROW_FLAG_NULLABLE;
	}
	for (int64_t i = 0; i < schema->n_children; i++) {
		mg_arrow__repair_maps(schema->children[i]);
	}
}

/* Pointers and lengths only; sizes of buffers are found when the view is validated. */
static int point_at(struct ArrowArrayView *view, const struct ArrowArray *array,
                    struct ArrowError *why)
{
	int64_t buffers = 0;
	view->array = array;
	view->offset = array->offset;
	view->length = array->length;
	view->null_count = array->null_count;
	while (buffers < NANOARROW_MAX_FIXED_BUFFERS &&
	       view->layout.buffer_type[buffers] != NANOARROW_BUFFER_TYPE_NONE) {
		buffers++;
	}
	if (buffers != array->n_buffers || view->n_children != array->n_children ||
	    (view->dictionary != NULL) != (array->dictionary != NULL)) {
		ArrowErrorSet(why, "an array of another shape");
		return EINVAL;
	}
	for (int64_t i = 0; i < buffers; i++) {
		view->buffer_views[i].data.data = array->buffers[i];
		view->buffer_views[i].size_bytes = array->buffers[i] ? -1 : 0;
	}
	if (view->null_count < 0 && buffers > 0 && !array->buffers[0]) {
		view->null_count = 0;
	}
	int failed = NANOARROW_OK;
	for (int64_t i = 0; i < view->n_children && !failed; i++) {
		failed = point_at(view->children[i], array->children[i], why);
	}
	if (view->dictionary && !failed) {
		failed = point_at(view->dictionary, array->dictionary, why);
	}
	return failed;
}

int mg_arrow__set_view(struct ArrowArrayView *view, const struct ArrowArray *array,
                       struct ArrowError *why)
{
	int failed = point_at(view, array, why);
	return failed ? failed : ArrowArrayViewValidate(view, NANOARROW_VALIDATION_LEVEL_DEFAULT, why);
}

uint64_t mg_arrow_buffer_bytes(const struct ArrowArrayView *view)
{
	uint64_t bytes = 0;
	for (int i = 0; i < NANOARROW_MAX_FIXED_BUFFERS; i++) {
		if (view->buffer_views[i].size_bytes > 0) {
			bytes += (uint64_t)view->buffer_views[i].size_bytes;
		}
	}
	for (int64_t i = 0; i < view->n_children; i++) {
		bytes += mg_arrow_buffer_bytes(view->children[i]);
	}
	return bytes;
}
