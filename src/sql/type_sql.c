/*
 * type_sql.c - types and constants as SQL text.
 *
 * Rule: the text binds to exactly the type and value of the plan, whatever the session's time zone
 * or the context is; so every constant carries its cast, and times with zone are written in UTC.
 *
 * Pure; any thread.
 */
#include "sql/sql_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 i128;
typedef unsigned __int128 u128;

#define unsupported(err, ...) mg_error_set((err), MG_E_UNSUPPORTED, __VA_ARGS__)

/* ---- types ---- */

static int members_text(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	for (size_t i = 0; i < type->child_count; i++) {
		const char *name = type->names ? type->names[i] : "";

		if (!*name) {
			return unsupported(err, "struct type without field names");
		}
		mg_sb_add(sb, i ? ", " : "(");
		mg_sb_add_ident(sb, name);
		mg_sb_add(sb, " ");
		if (mg_type_text(sb, type->children[i], err)) {
			return err ? err->code : MG_E_UNSUPPORTED;
		}
	}
	mg_sb_add(sb, ")");
	return 0;
}

int mg_type_text(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	const char *id = type->id;

	if (strcmp(id, "DECIMAL") == 0) {
		mg_sb_addf(sb, "DECIMAL(%d,%d)", type->width, type->scale);
		return 0;
	}
	if (strcmp(id, "LIST") == 0 || strcmp(id, "ARRAY") == 0) {
		int code = mg_type_text(sb, type->children[0], err);

		if (id[0] == 'L') {
			mg_sb_add(sb, "[]");
		} else {
			mg_sb_addf(sb, "[%" PRIu64 "]", type->size);
		}
		return code;
	}
	if (strcmp(id, "STRUCT") == 0 || strcmp(id, "UNION") == 0) {
		mg_sb_add(sb, id);
		return members_text(sb, type, err);
	}
	if (strcmp(id, "MAP") == 0) {
		mg_sb_add(sb, "MAP(");
		int code = mg_type_text(sb, type->children[0], err);

		mg_sb_add(sb, ", ");
		code = code ? code : mg_type_text(sb, type->children[1], err);
		mg_sb_add(sb, ")");
		return code;
	}
	if (strcmp(id, "ENUM") == 0) {
		for (size_t i = 0; i < type->name_count; i++) {
			mg_sb_add(sb, i ? ", " : "ENUM(");
			mg_sb_add_literal(sb, type->names[i], strlen(type->names[i]));
		}
		mg_sb_add(sb, type->name_count ? ")" : "ENUM()");
		return 0;
	}
	if (strcmp(id, "VARCHAR") == 0 && type->alias && strcmp(type->alias, "JSON") == 0) {
		mg_sb_add(sb, "JSON");
		return 0;
	}
	mg_sb_add(sb, strcmp(id, "NULL") == 0 ? "\"NULL\"" : id);
	return 0;
}

int mg_type_print(struct mg_arena *arena, const struct mg_type *type, char **sql,
                  struct mg_error *err)
{
	struct mg_sb sb = { 0 };
	int code = mg_type_text(&sb, type, err);

	*sql = code ? NULL : mg_arena_strdup(arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	return code;
}

/* ---- numbers ---- */

/* Integer value: a number, or {upper, lower} of 128 bits (upper signed or not: the bits count). */
static bool value_i128(const struct mg_json *value, u128 *out)
{
	if (mg_json_is(value, MG_JSON_NUMBER)) {
		const char *text = mg_json_text(value);

		*out = text[0] == '-' ? (u128)(i128)strtoll(text, NULL, 10)
		                      : (u128)strtoull(text, NULL, 10);
		return text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
	}
	const struct mg_json *upper = mg_json_get(value, "upper");
	const struct mg_json *lower = mg_json_get(value, "lower");

	if (!mg_json_is(upper, MG_JSON_NUMBER) || !mg_json_is(lower, MG_JSON_NUMBER)) {
		return false;
	}
	const char *high = mg_json_text(upper);
	uint64_t bits = high[0] == '-' ? (uint64_t)strtoll(high, NULL, 10) : strtoull(high, NULL, 10);

	*out = (u128)bits << 64 | strtoull(mg_json_text(lower), NULL, 10);
	return true;
}

static int64_t value_i64(const struct mg_json *value)
{
	u128 bits = 0;

	(void)value_i128(value, &bits);
	return (int64_t)bits;
}

/* Digits of bits with a point before the last `scale`. */
static void add_decimal(struct mg_sb *sb, u128 bits, bool is_signed, int scale)
{
	char text[64];
	size_t at = sizeof text;
	bool negative = is_signed && (i128)bits < 0;
	int digits = 0;

	if (negative) {
		bits = (u128)0 - bits;
	}
	text[--at] = '\0';
	do {
		if (scale && digits == scale) {
			text[--at] = '.';
		}
		text[--at] = (char)('0' + (int)(bits % 10));
		bits /= 10;
		digits++;
	} while (bits || digits <= scale);
	if (negative) {
		text[--at] = '-';
	}
	mg_sb_add(sb, text + at);
}

/* ---- dates and times ---- */

/* Gregorian calendar from days since 1970, for years 1 to 9999 (else false). */
static bool civil(int64_t days, int *year, int *month, int *day)
{
	int64_t z = days + 719468; /* from 0000-03-01 */

	if (days < -719162 || days > 2932896) {
		return false;
	}
	int64_t era = z / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	*day = (int)(doy - (153 * mp + 2) / 5 + 1);
	*month = (int)(mp < 10 ? mp + 3 : mp - 9);
	*year = (int)(yoe + era * 400 + (*month <= 2));
	return true;
}

/* HH:MM:SS and the fraction's digits unless it is 0; ticks of 10^digits a second. */
static void add_clock(struct mg_sb *sb, int64_t ticks, int digits)
{
	int64_t second = 1;

	for (int i = 0; i < digits; i++) {
		second *= 10;
	}
	int64_t seconds = ticks / second, fraction = ticks % second;

	mg_sb_addf(sb, "%02d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60),
	           (int)(seconds % 60));
	if (fraction) {
		mg_sb_addf(sb, ".%0*lld", digits, (long long)fraction);
	}
}

static bool add_stamp(struct mg_sb *sb, int64_t ticks, int digits)
{
	int64_t day_ticks = 86400;
	int year, month, day;

	for (int i = 0; i < digits; i++) {
		day_ticks *= 10;
	}
	int64_t days = ticks / day_ticks, rest = ticks % day_ticks;

	if (rest < 0) {
		rest += day_ticks;
		days--;
	}
	if (!civil(days, &year, &month, &day)) {
		return false;
	}
	mg_sb_addf(sb, "%04d-%02d-%02d ", year, month, day);
	add_clock(sb, rest, digits);
	return true;
}

static int timestamp_text(struct mg_sb *sb, int64_t ticks, const char *id, struct mg_error *err)
{
	bool zone = strcmp(id, "TIMESTAMP WITH TIME ZONE") == 0;
	int digits = strcmp(id, "TIMESTAMP_S") == 0    ? 0
	             : strcmp(id, "TIMESTAMP_MS") == 0 ? 3
	             : strcmp(id, "TIMESTAMP_NS") == 0 ? 9
	                                               : 6;

	if (ticks == INT64_MAX || ticks == -INT64_MAX) {
		mg_sb_addf(sb, "CAST('%sinfinity' AS %s)", ticks < 0 ? "-" : "", id);
		return 0;
	}
	size_t mark = sb->len;

	mg_sb_add(sb, "CAST('");
	if (add_stamp(sb, ticks, digits)) {
		mg_sb_addf(sb, "%s' AS %s)", zone ? "+00" : "", id);
		return 0;
	}
	sb->len = mark;
	sb->ptr[mark] = '\0';
	if (digits != 6) {
		return unsupported(err, "%s literal outside the years 1 to 9999", id);
	}
	mg_sb_addf(sb,
	           zone ? "(make_timestamp(CAST('%" PRId64 "' AS BIGINT)) AT TIME ZONE 'UTC')"
	                : "make_timestamp(CAST('%" PRId64 "' AS BIGINT))",
	           ticks);
	return 0;
}

static void date_text(struct mg_sb *sb, int64_t days)
{
	int year, month, day;

	if (days == INT32_MAX || days == -INT32_MAX) {
		mg_sb_addf(sb, "CAST('%sinfinity' AS DATE)", days < 0 ? "-" : "");
	} else if (civil(days, &year, &month, &day)) {
		mg_sb_addf(sb, "DATE '%04d-%02d-%02d'", year, month, day);
	} else {
		mg_sb_addf(sb, "(CAST('1970-01-01' AS DATE) + CAST('%" PRId64 "' AS INTEGER))", days);
	}
}

/* Microseconds above 24 bits of (15:59:59 minus the offset in seconds). */
static void timetz_text(struct mg_sb *sb, uint64_t bits)
{
	int64_t offset = 57599 - (int64_t)(bits & 0xffffff);
	int64_t size = offset < 0 ? -offset : offset;

	mg_sb_add(sb, "CAST('");
	add_clock(sb, (int64_t)(bits >> 24), 6);
	mg_sb_addf(sb, "%c%02d:%02d", offset < 0 ? '-' : '+', (int)(size / 3600),
	           (int)(size / 60 % 60));
	if (size % 60) {
		mg_sb_addf(sb, ":%02d", (int)(size % 60));
	}
	mg_sb_add(sb, "' AS TIME WITH TIME ZONE)");
}

static int interval_text(struct mg_sb *sb, const struct mg_json *value)
{
	int64_t months = mg_json_get_int(value, "months", 0);
	int64_t days = mg_json_get_int(value, "days", 0);
	int64_t micros = mg_json_get_int(value, "micros", 0);

	mg_sb_addf(sb,
	           "(to_months(CAST('%" PRId64 "' AS INTEGER)) + to_days(CAST('%" PRId64
	           "' AS INTEGER)) + to_microseconds(CAST('%" PRId64 "' AS BIGINT)))",
	           months, days, micros);
	return 0;
}

/* ---- texts ---- */

/* SQL cannot hold a zero byte, so it is put between the pieces as chr(0). */
static void varchar_text(struct mg_sb *sb, struct mg_str text)
{
	const char *zero = memchr(text.ptr, '\0', text.len);

	if (!zero) {
		mg_sb_add_literal(sb, text.ptr, text.len);
		return;
	}
	mg_sb_add(sb, "(");
	while (zero) {
		size_t len = (size_t)(zero - text.ptr);

		mg_sb_add_literal(sb, text.ptr, len);
		mg_sb_add(sb, " || chr(0) || ");
		text.ptr += len + 1;
		text.len -= len + 1;
		zero = memchr(text.ptr, '\0', text.len);
	}
	mg_sb_add_literal(sb, text.ptr, text.len);
	mg_sb_add(sb, ")");
}

static int uuid_text(struct mg_sb *sb, const struct mg_json *value, struct mg_error *err)
{
	u128 bits;

	if (!value_i128(value, &bits)) {
		return unsupported(err, "UUID literal");
	}
	bits ^= (u128)1 << 127; /* stored so that signed comparison sorts */
	uint64_t high = (uint64_t)(bits >> 64), low = (uint64_t)bits;

	mg_sb_addf(sb, "CAST('%08x-%04x-%04x-%04x-%012" PRIx64 "' AS UUID)", (unsigned)(high >> 32),
	           (unsigned)(high >> 16 & 0xffff), (unsigned)(high & 0xffff), (unsigned)(low >> 48),
	           low & 0xffffffffffff);
	return 0;
}

/* ---- nested values ---- */

static int child_text(struct mg_sb *sb, const struct mg_json *value, const struct mg_type *type,
                      struct mg_error *err)
{
	struct mg_json bare = { .kind = MG_JSON_OBJECT };

	if (mg_json_get(value, "type")) {
		return mg_value_text(sb, value, type, err);
	}
	/* A bare value, without its own type. */
	struct mg_json member = value ? *value : bare;

	member.key = MG_STR("value");
	member.next = NULL;
	bare.child = &member;
	bare.count = 1;
	return mg_value_text(sb, &bare, type, err);
}

static int list_text(struct mg_sb *sb, const struct mg_json *kids, const struct mg_type *child,
                     struct mg_error *err)
{
	size_t i = 0;

	mg_sb_add(sb, "[");
	mg_json_each(kid, kids) {
		mg_sb_add(sb, i++ ? ", " : "");
		int code = child_text(sb, kid, child, err);

		if (code) {
			return code;
		}
	}
	mg_sb_add(sb, "]");
	return 0;
}

static int struct_text(struct mg_sb *sb, const struct mg_json *kids, const struct mg_type *type,
                       struct mg_error *err)
{
	bool named = type->child_count && type->names[0][0];

	if (!kids || kids->count != type->child_count) {
		return unsupported(err, "STRUCT literal of another size than its type");
	}
	mg_sb_add(sb, named ? "struct_pack(" : "\"row\"(");
	for (size_t i = 0; i < type->child_count; i++) {
		mg_sb_add(sb, i ? ", " : "");
		if (named) {
			mg_sb_add_ident(sb, type->names[i]);
			mg_sb_add(sb, " := ");
		}
		int code = child_text(sb, mg_json_at(kids, i), type->children[i], err);

		if (code) {
			return code;
		}
	}
	mg_sb_add(sb, ")");
	return 0;
}

/* map([keys], [values]) of a list of pairs. */
static int map_text(struct mg_sb *sb, const struct mg_json *pairs, const struct mg_type *type,
                    struct mg_error *err)
{
	for (size_t side = 0; side < 2; side++) {
		size_t i = 0;

		mg_sb_add(sb, side ? "], [" : "map([");
		mg_json_each(pair, pairs) {
			const struct mg_json *value = mg_json_get(pair, "value") ? mg_json_get(pair, "value")
			                                                         : pair;

			mg_sb_add(sb, i++ ? ", " : "");
			int code = child_text(sb, mg_json_at(mg_json_get(value, "children"), side),
			                      type->children[side], err);

			if (code) {
				return code;
			}
		}
	}
	mg_sb_add(sb, "])");
	return 0;
}

/* Children: the tag, then each member, of which only the tagged one is set. */
static int union_text(struct mg_sb *sb, const struct mg_json *kids, const struct mg_type *type,
                      struct mg_error *err)
{
	const struct mg_json *tag = mg_json_get(mg_json_at(kids, 0), "value");
	uint64_t at = mg_json_is(tag, MG_JSON_NUMBER) ? strtoull(mg_json_text(tag), NULL, 10)
	                                              : UINT64_MAX;

	if (at >= type->child_count) {
		return unsupported(err, "UNION literal with an unknown tag");
	}
	mg_sb_add(sb, "union_value(");
	mg_sb_add_ident(sb, type->names[at]);
	mg_sb_add(sb, " := ");
	int code = child_text(sb, mg_json_at(kids, at + 1), type->children[at], err);

	mg_sb_add(sb, ")");
	return code;
}

static int nested_text(struct mg_sb *sb, const struct mg_json *value, const struct mg_type *type,
                       struct mg_error *err)
{
	const struct mg_json *kids = mg_json_get(value, "children");
	const char *id = type->id;
	int code = mg_cast_open(sb, type, false, err);

	if (code) {
		return code;
	}
	if (strcmp(id, "STRUCT") == 0) {
		code = struct_text(sb, kids, type, err);
	} else if (strcmp(id, "MAP") == 0) {
		code = map_text(sb, kids, type, err);
	} else if (strcmp(id, "UNION") == 0) {
		code = union_text(sb, kids, type, err);
	} else {
		code = list_text(sb, kids, type->children[0], err);
	}
	return code ? code : mg_cast_close(sb, type, err);
}

/* ---- all together ---- */

static int cast_text(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	mg_sb_add(sb, " AS ");
	int code = mg_type_text(sb, type, err);

	mg_sb_add(sb, ")");
	return code;
}

static int number_text(struct mg_sb *sb, const struct mg_json *value, const struct mg_type *type,
                       struct mg_error *err)
{
	u128 bits;

	if (!value_i128(value, &bits)) {
		return unsupported(err, "%s literal", type->id);
	}
	/* 5::BIGINT reads better than a cast of a text; it is exact as far as 64 bits go. */
	bool is_signed = type->id[0] != 'U';

	if (bits < (u128)INT64_MAX / 10) {
		add_decimal(sb, bits, is_signed, type->scale);
		mg_sb_add(sb, "::");
		return mg_type_text(sb, type, err);
	}
	mg_sb_add(sb, "CAST('");
	add_decimal(sb, bits, is_signed, type->scale);
	mg_sb_add(sb, "'");
	return cast_text(sb, type, err);
}

/* Types whose constants are one word of text or number; false: not one of them. */
static bool plain_text(struct mg_sb *sb, const struct mg_json *value, const struct mg_type *type,
                       struct mg_error *err, int *code)
{
	const char *id = type->id;

	*code = 0;
	if (strcmp(id, "VARCHAR") == 0 && mg_json_is(value, MG_JSON_STRING)) {
		bool json = type->alias && strcmp(type->alias, "JSON") == 0;

		mg_sb_add(sb, json ? "CAST(" : "");
		varchar_text(sb, value->text);
		mg_sb_add(sb, json ? " AS JSON)" : "");
	} else if (strcmp(id, "BOOLEAN") == 0) {
		mg_sb_add(sb, mg_json_is(value, MG_JSON_TRUE) ? "true" : "false");
	} else if (strcmp(id, "BLOB") == 0 && mg_json_is(value, MG_JSON_STRING)) {
		mg_sb_add(sb, "CAST(");
		mg_sb_add_literal(sb, value->text.ptr, value->text.len);
		mg_sb_add(sb, " AS BLOB)");
	} else if ((strcmp(id, "FLOAT") == 0 || strcmp(id, "DOUBLE") == 0) &&
	           mg_json_is(value, MG_JSON_NUMBER)) {
		mg_sb_addf(sb, "CAST('%s' AS %s)", mg_json_text(value), id);
	} else if (mg_type_is_integer(type) || strcmp(id, "DECIMAL") == 0) {
		*code = number_text(sb, value, type, err);
	} else if (strcmp(id, "DATE") == 0) {
		date_text(sb, value_i64(value));
	} else if (strcmp(id, "TIME") == 0 || strcmp(id, "TIME_NS") == 0) {
		mg_sb_add(sb, "CAST('");
		add_clock(sb, value_i64(value), id[4] ? 9 : 6);
		mg_sb_addf(sb, "' AS %s)", id);
	} else if (strcmp(id, "TIME WITH TIME ZONE") == 0) {
		timetz_text(sb, (uint64_t)value_i64(value));
	} else if (strncmp(id, "TIMESTAMP", 9) == 0) {
		*code = timestamp_text(sb, value_i64(value), id, err);
	} else if (strcmp(id, "INTERVAL") == 0) {
		*code = interval_text(sb, value);
	} else if (strcmp(id, "UUID") == 0) {
		*code = uuid_text(sb, value, err);
	} else {
		return false;
	}
	return true;
}

int mg_value_text(struct mg_sb *sb, const struct mg_json *object, const struct mg_type *type,
                  struct mg_error *err)
{
	const struct mg_json *value = mg_json_get(object, "value");
	const char *id = type->id;
	int code;

	if (mg_json_get_bool(object, "is_null", false) || !value || mg_json_is(value, MG_JSON_NULL)) {
		if (strcmp(id, "NULL") == 0) {
			mg_sb_add(sb, "NULL");
			return 0;
		}
		code = mg_cast_open(sb, type, false, err);
		mg_sb_add(sb, "NULL");
		return code ? code : mg_cast_close(sb, type, err);
	}
	if (plain_text(sb, value, type, err, &code)) {
		return code;
	}
	if (strcmp(id, "ENUM") == 0) {
		uint64_t at = (uint64_t)value_i64(value);

		if (at >= type->name_count) {
			return unsupported(err, "ENUM literal with an unknown value");
		}
		mg_sb_add(sb, "CAST(");
		mg_sb_add_literal(sb, type->names[at], strlen(type->names[at]));
		return cast_text(sb, type, err);
	}
	if (strcmp(id, "LIST") == 0 || strcmp(id, "ARRAY") == 0 || strcmp(id, "STRUCT") == 0 ||
	    strcmp(id, "MAP") == 0 || strcmp(id, "UNION") == 0) {
		return nested_text(sb, value, type, err);
	}
	return unsupported(err, "literal of type %s", id);
}
