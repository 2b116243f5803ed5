/*
 * worker_servers.h - what a worker knows of the cluster's servers, and which one it should serve.
 *
 *     {"type":"servers","self":"a:1","coordinator":"b:1","servers":["a:1","b:1","c:1"]}
 *
 * A statement over several shards runs where writes are coordinated, so there workers are of use: a
 * worker of another server moves there, once that has been so for MG_MOVE_AFTER_MS.  When its
 * server is lost it asks the ones that it was started with, then those that it has heard of.
 *
 * Rule: what cannot be reached is not moved to again for MG_MOVE_AGAIN_MS.
 *
 * Thread: any.
 */
#ifndef MG_EXEC_WORKER_SERVERS_H
#define MG_EXEC_WORKER_SERVERS_H

#include "base/json.h"

#include <pthread.h>

#define MG_SERVERS_MAX 64
#define MG_SERVER_ADDRESS_MAX 255
#define MG_MOVE_AFTER_MS 2000
#define MG_MOVE_AGAIN_MS 60000

struct mg_worker_servers {
	pthread_mutex_t lock;
	/* guarded by lock */
	char given[MG_SERVERS_MAX][MG_SERVER_ADDRESS_MAX + 1];
	size_t given_count;
	char heard[MG_SERVERS_MAX][MG_SERVER_ADDRESS_MAX + 1];
	size_t heard_count;
	char target[MG_SERVER_ADDRESS_MAX + 1]; /* where to go; "": stay */
	uint64_t target_ms;                     /* since when */
	uint64_t not_before_ms;                 /* no move until then */
	size_t next;                            /* of given, then heard */
};

/* list: "a:1,b:1", as the worker was started.  Fails: MG_E_USAGE. */
int mg_worker_servers_init(struct mg_worker_servers *servers, const char *list,
                           struct mg_error *err);
void mg_worker_servers_fini(struct mg_worker_servers *servers);
/* The frame above.  Fails: MG_E_PROTOCOL. */
int mg_worker_servers_hear(struct mg_worker_servers *servers, const struct mg_json *json,
                           uint64_t now_ms, struct mg_error *err);
/* Another server is to be served; its address. */
bool mg_worker_servers_move(struct mg_worker_servers *servers, uint64_t now_ms,
                            char address[MG_SERVER_ADDRESS_MAX + 1]);
/* It could not be reached, or it could. */
void mg_worker_servers_moved(struct mg_worker_servers *servers, bool well, uint64_t now_ms);
/* Whom to ask now; and that it was in vain, or is lost: the next one then. */
void mg_worker_servers_now(struct mg_worker_servers *servers,
                           char address[MG_SERVER_ADDRESS_MAX + 1]);
void mg_worker_servers_next(struct mg_worker_servers *servers);

#endif
