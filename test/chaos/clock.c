/*
 * clock.c - a wall clock that is wrong, to be preloaded: by as many seconds as the file MG_CLOCK
 * says, which may change at any time.  The monotonic clock stays as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static _Atomic long offset, looked_ms;

__attribute__((constructor)) static void find(void)
{
	*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
}

/* Looked at ten times a second. */
static long off(void)
{
	struct timespec ts;
	const char *path = getenv("MG_CLOCK");
	real(CLOCK_MONOTONIC, &ts);
	long now_ms = ts.tv_sec * 1000 + ts.tv_nsec / 1000000, last = atomic_load(&looked_ms);
	if (path && now_ms - last > 100 && atomic_compare_exchange_strong(&looked_ms, &last, now_ms)) {
		char text[32];
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (got > 0) {
			text[got] = '\0';
			atomic_store(&offset, strtol(text, NULL, 10));
		}
		if (fd >= 0) {
			close(fd);
		}
	}
	return atomic_load(&offset);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (!real) {
		find();
	}
	int code = real(id, ts);
	if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		ts->tv_sec += off();
	}
	return code;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (out) {
		*out = ts.tv_sec;
	}
	return ts.tv_sec;
}
