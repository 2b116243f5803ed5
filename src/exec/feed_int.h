/* feed_int.h - a feed from the inside: for feed.c, feed_rows.c and feed_snapshot.c only. */
#ifndef MG_EXEC_FEED_INT_H
#define MG_EXEC_FEED_INT_H

#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"
#include "exec/feed.h"
#include "exec/feed_token.h"
#include "replica/changes_log.h"
#include "store/spool.h"

/* Columns of batches, made readable. */
struct mg_feed_shape {
	struct mg_buf *schema; /* that it was made of */
	struct mg_arrow_decoder *decoder;
	struct mg_arrow_view *view;
};

/* Where a row as it was lies in its shard's spool. */
struct mg_feed_old {
	int64_t rid;
	uint32_t batch, row;
};

struct mg_feed_shard {
	uint32_t shard;
	struct mg_changes_log *log;
	struct mg_changes_reader *reader;
	uint64_t target;     /* what has to be told when the feed does not follow */
	uint64_t index, n;   /* of the entry that is being told */
	bool telling;        /* inside of that entry */
	bool over;           /* its part of the table is gone */
	struct mg_feed_old *old; /* of the operation that comes next */
	size_t old_count, old_cap;
	struct mg_spool *old_rows; /* their batches; NULL: there are none */
};

struct mg_feed {
	const struct mg_feed_options *options;
	struct mg_arena *arena;
	const char *schema, *table, *stored;
	const char **columns;
	size_t column_count;
	uint32_t token_table;
	uint64_t version; /* of the catalog, that columns are of */
	struct mg_feed_shard *shards;
	struct mg_feed_place *places; /* what has been told, by shard */
	size_t count;
	uint64_t rows;      /* told */
	bool untold;        /* places are ahead of the last token */
	uint64_t token_ms;  /* when it was told */
	struct mg_feed_shape shape, old_shape;
	struct mg_spool_budget old_budget;
	const struct mg_spool *old_spool; /* of which old_shape shows a batch; NULL: of none */
	uint32_t old_batch;
	struct ArrowArray old_array; /* that batch */
	struct mg_sb row, old_row, commit, token;
};

/* ---- feed_rows.c ---- */
/* A record of the table; told, or kept for the next one. */
int mg_feed__record(struct mg_feed *feed, struct mg_feed_shard *shard,
                    const struct mg_changes_record *record, struct mg_buf *columns,
                    struct mg_error *err);
void mg_feed__forget_old(struct mg_feed *feed, struct mg_feed_shard *shard);
/* Fails: MG_E_CORRUPT; schema: borrowed. */
int mg_feed__shape_of(struct mg_feed_shape *shape, struct mg_buf *schema, struct mg_error *err);
void mg_feed__shape_fini(struct mg_feed_shape *shape);
/* An Arrow batch, in the shape's view until array is released. */
int mg_feed__batch_of(struct mg_feed_shape *shape, const void *data, size_t size,
                      struct ArrowArray *array, struct mg_error *err);
/* A row as a JSON object: the columns from `first` on, without `last` ones. */
void mg_feed__add_row(const struct mg_feed *feed, const struct mg_feed_shape *shape, int64_t row,
                      size_t first, size_t last, struct mg_sb *out);
/* The column of ids. */
const int64_t *mg_feed__rids(const struct ArrowArray *array);
int mg_feed__tell(struct mg_feed *feed, const struct mg_feed_event *event, struct mg_error *err);

/* ---- feed_snapshot.c ---- */
/* For rows that wait: MG_FEED_MEMORY_BYTES in memory, and then on disk. */
#define MG_FEED_MEMORY_BYTES (8u << 20)
void mg_feed__budget(const struct mg_feed *feed, struct mg_spool_budget *budget);
/* The rows of the shard, told; and the index behind which it goes on. */
int mg_feed__snapshot(struct mg_feed *feed, struct mg_feed_shard *shard, uint64_t *index,
                      struct mg_error *err);

#endif
