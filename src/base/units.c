/* units.c - see units.h. */
#include "base/units.h"

#include "base/str.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

struct unit {
	const char *name;
	double factor;
};

/* units: until one without a name; bare: of a number alone. */
static bool parse(const char *text, const struct unit *units, double bare, uint64_t *out)
{
	char *end;
	double number, factor = bare;

	if (!isdigit((unsigned char)*text) && *text != '.') {
		return false;
	}
	number = strtod(text, &end);
	while (*end == ' ') {
		end++;
	}
	if (*end) {
		while (units->name && !mg_text_eq_nocase(end, units->name)) {
			units++;
		}
		if (!units->name) {
			return false;
		}
		factor = units->factor;
	}
	if (!isfinite(number) || number * factor > 9e18) {
		return false;
	}
	*out = (uint64_t)llround(number * factor);
	return true;
}

bool mg_parse_size(const char *text, uint64_t *bytes)
{
	static const struct unit units[] = {
		{ "b", 1 },           { "k", 1024 },           { "kb", 1e3 },  { "kib", 1024 },
		{ "m", 1048576 },     { "mb", 1e6 },           { "mib", 1048576 },
		{ "g", 1073741824 },  { "gb", 1e9 },           { "gib", 1073741824 },
		{ "t", 1099511627776 }, { "tb", 1e12 },        { "tib", 1099511627776 },
		{ NULL, 0 },
	};

	return parse(text, units, 1, bytes);
}

bool mg_parse_ms(const char *text, uint64_t *ms)
{
	static const struct unit units[] = {
		{ "ms", 1 },        { "s", 1e3 },      { "m", 6e4 },      { "min", 6e4 },
		{ "h", 3.6e6 },     { "d", 8.64e7 },   { "second", 1e3 }, { "seconds", 1e3 },
		{ "minute", 6e4 },  { "minutes", 6e4 }, { "hour", 3.6e6 }, { "hours", 3.6e6 },
		{ "day", 8.64e7 },  { "days", 8.64e7 }, { NULL, 0 },
	};

	return parse(text, units, 1e3, ms);
}
