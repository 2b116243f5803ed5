/*
 * define_declared.c - a table's definition with its keys, as it was declared.
 *
 * DuckDB shows the constraints of a table in the order in which they were declared, those of a
 * column in front of those of the table, and adds NOT NULL of a primary key behind all.  So what
 * the catalog keeps puts each one where it was.  What ALTER has added behind the table's own
 * constraints to a column moves to that column: SQL has no place for it.
 */
#include "exec/define_int.h"

#include "base/json.h"
#include "sql/cursor.h"
#include "sql/statement.h"

#include <string.h>

struct declared {
	const struct mg_table *table;
	const struct mg_json *constraints;
	const char *create; /* DuckDB's own CREATE TABLE, or NULL */
	size_t count;       /* of constraints, without what a primary key adds */
	size_t *columns;    /* [count] the column that it stands behind; column_count: none */
};

static const char *kind_of(const struct mg_json *constraint)
{
	return mg_json_get_text(constraint, "type");
}

static const struct mg_json *columns_of(const struct mg_json *constraint)
{
	return mg_json_get(constraint, "columns");
}

static bool is_key(const struct mg_json *constraint)
{
	return mg_text_eq(kind_of(constraint), "PRIMARY KEY") ||
	       mg_text_eq(kind_of(constraint), "UNIQUE");
}

static size_t column_of(const struct mg_table *table, const struct mg_json *constraint)
{
	const char *name = mg_json_text(mg_json_at(columns_of(constraint), 0));
	size_t i = 0;

	while (i < table->column_count && !mg_text_eq(table->columns[i].name, name)) {
		i++;
	}
	return i;
}

/* NOT NULL behind everything, of a column of the primary key. */
static bool is_implied(const struct mg_table *table, const struct mg_json *constraint)
{
	const char *name = mg_json_text(mg_json_at(columns_of(constraint), 0));
	bool implied = false;

	for (size_t i = 0; i < table->primary_key_count; i++) {
		implied = implied || mg_text_eq(table->primary_key[i], name);
	}
	return implied && mg_text_eq(kind_of(constraint), "NOT NULL");
}

/* Behind a column, and not as a constraint of the table, which DuckDB shows as one. */
static bool is_inline(const struct declared *declared, const struct mg_json *constraint)
{
	const char *text = mg_json_get_text(constraint, "text");
	struct mg_sb shown = { 0 };

	if (mg_text_eq(kind_of(constraint), "NOT NULL")) {
		return true;
	}
	if (!is_key(constraint) || columns_of(constraint)->count != 1 || !text) {
		return false;
	}
	mg_sb_addf(&shown, ", %s", text);
	bool apart = declared->create && strstr(declared->create, mg_sb_text(&shown));

	mg_sb_fini(&shown);
	return !apart;
}

/* Which stand behind a column: those that must, and CHECKs between them. */
static void place(struct declared *declared)
{
	size_t none = declared->table->column_count, before = 0, last = 0;

	for (size_t i = 0; i < declared->count; i++) {
		const struct mg_json *constraint = mg_json_at(declared->constraints, i);

		declared->columns[i] = none;
		if (is_inline(declared, constraint)) {
			declared->columns[i] = column_of(declared->table, constraint);
			last = i;
		}
	}
	for (size_t i = 0; i < last; i++) {
		if (declared->columns[i] < none) {
			before = declared->columns[i];
		} else if (mg_text_eq(kind_of(mg_json_at(declared->constraints, i)), "CHECK")) {
			declared->columns[i] = before;
		}
	}
}

static void add_constraint(struct mg_sb *sql, const struct mg_json *constraint, bool apart)
{
	const char *kind = kind_of(constraint);

	mg_sb_add(sql, kind);
	if (mg_text_eq(kind, "CHECK")) {
		mg_sb_addf(sql, " (%s)", mg_json_get_text(constraint, "expression"));
	} else if (apart) {
		bool first = true;

		mg_json_each(name, columns_of(constraint)) {
			mg_sb_add(sql, first ? " (" : ", ");
			mg_sb_add_ident(sql, mg_json_text(name));
			first = false;
		}
		mg_sb_add_char(sql, ')');
	}
}

static void add_all(struct mg_sb *sql, const struct declared *declared,
                    const struct mg_json *columns)
{
	size_t none = declared->table->column_count;

	for (size_t c = 0; c < none; c++) {
		const char *initial = mg_json_get_text(mg_json_at(columns, c), "initial");

		mg_sb_add(sql, c ? ", " : "");
		mg_sb_add_ident(sql, declared->table->columns[c].name);
		mg_sb_addf(sql, " %s", declared->table->columns[c].type);
		for (size_t i = 0; i < declared->count; i++) {
			if (declared->columns[i] == c) {
				mg_sb_add_char(sql, ' ');
				add_constraint(sql, mg_json_at(declared->constraints, i), false);
			}
		}
		if (initial && *initial && !mg_text_eq_nocase(initial, "NULL")) {
			mg_sb_addf(sql, " DEFAULT (%s)", initial);
		}
	}
	for (size_t i = 0; i < declared->count; i++) {
		if (declared->columns[i] == none) {
			mg_sb_add(sql, ", ");
			add_constraint(sql, mg_json_at(declared->constraints, i), true);
		}
	}
}

/* Shards would not compare such a column's values by it. */
static int check_collations(const char *create, struct mg_error *err)
{
	struct mg_lexer lexer;
	int depth = 0;

	mg_lex_init(&lexer, mg_str(create));
	for (struct mg_token token = mg_lex_next(&lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(&lexer)) {
		depth += mg_token_is_sign(token, '(') - mg_token_is_sign(token, ')');
		if (depth == 1 && mg_token_is(token, "COLLATE")) {
			mg_error_set(err, MG_E_UNSUPPORTED, "COLLATE of a column is not supported yet");
			mg_error_hint(err, "Leave it out, and write column COLLATE name where it matters.");
			return MG_E_UNSUPPORTED;
		}
	}
	return 0;
}

int mg_define__declare(struct mg_define *define, const struct mg_json *columns,
                       const struct mg_json *constraints, const char *create,
                       struct mg_error *err)
{
	struct declared declared = {
		.table = &define->table,
		.constraints = constraints,
		.create = create,
		.count = constraints->count,
		.columns = mg_arena_new_array(define->arena, size_t, constraints->count + 1),
	};
	struct mg_sb sql = { 0 };

	while (declared.count &&
	       is_implied(&define->table, mg_json_at(constraints, declared.count - 1))) {
		declared.count--;
	}
	place(&declared);
	add_all(&sql, &declared, columns);
	define->table.declared = mg_text_eq(mg_sb_text(&sql), define->table.definition)
	                             ? ""
	                             : mg_arena_strdup(define->arena, mg_sb_text(&sql));
	mg_sb_fini(&sql);
	return create ? check_collations(create, err) : 0;
}
