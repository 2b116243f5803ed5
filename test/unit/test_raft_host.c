/*
 * The raft thread: what many threads propose is there, in order, after a close and after a kill;
 * what is under way at a stop hears so.
 */
#include "base/log.h"
#include "net/net.h"
#include "os/file.h"
#include "unit/replica_kit.h"

#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#define THREADS 8
#define EACH 1250
#define WINDOW 16

static char root[64];

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/mg_raft_host.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	(void)state;
	return mg_tree_remove(root, NULL);
}

static void *propose_many(void *arg)
{
	struct kit_proposer *proposer = arg;

	(void)kit_propose(proposer, 1, EACH);
	return NULL;
}

/* Each one's commands, 1 .. count, in their order; returns how many there are in all. */
static size_t check_order(struct kit_replica *replica, uint32_t *last, uint32_t froms)
{
	memset(last, 0, froms * sizeof *last);
	pthread_mutex_lock(&replica->lock);
	for (size_t i = 0; i < replica->applied_count; i++) {
		struct kit_command command = replica->applied[i];

		assert_true(command.from < froms);
		assert_int_equal(command.number, last[command.from] + 1);
		last[command.from] = command.number;
	}
	size_t count = replica->applied_count;
	pthread_mutex_unlock(&replica->lock);
	return count;
}

static void test_all_proposals_are_there_in_order(void **state)
{
	struct kit_replica replica;
	struct kit_proposer proposers[THREADS];
	pthread_t threads[THREADS];
	uint32_t last[THREADS];

	(void)state;
	kit_open(&replica, root, 1, 1, NULL);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_leader(&replica);
	for (uint32_t i = 0; i < THREADS; i++) {
		kit_proposer_init(&proposers[i], &replica, i, WINDOW);
		assert_int_equal(pthread_create(&threads[i], NULL, propose_many, &proposers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(proposers[i].error, 0);
		assert_int_equal(proposers[i].acknowledged, EACH);
		kit_proposer_fini(&proposers[i]);
	}
	assert_int_equal(check_order(&replica, last, THREADS), THREADS * EACH);
	uint64_t incarnation = mg_raft_host_incarnation(replica.host);
	kit_close(&replica);

	kit_open(&replica, root, 1, 1, NULL);
	assert_true(mg_raft_host_incarnation(replica.host) > incarnation);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_applied(&replica, THREADS * EACH);
	assert_int_equal(check_order(&replica, last, THREADS), THREADS * EACH);
	kit_close(&replica);
}

/* ---- who has the turn ---- */

enum { POSTERS = 3, POSTS = 20000 }; /* two loops and a thread */

struct poster {
	struct mg_raft_host *host;
	struct mg_loop *loop; /* NULL: a thread */
	uint32_t posted;
	uint32_t ran, on_loops; /* owner: who has the turn */
	atomic_bool done;
};
struct posted {
	struct poster *poster;
	uint32_t number;
};

static atomic_bool running;

static void run_posted(void *arg)
{
	struct posted *posted = arg;
	struct poster *poster = posted->poster;

	mg_assert(!atomic_exchange(&running, true)); /* one at a time */
	mg_assert(posted->number == ++poster->ran);
	poster->on_loops += mg_loop_current() != NULL;
	(void)mg_raft_host_node(poster->host); /* which it may be asked for */
	atomic_store(&poster->done, poster->ran == POSTS);
	atomic_store(&running, false);
	mg_free(posted);
}

static void post_one(struct poster *poster)
{
	struct posted *posted = mg_alloc(sizeof *posted);

	*posted = (struct posted){ poster, ++poster->posted };
	mg_raft_host_post(poster->host, run_posted, posted);
}

/* A few, then the loop looks at other things, and now and then it rests so that all sleep. */
static void post_on_loop(void *arg)
{
	struct poster *poster = arg;

	for (int i = 0; i < 3 && poster->posted < POSTS; i++) {
		post_one(poster);
	}
	if (poster->posted % 50 == 0) {
		mg_sleep_ms(1);
	}
	if (poster->posted < POSTS) {
		mg_loop_post(poster->loop, post_on_loop, poster);
	}
}

static void test_loops_take_the_turn(void **state)
{
	struct kit_replica replica;
	struct poster posters[POSTERS] = { 0 };
	char name[16];

	(void)state;
	kit_open(&replica, root, 1, 1, NULL);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_leader(&replica);
	for (int i = 0; i < POSTERS; i++) {
		posters[i].host = replica.host;
		snprintf(name, sizeof name, "loop-%d", i);
		if (i < POSTERS - 1) {
			assert_int_equal(mg_loop_start(&posters[i].loop, name, NULL), 0);
			mg_loop_post(posters[i].loop, post_on_loop, &posters[i]);
		}
	}
	for (int i = 0; i < POSTS; i++) {
		post_one(&posters[POSTERS - 1]);
		if (i % 100 == 0) {
			mg_sleep_ms(1);
		}
	}
	for (int i = 0; i < POSTERS; i++) {
		while (!atomic_load(&posters[i].done)) {
			mg_sleep_ms(1);
		}
	}
	kit_close(&replica);
	for (int i = 0; i < POSTERS; i++) {
		assert_int_equal(posters[i].ran, POSTS);
		if (posters[i].loop) {
			mg_loop_stop(posters[i].loop);
		}
	}
	assert_true(posters[0].on_loops + posters[1].on_loops > 0);
}

/* ---- kill -9 ---- */

static int acks_fd;

static void tell_ack(struct kit_proposer *proposer, uint32_t number)
{
	(void)proposer;
	mg_assert(write(acks_fd, &number, sizeof number) == sizeof number);
}

static _Noreturn void propose_until_killed(void)
{
	struct kit_replica replica;
	struct kit_proposer proposer;

	kit_open(&replica, root, 1, 1, NULL);
	mg_assert(mg_raft_host_start(replica.host, NULL) == 0);
	kit_await_leader(&replica);
	kit_proposer_init(&proposer, &replica, 0, WINDOW);
	proposer.on_ack = tell_ack;
	(void)kit_propose(&proposer, 1, UINT32_MAX);
	abort();
}

static void test_what_was_acknowledged_survives_a_kill(void **state)
{
	struct kit_replica replica;
	uint32_t acknowledged = 0, number, last[1];
	int fds[2], status;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	acks_fd = fds[1];
	pid_t child = fork();

	if (child == 0) {
		close(fds[0]);
		propose_until_killed();
	}
	assert_true(child > 0);
	close(fds[1]);
	while (acknowledged < 500) {
		assert_int_equal(read(fds[0], &acknowledged, sizeof acknowledged), sizeof acknowledged);
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	while (read(fds[0], &number, sizeof number) == sizeof number) {
		acknowledged = number;
	}
	close(fds[0]);

	kit_open(&replica, root, 1, 1, NULL);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_applied(&replica, acknowledged);
	assert_true(check_order(&replica, last, 1) >= acknowledged);
	kit_close(&replica);
}

/* ---- stop ---- */

static void count_run(void *arg)
{
	struct kit_replica *replica = arg;

	assert_null(mg_raft_host_node(replica->host));
	replica->applied_count++;
}

static void test_stop_ends_what_waits_and_posts_still_run(void **state)
{
	struct kit_replica replica;
	struct kit_proposer proposer;

	(void)state;
	/* One of two members: it never leads, so nothing is ever committed. */
	kit_open(&replica, root, 1, 2, NULL);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	mg_raft_host_stop(replica.host);
	mg_raft_host_stop(replica.host);
	kit_proposer_init(&proposer, &replica, 0, 1);
	assert_int_equal(kit_propose(&proposer, 1, 1), MG_E_SHUTDOWN);
	kit_proposer_fini(&proposer);
	for (int i = 0; i < 100; i++) {
		mg_raft_host_post(replica.host, count_run, &replica);
	}
	mg_raft_host_call(replica.host, count_run, &replica);
	assert_int_equal(replica.applied_count, 101);
	kit_close(&replica);
}

/* A state machine that never answers: what was committed waits, and hears of the end. */
static void keep(struct mg_sm *sm, const struct mg_entry *entries, size_t count)
{
	struct kit_replica *replica = (struct kit_replica *)sm;

	(void)entries;
	(void)count;
	pthread_mutex_lock(&replica->lock);
	replica->applied_count++;
	pthread_cond_broadcast(&replica->changed);
	pthread_mutex_unlock(&replica->lock);
}

static void hear(void *arg, int error, uint64_t index, uint64_t leader)
{
	(void)index;
	(void)leader;
	atomic_store((atomic_int *)arg, error);
}

struct lone {
	struct kit_replica *replica;
	atomic_int error;
};

static void propose_lone(void *arg)
{
	struct lone *lone = arg;

	assert_int_equal(
		mg_group_propose(lone->replica->group, "lone one", 8, hear, &lone->error, NULL), 0);
}

static void test_stop_tells_that_an_outcome_is_unknown(void **state)
{
	struct mg_sm_ops ops = kit_sm_ops;
	struct kit_replica replica;
	struct lone lone = { .replica = &replica };

	(void)state;
	ops.apply = keep;
	kit_open(&replica, root, 1, 1, NULL);
	replica.sm.ops = &ops;
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_leader(&replica);
	kit_await_applied(&replica, 1);
	mg_raft_host_call(replica.host, propose_lone, &lone);
	assert_int_equal(atomic_load(&lone.error), 0);
	mg_raft_host_stop(replica.host);
	assert_int_equal(atomic_load(&lone.error), MG_E_UNKNOWN_OUTCOME);
	kit_close(&replica);
}

/* ---- a disk that fails ---- */

static atomic_int failures, failed_with;

static void on_failed(void *arg, int code)
{
	(void)arg;
	atomic_fetch_add(&failures, 1);
	atomic_store(&failed_with, code);
}

/* The log has made its next segment ahead. */
static void await_spare(void)
{
	char *pattern = mg_format("%s/log/raft/spare-*", root);
	glob_t found;

	for (int i = 0; i < 2000 && glob(pattern, 0, NULL, &found) != 0; i++) {
		globfree(&found);
		usleep(5000);
	}
	mg_assert(found.gl_pathc > 0);
	globfree(&found);
	mg_free(pattern);
}

/* In a process of its own: files may not grow, so that the log's next segments cannot be made. */
static _Noreturn void propose_until_the_disk_fails(void)
{
	struct rlimit limit = { .rlim_cur = KIT_SEGMENT / 2, .rlim_max = KIT_SEGMENT / 2 };
	struct kit_replica replica;
	struct kit_proposer proposer;

	kit_open_with(&replica, root, 1, 1, NULL, on_failed);
	mg_assert(mg_raft_host_start(replica.host, NULL) == 0);
	kit_await_leader(&replica);
	await_spare(); /* without one the log waits for space, and nothing fails */
	signal(SIGXFSZ, SIG_IGN);
	mg_assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	kit_proposer_init(&proposer, &replica, 0, WINDOW);
	int error = kit_propose(&proposer, 1, 1000000);

	mg_assert(error != 0 && proposer.acknowledged > 0);
	/* A read that fails ends the proposals before the write that failed is told. */
	for (int i = 0; i < 2000 && !atomic_load(&failures); i++) {
		usleep(5000);
	}
	kit_proposer_fini(&proposer);
	kit_close(&replica);
	mg_assert(atomic_load(&failures) == 1);
	mg_assert(atomic_load(&failed_with) == MG_E_IO);
	_exit(0);
}

static void test_a_disk_that_fails_ends_it_and_is_told_once(void **state)
{
	int status;

	(void)state;
	pid_t child = fork();

	if (child == 0) {
		propose_until_the_disk_fails();
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- starts ---- */

static void test_incarnations_rise(void **state)
{
	struct mg_raft_host *host;
	struct mg_error err = { 0 };
	struct mg_raft_host_options options = {
		.dir = root, .self = 7, .incarnation = UINT64_MAX - 2, .log_segment_bytes = KIT_SEGMENT
	};

	(void)state;
	assert_int_equal(mg_raft_host_open(&host, &options, &err), 0);
	assert_int_equal(mg_raft_host_self(host), 7);
	mg_raft_host_close(host);
	assert_int_equal(mg_raft_host_open(&host, &options, &err), MG_E_USAGE);
	assert_non_null(strstr(err.message, "is not higher"));
	options.incarnation = 0;
	assert_int_equal(mg_raft_host_open(&host, &options, &err), 0);
	assert_true(mg_raft_host_incarnation(host) == UINT64_MAX - 1);
	mg_raft_host_close(host);

	char *path = mg_path_join(root, "log/incarnation");

	assert_int_equal(mg_file_write(path, "many\n", 5, 0600, NULL), 0);
	assert_int_equal(mg_raft_host_open(&host, &options, &err), MG_E_CORRUPT);
	assert_non_null(strstr(err.message, "incarnation"));
	mg_free(path);
}

/* ---- speed: told, not judged ---- */

static void measure(struct kit_replica *replica, uint32_t from, unsigned window, uint32_t count)
{
	struct kit_proposer proposer;
	uint64_t start = mg_clock_us();

	kit_proposer_init(&proposer, replica, from, window);
	assert_int_equal(kit_propose(&proposer, 1, count), 0);
	printf("             %2u under way: %8.0f commits/s\n", window,
	       count * 1e6 / (double)(mg_clock_us() - start));
	kit_proposer_fini(&proposer);
}

static void test_how_fast(void **state)
{
	struct kit_replica replica;

	(void)state;
	kit_open(&replica, root, 1, 1, NULL);
	assert_int_equal(mg_raft_host_start(replica.host, NULL), 0);
	kit_await_leader(&replica);
	measure(&replica, 0, 1, 300);
	measure(&replica, 1, 32, 5000);
	kit_close(&replica);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_proposals_are_there_in_order, make_root,
		                                remove_root),
		cmocka_unit_test_setup_teardown(test_loops_take_the_turn, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_what_was_acknowledged_survives_a_kill, make_root,
		                                remove_root),
		cmocka_unit_test_setup_teardown(test_stop_ends_what_waits_and_posts_still_run, make_root,
		                                remove_root),
		cmocka_unit_test_setup_teardown(test_stop_tells_that_an_outcome_is_unknown, make_root,
		                                remove_root),
		cmocka_unit_test_setup_teardown(test_a_disk_that_fails_ends_it_and_is_told_once, make_root,
		                                remove_root),
		cmocka_unit_test_setup_teardown(test_incarnations_rise, make_root, remove_root),
		cmocka_unit_test_setup_teardown(test_how_fast, make_root, remove_root),
	};

	mg_log_open(&(struct mg_log_options){ .level = MG_LOG_OFF });
	return cmocka_run_group_tests(tests, NULL, NULL);
}
