/*
 * type_cast.c - casts to any type, also to those that no CAST can name.
 *
 * A struct without field names (that of row(1, 2)) has no name in SQL. A cast to a type that holds
 * one is written cast_to_type(x, y), where y is an expression of that type; the binder makes a
 * plain cast of it and never computes y.
 *
 * Types arrive as the plan's, or as the text that the engine describes a column with; the text is
 * read here.
 *
 * Pure; any thread.  Depth is that of the type, at most TYPE_DEPTH_MAX when it is read.
 */
#include "sql/sql_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	TYPE_DEPTH_MAX = 256,
	LIKE_ARRAY_MAX = 1024, /* elements that an expression of an ARRAY type is written with */
};

#define unsupported(err, ...) mg_error_set((err), MG_E_UNSUPPORTED, __VA_ARGS__)

bool mg_type_unnamed(const struct mg_type *type)
{
	if (strcmp(type->id, "STRUCT") == 0 && !(type->name_count && type->names[0][0])) {
		return true;
	}
	for (size_t i = 0; i < type->child_count; i++) {
		if (mg_type_unnamed(type->children[i])) {
			return true;
		}
	}
	return false;
}

/* ---- an expression of the type ---- */

static int add_like(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err);

/* open like(children[0]), like(children[1]), ... ) */
static int add_children(struct mg_sb *sb, const struct mg_type *type, const char *open,
                        const char *close, struct mg_error *err)
{
	bool named = strcmp(open, "struct_pack(") == 0 || strcmp(open, "union_value(") == 0;

	for (size_t i = 0; i < type->child_count; i++) {
		mg_sb_add(sb, i ? ", " : open);
		if (named) {
			mg_sb_add_ident(sb, type->names[i]);
			mg_sb_add(sb, " := ");
		}
		int code = add_like(sb, type->children[i], err);

		if (code) {
			return code;
		}
	}
	mg_sb_add(sb, close);
	return 0;
}

static int add_array(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	if (type->size > LIKE_ARRAY_MAX) {
		return unsupported(err, "ARRAY of %" PRIu64 " structs without field names", type->size);
	}
	for (uint64_t i = 0; i < type->size; i++) {
		mg_sb_add(sb, i ? ", " : "array_value(");
		int code = add_like(sb, type->children[0], err);

		if (code) {
			return code;
		}
	}
	mg_sb_add(sb, ")");
	return 0;
}

static int add_like(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	const char *id = type->id;

	if (!mg_type_unnamed(type)) {
		mg_sb_add(sb, "CAST(NULL AS ");
		int code = mg_type_text(sb, type, err);

		mg_sb_add(sb, ")");
		return code;
	}
	if (strcmp(id, "STRUCT") == 0) {
		bool named = type->name_count && type->names[0][0];

		return add_children(sb, type, named ? "struct_pack(" : "\"row\"(", ")", err);
	}
	if (strcmp(id, "LIST") == 0) {
		return add_children(sb, type, "[", "]", err);
	}
	if (strcmp(id, "ARRAY") == 0) {
		return add_array(sb, type, err);
	}
	if (strcmp(id, "MAP") == 0) {
		mg_sb_add(sb, "map([");
		int code = add_like(sb, type->children[0], err);

		mg_sb_add(sb, "], [");
		code = code ? code : add_like(sb, type->children[1], err);
		mg_sb_add(sb, "])");
		return code;
	}
	if (strcmp(id, "UNION") == 0 && type->child_count == 1) {
		return add_children(sb, type, "union_value(", ")", err);
	}
	return unsupported(err, "cast to %s of a struct without field names", id);
}

/* ---- casts ---- */

int mg_cast_open(struct mg_sb *sb, const struct mg_type *type, bool try_cast, struct mg_error *err)
{
	bool unnamed = mg_type_unnamed(type);

	if (unnamed && try_cast) {
		return unsupported(err, "TRY_CAST to a struct without field names");
	}
	mg_sb_add(sb, unnamed ? "cast_to_type(" : try_cast ? "TRY_CAST(" : "CAST(");
	return 0;
}

int mg_cast_close(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err)
{
	bool unnamed = mg_type_unnamed(type);

	mg_sb_add(sb, unnamed ? ", " : " AS ");
	int code = unnamed ? add_like(sb, type, err) : mg_type_text(sb, type, err);

	mg_sb_add(sb, ")");
	return code;
}

void mg_cast_add(struct mg_sb *sb, const char *what, const char *type)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error ignored;
	const struct mg_type *read = mg_type_parse(arena, type);
	size_t mark = sb->len;

	if (!read || !mg_type_unnamed(read)) {
		mg_sb_addf(sb, "CAST(%s AS %s)", what, type);
	} else {
		mg_sb_addf(sb, "cast_to_type(%s", what);
		if (mg_cast_close(sb, read, &ignored)) {
			sb->len = mark; /* no such expression: the value is passed on as it is */
			mg_sb_add(sb, what);
		}
	}
	mg_arena_free(arena);
}

/* ---- reading a type's text ---- */

struct type_reader {
	struct mg_arena *arena;
	const char *at;
	unsigned depth;
};

static struct mg_type *read_type(struct type_reader *reader);

static bool take(struct type_reader *reader, char c)
{
	while (*reader->at == ' ') {
		reader->at++;
	}
	if (*reader->at != c) {
		return false;
	}
	reader->at++;
	return true;
}

/* "text" or 'text', quotes doubled inside; NULL: none. */
static const char *read_quoted(struct type_reader *reader, char quote)
{
	if (!take(reader, quote)) {
		return NULL;
	}
	char *text = mg_arena_alloc(reader->arena, strlen(reader->at) + 1);
	size_t len = 0;

	for (;; reader->at++) {
		if (*reader->at == quote && *++reader->at != quote) {
			text[len] = '\0';
			return text;
		}
		if (!*reader->at) {
			return NULL;
		}
		text[len++] = *reader->at;
	}
}

static void add_child(struct type_reader *reader, struct mg_type *type, struct mg_type *child,
                      const char *name)
{
	size_t n = type->child_count++;
	size_t cap = n & (n - 1) ? 0 : n ? n * 2 : 1; /* grows at powers of two */

	if (cap) {
		const struct mg_type **children =
			mg_arena_new_array(reader->arena, const struct mg_type *, cap);
		const char **names = mg_arena_new_array(reader->arena, const char *, cap);

		if (n) {
			memcpy(children, type->children, n * sizeof *children);
			memcpy(names, type->names, n * sizeof *names);
		}
		type->children = children;
		type->names = names;
	}
	type->children[n] = child;
	type->names[n] = name;
}

/* A word that a type follows; the engine quotes what could be a part of one. */
static const char *read_plain_name(struct type_reader *reader)
{
	const char *start = reader->at, *end = start;

	while (isalnum((unsigned char)*end) || *end == '_') {
		end++;
	}
	if (end == start || *end != ' ' || strncmp(end, " WITH TIME ZONE", 15) == 0) {
		return NULL;
	}
	reader->at = end;
	return mg_arena_strndup(reader->arena, start, (size_t)(end - start));
}

/* name type, or a type alone: a quoted word is a name when a type follows it. */
static bool read_member(struct type_reader *reader, struct mg_type *type)
{
	while (*reader->at == ' ') {
		reader->at++;
	}
	const char *start = reader->at;
	const char *name = *start == '"' ? read_quoted(reader, '"') : read_plain_name(reader);

	if (*start == '"' && (!name || *reader->at != ' ')) {
		reader->at = start;
		name = NULL;
	}
	struct mg_type *child = read_type(reader);

	if (child) {
		add_child(reader, type, child, name ? name : "");
	}
	return child != NULL;
}

static bool read_values(struct type_reader *reader, struct mg_type *type)
{
	do {
		const char *value = read_quoted(reader, '\'');

		if (!value) {
			return false;
		}
		add_child(reader, type, NULL, value);
	} while (take(reader, ','));
	type->name_count = type->child_count;
	type->child_count = 0;
	return true;
}

/* What stands in the parentheses after the name of a type. */
static bool read_params(struct type_reader *reader, struct mg_type *type)
{
	if (strcmp(type->id, "ENUM") == 0) {
		return read_values(reader, type);
	}
	if (strcmp(type->id, "DECIMAL") == 0) {
		char *end;

		type->width = (int)strtol(reader->at, &end, 10);
		type->scale = *end == ',' ? (int)strtol(end + 1, &end, 10) : -1;
		reader->at = end;
		return type->width > 0 && type->scale >= 0;
	}
	do {
		if (!read_member(reader, type)) {
			return false;
		}
	} while (take(reader, ','));
	type->name_count = type->child_count;
	return strcmp(type->id, "MAP") != 0 || type->child_count == 2;
}

static struct mg_type *read_word(struct type_reader *reader)
{
	struct mg_type *type = mg_arena_alloc(reader->arena, sizeof *type);
	const char *start;

	*type = (struct mg_type){ 0 };
	while (*reader->at == ' ') {
		reader->at++;
	}
	start = reader->at;
	if (*start == '"') {
		type->id = read_quoted(reader, '"');
		return type->id ? type : NULL;
	}
	while (isalnum((unsigned char)*reader->at) || *reader->at == '_' || *reader->at == ' ') {
		reader->at++;
	}
	type->id = mg_arena_strndup(reader->arena, start, (size_t)(reader->at - start));
	if (strcmp(type->id, "JSON") == 0) {
		type->id = "VARCHAR";
		type->alias = "JSON";
	}
	return reader->at > start ? type : NULL;
}

/* type[] and type[3] */
static struct mg_type *read_lists(struct type_reader *reader, struct mg_type *type)
{
	while (type && take(reader, '[')) {
		struct mg_type *list = mg_arena_alloc(reader->arena, sizeof *list);
		char *end;

		*list = (struct mg_type){ .id = "LIST" };
		if (isdigit((unsigned char)*reader->at)) {
			list->id = "ARRAY";
			list->size = strtoull(reader->at, &end, 10);
			reader->at = end;
		}
		add_child(reader, list, type, "");
		type = take(reader, ']') && ++reader->depth < TYPE_DEPTH_MAX ? list : NULL;
	}
	return type;
}

static struct mg_type *read_type(struct type_reader *reader)
{
	unsigned depth = reader->depth;

	if (++reader->depth >= TYPE_DEPTH_MAX) {
		return NULL;
	}
	struct mg_type *type = read_word(reader);

	if (type && take(reader, '(') && (!read_params(reader, type) || !take(reader, ')'))) {
		return NULL;
	}
	type = read_lists(reader, type);
	reader->depth = depth;
	return type;
}

const struct mg_type *mg_type_parse(struct mg_arena *arena, const char *text)
{
	struct type_reader reader = { .arena = arena, .at = text };
	struct mg_type *type = read_type(&reader);

	return type && !*reader.at ? type : NULL;
}
