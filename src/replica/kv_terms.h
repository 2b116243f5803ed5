/*
 * kv_terms.h - what the settings of namespaces (ALTER NAMESPACE) mean for an entry of a key-value
 * group while it is made.
 *
 *     begin -> note each operation -> size -> encode, then each operation as `with` gives it -> end
 *
 * Who makes an entry looks the settings up, and writes into it what they come to: a default TTL
 * becomes the expiry of the operation, a quota a limit beside what the namespace holds in the other
 * shards.  What the entry does is then a function of the log alone, whoever knows which settings
 * when.  What others write to other shards meanwhile is not in it: so much a quota may be passed.
 * What a transaction adds in several groups is known when all but the last one are prepared, and
 * counted then.
 *
 * owner: the raft thread, from begin to end.
 */
#ifndef MG_REPLICA_KV_TERMS_H
#define MG_REPLICA_KV_TERMS_H

#include "catalog/catalog.h"
#include "replica/kv_state.h"

struct mg_replica;

struct mg_kv_terms {
	struct mg_replica *replica;
	const struct mg_catalog_data *data; /* NULL: no namespace has settings */
	uint32_t shard;
	const struct mg_catalog_space *last; /* that was looked up */
	struct mg_str last_name;
	struct mg_kv_limit *limits; /* in no order; names are the catalog's */
	size_t count, cap;
};

void mg_kv_terms_begin(struct mg_kv_terms *terms, struct mg_replica *replica, uint32_t shard);
void mg_kv_terms_end(struct mg_kv_terms *terms);
void mg_kv_terms_note(struct mg_kv_terms *terms, const struct mg_kv_op *op);
/* To namespaces that were noted, as what they hold elsewhere. */
void mg_kv_terms_grow(struct mg_kv_terms *terms, const struct mg_kv_growth *growth);
/* Of the limits, of which there are `count`, behind an entry's head. */
size_t mg_kv_terms_size(const struct mg_kv_terms *terms);
void mg_kv_terms_encode(const struct mg_kv_terms *terms, struct mg_out *out);
/* The operation as it goes into the entry; of the same size. */
struct mg_kv_op mg_kv_terms_with(struct mg_kv_terms *terms, const struct mg_kv_op *op);

/* ---- a transaction over several groups, before it is decided; begin with any shard ---- */

/* Adds to a list what an operation would add to a namespace that has a quota; *list has room for
 * one more. */
void mg_kv_terms_add(struct mg_kv_terms *terms, const struct mg_kv_op *op,
                     const struct mg_kv_result *result, struct mg_kv_growth *list,
                     uint32_t *count);
/* Whether the namespace would hold more than it may; out: OVER_QUOTA. */
bool mg_kv_terms_exceeds(struct mg_kv_terms *terms, const struct mg_kv_growth *growth,
                         struct mg_kv_result *out);

/* In words, for who is refused.  Returns MG_E_QUOTA. */
int mg_kv_say_over_quota(struct mg_error *err, struct mg_str space,
                         const struct mg_kv_result *result);

#endif
