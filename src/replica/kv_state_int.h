/* kv_state_int.h - the inside of struct mg_kv_state: for kv_state.c and what applies only. */
#ifndef MG_REPLICA_KV_STATE_INT_H
#define MG_REPLICA_KV_STATE_INT_H

#include "replica/kv_feed.h"
#include "replica/kv_state.h"

#include <pthread.h>
#include <stdatomic.h>

#define MG_KV_PREFIX 4u /* bytes of a group's number */

struct mg_kv_space {
	char name[MG_KV_SPACE_MAX];
	uint8_t name_len;
	bool changed; /* since it was put into the batch */
	uint64_t keys, bytes;
	struct mg_kv_limit limit; /* without its name; of the entry that is applied, else all 0 */
};

/* A part of a transaction that waits. */
struct mg_kv_waiting {
	char id[MG_KV_TX_ID];
	uint32_t decides;
	uint64_t seen_ms; /* by this node's clock, in this life: no part of what replicas share */
};

struct mg_kv_state {
	struct mg_lsm *lsm;
	char prefix[MG_KV_PREFIX];
	_Atomic uint64_t index, time_ms, expiry_ms;
	_Atomic uint64_t releases;
	_Atomic uint64_t staged; /* bytes of uploads, with those of the batch */
	_Atomic uint32_t holders; /* transactions that hold keys, or did before the last write */
	atomic_bool condemned;
	pthread_rwlock_t replacing; /* held by readers, for a look, and by who replaces all of it */
	/* owner: who applies */
	struct mg_lsm_batch *batch;
	struct mg_kv_feed *feed; /* changes of the batch are told when it is written */
	uint64_t applied, term, version; /* applied: index, of the batch */
	uint64_t now_ms; /* time_ms; while what has waited happens: as of when it was prepared */
	struct mg_kv_waiting *waiting;
	size_t waiting_count, waiting_cap;
	bool unlimited; /* of a transaction's part, which is not for the group alone to refuse */
	uint32_t settled; /* since the last write */
	bool went_back;   /* likewise */
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

struct mg_str mg_kv__part_key(const struct mg_kv_state *state, const char *id, uint32_t number,
                              struct mg_sb *room);
struct mg_str mg_kv__upload_key(const struct mg_kv_state *state, const char *id,
                                struct mg_sb *room);
struct mg_str mg_kv__waiting_key(const struct mg_kv_state *state, struct mg_str id,
                                 struct mg_sb *room);
struct mg_str mg_kv__lock_key(const struct mg_kv_state *state, struct mg_str space,
                              struct mg_str key, struct mg_sb *room);
/* Likewise all uploads. */
struct mg_lsm_iter *mg_kv__all_uploads(struct mg_kv_state *state);
/* Of what was written, all that wait, in order; the caller closes it. */
struct mg_lsm_iter *mg_kv__all_waiting(struct mg_kv_state *state);

/* ---- kv_apply.c ---- */

/* A request's operations under way: at what they begin, to go back to. */
struct mg_kv_before {
	uint64_t version, expiry_ms, staged;
	struct mg_kv_space *spaces;
	size_t count, changes;
};

struct mg_kv_before mg_kv__before(struct mg_kv_state *state); /* the batch is marked; end frees */
void mg_kv__go_back(struct mg_kv_state *state, const struct mg_kv_before *before);
void mg_kv__before_end(struct mg_kv_before *before);
/* Runs the operations one after the other until one does not let its request happen, *refused: its
 * place, or `count`.  arena: of what their answers hold; NULL: nobody wants them. */
int mg_kv__run(struct mg_kv_state *state, struct mg_in ops, uint32_t count, struct mg_arena *arena,
               struct mg_kv_result *list, uint32_t *refused, struct mg_error *err);
void mg_kv__tell_refused(struct mg_kv_result *list, uint32_t count, uint32_t refused);

/* ---- kv_waiting.c ---- */

/* A request that begins with one of a transaction's operations.  results: with a list. */
int mg_kv__run_part(struct mg_kv_state *state, const struct mg_kv_request *request,
                    struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err);
/* With what the batch will have written. */
int mg_kv__is_held(struct mg_kv_state *state, struct mg_str space, struct mg_str key, bool *held,
                   struct mg_error *err);
int mg_kv__read_waiting(struct mg_kv_state *state, struct mg_error *err);

/* ---- kv_large.c ---- */

/* What came of a value in parts so far; no key has it. */
struct mg_kv_upload {
	bool is_there;
	char id[MG_KV_TX_ID];
	uint32_t count;
	uint64_t size, expiry_ms;
};

/* STAGE or DISCARD, alone in its request.  result: NULL is fine. */
int mg_kv__run_upload(struct mg_kv_state *state, const struct mg_kv_op *op,
                      struct mg_kv_result *result, struct mg_error *err);
/* Of a PUT_STAGED; `is_there` only when it is whole. */
int mg_kv__find_staged(struct mg_kv_state *state, const struct mg_kv_op *op,
                       struct mg_kv_upload *out, struct mg_error *err);
/* Its parts are a key's now. */
void mg_kv__take_upload(struct mg_kv_state *state, const struct mg_kv_upload *upload);
/* The parts that were a key's value go, if it had any. */
void mg_kv__drop_parts(struct mg_kv_state *state, const struct mg_kv_found *was);
/* What the expiry of an upload has as its rest; false: it is none. */
bool mg_kv__is_upload(struct mg_str rest);
int mg_kv__read_uploads(struct mg_kv_state *state, struct mg_error *err);
int mg_kv__expire_upload(struct mg_kv_state *state, struct mg_str rest, uint64_t expiry_ms,
                         struct mg_error *err);

/* ---- kv_id.c ---- */


/* Something stands under an id, for a while or until it is removed. */
void mg_kv__keep_id(struct mg_kv_state *state, struct mg_str id, struct mg_str value,
                    bool for_good);

/* The answer of a request whose id is known goes into results, in arena; MG_E_NOT_FOUND, without a
 * message: it is new. */
int mg_kv__recall(struct mg_kv_state *state, const struct mg_kv_request *request,
                  struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err);
void mg_kv__remember(struct mg_kv_state *state, const struct mg_kv_request *request,
                     const struct mg_kv_results *results);

void mg_kv__record(const struct mg_kv_found *found, struct mg_sb *out);
int mg_kv__record_read(struct mg_str bytes, struct mg_kv_found *out, struct mg_error *err);
bool mg_kv__is_there(const struct mg_kv_found *found, uint64_t now_ms);

/* Made when it is new; valid until the next one is. */
struct mg_kv_space *mg_kv__space(struct mg_kv_state *state, struct mg_str name);
void mg_kv__put_meta(struct mg_kv_state *state);
void mg_kv__put_stats(struct mg_kv_state *state);

#endif
