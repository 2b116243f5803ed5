/* kv_terms.c - see kv_terms.h. */
#include "replica/kv_terms.h"

#include "base/assert.h"
#include "replica/kv_groups.h"
#include "replica/replica_int.h"

#include <inttypes.h>

void mg_kv_terms_begin(struct mg_kv_terms *terms, struct mg_replica *replica, uint32_t shard)
{
	struct mg_catalog *catalog = replica->options.catalog;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	*terms = (struct mg_kv_terms){ .replica = replica, .data = data, .shard = shard };
	if (data->space_count == 0) {
		mg_catalog_give(catalog, data);
		terms->data = NULL;
	}
}

void mg_kv_terms_end(struct mg_kv_terms *terms)
{
	mg_catalog_give(terms->replica->options.catalog, terms->data);
	mg_free(terms->limits);
}

/* NULL: its namespace has no settings, or they are not about such an operation. */
static const struct mg_catalog_space *find(struct mg_kv_terms *terms, const struct mg_kv_op *op)
{
	if (!terms->data || !mg_kv_fills(op->kind)) {
		return NULL;
	}
	if (!mg_str_eq(op->space, terms->last_name)) {
		terms->last = mg_catalog_find_space(terms->data, op->space);
		terms->last_name = op->space;
	}
	return terms->last;
}

/* As this node has them: what is on its way to it, or from others, is not counted. */
static void count_elsewhere(const struct mg_kv_terms *terms, struct mg_kv_limit *limit)
{
	for (uint32_t i = 0; i < mg_replica_kv_shards(terms->replica); i++) {
		uint64_t keys, bytes;

		if (i != terms->shard) {
			mg_kv_state_use(mg_replica_kv_state(terms->replica, i), limit->space, &keys, &bytes);
			limit->keys_elsewhere += keys;
			limit->bytes_elsewhere += bytes;
		}
	}
}

void mg_kv_terms_note(struct mg_kv_terms *terms, const struct mg_kv_op *op)
{
	const struct mg_catalog_space *space = find(terms, op);
	size_t i = 0;

	if (!space || (!space->quota_keys && !space->quota_bytes)) {
		return;
	}
	while (i < terms->count && terms->limits[i].space.ptr != space->name) {
		i++;
	}
	if (i < terms->count) {
		return;
	}
	mg_grow(terms->limits, terms->count, terms->cap);
	terms->limits[terms->count] = (struct mg_kv_limit){ .space = mg_str(space->name),
		                                                .keys_max = space->quota_keys,
		                                                .bytes_max = space->quota_bytes };
	count_elsewhere(terms, &terms->limits[terms->count++]);
}

size_t mg_kv_terms_size(const struct mg_kv_terms *terms)
{
	size_t size = 0;

	for (size_t i = 0; i < terms->count; i++) {
		size += mg_kv_limit_size(&terms->limits[i]);
	}
	return size;
}

void mg_kv_terms_encode(const struct mg_kv_terms *terms, struct mg_out *out)
{
	for (size_t i = 0; i < terms->count; i++) {
		mg_kv_limit_encode(out, &terms->limits[i]);
	}
}

struct mg_kv_op mg_kv_terms_with(struct mg_kv_terms *terms, const struct mg_kv_op *op)
{
	const struct mg_catalog_space *space = find(terms, op);
	struct mg_kv_op with = *op;

	if (space && space->default_ttl_ms && !(op->flags & (MG_KV_EXPIRES | MG_KV_FOR_GOOD))) {
		with.flags |= MG_KV_EXPIRES | MG_KV_EXPIRES_BY_DEFAULT;
		with.expiry = space->default_ttl_ms;
	}
	return with;
}

int mg_kv_say_over_quota(struct mg_error *err, struct mg_str space,
                         const struct mg_kv_result *result)
{
	mg_error_set(err, MG_E_QUOTA,
	             "namespace \"%.*s\" would hold more than its quota of %" PRIu64 " %s",
	             MG_STR_ARG(space), result->quota, result->quota_of_keys ? "keys" : "bytes");
	mg_error_hint(err,
	              "Nothing was changed: delete keys of it, or raise it: ALTER NAMESPACE ... SET "
	              "(%s = ...).",
	              result->quota_of_keys ? "quota_keys" : "quota_bytes");
	return MG_E_QUOTA;
}
