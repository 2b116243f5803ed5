/*
 * server.c - see server.h.
 *
 * Rule: what is opened is closed in reverse, on every path; a kill -9 at any point leaves nothing
 * that hinders the next start (the directory's lock is the kernel's, spilled rows are removed at
 * start).
 *
 * Owner: the main thread.
 */
#include "server/server.h"

#include "auth/auth.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/node_table.h"
#include "door/doors.h"
#include "exec/engine.h"
#include "exec/hub.h"
#include "mg_version.h"
#include "net/net.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "server/bootstrap.h"
#include "server/node_file.h"
#include "server/signals.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOPS_MAX 16
#define TICK_MS 1000u
#define FRESH_SHARDS 4
#define STOP_MAX_S 6
#define SHED_MAX 1024

struct server {
	const struct mg_server_options *options;
	char *data_dir, *node_id, *advertise;
	uint64_t number; /* of the node in the cluster */
	int lock;
	struct mg_catalog *catalog;
	struct mg_engine *engine;
	struct mg_login *login;
	struct mg_doors *doors;
	struct mg_tls *tls;
	struct mg_loop *loops[LOOPS_MAX];
	size_t loop_count;
	struct mg_listener *listener, *http_listener;
	char cert_path[4096], key_path[4096], ca_path[4096];
	time_t cert_time;
	atomic_bool serving;
};

/* ---- the data directory ---- */

/* An empty directory becomes a cluster of its own: keys, an admin, empty shards. */
static int make_fresh(struct server *server, struct mg_error *err)
{
	struct mg_bootstrap_options options = {
		.data_dir = server->data_dir,
		.client_username = "admin",
		.shard_count = FRESH_SHARDS,
		.tpch_scale_factor = 0,
	};
	struct mg_bootstrap_report report;
	memset(&report, 0, sizeof report);
	int code = mg_bootstrap_run(&options, &report, err);
	if (!code) {
		fprintf(stderr, "merganser: made a new cluster in \"%s\"\n", server->data_dir);
		mg_bootstrap_print_passwords(&report, stderr);
	}
	return code;
}

/* A bootstrap that was killed leaves a directory that only another bootstrap should touch. */
static int check_complete(struct server *server, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(server->catalog);
	bool complete = mg_bootstrap_complete(data);
	mg_catalog_give(server->catalog, data);
	if (complete) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE,
	             "the bootstrap of \"%s\" was interrupted: some shards are missing",
	             server->data_dir);
	mg_error_hint(err, "Run \"merganser bootstrap --data-dir %s\" again: it makes what is missing.",
	              server->data_dir);
	return MG_E_USAGE;
}

/* Before a directory is made: a start that cannot succeed leaves nothing behind. */
static int check_addresses(const struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	const char *addresses[] = { options->listen, options->listen_http };

	return mg_listen_check(addresses, options->listen_http ? 2 : 1, err);
}

static int open_directory(struct server *server, struct mg_error *err)
{
	int code = mg_catalog_exists(server->data_dir) ? 0 : check_addresses(server, err);
	if (!code) {
		code = mg_dir_make(server->data_dir, 0700, err);
	}
	if (!code) {
		code = mg_dir_lock(server->data_dir, &server->lock, err);
	}
	if (code) {
		return code;
	}
	code = mg_catalog_load(&server->catalog, server->data_dir, err);
	if (!code) {
		return check_complete(server, err);
	}
	if (code != MG_E_NOT_FOUND) {
		return code;
	}
	mg_error_clear(err);
	/* Bootstrap takes the lock itself. */
	mg_dir_unlock(server->lock);
	server->lock = -1;
	code = make_fresh(server, err);
	if (!code) {
		code = mg_dir_lock(server->data_dir, &server->lock, err);
	}
	return code ? code : mg_catalog_load(&server->catalog, server->data_dir, err);
}

/* The node's name: as given, else as before, else "server-1".  Its number: as before, else 1. */
static void read_node_file(struct server *server)
{
	struct mg_node_file before;
	const char *given = server->options->node_id;
	mg_node_file_read(server->data_dir, &before);
	server->node_id = mg_strdup(given ? given : before.id ? before.id : "server-1");
	server->number = before.number ? before.number : 1;
	mg_node_file_free(&before);
}

/* What a local client needs to find us: the shell looks for "listen". */
static int write_node_file(struct server *server, struct mg_error *err)
{
	const struct mg_node_file now = { .number = server->number,
		                              .id = server->node_id,
		                              .listen = server->advertise };
	return mg_node_file_write(server->data_dir, &now, err);
}

/* Into the catalog's nodes, with the name and the address of now. */
static int enter_node_table(struct server *server, struct mg_error *err)
{
	const struct mg_node_claim claim = { .number = server->number,
		                                 .id = server->node_id,
		                                 .address = server->advertise };
	uint64_t number;
	return mg_node_enter(server->catalog, &claim, &number, err);
}

/* ---- workers ---- */

static int worker_upgrade(void *arg, struct mg_http_request *request, const char *user)
{
	(void)user;
	struct server *server = arg;
	mg_hub_accept(mg_engine_hub(server->engine), request);
	return 0;
}

/* ---- what cluster.replicas and cluster.events show ---- */

struct replicas {
	struct mg_replica_info *infos;
	size_t count, max;
};

static void add_replica(struct replicas *replicas, const char *node, const char *role,
                        const char *state, uint32_t shard)
{
	if (replicas->count < replicas->max) {
		struct mg_replica_info *info = &replicas->infos[replicas->count];
		*info = (struct mg_replica_info){ .shard = shard, .role = role, .state = state };
		mg_copy_text(info->node, sizeof info->node, node);
	}
	replicas->count++;
}

static void add_copy(void *arg, const char *worker, uint32_t shard, bool held)
{
	add_replica(arg, worker, "worker", held ? "ready" : "copying", shard);
}

static size_t list_replicas(void *arg, struct mg_replica_info *infos, size_t max)
{
	struct server *server = arg;
	struct replicas replicas = { .infos = infos, .max = max };
	const struct mg_catalog_data *data = mg_catalog_take(server->catalog);
	for (uint32_t shard = 0; data->table_count && shard <= data->shard_count; shard++) {
		add_replica(&replicas, server->node_id, "server", "ready", shard);
	}
	mg_catalog_give(server->catalog, data);
	mg_hub_copies(mg_engine_hub(server->engine), add_copy, &replicas);
	return replicas.count;
}

static void on_event(void *arg, const char *event, const char *worker)
{
	struct server *server = arg;
	mg_system_tables_event(mg_sessions_tables(mg_doors_sessions(server->doors)), event, worker);
}

static const char *unhealthy(void *arg)
{
	struct server *server = arg;
	return atomic_load(&server->serving) ? NULL : "the server is stopping";
}

/* ---- listening ---- */

static int open_tls(struct server *server, struct mg_error *err)
{
	snprintf(server->cert_path, sizeof server->cert_path, "%s/tls/server.crt", server->data_dir);
	snprintf(server->key_path, sizeof server->key_path, "%s/tls/server.key", server->data_dir);
	snprintf(server->ca_path, sizeof server->ca_path, "%s/tls/ca.crt", server->data_dir);
	static const char *const alpn[] = { "http/1.1", NULL };
	const char *ca = server->options->client_ca        ? server->options->client_ca
	                 : mg_file_exists(server->ca_path) ? server->ca_path
	                                                   : NULL;
	struct mg_tls_server_options options = {
		.cert_file = server->cert_path,
		.key_file = server->key_path,
		.key_password = server->options->tls_key_password,
		.client_ca_file = ca,
		.alpn = alpn,
	};
	if (server->options->require_client_cert && !ca) {
		mg_error_set(
			err, MG_E_USAGE,
			"--require-client-cert needs the CA of the certificates, and \"%s\" is missing",
			server->ca_path);
		mg_error_hint(err, "Name it with --client-ca CA.crt.");
		return MG_E_USAGE;
	}
	if (!ca) {
		mg_log(MG_LOG_WARN, "tls.no_client_ca", "missing=%s", server->ca_path);
	}
	struct stat info;
	server->cert_time = stat(server->cert_path, &info) == 0 ? info.st_mtime : 0;
	return mg_tls_server(&server->tls, &options, err);
}

/* The advertised address; with port 0 the one that the system chose. */
static void settle_address(struct server *server)
{
	const char *given = server->options->advertise ? server->options->advertise
	                                               : server->options->listen;
	const char *colon = strrchr(given, ':');
	size_t host_len = colon ? (size_t)(colon - given) : strlen(given);
	bool any = host_len == 0 || (host_len == 7 && memcmp(given, "0.0.0.0", 7) == 0) ||
	           (host_len == 4 && memcmp(given, "[::]", 4) == 0);
	uint16_t port = mg_listener_port(server->listener);
	mg_free(server->advertise);
	server->advertise = any ? mg_format("localhost:%u", port)
	                        : mg_format("%.*s:%u", (int)host_len, given, port);
}

static int start_loops(struct server *server, struct mg_error *err)
{
	size_t want = server->options->loops            ? server->options->loops
	              : mg_engine_default_threads() > 2 ? 2
	                                                : 1;
	want = want > LOOPS_MAX ? LOOPS_MAX : want;
	int code = 0;
	while (!code && server->loop_count < want) {
		char name[32];
		snprintf(name, sizeof name, "loop-%zu", server->loop_count);
		code = mg_loop_start(&server->loops[server->loop_count], name, err);
		server->loop_count += !code;
	}
	return code;
}

static int listen_at(struct server *server, const char *host_port, struct mg_listener **out,
                     struct mg_error *err)
{
	struct mg_listen_options options = {
		.host_port = host_port,
		.tls = server->tls,
		.plain_loopback = server->options->plain_loopback,
		.plain_any = server->options->plain_any,
		.choose = mg_doors_choose,
		.arg = server->doors,
	};
	return mg_listen(out, server->loops, server->loop_count, &options, err);
}

/* ---- life ---- */

static int start(struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	int code = open_directory(server, err);
	if (code) {
		return code;
	}
	read_node_file(server);
	struct mg_log_options log = options->log;
	log.node = server->node_id;
	if (mg_log_open(&log)) {
		return mg_error_set(err, MG_E_IO, "cannot open the log \"%s\"", log.path);
	}
	struct mg_engine_options engine = {
		.data_dir = server->data_dir,
		.node_name = server->node_id,
		.address = options->advertise ? options->advertise : options->listen,
		.threads = options->threads,
		.memory_bytes = options->memory_bytes,
		.query_memory_bytes = options->query_memory_bytes,
		.catalog = server->catalog,
	};
	code = open_tls(server, err);
	if (!code) {
		code = mg_engine_open(&server->engine, &engine, err);
	}
	if (!code) {
		server->login = mg_login_new(server->catalog);
		struct mg_doors_options doors = {
			.engine = server->engine,
			.catalog = server->catalog,
			.login = server->login,
			.node_name = server->node_id,
			.require_cert = options->require_client_cert,
			.running_max = options->queries_max,
			.worker_upgrade = worker_upgrade,
			.unhealthy = unhealthy,
			.replicas = list_replicas,
			.settings = options->settings,
			.setting_count = options->setting_count,
			.idle_ms = options->idle_ms,
			.message_max = options->message_max,
			.silence_ms = options->ping_timeout_ms,
			.arg = server,
		};
		code = mg_doors_new(&server->doors, &doors, err);
	}
	if (!code) {
		mg_hub_on_event(mg_engine_hub(server->engine), on_event, server);
		mg_hub_limits(mg_engine_hub(server->engine), options->worker_timeout_ms,
		              options->message_max);
	}
	if (!code) {
		code = start_loops(server, err);
	}
	if (!code) {
		code = listen_at(server, options->listen, &server->listener, err);
	}
	if (!code && options->listen_http) {
		code = listen_at(server, options->listen_http, &server->http_listener, err);
	}
	if (!code) {
		settle_address(server);
		code = write_node_file(server, err);
	}
	if (!code) {
		code = enter_node_table(server, err);
	}
	return code;
}

/* A new certificate in the directory is taken up without a restart. */
static void watch_certificate(struct server *server, bool asked)
{
	struct stat info;
	if (stat(server->cert_path, &info) != 0 || (!asked && info.st_mtime == server->cert_time)) {
		return;
	}
	server->cert_time = info.st_mtime;
	struct mg_error err;
	mg_error_clear(&err);
	if (mg_tls_reload(server->tls, &err)) {
		mg_log(MG_LOG_ERROR, "tls.reload", "error=\"%s\"", err.message);
	} else {
		mg_log(MG_LOG_INFO, "tls.reload", "certificate=\"%s\"", server->cert_path);
	}
}

struct shedding {
	size_t max;    /* statements to end; 0: memory is not short */
	bool settling; /* those that were ended last are giving back their memory */
};

/* The reserve of memory was opened: statements are ended until it stays closed, twice as many each
 * time, because one that came late need not be the one that is greedy. */
static void shed(struct server *server, struct shedding *shedding)
{
	bool is_short = mg_os_memory_short();
	if (shedding->settling) {
		shedding->settling = false;
		return;
	}
	if (!is_short) {
		shedding->max = 0;
		return;
	}
	shedding->max = !shedding->max             ? 1
	                : shedding->max < SHED_MAX ? shedding->max * 2
	                                           : shedding->max;
	shedding->settling = true;
	size_t count = mg_sessions_shed(mg_doors_sessions(server->doors), shedding->max);
	mg_log(MG_LOG_WARN, "memory.short", "ended=%zu", count);
}

static void serve(struct server *server)
{
	uint64_t next_tick = 0;
	struct shedding shedding = { 0 };
	while (!mg_signals_wait(TICK_MS / 4)) {
		uint64_t now = mg_clock_ms();
		shed(server, &shedding);
		mg_os_memory_fence();
		bool reload = mg_signals_take_reload();
		if (now >= next_tick || reload) {
			mg_hub_tick(mg_engine_hub(server->engine));
			watch_certificate(server, reload);
			next_tick = now + TICK_MS;
		}
	}
}

/* A function call inside of the engine cannot be interrupted and may take minutes. Who stops a node
 * does not wait for it: files are read-only here, and the kernel gives back the rest. */
static void *end_anyway(void *arg)
{
	(void)arg;
	struct timespec rest = { .tv_sec = STOP_MAX_S };

	while (nanosleep(&rest, &rest) != 0) {
	}
	mg_log(MG_LOG_WARN, "server.stop", "forced=true waited_s=%d", STOP_MAX_S);
	_exit(0);
	return NULL;
}

static void stop(struct server *server)
{
	pthread_t guard;

	if (server->doors && pthread_create(&guard, NULL, end_anyway, NULL) == 0) {
		pthread_detach(guard);
	}
	atomic_store(&server->serving, false);
	if (server->listener) {
		mg_listener_close(server->listener);
	}
	if (server->http_listener) {
		mg_listener_close(server->http_listener);
	}
	if (server->doors) {
		mg_hub_on_event(mg_engine_hub(server->engine), NULL, NULL);
		mg_doors_stop(server->doors);
	}
	/* Workers hang on loops and queries on workers: the engine goes while the loops still turn. */
	mg_engine_close(server->engine);
	for (size_t i = 0; i < server->loop_count; i++) {
		mg_loop_stop(server->loops[i]);
	}
	mg_doors_free(server->doors);
	if (server->login) {
		mg_login_free(server->login);
	}
	mg_tls_unref(server->tls);
	mg_catalog_free(server->catalog);
	mg_dir_unlock(server->lock);
	mg_free(server->data_dir);
	mg_free(server->node_id);
	mg_free(server->advertise);
}

int mg_server_main(const struct mg_server_options *options)
{
	struct mg_error err;
	mg_error_clear(&err);
	struct server server = { .options = options, .lock = -1 };
	server.data_dir = mg_strdup(options->data_dir ? options->data_dir : "./merganser-data");
	mg_signals_watch();
	mg_os_memory_fence();
	int code = 0;
	uint64_t started = mg_clock_ms();
	if (options->join) {
		code = mg_error_set(&err, MG_E_UNSUPPORTED,
		                    "--join: more than one server comes with replication, which this "
		                    "version does not have");
		mg_error_hint(&err, "Start workers instead: \"merganser worker --server %s\".",
		              options->join);
	}
	if (!code && options->require_client_cert && options->plain_loopback) {
		code = mg_error_set(&err, MG_E_USAGE,
		                    "--require-client-cert and --insecure-plaintext exclude each other: "
		                    "without TLS nobody can show a certificate");
	}
	if (!code) {
		code = start(&server, &err);
	}
	if (code) {
		fprintf(stderr, "merganser server: %s\n", err.message);
		if (err.detail[0]) {
			fprintf(stderr, "detail: %s\n", err.detail);
		}
		if (err.hint[0]) {
			fprintf(stderr, "hint: %s\n", err.hint);
		}
	} else {
		atomic_store(&server.serving, true);
		mg_log(MG_LOG_INFO, "server.ready", "address=%s version=%s engine=%s ms=%llu",
		       server.advertise, MG_VERSION, mg_duck_version(),
		       (unsigned long long)(mg_clock_ms() - started));
		serve(&server);
		mg_log(MG_LOG_INFO, "server.stopping", "address=%s", server.advertise);
	}
	stop(&server);
	if (!code) {
		mg_log(MG_LOG_INFO, "server.stopped", "version=%s", MG_VERSION);
	}
	return code ? 1 : 0;
}
