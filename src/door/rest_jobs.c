/*
 * rest_jobs.c - /jobs: a job is begun, waited for, looked at, ended.
 *
 *   POST /jobs                begin it; wait, or with "deferred": true not
 *   GET /jobs                 those of the user; an admin sees all
 *   GET /jobs/ID              its state
 *   GET /jobs/ID/result       its result; 202 and its state while there is none
 *   GET /jobs/ID/events       how far it is, until its end (rest_job_events.c)
 *   DELETE /jobs/ID           end it; one that has ended is forgotten
 *
 *   loop: begin -> a query thread runs it (job/jobs.h) --post--> loop: answer
 *
 * owner: the loop; a wait is given back by the request's arena and by the job's end.
 */
#include "base/json.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "job/jobs.h"
#include "session/encode.h"

#include <stdatomic.h>
#include <string.h>

#define JOBS_PATH "/jobs/"

/* A request that waits for a job's end. */
struct wait {
	atomic_int refs; /* the request, and the job */
	struct mg_loop *loop;
	struct mg_jobs *jobs;
	struct mg_http_request *request; /* loop; NULL: it is no more */
	struct mg_listed_job *listed;
};

static void wait_unref(struct wait *wait)
{
	if (atomic_fetch_sub(&wait->refs, 1) == 1) {
		mg_listed_job_unref(wait->listed);
		mg_free(wait);
	}
}

/* ---- answers ---- */

static void reply(struct mg_http_request *request, int status, struct mg_sb *json,
                  const char *extra)
{
	mg_sb_add_char(json, '\n');
	mg_rest_count(request, status);
	mg_http_reply(request, status, "application/json", mg_sb_text(json), json->len,
	              extra ? extra : "Cache-Control: no-store\r\n");
	mg_sb_fini(json);
}

static void reply_state(struct mg_http_request *request, int status,
                        const struct mg_listed_job *listed)
{
	struct mg_sb json = { 0 };

	mg_listed_job_json(listed, true, &json);
	reply(request, status, &json, NULL);
}

/* Of one that has ended: its state, and its result in front. */
static void reply_end(struct mg_http_request *request, const struct mg_listed_job *listed)
{
	const struct mg_error *err = mg_listed_job_error(listed);
	struct mg_sb json = { 0 }, state = { 0 };

	if (err->code) {
		reply_state(request, mg_code_info(err->code)->http_status, listed);
		return;
	}
	struct mg_str result = mg_listed_job_result(listed);

	mg_listed_job_json(listed, true, &state);
	mg_sb_add(&json, "{\"result\": ");
	mg_sb_add_len(&json, result.ptr, result.len);
	mg_sb_add(&json, ", ");
	mg_sb_add(&json, state.ptr + 1); /* its members */
	mg_sb_fini(&state);
	reply(request, 200, &json, NULL);
}

/* ---- POST /jobs ---- */

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

static int read_body(struct mg_http_request *request, struct mg_job_begin *begin, bool *deferred,
                     struct mg_error *err)
{
	struct mg_arena *arena = mg_http_arena(request);
	struct mg_str text = mg_http_body(request);
	struct mg_json *body = NULL;
	struct mg_sb values = { 0 };

	if (mg_json_parse(arena, text.ptr, text.len, &body, err)) {
		return mg_error_wrap(err, "the body is not JSON");
	}
	int code = read_text(body, "code", true, &begin->code, err);
	const struct mg_json *given = mg_json_get(body, "values");

	code = code ? code : read_text(body, "source", false, &begin->source, err);
	given = mg_json_is(given, MG_JSON_NULL) ? NULL : given;
	if (!code && given && !mg_json_is(given, MG_JSON_OBJECT)) {
		code = mg_error_set(err, MG_E_USAGE, "\"values\" is no object");
		mg_error_hint(err, "\"values\": {\"bins\": 50} gives the file the name bins.");
	} else if (!code && given) {
		mg_json_print(&values, given);
		begin->values =
			(struct mg_str){ mg_arena_strndup(arena, values.ptr, values.len), values.len };
		mg_sb_fini(&values);
	}
	*deferred = mg_json_get_bool(body, "deferred", false);
	return code;
}

static void on_ended_here(void *arg)
{
	struct wait *wait = arg;

	if (wait->request) {
		reply_end(wait->request, wait->listed);
	}
	wait_unref(wait);
}

static void on_ended(void *arg)
{
	struct wait *wait = arg;

	mg_loop_post(wait->loop, on_ended_here, wait);
}

/* Hook of the request's arena: it is answered, or its client has gone. */
static void request_freed(void *arg)
{
	struct wait *wait = arg;

	wait->request = NULL;
	wait_unref(wait);
}

static void client_gone(void *arg)
{
	struct wait *wait = arg;

	if (mg_listed_job_state(wait->listed) < MG_JOB_DONE) {
		mg_jobs_cancel(wait->jobs, wait->listed);
	}
}

static int begin_and_wait(struct mg_doors *doors, struct mg_http_request *request,
                          struct mg_job_begin *begin, struct mg_error *err)
{
	struct wait *wait = mg_alloc0(sizeof *wait);

	atomic_init(&wait->refs, 2);
	wait->loop = mg_conn_loop(mg_http_conn(request));
	wait->jobs = doors->jobs;
	wait->request = request;
	begin->ended = on_ended;
	begin->arg = wait;
	int code = mg_jobs_begin(doors->jobs, begin, &wait->listed, err);

	if (code) {
		mg_free(wait);
		return code;
	}
	mg_arena_defer(mg_http_arena(request), request_freed, wait);
	mg_http_defer(request, client_gone, wait);
	return 0;
}

static int begin_and_leave(struct mg_doors *doors, struct mg_http_request *request,
                           const struct mg_job_begin *begin, struct mg_error *err)
{
	struct mg_listed_job *listed = NULL;
	int code = mg_jobs_begin(doors->jobs, begin, &listed, err);

	if (code) {
		return code;
	}
	struct mg_sb json = { 0 }, location = { 0 };

	mg_listed_job_json(listed, true, &json);
	mg_sb_addf(&location, "Location: " JOBS_PATH "%s\r\nCache-Control: no-store\r\n",
	           mg_listed_job_id(listed));
	reply(request, 202, &json, mg_sb_text(&location));
	mg_sb_fini(&location);
	mg_listed_job_unref(listed);
	return 0;
}

static int post_job(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                    enum mg_role role, struct mg_error *err)
{
	struct mg_job_begin begin = { 0 };
	bool deferred = false;
	int code = read_body(request, &begin, &deferred, err);

	if (code) {
		return code;
	}
	begin.session = mg_session_open(
		doors->sessions, &(struct mg_session_open){ .user = user, .role = role, .door = "http" });
	code = mg_rest_settings(begin.session, request, err);
	if (code) {
		mg_session_close(begin.session);
		mg_session_unref(begin.session);
		return code;
	}
	return deferred ? begin_and_leave(doors, request, &begin, err)
	                : begin_and_wait(doors, request, &begin, err);
}

/* ---- the others ---- */

static void list_jobs(struct mg_doors *doors, struct mg_http_request *request, const char *owner)
{
	struct mg_listed_job **jobs = mg_alloc(MG_JOBS_MAX * sizeof(struct mg_listed_job *));
	size_t count = mg_jobs_list(doors->jobs, owner, jobs, MG_JOBS_MAX);
	struct mg_sb json = { 0 };

	mg_sb_add(&json, "{\"jobs\": [");
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(&json, i ? ", " : "");
		mg_listed_job_json(jobs[i], false, &json);
		mg_listed_job_unref(jobs[i]);
	}
	mg_sb_add(&json, "]}");
	mg_free(jobs);
	reply(request, 200, &json, NULL);
}

/* What stands behind the id: "", "result" or "events".  False: something else. */
static bool split_path(const char *path, char *id, size_t size, const char **what)
{
	const char *begin = path + strlen(JOBS_PATH), *slash = strchr(begin, '/');
	size_t len = slash ? (size_t)(slash - begin) : strlen(begin);

	*what = slash ? slash + 1 : "";
	if (len == 0 || len >= size) {
		return false;
	}
	memcpy(id, begin, len);
	id[len] = '\0';
	return (*what)[0] == '\0' || strcmp(*what, "result") == 0 || strcmp(*what, "events") == 0;
}

static int at_job(struct mg_doors *doors, struct mg_http_request *request, const char *owner,
                  struct mg_error *err)
{
	const char *path = mg_http_path(request), *method = mg_http_method(request), *what;
	struct mg_listed_job *listed = NULL;
	char id[96];

	if (strncmp(path, JOBS_PATH, strlen(JOBS_PATH)) != 0 ||
	    !split_path(path, id, sizeof id, &what) || strcmp(method, "POST") == 0 ||
	    (what[0] && strcmp(method, "DELETE") == 0)) {
		mg_error_set(err, MG_E_NOT_FOUND, "there is nothing to %s at \"%s\"", method, path);
		mg_error_hint(err, "POST and GET /jobs, GET and DELETE /jobs/ID, GET /jobs/ID/result and "
		                   "/jobs/ID/events.");
		return MG_E_NOT_FOUND;
	}
	int code = mg_jobs_find(doors->jobs, id, owner, &listed, err);

	if (code) {
		return code;
	}
	if (strcmp(what, "events") == 0) {
		mg_rest_job_events(request, listed);
		return 0;
	}
	bool ended = mg_listed_job_state(listed) >= MG_JOB_DONE;

	if (strcmp(method, "DELETE") == 0) {
		mg_jobs_cancel(doors->jobs, listed);
		reply_state(request, ended ? 200 : 202, listed);
	} else if (what[0] && ended) {
		reply_end(request, listed);
	} else {
		reply_state(request, what[0] ? 202 : 200, listed);
	}
	mg_listed_job_unref(listed);
	return 0;
}

void mg_rest_jobs(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                  enum mg_role role)
{
	const char *owner = role == MG_ROLE_ADMIN ? NULL : user;
	bool at_root = strcmp(mg_http_path(request), "/jobs") == 0;
	bool posts = strcmp(mg_http_method(request), "POST") == 0;
	struct mg_error err = { 0 };
	int code = 0;

	if (!doors->jobs) {
		code = mg_error_set(&err, MG_E_DENIED, "this server runs no jobs");
		mg_error_hint(&err, "It was started with --no-jobs; another server may run them.");
	} else if (at_root && posts) {
		code = post_job(doors, request, user, role, &err);
	} else if (at_root && strcmp(mg_http_method(request), "DELETE") != 0) {
		list_jobs(doors, request, owner);
	} else {
		code = at_job(doors, request, owner, &err);
	}
	if (code) {
		mg_rest_error(request, &err, 0);
	}
}
