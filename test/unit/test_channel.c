/* test_channel.c - frames between two ends over a real socket: order, checksums, back-pressure,
 * garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exec/channel.h"
#include "os/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define FRAMES 600
#define PAYLOAD 65536
#define PATIENCE_MS 120000 /* for what happens at once, on a machine that is busy */

/* One end, as its handler sees it. */
struct end {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct mg_channel *channel;
	uint64_t frames, controls, bytes;
	bool opened, closed, in_order, hold;
	int status;
	char reason[200];
};

static struct end near_end, far_end;
static struct mg_loop *loop;
static struct mg_listener *listener;

static void end_init(struct end *end)
{
	memset(end, 0, sizeof *end);
	pthread_mutex_init(&end->lock, NULL);
	pthread_cond_init(&end->changed, NULL);
	end->in_order = true;
}

static int on_control(void *arg, const struct mg_json *json, struct mg_error *err)
{
	struct end *end = arg;
	if (mg_text_eq(mg_json_get_text(json, "type"), "bad")) {
		return mg_error_set(err, MG_E_PROTOCOL, "refused by the handler");
	}
	pthread_mutex_lock(&end->lock);
	/* "after N": every data frame sent before it must have come. */
	end->in_order &= mg_json_get_int(json, "after", 0) <= (int64_t)end->frames;
	end->controls++;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
	return 0;
}

static int on_data(void *arg, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err)
{
	(void)err;
	struct end *end = arg;
	pthread_mutex_lock(&end->lock);
	while (end->hold) {
		pthread_cond_wait(&end->changed, &end->lock);
	}
	end->in_order &= frame->rows == end->frames && payload->data[0] == (uint8_t)frame->rows;
	end->frames++;
	end->bytes += payload->size;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
	return 0;
}

static void on_closed(void *arg, const char *reason)
{
	struct end *end = arg;
	pthread_mutex_lock(&end->lock);
	end->closed = true;
	mg_copy_text(end->reason, sizeof end->reason, reason);
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static void on_opened(void *arg, int status)
{
	struct end *end = arg;
	pthread_mutex_lock(&end->lock);
	end->opened = true;
	end->status = status;
	pthread_cond_broadcast(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

/* Wait, up to 20 s, until *value reaches want. */
static bool await(struct end *end, const uint64_t *value, uint64_t want)
{
	uint64_t until = mg_clock_ms() + PATIENCE_MS;
	pthread_mutex_lock(&end->lock);
	while (*value < want && !end->closed && mg_clock_ms() < until) {
		struct timespec deadline;
		clock_gettime(CLOCK_REALTIME, &deadline);
		deadline.tv_sec += 1;
		pthread_cond_timedwait(&end->changed, &end->lock, &deadline);
	}
	bool reached = *value >= want;
	pthread_mutex_unlock(&end->lock);
	return reached;
}

/* The system gives no thread to the fail_at-th asking from now on; 0: to all. */
static atomic_int fail_at;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *),
                   void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (!next) {
		*(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
	}
	if (atomic_load(&fail_at) && atomic_fetch_sub(&fail_at, 1) == 1) {
		return EAGAIN;
	}
	return next(thread, attributes, body, arg);
}

static bool await_flag(struct end *end, const bool *flag)
{
	uint64_t until = mg_clock_ms() + PATIENCE_MS;
	pthread_mutex_lock(&end->lock);
	while (!*flag && mg_clock_ms() < until) {
		struct timespec deadline;
		clock_gettime(CLOCK_REALTIME, &deadline);
		deadline.tv_sec += 1;
		pthread_cond_timedwait(&end->changed, &end->lock, &deadline);
	}
	bool reached = *flag;
	pthread_mutex_unlock(&end->lock);
	return reached;
}

static struct mg_channel_handler handler_of(struct end *end)
{
	return (struct mg_channel_handler){
		.control = on_control, .data = on_data, .closed = on_closed, .arg = end
	};
}

static size_t on_head(struct mg_http_request *request, void *arg)
{
	(void)request, (void)arg;
	return 1024;
}

static void on_request(struct mg_http_request *request, void *arg)
{
	(void)arg;
	struct mg_channel_handler handler = handler_of(&far_end);
	struct mg_channel *channel = mg_channel_accept(request, &handler);
	pthread_mutex_lock(&far_end.lock);
	far_end.channel = channel;
	far_end.opened = channel != NULL;
	pthread_cond_broadcast(&far_end.changed);
	pthread_mutex_unlock(&far_end.lock);
}

static bool choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	(void)arg, (void)bytes, (void)size;
	static const struct mg_http_handler handler = { .head = on_head, .request = on_request };
	mg_conn_set_protocol(conn, &mg_http_protocol, mg_http_state_new(&handler));
	return true;
}

static struct mg_error refusal; /* of the near end's channel */

static void on_dialled(struct mg_conn *conn, const struct mg_error *err, void *arg)
{
	(void)arg, (void)err;
	struct mg_channel_handler handler = handler_of(&near_end);
	struct mg_channel *channel =
		conn ? mg_channel_connect(conn, "localhost", "/worker", "", &handler, on_opened, &refusal)
			 : NULL;
	pthread_mutex_lock(&near_end.lock);
	near_end.channel = channel;
	near_end.closed |= !channel;
	pthread_cond_broadcast(&near_end.changed);
	pthread_mutex_unlock(&near_end.lock);
}

static int dial(void **state)
{
	(void)state;
	struct mg_error err;
	mg_error_clear(&err);
	end_init(&near_end);
	end_init(&far_end);
	assert_int_equal(mg_loop_start(&loop, "test", &err), 0);
	struct mg_listen_options options = { .host_port = "127.0.0.1:0",
		                                 .plain_loopback = true,
		                                 .choose = choose };
	assert_int_equal(mg_listen(&listener, &loop, 1, &options, &err), 0);
	char address[64];
	snprintf(address, sizeof address, "127.0.0.1:%u", mg_listener_port(listener));
	mg_dial(loop, address, NULL, 5000, on_dialled, NULL);
	return 0;
}

static int setup(void **state)
{
	dial(state);
	assert_true(await_flag(&near_end, &near_end.opened));
	assert_true(await_flag(&far_end, &far_end.opened));
	assert_int_equal(near_end.status, 101);
	return 0;
}

static void stop(void)
{
	mg_channel_unref(near_end.channel);
	mg_channel_unref(far_end.channel);
	mg_listener_close(listener);
	mg_loop_stop(loop);
}

static int teardown(void **state)
{
	(void)state;
	mg_channel_close(near_end.channel, "test over");
	assert_true(await_flag(&near_end, &near_end.closed));
	assert_true(await_flag(&far_end, &far_end.closed));
	stop();
	return 0;
}

/* One thread for the loop, one for the near end's channel, and none for the far end's. */
static void test_without_a_thread_a_connection_is_refused(void **state)
{
	atomic_store(&fail_at, 3);
	dial(state);
	assert_true(await_flag(&near_end, &near_end.closed));
	assert_int_equal(near_end.status, 429);
	assert_non_null(strstr(near_end.reason, "gives no thread"));
	pthread_mutex_lock(&far_end.lock);
	assert_false(far_end.opened || far_end.closed);
	pthread_mutex_unlock(&far_end.lock);
	stop();
	setup(state); /* the next one is served */
	teardown(state);
}

static void test_without_a_thread_nothing_is_connected(void **state)
{
	atomic_store(&fail_at, 2);
	dial(state);
	assert_true(await_flag(&near_end, &near_end.closed));
	assert_null(near_end.channel);
	assert_false(near_end.opened);
	assert_int_equal(refusal.code, MG_E_NOMEM);
	assert_non_null(strstr(refusal.hint, "limit of threads"));
	stop();
}

static struct mg_buf *payload_of(uint64_t number)
{
	struct mg_buf *buf = mg_buf_new(PAYLOAD);
	memset(buf->data, (int)(uint8_t)number, PAYLOAD);
	buf->size = PAYLOAD;
	return buf;
}

static int send_frames(uint64_t count)
{
	struct mg_error err;
	int code = 0;
	mg_error_clear(&err);
	for (uint64_t i = 0; !code && i < count; i++) {
		struct mg_buf *buf = payload_of(i);
		struct mg_frame frame = {
			.kind = MG_FRAME_BATCH, .id = 1, .stage = 2, .target = 3, .rows = i
		};
		code = mg_channel_send_data(near_end.channel, &frame, buf, &err);
		mg_buf_unref(buf);
	}
	return code;
}

static void test_frames_arrive_whole_and_in_order(void **state)
{
	(void)state;
	assert_int_equal(send_frames(FRAMES), 0);
	mg_channel_sendf(near_end.channel, "{\"type\":\"ran\",\"after\":%d}", FRAMES);
	assert_true(await(&far_end, &far_end.controls, 1));
	assert_int_equal(far_end.frames, FRAMES);
	assert_int_equal(far_end.bytes, (uint64_t)FRAMES * PAYLOAD);
	assert_true(far_end.in_order);
}

static void *sender(void *arg)
{
	uint64_t *sent = arg;
	for (uint64_t i = 0; i < 4096; i++) {
		struct mg_error err;
		mg_error_clear(&err);
		struct mg_buf *buf = payload_of(i);
		struct mg_frame frame = { .kind = MG_FRAME_BATCH, .rows = i };
		int code = mg_channel_send_data(near_end.channel, &frame, buf, &err);
		mg_buf_unref(buf);
		if (code) {
			break;
		}
		__atomic_store_n(sent, i + 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void test_a_slow_handler_holds_the_sender_back(void **state)
{
	(void)state;
	uint64_t sent = 0, before = UINT64_MAX;
	pthread_t thread;
	pthread_mutex_lock(&far_end.lock);
	far_end.hold = true;
	pthread_mutex_unlock(&far_end.lock);
	assert_int_equal(pthread_create(&thread, NULL, sender, &sent), 0);
	/* The sender comes to a halt far below the 256 MB that it wants to send. */
	for (int quiet = 0; quiet < 5;) {
		mg_sleep_ms(100);
		uint64_t now = __atomic_load_n(&sent, __ATOMIC_SEQ_CST);
		quiet = now == before ? quiet + 1 : 0;
		before = now;
	}
	assert_true(before * PAYLOAD < 100u << 20);
	pthread_mutex_lock(&far_end.lock);
	far_end.hold = false;
	pthread_cond_broadcast(&far_end.changed);
	pthread_mutex_unlock(&far_end.lock);
	assert_true(await(&far_end, &far_end.frames, 4096));
	pthread_join(thread, NULL);
	assert_true(far_end.in_order);
}

static void test_a_handler_that_refuses_closes_both_ends(void **state)
{
	(void)state;
	mg_channel_send(near_end.channel, "{\"type\":\"bad\"}");
	assert_true(await_flag(&far_end, &far_end.closed));
	assert_true(await_flag(&near_end, &near_end.closed));
	assert_string_equal(far_end.reason, "refused by the handler");
	assert_int_equal(send_frames(1), MG_E_DISCONNECTED);
}

static void test_text_that_is_no_control_frame_closes(void **state)
{
	(void)state;
	mg_channel_send(near_end.channel, "[1,2");
	assert_true(await_flag(&far_end, &far_end.closed));
}

static void test_a_flipped_bit_is_noticed(void **state)
{
	(void)state;
	uint8_t message[MG_FRAME_HEAD + 64];
	memset(message, 7, sizeof message);
	struct mg_frame frame = { .kind = MG_FRAME_SCHEMA,
		                      .id = UINT64_MAX,
		                      .stage = 1,
		                      .target = 2,
		                      .rows = 3 },
					out;
	mg_frame_encode(message, &frame, message + MG_FRAME_HEAD, 64);
	struct mg_error err;
	assert_int_equal(mg_frame_decode(message, sizeof message, &out, &err), 0);
	assert_true(out.id == UINT64_MAX && out.stage == 1 && out.target == 2 && out.rows == 3);
	for (size_t bit = 0; bit < 64 * 8; bit++) {
		message[MG_FRAME_HEAD + bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(mg_frame_decode(message, sizeof message, &out, &err), MG_E_PROTOCOL);
		message[MG_FRAME_HEAD + bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(mg_frame_decode(message, MG_FRAME_HEAD - 1, &out, &err), MG_E_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames_arrive_whole_and_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_slow_handler_holds_the_sender_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_handler_that_refuses_closes_both_ends, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_text_that_is_no_control_frame_closes, setup, teardown),
		cmocka_unit_test(test_without_a_thread_a_connection_is_refused),
		cmocka_unit_test(test_without_a_thread_nothing_is_connected),
		cmocka_unit_test(test_a_flipped_bit_is_noticed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
