/*
 * plain_row.c - see plain_row.h.
 */
#include "exec/plain_row.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 18   /* of a number: fits 64 bits */
#define EXACT_DIGITS 15 /* of a number that is to be a DOUBLE */

/* ---- columns ---- */

static bool column_open(struct mg_plain_column *column, const char *type)
{
	static const struct {
		const char *name;
		struct mg_plain_column column;
	} known[] = {
		{ "BOOLEAN", { .kind = PLAIN_BOOL, .arrow = NANOARROW_TYPE_BOOL } },
		{ "TINYINT", { PLAIN_INT, NANOARROW_TYPE_INT8, INT8_MIN, INT8_MAX, 0, 0, 0, false } },
		{ "SMALLINT", { PLAIN_INT, NANOARROW_TYPE_INT16, INT16_MIN, INT16_MAX, 0, 0, 0, false } },
		{ "INTEGER", { PLAIN_INT, NANOARROW_TYPE_INT32, INT32_MIN, INT32_MAX, 0, 0, 0, false } },
		{ "BIGINT", { PLAIN_INT, NANOARROW_TYPE_INT64, INT64_MIN, INT64_MAX, 0, 0, 0, false } },
		{ "UTINYINT", { PLAIN_INT, NANOARROW_TYPE_UINT8, 0, UINT8_MAX, 0, 0, 0, false } },
		{ "USMALLINT", { PLAIN_INT, NANOARROW_TYPE_UINT16, 0, UINT16_MAX, 0, 0, 0, false } },
		{ "UINTEGER", { PLAIN_INT, NANOARROW_TYPE_UINT32, 0, UINT32_MAX, 0, 0, 0, false } },
		{ "UBIGINT", { PLAIN_INT, NANOARROW_TYPE_UINT64, 0, INT64_MAX, 0, 0, 0, false } },
		{ "DOUBLE", { .kind = PLAIN_DOUBLE, .arrow = NANOARROW_TYPE_DOUBLE } },
		{ "VARCHAR", { .kind = PLAIN_TEXT, .arrow = NANOARROW_TYPE_STRING } },
		{ "DATE", { .kind = PLAIN_DATE, .arrow = NANOARROW_TYPE_DATE32 } },
	};
	char rest;

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (strcmp(type, known[i].name) == 0) {
			*column = known[i].column;
			return true;
		}
	}
	*column = (struct mg_plain_column){ .kind = PLAIN_DECIMAL, .arrow = NANOARROW_TYPE_DECIMAL128 };
	return sscanf(type, "DECIMAL(%d,%d%c", &column->width, &column->scale, &rest) == 3 &&
	       rest == ')' && column->width <= DIGITS_MAX && column->scale <= column->width;
}

bool mg_plain_definition(const char *definition, bool defaults)
{
	static const char *const words[] = { "check",   "generated", "as",      "collate",
		                                 "virtual", "using",     "default", NULL };
	struct mg_lexer lexer;
	struct mg_token token;

	mg_lex_init(&lexer, mg_str(definition));
	do {
		token = mg_lex_next(&lexer);
		for (size_t i = 0; words[i]; i++) {
			if (token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(words[i])) &&
			    (words[i + 1] || !defaults)) {
				return false;
			}
		}
	} while (token.kind != MG_T_END && token.kind != MG_T_BAD);
	return token.kind == MG_T_END;
}

static size_t find_column(const struct mg_table *table, const char *name)
{
	const struct mg_column *column = mg_table_find_column(table, name);

	return column ? (size_t)(column - table->columns) : table->column_count;
}

/* Which value each column gets; false when a name is unknown or comes twice. */
static bool map_columns(struct mg_plain_table *plain, const struct mg_table *table,
                        const struct mg_dml *dml)
{
	plain->value_count = dml->column_count ? dml->column_count : table->column_count;
	for (size_t i = 0; i < table->column_count; i++) {
		plain->columns[i].source = dml->column_count ? SIZE_MAX : i;
	}
	for (size_t i = 0; i < dml->column_count; i++) {
		size_t at = find_column(table, dml->columns[i]);

		if (at == table->column_count || plain->columns[at].source != SIZE_MAX) {
			return false;
		}
		plain->columns[at].source = i;
	}
	for (size_t i = 0; i < table->column_count; i++) {
		if (plain->columns[i].source == SIZE_MAX && table->columns[i].not_null) {
			return false;
		}
	}
	return true;
}

/* Of the others the bytes in the hash are not ours to write. */
static bool is_hashed(enum mg_plain_kind kind)
{
	return kind != PLAIN_BOOL && kind != PLAIN_DATE;
}

bool mg_plain_table_open(struct mg_plain_table *plain, struct mg_arena *arena,
                         const struct mg_table *table, const struct mg_dml *dml)
{
	*plain = (struct mg_plain_table){ .count = table->column_count, .key_count = table->key_count };
	if (!dml->values || dml->with.len || dml->conflict || dml->returning.len || dml->by_name ||
	    mg_table_has_keys(table) || table->key_count > MG_PLAIN_KEYS_MAX ||
	    !mg_plain_definition(table->definition, false)) {
		return false;
	}
	plain->columns = mg_arena_new_array(arena, struct mg_plain_column, table->column_count + 1);
	for (size_t i = 0; i < table->column_count; i++) {
		if (!column_open(&plain->columns[i], table->columns[i].type)) {
			return false;
		}
		plain->columns[i].not_null = table->columns[i].not_null;
	}
	for (size_t k = 0; k < table->key_count; k++) {
		plain->keys[k] = find_column(table, table->keys[k]);
		if (!is_hashed(plain->columns[plain->keys[k]].kind)) {
			return false;
		}
	}
	return map_columns(plain, table, dml);
}

bool mg_plain_keys_open(struct mg_plain_table *plain, struct mg_arena *arena,
                        const struct mg_table *table)
{
	*plain = (struct mg_plain_table){ .count = table->key_count, .key_count = table->key_count };
	if (table->key_count > MG_PLAIN_KEYS_MAX) {
		return false;
	}
	plain->columns = mg_arena_new_array(arena, struct mg_plain_column, table->key_count + 1);
	for (size_t k = 0; k < table->key_count; k++) {
		const struct mg_column *column = mg_table_find_column(table, table->keys[k]);

		if (!column || !column_open(&plain->columns[k], column->type) ||
		    !is_hashed(plain->columns[k].kind)) {
			return false;
		}
		plain->columns[k].source = plain->keys[k] = k;
		plain->columns[k].not_null = true;
	}
	return true;
}

/* ---- literals ---- */

static void next(struct mg_plain_reader *reader)
{
	reader->token = mg_lex_next(&reader->lexer);
}

bool mg_plain_take_sign(struct mg_plain_reader *reader, char sign)
{
	bool is = reader->token.kind == MG_T_OPERATOR && reader->token.text.len == 1 &&
	          reader->token.text.ptr[0] == sign;

	if (is) {
		next(reader);
	}
	return is;
}

bool mg_plain_take_word(struct mg_plain_reader *reader, const char *word)
{
	bool is = reader->token.kind == MG_T_WORD && mg_str_eq_nocase(reader->token.text, mg_str(word));

	if (is) {
		next(reader);
	}
	return is;
}

/* 12 or 1.25: what has no exponent, no underscore and few digits. */
static bool take_number(struct mg_plain_reader *reader, bool negative, struct mg_plain_value *out)
{
	struct mg_str text = reader->token.text;
	bool point = false;

	*out = (struct mg_plain_value){ .kind = VALUE_INT };
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == '.' && !point && i > 0 && i + 1 < text.len) {
			point = true;
			out->kind = VALUE_DECIMAL;
			continue;
		}
		if (c < '0' || c > '9' || out->digits == DIGITS_MAX) {
			return false;
		}
		out->number = out->number * 10 + (c - '0');
		out->digits++;
		out->scale += point;
	}
	out->number = negative ? -out->number : out->number;
	next(reader);
	return true;
}

/* A string without escapes. */
static bool take_text(struct mg_plain_reader *reader, struct mg_plain_value *out)
{
	struct mg_str text = reader->token.text;

	if (reader->token.kind != MG_T_STRING || text.ptr[0] != '\'') {
		return false;
	}
	*out = (struct mg_plain_value){ .kind = VALUE_TEXT, .text = text, .quoted = true };
	next(reader);
	return true;
}

bool mg_plain_read_double(const char *text, struct mg_plain_value *out)
{
	char *end;

	if (!text[0] || strspn(text, "0123456789+-.eE") != strlen(text)) {
		return false;
	}
	errno = 0;
	*out = (struct mg_plain_value){ .kind = VALUE_DOUBLE, .real = strtod(text, &end) };
	return !*end && errno == 0;
}

/* CAST('1.5e3' AS DOUBLE), as parameters are written. */
static bool take_cast(struct mg_plain_reader *reader, struct mg_plain_value *out)
{
	char text[64];

	if (!mg_plain_take_sign(reader, '(') || !take_text(reader, out) ||
	    out->text.len > sizeof text || !mg_plain_take_word(reader, "as") ||
	    !mg_plain_take_word(reader, "double") || !mg_plain_take_sign(reader, ')')) {
		return false;
	}
	memcpy(text, out->text.ptr + 1, out->text.len - 2);
	text[out->text.len - 2] = '\0';
	return mg_plain_read_double(text, out);
}

bool mg_plain_take_value(struct mg_plain_reader *reader, struct mg_plain_value *out)
{
	bool parenthesis = mg_plain_take_sign(reader, '(');
	bool negative = mg_plain_take_sign(reader, '-');
	bool taken;

	if (reader->token.kind == MG_T_NUMBER) {
		taken = take_number(reader, negative, out);
	} else if (negative) {
		taken = false;
	} else if (mg_plain_take_word(reader, "null")) {
		*out = (struct mg_plain_value){ .kind = VALUE_NULL };
		taken = true;
	} else if (mg_plain_take_word(reader, "true")) {
		*out = (struct mg_plain_value){ .kind = VALUE_BOOL, .number = 1 };
		taken = true;
	} else if (mg_plain_take_word(reader, "false")) {
		*out = (struct mg_plain_value){ .kind = VALUE_BOOL };
		taken = true;
	} else if (mg_plain_take_word(reader, "cast")) {
		taken = take_cast(reader, out);
	} else {
		taken = take_text(reader, out);
	}
	return taken && (!parenthesis || mg_plain_take_sign(reader, ')'));
}

void mg_plain_reader_init(struct mg_plain_reader *reader, struct mg_str text)
{
	mg_lex_init(&reader->lexer, text);
	next(reader);
}

/* ---- a literal in a column's type ---- */

/* The text without its quotes; doubled ones in it are still doubled. */
static struct mg_str inside(const struct mg_plain_value *value)
{
	struct mg_str text = value->text;

	return value->quoted ? (struct mg_str){ text.ptr + 1, text.len - 2 } : text;
}

/* "2024-02-29" to days since 1970. */
static bool to_date(const struct mg_plain_value *value, int64_t *out)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year = 0, month = 0, day = 0;

	struct mg_str text = inside(value);

	if (text.len != 10 || text.ptr[4] != '-' || text.ptr[7] != '-') {
		return false;
	}
	for (size_t i = 0; i < 10; i++) {
		int *part = i < 4 ? &year : i < 7 ? &month : &day;

		if (i == 4 || i == 7) {
			continue;
		}
		if (text.ptr[i] < '0' || text.ptr[i] > '9') {
			return false;
		}
		*part = *part * 10 + (text.ptr[i] - '0');
	}
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (year < 1 || month < 1 || month > 12 || day < 1 ||
	    day > lengths[month - 1] + (leap && month == 2)) {
		return false;
	}
	/* Days of the civil calendar, in years that start in March. */
	int64_t y = month > 2 ? year : year - 1;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	*out = y * 365 + y / 4 - y / 100 + y / 400 + of_year - 719468;
	return true;
}

static bool to_decimal(const struct mg_plain_column *column, struct mg_plain_value *value)
{
	int more = column->scale - value->scale;
	int64_t limit = 1;

	if (more < 0) {
		return false;
	}
	for (int i = 0; i < more; i++) {
		if (__builtin_mul_overflow(value->number, (int64_t)10, &value->number)) {
			return false;
		}
	}
	for (int i = 0; i < column->width; i++) {
		limit *= 10; /* at most 10^18 */
	}
	return value->number > -limit && value->number < limit;
}

/* Both parts are exact as they are, so the quotient is the nearest DOUBLE. */
static bool to_double(struct mg_plain_value *value)
{
	double power = 1;

	if (value->digits > EXACT_DIGITS) {
		return false;
	}
	for (int i = 0; i < value->scale; i++) {
		power *= 10;
	}
	value->real = (double)value->number / power;
	return true;
}

/* False: DuckDB decides. */
static bool convert(const struct mg_plain_column *column, struct mg_plain_value *value)
{
	bool number = value->kind == VALUE_INT || value->kind == VALUE_DECIMAL;

	switch (column->kind) {
	case PLAIN_INT:
		return value->kind == VALUE_INT && value->number >= column->min &&
		       (value->number < 0 || (uint64_t)value->number <= column->max);
	case PLAIN_BOOL:
		return value->kind == VALUE_BOOL;
	case PLAIN_DOUBLE:
		return value->kind == VALUE_DOUBLE || (number && to_double(value));
	case PLAIN_DECIMAL:
		return number && to_decimal(column, value);
	case PLAIN_TEXT:
		return value->kind == VALUE_TEXT;
	case PLAIN_DATE:
		return value->kind == VALUE_TEXT && to_date(value, &value->number);
	case PLAIN_NONE:
		break;
	}
	return false;
}

/* The text itself; what has to be made lies in scratch. */
static struct mg_str text_of(const struct mg_plain_value *value, struct mg_sb *scratch)
{
	struct mg_str text = inside(value);

	if (!value->quoted || !text.len || !memchr(text.ptr, '\'', text.len)) {
		return text;
	}
	mg_sb_clear(scratch);
	for (size_t i = 0; i < text.len; i++) {
		mg_sb_add_char(scratch, text.ptr[i]);
		i += text.ptr[i] == '\'';
	}
	return (struct mg_str){ mg_sb_text(scratch), scratch->len };
}

static int append_value(struct ArrowArray *array, const struct mg_plain_column *column,
                        const struct mg_plain_value *value, struct mg_sb *scratch)
{
	struct ArrowDecimal decimal;
	struct mg_str text;

	if (value->kind == VALUE_NULL) {
		return ArrowArrayAppendNull(array, 1);
	}
	switch (column->kind) {
	case PLAIN_DOUBLE:
		return ArrowArrayAppendDouble(array, value->real);
	case PLAIN_DECIMAL:
		ArrowDecimalInit(&decimal, 128, column->width, column->scale);
		ArrowDecimalSetInt(&decimal, value->number);
		return ArrowArrayAppendDecimal(array, &decimal);
	case PLAIN_TEXT:
		text = text_of(value, scratch);
		return ArrowArrayAppendString(
			array, (struct ArrowStringView){ text.ptr, (int64_t)text.len });
	default:
		return ArrowArrayAppendInt(array, value->number);
	}
}

static void hash_value(struct mg_slot_hash *hash, const struct mg_plain_column *column,
                       const struct mg_plain_value *value, struct mg_sb *scratch)
{
	if (value->kind == VALUE_NULL) {
		mg_slot_null(hash);
	} else if (column->kind == PLAIN_INT) {
		mg_slot_int(hash, value->number);
	} else if (column->kind == PLAIN_DECIMAL) {
		mg_slot_decimal(hash, value->number, (uint8_t)column->scale);
	} else if (column->kind == PLAIN_DOUBLE) {
		mg_slot_double(hash, value->real);
	} else {
		struct mg_str text = text_of(value, scratch);

		mg_slot_text(hash, text.ptr, text.len);
	}
}

/* ---- a row ---- */

bool mg_plain_row_fits(const struct mg_plain_table *plain, struct mg_plain_value *values)
{
	for (size_t i = 0; i < plain->count; i++) {
		const struct mg_plain_column *column = &plain->columns[i];
		struct mg_plain_value *value = column->source == SIZE_MAX ? NULL : &values[column->source];

		if (value && (value->kind == VALUE_NULL ? column->not_null : !convert(column, value))) {
			return false;
		}
	}
	return true;
}

static const struct mg_plain_value *value_of(const struct mg_plain_table *plain,
                                             const struct mg_plain_value *values, size_t column)
{
	static const struct mg_plain_value null = { .kind = VALUE_NULL };
	size_t source = plain->columns[column].source;

	return source == SIZE_MAX ? &null : &values[source];
}

uint16_t mg_plain_row_slot(const struct mg_plain_table *plain, const struct mg_plain_value *values,
                           struct mg_sb *scratch)
{
	struct mg_slot_hash hash;

	if (!plain->key_count) {
		return 0;
	}
	mg_slot_begin(&hash);
	for (size_t k = 0; k < plain->key_count; k++) {
		hash_value(&hash, &plain->columns[plain->keys[k]], value_of(plain, values, plain->keys[k]),
		           scratch);
	}
	return mg_slot_end(&hash);
}

bool mg_plain_row_append(const struct mg_plain_table *plain, const struct mg_plain_value *values,
                         uint16_t slot, struct ArrowArray *batch, struct mg_sb *scratch)
{
	bool good = true;

	for (size_t i = 0; good && i < plain->count; i++) {
		good = append_value(batch->children[i], &plain->columns[i], value_of(plain, values, i),
		                    scratch) == NANOARROW_OK;
	}
	return good && ArrowArrayAppendUInt(batch->children[plain->count], slot) == NANOARROW_OK &&
	       ArrowArrayFinishElement(batch) == NANOARROW_OK;
}

/* ---- batches ---- */

bool mg_plain_batch_begin(const struct ArrowSchema *schema, struct ArrowArray *batch)
{
	return ArrowArrayInitFromSchema(batch, schema, NULL) == NANOARROW_OK &&
	       ArrowArrayStartAppending(batch) == NANOARROW_OK;
}

int mg_plain_schema(const struct mg_plain_table *plain, const struct mg_table *table,
                    struct ArrowSchema *out, struct mg_error *err)
{
	size_t count = table->column_count;

	ArrowSchemaInit(out);
	bool made = ArrowSchemaSetTypeStruct(out, (int64_t)count + 1) == NANOARROW_OK;

	for (size_t i = 0; made && i < count; i++) {
		const struct mg_plain_column *column = &plain->columns[i];
		struct ArrowSchema *child = out->children[i];

		made = (column->kind == PLAIN_DECIMAL
		            ? ArrowSchemaSetTypeDecimal(child, column->arrow, column->width, column->scale)
		            : ArrowSchemaSetType(child, column->arrow)) == NANOARROW_OK &&
		       ArrowSchemaSetName(child, table->columns[i].name) == NANOARROW_OK;
	}
	made = made &&
	       ArrowSchemaSetType(out->children[count], NANOARROW_TYPE_UINT16) ==
	           NANOARROW_OK &&
	       ArrowSchemaSetName(out->children[count], "slot") == NANOARROW_OK;
	return made ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for %zu columns", count);
}
