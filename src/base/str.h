/*
 * str.h - text: a slice that is not zero-terminated, and a builder that is.
 */
#ifndef MG_BASE_STR_H
#define MG_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mg_str {
	const char *ptr;
	size_t len;
};

#define MG_STR(literal) ((struct mg_str){ (literal), sizeof(literal) - 1 })
#define MG_STR_ARG(s) (int)(s).len, (s).ptr /* for "%.*s" */

struct mg_str mg_str(const char *text); /* of a zero-terminated text; NULL is empty */
bool mg_str_eq(struct mg_str a, struct mg_str b);
bool mg_str_eq_nocase(struct mg_str a, struct mg_str b); /* ASCII */
bool mg_text_eq(const char *a, const char *b);           /* NULL equals only NULL */
bool mg_text_eq_nocase(const char *a, const char *b);
bool mg_str_starts(struct mg_str s, const char *prefix);
struct mg_str mg_str_trim(struct mg_str s); /* ASCII blanks at both ends */
/* Copy into a fixed field: cut to fit, always zero-terminated; NULL is empty. */
void mg_copy_text(char *field, size_t size, const char *text);
bool mg_utf8_valid(const char *ptr, size_t len);

/* Growing text, always zero-terminated.  Owner: one thread.  A zeroed struct is an empty one. */
struct mg_sb {
	char *ptr;
	size_t len;
	size_t cap;
};

void mg_sb_fini(struct mg_sb *sb);
void mg_sb_clear(struct mg_sb *sb);
void mg_sb_add(struct mg_sb *sb, const char *text);
void mg_sb_add_len(struct mg_sb *sb, const char *text, size_t len);
void mg_sb_add_char(struct mg_sb *sb, char c);
void mg_sb_addf(struct mg_sb *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mg_sb_addv(struct mg_sb *sb, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
void mg_sb_add_ident(struct mg_sb *sb, const char *name);               /* "name", quotes doubled */
void mg_sb_add_path(struct mg_sb *sb, const char *schema, const char *name); /* "schema"."name" */
void mg_sb_add_literal(struct mg_sb *sb, const char *text, size_t len); /* 'text', quotes doubled */
void mg_sb_add_json(struct mg_sb *sb, const char *text, size_t len); /* "text" as a JSON string */
char *mg_sb_take(struct mg_sb *sb);             /* heap text (never NULL); sb is empty after */
const char *mg_sb_text(const struct mg_sb *sb); /* "" when empty */

#endif
