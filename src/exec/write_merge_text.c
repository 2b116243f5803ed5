/*
 * write_merge_text.c - MERGE as a statement that reads, and what is asked of its text before.  See
 * write_merge.c.
 */
#include "exec/write_merge.h"

#include <string.h>

/* ---- the statement that reads ---- */

/* How many kinds of rows there are WHENs for. */
static size_t count_matches(const struct mg_dml *dml)
{
	bool any[MG_DML_MATCH_COUNT] = { false };
	size_t count = 0;

	for (size_t i = 0; i < dml->when_count; i++) {
		count += !any[dml->whens[i].match];
		any[dml->whens[i].match] = true;
	}
	return count;
}

/* A source that is made anew each time it is named may be another one each time. */
static bool is_made_once(const struct mg_dml *dml)
{
	return count_matches(dml) > 1 && dml->source_alias && dml->source.ptr[0] == '(';
}

static void add_with(struct mg_sb *sql, const struct mg_write *write)
{
	const struct mg_dml *dml = &write->dml;

	mg_sb_add_len(sql, dml->with.ptr, dml->with.len);
	if (is_made_once(dml)) {
		mg_sb_addf(sql, "%s\"merganser source\" AS MATERIALIZED (SELECT * FROM %.*s\n)",
		           dml->with.len ? ", " : "WITH ", MG_STR_ARG(dml->source));
	}
	mg_sb_add(sql, "\n");
}

static void add_source(struct mg_sb *sql, const struct mg_dml *dml)
{
	if (is_made_once(dml)) {
		mg_sb_add(sql, "\"merganser source\" AS ");
		mg_sb_add_ident(sql, dml->source_alias);
	} else {
		mg_sb_addf(sql, dml->source_alias ? "%.*s\n" : "(%.*s\n)", MG_STR_ARG(dml->source));
	}
}

static void add_from(struct mg_sb *sql, const struct mg_write *write, enum mg_dml_match match)
{
	const struct mg_dml *dml = &write->dml;

	mg_sb_add(sql, "\nFROM ");
	if (match == MG_DML_NOT_MATCHED_BY_SOURCE) {
		mg_write__add_target(sql, write);
		mg_sb_add(sql, " ANTI JOIN ");
		add_source(sql, dml);
	} else {
		add_source(sql, dml);
		mg_sb_add(sql, match == MG_DML_MATCHED ? " JOIN " : " ANTI JOIN ");
		mg_write__add_target(sql, write);
	}
	mg_sb_addf(sql, " %.*s\n", MG_STR_ARG(dml->join));
}

/* ", (e)" of each value of a WHEN, or ", NULL".  Returns how many. */
static size_t add_values(struct mg_sb *sql, const struct mg_dml_when *when, bool there)
{
	size_t count = 0;

	for (size_t i = 0; i < when->set_count; i++) {
		if (!when->sets[i].is_default) {
			mg_sb_addf(sql, there ? ", (%.*s\n)" : ", NULL", MG_STR_ARG(when->sets[i].expr));
			count++;
		}
	}
	for (size_t i = 0; i < when->value_count; i++) {
		if (!mg_str_eq_nocase(when->values[i], MG_STR("default"))) {
			mg_sb_addf(sql, there ? ", (%.*s\n)" : ", NULL", MG_STR_ARG(when->values[i]));
			count++;
		}
	}
	if (when->message.len) {
		mg_sb_addf(sql, there ? ", (%.*s\n)::VARCHAR" : ", NULL", MG_STR_ARG(when->message));
		count++;
	}
	return count;
}

/* Which WHEN a row falls under; NULL: none, or one that does nothing. */
static void add_action(struct mg_sb *sql, const struct mg_dml *dml, enum mg_dml_match match)
{
	bool any = false, always = false;

	mg_sb_add(sql, "(");
	for (size_t i = 0; i < dml->when_count && !always; i++) {
		const struct mg_dml_when *when = &dml->whens[i];

		if (when->match != match) {
			continue;
		}
		always = !when->condition.len;
		if (!always) {
			mg_sb_addf(sql, "%s WHEN (%.*s\n) THEN ", any ? "" : "CASE",
			           MG_STR_ARG(when->condition));
			any = true;
		} else {
			mg_sb_add(sql, any ? " ELSE " : "");
		}
		if (when->then == MG_DML_THEN_NOTHING) {
			mg_sb_add(sql, "NULL");
		} else {
			mg_sb_addf(sql, "%zu", i);
		}
	}
	mg_sb_addf(sql, "%s)::INTEGER AS \"merganser action\"", any ? " END" : "");
}

static void add_branch(struct mg_write *write, struct mg_sb *sql, enum mg_dml_match match)
{
	const struct mg_dml *dml = &write->dml;
	struct mg_write_merge *merge = write->merge;
	size_t column = 2;

	mg_sb_add(sql, "SELECT ");
	if (match == MG_DML_NOT_MATCHED) {
		mg_sb_add(sql, "NULL::BIGINT");
	} else {
		mg_write__add_own(sql, write, NULL);
	}
	mg_sb_add(sql, " AS \"merganser rid\", ");
	add_action(sql, dml, match);
	for (size_t i = 0; merge->olds && i < write->table->column_count; i++, column++) {
		mg_sb_add(sql, ", ");
		if (match == MG_DML_NOT_MATCHED) {
			mg_sb_add(sql, "NULL");
		} else {
			mg_write__add_own(sql, write, write->table->columns[i].name);
		}
		mg_sb_addf(sql, " AS \"merganser %zu\"", i);
	}
	for (size_t i = 0; i < dml->when_count; i++) {
		merge->first[i] = column;
		column += add_values(sql, &dml->whens[i], dml->whens[i].match == match);
	}
	add_from(sql, write, match);
}

static bool has_match(const struct mg_dml *dml, enum mg_dml_match match)
{
	for (size_t i = 0; i < dml->when_count; i++) {
		if (dml->whens[i].match == match) {
			return true;
		}
	}
	return false;
}

const char *mg_write_merge__source(struct mg_write *write)
{
	struct mg_sb sql = { 0 };
	bool first = true;

	add_with(&sql, write);
	mg_sb_add(&sql, "SELECT * FROM (");
	for (int match = 0; match < MG_DML_MATCH_COUNT; match++) {
		if (has_match(&write->dml, (enum mg_dml_match)match)) {
			mg_sb_add(&sql, first ? "" : "UNION ALL ");
			add_branch(write, &sql, (enum mg_dml_match)match);
			first = false;
		}
	}
	mg_sb_add(&sql, ") AS \"merganser rows\" WHERE \"merganser action\" IS NOT NULL");
	const char *text = mg_arena_strdup(write->arena, mg_sb_text(&sql));

	mg_sb_fini(&sql);
	return text;
}

/* ---- what the text asks for ---- */

/* Without the columns that we add. */
static int look_at(struct mg_write *write, enum mg_dml_match match, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };

	add_with(&sql, write);
	mg_sb_add(&sql, "SELECT 1");
	for (size_t i = 0; i < dml->when_count; i++) {
		if (dml->whens[i].match == match) {
			if (dml->whens[i].condition.len) {
				mg_sb_addf(&sql, ", (%.*s\n)", MG_STR_ARG(dml->whens[i].condition));
			}
			(void)add_values(&sql, &dml->whens[i], true);
		}
	}
	add_from(&sql, write, match);
	int code = mg_write__look_at_rows(write, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

/* Without its optimizer, as it is checked, DuckDB 1.5.5 does not find the rows' ids when all there
 * is to do is BY SOURCE ("failed to bind column reference"): then one more WHEN does nothing. */
static int check(struct mg_write *write, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	const char *text = write->text;

	if (!has_match(dml, MG_DML_NOT_MATCHED)) {
		struct mg_str whole = mg_str(write->text); /* dml points into it */
		const char *at = dml->join.ptr + dml->join.len;

		write->text = mg_arena_format(
			write->arena, "%.*s WHEN NOT MATCHED THEN DO NOTHING %.*s", (int)(at - whole.ptr),
			whole.ptr, (int)(whole.ptr + whole.len - at), at);
	}
	int code = mg_write__check(write, err);

	write->text = text;
	return code;
}

static int look(struct mg_write *write, struct mg_error *err)
{
	int code = 0;

	for (int match = 0; !code && match < MG_DML_MATCH_COUNT; match++) {
		if (has_match(&write->dml, (enum mg_dml_match)match)) {
			code = look_at(write, (enum mg_dml_match)match, err);
		}
	}
	return code ? code : check(write, err);
}

/* ---- all columns of the source ---- */

static int bind_all(struct mg_write *write, struct mg_bound *bound, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };

	if (!dml->source_alias) {
		mg_error_set(err, MG_E_UNSUPPORTED, "all columns of a source without a name");
		mg_error_hint(err, "Write USING (SELECT ...) AS name, or list the columns.");
		return MG_E_UNSUPPORTED;
	}
	mg_sb_addf(&sql, "%.*s\nSELECT ", MG_STR_ARG(dml->with));
	mg_sb_add_ident(&sql, dml->source_alias);
	mg_sb_addf(&sql, ".* FROM %.*s", MG_STR_ARG(dml->source));
	int code = mg_plandb_bind(mg_engine_plandb(write->engine), write->arena, &settings,
	                          mg_sb_text(&sql), bound, err);

	mg_sb_fini(&sql);
	return code;
}

static struct mg_str column_text(struct mg_write *write, const char *name)
{
	struct mg_sb sql = { 0 };

	mg_sb_add_path(&sql, write->dml.source_alias, name);
	struct mg_str text = mg_str(mg_arena_strdup(write->arena, mg_sb_text(&sql)));

	mg_sb_fini(&sql);
	return text;
}

int mg_write_merge__say_count(const struct mg_write *write, size_t count, struct mg_error *err)
{
	return mg_error_set(err, MG_E_BIND, "table %s has %zu columns but %zu values were supplied",
	                    write->table->name, write->table->column_count, count);
}

static int spell_out(struct mg_write *write, struct mg_dml_when *when,
                     const struct mg_bound *bound, struct mg_error *err)
{
	size_t count = bound->column_count;

	if (!when->by_name && count != write->table->column_count) {
		return mg_write_merge__say_count(write, count, err);
	}
	if (when->then == MG_DML_THEN_UPDATE) {
		when->sets = mg_arena_new_array(write->arena, struct mg_dml_set, count + 1);
		when->set_count = count;
	} else {
		when->values = mg_arena_new_array(write->arena, struct mg_str, count + 1);
		when->value_count = count;
		when->columns = when->by_name ? bound->names : NULL;
		when->column_count = when->by_name ? count : 0;
	}
	for (size_t i = 0; i < count; i++) {
		struct mg_str text = column_text(write, bound->names[i]);

		if (when->then == MG_DML_THEN_UPDATE) {
			when->sets[i] = (struct mg_dml_set){
				.column = when->by_name ? bound->names[i] : write->table->columns[i].name,
				.expr = text,
			};
		} else {
			when->values[i] = text;
		}
	}
	return 0;
}

static int spell_all_out(struct mg_write *write, struct mg_error *err)
{
	struct mg_bound bound = { 0 };
	int code = 0;

	for (size_t i = 0; !code && i < write->dml.when_count; i++) {
		struct mg_dml_when *when = &write->dml.whens[i];

		if (when->all) {
			code = bound.names ? 0 : bind_all(write, &bound, err);
			code = code ? code : spell_out(write, when, &bound, err);
		}
	}
	return code;
}

/* ---- before it runs ---- */

static bool sets_all_to_default(const struct mg_write *write, const struct mg_dml_when *when)
{
	for (size_t i = 0; i < when->set_count; i++) {
		if (!when->sets[i].is_default) {
			return false;
		}
	}
	return when->set_count >= write->table->column_count;
}

int mg_write_merge__prepare(struct mg_write *write, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	int code = look(write, err);

	code = code ? code : spell_all_out(write, err);
	for (size_t i = 0; !code && i < dml->when_count; i++) {
		const struct mg_dml_when *when = &dml->whens[i];

		if (when->then == MG_DML_THEN_UPDATE ||
		    (when->then == MG_DML_THEN_DELETE && dml->returning.len)) {
			write->merge->olds = 2;
		}
		if (when->then == MG_DML_THEN_UPDATE && sets_all_to_default(write, when)) {
			code = mg_error_set(err, MG_E_UNSUPPORTED, "MERGE cannot set every column to DEFAULT");
			mg_error_hint(err, "Write the value of one of them.");
		}
	}
	return code;
}
