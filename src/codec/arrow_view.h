/*
 * arrow_view.h - a batch made readable: each column's Arrow type turned into the kind of value that
 * DuckDB had, once, when the view is made.  Private to codec.
 */
#ifndef MG_CODEC_ARROW_VIEW_H
#define MG_CODEC_ARROW_VIEW_H

#include "codec/arrow_scalar.h"
#include "codec/arrow_text.h"

enum mg_kind {
	MG_KIND_NULL,
	MG_KIND_BOOL,
	MG_KIND_INT,     /* any width and sign up to 64 bits; width: bits, unsigned_value */
	MG_KIND_HUGEINT, /* 16 bytes, little-endian */
	MG_KIND_UHUGEINT,
	MG_KIND_BIGNUM,
	MG_KIND_FLOAT,
	MG_KIND_DOUBLE,
	MG_KIND_DECIMAL, /* width, scale */
	MG_KIND_TEXT,
	MG_KIND_JSON,
	MG_KIND_BLOB,
	MG_KIND_BIT,
	MG_KIND_UUID,
	MG_KIND_GEOMETRY,
	MG_KIND_DATE,
	MG_KIND_TIME, /* unit */
	MG_KIND_TIME_TZ,
	MG_KIND_TIMESTAMP, /* unit, zoned */
	MG_KIND_INTERVAL,
	MG_KIND_ENUM, /* dictionary */
	MG_KIND_LIST,
	MG_KIND_ARRAY, /* width: elements */
	MG_KIND_STRUCT,
	MG_KIND_MAP,
	MG_KIND_UNION,
	MG_KIND_UNKNOWN /* bytes shown as a blob, or nothing */
};

/* A column or a part of one; lives in the view's arena. */
struct mg_value_type {
	enum mg_kind kind;
	enum mg_time_unit unit;
	bool zoned;
	bool unsigned_value;
	int32_t width;
	int32_t scale;
	const char *name;
	const char *opaque; /* type name of an extension we do not know */
	const struct ArrowArrayView *data;
	struct mg_value_type *children;
	size_t child_count;
};

struct mg_arrow_view {
	struct mg_arena *arena;
	struct ArrowSchema schema; /* own copy */
	struct ArrowArrayView data;
	struct mg_value_type *columns;
	size_t column_count;
};

/* Values of one node; row counts from the node's own offset.  A NULL writes nothing. */
bool mg_value__is_null(const struct mg_value_type *type, int64_t row);
void mg_value__text(const struct mg_value_type *type, int64_t row, struct mg_sb *out);
/* First and one-past-last row of the elements of a list, array or map. */
void mg_value__range(const struct mg_value_type *type, int64_t row, int64_t *from, int64_t *to);
/* The member that a union's row holds; NULL when its number is unknown. */
const struct mg_value_type *mg_value__member(const struct mg_value_type *type, int64_t row);
__int128 mg_value__int128(const struct mg_value_type *type, int64_t row);
bool mg_value__unnamed(const struct mg_value_type *type); /* a struct made by row() */

#endif
