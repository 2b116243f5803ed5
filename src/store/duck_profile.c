/*
 * duck_profile.c - what the scans of a statement read, out of DuckDB's own profile of it.
 *
 * DuckDB counts rows per operator when a connection profiles; a scan's extra information names its
 * table with the attached database in front.  Only connections that ask pay for it.
 *
 * Rule: figures are DuckDB's counters, nothing is estimated.  owner: the connection's thread.
 * Limit: NAME_SIZE bytes a name; longer ones, and tables that are not ours to name, are left out.
 */
#include "store/duck_int.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256, DEPTH_MAX = 4096 };

int mg_duck_profile(struct mg_duck_conn *conn, struct mg_error *err)
{
	return mg_duck_exec(conn,
	                    "SET enable_profiling = 'no_output'; SET custom_profiling_settings = "
	                    "'{\"EXTRA_INFO\": \"true\", \"OPERATOR_TYPE\": \"true\", "
	                    "\"OPERATOR_CARDINALITY\": \"true\", \"OPERATOR_ROWS_SCANNED\": \"true\"}'",
	                    err);
}

/* One identifier as DuckDB writes it, quoted when it needs to be; where it ends, or NULL. */
static const char *read_name(const char *text, char name[NAME_SIZE])
{
	size_t len = 0;
	bool quoted = *text == '"';
	for (text += quoted; *text && len + 1 < NAME_SIZE; text++) {
		if (quoted && *text == '"') {
			if (text[1] != '"') {
				name[len] = '\0';
				return text + 1;
			}
			text++;
		} else if (!quoted && *text == '.') {
			break;
		}
		name[len++] = *text;
	}
	name[len] = '\0';
	return quoted || len + 1 == NAME_SIZE ? NULL : text;
}

struct walk {
	void (*each)(void *arg, const struct mg_duck_scan *scan);
	void *arg;
};

static char *metric(duckdb_profiling_info node, const char *key)
{
	duckdb_value value = duckdb_profiling_info_get_value(node, key);
	char *text = value ? duckdb_get_varchar(value) : NULL;
	duckdb_destroy_value(&value);
	return text;
}

static uint64_t count(duckdb_profiling_info node, const char *key)
{
	char *text = metric(node, key);
	uint64_t number = text ? strtoull(text, NULL, 10) : 0;
	duckdb_free(text);
	return number;
}

/* The table of a scan, out of its extra information as text: {Table=s1.main.t, Type=...}; a value
 * with signs in it stands in quotes.  Changes text; NULL: it names none. */
static char *table_of(char *text)
{
	static const char head[] = "{Table=";
	if (!text || strncmp(text, head, sizeof head - 1) != 0) {
		return NULL;
	}
	char *from = text + sizeof head - 1, *to = from;
	bool quoted = *from == '\'';
	char *table = to;
	for (from += quoted; *from; from++) {
		if (quoted ? *from == '\'' : (*from == ',' || *from == '}')) {
			*to = '\0';
			return table;
		}
		if (quoted && *from == '\\' && from[1]) {
			from++;
		}
		*to++ = *from;
	}
	return NULL;
}

static void tell(const struct walk *walk, duckdb_profiling_info node)
{
	char database[NAME_SIZE], schema[NAME_SIZE], table[NAME_SIZE];
	char *text = metric(node, "EXTRA_INFO");
	const char *name = table_of(text), *at = name ? read_name(name, database) : NULL;
	at = at && *at == '.' ? read_name(at + 1, schema) : NULL;
	at = at && *at == '.' ? read_name(at + 1, table) : NULL;
	if (at && !*at) {
		struct mg_duck_scan scan = { .database = database,
			                         .schema = schema,
			                         .table = table,
			                         .rows = count(node, "OPERATOR_CARDINALITY"),
			                         .scanned = count(node, "OPERATOR_ROWS_SCANNED") };
		walk->each(walk->arg, &scan);
	}
	duckdb_free(text);
}

static void visit(const struct walk *walk, duckdb_profiling_info node, size_t depth)
{
	char *type = metric(node, "OPERATOR_TYPE");
	if (type && strcmp(type, "TABLE_SCAN") == 0) {
		tell(walk, node);
	}
	duckdb_free(type);
	idx_t kids = depth < DEPTH_MAX ? duckdb_profiling_info_get_child_count(node) : 0;
	for (idx_t i = 0; i < kids; i++) {
		visit(walk, duckdb_profiling_info_get_child(node, i), depth + 1);
	}
}

void mg_duck_scans(struct mg_duck_conn *conn,
                   void (*each)(void *arg, const struct mg_duck_scan *scan), void *arg)
{
	duckdb_profiling_info root = duckdb_get_profiling_info(conn->con);
	struct walk walk = { each, arg };
	if (root) {
		visit(&walk, root, 0);
	}
}
