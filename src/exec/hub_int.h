/*
 * hub_int.h - what hub.c and hub_*.c share.
 *
 * A copy on a worker: NOT_LEASED -> LEASED -> HELD; a worker that cannot keep it DECLINES, for as
 * long as it is connected; a copy that must make room is RELEASING until no query can be using it,
 * then NOT_LEASED again.  Only HELD copies are given to queries, and follow the shard; one that
 * cannot any more is LEASED again, to be made anew.
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
};

/* The file of a shard that workers may copy. */
struct mg_offer {
	bool there;           /* size and hash, in hub->shards, are of such a file */
	bool copied;          /* it is a copy, which does not change */
	uint64_t index, term; /* that it holds */
	uint64_t used_ms;     /* when it was last asked for */
};

/* Batches that a worker has been sent and not yet applied, of one shard. */
#define MG_HUB_SENT_MAX 64
struct mg_sent {
	uint64_t index;
	size_t bytes;
};

/* A copy of a shard on a worker. */
struct mg_hub_held {
	uint64_t index;            /* applied, as it has told */
	uint64_t sent;             /* the last batch that it was sent */
	struct mg_sent under_way[MG_HUB_SENT_MAX];
	size_t sent_count;
	bool wants, renews;        /* LEASED: needs a file; what it has can follow no more */
	bool claims;               /* LEASED: it has got this one, which is not judged yet */
	uint64_t claimed, claimed_term, claimed_ms;
	char sha256[65];           /* of the file that it was last leased */
	uint64_t leased, leased_term;
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
	struct mg_hub_held *held; /* by shard id */
	uint64_t *asked;        /* by shard id: how often its copy was asked for, of late */
	uint64_t release_after; /* queries up to this number may use what is RELEASING */
	uint32_t wanted;        /* leased when the release is done; 0: none */
	bool greeted, draining, lost;
	bool was_ready; /* as it was told last */
	bool late; /* it owes an answer: queries do without it until it has said something */
	size_t bytes_under_way; /* of all its shards */
	struct mg_hub_feeder *feeder;
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
	int *files; /* of what is offered, by shard id, or -1; long-lived: replaced, never closed */
	struct mg_shard *shards;    /* copies of what is served */
	struct mg_offer *offers; /* by shard id */
	char *data_dir;
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
	/* What feeders wait for: a shard has applied more, a worker has said something. */
	pthread_mutex_t feed_lock; /* the innermost */
	pthread_cond_t feed_more;  /* monotonic */
	uint64_t feed_count;
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

/* A LEASED copy that wants a file is told of the one that is offered, if it is. */
void mg_hub__lease_again(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard);

/* ---- hub_follow.c ---- */

int mg_hub__start_feeder(struct mg_hub *hub, struct mg_worker *worker, struct mg_error *err);
/* Waits; not under the lock. */
void mg_hub__end_feeder(struct mg_worker *worker);
void mg_hub__kick_feeders(struct mg_hub *hub); /* any lock may be held */
/* Hear of what shards apply, or no more.  Not under the lock. */
void mg_hub__watch_logs(struct mg_hub *hub, bool watch);
/* Under the lock: it says that it has got a copy of this index. */
void mg_hub__claim(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard, uint64_t index,
                   uint64_t term);
/* A frame "applied".  Takes the lock. */
int mg_hub__on_applied(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard, uint64_t index,
                       struct mg_error *err);
/* Under the lock: it has lacked something for so long that a query would wait for it in vain. */
bool mg_hub__is_behind(const struct mg_worker *worker, uint32_t shard);
/* Under the lock: it has been sent nothing of this shard. */
void mg_hub__forget_sent(struct mg_worker *worker, uint32_t shard);

/* ---- hub_files.c ---- */

/* Under the lock: the offer is of a file that can be copied and followed from now. */
bool mg_hub__is_fit(struct mg_hub *hub, uint32_t shard);
/* Under the lock: offers that nobody asks for any more are removed. */
void mg_hub__drop_offers(struct mg_hub *hub);
/* What an earlier life has left. */
void mg_hub__remove_copies(struct mg_hub *hub);
/* Frames of a worker; they take the lock. */
int mg_hub__on_fetch(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                     struct mg_error *err);
int mg_hub__on_hashes(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                      struct mg_error *err);
int mg_hub__on_held(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err);
int mg_hub__on_want(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err);
int mg_hub__on_decline(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                       struct mg_error *err);

/* ---- hub.c; under the lock ---- */
void mg_hub__tell(struct mg_hub *hub, const char *event, const char *worker);
/* Once, when it has become ready. */
void mg_hub__tell_ready(struct mg_hub *hub, struct mg_worker *worker);

#endif
