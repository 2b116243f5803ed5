/* shard_sum.c - see shard_sum.h. */
#include "store/shard_sum.h"

#include "base/str.h"
#include "os/clock.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PIECE_ROWS (8 * 122880u) /* row groups are not cut */

struct table_sum {
	uint64_t rows, low, high, mixed;
};

struct summing {
	struct mg_duck_conn *conn;
	const char *database;
	bool (*pace)(void *arg, uint64_t us);
	void *arg;
	uint64_t rows;
	crypto_generichash_state digest;
};

static void digest_text(struct summing *s, const char *text)
{
	/* With its end, so that no two lists of texts are the same bytes. */
	crypto_generichash_update(&s->digest, (const unsigned char *)text, strlen(text) + 1);
}

static void digest_number(struct summing *s, uint64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRIu64, number);
	digest_text(s, text);
}

/* ---- a table ---- */

/* Its columns as arguments, and with their types. */
static int ask_columns(struct summing *s, const char *from_table, struct mg_sb *columns,
                       struct mg_sb *types, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	const char **names = NULL, **kinds = NULL;
	size_t count = 0;
	const char *sql = mg_arena_format(arena, "SELECT * FROM %s", from_table);
	int code = mg_duck_describe(s->conn, arena, sql, &count, &names, &kinds, err);

	for (size_t i = 0; !code && i < count; i++) {
		mg_sb_add(columns, i ? ", " : "");
		mg_sb_add_ident(columns, names[i]);
		mg_sb_addf(types, "%s %s\n", names[i], kinds[i]);
	}
	mg_arena_free(arena);
	return code;
}

/* Rows whose place in the file is from .. from + PIECE_ROWS - 1. */
static int sum_piece(struct summing *s, const char *columns, const char *from_table, uint64_t from,
                     struct table_sum *sum, struct mg_error *err)
{
	uint64_t start = mg_clock_us();
	char *text = NULL;
	char *sql = mg_format("SELECT count(*) || ' ' || coalesce(sum(h & 4294967295), 0)::UBIGINT || "
	                      "' ' || coalesce(sum(h >> 32), 0)::UBIGINT || ' ' || "
	                      "coalesce(bit_xor(h), 0) FROM (SELECT hash(%s) AS h FROM %s WHERE rowid "
	                      ">= %" PRIu64 " AND rowid < %" PRIu64 ")",
	                      columns, from_table, from, from + PIECE_ROWS);
	int code = mg_duck_text(s->conn, sql, &text, err);
	struct table_sum piece = { 0 };

	if (!code && (!text || sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &piece.rows,
	                              &piece.low, &piece.high, &piece.mixed) != 4)) {
		code = mg_error_set(err, MG_E_INTERNAL, "a sum of rows cannot be read");
	}
	sum->rows += piece.rows;
	sum->low += piece.low;
	sum->high += piece.high;
	sum->mixed ^= piece.mixed;
	if (!code && s->pace && !s->pace(s->arg, mg_clock_us() - start)) {
		code = mg_error_set(err, MG_E_CANCELLED, "the check was ended");
	}
	mg_free(text);
	mg_free(sql);
	return code;
}

static int sum_rows(struct summing *s, const char *columns, const char *from_table,
                    struct table_sum *sum, struct mg_error *err)
{
	char *sql = mg_format("SELECT coalesce(max(rowid), -1) FROM %s", from_table);
	int64_t last = -1;
	int code = mg_duck_int(s->conn, sql, &last, err);

	for (uint64_t from = 0; !code && last >= 0 && from <= (uint64_t)last; from += PIECE_ROWS) {
		code = sum_piece(s, columns, from_table, from, sum, err);
	}
	mg_free(sql);
	return code;
}

static int sum_table(struct summing *s, const char *schema, const char *table,
                     struct mg_error *err)
{
	struct mg_sb from = { 0 }, columns = { 0 }, types = { 0 };
	struct table_sum sum = { 0 };

	mg_sb_addf(&from, "%s.", s->database);
	mg_sb_add_path(&from, schema, table);
	int code = ask_columns(s, mg_sb_text(&from), &columns, &types, err);

	code = code ? code : sum_rows(s, mg_sb_text(&columns), mg_sb_text(&from), &sum, err);
	if (!code) {
		const uint64_t numbers[] = { sum.rows, sum.low, sum.high, sum.mixed };

		digest_text(s, schema);
		digest_text(s, table);
		digest_text(s, mg_sb_text(&types));
		for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
			digest_number(s, numbers[i]);
		}
		s->rows += sum.rows;
	}
	mg_sb_fini(&from);
	mg_sb_fini(&types);
	mg_sb_fini(&columns);
	return code;
}

/* ---- all of them ---- */

/* Names of tables hold no line break, which our catalog refuses. */
static int sum_tables(struct summing *s, const char *tables, struct mg_error *err)
{
	char *list = mg_strdup(tables), *rest = NULL;
	int code = 0;

	for (char *schema = strtok_r(list, "\n", &rest); schema && !code;
	     schema = strtok_r(NULL, "\n", &rest)) {
		char *table = strtok_r(NULL, "\n", &rest);

		code = table ? sum_table(s, schema, table, err) : 0;
	}
	mg_free(list);
	return code;
}

int mg_shard_sum(struct mg_duck_conn *conn, const char *database, const char *tables,
                 bool (*pace)(void *arg, uint64_t us), void *arg, struct mg_shard_sum *out,
                 struct mg_error *err)
{
	struct summing s = { .conn = conn, .database = database, .pace = pace, .arg = arg };
	char *sql = mg_format("SELECT next_rid::BIGINT FROM %s._mg.meta", database);
	int64_t next_rid = 0;
	int code = mg_duck_int(conn, sql, &next_rid, err);

	mg_free(sql);
	(void)crypto_generichash_init(&s.digest, NULL, 0, MG_SHARD_SUM_BYTES);
	digest_number(&s, (uint64_t)next_rid);
	code = code ? code : sum_tables(&s, tables, err);
	*out = (struct mg_shard_sum){ .rows = s.rows };
	(void)crypto_generichash_final(&s.digest, out->digest, sizeof out->digest);
	return code;
}
