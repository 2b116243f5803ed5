/*
 * kv_check.h - CHECK and CHECKED (shard_check.h) of a shard of keys: as entries of its log, and the
 * sum.
 *
 * The sum is over all that the shard has in the tree, in the order of its keys: like the tree it is
 * a function of the log.
 *
 * Pure, and any thread, but for the sum, which blocks.
 */
#ifndef MG_REPLICA_KV_CHECK_H
#define MG_REPLICA_KV_CHECK_H

#include "replica/command.h"
#include "replica/kv_command.h"
#include "store/lsm.h"
#include "store/shard_sum.h"

#define MG_KV_CHECK_ENTRY_MAX (MG_KV_ENTRY_HEAD + MG_COMMAND_HEAD_MAX)

/* command: CHECK or CHECKED. */
void mg_kv_check_encode(struct mg_out *out, const struct mg_command *command);
/* Of an entry of the kind MG_KV_COMPARE.  Fails: MG_E_PROTOCOL. */
int mg_kv_check_decode(const struct mg_kv_entry *entry, struct mg_command *out,
                       struct mg_error *err);
/* Of what begins with the prefix; rows: how many.  pace: as mg_shard_sum.  Fails: MG_E_CANCELLED;
 * MG_E_CORRUPT, MG_E_IO the tree cannot be read. */
int mg_kv_check_sum(struct mg_lsm_view *view, struct mg_str prefix,
                    bool (*pace)(void *arg, uint64_t us), void *arg, struct mg_shard_sum *out,
                    struct mg_error *err);

#endif
