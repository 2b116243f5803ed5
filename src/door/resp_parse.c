/* resp_parse.c - see resp_parse.h. */
#include "door/resp_parse.h"

#include "base/assert.h"
#include "base/mem.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEEP_ROOM = 64 << 10, /* a larger text is given away with its command, not copied */
	QUIET_ROOM = 8 << 10, /* what a parser between two commands may hold on to */
};

/* ---- numbers ---- */

bool mg_resp_int(struct mg_str text, int64_t *out)
{
	bool minus = text.len > 0 && text.ptr[0] == '-';
	size_t at = minus;
	uint64_t value = 0;

	if (text.len == at || text.len - at > 19 || (text.ptr[at] == '0' && text.len > 1)) {
		if (text.len != 1 || text.ptr[0] != '0') {
			return false;
		}
	}
	for (; at < text.len; at++) {
		if (!isdigit((unsigned char)text.ptr[at])) {
			return false;
		}
		value = value * 10 + (uint64_t)(text.ptr[at] - '0'); /* 19 digits fit */
	}
	if (value > (uint64_t)INT64_MAX + minus) {
		return false;
	}
	*out = minus ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

/* ---- commands ---- */

static struct mg_resp_command *finish(struct mg_resp_parser *parser)
{
	bool give = parser->text.len > KEEP_ROOM;
	size_t size = sizeof(struct mg_resp_command) + parser->count * sizeof(struct mg_str);
	struct mg_resp_command *command = mg_alloc(size + (give ? 0 : parser->text.len));
	char *text = give ? parser->text.ptr : (char *)command + size;
	size_t begin = 0;

	*command = (struct mg_resp_command){ .count = parser->count, .text = give ? text : NULL };
	command->bytes = size + (give ? parser->text.cap : parser->text.len);
	if (!give && parser->text.len) {
		memcpy(text, parser->text.ptr, parser->text.len);
	}
	for (size_t i = 0; i < parser->count; i++) {
		command->args[i] = (struct mg_str){ text + begin, parser->ends[i] - begin };
		begin = parser->ends[i];
	}
	if (give) {
		parser->text = (struct mg_sb){ 0 };
	}
	mg_sb_clear(&parser->text);
	if (parser->text.cap > QUIET_ROOM) {
		mg_sb_fini(&parser->text);
	}
	if (parser->cap > 1024) {
		mg_free(parser->ends);
		parser->ends = NULL;
		parser->cap = 0;
	}
	parser->count = parser->wanted = 0;
	return command;
}

static void end_arg(struct mg_resp_parser *parser)
{
	mg_grow(parser->ends, parser->count, parser->cap);
	parser->ends[parser->count++] = parser->text.len;
}

static enum mg_resp_parsed bad(char *error, const char *what)
{
	snprintf(error, MG_RESP_ERROR_SIZE, "Protocol error: %s", what);
	return MG_RESP_BAD;
}

/* ---- lines of words ---- */

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Behind a backslash in "...": adds what it stands for, and says how long it was. */
static size_t add_escaped(struct mg_sb *out, struct mg_str rest)
{
	static const char names[] = "nrtba", means[] = "\n\r\t\b\a";

	if (rest.len >= 3 && rest.ptr[0] == 'x' && isxdigit((unsigned char)rest.ptr[1]) &&
	    isxdigit((unsigned char)rest.ptr[2])) {
		mg_sb_add_char(out, (char)(hex_digit(rest.ptr[1]) * 16 + hex_digit(rest.ptr[2])));
		return 3;
	}
	const char *name = rest.ptr[0] ? strchr(names, rest.ptr[0]) : NULL;

	mg_sb_add_char(out, name ? means[name - names] : rest.ptr[0]);
	return 1;
}

/* One word; false: its quotes do not end, or something hangs on them. */
static bool read_word(struct mg_sb *out, struct mg_str *rest)
{
	char quote = 0;
	size_t i = 0;

	for (; i < rest->len; i++) {
		char c = rest->ptr[i];

		if (quote == '"' && c == '\\' && i + 1 < rest->len) {
			i += add_escaped(out, (struct mg_str){ rest->ptr + i + 1, rest->len - i - 1 });
		} else if (quote == '\'' && c == '\\' && i + 1 < rest->len && rest->ptr[i + 1] == '\'') {
			mg_sb_add_char(out, rest->ptr[++i]);
		} else if (quote && c == quote) {
			quote = 0;
			i++;
			if (i < rest->len && !isspace((unsigned char)rest->ptr[i])) {
				return false;
			}
			break;
		} else if (!quote && (c == '"' || c == '\'')) {
			quote = c;
		} else if (!quote && isspace((unsigned char)c)) {
			break;
		} else {
			mg_sb_add_char(out, c);
		}
	}
	rest->ptr += i;
	rest->len -= i;
	return quote == 0;
}

static enum mg_resp_parsed read_words(struct mg_resp_parser *parser, struct mg_str line,
                                      struct mg_resp_command **command, char *error)
{
	for (;;) {
		while (line.len && isspace((unsigned char)line.ptr[0])) {
			line.ptr++;
			line.len--;
		}
		if (line.len == 0) {
			break;
		}
		if (!read_word(&parser->text, &line)) {
			return bad(error, "unbalanced quotes in request");
		}
		end_arg(parser);
	}
	if (parser->count == 0) {
		return MG_RESP_MORE;
	}
	*command = finish(parser);
	return MG_RESP_COMMAND;
}

/* ---- arrays ---- */

static enum mg_resp_parsed read_count(struct mg_resp_parser *parser, struct mg_str line,
                                      char *error)
{
	int64_t count = 0;

	if (!mg_resp_int(line, &count) || count > MG_RESP_ARGS_MAX) {
		return bad(error, "invalid multibulk length");
	}
	if (count > 0 && (uint64_t)count > parser->limits.args) {
		return bad(error, parser->limits.strangers ? "unauthenticated multibulk length"
		                                           : "invalid multibulk length");
	}
	parser->wanted = count > 0 ? (size_t)count : 0; /* of none there is nothing to say */
	return MG_RESP_MORE;
}

static enum mg_resp_parsed read_size(struct mg_resp_parser *parser, struct mg_str line,
                                     char *error)
{
	char what[40];
	int64_t size = 0;

	if (line.len == 0 || line.ptr[0] != '$') {
		char c = line.len && isprint((unsigned char)line.ptr[0]) ? line.ptr[0] : ' ';

		snprintf(what, sizeof what, "expected '$', got '%c'", c);
		return bad(error, what);
	}
	if (!mg_resp_int((struct mg_str){ line.ptr + 1, line.len - 1 }, &size) || size < 0) {
		return bad(error, "invalid bulk length");
	}
	if ((uint64_t)size > parser->limits.arg ||
	    (uint64_t)size > parser->limits.command - parser->text.len) {
		return bad(error, parser->limits.strangers ? "unauthenticated bulk length"
		                                           : "invalid bulk length");
	}
	parser->missing = (size_t)size + 2;
	parser->in_arg = true;
	return MG_RESP_MORE;
}

/* Bytes of an argument and the line's end behind them. */
static enum mg_resp_parsed read_arg(struct mg_resp_parser *parser, const uint8_t *bytes,
                                    size_t size, size_t *used, struct mg_resp_command **command,
                                    char *error)
{
	size_t body = parser->missing > 2 ? parser->missing - 2 : 0;

	if (body) {
		size_t part = size < body ? size : body;

		mg_sb_add_len(&parser->text, (const char *)bytes, part);
		parser->missing -= part;
		*used += part;
		return MG_RESP_MORE;
	}
	if (bytes[0] != (parser->missing == 2 ? '\r' : '\n')) {
		return bad(error, "invalid bulk length");
	}
	*used += 1;
	if (--parser->missing == 0) {
		parser->in_arg = false;
		end_arg(parser);
		if (parser->count == parser->wanted) {
			*command = finish(parser);
			return MG_RESP_COMMAND;
		}
	}
	return MG_RESP_MORE;
}

/* ---- all ---- */

static enum mg_resp_parsed too_long(const struct mg_resp_parser *parser, char first, char *error)
{
	return bad(error, parser->wanted ? "too big bulk count string"
	                  : first == '*' ? "too big mbulk count string"
	                                 : "too big inline request");
}

static enum mg_resp_parsed read_line(struct mg_resp_parser *parser, struct mg_str line,
                                     struct mg_resp_command **command, char *error)
{
	bool array = !parser->wanted && line.len && line.ptr[0] == '*';

	if (line.len && line.ptr[line.len - 1] == '\r') {
		line.len--;
	}
	if (parser->wanted) {
		return read_size(parser, line, error);
	}
	return array ? read_count(parser, (struct mg_str){ line.ptr + 1, line.len - 1 }, error)
	             : read_words(parser, line, command, error);
}

/* A line, or what there is of one. */
static enum mg_resp_parsed take_line(struct mg_resp_parser *parser, const uint8_t *bytes,
                                     size_t size, size_t *used, struct mg_resp_command **command,
                                     char *error)
{
	const uint8_t *end = memchr(bytes, '\n', size);
	struct mg_str part = { (const char *)bytes, end ? (size_t)(end - bytes) : size };
	char first = parser->line.len ? parser->line.ptr[0] : (char)bytes[0];

	*used += part.len + (end != NULL);
	if (parser->line.len + part.len > MG_RESP_LINE_MAX) {
		return too_long(parser, first, error);
	}
	if (!end || parser->line.len) {
		mg_sb_add_len(&parser->line, part.ptr, part.len);
		part = (struct mg_str){ parser->line.ptr, parser->line.len };
	}
	if (!end) {
		return MG_RESP_MORE;
	}
	enum mg_resp_parsed parsed = read_line(parser, part, command, error);

	mg_sb_clear(&parser->line);
	if (parser->line.cap > QUIET_ROOM) {
		mg_sb_fini(&parser->line);
	}
	return parsed;
}

enum mg_resp_parsed mg_resp_parse(struct mg_resp_parser *parser, const uint8_t *bytes, size_t size,
                                  size_t *used, struct mg_resp_command **command,
                                  char error[MG_RESP_ERROR_SIZE])
{
	enum mg_resp_parsed parsed = MG_RESP_MORE;

	*used = 0;
	while (parsed == MG_RESP_MORE && *used < size) {
		const uint8_t *at = bytes + *used;
		size_t left = size - *used;

		parsed = parser->in_arg ? read_arg(parser, at, left, used, command, error)
		                        : take_line(parser, at, left, used, command, error);
	}
	return parsed;
}

void mg_resp_parser_fini(struct mg_resp_parser *parser)
{
	mg_sb_fini(&parser->line);
	mg_sb_fini(&parser->text);
	mg_free(parser->ends);
	*parser = (struct mg_resp_parser){ 0 };
}

size_t mg_resp_parser_bytes(const struct mg_resp_parser *parser)
{
	return parser->line.cap + parser->text.cap + parser->cap * sizeof *parser->ends;
}

void mg_resp_command_free(struct mg_resp_command *command)
{
	if (command) {
		mg_free(command->text);
		mg_free(command);
	}
}

/* ---- patterns ---- */

/* A class behind its '[': does it have c?  *size: of it, with the ']'. */
static bool in_class(struct mg_str class, unsigned char c, size_t *size)
{
	size_t i = 0;
	bool not = class.len && class.ptr[0] == '^', found = false;

	for (i = not; i < class.len && class.ptr[i] != ']'; i++) {
		if (class.ptr[i] == '\\' && i + 1 < class.len) {
			i++;
		}
		unsigned char first = (unsigned char)class.ptr[i], last = first;

		if (i + 2 < class.len && class.ptr[i + 1] == '-') {
			last = (unsigned char)class.ptr[i + 2];
			i += 2;
		}
		found = found || (first <= last ? c >= first && c <= last : c >= last && c <= first);
	}
	*size = i < class.len ? i + 1 : class.len;
	return found != not;
}

/* Does one element at the pattern's begin fit the byte?  *size: of that element. */
static bool fits_one(struct mg_str pattern, unsigned char c, size_t *size)
{
	*size = 1;
	if (pattern.ptr[0] == '?') {
		return true;
	}
	if (pattern.ptr[0] == '[') {
		bool found = in_class((struct mg_str){ pattern.ptr + 1, pattern.len - 1 }, c, size);

		*size += 1;
		return found;
	}
	if (pattern.ptr[0] == '\\' && pattern.len > 1) {
		*size = 2;
		return (unsigned char)pattern.ptr[1] == c;
	}
	return (unsigned char)pattern.ptr[0] == c;
}

/* Only the last star so far is tried again: what those before it took fits in any case. */
bool mg_resp_glob(struct mg_str pattern, struct mg_str text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0, size = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.ptr[p] == '*') {
			star = ++p;
			star_text = t;
		} else if (p < pattern.len &&
		           fits_one((struct mg_str){ pattern.ptr + p, pattern.len - p },
		                    (unsigned char)text.ptr[t], &size)) {
			p += size;
			t++;
		} else if (star != SIZE_MAX) {
			p = star;
			t = ++star_text;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.ptr[p] == '*') {
		p++;
	}
	return p == pattern.len;
}
