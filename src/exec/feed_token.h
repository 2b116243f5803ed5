/*
 * feed_token.h - a place in the changes of a table, as text for clients: "v1.TABLE.SHARD-INDEX...".
 *
 * TABLE is a check of the table's name in the shards' files, which is another one after it was
 * dropped and made again.  The indexes are those of the groups' logs, so that every server
 * understands it.  Pure; any thread.
 */
#ifndef MG_EXEC_FEED_TOKEN_H
#define MG_EXEC_FEED_TOKEN_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

struct mg_feed_place {
	uint32_t shard;
	uint64_t index; /* all up to it has been told */
};

uint32_t mg_feed_token_table(const char *schema, const char *stored);
void mg_feed_token_add(struct mg_sb *out, uint32_t table, const struct mg_feed_place *places,
                       size_t count);
/* places: with their shards, in order; their indexes are filled in.  Fails: MG_E_USAGE it is no
 * token; MG_E_GONE it is one of another table, or of other shards. */
int mg_feed_token_parse(const char *text, uint32_t table, struct mg_feed_place *places,
                        size_t count, struct mg_error *err);

#endif
