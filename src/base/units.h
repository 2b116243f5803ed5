/*
 * units.h - sizes and times as people write them.
 *
 * Pure; any thread.
 */
#ifndef MG_BASE_UNITS_H
#define MG_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

/* "4GiB", "1.5 MB" to bytes; without a unit it is bytes.  False: it is no such thing. */
bool mg_parse_size(const char *text, uint64_t *bytes);
/* "500ms", "30s", "1 hour" to milliseconds; without a unit it is seconds. */
bool mg_parse_ms(const char *text, uint64_t *ms);

#endif
