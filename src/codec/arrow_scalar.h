/*
 * arrow_scalar.h - single values as DuckDB's CAST(x AS VARCHAR) writes them.  Private to codec.
 * All append to a builder; any thread.
 */
#ifndef MG_CODEC_ARROW_SCALAR_H
#define MG_CODEC_ARROW_SCALAR_H

#include "base/str.h"

enum mg_time_unit { MG_UNIT_SECOND, MG_UNIT_MILLI, MG_UNIT_MICRO, MG_UNIT_NANO };

void mg_text__int128(struct mg_sb *sb, __int128 value);
void mg_text__uint128(struct mg_sb *sb, unsigned __int128 value);
void mg_text__decimal(struct mg_sb *sb, __int128 value, int width, int scale);
void mg_text__double(struct mg_sb *sb, double value);
void mg_text__float(struct mg_sb *sb, float value);
void mg_text__bignum(struct mg_sb *sb, const uint8_t *bytes,
                     size_t len); /* DuckDB's BIGNUM bytes */
void mg_text__blob(struct mg_sb *sb, const uint8_t *bytes, size_t len);
void mg_text__bits(struct mg_sb *sb, const uint8_t *bytes, size_t len); /* first byte: padding */
/* Well-known binary as text; a blob when it is not well-formed. */
void mg_text__geometry(struct mg_sb *sb, const uint8_t *bytes, size_t len);
void mg_text__uuid(struct mg_sb *sb, const uint8_t bytes[16]);

/* iso: "T" between date and time, BC as a negative year; else as DuckDB. */
void mg_text__date(struct mg_sb *sb, int32_t days, bool iso);
void mg_text__time(struct mg_sb *sb, int64_t value, enum mg_time_unit unit);
void mg_text__time_tz(struct mg_sb *sb, uint64_t bits); /* micros << 24 | 57599 - offset seconds */
void mg_text__timestamp(struct mg_sb *sb, int64_t value, enum mg_time_unit unit, bool iso);
void mg_text__interval(struct mg_sb *sb, int32_t months, int32_t days, int64_t micros);
void mg_text__duration(struct mg_sb *sb, int32_t months, int32_t days,
                       int64_t micros); /* P1Y2M3DT4S */

#endif
