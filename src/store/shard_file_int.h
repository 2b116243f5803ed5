/* shard_file_int.h - what shard_file.c gives to shard_layout.c alone. */
#ifndef MG_STORE_SHARD_FILE_INT_H
#define MG_STORE_SHARD_FILE_INT_H

#include "store/shard_file.h"

/* As mg_shard_file_create, for the file that shall be `path`: made as "path.ending", attached as
 * "prefix<shard>". */
int mg_shard_file__create(struct mg_shard_file **out, struct mg_duck *duck, const char *path,
                          const char *ending, const char *prefix, const struct mg_shard_meta *meta,
                          struct mg_error *err);

#endif
