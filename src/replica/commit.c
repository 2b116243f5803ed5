/*
 * commit.c - a redo over the log: one entry for one shard, two-phase commit for several.
 *
 *     PREPARE ... in each shard          all at once; what one entry cannot hold goes in parts
 *     DECIDE  in the home shard          the moment at which it happens
 *     COMMIT  in the other shards        together, while no reader takes a cut
 *     FORGET  in the home shard          nobody waits for it
 *
 * Presumed abort: a transaction that home has not decided when somebody asks is decided as an abort
 * there, and that decision counts, whatever its coordinator tries later.
 *
 * Rule: an answer other than MG_E_UNKNOWN_OUTCOME is the truth.
 */
#include "replica/replica_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/random.h"

#include <inttypes.h>
#include <string.h>

#define PART_BYTES_MAX (8u << 20)

/* ---- parts of a redo ---- */

/* The operations [*from, ...) of a shard that fit into one entry, as a redo of its own. */
static struct mg_redo *next_part(const struct mg_redo *redo, uint32_t shard, size_t *from)
{
	struct mg_redo *part = mg_redo_new();
	struct mg_error none = { 0 };
	size_t count;
	const struct mg_redo_op *ops = mg_redo_ops(redo, shard, &count);

	while (*from < count && mg_redo_size(part, shard) < PART_BYTES_MAX) {
		const struct mg_redo_op *op = &ops[(*from)++];
		int code = 0;

		switch (op->kind) {
		case MG_REDO_CREATE:
			mg_redo_create(part, shard, op->schema, op->table, op->columns);
			break;
		case MG_REDO_DROP:
			mg_redo_drop(part, shard, op->schema, op->table);
			break;
		default:
			code = mg_redo_rows(part, shard, op->kind, op->schema, op->table, op->ipc_schema,
			                    op->ipc_batch, op->rows, &none);
		}
		mg_assert(code == 0); /* a part of what fitted */
	}
	return part;
}

static int propose_redo(struct mg_replica *replica, const struct mg_redo *redo, uint32_t shard,
                        const struct mg_command *head, struct mg_wait_for *wait,
                        struct mg_error *err)
{
	size_t size = mg_redo_size(redo, shard);
	uint8_t *bytes = mg_try_alloc(size + 1);

	if (!bytes) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a write of %zu bytes", size);
	}
	struct mg_out out = mg_out(bytes, size);

	mg_redo_encode(redo, shard, &out);
	int code =
		mg_replica__propose(replica, mg_replica__group(shard), head, bytes, out.size, wait, err);

	mg_free(bytes);
	return code;
}

/* ---- one shard ---- */

static int commit_one(struct mg_replica *replica, const struct mg_redo *redo, uint32_t shard,
                      struct mg_error *err)
{
	const struct mg_command head = { .kind = MG_COMMAND_WRITE };
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	int code = propose_redo(replica, redo, shard, &head, &wait, err);

	code = code ? code : mg_wait_all(&wait, err);
	mg_wait_fini(&wait);
	return code;
}

/* ---- several ---- */

static int propose_step(struct mg_replica *replica, uint32_t shard, enum mg_command_kind kind,
                        const struct mg_txid *txid, bool commit, struct mg_wait_for *wait,
                        struct mg_error *err)
{
	const struct mg_command head = { .kind = kind, .transaction = *txid, .commit = commit };

	return mg_replica__propose(replica, mg_replica__group(shard), &head, NULL, 0, wait, err);
}

/* All parts of all shards, under heads like this one, at once. */
static int propose_parts(struct mg_replica *replica, const struct mg_redo *redo,
                         const struct mg_command *head, struct mg_wait_for *wait,
                         struct mg_error *err)
{
	const uint32_t *shards;
	size_t count = mg_redo_shards(redo, &shards);
	int code = 0;

	for (size_t i = 0; !code && i < count; i++) {
		size_t from = 0, ops;

		(void)mg_redo_ops(redo, shards[i], &ops);
		while (!code && from < ops) {
			struct mg_redo *part = next_part(redo, shards[i], &from);

			code = propose_redo(replica, part, shards[i], head, wait, err);
			mg_redo_free(part);
		}
	}
	/* Also after a failure: none may come behind what is done about it. */
	struct mg_error waited = { 0 };
	int end = mg_wait_all(wait, &waited);

	if (!code && end) {
		*err = waited;
		code = end;
	}
	return code;
}

/* Home's decision, which may be another one than was asked for. */
static int decide(struct mg_replica *replica, uint32_t home, const struct mg_txid *txid,
                  bool commit, struct mg_wait_for *wait, enum mg_outcome_known *known,
                  struct mg_error *err)
{
	int code = propose_step(replica, home, MG_COMMAND_DECIDE, txid, commit, wait, err);

	code = code ? code : mg_wait_all(wait, err);
	*known = mg_shard_sm_decided(replica->shards[home], txid);
	return code;
}

/* All shards but home hear what was decided; then home may forget it. */
static int settle(struct mg_replica *replica, const uint32_t *shards, size_t count,
                  const struct mg_txid *txid, bool commit, struct mg_wait_for *wait,
                  struct mg_error *err)
{
	enum mg_command_kind kind = commit ? MG_COMMAND_COMMIT : MG_COMMAND_ABORT;
	int code = 0;

	for (size_t i = 1; !code && i < count; i++) {
		code = propose_step(replica, shards[i], kind, txid, commit, wait, err);
	}
	struct mg_error waited = { 0 };
	int end = mg_wait_all(wait, &waited);

	if (!code && end) {
		*err = waited;
		code = end;
	}
	if (!code) {
		struct mg_error none = { 0 };

		(void)propose_step(replica, shards[0], MG_COMMAND_FORGET, txid, commit, NULL, &none);
	}
	return code;
}

/* Nothing happened, and the shards should know soon. */
static void abort_prepared(struct mg_replica *replica, const uint32_t *shards, size_t count,
                           const struct mg_txid *txid, struct mg_wait_for *wait)
{
	enum mg_outcome_known known;
	struct mg_error none = { 0 };

	if (decide(replica, shards[0], txid, false, wait, &known, &none) == 0) {
		(void)settle(replica, shards, count, txid, false, wait, &none);
	}
}

static int commit_several(struct mg_replica *replica, const struct mg_redo *redo,
                          const uint32_t *shards, size_t count, struct mg_error *err)
{
	struct mg_wait_for wait;
	struct mg_txid txid;
	enum mg_outcome_known known = MG_OUTCOME_NONE;

	mg_random_bytes(&txid, sizeof txid);
	mg_wait_init(&wait);
	const struct mg_command prepare = { .kind = MG_COMMAND_PREPARE,
		                                .transaction = txid,
		                                .home = shards[0] };
	int code = propose_parts(replica, redo, &prepare, &wait, err);

	if (code) {
		abort_prepared(replica, shards, count, &txid, &wait);
		if (code == MG_E_UNKNOWN_OUTCOME) { /* of a PREPARE: it never happens without DECIDE */
			code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard did not answer in time");
			mg_error_hint(err, "Nothing was written: try again.");
		}
	} else {
		pthread_rwlock_wrlock(&replica->cut);
		code = decide(replica, shards[0], &txid, true, &wait, &known, err);
		if (!code && known != MG_OUTCOME_COMMIT) {
			code = mg_error_set(err, MG_E_UNAVAILABLE,
			                    "the transaction took too long and was "
			                    "aborted");
		}
		if (!code) {
			/* It has happened: what fails now ends by resolve, and the answer stays. */
			struct mg_error late = { 0 };

			if (settle(replica, shards, count, &txid, true, &wait, &late)) {
				mg_log(MG_LOG_WARN, "commit.unsettled", "error=\"%s\"", late.message);
			}
		}
		pthread_rwlock_unlock(&replica->cut);
	}
	mg_wait_fini(&wait);
	return code;
}

int mg_replica_commit(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err)
{
	const uint32_t *shards;
	size_t count = mg_redo_shards(redo, &shards);
	int code = mg_replica_failed(replica, err);

	if (code || count == 0) {
		return code;
	}
	mg_assert(shards[count - 1] <= replica->options.shard_count);
	return count == 1 && mg_redo_size(redo, shards[0]) <= PART_BYTES_MAX
	           ? commit_one(replica, redo, shards[0], err)
	           : commit_several(replica, redo, shards, count, err);
}

int mg_replica_append(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err)
{
	const struct mg_command head = { .kind = MG_COMMAND_WRITE };
	struct mg_wait_for wait;
	int code = mg_replica_failed(replica, err);

	if (!code) {
		mg_wait_init(&wait);
		code = propose_parts(replica, redo, &head, &wait, err);
		mg_wait_fini(&wait);
	}
	return code;
}

/* ---- after a crash ---- */

/* What is in doubt here: home says how it ended, and if it does not know, it ends as an abort. */
static int resolve_one(struct mg_replica *replica, uint32_t shard, const struct mg_in_doubt *doubt,
                       struct mg_wait_for *wait, struct mg_error *err)
{
	enum mg_outcome_known known = MG_OUTCOME_NONE;

	if (doubt->home > replica->options.shard_count) {
		return mg_error_set(err, MG_E_CORRUPT,
		                    "shard %" PRIu32 " waits for shard %" PRIu32 ", which is not there",
		                    shard, doubt->home);
	}
	int code = decide(replica, doubt->home, &doubt->transaction, false, wait, &known, err);

	if (!code && shard != doubt->home) {
		bool commit = known == MG_OUTCOME_COMMIT;

		code = propose_step(replica, shard, commit ? MG_COMMAND_COMMIT : MG_COMMAND_ABORT,
		                    &doubt->transaction, commit, wait, err);
		code = code ? code : mg_wait_all(wait, err);
	}
	if (!code) {
		mg_log(MG_LOG_INFO, "commit.resolved", "shard=%" PRIu32 " home=%" PRIu32 " outcome=%s",
		       shard, doubt->home, known == MG_OUTCOME_COMMIT ? "commit" : "abort");
	}
	return code;
}

/* One after the other, until there is none. */
static int resolve_shard(struct mg_replica *replica, uint32_t shard, struct mg_wait_for *wait,
                         struct mg_error *err)
{
	struct mg_in_doubt doubt;
	int code = 0;

	while (!code && mg_shard_sm_in_doubt(replica->shards[shard], &doubt, 1) > 0) {
		code = resolve_one(replica, shard, &doubt, wait, err);
	}
	return code;
}

int mg_replica__resolve(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_wait_for wait;
	int code = 0;

	mg_wait_init(&wait);
	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		code = resolve_shard(replica, i, &wait, err);
	}
	/* Nobody asks for any of them again. */
	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		struct mg_in_doubt decision;

		while (!code && mg_shard_sm_decisions(replica->shards[i], &decision, 1) > 0) {
			code = propose_step(replica, i, MG_COMMAND_FORGET, &decision.transaction, false, &wait,
			                    err);
			code = code ? code : mg_wait_all(&wait, err);
		}
	}
	mg_wait_fini(&wait);
	return code;
}
