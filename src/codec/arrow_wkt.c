/*
 * arrow_wkt.c - geometries (well-known binary) as well-known text, as DuckDB writes them.
 *
 *   byte order 1 | u32 shape + 1000 (Z), 2000 (M) or 3000 (ZM) | shape's own bytes
 *
 * The shapes: 1 point, 2 line, 3 polygon, 4 to 6 many of these, 7 a collection.  Bytes that do not
 * follow this, or go more than DEPTH_MAX deep, are shown as a blob.
 */
#include "codec/arrow_scalar.h"

#include <math.h>
#include <string.h>

#define DEPTH_MAX 32

enum shape { POINT = 1, LINE, POLYGON, MULTI_POINT, MULTI_LINE, MULTI_POLYGON, COLLECTION };

struct reader {
	const uint8_t *at;
	const uint8_t *end;
	struct mg_sb *out;
};

static bool read_u32(struct reader *r, uint32_t *value)
{
	if (r->end - r->at < 4) {
		return false;
	}
	memcpy(value, r->at, 4);
	r->at += 4;
	return true;
}

/* Head of a geometry: its shape and the number of coordinates a point has. */
static bool read_head(struct reader *r, uint32_t *shape, uint32_t *flavour)
{
	uint32_t code;
	if (r->at >= r->end || *r->at++ != 1 || !read_u32(r, &code)) {
		return false;
	}
	*shape = code % 1000;
	*flavour = code / 1000;
	return *shape >= POINT && *shape <= COLLECTION && *flavour <= 3;
}

static unsigned coordinates_of(uint32_t flavour)
{
	return flavour == 0 ? 2 : flavour == 3 ? 4 : 3;
}

/* A number as the float formatter writes it, but without ".0". */
static void add_number(struct mg_sb *out, double value)
{
	mg_text__double(out, value);
	if (out->len > 2 && memcmp(out->ptr + out->len - 2, ".0", 2) == 0) {
		out->len -= 2;
		out->ptr[out->len] = '\0';
	}
}

/* One point's numbers, or EMPTY when all of them are NaN and may_be_empty. */
static bool add_point(struct reader *r, uint32_t flavour, bool may_be_empty, bool parentheses)
{
	unsigned count = coordinates_of(flavour);
	double numbers[4];
	if ((size_t)(r->end - r->at) < count * sizeof(double)) {
		return false;
	}
	memcpy(numbers, r->at, count * sizeof(double));
	r->at += count * sizeof(double);
	bool empty = may_be_empty;
	for (unsigned i = 0; i < count && empty; i++) {
		empty = isnan(numbers[i]) != 0;
	}
	if (empty) {
		mg_sb_add(r->out, "EMPTY");
		return true;
	}
	mg_sb_add(r->out, parentheses ? "(" : "");
	for (unsigned i = 0; i < count; i++) {
		mg_sb_add(r->out, i ? " " : "");
		add_number(r->out, numbers[i]);
	}
	mg_sb_add(r->out, parentheses ? ")" : "");
	return true;
}

static bool add_points(struct reader *r, uint32_t flavour)
{
	uint32_t count;
	if (!read_u32(r, &count)) {
		return false;
	}
	if (count == 0) {
		mg_sb_add(r->out, "EMPTY");
		return true;
	}
	mg_sb_add_char(r->out, '(');
	for (uint32_t i = 0; i < count; i++) {
		mg_sb_add(r->out, i ? ", " : "");
		if (!add_point(r, flavour, false, false)) {
			return false;
		}
	}
	mg_sb_add_char(r->out, ')');
	return true;
}

static bool add_geometry(struct reader *r, unsigned depth);

/* A part of a polygon, a multi-shape or a collection. */
static bool add_part(struct reader *r, uint32_t whole, uint32_t flavour, unsigned depth);

static bool add_parts(struct reader *r, uint32_t whole, uint32_t flavour, unsigned depth)
{
	uint32_t count;
	if (depth > DEPTH_MAX || !read_u32(r, &count)) {
		return false;
	}
	if (count == 0) {
		mg_sb_add(r->out, "EMPTY");
		return true;
	}
	mg_sb_add_char(r->out, '(');
	for (uint32_t i = 0; i < count; i++) {
		mg_sb_add(r->out, i ? ", " : "");
		if (!add_part(r, whole, flavour, depth)) {
			return false;
		}
	}
	mg_sb_add_char(r->out, ')');
	return true;
}

static bool add_part(struct reader *r, uint32_t whole, uint32_t flavour, unsigned depth)
{
	uint32_t shape;
	uint32_t own_flavour;
	if (whole == POLYGON) {
		return add_points(r, flavour);
	}
	if (whole == COLLECTION) {
		return add_geometry(r, depth + 1);
	}
	if (!read_head(r, &shape, &own_flavour) || shape != whole - MULTI_POINT + POINT) {
		return false;
	}
	switch (shape) {
	case POINT:
		return add_point(r, own_flavour, true, false);
	case LINE:
		return add_points(r, own_flavour);
	default:
		return add_parts(r, POLYGON, own_flavour, depth + 1);
	}
}

static bool add_geometry(struct reader *r, unsigned depth)
{
	static const char *const names[] = {
		"",           "POINT",           "LINESTRING",   "POLYGON",
		"MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION",
	};
	static const char *const flavours[] = { " ", " Z ", " M ", " ZM " };
	uint32_t shape;
	uint32_t flavour;
	if (!read_head(r, &shape, &flavour)) {
		return false;
	}
	mg_sb_add(r->out, names[shape]);
	mg_sb_add(r->out, flavours[flavour]);
	switch (shape) {
	case POINT:
		return add_point(r, flavour, true, true);
	case LINE:
		return add_points(r, flavour);
	default:
		return add_parts(r, shape, flavour, depth);
	}
}

void mg_text__geometry(struct mg_sb *sb, const uint8_t *bytes, size_t len)
{
	struct reader r = { bytes, bytes + len, sb };
	size_t start = sb->len;
	if (len == 0 || (add_geometry(&r, 0) && r.at == r.end)) {
		return;
	}
	sb->len = start;
	mg_text__blob(sb, bytes, len);
}
