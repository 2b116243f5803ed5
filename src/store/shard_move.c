/*
 * shard_move.c - the rows of one table of a shard's file become another's, which has the same
 * schema and columns.
 *
 * Idea: a table without rows is replaced: the other one gets its name, and no row is read or
 * written again.  Behind rows that are there the others are put by the engine itself, column by
 * column, on as many threads as it has.  The rows keep their ids either way, so nobody sees which
 * of the two it was; it hangs on what the log has brought, so it is the same on every replica.
 *
 * owner: as the writer's.
 */
#include "store/shard_write_int.h"

static char *name_of(const struct mg_shard_writer *writer, const char *schema, const char *table)
{
	struct mg_sb sql = { 0 };

	mg_shard_writer__add_table(&sql, writer, schema, table);
	char *name = mg_sb_take(&sql);

	mg_sb_fini(&sql);
	return name;
}

/* Both have the same columns, in the same order. */
static int are_alike(struct mg_shard_writer *writer, const char *one, const char *other,
                     bool *alike, struct mg_error *err)
{
	const char *const tables[2] = { one, other };
	struct mg_arena *arena = mg_arena_new();
	const char **names[2], **types[2];
	size_t counts[2] = { 0, 0 };
	int code = 0;

	for (size_t i = 0; !code && i < 2; i++) {
		const char *sql = mg_arena_format(arena, "SELECT * FROM %s", tables[i]);

		code = mg_duck_describe(writer->conn, arena, sql, &counts[i], &names[i], &types[i], err);
	}
	*alike = counts[0] == counts[1];
	for (size_t i = 0; !code && *alike && i < counts[0]; i++) {
		*alike = mg_text_eq(names[0][i], names[1][i]) && mg_text_eq(types[0][i], types[1][i]);
	}
	mg_arena_free(arena);
	return code;
}

/* May the one take the place of the other? */
static int is_replaceable(struct mg_shard_writer *writer, const char *from, const char *to,
                          bool *replaceable, struct mg_error *err)
{
	char *sql = mg_format("SELECT count(*) FROM %s", to);
	int64_t rows = 0;
	int code = mg_duck_int(writer->conn, sql, &rows, err);

	*replaceable = false;
	if (!code && rows == 0) {
		code = are_alike(writer, from, to, replaceable, err);
	}
	mg_free(sql);
	return code;
}

static int rename_table(struct mg_shard_writer *writer, const char *schema, const char *from,
                        const char *to, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "ALTER TABLE ");
	mg_shard_writer__add_table(&sql, writer, schema, from);
	mg_sb_add(&sql, " RENAME TO ");
	mg_sb_add_ident(&sql, to);
	int code = mg_duck_exec(writer->conn, mg_sb_text(&sql), err);

	if (!code) {
		mg_shard_writer__note_renamed(writer, schema, from, to);
	}
	mg_sb_fini(&sql);
	return code;
}

int mg_shard_writer_move(struct mg_shard_writer *writer, const char *schema, const char *from,
                         const char *to, struct mg_error *err)
{
	bool replaceable = false;
	int code = mg_shard_writer__end_append(writer, err);

	if (code || !mg_shard_writer_has(writer, schema, to)) {
		return code ? code : mg_shard_writer_drop(writer, schema, from, err);
	}
	char *source = name_of(writer, schema, from), *target = name_of(writer, schema, to);

	code = is_replaceable(writer, source, target, &replaceable, err);
	if (!code && replaceable) {
		code = mg_shard_writer_drop(writer, schema, to, err);
		code = code ? code : rename_table(writer, schema, from, to, err);
	} else if (!code) {
		code = mg_duck_execf(writer->conn, err, "INSERT INTO %s SELECT * FROM %s", target, source);
		code = code ? code : mg_shard_writer_drop(writer, schema, from, err);
	}
	mg_free(target);
	mg_free(source);
	return code;
}
