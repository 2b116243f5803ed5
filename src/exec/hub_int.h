/*
 * hub_int.h - what hub.c and hub_lease.c share.
 *
 * A copy on a worker: NOT_LEASED -> LEASED -> HELD; a worker that cannot keep it DECLINES, for as
 * long as it is connected; a copy that must make room is RELEASING until no query can be using it,
 * then NOT_LEASED again.  Only HELD copies are given to queries.
 */
#ifndef MG_EXEC_HUB_INT_H
#define MG_EXEC_HUB_INT_H

#include "exec/hub.h"
#include "os/limits.h"

#include <pthread.h>
#include <stdatomic.h>

enum mg_holding {
	MG_NOT_LEASED,
	MG_LEASED,
	MG_HELD,
	MG_RELEASING,
	MG_DECLINED,
	MG_STALE, /* the shard has changed since: given to no new query, released when none uses it */
};

/* What has become of a shard since its file was hashed. */
struct mg_changes {
	bool stale;           /* the hash is not that of what is served: no copy is leased */
	uint64_t count;       /* of times it changed */
	uint64_t offered;     /* of them, those that the hash has */
	uint64_t changed_ms;  /* the last time */
	uint64_t stale_after; /* queries up to this number may use what is STALE */
};

struct mg_worker {
	atomic_int refs;
	struct mg_hub *hub;
	struct mg_channel *channel;
	/* guarded by the hub's lock: */
	char id[64];
	char version[32];
	unsigned threads, threads_max; /* that it uses now; that it may use at most */
	char cores[48];                /* names the cores that it runs on; or empty */
	bool shares;                   /* those cores with other nodes: we say how many threads */
	uint64_t memory_bytes;
	uint64_t cache_bytes; /* that its copies may take; 0: not told, no limit */
	uint64_t since_ms;
	uint8_t *holding;       /* enum mg_holding by shard id, 0 the reference group */
	uint64_t *behind;       /* by shard id: 1 + changes that its last, stale copy has; 0: none */
	uint64_t *asked;        /* by shard id: how often its copy was asked for, of late */
	uint64_t release_after; /* queries up to this number may use what is RELEASING */
	uint32_t wanted;        /* leased when the release is done; 0: none */
	bool greeted, draining, lost;
	uint64_t told_servers; /* hash of what it was told of them */
};

struct mg_open_query {
	uint64_t number;
	struct mg_attempt *query; /* NULL: it does not know yet who takes part */
};

struct mg_hub {
	struct mg_engine *engine;
	char cluster_id[40];
	uint32_t shard_count;
	uint64_t silence_ms; /* of a worker that is given up */
	size_t message_max;
	int *files; /* long-lived descriptors by shard id: an open and close would drop locks */
	struct mg_shard *shards;    /* copies of what is served */
	struct mg_changes *changes; /* by shard id */
	bool offered;               /* some may be leased again, and are not yet */
	uint64_t *asked; /* by shard id: how often workers could have been asked for it, of late */
	unsigned ticks;
	pthread_mutex_t lock;
	pthread_cond_t left; /* a worker has left */
	struct mg_worker **workers;
	size_t worker_count, worker_cap;
	size_t present; /* workers whose last call is not over */
	struct mg_open_query *queries;
	size_t query_count, query_cap;
	uint64_t next_query, next_worker;
	uint64_t ticked_ms;
	atomic_ullong bytes_moved;
	atomic_ullong none_elsewhere_until_ms; /* the coordinator of writes has told that it has none */
	bool stopping;
	char cores[MG_OS_CORES_NAME_SIZE]; /* that this server runs on */
	void (*on_event)(void *arg, const char *event, const char *worker);
	void *event_arg;
};

/* ---- hub_servers.c; not under the lock ---- */
#define MG_HUB_SERVERS_MAX 64
void mg_hub__tell_servers(struct mg_hub *hub);

/* ---- hub_lease.c; all under the hub's lock ---- */
/* Lease shards to a worker until it has its share. */
void mg_hub__lease(struct mg_hub *hub, struct mg_worker *worker);
void mg_hub__lease_all(struct mg_hub *hub);
/* The worker has no room for a shard: it keeps what it has, others may take this one. */
void mg_hub__decline(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard);
/* Once a second: where room is short, what nobody else has takes the place of what is not asked
 * for.
 */
void mg_hub__exchange(struct mg_hub *hub);

/* A shard is about to change: no copy of it is given to a query any more. */
void mg_hub__withdraw(struct mg_hub *hub, uint32_t shard);
/* Take back stale copies that no query can be using any more. */
void mg_hub__release_stale(struct mg_hub *hub);

#endif
