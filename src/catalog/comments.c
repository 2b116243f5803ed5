/* comments.c - what COMMENT ON has said of tables, views and their columns. */
#include "catalog/catalog_int.h"

#include "base/json.h"

#include <string.h>

struct mg_comments mg_comments_with(struct mg_arena *arena, const struct mg_comments *comments,
                                    const char *column, const char *text)
{
	struct mg_comments with = {
		.list = mg_arena_new_array(arena, struct mg_comment, comments->count + 1),
	};

	for (size_t i = 0; i < comments->count; i++) {
		if (!mg_text_eq_nocase(comments->list[i].column, column)) {
			with.list[with.count++] = comments->list[i];
		}
	}
	with.list[with.count++] = (struct mg_comment){
		.column = mg_arena_strdup(arena, column),
		.text = text ? mg_arena_strdup(arena, text) : NULL,
	};
	return with;
}

static bool has_column(const struct mg_table *table, const char *column)
{
	bool has = !*column;

	for (size_t i = 0; i < table->column_count && !has; i++) {
		has = mg_text_eq_nocase(table->columns[i].name, column);
	}
	return has;
}

struct mg_comments mg_comments_altered(struct mg_arena *arena, const struct mg_comments *comments,
                                       const struct mg_table *altered, const char *from,
                                       const char *to)
{
	struct mg_comments kept = {
		.list = mg_arena_new_array(arena, struct mg_comment, comments->count + 1),
	};

	for (size_t i = 0; i < comments->count; i++) {
		struct mg_comment comment = comments->list[i];

		if (*comment.column && *to && mg_text_eq_nocase(comment.column, from)) {
			comment.column = to;
		}
		if (has_column(altered, comment.column)) {
			kept.list[kept.count++] = comment;
		}
	}
	return kept;
}

void mg_comment_add_sql(struct mg_sb *sql, const char *kind, const char *schema, const char *name,
                        const struct mg_comment *comment)
{
	mg_sb_addf(sql, "COMMENT ON %s ", *comment->column ? "COLUMN" : kind);
	mg_sb_add_path(sql, schema, name);
	if (*comment->column) {
		mg_sb_add_char(sql, '.');
		mg_sb_add_ident(sql, comment->column);
	}
	mg_sb_add(sql, " IS ");
	if (comment->text) {
		mg_sb_add_literal(sql, comment->text, strlen(comment->text));
	} else {
		mg_sb_add(sql, "NULL");
	}
}

/* ,"comments":[["","of the table"],["a","of its column"],["b"]] */
void mg_catalog__write_comments(struct mg_sb *out, const struct mg_comments *comments)
{
	for (size_t i = 0; i < comments->count; i++) {
		const struct mg_comment *comment = &comments->list[i];

		mg_sb_add(out, i ? ",[" : ",\"comments\":[[");
		mg_sb_add_json(out, comment->column, strlen(comment->column));
		if (comment->text) {
			mg_sb_add_char(out, ',');
			mg_sb_add_json(out, comment->text, strlen(comment->text));
		}
		mg_sb_add_char(out, ']');
	}
	mg_sb_add(out, comments->count ? "]" : "");
}

struct mg_comments mg_catalog__read_comments(struct mg_arena *arena, const struct mg_json *json)
{
	const struct mg_json *list = mg_json_get(json, "comments");
	struct mg_comments comments = {
		.list = mg_arena_new_array(arena, struct mg_comment, (list ? list->count : 0) + 1),
	};

	mg_json_each(item, list) {
		const char *column = item->count ? mg_json_text(mg_json_at(item, 0)) : NULL;
		const char *text = item->count > 1 ? mg_json_text(mg_json_at(item, 1)) : NULL;

		comments.list[comments.count++] = (struct mg_comment){
			.column = mg_arena_strdup(arena, column ? column : ""),
			.text = text ? mg_arena_strdup(arena, text) : NULL,
		};
	}
	return comments;
}
