/*
 * rest.c - HTTP paths: who may ask for what, and the small answers.
 *
 * Rule: nothing here works for longer than a moment on the loop.  A password that is not remembered
 * is checked on a query thread (argon2id takes 50 ms on purpose), LOGINS_AT_ONCE at a time; SQL has
 * its own files (rest_query.c, rest_execute.c).
 *
 * owner: the connection's loop; struct login_wait is handed to a thread and back.
 */
#include "base/log.h"
#include "base/mem.h"
#include "door/doors_int.h"
#include "door/kv_upload.h"
#include "mg_version.h"
#include "os/clock.h"
#include "os/limits.h"
#include "replica/kv_command.h"
#include "replica/replica.h"
#include "session/encode.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
	SQL_BODY_MAX = 8 << 20,
	COPY_BODY_MAX = 64 << 20,
	KV_BATCH_MAX = 32 << 20,
	JOB_BODY_MAX = 2 << 20,
	OTHER_BODY_MAX = 64 << 10,
	NODES_MAX = 256
};

/* ---- answers ---- */

static void count_answer(struct mg_http_request *request, int status);

void mg_rest_error(struct mg_http_request *request, const struct mg_error *err, int status)
{
	const char *extra = NULL;
	struct mg_sb json = { 0 };

	status = status ? status : mg_code_info(err->code)->http_status;
	if (status == 429 || status == 503) {
		extra = "Retry-After: 1\r\n";
	}
	mg_sb_add(&json, "{\"error\": ");
	mg_error_json(&json, err);
	mg_sb_add(&json, "}\n");
	count_answer(request, status);
	mg_http_reply(request, status, "application/json", mg_sb_text(&json), json.len, extra);
	mg_sb_fini(&json);
}

static void reply_text(struct mg_http_request *request, int status, const char *type,
                       const char *text)
{
	count_answer(request, status);
	mg_http_reply(request, status, type, text, strlen(text), "Cache-Control: no-store\r\n");
}

/* ---- login ---- */

struct login_wait {
	struct mg_doors *doors;
	struct mg_http_request *request;
	struct mg_loop *loop;
	const char *user, *password; /* in the request's arena */
	enum mg_login_for who;
	mg_logged_in *then;
	enum mg_role role;
	struct mg_error err;
	bool gone; /* loop */
};

void mg_rest_count_login(const char *outcome)
{
	char labels[40];

	(void)snprintf(labels, sizeof labels, "outcome=\"%s\"", outcome);
	mg_metric_add(mg_metric_counter("merganser_logins_total", labels, "Logins that were tried."),
	              1);
}

static void refuse_login(struct mg_http_request *request, const struct mg_error *err,
                         const char *user)
{
	mg_rest_count_login("refused");
	mg_log(MG_LOG_WARN, "login.refused", "user=%.64s peer=%s reason=%s", user,
	       mg_conn_peer(mg_http_conn(request)), err->message);
	mg_rest_error(request, err, 0);
}

/* While the node stops its engine may be closed, so nothing is asked of it any more. */
static void refuse_stopping(struct mg_http_request *request)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_SHUTDOWN, "the server is shutting down");
	mg_rest_error(request, &err, 0);
}

/* The password was right; is the role? */
static void admit(struct mg_doors *doors, struct mg_http_request *request, enum mg_login_for who,
                  const char *user, enum mg_role role, mg_logged_in *then)
{
	bool fits = who == MG_LOGIN_WORKER ? role == MG_ROLE_WORKER
	                                   : role == MG_ROLE_CLIENT || role == MG_ROLE_ADMIN;

	if (fits) {
		mg_rest_count_login("ok");
		then(doors, request, user, role);
		return;
	}
	struct mg_error err = { 0 };

	mg_rest_count_login("wrong_role");
	mg_error_set(&err, MG_E_DENIED, "user \"%s\" may not use this door", user);
	mg_error_hint(&err, who == MG_LOGIN_WORKER
	                        ? "Only the user of workers opens /worker."
	                        : "The user of workers opens /worker and nothing else.");
	mg_rest_error(request, &err, 0);
}

static void login_gone(void *arg)
{
	struct login_wait *wait = arg;

	wait->gone = true;
}

static void login_done(void *arg)
{
	struct login_wait *wait = arg;

	if (wait->gone) {
		mg_http_abort(wait->request); /* nobody hears an answer */
	} else if (atomic_load(&wait->doors->stopping)) {
		refuse_stopping(wait->request);
	} else if (wait->err.code) {
		if (wait->err.code == MG_E_AUTH) {
			refuse_login(wait->request, &wait->err, wait->user);
		} else {
			mg_rest_error(wait->request, &wait->err, 0);
		}
	} else {
		admit(wait->doors, wait->request, wait->who, wait->user, wait->role, wait->then);
	}
	mg_free(wait);
}

/* On a query thread. */
static void login_check(void *arg)
{
	struct login_wait *wait = arg;

	if (mg_admission_enter(wait->doors->logins, NULL, NULL, &wait->err) == 0) {
		(void)mg_login_check(wait->doors->options.login, wait->user, wait->password, &wait->role,
		                     &wait->err);
		mg_admission_leave(wait->doors->logins);
	}
	mg_loop_post(wait->loop, login_done, wait);
}

/* No or unknown credentials. */
static void ask_for_login(struct mg_http_request *request)
{
	const char *header = mg_http_header(request, "authorization");
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_AUTH, "a login is needed");
	if (header && strncasecmp(header, "Bearer ", 7) == 0) {
		mg_error_hint(&err, "Tokens are not supported yet; use Basic: curl -u USER:PASSWORD.");
	} else {
		mg_error_hint(&err, "Use Basic: curl -u USER:PASSWORD, or a client certificate: curl "
		                    "--cert USER.crt --key USER.key.");
	}
	mg_rest_error(request, &err, 0);
}

static int refuse_cert(const char *what, struct mg_error *err)
{
	(void)mg_error_set(err, MG_E_AUTH, "the client certificate is refused: %s", what);
	mg_error_hint(err, "Make one with the cluster's CA, merganser cert client --common-name USER, "
	                   "or log in with a password and no certificate.");
	return MG_E_AUTH;
}

int mg_rest_check_cert(const struct mg_doors *doors, const struct mg_peer_cert *cert,
                       const char *user, struct mg_error *err)
{
	if (!cert && doors->options.require_cert) {
		(void)mg_error_set(err, MG_E_AUTH, "this server wants a client certificate");
		mg_error_hint(err, "Give it with --tls-cert FILE --tls-key FILE (curl: --cert, --key); "
		                   "merganser cert client makes one.");
		return MG_E_AUTH;
	}
	if (!cert) {
		return 0;
	}
	if (!cert->good) {
		return refuse_cert(cert->reason, err);
	}
	if (mg_clock_wall_ms() / 1000 > cert->until_s) {
		return refuse_cert("it has expired", err); /* since the connection was made */
	}
	if (user && strcmp(user, cert->name) != 0) {
		(void)mg_error_set(err, MG_E_AUTH,
		                   "the client certificate is for \"%s\", the password for \"%.64s\"",
		                   cert->name, user);
		mg_error_hint(err, "Leave the password out, or give both for one user.");
		return MG_E_AUTH;
	}
	return 0;
}

void mg_rest_login(struct mg_doors *doors, struct mg_http_request *request, enum mg_login_for who,
                   mg_logged_in *then)
{
	const struct mg_peer_cert *cert = mg_conn_cert(mg_http_conn(request));
	const char *user = NULL, *password = NULL;
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };
	bool basic = mg_http_basic(request, &user, &password);

	if (mg_rest_check_cert(doors, cert, basic ? user : NULL, &err)) {
		refuse_login(request, &err, basic ? user : cert ? cert->name : "");
		return;
	}
	if (!basic && cert && !mg_http_header(request, "authorization")) {
		user = mg_arena_strdup(mg_http_arena(request), cert->name); /* outlives the connection */
		if (mg_login_certificate(doors->options.login, user, &role, &err)) {
			refuse_login(request, &err, user);
		} else {
			admit(doors, request, who, user, role, then);
		}
		return;
	}
	if (!basic) {
		ask_for_login(request);
		return;
	}
	if (mg_login_cached(doors->options.login, user, password, &role)) {
		admit(doors, request, who, user, role, then);
		return;
	}
	struct login_wait *wait = mg_alloc0(sizeof *wait);

	*wait = (struct login_wait){ .doors = doors,
		                         .request = request,
		                         .loop = mg_conn_loop(mg_http_conn(request)),
		                         .user = user,
		                         .password = password,
		                         .who = who,
		                         .then = then };
	mg_http_defer(request, login_gone, wait);
	if (mg_pool_post(mg_sessions_pool(doors->sessions), login_check, wait, &err)) {
		mg_free(wait);
		mg_rest_error(request, &err, 0);
	}
}

/* ---- health, status, metrics ---- */

static const char *why_unhealthy(struct mg_doors *doors)
{
	const char *why = doors->options.unhealthy ? doors->options.unhealthy(doors->options.arg)
	                                           : NULL;

	return why && why[0] ? why : NULL;
}

static void get_health(struct mg_doors *doors, struct mg_http_request *request)
{
	const char *why = why_unhealthy(doors);

	if (!why) {
		reply_text(request, 200, "application/json", "{\"status\": \"ok\"}\n");
		return;
	}
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_UNAVAILABLE, "%s", why);
	mg_rest_error(request, &err, 503);
}

static void get_ping(struct mg_doors *doors, struct mg_http_request *request)
{
	(void)doors;
	reply_text(request, 200, "text/plain", "PONG");
}

static void get_page(struct mg_doors *doors, struct mg_http_request *request)
{
	static const char page[] =
		"<!doctype html>\n<html lang=\"en\"><head><meta "
		"charset=\"utf-8\"><title>Merganser</title>\n"
		"<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 "
		"1rem}"
		"code{background:#eee;padding:.1em .3em}td{padding:.2em 1em .2em "
		"0;vertical-align:top}</style></head>\n"
		"<body><h1>Merganser</h1><p>Version " MG_VERSION
		", a distributed database on DuckDB " MG_DUCKDB_VERSION ".</p>\n<table>\n"
		"<tr><td><code>merganser sql</code></td><td>the shell, over <code>wss "
		"/client</code></td></tr>\n"
		"<tr><td><code>/db/query?q=SELECT 1</code></td><td>a query; JSON, or CSV, NDJSON, Arrow by "
		"<code>Accept</code>; login Basic</td></tr>\n"
		"<tr><td><code>POST /db/execute</code></td><td>a change: <code>{\"sql\": \"INSERT "
		"...\"}</code></td></tr>\n"
		"<tr><td><code>POST /db/tx</code></td><td>a transaction for several requests: "
		"<code>?tx=</code></td></tr>\n"
		"<tr><td><code>/changes/TABLE</code></td><td>what changes in a table, as it does: "
		"<code>?from=</code></td></tr>\n"
		"<tr><td><code>/kv/NAMESPACE/KEY</code></td><td>keys and values; "
		"<code>/kv/NAMESPACE/watch</code>: what changes in them</td></tr>\n"
		"<tr><td><code>POST /jobs</code></td><td>a mapper and a reducer in Python, over the rows "
		"of a SELECT</td></tr>\n"
		"<tr><td><code>/status</code></td><td>node and cluster as JSON</td></tr>\n"
		"<tr><td><code>/metrics</code></td><td>Prometheus</td></tr>\n"
		"<tr><td><code>/health</code>, <code>/ping</code></td><td>without login</td></tr>\n"
		"</table></body></html>\n";

	(void)doors;
	reply_text(request, 200, "text/html; charset=utf-8", page);
}

static void add_text(struct mg_sb *json, const char *name, const char *text)
{
	mg_sb_addf(json, ", \"%s\": ", name);
	mg_sb_add_json(json, text, strlen(text));
}

static void add_nodes(struct mg_doors *doors, struct mg_sb *json)
{
	struct mg_node_info *nodes = mg_alloc(NODES_MAX * sizeof *nodes);
	size_t count = mg_engine_nodes(doors->options.engine, nodes, NODES_MAX);

	mg_sb_add(json, ", \"nodes\": [");
	for (size_t i = 0; i < count && i < NODES_MAX; i++) {
		mg_sb_add(json, i ? ", {\"id\": " : "{\"id\": ");
		mg_sb_add_json(json, nodes[i].id, strlen(nodes[i].id));
		add_text(json, "role", nodes[i].role);
		add_text(json, "state", nodes[i].state);
		add_text(json, "address", nodes[i].address);
		add_text(json, "version", nodes[i].version);
		mg_sb_addf(json, ", \"shards\": %u, \"threads\": %u, \"memory_bytes\": %llu}",
		           nodes[i].shards, nodes[i].threads, (unsigned long long)nodes[i].memory_bytes);
	}
	mg_sb_add_char(json, ']');
	mg_free(nodes);
}

static void add_leader(struct mg_sb *json, const struct mg_catalog_data *data, uint64_t number)
{
	const struct mg_catalog_node *node = mg_catalog_find_node(data, number);

	if (node) {
		mg_sb_add_json(json, node->id, strlen(node->id));
	} else {
		mg_sb_add(json, "null");
	}
}

/* Who coordinates writes, and who leads which shard, as this node knows. */
static void add_leaders(struct mg_doors *doors, struct mg_sb *json)
{
	const struct mg_catalog_data *data = mg_catalog_take(doors->options.catalog);
	struct mg_replica *replica = mg_engine_replica(doors->options.engine);

	mg_sb_add(json, ", \"coordinator\": ");
	add_leader(json, data, mg_replica_leader(replica, 0));
	mg_sb_add(json, ", \"leaders\": [");
	for (uint32_t shard = 0; shard <= data->shard_count; shard++) {
		mg_sb_addf(json, "%s{\"shard\": %u, \"node\": ", shard ? ", " : "", shard);
		add_leader(json, data, mg_replica_leader(replica, shard + 1));
		mg_sb_add_char(json, '}');
	}
	mg_sb_add_char(json, ']');
	mg_catalog_give(doors->options.catalog, data);
}

static void get_status(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                       enum mg_role role)
{
	const char *why = why_unhealthy(doors);
	size_t running, waiting, running_max;
	struct mg_door_counts counts;
	struct mg_sb json = { 0 };

	(void)user;
	(void)role;
	mg_doors_count(doors, &counts);
	mg_admission_counts(mg_sessions_admission(doors->sessions), &running, &waiting, &running_max);
	mg_sb_add(&json, "{\"node\": ");
	mg_sb_add_json(&json, doors->node_name, strlen(doors->node_name));
	add_text(&json, "state", why ? "joining" : "ready");
	if (why) {
		add_text(&json, "reason", why);
	}
	add_text(&json, "version", MG_VERSION);
	add_text(&json, "engine", mg_duck_version());
	add_text(&json, "cluster", counts.cluster);
	mg_sb_addf(&json, ", \"uptime_seconds\": %.1f",
	           (double)(mg_clock_ms() - doors->started_ms) / 1000);
	mg_sb_addf(&json, ", \"workers\": %u, \"shards\": %u, \"tables\": %u", counts.workers,
	           counts.shards, counts.tables);
	mg_sb_addf(&json, ", \"queries\": {\"running\": %zu, \"waiting\": %zu, \"running_max\": %zu}",
	           running, waiting, running_max);
	mg_sb_addf(&json, ", \"sessions\": %zu, \"memory_resident_bytes\": %llu",
	           mg_sessions_count(doors->sessions), (unsigned long long)mg_os_resident_bytes());
	add_leaders(doors, &json);
	add_nodes(doors, &json);
	mg_sb_add(&json, "}\n");
	reply_text(request, 200, "application/json", mg_sb_text(&json));
	mg_sb_fini(&json);
}

static void set_gauge(const char *name, const char *help, uint64_t value)
{
	mg_metric_set(mg_metric_gauge(name, "", help), (int64_t)value);
}

static uint64_t staged_bytes(struct mg_replica *replica)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < mg_replica_kv_shards(replica); i++) {
		bytes += mg_kv_state_staged(mg_replica_kv_state(replica, i));
	}
	return bytes;
}

/* What is counted all the time lies in the registry; what is only known now is put there now. */
static void get_metrics(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                        enum mg_role role)
{
	size_t running, waiting, running_max;
	struct mg_door_counts counts;
	struct mg_sb text = { 0 };

	(void)user;
	(void)role;
	mg_doors_count(doors, &counts);
	mg_admission_counts(mg_sessions_admission(doors->sessions), &running, &waiting, &running_max);
	set_gauge("merganser_up", "1 when the node serves.", why_unhealthy(doors) ? 0 : 1);
	set_gauge("merganser_nodes", "Nodes that are ready, servers and workers.", counts.nodes);
	set_gauge("merganser_workers", "Workers that are ready.", counts.workers);
	set_gauge("merganser_shards", "Shards of the cluster.", counts.shards);
	set_gauge("merganser_queries_running", "Statements that hold a slot.", running);
	set_gauge("merganser_queries_waiting", "Statements that wait for a slot.", waiting);
	set_gauge("merganser_queries_running_max", "Slots.", running_max);
	set_gauge("merganser_query_threads", "Query threads.",
	          mg_pool_threads(mg_sessions_pool(doors->sessions)));
	set_gauge("merganser_idempotency_keys", "Keys of writes that are remembered or carried out.",
	          mg_once_count(doors->once));
	set_gauge("merganser_change_feeds", "Feeds of tables' changes that are open.",
	          (uint64_t)atomic_load(&doors->feeds));
	set_gauge("merganser_kv_watches", "Watches of keys that are open.",
	          (uint64_t)mg_rest_kv_watch_count(doors));
	set_gauge("merganser_kv_uploads", "Large values that are being put.",
	          (uint64_t)mg_kv_upload_count());
	set_gauge("merganser_kv_staged_bytes", "Bytes of large values that are no key's yet.",
	          staged_bytes(mg_engine_replica(doors->options.engine)));
	set_gauge("merganser_uptime_seconds", "Seconds since the start.",
	          (mg_clock_ms() - doors->started_ms) / 1000);
	set_gauge("process_resident_memory_bytes", "Resident memory.", mg_os_resident_bytes());
	mg_metrics_print(&text);
	reply_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", mg_sb_text(&text));
	mg_sb_fini(&text);
}

/* ---- doors behind a login that are no plain answers ---- */

static void open_worker(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                        enum mg_role role)
{
	struct mg_error err = { 0 };

	(void)role;
	if (doors->options.worker_upgrade) {
		(void)doors->options.worker_upgrade(doors->options.arg, request, user);
		return;
	}
	mg_error_set(&err, MG_E_NOT_FOUND, "this node takes no workers");
	mg_rest_error(request, &err, 0);
}

/* ---- routes ---- */

struct route {
	const char *path;
	bool prefix;         /* what begins with path */
	const char *methods; /* for Allow */
	void (*open)(struct mg_doors *doors, struct mg_http_request *request); /* without login */
	mg_logged_in *login;                                                   /* after it */
	enum mg_login_for who;
};

static const struct route routes[] = {
	{ "/", false, "GET, HEAD", get_page, NULL, MG_LOGIN_CLIENT },
	{ "/health", false, "GET, HEAD", get_health, NULL, MG_LOGIN_CLIENT },
	{ "/ping", false, "GET, HEAD", get_ping, NULL, MG_LOGIN_CLIENT },
	{ "/status", false, "GET, HEAD", NULL, get_status, MG_LOGIN_CLIENT },
	{ "/metrics", false, "GET, HEAD", NULL, get_metrics, MG_LOGIN_CLIENT },
	{ "/db/query", false, "GET, HEAD, POST", NULL, mg_rest_query, MG_LOGIN_CLIENT },
	{ "/db/execute", false, "POST", NULL, mg_rest_execute, MG_LOGIN_CLIENT },
	{ "/client", false, "GET", NULL, mg_shell_channel, MG_LOGIN_CLIENT },
	{ "/worker", false, "GET", NULL, open_worker, MG_LOGIN_WORKER },
	{ "/db/tx", false, "POST", NULL, mg_rest_tx_open, MG_LOGIN_CLIENT },
	{ "/db/tx/", true, "POST", NULL, mg_rest_tx_end, MG_LOGIN_CLIENT },
	{ MG_CHANGES_PATH, true, "GET", NULL, mg_rest_changes, MG_LOGIN_CLIENT },
	{ "/join", false, "POST", mg_rest_join, NULL, MG_LOGIN_CLIENT },
	{ MG_NODES_PATH, true, "PUT", NULL, mg_rest_node, MG_LOGIN_CLIENT },
	{ "/cluster/check", false, "GET, POST", NULL, mg_rest_cluster, MG_LOGIN_CLIENT },
	{ "/cluster/keys", false, "PUT", NULL, mg_rest_enable_keys, MG_LOGIN_CLIENT },
	{ "/cluster/rebalance", false, "GET, POST", NULL, mg_rest_cluster, MG_LOGIN_CLIENT },
	{ "/set", false, "PUT", NULL, mg_rest_kv_set, MG_LOGIN_CLIENT },
	{ "/query", false, "POST", NULL, mg_rest_kv_query, MG_LOGIN_CLIENT },
	{ "/subscribe", false, "POST", NULL, mg_rest_kv_subscribe, MG_LOGIN_CLIENT },
	{ "/kv/", true, "GET, HEAD, PUT, DELETE, POST", NULL, mg_rest_kv, MG_LOGIN_CLIENT },
	{ "/jobs", true, "GET, HEAD, POST, DELETE", NULL, mg_rest_jobs, MG_LOGIN_CLIENT },
};

static const struct route *find_route(const char *path)
{
	for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
		const struct route *route = &routes[i];

		if (route->prefix ? strncmp(path, route->path, strlen(route->path)) == 0
		                  : strcmp(path, route->path) == 0) {
			return route;
		}
	}
	return NULL;
}

/* Labels are routes of ours, so a stranger cannot make series. */
static void count_answer(struct mg_http_request *request, int status)
{
	const struct route *route = find_route(mg_http_path(request));
	char labels[80];

	(void)snprintf(labels, sizeof labels, "path=\"%s\",status=\"%d\"",
	               route ? route->path : "other", status);
	mg_metric_add(
		mg_metric_counter("merganser_http_requests_total", labels, "HTTP requests answered."), 1);
}

void mg_rest_count(struct mg_http_request *request, int status)
{
	count_answer(request, status);
}

static bool method_allowed(const struct route *route, const char *method)
{
	size_t len = strlen(method);

	for (const char *at = strstr(route->methods, method); at; at = strstr(at + 1, method)) {
		if ((at == route->methods || at[-1] == ' ') && (at[len] == ',' || at[len] == '\0')) {
			return true;
		}
	}
	return false;
}

static void refuse_method(struct mg_http_request *request, const struct route *route)
{
	char allow[80];
	struct mg_sb json = { 0 };
	struct mg_error err = { 0 };

	(void)snprintf(allow, sizeof allow, "Allow: %s\r\n", route->methods);
	mg_error_set(&err, MG_E_USAGE, "method %s is not allowed at \"%s\"", mg_http_method(request),
	             mg_http_path(request));
	mg_error_hint(&err, "Allowed: %s.", route->methods);
	mg_sb_add(&json, "{\"error\": ");
	mg_error_json(&json, &err);
	mg_sb_add(&json, "}\n");
	count_answer(request, 405);
	mg_http_reply(request, 405, "application/json", mg_sb_text(&json), json.len, allow);
	mg_sb_fini(&json);
}

/* A value that is not small, or may not be, comes in parts. */
static size_t kv_body(struct mg_http_request *request)
{
	if (strcmp(mg_http_method(request), "PUT") != 0) {
		return strcmp(mg_http_method(request), "POST") == 0 ? KV_BATCH_MAX : OTHER_BODY_MAX;
	}
	if (mg_http_body_length(request) > MG_KV_VALUE_MAX) {
		mg_http_stream_body(request);
	}
	return MG_KV_LARGE_MAX;
}

size_t mg_rest_head(struct mg_http_request *request, void *arg)
{
	const char *path = mg_http_path(request);
	bool sql = strcmp(path, "/db/query") == 0 || strcmp(path, "/db/execute") == 0;

	(void)arg;
	if (strcmp(path, "/db/execute") == 0 && mg_http_query(request, "sql")) {
		return COPY_BODY_MAX; /* rows */
	}
	if (strcmp(path, "/jobs") == 0) {
		return JOB_BODY_MAX;
	}
	if (strncmp(path, "/kv/", strlen("/kv/")) == 0) {
		return kv_body(request);
	}
	if (strcmp(path, "/set") == 0) {
		return 2 * MG_KV_VALUE_MAX + OTHER_BODY_MAX + 2 * MG_KV_KEY_MAX; /* in hex */
	}
	return sql ? SQL_BODY_MAX : strcmp(path, "/query") == 0 ? 2 * MG_KV_KEY_MAX : OTHER_BODY_MAX;
}

void mg_rest_request(struct mg_http_request *request, void *arg)
{
	struct mg_doors *doors = arg;
	const struct route *route = find_route(mg_http_path(request));
	struct mg_error err = { 0 };

	if (atomic_load(&doors->stopping)) {
		refuse_stopping(request);
	} else if (!route) {
		mg_error_set(&err, MG_E_NOT_FOUND, "there is nothing at \"%s\"", mg_http_path(request));
		mg_error_hint(&err, "GET / lists the doors.");
		mg_rest_error(request, &err, 404);
	} else if (!method_allowed(route, mg_http_method(request))) {
		refuse_method(request, route);
	} else if (route->open) {
		route->open(doors, request);
	} else if (route->login == mg_shell_channel && mg_old_channel_wanted(doors, request)) {
		mg_old_channel(doors, request);
	} else {
		mg_rest_login(doors, request, route->who, route->login);
	}
}
