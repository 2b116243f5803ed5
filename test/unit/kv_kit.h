/*
 * kv_kit.h - what tests of keys and values share: a group's state over a real tree in a directory
 * of its own, which may crash, and entries as they come from the log.
 */
#ifndef MG_TEST_KV_KIT_H
#define MG_TEST_KV_KIT_H

#include "base/mem.h"
#include "os/file.h"
#include "replica/kv_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GROUP 7

static char dir[64];
static struct mg_lsm *lsm;
static struct mg_kv_state *state;
static struct mg_error err;
static uint64_t now_ms, next_index;
static struct mg_kv_limit limit; /* of the entries to come; without a namespace: none */

static void live(void)
{
	const struct mg_lsm_options options = { .dir = dir };

	assert_int_equal(mg_lsm_open(&lsm, &options, &err), 0);
	assert_int_equal(mg_kv_state_open(&state, lsm, GROUP, &err), 0);
	next_index = mg_kv_state_index(state) + 1;
}

static void die(void)
{
	mg_kv_state_close(state);
	mg_lsm_close(lsm);
}

/* What the files hold now is what a crash leaves; an end would flush. */
static void crash(void)
{
	char command[256];

	snprintf(command, sizeof command, "cp -r %s %s.crash && rm -rf %s.crash/LOCK", dir, dir, dir);
	assert_int_equal(system(command), 0);
	die();
	snprintf(command, sizeof command, "rm -rf %s && mv %s.crash %s", dir, dir, dir);
	assert_int_equal(system(command), 0);
	live();
}

static int begin(void **unused)
{
	(void)unused;
	snprintf(dir, sizeof dir, "/tmp/mg-kv-XXXXXX");
	assert_non_null(mkdtemp(dir));
	now_ms = 1000;
	limit = (struct mg_kv_limit){ 0 };
	live();
	return 0;
}

static int end(void **unused)
{
	(void)unused;
	die();
	mg_tree_remove(dir, NULL);
	return 0;
}

/* ---- entries ---- */

struct entry {
	uint8_t bytes[1 << 16];
	struct mg_out out;
	struct mg_kv_entry head;
};

static void entry_begin(struct entry *entry, uint8_t kind, uint32_t requests)
{
	entry->out = mg_out(entry->bytes, sizeof entry->bytes);
	entry->head = (struct mg_kv_entry){
		.kind = kind, .limit_count = limit.space.len > 0, .count = requests, .time_ms = now_ms
	};
	mg_kv_entry_encode(&entry->out, &entry->head);
	if (entry->head.limit_count) {
		mg_kv_limit_encode(&entry->out, &limit);
	}
}

static void entry_request(struct entry *entry, const char *id, const struct mg_kv_op *ops,
                          uint32_t count)
{
	mg_kv_request_encode(&entry->out, &(struct mg_kv_request){
										  .number = 1, .id = mg_str(id), .op_count = count });
	for (uint32_t i = 0; i < count; i++) {
		mg_kv_op_encode(&entry->out, &ops[i]);
	}
}

static struct mg_arena *arena;

/* As it comes from the log. */
static int apply(struct mg_kv_state *to, uint64_t index, const struct entry *entry,
                 struct mg_kv_results **results)
{
	struct mg_kv_entry decoded;
	int code = mg_kv_entry_decode(entry->bytes, entry->out.size, &decoded, &err);

	return code ? code : mg_kv_state_apply(to, index, 1, &decoded, arena, results, &err);
}

/* Applies and writes one request; its results. */
static struct mg_kv_results run_request(const char *id, const struct mg_kv_op *ops, uint32_t count)
{
	static struct entry entry;
	struct mg_kv_results *results = NULL;

	mg_arena_free(arena);
	arena = mg_arena_new();
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, id, ops, count);
	assert_int_equal(apply(state, next_index++, &entry, &results), 0);
	assert_int_equal(mg_kv_state_write(state, false, &err), 0);
	return results[0];
}

static struct mg_kv_result *run(const struct mg_kv_op *ops, uint32_t count)
{
	struct mg_kv_results results = run_request(NULL, ops, count);

	assert_int_equal(results.count, count);
	return results.list;
}

static struct mg_kv_result one(struct mg_kv_op op)
{
	return run(&op, 1)[0];
}

static struct mg_kv_op op(uint8_t kind, const char *key, const char *value, uint16_t flags)
{
	return (struct mg_kv_op){ .kind = kind,
		                      .flags = flags,
		                      .space = MG_STR("s"),
		                      .key = mg_str(key),
		                      .value = mg_str(value) };
}

static void tick(void)
{
	struct entry entry;

	entry_begin(&entry, MG_KV_TICK, 0);
	assert_int_equal(apply(state, next_index++, &entry, NULL), 0);
	assert_int_equal(mg_kv_state_write(state, false, &err), 0);
}

static void assert_key(const char *key, const char *expected)
{
	struct mg_kv_found found;
	struct mg_lsm_value value;
	int code = mg_kv_state_get(state, MG_STR("s"), mg_str(key), &found, &value, &err);

	if (!expected) {
		assert_int_equal(code, MG_E_NOT_FOUND);
		return;
	}
	assert_int_equal(code, 0);
	assert_int_equal(found.value.len, strlen(expected));
	assert_memory_equal(found.value.ptr, expected, found.value.len);
	mg_lsm_value_free(&value);
}

static void note_space(void *arg, struct mg_str space, uint64_t keys, uint64_t bytes)
{
	uint64_t *counts = arg;

	assert_true(mg_str_eq(space, MG_STR("s")));
	counts[0] = keys;
	counts[1] = bytes;
}

static void assert_space(uint64_t keys, uint64_t bytes)
{
	uint64_t counts[2] = { 0 }, here, there;

	assert_int_equal(mg_kv_state_spaces(state, note_space, counts, &err), 0);
	mg_kv_state_use(state, MG_STR("s"), &here, &there);
	assert_true(here == keys && there == bytes);
	mg_kv_state_use(state, MG_STR("another"), &here, &there);
	assert_true(here == 0 && there == 0);
	assert_int_equal(counts[0], keys);
	assert_int_equal(counts[1], bytes);
}

#endif
