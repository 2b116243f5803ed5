/* clock.c - the clocks. */
#include "os/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint64_t mg_clock_us(void)
{
	return (uint64_t)read_us(CLOCK_MONOTONIC);
}

uint64_t mg_clock_ms(void)
{
	return mg_clock_us() / 1000;
}

uint64_t mg_clock_boot_ms(void)
{
	return (uint64_t)read_us(CLOCK_BOOTTIME) / 1000;
}

int64_t mg_clock_wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}

int64_t mg_clock_wall_ms(void)
{
	return mg_clock_wall_us() / 1000;
}

void mg_sleep_ms(uint32_t ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
	while (nanosleep(&left, &left) != 0 && errno == EINTR) {
	}
}

char *mg_clock_format(int64_t wall_ms, char out[MG_CLOCK_TEXT_SIZE])
{
	int64_t second = wall_ms / 1000;
	int ms = (int)(wall_ms % 1000);
	if (ms < 0) {
		ms += 1000;
		second--;
	}
	time_t when = (time_t)second;
	struct tm parts;
	size_t len = 0;
	if (gmtime_r(&when, &parts)) {
		len = strftime(out, MG_CLOCK_TEXT_SIZE - 6, "%Y-%m-%dT%H:%M:%S", &parts);
	}
	snprintf(out + len, MG_CLOCK_TEXT_SIZE - len, ".%03dZ", ms);
	return out;
}
