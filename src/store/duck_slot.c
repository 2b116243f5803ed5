/*
 * duck_slot.c - the slots of a chunk's rows from its key columns, by the one hash of codec/slot.h.
 *
 * A column at a time with the type decided outside of the row loop; a single key, which is nearly
 * every case, needs one hash state for all rows.  Vectors are flat (DuckDB flattens the arguments
 * of C functions and the chunks of results).
 *
 * Values that compare equal in SQL must hash equal within a class: units of time are brought to
 * microseconds, scaled decimals are stripped in mg_slot_decimal.  Types without such a form are
 * refused at bind.
 */
#include "store/duck_int.h"

#include "base/assert.h"
#include "codec/slot.h"

#include <string.h>

#define CLASS_BLOB 5
#define CLASS_BOOL 6
#define CLASS_DATE 7
#define CLASS_TIMESTAMP 8
#define CLASS_TIMESTAMP_TZ 9
#define CLASS_TIME 10
#define CLASS_UUID 12

const char *mg_duck__slot_refuses(duckdb_logical_type type)
{
	switch (duckdb_get_type_id(type)) {
	case DUCKDB_TYPE_INTERVAL:
		return "INTERVAL";
	case DUCKDB_TYPE_TIME_TZ:
		return "TIME WITH TIME ZONE";
	case DUCKDB_TYPE_BIT:
		return "BIT";
	case DUCKDB_TYPE_BIGNUM:
		return "BIGNUM";
	case DUCKDB_TYPE_LIST:
		return "LIST";
	case DUCKDB_TYPE_ARRAY:
		return "ARRAY";
	case DUCKDB_TYPE_STRUCT:
		return "STRUCT";
	case DUCKDB_TYPE_MAP:
		return "MAP";
	case DUCKDB_TYPE_UNION:
		return "UNION";
	case DUCKDB_TYPE_GEOMETRY:
		return "GEOMETRY";
	case DUCKDB_TYPE_VARIANT:
		return "VARIANT";
	default:
		return NULL;
	}
}

/* What the row loop of a column needs to know. */
struct column {
	duckdb_type type;
	duckdb_type internal; /* of DECIMAL and ENUM */
	uint8_t scale;
	const uint8_t *data;
	uint64_t *validity;
	duckdb_logical_type logical;
	char **labels; /* of ENUM */
	uint32_t label_count;
};

static void column_open(struct column *column, duckdb_vector vector)
{
	memset(column, 0, sizeof *column);
	column->logical = duckdb_vector_get_column_type(vector);
	column->type = duckdb_get_type_id(column->logical);
	column->data = duckdb_vector_get_data(vector);
	column->validity = duckdb_vector_get_validity(vector);
	if (column->type == DUCKDB_TYPE_DECIMAL) {
		column->internal = duckdb_decimal_internal_type(column->logical);
		column->scale = duckdb_decimal_scale(column->logical);
	} else if (column->type == DUCKDB_TYPE_ENUM) {
		column->internal = duckdb_enum_internal_type(column->logical);
		column->label_count = duckdb_enum_dictionary_size(column->logical);
		column->labels = mg_alloc0((column->label_count + 1) * sizeof *column->labels);
	}
}

static void column_close(struct column *column)
{
	for (uint32_t i = 0; i < column->label_count; i++) {
		duckdb_free(column->labels[i]);
	}
	mg_free(column->labels);
	duckdb_destroy_logical_type(&column->logical);
}

static __int128 huge_value(const duckdb_hugeint *huge)
{
	return (__int128)(((unsigned __int128)(uint64_t)huge->upper << 64) | huge->lower);
}

static __int128 int_at(duckdb_type type, const uint8_t *data, size_t row)
{
	switch (type) {
	case DUCKDB_TYPE_TINYINT:
		return ((const int8_t *)data)[row];
	case DUCKDB_TYPE_SMALLINT:
		return ((const int16_t *)(const void *)data)[row];
	case DUCKDB_TYPE_INTEGER:
		return ((const int32_t *)(const void *)data)[row];
	case DUCKDB_TYPE_BIGINT:
		return ((const int64_t *)(const void *)data)[row];
	case DUCKDB_TYPE_UTINYINT:
		return data[row];
	case DUCKDB_TYPE_USMALLINT:
		return ((const uint16_t *)(const void *)data)[row];
	case DUCKDB_TYPE_UINTEGER:
		return ((const uint32_t *)(const void *)data)[row];
	case DUCKDB_TYPE_UBIGINT:
		return ((const uint64_t *)(const void *)data)[row];
	default:
		return huge_value(&((const duckdb_hugeint *)(const void *)data)[row]);
	}
}

/* Microseconds of a time in another unit; infinities keep their own numbers. */
static int64_t micros_at(duckdb_type type, const uint8_t *data, size_t row)
{
	int64_t value = ((const int64_t *)(const void *)data)[row];
	if (value == INT64_MAX || value == -INT64_MAX) {
		return value;
	}
	int64_t scaled = value;
	switch (type) {
	case DUCKDB_TYPE_TIMESTAMP_S:
		return __builtin_mul_overflow(value, (int64_t)1000000, &scaled) ? value : scaled;
	case DUCKDB_TYPE_TIMESTAMP_MS:
		return __builtin_mul_overflow(value, (int64_t)1000, &scaled) ? value : scaled;
	case DUCKDB_TYPE_TIMESTAMP_NS:
	case DUCKDB_TYPE_TIME_NS:
		/* Rounds down, so that instants before 1970 meet their microsecond too. */
		return value / 1000 - (value % 1000 < 0 ? 1 : 0);
	default:
		return value;
	}
}

static void add_string(struct mg_slot_hash *hash, const struct column *column, size_t row)
{
	duckdb_string_t text = ((const duckdb_string_t *)(const void *)column->data)[row];
	const char *bytes = duckdb_string_t_data(&text);
	size_t len = duckdb_string_t_length(text);
	if (column->type == DUCKDB_TYPE_BLOB) {
		mg_slot_bytes(hash, CLASS_BLOB, bytes, len);
	} else {
		mg_slot_text(hash, bytes, len);
	}
}

static void add_label(struct mg_slot_hash *hash, struct column *column, size_t row)
{
	uint32_t index = (uint32_t)int_at(column->internal, column->data, row);
	mg_assert(index < column->label_count);
	if (!column->labels[index]) {
		column->labels[index] = duckdb_enum_dictionary_value(column->logical, index);
	}
	mg_slot_text(hash, column->labels[index], strlen(column->labels[index]));
}

/* DuckDB stores a UUID as a signed number with the top bit flipped. */
static void add_uuid(struct mg_slot_hash *hash, const uint8_t *data, size_t row)
{
	const duckdb_hugeint *huge = &((const duckdb_hugeint *)(const void *)data)[row];
	uint64_t parts[2] = { (uint64_t)huge->upper ^ ((uint64_t)1 << 63), huge->lower };
	uint8_t bytes[16];
	for (size_t i = 0; i < sizeof bytes; i++) {
		bytes[i] = (uint8_t)(parts[i / 8] >> (56 - 8 * (i % 8)));
	}
	mg_slot_bytes(hash, CLASS_UUID, bytes, sizeof bytes);
}

static void add_value(struct mg_slot_hash *hash, struct column *column, size_t row)
{
	const uint8_t *data = column->data;
	if (column->validity && !(column->validity[row / 64] >> (row % 64) & 1)) {
		mg_slot_null(hash);
		return;
	}
	switch (column->type) {
	case DUCKDB_TYPE_SQLNULL:
		mg_slot_null(hash);
		break;
	case DUCKDB_TYPE_BOOLEAN:
		mg_slot_bytes(hash, CLASS_BOOL, &(uint8_t){ data[row] != 0 }, 1);
		break;
	case DUCKDB_TYPE_DECIMAL:
		mg_slot_decimal(hash, int_at(column->internal, data, row), column->scale);
		break;
	case DUCKDB_TYPE_FLOAT:
		mg_slot_double(hash, (double)((const float *)(const void *)data)[row]);
		break;
	case DUCKDB_TYPE_DOUBLE:
		mg_slot_double(hash, ((const double *)(const void *)data)[row]);
		break;
	case DUCKDB_TYPE_VARCHAR:
	case DUCKDB_TYPE_BLOB:
		add_string(hash, column, row);
		break;
	case DUCKDB_TYPE_ENUM:
		add_label(hash, column, row);
		break;
	case DUCKDB_TYPE_UUID:
		add_uuid(hash, data, row);
		break;
	case DUCKDB_TYPE_DATE:
		mg_slot_bytes(hash, CLASS_DATE, data + row * 4, 4);
		break;
	case DUCKDB_TYPE_TIMESTAMP:
	case DUCKDB_TYPE_TIMESTAMP_S:
	case DUCKDB_TYPE_TIMESTAMP_MS:
	case DUCKDB_TYPE_TIMESTAMP_NS:
		mg_slot_bytes(hash, CLASS_TIMESTAMP, &(int64_t){ micros_at(column->type, data, row) }, 8);
		break;
	case DUCKDB_TYPE_TIMESTAMP_TZ:
		mg_slot_bytes(hash, CLASS_TIMESTAMP_TZ, data + row * 8, 8);
		break;
	case DUCKDB_TYPE_TIME:
	case DUCKDB_TYPE_TIME_NS:
		mg_slot_bytes(hash, CLASS_TIME, &(int64_t){ micros_at(column->type, data, row) }, 8);
		break;
	default:
		mg_slot_int(hash, int_at(column->type, data, row));
		break;
	}
}

void mg_duck__slots(duckdb_vector *keys, size_t key_count, size_t rows, uint16_t *slots)
{
	struct column single;
	struct column *columns = key_count == 1 ? &single : mg_alloc(key_count * sizeof *columns);
	struct mg_slot_hash hash;
	for (size_t k = 0; k < key_count; k++) {
		column_open(&columns[k], keys[k]);
	}
	for (size_t row = 0; row < rows; row++) {
		mg_slot_begin(&hash);
		for (size_t k = 0; k < key_count; k++) {
			add_value(&hash, &columns[k], row);
		}
		slots[row] = mg_slot_end(&hash);
	}
	for (size_t k = 0; k < key_count; k++) {
		column_close(&columns[k]);
	}
	if (columns != &single) {
		mg_free(columns);
	}
}
