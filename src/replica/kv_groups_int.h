/* kv_groups_int.h - key-value groups from the inside: for kv_groups.c and kv_open.c only. */
#ifndef MG_REPLICA_KV_GROUPS_INT_H
#define MG_REPLICA_KV_GROUPS_INT_H

#include "replica/kv_clock.h"
#include "replica/kv_groups.h"
#include "replica/kv_sm.h"
#include "replica/kv_watch.h"
#include "replica/replica_int.h"

struct sent;
struct reading;

struct kv_group {
	struct mg_kv_groups *groups;
	uint32_t number; /* of raft's */
	struct mg_kv_sm *sm;
	/* owner: the raft thread */
	struct sent *sent;
	struct reading *readings; /* whose index is known, and not applied here yet */
	struct mg_kv_call *held;  /* which a transaction keeps from happening */
	uint64_t releases;        /* of its state, when they were last tried */
	uint64_t told; /* index of the last entry whose results were told */
	bool ticking;
	struct mg_kv_resolver resolver;
};

struct mg_kv_groups {
	struct mg_replica *replica;
	struct mg_lsm *lsm;
	struct mg_kv_bell *bell;
	struct mg_kv_clock clock;
	bool grows; /* begun while the node ran */
	uint64_t next_number; /* owner: the raft thread */
	uint64_t tick_ms;     /* when the next tick is; likewise */
	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_kv_call *first, **last;
	size_t bytes; /* of all calls that are not done */
	bool posted, ended; /* ended: the server stops, and nothing is begun any more */
	uint32_t count;
	struct kv_group list[];
};

/* The callbacks of a group's state machine. */
void mg_kv__listen(struct mg_kv_groups *groups, struct mg_kv_sm_options *options);
/* On each of them, ten times a second while keys are due, else once, until the node ends.  Raft
 * thread. */
void mg_kv__tick_all(void *arg);

#endif
