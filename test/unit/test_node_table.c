/* test_node_table.c - who gets which number, whose name and address clash, who may go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "catalog/catalog_int.h"
#include "catalog/node_table.h"
#include "os/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[64];
static struct mg_catalog *catalog;

static int setup(void **state)
{
	struct mg_error err;

	(void)state;
	snprintf(dir, sizeof dir, "/tmp/mg-nodes-XXXXXX");
	return mkdtemp(dir) ? mg_catalog_new(&catalog, dir, &err) : 1;
}

static int teardown(void **state)
{
	(void)state;
	mg_catalog_free(catalog);
	return mg_tree_remove(dir, NULL);
}

static int try(uint64_t own, const char *id, const char *address, uint64_t *number,
               struct mg_error *err)
{
	struct mg_node_claim claim = { .number = own, .id = id, .address = address };

	mg_error_clear(err);
	return mg_node_enter(catalog, &claim, number, err);
}

static uint64_t enter(uint64_t own, const char *id, const char *address)
{
	struct mg_error err;
	uint64_t number;

	if (try(own, id, address, &number, &err)) {
		fail_msg("%s", err.message);
	}
	return number;
}

static void refused(uint64_t own, const char *id, const char *address, int code, const char *words)
{
	struct mg_error err;
	uint64_t number = 7;

	assert_int_equal(try(own, id, address, &number, &err), code);
	assert_int_equal(number, 0);
	if (!strstr(err.message, words)) {
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	}
	assert_true(err.hint[0] != '\0');
}

static void set_state(const char *id, const char *state)
{
	struct mg_error err;

	if (mg_node_set_state(catalog, id, state, &err)) {
		fail_msg("%s", err.message);
	}
}

static uint64_t version(void)
{
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint64_t now = data->version;

	mg_catalog_give(catalog, data);
	return now;
}

static void check_node(struct mg_catalog *of, uint64_t number, const char *id, const char *address,
                       const char *state)
{
	const struct mg_catalog_data *data = mg_catalog_take(of);
	const struct mg_catalog_node *node = mg_catalog_find_node(data, number);

	assert_non_null(node);
	assert_string_equal(node->id, id);
	assert_string_equal(node->address, address);
	assert_string_equal(node->state, state);
	mg_catalog_give(of, data);
}

static void test_numbers_are_given_once(void **state)
{
	(void)state;
	assert_int_equal(enter(1, "server-1", "localhost:8765"), 1);
	assert_int_equal(enter(0, "server-2", "localhost:8766"), 2);
	uint64_t before = version();

	assert_int_equal(enter(0, "server-2", "LOCALHOST:8766"), 2); /* asked again */
	assert_int_equal(version(), before);
	assert_int_equal(enter(0, "server-3", "[::1]:8767"), 3);
	set_state("server-3", MG_NODE_REMOVED);
	/* Its name and address are free, its number never. */
	assert_int_equal(enter(0, "server-3", "[::1]:8767"), 4);
	check_node(catalog, 3, "server-3", "[::1]:8767", "removed");
	check_node(catalog, 4, "server-3", "[::1]:8767", "member");
	refused(3, "server-3", "localhost:9000", MG_E_DENIED, "was removed");
}

static void test_a_file_keeps_them(void **state)
{
	struct mg_catalog *loaded = NULL;
	struct mg_error err;

	(void)state;
	assert_int_equal(enter(3, "\"b\"", "db.example:1"), 3); /* a table that is empty */
	assert_int_equal(enter(0, "server-4", "10.0.0.4:8765"), 4);
	set_state("server-4", MG_NODE_DRAINING);
	assert_int_equal(mg_catalog_load(&loaded, dir, &err), 0);
	check_node(loaded, 3, "\"b\"", "db.example:1", "member");
	check_node(loaded, 4, "server-4", "10.0.0.4:8765", "draining");
	mg_catalog_free(loaded);
}

/* A file from before there was such a table. */
static void test_an_old_file_has_none(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb text = { 0 };
	struct mg_catalog_data read;
	struct mg_error err;

	(void)state;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	mg_catalog_text(data, &text);
	mg_catalog_give(catalog, data);
	char *at = strstr(text.ptr, ",\"nodes\":[]");

	assert_non_null(at);
	memmove(at, at + 11, strlen(at + 11) + 1);
	assert_int_equal(mg_catalog__read(arena, text.ptr, text.len - 11, &read, &err), 0);
	assert_int_equal(read.node_count, 0);
	assert_null(mg_catalog_find_node(&read, 1));
	mg_sb_fini(&text);
	mg_arena_free(arena);
}

static void read_damaged(const char *nodes)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb text = { 0 };
	struct mg_catalog_data read;
	struct mg_error err;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	mg_catalog_text(data, &text);
	mg_catalog_give(catalog, data);
	char *at = strstr(text.ptr, "\"nodes\":[]");

	assert_non_null(at);
	*at = '\0';
	char *damaged = mg_format("%s\"nodes\":[%s]}", text.ptr, nodes);

	assert_int_equal(mg_catalog__read(arena, damaged, strlen(damaged), &read, &err), MG_E_CORRUPT);
	mg_free(damaged);
	mg_sb_fini(&text);
	mg_arena_free(arena);
}

static void test_damage_is_found(void **state)
{
	(void)state;
	read_damaged("{\"number\":0,\"id\":\"a\",\"address\":\"h:1\",\"state\":\"member\"}");
	read_damaged("{\"number\":1,\"id\":\"\",\"address\":\"h:1\",\"state\":\"member\"}");
	read_damaged("{\"number\":1,\"id\":\"a\",\"address\":\"h:1\",\"state\":\"lost\"}");
	read_damaged("{\"number\":2,\"id\":\"a\",\"address\":\"h:1\",\"state\":\"member\"},"
	             "{\"number\":2,\"id\":\"b\",\"address\":\"h:2\",\"state\":\"member\"}");
}

static void test_clashes_are_refused(void **state)
{
	(void)state;
	enter(1, "server-1", "localhost:8765");
	enter(0, "server-2", "localhost:8766");
	refused(0, "server-2", "localhost:8767", MG_E_DUPLICATE, "the name \"server-2\" is that of");
	refused(0, "server-3", "localhost:8766", MG_E_DUPLICATE, "the address \"localhost:8766\" is");
	refused(2, "server-1", "localhost:8766", MG_E_DUPLICATE, "the name \"server-1\" is that of");
	refused(9, "server-9", "localhost:8769", MG_E_DENIED, "is not of this cluster");
	assert_int_equal(enter(2, "server-2", "otherhost:8766"), 2); /* it has moved */
	check_node(catalog, 2, "server-2", "otherhost:8766", "member");
	assert_int_equal(enter(0, "server-3", "localhost:8766"), 3);
}

static void test_names_and_addresses_are_checked(void **state)
{
	static const char *const ids[] = { "",
		                               "a b",
		                               "a/b",
		                               "a\nb",
		                               "\xff",
		                               "0123456789012345678901234567890123456789"
		                               "012345678901234567890123" };
	static const char *const addresses[] = {
		"",       "localhost", ":8765",   "localhost:0", "0.0.0.0:1", "*:1", "*.example:1",
		"[::]:1", "a b:1",     "h:65536", "h:x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		refused(0, ids[i], "localhost:8765", MG_E_USAGE, "is no name for a node");
	}
	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
		refused(0, "server-1", addresses[i], MG_E_USAGE, "is no address at which");
	}
}

static void test_one_member_stays(void **state)
{
	struct mg_error err;

	(void)state;
	enter(1, "server-1", "localhost:8765");
	assert_int_equal(mg_node_set_state(catalog, "server-1", MG_NODE_REMOVED, &err), MG_E_DENIED);
	enter(0, "server-2", "localhost:8766");
	set_state("server-1", MG_NODE_DRAINING);
	assert_int_equal(mg_node_set_state(catalog, "server-2", MG_NODE_DRAINING, &err), MG_E_DENIED);
	set_state("server-1", MG_NODE_MEMBER);
	set_state("server-2", MG_NODE_REMOVED);
	assert_int_equal(mg_node_set_state(catalog, "server-2", MG_NODE_MEMBER, &err), MG_E_NOT_FOUND);
	assert_int_equal(mg_node_set_state(catalog, "nobody", MG_NODE_MEMBER, &err), MG_E_NOT_FOUND);
	check_node(catalog, 1, "server-1", "localhost:8765", "member");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_numbers_are_given_once), CASE(test_a_file_keeps_them),
		CASE(test_an_old_file_has_none),   CASE(test_damage_is_found),
		CASE(test_clashes_are_refused),    CASE(test_names_and_addresses_are_checked),
		CASE(test_one_member_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
