/* arrow_schema.c - the shapes of columns that may be encoded and decoded. */
#include "codec/arrow_schema.h"

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
