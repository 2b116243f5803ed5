/*
 * duck_error.c - DuckDB's error texts as struct mg_error.
 *
 * The kind is read from the prefix of the text ("Binder Error: ..."), because prepared statements,
 * pending results and extracted statements give no error type; within a kind, a table of phrases
 * finds the finer SQLSTATE.  Phrases are those of version 1.5.5; an unknown one falls back to its
 * kind.
 *
 * The first line becomes the message, "LINE 1: ..." with its caret the detail, "Did you mean ..."
 * the hint.  Advice that nobody can follow here, such as settings and CASCADE, is left out.
 */
#include "store/duck_int.h"

#include <ctype.h>
#include <string.h>

struct rule {
	const char *kind;   /* prefix before " Error: " */
	const char *phrase; /* somewhere in the first line; NULL: any */
	int code;
	const char *sqlstate; /* NULL: the code's own */
};

/* First match wins: phrases before the catch-all of their kind. */
static const struct rule rules[] = {
	{ "Parser", NULL, MG_E_SYNTAX, NULL },
	{ "Syntax", NULL, MG_E_SYNTAX, NULL },
	{ "Catalog", "already exists", MG_E_DUPLICATE, NULL },
	{ "Catalog", "Table Function with name", MG_E_NO_FUNCTION, NULL },
	{ "Catalog", "Function with name", MG_E_NO_FUNCTION, NULL },
	{ "Catalog", "Macro with name", MG_E_NO_FUNCTION, NULL },
	{ "Catalog", "Table with name", MG_E_NO_TABLE, NULL },
	{ "Catalog", "View with name", MG_E_NO_TABLE, NULL },
	{ "Catalog", "Type with name", MG_E_BIND, "42704" },
	{ "Catalog", "Collation with name", MG_E_BIND, "42704" },
	{ "Catalog", "Schema with name", MG_E_BIND, "3F000" },
	{ "Catalog", "unrecognized configuration parameter", MG_E_USAGE, "42704" },
	{ "Catalog", "does not exist", MG_E_NO_TABLE, NULL },
	{ "Catalog", NULL, MG_E_BIND, NULL },
	{ "Binder", "Referenced table", MG_E_NO_TABLE, NULL },
	{ "Binder", "Referenced column", MG_E_NO_COLUMN, NULL },
	{ "Binder", "does not have a column named", MG_E_NO_COLUMN, NULL },
	{ "Binder", "does not have a column with name", MG_E_NO_COLUMN, NULL },
	{ "Binder", "Referenced update column", MG_E_NO_COLUMN, NULL },
	{ "Binder", "not found in FROM clause", MG_E_NO_COLUMN, NULL },
	{ "Binder", "Could not find key", MG_E_NO_COLUMN, NULL },
	{ "Binder", "No function matches", MG_E_NO_FUNCTION, NULL },
	{ "Binder", "Ambiguous reference", MG_E_BIND, "42702" },
	{ "Binder", "GROUP BY", MG_E_BIND, "42803" },
	{ "Binder", "cannot contain aggregates", MG_E_BIND, "42803" },
	{ "Binder", "cannot contain window", MG_E_BIND, "42P20" },
	{ "Binder", "Cannot compare values", MG_E_BIND, "42804" },
	{ "Binder", "Cannot mix values", MG_E_BIND, "42804" },
	{ "Binder", "Duplicate alias", MG_E_BIND, "42712" },
	{ "Binder", "not supported", MG_E_UNSUPPORTED, NULL },
	{ "Binder", NULL, MG_E_BIND, NULL },
	{ "Planner", NULL, MG_E_BIND, NULL },
	{ "Parameter Not Resolved", NULL, MG_E_BIND, "42P18" },
	{ "Parameter Not Allowed", NULL, MG_E_BIND, "42P02" },
	{ "Dependency", NULL, MG_E_BIND, "2BP01" },
	{ "Conversion", "out of range", MG_E_DATA, "22003" },
	{ "Conversion", NULL, MG_E_DATA, "22P02" },
	{ "Out of Range", NULL, MG_E_DATA, "22003" },
	{ "Decimal", NULL, MG_E_DATA, "22003" },
	{ "Divide by Zero", NULL, MG_E_DATA, "22012" },
	{ "Mismatch Type", NULL, MG_E_DATA, "42804" },
	{ "Invalid type", NULL, MG_E_DATA, "42804" },
	{ "Unknown Type", NULL, MG_E_DATA, "42804" },
	{ "Sequence", NULL, MG_E_DATA, "2200H" },
	{ "Object Size", NULL, MG_E_LIMIT, NULL },
	{ "Constraint", "NOT NULL", MG_E_DATA, "23502" },
	{ "Constraint", "uplicate key", MG_E_DATA, "23505" },
	{ "Constraint", "foreign key", MG_E_DATA, "23503" },
	{ "Constraint", "CHECK", MG_E_DATA, "23514" },
	{ "Constraint", NULL, MG_E_DATA, "23000" },
	{ "Invalid Input", "ore than one row returned", MG_E_CARDINALITY, NULL },
	{ "Invalid Input", "read-only mode", MG_E_READ_ONLY, NULL },
	{ "Invalid Input", "not supported", MG_E_UNSUPPORTED, NULL },
	{ "Invalid Input", NULL, MG_E_DATA, NULL },
	{ "Invalid Configuration", NULL, MG_E_USAGE, NULL },
	{ "Settings", NULL, MG_E_USAGE, NULL },
	{ "Out of Memory", NULL, MG_E_NOMEM, NULL },
	{ "INTERRUPT", NULL, MG_E_CANCELLED, NULL },
	{ "Permission", NULL, MG_E_DENIED, NULL },
	{ "Not implemented", NULL, MG_E_UNSUPPORTED, NULL },
	{ "Missing Extension", NULL, MG_E_UNSUPPORTED, NULL },
	{ "Extension Autoloading", NULL, MG_E_UNSUPPORTED, NULL },
	{ "HTTP", NULL, MG_E_UNSUPPORTED, NULL },
	{ "IO", "No space left", MG_E_DISK_FULL, NULL },
	{ "IO", "not a valid DuckDB database file", MG_E_CORRUPT, NULL },
	{ "IO", "Corrupt", MG_E_CORRUPT, NULL },
	{ "IO", "checksum", MG_E_CORRUPT, NULL },
	{ "IO", NULL, MG_E_IO, NULL },
	{ "TransactionContext", "No space left", MG_E_DISK_FULL, NULL },
	{ "TransactionContext", "Conflict", MG_E_DATA, "40001" },
	{ "TransactionContext", NULL, MG_E_BIND, "25000" },
};

static const struct rule *rule_find(const char *kind, size_t kind_len, const char *line, size_t len)
{
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		const struct rule *rule = &rules[i];
		if (strlen(rule->kind) != kind_len || memcmp(rule->kind, kind, kind_len) != 0) {
			continue;
		}
		if (!rule->phrase || memmem(line, len, rule->phrase, strlen(rule->phrase))) {
			return rule;
		}
	}
	return NULL;
}

/* A line of the text as detail or hint; lines of one part are joined. */
static void part_add(char *part, size_t size, const char *line, size_t len)
{
	size_t used = strlen(part);
	if (used > 0 && used + 1 < size) {
		part[used++] = '\n';
	}
	size_t room = size - used - 1;
	size_t take = len < room ? len : room;
	memcpy(part + used, line, take);
	part[used + take] = '\0';
}

/* Clients have no settings of the engine, and DROP ... CASCADE is refused. */
static bool is_vain_advice(const char *line)
{
	return strncmp(line, "Use DROP...CASCADE", 18) == 0 || strncmp(line, "Use \"SET ", 9) == 0;
}

/* The engine calls a sequence that something depends on an index, on which nothing can depend. */
static void name_sequences(char *detail)
{
	static const char wrong[] = "depends on index \"", right[] = "depends on sequence \"";

	for (char *at; (at = strstr(detail, wrong));) {
		struct mg_sb sb = { 0 };

		mg_sb_addf(&sb, "%.*s%s%s", (int)(at - detail), detail, right, at + sizeof wrong - 1);
		mg_copy_text(detail, sizeof((struct mg_error *)0)->detail, mg_sb_text(&sb));
		mg_sb_fini(&sb);
	}
}

static void split_rest(struct mg_error *err, const char *rest)
{
	while (rest && *rest) {
		size_t len = strcspn(rest, "\n");
		bool hint = strncmp(rest, "Did you mean", 12) == 0 || strncmp(rest, "HINT:", 5) == 0;
		if (hint) {
			part_add(err->hint, sizeof err->hint, rest, len);
		} else if (len > 0 && !is_vain_advice(rest)) {
			part_add(err->detail, sizeof err->detail, rest, len);
		}
		rest += len;
		rest += *rest == '\n';
	}
}

/* Length of the kind in "Kind Error: text", 0 when there is none. */
static size_t kind_length(const char *message)
{
	const char *mark = strstr(message, " Error: ");
	if (!mark || mark - message > 32 || memchr(message, '\n', (size_t)(mark - message))) {
		return 0;
	}
	return (size_t)(mark - message);
}

int mg_duck__error(struct mg_error *err, const char *message)
{
	if (!message || !*message) {
		return mg_error_set(err, MG_E_INTERNAL, "the engine failed without a message");
	}
	size_t kind_len = kind_length(message);
	const char *line = kind_len ? message + kind_len + strlen(" Error: ") : message;
	size_t len = strcspn(line, "\n");
	const struct rule *rule = rule_find(message, kind_len, line, len);
	int code = rule ? rule->code : MG_E_INTERNAL;

	const char *rest = line + len;
	size_t shown = len;
	while (shown > 0 && (line[shown - 1] == '.' || line[shown - 1] == '!')) {
		shown--;
	}
	/* "Table with ..." becomes "table with ..."; "LIMIT ..." stays. */
	bool lower = len > 1 && isupper((unsigned char)line[0]) && islower((unsigned char)line[1]);
	char first = (char)(lower ? tolower((unsigned char)line[0]) : line[0]);
	mg_error_set(err, code, "%c%.*s", first, shown > 0 ? (int)shown - 1 : 0, line + 1);
	if (err) {
		if (rule && rule->sqlstate) {
			memcpy(err->sqlstate, rule->sqlstate, sizeof err->sqlstate);
		}
		/* What follows when memory is out is advice alone, about settings. */
		split_rest(err, code == MG_E_NOMEM ? NULL : rest);
		name_sequences(err->detail);
	}
	if (code == MG_E_NOMEM) {
		mg_error_hint(err, "Let the statement read or keep less at once, or start servers and "
		                   "workers with a larger --memory-limit.");
	} else if (code == MG_E_CARDINALITY) {
		mg_error_hint(err, "Let the subquery give one row: LIMIT 1, or an aggregate such as "
		                   "max().");
	}
	return code;
}

int mg_duck__error_data(struct mg_error *err, duckdb_error_data data)
{
	int rc = 0;
	if (data && duckdb_error_data_has_error(data)) {
		rc = mg_duck__error(err, duckdb_error_data_message(data));
	}
	duckdb_destroy_error_data(&data);
	return rc;
}

void mg_duck__fail(struct mg_duck_conn *conn, const struct mg_error *err)
{
	pthread_mutex_lock(&conn->duck->lock);
	if (conn->failure.code == 0) {
		conn->failure = *err;
	}
	pthread_mutex_unlock(&conn->duck->lock);
}

void mg_duck__failure_clear(struct mg_duck_conn *conn)
{
	pthread_mutex_lock(&conn->duck->lock);
	conn->failure.code = 0;
	pthread_mutex_unlock(&conn->duck->lock);
}

int mg_duck__failed(struct mg_duck_conn *conn, struct mg_error *err, const char *message)
{
	struct mg_error own;
	pthread_mutex_lock(&conn->duck->lock);
	own = conn->failure;
	conn->failure.code = 0;
	pthread_mutex_unlock(&conn->duck->lock);
	if (own.code != 0) {
		if (err) {
			*err = own;
		}
		return own.code;
	}
	return mg_duck__error(err, message);
}
