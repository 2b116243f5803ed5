/*
 * duck_type.c - a DuckDB type as SQL text: DECIMAL(15,2), VARCHAR[], STRUCT("a" INTEGER), ENUM('x',
 * 'y').
 *
 * The text is what DuckDB's own typeof() prints, so it can stand in a CAST or CREATE TABLE.  Depth
 * is that of the type, which DuckDB's binder limits.
 */
#include "store/duck_int.h"

#include <ctype.h>
#include <string.h>

static const char *const plain_names[] = {
	[DUCKDB_TYPE_BOOLEAN] = "BOOLEAN",
	[DUCKDB_TYPE_TINYINT] = "TINYINT",
	[DUCKDB_TYPE_SMALLINT] = "SMALLINT",
	[DUCKDB_TYPE_INTEGER] = "INTEGER",
	[DUCKDB_TYPE_BIGINT] = "BIGINT",
	[DUCKDB_TYPE_UTINYINT] = "UTINYINT",
	[DUCKDB_TYPE_USMALLINT] = "USMALLINT",
	[DUCKDB_TYPE_UINTEGER] = "UINTEGER",
	[DUCKDB_TYPE_UBIGINT] = "UBIGINT",
	[DUCKDB_TYPE_FLOAT] = "FLOAT",
	[DUCKDB_TYPE_DOUBLE] = "DOUBLE",
	[DUCKDB_TYPE_TIMESTAMP] = "TIMESTAMP",
	[DUCKDB_TYPE_DATE] = "DATE",
	[DUCKDB_TYPE_TIME] = "TIME",
	[DUCKDB_TYPE_INTERVAL] = "INTERVAL",
	[DUCKDB_TYPE_HUGEINT] = "HUGEINT",
	[DUCKDB_TYPE_UHUGEINT] = "UHUGEINT",
	[DUCKDB_TYPE_VARCHAR] = "VARCHAR",
	[DUCKDB_TYPE_BLOB] = "BLOB",
	[DUCKDB_TYPE_TIMESTAMP_S] = "TIMESTAMP_S",
	[DUCKDB_TYPE_TIMESTAMP_MS] = "TIMESTAMP_MS",
	[DUCKDB_TYPE_TIMESTAMP_NS] = "TIMESTAMP_NS",
	[DUCKDB_TYPE_UUID] = "UUID",
	[DUCKDB_TYPE_BIT] = "BIT",
	[DUCKDB_TYPE_TIME_TZ] = "TIME WITH TIME ZONE",
	[DUCKDB_TYPE_TIMESTAMP_TZ] = "TIMESTAMP WITH TIME ZONE",
	[DUCKDB_TYPE_ANY] = "ANY",
	[DUCKDB_TYPE_BIGNUM] = "BIGNUM",
	[DUCKDB_TYPE_SQLNULL] = "\"NULL\"",
	[DUCKDB_TYPE_TIME_NS] = "TIME_NS",
};

static void child_text(struct mg_sb *sb, duckdb_logical_type child)
{
	mg_duck__type_text(sb, child);
	duckdb_destroy_logical_type(&child);
}

static void enum_text(struct mg_sb *sb, duckdb_logical_type type)
{
	uint32_t count = duckdb_enum_dictionary_size(type);
	mg_sb_add(sb, "ENUM(");
	for (uint32_t i = 0; i < count; i++) {
		char *value = duckdb_enum_dictionary_value(type, i);
		mg_sb_add(sb, i ? ", " : "");
		mg_sb_add_literal(sb, value, strlen(value));
		duckdb_free(value);
	}
	mg_sb_add_char(sb, ')');
}

/* An unnamed struct (row(1, 2)) has empty names. */
static void struct_text(struct mg_sb *sb, duckdb_logical_type type)
{
	idx_t count = duckdb_struct_type_child_count(type);
	mg_sb_add(sb, "STRUCT(");
	for (idx_t i = 0; i < count; i++) {
		char *name = duckdb_struct_type_child_name(type, i);
		mg_sb_add(sb, i ? ", " : "");
		if (*name) {
			mg_sb_add_ident(sb, name);
			mg_sb_add_char(sb, ' ');
		}
		duckdb_free(name);
		child_text(sb, duckdb_struct_type_child_type(type, i));
	}
	mg_sb_add_char(sb, ')');
}

static void union_text(struct mg_sb *sb, duckdb_logical_type type)
{
	idx_t count = duckdb_union_type_member_count(type);
	mg_sb_add(sb, "UNION(");
	for (idx_t i = 0; i < count; i++) {
		char *name = duckdb_union_type_member_name(type, i);
		mg_sb_add(sb, i ? ", " : "");
		mg_sb_add_ident(sb, name);
		mg_sb_add_char(sb, ' ');
		duckdb_free(name);
		child_text(sb, duckdb_union_type_member_type(type, i));
	}
	mg_sb_add_char(sb, ')');
}

static void nested_text(struct mg_sb *sb, duckdb_logical_type type, duckdb_type id)
{
	switch (id) {
	case DUCKDB_TYPE_DECIMAL:
		mg_sb_addf(sb, "DECIMAL(%u,%u)", duckdb_decimal_width(type), duckdb_decimal_scale(type));
		break;
	case DUCKDB_TYPE_ENUM:
		enum_text(sb, type);
		break;
	case DUCKDB_TYPE_LIST:
		child_text(sb, duckdb_list_type_child_type(type));
		mg_sb_add(sb, "[]");
		break;
	case DUCKDB_TYPE_ARRAY:
		child_text(sb, duckdb_array_type_child_type(type));
		mg_sb_addf(sb, "[%llu]", (unsigned long long)duckdb_array_type_array_size(type));
		break;
	case DUCKDB_TYPE_STRUCT:
		struct_text(sb, type);
		break;
	case DUCKDB_TYPE_MAP:
		mg_sb_add(sb, "MAP(");
		child_text(sb, duckdb_map_type_key_type(type));
		mg_sb_add(sb, ", ");
		child_text(sb, duckdb_map_type_value_type(type));
		mg_sb_add_char(sb, ')');
		break;
	case DUCKDB_TYPE_UNION:
		union_text(sb, type);
		break;
	default:
		mg_sb_add(sb, "VARCHAR");
		break;
	}
}

/* Only built-in aliases name a type everywhere; a user's own name for a type does not travel. */
static bool alias_travels(const char *alias)
{
	return strcmp(alias, "JSON") == 0;
}

void mg_duck__type_text(struct mg_sb *sb, duckdb_logical_type type)
{
	char *alias = duckdb_logical_type_get_alias(type);
	bool done = alias && alias_travels(alias);
	if (done) {
		mg_sb_add(sb, alias);
	}
	duckdb_free(alias);
	if (done) {
		return;
	}
	duckdb_type id = duckdb_get_type_id(type);
	size_t index = (size_t)id;
	if (index < sizeof plain_names / sizeof *plain_names && plain_names[index]) {
		mg_sb_add(sb, plain_names[index]);
		return;
	}
	nested_text(sb, type, id);
}
