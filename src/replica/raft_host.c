/*
 * raft_host.c - see raft_host.h.
 *
 * The mailbox is two arrays: posts fill one while the other is run, so that a post is a lock and a
 * store.
 *
 * Who runs has the turn, which is one thread's at a time.  The raft thread takes it for timers, and
 * whenever others are at work; but to wake it, for a loop that has a frame, or for the disk's lane
 * that has synced a batch, and to wake the loop again for what comes of it, takes longer than the
 * turn itself.  So these take the turn themselves while the thread sleeps: a lone proposal wakes
 * nobody but lanes and peers.  A turn never waits, with one exception: a follower far behind gets
 * entries that are read from the log's files.  While there are such no loop takes the turn.
 *
 * owner: who has the turn, but for what `lock` guards.
 */
#include "replica/raft_host.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "net/net.h"
#include "os/disk.h"
#include "os/file.h"
#include "os/random.h"
#include "os/thread.h"
#include "os/wait.h"
#include "raft/log_file.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A batch that was handed to the disk may have more behind it: so many rounds end them all. */
#define STOP_ROUNDS 4
#define LENT_TURNS 4
#define READS_MS 1000 /* after one entry was read there may be more */

struct post {
	void (*run)(void *arg);
	void *arg;
	uint64_t ms; /* not before */
};

struct posts {
	struct post *list;
	size_t count, cap;
};

struct mg_raft_host {
	struct mg_env env;    /* of the node: our clock and chance */
	struct mg_net silent; /* the net of a cluster of one */
	struct mg_raft_host_options options;
	struct mg_disk *disk;
	struct mg_raft_log *log;
	struct mg_raft_node *node; /* NULL after stop */
	/* owner: who has the turn */
	struct posts running;
	uint64_t wake_ms; /* the node's next turn */
	bool failed;      /* and told */
	uint64_t reads;   /* of the log, so far */

	bool started;
	pthread_t thread;

	pthread_mutex_t lock;
	struct mg_waker waker;
	/* guarded by lock */
	struct posts posts;
	struct posts later; /* in no order: there are few */
	bool stored;        /* the log has results */
	bool taken;         /* the turn */
	bool wanted;        /* by the thread, while another has it */
	size_t lenders;     /* that are about to look whether they can have it */
	uint64_t sleep_ms;  /* until then the thread sleeps */
	uint64_t read_ms;   /* the log was read in a turn */
	bool stopping;      /* waits for the disk's lanes, so it is the thread's */
	bool closing;
};

static _Thread_local struct mg_raft_host *has_turn; /* of this host */

/* ---- the seams of the node --------------------------------------------------------------------
 */

static uint64_t env_now_ms(struct mg_env *env)
{
	(void)env;
	return mg_clock_ms();
}

static uint64_t env_boot_ms(struct mg_env *env)
{
	(void)env;
	return mg_clock_boot_ms();
}

static uint64_t env_random(struct mg_env *env)
{
	(void)env;
	return mg_random_u64();
}

static void env_wake_at(struct mg_env *env, uint64_t ms)
{
	((struct mg_raft_host *)env)->wake_ms = ms; /* env is our first member */
}

static const struct mg_env_ops env_ops = {
	.now_ms = env_now_ms,
	.boot_ms = env_boot_ms,
	.random = env_random,
	.wake_at = env_wake_at,
};

static void silent_send(struct mg_net *net, uint64_t peer, struct mg_buf *frame)
{
	(void)net;
	(void)peer;
	mg_buf_unref(frame);
}

static const struct mg_net_ops silent_ops = { .send = silent_send };

/* ---- the thread -------------------------------------------------------------------------------
 */

/* Under the lock: what is due goes to the posts; returns when the next one is. */
static uint64_t take_due(struct mg_raft_host *host)
{
	uint64_t now = host->later.count ? mg_clock_ms() : 0, earliest = UINT64_MAX;
	size_t kept = 0;

	for (size_t i = 0; i < host->later.count; i++) {
		struct post post = host->later.list[i];

		if (post.ms <= now || host->closing) {
			mg_grow(host->posts.list, host->posts.count, host->posts.cap);
			host->posts.list[host->posts.count++] = post;
		} else {
			host->later.list[kept++] = post;
			earliest = post.ms < earliest ? post.ms : earliest;
		}
	}
	host->later.count = kept;
	return earliest;
}

static bool has_work(const struct mg_raft_host *host)
{
	return host->posts.count || host->stored || host->closing;
}

static void turn(struct mg_raft_host *host)
{
	mg_raft_node_turn(host->node);
	int code = mg_raft_node_failed(host->node);

	if (code && !host->failed) {
		host->failed = true;
		if (host->options.on_failed) {
			host->options.on_failed(host->options.on_failed_arg, code);
		}
	}
}

/* The log, from its files, since it was asked last. */
static bool has_read(struct mg_raft_host *host)
{
	struct mg_log_file_stats stats;
	uint64_t before = host->reads;

	mg_log_file_stats(host->log, &stats);
	host->reads = stats.reads;
	return host->reads != before;
}

/* Under the lock, which it gives up meanwhile: what was posted, and a turn of the node. */
static void run_turn(struct mg_raft_host *host)
{
	struct posts empty = host->running;

	mg_assert(!host->taken && empty.count == 0);
	(void)take_due(host);
	host->taken = true;
	host->stored = false;
	host->running = host->posts;
	host->posts = empty;
	pthread_mutex_unlock(&host->lock);
	has_turn = host;
	for (size_t i = 0; i < host->running.count; i++) {
		host->running.list[i].run(host->running.list[i].arg);
	}
	host->running.count = 0;
	if (host->node) {
		turn(host);
	}
	bool read = has_read(host);

	has_turn = NULL;
	pthread_mutex_lock(&host->lock);
	host->taken = false;
	host->read_ms = read ? mg_clock_ms() : host->read_ms;
}

/* ---- the turn is lent -------------------------------------------------------------------------
 */

/* Under the lock: nobody has work, and the thread would have to be woken for it. */
static bool may_lend(const struct mg_raft_host *host)
{
	return host->waker.sleeping && !host->taken && !host->stopping;
}

static bool may_lend_to_loop(const struct mg_raft_host *host)
{
	return may_lend(host) && (!host->read_ms || mg_clock_ms() - host->read_ms > READS_MS);
}

/* Under the lock, which it lets go of.  Few turns: what comes then is the thread's, which also
 * learns when it is to wake now. */
static void lend_locked(struct mg_raft_host *host)
{
	for (int i = 0; i == 0 || (i < LENT_TURNS && has_work(host) && !host->stopping); i++) {
		run_turn(host);
	}
	if (has_work(host) || host->wanted || host->wake_ms < host->sleep_ms) {
		mg_waker_wake_sleeper(&host->waker, &host->lock);
	} else {
		pthread_mutex_unlock(&host->lock);
	}
}

/* A loop, which holds no locks now. */
static void on_lent(void *arg)
{
	struct mg_raft_host *host = arg;

	pthread_mutex_lock(&host->lock);
	host->lenders--;
	if (!host->posts.count) {
		pthread_mutex_unlock(&host->lock);
	} else if (may_lend_to_loop(host)) {
		lend_locked(host);
	} else {
		mg_waker_wake_sleeper(&host->waker, &host->lock);
	}
}

/* Of the log: a batch is on the disk.  Any thread. */
static void on_stored(void *arg)
{
	struct mg_raft_host *host = arg;

	pthread_mutex_lock(&host->lock);
	host->stored = true;
	if (may_lend(host)) {
		lend_locked(host);
	} else {
		mg_waker_wake_sleeper(&host->waker, &host->lock);
	}
}

/* ---- the thread -------------------------------------------------------------------------------
 */

/* Under the lock: until there is something to do, or, now and then, nothing; or, when another has
 * the turn, until it is given back. */
static void sleep_well(struct mg_raft_host *host)
{
	if (host->taken) {
		host->wanted = true;
		mg_waker_sleep(&host->waker, &host->lock, UINT64_MAX);
		host->wanted = false;
		return;
	}
	uint64_t turn_ms = host->node ? host->wake_ms : UINT64_MAX, due_ms = take_due(host);

	if (!has_work(host)) {
		host->sleep_ms = turn_ms < due_ms ? turn_ms : due_ms;
		mg_waker_sleep(&host->waker, &host->lock, host->sleep_ms);
	}
}

static void *thread_main(void *arg)
{
	struct mg_raft_host *host = arg;

	(void)pthread_setname_np(pthread_self(), "mg-raft");
	mg_thread_prompt();
	pthread_mutex_lock(&host->lock);
	for (;;) {
		sleep_well(host);
		(void)take_due(host);
		if (!host->taken && host->closing && !host->posts.count) {
			break;
		}
		if (!host->taken) {
			run_turn(host);
		}
	}
	pthread_mutex_unlock(&host->lock);
	return NULL;
}

/* Under the lock. */
static void push(struct mg_raft_host *host, void (*run)(void *arg), void *arg)
{
	mg_assert(!host->closing);
	mg_grow(host->posts.list, host->posts.count, host->posts.cap);
	host->posts.list[host->posts.count++] = (struct post){ run, arg, 0 };
}

/* Wakes the thread: what the caller waits for comes without it. */
static void post_to_thread(struct mg_raft_host *host, void (*run)(void *arg), void *arg)
{
	pthread_mutex_lock(&host->lock);
	push(host, run, arg);
	mg_waker_wake_sleeper(&host->waker, &host->lock);
}

/* A loop takes the turn itself when the thread would have to be woken: behind what it does now,
 * where it may hold locks.  Who has the turn looks again at its end. */
void mg_raft_host_post(struct mg_raft_host *host, void (*run)(void *arg), void *arg)
{
	struct mg_loop *loop = mg_loop_current();

	if (!loop && has_turn != host) {
		post_to_thread(host, run, arg);
		return;
	}
	pthread_mutex_lock(&host->lock);
	push(host, run, arg);
	bool lend = loop && may_lend_to_loop(host);

	if (lend) {
		host->lenders++;
	}
	if (lend || has_turn == host) {
		pthread_mutex_unlock(&host->lock);
	} else {
		mg_waker_wake_sleeper(&host->waker, &host->lock);
	}
	if (lend) {
		mg_loop_post(loop, on_lent, host);
	}
}

void mg_raft_host_post_at(struct mg_raft_host *host, uint64_t ms, void (*run)(void *arg), void *arg)
{
	pthread_mutex_lock(&host->lock);
	mg_assert(!host->closing);
	mg_grow(host->later.list, host->later.count, host->later.cap);
	host->later.list[host->later.count++] = (struct post){ run, arg, ms };
	mg_waker_wake_sleeper(&host->waker, &host->lock);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

struct call {
	void (*run)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->run(call->arg);
	pthread_mutex_lock(&call->lock);
	call->done = true;
	pthread_cond_signal(&call->changed);
	pthread_mutex_unlock(&call->lock); /* and from here on it is the caller's */
}

void mg_raft_host_call(struct mg_raft_host *host, void (*run)(void *arg), void *arg)
{
	struct call call = {
		.run = run,
		.arg = arg,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};

	mg_assert(host->started && has_turn != host);
	post_to_thread(host, run_call, &call);
	pthread_mutex_lock(&call.lock);
	while (!call.done) {
		pthread_cond_wait(&call.changed, &call.lock);
	}
	pthread_mutex_unlock(&call.lock);
	pthread_cond_destroy(&call.changed);
	pthread_mutex_destroy(&call.lock);
}

/* ---- incarnation ------------------------------------------------------------------------------
 */

/* Peers take no frame of an older incarnation, so it must rise even when the data directory comes
 * from a backup: then the wall clock, in seconds, is ahead of the count. */
static int count_start(struct mg_raft_host *host, const char *path, struct mg_error *err)
{
	uint64_t before = 0, asked = host->options.incarnation;
	char *text = NULL;
	char line[32];
	size_t size;
	int code = mg_file_read(path, sizeof line, &text, &size, err);

	if (code == 0) {
		char *end;

		before = strtoull(text, &end, 10);
		if (before == 0 || *end != '\n') {
			code = mg_error_set(err, MG_E_CORRUPT, "\"%s\" does not hold a number", path);
			mg_error_hint(err,
			              "Write a number into it that is higher than the seconds since 1970.");
		}
		mg_free(text);
	} else if (code == MG_E_NOT_FOUND) {
		code = 0;
	}
	if (code) {
		return code;
	}
	if (asked == 0) {
		uint64_t now = (uint64_t)mg_clock_wall_ms() / 1000;

		asked = now > before ? now : before + 1;
	}
	if (asked <= before) {
		return mg_error_set(err, MG_E_USAGE,
		                    "incarnation %" PRIu64 " is not higher than %" PRIu64 ", the last one",
		                    asked, before);
	}
	host->options.incarnation = asked;
	return mg_file_write(path, line, (size_t)snprintf(line, sizeof line, "%" PRIu64 "\n", asked),
	                     0600, err);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void free_host(struct mg_raft_host *host)
{
	mg_assert(host->node == NULL);
	if (host->log) {
		mg_log_file_close(host->log);
	}
	mg_disk_close(host->disk);
	mg_waker_fini(&host->waker);
	pthread_mutex_destroy(&host->lock);
	mg_free(host->posts.list);
	mg_free(host->later.list);
	mg_free(host->running.list);
	mg_free(host);
}

static int open_log(struct mg_raft_host *host, struct mg_error *err)
{
	char *log = mg_path_join(host->options.dir, "log");
	char *incarnation = mg_path_join(log, "incarnation");
	char *raft = mg_path_join(log, "raft");
	int code = mg_dir_make(log, 0700, err);

	if (!code) {
		code = count_start(host, incarnation, err);
	}
	if (!code) {
		code = mg_disk_open(&host->disk, raft, err);
	}
	if (!code) {
		code = mg_log_file_open(&host->log,
		                        &(struct mg_log_file_options){
									.disk = host->disk,
									.segment_bytes = host->options.log_segment_bytes,
									.notify = on_stored,
									.arg = host,
								},
		                        err);
	}
	mg_free(raft);
	mg_free(incarnation);
	mg_free(log);
	return code;
}

int mg_raft_host_open(struct mg_raft_host **out, const struct mg_raft_host_options *options,
                      struct mg_error *err)
{
	struct mg_raft_host *host = mg_alloc0(sizeof *host);

	*out = NULL;
	mg_assert(options->self > 0 && options->dir != NULL);
	host->options = *options;
	host->env.ops = &env_ops;
	host->silent.ops = &silent_ops;
	pthread_mutex_init(&host->lock, NULL);
	mg_waker_init(&host->waker);
	int code = open_log(host, err);

	if (code) {
		free_host(host);
		return mg_error_wrap(err, "while opening the log of \"%s\"", options->dir);
	}
	struct mg_raft_node_options raft = options->raft;

	raft.self = options->self;
	raft.incarnation = host->options.incarnation;
	raft.log = host->log;
	raft.env = &host->env;
	raft.net = options->net ? options->net : &host->silent;
	host->node = mg_raft_node_new(&raft);
	host->options.dir = NULL; /* the caller's */
	*out = host;
	return 0;
}

struct mg_raft_node *mg_raft_host_node(struct mg_raft_host *host)
{
	mg_assert(!host->started || has_turn == host);
	return host->node;
}

struct mg_group *mg_raft_host_group(struct mg_raft_host *host, uint32_t group)
{
	return host->node ? mg_raft_node_group(host->node, group) : NULL;
}

uint64_t mg_raft_host_self(const struct mg_raft_host *host)
{
	return host->options.self;
}

uint64_t mg_raft_host_incarnation(const struct mg_raft_host *host)
{
	return host->options.incarnation;
}

int mg_raft_host_start(struct mg_raft_host *host, struct mg_error *err)
{
	mg_assert(!host->started && host->node != NULL);
	/* The thread looks at itself as host->thread, so it begins when that is written. */
	pthread_mutex_lock(&host->lock);
	int failed = pthread_create(&host->thread, NULL, thread_main, host);

	host->started = failed == 0;
	pthread_mutex_unlock(&host->lock);
	return failed ? mg_error_errno(err, failed, "cannot start a thread for raft") : 0;
}

static void end_node(void *arg)
{
	struct mg_raft_host *host = arg;

	if (!host->node) {
		return;
	}
	for (int i = 0; i < STOP_ROUNDS; i++) {
		turn(host);
		mg_disk_drain(host->disk);
	}
	mg_raft_node_free(host->node);
	host->node = NULL;
}

void mg_raft_host_stop(struct mg_raft_host *host)
{
	if (host->started) {
		pthread_mutex_lock(&host->lock);
		host->stopping = true;
		pthread_mutex_unlock(&host->lock);
		mg_raft_host_call(host, end_node, host);
	} else {
		end_node(host);
	}
}

void mg_raft_host_close(struct mg_raft_host *host)
{
	if (!host) {
		return;
	}
	mg_raft_host_stop(host);
	pthread_mutex_lock(&host->lock);
	while (host->lenders) { /* loops that have not come to it */
		pthread_mutex_unlock(&host->lock);
		(void)sched_yield();
		pthread_mutex_lock(&host->lock);
	}
	host->closing = host->started;
	mg_waker_wake_sleeper(&host->waker, &host->lock);
	if (host->started) {
		pthread_join(host->thread, NULL);
	}
	for (size_t i = 0; !host->started && i < host->later.count; i++) {
		host->later.list[i].run(host->later.list[i].arg);
	}
	for (size_t i = 0; !host->started && i < host->posts.count; i++) {
		host->posts.list[i].run(host->posts.list[i].arg);
	}
	free_host(host);
}
