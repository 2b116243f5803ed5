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
#include "door/doors.h"
#include "exec/engine.h"
#include "exec/hub.h"
#include "job/nursery.h"
#include "mg_version.h"
#include "net/net.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "replica/replica.h"
#include "replica/seed.h"
#include "server/address.h"
#include "server/join.h"
#include "server/membership.h"
#include "server/node_file.h"
#include "server/open_dir.h"
#include "server/peering.h"
#include "server/reenter.h"
#include "server/signals.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOPS_MAX 16
#define TICK_MS 1000u
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
	_Atomic(struct mg_doors *) open_doors; /* NULL: not yet */
	struct mg_peering *peering;
	struct mg_nursery *nursery;
	struct mg_tls *tls;
	struct mg_loop *loops[LOOPS_MAX];
	size_t loop_count;
	struct mg_listener *listener, *http_listener, *redis_listener, *peer_listener;
	char cert_path[4096], key_path[4096], ca_path[4096];
	time_t cert_time;
	struct mg_join_host join; /* set before the first loop */
	struct mg_membership *membership;
	atomic_bool renewed; /* certificates: read them again */
	atomic_bool serving;
	bool lost_log; /* why it could not start */
};

/* ---- the data directory ---- */

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

/* ---- workers ---- */

static int worker_upgrade(void *arg, struct mg_http_request *request, const char *user)
{
	(void)user;
	struct server *server = arg;
	mg_hub_accept(mg_engine_hub(server->engine), request);
	return 0;
}

static int catch_up(void *arg, struct mg_error *err)
{
	struct server *server = arg;
	return mg_replica_read_barrier(mg_engine_replica(server->engine), NULL, 0, err);
}

static int has_replicas(void *arg, uint64_t number, bool *has, struct mg_error *err)
{
	struct server *server = arg;
	return mg_replica_has_member(mg_engine_replica(server->engine), number, has, err);
}

static int let_join(void *arg, const struct mg_join_caller *caller, struct mg_str body,
                    struct mg_sb *answer, struct mg_error *err)
{
	struct server *server = arg;
	return mg_join_serve(&server->join, caller, body, answer, err);
}

/* ---- what cluster.replicas and cluster.events show ---- */

struct replicas {
	struct mg_replica_info *infos;
	size_t count, max;
};

static void add_replica(struct replicas *replicas, const struct mg_replica_info *info)
{
	if (replicas->count < replicas->max) {
		replicas->infos[replicas->count] = *info;
	}
	replicas->count++;
}

static void add_copy(void *arg, const struct mg_hub_copy *copy)
{
	struct mg_replica_info info = {
		.shard = copy->shard,
		.role = "worker",
		.state = copy->state,
		.lag = copy->known ? (int64_t)copy->lag : -1,
		.lag_ms = copy->known ? (int64_t)copy->lag_ms : -1,
		.applied = copy->known ? (int64_t)copy->index : -1,
	};
	mg_copy_text(info.node, sizeof info.node, copy->worker);
	add_replica(arg, &info);
}

static void add_servers(struct server *server, struct replicas *replicas)
{
	struct mg_replica *replica = mg_engine_replica(server->engine);
	size_t max = mg_replica_copies(replica, NULL, 0) + 64;
	struct mg_copy_info *copies = mg_alloc0(max * sizeof *copies);
	size_t count = mg_replica_copies(replica, copies, max);
	for (size_t i = 0; i < count && i < max; i++) {
		struct mg_replica_info info = {
			.shard = copies[i].shard,
			.role = copies[i].leads   ? "leader"
			        : copies[i].votes ? "voter"
			                          : "standby",
			.state = copies[i].mending     ? "rebuilding"
			         : copies[i].connected ? "ready"
			                               : "down",
			.lag = copies[i].lag,
			.lag_ms = -1,
			.applied = -1,
		};
		mg_copy_text(info.node, sizeof info.node, copies[i].id);
		add_replica(replicas, &info);
	}
	mg_free(copies);
}

static size_t list_replicas(void *arg, struct mg_replica_info *infos, size_t max)
{
	struct server *server = arg;
	struct replicas replicas = { .infos = infos, .max = max };
	add_servers(server, &replicas);
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
	return atomic_load(&server->serving) ? mg_engine_unready(server->engine)
	                                     : "the server is starting, or stopping";
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
		.peers = mg_peering_accept(server->peering),
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

/* Where others are told to find this node: needs the listener. */
static void settle_address(struct server *server)
{
	const struct mg_catalog_data *data = mg_catalog_take(server->catalog);
	const struct mg_catalog_node *self = mg_catalog_find_node(data, server->number);
	const struct mg_address_wish wish = {
		.listen = server->options->listen,
		.advertise = server->options->advertise,
		.port = mg_listener_port(server->listener),
		.before = self ? self->address : NULL,
		.seeds = server->options->join,
	};
	mg_free(server->advertise);
	server->advertise = mg_server_address(&wish, NULL);
	mg_catalog_give(server->catalog, data);
}

/* Nobody has said where this server is. */
static bool address_is_a_guess(const struct mg_server_options *options)
{
	bool guess;
	mg_free(mg_server_address(
		&(struct mg_address_wish){ .listen = options->listen, .advertise = options->advertise },
		&guess));
	return guess;
}

/* A certificate of our own CA names the host that others are told, when it is known now; and is not
 * at its end. */
static int renew_certificate(struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	char host[256] = "", port[8];
	bool guess = address_is_a_guess(options);
	char *address = mg_server_address(
		&(struct mg_address_wish){ .listen = options->listen, .advertise = options->advertise },
		NULL);
	int code = guess ? 0 : mg_net_split(address, host, sizeof host, port, sizeof port, err);
	if (!code) {
		code = mg_cert_server_ensure(server->data_dir, options->tls_key_password,
		                             host[0] ? host : NULL, err);
	}
	mg_free(address);
	return code;
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

/* Other nodes and clients come to the same port; before the doors are open clients hear to wait. */
static bool choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	struct server *server = arg;
	struct mg_doors *doors = atomic_load(&server->open_doors);
	if (strcmp(mg_conn_alpn(conn), MG_NET_ALPN_PEER) == 0) {
		return mg_peering_choose(conn, server->peering, bytes, size);
	}
	return doors ? mg_doors_choose(conn, doors, bytes, size)
	             : mg_doors_choose_closed(conn, NULL, bytes, size);
}

static bool choose_redis(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	struct server *server = arg;

	return mg_doors_choose_redis(conn, atomic_load(&server->open_doors), bytes, size);
}

static int listen_at(struct server *server, const char *host_port, struct mg_listener **out,
                     struct mg_error *err)
{
	struct mg_listen_options options = {
		.host_port = host_port,
		.tls = server->tls,
		.plain_loopback = server->options->plain_loopback,
		.plain_any = server->options->plain_any,
		.choose = out == &server->redis_listener ? choose_redis : choose,
		.arg = server,
	};
	return mg_listen(out, server->loops, server->loop_count, &options, err);
}

/* ---- life ---- */

static void on_renewed(void *arg)
{
	struct server *server = arg;
	atomic_store(&server->renewed, true);
}

static int start_membership(struct server *server, struct mg_error *err)
{
	const struct mg_membership_options options = {
		.data_dir = server->data_dir,
		.catalog = server->catalog,
		.number = server->number,
		.node_id = server->node_id,
		.address = server->advertise,
		.seeds = server->options->join,
		.key_password = server->options->tls_key_password,
		.renewed = on_renewed,
		.arg = server,
	};
	return mg_membership_start(&server->membership, &options, err);
}

static int open_net(struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	const struct mg_catalog_data *data = mg_catalog_take(server->catalog);
	bool alone = server->number == 1 && data->node_count <= 1;
	mg_catalog_give(server->catalog, data);
	int code = mg_peering_open(&server->peering, server->data_dir, server->number, alone, err);
	code = code ? code : renew_certificate(server, err);
	code = code ? code : open_tls(server, err);
	code = code ? code : start_loops(server, err);
	code = code ? code : listen_at(server, options->listen, &server->listener, err);
	if (!code && options->listen_http) {
		code = listen_at(server, options->listen_http, &server->http_listener, err);
	}
	if (!code && options->listen_redis) {
		code = listen_at(server, options->listen_redis, &server->redis_listener, err);
	}
	if (!code && options->listen_peers) {
		code = listen_at(server, options->listen_peers, &server->peer_listener, err);
	}
	if (!code) {
		settle_address(server);
		code = write_node_file(server, err);
	}
	return code;
}

static bool is_stopped(void *arg, unsigned ms)
{
	(void)arg;
	return mg_signals_wait(ms) > 0;
}

/* A node that has just joined has no rows: its groups began elsewhere. */
static int seed(struct server *server, struct mg_error *err)
{
	if (server->number == 1) {
		return 0;
	}
	const struct mg_seed_options options = {
		.dir = server->data_dir,
		.self = server->number,
		.catalog = server->catalog,
		.program = mg_peering_program(),
		.name = server->node_id,
		.address = server->advertise,
		.tls = mg_peering_dial(server->peering),
		.stopped = is_stopped,
		.arg = server,
	};
	return mg_seed(&options, err);
}

static int open_engine(struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	const struct mg_catalog_data *data = mg_catalog_take(server->catalog);
	struct mg_engine_options engine = {
		.data_dir = server->data_dir,
		.node_name = server->node_id,
		.address = server->advertise,
		.threads = options->threads,
		.memory_bytes = options->memory_bytes,
		.query_memory_bytes = options->query_memory_bytes,
		.changes_bytes = options->changes_bytes,
		.no_leases = options->no_leases,
		.copy_paths = options->copy_paths,
		.copy_paths_write = options->copy_paths_write,
		.write_bytes = options->write_bytes,
		.catalog = server->catalog,
		.number = server->number,
		.dead_after_ms = options->dead_after_ms,
		.check_ms = options->check_ms,
		.peers = mg_peering_join_loop(server->peering, server->loops[0], data->cluster_id,
		                              server->node_id, server->advertise),
	};
	mg_catalog_give(server->catalog, data);
	return mg_engine_open(&server->engine, &engine, err);
}

static int open_doors(struct server *server, struct mg_error *err)
{
	const struct mg_server_options *options = server->options;
	server->login = mg_login_new(server->catalog);
	server->join = (struct mg_join_host){ .data_dir = server->data_dir,
		                                  .catalog = server->catalog,
		                                  .self = server->number,
		                                  .other_client_ca = options->client_ca != NULL,
		                                  .catch_up = catch_up,
		                                  .has_replicas = has_replicas,
		                                  .arg = server };
	if (!options->no_jobs) {
		server->nursery =
			mg_nursery_new(&(struct mg_nursery_options){ .python = options->python });
	}
	struct mg_doors_options doors = {
		.engine = server->engine,
		.catalog = server->catalog,
		.login = server->login,
		.node_name = server->node_id,
		.nursery = server->nursery,
		.require_cert = options->require_client_cert,
		.running_max = options->queries_max,
		.worker_upgrade = worker_upgrade,
		.unhealthy = unhealthy,
		.replicas = list_replicas,
		.join = let_join,
		.settings = options->settings,
		.setting_count = options->setting_count,
		.idle_ms = options->idle_ms,
		.message_max = options->message_max,
		.silence_ms = options->ping_timeout_ms,
		.arg = server,
	};
	int code = mg_doors_new(&server->doors, &doors, err);
	if (!code) {
		mg_engine_on_event(server->engine, on_event, server);
		mg_hub_limits(mg_engine_hub(server->engine), options->worker_timeout_ms,
		              options->message_max);
	}
	return code;
}

static int start(struct server *server, struct mg_error *err)
{
	int code =
		mg_server_open_dir(server->options, server->data_dir, &server->lock, &server->catalog, err);
	if (code) {
		return code;
	}
	read_node_file(server);
	struct mg_log_options log = server->options->log;
	log.node = server->node_id;
	if (mg_log_open(&log)) {
		return mg_error_set(err, MG_E_IO, "cannot open the log \"%s\"", log.path);
	}
	code = open_net(server, err);
	if (!code) {
		code = seed(server, err);
		server->lost_log = code == MG_E_CORRUPT;
	}
	if (!code) {
		code = open_engine(server, err);
		server->lost_log = code && mg_engine_lost_log(server->engine);
	}
	/* The first one stands in the catalog before others can come through it. */
	code = code ? code : start_membership(server, err);
	code = code ? code : open_doors(server, err);
	if (!code) {
		atomic_store(&server->serving, true);
		atomic_store(&server->open_doors, server->doors);
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
	mg_peering_reload(server->peering);
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
		bool reload = mg_signals_take_reload() | atomic_exchange(&server->renewed, false);
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
	mg_membership_stop(server->membership);
	if (server->listener) {
		mg_listener_close(server->listener);
	}
	if (server->http_listener) {
		mg_listener_close(server->http_listener);
	}
	if (server->redis_listener) {
		mg_listener_close(server->redis_listener);
	}
	if (server->peer_listener) {
		mg_listener_close(server->peer_listener);
	}
	if (server->doors) {
		mg_engine_on_event(server->engine, NULL, NULL);
		mg_doors_stop(server->doors);
	}
	/* Workers hang on loops and queries on workers: these go while the loops still turn; but what
	 * comes from other nodes may be posted until no loop turns any more. */
	if (server->engine) {
		mg_engine_stop(server->engine);
	}
	mg_peering_stop(server->peering);
	for (size_t i = 0; i < server->loop_count; i++) {
		mg_loop_stop(server->loops[i]);
	}
	mg_engine_close(server->engine);
	mg_peering_free(server->peering);
	mg_doors_free(server->doors);
	mg_nursery_free(server->nursery);
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

/* With its log a node has lost its votes: it becomes another node of its cluster, which takes the
 * data of the others, and starts again. */
static int start_anew(struct server *server, struct mg_error *err)
{
	const struct mg_reenter_options options = {
		.data_dir = server->data_dir,
		.catalog = server->catalog,
		.number = server->number,
		.node_id = server->node_id,
		.address = server->advertise,
		.stopped = is_stopped,
		.arg = server,
	};
	if (!server->lost_log || !mg_reenter_can(&options)) {
		return err->code;
	}
	fprintf(stderr,
	        "merganser server: %s\nmerganser server: the log is lost: this server enters its "
	        "cluster anew, as another node, as soon as a majority of the others is there\n",
	        err->message);
	mg_log(MG_LOG_ERROR, "server.log.lost", "server=%llu error=\"%s\"",
	       (unsigned long long)server->number, err->message);
	struct mg_error why = *err;
	mg_error_clear(err);
	int code = mg_reenter_ask(&options, err);
	if (code) {
		mg_error_detail(err, "It must, because: %s.", why.message);
		return code;
	}
	const struct mg_server_options *given = server->options;
	stop(server);
	*server = (struct server){ .options = given, .lock = -1 };
	server->data_dir = mg_strdup(given->data_dir ? given->data_dir : "./merganser-data");
	return start(server, err);
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
	if (!code && options->require_client_cert && options->plain_loopback) {
		code = mg_error_set(&err, MG_E_USAGE,
		                    "--require-client-cert and --insecure-plaintext exclude each other: "
		                    "without TLS nobody can show a certificate");
	}
	if (!code) {
		code = start(&server, &err);
		code = code ? start_anew(&server, &err) : 0;
	}
	if (code) {
		fprintf(stderr, "merganser server: %s\n", err.message);
		if (err.detail[0]) {
			fprintf(stderr, "detail: %s\n", err.detail);
		}
		if (code == MG_E_DISK_FULL && !err.hint[0]) {
			mg_error_hint(&err, "Make room in \"%s\", then start it again: nothing is lost.",
			              server.data_dir);
		}
		if (err.hint[0]) {
			fprintf(stderr, "hint: %s\n", err.hint);
		}
	} else {
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
