/*
 * blind_bind.c - texts of INSERT ... VALUES, bound once for each version of the catalog.
 *
 * A text with ? comes again and again with other values: its table, columns and the places of its
 * values are found by one look at a table of texts.  Texts that are not for us are kept too, so
 * that they are not read twice.
 *
 * Bound: TEXTS_MAX texts, then the place of an older one is taken.
 *
 * owner: any thread; `lock` guards the places.
 */
#include "exec/blind_int.h"
#include "exec/engine.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

enum { TEXTS_MAX = 1024, DIGITS_MAX = 18 };

struct mg_blind_cache {
	struct mg_engine *engine;
	uint16_t owner[MG_SLOT_COUNT]; /* shard of each slot, as long as the cluster lives */
	pthread_mutex_t lock;
	struct mg_blind_bound *places[TEXTS_MAX]; /* guarded by lock */
};

struct mg_blind_cache *mg_blind_cache_new(struct mg_engine *engine)
{
	struct mg_blind_cache *cache = mg_alloc0(sizeof *cache);
	struct mg_catalog *catalog = mg_engine_catalog(engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	cache->engine = engine;
	mg_catalog_owners(data, cache->owner);
	mg_catalog_give(catalog, data);
	pthread_mutex_init(&cache->lock, NULL);
	return cache;
}

void mg_blind_cache_free(struct mg_blind_cache *cache)
{
	for (size_t i = 0; cache && i < TEXTS_MAX; i++) {
		mg_blind_bound_unref(cache->places[i]);
	}
	if (cache) {
		pthread_mutex_destroy(&cache->lock);
		mg_free(cache);
	}
}

struct mg_blind_bound *mg_blind_bound_ref(struct mg_blind_bound *bound)
{
	atomic_fetch_add(&bound->refs, 1);
	return bound;
}

void mg_blind_bound_unref(struct mg_blind_bound *bound)
{
	if (!bound || atomic_fetch_sub(&bound->refs, 1) > 1) {
		return;
	}
	if (bound->batch.release) {
		ArrowSchemaRelease(&bound->batch);
	}
	mg_arrow_encoder_free(bound->encoder);
	mg_buf_unref(bound->ipc_schema);
	mg_arena_free(bound->arena);
	mg_free(bound);
}

/* ---- a text ---- */

static const struct mg_table *find_table(const struct mg_catalog_data *data,
                                         const struct mg_dml *dml)
{
	return *dml->catalog ? NULL
	                     : mg_catalog_find_table(data, *dml->schema ? dml->schema : "main",
	                                             dml->table);
}

/* Another name is given to columns that are called as ours (write_spool.c): not here. */
static bool has_our_names(const struct mg_table *table)
{
	bool has = false;

	for (size_t i = 0; i < table->column_count; i++) {
		has = has || mg_text_eq_nocase(table->columns[i].name, "rid") ||
		      mg_text_eq_nocase(table->columns[i].name, "slot");
	}
	return has;
}

static bool take_param(struct mg_blind_bound *bound, struct mg_plain_reader *reader, size_t *param)
{
	if (reader->token.kind != MG_T_PARAM || reader->token.text.len != 1) {
		return false; /* numbered ones are rare, and left to others */
	}
	*param = bound->param_count++;
	reader->token = mg_lex_next(&reader->lexer);
	return true;
}

/* All rows of the text. */
static bool read_rows(struct mg_blind_bound *bound, struct mg_str source)
{
	struct mg_plain_reader reader;
	size_t count = 0, width = bound->table.value_count;
	size_t max = source.len < MG_BLIND_VALUES_MAX ? source.len : MG_BLIND_VALUES_MAX;

	bound->values = mg_arena_new_array(bound->arena, struct mg_plain_value, max + 1);
	bound->params = mg_arena_new_array(bound->arena, size_t, max + 1);
	mg_plain_reader_init(&reader, source);
	if (!mg_plain_take_word(&reader, "values")) {
		return false;
	}
	do {
		if (count + width > max || !mg_plain_take_sign(&reader, '(')) {
			return false;
		}
		for (size_t i = 0; i < width; i++, count++) {
			if (i && !mg_plain_take_sign(&reader, ',')) {
				return false;
			}
			bound->params[count] = SIZE_MAX;
			if (!take_param(bound, &reader, &bound->params[count]) &&
			    !mg_plain_take_value(&reader, &bound->values[count])) {
				return false;
			}
		}
		bound->row_count++;
	} while (mg_plain_take_sign(&reader, ')') && mg_plain_take_sign(&reader, ','));
	return reader.token.kind == MG_T_END;
}

static bool bind(const struct mg_blind_cache *cache, struct mg_blind_bound *bound,
                 const struct mg_catalog_data *data)
{
	static const uint16_t reference[1] = { 0 }; /* without a key all rows have slot 0 */
	struct mg_statement *statements = NULL;
	struct mg_dml dml;
	size_t count = 0;

	if (mg_statement_split(bound->arena, bound->sql, &statements, &count, NULL) || count != 1 ||
	    statements[0].kind != MG_S_DML ||
	    mg_dml_parse(bound->arena, statements[0].text, &dml, NULL) || dml.verb != MG_DML_INSERT) {
		return false;
	}
	const struct mg_table *table = find_table(data, &dml);

	if (!table || has_our_names(table) ||
	    !mg_plain_table_open(&bound->table, bound->arena, table, &dml) ||
	    !bound->table.value_count || !read_rows(bound, dml.source)) {
		return false;
	}
	bound->schema = mg_arena_strdup(bound->arena, table->schema);
	bound->stored = mg_table_stored(bound->arena, table);
	bound->owner = bound->table.key_count ? cache->owner : reference;
	return mg_plain_schema(&bound->table, table, &bound->batch, NULL) == 0 &&
	       mg_arrow_encoder_new(&bound->encoder, &bound->batch, false, NULL) == 0 &&
	       mg_arrow_encode_schema(bound->encoder, &bound->ipc_schema, NULL) == 0;
}

static struct mg_blind_bound *bound_new(struct mg_blind_cache *cache, struct mg_str sql)
{
	struct mg_blind_bound *bound = mg_alloc0(sizeof *bound);
	struct mg_catalog *catalog = mg_engine_catalog(cache->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	atomic_init(&bound->refs, 1);
	bound->arena = mg_arena_new();
	bound->sql = (struct mg_str){ mg_arena_strndup(bound->arena, sql.ptr, sql.len), sql.len };
	bound->version = data->version;
	bound->good = bind(cache, bound, data);
	mg_catalog_give(catalog, data);
	return bound;
}

/* ---- texts ---- */

static size_t place_of(struct mg_str sql)
{
	return (size_t)(XXH3_64bits(sql.ptr, sql.len) % TEXTS_MAX);
}

static uint64_t current_version(struct mg_blind_cache *cache)
{
	struct mg_catalog *catalog = mg_engine_catalog(cache->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint64_t version = data->version;

	mg_catalog_give(catalog, data);
	return version;
}

static struct mg_blind_bound *find(struct mg_blind_cache *cache, size_t place, struct mg_str sql,
                                   uint64_t version)
{
	pthread_mutex_lock(&cache->lock);
	struct mg_blind_bound *bound = cache->places[place];

	bound = bound && bound->version == version && mg_str_eq(bound->sql, sql)
	            ? mg_blind_bound_ref(bound)
	            : NULL;
	pthread_mutex_unlock(&cache->lock);
	return bound;
}

static void put(struct mg_blind_cache *cache, size_t place, struct mg_blind_bound *bound)
{
	pthread_mutex_lock(&cache->lock);
	struct mg_blind_bound *before = cache->places[place];

	cache->places[place] = mg_blind_bound_ref(bound);
	pthread_mutex_unlock(&cache->lock);
	mg_blind_bound_unref(before);
}

bool mg_blind_may_be_insert(struct mg_str sql)
{
	size_t at = 0;

	while (at < sql.len && strchr(" \t\r\n", sql.ptr[at])) {
		at++;
	}
	return sql.len - at > 6 &&
	       mg_str_eq_nocase((struct mg_str){ sql.ptr + at, 6 }, mg_str("insert"));
}

struct mg_blind_bound *mg_blind_bind(struct mg_blind_cache *cache, struct mg_str sql, bool keep)
{
	if (sql.len > MG_BLIND_TEXT_MAX || !mg_blind_may_be_insert(sql) ||
	    !mg_utf8_valid(sql.ptr, sql.len)) {
		return NULL;
	}
	size_t place = keep ? place_of(sql) : 0;
	struct mg_blind_bound *bound =
		keep ? find(cache, place, sql, current_version(cache)) : NULL;

	if (!bound) {
		bound = bound_new(cache, sql);
		if (keep) {
			put(cache, place, bound);
		}
	}
	if (!bound->good) {
		mg_blind_bound_unref(bound);
		return NULL;
	}
	return bound;
}

/* ---- values ---- */

/* As params.c writes it: whole numbers as they are, others as DOUBLE. */
static bool read_number(struct mg_str text, struct mg_plain_value *out)
{
	bool negative = text.len > 0 && text.ptr[0] == '-';
	char copy[64];

	*out = (struct mg_plain_value){ .kind = VALUE_INT };
	for (size_t i = negative; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++) {
		if (out->digits == DIGITS_MAX) {
			return false;
		}
		out->number = out->number * 10 + (text.ptr[i] - '0');
		out->digits++;
	}
	if ((size_t)out->digits + negative == text.len) {
		out->number = negative ? -out->number : out->number;
		return out->digits > 0;
	}
	if (text.len >= sizeof copy) {
		return false;
	}
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = '\0';
	return mg_plain_read_double(copy, out);
}

static bool read_param(const struct mg_json *json, struct mg_plain_value *out)
{
	switch (json->kind) {
	case MG_JSON_NULL:
		*out = (struct mg_plain_value){ .kind = VALUE_NULL };
		return true;
	case MG_JSON_FALSE:
	case MG_JSON_TRUE:
		*out = (struct mg_plain_value){ .kind = VALUE_BOOL, .number = json->kind == MG_JSON_TRUE };
		return true;
	case MG_JSON_NUMBER:
		return read_number(json->text, out);
	case MG_JSON_STRING:
		*out = (struct mg_plain_value){ .kind = VALUE_TEXT, .text = json->text };
		return !memchr(json->text.ptr, '\0', json->text.len) &&
		       mg_utf8_valid(json->text.ptr, json->text.len);
	default:
		return false;
	}
}

struct mg_plain_value *mg_blind_values(const struct mg_blind_bound *bound,
                                       const struct mg_json *params, size_t *bytes)
{
	size_t width = bound->table.value_count, count = bound->row_count * width;
	const struct mg_json *param = params ? params->child : NULL;

	if ((params ? params->count : 0) != bound->param_count ||
	    (params && !mg_json_is(params, MG_JSON_ARRAY))) {
		return NULL;
	}
	struct mg_plain_value *values = mg_alloc(count * sizeof *values);
	bool good = true;

	/* Columns that are given no value take their place, too, and a text of its own its schema. */
	*bytes = bound->row_count * bound->table.count * sizeof(struct ArrowDecimal) +
	         (params ? 0 : bound->ipc_schema->size);
	for (size_t i = 0; good && i < count; i++) {
		if (bound->params[i] == SIZE_MAX) {
			values[i] = bound->values[i];
		} else { /* they come in the order of the text */
			good = read_param(param, &values[i]);
			param = param->next;
		}
		*bytes += values[i].text.len;
		good = good && ((i + 1) % width != 0 ||
		                mg_plain_row_fits(&bound->table, &values[i + 1 - width]));
	}
	if (!good || *bytes > MG_BLIND_BYTES_MAX) {
		mg_free(values);
		return NULL;
	}
	return values;
}
