/*
 * raft_host.c - see raft_host.h.
 *
 * The mailbox is two arrays: posts fill one while the thread runs the other, so that a post is a
 * lock, a store and, only when the thread sleeps, a wake-up.  The disk's thread wakes it the same
 * way.  So a lone proposal costs two wake-ups and one sync, and many share all three.
 *
 * owner: the raft thread, but for what `lock` guards.
 */
#include "replica/raft_host.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/file.h"
#include "os/random.h"
#include "os/thread.h"
#include "os/wait.h"
#include "raft/log_file.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A batch that was handed to the disk may have more behind it: so many rounds end them all. */
#define STOP_ROUNDS 4

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
	struct posts running;
	uint64_t wake_ms; /* the node's next turn */
	bool failed;      /* and told */
	bool started;
	pthread_t thread;

	pthread_mutex_t lock;
	struct mg_waker waker;
	/* guarded by lock */
	struct posts posts;
	struct posts later; /* in no order: there are few */
	bool stored;        /* the log has results */
	bool closing;
};

/* ---- the seams of the node --------------------------------------------------------------------
 */

static uint64_t env_now_ms(struct mg_env *env)
{
	(void)env;
	return mg_clock_ms();
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

/* Of the log: a batch is on the disk.  Any thread. */
static void on_stored(void *arg)
{
	struct mg_raft_host *host = arg;

	pthread_mutex_lock(&host->lock);
	host->stored = true;
	mg_waker_wake_sleeper(&host->waker, &host->lock);
}

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

/* Under the lock: until there is something to do, or, now and then, nothing. */
static void sleep_until(struct mg_raft_host *host, uint64_t ms)
{
	if (!host->posts.count && !host->stored && !host->closing) {
		mg_waker_sleep(&host->waker, &host->lock, ms);
	}
}

/* Sleep until there is something to do, and take what was posted.  False: it is over. */
static bool next(struct mg_raft_host *host)
{
	struct posts empty = host->running;

	mg_assert(empty.count == 0);
	pthread_mutex_lock(&host->lock);
	uint64_t turn_ms = host->node ? host->wake_ms : UINT64_MAX, due_ms = take_due(host);

	sleep_until(host, turn_ms < due_ms ? turn_ms : due_ms);
	(void)take_due(host);
	host->stored = false;
	host->running = host->posts;
	host->posts = empty;
	bool over = host->closing && !host->running.count;
	pthread_mutex_unlock(&host->lock);
	return !over;
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

static void *thread_main(void *arg)
{
	struct mg_raft_host *host = arg;

	(void)pthread_setname_np(pthread_self(), "mg-raft");
	mg_thread_prompt();
	while (next(host)) {
		for (size_t i = 0; i < host->running.count; i++) {
			host->running.list[i].run(host->running.list[i].arg);
		}
		host->running.count = 0;
		if (host->node) {
			turn(host);
		}
	}
	return NULL;
}

void mg_raft_host_post(struct mg_raft_host *host, void (*run)(void *arg), void *arg)
{
	pthread_mutex_lock(&host->lock);
	mg_assert(!host->closing);
	mg_grow(host->posts.list, host->posts.count, host->posts.cap);
	host->posts.list[host->posts.count++] = (struct post){ run, arg, 0 };
	mg_waker_wake_sleeper(&host->waker, &host->lock);
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

	mg_assert(host->started && !pthread_equal(pthread_self(), host->thread));
	mg_raft_host_post(host, run_call, &call);
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
	mg_assert(!host->started || pthread_equal(pthread_self(), host->thread));
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
