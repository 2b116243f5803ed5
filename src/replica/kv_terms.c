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

/* In all shards but one, as this node has them: what is on its way to it, or from others, is not
 * counted. */
static void count_use(const struct mg_kv_terms *terms, struct mg_str space, uint32_t but,
                      uint64_t *keys, uint64_t *bytes)
{
	*keys = *bytes = 0;
	for (uint32_t i = 0; i < mg_replica_kv_shards(terms->replica); i++) {
		uint64_t some_keys = 0, some_bytes = 0;

		if (i != but) {
			mg_kv_state_use(mg_replica_kv_state(terms->replica, i), space, &some_keys,
			                &some_bytes);
		}
		*keys += some_keys;
		*bytes += some_bytes;
	}
}

/* NULL: nothing was noted of it. */
static struct mg_kv_limit *find_limit(struct mg_kv_terms *terms, struct mg_str space)
{
	size_t i = 0;

	while (i < terms->count && !mg_str_eq(terms->limits[i].space, space)) {
		i++;
	}
	return i < terms->count ? &terms->limits[i] : NULL;
}

static bool has_quota(const struct mg_catalog_space *space)
{
	return space && (space->quota_keys || space->quota_bytes);
}

void mg_kv_terms_note(struct mg_kv_terms *terms, const struct mg_kv_op *op)
{
	const struct mg_catalog_space *space = find(terms, op);

	if (!has_quota(space) || find_limit(terms, op->space)) {
		return;
	}
	mg_grow(terms->limits, terms->count, terms->cap);
	struct mg_kv_limit *limit = &terms->limits[terms->count++];

	*limit = (struct mg_kv_limit){ .space = mg_str(space->name),
		                           .keys_max = space->quota_keys,
		                           .bytes_max = space->quota_bytes };
	count_use(terms, limit->space, terms->shard, &limit->keys_elsewhere,
	          &limit->bytes_elsewhere);
}

/* Not below 0. */
static uint64_t sum(uint64_t number, int64_t more)
{
	uint64_t less = more < 0 ? (uint64_t)-more : 0;

	return more >= 0 ? number + (uint64_t)more : number > less ? number - less : 0;
}

void mg_kv_terms_grow(struct mg_kv_terms *terms, const struct mg_kv_growth *growth)
{
	struct mg_kv_limit *limit = find_limit(terms, growth->space);

	if (limit) {
		limit->keys_elsewhere = sum(limit->keys_elsewhere, growth->keys);
		limit->bytes_elsewhere = sum(limit->bytes_elsewhere, growth->bytes);
	}
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

/* ---- a transaction ---- */

void mg_kv_terms_add(struct mg_kv_terms *terms, const struct mg_kv_op *op,
                     const struct mg_kv_result *result, struct mg_kv_growth *list,
                     uint32_t *count)
{
	bool changes = terms->data && (result->more_keys || result->more_bytes);
	const struct mg_catalog_space *space =
		changes ? mg_catalog_find_space(terms->data, op->space) : NULL;
	uint32_t i = 0;

	if (!has_quota(space)) {
		return;
	}
	while (i < *count && !mg_str_eq(list[i].space, op->space)) {
		i++;
	}
	if (i == *count) {
		list[(*count)++] = (struct mg_kv_growth){ .space = op->space };
	}
	list[i].keys += result->more_keys;
	list[i].bytes += result->more_bytes;
}

bool mg_kv_terms_exceeds(struct mg_kv_terms *terms, const struct mg_kv_growth *growth,
                         struct mg_kv_result *out)
{
	const struct mg_catalog_space *space = mg_catalog_find_space(terms->data, growth->space);
	uint64_t keys, bytes;

	count_use(terms, growth->space, UINT32_MAX, &keys, &bytes);
	bool of_keys = space->quota_keys && growth->keys > 0 &&
	               sum(keys, growth->keys) > space->quota_keys;
	bool of_bytes = space->quota_bytes && growth->bytes > 0 &&
	                sum(bytes, growth->bytes) > space->quota_bytes;

	*out = (struct mg_kv_result){ .status = MG_KV_OVER_QUOTA,
		                          .quota = of_keys ? space->quota_keys : space->quota_bytes,
		                          .quota_of_keys = of_keys };
	return of_keys || of_bytes;
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
