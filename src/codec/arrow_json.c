/*
 * arrow_json.c - values of a view as JSON, by the rules of the HTTP interface.
 *
 * A JSON number is written only where every reader gets the same number back: integers up to 2^53
 * and finite floats; all other numbers are strings.  A JSON column is put in as it is when it is
 * strict JSON; DuckDB also takes NaN and trailing commas, and such texts become strings.
 */
#include "codec/arrow_view.h"

#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

#define SAFE_INTEGER_MAX (INT64_C(1) << 53)

static void add_value(const struct mg_value_type *type, int64_t row, struct mg_sb *out);

/* The value's text as a JSON string. */
static void add_as_string(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	struct mg_sb text = { 0 };
	mg_value__text(type, row, &text);
	mg_sb_add_json(out, mg_sb_text(&text), text.len);
	mg_sb_fini(&text);
}

static void add_int(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	bool safe;
	if (type->unsigned_value) {
		safe = ArrowArrayViewGetUIntUnsafe(type->data, row) <= SAFE_INTEGER_MAX;
	} else {
		int64_t value = ArrowArrayViewGetIntUnsafe(type->data, row);
		safe = value >= -SAFE_INTEGER_MAX && value <= SAFE_INTEGER_MAX;
	}
	if (safe) {
		mg_value__text(type, row, out);
	} else {
		add_as_string(type, row, out);
	}
}

static void add_base64(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct ArrowBufferView view = ArrowArrayViewGetBytesUnsafe(type->data, row);
	const uint8_t *bytes = view.data.as_uint8;
	size_t len = (size_t)view.size_bytes;
	mg_sb_add_char(out, '"');
	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		uint32_t three = (uint32_t)bytes[i] << 16;
		three |= have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
		three |= have > 2 ? bytes[i + 2] : 0;
		char four[4] = {
			letters[three >> 18],
			letters[three >> 12 & 63],
			have > 1 ? letters[three >> 6 & 63] : '=',
			have > 2 ? letters[three & 63] : '=',
		};
		mg_sb_add_len(out, four, sizeof four);
	}
	mg_sb_add_char(out, '"');
}

static void add_time(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	int64_t value = ArrowArrayViewGetIntUnsafe(type->data, row);
	mg_sb_add_char(out, '"');
	if (type->kind == MG_KIND_DATE) {
		mg_text__date(out, (int32_t)value, true);
	} else {
		mg_text__timestamp(out, value, type->unit, true);
		if (type->zoned && value != INT64_MAX && value != -INT64_MAX) {
			mg_sb_add_char(out, 'Z');
		}
	}
	mg_sb_add_char(out, '"');
}

static void add_interval(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	struct ArrowInterval value;
	ArrowIntervalInit(&value, NANOARROW_TYPE_INTERVAL_MONTH_DAY_NANO);
	ArrowArrayViewGetIntervalUnsafe(type->data, row, &value);
	mg_sb_add_char(out, '"');
	mg_text__duration(out, value.months, value.days, value.ns / 1000);
	mg_sb_add_char(out, '"');
}

/* No NaN and no Infinity anywhere: those are the reader's only numbers that end in a letter. */
static bool is_strict(const struct mg_json *value)
{
	if (value->kind == MG_JSON_NUMBER) {
		char last = value->text.ptr[value->text.len - 1];
		return last >= '0' && last <= '9';
	}
	mg_json_each(item, value) {
		if (!is_strict(item)) {
			return false;
		}
	}
	return true;
}

static void add_json(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	struct ArrowBufferView bytes = ArrowArrayViewGetBytesUnsafe(type->data, row);
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree;
	if (mg_json_parse(arena, bytes.data.as_char, (size_t)bytes.size_bytes, &tree, NULL) == MG_OK &&
	    is_strict(tree)) {
		mg_json_print(out, tree);
	} else {
		mg_sb_add_json(out, bytes.data.as_char, (size_t)bytes.size_bytes);
	}
	mg_arena_free(arena);
}

static void add_array(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	int64_t from;
	int64_t to;
	mg_value__range(type, row, &from, &to);
	mg_sb_add_char(out, '[');
	for (int64_t i = from; i < to; i++) {
		mg_sb_add(out, i > from ? "," : "");
		add_value(&type->children[0], i, out);
	}
	mg_sb_add_char(out, ']');
}

static void add_struct(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	bool unnamed = mg_value__unnamed(type);
	mg_sb_add_char(out, unnamed ? '[' : '{');
	for (size_t i = 0; i < type->child_count; i++) {
		const struct mg_value_type *member = &type->children[i];
		mg_sb_add(out, i ? "," : "");
		if (!unnamed) {
			mg_sb_add_json(out, member->name, strlen(member->name));
			mg_sb_add_char(out, ':');
		}
		add_value(member, type->data->offset + row, out);
	}
	mg_sb_add_char(out, unnamed ? ']' : '}');
}

static void add_map(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	const struct mg_value_type *entries = &type->children[0];
	int64_t from;
	int64_t to;
	mg_value__range(type, row, &from, &to);
	mg_sb_add_char(out, '{');
	for (int64_t i = from; i < to; i++) {
		int64_t at = entries->data->offset + i;
		mg_sb_add(out, i > from ? "," : "");
		add_as_string(&entries->children[0], at, out);
		mg_sb_add_char(out, ':');
		add_value(&entries->children[1], at, out);
	}
	mg_sb_add_char(out, '}');
}

static void add_value(const struct mg_value_type *type, int64_t row, struct mg_sb *out)
{
	if (mg_value__is_null(type, row)) {
		mg_sb_add(out, "null");
		return;
	}
	switch (type->kind) {
	case MG_KIND_BOOL:
		mg_value__text(type, row, out);
		break;
	case MG_KIND_INT:
		add_int(type, row, out);
		break;
	case MG_KIND_FLOAT:
	case MG_KIND_DOUBLE:
		if (isfinite(ArrowArrayViewGetDoubleUnsafe(type->data, row))) {
			mg_value__text(type, row, out);
		} else {
			add_as_string(type, row, out);
		}
		break;
	case MG_KIND_DATE:
	case MG_KIND_TIMESTAMP:
		add_time(type, row, out);
		break;
	case MG_KIND_INTERVAL:
		add_interval(type, row, out);
		break;
	case MG_KIND_JSON:
		add_json(type, row, out);
		break;
	case MG_KIND_BLOB:
	case MG_KIND_UNKNOWN:
		add_base64(type, row, out);
		break;
	case MG_KIND_LIST:
	case MG_KIND_ARRAY:
		add_array(type, row, out);
		break;
	case MG_KIND_STRUCT:
		add_struct(type, row, out);
		break;
	case MG_KIND_MAP:
		add_map(type, row, out);
		break;
	case MG_KIND_UNION:
		add_value(mg_value__member(type, row), type->data->offset + row, out);
		break;
	default:
		add_as_string(type, row, out);
		break;
	}
}

void mg_arrow_view_json(const struct mg_arrow_view *view, size_t column, int64_t row,
                        struct mg_sb *out)
{
	add_value(&view->columns[column], view->data.offset + row, out);
}
