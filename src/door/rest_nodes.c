/*
 * rest_nodes.c - the doors of servers that come and go: POST /join, PUT /cluster/nodes/NAME; and of
 * their replicas: /cluster/check, /cluster/rebalance, /cluster/keys.
 *
 * Both change the catalog, which may wait for other nodes, so they work on a query thread; few at a
 * time, since a stranger may knock at /join.  What /join means is not known here: see
 * mg_doors_options.join.
 *
 * owner: a call belongs to the request's loop until it is posted to a thread, which posts it back.
 */
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "catalog/node_table.h"
#include "door/doors_int.h"
#include "exec/engine.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <string.h>

struct call {
	struct mg_doors *doors;
	struct mg_http_request *request;
	struct mg_loop *loop;
	struct mg_str body;           /* in the request's arena, as are the next */
	struct mg_join_caller caller; /* of /join */
	const char *name, *state;     /* of a node */
	bool begin;                   /* not only look */
	uint32_t shards;              /* of keys that are wanted */
	int (*work)(struct call *call, struct mg_error *err);
	struct mg_sb answer;
	struct mg_error err;
	bool gone; /* loop */
};

/* ---- to a thread and back ---- */

static void call_gone(void *arg)
{
	struct call *call = arg;

	call->gone = true;
}

/* A request that does not fit this cluster is a conflict, not something that is never served. */
static int status_of(const struct mg_error *err)
{
	return err->code == MG_E_UNSUPPORTED ? 409 : mg_code_info(err->code)->http_status;
}

static void call_done(void *arg)
{
	struct call *call = arg;

	if (call->gone) {
		mg_http_abort(call->request);
	} else if (call->err.code) {
		mg_rest_error(call->request, &call->err, status_of(&call->err));
	} else {
		mg_rest_count(call->request, 200);
		mg_http_reply(call->request, 200, "application/json", mg_sb_text(&call->answer),
		              call->answer.len, "Cache-Control: no-store\r\n");
	}
	mg_sb_fini(&call->answer);
	mg_free(call);
}

static void call_run(void *arg)
{
	struct call *call = arg;

	if (mg_admission_enter(call->doors->joins, NULL, NULL, &call->err) == 0) {
		if (call->work(call, &call->err) == 0) {
			mg_error_clear(&call->err); /* of a try that another one has made good */
		}
		mg_admission_leave(call->doors->joins);
	}
	mg_loop_post(call->loop, call_done, call);
}

static struct call *call_new(struct mg_doors *doors, struct mg_http_request *request)
{
	struct call *call = mg_alloc0(sizeof *call);

	call->doors = doors;
	call->request = request;
	call->loop = mg_conn_loop(mg_http_conn(request));
	call->body = mg_http_body(request);
	return call;
}

static void call_start(struct call *call)
{
	struct mg_error err = { 0 };

	mg_http_defer(call->request, call_gone, call);
	if (mg_pool_post(mg_sessions_pool(call->doors->sessions), call_run, call, &err)) {
		mg_rest_error(call->request, &err, 0);
		mg_free(call);
	}
}

/* ---- a server comes ---- */

static int join(struct call *call, struct mg_error *err)
{
	int code = call->doors->options.join(call->doors->options.arg, &call->caller, call->body,
	                                     &call->answer, err);

	if (code == MG_E_AUTH) {
		mg_rest_count_login("refused");
	}
	if (code) {
		mg_log(MG_LOG_WARN, "join.refused", "peer=%s reason=\"%s\"", call->caller.peer,
		       err->message);
	}
	return code;
}

void mg_rest_join(struct mg_doors *doors, struct mg_http_request *request)
{
	struct mg_conn *conn = mg_http_conn(request);
	struct mg_arena *arena = mg_http_arena(request);
	const struct mg_peer_cert *cert = mg_conn_cert(conn);
	bool in_time = cert && mg_clock_wall_ms() / 1000 <= cert->until_s;
	struct mg_error err = { 0 };

	if (!doors->options.join) {
		mg_error_set(&err, MG_E_NOT_FOUND, "this node takes no servers in");
		mg_rest_error(request, &err, 0);
		return;
	}
	struct call *call = call_new(doors, request);

	call->work = join;
	call->caller = (struct mg_join_caller){
		.node = in_time ? cert->node : 0,
		.peer = mg_arena_strdup(arena, mg_conn_peer(conn)),
		.same_host = mg_conn_is_same_host(conn),
	};
	(void)mg_http_basic(request, &call->caller.user, &call->caller.password);
	call_start(call);
}

/* ---- what is wanted of one that is there ---- */

static int set_state(struct call *call, struct mg_error *err)
{
	int code = mg_node_set_state(call->doors->options.catalog, call->name, call->state, err);

	if (code == 0) {
		mg_log(MG_LOG_INFO, "node.state", "name=%s state=%s", call->name, call->state);
		mg_sb_add(&call->answer, "{\"id\": ");
		mg_sb_add_json(&call->answer, call->name, strlen(call->name));
		mg_sb_addf(&call->answer, ", \"state\": \"%s\"}\n", call->state);
	}
	return code;
}

/* The wish in the body, as the catalog's word for it; NULL: it is none. */
static const char *read_state(struct mg_http_request *request)
{
	static const char *const states[] = { MG_NODE_MEMBER, MG_NODE_DRAINING, MG_NODE_REMOVED };
	struct mg_str body = mg_http_body(request);
	struct mg_json *json = NULL;
	struct mg_error ignored;

	if (mg_json_parse(mg_http_arena(request), body.ptr ? body.ptr : "", body.len, &json,
	                  &ignored)) {
		return NULL;
	}
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		if (mg_text_eq(mg_json_get_text(json, "state"), states[i])) {
			return states[i];
		}
	}
	return NULL;
}

void mg_rest_node(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                  enum mg_role role)
{
	const char *name = mg_http_path(request) + strlen(MG_NODES_PATH);
	const char *state = read_state(request);
	struct mg_error err = { 0 };

	if (role != MG_ROLE_ADMIN) {
		mg_error_set(&err, MG_E_DENIED, "user \"%s\" is no admin", user);
		mg_error_hint(&err, "Only an admin drains and removes nodes.");
	} else if (!state) {
		mg_error_set(&err, MG_E_USAGE, "\"state\" is missing or unknown");
		mg_error_hint(&err, "PUT {\"state\": \"draining\"}, \"member\" or \"removed\".");
	}
	if (err.code) {
		mg_rest_error(request, &err, 0);
		return;
	}
	struct call *call = call_new(doors, request);

	call->work = set_state;
	call->name = mg_arena_strdup(mg_http_arena(request), name);
	call->state = state;
	call_start(call);
}

/* ---- their replicas ---- */

static int check(struct call *call, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(call->doors->options.engine);

	(void)err;
	if (call->begin) {
		mg_replica_ask_check(replica);
	}
	mg_rest_check_report(replica, &call->answer);
	return 0;
}

static int rebalance(struct call *call, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(call->doors->options.engine);

	(void)err;
	if (call->begin) {
		mg_replica_hurry(replica);
	}
	mg_rest_balance_report(replica, &call->answer);
	return 0;
}

void mg_rest_cluster(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role)
{
	struct mg_error err = { 0 };

	if (role != MG_ROLE_ADMIN) {
		mg_error_set(&err, MG_E_DENIED, "user \"%s\" is no admin", user);
		mg_error_hint(&err, "Only an admin checks and moves replicas.");
		mg_rest_error(request, &err, 0);
		return;
	}
	struct call *call = call_new(doors, request);

	call->begin = strcmp(mg_http_method(request), "POST") == 0;
	call->work = strcmp(mg_http_path(request), "/cluster/check") == 0 ? check : rebalance;
	call_start(call);
}

/* ---- keys for a cluster that was made without ---- */

static int enable_keys(struct call *call, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(call->doors->options.engine);
	int code = mg_replica_enable_keys(replica, call->shards, err);

	if (!code) {
		mg_log(MG_LOG_INFO, "keys.wanted", "shards=%u", call->shards);
		mg_sb_addf(&call->answer, "{\"kv_shards\": %u}\n", call->shards);
	}
	return code;
}

void mg_rest_enable_keys(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                         enum mg_role role)
{
	struct mg_str body = mg_http_body(request);
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };
	int64_t shards = 0;

	if (role != MG_ROLE_ADMIN) {
		mg_error_set(&err, MG_E_DENIED, "user \"%s\" is no admin", user);
		mg_error_hint(&err, "Only an admin gives a cluster shards of keys.");
	} else if (mg_json_parse(mg_http_arena(request), body.ptr ? body.ptr : "", body.len, &json,
	                         &err) == 0) {
		shards = mg_json_get_int(json, "kv_shards", 0);
	}
	if (err.code) {
		mg_rest_error(request, &err, 0);
		return;
	}
	struct call *call = call_new(doors, request);

	call->shards = shards >= 1 && shards <= UINT16_MAX ? (uint32_t)shards : 0;
	call->work = enable_keys;
	call_start(call);
}
