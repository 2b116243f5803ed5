/*
 * lane.c - see lane.h.
 */
#include "replica/lane.h"

#include "base/assert.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct mg_lane {
	pthread_t thread;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct task {
		void (*run)(void *arg);
		void *arg;
	} tasks[MG_LANE_TASKS]; /* in order */
	size_t count;
	bool running, stopping, joined;
};

static void *work(void *arg)
{
	struct mg_lane *lane = arg;

	pthread_mutex_lock(&lane->lock);
	for (;;) {
		while (!lane->count && !lane->stopping) {
			pthread_cond_wait(&lane->changed, &lane->lock);
		}
		if (!lane->count) {
			break;
		}
		struct task task = lane->tasks[0];

		lane->count--; /* the next one may be given as soon as this one has answered */
		memmove(lane->tasks, lane->tasks + 1, lane->count * sizeof *lane->tasks);
		lane->running = true;
		pthread_mutex_unlock(&lane->lock);
		task.run(task.arg);
		pthread_mutex_lock(&lane->lock);
		lane->running = false;
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

int mg_lane_start(struct mg_lane **out, struct mg_error *err)
{
	struct mg_lane *lane = mg_alloc0(sizeof *lane);

	*out = NULL;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->changed, NULL);
	if (pthread_create(&lane->thread, NULL, work, lane) != 0) {
		pthread_cond_destroy(&lane->changed);
		pthread_mutex_destroy(&lane->lock);
		mg_free(lane);
		return mg_error_set(err, MG_E_NOMEM, "no thread for a state machine");
	}
	*out = lane;
	return 0;
}

void mg_lane_run(struct mg_lane *lane, void (*task)(void *arg), void *arg)
{
	pthread_mutex_lock(&lane->lock);
	if (!lane->stopping) {
		mg_assert(lane->count < MG_LANE_TASKS);
		lane->tasks[lane->count++] = (struct task){ task, arg };
		pthread_cond_signal(&lane->changed);
	}
	pthread_mutex_unlock(&lane->lock);
}

bool mg_lane_is_busy(struct mg_lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	bool busy = lane->running || lane->count > 0;
	pthread_mutex_unlock(&lane->lock);
	return busy;
}

void mg_lane_stop(struct mg_lane *lane)
{
	if (!lane) {
		return;
	}
	pthread_mutex_lock(&lane->lock);
	bool join = !lane->joined;

	lane->stopping = lane->joined = true;
	lane->count = 0;
	pthread_cond_signal(&lane->changed);
	pthread_mutex_unlock(&lane->lock);
	if (join) {
		pthread_join(lane->thread, NULL);
	}
}

void mg_lane_free(struct mg_lane *lane)
{
	if (!lane) {
		return;
	}
	mg_lane_stop(lane);
	pthread_cond_destroy(&lane->changed);
	pthread_mutex_destroy(&lane->lock);
	mg_free(lane);
}
