/* json_valid.c - is a text one JSON value?  Without a tree: what comes from outside may be long. */
#include "base/json.h"

#include <string.h>

enum { DEPTH_MAX = 1000 };

struct scan {
	const char *at, *end;
	char open[DEPTH_MAX]; /* of each container that is open, what ends it */
	size_t depth;
};

static void skip_blanks(struct scan *scan)
{
	while (scan->at < scan->end && strchr(" \t\n\r", *scan->at) && *scan->at) {
		scan->at++;
	}
}

static bool take(struct scan *scan, char c)
{
	bool there = scan->at < scan->end && *scan->at == c;

	scan->at += there;
	return there;
}

static bool take_hex4(struct scan *scan, unsigned *value)
{
	static const char digits[] = "0123456789abcdefABCDEF";

	*value = 0;
	for (int i = 0; i < 4; i++, scan->at++) {
		const char *digit = scan->at < scan->end && *scan->at ? strchr(digits, *scan->at) : NULL;

		if (!digit) {
			return false;
		}
		unsigned place = (unsigned)(digit - digits);

		*value = *value * 16 + (place > 15 ? place - 6 : place);
	}
	return true;
}

/* Behind \u; both halves of a pair. */
static bool take_unicode(struct scan *scan)
{
	unsigned value, low;

	if (!take_hex4(scan, &value) || (value >= 0xDC00 && value <= 0xDFFF)) {
		return false;
	}
	return value < 0xD800 || value > 0xDBFF ||
	       (take(scan, '\\') && take(scan, 'u') && take_hex4(scan, &low) && low >= 0xDC00 &&
	        low <= 0xDFFF);
}

/* Behind its first quote. */
static bool take_string(struct scan *scan)
{
	while (scan->at < scan->end) {
		char c = *scan->at++;

		if (c == '"') {
			return true;
		}
		if ((unsigned char)c < 0x20) {
			return false;
		}
		if (c != '\\') {
			continue;
		}
		char escaped = scan->at < scan->end ? *scan->at++ : '\0';

		if (escaped == 'u' ? !take_unicode(scan) : !escaped || !strchr("\"\\/bfnrt", escaped)) {
			return false;
		}
	}
	return false;
}

static bool take_digits(struct scan *scan)
{
	const char *begin = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
		scan->at++;
	}
	return scan->at > begin;
}

static bool take_number(struct scan *scan)
{
	(void)take(scan, '-');
	if (!take(scan, '0') && !take_digits(scan)) {
		return false;
	}
	if (take(scan, '.') && !take_digits(scan)) {
		return false;
	}
	if (take(scan, 'e') || take(scan, 'E')) {
		if (!take(scan, '-')) {
			(void)take(scan, '+');
		}
		return take_digits(scan);
	}
	return true;
}

static bool take_word(struct scan *scan, const char *word)
{
	size_t len = strlen(word);
	bool there = (size_t)(scan->end - scan->at) >= len && memcmp(scan->at, word, len) == 0;

	scan->at += there ? len : 0;
	return there;
}

static bool take_scalar(struct scan *scan)
{
	return take(scan, '"') ? take_string(scan)
	                       : take_word(scan, "true") || take_word(scan, "false") ||
	                             take_word(scan, "null") || take_number(scan);
}

/* In an object: a name and its colon. */
static bool take_name(struct scan *scan)
{
	skip_blanks(scan);
	if (!take(scan, '"') || !take_string(scan)) {
		return false;
	}
	skip_blanks(scan);
	return take(scan, ':');
}

/* A value's end ends those around it, as far as no comma comes.  *more: another value. */
static bool close_containers(struct scan *scan, bool *more)
{
	for (;;) {
		*more = false;
		if (scan->depth == 0) {
			return true;
		}
		char ends = scan->open[scan->depth - 1];

		skip_blanks(scan);
		if (take(scan, ',')) {
			*more = true;
			return ends != '}' || take_name(scan);
		}
		if (!take(scan, ends)) {
			return false;
		}
		scan->depth--;
	}
}

/* *opened: a container in which a value stands. */
static bool open_container(struct scan *scan, char ends, bool *opened)
{
	if (scan->depth == DEPTH_MAX) {
		return false;
	}
	skip_blanks(scan);
	if (take(scan, ends)) {
		*opened = false;
		return true;
	}
	*opened = true;
	scan->open[scan->depth++] = ends;
	return ends != '}' || take_name(scan);
}

bool mg_json_valid(const char *text, size_t len)
{
	struct scan scan = { .at = text, .end = text + len };
	bool more = true, good = mg_utf8_valid(text, len);

	while (good && more) {
		skip_blanks(&scan);
		if (take(&scan, '[')) {
			good = open_container(&scan, ']', &more);
		} else if (take(&scan, '{')) {
			good = open_container(&scan, '}', &more);
		} else {
			good = take_scalar(&scan);
			more = false;
		}
		if (good && !more) {
			good = close_containers(&scan, &more);
		}
	}
	skip_blanks(&scan);
	return good && scan.at == scan.end;
}
