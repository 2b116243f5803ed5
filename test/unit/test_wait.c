/* test_wait.c - a waker between threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "os/clock.h"
#include "os/wait.h"

#include <pthread.h>

struct game {
	pthread_mutex_t lock;
	struct mg_waker waker;
	unsigned thrown, caught;
	bool over;
};

static void *catch(void *arg)
{
	struct game *game = arg;

	pthread_mutex_lock(&game->lock);
	while (!game->over || game->caught < game->thrown) {
		if (game->caught == game->thrown) {
			mg_waker_sleep(&game->waker, &game->lock, UINT64_MAX);
		}
		game->caught = game->thrown;
	}
	pthread_mutex_unlock(&game->lock);
	return NULL;
}

static void *throw(void *arg)
{
	struct game *game = arg;

	for (unsigned i = 0; i < 20000; i++) {
		pthread_mutex_lock(&game->lock);
		game->thrown++;
		mg_waker_wake_sleeper(&game->waker, &game->lock);
	}
	return NULL;
}

/* The sleeper misses nothing, and the waker may go as soon as it has all: a lost wake-up hangs. */
static void test_a_waker_loses_nothing(void **state)
{
	struct game *game = mg_alloc0(sizeof *game);
	pthread_t catcher, throwers[2];

	(void)state;
	pthread_mutex_init(&game->lock, NULL);
	mg_waker_init(&game->waker);
	assert_int_equal(pthread_create(&catcher, NULL, catch, game), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&throwers[i], NULL, throw, game), 0);
	}
	for (size_t i = 0; i < 2; i++) {
		pthread_join(throwers[i], NULL);
	}
	pthread_mutex_lock(&game->lock);
	game->over = true;
	mg_waker_wake(&game->waker, &game->lock);
	pthread_join(catcher, NULL);
	assert_int_equal(game->caught, 40000);
	mg_waker_fini(&game->waker);
	pthread_mutex_destroy(&game->lock);
	mg_free(game);
}

static void test_a_sleeper_wakes_by_itself(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct mg_waker waker;
	uint64_t until = mg_clock_ms() + 30;

	(void)state;
	mg_waker_init(&waker);
	pthread_mutex_lock(&lock);
	while (mg_clock_ms() < until) {
		mg_waker_sleep(&waker, &lock, until);
	}
	mg_waker_wake(&waker, &lock); /* before it sleeps: that counts, too */
	pthread_mutex_lock(&lock);
	mg_waker_sleep(&waker, &lock, UINT64_MAX);
	pthread_mutex_unlock(&lock);
	mg_waker_fini(&waker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_waker_loses_nothing),
		cmocka_unit_test(test_a_sleeper_wakes_by_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
