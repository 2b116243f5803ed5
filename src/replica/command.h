/*
 * command.h - a command of a shard's group, as the log holds it.
 *
 *     u8 version (3)   u8 kind   u64 epoch   then by kind
 *     WRITE                  redo (redo.h)
 *     PREPARE                transaction (16 bytes)   u32 home   redo: one part of several, maybe
 *     DECIDE                 transaction   u8 commit   u64 number   shards: u32 each, to the end
 *                            (to the home shard's group only; an abort has number 0 and no shards)
 *     COMMIT                 transaction   u64 number   shards, as in DECIDE
 *     ABORT, FORGET          transaction
 *     FENCE                  nothing: from now on this epoch, or a higher one
 *     CHECK                  u32 members of the group   u8 urgent
 *     CHECKED                u64 node   u64 index of the CHECK   u8 status   u64 rows   16 bytes
 *
 * The epoch says which coordinator of writes speaks.  Behind a FENCE commands of a lower one are
 * refused: they change nothing.  Entries of version 1 have no epoch, which is 0; those of versions
 * 1 and 2 no number and no shards.
 *
 * A transaction that writes to one shard is a WRITE.  Another one is prepared in each of them; the
 * home shard's DECIDE is the moment at which it happens, and the first one counts; then the others
 * hear COMMIT or ABORT, and when all have, home hears FORGET.  The number of a commit and the
 * shards that it is about tell a reader what belongs together (cuts.h).
 *
 * CHECK asks each replica for the sum of what it holds at its index, and CHECKED is one's answer
 * (shard_check.h).  No epoch is above theirs: they change nothing, so nobody need be fenced off.
 *
 * Pure; any thread.
 */
#ifndef MG_REPLICA_COMMAND_H
#define MG_REPLICA_COMMAND_H

#include "base/bytes.h"
#include "base/error.h"

/* On disk: never renumber. */
enum mg_command_kind {
	MG_COMMAND_WRITE = 1,
	MG_COMMAND_PREPARE = 2,
	MG_COMMAND_DECIDE = 3,
	MG_COMMAND_COMMIT = 4,
	MG_COMMAND_ABORT = 5,
	MG_COMMAND_FORGET = 6,
	MG_COMMAND_FENCE = 7,
	MG_COMMAND_CHECK = 16,
	MG_COMMAND_CHECKED = 17,
};

struct mg_txid {
	uint8_t bytes[16];
};

#define MG_COMMAND_EPOCH_NONE UINT64_MAX /* of CHECK and CHECKED: no fence is above */

struct mg_checking {
	uint32_t members;
	bool urgent; /* somebody waits: without pauses */
};

/* In entries: never renumber. */
enum mg_checked_status {
	MG_CHECKED_SUM = 0,
	MG_CHECKED_UNREADABLE = 1, /* its file is damaged */
	MG_CHECKED_ENDED = 2,      /* the sum was not made to its end */
};

struct mg_checked {
	uint64_t node, index;
	uint8_t status; /* enum mg_checked_status */
	uint64_t rows;
	uint8_t digest[16];
};

struct mg_command {
	enum mg_command_kind kind;
	bool numbered; /* of version 3: a commit has a number */
	uint64_t epoch;
	struct mg_txid transaction;
	uint32_t home;   /* PREPARE: the shard that decides */
	bool commit;     /* DECIDE */
	uint64_t number; /* DECIDE that commits, COMMIT: from 1, rising; 0: not known */
	/* WRITE, PREPARE: the redo; DECIDE, COMMIT: the shards.  Points into the entry. */
	struct mg_in rest;
	struct mg_checking checking; /* CHECK */
	struct mg_checked checked;   /* CHECKED */
};

#define MG_COMMAND_HEAD_MAX 64u /* bytes before the rest */

/* All but the rest, which the caller puts behind it. */
void mg_command_encode_head(struct mg_out *out, const struct mg_command *command);
/* Fails: MG_E_PROTOCOL. */
int mg_command_decode(const uint8_t *data, size_t size, struct mg_command *out,
                      struct mg_error *err);

#endif
