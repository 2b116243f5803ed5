/*
 * signals.c - see signals.h.
 *
 * The signals are blocked and taken by sigtimedwait, so no handler ever runs inside other code.
 */
#include "server/signals.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

static int stops;
static bool reload;

static void watched(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void mg_signals_watch(void)
{
	sigset_t set;
	watched(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int mg_signals_wait(unsigned timeout_ms)
{
	sigset_t set;
	watched(&set);
	struct timespec timeout = { .tv_sec = timeout_ms / 1000,
		                        .tv_nsec = (long)(timeout_ms % 1000) * 1000000 };
	int number = sigtimedwait(&set, NULL, &timeout);
	if (number == SIGHUP) {
		reload = true;
	} else if (number > 0) {
		stops++;
	}
	return stops;
}

bool mg_signals_take_reload(void)
{
	bool was = reload;
	reload = false;
	return was;
}
