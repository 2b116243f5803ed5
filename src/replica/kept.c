/*
 * kept.c - what a shard's file must say of itself, and what becomes of one that is damaged: it is
 * kept under another name, beside the others, for people to look at; of each shard the newest two.
 *
 * Thread: any; one at a time for a shard.
 */
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { KEPT_MAX = 2 };

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

static bool is_kept(const char *name, uint32_t shard)
{
	char *start = mg_format("damaged-%04" PRIu32 "-", shard);
	bool kept = strncmp(name, start, strlen(start)) == 0;

	mg_free(start);
	return kept;
}

/* Names sort by their time. */
static void remove_old(const char *shards, uint32_t shard)
{
	char **names = NULL;
	struct mg_error ignored;
	size_t count = 0, kept = 0;

	if (mg_dir_list(shards, &names, &count, &ignored)) {
		return;
	}
	for (;;) {
		const char *oldest = NULL;

		kept = 0;
		for (size_t i = 0; i < count; i++) {
			if (names[i] && is_kept(names[i], shard)) {
				kept++;
				oldest = !oldest || strcmp(names[i], oldest) < 0 ? names[i] : oldest;
			}
		}
		if (kept < KEPT_MAX) {
			break;
		}
		char *path = mg_path_join(shards, oldest);

		(void)mg_file_remove(path, &ignored);
		mg_free(path);
		for (size_t i = 0; i < count; i++) {
			names[i] = names[i] == oldest ? NULL : names[i];
		}
	}
	mg_free(names);
}

char *mg_replica_kept_path(const char *dir, uint32_t shard)
{
	char *shards = mg_path_join(dir, "shards");
	time_t now = (time_t)(mg_clock_wall_ms() / 1000);
	struct tm at;
	char text[32];

	remove_old(shards, shard);
	(void)gmtime_r(&now, &at);
	(void)strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &at);
	char *path = mg_format("%s/damaged-%04" PRIu32 "-%s.duckdb", shards, shard, text);

	mg_free(shards);
	return path;
}
