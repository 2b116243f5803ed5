/*
 * kept.c - what a shard's file must say of itself, and what becomes of one that is damaged: it is
 * kept under another name, beside the others, for people to look at; of each shard the newest two.
 *
 * Thread: any; one at a time for a shard.
 */
#include "base/str.h"
#include "os/file.h"
#include "replica/replica.h"

#include <inttypes.h>

void mg_replica_shard_meta(const struct mg_catalog_data *data, uint32_t shard,
                           struct mg_shard_meta *out)
{
	*out = (struct mg_shard_meta){
		.cluster_id = data->cluster_id,
		.sample = data->sample ? data->sample : "",
		.shard = data->shards[shard].id,
		.shard_count = data->shard_count,
		.slot_first = data->shards[shard].slot_first,
		.slot_last = data->shards[shard].slot_last,
		.file_format = MG_FILE_FORMAT,
	};
}

char *mg_replica_kept_path(const char *dir, uint32_t shard)
{
	char *shards = mg_path_join(dir, "shards");
	char *prefix = mg_format("damaged-%04" PRIu32 "-", shard);
	char *kept = mg_dir_keep(shards, prefix);
	char *path = mg_format("%s.duckdb", kept);

	mg_free(kept);
	mg_free(prefix);
	mg_free(shards);
	return path;
}
