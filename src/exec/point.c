/* point.c - see point.h. */
#include "exec/point.h"

#include "exec/plain_row.h"
#include "sql/cursor.h"

#include <string.h>

#define DEPTH_MAX 100

/* ---- expressions ---- */

struct expr {
	const struct mg_table *table;
	const char *name; /* of the table in the statement */
	struct mg_lexer lexer;
	struct mg_token token; /* the next one */
};

static void next(struct expr *expr)
{
	expr->token = mg_lex_next(&expr->lexer);
}

static bool is_one_of(struct mg_token token, const char *const *list)
{
	size_t i = 0;

	while (list[i] && !mg_str_eq_nocase(token.text, mg_str(list[i]))) {
		i++;
	}
	return list[i] != NULL;
}

static bool is_keyword(struct mg_token token)
{
	static const char *const words[] = { "and",  "or",   "not",  "is",   "null", "true", "false",
		                                 "in",   "like", "case", "when", "then", "else", "end",
		                                 NULL };

	return token.kind == MG_T_WORD && is_one_of(token, words);
}

/* DuckDB's keywords that are no names of columns, or not everywhere (duckdb_keywords(), all but the
 * unreserved ones): where one stands without quotes, a text may mean something else than it seems.
 */
bool mg_point_is_reserved(struct mg_str word)
{
	static const char *const words[] = {
		"all", "analyse", "analyze", "and", "anti", "any", "array", "as", "asc", "asof",
		"asymmetric", "at", "authorization", "between", "bigint", "binary", "bit", "boolean",
		"both", "by", "case", "cast", "char", "character", "check", "coalesce", "collate",
		"collation", "column", "columns", "concurrently", "constraint", "create", "cross", "dec",
		"decimal", "default", "deferrable", "desc", "describe", "distinct", "do", "else", "end",
		"except", "exists", "extract", "false", "fetch", "float", "for", "foreign", "freeze",
		"from", "full", "generated", "glob", "group", "grouping", "grouping_id", "having", "ilike",
		"in", "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into",
		"is", "isnull", "join", "lambda", "lateral", "leading", "left", "like", "limit", "map",
		"national", "natural", "nchar", "none", "not", "notnull", "null", "nullif", "numeric",
		"offset", "on", "only", "or", "order", "out", "outer", "overlaps", "overlay", "pivot",
		"pivot_longer", "pivot_wider", "placing", "position", "positional", "precision", "primary",
		"qualify", "real", "references", "returning", "right", "row", "select", "semi", "setof",
		"show", "similar", "smallint", "some", "struct", "substring", "summarize", "symmetric",
		"table", "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim",
		"true", "try_cast", "union", "unique", "unpack", "unpivot", "using", "values", "varchar",
		"variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat",
		"xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot",
		"xmlserialize", "xmltable", NULL
	};

	return is_one_of((struct mg_token){ MG_T_WORD, word }, words);
}

static bool is_operator(struct mg_token token)
{
	static const char *const operators[] = { "+", "-", "*",  "/",  "%",  "=",  "<>", "!=",
		                                     "<", ">", "<=", ">=", "||", ",", NULL };

	return token.kind == MG_T_OPERATOR && is_one_of(token, operators);
}

/* Types whose values, made of a literal, hang on nothing but that. */
static bool is_known_type(const char *type)
{
	static const char *const types[] = { "BOOLEAN",  "TINYINT",   "SMALLINT", "INTEGER", "BIGINT",
		                                 "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT",
		                                 "FLOAT",    "DOUBLE",    "VARCHAR",  "DATE",    "TIME",
		                                 "TIMESTAMP", "UUID",     NULL };
	size_t i = 0;

	while (types[i] && strcmp(type, types[i]) != 0) {
		i++;
	}
	return types[i] || strncmp(type, "DECIMAL(", 8) == 0;
}

static bool is_column(const struct expr *expr, struct mg_token token)
{
	if (token.kind == MG_T_WORD && mg_point_is_reserved(token.text)) {
		return false;
	}
	for (size_t i = 0; i < expr->table->column_count; i++) {
		const struct mg_column *column = &expr->table->columns[i];

		if (mg_token_is_name(token, column->name)) {
			return is_known_type(column->type);
		}
	}
	return false;
}

/* [table .] column, and no call: f(, date '2024-01-01' */
static bool take_column(struct expr *expr)
{
	struct mg_token first = expr->token;

	next(expr);
	if (mg_token_is_sign(expr->token, '.') && mg_token_is_name(first, expr->name)) {
		next(expr);
		first = expr->token;
		next(expr);
	}
	return is_column(expr, first) && !mg_token_is_sign(expr->token, '(') &&
	       expr->token.kind != MG_T_STRING;
}

static bool is_plain_string(struct mg_token token)
{
	return token.kind == MG_T_STRING && token.text.ptr[0] == '\'';
}

/* CAST('1.5' AS DOUBLE), as parameters are written. */
static bool take_cast(struct expr *expr)
{
	struct mg_plain_reader reader = { expr->lexer, expr->token };
	struct mg_plain_value value;
	bool taken = mg_token_is(expr->token, "cast") && mg_plain_take_value(&reader, &value);

	if (taken) {
		expr->lexer = reader.lexer;
		expr->token = reader.token;
	}
	return taken;
}

/* All of the text is of what may stand here. */
static bool is_plain(const struct mg_table *table, const char *name, struct mg_str text)
{
	struct expr expr = { .table = table, .name = name };
	int depth = 0;
	bool good = true;

	mg_lex_init(&expr.lexer, text);
	next(&expr);
	while (good && expr.token.kind != MG_T_END) {
		if (mg_token_is_sign(expr.token, '(') || mg_token_is_sign(expr.token, ')')) {
			depth += mg_token_is_sign(expr.token, '(') ? 1 : -1;
			good = depth >= 0 && depth < DEPTH_MAX;
			next(&expr);
		} else if (is_keyword(expr.token) || is_operator(expr.token) ||
		           expr.token.kind == MG_T_NUMBER || is_plain_string(expr.token)) {
			next(&expr);
		} else if (!take_cast(&expr)) {
			good = (expr.token.kind == MG_T_WORD || expr.token.kind == MG_T_QUOTED) &&
			       take_column(&expr);
		}
	}
	return good && depth == 0;
}

/* ---- key = literal AND ... ---- */

struct keys {
	struct mg_plain_table plain;
	struct mg_plain_value *values; /* by place in plain.columns */
	bool *found;
	const struct mg_table *table;
	const char *name;
};

/* key_count: it names none. */
static size_t find_key(const struct keys *keys, struct mg_token token)
{
	bool name = token.kind == MG_T_QUOTED ||
	            (token.kind == MG_T_WORD && !mg_point_is_reserved(token.text));
	size_t k = name ? 0 : keys->table->key_count;

	while (k < keys->table->key_count && !mg_token_is_name(token, keys->table->keys[k])) {
		k++;
	}
	return k;
}

/* A comparison with a literal that stands alone between ANDs; nothing is taken of what is none. */
static void take_comparison(struct keys *keys, struct mg_plain_reader *reader)
{
	struct mg_plain_reader ahead = *reader;
	struct mg_token token = ahead.token;
	struct mg_plain_value value;

	ahead.token = mg_lex_next(&ahead.lexer);
	if (mg_token_is_name(token, keys->name) && mg_token_is_sign(ahead.token, '.')) {
		token = mg_lex_next(&ahead.lexer);
		ahead.token = mg_lex_next(&ahead.lexer);
	}
	size_t k = find_key(keys, token);

	if (k == keys->table->key_count || !mg_plain_take_sign(&ahead, '=') ||
	    !mg_plain_take_value(&ahead, &value) || value.kind == VALUE_NULL ||
	    (ahead.token.kind != MG_T_END && !mg_token_is(ahead.token, "and"))) {
		return;
	}
	keys->values[keys->plain.keys[k]] = value;
	keys->found[k] = true;
	*reader = ahead;
}

/* False: an OR stands beside the ANDs. */
static bool read_comparisons(struct keys *keys, struct mg_str where)
{
	struct mg_plain_reader reader;
	bool start = true, any = false;
	int depth = 0;

	mg_plain_reader_init(&reader, where);
	while (reader.token.kind != MG_T_END) {
		if (start) {
			take_comparison(keys, &reader);
		}
		struct mg_token token = reader.token;

		depth += mg_token_is_sign(token, '(') || mg_token_is(token, "case") ? 1 : 0;
		depth -= mg_token_is_sign(token, ')') || mg_token_is(token, "end") ? 1 : 0;
		any = any || (depth == 0 && mg_token_is(token, "or"));
		start = depth == 0 && mg_token_is(token, "and");
		reader.token = mg_lex_next(&reader.lexer);
	}
	return !any;
}

static bool find_by_key(const struct mg_catalog_data *data, struct mg_arena *arena,
                        const struct mg_table *table, const struct mg_dml *dml, const char *name,
                        struct mg_point *out)
{
	struct keys keys = { .table = table, .name = name };
	struct mg_sb scratch = { 0 };

	if (!mg_plain_keys_open(&keys.plain, arena, table)) {
		return false;
	}
	keys.values = mg_arena_new_array(arena, struct mg_plain_value, table->key_count);
	keys.found = mg_arena_new_array(arena, bool, table->key_count);
	bool good = read_comparisons(&keys, dml->where);

	for (size_t k = 0; good && k < table->key_count; k++) {
		good = keys.found[k];
	}
	good = good && mg_plain_row_fits(&keys.plain, keys.values);
	if (good) {
		out->slot = mg_plain_row_slot(&keys.plain, keys.values, &scratch);
		for (uint32_t i = 1; i <= data->shard_count; i++) {
			if (out->slot >= data->shards[i].slot_first &&
			    out->slot <= data->shards[i].slot_last) {
				out->shard = i;
			}
		}
	}
	mg_sb_fini(&scratch);
	return good;
}

/* ---- the statement ---- */

static bool is_name_of(const char *const *columns, size_t count, const struct mg_dml_set *set)
{
	size_t i = 0;

	while (i < count && !mg_text_eq_nocase(columns[i], set->column)) {
		i++;
	}
	return i < count;
}

/* What it sets is no key, which would move a row or might be there already. */
static bool are_plain_sets(struct mg_arena *arena, const struct mg_table *table,
                           const struct mg_dml *dml, const char *name)
{
	const char **uniques = mg_arena_new_array(arena, const char *, table->column_count + 1);
	size_t count = mg_table_key_columns(table, uniques);

	for (size_t i = 0; i < dml->set_count; i++) {
		const struct mg_dml_set *set = &dml->sets[i];
		const struct mg_column *column = mg_table_find_column(table, set->column);

		if (!column || set->is_default || mg_point_is_reserved(mg_str(set->column)) ||
		    !is_known_type(column->type) || !is_plain(table, name, set->expr) ||
		    is_name_of(table->keys, table->key_count, set) || is_name_of(uniques, count, set)) {
			return false;
		}
		for (size_t k = 0; k < i; k++) {
			if (mg_text_eq_nocase(dml->sets[k].column, set->column)) {
				return false;
			}
		}
	}
	return true;
}

bool mg_point_find(const struct mg_catalog_data *data, struct mg_arena *arena,
                   const struct mg_table *table, const struct mg_dml *dml, struct mg_point *out)
{
	const char *name = dml->alias ? dml->alias : table->name;

	if ((dml->verb != MG_DML_UPDATE && dml->verb != MG_DML_DELETE) || dml->with.len ||
	    dml->from.len || dml->returning.len || !dml->where.len ||
	    mg_point_is_reserved(mg_str(name)) || !mg_plain_definition(table->definition, true) ||
	    !is_plain(table, name, dml->where) || !are_plain_sets(arena, table, dml, name)) {
		return false;
	}
	*out = (struct mg_point){ 0 };
	return !table->key_count || find_by_key(data, arena, table, dml, name, out);
}
