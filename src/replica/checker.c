/*
 * checker.c - are the replicas of each shard equal, of tables and, counted on, of keys?  Asked at
 * intervals, and when somebody wants to know.
 *
 *     round: for each shard: CHECK into its log -> its members sum -> what they said, in the log
 *
 * Any node may begin a round, for anyone who asks; the coordinator begins one when none was for
 * check_ms.  One shard after the other, so that no replica sums two at a time.
 *
 * Two threads: one drives rounds and waits, the other sums what marks have pinned.  At an
 * interval's check it rests three times as long as it works; when somebody waits, or a checkpoint
 * of the shard does, it does not.
 *
 * Who finds itself damaged, or in a minority, is made anew (mend.c); where nobody is in a minority
 * people are told, and nothing is destroyed.
 *
 * owner: its threads, but for what `lock` guards.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/kv_check.h"
#include "replica/kv_sm.h"
#include "replica/replica_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	LOOK_MS = 100,
	TICK_MS = 1000,
	REST_TIMES = 3,
	REST_MS_MAX = 10 * 1000,
	URGENT_MS_MAX = 10 * 60 * 1000, /* of one shard */
	CALM_MS_MAX = 2 * 60 * 60 * 1000,
};

struct mg_checker {
	struct mg_replica *replica;
	pthread_t driver, summer;
	bool driver_started, summer_started;
	uint64_t start_ms;
	struct mg_metric *checks, *differences;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	/* guarded by lock */
	bool marked, asked, running, stopping;
};

/* ---- waiting ---- */

static bool is_stopping(struct mg_checker *checker)
{
	pthread_mutex_lock(&checker->lock);
	bool stopping = checker->stopping;
	pthread_mutex_unlock(&checker->lock);
	return stopping;
}

/* Until the time has come, `flag` is set, or the end; flag: guarded by lock, NULL: none. */
static void rest(struct mg_checker *checker, uint64_t ms, const bool *flag)
{
	uint64_t until_ms = mg_clock_ms() + ms;

	pthread_mutex_lock(&checker->lock);
	while (!checker->stopping && !(flag && *flag) &&
	       mg_cond_wait_until(&checker->changed, &checker->lock, until_ms)) {
	}
	pthread_mutex_unlock(&checker->lock);
}

static void set(struct mg_checker *checker, bool *flag)
{
	pthread_mutex_lock(&checker->lock);
	*flag = true;
	pthread_cond_broadcast(&checker->changed);
	pthread_mutex_unlock(&checker->lock);
}

static bool take(struct mg_checker *checker, bool *flag)
{
	pthread_mutex_lock(&checker->lock);
	bool was = *flag;

	*flag = false;
	pthread_mutex_unlock(&checker->lock);
	return was;
}

static void tell(struct mg_checker *checker, const char *event, const char *detail)
{
	const struct mg_replica_options *options = &checker->replica->options;

	mg_log(MG_LOG_WARN, event, "detail=%s", detail);
	if (options->on_event) {
		options->on_event(options->arg, event, detail);
	}
}

/* ---- shards ---- */

static uint32_t shard_count(const struct mg_replica *replica)
{
	return (uint32_t)mg_replica__group_count(replica) - 1;
}

/* NULL: it is one of tables. */
static struct mg_kv_sm *keys_of(const struct mg_replica *replica, uint32_t shard)
{
	uint32_t tables = replica->options.shard_count + 1;

	return shard < tables ? NULL : mg_replica__kv_sm(replica, shard - tables);
}

static struct mg_shard_check *check_of(const struct mg_replica *replica, uint32_t shard)
{
	struct mg_kv_sm *keys = keys_of(replica, shard);

	return keys ? mg_kv_sm_check(keys) : mg_shard_sm_check(replica->shards[shard]);
}

static int propose(struct mg_replica *replica, uint32_t shard, enum mg_tries tries,
                   const struct mg_command *head, struct mg_wait_for *wait, struct mg_error *err)
{
	uint8_t bytes[MG_KV_CHECK_ENTRY_MAX];
	struct mg_out out = mg_out(bytes, sizeof bytes);
	uint32_t group = mg_replica__group(shard);

	if (!keys_of(replica, shard)) {
		return mg_replica__propose(replica, group, tries, head, NULL, 0, wait, err);
	}
	mg_kv_check_encode(&out, head);
	return mg_replica__propose(replica, group, tries, NULL, bytes, out.size, wait, err);
}

/* ---- sums, on a thread of their own ---- */

struct pacing {
	struct mg_checker *checker;
	struct mg_shard_check *check;
	bool urgent;
};

static bool pace(void *arg, uint64_t us)
{
	struct pacing *pacing = arg;
	uint64_t ms = pacing->urgent ? 0 : us * REST_TIMES / 1000;
	uint64_t until = mg_clock_ms() + (ms < REST_MS_MAX ? ms : REST_MS_MAX);

	while (mg_clock_ms() < until && !mg_shard_check_hurries(pacing->check) &&
	       !mg_shard_check_stopped(pacing->check) && !is_stopping(pacing->checker)) {
		rest(pacing->checker, LOOK_MS / 2, NULL);
	}
	return !mg_shard_check_stopped(pacing->check) && !is_stopping(pacing->checker);
}

static bool is_unreadable(int code)
{
	return code == MG_E_CORRUPT || code == MG_E_IO;
}

static void say(struct mg_checker *checker, uint32_t shard, const struct mg_checked *checked)
{
	const struct mg_command head = {
		.kind = MG_COMMAND_CHECKED,
		.epoch = MG_COMMAND_EPOCH_NONE,
		.checked = *checked,
	};
	struct mg_error err = { 0 };

	if (propose(checker->replica, shard, MG_TRY_MORE, &head, NULL, &err)) {
		mg_log(MG_LOG_WARN, "check.say", "shard=%" PRIu32 " error=\"%s\"", shard, err.message);
	}
}

/* What this replica cannot read it takes from others; alone, it can but say so. */
static void report_unreadable(struct mg_checker *checker, uint32_t shard,
                              const struct mg_error *why)
{
	struct mg_replica *replica = checker->replica;

	if (mg_replica_is_alone(replica)) {
		char *text = mg_format("shard %" PRIu32 ": %s", shard, why->message);

		tell(checker, "replica.damaged", text);
		mg_free(text);
	} else {
		mg_replica__mend(replica, shard, why->message, NULL);
	}
}

static int sum_pinned(struct pacing *pacing, uint32_t shard, const struct mg_check_pin *pin,
                      struct mg_shard_sum *made, struct mg_error *err)
{
	struct mg_kv_sm *keys = keys_of(pacing->checker->replica, shard);
	char database[16];

	if (pin->failed) {
		return mg_error_set(err, MG_E_BUSY, "the tree was behind just then");
	}
	if (keys) {
		return mg_kv_check_sum(pin->view, mg_kv_state_prefix(mg_kv_sm_state(keys)), pace, pacing,
		                       made, err);
	}
	(void)snprintf(database, sizeof database, "s%" PRIu32, shard);
	return mg_shard_sum(pin->conn, database, pin->tables, pace, pacing, made, err);
}

static void sum(struct mg_checker *checker, uint32_t shard, struct mg_check_pin *pin)
{
	struct mg_shard_check *check = check_of(checker->replica, shard);
	struct pacing pacing = { checker, check, pin->urgent };
	uint64_t index = pin->index, file = pin->file;
	struct mg_checked checked = { .node = checker->replica->options.self, .index = index };
	struct mg_shard_sum made = { 0 };
	struct mg_error err = { 0 };
	uint64_t start = mg_clock_ms();
	int code = sum_pinned(&pacing, shard, pin, &made, &err);

	mg_shard_check_give_back(check, pin);
	checked.status = !code                 ? MG_CHECKED_SUM
	                 : is_unreadable(code) ? MG_CHECKED_UNREADABLE
	                                       : MG_CHECKED_ENDED;
	checked.rows = made.rows;
	memcpy(checked.digest, made.digest, sizeof checked.digest);
	if (code) {
		mg_log(MG_LOG_WARN, "check.sum", "shard=%" PRIu32 " error=\"%s\"", shard, err.message);
	} else {
		mg_log(MG_LOG_INFO, "check.sum",
		       "shard=%" PRIu32 " index=%" PRIu64 " rows=%" PRIu64 " took_ms=%" PRIu64, shard,
		       index, made.rows, mg_clock_ms() - start);
	}
	say(checker, shard, &checked);
	if (mg_shard_check_put_own(check, file, &checked) && is_unreadable(code)) {
		report_unreadable(checker, shard, &err);
	}
}

static void sum_marked(struct mg_checker *checker)
{
	for (uint32_t i = 0; i < shard_count(checker->replica); i++) {
		struct mg_shard_check *check = check_of(checker->replica, i);
		struct mg_check_pin pin;

		if (!mg_replica__is_mending(checker->replica, i) &&
		    mg_shard_check_take(check, &pin)) {
			sum(checker, i, &pin);
		}
	}
}

static void *sum_always(void *arg)
{
	struct mg_checker *checker = arg;

	while (!is_stopping(checker)) {
		if (take(checker, &checker->marked)) {
			sum_marked(checker);
		}
		rest(checker, TICK_MS, &checker->marked);
	}
	return NULL;
}

void mg_replica__on_mark(void *arg, uint32_t shard)
{
	struct mg_replica *replica = arg;

	(void)shard;
	set(replica->checker, &replica->checker->marked);
}

void mg_replica__on_differs(void *arg, uint32_t shard, const struct mg_members *good)
{
	struct mg_replica *replica = arg;
	char *why = mg_format("its %s are not those of %zu other servers",
	                      keys_of(replica, shard) ? "keys" : "rows", good->count);

	mg_metric_add(replica->checker->differences, 1);
	mg_replica__mend(replica, shard, why, good);
	mg_free(why);
}

/* ---- rounds ---- */

/* How many members of the group are there; *all: with those that are not. */
static size_t count_there(struct mg_checker *checker, uint32_t shard, uint32_t *all)
{
	struct mg_replica *replica = checker->replica;
	size_t max = mg_replica_all_copies(replica, NULL, 0) + 64, there = 0;
	struct mg_copy_info *copies = mg_alloc0(max * sizeof *copies);
	size_t count = mg_replica_all_copies(replica, copies, max);

	*all = 0;
	for (size_t i = 0; i < count && i < max; i++) {
		if (copies[i].shard == shard && !copies[i].mending) {
			*all += 1;
			there += copies[i].connected;
		}
	}
	mg_free(copies);
	return there;
}

static int begin_check(struct mg_checker *checker, uint32_t shard, uint32_t members, bool urgent,
                       uint64_t *index, struct mg_error *err)
{
	struct mg_replica *replica = checker->replica;
	const struct mg_command head = {
		.kind = MG_COMMAND_CHECK,
		.epoch = MG_COMMAND_EPOCH_NONE,
		.checking = { .members = members, .urgent = urgent },
	};
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	int code = propose(replica, shard, MG_TRY_SAFE, &head, &wait, err);

	code = code ? code : mg_wait_all(&wait, err);
	code = code ? code : mg_replica__reach(replica, &wait, MG_REPLICA_PATIENCE_MS, err);
	*index = wait.reached_count ? wait.reached[0].index : 0;
	mg_wait_fini(&wait);
	return code;
}

/* Until all that are there have spoken, or somebody has begun another check. */
static void await_sums(struct mg_checker *checker, uint32_t shard, uint64_t index, bool urgent)
{
	uint64_t until = mg_clock_ms() + (urgent ? URGENT_MS_MAX : CALM_MS_MAX);
	struct mg_check_state state;
	uint32_t all;

	do {
		rest(checker, LOOK_MS, NULL);
		mg_replica_checked(checker->replica, shard, &state);
	} while (state.index == index && state.count < count_there(checker, shard, &all) &&
	         mg_clock_ms() < until && !is_stopping(checker) &&
	         !mg_replica__is_mending(checker->replica, shard));
}

/* Nobody can tell which one is right: people must. */
static void report_tie(struct mg_checker *checker, uint32_t shard)
{
	struct mg_check_state state;

	mg_replica_checked(checker->replica, shard, &state);
	if (state.count < 2 || mg_check_all_same(&state) || mg_check_majority(&state)) {
		return;
	}
	char *text = mg_format("shard %" PRIu32 ": its replicas differ at index %" PRIu64
	                       " and no sum is that of more than half of them: see cluster check",
	                       shard, state.index);

	mg_metric_add(checker->differences, 1);
	tell(checker, "replica.differs", text);
	mg_free(text);
}

static void check_shard(struct mg_checker *checker, uint32_t shard, bool urgent)
{
	struct mg_error err = { 0 };
	uint64_t index = 0;
	uint32_t members = 0;

	if (mg_replica__is_mending(checker->replica, shard)) {
		return;
	}
	(void)count_there(checker, shard, &members);
	if (members == 0 || begin_check(checker, shard, members, urgent, &index, &err)) {
		mg_log(MG_LOG_WARN, "check.begin", "shard=%" PRIu32 " error=\"%s\"", shard, err.message);
		return;
	}
	await_sums(checker, shard, index, urgent);
	report_tie(checker, shard);
}

static void check_all(struct mg_checker *checker, bool urgent)
{
	uint64_t start = mg_clock_ms();

	for (uint32_t i = 0; i < shard_count(checker->replica) && !is_stopping(checker); i++) {
		check_shard(checker, i, urgent);
	}
	mg_metric_add(checker->checks, 1);
	mg_log(MG_LOG_INFO, "check.done", "urgent=%d took_ms=%" PRIu64, urgent, mg_clock_ms() - start);
}

/* Another node's checks count, too. */
static bool is_due(struct mg_checker *checker)
{
	struct mg_replica *replica = checker->replica;
	uint64_t last = checker->start_ms;

	if (!replica->options.check_ms || !mg_replica_is_coordinator(replica) ||
	    mg_replica_is_alone(replica)) {
		return false;
	}
	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		struct mg_check_state state;

		mg_replica_checked(replica, i, &state);
		last = state.ms > last ? state.ms : last;
	}
	return mg_clock_ms() - last >= replica->options.check_ms;
}

static void *drive(void *arg)
{
	struct mg_checker *checker = arg;

	while (!is_stopping(checker)) {
		bool asked = take(checker, &checker->asked);

		if (asked || is_due(checker)) {
			check_all(checker, asked);
		}
		pthread_mutex_lock(&checker->lock);
		checker->running = checker->asked; /* by somebody else meanwhile */
		pthread_mutex_unlock(&checker->lock);
		rest(checker, TICK_MS, &checker->asked);
	}
	return NULL;
}

/* ---- questions ---- */

void mg_replica_ask_check(struct mg_replica *replica)
{
	struct mg_checker *checker = replica->checker;

	pthread_mutex_lock(&checker->lock);
	if (!checker->running) {
		checker->running = checker->asked = true;
		pthread_cond_broadcast(&checker->changed);
	}
	pthread_mutex_unlock(&checker->lock);
}

bool mg_replica_checks(struct mg_replica *replica)
{
	struct mg_checker *checker = replica->checker;

	pthread_mutex_lock(&checker->lock);
	bool running = checker->running;
	pthread_mutex_unlock(&checker->lock);
	return running;
}

void mg_replica_checked(struct mg_replica *replica, uint32_t shard, struct mg_check_state *out)
{
	mg_shard_check_state(check_of(replica, shard), out);
}

void mg_replica_suspect(struct mg_replica *replica)
{
	mg_replica_ask_check(replica);
}

/* ---- life ---- */

void mg_replica__make_checker(struct mg_replica *replica)
{
	struct mg_checker *checker = mg_alloc0(sizeof *checker);

	checker->replica = replica;
	checker->start_ms = mg_clock_ms();
	checker->checks =
		mg_metric_counter("merganser_replica_checks_total", "",
	                      "Rounds in which the replicas of all shards were compared.");
	checker->differences =
		mg_metric_counter("merganser_replica_differences_total", "",
	                      "Shards whose replicas were found to differ, as this server saw it.");
	pthread_mutex_init(&checker->lock, NULL);
	mg_cond_init(&checker->changed);
	replica->checker = checker;
}

int mg_replica__start_checker(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_checker *checker = replica->checker;
	int failed = pthread_create(&checker->driver, NULL, drive, checker);

	checker->driver_started = failed == 0;
	failed = failed ? failed : pthread_create(&checker->summer, NULL, sum_always, checker);
	checker->summer_started = failed == 0;
	return failed ? mg_error_errno(err, failed, "cannot start a thread to check replicas") : 0;
}

void mg_replica__end_checker(struct mg_replica *replica)
{
	struct mg_checker *checker = replica->checker;

	set(checker, &checker->stopping);
	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		if (replica->shards[i]) {
			mg_shard_check_stop(mg_shard_sm_check(replica->shards[i]), false);
		}
	}
	mg_replica__stop_kv_checks(replica);
}

void mg_replica__join_checker(struct mg_replica *replica)
{
	struct mg_checker *checker = replica->checker;

	if (checker->driver_started) {
		pthread_join(checker->driver, NULL);
	}
	if (checker->summer_started) {
		pthread_join(checker->summer, NULL);
	}
	checker->driver_started = checker->summer_started = false;
}

void mg_replica__free_checker(struct mg_replica *replica)
{
	struct mg_checker *checker = replica->checker;

	pthread_cond_destroy(&checker->changed);
	pthread_mutex_destroy(&checker->lock);
	mg_free(checker);
}
