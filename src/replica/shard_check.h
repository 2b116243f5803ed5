/*
 * shard_check.h - is this replica of a shard what the others are?
 *
 *     CHECK in the log -> applied: the state at its index is pinned -> summed, beside all else
 *     -> CHECKED in the log, from each replica -> each of them compares
 *
 * Rule: only a sum that was made in this life, of the file that is there now, speaks for this
 * replica; and it is the damaged one only when more than half of all members agree on another sum.
 * With a tie nobody is: people are told.
 *
 * Thread: mark, miss and put on the shard's lane, of keys on the raft thread; take, put_own and
 * give back on the checker's; stop by who replaces the file; the questions by any.
 */
#ifndef MG_REPLICA_SHARD_CHECK_H
#define MG_REPLICA_SHARD_CHECK_H

#include "raft/members.h"
#include "replica/command.h"
#include "store/duck.h"
#include "store/lsm.h"
#include "store/shard_sum.h"

#define MG_CHECK_HOLD_MS (60 * 1000) /* the log and the engine's grow meanwhile */

struct mg_shard_check;

struct mg_shard_check_options {
	struct mg_duck *duck;
	struct mg_lsm *lsm; /* or NULL: it is a shard of tables, in the engine */
	uint32_t shard; /* of tables; those of keys are counted on behind them */
	uint64_t self; /* node */
	uint64_t hold_ms; /* for so long a checkpoint waits for a sum */
	/* Another mark waits to be summed.  Lane; may be NULL. */
	void (*on_mark)(void *arg, uint32_t shard);
	/* More than half of the members, `good`, have another sum.  Any of the threads above. */
	void (*on_differs)(void *arg, uint32_t shard, const struct mg_members *good);
	void *arg;
};

struct mg_shard_check *mg_shard_check_new(const struct mg_shard_check_options *options);
void mg_shard_check_free(struct mg_shard_check *check); /* NULL is fine */

/* The transaction of this index was committed: what the engine shows now is pinned for a sum, in
 * place of what was pinned before and has not been taken.  tables: as mg_shard_writer_tables says,
 * NULL of keys; taken over. */
void mg_shard_check_mark(struct mg_shard_check *check, uint64_t index,
                         const struct mg_checking *mark, char *tables);
/* The same, but nothing could be pinned. */
void mg_shard_check_miss(struct mg_shard_check *check, uint64_t index,
                         const struct mg_checking *mark);
/* What a replica says, as the log has it. */
void mg_shard_check_put(struct mg_shard_check *check, const struct mg_checked *checked);
/* A checkpoint cannot be written, maybe because something is pinned: a sum of it rests no more, and
 * ends when it has been waited for that long.  To be called with each try. */
void mg_shard_check_hurry(struct mg_shard_check *check);
/* The file is another one soon: a sum that is under way ends, and what was pinned is let go.
 * forget: what this replica has said does not speak for the next file. */
void mg_shard_check_stop(struct mg_shard_check *check, bool forget);

/* Take what is pinned: the connection has a transaction open and is the caller's until it is given
 * back, as are the tables.  False: nothing. */
struct mg_check_pin {
	struct mg_duck_conn *conn;
	struct mg_lsm_view *view; /* or conn and tables */
	char *tables;
	uint64_t index;
	uint64_t file; /* which of those that came one after the other */
	bool failed;   /* there is nothing: the replica says that it has no sum */
	bool urgent;
};
bool mg_shard_check_take(struct mg_shard_check *check, struct mg_check_pin *pin);
/* It should be given back soon; a checkpoint waits for it. */
bool mg_shard_check_stopped(struct mg_shard_check *check);
bool mg_shard_check_hurries(struct mg_shard_check *check);
void mg_shard_check_give_back(struct mg_shard_check *check, struct mg_check_pin *pin);
/* What this replica has come to, of the pin's file; false: another one is in its place, for which
 * that does not speak. */
bool mg_shard_check_put_own(struct mg_shard_check *check, uint64_t file,
                            const struct mg_checked *own);

/* The newest mark and what was said of it. */
struct mg_check_state {
	uint64_t index; /* 0: there was none in this life */
	uint64_t ms;    /* mg_clock_ms, when it was applied here */
	uint32_t members;
	struct mg_checked said[MG_MEMBERS_MAX];
	size_t count;
};
void mg_shard_check_state(struct mg_shard_check *check, struct mg_check_state *out);
/* Those that have a sum have the same: who could not make one has not said that it differs. */
bool mg_check_all_same(const struct mg_check_state *state);
/* The sum that more than half of the members have; NULL: there is none (yet). */
const struct mg_checked *mg_check_majority(const struct mg_check_state *state);
bool mg_checked_same(const struct mg_checked *a, const struct mg_checked *b);

#endif
