/*
 * commit.c - a redo over the log: one entry for one shard, two-phase commit for several.
 *
 *     PREPARE ... in each shard          all at once; what one entry cannot hold goes in parts
 *     DECIDE  in the home shard          the moment at which it happens
 *     COMMIT  in the other shards        with the same number: readers see all of it or nothing
 *     FORGET  in the home shard          nobody waits for it
 *
 * From the decision to the last COMMIT one transaction comes after the other, so that the numbers
 * rise in every log; where that went wrong, the epoch ends before the next one's turn (cuts.h).
 *
 * Presumed abort: a transaction that home has not decided when the next coordinator asks is decided
 * as an abort there, and that decision counts, whatever its coordinator tries later.
 *
 * A transaction carries the epoch in which it began; behind a fence of a later one nothing of it
 * happens any more (coordinator.c).  What then is left of it the next coordinator ends, and so it
 * is with what this one loses sight of: it takes over from itself.
 *
 * Rule: an answer other than MG_E_UNKNOWN_OUTCOME is the truth.
 */
#include "replica/replica_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/random.h"

#include <inttypes.h>
#include <string.h>

#define PART_BYTES_MAX MG_REPLICA_WRITE_MAX
#define ROOM_BYTES_MIN (128u << 20) /* for the log that is accepted and its checkpoint */

enum { LOOK_MS = 5 };

/* ---- parts of a redo ---- */

/* The operations [*from, ...) of a shard that fit into one entry, as a redo of its own. */
static struct mg_redo *next_part(const struct mg_redo *redo, uint32_t shard, size_t *from)
{
	struct mg_redo *part = mg_redo_new();
	struct mg_error none = { 0 };
	size_t count;
	const struct mg_redo_op *ops = mg_redo_ops(redo, shard, &count);

	while (*from < count && mg_redo_size(part, shard) < PART_BYTES_MAX) {
		int code = mg_redo_copy(part, shard, &ops[(*from)++], &none);

		mg_assert(code == 0); /* a part of what fitted */
	}
	return part;
}

/* What writes rows at once must not happen twice. */
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
	int code = mg_replica__propose(replica, mg_replica__group(shard), MG_TRY_SAFE, head, bytes,
	                               out.size, wait, err);

	mg_free(bytes);
	return code;
}

/* What all parts of a commit need to know. */
struct commit {
	struct mg_replica *replica;
	uint64_t epoch;
	struct mg_txid txid;
	const uint32_t *shards; /* the first one is home */
	size_t count;
	uint64_t number; /* when it is decided */
	struct mg_wait_for wait;
	void (*decided)(void *arg); /* or NULL */
	void *arg;
};

/* All that was proposed since has ended; code: of proposing it. */
static int end_round(struct mg_wait_for *wait, int code, struct mg_error *err)
{
	struct mg_error waited = { 0 };
	int end = mg_wait_all(wait, &waited);

	if (!code && end) {
		*err = waited;
		code = end;
	}
	return code;
}

/* Readers of this node see it too, unless it lags behind for very long. */
static void reach(struct commit *commit)
{
	struct mg_error err = { 0 };

	if (mg_replica__reach(commit->replica, &commit->wait, MG_REPLICA_PATIENCE_MS, &err)) {
		mg_log(MG_LOG_WARN, "commit.lags", "error=\"%s\"", err.message);
	}
}

static bool makes_tables(const struct mg_redo *redo, uint32_t shard)
{
	size_t count;
	const struct mg_redo_op *ops = mg_redo_ops(redo, shard, &count);
	bool makes = false;

	for (size_t i = 0; i < count; i++) {
		makes = makes || ops[i].kind == MG_REDO_CREATE || ops[i].kind == MG_REDO_DROP;
	}
	return makes;
}

/* It has happened: whoever reads here waits for it.  When tables have come or gone, what follows
 * looks for them in the files. */
static void note_done(struct commit *commit, const struct mg_redo *redo)
{
	bool makes = false;

	for (size_t i = 0; i < commit->count; i++) {
		makes = makes || makes_tables(redo, commit->shards[i]);
	}
	mg_replica__note_acked(commit->replica, &commit->wait);
	if (makes) {
		reach(commit);
	}
}

/* A checkpoint that finds no room makes its file unusable until the next start: so writing ends
 * before the disk is full. */
int mg_replica__has_room(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_error ignored;
	uint64_t free_bytes = 0;
	int code = 0;

	if (mg_disk_room(&replica->room, replica->options.dir, &free_bytes, &ignored) == 0 &&
	    free_bytes < ROOM_BYTES_MIN) {
		code = mg_error_set(err, MG_E_DISK_FULL,
		                    "less than %u MB are free where the data lie: nothing is written",
		                    ROOM_BYTES_MIN >> 20);
		mg_error_hint(err, "Make room in \"%s\", then try again; reading goes on.",
		              replica->options.dir);
	}
	return code;
}

int mg_replica_may_write(struct mg_replica *replica, struct mg_error *err)
{
	int code = mg_replica_failed(replica, err);

	return code ? code : mg_replica__has_room(replica, err);
}

/* ---- one shard ---- */

static int commit_one(struct commit *commit, const struct mg_redo *redo, struct mg_error *err)
{
	const struct mg_command head = { .kind = MG_COMMAND_WRITE, .epoch = commit->epoch };
	int code = propose_redo(commit->replica, redo, commit->shards[0], &head, &commit->wait, err);

	code = end_round(&commit->wait, code, err);
	if (!code) {
		note_done(commit, redo);
	}
	return code;
}

/* ---- several ---- */

/* shards: of a commit, as bytes. */
static int propose_step(struct mg_replica *replica, uint32_t shard, const struct mg_command *head,
                        const void *shards, size_t size, struct mg_wait_for *wait,
                        struct mg_error *err)
{
	return mg_replica__propose(replica, mg_replica__group(shard), MG_TRY_MORE, head, shards, size,
	                           wait, err);
}

/* The transaction's own step. */
static int step(struct commit *commit, uint32_t shard, enum mg_command_kind kind, bool yes,
                struct mg_wait_for *wait, struct mg_error *err)
{
	bool numbered = yes && kind != MG_COMMAND_FORGET;
	const struct mg_command head = {
		.kind = kind,
		.epoch = commit->epoch,
		.transaction = commit->txid,
		.commit = yes,
		.number = numbered ? commit->number : 0,
	};

	return propose_step(commit->replica, shard, &head, numbered ? commit->shards : NULL,
	                    numbered ? commit->count * sizeof *commit->shards : 0, wait, err);
}

/* All parts of all shards, under heads like this one, at once. */
static int propose_parts(struct commit *commit, const struct mg_redo *redo,
                         const struct mg_command *head, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < commit->count; i++) {
		size_t from = 0, ops;
		uint32_t shard = commit->shards[i];

		(void)mg_redo_ops(redo, shard, &ops);
		while (!code && from < ops) {
			struct mg_redo *part = next_part(redo, shard, &from);

			code = propose_redo(commit->replica, part, shard, head, &commit->wait, err);
			mg_redo_free(part);
		}
	}
	/* Also after a failure: none may come behind what is done about it. */
	code = end_round(&commit->wait, code, err);
	if (!code && !mg_wait_in_order(&commit->wait)) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard changed its leader meanwhile");
		mg_error_hint(err, "Nothing was written: try again.");
	}
	return code;
}

static int decide(struct commit *commit, bool yes, struct mg_error *err)
{
	mg_wait_again(&commit->wait);
	int code = step(commit, commit->shards[0], MG_COMMAND_DECIDE, yes, &commit->wait, err);

	return end_round(&commit->wait, code, err);
}

/* All shards but home hear what was decided; then home may forget it. */
static int settle(struct commit *commit, bool yes, struct mg_error *err)
{
	enum mg_command_kind kind = yes ? MG_COMMAND_COMMIT : MG_COMMAND_ABORT;
	int code = 0;

	for (size_t i = 1; !code && i < commit->count; i++) {
		code = step(commit, commit->shards[i], kind, yes, &commit->wait, err);
	}
	code = end_round(&commit->wait, code, err);
	if (!code) {
		struct mg_error none = { 0 };

		(void)step(commit, commit->shards[0], MG_COMMAND_FORGET, yes, NULL, &none);
	}
	return code;
}

/* Nothing happened, and the shards should know soon; or else from the next coordinator. */
static void abort_prepared(struct commit *commit)
{
	struct mg_error none = { 0 };

	if (decide(commit, false, &none) || settle(commit, false, &none)) {
		mg_replica_renew(commit->replica, commit->epoch);
	}
}

/* Whoever coordinates now ends it; then it is in doubt here no more. */
static int await_resolved(struct commit *commit, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + MG_REPLICA_PATIENCE_MS;
	size_t open = commit->count;

	mg_replica_renew(commit->replica, commit->epoch);
	reach(commit); /* what was prepared, lest it only seems to be gone */
	while (open > 0 && mg_clock_ms() < until && !mg_replica__stopping(commit->replica)) {
		open = 0;
		for (size_t i = 0; i < commit->count; i++) {
			open += mg_shard_sm_holds(commit->replica->shards[commit->shards[i]], &commit->txid);
		}
		if (open > 0) {
			mg_sleep_ms(LOOK_MS);
		}
	}
	if (open > 0) {
		mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "nobody knows yet whether the write happened");
		mg_error_hint(err, "Read what it would have changed before trying again.");
		return MG_E_UNKNOWN_OUTCOME;
	}
	return 0;
}

/* Home was asked to commit and its answer was lost, or an epoch too late: what it says now. */
static int ask_home(struct commit *commit, int code, struct mg_error *err)
{
	struct mg_shard_sm *home = commit->replica->shards[commit->shards[0]];
	struct mg_error none = { 0 };
	bool fenced = commit->wait.fenced, maybe = commit->wait.maybe;

	if (!maybe) { /* it was refused, or never came to be */
		if (!fenced) {
			abort_prepared(commit);
		}
		return code;
	}
	mg_replica_renew(commit->replica, commit->epoch);
	/* Behind the fence that refused it nothing of it can be decided as a commit any more. */
	if (fenced &&
	    mg_replica__reach(commit->replica, &commit->wait, MG_REPLICA_PATIENCE_MS, &none) == 0) {
		enum mg_outcome_known known = mg_shard_sm_decided(home, &commit->txid);

		if (known == MG_OUTCOME_COMMIT) {
			return 0;
		}
		if (known == MG_OUTCOME_ABORT || mg_shard_sm_holds(home, &commit->txid)) {
			return code;
		}
	}
	mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "nobody knows yet whether the write happened");
	mg_error_hint(err, "Read what it would have changed before trying again.");
	return MG_E_UNKNOWN_OUTCOME;
}

/* Higher than all before: those of other coordinators are applied here, as their fences are. */
static uint64_t next_number(struct mg_replica *replica)
{
	uint64_t seen = mg_cuts_highest(replica->cuts);

	replica->commit_number = seen > replica->commit_number ? seen : replica->commit_number;
	return ++replica->commit_number;
}

/* From the decision on. */
static int make_visible(struct commit *commit, const struct mg_redo *redo, struct mg_error *err)
{
	struct mg_error late = { 0 };

	/* The one before has lost sight of a shard: it may not be there yet, and the next coordinator
	 * puts it there. */
	if (mg_replica_epoch(commit->replica) != commit->epoch) {
		return mg_replica__not_coordinator(commit->replica, err);
	}
	commit->number = next_number(commit->replica);
	int code = decide(commit, true, err);

	if (code) {
		code = ask_home(commit, code, err);
		return code ? code : await_resolved(commit, err);
	}
	if (commit->decided) {
		commit->decided(commit->arg);
	}
	if (settle(commit, true, &late)) { /* it has happened: others end it */
		mg_log(MG_LOG_WARN, "commit.unsettled", "error=\"%s\"", late.message);
		return await_resolved(commit, err);
	}
	note_done(commit, redo);
	return 0;
}

static int commit_several(struct commit *commit, const struct mg_redo *redo, struct mg_error *err)
{
	mg_random_bytes(&commit->txid, sizeof commit->txid);
	const struct mg_command head = { .kind = MG_COMMAND_PREPARE,
		                             .epoch = commit->epoch,
		                             .transaction = commit->txid,
		                             .home = commit->shards[0] };
	int code = propose_parts(commit, redo, &head, err);

	if (code) {
		if (commit->wait.maybe) { /* one may come behind an abort, but not behind a fence */
			mg_replica_renew(commit->replica, commit->epoch);
		} else if (!commit->wait.fenced) {
			abort_prepared(commit);
		}
		if (code == MG_E_UNKNOWN_OUTCOME) { /* of a PREPARE: it never happens without DECIDE */
			code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard did not answer in time");
			mg_error_hint(err, "Nothing was written: try again.");
		}
		return code;
	}
	pthread_mutex_lock(&commit->replica->one_by_one);
	code = make_visible(commit, redo, err);
	pthread_mutex_unlock(&commit->replica->one_by_one);
	return code;
}

/* Fails also when it is not for this node to write. */
static int begin(struct commit *commit, struct mg_replica *replica, uint64_t epoch,
                 const struct mg_redo *redo, struct mg_error *err)
{
	int code = mg_replica_may_write(replica, err);

	*commit = (struct commit){ .replica = replica, .epoch = epoch };
	commit->count = mg_redo_shards(redo, &commit->shards);
	if (code || commit->count == 0) {
		return code;
	}
	mg_assert(commit->shards[commit->count - 1] <= replica->options.shard_count);
	return epoch == 0 || epoch != mg_replica_epoch(replica)
	           ? mg_replica__not_coordinator(replica, err)
	           : 0;
}

int mg_replica_commit_ahead(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                            void (*decided)(void *arg), void *arg, struct mg_error *err)
{
	struct commit commit;
	int code = begin(&commit, replica, epoch, redo, err);

	if (code || commit.count == 0) {
		return code;
	}
	commit.decided = decided;
	commit.arg = arg;
	mg_wait_init(&commit.wait);
	code = commit.count == 1 && mg_redo_size(redo, commit.shards[0]) <= PART_BYTES_MAX
	           ? commit_one(&commit, redo, err)
	           : commit_several(&commit, redo, err);
	mg_wait_fini(&commit.wait);
	if (code == MG_E_UNKNOWN_OUTCOME) {
		mg_replica_doubt(replica, epoch, commit.shards, commit.count);
	}
	return code;
}

int mg_replica_commit_in(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                         struct mg_error *err)
{
	return mg_replica_commit_ahead(replica, epoch, redo, NULL, NULL, err);
}

int mg_replica_commit(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err)
{
	return mg_replica_commit_in(replica, mg_replica_epoch(replica), redo, err);
}

int mg_replica_append_in(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                         struct mg_error *err)
{
	struct commit commit;
	int code = begin(&commit, replica, epoch, redo, err);
	const struct mg_command head = { .kind = MG_COMMAND_WRITE, .epoch = commit.epoch };

	if (code || commit.count == 0) {
		return code;
	}
	mg_wait_init(&commit.wait);
	code = propose_parts(&commit, redo, &head, err);
	if (!code) {
		mg_replica__note_acked(replica, &commit.wait);
		reach(&commit);
	}
	mg_wait_fini(&commit.wait);
	return code;
}

/* ---- what others have left ---- */

/* A step, and what comes of it is seen here. */
static int take_step(struct mg_replica *replica, uint32_t shard, const struct mg_command *head,
                     const struct mg_buf *shards, struct mg_error *err)
{
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	int code = propose_step(replica, shard, head, shards ? shards->data : NULL,
	                        shards ? shards->size : 0, &wait, err);

	code = end_round(&wait, code, err);
	code = code ? code : mg_replica__reach(replica, &wait, MG_REPLICA_PATIENCE_MS, err);
	mg_wait_fini(&wait);
	return code;
}

/* Home has decided; the shard hears it, with the number that the commit was given. */
static int tell_outcome(struct mg_replica *replica, uint64_t epoch, uint32_t shard,
                        const struct mg_in_doubt *doubt, bool commit, struct mg_error *err)
{
	struct mg_command head = {
		.kind = commit ? MG_COMMAND_COMMIT : MG_COMMAND_ABORT,
		.epoch = epoch,
		.transaction = doubt->transaction,
	};
	struct mg_buf *shards = NULL;

	if (commit) {
		head.number =
			mg_shard_sm_commit(replica->shards[doubt->home], &doubt->transaction, &shards);
	}
	int code = take_step(replica, shard, &head, shards, err);

	mg_buf_unref(shards);
	return code;
}

/* What is in doubt here: home says how it ended, and if it does not know, it ends as an abort. */
static int resolve_one(struct mg_replica *replica, uint64_t epoch, uint32_t shard,
                       const struct mg_in_doubt *doubt, struct mg_error *err)
{
	const struct mg_command no = {
		.kind = MG_COMMAND_DECIDE, .epoch = epoch, .transaction = doubt->transaction
	};

	if (doubt->home > replica->options.shard_count) {
		return mg_error_set(err, MG_E_CORRUPT,
		                    "shard %" PRIu32 " waits for shard %" PRIu32 ", which is not there",
		                    shard, doubt->home);
	}
	int code = take_step(replica, doubt->home, &no, NULL, err);
	bool commit = mg_shard_sm_decided(replica->shards[doubt->home], &doubt->transaction) ==
	              MG_OUTCOME_COMMIT;

	if (!code && shard != doubt->home) {
		code = tell_outcome(replica, epoch, shard, doubt, commit, err);
	}
	if (!code) {
		mg_log(MG_LOG_INFO, "commit.resolved", "shard=%" PRIu32 " home=%" PRIu32 " outcome=%s",
		       shard, doubt->home, commit ? "commit" : "abort");
	}
	return code;
}

static int forget_one(struct mg_replica *replica, uint64_t epoch, uint32_t home,
                      const struct mg_in_doubt *decision, struct mg_error *err)
{
	const struct mg_command head = {
		.kind = MG_COMMAND_FORGET, .epoch = epoch, .transaction = decision->transaction
	};

	return take_step(replica, home, &head, NULL, err);
}

int mg_replica__resolve(struct mg_replica *replica, uint64_t epoch, struct mg_error *err)
{
	int code = 0;

	/* One after the other, until there is none. */
	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		struct mg_in_doubt doubt;

		while (!code && mg_shard_sm_in_doubt(replica->shards[i], &doubt, 1) > 0) {
			code = resolve_one(replica, epoch, i, &doubt, err);
		}
	}
	/* Nobody asks for any of them again. */
	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		struct mg_in_doubt decision;

		while (!code && mg_shard_sm_decisions(replica->shards[i], &decision, 1) > 0) {
			code = forget_one(replica, epoch, i, &decision, err);
		}
	}
	return code;
}
