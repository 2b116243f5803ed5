/*
 * changes_calls.c - see changes_calls.h.
 */
#include "session/changes_calls.h"

#include "codec/arrow_ipc.h"
#include "exec/feed.h"
#include "session/text_rows.h"
#include "sql/cursor.h"
#include "sql/statement.h"
#include "store/duck.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 9, BATCH_ROWS = 2048 };

static const struct {
	const char *name, *type;
} columns[COLUMNS] = {
	{ "op", "VARCHAR" },     { "shard", "UINTEGER" }, { "index", "UBIGINT" },
	{ "n", "UBIGINT" },      { "commit", "VARCHAR" }, { "rid", "BIGINT" },
	{ "old", "JSON" },       { "row", "JSON" },       { "token", "VARCHAR" },
};

/* ---- the calls of a text ---- */

/* The value of '...'. */
static const char *value_of(struct mg_arena *arena, struct mg_token token)
{
	char *value = mg_arena_strndup(arena, token.text.ptr + 1, token.text.len - 2);
	char *to = value;

	for (const char *at = value; *at; at++) {
		at += at[0] == '\'' && at[1] == '\''; /* a quote is doubled */
		*to++ = *at;
	}
	*to = '\0';
	return value;
}

static bool is_plain_string(struct mg_token token)
{
	return token.kind == MG_T_STRING && token.text.len >= 2 && token.text.ptr[0] == '\'';
}

static int refuse(struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE,
	             "cluster.changes takes a table's name and maybe a place, as texts");
	mg_error_hint(err, "SELECT * FROM cluster.changes('orders'), or ('orders', 'kept' | 'start' | "
	                   "'now' | TOKEN).");
	return MG_E_USAGE;
}

/* Behind the parenthesis that opens. */
static int read_arguments(struct mg_changes_calls *calls, struct mg_lexer *lexer,
                          struct mg_error *err)
{
	struct mg_changes_call *call = &calls->calls[calls->count];
	struct mg_token token = mg_lex_next(lexer);

	if (!is_plain_string(token)) {
		return refuse(err);
	}
	call->table = value_of(calls->arena, token);
	call->from = "kept";
	token = mg_lex_next(lexer);
	if (mg_token_is_sign(token, ',')) {
		token = mg_lex_next(lexer);
		if (!is_plain_string(token)) {
			return refuse(err);
		}
		call->from = value_of(calls->arena, token);
		token = mg_lex_next(lexer);
	}
	return mg_token_is_sign(token, ')') ? 0 : refuse(err);
}

/* "cluster.changes(" stands at the lexer, which is behind "cluster". */
static bool is_call(struct mg_lexer *lexer)
{
	return mg_token_is_sign(mg_lex_next(lexer), '.') &&
	       mg_token_is_name(mg_lex_next(lexer), "changes") &&
	       mg_token_is_sign(mg_lex_next(lexer), '(');
}

int mg_changes_calls_find(struct mg_changes_calls *calls, struct mg_arena *arena,
                          struct mg_str text, struct mg_error *err)
{
	struct mg_sb out = { 0 };
	struct mg_lexer lexer;
	const char *copied = text.ptr;
	int code = 0;

	*calls = (struct mg_changes_calls){ .arena = arena, .text = text };
	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer);
	     !code && token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(&lexer)) {
		struct mg_lexer ahead = lexer;

		if (!mg_token_is_name(token, "cluster") || !is_call(&ahead)) {
			continue;
		}
		if (calls->count == MG_CHANGES_CALLS_MAX) {
			code = mg_error_set(err, MG_E_LIMIT,
			                    "a statement calls cluster.changes %d times at most",
			                    MG_CHANGES_CALLS_MAX);
			break;
		}
		code = read_arguments(calls, &ahead, err);
		mg_sb_add_len(&out, copied, (size_t)(token.text.ptr - copied));
		mg_sb_addf(&out, "cluster.changes_%zu", ++calls->count);
		copied = ahead.ptr;
		lexer = ahead;
	}
	if (!code && calls->count) {
		mg_sb_add_len(&out, copied, (size_t)(text.ptr + text.len - copied));
		calls->text = mg_str(mg_arena_strndup(arena, mg_sb_text(&out), out.len));
	}
	mg_sb_fini(&out);
	return code;
}

void mg_changes_calls_fini(struct mg_changes_calls *calls)
{
	for (size_t i = 0; i < calls->count; i++) {
		mg_spool_unref(calls->calls[i].spool);
		calls->calls[i].spool = NULL;
	}
	calls->count = 0;
}

/* ---- their rows ---- */

struct filling {
	struct mg_spool *spool;
	struct mg_arrow_encoder *encoder;
	struct mg_text_rows rows; /* open when rows.columns > 0 */
	uint64_t bytes;
	/* The row that waits: it may be the last one, which has the token. */
	bool waiting;
	struct mg_str values[COLUMNS];
	char numbers[4][24];
	char *texts[3]; /* commit, old, row; heap */
	bool (*stopped)(void *arg);
	void *arg;
};

static int put_batch(struct filling *filling, struct mg_error *err)
{
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int code = mg_text_rows_finish(&filling->rows, err);

	if (!code && !filling->encoder) {
		code = mg_arrow_encoder_new(&filling->encoder, &filling->rows.schema, false, err);
		code = code ? code : mg_arrow_encode_schema(filling->encoder, &buf, err);
		code = code ? code : mg_spool_set_schema(filling->spool, buf, err);
		mg_buf_unref(buf);
		buf = NULL;
	}
	code = code ? code
	            : mg_arrow_encode_batch(filling->encoder, &filling->rows.array, &buf, &raw, err);
	code = code ? code : mg_spool_put(filling->spool, buf, filling->rows.rows, err);
	mg_buf_unref(buf);
	mg_text_rows_fini(&filling->rows);
	filling->rows = (struct mg_text_rows){ 0 };
	return code;
}

static int put_waiting(struct filling *filling, const char *token, struct mg_error *err)
{
	static const char *const names[COLUMNS] = { "c0", "c1", "c2", "c3", "c4",
		                                        "c5", "c6", "c7", "c8" };
	int code = 0;

	if (!filling->waiting) {
		return 0;
	}
	if (!filling->rows.columns) {
		code = mg_text_rows_init(&filling->rows, names, COLUMNS, err);
	}
	filling->values[8] = mg_str(token);
	code = code ? code : mg_text_rows_add(&filling->rows, filling->values, err);
	for (size_t i = 0; i < 3; i++) {
		mg_free(filling->texts[i]);
		filling->texts[i] = NULL;
	}
	filling->waiting = false;
	return !code && filling->rows.rows == BATCH_ROWS ? put_batch(filling, err) : code;
}

static int fill_begin(void *arg, struct mg_error *err)
{
	(void)arg, (void)err;
	return 0;
}

static int fill_flush(void *arg, struct mg_error *err)
{
	(void)arg, (void)err;
	return 0;
}

static bool fill_stopped(void *arg)
{
	const struct filling *filling = arg;

	return filling->stopped && filling->stopped(filling->arg);
}

static struct mg_str number(struct filling *filling, size_t i, int64_t value)
{
	int len = snprintf(filling->numbers[i], sizeof filling->numbers[i], "%" PRId64, value);

	return (struct mg_str){ filling->numbers[i], (size_t)len };
}

static int check_bytes(struct filling *filling, const struct mg_feed_event *event,
                       struct mg_error *err)
{
	filling->bytes += (event->row ? strlen(event->row) : 0) + (event->old ? strlen(event->old) : 0);
	if (filling->bytes <= MG_CHANGES_CALL_BYTES) {
		return 0;
	}
	mg_error_set(err, MG_E_LIMIT, "cluster.changes gives at most %u MB at once",
	             MG_CHANGES_CALL_BYTES >> 20);
	mg_error_hint(err, "Give a place behind which to begin, or use GET /changes/TABLE, which has "
	                   "no such limit.");
	return MG_E_LIMIT;
}

static int fill_event(void *arg, const struct mg_feed_event *event, struct mg_error *err)
{
	struct filling *filling = arg;

	if (event->op == MG_FEED_RESOLVED) {
		return put_waiting(filling, event->token, err);
	}
	if (event->op == MG_FEED_END || event->op == MG_FEED_COLUMNS) {
		return 0;
	}
	int code = put_waiting(filling, "", err);

	code = code ? code : check_bytes(filling, event, err);
	filling->texts[0] = mg_strdup(event->commit ? event->commit : "");
	filling->texts[1] = mg_strdup(event->old ? event->old : "");
	filling->texts[2] = mg_strdup(event->row ? event->row : "");
	filling->values[0] = mg_str(mg_feed_op_name(event->op));
	filling->values[1] = number(filling, 0, event->shard);
	filling->values[2] = number(filling, 1, (int64_t)event->index);
	filling->values[3] = number(filling, 2, (int64_t)event->n);
	filling->values[4] = mg_str(filling->texts[0]);
	filling->values[5] = event->op == MG_FEED_DROP ? MG_STR("") : number(filling, 3, event->rid);
	filling->values[6] = mg_str(filling->texts[1]);
	filling->values[7] = mg_str(filling->texts[2]);
	filling->waiting = true;
	return code;
}

static int fill_one(struct mg_changes_calls *calls, struct mg_changes_call *call,
                    const struct mg_feed_options *base, struct mg_error *err)
{
	struct filling filling = { .stopped = base->stopped, .arg = base->arg };
	struct mg_feed_options options = *base;

	call->spool = filling.spool = mg_spool_new(&calls->budget);
	options.table = call->table;
	options.from = call->from;
	options.stopped = fill_stopped;
	options.arg = &filling;
	int code = mg_feed_run(&options, err);

	code = code ? code : put_waiting(&filling, "", err);
	if (filling.rows.columns) {
		code = code ? code : put_batch(&filling, err);
		if (filling.rows.columns) {
			mg_text_rows_fini(&filling.rows);
		}
	}
	for (size_t i = 0; i < 3; i++) {
		mg_free(filling.texts[i]);
	}
	mg_arrow_encoder_free(filling.encoder);
	mg_spool_seal(call->spool);
	return code;
}

int mg_changes_calls_fill(struct mg_changes_calls *calls, struct mg_engine *engine,
                          bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	const struct mg_feed_options options = {
		.engine = engine,
		.heartbeat_ms = UINT32_MAX, /* one token, at the end */
		.stopped = stopped,
		.begin = fill_begin,
		.event = fill_event,
		.flush = fill_flush,
		.arg = arg,
	};
	int code = 0;

	mg_engine_budget(engine, &calls->budget);
	for (size_t i = 0; !code && i < calls->count; i++) {
		code = fill_one(calls, &calls->calls[i], &options, err);
	}
	return code;
}

/* ---- their tables ---- */

void mg_changes_call_empty(size_t index, struct mg_sb *sql)
{
	mg_sb_addf(sql, "CREATE OR REPLACE TABLE cluster.changes_%zu (", index + 1);
	for (size_t i = 0; i < COLUMNS; i++) {
		mg_sb_addf(sql, "%s\"%s\" %s", i ? ", " : "", columns[i].name, columns[i].type);
	}
	mg_sb_add_char(sql, ')');
}

static struct mg_spool *find_spool(void *arg, uint32_t stage)
{
	struct mg_changes_calls *calls = arg;

	return stage < calls->count ? calls->calls[stage].spool : NULL;
}

static int store_one(struct mg_changes_calls *calls, size_t index, struct mg_duck_conn *conn,
                     struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code;

	if (!mg_spool_count(calls->calls[index].spool)) {
		mg_changes_call_empty(index, &sql);
	} else {
		mg_sb_addf(&sql, "CREATE OR REPLACE TABLE cluster.changes_%zu AS SELECT ", index + 1);
		for (size_t i = 0; i < COLUMNS; i++) {
			mg_sb_addf(&sql, "%sNULLIF(c%zu, '')::%s AS \"%s\"", i ? ", " : "", i, columns[i].type,
			           columns[i].name);
		}
		mg_sb_addf(&sql, " FROM merganser_exchange(%zu)", index);
	}
	code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

int mg_changes_calls_store(struct mg_changes_calls *calls, struct mg_duck_conn *conn,
                           struct mg_error *err)
{
	const struct mg_duck_context context = { .find_spool = find_spool, .arg = calls };
	int code = 0;

	mg_duck_set_context(conn, &context);
	for (size_t i = 0; !code && i < calls->count; i++) {
		code = store_one(calls, i, conn, err);
	}
	mg_duck_set_context(conn, NULL);
	return code;
}
