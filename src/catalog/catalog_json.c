/*
 * catalog_json.c - the catalog as JSON text, and back.
 *
 * Unknown members are skipped, missing ones get their empty value, so that a field can be added
 * without a new format; what would make the rest of the program go wrong (counts, slots, names) is
 * checked here once.
 *
 * Pure.  Thread: any.
 */
#include "catalog/catalog_fields.h"
#include "catalog/catalog_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SLOTS 16384

static const char *const role_names[] = {
	[MG_ROLE_NONE] = "none",
	[MG_ROLE_CLIENT] = "client",
	[MG_ROLE_WORKER] = "worker",
	[MG_ROLE_ADMIN] = "admin",
};

/* ---- writing ---- */

static void add_text(struct mg_sb *out, const char *key, const char *text)
{
	mg_sb_addf(out, "\"%s\":", key);
	mg_sb_add_json(out, text ? text : "", text ? strlen(text) : 0);
}

static void write_shard(struct mg_sb *out, const struct mg_shard *shard)
{
	mg_sb_addf(out, "\n{\"slots\":[%u,%u],", shard->slot_first, shard->slot_last);
	mg_catalog__write_fields(out, mg_catalog__shard_fields, shard);
	mg_sb_add_char(out, '}');
}

static void write_table(struct mg_sb *out, const struct mg_table *table)
{
	mg_sb_add(out, "\n{");
	mg_catalog__write_fields(out, mg_catalog__table_fields, table);
	mg_sb_add(out, ",\"columns\":[");
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(out, i ? ",{" : "{");
		add_text(out, "name", table->columns[i].name);
		mg_sb_add_char(out, ',');
		add_text(out, "type", table->columns[i].type);
		if (table->columns[i].stored && *table->columns[i].stored) {
			mg_sb_add_char(out, ',');
			add_text(out, "stored", table->columns[i].stored);
		}
		mg_sb_add(out, table->columns[i].not_null ? ",\"not_null\":true}" : "}");
	}
	mg_sb_add_char(out, ']');
	for (size_t i = 0; i < table->unique_count; i++) {
		mg_sb_add(out, i ? ",[" : ",\"unique\":[[");
		for (size_t k = 0; k < table->uniques[i].count; k++) {
			const char *name = table->uniques[i].columns[k];

			mg_sb_add(out, k ? "," : "");
			mg_sb_add_json(out, name, strlen(name));
		}
		mg_sb_add_char(out, ']');
	}
	mg_sb_add(out, table->unique_count ? "]" : "");
	mg_catalog__write_comments(out, &table->comments);
	mg_sb_add_char(out, '}');
}

static void write_view(struct mg_sb *out, const struct mg_view *view)
{
	mg_sb_add(out, "\n{");
	add_text(out, "schema", view->schema);
	mg_sb_add_char(out, ',');
	add_text(out, "name", view->name);
	mg_sb_add_char(out, ',');
	add_text(out, "sql", view->sql);
	if (view->declared && *view->declared) {
		mg_sb_add_char(out, ',');
		add_text(out, "declared", view->declared);
	}
	mg_catalog__write_comments(out, &view->comments);
	mg_sb_add_char(out, '}');
}

static void write_object(struct mg_sb *out, const struct mg_object *object)
{
	mg_sb_add(out, "\n{");
	mg_catalog__write_fields(out, mg_catalog__object_fields, object);
	mg_sb_add_char(out, '}');
}

static void write_done(struct mg_sb *out, const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->done_count; i++) {
		mg_sb_add(out, i ? ",{" : ",\"done\":[{");
		mg_catalog__write_fields(out, mg_catalog__done_fields, &data->done[i]);
		mg_sb_add_char(out, '}');
	}
	mg_sb_add(out, data->done_count ? "]" : "");
}

static void write_spaces(struct mg_sb *out, const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->space_count; i++) {
		mg_sb_add(out, i ? ",\n{" : ",\"namespaces\":[\n{");
		mg_catalog__write_fields(out, mg_catalog__space_fields, &data->spaces[i]);
		mg_sb_add_char(out, '}');
	}
	mg_sb_add(out, data->space_count ? "]" : "");
}

static void write_user(struct mg_sb *out, const struct mg_user *user)
{
	mg_sb_add(out, "\n{");
	add_text(out, "name", user->name);
	mg_sb_add_char(out, ',');
	add_text(out, "role", role_names[user->role]);
	mg_sb_add_char(out, ',');
	add_text(out, "argon2id", user->argon2id);
	mg_sb_add_char(out, ',');
	add_text(out, "scram", user->scram);
	mg_sb_add_char(out, '}');
}

static void write_node(struct mg_sb *out, const struct mg_catalog_node *node)
{
	mg_sb_add(out, "\n{");
	mg_catalog__write_fields(out, mg_catalog__node_fields, node);
	mg_sb_add_char(out, '}');
}

void mg_catalog__write(const struct mg_catalog_data *data, struct mg_sb *out)
{
	mg_sb_add_char(out, '{');
	mg_catalog__write_fields(out, mg_catalog__head_fields, data);
	mg_sb_add(out, ",\"shards\":[");
	for (size_t i = 0; i <= data->shard_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_shard(out, &data->shards[i]);
	}
	mg_sb_add(out, "],\"tables\":[");
	for (size_t i = 0; i < data->table_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_table(out, &data->tables[i]);
	}
	mg_sb_add(out, "],\"views\":[");
	for (size_t i = 0; i < data->view_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_view(out, &data->views[i]);
	}
	mg_sb_add(out, "],\"objects\":[");
	for (size_t i = 0; i < data->object_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_object(out, &data->objects[i]);
	}
	mg_sb_add(out, "],\"users\":[");
	for (size_t i = 0; i < data->user_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_user(out, &data->users[i]);
	}
	mg_sb_add(out, "],\"nodes\":[");
	for (size_t i = 0; i < data->node_count; i++) {
		mg_sb_add(out, i ? "," : "");
		write_node(out, &data->nodes[i]);
	}
	mg_sb_add_char(out, ']');
	write_spaces(out, data);
	write_done(out, data);
	mg_sb_add_char(out, '}');
}

void mg_catalog__seal(const struct mg_sb *body, struct mg_sb *file)
{
	XXH64_hash_t sum = XXH3_64bits(mg_sb_text(body), body->len);
	mg_sb_addf(file, "{\"format\":%d,\"checksum\":\"%016llx\",\"catalog\":", MG_CATALOG_FORMAT,
	           (unsigned long long)sum);
	mg_sb_add_len(file, mg_sb_text(body), body->len);
	mg_sb_add(file, "}\n");
}

/* ---- reading ---- */

static int corrupt(struct mg_error *err, const char *what)
{
	return mg_error_set(err, MG_E_CORRUPT, "the catalog is damaged: %s", what);
}

static const char *text_of(struct mg_arena *arena, const struct mg_json *object, const char *key)
{
	const char *text = mg_json_get_text(object, key);
	return mg_arena_strdup(arena, text ? text : "");
}

static int read_shard(struct mg_arena *arena, const struct mg_json *json, uint32_t index,
                      struct mg_shard *shard, struct mg_error *err)
{
	const struct mg_json *slots = mg_json_get(json, "slots");
	int64_t first = slots ? strtoll(mg_json_text(mg_json_at(slots, 0)), NULL, 10) : -1;
	int64_t last = slots ? strtoll(mg_json_text(mg_json_at(slots, 1)), NULL, 10) : -1;
	if (!mg_catalog__read_fields(arena, json, mg_catalog__shard_fields, shard)) {
		return corrupt(err, "a shard's hash, time or number is too long");
	}
	if (shard->id != index) {
		return corrupt(err, "shards are out of order");
	}
	/* With more shards than slots some would be empty: last before first is refused. */
	if (first < 0 || last < first || last >= SLOTS) {
		return corrupt(err, "a shard has no slots");
	}
	if (!*shard->file || strstr(shard->file, "..") || *shard->file == '/') {
		return corrupt(err, "a shard has no file");
	}
	shard->slot_first = (uint16_t)first;
	shard->slot_last = (uint16_t)last;
	return 0;
}

static int read_uniques(struct mg_arena *arena, const struct mg_json *json, struct mg_table *table,
                        struct mg_error *err)
{
	const struct mg_json *uniques = mg_json_get(json, "unique");

	table->uniques = mg_arena_new_array(arena, struct mg_key, (uniques ? uniques->count : 0) + 1);
	mg_json_each(item, uniques) {
		struct mg_key *key = &table->uniques[table->unique_count++];

		key->columns = mg_arena_new_array(arena, const char *, item->count + 1);
		mg_json_each(name, item) {
			bool known = false;

			key->columns[key->count] = mg_arena_strdup(arena, mg_json_text(name));
			for (size_t i = 0; i < table->column_count; i++) {
				known = known ||
				        mg_text_eq_nocase(table->columns[i].name, key->columns[key->count]);
			}
			if (!known) {
				return corrupt(err, "a table is unique by a column that it has not");
			}
			key->count++;
		}
		if (!key->count) {
			return corrupt(err, "a table is unique by no column");
		}
	}
	return 0;
}

static int read_table(struct mg_arena *arena, const struct mg_json *json, struct mg_table *table,
                      struct mg_error *err)
{
	const struct mg_json *columns = mg_json_get(json, "columns");
	if (!mg_catalog__read_fields(arena, json, mg_catalog__table_fields, table)) {
		return corrupt(err, "a table's number is too long");
	}
	table->columns =
		mg_arena_new_array(arena, struct mg_column, (columns ? columns->count : 0) + 1);
	mg_json_each(item, columns) {
		struct mg_column *column = &table->columns[table->column_count++];
		column->name = text_of(arena, item, "name");
		column->type = text_of(arena, item, "type");
		column->not_null = mg_json_get_bool(item, "not_null", false);
		column->stored = text_of(arena, item, "stored");
		if (!*column->name || !*column->type) {
			return corrupt(err, "a column has no name or type");
		}
	}
	if (!*table->schema || !*table->name || table->column_count == 0) {
		return corrupt(err, "a table has no name or no columns");
	}
	table->comments = mg_catalog__read_comments(arena, json);
	return read_uniques(arena, json, table, err);
}

static int read_objects(struct mg_arena *arena, const struct mg_json *json,
                        struct mg_catalog_data *out, struct mg_error *err)
{
	const struct mg_json *objects = mg_json_get(json, "objects");

	out->objects =
		mg_arena_new_array(arena, struct mg_object, (objects ? objects->count : 0) + 1);
	mg_json_each(item, objects) {
		struct mg_object *object = &out->objects[out->object_count++];

		if (!mg_catalog__read_fields(arena, item, mg_catalog__object_fields, object) ||
		    !*object->kind || !*object->schema || !*object->name) {
			return corrupt(err, "an object has no kind or name");
		}
	}
	return 0;
}

static int read_done(struct mg_arena *arena, const struct mg_json *json,
                     struct mg_catalog_data *out, struct mg_error *err)
{
	const struct mg_json *done = mg_json_get(json, "done");

	if (done && done->count > MG_CATALOG_DONE_MAX) {
		return corrupt(err, "there are too many keys");
	}
	out->done = mg_arena_new_array(arena, struct mg_catalog_done, (done ? done->count : 0) + 1);
	mg_json_each(item, done) {
		if (!mg_catalog__read_fields(arena, item, mg_catalog__done_fields,
		                             &out->done[out->done_count++])) {
			return corrupt(err, "a key is not readable");
		}
	}
	return 0;
}

static int read_spaces(struct mg_arena *arena, const struct mg_json *json,
                       struct mg_catalog_data *out, struct mg_error *err)
{
	const struct mg_json *list = mg_json_get(json, "namespaces");

	if (list && list->count > MG_CATALOG_SPACES_MAX) {
		return corrupt(err, "there are too many namespaces");
	}
	out->spaces =
		mg_arena_new_array(arena, struct mg_catalog_space, (list ? list->count : 0) + 1);
	mg_json_each(item, list) {
		struct mg_catalog_space *space = &out->spaces[out->space_count];

		if (!mg_catalog__read_fields(arena, item, mg_catalog__space_fields, space) ||
		    !*space->name) {
			return corrupt(err, "a namespace is not readable");
		}
		if (out->space_count++ && strcmp(space[-1].name, space->name) >= 0) {
			return corrupt(err, "namespaces are out of order");
		}
	}
	return 0;
}

static int read_user(struct mg_arena *arena, const struct mg_json *json, struct mg_user *user,
                     struct mg_error *err)
{
	const char *role = mg_json_get_text(json, "role");
	user->name = text_of(arena, json, "name");
	user->argon2id = text_of(arena, json, "argon2id");
	user->scram = text_of(arena, json, "scram");
	for (size_t i = 0; i < sizeof role_names / sizeof *role_names; i++) {
		if (mg_text_eq(role, role_names[i])) {
			user->role = (enum mg_role)i;
			return *user->name ? 0 : corrupt(err, "a user has no name");
		}
	}
	return corrupt(err, "a user has no role");
}

static int read_node(struct mg_arena *arena, const struct mg_json *json,
                     const struct mg_catalog_data *data, struct mg_catalog_node *node,
                     struct mg_error *err)
{
	if (!mg_catalog__read_fields(arena, json, mg_catalog__node_fields, node) || node->number == 0 ||
	    !*node->id) {
		return corrupt(err, "a node has no number or name");
	}
	if (strcmp(node->state, MG_NODE_MEMBER) != 0 && strcmp(node->state, MG_NODE_DRAINING) != 0 &&
	    strcmp(node->state, MG_NODE_REMOVED) != 0) {
		return corrupt(err, "a node has no state");
	}
	/* The entry itself is not counted yet. */
	return data->node_count && data->nodes[data->node_count - 1].number >= node->number
	           ? corrupt(err, "nodes are out of order")
	           : 0;
}

static int read_nodes(struct mg_arena *arena, const struct mg_json *json,
                      struct mg_catalog_data *out, struct mg_error *err)
{
	const struct mg_json *nodes = mg_json_get(json, "nodes");
	int rc = 0;

	out->nodes = mg_arena_new_array(arena, struct mg_catalog_node, (nodes ? nodes->count : 0) + 1);
	mg_json_each(item, nodes) {
		if (rc == 0) {
			rc = read_node(arena, item, out, &out->nodes[out->node_count], err);
		}
		out->node_count += rc == 0;
	}
	return rc;
}

static int read_shards(struct mg_arena *arena, const struct mg_json *json,
                       struct mg_catalog_data *out, struct mg_error *err)
{
	const struct mg_json *shards = mg_json_get(json, "shards");
	if (!shards || shards->count == 0 || shards->count > SLOTS + 1 ||
	    shards->count != (size_t)out->shard_count + 1) {
		return corrupt(err, "the number of shards is wrong");
	}
	out->shards = mg_arena_new_array(arena, struct mg_shard, shards->count);
	uint32_t index = 0;
	int rc = 0;
	mg_json_each(item, shards) {
		if (rc == 0) {
			rc = read_shard(arena, item, index, &out->shards[index], err);
		}
		index++;
	}
	/* The partitions cover all slots without gap or overlap: rows would be lost or doubled. */
	for (uint32_t i = 1; rc == 0 && i <= out->shard_count; i++) {
		int expected = i == 1 ? 0 : out->shards[i - 1].slot_last + 1;
		if (out->shards[i].slot_first != expected ||
		    (i == out->shard_count && out->shards[i].slot_last != SLOTS - 1)) {
			rc = corrupt(err, "the shards do not cover the slots");
		}
	}
	return rc;
}

int mg_catalog__read(struct mg_arena *arena, const char *text, size_t len,
                     struct mg_catalog_data *out, struct mg_error *err)
{
	struct mg_arena *scratch = mg_arena_new();
	struct mg_json *json = NULL;
	int rc = mg_json_parse(scratch, text, len, &json, err);
	if (rc != 0) {
		mg_arena_free(scratch);
		return corrupt(err, "its text is not JSON");
	}
	memset(out, 0, sizeof *out);
	rc = mg_catalog__read_fields(arena, json, mg_catalog__head_fields, out)
	         ? read_shards(arena, json, out, err)
	         : corrupt(err, "its head is not readable");

	const struct mg_json *tables = mg_json_get(json, "tables");
	const struct mg_json *views = mg_json_get(json, "views");
	const struct mg_json *users = mg_json_get(json, "users");
	out->tables = mg_arena_new_array(arena, struct mg_table, (tables ? tables->count : 0) + 1);
	out->views = mg_arena_new_array(arena, struct mg_view, (views ? views->count : 0) + 1);
	out->users = mg_arena_new_array(arena, struct mg_user, (users ? users->count : 0) + 1);
	mg_json_each(item, tables) {
		if (rc == 0) {
			rc = read_table(arena, item, &out->tables[out->table_count++], err);
		}
	}
	mg_json_each(item, views) {
		struct mg_view *view = &out->views[out->view_count++];
		view->schema = text_of(arena, item, "schema");
		view->name = text_of(arena, item, "name");
		view->sql = text_of(arena, item, "sql");
		view->declared = text_of(arena, item, "declared");
		view->comments = mg_catalog__read_comments(arena, item);
	}
	mg_json_each(item, users) {
		if (rc == 0) {
			rc = read_user(arena, item, &out->users[out->user_count++], err);
		}
	}
	rc = rc ? rc : read_objects(arena, json, out, err);
	rc = rc ? rc : read_nodes(arena, json, out, err);
	rc = rc ? rc : read_spaces(arena, json, out, err);
	rc = rc ? rc : read_done(arena, json, out, err);
	mg_arena_free(scratch);
	return rc;
}

int mg_catalog__unseal(struct mg_arena *arena, const char *text, size_t len,
                       struct mg_catalog_data *out, struct mg_error *err)
{
	static const char mark[] = "\"catalog\":";
	int format = 0;
	unsigned long long sum = 0;
	int used = 0;
	/* text ends with a zero (mg_file_read). */
	if (sscanf(text, "{\"format\":%d,\"checksum\":\"%16llx\",%n", &format, &sum, &used) != 2 ||
	    used == 0 || strncmp(text + used, mark, sizeof mark - 1) != 0) {
		return corrupt(err, "its head is not readable");
	}
	if (format != MG_CATALOG_FORMAT) {
		return mg_error_set(err, MG_E_UNSUPPORTED,
		                    "the catalog has format %d, and this program reads %d", format,
		                    MG_CATALOG_FORMAT);
	}
	const char *body = text + used + sizeof mark - 1;
	size_t head = (size_t)(body - text);
	if (len < head + 2 || strcmp(text + len - 2, "}\n") != 0) {
		return corrupt(err, "its end is missing");
	}
	size_t body_len = len - head - 2;
	if (XXH3_64bits(body, body_len) != sum) {
		return corrupt(err, "its checksum is wrong");
	}
	return mg_catalog__read(arena, body, body_len, out, err);
}
