/*
 * worker.c - see worker.h.
 *
 * Three threads: this one waits and decides; the loop owns the socket; the channel's thread calls
 * the node.
 */
#include "server/worker.h"

#include "base/mem.h"
#include "base/str.h"
#include "exec/worker_node.h"
#include "exec/worker_servers.h"
#include "mg_version.h"
#include "os/clock.h"
#include "os/limits.h"
#include "server/signals.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_MIN_MS 100u
#define PAUSE_MAX_MS 5000u
#define STEADY_MS 5000u /* a connection that lasted so long starts the pauses anew */
#define SILENCE_MAX_MS 15000u
#define DRAIN_MAX_MS 10000u
#define CLOSE_MAX_MS 2000u /* for the server's word that it has heard of our leaving */
#define DIAL_MS 10000u

enum link_state { LINK_DOWN, LINK_DIALLING, LINK_OPEN, LINK_CLOSED };

struct worker {
	const struct mg_worker_options *options;
	struct mg_worker_servers servers;
	char server[MG_SERVER_ADDRESS_MAX + 1]; /* that is dialled, or served */
	struct mg_worker_node *node;
	struct mg_loop *loop;
	struct mg_tls *tls;
	char *headers;
	pthread_mutex_t lock; /* guards what follows */
	enum link_state state;
	int http_status; /* of the upgrade; 0: none came */
	struct mg_channel *channel;
	bool leaving; /* what dialling comes to does not matter any more */
	char reason[512];
	char hint[512]; /* what to do about it; "": nothing known */
};

static void set_state(struct worker *worker, enum link_state state, const char *reason)
{
	pthread_mutex_lock(&worker->lock);
	worker->state = state;
	if (reason) {
		mg_copy_text(worker->reason, sizeof worker->reason, reason);
		worker->hint[0] = '\0';
	}
	pthread_mutex_unlock(&worker->lock);
}

static enum link_state get_state(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	enum link_state state = worker->state;
	pthread_mutex_unlock(&worker->lock);
	return state;
}

/* ---- the channel's callbacks ---- */

static int on_control(void *arg, const struct mg_json *json, struct mg_error *err)
{
	struct worker *worker = arg;
	return mg_worker_node_control(worker->node, json, err);
}

static int on_data(void *arg, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err)
{
	struct worker *worker = arg;
	return mg_worker_node_data(worker->node, frame, payload, err);
}

static void on_closed(void *arg, const char *reason)
{
	set_state(arg, LINK_CLOSED, reason);
}

static void on_opened(void *arg, int status)
{
	struct worker *worker = arg;
	pthread_mutex_lock(&worker->lock);
	worker->http_status = status;
	if (status == 101) {
		worker->state = LINK_OPEN;
	}
	pthread_mutex_unlock(&worker->lock);
}

static void on_dialled(struct mg_conn *conn, const struct mg_error *err, void *arg)
{
	struct worker *worker = arg;
	if (!conn) {
		pthread_mutex_lock(&worker->lock);
		worker->state = LINK_DOWN;
		mg_copy_text(worker->reason, sizeof worker->reason, err->message);
		mg_copy_text(worker->hint, sizeof worker->hint, err->hint);
		pthread_mutex_unlock(&worker->lock);
		return;
	}
	struct mg_channel_handler handler = {
		.control = on_control,
		.data = on_data,
		.closed = on_closed,
		.arg = worker,
		.message_max = worker->options->message_max,
	};
	pthread_mutex_lock(&worker->lock);
	if (worker->leaving) {
		pthread_mutex_unlock(&worker->lock);
		mg_conn_set_protocol(conn, NULL, NULL);
		mg_conn_close(conn);
		return;
	}
	struct mg_error failure;
	mg_error_clear(&failure);
	worker->channel = mg_channel_connect(conn, worker->server, "/worker", worker->headers, &handler,
	                                     on_opened, &failure);
	bool made = worker->channel != NULL;
	pthread_mutex_unlock(&worker->lock);
	if (!made) {
		set_state(worker, LINK_DOWN, failure.message);
	}
}

/* ---- one connection ---- */

/* Wait until dialling has led to something, or nothing is wanted of it any more. */
static enum link_state connect_once(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->state = LINK_DIALLING;
	worker->http_status = 0;
	worker->channel = NULL;
	pthread_mutex_unlock(&worker->lock);
	mg_dial(worker->loop, worker->server, worker->tls, DIAL_MS, on_dialled, worker);
	while (get_state(worker) == LINK_DIALLING) {
		if (mg_signals_wait(5)) {
			pthread_mutex_lock(&worker->lock);
			if (worker->channel) {
				mg_channel_abort(worker->channel, "the worker stops");
			} else if (worker->state == LINK_DIALLING) {
				worker->leaving = true;
				worker->state = LINK_DOWN;
			}
			pthread_mutex_unlock(&worker->lock);
		}
	}
	return get_state(worker);
}

enum served { SERVED_LOST, SERVED_STOPPED, SERVED_MOVES };

/* Serve until the connection is gone; it may be us who wanted that.  target: where to go then. */
static enum served serve(struct worker *worker, char target[MG_SERVER_ADDRESS_MAX + 1])
{
	struct mg_channel *channel = worker->channel;
	uint64_t silence_ms = worker->options->ping_timeout_ms;
	uint64_t next_ping = 0, drain_until = 0, close_until = 0;
	bool moves = false;

	silence_ms = silence_ms ? silence_ms : SILENCE_MAX_MS;
	mg_worker_node_greet(worker->node, channel);
	while (get_state(worker) == LINK_OPEN) {
		uint64_t now = mg_clock_ms();
		moves = moves || mg_worker_servers_move(&worker->servers, now, target);
		int signals = mg_signals_wait(100), stops = signals ? signals : moves;
		if (now >= next_ping) {
			mg_channel_ping(channel);
			mg_os_memory_fence();
			next_ping = now + 1000;
		}
		if (mg_channel_silence_ms(channel) > silence_ms) {
			mg_channel_abort(channel, "the server shows no sign of life");
		}
		if (close_until && now >= close_until) {
			mg_channel_abort(channel, "the worker stops");
		} else if (stops && !drain_until) {
			mg_worker_node_drain(worker->node);
			drain_until = now + DRAIN_MAX_MS;
		} else if (close_until) {
			continue;
		} else if (stops > 1 || (stops && now >= drain_until) ||
		           (stops && now + DRAIN_MAX_MS >= drain_until + 200 &&
		            mg_worker_node_idle(worker->node))) {
			mg_channel_close(channel, "the worker stops");
			close_until = now + CLOSE_MAX_MS;
		}
	}
	mg_worker_node_lost(worker->node);
	return mg_signals_wait(0) ? SERVED_STOPPED
	       : moves            ? SERVED_MOVES
	       : drain_until      ? SERVED_STOPPED
	                          : SERVED_LOST;
}

/* What an answer to the upgrade other than 101 means: a code to end with, or 0 to try again. */
static int refused(const struct worker *worker)
{
	const char *server = worker->server;
	if (worker->http_status == 401) {
		fprintf(stderr, "merganser worker: %s refused the login of \"%s\": %s\n", server,
		        worker->options->username, worker->reason);
		return 2;
	}
	if (worker->http_status == 403) {
		fprintf(stderr, "merganser worker: user \"%s\" may not be a worker at %s\n",
		        worker->options->username, server);
		fprintf(stderr, "hint: log in as user \"worker\" with the password that bootstrap was "
		                "given as --worker-password\n");
		return 2;
	}
	return 0;
}

static int live(struct worker *worker)
{
	unsigned pause_ms = PAUSE_MIN_MS;
	bool told = false, moving = false;
	for (;;) {
		if (!moving) {
			mg_worker_servers_now(&worker->servers, worker->server);
		}
		enum link_state state = connect_once(worker);
		enum served how = SERVED_LOST;
		bool served = state == LINK_OPEN;
		char target[sizeof worker->server];
		if (moving) {
			mg_worker_servers_moved(&worker->servers, served, mg_clock_ms());
		}
		moving = false;
		if (served) {
			uint64_t since = mg_clock_ms();
			mg_log(MG_LOG_INFO, "worker.connected", "server=%s", worker->server);
			how = serve(worker, target);
			/* One that ends at once would end so again: no tight loop. */
			pause_ms = mg_clock_ms() - since >= STEADY_MS ? PAUSE_MIN_MS : pause_ms;
			told = false;
		}
		while (worker->channel && get_state(worker) != LINK_CLOSED) {
			mg_signals_wait(5);
		}
		mg_channel_unref(worker->channel);
		worker->channel = NULL;
		int code = served ? 0 : refused(worker);
		if (code || how == SERVED_STOPPED || mg_signals_wait(0)) {
			return code;
		}
		if (how == SERVED_MOVES) {
			mg_log(MG_LOG_INFO, "worker.moves", "from=%s to=%s", worker->server, target);
			mg_copy_text(worker->server, sizeof worker->server, target);
			moving = true;
			continue;
		}
		if (!told) {
			/* It goes on, so that what helps is said nowhere else. */
			mg_log(MG_LOG_WARN, "worker.disconnected",
			       "server=%s reason=%s retry=\"with growing pauses up to 5 s\" hint=%s",
			       worker->server, worker->reason, worker->hint[0] ? worker->hint : "none");
			told = !served;
		}
		mg_worker_servers_next(&worker->servers);
		if (mg_signals_wait(pause_ms)) {
			return 0;
		}
		pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
	}
}

/* ---- start and stop ---- */

static char *default_cache(void)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (xdg && xdg[0]) {
		return mg_format("%s/merganser/shards", xdg);
	}
	return home && home[0] ? mg_format("%s/.cache/merganser/shards", home)
	                       : mg_strdup("./merganser-cache");
}

static char *default_name(void)
{
	char host[64] = "localhost";
	gethostname(host, sizeof host - 1);
	return mg_format("worker-%s-%ld", host, (long)getpid());
}

static char *login_headers(const struct mg_worker_options *options)
{
	if (!options->password) {
		return mg_strdup("Sec-WebSocket-Protocol: merganser.v1\r\n");
	}
	char *plain = mg_format("%s:%s", options->username, options->password);
	size_t size = sodium_base64_ENCODED_LEN(strlen(plain), sodium_base64_VARIANT_ORIGINAL);
	char *text = mg_alloc(size);
	sodium_bin2base64(text, size, (const unsigned char *)plain, strlen(plain),
	                  sodium_base64_VARIANT_ORIGINAL);
	char *headers =
		mg_format("Authorization: Basic %s\r\nSec-WebSocket-Protocol: merganser.v1\r\n", text);
	sodium_memzero(plain, strlen(plain));
	sodium_memzero(text, size);
	mg_free(plain);
	mg_free(text);
	return headers;
}

int mg_worker_main(const struct mg_worker_options *options)
{
	struct mg_error err;
	mg_error_clear(&err);
	struct worker worker = { .options = options };
	char *cache = options->cache_dir ? mg_strdup(options->cache_dir) : default_cache();
	char *name = options->name ? mg_strdup(options->name) : default_name();
	struct mg_log_options log = options->log;
	log.node = name;
	int exit_code = 1;
	mg_signals_watch();
	mg_os_memory_fence();
	pthread_mutex_init(&worker.lock, NULL);
	worker.headers = login_headers(options);
	struct mg_tls_client_options tls = {
		.roots_file = options->tls_roots,
		.insecure_skip_verify = options->insecure_skip_verify,
		.cert_file = options->tls_cert,
		.key_file = options->tls_key,
		.key_password = options->tls_key_password,
	};
	struct mg_worker_node_options node = {
		.name = name,
		.cache_dir = cache,
		.threads = options->threads,
		.memory_bytes = options->memory_bytes,
		.cache_bytes = options->cache_bytes,
		.servers = &worker.servers,
	};
	int code = mg_worker_servers_init(&worker.servers, options->server, &err);
	if (!code && mg_log_open(&log)) {
		code = mg_error_set(&err, MG_E_IO, "cannot open the log \"%s\"", log.path);
	}
	if (!code) {
		code = mg_tls_client(&worker.tls, &tls, &err);
	}
	if (!code) {
		code = mg_loop_start(&worker.loop, "worker", &err);
	}
	if (!code) {
		code = mg_worker_node_new(&worker.node, &node, &err);
	}
	if (code) {
		fprintf(stderr, "merganser worker: %s\n", err.message);
		if (err.hint[0]) {
			fprintf(stderr, "hint: %s\n", err.hint);
		}
	} else {
		mg_log(MG_LOG_INFO, "worker.start", "version=%s engine=%s server=%s cache=\"%s\"",
		       MG_VERSION, mg_duck_version(), options->server, cache);
		exit_code = live(&worker);
		mg_log(MG_LOG_INFO, "worker.stop", "code=%d", exit_code);
	}
	mg_worker_node_free(worker.node);
	if (worker.loop) {
		mg_loop_stop(worker.loop);
	}
	mg_tls_unref(worker.tls);
	sodium_memzero(worker.headers, strlen(worker.headers));
	mg_free(worker.headers);
	mg_free(cache);
	mg_free(name);
	mg_worker_servers_fini(&worker.servers);
	pthread_mutex_destroy(&worker.lock);
	return exit_code;
}
