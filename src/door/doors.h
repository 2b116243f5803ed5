/*
 * doors.h - everything a client can knock at on the one port: which protocol speaks, and what
 * HTTP paths there are.
 *
 * Give mg_doors_choose to mg_listen.  Order of the end: close the listener, mg_doors_stop (waits
 * for what runs, so loops must still turn), stop the loops, mg_doors_free.
 *
 * Thread: new, stop and free from the node's main thread; choose on loops.
 */
#ifndef MG_DOOR_DOORS_H
#define MG_DOOR_DOORS_H

#include "auth/auth.h"
#include "net/http.h"
#include "session/session.h"

struct mg_doors;

/* Who knocks at POST /join. */
struct mg_join_caller {
	const char *user, *password; /* Basic; or NULL */
	uint64_t node;               /* that its certificate names; 0: none */
	const char *peer;            /* for the log */
	bool same_host;
};

struct mg_nursery;

struct mg_doors_options {
	struct mg_engine *engine; /* all borrowed */
	struct mg_catalog *catalog;
	struct mg_login *login;
	struct mg_nursery *nursery; /* of jobs; NULL: none are run here */
	const char *node_name;
	/* For admission and logs, see session.h; zeros are the defaults (slow_ms: 10 s). */
	size_t running_max, queue_max, threads_max;
	uint64_t slow_ms;
	bool require_cert; /* a password alone opens no door */
	uint64_t idle_ms;  /* an answer that nobody takes a byte of for so long is ended; 0: 5 min */
	/* A worker with a right password asks for wss /worker; answers or upgrades the request itself.
	 * Called on the connection's loop.  NULL: 404. */
	int (*worker_upgrade)(void *arg, struct mg_http_request *request, const char *user);
	/* For /health: NULL or "" when the node serves, else why not.  Any thread.  NULL: it serves. */
	const char *(*unhealthy)(void *arg);
	size_t (*replicas)(void *arg, struct mg_replica_info *infos, size_t max);
	/* POST /join: a server asks to enter the cluster; checks who it is, too.  On a query thread. */
	int (*join)(void *arg, const struct mg_join_caller *caller, struct mg_str body,
	            struct mg_sb *answer, struct mg_error *err);
	void *arg;           /* of these four */
	size_t message_max;  /* of one message on wss /client; 0: 16 MiB */
	uint64_t silence_ms; /* a client that does not answer pings for so long is gone; 0: 90 s */
	const struct mg_server_setting *settings; /* for cluster.settings */
	size_t setting_count;
};

int mg_doors_new(struct mg_doors **out, const struct mg_doors_options *options,
                 struct mg_error *err);
void mg_doors_stop(struct mg_doors *doors);
void mg_doors_free(struct mg_doors *doors); /* NULL is fine */
struct mg_sessions *mg_doors_sessions(struct mg_doors *doors);

/* For mg_listen_options.choose, with arg = doors. */
bool mg_doors_choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size);
/* Likewise, without doors: the node is not that far.  HTTP hears 503. */
bool mg_doors_choose_closed(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size);
/* Likewise, of a port for Redis clients alone; arg NULL: the node is not that far. */
bool mg_doors_choose_redis(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size);

#endif
