/*
 * json.c - the JSON reader and printer.
 *
 * One pass with an explicit chain of open containers instead of recursion, so depth costs arena
 * bytes, not stack; MG_JSON_DEPTH_MAX bounds it.  The arena gets one copy of the whole text, in
 * which strings and numbers are unescaped and terminated in place: plans of tens of megabytes are
 * mostly small strings, and a piece of memory for each would cost thrice the text.  Beyond RFC
 * 8259 it takes NaN, Infinity and -Infinity as numbers, because DuckDB writes them into plans.
 */
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct mg_arena *arena;
	char *text; /* the reader's own copy; what lies before `at` may be overwritten */
	size_t len;
	size_t at;
	struct mg_error *err;
};

struct level {
	struct level *outer;
	struct mg_json *container;
	struct mg_json *last; /* its newest element */
};

static int fail(struct reader *r, const char *what)
{
	return mg_error_set(r->err, MG_E_SYNTAX, "%s at byte %zu of JSON text", what, r->at);
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->len) {
		char c = r->text[r->at];
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
			return;
		}
		r->at++;
	}
}

static bool peek(const struct reader *r, char c)
{
	return r->at < r->len && r->text[r->at] == c;
}

/* ---- strings ---- */

static bool hex4(const struct reader *r, size_t at, unsigned *value)
{
	if (r->len - at < 4) {
		return false;
	}
	unsigned sum = 0;
	for (size_t i = 0; i < 4; i++) {
		char c = r->text[at + i];
		unsigned digit;
		if (c >= '0' && c <= '9') {
			digit = (unsigned)(c - '0');
		} else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
			digit = (unsigned)((c | 0x20) - 'a') + 10;
		} else {
			return false;
		}
		sum = sum * 16 + digit;
	}
	*value = sum;
	return true;
}

static size_t put_utf8(char *to, unsigned point)
{
	if (point < 0x80) {
		to[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		to[0] = (char)(0xC0 | (point >> 6));
		to[1] = (char)(0x80 | (point & 0x3F));
		return 2;
	}
	if (point < 0x10000) {
		to[0] = (char)(0xE0 | (point >> 12));
		to[1] = (char)(0x80 | ((point >> 6) & 0x3F));
		to[2] = (char)(0x80 | (point & 0x3F));
		return 3;
	}
	to[0] = (char)(0xF0 | (point >> 18));
	to[1] = (char)(0x80 | ((point >> 12) & 0x3F));
	to[2] = (char)(0x80 | ((point >> 6) & 0x3F));
	to[3] = (char)(0x80 | (point & 0x3F));
	return 4;
}

/* After "\u": one or two groups of four digits.  A lone surrogate is refused: it is no character.
 */
static int read_unicode(struct reader *r, char *to, size_t *made)
{
	unsigned point;
	if (!hex4(r, r->at, &point)) {
		return fail(r, "bad \\u escape");
	}
	r->at += 4;
	if (point >= 0xD800 && point <= 0xDFFF) {
		unsigned low;
		bool pair = point < 0xDC00 && r->len - r->at >= 6 && r->text[r->at] == '\\' &&
		            r->text[r->at + 1] == 'u' && hex4(r, r->at + 2, &low) && low >= 0xDC00 &&
		            low <= 0xDFFF;
		if (!pair) {
			return fail(r, "half of a surrogate pair");
		}
		point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
		r->at += 6;
	}
	*made = put_utf8(to, point);
	return MG_OK;
}

static int read_escape(struct reader *r, char *to, size_t *made)
{
	static const char from[] = "\"\\/bfnrt";
	static const char into[] = "\"\\/\b\f\n\r\t";
	r->at++; /* the backslash */
	if (r->at >= r->len) {
		return fail(r, "unfinished escape");
	}
	char c = r->text[r->at];
	if (c == 'u') {
		r->at++;
		return read_unicode(r, to, made);
	}
	const char *hit = c ? strchr(from, c) : NULL;
	if (!hit) {
		return fail(r, "unknown escape");
	}
	r->at++;
	*to = into[hit - from];
	*made = 1;
	return MG_OK;
}

/* Index of the quote that ends the string starting at `from`, or len. */
static size_t string_end(const struct reader *r, size_t from)
{
	size_t quote = 0; /* the first one at or behind `from`, or len */

	while (from < r->len) {
		if (quote < from) {
			const char *at = memchr(r->text + from, '"', r->len - from);

			quote = at ? (size_t)(at - r->text) : r->len;
		}
		const char *slash = memchr(r->text + from, '\\', quote - from);

		if (!slash) {
			return quote;
		}
		from = (size_t)(slash - r->text) + 2;
	}
	return r->len;
}

/* How many bytes stand as they are: before a backslash or a control character.  Eight at once: a
 * byte below 0x20, or one that is zero after the exclusive or, borrows into its highest bit. */
static size_t plain_run(const char *text, size_t len)
{
	const uint64_t ones = 0x0101010101010101u, highs = ones * 0x80;
	size_t at = 0;

	for (uint64_t word; at + sizeof word <= len; at += sizeof word) {
		memcpy(&word, text + at, sizeof word);
		uint64_t slash = word ^ (ones * '\\');

		if ((((slash - ones) & ~slash) | ((word - ones * 0x20) & ~word)) & highs) {
			break;
		}
	}
	while (at < len && text[at] != '\\' && (unsigned char)text[at] >= 0x20) {
		at++;
	}
	return at;
}

/* At the opening quote.  The unescaped text never is longer than the written one, so it is written
 * over it; its end zero is at most where the closing quote was. */
static int read_string(struct reader *r, struct mg_str *out)
{
	size_t end = string_end(r, r->at + 1);
	if (end >= r->len) {
		return fail(r, "unfinished string");
	}
	char *to = r->text + r->at + 1;
	size_t used = 0;
	r->at++;
	while (r->at < end) {
		size_t run = plain_run(r->text + r->at, end - r->at), made = 0;

		if (to + used != r->text + r->at) { /* something was unescaped before */
			memmove(to + used, r->text + r->at, run);
		}
		r->at += run;
		used += run;
		if (r->at == end) {
			break;
		}
		if (r->text[r->at] != '\\') {
			return fail(r, "control character in a string");
		}
		int code = read_escape(r, to + used, &made);

		if (code) {
			return code;
		}
		used += made;
	}
	to[used] = '\0';
	if (!mg_utf8_valid(to, used)) {
		return fail(r, "string that is not UTF-8");
	}
	r->at = end + 1;
	*out = (struct mg_str){ to, used };
	return MG_OK;
}

/* ---- numbers and words ---- */

static bool take_word(struct reader *r, const char *word)
{
	size_t len = strlen(word);
	if (r->len - r->at < len || memcmp(r->text + r->at, word, len) != 0) {
		return false;
	}
	r->at += len;
	return true;
}

static bool take_digits(struct reader *r)
{
	size_t before = r->at;
	while (r->at < r->len && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
		r->at++;
	}
	return r->at > before;
}

static bool scan_number(struct reader *r)
{
	if (peek(r, '-')) {
		r->at++;
	}
	if (take_word(r, "Infinity")) {
		return true;
	}
	size_t first = r->at;
	if (!take_digits(r) || (r->text[first] == '0' && r->at > first + 1)) {
		return false;
	}
	if (peek(r, '.')) {
		r->at++;
		if (!take_digits(r)) {
			return false;
		}
	}
	if (peek(r, 'e') || peek(r, 'E')) {
		r->at++;
		if (peek(r, '-') || peek(r, '+')) {
			r->at++;
		}
		return take_digits(r);
	}
	return true;
}

static int read_number(struct reader *r, struct mg_json *value)
{
	size_t start = r->at;
	value->kind = MG_JSON_NUMBER;
	if (!take_word(r, "NaN") && !scan_number(r)) {
		return fail(r, "unexpected character");
	}
	size_t len = r->at - start;
	if (start == 0) {
		value->text = (struct mg_str){ mg_arena_strndup(r->arena, r->text, len), len };
		return MG_OK;
	}
	/* What follows is still to be read, what stands before is not: one to the left there is room
	 * for the end zero. */
	char *to = r->text + start - 1;
	memmove(to, r->text + start, len);
	to[len] = '\0';
	value->text = (struct mg_str){ to, len };
	return MG_OK;
}

/* Anything but a container. */
static int read_scalar(struct reader *r, struct mg_json *value)
{
	if (peek(r, '"')) {
		value->kind = MG_JSON_STRING;
		return read_string(r, &value->text);
	}
	if (take_word(r, "null")) {
		value->kind = MG_JSON_NULL;
	} else if (take_word(r, "true")) {
		value->kind = MG_JSON_TRUE;
	} else if (take_word(r, "false")) {
		value->kind = MG_JSON_FALSE;
	} else {
		return read_number(r, value);
	}
	return MG_OK;
}

/* ---- the tree ---- */

static void append(struct level *level, struct mg_json *value)
{
	if (level->last) {
		level->last->next = value;
	} else {
		level->container->child = value;
	}
	level->last = value;
	level->container->count++;
}

/* Before an element: its key when the container is an object. */
static int read_key(struct reader *r, struct mg_json *value)
{
	skip_blanks(r);
	if (!peek(r, '"')) {
		return fail(r, "expected a member name");
	}
	int code = read_string(r, &value->key);
	if (code) {
		return code;
	}
	skip_blanks(r);
	if (!peek(r, ':')) {
		return fail(r, "expected \":\"");
	}
	r->at++;
	return MG_OK;
}

/* After an element: close containers that end here.  *more: another element follows. */
static int close_levels(struct reader *r, struct level **top, size_t *depth, bool *more)
{
	*more = false;
	while (*top) {
		skip_blanks(r);
		bool object = (*top)->container->kind == MG_JSON_OBJECT;
		if (peek(r, ',')) {
			r->at++;
			*more = true;
			return MG_OK;
		}
		if (!peek(r, object ? '}' : ']')) {
			return fail(r, object ? "expected \",\" or \"}\"" : "expected \",\" or \"]\"");
		}
		r->at++;
		*top = (*top)->outer;
		(*depth)--;
	}
	return MG_OK;
}

/* Open the container at r->at.  *empty: it closes at once. */
static int open_level(struct reader *r, struct mg_json *value, struct level **top, size_t *depth,
                      bool *empty)
{
	char closing = r->text[r->at] == '{' ? '}' : ']';
	value->kind = closing == '}' ? MG_JSON_OBJECT : MG_JSON_ARRAY;
	r->at++;
	skip_blanks(r);
	*empty = peek(r, closing);
	if (*empty) {
		r->at++;
		return MG_OK;
	}
	if (++*depth > MG_JSON_DEPTH_MAX) {
		return fail(r, "too deep nesting");
	}
	struct level *level = mg_arena_alloc(r->arena, sizeof *level);
	level->outer = *top;
	level->container = value;
	*top = level;
	return MG_OK;
}

static int read_tree(struct reader *r, struct mg_json **root)
{
	struct level *top = NULL;
	size_t depth = 0;
	bool more = true;
	while (more) {
		struct mg_json *value = mg_arena_alloc(r->arena, sizeof *value);
		int code;
		if (top && top->container->kind == MG_JSON_OBJECT && (code = read_key(r, value)) != 0) {
			return code;
		}
		if (top) {
			append(top, value);
		} else {
			*root = value;
		}
		skip_blanks(r);
		if (peek(r, '{') || peek(r, '[')) {
			bool empty;
			if ((code = open_level(r, value, &top, &depth, &empty)) != 0) {
				return code;
			}
			if (!empty) {
				continue;
			}
		} else if ((code = read_scalar(r, value)) != 0) {
			return code;
		}
		if ((code = close_levels(r, &top, &depth, &more)) != 0) {
			return code;
		}
	}
	return MG_OK;
}

int mg_json_parse(struct mg_arena *arena, const char *text, size_t len, struct mg_json **out,
                  struct mg_error *err)
{
	char *copy = mg_try_alloc(len + 1);
	if (!copy) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %zu bytes of JSON", len);
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	mg_arena_defer(arena, mg_free, copy);
	struct reader r = { .arena = arena, .text = copy, .len = len, .err = err };
	struct mg_json *root = NULL;
	int code = read_tree(&r, &root);
	if (code) {
		return code;
	}
	skip_blanks(&r);
	if (r.at != len) {
		return fail(&r, "text after the end");
	}
	*out = root;
	return MG_OK;
}

/* ---- look-ups ---- */

bool mg_json_is(const struct mg_json *value, enum mg_json_kind kind)
{
	return value && value->kind == kind;
}

const struct mg_json *mg_json_get(const struct mg_json *object, const char *key)
{
	if (!mg_json_is(object, MG_JSON_OBJECT)) {
		return NULL;
	}
	struct mg_str wanted = mg_str(key);
	mg_json_each(member, object) {
		if (mg_str_eq(member->key, wanted)) {
			return member;
		}
	}
	return NULL;
}

const struct mg_json *mg_json_at(const struct mg_json *array, size_t index)
{
	if (!mg_json_is(array, MG_JSON_ARRAY) || index >= array->count) {
		return NULL;
	}
	const struct mg_json *item = array->child;
	while (index-- > 0) {
		item = item->next;
	}
	return item;
}

static bool has_text(const struct mg_json *value)
{
	return mg_json_is(value, MG_JSON_STRING) || mg_json_is(value, MG_JSON_NUMBER);
}

const char *mg_json_text(const struct mg_json *value)
{
	return has_text(value) ? value->text.ptr : "";
}

const char *mg_json_get_text(const struct mg_json *object, const char *key)
{
	const struct mg_json *value = mg_json_get(object, key);
	return has_text(value) ? value->text.ptr : NULL;
}

int64_t mg_json_get_int(const struct mg_json *object, const char *key, int64_t fallback)
{
	const char *text = mg_json_get_text(object, key);
	if (!text || !*text) {
		return fallback;
	}
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || *end) {
		return fallback;
	}
	return value;
}

double mg_json_get_double(const struct mg_json *object, const char *key, double fallback)
{
	const char *text = mg_json_get_text(object, key);
	if (!text || !*text) {
		return fallback;
	}
	char *end;
	double value = strtod(text, &end);
	return *end ? fallback : value;
}

bool mg_json_get_bool(const struct mg_json *object, const char *key, bool fallback)
{
	const struct mg_json *value = mg_json_get(object, key);
	if (mg_json_is(value, MG_JSON_TRUE)) {
		return true;
	}
	return mg_json_is(value, MG_JSON_FALSE) ? false : fallback;
}

/* ---- printing ---- */

static void print_scalar(struct mg_sb *sb, const struct mg_json *value)
{
	switch (value->kind) {
	case MG_JSON_TRUE:
		mg_sb_add(sb, "true");
		break;
	case MG_JSON_FALSE:
		mg_sb_add(sb, "false");
		break;
	case MG_JSON_NUMBER:
		mg_sb_add_len(sb, value->text.ptr, value->text.len);
		break;
	case MG_JSON_STRING:
		mg_sb_add_json(sb, value->text.ptr, value->text.len);
		break;
	default:
		mg_sb_add(sb, "null");
		break;
	}
}

/* Recursion is bounded by MG_JSON_DEPTH_MAX and a frame of about 100 bytes. */
void mg_json_print(struct mg_sb *sb, const struct mg_json *value)
{
	if (!value || (value->kind != MG_JSON_ARRAY && value->kind != MG_JSON_OBJECT)) {
		static const struct mg_json null_value = { .kind = MG_JSON_NULL };
		print_scalar(sb, value ? value : &null_value);
		return;
	}
	bool object = value->kind == MG_JSON_OBJECT;
	mg_sb_add_char(sb, object ? '{' : '[');
	mg_json_each(item, value) {
		if (item != value->child) {
			mg_sb_add_char(sb, ',');
		}
		if (object) {
			mg_sb_add_json(sb, item->key.ptr, item->key.len);
			mg_sb_add_char(sb, ':');
		}
		mg_json_print(sb, item);
	}
	mg_sb_add_char(sb, object ? '}' : ']');
}
