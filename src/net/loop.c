/*
 * loop.c - a thread that waits for sockets, timers and posts.
 *
 * Rule: every call from libuv into our code ends in mg_loop__settle, which flushes what was
 * written, feeds what was left over and buries what was closed. So a protocol's callback never runs
 * inside another one of the same connection, and small writes of one turn leave as one record.
 *
 * owner: the loop's thread, except posts (any thread, under lock).
 * Limits: SETTLE_ROUNDS per turn, then sockets are looked at again before the rest is settled.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "net/net_int.h"
#include "os/thread.h"

enum { SETTLE_ROUNDS = 4 };

struct mg_timer {
	uv_timer_t handle;
	struct mg_loop *loop;
	void (*fn)(void *arg);
	void *arg;
};

static _Thread_local struct mg_loop *current_loop;

bool mg_loop_is_current(const struct mg_loop *loop)
{
	return loop == current_loop;
}

struct mg_loop *mg_loop_current(void)
{
	return current_loop;
}

/* ---- posts ---- */

void mg_loop_post(struct mg_loop *loop, void (*fn)(void *), void *arg)
{
	static const uint64_t one = 1;
	struct mg_post *post = mg_alloc0(sizeof *post);

	post->fn = fn;
	post->arg = arg;
	bool here = mg_loop_is_current(loop); /* then it looks before it sleeps */

	if (here) {
		loop->posted_here = true;
	}
	pthread_mutex_lock(&loop->lock);
	*loop->posts_end = post;
	loop->posts_end = &post->next;
	bool wake = !loop->woken && !here;

	loop->woken = loop->woken || wake;
	if (wake) {
		(void)atomic_fetch_add(&loop->waking, 1); /* it is not gone before we are */
	}
	pthread_mutex_unlock(&loop->lock);
	if (wake) {
		/* Not uv_async_send: who is put aside in it has the loop spin until it goes on. */
		while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
		}
		(void)atomic_fetch_sub(&loop->waking, 1);
	}
}

static bool run_posts(struct mg_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	struct mg_post *post = loop->posts;

	loop->posts = NULL;
	loop->posts_end = &loop->posts;
	loop->woken = false;
	pthread_mutex_unlock(&loop->lock);
	bool any = post != NULL;

	while (post != NULL) {
		struct mg_post *next = post->next;

		post->fn(post->arg);
		mg_free(post);
		post = next;
	}
	return any;
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
	struct mg_loop *loop = poll->data;
	uint64_t count;

	(void)status;
	(void)events;
	while (read(loop->wake_fd, &count, sizeof count) < 0 && errno == EINTR) {
	}
	(void)run_posts(loop);
	mg_loop__settle(loop);
}

/* ---- connections ---- */

void mg_loop__add_unsettled(struct mg_loop *loop, struct mg_conn *conn)
{
	if (conn->unsettled) {
		return;
	}
	conn->unsettled = true;
	conn->next_unsettled = NULL;
	*loop->unsettled_end = conn;
	loop->unsettled_end = &conn->next_unsettled;
}

static void on_idle(uv_idle_t *idle)
{
	mg_loop__settle(idle->data);
}

/* Before the loop sleeps: what this turn has posted to itself. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct mg_loop *loop = prepare->data;

	for (int round = 0; round < SETTLE_ROUNDS && loop->posted_here; round++) {
		loop->posted_here = false;
		(void)run_posts(loop);
		mg_loop__settle(loop);
	}
	if (loop->posted_here) { /* sockets are looked at first */
		(void)uv_idle_start(&loop->idle, on_idle);
	}
}

void mg_loop__settle(struct mg_loop *loop)
{
	for (int round = 0; round < SETTLE_ROUNDS && loop->unsettled != NULL; round++) {
		struct mg_conn *conn = loop->unsettled;

		loop->unsettled = NULL;
		loop->unsettled_end = &loop->unsettled;
		while (conn != NULL) {
			struct mg_conn *next = conn->next_unsettled;

			conn->unsettled = false;
			mg_conn__settle(conn);
			conn = next;
		}
	}
	if (loop->unsettled != NULL) {
		(void)uv_idle_start(&loop->idle, on_idle);
	} else {
		(void)uv_idle_stop(&loop->idle);
	}
}

static void on_sweep(uv_timer_t *timer)
{
	struct mg_loop *loop = timer->data;
	uint64_t now_ms = uv_now(&loop->uv);

	for (struct mg_conn *conn = loop->conns; conn != NULL; conn = conn->next) {
		mg_conn__sweep(conn, now_ms);
	}
	mg_loop__settle(loop);
}

void mg_loop__add_conn(struct mg_loop *loop, struct mg_conn *conn)
{
	if (loop->conns == NULL && !loop->stopping) {
		(void)uv_timer_start(&loop->sweep, on_sweep, MG_NET_SWEEP_MS, MG_NET_SWEEP_MS);
	}
	conn->next = loop->conns;
	conn->prev = NULL;
	if (conn->next != NULL) {
		conn->next->prev = conn;
	}
	loop->conns = conn;
}

void mg_loop__remove_conn(struct mg_loop *loop, struct mg_conn *conn)
{
	if (conn->prev != NULL) {
		conn->prev->next = conn->next;
	} else {
		loop->conns = conn->next;
	}
	if (conn->next != NULL) {
		conn->next->prev = conn->prev;
	}
	if (loop->conns == NULL && !loop->stopping) {
		(void)uv_timer_stop(&loop->sweep); /* An idle process sleeps. */
	}
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *handle)
{
	struct mg_timer *timer = handle->data;
	struct mg_loop *loop = timer->loop;

	timer->fn(timer->arg); /* may stop the timer */
	mg_loop__settle(loop);
}

static void on_timer_closed(uv_handle_t *handle)
{
	mg_free(handle->data);
}

struct mg_timer *mg_timer_start(struct mg_loop *loop, uint64_t delay_ms, uint64_t repeat_ms,
                                void (*fn)(void *), void *arg)
{
	mg_assert(mg_loop_is_current(loop));
	struct mg_timer *timer = mg_alloc0(sizeof *timer);

	timer->loop = loop;
	timer->fn = fn;
	timer->arg = arg;
	(void)uv_timer_init(&loop->uv, &timer->handle);
	timer->handle.data = timer;
	(void)uv_timer_start(&timer->handle, on_timer, delay_ms, repeat_ms);
	return timer;
}

void mg_timer_stop(struct mg_timer *timer)
{
	if (timer == NULL || uv_is_closing((uv_handle_t *)&timer->handle)) {
		return;
	}
	mg_assert(mg_loop_is_current(timer->loop));
	(void)uv_timer_stop(&timer->handle);
	uv_close((uv_handle_t *)&timer->handle, on_timer_closed);
}

/* ---- life ---- */

static struct mg_loop *free_unopened(struct mg_loop *loop)
{
	if (loop->wake_fd >= 0) {
		close(loop->wake_fd);
	}
	mg_free(loop);
	return NULL;
}

struct mg_loop *mg_loop__new(const char *name)
{
	struct mg_loop *loop = mg_alloc0(sizeof *loop);

	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0 || uv_loop_init(&loop->uv) != 0) {
		return free_unopened(loop);
	}
	if (uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd) != 0) {
		(void)uv_loop_close(&loop->uv);
		return free_unopened(loop);
	}
	loop->wake.data = loop;
	(void)uv_poll_start(&loop->wake, UV_READABLE, on_wake);
	(void)uv_idle_init(&loop->uv, &loop->idle);
	loop->idle.data = loop;
	(void)uv_prepare_init(&loop->uv, &loop->prepare);
	loop->prepare.data = loop;
	(void)uv_prepare_start(&loop->prepare, on_prepare);
	(void)uv_timer_init(&loop->uv, &loop->sweep);
	loop->sweep.data = loop;
	(void)pthread_mutex_init(&loop->lock, NULL);
	loop->posts_end = &loop->posts;
	loop->unsettled_end = &loop->unsettled;
	(void)snprintf(loop->name, sizeof loop->name, "%s", name);
	return loop;
}

void mg_loop__enter(struct mg_loop *loop)
{
	current_loop = loop;
}

/* Close what is left: only timers that nobody has stopped can be. */
static void close_handle(uv_handle_t *handle, void *arg)
{
	if (uv_is_closing(handle)) {
		return;
	}
	const struct mg_loop *loop = arg;
	bool is_timer = handle->type == UV_TIMER && handle != (const uv_handle_t *)&loop->sweep;

	uv_close(handle, is_timer ? on_timer_closed : NULL);
}

static void close_everything(struct mg_loop *loop)
{
	loop->stopping = true;
	mg_acceptor__close_all(loop);
	mg_dial__close_all(loop);
	do {
		for (struct mg_conn *conn = loop->conns; conn != NULL; conn = conn->next) {
			mg_conn_close(conn);
		}
		mg_loop__settle(loop);
	} while (run_posts(loop) || loop->conns != NULL || loop->unsettled != NULL);
}

static void on_stop(void *arg)
{
	close_everything(arg);
	uv_stop(&((struct mg_loop *)arg)->uv);
}

/* Frees what is left; nobody may post any more. */
void mg_loop__free(struct mg_loop *loop)
{
	if (!loop->stopping) {
		close_everything(loop);
	}
	uv_walk(&loop->uv, close_handle, loop);
	while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) {
	}
	(void)run_posts(loop);
	mg_assert(loop->conns == NULL);
	int status = uv_loop_close(&loop->uv);

	mg_assert(status == 0);
	while (atomic_load(&loop->waking)) {
		(void)sched_yield();
	}
	close(loop->wake_fd);
	(void)pthread_mutex_destroy(&loop->lock);
	current_loop = NULL;
	mg_buf_unref(loop->spare);
	mg_free(loop);
}

static void *loop_main(void *arg)
{
	struct mg_loop *loop = arg;

	mg_loop__enter(loop);
	(void)pthread_setname_np(pthread_self(), loop->name);
	mg_thread_prompt();
	while (!loop->stopping) {
		(void)uv_run(&loop->uv, UV_RUN_DEFAULT);
	}
	mg_loop__free(loop);
	return NULL;
}

int mg_loop_start(struct mg_loop **out, const char *name, struct mg_error *err)
{
	struct mg_loop *loop = mg_loop__new(name);

	*out = NULL;
	if (loop == NULL) {
		return mg_error_set(err, MG_E_IO, "cannot start loop \"%s\": no event queue left", name);
	}
	/* Signals are for the main thread; a broken pipe is an error of the write that meets it. */
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int status = pthread_create(&loop->thread, NULL, loop_main, loop);

	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (status != 0) {
		mg_loop__enter(loop);
		mg_loop__free(loop);
		return mg_error_errno(err, status, "cannot start loop \"%s\"", name);
	}
	*out = loop;
	return 0;
}

void mg_loop_stop(struct mg_loop *loop)
{
	if (loop == NULL) {
		return;
	}
	mg_assert(!mg_loop_is_current(loop));
	pthread_t thread = loop->thread;

	mg_loop_post(loop, on_stop, loop);
	(void)pthread_join(thread, NULL);
}
