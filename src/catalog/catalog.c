/*
 * catalog.c - versions of the catalog in memory and one file on disk.
 *
 * Idea: a version never changes.  Readers hold the version they took; a writer copies the current
 * one, changes the copy, saves it, and only then makes it current.  So what a reader sees is always
 * on disk, and a crash at any moment leaves the last version that was ever seen, or the next one.
 *
 *   DIR/log/catalog.json   {"format":1,"checksum":"<xxh3 of the rest>","catalog":{...}}
 *
 * Thread: any.  write_lock lets one writer in at a time and is held during the save; lock guards
 * the pointer.
 */
#include "catalog/catalog_int.h"

#include "base/assert.h"
#include "os/file.h"
#include "os/random.h"

#include <pthread.h>
#include <string.h>

/* Larger than any cluster's: about 300 bytes a shard or column. */
#define FILE_BYTES_MAX (256u << 20)
#define CHANGE_TRIES_MAX 8 /* when others change it at the same time */

/* One version; freed with its last reader. */
struct version {
	atomic_int refs;
	struct mg_arena *arena;
	struct mg_catalog_data data;
};

struct mg_catalog {
	pthread_mutex_t lock;
	pthread_mutex_t write_lock;
	struct version *current;
	char *path; /* of the file */
	char *dir;  /* that holds it */
	int (*propose)(void *arg, const char *text, size_t len, bool anywhere, struct mg_error *err);
	void *propose_arg;
	/* What is proposed now, and whether it has come back; guarded by lock. */
	const struct mg_sb *pending;
	bool pending_adopted;
};

/* ---- versions ---- */

static struct version *version_new(void)
{
	struct version *version = mg_alloc0(sizeof *version);
	atomic_init(&version->refs, 1);
	version->arena = mg_arena_new();
	return version;
}

static void version_unref(struct version *version)
{
	if (version && atomic_fetch_sub(&version->refs, 1) == 1) {
		mg_arena_free(version->arena);
		mg_free(version);
	}
}

static struct version *version_of(const struct mg_catalog_data *data)
{
	return (struct version *)((uintptr_t)data - offsetof(struct version, data));
}

const struct mg_catalog_data *mg_catalog_take(struct mg_catalog *catalog)
{
	pthread_mutex_lock(&catalog->lock);
	struct version *version = catalog->current;
	atomic_fetch_add(&version->refs, 1);
	pthread_mutex_unlock(&catalog->lock);
	return &version->data;
}

void mg_catalog_give(struct mg_catalog *catalog, const struct mg_catalog_data *data)
{
	(void)catalog;
	if (data) {
		version_unref(version_of(data));
	}
}

/* ---- the file ---- */

static int save(struct mg_catalog *catalog, const struct mg_catalog_data *data,
                struct mg_error *err)
{
	struct mg_sb body = { 0 };
	struct mg_sb file = { 0 };
	mg_catalog__write(data, &body);
	mg_catalog__seal(&body, &file);
	int rc = mg_dir_make(catalog->dir, 0700, err);
	if (rc == 0) {
		rc = mg_file_write(catalog->path, mg_sb_text(&file), file.len, 0600, err);
	}
	if (rc != 0) {
		mg_error_wrap(err, "while saving the catalog");
	}
	mg_sb_fini(&body);
	mg_sb_fini(&file);
	return rc;
}

static struct mg_catalog *catalog_new(const char *data_dir)
{
	struct mg_catalog *catalog = mg_alloc0(sizeof *catalog);
	pthread_mutex_init(&catalog->lock, NULL);
	pthread_mutex_init(&catalog->write_lock, NULL);
	catalog->dir = mg_path_join(data_dir, "log");
	catalog->path = mg_path_join(catalog->dir, "catalog.json");
	return catalog;
}

bool mg_catalog_exists(const char *data_dir)
{
	char *path = mg_path_join(data_dir, "log/catalog.json");
	bool there = mg_file_exists(path);

	mg_free(path);
	return there;
}

int mg_catalog_load(struct mg_catalog **out, const char *data_dir, struct mg_error *err)
{
	struct mg_catalog *catalog = catalog_new(data_dir);
	struct version *version = version_new();
	char *text = NULL;
	size_t size = 0;
	*out = NULL;
	catalog->current = version;
	int rc = mg_file_read(catalog->path, FILE_BYTES_MAX, &text, &size, err);
	if (rc == 0) {
		rc = mg_catalog__unseal(version->arena, text, size, &version->data, err);
		if (rc != 0) {
			mg_error_wrap(err, "while reading \"%s\"", catalog->path);
		}
	}
	mg_free(text);
	if (rc != 0) {
		mg_catalog_free(catalog);
		return rc;
	}
	*out = catalog;
	return 0;
}

int mg_catalog_new(struct mg_catalog **out, const char *data_dir, struct mg_error *err)
{
	struct mg_catalog *catalog = catalog_new(data_dir);
	struct version *version = version_new();
	char id[33];
	(void)err;
	version->data.cluster_id = mg_arena_strdup(version->arena, mg_random_hex(id, 16));
	version->data.name = "merganser";
	version->data.sample = "";
	version->data.shards = mg_arena_new_array(version->arena, struct mg_shard, 1);
	version->data.shards[0].file = "shards/0000.duckdb";
	version->data.shards[0].engine_version = "";
	version->data.shards[0].file_format = MG_FILE_FORMAT;
	catalog->current = version;
	*out = catalog;
	return 0;
}

int mg_catalog_install(const char *data_dir, const char *text, size_t len, struct mg_error *err)
{
	struct mg_catalog *catalog = catalog_new(data_dir);

	catalog->current = version_new();
	int rc = mg_catalog__read(catalog->current->arena, text, len, &catalog->current->data, err);
	if (rc == 0) {
		rc = save(catalog, &catalog->current->data, err);
	}
	mg_catalog_free(catalog);
	return rc;
}

void mg_catalog_free(struct mg_catalog *catalog)
{
	if (!catalog) {
		return;
	}
	version_unref(catalog->current);
	pthread_mutex_destroy(&catalog->lock);
	pthread_mutex_destroy(&catalog->write_lock);
	mg_free(catalog->path);
	mg_free(catalog->dir);
	mg_free(catalog);
}

/* ---- changes ---- */

/* A copy by way of the file's text: what a change starts from is exactly what a restart would read.
 */
static int version_copy(const struct version *from, struct version **out, struct mg_error *err)
{
	struct version *copy = version_new();
	struct mg_sb body = { 0 };
	mg_catalog__write(&from->data, &body);
	int rc = mg_catalog__read(copy->arena, mg_sb_text(&body), body.len, &copy->data, err);
	mg_sb_fini(&body);
	if (rc != 0) {
		version_unref(copy);
		copy = NULL;
	}
	*out = copy;
	return rc;
}

const struct mg_catalog_data *mg_catalog_ref(const struct mg_catalog_data *data)
{
	atomic_fetch_add(&version_of(data)->refs, 1);
	return data;
}

int mg_catalog_fork(const struct mg_catalog_data *base,
                    int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                  struct mg_error *err),
                    void *arg, const struct mg_catalog_data **out, struct mg_error *err)
{
	struct version *changed = NULL, *settled = NULL;
	int rc = version_copy(version_of(base), &changed, err);
	if (rc == 0) {
		rc = change(arg, changed->arena, &changed->data, err);
	}
	/* Once more: what was put in may live elsewhere. */
	rc = rc ? rc : version_copy(changed, &settled, err);
	version_unref(changed);
	*out = rc ? NULL : &settled->data;
	return rc;
}

/* Readers see it from now on; the one before is gone with its last reader. */
static void publish(struct mg_catalog *catalog, struct version *next)
{
	pthread_mutex_lock(&catalog->lock);
	struct version *old = catalog->current;
	catalog->current = next;
	pthread_mutex_unlock(&catalog->lock);
	version_unref(old);
}

static void set_pending(struct mg_catalog *catalog, const struct mg_sb *text, bool *adopted)
{
	pthread_mutex_lock(&catalog->lock);
	catalog->pending = text;
	*adopted = catalog->pending_adopted;
	catalog->pending_adopted = false;
	pthread_mutex_unlock(&catalog->lock);
}

/* A text has been adopted: is it the one that is waited for? */
static void note_adopted(struct mg_catalog *catalog, const char *text, size_t len)
{
	pthread_mutex_lock(&catalog->lock);
	const struct mg_sb *pending = catalog->pending;

	if (pending && pending->len == len && memcmp(mg_sb_text(pending), text, len) == 0) {
		catalog->pending_adopted = true;
	}
	pthread_mutex_unlock(&catalog->lock);
}

/* The next version goes into the log, and comes back by adopt; *done: it did.  Others may have made
 * more of them by then. */
static int change_by_log(struct mg_catalog *catalog, const struct version *next, bool anywhere,
                         bool *done, struct mg_error *err)
{
	struct mg_sb text = { 0 };
	bool ignored;

	mg_catalog__write(&next->data, &text);
	set_pending(catalog, &text, &ignored);
	int rc = catalog->propose(catalog->propose_arg, mg_sb_text(&text), text.len, anywhere, err);

	set_pending(catalog, NULL, done);
	if (rc && *done) {
		mg_error_clear(err); /* its answer was lost, but here it is */
		rc = 0;
	}
	mg_sb_fini(&text);
	return rc;
}

static int change_once(struct mg_catalog *catalog,
                       int (*change)(void *arg, struct mg_arena *arena,
                                     struct mg_catalog_data *data, struct mg_error *err),
                       void *arg, bool anywhere, bool *done, struct mg_error *err)
{
	struct version *next = NULL;
	const struct mg_catalog_data *base = mg_catalog_take(catalog);
	int rc = version_copy(version_of(base), &next, err);
	mg_catalog_give(catalog, base);
	if (rc == 0) {
		rc = change(arg, next->arena, &next->data, err);
	}
	if (rc == 0) { /* what nobody could read must not get into the log */
		struct version *readable = NULL;
		rc = version_copy(next, &readable, err);
		version_unref(readable);
	}
	if (rc == 0) {
		next->data.version++;
		*done = !catalog->propose;
		rc = catalog->propose ? change_by_log(catalog, next, anywhere, done, err)
		                      : save(catalog, &next->data, err);
	}
	if (rc == 0 && !catalog->propose) {
		publish(catalog, next);
		next = NULL;
	}
	version_unref(next);
	return rc;
}

static int change_until_done(struct mg_catalog *catalog,
                             int (*change)(void *arg, struct mg_arena *arena,
                                           struct mg_catalog_data *data, struct mg_error *err),
                             void *arg, bool anywhere, struct mg_error *err)
{
	bool done = false;
	int rc = 0;
	pthread_mutex_lock(&catalog->write_lock);
	for (int i = 0; rc == 0 && !done && i < CHANGE_TRIES_MAX; i++) {
		rc = change_once(catalog, change, arg, anywhere, &done, err);
	}
	pthread_mutex_unlock(&catalog->write_lock);
	if (rc == 0 && !done) {
		mg_error_set(err, MG_E_BUSY, "the catalog is being changed by others");
		mg_error_hint(err, "Nothing was done: try again.");
		rc = MG_E_BUSY;
	}
	return rc;
}

int mg_catalog_change(struct mg_catalog *catalog,
                      int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                    struct mg_error *err),
                      void *arg, struct mg_error *err)
{
	return change_until_done(catalog, change, arg, false, err);
}

int mg_catalog_change_anywhere(struct mg_catalog *catalog,
                               int (*change)(void *arg, struct mg_arena *arena,
                                             struct mg_catalog_data *data, struct mg_error *err),
                               void *arg, struct mg_error *err)
{
	return change_until_done(catalog, change, arg, true, err);
}

/* ---- as a state machine ---- */

void mg_catalog_set_log(struct mg_catalog *catalog,
                        int (*propose)(void *arg, const char *text, size_t len, bool anywhere,
                                       struct mg_error *err),
                        void *arg)
{
	pthread_mutex_lock(&catalog->write_lock);
	catalog->propose = propose;
	catalog->propose_arg = arg;
	pthread_mutex_unlock(&catalog->write_lock);
}

int mg_catalog_adopt(struct mg_catalog *catalog, const char *text, size_t len, uint64_t index,
                     struct mg_error *err)
{
	struct version *next = version_new();
	const struct mg_catalog_data *current = mg_catalog_take(catalog);
	uint64_t version = current->version, applied = current->applied;
	mg_catalog_give(catalog, current);
	int rc = mg_catalog__read(next->arena, text, len, &next->data, err);
	if (rc == 0 && index > applied && next->data.version == version + 1) {
		next->data.applied = index;
		rc = save(catalog, &next->data, err);
		if (rc == 0) {
			publish(catalog, next);
			note_adopted(catalog, text, len);
			next = NULL;
		}
	}
	version_unref(next);
	return rc;
}

int mg_catalog_note_applied(struct mg_catalog *catalog, uint64_t index, struct mg_error *err)
{
	struct version *next = NULL;
	const struct mg_catalog_data *current = mg_catalog_take(catalog);
	int rc = index > current->applied ? version_copy(version_of(current), &next, err) : 0;
	mg_catalog_give(catalog, current);
	if (next) {
		next->data.applied = index;
		rc = save(catalog, &next->data, err);
	}
	if (next && rc == 0) {
		publish(catalog, next);
		next = NULL;
	}
	version_unref(next);
	return rc;
}

void mg_catalog_text(const struct mg_catalog_data *data, struct mg_sb *out)
{
	mg_catalog__write(data, out);
}

int mg_catalog_replace(struct mg_catalog *catalog, const char *text, size_t len, uint64_t index,
                       struct mg_error *err)
{
	struct version *next = version_new();
	const struct mg_catalog_data *current = mg_catalog_take(catalog);
	int rc = mg_catalog__read(next->arena, text, len, &next->data, err);

	/* One that was never saved has no cluster yet. */
	if (rc == 0 && current->version > 0 &&
	    !mg_text_eq(current->cluster_id, next->data.cluster_id)) {
		rc = mg_error_set(err, MG_E_CORRUPT, "the catalog is that of cluster \"%s\", not \"%s\"",
		                  next->data.cluster_id, current->cluster_id);
	}
	if (rc == 0 && next->data.applied != index) {
		rc = mg_error_set(err, MG_E_CORRUPT, "the catalog is as of index %llu, not %llu",
		                  (unsigned long long)next->data.applied, (unsigned long long)index);
	}
	mg_catalog_give(catalog, current);
	rc = rc ? rc : save(catalog, &next->data, err);
	if (rc == 0) {
		publish(catalog, next);
		next = NULL;
	}
	version_unref(next);
	return rc;
}

/* ---- look-ups ---- */

const char *mg_table_stored(struct mg_arena *arena, const struct mg_table *table)
{
	const char *name = table->stored && *table->stored ? table->stored : table->name;

	return table->id ? mg_arena_format(arena, "%s#%llu", name, (unsigned long long)table->id)
	                 : name;
}

const char *mg_column_stored(const struct mg_column *column)
{
	return column->stored && *column->stored ? column->stored : column->name;
}

void mg_table_add_stored_columns(struct mg_sb *sql, const struct mg_table *table)
{
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, mg_column_stored(&table->columns[i]));
		mg_sb_add(sql, " AS ");
		mg_sb_add_ident(sql, table->columns[i].name);
	}
}

void mg_table_add_definition(struct mg_sb *sql, const struct mg_table *table, bool with_key)
{
	if (with_key && table->declared && *table->declared) {
		mg_sb_add(sql, table->declared);
		return;
	}
	mg_sb_add(sql, table->definition ? table->definition : "");
	for (size_t i = 0; !(table->definition && *table->definition) && i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, table->columns[i].name);
		mg_sb_addf(sql, " %s%s", table->columns[i].type,
		           table->columns[i].not_null ? " NOT NULL" : "");
	}
	for (size_t i = 0; with_key && i < table->primary_key_count; i++) {
		mg_sb_add(sql, i ? ", " : ", PRIMARY KEY (");
		mg_sb_add_ident(sql, table->primary_key[i]);
	}
	mg_sb_add(sql, with_key && table->primary_key_count ? ")" : "");
	for (size_t i = 0; with_key && i < table->unique_count; i++) {
		for (size_t k = 0; k < table->uniques[i].count; k++) {
			mg_sb_add(sql, k ? ", " : ", UNIQUE (");
			mg_sb_add_ident(sql, table->uniques[i].columns[k]);
		}
		mg_sb_add_char(sql, ')');
	}
}

void mg_view_add_definition(struct mg_sb *sql, const struct mg_view *view)
{
	if (view->declared && *view->declared) {
		mg_sb_addf(sql, " %s", view->declared);
	} else {
		mg_sb_addf(sql, " AS %s", view->sql);
	}
}

bool mg_table_is_same(const struct mg_table *a, const struct mg_table *b)
{
	return a->id == b->id && a->version == b->version && mg_text_eq(a->definition, b->definition);
}

bool mg_table_has_keys(const struct mg_table *table)
{
	return table->primary_key_count || table->unique_count;
}

static size_t add_columns(const char **out, size_t count, size_t room, const char *const *columns,
                          size_t more)
{
	for (size_t i = 0; i < more && count < room; i++) {
		bool there = false;

		for (size_t k = 0; k < count && !there; k++) {
			there = mg_text_eq_nocase(out[k], columns[i]);
		}
		if (!there) {
			out[count++] = columns[i];
		}
	}
	return count;
}

size_t mg_table_key_columns(const struct mg_table *table, const char **out)
{
	size_t count = add_columns(out, 0, table->column_count, table->primary_key,
	                           table->primary_key_count);

	for (size_t i = 0; i < table->unique_count; i++) {
		count = add_columns(out, count, table->column_count, table->uniques[i].columns,
		                    table->uniques[i].count);
	}
	return count;
}

void mg_table_shards(const struct mg_catalog_data *data, const struct mg_table *table,
                     uint32_t *first, uint32_t *last)
{
	*first = table->key_count ? 1 : 0;
	*last = table->key_count ? data->shard_count : 0;
}

void mg_catalog_owners(const struct mg_catalog_data *data, uint16_t *owner)
{
	for (uint32_t i = 1; i <= data->shard_count; i++) {
		const struct mg_shard *shard = &data->shards[i];
		for (uint32_t slot = shard->slot_first; slot <= shard->slot_last; slot++) {
			owner[slot] = (uint16_t)shard->id;
		}
	}
}

uint32_t *mg_shard_ids(struct mg_arena *arena, uint32_t first, uint32_t last)
{
	uint32_t *ids = mg_arena_new_array(arena, uint32_t, (size_t)last + 1);

	for (uint32_t id = first; id <= last; id++) {
		ids[id - first] = id;
	}
	return ids;
}

uint32_t *mg_table_shard_ids(struct mg_arena *arena, const struct mg_catalog_data *data,
                             const struct mg_table *table, size_t *count)
{
	uint32_t first, last;

	mg_table_shards(data, table, &first, &last);
	*count = last - first + 1;
	return mg_shard_ids(arena, first, last);
}

const struct mg_column *mg_table_find_column(const struct mg_table *table, const char *name)
{
	for (size_t i = 0; i < table->column_count; i++) {
		if (mg_text_eq_nocase(table->columns[i].name, name)) {
			return &table->columns[i];
		}
	}
	return NULL;
}

const struct mg_table *mg_catalog_find_table(const struct mg_catalog_data *data, const char *schema,
                                             const char *name)
{
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		if (mg_text_eq_nocase(table->schema, schema) && mg_text_eq_nocase(table->name, name)) {
			return table;
		}
	}
	return NULL;
}

const struct mg_view *mg_catalog_find_view(const struct mg_catalog_data *data, const char *schema,
                                           const char *name)
{
	for (size_t i = 0; i < data->view_count; i++) {
		if (mg_text_eq_nocase(data->views[i].schema, schema) &&
		    mg_text_eq_nocase(data->views[i].name, name)) {
			return &data->views[i];
		}
	}
	return NULL;
}

bool mg_catalog_has_schema(const struct mg_catalog_data *data, const char *schema)
{
	bool found = mg_text_eq_nocase(schema, "main");

	for (size_t i = 0; i < data->schema_count && !found; i++) {
		found = mg_text_eq_nocase(data->schemas[i], schema);
	}
	for (size_t i = 0; i < data->table_count && !found; i++) {
		found = mg_text_eq_nocase(data->tables[i].schema, schema);
	}
	for (size_t i = 0; i < data->view_count && !found; i++) {
		found = mg_text_eq_nocase(data->views[i].schema, schema);
	}
	for (size_t i = 0; i < data->object_count && !found; i++) {
		found = mg_text_eq_nocase(data->objects[i].schema, schema);
	}
	return found;
}

const struct mg_object *mg_catalog_find_object(const struct mg_catalog_data *data, const char *kind,
                                               const char *schema, const char *name)
{
	for (size_t i = 0; i < data->object_count; i++) {
		const struct mg_object *object = &data->objects[i];
		if (mg_text_eq(object->kind, kind) && mg_text_eq_nocase(object->schema, schema) &&
		    mg_text_eq_nocase(object->name, name)) {
			return object;
		}
	}
	return NULL;
}

const struct mg_catalog_node *mg_catalog_find_node(const struct mg_catalog_data *data,
                                                   uint64_t number)
{
	for (size_t i = 0; i < data->node_count; i++) {
		if (data->nodes[i].number == number) {
			return &data->nodes[i];
		}
	}
	return NULL;
}

const struct mg_user *mg_catalog_find_user(const struct mg_catalog_data *data, const char *name)
{
	for (size_t i = 0; i < data->user_count; i++) {
		if (mg_text_eq(data->users[i].name, name)) {
			return &data->users[i];
		}
	}
	return NULL;
}
