/* Streams between a producer's thread and a loop: bounds, ends, wakes. */
#include "net_kit.h"

enum { BLOCK = 256 * 1024, BLOCKS = 80 }; /* 20 MiB: five times the high mark */

static struct mg_loop *loop;

static int setup(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	kit_must(mg_loop_start(&loop, "stream", &err), &err);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mg_loop_stop(loop);
	return 0;
}

struct producer {
	struct mg_stream *stream;
	pthread_t thread;
	struct kit_gate waits; /* times it began to wait */
	struct kit_gate resumed;
	struct kit_gate done;
	int status;
	int put;
	struct mg_error err;
};

static void on_before(void *arg)
{
	kit_gate_add(&((struct producer *)arg)->waits, 1);
}

static void on_after(void *arg)
{
	kit_gate_add(&((struct producer *)arg)->resumed, 1);
}

static void *produce(void *arg)
{
	struct producer *producer = arg;

	for (int i = 0; i < BLOCKS && producer->status == 0; i++) {
		struct mg_buf *buf = mg_buf_new(BLOCK);

		memset(buf->data, i, BLOCK);
		buf->size = BLOCK;
		producer->status = mg_stream_put(producer->stream, buf, &producer->err);
		producer->put += producer->status == 0;
		mg_buf_unref(buf);
	}
	mg_stream_finish(producer->stream);
	kit_gate_add(&producer->done, 1);
	return NULL;
}

static void producer_start(struct producer *producer, struct mg_stream *stream)
{
	*producer = (struct producer){
		.stream = stream, .waits = KIT_GATE, .resumed = KIT_GATE, .done = KIT_GATE
	};
	mg_stream_on_wait(stream, on_before, on_after, producer);
	assert_int_equal(pthread_create(&producer->thread, NULL, produce, producer), 0);
}

struct consumer {
	struct mg_stream *stream;
	struct kit_gate woken;
	int taken;
	bool finished;
	bool in_order;
	int limit;
};

static void on_wake(void *arg)
{
	struct consumer *consumer = arg;

	assert_true(mg_loop_is_current(loop));
	kit_gate_add(&consumer->woken, 1);
}

/* On the loop: take up to limit blocks. */
static void take_some(void *arg)
{
	struct consumer *consumer = arg;

	for (int i = 0; i < consumer->limit && !consumer->finished; i++) {
		struct mg_buf *buf = mg_stream_take(consumer->stream, &consumer->finished);

		if (buf == NULL) {
			return;
		}
		consumer->in_order = consumer->in_order && buf->data[BLOCK - 1] == (uint8_t)consumer->taken;
		consumer->taken++;
		mg_buf_unref(buf);
	}
}

static void close_stream(void *arg)
{
	mg_stream_close(arg);
}

/* A wake may still be on its way: only a closed stream forgets its consumer, and only on the loop
 * for good. */
static void end_consumer(struct consumer *consumer)
{
	kit_on_loop(loop, close_stream, consumer->stream);
	mg_stream_unref(consumer->stream);
}

static void test_producer_waits_at_high_mark_and_goes_on_below_low(void **state)
{
	struct producer producer;
	struct consumer consumer = { .woken = KIT_GATE, .in_order = true };

	(void)state;
	consumer.stream = mg_stream_new(loop, on_wake, &consumer);
	producer_start(&producer, consumer.stream);
	assert_true(kit_gate_wait(&producer.waits, 1));
	assert_true(kit_gate_wait(&consumer.woken, 1));
	size_t queued = mg_stream_queued(consumer.stream);

	assert_true(queued >= MG_STREAM_HIGH && queued < MG_STREAM_HIGH + BLOCK);
	consumer.limit = (int)((MG_STREAM_HIGH - MG_STREAM_LOW) / BLOCK) - 1;
	kit_on_loop(loop, take_some, &consumer);
	assert_true(mg_stream_queued(consumer.stream) > MG_STREAM_LOW);
	assert_int_equal(kit_gate_count(&producer.resumed), 0); /* not yet below the low mark */
	consumer.limit = 2;
	kit_on_loop(loop, take_some, &consumer);
	assert_true(kit_gate_wait(&producer.resumed, 1));
	while (!consumer.finished) {
		assert_true(mg_stream_queued(consumer.stream) < MG_STREAM_HIGH + BLOCK);
		consumer.limit = 3;
		kit_on_loop(loop, take_some, &consumer);
	}
	pthread_join(producer.thread, NULL);
	assert_int_equal(producer.status, 0);
	assert_int_equal(consumer.taken, BLOCKS);
	assert_true(consumer.in_order);
	assert_int_equal(mg_stream_queued(consumer.stream), 0);
	end_consumer(&consumer);
}

static void test_close_frees_a_waiting_producer(void **state)
{
	struct producer producer;
	struct mg_stream *stream = mg_stream_new(loop, NULL, NULL);

	(void)state;
	producer_start(&producer, stream);
	assert_true(kit_gate_wait(&producer.waits, 1));
	mg_stream_close(stream);
	assert_true(kit_gate_wait(&producer.done, 1));
	pthread_join(producer.thread, NULL);
	assert_int_equal(producer.status, MG_E_DISCONNECTED);
	assert_int_equal(mg_stream_queued(stream), 0);
	mg_stream_unref(stream);
}

static void test_reader_that_takes_nothing_times_the_producer_out(void **state)
{
	struct producer producer;
	struct mg_stream *stream = mg_stream_new(loop, NULL, NULL);

	(void)state;
	mg_stream_idle_limit(stream, 50);
	producer_start(&producer, stream);
	assert_true(kit_gate_wait(&producer.done, 1));
	pthread_join(producer.thread, NULL);
	assert_int_equal(producer.status, MG_E_TIMEOUT);
	mg_stream_unref(stream);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void test_one_wake_for_each_emptiness(void **state)
{
	struct consumer consumer = { .woken = KIT_GATE, .limit = 100 };
	struct mg_buf *buf = mg_buf_new(BLOCK);

	(void)state;
	buf->size = BLOCK;
	consumer.stream = mg_stream_new(loop, on_wake, &consumer);
	for (int i = 0; i < 5; i++) {
		kit_must(mg_stream_put(consumer.stream, buf, NULL), NULL);
	}
	kit_on_loop(loop, nothing, NULL);
	assert_int_equal(kit_gate_count(&consumer.woken), 1);
	kit_on_loop(loop, take_some, &consumer);
	assert_int_equal(consumer.taken, 5);
	kit_must(mg_stream_put(consumer.stream, buf, NULL), NULL);
	assert_true(kit_gate_wait(&consumer.woken, 2));
	kit_on_loop(loop, take_some, &consumer);
	mg_stream_finish(consumer.stream);
	assert_true(kit_gate_wait(&consumer.woken, 3)); /* the end is news, too */
	kit_on_loop(loop, take_some, &consumer);
	assert_true(consumer.finished);
	assert_false(mg_stream_failed(consumer.stream));
	mg_buf_unref(buf);
	end_consumer(&consumer);
}

static void test_wake_of_a_closed_stream_is_not_called(void **state)
{
	struct consumer *consumer = calloc(1, sizeof *consumer);
	struct mg_stream *stream = mg_stream_new(loop, on_wake, consumer);
	struct mg_buf *buf = mg_buf_new(1);
	struct mg_error err = { 0 };

	(void)state;
	mg_stream_close(stream);
	free(consumer); /* A wake would now be a use after free. */
	assert_int_equal(mg_stream_put(stream, buf, &err), MG_E_DISCONNECTED);
	mg_stream_fail(stream);
	assert_true(mg_stream_failed(stream));
	kit_on_loop(loop, nothing, NULL);
	mg_buf_unref(buf);
	mg_stream_unref(stream);
}

/* A producer on the loop itself. */
struct pusher {
	struct mg_stream *stream;
	struct mg_buf *buf;
	struct kit_gate rooms;
	int pushed;
};

static void on_room(void *arg)
{
	struct pusher *pusher = arg;

	assert_true(mg_loop_is_current(loop));
	kit_gate_add(&pusher->rooms, 1);
}

static void push_until_full(void *arg)
{
	struct pusher *pusher = arg;
	struct mg_error err = { 0 };

	while (!mg_stream_is_full(pusher->stream)) {
		assert_int_equal(mg_stream_push(pusher->stream, pusher->buf, &err), 0);
		pusher->pushed++;
	}
}

static void take_one(void *arg)
{
	struct pusher *pusher = arg;
	bool finished;
	struct mg_buf *buf = mg_stream_take(pusher->stream, &finished);

	assert_non_null(buf);
	assert_false(finished);
	mg_buf_unref(buf);
}

static void test_a_loop_pushes_and_is_told_of_room(void **state)
{
	struct pusher pusher = { .stream = mg_stream_new(loop, NULL, NULL),
		                     .buf = mg_buf_new(100),
		                     .rooms = KIT_GATE };
	struct mg_error err = { 0 };

	(void)state;
	pusher.buf->size = 100;
	mg_stream_set_room(pusher.stream, 1000, on_room, &pusher);
	kit_on_loop(loop, push_until_full, &pusher);
	assert_int_equal(pusher.pushed, 10);
	for (int i = 0; i < 5; i++) {
		kit_on_loop(loop, take_one, &pusher);
	}
	assert_true(mg_stream_is_full(pusher.stream)); /* half is not below half */
	kit_on_loop(loop, nothing, NULL);
	assert_int_equal(kit_gate_count(&pusher.rooms), 0);
	kit_on_loop(loop, take_one, &pusher);
	assert_true(kit_gate_wait(&pusher.rooms, 1));
	assert_false(mg_stream_is_full(pusher.stream));
	kit_on_loop(loop, push_until_full, &pusher);
	assert_int_equal(pusher.pushed, 16);
	kit_on_loop(loop, close_stream, pusher.stream);
	assert_int_equal(mg_stream_push(pusher.stream, pusher.buf, &err), MG_E_DISCONNECTED);
	kit_on_loop(loop, nothing, NULL);
	assert_int_equal(kit_gate_count(&pusher.rooms), 1);
	mg_buf_unref(pusher.buf);
	mg_stream_unref(pusher.stream);
}

static void test_next_consumer_hears_of_blocks_that_came_before(void **state)
{
	struct consumer consumer = { .woken = KIT_GATE };
	struct mg_stream *stream = mg_stream_new(loop, NULL, NULL);
	struct mg_buf *buf = mg_buf_new(1);

	(void)state;
	kit_must(mg_stream_put(stream, buf, NULL), NULL);
	mg_stream_set_wake(stream, on_wake, &consumer);
	assert_true(kit_gate_wait(&consumer.woken, 1));
	consumer.stream = stream;
	end_consumer(&consumer);
	mg_buf_unref(buf);
}

/* ---- the loop itself ---- */

struct ticker {
	struct mg_timer *timer;
	int ticks;
	struct kit_gate done;
};

static void on_tick(void *arg)
{
	struct ticker *ticker = arg;

	if (++ticker->ticks == 3) {
		mg_timer_stop(ticker->timer); /* inside its own call */
		kit_gate_add(&ticker->done, 1);
	}
}

static void start_ticker(void *arg)
{
	struct ticker *ticker = arg;

	ticker->timer = mg_timer_start(loop, 1, 1, on_tick, ticker);
}

static void test_timer_repeats_until_it_is_stopped(void **state)
{
	struct ticker ticker = { .done = KIT_GATE };

	(void)state;
	kit_on_loop(loop, start_ticker, &ticker);
	assert_true(kit_gate_wait(&ticker.done, 1));
	kit_on_loop(loop, nothing, NULL);
	assert_int_equal(ticker.ticks, 3);
}

static void count_post(void *arg)
{
	++*(long *)arg; /* only ever on the loop */
}

static void *post_many(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		mg_loop_post(loop, count_post, arg);
	}
	return NULL;
}

static void test_every_post_runs_once(void **state)
{
	pthread_t threads[4];
	long count = 0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, &count), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	kit_on_loop(loop, nothing, NULL);
	assert_int_equal(count, 80000);
}

static void start_forgotten_timer(void *arg)
{
	(void)mg_timer_start(arg, 1000000, 0, nothing, NULL);
}

static void test_posts_and_timers_of_a_stopping_loop_are_not_lost(void **state)
{
	struct mg_loop *other = NULL;
	struct mg_error err = { 0 };
	long count = 0;

	(void)state;
	kit_must(mg_loop_start(&other, "other", &err), &err);
	kit_on_loop(other, start_forgotten_timer, other);
	for (int i = 0; i < 1000; i++) {
		mg_loop_post(other, count_post, &count);
	}
	mg_loop_stop(other);
	assert_int_equal(count, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_producer_waits_at_high_mark_and_goes_on_below_low),
		cmocka_unit_test(test_close_frees_a_waiting_producer),
		cmocka_unit_test(test_reader_that_takes_nothing_times_the_producer_out),
		cmocka_unit_test(test_one_wake_for_each_emptiness),
		cmocka_unit_test(test_wake_of_a_closed_stream_is_not_called),
		cmocka_unit_test(test_a_loop_pushes_and_is_told_of_room),
		cmocka_unit_test(test_next_consumer_hears_of_blocks_that_came_before),
		cmocka_unit_test(test_timer_repeats_until_it_is_stopped),
		cmocka_unit_test(test_every_post_runs_once),
		cmocka_unit_test(test_posts_and_timers_of_a_stopping_loop_are_not_lost),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
