/*
 * write_key.c - PRIMARY KEY and UNIQUE: no two rows of a statement have one key, nor has one a key
 * that is there.
 *
 * No index stands behind it: the keys of the statement are joined with the table's, shard by shard,
 * and only those shards are looked at that rows go to, because a key's row lies where the key
 * leads. The caller sees to it that nobody else writes there meanwhile.
 */
#include "exec/run.h"
#include "exec/write_int.h"

#include <string.h>

/* ---- keys of the statement: the row's id or NULL, then the key ---- */

int mg_write__keep_keys(struct mg_write *write, struct mg_duck_conn *conn, bool with_rids,
                        struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, with_rids ? "SELECT \"merganser rid\"" : "SELECT NULL::BIGINT");
	for (size_t i = 0; i < write->unique_count; i++) {
		mg_sb_add(&sql, ", ");
		mg_sb_add_ident(&sql, write->uniques[i]);
	}
	mg_sb_add(&sql, " FROM ");
	if (with_rids) {
		mg_sb_addf(&sql,
		           "(SELECT c0 AS \"merganser rid\" FROM merganser_exchange(%d)) POSITIONAL JOIN ",
		           MG_WRITE_SOURCE);
	}
	mg_sb_add(&sql, "(SELECT ");
	mg_write__add_stored(&sql, write, 0, true);
	mg_sb_addf(&sql, " FROM merganser_exchange(%d))", MG_WRITE_TRIED);
	int code = mg_write__spool_query(write, MG_WRITE_KEYS, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

static const char *type_of(const struct mg_table *table, const char *column)
{
	for (size_t i = 0; i < table->column_count; i++) {
		if (mg_text_eq_nocase(table->columns[i].name, column)) {
			return table->columns[i].type;
		}
	}
	return "VARCHAR";
}

/* ---- errors, in DuckDB's words ---- */

static int fail(struct mg_error *err, const char *sqlstate, const char *before, const char *key,
                const char *after)
{
	int code = mg_error_set(err, MG_E_DATA, "%s%s%s", before, key, after);

	if (err) {
		mg_copy_text(err->sqlstate, sizeof err->sqlstate, sqlstate);
	}
	return code;
}

/* The first text of sql, or nothing. */
static int ask(struct mg_duck_conn *conn, struct mg_sb *sql, char **out, struct mg_error *err)
{
	int code = mg_duck_text(conn, mg_sb_text(sql), out, err);

	mg_sb_clear(sql);
	return code;
}

/* The column of MG_WRITE_KEYS, without the id in front, that a key's column is. */
static size_t place_of(const struct mg_write *write, const char *column)
{
	size_t i = 0;

	while (i + 1 < write->unique_count && !mg_text_eq_nocase(write->uniques[i], column)) {
		i++;
	}
	return i;
}

/* 'k: ' || k || ', j: ' || j, or without the names. */
static void add_key_text(struct mg_sb *sql, const struct mg_write *write, const struct mg_key *key,
                         bool names)
{
	for (size_t i = 0; i < key->count; i++) {
		struct mg_sb name = { 0 };

		mg_sb_addf(&name, names ? "%s%s: " : "%s%.0s", i ? ", " : "", key->columns[i]);
		mg_sb_add(sql, i ? " || " : "");
		mg_sb_add_literal(sql, mg_sb_text(&name), name.len);
		mg_sb_addf(sql, " || n.k%zu::VARCHAR", place_of(write, key->columns[i]));
		mg_sb_fini(&name);
	}
}

static void add_keys(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add(sql, "(SELECT c0 AS rid");
	for (size_t i = 0; i < write->unique_count; i++) {
		mg_sb_addf(sql, ", c%zu::%s AS k%zu", i + 1, type_of(write->table, write->uniques[i]), i);
	}
	mg_sb_addf(sql, " FROM merganser_exchange(%d)) AS n", MG_WRITE_KEYS);
}

static bool is_not_null(const struct mg_table *table, const char *column)
{
	for (size_t i = 0; i < table->column_count; i++) {
		if (mg_text_eq_nocase(table->columns[i].name, column)) {
			return table->columns[i].not_null;
		}
	}
	return false;
}

/* Where the columns do not say so themselves. */
static int check_null(const struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	struct mg_sb sql = { 0 };
	char *found = NULL;
	bool any = false;
	int code = 0;

	mg_sb_add(&sql, "SELECT coalesce(");
	for (size_t i = 0; i < table->primary_key_count; i++) {
		const char *name = table->primary_key[i];

		if (!is_not_null(table, name)) {
			mg_sb_addf(&sql, "%sCASE WHEN k%zu IS NULL THEN ", any ? ", " : "",
			           place_of(write, name));
			mg_sb_add_literal(&sql, name, strlen(name));
			mg_sb_add(&sql, " END");
			any = true;
		}
	}
	mg_sb_add(&sql, ") AS key FROM ");
	add_keys(&sql, write);
	mg_sb_add(&sql, " WHERE key IS NOT NULL LIMIT 1");
	code = any ? ask(conn, &sql, &found, err) : 0;
	if (!code && found) {
		mg_sb_clear(&sql);
		mg_sb_addf(&sql, "%s.%s", table->name, found);
		code = fail(err, "23502", "NOT NULL constraint failed: ", mg_sb_text(&sql), "");
	}
	mg_free(found);
	mg_sb_fini(&sql);
	return code;
}

static int check_twice(const struct mg_write *write, struct mg_duck_conn *conn,
                       const struct mg_key *key, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *twice = NULL;

	mg_sb_add(&sql, "SELECT ");
	add_key_text(&sql, write, key, false);
	mg_sb_add(&sql, " FROM ");
	add_keys(&sql, write);
	for (size_t i = 0; i < key->count; i++) {
		mg_sb_addf(&sql, i ? " AND k%zu IS NOT NULL" : " WHERE k%zu IS NOT NULL",
		           place_of(write, key->columns[i]));
	}
	for (size_t i = 0; i < key->count; i++) {
		mg_sb_addf(&sql, i ? ", k%zu" : " GROUP BY k%zu", place_of(write, key->columns[i]));
	}
	mg_sb_add(&sql, " HAVING count(*) > 1 LIMIT 1");
	int code = ask(conn, &sql, &twice, err);

	if (!code && twice) {
		code = fail(err, "23505", "PRIMARY KEY or UNIQUE constraint violation: duplicate key \"",
		            twice, "\"");
	}
	mg_free(twice);
	mg_sb_fini(&sql);
	return code;
}

/* A row of that shard with one of the keys, which this statement does not replace. */
static int check_shard(const struct mg_write *write, struct mg_duck_conn *conn,
                       const struct mg_key *key, bool primary, uint32_t shard, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *there = NULL;

	mg_sb_add(&sql, "SELECT ");
	add_key_text(&sql, write, key, true);
	mg_sb_add(&sql, " FROM (");
	mg_write__add_rows(&sql, write, shard);
	mg_sb_add(&sql, ") AS o JOIN ");
	add_keys(&sql, write);
	for (size_t i = 0; i < key->count; i++) {
		mg_sb_add(&sql, i ? " AND o." : " ON o.");
		mg_sb_add_ident(&sql, key->columns[i]);
		mg_sb_addf(&sql, " = n.k%zu", place_of(write, key->columns[i]));
	}
	bool commits = write->spools[MG_WRITE_DEAD].spool != NULL;

	if (commits || write->dml.verb == MG_DML_UPDATE || write->dml.verb == MG_DML_MERGE) {
		mg_sb_addf(&sql,
		           " WHERE NOT EXISTS (SELECT 1 FROM merganser_exchange(%d) AS u WHERE u.c0 = "
		           "o._mg_rid)",
		           commits ? MG_WRITE_DEAD : MG_WRITE_KEYS);
	}
	mg_sb_add(&sql, " LIMIT 1");
	int code = ask(conn, &sql, &there, err);

	if (!code && there) {
		code = fail(err, "23505", "duplicate key \"", there,
		            primary ? "\" violates primary key constraint"
		                    : "\" violates unique constraint");
	}
	mg_free(there);
	mg_sb_fini(&sql);
	return code;
}

/* The redo may hold what earlier statements wrote elsewhere. */
static bool is_written(const struct mg_write *write, uint32_t shard)
{
	return (shard > 0) == (write->table->key_count > 0) &&
	       (write->written[shard] || mg_redo_size(write->redo, shard) > 0);
}

static int check_key(const struct mg_write *write, struct mg_duck_conn *conn,
                     const struct mg_key *key, bool primary, struct mg_error *err)
{
	int code = write->spools[MG_WRITE_KEYS].rows > 1 ? check_twice(write, conn, key, err) : 0;

	for (uint32_t shard = 0; !code && shard <= write->data->shard_count; shard++) {
		code = is_written(write, shard) ? check_shard(write, conn, key, primary, shard, err) : 0;
	}
	return code;
}

static int check(const struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	const struct mg_key primary = { table->primary_key, table->primary_key_count };
	int code = 0;

	if (primary.count) {
		code = check_null(write, conn, err);
		code = code ? code : check_key(write, conn, &primary, true, err);
	}
	for (size_t i = 0; !code && i < table->unique_count; i++) {
		code = check_key(write, conn, &table->uniques[i], false, err);
	}
	return code;
}

int mg_write__check_keys(struct mg_write *write, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;

	if (!write->spools[MG_WRITE_KEYS].spool) {
		return 0;
	}
	mg_write__spool_seal(write, MG_WRITE_KEYS);
	int code = mg_write__reader(write, &conn, err);

	code = code ? code : check(write, conn, err);
	mg_write__reader_done(write, conn);
	return code;
}
