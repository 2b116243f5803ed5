/*
 * What is told of changes of keys: the feed's bounds and places, and that what a state machine does
 * with its keys stands there exactly when it has been written.
 */
#include "replica/kv_feed.h"
#include "unit/kv_kit.h"

#include <pthread.h>

/* ---- the feed ---- */

static int told;

static void on_told(void *arg)
{
	assert_ptr_equal(arg, &told);
	told++;
}

static void add(struct mg_kv_feed *feed, uint64_t version, const char *key, size_t value_size)
{
	char *value = mg_alloc0(value_size + 1);

	memset(value, (int)('a' + version % 26), value_size);
	mg_kv_feed_add(feed, &(struct mg_kv_change){ .kind = MG_KV_CHANGE_PUT,
	                                             .version = version,
	                                             .created_ms = version + 1,
	                                             .changed_ms = version + 2,
	                                             .expiry_ms = version + 3,
	                                             .space = MG_STR("space"),
	                                             .key = mg_str(key),
	                                             .type = MG_STR("type"),
	                                             .encoding = MG_STR("br"),
	                                             .value = { value, value_size } });
	mg_free(value);
}

static void assert_change(const struct mg_kv_change *change, uint64_t version)
{
	assert_int_equal(change->version, version);
	assert_int_equal(change->created_ms, version + 1);
	assert_int_equal(change->changed_ms, version + 2);
	assert_int_equal(change->expiry_ms, version + 3);
	assert_true(mg_str_eq(change->space, MG_STR("space")));
	assert_true(mg_str_eq(change->type, MG_STR("type")));
	assert_true(mg_str_eq(change->encoding, MG_STR("br")));
	for (size_t i = 0; i < change->value.len; i++) {
		assert_int_equal(change->value.ptr[i], (char)('a' + version % 26));
	}
}

/* All behind a place; how many.  They are checked to follow one another. */
static int read_all(struct mg_kv_feed *feed, struct mg_kv_place *place)
{
	struct mg_kv_changes changes;
	struct mg_kv_change change;
	int count = 0;

	for (;;) {
		assert_int_equal(mg_kv_feed_read(feed, place, &changes, &err), 0);
		if (!changes.segment) {
			return count;
		}
		for (uint64_t next = place->version + 1;
		     mg_kv_changes_next(&changes, place, &change); next++) {
			assert_change(&change, next);
			assert_int_equal(place->version, next);
			count++;
		}
		mg_kv_changes_end(&changes);
	}
}

static int read_code(struct mg_kv_feed *feed, uint64_t version)
{
	struct mg_kv_place place = { .version = version };
	struct mg_kv_changes changes;
	int code = mg_kv_feed_read(feed, &place, &changes, &err);

	mg_kv_changes_end(&changes);
	return code;
}

static void test_changes_are_told_when_they_are_published(void **unused)
{
	struct mg_kv_feed *feed = mg_kv_feed_new(7);
	struct mg_kv_place place = { .version = 7 };

	(void)unused;
	told = 0;
	mg_kv_feed_set(feed, 0, on_told, &told);
	assert_int_equal(mg_kv_feed_version(feed), 7);
	add(feed, 8, "a", 10);
	add(feed, 9, "b", 0);
	assert_int_equal(read_all(feed, &place), 0);
	mg_kv_feed_publish(feed);
	assert_int_equal(told, 1);
	mg_kv_feed_publish(feed); /* nothing is new */
	assert_int_equal(told, 1);
	assert_int_equal(mg_kv_feed_version(feed), 9);
	assert_int_equal(read_all(feed, &place), 2);
	assert_int_equal(read_all(feed, &place), 0);
	add(feed, 10, "c", 3);
	mg_kv_feed_publish(feed);
	assert_int_equal(mg_kv_feed_behind(feed, &place) > 0, 1);
	assert_int_equal(read_all(feed, &place), 1);
	assert_int_equal(mg_kv_feed_behind(feed, &place), 0);
	mg_kv_feed_free(feed);
}

static void test_what_goes_back_leaves_no_trace(void **unused)
{
	struct mg_kv_feed *feed = mg_kv_feed_new(0);
	struct mg_kv_place place = { 0 };

	(void)unused;
	add(feed, 1, "a", 10);
	size_t mark = mg_kv_feed_mark(feed);

	add(feed, 2, "b", 10);
	add(feed, 3, "c", 300000);
	mg_kv_feed_back(feed, mark);
	add(feed, 2, "d", 5);
	mg_kv_feed_publish(feed);
	assert_int_equal(read_all(feed, &place), 2);
	assert_int_equal(mg_kv_feed_version(feed), 2);
	mg_kv_feed_free(feed);
}

/* It wraps around many times; who is near its end misses nothing, who is not hears so. */
static void test_it_is_bounded(void **unused)
{
	enum { BYTES = 1 << 20, CHANGES = 30000, SIZE = 1000 };
	struct mg_kv_feed *feed = mg_kv_feed_new(0);
	struct mg_kv_place near = { 0 };
	int seen = 0;

	(void)unused;
	mg_kv_feed_set(feed, BYTES, NULL, NULL);
	for (uint64_t version = 1; version <= CHANGES; version++) {
		add(feed, version, "key", SIZE);
		if (version % 7 == 0) {
			mg_kv_feed_publish(feed);
		}
		if (version % 500 == 0) {
			seen += read_all(feed, &near);
		}
	}
	mg_kv_feed_publish(feed);
	seen += read_all(feed, &near);
	assert_int_equal(seen, CHANGES);

	uint64_t first = CHANGES;

	while (read_code(feed, first - 1) == 0) {
		first--;
	}
	assert_int_equal(err.code, MG_E_GONE);
	assert_true((CHANGES - first) * SIZE <= BYTES);
	assert_true((CHANGES - first) * SIZE >= BYTES / 2); /* and most of it is used */
	/* From any version that is kept, all behind it. */
	for (uint64_t from = first; from <= CHANGES; from += 13) {
		struct mg_kv_place place = { .version = from };

		assert_int_equal(read_all(feed, &place), CHANGES - from);
	}
	assert_int_equal(read_code(feed, 0), MG_E_GONE);
	mg_kv_feed_free(feed);
}

static void test_a_change_may_be_larger_than_a_segment(void **unused)
{
	struct mg_kv_feed *feed = mg_kv_feed_new(0);
	struct mg_kv_place place = { 0 };

	(void)unused;
	mg_kv_feed_set(feed, 1 << 20, NULL, NULL);
	for (uint64_t version = 1; version <= 20; version++) {
		add(feed, version, "key", version % 3 ? 10 : 4 << 20);
		mg_kv_feed_publish(feed);
		assert_int_equal(read_all(feed, &place), 1); /* the newest one is always kept */
	}
	mg_kv_feed_free(feed);
}

/* Its server had more when the token was made. */
static void test_a_place_may_be_ahead(void **unused)
{
	struct mg_kv_feed *feed = mg_kv_feed_new(0);
	struct mg_kv_place place = { .version = 3 };

	(void)unused;
	for (uint64_t version = 1; version <= 5; version++) {
		assert_int_equal(read_all(feed, &place), version > 4 ? 1 : 0);
		add(feed, version, "key", 10);
		mg_kv_feed_publish(feed);
	}
	assert_int_equal(read_all(feed, &place), 1);
	assert_int_equal(place.version, 5);
	mg_kv_feed_free(feed);
}

static void test_a_reset_forgets(void **unused)
{
	struct mg_kv_feed *feed = mg_kv_feed_new(0);
	struct mg_kv_place before = { 0 }, there = { .version = 9 };

	(void)unused;
	told = 0;
	mg_kv_feed_set(feed, 0, on_told, &told);
	add(feed, 1, "a", 10);
	mg_kv_feed_publish(feed);
	assert_int_equal(read_all(feed, &before), 1);
	add(feed, 2, "b", 10);
	mg_kv_feed_reset(feed, 9);
	assert_int_equal(told, 2); /* who waits must look */
	assert_int_equal(mg_kv_feed_version(feed), 9);
	assert_int_equal(read_code(feed, 1), MG_E_GONE);
	assert_int_equal(read_all(feed, &there), 0);
	add(feed, 10, "c", 10);
	mg_kv_feed_publish(feed);
	assert_int_equal(read_all(feed, &there), 1);
	mg_kv_feed_free(feed);
}

/* ---- one writes, others read ---- */

enum { RACE_CHANGES = 40000 };

static struct mg_kv_feed *raced;

/* Nothing twice, nothing out of order; what is gone begins again at the end. */
static void *race(void *unused)
{
	struct mg_kv_place place = { 0 };
	struct mg_kv_changes changes;
	struct mg_kv_change change;
	struct mg_error ignored;

	while (place.version < RACE_CHANGES) {
		if (mg_kv_feed_read(raced, &place, &changes, &ignored)) {
			place = (struct mg_kv_place){ .version = mg_kv_feed_version(raced) };
			continue;
		}
		uint64_t next = place.version + 1;

		while (changes.segment && mg_kv_changes_next(&changes, &place, &change)) {
			assert_change(&change, next++);
		}
		mg_kv_changes_end(&changes);
	}
	return unused;
}

static void test_readers_beside_a_writer(void **unused)
{
	pthread_t readers[2];

	(void)unused;
	raced = mg_kv_feed_new(0);
	mg_kv_feed_set(raced, 512 << 10, NULL, NULL);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&readers[i], NULL, race, NULL), 0);
	}
	for (uint64_t version = 1; version <= RACE_CHANGES; version++) {
		add(raced, version, "key", version % 100);
		if (version % 5 == 0) {
			mg_kv_feed_publish(raced);
		}
	}
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(readers[i], NULL), 0);
	}
	mg_kv_feed_free(raced);
}

/* ---- what a state tells ---- */

/* What is behind a place, as "put a=1 @3;expire b @4;". */
static const char *changes_behind(struct mg_kv_place *place)
{
	static const char *const names[] = { "", "put", "delete", "expire" };
	static char text[4096];
	struct mg_kv_changes changes;
	struct mg_kv_change change;
	int len = 0;

	text[0] = '\0';
	for (;;) {
		assert_int_equal(mg_kv_feed_read(mg_kv_state_feed(state), place, &changes, &err), 0);
		if (!changes.segment) {
			return text;
		}
		while (mg_kv_changes_next(&changes, place, &change)) {
			assert_true(mg_str_eq(change.space, MG_STR("s")));
			len += snprintf(text + len, sizeof text - (size_t)len, "%s %.*s%s%.*s @%u;",
			                names[change.kind], MG_STR_ARG(change.key),
			                change.kind == MG_KV_CHANGE_PUT ? "=" : "",
			                MG_STR_ARG(change.value), (unsigned)change.version);
		}
		mg_kv_changes_end(&changes);
	}
}

static void test_each_kind_of_change(void **unused)
{
	struct mg_kv_place place = { 0 };
	struct mg_kv_op number = op(MG_KV_ADD, "n", "", 0), past = op(MG_KV_PUT, "a", "9", 0);

	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	number.number = 5;
	(void)one(number);
	(void)one(op(MG_KV_APPEND, "a", "2", 0));
	(void)one(op(MG_KV_READ, "a", "", 0));
	(void)one(op(MG_KV_DELETE, "none", "", 0));
	(void)one(op(MG_KV_PUT, "a", "3", MG_KV_IF_ABSENT)); /* refused */
	(void)one(op(MG_KV_DELETE, "n", "", 0));
	past.flags = MG_KV_EXPIRES | MG_KV_ABSOLUTE; /* it goes at once */
	past.expiry = 1;
	(void)one(past);
	assert_string_equal(changes_behind(&place),
	                    "put a=1 @1;put n=5 @2;put a=12 @3;delete n @4;delete a @5;");
	assert_int_equal(place.version, 5);
	assert_space(0, 0);
}

static void test_a_refused_request_leaves_no_trace(void **unused)
{
	const struct mg_kv_op refused[] = { op(MG_KV_PUT, "a", "1", 0), op(MG_KV_DELETE, "b", "", 0),
		                                op(MG_KV_PUT, "c", "1", MG_KV_IF_PRESENT) };
	const struct mg_kv_op good[] = { op(MG_KV_PUT, "a", "2", 0), op(MG_KV_PUT, "c", "2", 0) };
	static struct entry entry;
	struct mg_kv_place place = { 0 };

	(void)unused;
	(void)one(op(MG_KV_PUT, "b", "1", 0));
	entry_begin(&entry, MG_KV_REQUESTS, 2); /* one entry, one batch */
	entry_request(&entry, NULL, refused, 3);
	entry_request(&entry, NULL, good, 2);
	assert_int_equal(apply(state, next_index++, &entry, NULL), 0);
	assert_int_equal(mg_kv_state_write(state, false, &err), 0);
	assert_string_equal(changes_behind(&place), "put b=1 @1;put a=2 @2;put c=2 @3;");
}

static void test_nothing_is_told_before_it_is_written(void **unused)
{
	const struct mg_kv_op put = op(MG_KV_PUT, "a", "1", 0);
	static struct entry entry;
	struct mg_kv_place place = { 0 };

	(void)unused;
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, NULL, &put, 1);
	assert_int_equal(apply(state, next_index++, &entry, NULL), 0);
	assert_string_equal(changes_behind(&place), "");
	assert_int_equal(mg_kv_feed_version(mg_kv_state_feed(state)), 0);
	assert_int_equal(mg_kv_state_write(state, false, &err), 0);
	assert_string_equal(changes_behind(&place), "put a=1 @1;");
}

/* What is prepared was tried, and taken back; then it happens. */
static void test_a_part_of_a_transaction_is_told_when_it_happens(void **unused)
{
	static const char id[] = "1111111111111111";
	const struct mg_kv_op ops[] = {
		{ .kind = MG_KV_PREPARE, .key = mg_str(id), .number = 3, .expiry = now_ms + 100 },
		op(MG_KV_PUT, "a", "1", 0),
		op(MG_KV_DELETE, "b", "", 0),
	};
	const struct mg_kv_op settle = { .kind = MG_KV_SETTLE, .key = mg_str(id), .number = 1 };
	struct mg_kv_place place = { 0 };

	(void)unused;
	(void)one(op(MG_KV_PUT, "b", "1", 0));
	(void)run(ops, 3);
	(void)one(op(MG_KV_PUT, "c", "1", 0));
	assert_string_equal(changes_behind(&place), "put b=1 @1;put c=1 @2;");
	(void)run_request(NULL, &settle, 1);
	assert_string_equal(changes_behind(&place), "put a=1 @3;delete b @4;");
}

static void test_time_takes_keys_away(void **unused)
{
	struct mg_kv_op brief = op(MG_KV_PUT, "a", "1", MG_KV_EXPIRES);
	struct mg_kv_place place = { 0 };

	(void)unused;
	brief.expiry = 100;
	(void)one(brief);
	brief.key = MG_STR("b");
	(void)one(brief);
	brief.key = MG_STR("c");
	brief.expiry = 200;
	(void)one(brief);
	assert_string_equal(changes_behind(&place), "put a=1 @1;put b=1 @2;put c=1 @3;");
	now_ms = 1100;
	(void)one(op(MG_KV_PUT, "b", "2", 0)); /* put anew before it was let go */
	tick();
	assert_string_equal(changes_behind(&place), "put b=2 @4;expire a @5;");
	now_ms = 5000;
	tick();
	assert_string_equal(changes_behind(&place), "expire c @6;");
	assert_key("c", NULL);
}

static void test_a_start_knows_from_then_on(void **unused)
{
	struct mg_kv_place place = { .version = 2 };

	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	(void)one(op(MG_KV_PUT, "b", "1", 0));
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	crash();
	assert_int_equal(mg_kv_feed_version(mg_kv_state_feed(state)), 2);
	assert_int_equal(read_code(mg_kv_state_feed(state), 1), MG_E_GONE);
	(void)one(op(MG_KV_PUT, "c", "1", 0));
	assert_string_equal(changes_behind(&place), "put c=1 @3;");
}

static void test_a_snapshot_is_a_new_beginning(void **unused)
{
	char *path = mg_format("%s.sst", dir);
	struct mg_kv_place place = { 0 };

	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	(void)one(op(MG_KV_PUT, "b", "1", 0));
	struct mg_lsm_view *view = mg_lsm_view_new(lsm);

	assert_int_equal(mg_lsm_export(lsm, view, mg_kv_state_prefix(state), path, &err), 0);
	mg_lsm_view_free(view);
	die();
	mg_tree_remove(dir, NULL);
	assert_int_equal(mg_dir_make(dir, 0700, &err), 0);
	live(); /* another node, which has nothing */
	assert_int_equal(mg_kv_state_replace(state, path, &err), 0);
	assert_int_equal(read_code(mg_kv_state_feed(state), 0), MG_E_GONE);
	place.version = 2;
	(void)one(op(MG_KV_PUT, "c", "1", 0));
	assert_string_equal(changes_behind(&place), "put c=1 @3;");
	(void)mg_file_remove(path, &err);
	mg_free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_told_when_they_are_published),
		cmocka_unit_test(test_what_goes_back_leaves_no_trace),
		cmocka_unit_test(test_it_is_bounded),
		cmocka_unit_test(test_a_change_may_be_larger_than_a_segment),
		cmocka_unit_test(test_a_place_may_be_ahead),
		cmocka_unit_test(test_a_reset_forgets),
		cmocka_unit_test(test_readers_beside_a_writer),
		cmocka_unit_test_setup_teardown(test_each_kind_of_change, begin, end),
		cmocka_unit_test_setup_teardown(test_a_refused_request_leaves_no_trace, begin, end),
		cmocka_unit_test_setup_teardown(test_nothing_is_told_before_it_is_written, begin, end),
		cmocka_unit_test_setup_teardown(test_a_part_of_a_transaction_is_told_when_it_happens,
		                                begin, end),
		cmocka_unit_test_setup_teardown(test_time_takes_keys_away, begin, end),
		cmocka_unit_test_setup_teardown(test_a_start_knows_from_then_on, begin, end),
		cmocka_unit_test_setup_teardown(test_a_snapshot_is_a_new_beginning, begin, end),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	mg_arena_free(arena);
	return failed;
}
