/*
 * define_once.c - a definition with a key is done once: the version of the catalog that decides it
 * holds the record, too.
 *
 * Rule: the record is looked for where the change is made, each time that is tried.  So one whose
 * end nobody knew, and which comes after all, is seen by the same statement that is sent again.
 *
 * A statement that fails has no record and is tried again: it has done nothing.
 */
#include "exec/define_int.h"

#include "os/clock.h"

#include <string.h>

static const struct mg_catalog_done *find(const struct mg_define *define,
                                          const struct mg_catalog_data *data)
{
	const char *key = define->request->once.key;

	for (size_t i = 0; key && i < data->done_count; i++) {
		if (strcmp(data->done[i].key, key) == 0) {
			return &data->done[i];
		}
	}
	return NULL;
}

/* JSON has no number for it. */
static const char *digest_of(const struct mg_define *define, struct mg_arena *arena)
{
	return mg_arena_format(arena, "%016llx", (unsigned long long)define->request->once.digest);
}

static bool has_key(const struct mg_define *define)
{
	return define->request->once.key && !define->settings->tx;
}

int mg_define__look_for_done(struct mg_define *define, const struct mg_catalog_data *data,
                             struct mg_error *err)
{
	const struct mg_catalog_done *done = has_key(define) ? find(define, data) : NULL;

	if (!done) {
		return 0;
	}
	if (!mg_text_eq(done->digest, digest_of(define, define->arena))) {
		return mg_outcome_refuse(err);
	}
	define->repeated = true;
	define->table.rows = done->rows;
	return 0;
}

void mg_define__note_done(const struct mg_define *define, struct mg_arena *arena,
                          struct mg_catalog_data *data)
{
	if (!has_key(define)) {
		return;
	}
	struct mg_catalog_done *kept =
		mg_arena_new_array(arena, struct mg_catalog_done, MG_CATALOG_DONE_MAX);
	uint64_t now = (uint64_t)(mg_clock_wall_us() / 1000);
	size_t count = 0;

	kept[count++] = (struct mg_catalog_done){
		.key = mg_arena_strdup(arena, define->request->once.key),
		.digest = digest_of(define, arena),
		.rows = define->ddl.verb == MG_DDL_CREATE ? define->table.rows : 0,
		.at_ms = now,
	};
	for (size_t i = 0; i < data->done_count && count < MG_CATALOG_DONE_MAX; i++) {
		if (data->done[i].at_ms + MG_OUTCOME_KEEP_MS > now) {
			kept[count++] = data->done[i];
		}
	}
	data->done = kept;
	data->done_count = count;
}

static int change_nothing(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                          struct mg_error *err)
{
	(void)arg, (void)arena, (void)data, (void)err;
	return 0;
}

int mg_define__done_nothing(struct mg_define *define, struct mg_error *err)
{
	return has_key(define) ? mg_define__change_catalog(define, change_nothing, err) : 0;
}
