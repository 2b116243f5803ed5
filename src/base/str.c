/* str.c - slices and growing text. */
#include "base/str.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct mg_str mg_str(const char *text)
{
	return (struct mg_str){ text ? text : "", text ? strlen(text) : 0 };
}

bool mg_str_eq(struct mg_str a, struct mg_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Not tolower(): that depends on the locale. */
static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool mg_str_eq_nocase(struct mg_str a, struct mg_str b)
{
	if (a.len != b.len) {
		return false;
	}
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.ptr[i]) != lower(b.ptr[i])) {
			return false;
		}
	}
	return true;
}

bool mg_text_eq(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool mg_text_eq_nocase(const char *a, const char *b)
{
	return a && b ? mg_str_eq_nocase(mg_str(a), mg_str(b)) : a == b;
}

bool mg_str_starts(struct mg_str s, const char *prefix)
{
	size_t len = strlen(prefix);
	return s.len >= len && (len == 0 || memcmp(s.ptr, prefix, len) == 0);
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct mg_str mg_str_trim(struct mg_str s)
{
	while (s.len && is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_blank(s.ptr[s.len - 1])) {
		s.len--;
	}
	return s;
}

/* Length of the character at p when it is well formed (RFC 3629), else 0. */
static size_t utf8_char(const unsigned char *p, size_t left)
{
	unsigned char c = p[0];
	if (c < 0x80) {
		return 1;
	}
	if (c < 0xC2 || c > 0xF4) {
		return 0;
	}
	size_t need = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
	if (left < need) {
		return 0;
	}
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xC0) != 0x80) {
			return 0;
		}
	}
	/* Over-long forms, surrogates, beyond U+10FFFF. */
	if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) || (c == 0xF0 && p[1] < 0x90) ||
	    (c == 0xF4 && p[1] > 0x8F)) {
		return 0;
	}
	return need;
}

void mg_copy_text(char *field, size_t size, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	if (len >= size) {
		len = size - 1;
	}
	if (len) {
		memcpy(field, text, len);
	}
	field[len] = '\0';
}

bool mg_utf8_valid(const char *ptr, size_t len)
{
	const unsigned char *p = (const unsigned char *)ptr;
	size_t at = 0;
	while (at < len) {
		uint64_t eight;
		if (len - at >= sizeof eight) {
			memcpy(&eight, p + at, sizeof eight);
			if ((eight & 0x8080808080808080u) == 0) {
				at += sizeof eight;
				continue;
			}
		}
		size_t step = utf8_char(p + at, len - at);
		if (step == 0) {
			return false;
		}
		at += step;
	}
	return true;
}

/* ---- builder ---- */

/* Room for `more` bytes and the zero behind them. */
static void reserve(struct mg_sb *sb, size_t more)
{
	mg_assert(more < SIZE_MAX / 4 && sb->len < SIZE_MAX / 4);
	size_t need = sb->len + more + 1;
	if (need <= sb->cap) {
		return;
	}
	size_t cap = sb->cap ? sb->cap : 64;
	while (cap < need) {
		cap += cap;
	}
	sb->ptr = mg_realloc(sb->ptr, cap);
	sb->cap = cap;
}

void mg_sb_fini(struct mg_sb *sb)
{
	mg_free(sb->ptr);
	*sb = (struct mg_sb){ 0 };
}

void mg_sb_clear(struct mg_sb *sb)
{
	sb->len = 0;
	if (sb->ptr) {
		sb->ptr[0] = '\0';
	}
}

void mg_sb_add_len(struct mg_sb *sb, const char *text, size_t len)
{
	reserve(sb, len);
	if (len) {
		memcpy(sb->ptr + sb->len, text, len);
	}
	sb->len += len;
	sb->ptr[sb->len] = '\0';
}

void mg_sb_add(struct mg_sb *sb, const char *text)
{
	mg_sb_add_len(sb, text, strlen(text));
}

void mg_sb_add_char(struct mg_sb *sb, char c)
{
	mg_sb_add_len(sb, &c, 1);
}

void mg_sb_addv(struct mg_sb *sb, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	reserve(sb, 48);
	int len = vsnprintf(sb->ptr + sb->len, sb->cap - sb->len, fmt, ap);
	mg_assert(len >= 0);
	if ((size_t)len >= sb->cap - sb->len) {
		reserve(sb, (size_t)len);
		vsnprintf(sb->ptr + sb->len, sb->cap - sb->len, fmt, again);
	}
	sb->len += (size_t)len;
	va_end(again);
}

void mg_sb_addf(struct mg_sb *sb, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	mg_sb_addv(sb, fmt, ap);
	va_end(ap);
}

static void add_doubled(struct mg_sb *sb, const char *text, size_t len, char quote)
{
	mg_sb_add_char(sb, quote);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == quote) {
			mg_sb_add_char(sb, quote);
		}
		mg_sb_add_char(sb, text[i]);
	}
	mg_sb_add_char(sb, quote);
}

void mg_sb_add_ident(struct mg_sb *sb, const char *name)
{
	add_doubled(sb, name, strlen(name), '"');
}

void mg_sb_add_path(struct mg_sb *sb, const char *schema, const char *name)
{
	mg_sb_add_ident(sb, schema);
	mg_sb_add_char(sb, '.');
	mg_sb_add_ident(sb, name);
}

void mg_sb_add_literal(struct mg_sb *sb, const char *text, size_t len)
{
	add_doubled(sb, text, len, '\'');
}

static void add_json_char(struct mg_sb *sb, char c)
{
	switch (c) {
	case '"':
		mg_sb_add(sb, "\\\"");
		break;
	case '\\':
		mg_sb_add(sb, "\\\\");
		break;
	case '\n':
		mg_sb_add(sb, "\\n");
		break;
	case '\r':
		mg_sb_add(sb, "\\r");
		break;
	case '\t':
		mg_sb_add(sb, "\\t");
		break;
	default:
		mg_sb_addf(sb, "\\u%04x", (unsigned)(unsigned char)c);
		break;
	}
}

/* Bytes that are no UTF-8 become U+FFFD, because JSON must be UTF-8. */
void mg_sb_add_json(struct mg_sb *sb, const char *text, size_t len)
{
	mg_sb_add_char(sb, '"');
	size_t clean = 0; /* start of the bytes that need no escape and are not written yet */
	size_t at = 0;
	while (at < len) {
		unsigned char c = (unsigned char)text[at];
		size_t step = 1;
		if (c >= 0x80) {
			step = utf8_char((const unsigned char *)text + at, len - at);
		}
		if (step > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) {
			at += step;
			continue;
		}
		mg_sb_add_len(sb, text + clean, at - clean);
		if (step == 0) {
			mg_sb_add(sb, "\xEF\xBF\xBD");
		} else {
			add_json_char(sb, text[at]);
		}
		clean = ++at;
	}
	mg_sb_add_len(sb, text + clean, at - clean);
	mg_sb_add_char(sb, '"');
}

char *mg_sb_take(struct mg_sb *sb)
{
	reserve(sb, 0);
	char *text = sb->ptr;
	text[sb->len] = '\0';
	*sb = (struct mg_sb){ 0 };
	return text;
}

const char *mg_sb_text(const struct mg_sb *sb)
{
	return sb->ptr ? sb->ptr : "";
}
