/*
 * doors_int.h - what doors.c, rest*.c, shell_channel.c and old_channel.c share.
 */
#ifndef MG_DOOR_DOORS_INT_H
#define MG_DOOR_DOORS_INT_H

#include "base/metrics.h"
#include "door/doors.h"
#include "door/once.h"
#include "door/tx_handles.h"
#include "job/jobs.h"

#include <pthread.h>
#include <stdatomic.h>

#define MG_FEEDS_MAX 64 /* who follow tables at once */
#define MG_WATCHES_MAX 1000 /* who watch keys at once */

struct mg_doors {
	struct mg_doors_options options;
	struct mg_sessions *sessions;
	struct mg_admission *logins; /* so many passwords are checked at once */
	struct mg_admission *joins;  /* and so many servers let in */
	struct mg_once *once;        /* writes with an Idempotency-Key */
	struct mg_tx_handles *tx_handles;
	struct mg_jobs *jobs; /* NULL: none are run here */
	struct mg_http_handler handler;
	struct mg_ws_handler shell_handler; /* of wss /client */
	struct mg_pool *feed_pool;          /* those who follow tables */
	atomic_int feeds;                   /* how many do */
	pthread_mutex_t feed_lock;
	struct mg_stream *feed_streams[MG_FEEDS_MAX]; /* guarded by feed_lock; borrowed */
	struct mg_rest_watches *watches;    /* those who watch keys */
	atomic_bool stopping;               /* the engine may be gone */
	uint64_t started_ms;                /* monotonic */
	char node_name[64];
};

/* What the answers of hello and /status count. */
struct mg_door_counts {
	uint32_t nodes, workers, shards, tables;
	char cluster[40];
};
void mg_doors_count(struct mg_doors *doors, struct mg_door_counts *counts);

/* ---- rest.c ---- */
size_t mg_rest_head(struct mg_http_request *request, void *arg);
void mg_rest_request(struct mg_http_request *request, void *arg);
/* {"error": {...}} with the status given, 0: that of the code. */
void mg_rest_error(struct mg_http_request *request, const struct mg_error *err, int status);
void mg_rest_count(struct mg_http_request *request, int status); /* an answer, for the metrics */
void mg_rest_count_login(const char *outcome); /* "ok", "refused", "wrong_role"; for the metrics */

/* Is the certificate, when there is one, a login for that user (NULL: for whom it names)?  Fails:
 * MG_E_AUTH, also when there is none and there must be one. */
int mg_rest_check_cert(const struct mg_doors *doors, const struct mg_peer_cert *cert,
                       const char *user, struct mg_error *err);

/* Go on on the loop with who logged in; answers 401 and 403 itself. */
enum mg_login_for { MG_LOGIN_CLIENT, MG_LOGIN_WORKER };
typedef void mg_logged_in(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                          enum mg_role role);
void mg_rest_login(struct mg_doors *doors, struct mg_http_request *request, enum mg_login_for who,
                   mg_logged_in *then);

/* ---- rest_query.c: GET and POST /db/query ---- */
void mg_rest_query(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                   enum mg_role role);

/* ---- rest_execute.c: POST /db/execute ---- */
void mg_rest_execute(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role);

/* The same at /db/tx/{id}/...: one statement of ours that ends the transaction. */
void mg_rest_execute_in(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                        enum mg_role role, const char *tx, const char *statement);

/* ---- rest_tx.c: POST /db/tx, POST /db/tx/{id}/... ---- */
void mg_rest_tx_open(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role);
void mg_rest_tx_end(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                    enum mg_role role);

/* ---- rest_changes.c: GET /changes/TABLE ---- */
#define MG_CHANGES_PATH "/changes/"
void mg_rest_changes_init(struct mg_doors *doors);
void mg_rest_changes_stop(struct mg_doors *doors); /* ends all; loops still turn */
void mg_rest_changes_free(struct mg_doors *doors);
void mg_rest_changes(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role);

/* ---- rest_kv.c: /kv/NAMESPACE/KEY; PUT /set, POST /query, POST /subscribe ---- */
void mg_rest_kv(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                enum mg_role role);
void mg_rest_kv_set(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                    enum mg_role role);
void mg_rest_kv_query(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                      enum mg_role role);
void mg_rest_kv_subscribe(struct mg_doors *doors, struct mg_http_request *request,
                          const char *user, enum mg_role role);

/* The client's name for a request, among those of its user, in the request's arena; len 0: none.
 * False after an answer. */
bool mg_rest_kv_id(struct mg_http_request *request, const char *user, struct mg_str *out);

/* ---- rest_jobs.c: /jobs ---- */
void mg_rest_jobs(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                  enum mg_role role);

/* ---- rest_job_events.c: GET /jobs/ID/events; takes over the reference on the job ---- */
void mg_rest_job_events(struct mg_http_request *request, struct mg_listed_job *listed);

/* ---- rest_kv_batch.c: POST /kv/NAMESPACE/batch ---- */
void mg_rest_kv_batch(struct mg_doors *doors, struct mg_http_request *request, const char *user);

/* ---- rest_kv_scan.c: GET /kv/NAMESPACE ---- */
void mg_rest_kv_scan(struct mg_doors *doors, struct mg_http_request *request, const char *space);

/* ---- rest_kv_watch.c: GET /kv/NAMESPACE/watch ---- */
void mg_rest_kv_watch_init(struct mg_doors *doors);
void mg_rest_kv_watch_stop(struct mg_doors *doors); /* ends all; loops still turn */
void mg_rest_kv_watch_free(struct mg_doors *doors);
int mg_rest_kv_watch_count(const struct mg_doors *doors);
void mg_rest_kv_watch(struct mg_doors *doors, struct mg_http_request *request,
                      struct mg_str space);

/* ---- rest_nodes.c: POST /join, PUT /cluster/nodes/NAME ---- */
#define MG_NODES_PATH "/cluster/nodes/"
void mg_rest_join(struct mg_doors *doors, struct mg_http_request *request);
void mg_rest_node(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                  enum mg_role role);

/* GET and POST /cluster/check, /cluster/rebalance */
void mg_rest_cluster(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                     enum mg_role role);
void mg_rest_enable_keys(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                         enum mg_role role);

/* ---- rest_cluster.c: what these say ---- */
struct mg_replica;
void mg_rest_check_report(struct mg_replica *replica, struct mg_sb *json);
void mg_rest_balance_report(struct mg_replica *replica, struct mg_sb *json);

/* ---- shell_channel.c: wss /client ---- */
void mg_shell_channel_init(struct mg_doors *doors); /* its limits */
void mg_shell_channel(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                      enum mg_role role);

/* ---- old_channel.c: /client as clients of old speak it ---- */
/* An upgrade with neither a login, a certificate is one, nor our sub-protocol: its first frame will
 * be the login.  Not where certificates are required. */
bool mg_old_channel_wanted(const struct mg_doors *doors, struct mg_http_request *request);
void mg_old_channel(struct mg_doors *doors, struct mg_http_request *request);

#endif
