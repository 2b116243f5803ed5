/*
 * text_rows.c - text columns through nanoarrow's appenders.
 */
#include "session/text_rows.h"

#include <string.h>

static int no_memory(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NOMEM, "not enough memory for the answer's rows");
}

int mg_text_rows_init(struct mg_text_rows *rows, const char *const *names, size_t columns,
                      struct mg_error *err)
{
	memset(rows, 0, sizeof *rows);
	rows->columns = columns;
	ArrowSchemaInit(&rows->schema);
	if (ArrowSchemaSetTypeStruct(&rows->schema, (int64_t)columns)) {
		goto fail;
	}
	for (size_t i = 0; i < columns; i++) {
		if (ArrowSchemaSetType(rows->schema.children[i], NANOARROW_TYPE_STRING) ||
		    ArrowSchemaSetName(rows->schema.children[i], names[i])) {
			goto fail;
		}
	}
	if (ArrowArrayInitFromSchema(&rows->array, &rows->schema, NULL) ||
	    ArrowArrayStartAppending(&rows->array)) {
		goto fail;
	}
	return 0;
fail:
	mg_text_rows_fini(rows);
	return no_memory(err);
}

int mg_text_rows_add(struct mg_text_rows *rows, const struct mg_str *values, struct mg_error *err)
{
	for (size_t i = 0; i < rows->columns; i++) {
		struct ArrowStringView view = { .data = values[i].ptr ? values[i].ptr : "",
			                            .size_bytes = (int64_t)values[i].len };

		if (ArrowArrayAppendString(rows->array.children[i], view)) {
			return no_memory(err);
		}
		rows->bytes += values[i].len;
	}
	if (ArrowArrayFinishElement(&rows->array)) {
		return no_memory(err);
	}
	rows->rows++;
	return 0;
}

int mg_text_rows_add_text(struct mg_text_rows *rows, const struct mg_sb *text, bool by_line,
                          struct mg_error *err)
{
	struct mg_str rest = { mg_sb_text(text), text->len };
	int code = 0;

	while (!code && rest.len > 0) {
		const char *end = by_line ? memchr(rest.ptr, '\n', rest.len) : NULL;
		struct mg_str line = { rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len };
		size_t used = line.len + (end ? 1 : 0);

		code = mg_text_rows_add(rows, &line, err);
		rest = (struct mg_str){ rest.ptr + used, rest.len - used };
	}
	return code;
}

int mg_text_rows_finish(struct mg_text_rows *rows, struct mg_error *err)
{
	return ArrowArrayFinishBuildingDefault(&rows->array, NULL) ? no_memory(err) : 0;
}

void mg_text_rows_fini(struct mg_text_rows *rows)
{
	if (rows->array.release) {
		ArrowArrayRelease(&rows->array);
	}
	if (rows->schema.release) {
		ArrowSchemaRelease(&rows->schema);
	}
}
