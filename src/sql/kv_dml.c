/* kv_dml.c - see kv_dml.h. */
#include "sql/kv_dml.h"

#include "sql/cursor.h"
#include "sql/dml.h"
#include "store/duck_keys.h"

#include <string.h>

/* ---- whether it is one ---- */

static bool is_any(struct mg_token token, const char *const *words)
{
	for (; *words; words++) {
		if (mg_token_is(token, *words)) {
			return true;
		}
	}
	return false;
}

/* The verb, which is the first word or stands behind the definitions of WITH. */
static struct mg_token find_verb(struct mg_lexer *lexer)
{
	static const char *const verbs[] = { "insert",   "update", "delete", "merge",
		                                 "truncate", "copy",   NULL };
	struct mg_token token = mg_lex_next(lexer);
	size_t depth = 0;

	if (!mg_token_is(token, "with")) {
		return token;
	}
	while (!mg_token_is_end(token) && (depth || !is_any(token, verbs))) {
		depth += mg_token_is_sign(token, '(');
		depth -= mg_token_is_sign(token, ')') && depth > 0;
		token = mg_lex_next(lexer);
	}
	return token;
}

bool mg_kv_dml_is(struct mg_str statement)
{
	static const char *const before[] = { "insert", "update",  "delete", "merge", "truncate",
		                                  "copy",   "or",      "ignore", "replace", "into",
		                                  "from",   "table",   NULL };
	struct mg_lexer lexer;

	mg_lex_init(&lexer, statement);
	struct mg_token token = find_verb(&lexer);

	while (is_any(token, before)) {
		token = mg_lex_next(&lexer);
	}
	return mg_token_is_name(token, MG_KV_SCHEMA) && mg_token_is_sign(mg_lex_next(&lexer), '.');
}

/* ---- what it is ---- */

static int refuse(struct mg_error *err, const char *what, const char *hint)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "%s of keys and values is not supported", what);
	mg_error_hint(err, "%s", hint);
	return MG_E_UNSUPPORTED;
}

static int check(const struct mg_dml *dml, struct mg_error *err)
{
	if (dml->catalog[0]) {
		mg_error_set(err, MG_E_BIND, "%s.%s.%s names no namespace", dml->catalog, dml->schema,
		             dml->table);
		mg_error_hint(err, "One whose name has dots is written kv.\"%s.%s\".", dml->schema,
		              dml->table);
		return MG_E_BIND;
	}
	if (dml->copy_format) {
		return refuse(err, "COPY", "INSERT INTO kv.namespace SELECT key, value FROM ... takes the "
		                           "rows of a table.");
	}
	if (dml->verb != MG_DML_INSERT && dml->verb != MG_DML_DELETE) {
		return refuse(err, dml->name, "INSERT puts keys, and replaces those that are there; DELETE "
		                              "FROM kv.namespace [WHERE ...] deletes them.");
	}
	if (dml->returning.len) {
		return refuse(err, "RETURNING", "Read them: SELECT ... FROM kv('namespace').");
	}
	if (dml->conflict) {
		return refuse(err, "ON CONFLICT", "INSERT puts a key, and replaces one that is there.");
	}
	if (dml->default_values) {
		return refuse(err, "DEFAULT VALUES", "A key and its value have to be given.");
	}
	if (dml->from.len) {
		return refuse(err, "DELETE ... USING",
		              "WHERE key IN (SELECT ...) says which keys are meant.");
	}
	return 0;
}

static struct mg_str with(struct mg_arena *arena, const struct mg_dml *dml, const char *query)
{
	return mg_str(dml->with.len
	                  ? mg_arena_format(arena, "%.*s\n%s", MG_STR_ARG(dml->with), query)
	                  : query);
}

/* A key that was changed after it was found is another one: version says so.  Whether it is text is
 * the condition's matter alone. */
static struct mg_str select_dead(struct mg_arena *arena, const struct mg_dml *dml)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT " MG_DUCK_KEYS_BYTES_COLUMN ", version FROM kv(");
	mg_sb_add_literal(&sql, dml->table, strlen(dml->table));
	mg_sb_add(&sql, ", " MG_DUCK_KEYS_BYTES " := true) AS ");
	mg_sb_add_ident(&sql, dml->alias ? dml->alias : dml->table);
	if (dml->where.len) {
		mg_sb_add(&sql, " WHERE ");
		mg_sb_add_len(&sql, dml->where.ptr, dml->where.len);
	}
	struct mg_str query = with(arena, dml, mg_arena_strdup(arena, mg_sb_text(&sql)));

	mg_sb_fini(&sql);
	return query;
}

int mg_kv_dml_parse(struct mg_arena *arena, struct mg_str text, struct mg_kv_dml *out,
                    struct mg_error *err)
{
	struct mg_dml dml;
	int code = mg_dml_parse(arena, text, &dml, err);

	code = code ? code : check(&dml, err);
	if (code) {
		return code;
	}
	bool deletes = dml.verb == MG_DML_DELETE;
	const char *source = mg_arena_strndup(arena, dml.source.ptr, dml.source.len);

	*out = (struct mg_kv_dml){
		.deletes = deletes,
		.space = mg_str(dml.table),
		.columns = dml.columns,
		.column_count = dml.column_count,
		.by_name = dml.by_name,
		.query = deletes ? select_dead(arena, &dml) : with(arena, &dml, source),
	};
	return 0;
}
