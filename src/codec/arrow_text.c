/*
 * arrow_text.c - values of a view as DuckDB's CAST(x AS VARCHAR) writes them.
 *
 * Inside a list, struct or map each scalar is first written as it would be alone and then put in
 * single quotes if it is empty, is the word null, starts or ends with a blank or holds one of
 * DuckDB's marks; ' and \ inside quotes get a backslash.  Nested values are never quoted.
 */
#include "codec/arrow_view.h"

#include <string.h>

bool mg_value__unnamed(const struct mg_value_type *type)
{
	return type->kind == MG_KIND_STRUCT && type->child_count > 0 && !type->children[0].name[0];
}

const struct mg_value_type *mg_value__member(const struct mg_value_type *type, int64_t row)
{
	if (ArrowArrayViewUnionTypeId(type->data, row) < 0) {
		return NULL;
	}
	int8_t index = ArrowArrayViewUnionChildIndex(type->data, row);
	return index < 0 || (size_t)index >= type->child_count ? NULL : &type->children[index];
}

/* Row of a child of a struct or union that belongs to a row of the parent. */
static int64_t child_row(const struct mg_value_type *type, int64_t row)
{
	return type->data->offset + row;
}

bool mg_value__is_null(const struct mg_value_type *type, int64_t row)
{
	if (type->kind == MG_KIND_NULL) {
		return true;
	}
	if (type->kind == MG_KIND_UNION) {
		const struct mg_value_type *member = mg_value__member(type, row);
		return !member || mg_value__is_null(member, child_row(type, row));
	}
	return ArrowArrayViewIsNull(type->data, row) != 0;
}

void mg_value__range(const struct mg_value_type *type, int64_t row, int64_t *from, int64_t *to)
{
	if (type->kind == MG_KIND_ARRAY) {
		*from = child_row(type, row) * type->width;
		*to = *from + type->width;
		return;
	}
	*from = ArrowArrayViewListChildOffset(type->data, type->data->offset + row);
	*to = ArrowArrayViewListChildOffset(type->data, type->data->offset + row + 1);
}

/* HUGEINT and DECIMAL of 128 bits; the bytes may lie at any multiple of 8. */
__int128 mg_value__int128(const struct mg_value_type *type, int64_t row)
{
	const struct ArrowArrayView *data = type->data;
	int64_t width = data->layout.element_size_bits[1] / 8;
	const uint8_t *at = data->buffer_views[1].data.as_uint8 + (data->offset + row) * width;
	if (width == 4) {
		int32_t small;
		memcpy(&small, at, sizeof small);
		return small;
	}
	if (width == 8) {
		int64_t medium;
		memcpy(&medium, at, sizeof medium);
		return medium;
	}
	__int128 value;
	memcpy(&value, at, sizeof value);
	return value;
}

static struct ArrowBufferView bytes_of(const struct mg_value_type *type, int64_t row)
{
	return ArrowArrayViewGetBytesUnsafe(type->data, row);
}

/* ---- nested ---- */

static bool is_nested(const struct mg_value_type *type)
{
	return type->kind >= MG_KIND_LIST && type->kind <= MG_KIND_UNION;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool needs_quotes(struct mg_str text)
{
	if (text.len == 0 || is_blank(text.ptr[0]) || is_blank(text.ptr[text.len - 1]) ||
	    mg_str_eq_nocase(text, MG_STR("null"))) {
		return true;
	}
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] && strchr("\"'(),:=[]{}", text.ptr[i])) {
			return true;
		}
	}
	return false;
}

static void add_quoted(struct mg_sb *out, struct mg_str text)
{
	mg_sb_add_char(out, '\'');
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '\'' || text.ptr[i] == '\\') {
			mg_sb_add_char(out, '\\');
		}
		mg_sb_add_char(out, text.ptr[i]);
	}
	mg_sb_add_char(out, '\'');
}

/* A value as part of a list, struct or map. */
static void add_element(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	if (mg_value__is_null(type, row)) {
		mg_sb_add(out, "NULL");
		return;
	}
	if (is_nested(type)) {
		mg_value__text(type, row, out);
		return;
	}
	size_t start = out->len;
	mg_value__text(type, row, out);
	struct mg_str text = { mg_sb_text(out) + start, out->len - start };
	if (!needs_quotes(text)) {
		return;
	}
	struct mg_sb copy = { 0 };
	mg_sb_add_len(&copy, text.ptr, text.len);
	out->len = start;
	add_quoted(out, (struct mg_str){ mg_sb_text(&copy), copy.len });
	mg_sb_fini(&copy);
}

static void add_list(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	int64_t from;
	int64_t to;
	bool raw = type->children[0].kind == MG_KIND_JSON; /* in structs and maps JSON is quoted */
	mg_value__range(type, row, &from, &to);
	mg_sb_add_char(out, '[');
	for (int64_t i = from; i < to; i++) {
		mg_sb_add(out, i > from ? ", " : "");
		if (raw && !mg_value__is_null(&type->children[0], i)) {
			mg_value__text(&type->children[0], i, out);
		} else {
			add_element(&type->children[0], i, out);
		}
	}
	mg_sb_add_char(out, ']');
}

static void add_struct(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	bool unnamed = mg_value__unnamed(type);
	mg_sb_add_char(out, unnamed ? '(' : '{');
	for (size_t i = 0; i < type->child_count; i++) {
		mg_sb_add(out, i ? ", " : "");
		if (!unnamed) {
			add_quoted(out, mg_str(type->children[i].name));
			mg_sb_add(out, ": ");
		}
		add_element(&type->children[i], child_row(type, row), out);
	}
	mg_sb_add_char(out, unnamed ? ')' : '}');
}

static void add_map(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	const struct mg_value_type *entries = &type->children[0];
	int64_t from;
	int64_t to;
	mg_value__range(type, row, &from, &to);
	mg_sb_add_char(out, '{');
	for (int64_t i = from; i < to; i++) {
		mg_sb_add(out, i > from ? ", " : "");
		add_element(&entries->children[0], child_row(entries, i), out);
		mg_sb_add_char(out, '=');
		add_element(&entries->children[1], child_row(entries, i), out);
	}
	mg_sb_add_char(out, '}');
}

/* ---- scalars ---- */

static void add_int(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	if (type->unsigned_value) {
		mg_text__uint128(out, ArrowArrayViewGetUIntUnsafe(type->data, row));
	} else {
		mg_text__int128(out, ArrowArrayViewGetIntUnsafe(type->data, row));
	}
}

static void add_interval(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	struct ArrowInterval value;
	ArrowIntervalInit(&value, NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO);
	ArrowArrayViewGetIntervalUnsafe(type->data, row, &value);
	mg_text__interval(out, value.months, value.days, value.ns / 1000);
}

static void add_enum(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	int64_t index = ArrowArrayViewGetIntUnsafe(type->data, row);
	if (index >= 0 && index < type->data->dictionary->length) {
		mg_value__text(&type->children[0], index, out);
	}
}

static void add_bytes(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	struct ArrowBufferView bytes = bytes_of(type, row);
	size_t len = (size_t)bytes.size_bytes;
	switch (type->kind) {
	case MG_KIND_TEXT:
	case MG_KIND_JSON:
		mg_sb_add_len(out, bytes.data.as_char, len);
		break;
	case MG_KIND_BIT:
		mg_text__bits(out, bytes.data.as_uint8, len);
		break;
	case MG_KIND_BIGNUM:
		mg_text__bignum(out, bytes.data.as_uint8, len);
		break;
	case MG_KIND_GEOMETRY:
		mg_text__geometry(out, bytes.data.as_uint8, len);
		break;
	case MG_KIND_UUID:
		mg_text__uuid(out, bytes.data.as_uint8);
		break;
	case MG_KIND_TIME_TZ: {
		uint64_t bits;
		memcpy(&bits, bytes.data.data, sizeof bits);
		mg_text__time_tz(out, bits);
		break;
	}
	default:
		mg_text__blob(out, bytes.data.as_uint8, len);
		break;
	}
}

static void add_time(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	int64_t value = ArrowArrayViewGetIntUnsafe(type->data, row);
	if (type->kind == MG_KIND_DATE) {
		mg_text__date(out, (int32_t)value, false);
	} else if (type->kind == MG_KIND_TIME) {
		mg_text__time(out, value, type->unit);
	} else {
		mg_text__timestamp(out, value, type->unit, false);
		if (type->zoned && value != INT64_MAX && value != -INT64_MAX) {
			mg_sb_add(out, "+00");
		}
	}
}

static void add_number(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	switch (type->kind) {
	case MG_KIND_INT:
		add_int(type, row, out);
		break;
	case MG_KIND_HUGEINT:
		mg_text__int128(out, mg_value__int128(type, row));
		break;
	case MG_KIND_UHUGEINT:
		mg_text__uint128(out, (unsigned __int128)mg_value__int128(type, row));
		break;
	case MG_KIND_DECIMAL:
		mg_text__decimal(out, mg_value__int128(type, row), type->width, type->scale);
		break;
	case MG_KIND_FLOAT:
		mg_text__float(out, (float)ArrowArrayViewGetDoubleUnsafe(type->data, row));
		break;
	default:
		mg_text__double(out, ArrowArrayViewGetDoubleUnsafe(type->data, row));
		break;
	}
}

/* Recursion follows the type, whose depth mg_arrow__check_shape bounds. */
void mg_value__text(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	if (mg_value__is_null(type, row)) {
		return;
	}
	switch (type->kind) {
	case MG_KIND_NULL:
		break;
	case MG_KIND_BOOL:
		mg_sb_add(out, ArrowArrayViewGetIntUnsafe(type->data, row) ? "true" : "false");
		break;
	case MG_KIND_INT:
	case MG_KIND_HUGEINT:
	case MG_KIND_UHUGEINT:
	case MG_KIND_DECIMAL:
	case MG_KIND_FLOAT:
	case MG_KIND_DOUBLE:
		add_number(type, row, out);
		break;
	case MG_KIND_DATE:
	case MG_KIND_TIME:
	case MG_KIND_TIMESTAMP:
		add_time(type, row, out);
		break;
	case MG_KIND_INTERVAL:
		add_interval(type, row, out);
		break;
	case MG_KIND_ENUM:
		add_enum(type, row, out);
		break;
	case MG_KIND_LIST:
	case MG_KIND_ARRAY:
		add_list(type, row, out);
		break;
	case MG_KIND_STRUCT:
		add_struct(type, row, out);
		break;
	case MG_KIND_MAP:
		add_map(type, row, out);
		break;
	case MG_KIND_UNION:
		mg_value__text(mg_value__member(type, row), child_row(type, row), out);
		break;
	default:
		add_bytes(type, row, out);
		break;
	}
}

void mg_arrow_view_text(const struct mg_arrow_view *view, size_t column, int64_t row,
                        struct mg_sb *out)
{
	mg_value__text(&view->columns[column], view->data.offset + row, out);
}
