/*
 * arrow_view.c - from an Arrow schema to kinds of values, and the names of DuckDB's types.
 *
 * The mapping is the inverse of what DuckDB writes, in its default and its lossless form: lossless
 * BOOLEAN is "arrow.bool8", UUID is 16 bytes, HUGEINT and friends are "arrow.opaque" with their
 * type's name in the metadata.
 */
#include "codec/arrow_view.h"

#include "base/error.h"
#include "base/mem.h"
#include "codec/arrow_schema.h"

#include <string.h>

static bool view_eq(struct ArrowStringView view, const char *text)
{
	return view.size_bytes == (int64_t)strlen(text) &&
	       memcmp(view.data, text, (size_t)view.size_bytes) == 0;
}

/* Value of "type_name" in {"type_name":"hugeint","vendor_name":"DuckDB"}; NULL when there is none.
 */
static const char *opaque_name(struct mg_arena *arena, struct ArrowStringView metadata)
{
	static const char key[] = "\"type_name\":\"";
	const char *at = metadata.data;
	size_t left = (size_t)metadata.size_bytes;
	const char *start = at ? memmem(at, left, key, sizeof key - 1) : NULL;
	if (!start) {
		return NULL;
	}
	start += sizeof key - 1;
	const char *end = memchr(start, '"', left - (size_t)(start - at));
	return end ? mg_arena_strndup(arena, start, (size_t)(end - start)) : NULL;
}

static void set_opaque(struct mg_arena *arena, struct mg_value_type *type,
                       struct ArrowStringView metadata, enum ArrowType storage, int32_t bytes)
{
	const char *name = opaque_name(arena, metadata);
	bool wide = storage == NANOARROW_TYPE_FIXED_SIZE_BINARY && bytes == 16;
	bool variable = storage == NANOARROW_TYPE_BINARY || storage == NANOARROW_TYPE_LARGE_BINARY;
	if (wide && mg_text_eq(name, "hugeint")) {
		type->kind = MG_KIND_HUGEINT;
	} else if (wide && mg_text_eq(name, "uhugeint")) {
		type->kind = MG_KIND_UHUGEINT;
	} else if (variable && mg_text_eq(name, "bit")) {
		type->kind = MG_KIND_BIT;
	} else if (variable && mg_text_eq(name, "bignum")) {
		type->kind = MG_KIND_BIGNUM;
	} else if (storage == NANOARROW_TYPE_FIXED_SIZE_BINARY && bytes == 8 &&
	           mg_text_eq(name, "time_tz")) {
		type->kind = MG_KIND_TIME_TZ;
	}
	type->opaque = name;
}

static void set_extension(struct mg_arena *arena, struct mg_value_type *type,
                          const struct ArrowSchemaView *view)
{
	struct ArrowStringView name = view->extension_name;
	bool text = view->storage_type == NANOARROW_TYPE_STRING ||
	            view->storage_type == NANOARROW_TYPE_LARGE_STRING;
	if (!name.data) {
		return;
	}
	if (view_eq(name, "arrow.bool8") && view->storage_type == NANOARROW_TYPE_INT8) {
		type->kind = MG_KIND_BOOL;
	} else if (view_eq(name, "arrow.uuid") &&
	           view->storage_type == NANOARROW_TYPE_FIXED_SIZE_BINARY && view->fixed_size == 16) {
		type->kind = MG_KIND_UUID;
	} else if (view_eq(name, "arrow.json") && text) {
		type->kind = MG_KIND_JSON;
	} else if (view_eq(name, "geoarrow.wkb") && type->kind == MG_KIND_BLOB) {
		type->kind = MG_KIND_GEOMETRY;
	} else if (view_eq(name, "arrow.opaque")) {
		set_opaque(arena, type, view->extension_metadata, view->storage_type, view->fixed_size);
	}
}

static enum mg_time_unit unit_of(enum ArrowTimeUnit unit)
{
	switch (unit) {
	case NANOARROW_TIME_UNIT_SECOND:
		return MG_UNIT_SECOND;
	case NANOARROW_TIME_UNIT_MILLI:
		return MG_UNIT_MILLI;
	case NANOARROW_TIME_UNIT_NANO:
		return MG_UNIT_NANO;
	default:
		return MG_UNIT_MICRO;
	}
}

static void set_int(struct mg_value_type *type, int32_t bits, bool unsigned_value)
{
	type->kind = MG_KIND_INT;
	type->width = bits;
	type->unsigned_value = unsigned_value;
}

static void set_number(struct mg_value_type *type, const struct ArrowSchemaView *view)
{
	switch (view->type) {
	case NANOARROW_TYPE_INT8:
	case NANOARROW_TYPE_UINT8:
		set_int(type, 8, view->type == NANOARROW_TYPE_UINT8);
		break;
	case NANOARROW_TYPE_INT16:
	case NANOARROW_TYPE_UINT16:
		set_int(type, 16, view->type == NANOARROW_TYPE_UINT16);
		break;
	case NANOARROW_TYPE_INT32:
	case NANOARROW_TYPE_UINT32:
		set_int(type, 32, view->type == NANOARROW_TYPE_UINT32);
		break;
	case NANOARROW_TYPE_INT64:
	case NANOARROW_TYPE_UINT64:
		set_int(type, 64, view->type == NANOARROW_TYPE_UINT64);
		break;
	case NANOARROW_TYPE_FLOAT:
		type->kind = MG_KIND_FLOAT;
		break;
	case NANOARROW_TYPE_DOUBLE:
		type->kind = MG_KIND_DOUBLE;
		break;
	case NANOARROW_TYPE_DECIMAL32:
	case NANOARROW_TYPE_DECIMAL64:
	case NANOARROW_TYPE_DECIMAL128:
		type->kind = MG_KIND_DECIMAL;
		type->width = view->decimal_precision;
		type->scale = view->decimal_scale;
		break;
	default:
		break;
	}
}

static void set_time(struct mg_value_type *type, const struct ArrowSchemaView *view)
{
	type->unit = unit_of(view->time_unit);
	switch (view->type) {
	case NANOARROW_TYPE_DATE32:
		type->kind = MG_KIND_DATE;
		break;
	case NANOARROW_TYPE_TIME32:
	case NANOARROW_TYPE_TIME64:
		type->kind = MG_KIND_TIME;
		break;
	case NANOARROW_TYPE_TIMESTAMP:
		type->kind = MG_KIND_TIMESTAMP;
		type->zoned = view->timezone && view->timezone[0];
		break;
	case NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO:
		type->kind = MG_KIND_INTERVAL;
		break;
	default:
		break;
	}
}

static void set_kind(struct mg_value_type *type, const struct ArrowSchemaView *view)
{
	switch (view->type) {
	case NANOARROW_TYPE_NA:
		type->kind = MG_KIND_NULL;
		break;
	case NANOARROW_TYPE_BOOL:
		type->kind = MG_KIND_BOOL;
		break;
	case NANOARROW_TYPE_STRING:
	case NANOARROW_TYPE_LARGE_STRING:
		type->kind = MG_KIND_TEXT;
		break;
	case NANOARROW_TYPE_BINARY:
	case NANOARROW_TYPE_LARGE_BINARY:
	case NANOARROW_TYPE_FIXED_SIZE_BINARY:
		type->kind = MG_KIND_BLOB;
		break;
	case NANOARROW_TYPE_LIST:
	case NANOARROW_TYPE_LARGE_LIST:
		type->kind = MG_KIND_LIST;
		break;
	case NANOARROW_TYPE_FIXED_SIZE_LIST:
		type->kind = MG_KIND_ARRAY;
		type->width = view->fixed_size;
		break;
	case NANOARROW_TYPE_STRUCT:
		type->kind = MG_KIND_STRUCT;
		break;
	case NANOARROW_TYPE_MAP:
		type->kind = MG_KIND_MAP;
		break;
	case NANOARROW_TYPE_SPARSE_UNION:
		type->kind = MG_KIND_UNION;
		break;
	case NANOARROW_TYPE_DICTIONARY:
		type->kind = MG_KIND_ENUM;
		break;
	default:
		set_number(type, view);
		if (type->kind == MG_KIND_UNKNOWN) {
			set_time(type, view);
		}
		break;
	}
}

/* False when the schema is not valid.  A dictionary's values count as its one child. */
static bool describe(struct mg_arena *arena, struct mg_value_type *type,
                     const struct ArrowSchema *schema, const struct ArrowArrayView *data)
{
	struct ArrowSchemaView view;
	if (ArrowSchemaViewInit(&view, schema, NULL) != NANOARROW_OK) {
		return false;
	}
	*type = (struct mg_value_type){
		.kind = MG_KIND_UNKNOWN,
		.name = schema->name ? schema->name : "",
		.data = data,
	};
	set_kind(type, &view);
	set_extension(arena, type, &view);
	bool coded = type->kind == MG_KIND_ENUM;
	type->child_count = coded ? 1 : (size_t)schema->n_children;
	type->children = mg_arena_new_array(arena, struct mg_value_type, type->child_count);
	for (size_t i = 0; i < type->child_count; i++) {
		if (!describe(arena, &type->children[i], coded ? schema->dictionary : schema->children[i],
		              coded ? data->dictionary : data->children[i])) {
			return false;
		}
	}
	return true;
}

int mg_arrow_view_new(struct mg_arrow_view **out, const struct ArrowSchema *schema)
{
	struct mg_arrow_view *view = mg_alloc0(sizeof *view);
	view->arena = mg_arena_new();
	ArrowArrayViewInitFromType(&view->data, NANOARROW_TYPE_UNINITIALIZED);
	struct mg_value_type root;
	if (ArrowSchemaDeepCopy(schema, &view->schema) != NANOARROW_OK ||
	    ArrowArrayViewInitFromSchema(&view->data, &view->schema, NULL) != NANOARROW_OK ||
	    view->data.storage_type != NANOARROW_TYPE_STRUCT ||
	    !describe(view->arena, &root, &view->schema, &view->data)) {
		mg_arrow_view_free(view);
		return MG_E_INTERNAL;
	}
	view->columns = root.children;
	view->column_count = root.child_count;
	*out = view;
	return MG_OK;
}

int mg_arrow_view_set(struct mg_arrow_view *view, const struct ArrowArray *array)
{
	return mg_arrow__set_view(&view->data, array, NULL) == NANOARROW_OK ? MG_OK : MG_E_INTERNAL;
}

void mg_arrow_view_free(struct mg_arrow_view *view)
{
	if (!view) {
		return;
	}
	ArrowArrayViewReset(&view->data);
	if (view->schema.release) {
		ArrowSchemaRelease(&view->schema);
	}
	mg_arena_free(view->arena);
	mg_free(view);
}

int64_t mg_arrow_view_rows(const struct mg_arrow_view *view)
{
	return view->data.length;
}

size_t mg_arrow_view_columns(const struct mg_arrow_view *view)
{
	return view->column_count;
}

const char *mg_arrow_view_name(const struct mg_arrow_view *view, size_t column)
{
	return view->columns[column].name;
}

bool mg_arrow_view_is_null(const struct mg_arrow_view *view, size_t column, int64_t row)
{
	return mg_value__is_null(&view->columns[column], view->data.offset + row);
}

bool mg_arrow_view_is_numeric(const struct mg_arrow_view *view, size_t column)
{
	switch (view->columns[column].kind) {
	case MG_KIND_INT:
	case MG_KIND_HUGEINT:
	case MG_KIND_UHUGEINT:
	case MG_KIND_BIGNUM:
	case MG_KIND_FLOAT:
	case MG_KIND_DOUBLE:
	case MG_KIND_DECIMAL:
		return true;
	default:
		return false;
	}
}

/* ---- names of types ---- */

static void add_int_name(const struct mg_value_type *type, struct mg_sb *out)
{
	static const char *const names[] = { "tinyint", "smallint", "integer", "bigint" };
	int index = type->width == 8 ? 0 : type->width == 16 ? 1 : type->width == 32 ? 2 : 3;
	mg_sb_addf(out, "%s%s", type->unsigned_value ? "u" : "", names[index]);
}

static void add_timestamp_name(const struct mg_value_type *type, struct mg_sb *out)
{
	static const char *const suffixes[] = { "_s", "_ms", "", "_ns" };
	if (type->zoned) {
		mg_sb_add(out, "timestamp with time zone");
	} else {
		mg_sb_addf(out, "timestamp%s", suffixes[type->unit]);
	}
}

/* A member's name, in quotes unless it is plain. */
static void add_member_name(struct mg_sb *out, const char *name)
{
	size_t plain = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");
	if (name[0] && !name[plain] && !(name[0] >= '0' && name[0] <= '9')) {
		mg_sb_add(out, name);
	} else {
		mg_sb_add_ident(out, name);
	}
}

static void add_type(const struct mg_value_type *type, struct mg_sb *out);

/* "(a integer, b varchar)" */
static void add_members(const struct mg_value_type *type, bool named, struct mg_sb *out)
{
	mg_sb_add_char(out, '(');
	for (size_t i = 0; i < type->child_count; i++) {
		mg_sb_add(out, i ? ", " : "");
		if (named) {
			add_member_name(out, type->children[i].name);
			mg_sb_add_char(out, ' ');
		}
		add_type(&type->children[i], out);
	}
	mg_sb_add_char(out, ')');
}

static void add_nested_type(const struct mg_value_type *type, struct mg_sb *out)
{
	switch (type->kind) {
	case MG_KIND_LIST:
		add_type(&type->children[0], out);
		mg_sb_add(out, "[]");
		break;
	case MG_KIND_ARRAY:
		add_type(&type->children[0], out);
		mg_sb_addf(out, "[%d]", (int)type->width);
		break;
	case MG_KIND_STRUCT:
		mg_sb_add(out, "struct");
		add_members(type, !mg_value__unnamed(type), out);
		break;
	case MG_KIND_UNION:
		mg_sb_add(out, "union");
		add_members(type, true, out);
		break;
	default:
		mg_sb_add(out, "map");
		add_members(&type->children[0], false, out);
		break;
	}
}

static void add_type(const struct mg_value_type *type, struct mg_sb *out)
{
	static const char *const names[] = {
		[MG_KIND_NULL] = "\"null\"",
		[MG_KIND_BOOL] = "boolean",
		[MG_KIND_HUGEINT] = "hugeint",
		[MG_KIND_UHUGEINT] = "uhugeint",
		[MG_KIND_BIGNUM] = "bignum",
		[MG_KIND_FLOAT] = "float",
		[MG_KIND_DOUBLE] = "double",
		[MG_KIND_TEXT] = "varchar",
		[MG_KIND_JSON] = "json",
		[MG_KIND_BLOB] = "blob",
		[MG_KIND_BIT] = "bit",
		[MG_KIND_UUID] = "uuid",
		[MG_KIND_GEOMETRY] = "geometry",
		[MG_KIND_DATE] = "date",
		[MG_KIND_TIME_TZ] = "time with time zone",
		[MG_KIND_INTERVAL] = "interval",
		[MG_KIND_ENUM] = "enum",
	};
	switch (type->kind) {
	case MG_KIND_INT:
		add_int_name(type, out);
		break;
	case MG_KIND_DECIMAL:
		mg_sb_addf(out, "decimal(%d,%d)", (int)type->width, (int)type->scale);
		break;
	case MG_KIND_TIME:
		mg_sb_add(out, type->unit == MG_UNIT_NANO ? "time_ns" : "time");
		break;
	case MG_KIND_TIMESTAMP:
		add_timestamp_name(type, out);
		break;
	case MG_KIND_LIST:
	case MG_KIND_ARRAY:
	case MG_KIND_STRUCT:
	case MG_KIND_MAP:
	case MG_KIND_UNION:
		add_nested_type(type, out);
		break;
	case MG_KIND_UNKNOWN:
		mg_sb_add(out, type->opaque ? type->opaque : "unknown");
		break;
	default:
		mg_sb_add(out, names[type->kind]);
		break;
	}
}

void mg_arrow_view_type(const struct mg_arrow_view *view, size_t column, struct mg_sb *out)
{
	add_type(&view->columns[column], out);
}
