/*
 * kv_clock.h - the time that entries of keys and values bring: when a key goes, for how long a
 * request's answer is kept, when what was begun is given up.
 *
 * Rule: it goes as time goes, whatever the wall clock does.  It begins as the wall clock of the
 * start; what is in a log is never in its future; from then on it moves towards the wall clock, but
 * a tenth faster or slower than time at most.  So a wall clock that jumps by an hour ends no key an
 * hour early, and a log that somebody's wrong clock has brought an hour ahead does not stand still
 * for an hour.
 *
 * A server that is started with a wall clock that is ahead still takes the logs there with it.
 *
 * Thread: any.
 */
#ifndef MG_REPLICA_KV_CLOCK_H
#define MG_REPLICA_KV_CLOCK_H

#include <pthread.h>
#include <stdint.h>

struct mg_kv_clock {
	pthread_mutex_t lock;
	/* guarded by lock */
	uint64_t time_us; /* since 1970, when the monotonic clock was at_us */
	uint64_t at_us;
};

void mg_kv_clock_init(struct mg_kv_clock *clock);
void mg_kv_clock_fini(struct mg_kv_clock *clock);
uint64_t mg_kv_clock_now_ms(struct mg_kv_clock *clock);
/* A log has come to this time. */
void mg_kv_clock_saw(struct mg_kv_clock *clock, uint64_t time_ms);

/* ---- for tests, and the above ---- */

/* Goes on to this moment. */
void mg_kv__clock_move(struct mg_kv_clock *clock, uint64_t at_us, uint64_t wall_us);

#endif
