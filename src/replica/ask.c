/*
 * ask.c - proposals and reads of a group: at its leader, here or by forward.h, and again when that
 * is no more the leader; and the waiting for what comes of them.
 *
 *     any thread --post--> try: here, or another node, or nobody knows whom: a little later
 *                          answered: tried again, or counted in a mg_wait_for
 *
 * Rule: what may happen only once is tried again only when it is known not to have happened.
 *
 * The raft thread never waits.
 */
#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/kv_command.h"
#include "replica/replica_int.h"

#include <inttypes.h>

enum {
	AGAIN_MS = 10,
	LOOK_MS = 50, /* who waits: is it wanted no more, and do lanes move? */
	/* An answer that may come a second time is not waited for as long. */
	FORWARD_MS = 20 * 1000,
	FORWARD_AGAIN_MS = 1000,
};

/* ---- waiting ---- */

void mg_wait_init(struct mg_wait_for *wait)
{
	*wait = (struct mg_wait_for){ 0 };
	pthread_mutex_init(&wait->lock, NULL);
	pthread_cond_init(&wait->changed, NULL);
}

void mg_wait_fini(struct mg_wait_for *wait)
{
	mg_free(wait->reached);
	pthread_mutex_destroy(&wait->lock);
	pthread_cond_destroy(&wait->changed);
}

/* Returns its place, in the order in which they were asked. */
static size_t wait_add(struct mg_wait_for *wait, uint32_t group)
{
	pthread_mutex_lock(&wait->lock);
	size_t place = wait->reached_count;

	mg_grow(wait->reached, wait->reached_count, wait->reached_cap);
	wait->reached[wait->reached_count++] = (struct mg_reach){ .group = group };
	wait->open++;
	pthread_mutex_unlock(&wait->lock);
	return place;
}

bool mg_wait_in_order(const struct mg_wait_for *wait)
{
	bool in_order = true;

	for (size_t i = 1; i < wait->reached_count; i++) {
		const struct mg_reach *before = &wait->reached[i - 1], *reach = &wait->reached[i];

		in_order = in_order && (before->group != reach->group || before->index < reach->index);
	}
	return in_order;
}

int mg_wait_all(struct mg_wait_for *wait, struct mg_error *err)
{
	pthread_mutex_lock(&wait->lock);
	while (wait->open > 0) {
		pthread_cond_wait(&wait->changed, &wait->lock);
	}
	int code = wait->err.code;

	if (code && err) {
		*err = wait->err;
	}
	pthread_mutex_unlock(&wait->lock);
	return code;
}

void mg_wait_again(struct mg_wait_for *wait)
{
	mg_assert(wait->open == 0);
	wait->err = (struct mg_error){ 0 };
	wait->fenced = wait->maybe = false;
}

void mg_replica__on_applied(void *arg, uint32_t group, uint64_t index)
{
	struct mg_replica *replica = arg;

	pthread_mutex_lock(&replica->lock);
	replica->applied[group] = index;
	pthread_cond_broadcast(&replica->changed);
	pthread_mutex_unlock(&replica->lock);
}

/* Under the lock. */
static bool is_reached(const struct mg_replica *replica, const struct mg_wait_for *wait)
{
	for (size_t i = 0; i < wait->reached_count; i++) {
		if (replica->applied[wait->reached[i].group] < wait->reached[i].index) {
			return false;
		}
	}
	return true;
}

static void note_acked(struct mg_replica *replica, uint32_t group, uint64_t index)
{
	pthread_mutex_lock(&replica->lock);
	if (index > replica->acked[group]) {
		replica->acked[group] = index;
	}
	pthread_mutex_unlock(&replica->lock);
}

void mg_replica__note_acked(struct mg_replica *replica, const struct mg_wait_for *wait)
{
	for (size_t i = 0; i < wait->reached_count; i++) {
		note_acked(replica, wait->reached[i].group, wait->reached[i].index);
	}
}

/* The shards' lanes would take their time. */
static void hurry(struct mg_replica *replica, const struct mg_wait_for *wait)
{
	for (size_t i = 0; i < wait->reached_count; i++) {
		uint32_t group = wait->reached[i].group;

		if (mg_replica__is_shard(replica, group) && replica->shards[group - 1]) {
			mg_shard_sm_want(replica->shards[group - 1], wait->reached[i].index);
		}
	}
}

/* A lane is at work from which something of the wait is still to come.  Not under the lock. */
static bool moves(struct mg_replica *replica, const struct mg_wait_for *wait)
{
	bool any = false;

	for (size_t i = 0; i < wait->reached_count && !any; i++) {
		const struct mg_reach *reach = &wait->reached[i];
		struct mg_shard_sm *sm = mg_replica__is_shard(replica, reach->group)
		                             ? replica->shards[reach->group - 1]
		                             : NULL;

		any = sm && mg_shard_sm_applied(sm) < reach->index && mg_shard_sm_moves(sm);
	}
	return any;
}

int mg_replica__reach_with(struct mg_replica *replica, const struct mg_wait_for *wait,
                           const struct mg_patience *patience, struct mg_error *err)
{
	hurry(replica, wait);
	uint64_t now = mg_clock_ms(), until = now + patience->ms;
	bool ended = false;

	pthread_mutex_lock(&replica->lock);
	while (!is_reached(replica, wait) && !replica->stopping && !ended && now < until) {
		uint64_t look = now + LOOK_MS;

		(void)mg_cond_wait_until(&replica->changed, &replica->lock, look < until ? look : until);
		pthread_mutex_unlock(&replica->lock);
		now = mg_clock_ms();
		ended = patience->stopped && patience->stopped(patience->arg);
		until = patience->patient && moves(replica, wait) ? now + patience->ms : until;
		pthread_mutex_lock(&replica->lock);
	}
	bool reached = is_reached(replica, wait), stopping = replica->stopping;
	pthread_mutex_unlock(&replica->lock);
	if (reached) {
		return 0;
	}
	return stopping ? mg_error_set(err, MG_E_SHUTDOWN, "the server is stopping")
	       : ended  ? mg_error_set(err, MG_E_CANCELLED, "cancelled while this node catches up")
	                : mg_error_set(err, MG_E_TIMEOUT,
	                               "this node has not applied in %u ms what others have",
	                               patience->ms);
}

int mg_replica__reach(struct mg_replica *replica, const struct mg_wait_for *wait, unsigned ms,
                      struct mg_error *err)
{
	return mg_replica__reach_with(replica, wait, &(struct mg_patience){ .ms = ms }, err);
}

/* ---- here ---- */

/* A question to a group that this node leads. */
struct local {
	struct mg_replica *replica;
	uint32_t group;
	uint64_t epoch; /* of a command of a shard */
	bool far;       /* another node asks, and will wait until it has applied it */
	mg_answer_cb cb;
	void *arg;
};

static void on_local(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct local *local = arg;
	struct mg_answer answer = { .error = error, .index = index, .leader = leader };

	if (!error && local->epoch != UINT64_MAX &&
	    mg_shard_sm_refused(local->replica->shards[local->group - 1], local->epoch, index)) {
		answer.error = MG_FENCED;
	}
	struct mg_group *group =
		local->far && !error ? mg_raft_host_group(local->replica->host, local->group) : NULL;

	if (group) {
		mg_group_tell(group);
	}
	local->cb(local->arg, &answer);
	mg_free(local);
}

/* Fails at once, without a callback. */
static int ask_here(struct mg_replica *replica, const struct mg_ask *ask, bool far,
                    mg_answer_cb cb, void *arg, struct mg_error *err)
{
	struct mg_group *group = mg_raft_host_group(replica->host, ask->group);
	uint64_t epoch = UINT64_MAX; /* no fence is above */
	int code = 0;

	if (!group) {
		return mg_raft_host_node(replica->host)
		           ? mg_error_set(err, MG_E_NOT_FOUND, "there is no group %" PRIu32 " here",
		                          ask->group)
		           : mg_error_set(err, MG_E_SHUTDOWN, "the server is stopping");
	}
	if (ask->kind == MG_ASK_PROPOSE && mg_replica__is_shard(replica, ask->group)) {
		struct mg_command command;

		code = mg_command_decode(ask->data, ask->size, &command, err);
		epoch = command.epoch;
	}
	struct local *local = mg_alloc(sizeof *local);

	*local = (struct local){ replica, ask->group, epoch, far, cb, arg };
	if (!code) {
		code = ask->kind == MG_ASK_PROPOSE
		           ? mg_group_propose(group, ask->data, ask->size, on_local, local, err)
		           : mg_group_read_index(group, on_local, local, err);
	}
	if (code) {
		mg_free(local);
	}
	return code;
}

/* Of a group that is open here; 0: not known. */
static uint64_t leader_of(struct mg_replica *replica, uint32_t number)
{
	struct mg_group *group = mg_raft_host_group(replica->host, number);
	struct mg_group_info info = { 0 };

	if (group) {
		mg_group_info(group, &info);
	}
	return info.core.leader;
}

void mg_replica__serve(void *arg, const struct mg_ask *ask, mg_answer_cb cb, void *cb_arg)
{
	struct mg_replica *replica = arg;
	bool full = ask->kind == MG_ASK_PROPOSE && mg_replica__is_of_keys(replica, ask->group) &&
	            !mg_kv_entry_settles(ask->data, ask->size) && mg_replica__has_room(replica, NULL);
	struct mg_answer answer = {
		.error = full ? MG_E_DISK_FULL : ask_here(replica, ask, true, cb, cb_arg, NULL),
	};

	if (answer.error) {
		answer.leader = leader_of(replica, ask->group);
		cb(cb_arg, &answer);
	}
}

/* ---- here or there ---- */

struct mg_question {
	struct mg_replica *replica;
	struct mg_wait_for *wait; /* NULL: nobody waits */
	size_t place;             /* in its list */
	/* Or this is called. */
	mg_asked_cb done;
	void *done_arg;
	enum mg_ask_kind kind;
	enum mg_tries tries;
	uint32_t group;
	bool maybe;
	uint64_t until_ms;
	size_t size;
	uint8_t bytes[];
};

static void end(struct mg_question *question, const struct mg_answer *answer,
                const struct mg_error *err)
{
	struct mg_wait_for *wait = question->wait;

	if (question->done) {
		if (!err->code && question->kind == MG_ASK_PROPOSE) {
			note_acked(question->replica, question->group, answer->index);
		}
		question->done(question->done_arg, err, answer->index);
	}
	if (wait) {
		pthread_mutex_lock(&wait->lock);
		/* The worst error stays: that an outcome is unknown, before others. */
		if (err->code && (!wait->err.code || err->code == MG_E_UNKNOWN_OUTCOME)) {
			wait->err = *err;
		}
		wait->fenced = wait->fenced || answer->error == MG_FENCED;
		wait->maybe = wait->maybe || question->maybe;
		wait->reached[question->place].index = answer->index;
		wait->open--;
		pthread_cond_broadcast(&wait->changed);
		pthread_mutex_unlock(&wait->lock);
	}
	mg_free(question);
}

static bool is_unknown(int error)
{
	return error == MG_E_UNKNOWN_OUTCOME || error == MG_E_TIMEOUT;
}

static bool try_again(const struct mg_question *question, int error)
{
	/* Alone, the only leader is this node, and what it cannot do its caller should hear. */
	if (question->tries == MG_TRY_ONCE ||
	    (question->tries == MG_TRY_SAFE && atomic_load(&question->replica->alone)) ||
	    mg_clock_ms() >= question->until_ms || !mg_raft_host_node(question->replica->host)) {
		return false;
	}
	return error == MG_E_UNAVAILABLE || error == MG_E_SHUTDOWN ||
	       (question->tries == MG_TRY_MORE && (is_unknown(error) || error == MG_E_BUSY));
}

static void explain(const struct mg_question *question, const struct mg_answer *answer,
                    struct mg_error *err)
{
	if (answer->error == MG_FENCED) {
		mg_error_set(err, MG_E_UNAVAILABLE, "another node coordinates writes now");
		mg_error_hint(err, "Nothing was written: try again.");
	} else if (question->kind == MG_ASK_READ) {
		mg_error_set(err, MG_E_UNAVAILABLE, "group %" PRIu32 " has no leader that can be read from",
		             question->group);
		mg_error_hint(err, "Try again; a majority of the nodes must be there.");
	} else if (is_unknown(answer->error)) {
		mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "nobody knows yet whether the write happened");
		mg_error_hint(err, "Read what it would have changed before trying again.");
	} else if (answer->error == MG_E_DISK_FULL && !err->code) {
		mg_error_set(err, MG_E_DISK_FULL,
		             "the server that leads these keys has a disk that is nearly full: nothing is "
		             "written");
		mg_error_hint(err, "Make room there, then try again; reading goes on.");
	} else if (!err->code) {
		mg_error_set(err, answer->error, "the write did not happen: its group cannot take it now");
		mg_error_hint(err, "Try again.");
	}
}

static void try_now(void *arg);

static void answered(struct mg_question *question, const struct mg_answer *answer,
                     struct mg_error *err)
{
	question->maybe = question->maybe || is_unknown(answer->error);
	if (answer->error && try_again(question, answer->error)) {
		mg_raft_host_post_at(question->replica->host, mg_clock_ms() + AGAIN_MS, try_now, question);
		return;
	}
	if (answer->error) {
		explain(question, answer, err);
	}
	end(question, answer, err);
}

static void on_answer(void *arg, const struct mg_answer *answer)
{
	struct mg_error err = { 0 };

	answered(arg, answer, &err);
}

static void try_now(void *arg)
{
	struct mg_question *question = arg;
	struct mg_replica *replica = question->replica;
	const struct mg_ask ask = {
		.kind = question->kind,
		.group = question->group,
		.data = question->bytes,
		.size = question->size,
	};
	struct mg_error err = { 0 };
	struct mg_answer answer = {
		.error = ask_here(replica, &ask, false, on_answer, question, &err),
	};

	if (!answer.error) {
		return;
	}
	if (answer.error == MG_E_UNAVAILABLE && replica->forward && question->tries != MG_TRY_ONCE) {
		uint64_t leader = leader_of(replica, question->group);

		if (leader != 0 && leader != replica->options.self) {
			mg_forward_ask(replica->forward, leader, &ask,
			               question->tries == MG_TRY_MORE ? FORWARD_AGAIN_MS : FORWARD_MS,
			               on_answer, question);
			return;
		}
	}
	answered(question, &answer, &err);
}

static struct mg_question *question_new(struct mg_replica *replica, enum mg_ask_kind kind,
                                     uint32_t group, enum mg_tries tries, size_t cap,
                                     struct mg_wait_for *wait)
{
	struct mg_question *question = mg_try_alloc(sizeof *question + cap);

	if (question) {
		*question = (struct mg_question){
			.replica = replica,
			.wait = wait,
			.kind = kind,
			.tries = tries,
			.group = group,
			.until_ms = mg_clock_ms() + MG_REPLICA_PATIENCE_MS,
		};
	}
	return question;
}

static void question_post(struct mg_question *question)
{
	if (question->wait) {
		question->place = wait_add(question->wait, question->group);
	}
	mg_raft_host_post(question->replica->host, try_now, question);
}

int mg_replica__propose(struct mg_replica *replica, uint32_t group, enum mg_tries tries,
                        const struct mg_command *head, const void *rest, size_t size,
                        struct mg_wait_for *wait, struct mg_error *err)
{
	size_t cap = size + (head ? MG_COMMAND_HEAD_MAX : 0);
	struct mg_question *question = question_new(replica, MG_ASK_PROPOSE, group, tries, cap, wait);

	if (!question) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a write of %zu bytes", size);
	}
	struct mg_out out = mg_out(question->bytes, cap);

	if (head) {
		mg_command_encode_head(&out, head);
	}
	mg_out_bytes(&out, rest, size);
	question->size = out.size;
	question_post(question);
	return 0;
}

void mg_replica_post(struct mg_replica *replica, void (*run)(void *arg), void *arg)
{
	mg_raft_host_post(replica->host, run, arg);
}

void mg_replica_write_now(struct mg_replica *replica, uint64_t epoch, uint32_t shard,
                          const struct mg_redo *redo,
                          mg_asked_cb done, void *arg)
{
	const struct mg_command head = { .kind = MG_COMMAND_WRITE, .epoch = epoch };
	size_t cap = mg_redo_size(redo, shard) + MG_COMMAND_HEAD_MAX;
	struct mg_error err = { 0 };
	struct mg_question *question = NULL;

	mg_assert(cap <= MG_REPLICA_WRITE_MAX + MG_COMMAND_HEAD_MAX);
	if (epoch != mg_replica_epoch(replica)) {
		/* Which node does cannot be asked on this thread. */
		mg_error_set(&err, MG_E_UNAVAILABLE, "this node does not coordinate writes");
		mg_error_hint(&err, "Nothing was written: try again.");
	} else {
		question = question_new(replica, MG_ASK_PROPOSE, mg_replica__group(shard), MG_TRY_SAFE, cap,
		                        NULL);
	}
	if (!question) {
		if (!err.code) {
			mg_error_set(&err, MG_E_NOMEM, "no memory for a write of %zu bytes", cap);
		}
		done(arg, &err, 0);
		return;
	}
	struct mg_out out = mg_out(question->bytes, cap);

	mg_command_encode_head(&out, &head);
	mg_redo_encode(redo, shard, &out);
	question->size = out.size;
	question->done = done;
	question->done_arg = arg;
	try_now(question);
}

struct mg_question *mg_replica__question(struct mg_replica *replica, enum mg_ask_kind kind,
                                         uint32_t group, size_t cap, mg_asked_cb done, void *arg)
{
	enum mg_tries tries = kind == MG_ASK_READ ? MG_TRY_MORE : MG_TRY_SAFE;
	struct mg_question *question = question_new(replica, kind, group, tries, cap, NULL);

	if (question) {
		question->done = done;
		question->done_arg = arg;
	}
	return question;
}

uint8_t *mg_replica__question_bytes(struct mg_question *question)
{
	return question->bytes;
}

void mg_replica__question_ask(struct mg_question *question, size_t size)
{
	question->size = size;
	try_now(question);
}

/* ---- reads ---- */

static int ask_index(struct mg_replica *replica, uint32_t group, struct mg_wait_for *wait,
                     struct mg_error *err)
{
	struct mg_question *question = question_new(replica, MG_ASK_READ, group, MG_TRY_MORE, 0, wait);

	if (!question) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a read");
	}
	question_post(question);
	return 0;
}

static void note_fresh(struct mg_replica *replica, const struct mg_wait_for *wait, uint64_t ms)
{
	pthread_mutex_lock(&replica->lock);
	for (size_t i = 0; i < wait->reached_count; i++) {
		uint64_t *at = &replica->fresh_ms[wait->reached[i].group];

		*at = ms > *at ? ms : *at;
	}
	pthread_mutex_unlock(&replica->lock);
}

static int barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                   const struct mg_patience *patience, struct mg_error *err)
{
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	uint64_t start = mg_clock_ms();
	int code = ask_index(replica, 0, &wait, err);

	for (size_t i = 0; !code && i < count; i++) {
		mg_assert(shards[i] <= replica->options.shard_count);
		code = ask_index(replica, mg_replica__group(shards[i]), &wait, err);
	}
	struct mg_error waited = { 0 };
	int end_code = mg_wait_all(&wait, &waited);

	if (!code && end_code) {
		*err = waited;
		code = end_code;
	}
	code = code ? code : mg_replica__reach_with(replica, &wait, patience, err);
	if (!code) {
		note_fresh(replica, &wait, start);
	}
	mg_wait_fini(&wait);
	return code;
}

bool mg_replica_is_fresh(struct mg_replica *replica, const uint32_t *shards, size_t count,
                         uint64_t max_ms)
{
	uint64_t now = mg_clock_ms();

	pthread_mutex_lock(&replica->lock);
	bool fresh = replica->fresh_ms[0] != 0 && now - replica->fresh_ms[0] <= max_ms;

	for (size_t i = 0; fresh && i < count; i++) {
		uint64_t at = replica->fresh_ms[mg_replica__group(shards[i])];

		fresh = at != 0 && now - at <= max_ms;
	}
	pthread_mutex_unlock(&replica->lock);
	return fresh || mg_replica_is_alone(replica);
}

int mg_replica__barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                        struct mg_error *err)
{
	return barrier(replica, shards, count,
	               &(struct mg_patience){ .ms = MG_REPLICA_PATIENCE_MS }, err);
}

int mg_replica_try_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                           const struct mg_patience *patience, struct mg_error *err)
{
	return mg_replica_is_alone(replica)
	           ? mg_replica_await_acked(replica, shards, count, patience, err)
	           : barrier(replica, shards, count, patience, err);
}

int mg_replica_long_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                            bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	const struct mg_patience patience = { MG_REPLICA_PATIENCE_MS, true, stopped, arg };

	return mg_replica_try_barrier(replica, shards, count, &patience, err);
}

int mg_replica_read_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                            struct mg_error *err)
{
	const struct mg_patience patience = { .ms = MG_REPLICA_PATIENCE_MS };

	return mg_replica_try_barrier(replica, shards, count, &patience, err);
}
