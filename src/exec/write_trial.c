/*
 * write_trial.c - the table of the planning database in which rows are tried.
 *
 * It is the table itself.  Where that has keys, its sample holds some of them already, and others
 * try theirs at the same time: then it is a temporary table of the same name, without them
 * (write_key.c looks for them where all rows are), which goes with the try.
 */
#include "exec/write_int.h"
#include "sql/cursor.h"
#include "sql/statement.h"

int mg_write__make_trial(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	if (!mg_table_has_keys(write->table)) {
		return 0;
	}
	mg_sb_add(&sql, "CREATE TEMP TABLE IF NOT EXISTS ");
	mg_sb_add_ident(&sql, write->table->name);
	mg_sb_add_char(&sql, '(');
	mg_table_add_definition(&sql, write->table, false);
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

void mg_write__add_trial(struct mg_sb *sql, const struct mg_write *write)
{
	if (mg_table_has_keys(write->table)) {
		mg_sb_add(sql, "temp.main.");
		mg_sb_add_ident(sql, write->table->name);
	} else {
		mg_write__add_table(sql, write);
	}
}

/* ---- RETURNING: "schema"."table".column ---- */

/* From here on, "schema"."table". with its last point; *name: where the table's begins. */
static bool is_path(struct mg_lexer lexer, struct mg_token token, const struct mg_table *table,
                    const char **name)
{
	struct mg_lexer behind = lexer;

	if (mg_token_is_name(token, "merganser") && mg_token_is_sign(mg_lex_next(&behind), '.')) {
		struct mg_token next = mg_lex_next(&behind);

		if (mg_token_is_name(next, table->schema)) {
			token = next;
			lexer = behind;
		}
	}
	if (!mg_token_is_name(token, table->schema) || !mg_token_is_sign(mg_lex_next(&lexer), '.')) {
		return false;
	}
	token = mg_lex_next(&lexer);
	*name = token.text.ptr;
	return mg_token_is_name(token, table->name) && mg_token_is_sign(mg_lex_next(&lexer), '.');
}

struct mg_str mg_write__unqualify(const struct mg_write *write, struct mg_str text)
{
	const char *from = text.ptr, *name = NULL;
	struct mg_sb out = { 0 };
	struct mg_lexer lexer;
	bool behind_point = false;

	if (!mg_table_has_keys(write->table)) {
		return text;
	}
	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(&lexer)) {
		if (!behind_point && is_path(lexer, token, write->table, &name)) {
			mg_sb_add_len(&out, from, (size_t)(token.text.ptr - from));
			from = name;
		}
		behind_point = mg_token_is_sign(token, '.');
	}
	mg_sb_add_len(&out, from, (size_t)(text.ptr + text.len - from));
	text = mg_str(mg_arena_strdup(write->arena, mg_sb_text(&out)));
	mg_sb_fini(&out);
	return text;
}
