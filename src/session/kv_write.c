/* kv_write.c - see kv_write.h. */
#include "session/kv_write.h"

#include "base/assert.h"
#include "exec/keys.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const role_names[MG_KV_ROLE_COUNT] = {
	"key", "value", "content_type", "encoding", "expires", "ttl",
};

bool mg_kv_write_is_ours(const struct mg_catalog_data *data, const struct mg_statement *statement)
{
	return statement->kind == MG_S_DML && mg_kv_dml_is(statement->text) &&
	       !mg_catalog_has_schema(data, MG_KV_SCHEMA);
}

bool mg_kv_write_is(struct mg_engine *engine, const struct mg_statement *statement)
{
	struct mg_catalog *catalog = mg_engine_catalog(engine);

	if (!mg_kv_dml_is(statement->text)) {
		return false;
	}
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	bool is = mg_kv_write_is_ours(data, statement);

	mg_catalog_give(catalog, data);
	return is;
}

/* ---- columns ---- */

static int role_of(const char *name)
{
	int role = 0;

	while (role < MG_KV_ROLE_COUNT && !mg_text_eq_nocase(role_names[role], name)) {
		role++;
	}
	return role;
}

static int name_columns(struct mg_kv_write *write, const char *const *names, size_t count,
                        struct mg_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int role = role_of(names[i]);

		if (role == MG_KV_ROLE_COUNT) {
			mg_error_set(err, MG_E_NO_COLUMN, "keys and values have no column \"%s\" to be put",
			             names[i]);
			mg_error_hint(err, "key, value, content_type, encoding, expires (a time) or ttl "
			                   "(seconds).");
			return MG_E_NO_COLUMN;
		}
		if (write->columns[role].at >= 0) {
			return mg_error_set(err, MG_E_BIND, "column \"%s\" is given twice", names[i]);
		}
		write->columns[role].at = (int64_t)i;
	}
	for (int role = MG_KV_ROLE_KEY; role <= MG_KV_ROLE_VALUE; role++) {
		if (write->columns[role].at < 0) {
			return mg_error_set(err, MG_E_BIND, "INSERT of keys needs the column \"%s\"",
			                    role_names[role]);
		}
	}
	return 0;
}

static int find_columns(struct mg_kv_write *write, const struct mg_answer *answer,
                        struct mg_error *err)
{
	const struct mg_kv_dml *dml = &write->dml;
	size_t count = dml->column_count ? dml->column_count : answer->count;

	if (dml->deletes) {
		write->columns[MG_KV_ROLE_KEY].at = 0;
		mg_assert(answer->count == 2); /* as kv_dml.c has asked for it */
		return 0;
	}
	if (dml->by_name) {
		return name_columns(write, answer->names, answer->count, err);
	}
	if (count != answer->count) {
		return mg_error_set(err, MG_E_BIND, "%zu columns are named, and %zu are given", count,
		                    answer->count);
	}
	if (!dml->column_count && count > MG_KV_ROLE_TTL) {
		mg_error_set(err, MG_E_BIND, "%zu columns are given without their names", count);
		mg_error_hint(err, "Name them: INSERT INTO kv.namespace (key, value) ...");
		return MG_E_BIND;
	}
	return name_columns(write, dml->column_count ? dml->columns : role_names, count, err);
}

static int no_memory(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NOMEM, "not enough memory for rows of keys");
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct mg_kv_write *write = arg;
	int code = find_columns(write, answer, err);

	if (code) {
		return code;
	}
	if (ArrowSchemaDeepCopy(answer->schema, &write->schema) != NANOARROW_OK ||
	    ArrowArrayViewInitFromSchema(&write->view, &write->schema, NULL) != NANOARROW_OK) {
		return no_memory(err);
	}
	for (int role = 0; role < MG_KV_ROLE_COUNT; role++) {
		struct mg_kv_column *column = &write->columns[role];

		if (column->at < 0) {
			continue;
		}
		column->type = mg_arena_strdup(write->arena, answer->types[column->at]);
		if (ArrowSchemaViewInit(&column->schema, write->schema.children[column->at], NULL) !=
		    NANOARROW_OK) {
			return mg_error_set(err, MG_E_INTERNAL, "a column's Arrow type is not known");
		}
	}
	return 0;
}

/* ---- values ---- */

static int say_type(const struct mg_kv_column *column, int role, const char *hint,
                    struct mg_error *err)
{
	mg_error_set(err, MG_E_DATA, "the column \"%s\" has values of type %s", role_names[role],
	             column->type);
	mg_error_hint(err, "%s", hint);
	return MG_E_DATA;
}

static bool is_integer(enum ArrowType type)
{
	return type == NANOARROW_TYPE_INT8 || type == NANOARROW_TYPE_INT16 ||
	       type == NANOARROW_TYPE_INT32 || type == NANOARROW_TYPE_INT64 ||
	       type == NANOARROW_TYPE_UINT8 || type == NANOARROW_TYPE_UINT16 ||
	       type == NANOARROW_TYPE_UINT32 || type == NANOARROW_TYPE_UINT64;
}

static bool is_bytes(enum ArrowType type)
{
	return type == NANOARROW_TYPE_STRING || type == NANOARROW_TYPE_LARGE_STRING ||
	       type == NANOARROW_TYPE_STRING_VIEW || type == NANOARROW_TYPE_BINARY ||
	       type == NANOARROW_TYPE_LARGE_BINARY || type == NANOARROW_TYPE_BINARY_VIEW;
}

/* Texts and bytes are put as they are, whole numbers as their digits. */
static int read_bytes(const struct mg_kv_column *column, int role,
                      const struct ArrowArrayView *view, int64_t row, char number[24],
                      struct mg_str *out, struct mg_error *err)
{
	enum ArrowType type = column->schema.type;

	if (is_bytes(type)) {
		struct ArrowBufferView bytes = ArrowArrayViewGetBytesUnsafe(view, row);

		*out = (struct mg_str){ bytes.data.as_char, (size_t)bytes.size_bytes };
		return 0;
	}
	if (!is_integer(type)) {
		return say_type(column, role, "VARCHAR, BLOB or whole numbers are put; CAST the others.",
		                err);
	}
	int len = type == NANOARROW_TYPE_UINT64
	              ? snprintf(number, 24, "%" PRIu64, ArrowArrayViewGetUIntUnsafe(view, row))
	              : snprintf(number, 24, "%" PRId64, ArrowArrayViewGetIntUnsafe(view, row));

	*out = (struct mg_str){ number, (size_t)len };
	return 0;
}

static int read_expires(const struct mg_kv_column *column, const struct ArrowArrayView *view,
                        int64_t row, struct mg_kv_op *op, struct mg_error *err)
{
	static const int64_t to_ms[] = { [NANOARROW_TIME_UNIT_SECOND] = 1000,
		                             [NANOARROW_TIME_UNIT_MILLI] = 1,
		                             [NANOARROW_TIME_UNIT_MICRO] = -1000,
		                             [NANOARROW_TIME_UNIT_NANO] = -1000000 };

	if (column->schema.type != NANOARROW_TYPE_TIMESTAMP) {
		return say_type(column, MG_KV_ROLE_EXPIRES,
		                "It is a TIMESTAMP WITH TIME ZONE, as now() + INTERVAL 1 HOUR.", err);
	}
	int64_t time = ArrowArrayViewGetIntUnsafe(view, row);
	int64_t unit = to_ms[column->schema.time_unit];

	if (time == INT64_MAX) { /* infinity */
		op->flags |= MG_KV_FOR_GOOD;
		return 0;
	}
	if (unit > 0 && time > INT64_MAX / unit) {
		return mg_error_set(err, MG_E_DATA, "a time of the column \"expires\" is out of range");
	}
	int64_t ms = time < 0 ? 0 : unit < 0 ? time / -unit : time * unit;

	op->flags |= MG_KV_EXPIRES | MG_KV_ABSOLUTE;
	op->expiry = ms > 1 ? (uint64_t)ms : 1; /* long ago */
	return 0;
}

/* What does not fit into its lower half is no time that anybody means. */
static double read_decimal(const struct mg_kv_column *column, const struct ArrowArrayView *view,
                           int64_t row)
{
	struct ArrowDecimal decimal;

	ArrowDecimalInit(&decimal, 128, column->schema.decimal_precision,
	                 column->schema.decimal_scale);
	ArrowArrayViewGetDecimalUnsafe(view, row, &decimal);
	int64_t low = ArrowDecimalGetIntUnsafe(&decimal);
	bool fits = (int64_t)decimal.words[decimal.high_word_index] == (low < 0 ? -1 : 0);

	return fits ? (double)low / pow(10, column->schema.decimal_scale) : INFINITY;
}

static int read_ttl(const struct mg_kv_column *column, const struct ArrowArrayView *view,
                    int64_t row, struct mg_kv_op *op, struct mg_error *err)
{
	enum ArrowType type = column->schema.type;
	double seconds;

	if (is_integer(type) || type == NANOARROW_TYPE_DOUBLE || type == NANOARROW_TYPE_FLOAT) {
		seconds = ArrowArrayViewGetDoubleUnsafe(view, row);
	} else if (type == NANOARROW_TYPE_DECIMAL128) {
		seconds = read_decimal(column, view, row);
	} else {
		return say_type(column, MG_KV_ROLE_TTL, "It is a number of seconds.", err);
	}
	if (!isfinite(seconds) || seconds <= 0 || seconds > MG_KV_TTL_S_MAX) {
		mg_error_set(err, MG_E_DATA, "a ttl of %g seconds", seconds);
		mg_error_hint(err, "From 0.001 on; NULL: as the namespace says, or for good.");
		return MG_E_DATA;
	}
	op->flags |= MG_KV_EXPIRES;
	op->expiry = (uint64_t)ceil(seconds * 1000);
	return 0;
}

static int check_op(const struct mg_kv_op *op, struct mg_error *err)
{
	if (op->key.len == 0) {
		return mg_error_set(err, MG_E_DATA, "a key has 1 to %u bytes, and none was given",
		                    MG_KV_KEY_MAX);
	}
	if (op->key.len > MG_KV_KEY_MAX || op->value.len > MG_KV_VALUE_MAX) {
		mg_error_set(err, MG_E_LIMIT, "a key of %zu bytes with a value of %zu", op->key.len,
		             op->value.len);
		mg_error_hint(err, "A key has 1 to 65,536 bytes, a value up to 4 MiB; over HTTP 64 MiB.");
		return MG_E_LIMIT;
	}
	if (!mg_kv_is_header(op->type) || !mg_kv_is_header(op->encoding)) {
		return mg_error_set(err, MG_E_DATA,
		                    "content_type and encoding have up to %u bytes, and no control "
		                    "characters", MG_KV_TYPE_MAX);
	}
	return 0;
}

/* ---- rows ---- */

/* The numbers that a row has in the place of texts, as such. */
struct digits {
	char of[MG_KV_ROLE_COUNT][24];
};

static int read_role(struct mg_kv_write *write, int role, int64_t row, struct digits *digits,
                     struct mg_kv_op *op, struct mg_error *err)
{
	const struct mg_kv_column *column = &write->columns[role];
	struct mg_str *const texts[] = { &op->key, &op->value, &op->type, &op->encoding };
	const struct ArrowArrayView *view = column->at < 0 ? NULL : write->view.children[column->at];

	if (!view || ArrowArrayViewIsNull(view, row)) {
		if (role > MG_KV_ROLE_VALUE || (write->dml.deletes && role == MG_KV_ROLE_VALUE)) {
			return 0;
		}
		mg_error_set(err, MG_E_DATA, "the column \"%s\" of a key is NULL", role_names[role]);
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "23502");
		}
		return MG_E_DATA;
	}
	if (role == MG_KV_ROLE_EXPIRES) {
		return read_expires(column, view, row, op, err);
	}
	if (role == MG_KV_ROLE_TTL && (op->flags & (MG_KV_EXPIRES | MG_KV_FOR_GOOD))) {
		return mg_error_set(err, MG_E_DATA, "a key has both expires and ttl");
	}
	return role == MG_KV_ROLE_TTL
	           ? read_ttl(column, view, row, op, err)
	           : read_bytes(column, role, view, row, digits->of[role], texts[role], err);
}

static int take_row(struct mg_kv_write *write, int64_t row, struct mg_error *err)
{
	struct mg_kv_op op = { .kind = MG_KV_PUT, .space = write->dml.space };
	struct digits digits;
	int code = 0;

	if (write->dml.deletes) {
		op.kind = MG_KV_DELETE;
		op.flags = MG_KV_IF_VERSION | MG_KV_ALONE;
		op.number = ArrowArrayViewGetUIntUnsafe(write->view.children[1], row);
	}
	for (int role = 0; !code && role < MG_KV_ROLE_COUNT; role++) {
		code = read_role(write, role, row, &digits, &op, err);
	}
	code = code ? code : check_op(&op, err);
	return code ? code : mg_kv_batch_add(&write->batch, &op, err);
}

static int sink_batch(void *arg, struct ArrowArray *rows, struct mg_error *err)
{
	struct mg_kv_write *write = arg;
	int code = ArrowArrayViewSetArray(&write->view, rows, NULL) == NANOARROW_OK
	               ? 0
	               : mg_error_set(err, MG_E_INTERNAL, "rows of keys do not fit their schema");

	for (int64_t row = 0; !code && row < rows->length; row++) {
		code = take_row(write, row, err);
	}
	return code;
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct mg_kv_write *write = arg;
	int code = mg_kv_batch_finish(&write->batch, err);

	if (code) {
		return code;
	}
	struct mg_answer own = *answer;

	write->stats = *answer->stats;
	write->stats.rows = write->batch.done;
	write->stats.bytes = 0;
	own.schema = NULL;
	own.count = 0;
	own.names = own.types = NULL;
	own.stats = &write->stats;
	(void)snprintf(own.tag, sizeof own.tag, "%s %" PRIu64,
	               write->dml.deletes ? "DELETE" : "INSERT 0", write->batch.done);
	code = write->client->begin(write->client->arg, &own, err);
	return code ? code : write->client->end(write->client->arg, &own, err);
}

static void sink_notice(void *arg, const char *text)
{
	struct mg_kv_write *write = arg;

	if (write->client->notice) {
		write->client->notice(write->client->arg, text);
	}
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct mg_kv_write *write = arg;

	write->query = query;
	if (write->client->query) {
		write->client->query(write->client->arg, query);
	}
}

static void sink_stop(void *arg)
{
	struct mg_kv_write *write = arg;

	if (write->client->stop) {
		write->client->stop(write->client->arg);
	}
}

static bool is_stopped(void *arg)
{
	const struct mg_kv_write *write = arg;

	return write->query && mg_query_stopped(write->query);
}

/* ---- life ---- */

static int check_text(struct mg_engine *engine, struct mg_arena *arena, struct mg_str statement,
                      struct mg_error *err)
{
	const struct mg_plan_settings settings = { 0 };
	const char *text = mg_arena_strndup(arena, statement.ptr, statement.len);

	return mg_plandb_check(mg_engine_plandb(engine), arena, &settings, text, false, err);
}

static int refuse(const struct mg_kv_write_begin *begin, struct mg_error *err)
{
	if (begin->in_transaction) {
		mg_error_set(err, MG_E_UNSUPPORTED, "a transaction cannot write keys and values");
		mg_error_hint(err, "Write them before it begins, or after COMMIT.");
		return MG_E_UNSUPPORTED;
	}
	if (begin->has_key) {
		mg_error_set(err, MG_E_UNSUPPORTED, "what writes keys takes no Idempotency-Key");
		mg_error_hint(err, "Send it again without one: the same rows put twice are there once.");
		return MG_E_UNSUPPORTED;
	}
	return 0;
}

/* In DuckDB's words, when it is a syntax error for it, too. */
static int parse(struct mg_kv_write *write, const struct mg_kv_write_begin *begin,
                 struct mg_error *err)
{
	struct mg_error own = { 0 };
	int code = mg_kv_dml_parse(write->arena, begin->statement, &write->dml, &own);

	if (!code || code == MG_E_SYNTAX) {
		int checked = check_text(begin->engine, write->arena, begin->statement, err);

		if (checked) {
			return checked;
		}
	}
	if (code) {
		*err = own;
	}
	return code;
}

int mg_kv_write_init(struct mg_kv_write *write, struct mg_arena *arena,
                     const struct mg_kv_write_begin *begin, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(begin->engine);

	*write = (struct mg_kv_write){ .client = begin->client, .arena = arena };
	mg_kv_batch_init(&write->batch, replica, is_stopped, write);
	for (int role = 0; role < MG_KV_ROLE_COUNT; role++) {
		write->columns[role].at = -1;
	}
	write->sink = (struct mg_sink){
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.notice = sink_notice,
		.query = sink_query,
		.stop = sink_stop,
		.arg = write,
	};
	int code = refuse(begin, err);

	code = code ? code : parse(write, begin, err);
	return code ? code : mg_keys_check(replica, write->dml.space, err);
}

void mg_kv_write_fini(struct mg_kv_write *write)
{
	mg_kv_batch_fini(&write->batch);
	if (write->schema.release) {
		ArrowArrayViewReset(&write->view);
		ArrowSchemaRelease(&write->schema);
	}
}

int mg_kv_write_failed(const struct mg_kv_write *write, struct mg_error *err)
{
	const struct mg_kv_batch *batch = &write->batch;
	const char *what = write->dml.deletes ? "deleted" : "put";

	if (!batch->done && !batch->doubtful) {
		return err->code;
	}
	if (mg_code_info(err->code)->retry == MG_RETRY_SAFE || err->code == MG_E_DISCONNECTED) {
		mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "%s", err->message);
		mg_error_hint(err, "The statement can be run again: keys that are %s already stay so.",
		              what);
	}
	mg_error_detail(err, "%" PRIu64 " keys were %s before%s.", batch->done, what,
	                batch->doubtful ? ", and maybe others" : "");
	return err->code;
}
