/*
 * arrow_scalar.c - numbers, bytes and times as text, in DuckDB's form.
 *
 * The rules were found by comparing with DuckDB 1.5.5 and are held by test_arrow_text, which
 * compares again, value by value, with the DuckDB that is linked in.
 */
#include "codec/arrow_scalar.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_HOUR (INT64_C(3600) * US_PER_SECOND)
#define SECONDS_PER_DAY INT64_C(86400)
#define TIME_TZ_OFFSET_MAX 57599 /* 15:59:59 */

/* ---- integers and decimals ---- */

/* Digits of value, at the end of a field of 40; returns the first one. */
static char *digits_of(unsigned __int128 value, char field[40])
{
	char *at = field + 39;
	*at = '\0';
	while (value > UINT64_MAX) {
		*--at = (char)('0' + (int)(value % 10));
		value /= 10;
	}
	uint64_t small = (uint64_t)value; /* dividing 64 bits is several times faster */
	do {
		*--at = (char)('0' + (int)(small % 10));
		small /= 10;
	} while (small);
	return at;
}

void mg_text__uint128(struct mg_sb *sb, unsigned __int128 value)
{
	char field[40];
	mg_sb_add(sb, digits_of(value, field));
}

static unsigned __int128 magnitude(__int128 value)
{
	return value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
}

void mg_text__int128(struct mg_sb *sb, __int128 value)
{
	if (value < 0) {
		mg_sb_add_char(sb, '-');
	}
	mg_text__uint128(sb, magnitude(value));
}

/* As many digits after the point as scale says; a zero in front only where width leaves room. */
void mg_text__decimal(struct mg_sb *sb, __int128 value, int width, int scale)
{
	if (scale <= 0) {
		mg_text__int128(sb, value);
		return;
	}
	char field[40];
	const char *digits = digits_of(magnitude(value), field);
	int count = (int)strlen(digits);
	if (value < 0) {
		mg_sb_add_char(sb, '-');
	}
	if (count > scale) {
		mg_sb_add_len(sb, digits, (size_t)(count - scale));
		digits += count - scale;
		count = scale;
	} else if (width > scale) {
		mg_sb_add_char(sb, '0');
	}
	mg_sb_add_char(sb, '.');
	for (int i = count; i < scale; i++) {
		mg_sb_add_char(sb, '0');
	}
	mg_sb_add(sb, digits);
}

/* ---- floating point ---- */

/* "d.ddde+x" into digits without the point, and the exponent of the first digit. */
static int split_scientific(const char *text, char digits[24], int *exponent)
{
	int count = 0;
	const char *at = text;
	for (; *at && *at != 'e'; at++) {
		if (*at >= '0' && *at <= '9') {
			digits[count++] = *at;
		}
	}
	*exponent = *at ? (int)strtol(at + 1, NULL, 10) : 0;
	while (count > 1 && digits[count - 1] == '0') {
		count--;
	}
	digits[count] = '\0';
	return count;
}

/* Plain notation for exponents from -5 to 15, else d.ddde+xx; a whole number gets ".0". */
static void write_digits(struct mg_sb *sb, const char *digits, int count, int exponent)
{
	if (exponent < -4 || exponent >= 16) {
		mg_sb_add_char(sb, digits[0]);
		if (count > 1) {
			mg_sb_add_char(sb, '.');
			mg_sb_add(sb, digits + 1);
		}
		mg_sb_addf(sb, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
		return;
	}
	if (exponent < 0) {
		mg_sb_add(sb, "0.");
		for (int i = exponent + 1; i < 0; i++) {
			mg_sb_add_char(sb, '0');
		}
		mg_sb_add(sb, digits);
		return;
	}
	for (int i = 0; i < count || i <= exponent; i++) {
		if (i == exponent + 1) {
			mg_sb_add_char(sb, '.');
		}
		mg_sb_add_char(sb, i < count ? digits[i] : '0');
	}
	if (count <= exponent + 1) {
		mg_sb_add(sb, ".0");
	}
}

/* NaN, infinities, zero; true when value was one of them. */
static bool write_special(struct mg_sb *sb, double value)
{
	if (isnan(value)) {
		mg_sb_add(sb, signbit(value) ? "-nan" : "nan");
		return true;
	}
	if (signbit(value)) {
		mg_sb_add_char(sb, '-');
	}
	if (isinf(value)) {
		mg_sb_add(sb, "inf");
		return true;
	}
	if (value == 0) {
		mg_sb_add(sb, "0.0");
		return true;
	}
	return false;
}

/* The next decimal of as many digits above text ("d.ddde+x"); false when all digits are 9. */
static bool next_decimal(char *text)
{
	char *at = strchr(text, 'e');
	while (at-- > text) {
		if (*at < '0' || *at > '9') {
			continue; /* the point, whatever the locale takes for it */
		}
		if (*at != '9') {
			(*at)++;
			return true;
		}
		*at = '0';
	}
	return false;
}

/* Every number of at most 15 digits survives a normal double, so if one that short exists then
 * "%.14e" is it followed by zeros; below the normal range that does not hold, and each length is
 * tried.  At powers of two the gap above is twice the gap below, so the decimal above may fit where
 * the nearest does not. */
static void shortest_double(double value, char text[40])
{
	for (int precision = value < 2.3e-308 ? 0 : 14; precision < 17; precision++) {
		snprintf(text, 40, "%.*e", precision, value);
		if (strtod(text, NULL) == value || (next_decimal(text) && strtod(text, NULL) == value)) {
			return;
		}
	}
	snprintf(text, 40, "%.16e", value);
}

/* Prices and the like: value is n / 10^k with n below 10^15.  Both are exact and division rounds
 * once, so n with its point moved is read back as value; being that short, it is the shortest. */
static int short_double(double value, char digits[24], int *exponent)
{
	static const double powers[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6 };
	for (int k = 0; k < 7; k++) {
		double scaled = value * powers[k];
		if (scaled >= 1e15) {
			return 0;
		}
		uint64_t n = (uint64_t)scaled;
		if ((double)n == scaled && n > 0 && (double)n / powers[k] == value) {
			char field[40];
			const char *text = digits_of(n, field);
			int count = (int)strlen(text);
			*exponent = count - 1 - k;
			while (count > 1 && text[count - 1] == '0') {
				count--;
			}
			memcpy(digits, text, (size_t)count);
			digits[count] = '\0';
			return count;
		}
	}
	return 0;
}

void mg_text__double(struct mg_sb *sb, double value)
{
	if (write_special(sb, value)) {
		return;
	}
	char digits[24];
	int exponent;
	int count = short_double(fabs(value), digits, &exponent);
	if (count == 0) {
		char text[40];
		shortest_double(fabs(value), text);
		count = split_scientific(text, digits, &exponent);
	}
	write_digits(sb, digits, count, exponent);
}

enum fit { FIT_OUTSIDE, FIT_INSIDE, FIT_EDGE };

/* Where a decimal lies in the interval of numbers that are read as one float.  Both ends have 25
 * bits, so as doubles they are exact. */
static enum fit fit_of(const char *text, double low, double high)
{
	double number = strtod(text, NULL);
	if (number == low || number == high) {
		return FIT_EDGE;
	}
	return number > low && number < high ? FIT_INSIDE : FIT_OUTSIDE;
}

/* The shortest decimal of a float.  DuckDB's formatter gives up where the shortest one lies exactly
 * on the edge of the interval, or two of them are equally near, and then writes the float as if it
 * were a double; so do we. */
static void shortest_float(float value, char text[40])
{
	double exact = (double)value;
	double low = exact - (exact - (double)nextafterf(value, 0.0F)) / 2;
	double high = exact + (exact - low);
	if (nextafterf(value, INFINITY) < INFINITY) {
		high = exact + ((double)nextafterf(value, INFINITY) - exact) / 2;
	}
	for (int precision = 0; precision < 9; precision++) {
		snprintf(text, 40, "%.*e", precision, exact);
		char above[40];
		memcpy(above, text, sizeof above);
		enum fit near = fit_of(text, low, high);
		enum fit far = next_decimal(above) ? fit_of(above, low, high) : FIT_OUTSIDE;
		if (near == FIT_INSIDE) {
			char more[64];
			snprintf(more, sizeof more, "%.*e", precision + 30, exact);
			const char *rest = more + (precision ? precision + 2 : 2);
			bool tie = rest[0] == '5' && rest[1 + strspn(rest + 1, "0")] == 'e';
			if (!tie) {
				return;
			}
			break;
		}
		if (far == FIT_INSIDE) {
			memcpy(text, above, sizeof above);
			return;
		}
		if (near == FIT_EDGE || far == FIT_EDGE) {
			break;
		}
	}
	shortest_double(exact, text);
}

void mg_text__float(struct mg_sb *sb, float value)
{
	if (write_special(sb, (double)value)) {
		return;
	}
	char text[40];
	char digits[24];
	int exponent;
	shortest_float(fabsf(value), text);
	int count = split_scientific(text, digits, &exponent);
	write_digits(sb, digits, count, exponent);
}

/* ---- bytes ---- */

/* Three bytes of head (top bit: not negative), then the magnitude, big-endian; all bits of a
 * negative number are turned over.  Repeated division by 10^9. */
void mg_text__bignum(struct mg_sb *sb, const uint8_t *bytes, size_t len)
{
	if (len < 4) {
		mg_text__blob(sb, bytes, len);
		return;
	}
	bool negative = (bytes[0] & 0x80) == 0;
	size_t count = len - 3;
	uint8_t *rest = mg_alloc(count);
	for (size_t i = 0; i < count; i++) {
		rest[i] = negative ? (uint8_t)~bytes[3 + i] : bytes[3 + i];
	}
	uint32_t *groups = mg_alloc((count / 3 + 2) * sizeof *groups);
	size_t used = 0;
	size_t first = 0;
	do {
		uint64_t remainder = 0;
		for (size_t i = first; i < count; i++) {
			uint64_t now = remainder << 8 | rest[i];
			rest[i] = (uint8_t)(now / 1000000000);
			remainder = now % 1000000000;
		}
		groups[used++] = (uint32_t)remainder;
		while (first < count && rest[first] == 0) {
			first++;
		}
	} while (first < count);
	mg_sb_addf(sb, "%s%u", negative ? "-" : "", groups[used - 1]);
	while (--used > 0) {
		mg_sb_addf(sb, "%09u", groups[used - 1]);
	}
	mg_free(groups);
	mg_free(rest);
}

void mg_text__blob(struct mg_sb *sb, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t c = bytes[i];
		if (c >= 32 && c <= 126 && c != '\\' && c != '\'' && c != '"') {
			mg_sb_add_char(sb, (char)c);
		} else {
			mg_sb_addf(sb, "\\x%02X", c);
		}
	}
}

void mg_text__bits(struct mg_sb *sb, const uint8_t *bytes, size_t len)
{
	size_t padding = len > 0 && bytes[0] < 8 ? bytes[0] : 0;
	for (size_t i = padding; len > 1 && i < (len - 1) * 8; i++) {
		mg_sb_add_char(sb, bytes[1 + i / 8] >> (7 - i % 8) & 1 ? '1' : '0');
	}
}

void mg_text__uuid(struct mg_sb *sb, const uint8_t bytes[16])
{
	for (int i = 0; i < 16; i++) {
		mg_sb_addf(sb, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
	}
}

/* ---- times ---- */

/* Year, month, day of a day number; the calendar is Gregorian for ever in both directions.  Counts
 * from 1 March of year 0 in cycles of 400 years, so that the leap day comes last. */
static void civil(int64_t days, int64_t *year, int *month, int *day)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int64_t of_era = days - era * 146097;
	int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
	int64_t shifted = (5 * of_year + 2) / 153;
	*day = (int)(of_year - (153 * shifted + 2) / 5) + 1;
	*month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
	*year = years + era * 400 + (*month <= 2 ? 1 : 0);
}

/* A number with zeros in front, at least width digits. */
static void write_padded(struct mg_sb *sb, int64_t value, int width)
{
	char field[40];
	const char *text = digits_of((unsigned __int128)value, field);
	for (int i = (int)strlen(text); i < width; i++) {
		mg_sb_add_char(sb, '0');
	}
	mg_sb_add(sb, text);
}

static void write_date(struct mg_sb *sb, int64_t days, bool iso)
{
	int64_t year;
	int month;
	int day;
	civil(days, &year, &month, &day);
	bool bc = !iso && year <= 0;
	if (bc) {
		year = 1 - year;
	}
	if (year < 0) {
		mg_sb_add_char(sb, '-');
		year = -year;
	}
	write_padded(sb, year, 4);
	mg_sb_add_char(sb, '-');
	write_padded(sb, month, 2);
	mg_sb_add_char(sb, '-');
	write_padded(sb, day, 2);
	mg_sb_add(sb, bc ? " (BC)" : "");
}

void mg_text__date(struct mg_sb *sb, int32_t days, bool iso)
{
	if (days == INT32_MAX) {
		mg_sb_add(sb, "infinity");
	} else if (days == -INT32_MAX) {
		mg_sb_add(sb, "-infinity");
	} else {
		write_date(sb, days, iso);
	}
}

/* ".5" for 500,000 of a million: no trailing zeros, nothing for 0. */
static void write_fraction(struct mg_sb *sb, int64_t value, int digits)
{
	if (value == 0) {
		return;
	}
	while (value % 10 == 0) {
		value /= 10;
		digits--;
	}
	mg_sb_add_char(sb, '.');
	write_padded(sb, value, digits);
}

static void write_clock(struct mg_sb *sb, int64_t seconds)
{
	write_padded(sb, seconds / 3600, 2);
	mg_sb_add_char(sb, ':');
	write_padded(sb, seconds / 60 % 60, 2);
	mg_sb_add_char(sb, ':');
	write_padded(sb, seconds % 60, 2);
}

static int64_t ticks_of(enum mg_time_unit unit, int *digits)
{
	static const int64_t ticks[] = { 1, 1000, 1000000, 1000000000 };
	*digits = (int)unit * 3;
	return ticks[unit];
}

void mg_text__time(struct mg_sb *sb, int64_t value, enum mg_time_unit unit)
{
	int digits;
	int64_t ticks = ticks_of(unit, &digits);
	write_clock(sb, value / ticks);
	write_fraction(sb, value % ticks, digits);
}

void mg_text__time_tz(struct mg_sb *sb, uint64_t bits)
{
	int offset = TIME_TZ_OFFSET_MAX - (int)(bits & 0xFFFFFF);
	mg_text__time(sb, (int64_t)(bits >> 24), MG_UNIT_MICRO);
	int seconds = abs(offset);
	mg_sb_addf(sb, "%c%02d", offset < 0 ? '-' : '+', seconds / 3600);
	if (seconds / 60 % 60) {
		mg_sb_addf(sb, ":%02d", seconds / 60 % 60);
	}
	if (seconds % 60) {
		mg_sb_addf(sb, ":%02d", seconds % 60);
	}
}

void mg_text__timestamp(struct mg_sb *sb, int64_t value, enum mg_time_unit unit, bool iso)
{
	if (value == INT64_MAX || value == -INT64_MAX) {
		mg_sb_add(sb, value > 0 ? "infinity" : "-infinity");
		return;
	}
	int digits;
	int64_t ticks = ticks_of(unit, &digits);
	int64_t seconds = value / ticks;
	int64_t fraction = value % ticks;
	if (fraction < 0) {
		fraction += ticks;
		seconds--;
	}
	int64_t days = seconds / SECONDS_PER_DAY;
	int64_t of_day = seconds % SECONDS_PER_DAY;
	if (of_day < 0) {
		of_day += SECONDS_PER_DAY;
		days--;
	}
	write_date(sb, days, iso);
	mg_sb_add_char(sb, iso ? 'T' : ' ');
	write_clock(sb, of_day);
	write_fraction(sb, fraction, digits);
}

static void write_part(struct mg_sb *sb, size_t start, int64_t value, const char *name)
{
	if (value != 0) {
		mg_sb_addf(sb, "%s%lld %s%s", sb->len > start ? " " : "", (long long)value, name,
		           value == 1 || value == -1 ? "" : "s");
	}
}

void mg_text__interval(struct mg_sb *sb, int32_t months, int32_t days, int64_t micros)
{
	size_t start = sb->len;
	write_part(sb, start, months / 12, "year");
	write_part(sb, start, months % 12, "month");
	write_part(sb, start, days, "day");
	if (micros == 0 && sb->len > start) {
		return;
	}
	if (sb->len > start) {
		mg_sb_add_char(sb, ' ');
	}
	if (micros < 0) {
		mg_sb_add_char(sb, '-');
	}
	uint64_t left = micros < 0 ? -(uint64_t)micros : (uint64_t)micros;
	write_clock(sb, (int64_t)(left / US_PER_SECOND));
	write_fraction(sb, (int64_t)(left % US_PER_SECOND), 6);
}

static void duration_part(struct mg_sb *sb, int64_t value, char letter)
{
	if (value != 0) {
		mg_sb_addf(sb, "%lld%c", (long long)value, letter);
	}
}

void mg_text__duration(struct mg_sb *sb, int32_t months, int32_t days, int64_t micros)
{
	if (months == 0 && days == 0 && micros == 0) {
		mg_sb_add(sb, "PT0S");
		return;
	}
	mg_sb_add_char(sb, 'P');
	duration_part(sb, months / 12, 'Y');
	duration_part(sb, months % 12, 'M');
	duration_part(sb, days, 'D');
	if (micros == 0) {
		return;
	}
	mg_sb_add_char(sb, 'T');
	duration_part(sb, micros / US_PER_HOUR, 'H');
	duration_part(sb, micros / (60 * US_PER_SECOND) % 60, 'M');
	int64_t rest = micros % (60 * US_PER_SECOND);
	if (rest != 0) {
		mg_sb_addf(sb, "%s%lld", rest < 0 ? "-" : "", (long long)(llabs(rest) / US_PER_SECOND));
		write_fraction(sb, llabs(rest) % US_PER_SECOND, 6);
		mg_sb_add_char(sb, 'S');
	}
}
