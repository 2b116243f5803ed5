/*
 * cuts.h - several shards of this node, read as of one moment: each transaction over several of
 * them is seen in all of these or in none.
 *
 * A commit over several shards has a number, which rises, and names its shards (command.h).  In
 * the log of each shard commits stand in the order of their numbers.  So one vector says all of a
 * shard as it is here: seen[B] is the highest commit that it holds and that shard B takes part in,
 * too.  It follows from the shard's log alone, and goes into checkpoints and snapshots with it.
 *
 * Rule: a set of shards is a cut when each A of them has seen of each B of them no more than B
 * itself: seen of A[B] <= seen of B[B].  Then what A holds of a commit, B holds.
 *
 *     lane:    enter (a commit is about to be applied) -> publish_begin -> it becomes visible
 *              -> publish_end
 *     reader:  begin (it is a cut now) -> its transaction touches the shards -> end
 *
 * While a reader touches, nothing is published; while a lane waits to publish, no reader begins.
 * Where the shards make no cut, because one is behind, readers wait, and meanwhile no lane goes
 * beyond the highest commit that any has entered, so that they come together; that lasts for
 * MG_CUTS_HOLD_MS at most, and then for as long it is not done again.  A lane that waits has
 * published all before.
 *
 * Who reads one shard needs no cut of it, but what it is shown of the last commit there another
 * shard's group may not have yet, and then who reads that one next would miss it.  So before it
 * answers, and after its snapshot was taken, such a reader waits until the commit is told: each
 * shard of it has accepted it (its group's log holds it).  Nothing is held for that.
 *
 * A shard is blind while it may hold a commit whose shards are not known, of an earlier version of
 * the log: until a fence of this version, behind which all are known, and until what is in doubt of
 * before is settled and forgotten.  It makes a cut with no other.
 *
 * Thread: any; a lane is one thread.
 */
#ifndef MG_REPLICA_CUTS_H
#define MG_REPLICA_CUTS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_CUTS_HOLD_MS 250

struct mg_cuts;

struct mg_cuts *mg_cuts_new(size_t count); /* shards, from 0 */
void mg_cuts_free(struct mg_cuts *cuts);   /* nobody waits; NULL is fine */
size_t mg_cuts_count(const struct mg_cuts *cuts);
/* What a reader calls that is about to wait: lanes that take their time are to apply what they
 * have; and while it waits: is one of these lanes at work?  Before there are readers. */
void mg_cuts_on_wait(struct mg_cuts *cuts, void (*hurry)(void *arg),
                     bool (*moves)(void *arg, const uint32_t *shards, size_t count), void *arg);

/* ---- lanes ---- */

/* The lane is about to apply this commit.  False: readers wait for those before it.  Then what the
 * lane has applied is to be published, and after that it waits in enter. */
bool mg_cuts_try_enter(struct mg_cuts *cuts, uint64_t number, uint64_t now_ms);
void mg_cuts_enter(struct mg_cuts *cuts, uint64_t number);
/* Between these what the shard holds may be seen as it was or as it will be.  seen: of all shards,
 * copied; NULL: as before, it came to nothing. */
bool mg_cuts_try_publish(struct mg_cuts *cuts, uint32_t shard);
void mg_cuts_publish_begin(struct mg_cuts *cuts, uint32_t shard);
void mg_cuts_publish_end(struct mg_cuts *cuts, uint32_t shard, const uint64_t *seen, bool blind);

/* The shard's log holds this commit, which no fence refuses; it may be applied later. */
void mg_cuts_accept(struct mg_cuts *cuts, uint32_t shard, uint64_t number);

/* The highest commit that any shard here has entered; 0: none. */
uint64_t mg_cuts_highest(struct mg_cuts *cuts);

/* A reader waits until shards have come together: what comes now is to be applied at once. */
bool mg_cuts_awaited(struct mg_cuts *cuts);

/* ---- readers ---- */

struct mg_cut {
	const uint32_t *shards; /* borrowed */
	size_t count;
	bool patient; /* only the time counts in which no lane is at work that they wait for */
	bool waits;   /* ours */
};

/* True: it has begun.  False: not yet, and lanes know that somebody waits, until it begins or
 * gives up. */
bool mg_cuts_try_begin(struct mg_cuts *cuts, struct mg_cut *cut, uint64_t now_ms);
void mg_cuts_give_up(struct mg_cuts *cuts, struct mg_cut *cut);
/* *waited_ms: for how long.  stopped: asked meanwhile; may be NULL.  Fails: MG_E_UNAVAILABLE in
 * wait_ms they have not come together; MG_E_CANCELLED. */
int mg_cuts_begin(struct mg_cuts *cuts, struct mg_cut *cut, unsigned wait_ms,
                  bool (*stopped)(void *arg), void *arg, uint64_t *waited_ms,
                  struct mg_error *err);
void mg_cuts_end(struct mg_cuts *cuts); /* of one that has begun */

/* A reader of one shard whose snapshot was taken. */
struct mg_cuts_told {
	uint32_t shard;
	bool noted;      /* ours */
	uint64_t number; /* ours: the last commit that it may have seen */
};

/* True: whoever reads any other shard from now on sees what this reader has seen. */
bool mg_cuts_try_told(struct mg_cuts *cuts, struct mg_cuts_told *told);
/* Until then; as mg_cuts_begin, and nothing is to be ended. */
int mg_cuts_await_told(struct mg_cuts *cuts, uint32_t shard, unsigned wait_ms,
                       bool (*stopped)(void *arg), void *arg, struct mg_error *err);
/* Another shard shows a commit that this one takes part in and does not show yet. */
bool mg_cuts_is_behind(struct mg_cuts *cuts, uint32_t shard);

#endif
