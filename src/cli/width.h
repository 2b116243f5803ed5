/*
 * width.h - how many columns of a terminal a text takes.
 * Pure; any thread.
 */
#ifndef MG_CLI_WIDTH_H
#define MG_CLI_WIDTH_H

#include "base/str.h"

/* Columns of UTF-8 text: 2 for East Asian wide characters and emoji, 0 for combining marks; a byte
 * that is no UTF-8 counts as one. */
size_t mg_width(const char *text, size_t len);
/* Bytes of the longest beginning that takes at most `columns`. */
size_t mg_width_cut(const char *text, size_t len, size_t columns);
/* Bytes of the character at text (at least 1 when len > 0), and its code point; U+FFFD when bad. */
size_t mg_utf8_next(const char *text, size_t len, uint32_t *codepoint);

#endif
