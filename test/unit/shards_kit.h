/*
 * shards_kit.h - what tests of mg_replica share: a data directory with a catalog and empty shards,
 * and rows for a redo.
 */
#ifndef MG_TEST_SHARDS_KIT_H
#define MG_TEST_SHARDS_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/file.h"
#include "replica/replica.h"
#include "store/shard_file.h"
#include "unit/batch_kit.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 3 };

static struct mg_error err; /* of the test's main thread */

#define ok(call)                                                             \
	do {                                                                     \
		int code_ = (call);                                                  \
		if (code_) {                                                         \
			fail_msg("%s: %d %s %s", #call, code_, err.message, err.detail); \
		}                                                                    \
	} while (0)

/* ---- a directory ---- */

static int lay_out(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                   struct mg_error *error)
{
	(void)arg;
	(void)error;
	data->shard_count = SHARDS;
	data->shards = mg_arena_new_array(arena, struct mg_shard, SHARDS + 1);
	for (uint32_t i = 0; i <= SHARDS; i++) {
		data->shards[i].id = i;
		data->shards[i].file = mg_shard_file_name(arena, i);
		data->shards[i].engine_version = mg_duck_version();
		data->shards[i].slot_first = i ? (uint16_t)((i - 1) * 16384 / SHARDS) : 0;
		data->shards[i].slot_last = i ? (uint16_t)(i * 16384 / SHARDS - 1) : 0;
	}
	return 0;
}

/* Owns: the caller, who removes and frees it. */
static char *make_directory(void)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	char name[] = "/tmp/mg-replica-XXXXXX";
	char *dir = mg_strdup(mkdtemp(name)), *shards = mg_format("%s/shards", dir);
	struct mg_catalog *catalog = NULL;
	struct mg_duck *duck = NULL;

	ok(mg_dir_make(shards, 0700, &err));
	ok(mg_catalog_new(&catalog, dir, &err));
	ok(mg_catalog_change(catalog, lay_out, NULL, &err));
	mg_catalog_free(catalog);
	ok(mg_duck_open(&duck, &options, &err));
	for (uint32_t i = 0; i <= SHARDS; i++) {
		const struct mg_shard_meta meta = {
			.cluster_id = "c", .sample = "", .shard = i, .shard_count = SHARDS, .file_format = 1
		};
		struct mg_shard_file *file = NULL;
		char sha256[65];
		uint64_t bytes;

		ok(mg_shard_file_create(&file, duck, dir, &meta, &err));
		ok(mg_shard_file_finish(file, sha256, &bytes, &err));
	}
	mg_duck_close(duck);
	mg_free(shards);
	return dir;
}

/* ---- rows ---- */

static void add_rows(struct mg_duck_conn *on, struct mg_redo *redo, uint32_t shard,
                     enum mg_redo_kind kind, const char *select, uint32_t rows)
{
	struct batch batch;

	ok(batch_make(&batch, on, select, &err));
	ok(mg_redo_rows(redo, shard, kind, "main", "t", batch.schema, batch.rows, rows, &err));
	batch_fini(&batch);
}

#endif
