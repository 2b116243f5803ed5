/*
 * json.h - a small JSON reader over an arena, and helpers to write.
 *
 * Numbers keep their text, because DuckDB's plans hold 18446744073709551615, NaN and Infinity,
 * which common readers refuse.  Strings may hold \u0000 and carry a length.  Depth is limited to
 * MG_JSON_DEPTH_MAX, so text from outside cannot exhaust the stack.
 */
#ifndef MG_BASE_JSON_H
#define MG_BASE_JSON_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

/* DuckDB nests expressions 1,000 deep, each in up to 3 levels. */
#define MG_JSON_DEPTH_MAX 4000

enum mg_json_kind {
	MG_JSON_NULL,
	MG_JSON_FALSE,
	MG_JSON_TRUE,
	MG_JSON_NUMBER,
	MG_JSON_STRING,
	MG_JSON_ARRAY,
	MG_JSON_OBJECT
};

struct mg_json {
	enum mg_json_kind kind;
	struct mg_str text;    /* string (unescaped, zero-terminated) or number as written */
	struct mg_json *child; /* first element or member */
	struct mg_json *next;  /* next sibling */
	struct mg_str key;     /* name, when a member of an object */
	size_t count;          /* elements or members */
};

/* Parse text; the tree lives in arena.  Fails: MG_E_SYNTAX with the byte offset. */
int mg_json_parse(struct mg_arena *arena, const char *text, size_t len, struct mg_json **out,
                  struct mg_error *err);

/* Is the text one value as RFC 8259 has them, of valid UTF-8 and up to 1,000 deep?  Makes no tree;
 * what is valid mg_json_parse reads. */
bool mg_json_valid(const char *text, size_t len);

/* Look-ups accept NULL and wrong kinds and then say "absent": NULL, 0, "" or the fallback. */
const struct mg_json *mg_json_get(const struct mg_json *object, const char *key);
const struct mg_json *mg_json_at(const struct mg_json *array, size_t index);
const char *mg_json_text(const struct mg_json *value); /* string or number text; "" */
const char *mg_json_get_text(const struct mg_json *object,
                             const char *key); /* NULL when absent or null */
int64_t mg_json_get_int(const struct mg_json *object, const char *key, int64_t fallback);
double mg_json_get_double(const struct mg_json *object, const char *key, double fallback);
bool mg_json_get_bool(const struct mg_json *object, const char *key, bool fallback);
bool mg_json_is(const struct mg_json *value, enum mg_json_kind kind);

#define mg_json_each(item, container)                                                \
	for (const struct mg_json *item = (container) ? (container)->child : NULL; item; \
	     item = item->next)

/* Print a tree back, compactly. */
void mg_json_print(struct mg_sb *sb, const struct mg_json *value);

#endif
