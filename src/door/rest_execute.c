/*
 * rest_execute.c - POST /db/execute: statements that change rows or tables.
 *
 *   loop: collect, look up the key -> thread: read, bind, run one after the other -> loop: reply
 *
 * Each statement of a list is a transaction of its own; the first error ends the list.  The body is
 * read and all values are bound before the first statement begins.
 *
 * Rule: an answer is kept under its Idempotency-Key unless it says that nothing has happened and
 * that it may be sent again, or that nobody knows.  Beside it each statement is stored with its key
 * (exec/outcome.h), so that another node, or this one after a restart, does not do it again.  A
 * request with a key goes on when its client goes away, because who sends it again wants its
 * outcome; one without is cancelled, which ends it one way or the other.
 *
 * owner: as in rest_query.c: the request (its arena's hook gives the reference back), and the
 * thread or the wait for another request's end.
 *
 * With ?redirect=1 a node that does not coordinate writes tells who does (307) instead of passing
 * the statements on.
 *
 * Limits: STATEMENTS_MAX of a list, ANSWER_MAX bytes of rows from RETURNING before the last one.
 */
#include "base/log.h"
#include "base/mem.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "session/running.h"
#include "os/clock.h"
#include "replica/replica.h"
#include "session/encode.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { STATEMENTS_MAX = 10000, ANSWER_MAX = 64 << 20, KEPT_WITH_ROWS_MAX = 64 << 10 };

struct call {
	atomic_int refs;
	struct mg_doors *doors;
	struct mg_loop *loop;
	struct mg_http_request *request; /* loop; NULL once it is answered or gone */
	struct mg_running running;       /* cancelled: the client went away, and it has no key */
	struct mg_once_entry *entry;     /* of its key, to be ended; or NULL */
	const char *user, *key;          /* of an entry; in the request's arena */
	struct mg_once_wait wait;        /* for who is first with its key */
	bool repeated;                   /* the answer is another request's */
	bool pretty, redirect;
	/* thread; what lies in the request is valid until it is answered */
	struct mg_arena *arena;
	struct mg_session *session; /* NULL while it waits */
	const char *tx;             /* ?tx=: the session is of this handle; or NULL */
	bool lost_tx;               /* tx is none of this server's: was it committed before? */
	const char *ends_tx;        /* COMMIT, ROLLBACK: there is no body */
	bool transaction;           /* the list is one */
	const char *content_type, *query_text;
	const char *sql; /* ?sql=: the body is what COPY stores; or NULL */
	bool sent;       /* it was handed out */
	struct mg_str body;
	const char *location; /* of another node, in the arena; or NULL */
	uint64_t started_us;
	bool list;
	struct mg_str *statements; /* with their values */
	size_t count, done;
	struct mg_encoder *encoder; /* of RETURNING's rows, while a statement has some */
	struct mg_sb rows;          /* they, as members of an object */
	struct mg_sb results;       /* objects, separated */
	struct mg_sb counts;        /* the same without rows */
	bool has_rows;
	bool known;   /* a statement was done before, under its key */
	bool defines; /* a statement was a definition */
	struct mg_outcome outcome;
	struct mg_once_answer answer; /* then on the loop */
};

static void call_unref(void *arg)
{
	struct call *call = arg;

	if (atomic_fetch_sub(&call->refs, 1) > 1) {
		return;
	}
	mg_once_answer_unref(&call->answer);
	mg_sb_fini(&call->rows);
	mg_sb_fini(&call->results);
	mg_sb_fini(&call->counts);
	mg_encoder_free(call->encoder);
	mg_session_unref(call->session);
	mg_running_fini(&call->running);
	mg_arena_free(call->arena);
	mg_free(call);
}

/* Hook of the request's arena: the request is no more. */
static void request_freed(void *arg)
{
	struct call *call = arg;

	call->request = NULL;
	call_unref(call);
}

/* ---- what is asked for: on the thread ---- */

/* One item: "..." or {"sql": ..., "params": ...}. */
static int read_item(struct call *call, const struct mg_json *item, struct mg_error *err)
{
	const struct mg_json *params = NULL;
	struct mg_str sql = { 0 };

	if (mg_json_is(item, MG_JSON_STRING)) {
		sql = item->text;
	} else if (!mg_json_is(item, MG_JSON_OBJECT)) {
		mg_error_set(err, MG_E_USAGE, "a statement is neither text nor an object");
		mg_error_hint(err, "Send \"...\" or {\"sql\": \"...\", \"params\": [...]}.");
		return MG_E_USAGE;
	} else if (mg_rest_read_sql(item, &sql, &params, err)) {
		return err->code;
	}
	int code = mg_rest_bind(call->arena, sql, params, &call->statements[call->count], err);

	call->count += code == 0;
	return code;
}

static int read_list(struct call *call, const struct mg_json *list, struct mg_error *err)
{
	int code = 0;

	if (!mg_json_is(list, MG_JSON_ARRAY) || list->count == 0) {
		mg_error_set(err, MG_E_USAGE, "\"statements\" must be a list with at least one statement");
		mg_error_hint(err, "Send {\"statements\": [\"...\", {\"sql\": \"...\", \"params\": "
		                   "[...]}]}.");
		return MG_E_USAGE;
	}
	if (list->count > STATEMENTS_MAX) {
		mg_error_set(err, MG_E_LIMIT, "%zu statements where at most %d are allowed", list->count,
		             STATEMENTS_MAX);
		mg_error_hint(err, "Send several lists; one INSERT may also have many rows.");
		return MG_E_LIMIT;
	}
	call->statements = mg_arena_new_array(call->arena, struct mg_str, list->count);
	call->list = true;
	mg_json_each(item, list) {
		code = code ? code : read_item(call, item, err);
	}
	return code;
}

static int read_transaction(struct call *call, const struct mg_json *body, size_t count,
                            struct mg_error *err)
{
	const struct mg_json *wanted = mg_json_get(body, "transaction");

	if (!wanted || mg_json_is(wanted, MG_JSON_FALSE) || mg_json_is(wanted, MG_JSON_NULL)) {
		return 0;
	}
	if (!mg_json_is(wanted, MG_JSON_TRUE)) {
		return mg_error_set(err, MG_E_USAGE, "\"transaction\" must be true or false");
	}
	if (call->tx) {
		mg_error_set(err, MG_E_USAGE, "\"transaction\" stands beside ?tx=");
		mg_error_hint(err, "The statements belong to that transaction: leave \"transaction\" out.");
		return MG_E_USAGE;
	}
	call->transaction = count > 1; /* a statement is one anyway */
	return 0;
}

static int read_request(struct call *call, struct mg_error *err)
{
	struct mg_str text = { 0 };
	struct mg_json *body = NULL;

	if (call->ends_tx) {
		call->statements = mg_arena_new_array(call->arena, struct mg_str, 1);
		call->statements[call->count++] = mg_str(call->ends_tx);
		return 0;
	}
	if (call->sql) {
		call->statements = mg_arena_new_array(call->arena, struct mg_str, 1);
		call->statements[call->count++] = mg_str(call->sql);
		return 0;
	}
	int code = mg_rest_read_body(call->arena, call->content_type, call->body, &text, &body, err);

	if (code) {
		return code;
	}
	const struct mg_json *list = mg_json_get(body, "statements");

	if (list && (mg_json_get(body, "sql") || mg_json_get(body, "params"))) {
		mg_error_set(err, MG_E_USAGE, "\"statements\" stands beside \"sql\" or \"params\"");
		mg_error_hint(err, "Each statement of the list has its own: {\"sql\": \"...\", "
		                   "\"params\": [...]}.");
		return MG_E_USAGE;
	}
	code = read_transaction(call, body, list ? list->count : 1, err);
	if (code) {
		return code;
	}
	if (list) {
		return read_list(call, list, err);
	}
	call->statements = mg_arena_new_array(call->arena, struct mg_str, 1);
	if (body) {
		return read_item(call, body, err);
	}
	code = mg_rest_bind(call->arena, text, NULL, &call->statements[0], err);
	call->count = 1;
	return code;
}

/* ---- running it: on the thread ---- */

static int emit(void *arg, struct mg_buf *buf, struct mg_error *err)
{
	struct call *call = arg;

	(void)err;
	mg_sb_add_len(&call->rows, (const char *)buf->data, buf->size);
	mg_buf_unref(buf);
	return 0;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct call *call = arg;

	mg_sb_clear(&call->rows);
	if (answer->count == 0) {
		return 0;
	}
	call->has_rows = true;
	call->encoder =
		mg_encoder_new(&(struct mg_encode_options){ .format = MG_FORMAT_JSON,
	                                                .pretty = call->pretty && !call->list,
	                                                .members = true,
	                                                .emit = emit,
	                                                .arg = call });
	return mg_encoder_begin(call->encoder, answer->schema, answer->count, answer->names,
	                        answer->types, err);
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct call *call = arg;

	return mg_encoder_batch(call->encoder, batch, err);
}

static void add_result(const struct call *call, struct mg_sb *to, uint64_t affected,
                       const struct mg_sb *rows)
{
	bool spread = call->pretty && !call->list;

	if (call->list) {
		mg_sb_add(to, to->len == 0 ? "" : ",");
		mg_sb_add(to, call->pretty ? "\n        " : to->len == 0 ? "" : " ");
	}
	mg_sb_addf(to, spread ? "{\n        \"rows_affected\": %llu" : "{\"rows_affected\": %llu",
	           (unsigned long long)affected);
	if (rows && rows->len > 0) {
		mg_sb_add(to, spread ? ",\n        " : ", ");
		mg_sb_add_len(to, rows->ptr, rows->len);
	}
	mg_sb_add(to, spread ? "\n    }" : "}");
}

static bool is_definition(const char *verb)
{
	return mg_text_eq(verb, "CREATE") || mg_text_eq(verb, "ALTER") || mg_text_eq(verb, "DROP") ||
	       mg_text_eq(verb, "COMMENT");
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct call *call = arg;
	int code = call->encoder ? mg_encoder_end(call->encoder, 0, err) : 0;

	call->known = call->known || mg_text_eq(answer->stats->step, MG_STEP_REPEATED);
	call->defines = call->defines || is_definition(answer->verb);

	mg_encoder_free(call->encoder);
	call->encoder = NULL;
	if (!code) {
		add_result(call, &call->results, answer->stats->rows, &call->rows);
		add_result(call, &call->counts, answer->stats->rows, NULL);
		mg_sb_fini(&call->rows); /* may be 64 MB and more */
	}
	return code;
}

/* The body is the request's. */
static void keep(void *arg)
{
	(void)arg;
}

/* The body, in one piece. */
static int sink_input(void *arg, struct mg_buf **out, struct mg_error *err)
{
	struct call *call = arg;

	(void)err;
	if (!call->sent && call->body.len) {
		*out = mg_buf_wrap((uint8_t *)(uintptr_t)call->body.ptr, call->body.len, keep, NULL);
	}
	call->sent = true;
	return 0;
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct call *call = arg;

	mg_running_set(&call->running, query);
	if (query && atomic_load(&call->running.cancelled)) {
		mg_running_cancel(&call->running, mg_sessions_queries(call->doors->sessions));
	}
}

/* Before each statement: is the rest still wanted? */
static int check_wanted(const struct call *call, struct mg_error *err)
{
	if (atomic_load(&call->doors->stopping)) {
		return mg_error_set(err, MG_E_SHUTDOWN, "the server is shutting down");
	}
	if (atomic_load(&call->running.cancelled)) {
		return mg_error_set(err, MG_E_CANCELLED, "the client has gone");
	}
	if (call->results.len > ANSWER_MAX) {
		mg_error_set(err, MG_E_LIMIT, "the rows of RETURNING are larger than %d MB together",
		             ANSWER_MAX >> 20);
		mg_error_hint(err, "Send shorter lists, or return fewer columns.");
		return MG_E_LIMIT;
	}
	return 0;
}

/* The body, ?sql=, and the transaction that it belongs to or ends. */
static uint64_t digest_of(const struct call *call)
{
	const char *parts[] = { call->sql, call->tx, call->ends_tx };
	uint64_t seed = 0;

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		seed = parts[i] ? XXH3_64bits_withSeed(parts[i], strlen(parts[i]), seed + i + 1) : seed;
	}
	return XXH3_64bits_withSeed(call->body.ptr, call->body.len, seed);
}

static const char *hex_key(const struct call *call, const char *text)
{
	XXH128_hash_t hash = XXH3_128bits(text, strlen(text));

	return mg_arena_format(call->arena, "%016llx%016llx", (unsigned long long)hash.high64,
	                       (unsigned long long)hash.low64);
}

/* Of the COMMIT of a transaction: a list's, or a handle's. */
static struct mg_write_key commit_key(const struct call *call)
{
	struct mg_write_key once = { .digest = digest_of(call) };

	if (call->key) {
		once.key = hex_key(call, mg_arena_format(call->arena, "%s\n%s\ncommit", call->user,
		                                         call->key));
	}
	return once;
}

/* COMMIT of a handle. */
static bool commits(const struct call *call)
{
	return call->ends_tx && strcmp(call->ends_tx, "COMMIT") == 0;
}

/* A statement's own key: of the user, the request's key and the place in its list.  Those of a
 * transaction have none: its COMMIT is what happens. */
static struct mg_write_key key_of(const struct call *call, size_t index)
{
	struct mg_str sql = call->statements[index];
	struct mg_write_key once = { .digest = call->sql ? digest_of(call)
		                                             : XXH3_64bits(sql.ptr, sql.len) };

	if (commits(call)) {
		return commit_key(call);
	}
	if (call->key && !call->tx && !call->transaction) {
		once.key = hex_key(call, mg_arena_format(call->arena, "%s\n%s\n%zu", call->user, call->key,
		                                         index));
	}
	return once;
}

static int run_list(struct call *call, struct mg_error *err)
{
	int code = 0;

	while (!code && call->done < call->count) {
		const struct mg_request what = { .sql = call->statements[call->done],
			                             .one_write = !call->ends_tx,
			                             .in_transaction = call->transaction ||
			                                               (call->tx && !call->ends_tx),
			                             .once = key_of(call, call->done) };
		struct mg_sink sink = { .begin = sink_begin,
			                    .batch = sink_batch,
			                    .end = sink_end,
			                    .input = call->sql ? sink_input : NULL,
			                    .query = sink_query,
			                    .arg = call,
			                    .lossless = true };

		code = check_wanted(call, err);
		if (!code) {
			code = mg_session_run(call->session, &what, &sink, &call->outcome, err);
		}
		mg_encoder_free(call->encoder);
		call->encoder = NULL;
		call->done += code == 0;
	}
	return code;
}

static int begin_nothing(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	(void)arg, (void)answer, (void)err;
	return 0;
}

static int end_commit(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct call *call = arg;

	(void)err;
	call->known = mg_text_eq(answer->stats->step, MG_STEP_REPEATED);
	return 0;
}

/* The list has run; now it happens, or not.  Before it has run: did it happen, under its key? */
static int commit(struct call *call, struct mg_error *err)
{
	const struct mg_request what = { .sql = MG_STR("COMMIT"), .once = commit_key(call) };
	struct mg_sink sink = {
		.begin = begin_nothing, .end = end_commit, .query = sink_query, .arg = call
	};
	int code = check_wanted(call, err);

	return code ? code : mg_session_run(call->session, &what, &sink, &call->outcome, err);
}

static int say_no_handle(struct call *call, int code, struct mg_error *err)
{
	struct mg_session *none = NULL;

	return code && call->lost_tx && strcmp(err->sqlstate, "25P01") == 0
	           ? mg_tx_handles_take(call->doors->tx_handles, call->tx, call->user, &none, err)
	           : code;
}

/* A transaction that was done before: what its statements counted then is not known. */
static void tell_known(struct call *call)
{
	mg_sb_clear(&call->results);
	mg_sb_clear(&call->counts);
	for (size_t i = 0; i < call->count; i++) {
		mg_sb_add(&call->results, i ? ", " : "");
		mg_sb_add(&call->results, "{\"rows_affected\": null}");
	}
	mg_sb_add_len(&call->counts, mg_sb_text(&call->results), call->results.len);
	call->done = call->count;
}

static int run_all(struct call *call, struct mg_error *err)
{
	if (!call->transaction) {
		return say_no_handle(call, run_list(call, err), err);
	}
	int code = call->key ? commit(call, err) : 0;

	if (code && strcmp(err->sqlstate, "25P01") != 0) {
		return code;
	}
	if (!call->known) {
		mg_error_clear(err);
		code = mg_session_begin(call->session, false, err);
		code = code ? code : run_list(call, err);
		code = code ? code : commit(call, err);
	}
	if (!code && call->known) {
		tell_known(call);
	}
	return code;
}

/* A transaction for several requests stays until it is over. */
static void end_session(struct call *call)
{
	if (!call->tx || call->lost_tx) {
		mg_session_close(call->session); /* rolls back what is open */
	} else if (!*mg_session_transaction(call->session)) {
		mg_tx_handles_drop(call->doors->tx_handles, call->tx);
	}
}

/* ---- the answer: on the thread ---- */

static struct mg_buf *wrap(struct mg_sb *text)
{
	size_t size = text->len;
	char *bytes = mg_sb_take(text);

	return mg_buf_wrap(bytes, size, mg_free, bytes);
}

static struct mg_buf *document(const struct call *call, const struct mg_sb *results)
{
	double took = (double)(mg_clock_us() - call->started_us) / 1000;
	bool pretty = call->pretty;
	struct mg_sb text = { 0 };

	mg_sb_add(&text, pretty ? "{\n    \"result\": " : "{\"result\": ");
	mg_sb_add(&text, call->list ? "[" : "");
	mg_sb_add_len(&text, mg_sb_text(results), results->len);
	mg_sb_add(&text, !call->list ? "" : pretty ? "\n    ]" : "]");
	mg_sb_addf(&text, pretty ? ",\n    \"took\": %.3f\n}\n" : ", \"took\": %.3f}\n", took);
	return wrap(&text);
}

static struct mg_buf *error_document(const struct call *call, const struct mg_error *err,
                                     size_t index)
{
	struct mg_sb text = { 0 };

	mg_sb_add(&text, "{\"error\": ");
	if (call->list) {
		mg_error_json_of(&text, err, index, call->transaction ? 0 : call->done);
	} else {
		mg_error_json(&text, err);
	}
	mg_sb_add(&text, "}\n");
	return wrap(&text);
}

/* What of a list is done, behind what the error itself says. */
static void tell_done(const struct call *call, struct mg_error *err)
{
	char own[sizeof err->detail];

	mg_copy_text(own, sizeof own, err->detail);
	if (call->transaction) {
		if (err->code != MG_E_UNKNOWN_OUTCOME) {
			mg_error_detail(err, "%.400s%sThe list is one transaction: nothing of it was done.",
			                own, own[0] ? " " : "");
		}
		return;
	}
	mg_error_detail(err, "%.400s%sStatements before it that are done, each for itself: %zu.", own,
	                own[0] ? " " : "", call->done);
}

static bool may_be_sent_again(const struct call *call, const struct mg_error *err)
{
	bool nothing = mg_code_info(err->code)->retry == MG_RETRY_SAFE ||
	               strcmp(err->sqlstate, "40001") == 0;

	/* What a key has done is known where writes are coordinated: who asks again hears that.  But of
	 * a transaction that defines something nothing is stored, and its list would run again. */
	bool stored = !call->tx && !(call->transaction && call->defines);
	bool known = call->key && (commits(call) || stored);

	/* Whose handle is not here has only asked, and its COMMIT may still be on its way elsewhere. */
	return call->lost_tx || (nothing && (call->done == 0 || call->transaction)) ||
	       (known && err->code == MG_E_UNKNOWN_OUTCOME);
}

/* The key's end: its answer is kept, without the rows when they are many. */
static void end_once(struct call *call, bool keep)
{
	struct mg_once_answer kept = call->answer;
	bool shorten = keep && kept.status == 200 && call->has_rows &&
	               kept.body->size > KEPT_WITH_ROWS_MAX;

	if (!call->entry) {
		return;
	}
	if (shorten) {
		kept.body = document(call, &call->counts);
	}
	mg_once_end(call->doors->once, call->entry, &call->answer, keep ? &kept : NULL, mg_clock_ms());
	if (shorten) {
		mg_buf_unref(kept.body);
	}
	call->entry = NULL;
}

static void answer_error(struct call *call, size_t index, struct mg_error *err)
{
	bool keep = !may_be_sent_again(call, err);

	if (call->list) {
		tell_done(call, err);
	}
	bool no_handle = call->tx && (!call->session || call->lost_tx);

	call->answer.status = no_handle ? 404 : mg_rest_sql_status(err);
	/* A list that is done in part must not be sent again, so nobody is told when. */
	call->answer.later = (call->done == 0 || call->transaction) &&
	                     (call->answer.status == 503 || call->answer.status == 429);
	call->answer.body = error_document(call, err, index);
	end_once(call, keep);
}

static void call_over(void *arg);

/* Where the request should go; false: it stays here. */
static bool redirect(struct call *call)
{
	struct mg_replica *replica = mg_engine_replica(call->doors->options.engine);
	uint64_t node = mg_replica_is_coordinator(replica) ? 0 : mg_replica_coordinator(replica);
	const struct mg_catalog_data *data = mg_catalog_take(call->doors->options.catalog);
	const struct mg_catalog_node *found =
		node && node != mg_replica_self(replica) ? mg_catalog_find_node(data, node) : NULL;
	struct mg_sb url = { 0 };

	if (found) {
		mg_sb_addf(&url, "https://%s/db/execute", found->address);
		mg_rest_add_query_without(&url, call->query_text, "redirect");
		call->location = mg_arena_strdup(call->arena, mg_sb_text(&url));
	}
	mg_sb_fini(&url);
	mg_catalog_give(call->doors->options.catalog, data);
	return found != NULL;
}

static void answer_redirect(struct call *call)
{
	struct mg_sb text = { 0 };

	mg_sb_add(&text, "{\"location\": ");
	mg_sb_add_json(&text, call->location, strlen(call->location));
	mg_sb_add(&text, "}\n");
	call->answer.status = 307;
	call->answer.body = wrap(&text);
	end_once(call, false);
	end_session(call);
	mg_loop_post(call->loop, call_over, call);
}

/* What is done of it the client has seen, whatever came of the rest. */
static void note_seen(struct call *call)
{
	struct mg_sb seen = { 0 };

	if (call->session) {
		mg_rest_add_seen(&seen, call->session);
	}
	call->answer.seen = seen.len > 0 ? wrap(&seen) : NULL;
	mg_sb_fini(&seen);
}

static void call_run(void *arg)
{
	struct call *call = arg;
	struct mg_error err = { 0 };

	call->started_us = mg_clock_us();
	if (call->redirect && !call->tx && redirect(call)) {
		answer_redirect(call);
		return;
	}
	int code = read_request(call, &err);
	size_t index = call->count; /* where reading stopped */

	if (!code) {
		code = run_all(call, &err);
		index = call->done < call->count ? call->done : call->count - 1;
	}
	end_session(call);
	note_seen(call);
	mg_copy_text(call->answer.query_id, sizeof call->answer.query_id, call->outcome.query_id);
	if (code) {
		answer_error(call, index, &err);
	} else {
		call->answer.status = 200;
		call->answer.body = document(call, &call->results);
		mg_sb_fini(&call->results);
		end_once(call, true);
	}
	mg_loop_post(call->loop, call_over, call);
}

/* ---- on the loop ---- */

static void reply(const struct call *call)
{
	const struct mg_once_answer *answer = &call->answer;
	const char *location = call->location;
	char *extra = mg_arena_format(
		call->arena, "Merganser-Query: %s\r\nCache-Control: no-store\r\n%s%s%s%s%s%.*s",
		answer->query_id[0] ? answer->query_id : "-", answer->later ? "Retry-After: 1\r\n" : "",
		call->repeated || call->known ? "Idempotent-Replayed: true\r\n" : "",
		location ? "Location: " : "", location ? location : "", location ? "\r\n" : "",
		answer->seen ? (int)answer->seen->size : 0,
		answer->seen ? (const char *)answer->seen->data : "");
	mg_rest_count(call->request, answer->status);
	mg_http_reply_buf(call->request, answer->status, "application/json", answer->body, extra);
}

static void call_over(void *arg)
{
	struct call *call = arg;

	if (call->request) {
		reply(call); /* also when the client has gone: it frees the request */
	}
	call_unref(call);
}

/* On the thread of who was first with the key. */
static void told(void *arg, const struct mg_once_answer *answer)
{
	struct call *call = arg;

	call->answer = *answer;
	mg_once_answer_ref(answer);
	mg_loop_post(call->loop, call_over, call);
}

/* The client went away. */
static void call_gone(void *arg)
{
	struct call *call = arg;

	mg_running_cancel(&call->running, mg_sessions_queries(call->doors->sessions));
}

static void gone_with_key(void *arg)
{
	(void)arg; /* it goes on */
}

static void refuse_now(struct call *call, const struct mg_error *err)
{
	mg_rest_error(call->request, err, 0);
	call_unref(call);
}

static int check_key(const char *key, struct mg_error *err)
{
	size_t len = strlen(key);

	if (len > 0 && len <= MG_ONCE_KEY_SIZE_MAX) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE, "the Idempotency-Key has %zu characters; 1 to %d are allowed",
	             len, MG_ONCE_KEY_SIZE_MAX);
	mg_error_hint(err, "A new UUID for each write is a good key.");
	return MG_E_USAGE;
}

/* true: the call is to be started; else it is answered, or waits. */
static bool begin_once(struct call *call, const char *user, const char *key)
{
	const struct mg_once_request asked = { .user = user,
		                                   .key = key,
		                                   .digest = digest_of(call),
		                                   .now_ms = mg_clock_ms() };
	struct mg_error err = { 0 };

	if (check_key(key, &err)) {
		refuse_now(call, &err);
		return false;
	}
	call->wait = (struct mg_once_wait){ .told = told, .arg = call };
	call->repeated = true;
	mg_http_defer(call->request, gone_with_key, call); /* before another thread may be told */
	switch (mg_once_begin(call->doors->once, &asked, &call->wait, &call->answer, &call->entry)) {
	case MG_ONCE_FIRST:
		call->repeated = false;
		return true;
	case MG_ONCE_WAIT:
		return false;
	case MG_ONCE_KNOWN:
		call_over(call);
		return false;
	case MG_ONCE_OTHER:
		break;
	}
	mg_error_set(&err, MG_E_KEY_REUSED, "the Idempotency-Key was used for another request");
	mg_error_hint(&err, "Each write needs a key of its own; only the same body may come again.");
	refuse_now(call, &err);
	return false;
}

/* Before the thread has it: nothing is done. */
static void fail_start(struct call *call, struct mg_error *err)
{
	if (call->session && (!call->tx || call->lost_tx)) {
		mg_session_close(call->session);
	}
	answer_error(call, 0, err);
	call_over(call);
}

static struct call *call_new(struct mg_doors *doors, struct mg_http_request *request)
{
	struct call *call = mg_alloc0(sizeof *call);

	call->doors = doors;
	call->loop = mg_conn_loop(mg_http_conn(request));
	call->request = request;
	call->arena = mg_arena_new();
	call->content_type = mg_http_header(request, "content-type");
	call->body = mg_http_body(request);
	if (mg_http_query(request, "sql")) {
		call->sql = mg_arena_strdup(call->arena, mg_http_query(request, "sql"));
	}
	call->pretty = mg_rest_flag(request, "pretty");
	call->redirect = mg_rest_flag(request, "redirect");
	call->query_text = mg_http_query_text(request);
	mg_running_init(&call->running);
	atomic_init(&call->refs, 2);
	mg_arena_defer(mg_http_arena(request), request_freed, call);
	return call;
}

/* The session of ?tx=, or one for this request. */
static int open_session(struct call *call, const char *user, enum mg_role role,
                        struct mg_error *err)
{
	struct mg_doors *doors = call->doors;

	if (call->tx) {
		int code = mg_tx_handles_take(doors->tx_handles, call->tx, user, &call->session, err);

		if (!code || !call->key || !commits(call)) {
			return code;
		}
		/* It may have been committed under this key, by whatever server. */
		mg_error_clear(err);
		call->lost_tx = true;
	}
	call->session = mg_session_open(
		doors->sessions, &(struct mg_session_open){ .user = user, .role = role, .door = "http" });
	return 0;
}

void mg_rest_execute(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role)
{
	mg_rest_execute_in(doors, request, user, role, mg_http_query(request, "tx"), NULL);
}

void mg_rest_execute_in(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                        enum mg_role role, const char *tx, const char *statement)
{
	struct call *call = call_new(doors, request);
	const char *key = mg_http_header(request, "idempotency-key");
	struct mg_error err = { 0 };

	call->tx = tx ? mg_arena_strdup(call->arena, tx) : NULL;
	call->ends_tx = statement;
	call->redirect = call->redirect && !tx; /* a handle is this node's */
	if (key && !begin_once(call, user, key)) {
		return;
	}
	call->user = user;
	call->key = key;
	if (!key) {
		mg_http_defer(request, call_gone, call);
	}
	int code = open_session(call, user, role, &err);

	code = code ? code : mg_rest_settings(call->session, request, &err);
	if (!code) {
		code = mg_pool_post(mg_sessions_pool(doors->sessions), call_run, call, &err);
	}
	if (code) {
		fail_start(call, &err);
	}
}
