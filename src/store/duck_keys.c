/*
 * duck_keys.c - see duck_keys.h.
 *
 * A chunk ends when its bytes are many, so a scan of large values holds a few of them at a time.
 *
 * owner: bound: the plan; scan: the one thread that DuckDB scans with.
 */
#include "store/duck_keys.h"

#include "store/duck_int.h"

#include <inttypes.h>
#include <string.h>

enum { KEY, VALUE, TYPE, ENCODING, EXPIRES, VERSION, CREATED, CHANGED, BYTES, COLUMNS };

static const struct {
	const char *name;
	duckdb_type type;
} columns[COLUMNS] = {
	[KEY] = { "key", DUCKDB_TYPE_VARCHAR },
	[VALUE] = { "value", DUCKDB_TYPE_VARCHAR },
	[TYPE] = { "content_type", DUCKDB_TYPE_VARCHAR },
	[ENCODING] = { "encoding", DUCKDB_TYPE_VARCHAR },
	[EXPIRES] = { "expires", DUCKDB_TYPE_TIMESTAMP_TZ },
	[VERSION] = { "version", DUCKDB_TYPE_UBIGINT },
	[CREATED] = { "created", DUCKDB_TYPE_TIMESTAMP_TZ },
	[CHANGED] = { "changed", DUCKDB_TYPE_TIMESTAMP_TZ },
	[BYTES] = { MG_DUCK_KEYS_BYTES_COLUMN, DUCKDB_TYPE_BLOB }, /* only when it was asked for */
};

struct bound {
	struct mg_duck_conn *conn;
	const struct mg_duck_keys *keys;
	struct mg_str space, first, end; /* heap */
	bool binary;
};

struct scan {
	const struct bound *bound;
	void *source; /* NULL: it is over */
	size_t wanted[COLUMNS]; /* by column of the output; COLUMNS: nobody reads it */
	idx_t count;
};

/* ---- bind ---- */

static void bound_free(void *arg)
{
	struct bound *bound = arg;

	mg_free((char *)bound->space.ptr);
	mg_free((char *)bound->first.ptr);
	mg_free((char *)bound->end.ptr);
	mg_free(bound);
}

/* Of a text of letters, digits and signs: its length. */
static size_t size_as_bytes(duckdb_value value)
{
	duckdb_blob blob = duckdb_get_blob(value);

	duckdb_free(blob.data);
	return blob.size;
}

static int read_space(duckdb_bind_info info, struct bound *bound, struct mg_error *err)
{
	duckdb_value value = duckdb_bind_get_parameter(info, 0);
	char *text = duckdb_is_null_value(value) ? NULL : duckdb_get_varchar(value);
	/* A text with a zero in it comes cut.  Whatever is no name may be told apart too, so it is
	 * refused with the zero at its end. */
	bool is_all_of_it = text && size_as_bytes(value) == strlen(text);

	duckdb_destroy_value(&value);
	if (!text) {
		return mg_error_set(err, MG_E_BIND, "kv() needs the name of a namespace");
	}
	bound->space = (struct mg_str){ mg_strdup(text), strlen(text) };
	bound->space.len += !is_all_of_it;
	duckdb_free(text);
	return bound->keys->check(bound->keys->arg, bound->space, err);
}

static struct mg_str read_bytes(duckdb_bind_info info, const char *name)
{
	duckdb_value value = duckdb_bind_get_named_parameter(info, name);
	struct mg_str out = { 0 };

	if (value && !duckdb_is_null_value(value)) {
		duckdb_blob blob = duckdb_get_blob(value);

		out = (struct mg_str){ mg_strndup(blob.data, blob.size), blob.size };
		duckdb_free(blob.data);
	}
	duckdb_destroy_value(&value);
	return out;
}

static bool read_flag(duckdb_bind_info info, const char *name)
{
	duckdb_value value = duckdb_bind_get_named_parameter(info, name);
	bool flag = value && !duckdb_is_null_value(value) && duckdb_get_bool(value);

	duckdb_destroy_value(&value);
	return flag;
}

static void announce(duckdb_bind_info info, bool binary)
{
	size_t count = read_flag(info, MG_DUCK_KEYS_BYTES) ? COLUMNS : BYTES;

	for (size_t i = 0; i < count; i++) {
		bool bytes = binary && (i == KEY || i == VALUE);
		duckdb_logical_type type =
			duckdb_create_logical_type(bytes ? DUCKDB_TYPE_BLOB : columns[i].type);

		duckdb_bind_add_result_column(info, columns[i].name, type);
		duckdb_destroy_logical_type(&type);
	}
}

static void bind(duckdb_bind_info info)
{
	struct mg_duck *duck = duckdb_bind_get_extra_info(info);
	duckdb_client_context client = NULL;
	struct mg_error err;

	mg_error_clear(&err);
	duckdb_table_function_get_client_context(info, &client);
	struct bound *bound = mg_alloc0(sizeof *bound);

	bound->conn = mg_duck__find(duck, client);
	bound->keys = atomic_load(&duck->keys);
	int rc = bound->conn && bound->keys
	             ? read_space(info, bound, &err)
	             : mg_error_set(&err, MG_E_BIND, "kv() has no keys and values here");

	if (rc != 0) {
		if (bound->conn) {
			mg_duck__fail(bound->conn, &err);
		}
		duckdb_bind_set_error(info, err.message);
		bound_free(bound);
		return;
	}
	bound->binary = read_flag(info, "binary");
	bound->first = read_bytes(info, MG_DUCK_KEYS_FIRST);
	bound->end = read_bytes(info, MG_DUCK_KEYS_END);
	announce(info, bound->binary);
	duckdb_bind_set_cardinality(info, bound->keys->count(bound->keys->arg, bound->space), false);
	duckdb_bind_set_bind_data(info, bound, bound_free);
}

/* ---- init ---- */

static void scan_free(void *arg)
{
	struct scan *scan = arg;
	struct mg_error ignored;

	if (scan->source) {
		(void)scan->bound->keys->close(scan->source, &ignored);
	}
	mg_free(scan);
}

static void init(duckdb_init_info info)
{
	const struct bound *bound = duckdb_init_get_bind_data(info);
	struct scan *scan = mg_alloc0(sizeof *scan);
	struct mg_error err;

	mg_error_clear(&err);
	scan->bound = bound;
	scan->count = duckdb_init_get_column_count(info);
	for (idx_t i = 0; i < scan->count && i < COLUMNS; i++) {
		idx_t index = duckdb_init_get_column_index(info, i);

		/* Others are row numbers that only count(*) asks for. */
		scan->wanted[i] = index < COLUMNS ? (size_t)index : COLUMNS;
	}
	if (bound->keys->open(bound->keys->arg, bound->space, bound->first, bound->end, &scan->source,
	                      &err)) {
		mg_duck__fail(bound->conn, &err);
		duckdb_init_set_error(info, err.message);
		scan_free(scan);
		return;
	}
	duckdb_init_set_max_threads(info, 1);
	duckdb_init_set_init_data(info, scan, scan_free);
}

/* ---- rows ---- */

static void put_null(duckdb_vector vector, idx_t row)
{
	duckdb_vector_ensure_validity_writable(vector);
	duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), row);
}

static int say_no_text(const struct mg_duck_key *key, bool of_key, struct mg_error *err)
{
	struct mg_sb hex = { 0 };

	for (size_t i = 0; i < key->key.len && i < 32; i++) {
		mg_sb_addf(&hex, "%02x", (unsigned char)key->key.ptr[i]);
	}
	mg_error_set(err, MG_E_DATA, "the %s x'%s%s' is no text", of_key ? "key" : "value of key",
	             mg_sb_text(&hex), key->key.len > 32 ? "..." : "");
	mg_error_hint(err, "kv('namespace', binary := true) gives keys and values as bytes.");
	mg_sb_fini(&hex);
	return MG_E_DATA;
}

static int end_scan(struct scan *scan, struct mg_error *err)
{
	void *source = scan->source;

	scan->source = NULL;
	return scan->bound->keys->close(source, err);
}

/* Only who wants the value reads all of it.  Why it cannot be read, its source tells at its end. */
static int read_whole(struct scan *scan, struct mg_duck_key *key, struct mg_error *err)
{
	key->in_parts = false;
	if (scan->bound->keys->whole(scan->source, &key->value)) {
		return 0;
	}
	int rc = end_scan(scan, err);

	return rc ? rc : mg_error_set(err, MG_E_CORRUPT, "the value of a key cannot be read");
}

static int put_bytes(struct scan *scan, size_t column, struct mg_duck_key *key,
                     duckdb_vector vector, idx_t row, struct mg_error *err)
{
	int rc = column == VALUE && key->in_parts ? read_whole(scan, key, err) : 0;
	struct mg_str bytes = column == KEY ? key->key : key->value;

	if (rc) {
		return rc;
	}

	if (!scan->bound->binary && !mg_utf8_valid(bytes.ptr, bytes.len)) {
		return say_no_text(key, column == KEY, err);
	}
	duckdb_vector_assign_string_element_len(vector, row, bytes.len ? bytes.ptr : "", bytes.len);
	return 0;
}

/* What HTTP has kept with a value; NULL when nothing was said, or no text. */
static void put_word(duckdb_vector vector, idx_t row, struct mg_str word)
{
	if (word.len && mg_utf8_valid(word.ptr, word.len)) {
		duckdb_vector_assign_string_element_len(vector, row, word.ptr, word.len);
	} else {
		put_null(vector, row);
	}
}

/* What is beyond the engine's time is its infinity. */
static void put_time(duckdb_vector vector, idx_t row, uint64_t ms)
{
	int64_t *values = duckdb_vector_get_data(vector);

	if (ms) {
		values[row] = ms < INT64_MAX / 1000 ? (int64_t)ms * 1000 : INT64_MAX;
	} else {
		put_null(vector, row);
	}
}

static int put(struct scan *scan, size_t column, struct mg_duck_key *key,
               duckdb_vector vector, idx_t row, struct mg_error *err)
{
	switch (column) {
	case KEY:
	case VALUE:
		return put_bytes(scan, column, key, vector, row, err);
	case TYPE:
		put_word(vector, row, key->type);
		break;
	case ENCODING:
		put_word(vector, row, key->encoding);
		break;
	case EXPIRES:
		put_time(vector, row, key->expiry_ms);
		break;
	case VERSION:
		((uint64_t *)duckdb_vector_get_data(vector))[row] = key->version;
		break;
	case CREATED:
		put_time(vector, row, key->created_ms);
		break;
	case CHANGED:
		put_time(vector, row, key->changed_ms);
		break;
	case BYTES:
		duckdb_vector_assign_string_element_len(vector, row, key->key.ptr, key->key.len);
		break;
	default:
		break;
	}
	return 0;
}

static int read_chunk(struct scan *scan, duckdb_data_chunk output, struct mg_error *err)
{
	const struct mg_duck_keys *keys = scan->bound->keys;
	struct mg_duck_key key;
	size_t bytes = 0;
	idx_t row = 0;
	int rc = 0;

	while (rc == 0 && scan->source && row < MG_DUCK_CHUNK_ROWS && bytes < MG_DUCK_BATCH_BYTES) {
		if (!keys->next(scan->source, &key)) {
			rc = end_scan(scan, err);
			break;
		}
		for (idx_t i = 0; rc == 0 && i < scan->count && i < COLUMNS; i++) {
			rc = put(scan, scan->wanted[i], &key, duckdb_data_chunk_get_vector(output, i), row,
			         err);
		}
		bytes += key.key.len + key.value.len;
		row++;
	}
	duckdb_data_chunk_set_size(output, row);
	return rc;
}

static void function(duckdb_function_info info, duckdb_data_chunk output)
{
	struct scan *scan = duckdb_function_get_init_data(info);
	struct mg_error err;

	mg_error_clear(&err);
	if (read_chunk(scan, output, &err) != 0) {
		mg_duck__fail(scan->bound->conn, &err);
		duckdb_function_set_error(info, err.message);
	}
}

/* ---- life ---- */

void mg_duck_set_keys(struct mg_duck *duck, const struct mg_duck_keys *keys)
{
	atomic_store(&duck->keys, keys);
}

static void add_named(duckdb_table_function table, const char *name, duckdb_type id)
{
	duckdb_logical_type type = duckdb_create_logical_type(id);

	duckdb_table_function_add_named_parameter(table, name, type);
	duckdb_destroy_logical_type(&type);
}

int mg_duck__register_keys(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	duckdb_table_function table = duckdb_create_table_function();
	duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
	int rc = 0;

	duckdb_table_function_set_name(table, MG_DUCK_KEYS_NAME);
	duckdb_table_function_add_parameter(table, text);
	add_named(table, "binary", DUCKDB_TYPE_BOOLEAN);
	add_named(table, MG_DUCK_KEYS_FIRST, DUCKDB_TYPE_BLOB);
	add_named(table, MG_DUCK_KEYS_END, DUCKDB_TYPE_BLOB);
	add_named(table, MG_DUCK_KEYS_BYTES, DUCKDB_TYPE_BOOLEAN);
	duckdb_table_function_set_extra_info(table, duck, NULL);
	duckdb_table_function_set_bind(table, bind);
	duckdb_table_function_set_init(table, init);
	duckdb_table_function_set_function(table, function);
	duckdb_table_function_supports_projection_pushdown(table, true);
	if (duckdb_register_table_function(con, table) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"kv\"");
	}
	duckdb_destroy_logical_type(&text);
	duckdb_destroy_table_function(&table);
	return rc;
}
