/*
 * feed_token.c - see feed_token.h.
 */
#include "exec/feed_token.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

uint32_t mg_feed_token_table(const char *schema, const char *stored)
{
	return (uint32_t)XXH3_64bits_withSeed(stored, strlen(stored),
	                                      XXH3_64bits(schema, strlen(schema)));
}

void mg_feed_token_add(struct mg_sb *out, uint32_t table, const struct mg_feed_place *places,
                       size_t count)
{
	mg_sb_addf(out, "v1.%08" PRIx32, table);
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(out, ".%" PRIu32 "-%" PRIu64, places[i].shard, places[i].index);
	}
}

/* A number and the character that must follow it. */
static bool take(const char **at, int base, char end, uint64_t *out)
{
	char *rest = NULL;

	if (!isxdigit((unsigned char)**at)) {
		return false; /* strtoull would take blanks and signs */
	}
	errno = 0;
	*out = strtoull(*at, &rest, base);
	if (errno || (*rest != end && *rest != '\0')) {
		return false;
	}
	*at = *rest ? rest + 1 : rest;
	return *rest == end || end == '.';
}

static int refuse(const char *text, struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE, "from is now, start, kept or a token, not \"%.40s\"", text);
	mg_error_hint(err, "Tokens come with the events \"resolved\" of a feed.");
	return MG_E_USAGE;
}

static int say_other(struct mg_error *err)
{
	mg_error_set(err, MG_E_GONE,
	             "the token is of another table, or of this one before it was made anew");
	mg_error_hint(err, "Begin again with a snapshot: from=start.");
	return MG_E_GONE;
}

int mg_feed_token_parse(const char *text, uint32_t table, struct mg_feed_place *places,
                        size_t count, struct mg_error *err)
{
	const char *at = text;
	uint64_t number = 0, index = 0;
	bool same = true;
	size_t i = 0;

	if (strncmp(at, "v1.", 3) != 0) {
		return refuse(text, err);
	}
	at += 3;
	if (!take(&at, 16, '.', &number)) {
		return refuse(text, err);
	}
	same = number == table;
	for (; *at; i++) {
		if (!take(&at, 10, '-', &number) || !take(&at, 10, '.', &index)) {
			return refuse(text, err);
		}
		same = same && i < count && places[i].shard == number;
		if (same) {
			places[i].index = index;
		}
	}
	return same && i == count ? 0 : say_other(err);
}
