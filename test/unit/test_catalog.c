/* test_catalog.c - versions, the file, damage, crashes, manifest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "catalog/catalog.h"
#include "os/file.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/mg-catalog-XXXXXX");
	return mkdtemp(dir) ? 0 : 1;
}

static int drop_dir(void **state)
{
	(void)state;
	return mg_tree_remove(dir, NULL);
}

static int fill(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                struct mg_error *err)
{
	(void)arg;
	data->shard_count = 3;
	data->shards = mg_arena_new_array(arena, struct mg_shard, 4);
	for (uint32_t i = 0; i < 4; i++) {
		data->shards[i] =
			(struct mg_shard){ .id = i,
			                   .file = mg_arena_format(arena, "shards/%04u.duckdb", i),
			                   .rows = 100 + i,
			                   .bytes = UINT64_C(1) << 40,
			                   .engine_version = "v1.5.5",
			                   .file_format = 1,
			                   .created = "2026-11-21T00:00:00.000Z" };
		memset(data->shards[i].sha256, 'a' + (int)i, 64);
	}
	data->shards[1].slot_last = 5461;
	data->shards[2].slot_first = 5462;
	data->shards[2].slot_last = 10922;
	data->shards[3].slot_first = 10923;
	data->shards[3].slot_last = 16383;
	data->tables = mg_arena_new_array(arena, struct mg_table, 1);
	data->table_count = 1;
	struct mg_table *table = &data->tables[0];
	*table = (struct mg_table){ .schema = "main",
		                        .name = "Line \"item\"",
		                        .declared = "\"a\" INTEGER UNIQUE",
		                        .key_count = 1,
		                        .primary_key_count = 2,
		                        .rows = 7,
		                        .version = 3 };
	table->columns = mg_arena_new_array(arena, struct mg_column, 2);
	table->columns[0] = (struct mg_column){ .name = "a\nb",
		                                      .type = "DECIMAL(15,2)",
		                                      .not_null = true,
		                                      .stored = "first \"name\"" };
	table->columns[1] = (struct mg_column){ .name = "é", .type = "ENUM('x', 'y')" };
	table->column_count = 2;
	table->comments = mg_comments_with(arena, &table->comments, "", "it's \"one\"\n");
	table->comments = mg_comments_with(arena, &table->comments, "é", "gone");
	table->comments = mg_comments_with(arena, &table->comments, "É", NULL);
	table->keys = mg_arena_new_array(arena, const char *, 1);
	table->keys[0] = "a\nb";
	table->primary_key = mg_arena_new_array(arena, const char *, 2);
	table->primary_key[0] = "a\nb";
	table->primary_key[1] = "é";
	data->views = mg_arena_new_array(arena, struct mg_view, 1);
	data->views[0] = (struct mg_view){ .schema = "main",
		                               .name = "v",
		                               .sql = "SELECT 'it''s' AS \"x\"",
		                               .declared = "(\"x\") AS SELECT 'it''s'" };
	data->view_count = 1;
	data->users = mg_arena_new_array(arena, struct mg_user, 1);
	data->users[0] =
		(struct mg_user){ "scott", MG_ROLE_ADMIN, "$argon2id$x", "SCRAM-SHA-256$4096:a$b:c" };
	data->user_count = 1;
	data->sample = "tpch 1";
	data->done = mg_arena_new_array(arena, struct mg_catalog_done, 1);
	data->done[0] =
		(struct mg_catalog_done){ .key = "00ff", .digest = "ff00", .rows = 5, .at_ms = 7 };
	data->done_count = 1;
	return mg_catalog_put_space(arena, data,
	                            &(struct mg_catalog_space){ .name = "sessions",
	                                                        .default_ttl_ms = 1500,
	                                                        .quota_bytes = UINT64_C(1) << 40,
	                                                        .quota_keys = 9 },
	                            err);
}

static struct mg_catalog *filled(void)
{
	struct mg_error err;
	struct mg_catalog *catalog = NULL;
	assert_int_equal(mg_catalog_new(&catalog, dir, &err), 0);
	if (mg_catalog_change(catalog, fill, NULL, &err) != 0) {
		fail_msg("%s", err.message);
	}
	return catalog;
}

static void test_save_and_load(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_catalog *none = NULL;
	assert_int_equal(mg_catalog_load(&none, dir, &err), MG_E_NOT_FOUND);
	struct mg_catalog *catalog = filled();
	struct mg_catalog *loaded = NULL;
	assert_int_equal(mg_catalog_load(&loaded, dir, &err), 0);
	const struct mg_catalog_data *a = mg_catalog_take(catalog);
	const struct mg_catalog_data *b = mg_catalog_take(loaded);
	assert_int_equal(b->version, 1);
	assert_string_equal(a->cluster_id, b->cluster_id);
	assert_int_equal(strlen(b->cluster_id), 32);
	assert_string_equal(b->sample, "tpch 1");
	assert_int_equal(b->shard_count, 3);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(a->shards[i].sha256, b->shards[i].sha256);
		assert_string_equal(a->shards[i].file, b->shards[i].file);
		assert_string_equal(a->shards[i].created, b->shards[i].created);
		assert_int_equal(a->shards[i].slot_first, b->shards[i].slot_first);
		assert_int_equal(a->shards[i].slot_last, b->shards[i].slot_last);
		assert_true(a->shards[i].bytes == b->shards[i].bytes);
	}
	const struct mg_table *table = mg_catalog_find_table(b, "MAIN", "line \"ITEM\"");
	assert_non_null(table);
	assert_string_equal(table->columns[0].name, "a\nb");
	assert_true(table->columns[0].not_null);
	assert_false(table->columns[1].not_null);
	assert_string_equal(table->columns[1].type, "ENUM('x', 'y')");
	assert_int_equal(table->key_count, 1);
	assert_string_equal(table->primary_key[1], "é");
	assert_int_equal(table->rows, 7);
	assert_int_equal(b->done_count, 1);
	assert_string_equal(b->done[0].key, "00ff");
	assert_string_equal(b->done[0].digest, "ff00");
	assert_true(b->done[0].rows == 5 && b->done[0].at_ms == 7);
	const struct mg_catalog_space *space = mg_catalog_find_space(b, MG_STR("sessions"));

	assert_non_null(space);
	assert_true(space->default_ttl_ms == 1500 && space->quota_keys == 9);
	assert_true(space->quota_bytes == UINT64_C(1) << 40);
	assert_int_equal(b->views[0].comments.count, 0);
	assert_int_equal(table->comments.count, 3);
	assert_string_equal(table->comments.list[0].text, "it's \"one\"\n");
	assert_string_equal(table->comments.list[1].column, "é");
	assert_null(table->comments.list[2].text);
	assert_string_equal(b->views[0].sql, "SELECT 'it''s' AS \"x\"");
	assert_string_equal(b->views[0].declared, "(\"x\") AS SELECT 'it''s'");
	assert_string_equal(b->tables[0].declared, "\"a\" INTEGER UNIQUE");
	assert_int_equal(mg_catalog_find_user(b, "scott")->role, MG_ROLE_ADMIN);
	assert_null(mg_catalog_find_user(b, "Scott"));
	assert_null(mg_catalog_find_table(b, "main", "nope"));
	mg_catalog_give(catalog, a);
	mg_catalog_give(loaded, b);
	mg_catalog_free(catalog);
	mg_catalog_free(loaded);
}

static int rename_sample(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                         struct mg_error *err)
{
	if (!arg) {
		data->sample = "never";
		return mg_error_set(err, MG_E_USAGE, "no");
	}
	data->sample = mg_arena_strdup(arena, arg);
	return 0;
}

static void test_readers_keep_their_version(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_catalog *catalog = filled();
	const struct mg_catalog_data *old = mg_catalog_take(catalog);
	char text[] = "tpch 2";
	assert_int_equal(mg_catalog_change(catalog, rename_sample, text, &err), 0);
	const struct mg_catalog_data *new = mg_catalog_take(catalog);
	assert_string_equal(old->sample, "tpch 1");
	assert_string_equal(new->sample, "tpch 2");
	assert_int_equal(new->version, old->version + 1);
	assert_int_equal(mg_catalog_change(catalog, rename_sample, NULL, &err), MG_E_USAGE);
	mg_catalog_give(catalog, old);
	mg_catalog_give(catalog, new);
	new = mg_catalog_take(catalog);
	assert_string_equal(new->sample, "tpch 2");
	mg_catalog_give(catalog, new);
	mg_catalog_free(catalog);
}

static void test_failed_save_changes_nothing(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_catalog *catalog = filled();
	char log[96];
	char text[] = "tpch 9";
	snprintf(log, sizeof log, "%s/log", dir);
	assert_int_equal(mg_tree_remove(log, &err), 0);
	assert_int_equal(mg_file_write(log, "x", 1, 0600, &err),
	                 0); /* a file where the folder should be */
	assert_int_not_equal(mg_catalog_change(catalog, rename_sample, text, &err), 0);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	assert_string_equal(data->sample, "tpch 1");
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
}

static void test_damage_is_found(void **state)
{
	(void)state;
	struct mg_error err;
	char path[96];
	char *text = NULL;
	size_t size = 0;
	mg_catalog_free(filled());
	snprintf(path, sizeof path, "%s/log/catalog.json", dir);
	assert_int_equal(mg_file_read(path, 1 << 20, &text, &size, &err), 0);
	/* Every byte flipped, every length cut. */
	for (size_t i = 0; i < size; i++) {
		struct mg_catalog *catalog = NULL;
		text[i] = (char)(text[i] ^ 1);
		assert_int_equal(mg_file_write(path, text, size, 0600, &err), 0);
		int rc = mg_catalog_load(&catalog, dir, &err);
		if (rc != MG_E_CORRUPT && rc != MG_E_UNSUPPORTED) {
			fail_msg("byte %zu: code %d", i, rc);
		}
		text[i] = (char)(text[i] ^ 1);
		i += size / 150;
	}
	for (size_t cut = 0; cut < size; cut += size / 50) {
		struct mg_catalog *catalog = NULL;
		assert_int_equal(mg_file_write(path, text, cut, 0600, &err), 0);
		assert_int_equal(mg_catalog_load(&catalog, dir, &err), MG_E_CORRUPT);
	}
	mg_free(text);
}

/* Killed at any moment while it saves without pause, a writer leaves a version that reads whole. */
static void test_crash_leaves_old_or_new(void **state)
{
	(void)state;
	struct mg_error err;
	mg_catalog_free(filled());
	uint64_t last = 1;
	/* On a busy machine a writer may be killed before it has begun. */
	for (int round = 0; round < 15 || (last == 1 && round < 1000); round++) {
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			struct mg_catalog *catalog = NULL;
			if (mg_catalog_load(&catalog, dir, &err) != 0) {
				_exit(1);
			}
			for (unsigned i = 0;; i++) {
				char text[32];
				snprintf(text, sizeof text, "tpch %u", i);
				if (mg_catalog_change(catalog, rename_sample, text, &err) != 0) {
					_exit(2);
				}
			}
		}
		usleep((useconds_t)(3000 + rand() % 30000));
		kill(child, SIGKILL);
		int status = 0;
		waitpid(child, &status, 0);
		assert_true(WIFSIGNALED(status));
		struct mg_catalog *catalog = NULL;
		if (mg_catalog_load(&catalog, dir, &err) != 0) {
			fail_msg("round %d: %s", round, err.message);
		}
		const struct mg_catalog_data *data = mg_catalog_take(catalog);
		assert_true(data->version >= last);
		last = data->version;
		assert_int_equal(data->table_count, 1);
		mg_catalog_give(catalog, data);
		mg_catalog_free(catalog);
	}
	assert_true(last > 1); /* how far a writer gets is a matter of speed */
}

static struct mg_catalog *shared;

static void *change_often(void *arg)
{
	struct mg_error err;
	for (int i = 0; i < 50; i++) {
		if (mg_catalog_change(shared, rename_sample, arg, &err) != 0) {
			abort();
		}
		const struct mg_catalog_data *data = mg_catalog_take(shared);
		if (data->table_count != 1 || strncmp(data->sample, "tpch", 4) != 0) {
			abort();
		}
		mg_catalog_give(shared, data);
	}
	return NULL;
}

static void test_many_writers(void **state)
{
	(void)state;
	pthread_t threads[4];
	char text[] = "tpch 5";
	shared = filled();
	for (size_t i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, change_often, text);
	}
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	const struct mg_catalog_data *data = mg_catalog_take(shared);
	assert_int_equal(data->version, 201);
	mg_catalog_give(shared, data);
	mg_catalog_free(shared);
}

static void test_manifest(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_catalog *catalog = filled();
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	struct mg_sb json = { 0 };
	struct mg_sb yaml = { 0 };
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree = NULL;
	mg_catalog_manifest_json(data, &json);
	mg_catalog_manifest_yaml(data, &yaml);
	if (mg_json_parse(arena, mg_sb_text(&json), json.len, &tree, &err) != 0) {
		fail_msg("%s", err.message);
	}
	const struct mg_json *shards = mg_json_get(tree, "shards");
	assert_int_equal(shards->count, 4);
	assert_int_equal(mg_json_get_int(mg_json_at(shards, 3), "slot_first", 0), 10923);
	assert_string_equal(mg_json_get_text(mg_json_at(shards, 1), "sha256"), data->shards[1].sha256);
	assert_int_equal(mg_json_get_int(tree, "shard_count", 0), 3);
	assert_null(strstr(mg_sb_text(&json), "argon2id"));
	assert_null(strstr(mg_sb_text(&yaml), "argon2id"));
	assert_non_null(
		strstr(mg_sb_text(&yaml), "\n  - id: 3\n    slot_first: 10923\n    slot_last: 16383\n"));
	assert_non_null(strstr(mg_sb_text(&yaml), "partitioned_by: [\"a\\nb\"]"));
	mg_arena_free(arena);
	mg_sb_fini(&json);
	mg_sb_fini(&yaml);
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
	const struct CMUnitTest tests[] = {
		CASE(test_save_and_load),
		CASE(test_readers_keep_their_version),
		CASE(test_failed_save_changes_nothing),
		CASE(test_damage_is_found),
		CASE(test_crash_leaves_old_or_new),
		CASE(test_many_writers),
		CASE(test_manifest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
