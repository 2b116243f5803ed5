/*
 * sample_child.c - the life of a generator process: make parts, split them by shard, write frames.
 *
 *   PROGRAM sample-generator SET SCALE PARTS FIRST STRIDE SHARDS REFERENCE BYTES SPILL_DIR
 *
 * It makes parts FIRST, FIRST + STRIDE, ... below PARTS, each in an in-memory database that is gone
 * before the next; standard output blocks when the starter has enough.  It is started by
 * sample_feed.c alone and ends with its starter.
 *
 * Memory: one part, and one batch for each of at most TARGETS_MAX shards.
 */
#include "server/sample_int.h"

#include "codec/arrow_ipc.h"
#include "codec/slot.h"
#include "os/pipe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS 10
#define IN 0
#define OUT 1
/* Rows for so many shards are split in one pass over a part; more shards, more passes. */
#define TARGETS_MAX 48

struct child {
	const struct mg_sample_set *set;
	double scale_factor;
	uint32_t parts, first, stride, shards;
	bool reference;
	uint64_t memory_bytes;
	const char *spill_dir;
	uint16_t owner[MG_SLOTS]; /* shard from 0, of all */
	uint16_t local[MG_SLOTS]; /* target of the pass at hand: shard - pass_first, or the last one */
	struct mg_arrow_encoder *encoders[MG_SAMPLE_TABLES_MAX];
	uint32_t table; /* being sent */
	uint32_t pass_first, pass_count;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
};

/* ---- frames ---- */

static int send(uint32_t kind, uint32_t table, uint32_t number, const void *bytes, size_t size,
                struct mg_error *err)
{
	struct mg_sample_frame frame = {
		.kind = kind, .table = table, .number = number, .size = (uint32_t)size
	};
	if (size > MG_SAMPLE_FRAME_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "a batch of %zu bytes is too large to be sent", size);
	}
	int rc = mg_pipe_write(OUT, &frame, sizeof frame, err);
	return rc == 0 && size > 0 ? mg_pipe_write(OUT, bytes, size, err) : rc;
}

static int send_error(const struct mg_error *err)
{
	char text[sizeof err->message + sizeof err->hint];
	size_t message = strlen(err->message) + 1;
	memcpy(text, err->message, message);
	memcpy(text + message, err->hint, strlen(err->hint) + 1);
	return send(MG_SAMPLE_ERROR, 0, (uint32_t)err->code, text, message + strlen(err->hint) + 1,
	            NULL);
}

static int begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct child *child = arg;
	struct mg_arrow_encoder **encoder = &child->encoders[child->table];
	struct mg_buf *message = NULL;
	if (*encoder) {
		return 0;
	}
	int rc = mg_arrow_encoder_new(encoder, schema, false, err);
	if (rc == 0) {
		rc = mg_arrow_encode_schema(*encoder, &message, err);
	}
	if (rc == 0) {
		rc = send(MG_SAMPLE_SCHEMA, child->table, 0, message->data, message->size, err);
	}
	mg_buf_unref(message);
	return rc;
}

static int put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct child *child = arg;
	struct mg_buf *message = NULL;
	uint64_t raw = 0;
	if (target >= child->pass_count) {
		return 0; /* of a shard that is not to be made */
	}
	int rc = mg_arrow_encode_batch(child->encoders[child->table], batch, &message, &raw, err);
	if (rc == 0) {
		rc = send(MG_SAMPLE_BATCH, child->table, child->pass_first + target, message->data,
		          message->size, err);
	}
	mg_buf_unref(message);
	return rc;
}

/* ---- a part ---- */

/* Targets of the shards from pass_first on, and the slots from the first to the last wanted one;
 * false when none of them is wanted. */
static bool pass_plan(struct child *child, uint32_t *slot_first, uint32_t *slot_last)
{
	bool any = false;
	for (uint32_t slot = 0; slot < MG_SLOTS; slot++) {
		uint32_t shard = child->owner[slot];
		bool ours = shard >= child->pass_first && shard < child->pass_first + child->pass_count;
		child->local[slot] = (uint16_t)(ours ? shard - child->pass_first : child->pass_count);
		if (ours) {
			*slot_first = any ? *slot_first : slot;
			*slot_last = slot;
			any = true;
		}
	}
	return any;
}

static int send_keyed(struct child *child, const struct mg_sample_def *table, struct mg_error *err)
{
	struct mg_duck_sink sink = { .begin = begin, .put = put, .arg = child };
	int rc = 0;
	for (uint32_t from = 0; rc == 0 && from < child->shards; from += TARGETS_MAX) {
		uint32_t left = child->shards - from;
		uint32_t first = 0;
		uint32_t last = 0;
		child->pass_first = from;
		child->pass_count = left < TARGETS_MAX ? left : TARGETS_MAX;
		if (!pass_plan(child, &first, &last)) {
			continue;
		}
		char *where =
			first == 0 && last == MG_SLOTS - 1
				? mg_strdup("")
				: mg_format(" WHERE mg_slot(%s) BETWEEN %u AND %u", table->key, first, last);
		char *sql = mg_format("SELECT *, mg_slot(%s) AS _mg_slot, mg_slot(%s) FROM g.main.%s%s",
		                      table->key, table->key, table->name, where);
		rc = mg_duck_scatter(child->conn, sql, child->local, child->pass_count + 1, &sink, err);
		mg_free(sql);
		mg_free(where);
	}
	return rc;
}

static int send_reference(struct child *child, const struct mg_sample_def *table,
                          struct mg_error *err)
{
	struct mg_duck_sink sink = { .begin = begin, .put = put, .arg = child };
	char *sql = mg_format("SELECT * FROM g.main.%s", table->name);
	child->pass_first = 0;
	child->pass_count = 1;
	int rc = mg_duck_scatter(child->conn, sql, NULL, 1, &sink, err);
	mg_free(sql);
	return rc;
}

static int part_run(struct child *child, uint32_t part, struct mg_error *err)
{
	const struct mg_sample_set *set = child->set;
	int rc = mg_duck_exec(child->conn, "ATTACH ':memory:' AS g", err);
	if (rc == 0) {
		rc = set->make(child->conn, child->scale_factor, child->parts, part, "g", err);
	}
	for (child->table = 0; rc == 0 && child->table < set->count; child->table++) {
		const struct mg_sample_def *table = &set->tables[child->table];
		if (table->key) {
			rc = send_keyed(child, table, err);
		} else if (child->reference) {
			rc = send_reference(child, table, err);
		}
	}
	if (rc == 0) {
		rc = send(MG_SAMPLE_PART_END, 0, part, NULL, 0, err);
	}
	return rc == 0 ? mg_duck_exec(child->conn, "DETACH g", err) : rc;
}

static int run(struct child *child, struct mg_error *err)
{
	struct mg_duck_options options = {
		.threads = 1, /* rows keep their order, and the parts are what is parallel */
		.memory_bytes = child->memory_bytes,
		.spill_dir = child->spill_dir,
	};
	int rc = mg_pipe_read(IN, child->owner, sizeof child->owner, NULL, NULL, err);
	if (rc == 0) {
		rc = mg_duck_open(&child->duck, &options, err);
	}
	if (rc == 0) {
		rc = mg_duck_load_tpch(child->duck, err);
	}
	if (rc == 0) {
		rc = mg_duck_connect(child->duck, &child->conn, err);
	}
	for (uint64_t part = child->first; rc == 0 && part < child->parts; part += child->stride) {
		rc = part_run(child, (uint32_t)part, err);
	}
	return rc;
}

/* ---- the process ---- */

static bool parse(struct child *child, char *const *argv)
{
	child->set = mg_sample_set_find(argv[1]);
	child->scale_factor = strtod(argv[2], NULL);
	child->parts = (uint32_t)strtoul(argv[3], NULL, 10);
	child->first = (uint32_t)strtoul(argv[4], NULL, 10);
	child->stride = (uint32_t)strtoul(argv[5], NULL, 10);
	child->shards = (uint32_t)strtoul(argv[6], NULL, 10);
	child->reference = strcmp(argv[7], "1") == 0;
	child->memory_bytes = strtoull(argv[8], NULL, 10);
	child->spill_dir = argv[9];
	return child->set && child->scale_factor > 0 && child->parts > 0 && child->stride > 0 &&
	       child->shards > 0 && child->shards < MG_SAMPLE_NOBODY;
}

int mg_sample_child_main(int argc, char *const *argv)
{
	struct mg_error err;
	struct child *child = mg_alloc0(sizeof *child);
	signal(SIGPIPE, SIG_IGN);
	if (argc != ARGUMENTS || !parse(child, argv)) {
		fprintf(stderr, "%s: this is a part of merganser bootstrap, which starts it\n", argv[0]);
		mg_free(child);
		return 1;
	}
	mg_error_clear(&err);
	mg_pipe_widen(OUT);
	int rc = run(child, &err);
	if (rc != 0) {
		(void)send_error(&err);
	}
	for (size_t t = 0; t < child->set->count; t++) {
		mg_arrow_encoder_free(child->encoders[t]);
	}
	mg_duck_disconnect(child->conn);
	mg_duck_close(child->duck);
	mg_free(child);
	return rc == 0 ? 0 : 1;
}
