/*
 * command.h - a command of a shard's group, as the log holds it.
 *
 *     u8 version (2)   u8 kind   u64 epoch   then by kind
 *     WRITE                  redo (redo.h)
 *     PREPARE                transaction (16 bytes)   u32 home   redo: one part of several, maybe
 *     DECIDE                 transaction   u8 commit  (to the home shard's group only)
 *     COMMIT, ABORT, FORGET  transaction
 *     FENCE                  nothing: from now on this epoch, or a higher one
 *
 * The epoch says which coordinator of writes speaks.  Behind a FENCE commands of a lower one are
 * refused: they change nothing.  Entries of version 1 have no epoch, which is 0.
 *
 * A transaction that writes to one shard is a WRITE.  Another one is prepared in each of them; the
 * home shard's DECIDE is the moment at which it happens, and the first one counts; then the others
 * hear COMMIT or ABORT, and when all have, home hears FORGET.
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
};

struct mg_txid {
	uint8_t bytes[16];
};

struct mg_command {
	enum mg_command_kind kind;
	uint64_t epoch;
	struct mg_txid transaction;
	uint32_t home;     /* PREPARE: the shard that decides */
	bool commit;       /* DECIDE */
	struct mg_in redo; /* WRITE, PREPARE: points into the entry */
};

#define MG_COMMAND_HEAD_MAX 30u /* bytes before the redo */

/* All but the redo, which the caller puts behind it. */
void mg_command_encode_head(struct mg_out *out, const struct mg_command *command);
/* Fails: MG_E_PROTOCOL. */
int mg_command_decode(const uint8_t *data, size_t size, struct mg_command *out,
                      struct mg_error *err);

#endif
