/*
 * write_plain.c - INSERT ... VALUES of literals alone, without DuckDB.
 *
 * A row of constants needs nobody to bind it, and single rows are what many clients write at once:
 * this costs some microseconds where the planning database takes a millisecond.
 *
 * Rule: only what has one meaning is taken: a literal whose value in the column's type is exact and
 * beyond doubt, in a table without CHECK, defaults or a primary key.  Everything else, and all that
 * is wrong, is left to DuckDB, with its casts and its messages; test_write compares the two.
 *
 * Two passes: the first one writes nothing, because a later row may not be plain.
 */
#include "codec/slot.h"
#include "exec/write_int.h"
#include "sql/statement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 18   /* of a number: fits 64 bits */
#define EXACT_DIGITS 15 /* of a number that is to be a DOUBLE */
#define KEYS_MAX 64

enum plain_kind {
	PLAIN_NONE,
	PLAIN_INT,
	PLAIN_BOOL,
	PLAIN_DOUBLE,
	PLAIN_DECIMAL,
	PLAIN_TEXT,
	PLAIN_DATE
};

/* A column of the table. */
struct plain_column {
	enum plain_kind kind;
	enum ArrowType arrow;
	int64_t min;
	uint64_t max;     /* PLAIN_INT */
	int width, scale; /* PLAIN_DECIMAL */
	size_t source;    /* which value of a row; SIZE_MAX: NULL */
};

/* A literal, or what a column gets of it. */
struct plain_value {
	enum { VALUE_NULL, VALUE_INT, VALUE_DECIMAL, VALUE_BOOL, VALUE_TEXT, VALUE_DOUBLE } kind;
	int64_t number; /* INT, DECIMAL without its point, BOOL */
	int scale;      /* DECIMAL: digits behind the point */
	int digits;
	double real;
	struct mg_str text; /* TEXT: in quotes, as written */
};

/* Rows of one shard that wait. */
struct plain_batch {
	struct ArrowArray array;
	int64_t rows;
};

struct plain {
	struct mg_write *write;
	struct mg_lexer lexer;
	struct mg_token token;
	struct plain_column *columns;
	struct plain_value *values; /* of a row */
	size_t value_count;
	size_t keys[KEYS_MAX]; /* positions in the table */
	struct ArrowSchema schema;
	struct plain_batch *batches; /* [shard_count + 1]; NULL in the first pass */
	struct mg_sb text;
};

/* ---- columns ---- */

static bool column_open(struct plain_column *column, const char *type)
{
	static const struct {
		const char *name;
		struct plain_column column;
	} known[] = {
		{ "BOOLEAN", { .kind = PLAIN_BOOL, .arrow = NANOARROW_TYPE_BOOL } },
		{ "TINYINT", { PLAIN_INT, NANOARROW_TYPE_INT8, INT8_MIN, INT8_MAX, 0, 0, 0 } },
		{ "SMALLINT", { PLAIN_INT, NANOARROW_TYPE_INT16, INT16_MIN, INT16_MAX, 0, 0, 0 } },
		{ "INTEGER", { PLAIN_INT, NANOARROW_TYPE_INT32, INT32_MIN, INT32_MAX, 0, 0, 0 } },
		{ "BIGINT", { PLAIN_INT, NANOARROW_TYPE_INT64, INT64_MIN, INT64_MAX, 0, 0, 0 } },
		{ "UTINYINT", { PLAIN_INT, NANOARROW_TYPE_UINT8, 0, UINT8_MAX, 0, 0, 0 } },
		{ "USMALLINT", { PLAIN_INT, NANOARROW_TYPE_UINT16, 0, UINT16_MAX, 0, 0, 0 } },
		{ "UINTEGER", { PLAIN_INT, NANOARROW_TYPE_UINT32, 0, UINT32_MAX, 0, 0, 0 } },
		{ "UBIGINT", { PLAIN_INT, NANOARROW_TYPE_UINT64, 0, INT64_MAX, 0, 0, 0 } },
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
	*column = (struct plain_column){ .kind = PLAIN_DECIMAL, .arrow = NANOARROW_TYPE_DECIMAL128 };
	return sscanf(type, "DECIMAL(%d,%d%c", &column->width, &column->scale, &rest) == 3 &&
	       rest == ')' && column->width <= DIGITS_MAX && column->scale <= column->width;
}

/* Do the columns say no more than their types and NOT NULL? */
static bool is_simple(const char *definition)
{
	static const char *const words[] = { "default", "check",   "generated", "as",
		                                 "collate", "virtual", "using",     NULL };
	struct mg_lexer lexer;
	struct mg_token token;

	mg_lex_init(&lexer, mg_str(definition));
	do {
		token = mg_lex_next(&lexer);
		for (size_t i = 0; words[i]; i++) {
			if (token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(words[i]))) {
				return false;
			}
		}
	} while (token.kind != MG_T_END && token.kind != MG_T_BAD);
	return token.kind == MG_T_END;
}

static size_t find_column(const struct mg_table *table, const char *name)
{
	size_t i = 0;

	while (i < table->column_count && !mg_text_eq_nocase(table->columns[i].name, name)) {
		i++;
	}
	return i;
}

/* Which value each column gets; false when a name is unknown or comes twice. */
static bool map_columns(struct plain *plain)
{
	const struct mg_table *table = plain->write->table;
	const struct mg_dml *dml = &plain->write->dml;

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

static bool is_plain_table(struct plain *plain)
{
	const struct mg_table *table = plain->write->table;

	if (mg_table_has_keys(table) || table->key_count > KEYS_MAX || !is_simple(table->definition)) {
		return false;
	}
	for (size_t i = 0; i < table->column_count; i++) {
		if (!column_open(&plain->columns[i], table->columns[i].type)) {
			return false;
		}
	}
	for (size_t k = 0; k < table->key_count; k++) {
		plain->keys[k] = find_column(table, table->keys[k]);
		enum plain_kind kind = plain->columns[plain->keys[k]].kind;

		if (kind == PLAIN_BOOL || kind == PLAIN_DATE) {
			return false; /* their bytes in the hash are not ours to write */
		}
	}
	return map_columns(plain);
}

/* ---- literals ---- */

static void next(struct plain *plain)
{
	plain->token = mg_lex_next(&plain->lexer);
}

static bool take_sign(struct plain *plain, char sign)
{
	bool is = plain->token.kind == MG_T_OPERATOR && plain->token.text.len == 1 &&
	          plain->token.text.ptr[0] == sign;

	if (is) {
		next(plain);
	}
	return is;
}

static bool take_word(struct plain *plain, const char *word)
{
	bool is = plain->token.kind == MG_T_WORD && mg_str_eq_nocase(plain->token.text, mg_str(word));

	if (is) {
		next(plain);
	}
	return is;
}

/* 12 or 1.25: what has no exponent, no underscore and few digits. */
static bool take_number(struct plain *plain, bool negative, struct plain_value *out)
{
	struct mg_str text = plain->token.text;
	bool point = false;

	*out = (struct plain_value){ .kind = VALUE_INT };
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
	next(plain);
	return true;
}

/* A string without escapes. */
static bool take_text(struct plain *plain, struct plain_value *out)
{
	struct mg_str text = plain->token.text;

	if (plain->token.kind != MG_T_STRING || text.ptr[0] != '\'') {
		return false;
	}
	*out = (struct plain_value){ .kind = VALUE_TEXT, .text = text };
	next(plain);
	return true;
}

/* CAST('1.5e3' AS DOUBLE), as parameters are written. */
static bool take_cast(struct plain *plain, struct plain_value *out)
{
	char text[64], *end;

	if (!take_sign(plain, '(') || !take_text(plain, out) || out->text.len > sizeof text ||
	    !take_word(plain, "as") || !take_word(plain, "double") || !take_sign(plain, ')')) {
		return false;
	}
	memcpy(text, out->text.ptr + 1, out->text.len - 2);
	text[out->text.len - 2] = '\0';
	if (!text[0] || strspn(text, "0123456789+-.eE") != strlen(text)) {
		return false;
	}
	errno = 0;
	out->kind = VALUE_DOUBLE;
	out->real = strtod(text, &end);
	return !*end && errno == 0;
}

static bool take_value(struct plain *plain, struct plain_value *out)
{
	bool parenthesis = take_sign(plain, '(');
	bool negative = take_sign(plain, '-');
	bool taken;

	if (plain->token.kind == MG_T_NUMBER) {
		taken = take_number(plain, negative, out);
	} else if (negative) {
		taken = false;
	} else if (take_word(plain, "null")) {
		*out = (struct plain_value){ .kind = VALUE_NULL };
		taken = true;
	} else if (take_word(plain, "true")) {
		*out = (struct plain_value){ .kind = VALUE_BOOL, .number = 1 };
		taken = true;
	} else if (take_word(plain, "false")) {
		*out = (struct plain_value){ .kind = VALUE_BOOL };
		taken = true;
	} else if (take_word(plain, "cast")) {
		taken = take_cast(plain, out);
	} else {
		taken = take_text(plain, out);
	}
	return taken && (!parenthesis || take_sign(plain, ')'));
}

/* ---- a literal in a column's type ---- */

/* "2024-02-29" to days since 1970. */
static bool to_date(struct mg_str quoted, int64_t *out)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year = 0, month = 0, day = 0;

	if (quoted.len != 12 || quoted.ptr[5] != '-' || quoted.ptr[8] != '-') {
		return false;
	}
	for (size_t i = 1; i < 11; i++) {
		int *part = i < 5 ? &year : i < 8 ? &month : &day;

		if (i == 5 || i == 8) {
			continue;
		}
		if (quoted.ptr[i] < '0' || quoted.ptr[i] > '9') {
			return false;
		}
		*part = *part * 10 + (quoted.ptr[i] - '0');
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

static bool to_decimal(const struct plain_column *column, struct plain_value *value)
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
static bool to_double(struct plain_value *value)
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
static bool convert(const struct plain_column *column, struct plain_value *value)
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
		return value->kind == VALUE_TEXT && to_date(value->text, &value->number);
	case PLAIN_NONE:
		break;
	}
	return false;
}

/* ---- rows into batches ---- */

/* The text without its quotes, in plain->text. */
static void unquote(struct plain *plain, struct mg_str quoted)
{
	mg_sb_clear(&plain->text);
	for (size_t i = 1; i + 1 < quoted.len; i++) {
		mg_sb_add_char(&plain->text, quoted.ptr[i]);
		i += quoted.ptr[i] == '\'';
	}
}

static int append_value(struct plain *plain, struct ArrowArray *array,
                        const struct plain_column *column, const struct plain_value *value)
{
	struct ArrowDecimal decimal;

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
		unquote(plain, value->text);
		return ArrowArrayAppendString(
			array, (struct ArrowStringView){ mg_sb_text(&plain->text), (int64_t)plain->text.len });
	default:
		return ArrowArrayAppendInt(array, value->number);
	}
}

static void hash_value(struct plain *plain, struct mg_slot_hash *hash,
                       const struct plain_column *column, const struct plain_value *value)
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
		unquote(plain, value->text);
		mg_slot_text(hash, mg_sb_text(&plain->text), plain->text.len);
	}
}

static const struct plain_value *value_of(const struct plain *plain, size_t column)
{
	static const struct plain_value null = { .kind = VALUE_NULL };
	size_t source = plain->columns[column].source;

	return source == SIZE_MAX ? &null : &plain->values[source];
}

static int flush(struct plain *plain, uint32_t shard, struct mg_error *err)
{
	struct plain_batch *batch = &plain->batches[shard];
	int code =
		ArrowArrayFinishBuildingDefault(&batch->array, NULL) == NANOARROW_OK
			? 0
			: mg_error_set(err, MG_E_NOMEM, "no memory for %lld rows", (long long)batch->rows);

	code = code ? code
	            : mg_write__redo_put(plain->write, MG_REDO_INSERT, shard, &batch->array, err);
	ArrowArrayRelease(&batch->array);
	batch->rows = 0;
	return code;
}

static int append_row(struct plain *plain, struct mg_error *err)
{
	const struct mg_table *table = plain->write->table;
	struct mg_slot_hash hash;
	uint16_t slot = 0;

	if (table->key_count) {
		mg_slot_begin(&hash);
		for (size_t k = 0; k < table->key_count; k++) {
			hash_value(plain, &hash, &plain->columns[plain->keys[k]],
			           value_of(plain, plain->keys[k]));
		}
		slot = mg_slot_end(&hash);
	}
	uint32_t shard = plain->write->owner[slot];
	struct plain_batch *batch = &plain->batches[shard];
	bool good = batch->rows > 0 ||
	            (ArrowArrayInitFromSchema(&batch->array, &plain->schema, NULL) == NANOARROW_OK &&
	             ArrowArrayStartAppending(&batch->array) == NANOARROW_OK);

	for (size_t i = 0; good && i < table->column_count; i++) {
		good = append_value(plain, batch->array.children[i], &plain->columns[i],
		                    value_of(plain, i)) == NANOARROW_OK;
	}
	good = good &&
	       ArrowArrayAppendUInt(batch->array.children[table->column_count], slot) == NANOARROW_OK &&
	       ArrowArrayFinishElement(&batch->array) == NANOARROW_OK;
	batch->rows++;
	if (!good) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %lld rows", (long long)batch->rows);
	}
	return batch->rows == MG_REDO_ROWS_MAX ? flush(plain, shard, err) : 0;
}

/* ---- passes ---- */

/* One row of the text into values, as the columns have them. */
static bool take_row(struct plain *plain)
{
	const struct mg_table *table = plain->write->table;

	if (!take_sign(plain, '(')) {
		return false;
	}
	for (size_t i = 0; i < plain->value_count; i++) {
		if ((i && !take_sign(plain, ',')) || !take_value(plain, &plain->values[i])) {
			return false;
		}
	}
	for (size_t i = 0; i < table->column_count; i++) {
		size_t source = plain->columns[i].source;
		struct plain_value *value = source == SIZE_MAX ? NULL : &plain->values[source];

		if (value && (value->kind == VALUE_NULL ? table->columns[i].not_null
		                                        : !convert(&plain->columns[i], value))) {
			return false;
		}
	}
	return take_sign(plain, ')');
}

/* All rows; *good false: not plain. */
static int pass(struct plain *plain, bool *good, struct mg_error *err)
{
	int code = 0;

	mg_lex_init(&plain->lexer, plain->write->dml.source);
	next(plain);
	*good = take_word(plain, "values");
	do {
		*good = *good && take_row(plain);
		if (*good && plain->batches) {
			code = append_row(plain, err);
		}
	} while (!code && *good && take_sign(plain, ','));
	*good = *good && plain->token.kind == MG_T_END;
	return code;
}

static int make_schema(struct plain *plain, struct mg_error *err)
{
	const struct mg_table *table = plain->write->table;
	size_t count = table->column_count;

	ArrowSchemaInit(&plain->schema);
	bool made = ArrowSchemaSetTypeStruct(&plain->schema, (int64_t)count + 1) == NANOARROW_OK;

	for (size_t i = 0; made && i < count; i++) {
		const struct plain_column *column = &plain->columns[i];
		struct ArrowSchema *child = plain->schema.children[i];

		made = (column->kind == PLAIN_DECIMAL
		            ? ArrowSchemaSetTypeDecimal(child, column->arrow, column->width, column->scale)
		            : ArrowSchemaSetType(child, column->arrow)) == NANOARROW_OK &&
		       ArrowSchemaSetName(child, table->columns[i].name) == NANOARROW_OK;
	}
	made = made &&
	       ArrowSchemaSetType(plain->schema.children[count], NANOARROW_TYPE_UINT16) ==
	           NANOARROW_OK &&
	       ArrowSchemaSetName(plain->schema.children[count], "slot") == NANOARROW_OK;
	return made ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for %zu columns", count);
}

static int store(struct plain *plain, struct mg_error *err)
{
	struct mg_write *write = plain->write;
	uint32_t shards = write->data->shard_count + 1;
	bool good = false;
	int code = make_schema(plain, err);

	code = code ? code : mg_write__redo_begin(write, MG_REDO_INSERT, &plain->schema, err);
	plain->batches = mg_arena_new_array(write->arena, struct plain_batch, shards);
	code = code ? code : pass(plain, &good, err);
	for (uint32_t i = 0; i < shards; i++) {
		if (!code && plain->batches[i].rows) {
			code = flush(plain, i, err);
		}
		if (plain->batches[i].array.release) {
			ArrowArrayRelease(&plain->batches[i].array);
		}
	}
	if (plain->schema.release) {
		ArrowSchemaRelease(&plain->schema);
	}
	return code;
}

int mg_write__plain(struct mg_write *write, bool *done, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	struct plain plain = { .write = write };
	int code = 0;

	*done = false;
	if (!dml->values || dml->with.len || dml->conflict || dml->returning.len || dml->by_name) {
		return 0;
	}
	plain.columns =
		mg_arena_new_array(write->arena, struct plain_column, write->table->column_count + 1);
	if (!is_plain_table(&plain)) {
		return 0;
	}
	plain.values = mg_arena_new_array(write->arena, struct plain_value, plain.value_count + 1);
	code = pass(&plain, done, err);
	if (!code && *done) {
		code = store(&plain, err);
	}
	mg_sb_fini(&plain.text);
	return code;
}
