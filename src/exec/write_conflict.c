/*
 * write_conflict.c - INSERT ... ON CONFLICT, OR REPLACE, OR IGNORE.
 *
 *   source -> rows of the table with one of its keys -> a temporary table with the primary key
 *          -> the statement's own INSERT into that, by DuckDB -> what differs goes into the redo
 *
 * So what wins, what SET and WHERE see and what RETURNING gives is DuckDB's own, and the redo is
 * the difference: a row that is new is inserted, one that changed replaces its id, one whose key
 * was changed away is deleted.
 *
 * Limit: the source's rows lie in the planning database at once: MG_WRITE_WHOLE_ROWS and
 * MG_WRITE_WHOLE_BYTES.
 */
#include "exec/run.h"
#include "exec/write_int.h"
#include "sql/statement.h"

#include <string.h>

/* ---- columns ---- */

/* The column of the source that fills the table's; SIZE_MAX: none does. */
static size_t source_of(const struct mg_write *write, const char *column)
{
	const struct mg_dml *dml = &write->dml;
	const char **names = dml->by_name ? write->source_names : dml->columns;
	size_t count = dml->by_name ? write->source_columns : dml->column_count;

	if (!count) {
		for (size_t i = 0; i < write->table->column_count; i++) {
			if (mg_text_eq_nocase(write->table->columns[i].name, column)) {
				return i < write->source_columns ? i : SIZE_MAX;
			}
		}
		return SIZE_MAX;
	}
	for (size_t i = 0; i < count; i++) {
		if (mg_text_eq_nocase(names[i], column)) {
			return i;
		}
	}
	return SIZE_MAX;
}

static size_t position_of(const struct mg_table *table, const char *column)
{
	size_t i = 0;

	while (!mg_text_eq_nocase(table->columns[i].name, column)) {
		i++;
	}
	return i;
}

static int check_columns(const struct mg_write *write, struct mg_error *err)
{
	for (size_t i = 0; i < write->unique_count; i++) {
		if (source_of(write, write->uniques[i]) >= write->source_columns) {
			mg_error_set(err, MG_E_UNSUPPORTED,
			             "ON CONFLICT needs a value of \"%s\", which is of a key",
			             write->uniques[i]);
			mg_error_hint(err, "Name the column and give it a value.");
			return MG_E_UNSUPPORTED;
		}
	}
	return 0;
}

/* ---- the source ---- */

static bool names_default(struct mg_str text)
{
	struct mg_lexer lexer;
	struct mg_token token;

	mg_lex_init(&lexer, text);
	do {
		token = mg_lex_next(&lexer);
		if (token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, MG_STR("default"))) {
			return true;
		}
	} while (token.kind != MG_T_END && token.kind != MG_T_BAD);
	return false;
}

static void add_listed(struct mg_sb *sql, const struct mg_write *write)
{
	for (size_t i = 0; i < write->source_columns; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, write->source_names[i]);
	}
}

/* The columns that VALUES fill are the table's. */
static void name_values(struct mg_write *write)
{
	const struct mg_dml *dml = &write->dml;
	const struct mg_table *table = write->table;
	size_t count = dml->column_count ? dml->column_count : table->column_count;

	write->source_columns = count;
	write->source_names = mg_arena_new_array(write->arena, const char *, count + 1);
	write->source_types = mg_arena_new_array(write->arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) {
		write->source_names[i] = dml->column_count ? dml->columns[i] : table->columns[i].name;
		for (size_t c = 0; c < table->column_count; c++) {
			if (mg_text_eq_nocase(table->columns[c].name, write->source_names[i])) {
				write->source_types[i] = table->columns[c].type;
			}
		}
		write->source_types[i] = write->source_types[i] ? write->source_types[i] : "\"NULL\"";
	}
}

/* VALUES that read nothing, each value cast to its column.  Where DEFAULT is among them the table
 * itself takes them, else a copy without its constraints: a row that conflicts need not hold them.
 */
static int try_values(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;
	const struct mg_dml *dml = &write->dml;
	bool real = dml->default_values || names_default(dml->source);
	struct mg_sb sql = { 0 };
	int code = 0;

	mg_duck_set_context(conn, &write->context);
	if (real) {
		code = mg_write__make_trial(write, conn, err);
	} else {
		mg_sb_add(&sql, "CREATE TEMP TABLE ");
		mg_sb_add_ident(&sql, write->table->name);
		mg_sb_add(&sql, " AS SELECT * FROM merganser.");
		mg_write__add_table(&sql, write);
		mg_sb_add(&sql, " LIMIT 0");
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
		mg_sb_clear(&sql);
	}
	mg_sb_add_len(&sql, dml->with.ptr, dml->with.len);
	mg_sb_add(&sql, "\nINSERT INTO ");
	mg_write__add_trial(&sql, write); /* ON CONFLICT is of tables with keys alone */
	if (dml->default_values) {
		mg_sb_add(&sql, " DEFAULT VALUES");
	} else {
		mg_sb_add(&sql, " (");
		add_listed(&sql, write);
		mg_sb_addf(&sql, ") %.*s", MG_STR_ARG(dml->source));
	}
	mg_sb_add(&sql, "\nRETURNING ");
	add_listed(&sql, write);
	code = code ? code : mg_write__spool_query(write, MG_WRITE_SOURCE, conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

static int fetch(struct mg_write *write, const char *source, bool here, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	int code;

	if (here) {
		name_values(write);
		code = mg_plandb_try(mg_engine_plandb(write->engine), &settings, try_values, write, err);
	} else {
		code = mg_write__source(write, source, NULL, err);
	}
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_SOURCE);
	}
	return code;
}

/* ---- rows that are there ---- */

/* The source's keys, typed as the table's. */
static void add_source_keys(struct mg_sb *sql, const struct mg_write *write)
{
	const struct mg_table *table = write->table;

	for (size_t i = 0; i < write->unique_count; i++) {
		size_t at = source_of(write, write->uniques[i]);

		mg_sb_add(sql, i ? ", " : "(SELECT ");
		mg_write__add_cast(sql, at, write->source_types[at]);
		mg_write__add_type(sql, table->columns[position_of(table, write->uniques[i])].type);
		mg_sb_add(sql, " AS ");
		mg_sb_add_ident(sql, write->uniques[i]);
	}
	mg_sb_addf(sql, " FROM merganser_exchange(%d))", MG_WRITE_SOURCE);
}

struct slots {
	const struct mg_write *write;
	bool *shards; /* [shard_count + 1] */
};

static int slots_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	const struct slots *slots = arg;
	const struct ArrowArray *column = batch->children[0];
	const uint16_t *values = (const uint16_t *)column->buffers[1] + column->offset + batch->offset;

	(void)target, (void)err;
	for (int64_t i = 0; i < batch->length; i++) {
		slots->shards[slots->write->owner[values[i]]] = true;
	}
	return 0;
}

static bool key_leads(const struct mg_write *write)
{
	const struct mg_table *table = write->table;

	for (size_t k = 0; k < table->key_count; k++) {
		bool found = false;

		for (size_t i = 0; i < write->unique_count; i++) {
			found = found || mg_text_eq_nocase(write->uniques[i], table->keys[k]);
		}
		if (!found) {
			return false;
		}
	}
	return table->key_count > 0;
}

/* Shards that may hold a row with one of the source's keys. */
static int find_shards(struct mg_write *write, struct mg_duck_conn *conn, bool *shards,
                       struct mg_error *err)
{
	struct slots slots = { write, shards };
	const struct mg_duck_sink sink = { .put = slots_put, .arg = &slots };
	struct mg_sb sql = { 0 };
	int code = 0;

	if (key_leads(write)) {
		mg_sb_add(&sql, "SELECT DISTINCT ");
		mg_write__add_slot(&sql, write);
		mg_sb_add(&sql, " FROM ");
		add_source_keys(&sql, write);
		code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);
		shards[1] = true; /* for the columns, when there is no key at all */
		mg_sb_fini(&sql);
	} else {
		for (uint32_t i = 0; i <= write->data->shard_count; i++) {
			shards[i] = (i > 0) == (write->table->key_count > 0);
		}
	}
	return code;
}

static void add_stored_rows(struct mg_sb *sql, const struct mg_write *write, const bool *shards)
{
	bool first = true;

	for (uint32_t i = 0; i <= write->data->shard_count; i++) {
		if (!shards[i]) {
			continue;
		}
		mg_sb_add(sql, first ? "" : " UNION ALL ");
		mg_write__add_rows(sql, write, i);
		first = false;
	}
}

/* left.key = right.key AND ...  A row of the table before and after: with UNIQUE some of its
 * columns may be NULL, but not all of the key by which it was found. */
static void add_same_row(struct mg_sb *sql, const struct mg_write *write, const char *left,
                         const char *right)
{
	bool nulls = write->table->unique_count > 0;

	for (size_t i = 0; i < write->unique_count; i++) {
		mg_sb_addf(sql, i ? " AND %s." : " ON %s.", left);
		mg_sb_add_ident(sql, write->uniques[i]);
		mg_sb_addf(sql, nulls ? " IS NOT DISTINCT FROM %s." : " = %s.", right);
		mg_sb_add_ident(sql, write->uniques[i]);
	}
}

static void add_same_key(struct mg_sb *sql, const char *const *columns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(sql, i ? " AND o." : " ON o.");
		mg_sb_add_ident(sql, columns[i]);
		mg_sb_add(sql, " = n.");
		mg_sb_add_ident(sql, columns[i]);
	}
}

/* Stored rows that have one key, of these columns, with a row of the source. */
static void add_found(struct mg_sb *sql, const struct mg_write *write, const bool *shards,
                      const char *const *columns, size_t count)
{
	mg_sb_add(sql, "SELECT o.* FROM (");
	add_stored_rows(sql, write, shards);
	mg_sb_add(sql, ") AS o SEMI JOIN ");
	add_source_keys(sql, write);
	mg_sb_add(sql, " AS n");
	add_same_key(sql, columns, count);
}

static int find_there(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	bool *shards = mg_arena_new_array(write->arena, bool, write->data->shard_count + 2);
	struct mg_sb sql = { 0 };
	int code = find_shards(write, conn, shards, err);

	const struct mg_table *table = write->table;
	bool more = table->primary_key_count > 0;

	if (more) {
		add_found(&sql, write, shards, table->primary_key, table->primary_key_count);
	}
	for (size_t i = 0; i < table->unique_count; i++) {
		mg_sb_add(&sql, more ? " UNION " : ""); /* the id makes a row of each once */
		add_found(&sql, write, shards, table->uniques[i].columns, table->uniques[i].count);
		more = true;
	}
	code = code ? code : mg_write__spool_query(write, MG_WRITE_THERE, conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_THERE);
	}
	return code;
}

/* ---- DuckDB's own INSERT, into a table with those rows alone ---- */

static void add_temp(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add(sql, "temp.main.");
	mg_sb_add_ident(sql, write->table->name);
}

static int make_temp(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "CREATE TEMP TABLE ");
	mg_sb_add_ident(&sql, table->name);
	mg_sb_add_char(&sql, '(');
	mg_table_add_definition(&sql, table, true);
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	if (!code && write->spools[MG_WRITE_THERE].rows) {
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "INSERT INTO ");
		add_temp(&sql, write);
		mg_sb_add(&sql, " SELECT ");
		mg_write__add_stored(&sql, write, 1, false);
		mg_sb_addf(&sql, " FROM merganser_exchange(%d)", MG_WRITE_THERE);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	return code;
}

static int insert(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };
	int64_t count = 0;
	int code;

	mg_sb_add(&sql, dml->conflict == MG_DML_CONFLICT_REPLACE  ? "INSERT OR REPLACE INTO "
	                : dml->conflict == MG_DML_CONFLICT_IGNORE ? "INSERT OR IGNORE INTO "
	                                                          : "INSERT INTO ");
	add_temp(&sql, write);
	if (dml->alias) {
		mg_sb_add(&sql, " AS ");
		mg_sb_add_ident(&sql, dml->alias);
	}
	if (dml->by_name || dml->column_count) {
		mg_sb_add(&sql, " (");
		add_listed(&sql, write);
		mg_sb_add(&sql, ")");
	}
	mg_sb_add(&sql, " ");
	mg_write__add_chunk(&sql, write, NULL);
	mg_sb_addf(&sql, " %.*s\n", MG_STR_ARG(dml->conflict_text));
	if (dml->returning.len) {
		mg_sb_addf(&sql, "RETURNING %.*s", MG_STR_ARG(dml->returning));
		code = mg_write__return_query(write, conn, mg_sb_text(&sql), err);
		count = (int64_t)write->spools[MG_WRITE_RETURNED].rows;
	} else {
		code = mg_duck_int(conn, mg_sb_text(&sql), &count, err);
	}
	write->result->rows = (uint64_t)count;
	mg_sb_fini(&sql);
	return code;
}

/* ---- the difference ---- */

/* The rows that were there, under their own names, and "merganser rid". */
static void add_there(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add(sql, "(SELECT c0 AS \"merganser rid\", ");
	mg_write__add_stored(sql, write, 1, true);
	mg_sb_addf(sql, " FROM merganser_exchange(%d)) AS o", MG_WRITE_THERE);
}

static int store_new(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	mg_sb_add(&sql, " FROM (SELECT n.* FROM ");
	add_temp(&sql, write);
	mg_sb_add(&sql, " AS n ANTI JOIN ");
	add_there(&sql, write);
	add_same_row(&sql, write, "n", "o");
	mg_sb_add(&sql, ")");
	int code = mg_write__redo_query(write, MG_REDO_INSERT, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

static int store_changed(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT \"merganser rid\" AS rid, ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	mg_sb_add(&sql, " FROM (SELECT o.\"merganser rid\", n.* FROM ");
	add_temp(&sql, write);
	mg_sb_add(&sql, " AS n JOIN ");
	add_there(&sql, write);
	add_same_row(&sql, write, "n", "o");
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(&sql, i ? " OR n." : " WHERE n.");
		mg_sb_add_ident(&sql, table->columns[i].name);
		mg_sb_add(&sql, " IS DISTINCT FROM o.");
		mg_sb_add_ident(&sql, table->columns[i].name);
	}
	mg_sb_add(&sql, ")");
	int code = mg_write__redo_query(write, MG_REDO_REPLACE, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

static int gone_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_write *write = arg;

	(void)target;
	return mg_write__rids_add(write, &write->moved, batch, err);
}

/* Rows whose key SET changed, and the new keys, which may be those of rows that were not found. */
static int find_gone(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_duck_sink sink = { .put = gone_put, .arg = write };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT \"merganser rid\" FROM ");
	add_there(&sql, write);
	mg_sb_add(&sql, " ANTI JOIN ");
	add_temp(&sql, write);
	mg_sb_add(&sql, " AS n");
	add_same_row(&sql, write, "o", "n");
	int code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	if (!code && write->moved.count) { /* they may have a key of what comes in their place */
		code = mg_write__spool_query(write, MG_WRITE_DEAD, conn, mg_sb_text(&sql), err);
		mg_write__spool_seal(write, MG_WRITE_DEAD);
	}
	if (!code && write->moved.count) {
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "SELECT NULL::BIGINT");
		for (size_t i = 0; i < write->unique_count; i++) {
			mg_sb_add(&sql, ", n.");
			mg_sb_add_ident(&sql, write->uniques[i]);
		}
		mg_sb_add(&sql, " FROM ");
		add_temp(&sql, write);
		mg_sb_add(&sql, " AS n ANTI JOIN ");
		add_there(&sql, write);
		add_same_row(&sql, write, "n", "o");
		code = mg_write__spool_query(write, MG_WRITE_KEYS, conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	return code;
}

static int try_insert(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;

	mg_duck_set_context(conn, &write->context);
	int code = make_temp(write, conn, err);

	code = code ? code : insert(write, conn, err);
	code = code ? code : store_new(write, conn, err);
	code = code ? code : store_changed(write, conn, err);
	return code ? code : find_gone(write, conn, err);
}

/* ---- the whole ---- */

/* What SET and WHERE of DO UPDATE ask for. */
static int look(struct mg_write *write, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	const struct mg_dml *dml = &write->dml;
	struct mg_plandb_view view;
	struct mg_sb sql = { 0 };
	int code = mg_plandb_check(mg_engine_plandb(write->engine), write->arena, &settings,
	                           write->text, false, err);

	mg_sb_add(&sql, "SELECT 1");
	for (size_t i = 0; i < dml->set_count; i++) {
		if (!dml->sets[i].is_default) {
			mg_sb_addf(&sql, ", (%.*s\n)", MG_STR_ARG(dml->sets[i].expr));
		}
	}
	if (dml->where.len) {
		mg_sb_addf(&sql, " WHERE (%.*s\n)", MG_STR_ARG(dml->where));
	}
	code = code ? code : mg_write__look(write, mg_sb_text(&sql), &view, err);
	if (!code && view.row_ids) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "row id of table \"%s\"", write->table->name);
	}
	mg_sb_fini(&sql);
	return code;
}

int mg_write__conflict(struct mg_write *write, const char *source, bool here, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = 0;

	if (!write->unique_count) {
		code = mg_error_set(err, MG_E_BIND,
		                    "table \"%s\" has no primary key or UNIQUE, so nothing conflicts",
		                    write->table->name);
		mg_error_hint(err, "Write INSERT without ON CONFLICT.");
		return code;
	}
	code = look(write, err);
	code = code ? code : fetch(write, source, here, err);
	code = code ? code : check_columns(write, err);
	if (!code) {
		code = mg_write__reader(write, &conn, err);
		code = code ? code : find_there(write, conn, err);
		mg_write__reader_done(write, conn);
	}
	if (!code) {
		const struct mg_plan_settings settings = mg_write__plan_settings(write);

		code = mg_plandb_try(mg_engine_plandb(write->engine), &settings, try_insert, write, err);
	}
	if (!code && write->moved.count) {
		(void)mg_write__rids_unite(&write->moved);
		code = mg_write__rids_delete(write, &write->moved, err);
	}
	return code;
}
