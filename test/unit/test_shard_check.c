/*
 * test_shard_check.c - sums of what shards hold, and who is in a minority: the same rows have the
 * same sum wherever they lie, any difference another one, and only a majority of all members is
 * believed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replica/shard_check.h"
#include "store/shard_file.h"
#include "store/shard_write.h"

#include <stdio.h>
#include <string.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static int open_duck(void **state)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	struct mg_error err = { 0 };

	(void)state;
	return mg_duck_open(&duck, &options, &err) || mg_duck_connect(duck, &conn, &err);
}

static int close_duck(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

static void run(const char *sql)
{
	struct mg_error err = { 0 };

	if (mg_duck_exec(conn, sql, &err)) {
		fail_msg("%s: %s", sql, err.message);
	}
}

/* An empty shard 1. */
static void begin(void)
{
	const struct mg_shard_meta meta = { .cluster_id = "c",
		                                .sample = "",
		                                .shard = 1,
		                                .shard_count = 1,
		                                .slot_last = 16383,
		                                .file_format = 1 };
	struct mg_error err = { 0 };

	run("DETACH DATABASE IF EXISTS s1");
	assert_int_equal(mg_shard_file_stand_in(conn, &meta, &err), 0);
}

/* As the shard's writer has them. */
static char *tables_now(void)
{
	struct mg_shard_writer *writer = NULL;
	struct mg_error err = { 0 };

	assert_int_equal(mg_shard_writer_open(&writer, duck, "s1", &err), 0);
	char *tables = mg_shard_writer_tables(writer);

	mg_shard_writer_close(writer);
	return tables;
}

static struct mg_shard_sum sum_of(const char *sql)
{
	struct mg_shard_sum sum;
	struct mg_error err = { 0 };

	begin();
	run(sql);
	char *tables = tables_now();

	if (mg_shard_sum(conn, "s1", tables, NULL, NULL, &sum, &err)) {
		fail_msg("%s", err.message);
	}
	mg_free(tables);
	return sum;
}

static bool same(struct mg_shard_sum a, struct mg_shard_sum b)
{
	return a.rows == b.rows && memcmp(a.digest, b.digest, sizeof a.digest) == 0;
}

#define TABLE "CREATE TABLE s1.t (_mg_rid BIGINT, _mg_slot USMALLINT, k INTEGER, v VARCHAR);"
#define ROWS(order) \
	"INSERT INTO s1.t SELECT i, 7, i % 10, CASE WHEN i % 3 > 0 THEN 'v' || i END FROM " \
	"range(300000) AS r(i) ORDER BY " order ";"
#define MOVED \
	"CREATE TEMP TABLE kept AS FROM s1.t WHERE _mg_rid < 5; DELETE FROM s1.t WHERE _mg_rid < 5;" \
	"INSERT INTO s1.t FROM temp.kept; DROP TABLE temp.kept"

static void test_the_same_rows_have_the_same_sum(void **state)
{
	const struct mg_shard_sum sum = sum_of(TABLE ROWS("i"));

	(void)state;
	assert_int_equal(sum.rows, 300000);
	assert_true(same(sum, sum_of(TABLE ROWS("i DESC"))));
	assert_true(same(sum, sum_of(TABLE ROWS("hash(i)"))));
	/* As rows change: gone and come again, elsewhere. */
	assert_true(same(sum, sum_of(TABLE ROWS("i") MOVED)));
	/* What is ours alone is not looked at. */
	assert_true(same(sum, sum_of(TABLE ROWS("i") "CREATE TABLE s1._mg.own AS SELECT 1 AS a")));
}

static void test_any_difference_shows(void **state)
{
	const struct mg_shard_sum sum = sum_of(TABLE ROWS("i"));
	static const char *const changes[] = {
		"DELETE FROM s1.t WHERE _mg_rid = 299999",
		"UPDATE s1.t SET v = 'other' WHERE _mg_rid = 1",
		"UPDATE s1.t SET v = NULL WHERE _mg_rid = 1",
		"UPDATE s1.t SET _mg_rid = 300000 WHERE _mg_rid = 1",
		"UPDATE s1.t SET _mg_slot = 8 WHERE _mg_rid = 1",
		"UPDATE s1.t SET k = CASE k WHEN 1 THEN 2 ELSE 1 END WHERE _mg_rid IN (1, 2)",
		"INSERT INTO s1.t SELECT * FROM s1.t WHERE _mg_rid = 1",
		"INSERT INTO s1.t SELECT * FROM s1.t WHERE _mg_rid = 1; INSERT INTO s1.t SELECT * FROM "
		"s1.t WHERE _mg_rid = 1 LIMIT 1; DELETE FROM s1.t WHERE _mg_rid = 2",
		"CREATE TABLE s1.u (_mg_rid BIGINT)",
		"ALTER TABLE s1.t RENAME k TO l",
		"ALTER TABLE s1.t ALTER k TYPE BIGINT",
		"DROP TABLE s1.t",
		"UPDATE s1._mg.meta SET next_rid = next_rid + 1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		char *sql = mg_format("%s%s", TABLE ROWS("i"), changes[i]);

		if (same(sum, sum_of(sql))) {
			fail_msg("not seen: %s", changes[i]);
		}
		mg_free(sql);
	}
}

static bool give_up(void *arg, uint64_t us)
{
	(void)us;
	return ++*(int *)arg < 2;
}

static void test_a_sum_can_be_given_up(void **state)
{
	struct mg_shard_sum sum;
	struct mg_error err = { 0 };
	int pieces = 0;

	(void)state;
	begin();
	run(TABLE "INSERT INTO s1.t SELECT i, 7, i, '' FROM range(3000000) AS r(i)");
	int code = mg_shard_sum(conn, "s1", "main\nt\n", give_up, &pieces, &sum, &err);

	assert_int_equal(code, MG_E_CANCELLED);
	assert_int_equal(pieces, 2);
}

/* Another shard's file is replaced while this one is summed: the engine would end if the
 * transaction had touched it. */
static void test_a_sum_touches_no_other_shard(void **state)
{
	struct mg_duck_conn *other = NULL;
	struct mg_shard_sum sums[2];
	struct mg_error err = { 0 };

	(void)state;
	begin();
	run(TABLE ROWS("i") "ATTACH ':memory:' AS s2; CREATE TABLE s2.t AS SELECT 1 AS a");
	assert_int_equal(mg_duck_connect(duck, &other, &err), 0);
	assert_int_equal(mg_duck_exec(other, "BEGIN", &err), 0);
	for (int i = 0; i < 2; i++) {
		char *tables = tables_now();

		if (mg_shard_sum(other, "s1", tables, NULL, NULL, &sums[i], &err)) {
			fail_msg("%s", err.message);
		}
		mg_free(tables);
		run("DETACH s2; ATTACH ':memory:' AS s2; CREATE TABLE s2.t AS SELECT 1 AS a");
	}
	assert_true(same(sums[0], sums[1]));
	mg_duck_disconnect(other);
	run("DETACH s2");
}

/* ---- who is in a minority? ---- */

struct told {
	int times;
	struct mg_members good;
};

static void on_differs(void *arg, uint32_t shard, const struct mg_members *good)
{
	struct told *told = arg;

	assert_int_equal(shard, 1);
	told->times++;
	told->good = *good;
}

/* What nodes 1, 2, ... say, a letter each: equal ones are equal, '!' cannot read, '.' says nothing.
 * Node 1 is this one.  forget: its file is another one after it has spoken; late: before.  How
 * often it was told that it is the odd one out. */
static struct told play(const char *said, uint32_t members, bool own_first, bool forget, bool late)
{
	struct told told = { 0 };
	struct mg_shard_check *check =
		mg_shard_check_new(&(struct mg_shard_check_options){ .duck = duck,
	                                                         .shard = 1,
	                                                         .self = 1,
	                                                         .on_differs = on_differs,
	                                                         .arg = &told });
	const struct mg_checking mark = { .members = members };
	struct mg_check_pin pin;

	begin();
	mg_shard_check_mark(check, 42, &mark, mg_strdup(""));
	assert_true(mg_shard_check_take(check, &pin));
	assert_int_equal(pin.index, 42);
	uint64_t file = pin.file;

	mg_shard_check_give_back(check, &pin);
	if (late) {
		mg_shard_check_stop(check, true);
	}
	for (int turn = 0; turn < 2; turn++) {
		for (size_t i = 0; said[i]; i++) {
			struct mg_checked checked = {
				.node = i + 1,
				.index = 42,
				.status = said[i] == '!' ? MG_CHECKED_UNREADABLE : MG_CHECKED_SUM,
				.rows = 1,
				.digest = { (uint8_t)said[i] },
			};

			if (said[i] != '.' && (i == 0) == (turn == (own_first ? 0 : 1))) {
				mg_shard_check_put(check, &checked);
				if (i == 0) {
					assert_int_equal(mg_shard_check_put_own(check, file, &checked), !late);
				}
				if (i == 0 && forget) {
					mg_shard_check_stop(check, true);
				}
			}
		}
	}
	mg_shard_check_free(check);
	return told;
}

static void test_only_a_majority_of_all_is_believed(void **state)
{
	static const struct {
		const char *said;
		uint32_t members;
		size_t good; /* 0: nobody is odd */
	} cases[] = {
		{ "aaa", 3, 0 }, { "abb", 3, 2 }, { "aab", 3, 0 }, { "abc", 3, 0 },  { "ab", 2, 0 },
		{ "ab.", 3, 0 }, { "aabb", 4, 0 }, { "abbb", 4, 3 }, { "abb.", 4, 0 }, { "abbb.", 5, 3 },
		{ "abbcc", 5, 0 }, { "a!b", 3, 0 }, { "abb", 5, 0 }, { "a", 1, 0 }, { ".bb", 3, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (int order = 0; order < 2; order++) {
			struct told told = play(cases[i].said, cases[i].members, order, false, false);

			if ((told.times > 0) != (cases[i].good > 0) || told.good.count != cases[i].good) {
				fail_msg("%s of %u: told %d times, %zu good", cases[i].said, cases[i].members,
				         told.times, told.good.count);
			}
		}
	}
}

/* What a file that is gone has said does not speak for the one that is there now. */
static void test_another_file_is_not_judged_by_the_last_one(void **state)
{
	(void)state;
	assert_int_equal(play("abb", 3, true, false, false).times, 1);
	assert_int_equal(play("abb", 3, true, true, false).times, 0);
	assert_int_equal(play("abb", 3, true, false, true).times, 0);
	assert_int_equal(play("abb", 3, false, false, true).times, 0);
}

/* A shard that is always written has a checkpoint waiting soon: the sum hurries, and is not ended
 * before its time. */
static void test_a_checkpoint_waits_for_a_sum(void **state)
{
	static const uint64_t holds[] = { UINT64_MAX, 0 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct mg_shard_check *check = mg_shard_check_new(&(struct mg_shard_check_options){
			.duck = duck, .shard = 1, .self = 1, .hold_ms = holds[i] });
		const struct mg_checking mark = { .members = 3 };
		struct mg_check_pin pin;

		begin();
		mg_shard_check_hurry(check); /* of a reader, there is no sum */
		mg_shard_check_mark(check, 1, &mark, mg_strdup(""));
		assert_false(mg_shard_check_hurries(check));
		mg_shard_check_hurry(check);
		assert_int_equal(mg_shard_check_take(check, &pin), holds[i] > 0);
		if (holds[i]) {
			mg_shard_check_hurry(check);
			assert_true(mg_shard_check_hurries(check));
			assert_false(mg_shard_check_stopped(check));
			mg_shard_check_give_back(check, &pin);
		}
		assert_false(mg_shard_check_hurries(check));
		mg_shard_check_free(check);
	}
}

static void test_commands_of_checks_are_read_as_written(void **state)
{
	struct mg_command command = { .kind = MG_COMMAND_CHECK,
		                          .epoch = MG_COMMAND_EPOCH_NONE,
		                          .checking = { .members = 5, .urgent = true } };
	struct mg_command read;
	struct mg_error err = { 0 };
	uint8_t bytes[MG_COMMAND_HEAD_MAX];
	struct mg_out out = mg_out(bytes, sizeof bytes);

	(void)state;
	mg_command_encode_head(&out, &command);
	assert_int_equal(mg_command_decode(bytes, out.size, &read, &err), 0);
	assert_true(read.kind == MG_COMMAND_CHECK && read.epoch == UINT64_MAX && read.checking.urgent &&
	            read.checking.members == 5);
	command = (struct mg_command){ .kind = MG_COMMAND_CHECKED,
		                           .epoch = MG_COMMAND_EPOCH_NONE,
		                           .checked = { 3, 1 << 20, MG_CHECKED_ENDED, 9, { 1, 2, 3 } } };
	out = mg_out(bytes, sizeof bytes);
	mg_command_encode_head(&out, &command);
	assert_int_equal(mg_command_decode(bytes, out.size, &read, &err), 0);
	assert_int_equal(read.checked.node, 3);
	assert_int_equal(read.checked.index, 1 << 20);
	assert_int_equal(read.checked.status, MG_CHECKED_ENDED);
	assert_int_equal(read.checked.rows, 9);
	assert_memory_equal(read.checked.digest, command.checked.digest, 16);
	for (size_t size = 0; size < out.size; size++) {
		assert_int_equal(mg_command_decode(bytes, size, &read, &err), MG_E_PROTOCOL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_rows_have_the_same_sum),
		cmocka_unit_test(test_any_difference_shows),
		cmocka_unit_test(test_a_sum_can_be_given_up),
		cmocka_unit_test(test_a_sum_touches_no_other_shard),
		cmocka_unit_test(test_only_a_majority_of_all_is_believed),
		cmocka_unit_test(test_another_file_is_not_judged_by_the_last_one),
		cmocka_unit_test(test_a_checkpoint_waits_for_a_sum),
		cmocka_unit_test(test_commands_of_checks_are_read_as_written),
	};

	return cmocka_run_group_tests(tests, open_duck, close_duck);
}
