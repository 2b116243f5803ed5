/* blind_int.h - what blind.c and blind_bind.c share: a statement that is bound. */
#ifndef MG_EXEC_BLIND_INT_H
#define MG_EXEC_BLIND_INT_H

#include "exec/blind.h"
#include "exec/plain_row.h"

#include <stdatomic.h>

#define MG_BLIND_TEXT_MAX (16u << 10) /* bytes of a text that is read on a caller's thread */
#define MG_BLIND_VALUES_MAX 4096      /* of a statement */
#define MG_BLIND_BYTES_MAX (256u << 10) /* of its values */

/* A text over one version of the catalog.  Counted; but for the encoder unchanging. */
struct mg_blind_bound {
	atomic_int refs;
	struct mg_arena *arena; /* of all below */
	struct mg_str sql;
	uint64_t version; /* of the catalog */
	bool good;        /* false: not for us; then nothing below counts */
	const char *schema, *stored;
	struct mg_plain_table table;
	size_t row_count, param_count;
	struct mg_plain_value *values; /* [row_count * table.value_count]; literals */
	size_t *params;                /* which parameter each is; SIZE_MAX: the literal */
	const uint16_t *owner;         /* shard of each slot */
	struct ArrowSchema batch;
	struct mg_buf *ipc_schema;
	struct mg_arrow_encoder *encoder; /* under the lock of who encodes */
};

struct mg_blind_cache;

struct mg_blind_cache *mg_blind_cache_new(struct mg_engine *engine);
void mg_blind_cache_free(struct mg_blind_cache *cache);
/* A ref to a good one, or NULL.  keep: the text will come again. */
struct mg_blind_bound *mg_blind_bind(struct mg_blind_cache *cache, struct mg_str sql, bool keep);
struct mg_blind_bound *mg_blind_bound_ref(struct mg_blind_bound *bound);
void mg_blind_bound_unref(struct mg_blind_bound *bound);
/* The values of all rows as the columns have them, the caller's (mg_free); texts lie in bound or in
 * params.  *bytes: about what they take.  NULL: not for us. */
struct mg_plain_value *mg_blind_values(const struct mg_blind_bound *bound,
                                       const struct mg_json *params, size_t *bytes);
/* What begins otherwise need not be looked for. */
bool mg_blind_may_be_insert(struct mg_str sql);

#endif
