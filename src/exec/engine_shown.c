/* engine_shown.c - the list of what the planning database and the engine's views show. */
#include "exec/engine_int.h"

#include <string.h>

/* DuckDB's index of one key takes a megabyte of the planning database's 512 as soon as it holds
 * rows. */
#define SAMPLED_KEYS_MAX 64

void mg_engine__shown_fini(struct mg_shown *shown)
{
	mg_free(shown->kind);
	mg_free(shown->schema);
	mg_free(shown->name);
	mg_free(shown->text);
	mg_free(shown->comments);
}

const char *mg_engine__text_of(const struct mg_table *table)
{
	const char *definition = table->definition ? table->definition : "";

	return table->declared && *table->declared ? table->declared : definition;
}

void mg_engine__note(struct mg_engine *engine, const struct mg_shown *object)
{
	struct mg_shown shown = *object;

	shown.kind = mg_strdup(object->kind);
	shown.schema = mg_strdup(object->schema);
	shown.name = mg_strdup(object->name);
	shown.text = mg_strdup(object->text);
	shown.comments = NULL;
	pthread_mutex_lock(&engine->shown_lock);
	mg_grow(engine->shown, engine->shown_count, engine->shown_cap);
	engine->shown[engine->shown_count++] = shown;
	pthread_mutex_unlock(&engine->shown_lock);
	(void)atomic_fetch_add(&engine->shown_changes, 1);
}

static bool is_kind(const struct mg_shown *shown, const char *kind)
{
	return mg_text_eq(shown->kind, kind);
}

struct mg_shown *mg_engine__find_shown(struct mg_engine *engine, const struct mg_table *table)
{
	for (size_t i = 0; i < engine->shown_count; i++) {
		struct mg_shown *shown = &engine->shown[i];

		if (is_kind(shown, MG_SHOWN_TABLE) && mg_text_eq(shown->schema, table->schema) &&
		    mg_text_eq(shown->name, table->name)) {
			return shown;
		}
	}
	return NULL;
}

bool mg_engine_shows(struct mg_engine *engine, const struct mg_table *table)
{
	pthread_mutex_lock(&engine->shown_lock);
	const struct mg_shown *shown = mg_engine__find_shown(engine, table);
	bool same = shown && shown->id == table->id &&
	            mg_text_eq(shown->text, mg_engine__text_of(table));

	pthread_mutex_unlock(&engine->shown_lock);
	return same;
}

static size_t count_keys(const struct mg_table *table)
{
	return (table->primary_key_count ? 1 : 0) + table->unique_count;
}

bool mg_engine__has_room(struct mg_engine *engine, const struct mg_table *table)
{
	size_t keys = count_keys(table);

	pthread_mutex_lock(&engine->shown_lock);
	const struct mg_shown *own = mg_engine__find_shown(engine, table);

	for (size_t i = 0; i < engine->shown_count; i++) {
		keys += &engine->shown[i] == own ? 0 : engine->shown[i].sampled_keys;
	}
	pthread_mutex_unlock(&engine->shown_lock);
	return !count_keys(table) || keys <= SAMPLED_KEYS_MAX;
}

void mg_engine_rows(struct mg_engine *engine, const struct mg_table *table, uint64_t *rows,
                    uint64_t *sample_rows)
{
	pthread_mutex_lock(&engine->shown_lock);
	const struct mg_shown *shown = mg_engine__find_shown(engine, table);

	*rows = shown ? shown->rows : table->rows;
	*sample_rows = shown ? shown->sample_rows : 0;
	pthread_mutex_unlock(&engine->shown_lock);
}

void mg_engine__note_rows(struct mg_engine *engine, const struct mg_table *table, uint64_t rows,
                      const uint64_t *sample_rows)
{
	pthread_mutex_lock(&engine->shown_lock);
	struct mg_shown *shown = mg_engine__find_shown(engine, table);

	if (shown) {
		shown->rows = rows;
		shown->sample_rows = sample_rows ? *sample_rows : shown->sample_rows;
		shown->sampled_keys = shown->sample_rows ? count_keys(table) : 0;
	}
	pthread_mutex_unlock(&engine->shown_lock);
}

bool mg_engine__note_comments(struct mg_engine *engine, const char *kind, const char *schema,
                              const char *name, const char *comments)
{
	bool changed = false;

	pthread_mutex_lock(&engine->shown_lock);
	for (size_t i = 0; i < engine->shown_count; i++) {
		struct mg_shown *shown = &engine->shown[i];

		if (is_kind(shown, kind) && mg_text_eq(shown->schema, schema) &&
		    mg_text_eq(shown->name, name) &&
		    !(shown->comments && mg_text_eq(shown->comments, comments))) {
			mg_free(shown->comments);
			shown->comments = mg_strdup(comments);
			changed = true;
		}
	}
	pthread_mutex_unlock(&engine->shown_lock);
	return changed;
}

bool mg_engine__is_shown(struct mg_engine *engine, const char *kind, const char *schema,
                         const char *name)
{
	bool found = false;

	pthread_mutex_lock(&engine->shown_lock);
	for (size_t i = 0; i < engine->shown_count && !found; i++) {
		const struct mg_shown *shown = &engine->shown[i];

		found = is_kind(shown, kind) && mg_text_eq(shown->schema, schema) &&
		        mg_text_eq(shown->name, name);
	}
	pthread_mutex_unlock(&engine->shown_lock);
	return found;
}

void mg_engine__forget_shown(struct mg_engine *engine, size_t index)
{
	pthread_mutex_lock(&engine->shown_lock);
	struct mg_shown shown = engine->shown[index];

	engine->shown_count--;
	memmove(&engine->shown[index], &engine->shown[index + 1],
	        (engine->shown_count - index) * sizeof *engine->shown);
	pthread_mutex_unlock(&engine->shown_lock);
	(void)atomic_fetch_add(&engine->shown_changes, 1);
	mg_engine__shown_fini(&shown);
}

bool mg_engine__take_shown(struct mg_engine *engine, const struct mg_table *table,
                       struct mg_shown *out)
{
	pthread_mutex_lock(&engine->shown_lock);
	struct mg_shown *shown = mg_engine__find_shown(engine, table);

	if (shown) {
		size_t at = (size_t)(shown - engine->shown);

		*out = *shown;
		engine->shown_count--;
		memmove(shown, shown + 1, (engine->shown_count - at) * sizeof *shown);
	}
	pthread_mutex_unlock(&engine->shown_lock);
	return shown != NULL;
}

void mg_engine__show_free(struct mg_engine *engine)
{
	for (size_t i = 0; i < engine->shown_count; i++) {
		mg_engine__shown_fini(&engine->shown[i]);
	}
	mg_free(engine->shown);
}
