/*
 * rest_jobs.c - POST /jobs: a job, whose client waits for what comes of it.
 *
 *   loop: collect -> thread: read, run -> loop: answer
 *
 * owner: as in rest_query.c: a call has two, the request and the thread.
 */
#include "base/json.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "door/running.h"
#include "job/job.h"
#include "os/clock.h"
#include "session/encode.h"

#include <stdatomic.h>
#include <string.h>

struct call {
	atomic_int refs;
	struct mg_doors *doors;
	struct mg_loop *loop;
	struct mg_http_request *request; /* loop; NULL: it is no more */
	struct mg_running running;
	/* thread; what lies in the request is valid until it is answered */
	struct mg_arena *arena;
	struct mg_str body;
	struct mg_job job;
	uint64_t started_us;
	struct mg_error err;
};

static void call_unref(void *arg)
{
	struct call *call = arg;

	if (atomic_fetch_sub(&call->refs, 1) > 1) {
		return;
	}
	mg_job_fini(&call->job);
	mg_session_unref(call->job.session);
	mg_running_fini(&call->running);
	mg_arena_free(call->arena);
	mg_free(call);
}

/* Hook of the request's arena. */
static void request_freed(void *arg)
{
	struct call *call = arg;

	call->request = NULL;
	call_unref(call);
}

/* ---- on the thread ---- */

static bool is_cancelled(void *arg)
{
	return atomic_load(&((struct call *)arg)->running.cancelled);
}

static void note_query(void *arg, struct mg_query *query)
{
	mg_running_set(&((struct call *)arg)->running, query);
}

static int read_text(const struct mg_json *body, const char *name, bool must, struct mg_str *out,
                     struct mg_error *err)
{
	const struct mg_json *text = mg_json_get(body, name);

	if (mg_json_is(text, MG_JSON_STRING) && !memchr(text->text.ptr, '\0', text->text.len)) {
		*out = text->text;
		return 0;
	}
	if (!must && (!text || mg_json_is(text, MG_JSON_NULL))) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE, text ? "\"%s\" is no text" : "there is no text \"%s\"", name);
	mg_error_hint(err, "Send {\"code\": \"the Python file\", \"values\": {\"name\": value}}.");
	return MG_E_USAGE;
}

static int read_body(struct call *call, struct mg_error *err)
{
	struct mg_json *body = NULL;
	struct mg_sb values = { 0 };

	if (mg_json_parse(call->arena, call->body.ptr, call->body.len, &body, err)) {
		return mg_error_wrap(err, "the body is not JSON");
	}
	int code = read_text(body, "code", true, &call->job.code, err);
	const struct mg_json *given = mg_json_get(body, "values");

	code = code ? code : read_text(body, "source", false, &call->job.source, err);
	if (!code && given && !mg_json_is(given, MG_JSON_OBJECT)) {
		code = mg_error_set(err, MG_E_USAGE, "\"values\" is no object");
		mg_error_hint(err, "\"values\": {\"bins\": 50} gives the file the name bins.");
	} else if (!code && given) {
		mg_json_print(&values, given);
		call->job.values = (struct mg_str){
			mg_arena_strndup(call->arena, values.ptr, values.len), values.len
		};
		mg_sb_fini(&values);
	}
	return code;
}

static void call_over(void *arg);

static void call_run(void *arg)
{
	struct call *call = arg;

	call->started_us = mg_clock_us();
	int code = read_body(call, &call->err);

	if (!code) {
		(void)mg_job_run(&call->job, &call->err);
	}
	mg_session_close(call->job.session);
	mg_loop_post(call->loop, call_over, call);
}

/* ---- on the loop ---- */

static void answer(struct call *call)
{
	const struct mg_job *job = &call->job;
	struct mg_sb json = { 0 };

	mg_sb_add(&json, "{\"result\": ");
	mg_sb_add_len(&json, job->result.ptr, job->result.len);
	mg_sb_addf(&json, ", \"rows\": %llu, \"chunks\": %llu, \"printed\": ",
	           (unsigned long long)job->rows, (unsigned long long)job->chunks);
	mg_sb_add_json(&json, mg_sb_text(&job->printed), job->printed.len);
	mg_sb_addf(&json, ", \"took\": %.3f}\n", (double)(mg_clock_us() - call->started_us) / 1000);
	mg_rest_count(call->request, 200);
	mg_http_reply(call->request, 200, "application/json", mg_sb_text(&json), json.len,
	              "Cache-Control: no-store\r\n");
	mg_sb_fini(&json);
}

static void refuse(struct call *call)
{
	int status = mg_code_info(call->err.code)->http_status;
	struct mg_sb json = { 0 };

	mg_sb_add(&json, "{\"error\": ");
	mg_error_json(&json, &call->err);
	mg_sb_add(&json, ", \"traceback\": ");
	mg_sb_add_json(&json, mg_sb_text(&call->job.traceback), call->job.traceback.len);
	mg_sb_add(&json, ", \"printed\": ");
	mg_sb_add_json(&json, mg_sb_text(&call->job.printed), call->job.printed.len);
	mg_sb_add(&json, "}\n");
	mg_rest_count(call->request, status);
	mg_http_reply(call->request, status, "application/json", mg_sb_text(&json), json.len,
	              status == 429 || status == 503 ? "Retry-After: 1\r\n" : NULL);
	mg_sb_fini(&json);
}

static void call_over(void *arg)
{
	struct call *call = arg;

	if (call->request && call->err.code) {
		refuse(call);
	} else if (call->request) {
		answer(call);
	}
	call_unref(call);
}

static void call_gone(void *arg)
{
	struct call *call = arg;

	mg_running_cancel(&call->running, mg_sessions_queries(call->doors->sessions));
}

static struct call *call_new(struct mg_doors *doors, struct mg_http_request *request,
                             const char *user, enum mg_role role)
{
	struct call *call = mg_alloc0(sizeof *call);

	call->doors = doors;
	call->loop = mg_conn_loop(mg_http_conn(request));
	call->request = request;
	call->arena = mg_arena_new();
	call->body = mg_http_body(request);
	call->job = (struct mg_job){
		.nursery = doors->options.nursery,
		.session = mg_session_open(doors->sessions, &(struct mg_session_open){ .user = user,
		                                                                      .role = role,
		                                                                      .door = "http" }),
		.stopped = is_cancelled,
		.query = note_query,
		.arg = call,
	};
	mg_running_init(&call->running);
	atomic_init(&call->refs, 2);
	mg_arena_defer(mg_http_arena(request), request_freed, call);
	return call;
}

void mg_rest_jobs(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                  enum mg_role role)
{
	struct mg_error err = { 0 };

	if (!doors->options.nursery) {
		mg_error_set(&err, MG_E_DENIED, "this server runs no jobs");
		mg_error_hint(&err, "It was started with --no-jobs; another server may run them.");
		mg_rest_error(request, &err, 0);
		return;
	}
	if (strcmp(mg_http_path(request), "/jobs") != 0 ||
	    strcmp(mg_http_method(request), "POST") != 0) {
		mg_error_set(&err, MG_E_UNSUPPORTED, "jobs are run by POST /jobs, which waits for them");
		mg_error_hint(&err, "Jobs that are looked at later are not there yet.");
		mg_rest_error(request, &err, 0);
		return;
	}
	struct call *call = call_new(doors, request, user, role);
	int code = mg_rest_settings(call->job.session, request, &call->err);

	if (!code) {
		mg_http_defer(request, call_gone, call);
		code = mg_pool_post(mg_sessions_pool(doors->sessions), call_run, call, &call->err);
	}
	if (code) {
		mg_session_close(call->job.session);
		mg_rest_error(request, &call->err, 0);
		call_unref(call);
	}
}
