/* kv_clock.c - see kv_clock.h. */
#include "replica/kv_clock.h"

#include "os/clock.h"

static uint64_t read_wall_us(void)
{
	int64_t now = mg_clock_wall_us();

	return now > 0 ? (uint64_t)now : 0;
}

void mg_kv_clock_init(struct mg_kv_clock *clock)
{
	pthread_mutex_init(&clock->lock, NULL);
	clock->at_us = mg_clock_us();
	clock->time_us = read_wall_us();
}

void mg_kv_clock_fini(struct mg_kv_clock *clock)
{
	pthread_mutex_destroy(&clock->lock);
}

void mg_kv__clock_move(struct mg_kv_clock *clock, uint64_t at_us, uint64_t wall_us)
{
	uint64_t passed = at_us > clock->at_us ? at_us - clock->at_us : 0;
	uint64_t least = clock->time_us + passed - passed / 10;
	uint64_t most = clock->time_us + passed + passed / 10;

	clock->time_us = wall_us < least ? least : wall_us > most ? most : wall_us;
	clock->at_us += passed;
}

uint64_t mg_kv_clock_now_ms(struct mg_kv_clock *clock)
{
	pthread_mutex_lock(&clock->lock);
	mg_kv__clock_move(clock, mg_clock_us(), read_wall_us());
	uint64_t now_ms = clock->time_us / 1000;

	pthread_mutex_unlock(&clock->lock);
	return now_ms;
}

void mg_kv_clock_saw(struct mg_kv_clock *clock, uint64_t time_ms)
{
	pthread_mutex_lock(&clock->lock);
	mg_kv__clock_move(clock, mg_clock_us(), read_wall_us());
	if (clock->time_us < time_ms * 1000) {
		clock->time_us = time_ms * 1000;
	}
	pthread_mutex_unlock(&clock->lock);
}
