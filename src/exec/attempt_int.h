/* attempt_int.h - struct mg_attempt from the inside: for attempt.c and attempt_pin.c only. */
#ifndef MG_EXEC_ATTEMPT_INT_H
#define MG_EXEC_ATTEMPT_INT_H

#include "exec/attempt.h"

#include <pthread.h>
#include <stdatomic.h>

enum part_state { PART_IDLE, PART_RUNNING, PART_RAN, PART_FAILED };

struct part {
	struct mg_attempt_part info;
	struct mg_worker *worker; /* NULL: this server */
	enum part_state state;
	struct mg_exec_stats stats;
	struct mg_exec_reads reads; /* with options.profile */
	struct mg_error err;
	bool opened;
	/* For its snapshot: it has not answered; it has got it; it is not there any more. */
	bool asked, pinned, lost;
};

struct mg_attempt {
	atomic_int refs;
	struct mg_attempt_options options;
	struct mg_arena *arena;
	struct mg_spool_budget budget;
	struct mg_participant *local;
	struct part *parts;
	size_t part_count;
	uint16_t owner[MG_SLOT_COUNT];
	uint64_t number; /* in frames */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t stage; /* that runs, or 0 */
	bool copy_few;  /* of that stage */
	bool cancelled, lost, closed, finishing;
	bool pinning;    /* who takes part is not settled */
	uint32_t missed; /* workers that had not what is read in time */
	uint64_t moved_bytes, moved_rows, rows_seen, bytes_seen;
};

/* Workers take their snapshots, each of what it was given, at the indexes that our own has, which
 * lists them by shard.  Who has not within MG_ATTEMPT_PIN_MS is no part any more, and its shards
 * are ours.  Query's thread. */
void mg_attempt__pin(struct mg_attempt *attempt, const uint32_t *shards, const uint64_t *at,
                     size_t count);

#endif
