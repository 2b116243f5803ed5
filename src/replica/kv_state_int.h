/* kv_state_int.h - the inside of struct mg_kv_state: for kv_state.c and kv_apply.c only. */
#ifndef MG_REPLICA_KV_STATE_INT_H
#define MG_REPLICA_KV_STATE_INT_H

#include "replica/kv_state.h"

#include <pthread.h>
#include <stdatomic.h>

#define MG_KV_PREFIX 4u /* bytes of a group's number */

struct mg_kv_space {
	char name[MG_KV_SPACE_MAX];
	uint8_t name_len;
	bool changed; /* since it was put into the batch */
	uint64_t keys, bytes;
};

struct mg_kv_state {
	struct mg_lsm *lsm;
	char prefix[MG_KV_PREFIX];
	_Atomic uint64_t index, time_ms, expiry_ms;
	pthread_rwlock_t replacing; /* held by readers, for a look, and by who replaces all of it */
	/* owner: who applies */
	struct mg_lsm_batch *batch;
	uint64_t applied, term, version; /* applied: index, of the batch */
	struct mg_kv_space *spaces;
	size_t space_count, space_cap, space_last;
	struct mg_sb key, value; /* room */
};

/* A key of the tree, in `room`, until that is used again. */
struct mg_str mg_kv__meta_key(const struct mg_kv_state *state, struct mg_sb *room);
struct mg_str mg_kv__data_key(const struct mg_kv_state *state, struct mg_str space,
                              struct mg_str key, struct mg_sb *room);
struct mg_str mg_kv__stats_key(const struct mg_kv_state *state, struct mg_str space,
                               struct mg_sb *room);
struct mg_str mg_kv__expiry_key(const struct mg_kv_state *state, uint64_t expiry_ms,
                                struct mg_str space, struct mg_str key, struct mg_sb *room);
struct mg_str mg_kv__id_key(const struct mg_kv_state *state, struct mg_str id, struct mg_sb *room);
/* False: it is none. */
bool mg_kv__expiry_split(struct mg_str key, uint64_t *expiry_ms, struct mg_str *space,
                         struct mg_str *rest);
/* Expiry keys in order, of what was written, or with a batch; the caller closes it. */
struct mg_lsm_iter *mg_kv__expiries(struct mg_kv_state *state, struct mg_lsm_batch *batch);

/* ---- kv_id.c ---- */

/* The answer of a request whose id is known goes into results, in arena; MG_E_NOT_FOUND, without a
 * message: it is new. */
int mg_kv__recall(struct mg_kv_state *state, const struct mg_kv_request *request,
                  struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err);
void mg_kv__remember(struct mg_kv_state *state, const struct mg_kv_request *request,
                     const struct mg_kv_results *results);

void mg_kv__record(const struct mg_kv_found *found, struct mg_sb *out);
int mg_kv__record_read(struct mg_str bytes, struct mg_kv_found *out, struct mg_error *err);
bool mg_kv__is_there(const struct mg_kv_state *state, const struct mg_kv_found *found);

/* Made when it is new; valid until the next one is. */
struct mg_kv_space *mg_kv__space(struct mg_kv_state *state, struct mg_str name);
void mg_kv__put_meta(struct mg_kv_state *state);
void mg_kv__put_stats(struct mg_kv_state *state);

#endif
