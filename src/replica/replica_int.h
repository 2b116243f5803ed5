/* replica_int.h - struct mg_replica from the inside: for replica.c and commit.c only. */
#ifndef MG_REPLICA_REPLICA_INT_H
#define MG_REPLICA_REPLICA_INT_H

#include "replica/catalog_sm.h"
#include "replica/command.h"
#include "replica/raft_host.h"
#include "replica/replica.h"
#include "replica/shard_locks.h"
#include "replica/shard_sm.h"

#include <pthread.h>

struct mg_replica {
	struct mg_replica_options options;
	struct mg_raft_host *host;
	struct mg_catalog_sm *catalog_sm;
	struct mg_shard_sm **shards; /* by id */
	struct mg_shard_locks *locks;
	pthread_rwlock_t cut; /* written while a transaction becomes visible in several shards */
	atomic_int log_failed;
	bool started;
};

uint32_t mg_replica__group(uint32_t shard);

/* Proposals that somebody waits for. */
struct mg_wait_for {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t open;
	struct mg_error err;
};

void mg_wait_init(struct mg_wait_for *wait);
void mg_wait_fini(struct mg_wait_for *wait);
/* Until all have ended; the worst error.  May be used again. */
int mg_wait_all(struct mg_wait_for *wait, struct mg_error *err);

/* Propose head (or nothing) and `rest` behind it, copied.  With `wait` its end is counted there.
 * Fails: MG_E_NOMEM, and then nothing was proposed. */
int mg_replica__propose(struct mg_replica *replica, uint32_t group, const struct mg_command *head,
                        const void *rest, size_t size, struct mg_wait_for *wait,
                        struct mg_error *err);

/* commit.c: end what an earlier life left in doubt. */
int mg_replica__resolve(struct mg_replica *replica, struct mg_error *err);

#endif
