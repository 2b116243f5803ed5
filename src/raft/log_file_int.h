/*
 * log_file_int.h - the inside of a log on files: for log_file.c, log_segment.c, log_recover.c.
 */
#ifndef MG_RAFT_LOG_FILE_INT_H
#define MG_RAFT_LOG_FILE_INT_H

#include "raft/log_file.h"
#include "raft/log_index.h"

#include <stdatomic.h>

#define MG_LOG_SEGMENT_HEAD 4096u
#define MG_LOG_SPARES_MAX 2
#define MG_LOG_SEGMENTS_KEEP 4 /* up to here nothing is rewritten to free a segment */

struct mg_log_segment {
	uint32_t number;            /* from 1 */
	uint32_t capacity;          /* bytes of the file */
	uint32_t used;              /* given to records; those of the gathering batch too */
	struct mg_disk_file *file;  /* NULL: waits for a spare */
	char name[MG_DISK_NAME_MAX]; /* what the file is called now */
	int items;                  /* that count, see log_index.h */
	int64_t bytes;
	uint64_t free_after;        /* batch that took the last item away */
};

/* Records that lie one after the other in one segment. */
struct mg_log_piece {
	struct mg_log_segment *segment;
	uint32_t number, offset; /* of the segment, which may be gone; where it starts */
	uint8_t *bytes;
	size_t size, cap, last; /* last: where the last record starts */
	bool fresh;             /* the segment begins with it */
};

struct mg_log_wait {
	mg_raft_log_done done;
	void *arg;
	uint64_t sequence;
};

struct mg_log_file;

struct mg_log_batch {
	struct mg_log_file *log;
	uint64_t number;
	struct mg_log_piece *pieces;
	size_t piece_count, piece_cap;
	struct mg_log_wait *waits;
	size_t wait_count, wait_cap;
	/* The lane's answer: the rest is read when finished is true. */
	atomic_bool finished;
	int code;
	struct mg_error err;
	uint64_t free_bytes;
};

/* A spare that is being made, of nothing or of a segment that went. */
struct mg_log_fill {
	struct mg_log_file *log;
	char from[MG_DISK_NAME_MAX]; /* "": write a new one */
	char name[MG_DISK_NAME_MAX];
	struct mg_disk_file *file;
	uint32_t capacity;
	atomic_bool finished;
	int code;
	struct mg_error err;
};

struct mg_log_spare {
	char name[MG_DISK_NAME_MAX];
	struct mg_disk_file *file;
	uint32_t capacity;
};

struct mg_log_file {
	struct mg_raft_log base;
	struct mg_log_file_options options;
	struct mg_log_index index;
	struct mg_log_segment **segments; /* oldest first, numbers without a gap */
	size_t segment_count, segment_cap;

	struct mg_log_batch *gather, *writing; /* writing: on the disk's lane, or NULL */
	bool flushed;                          /* gather may go as soon as it can */
	uint64_t sequence;                     /* of the last put */
	uint64_t durable_batch;

	struct mg_log_piece *cache; /* written ones, oldest first */
	size_t cache_count, cache_cap, cache_bytes;

	struct mg_log_spare spares[MG_LOG_SPARES_MAX];
	size_t spare_count;
	uint32_t spare_next; /* number in the next spare's name */
	struct mg_log_fill *fill;
	unsigned fill_pause, fill_wait; /* after a failure: flushes until the next try */

	uint32_t rewriting; /* segment whose items are being rewritten, or 0 */
	uint32_t rewrite_group;
	uint64_t rewrite_entry;
	bool rewrite_off; /* what was to be rewritten could not be read */

	uint64_t free_bytes;
	int failed; /* code that failed the log */
	struct mg_log_file_stats stats;
};

/* ---- log_file.c ---- */
struct mg_log_batch *mg_log__batch_new(struct mg_log_file *log, uint64_t number);
/* Put a record of ours or the host's into the gathering batch. */
void mg_log__append(struct mg_log_file *log, struct mg_log_head *head, const uint8_t *payload);
/* The record at place, from memory or the disk, checked; *heap is to be freed by the caller. */
int mg_log__payload(struct mg_log_file *log, uint32_t group, uint64_t index,
                    const struct mg_log_place *place, const uint8_t **payload, uint8_t **heap,
                    struct mg_error *err);

/* ---- log_segment.c ---- */
void mg_log__name(char out[MG_DISK_NAME_MAX], uint32_t number);
struct mg_log_segment *mg_log__segment(struct mg_log_file *log, uint32_t number);
struct mg_log_segment *mg_log__add_segment(struct mg_log_file *log, uint32_t number,
                                           uint32_t capacity);
void mg_log__count(void *arg, uint32_t segment, int items, int64_t bytes);
/* Give the segment a file from the spares; false: there is none yet. */
bool mg_log__take_spare(struct mg_log_file *log, struct mg_log_segment *segment);
/* Write the head of a segment and give its file its name; on the lane. */
int mg_log__activate(struct mg_log_file *log, struct mg_log_segment *segment,
                     struct mg_error *err);
bool mg_log__head_valid(const uint8_t head[MG_LOG_SEGMENT_HEAD], uint32_t number);
void mg_log__spares_poll(struct mg_log_file *log); /* take what was filled, start what is needed */
void mg_log__free_segments(struct mg_log_file *log);
void mg_log__rewrite(struct mg_log_file *log); /* some of the oldest segment's items, if it pays */

/* ---- log_recover.c ---- */
int mg_log__recover(struct mg_log_file *log, struct mg_error *err);

#endif
