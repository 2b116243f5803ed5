/* kv_atomic.c - see kv_atomic.h. */
#include "replica/kv_atomic.h"

#include "base/assert.h"
#include "os/clock.h"
#include "os/random.h"
#include "replica/kv_terms.h"
#include "replica/replica_int.h"

#include <stdlib.h>
#include <string.h>

/* A DECIDE that comes later than that after the beginning, by the log's clock, is none: that it was
 * refused is remembered for longer (MG_KV_ID_KEEP_MS), but not for ever. */
#define DECIDE_WITHIN_MS 60000u
enum { AGAIN_MS = 100, AGAIN_FOR_MS = 30000 };

/* A shard's operations; the first is the transaction's own. */
struct part {
	struct mg_kv_call call; /* first */
	struct mg_kv_tx *tx;
	struct mg_kv_op *ops;
	uint32_t *places; /* of the others, in the caller's list */
	uint32_t count;   /* with the first */
	struct mg_kv_op own; /* of what ends it: SETTLE, INQUIRE, FORGET */
	bool prepared, known; /* known: it was asked the same before, and has answered that again */
	uint64_t until_ms;    /* what ends it is sent again */
	struct mg_kv_result *results;
	struct mg_error err;
};

/* owner: the raft thread, from its first call on */
struct mg_kv_tx {
	struct mg_replica *replica;
	struct mg_kv_atomic *atomic;
	char id[MG_KV_TX_ID];
	struct mg_arena *arena;
	struct part *parts; /* in the order of their shards; the last one decides */
	uint32_t part_count;
	uint64_t within_ms;
	uint32_t left;      /* calls under way */
	uint32_t next;      /* of the parts, when they are asked one after the other */
	bool in_order;
	struct mg_kv_growth *grown; /* by what was prepared; of namespaces that have a quota */
	uint32_t grown_count;
	const struct mg_kv_growth *over; /* the one that is too much */
	struct mg_kv_result refusal;     /* of it */
	void (*then)(struct mg_kv_tx *tx); /* when none is left */
	struct mg_error err; /* what the caller hears once all is taken back */
};

static struct part *last_of(struct mg_kv_tx *tx)
{
	return &tx->parts[tx->part_count - 1];
}

/* ---- results ---- */

static struct mg_str keep(struct mg_kv_tx *tx, struct mg_str text)
{
	return (struct mg_str){ mg_arena_strndup(tx->arena, text.ptr ? text.ptr : "", text.len),
		                    text.len };
}

/* Of all its operations, which are valid only now.  What PREPARE has read SETTLE brings again. */
static void keep_results(struct part *part, const struct mg_kv_result *results, bool values)
{
	part->results = mg_arena_new_array(part->tx->arena, struct mg_kv_result, part->count);
	for (uint32_t i = 0; i < part->count; i++) {
		struct mg_kv_result *kept = &part->results[i];

		*kept = results[i];
		if (!values) {
			kept->was = (struct mg_kv_found){ 0 };
			continue;
		}
		kept->was.value = keep(part->tx, results[i].was.value);
		kept->was.type = keep(part->tx, results[i].was.type);
		kept->was.encoding = keep(part->tx, results[i].was.encoding);
	}
}

static bool refused(const struct part *part)
{
	bool was_refused = false;

	for (uint32_t i = 0; part->results && !was_refused && i < part->count; i++) {
		was_refused = mg_kv_stops(&part->ops[i], part->results[i].status);
	}
	return was_refused;
}

static bool has(const struct part *part, enum mg_kv_status status)
{
	bool found = false;

	for (uint32_t i = 0; part->results && !found && i < part->count; i++) {
		found = part->results[i].status == status;
	}
	return found;
}

/* ---- calls ---- */

static void call_again(void *arg)
{
	struct part *part = arg;

	mg_replica_kv_call(part->tx->replica, &part->call);
}

static void on_done(struct mg_kv_call *call, const struct mg_error *err,
                    const struct mg_kv_result *results)
{
	struct part *part = (struct part *)call;
	struct mg_kv_tx *tx = part->tx;

	if (err && err->code != MG_E_SHUTDOWN && mg_clock_ms() < part->until_ms &&
	    mg_raft_host_node(tx->replica->host)) {
		mg_raft_host_post_at(tx->replica->host, mg_clock_ms() + AGAIN_MS, call_again, part);
		return;
	}

	part->err = err ? *err : (struct mg_error){ 0 };
	part->results = NULL;
	if (!err && call->ops == part->ops) {
		part->known = results[0].found;
		keep_results(part, results, part->known || part->ops[0].kind == MG_KV_DECIDE);
		part->prepared = !part->known && !refused(part);
	} else if (!err && part->own.kind == MG_KV_SETTLE && part->own.number == 1 &&
	           results[0].found) {
		keep_results(part, results, true);
	} else if (!err && part->own.kind == MG_KV_INQUIRE) {
		part->own.number = (uint64_t)results[0].number;
	}
	if (--tx->left == 0) {
		tx->then(tx);
	}
}

static bool any_known(struct mg_kv_tx *tx)
{
	bool known = false;

	for (uint32_t i = 0; !known && i < tx->part_count; i++) {
		known = tx->parts[i].known;
	}
	return known;
}

/* Its operations, the first of which is of that kind.  What has happened before is not decided
 * again. */
static void ask(struct part *part, enum mg_kv_op_kind kind)
{
	struct mg_kv_tx *tx = part->tx;

	part->ops[0] = (struct mg_kv_op){
		.kind = (uint8_t)kind,
		.key = { tx->id, sizeof tx->id },
		.number = last_of(tx)->call.shard,
		.expiry = any_known(tx) ? 0 : tx->within_ms,
	};
	part->call = (struct mg_kv_call){
		.shard = part->call.shard,
		.never_waits = !tx->in_order,
		.ops = part->ops,
		.count = part->count,
		.id = tx->atomic->id,
		.grown = kind == MG_KV_DECIDE ? tx->grown : NULL,
		.grown_count = kind == MG_KV_DECIDE ? tx->grown_count : 0,
		.done = on_done,
	};
	part->until_ms = 0;
	mg_replica_kv_call(tx->replica, &part->call);
}

/* What ends it; SETTLE and FORGET may be said twice. */
static void tell(struct part *part, enum mg_kv_op_kind kind, uint64_t number)
{
	struct mg_kv_tx *tx = part->tx;

	part->own = (struct mg_kv_op){
		.kind = (uint8_t)kind, .key = { tx->id, sizeof tx->id }, .number = number
	};
	part->call = (struct mg_kv_call){
		.shard = part->call.shard, .is_settling = true, .ops = &part->own, .count = 1,
		.done = on_done,
	};
	part->until_ms = kind == MG_KV_INQUIRE ? 0 : mg_clock_ms() + AGAIN_FOR_MS;
	mg_replica_kv_call(tx->replica, &part->call);
}

/* ---- the end ---- */

static void tx_free(struct mg_kv_tx *tx)
{
	mg_arena_free(tx->arena);
	mg_free(tx);
}

/* The caller hears of it; what is still to be done needs nothing of the caller's. */
static void answer(struct mg_kv_tx *tx, const struct mg_error *err)
{
	struct mg_kv_atomic *atomic = tx->atomic;
	struct mg_kv_result *list = NULL;

	if (!err) {
		list = mg_arena_new_array(tx->arena, struct mg_kv_result, atomic->count + 1);
		for (uint32_t i = 0; i < atomic->count; i++) {
			list[i].status = MG_KV_NOT_TRIED; /* what was not asked any more */
		}
	}
	for (uint32_t i = 0; !err && i < tx->part_count; i++) {
		const struct part *part = &tx->parts[i];

		for (uint32_t j = 1; part->results && j < part->count; j++) {
			list[part->places[j]] = part->results[j];
		}
	}
	tx->atomic = NULL;
	atomic->done(atomic, err, list);
}

static void answer_and_end(struct mg_kv_tx *tx)
{
	answer(tx, tx->err.code ? &tx->err : NULL);
	tx_free(tx);
}

/* A refusal: only the parts that were refused say more than that they were not tried. */
static void tell_refusal(struct mg_kv_tx *tx)
{
	for (uint32_t i = 0; i < tx->part_count; i++) {
		if (!refused(&tx->parts[i])) {
			tx->parts[i].results = NULL;
		}
	}
	answer_and_end(tx);
}

static void begin(struct mg_kv_tx *tx);

/* Everybody lets go of what is prepared, or may be. */
static void take_back(struct mg_kv_tx *tx, void (*then)(struct mg_kv_tx *tx))
{
	tx->then = then;
	tx->left = 1;
	for (uint32_t i = 0; i + 1 < tx->part_count; i++) {
		struct part *part = &tx->parts[i];

		if (part->prepared || part->err.code == MG_E_UNKNOWN_OUTCOME) {
			tx->left++;
			part->prepared = false;
			tell(part, MG_KV_SETTLE, 0);
		}
	}
	if (--tx->left == 0) {
		then(tx);
	}
}

static void fail(struct mg_kv_tx *tx, const struct mg_error *err)
{
	tx->err = *err;
	take_back(tx, answer_and_end);
}

/* ---- it happens ---- */

static void settled(struct mg_kv_tx *tx)
{
	bool all = true, complete = true;

	for (uint32_t i = 0; i + 1 < tx->part_count; i++) {
		struct part *part = &tx->parts[i];

		all = all && (part->known || !part->err.code);
		complete = complete && part->results;
	}
	complete = complete && last_of(tx)->results;
	if (!complete) {
		mg_error_set(&tx->err, MG_E_UNKNOWN_OUTCOME,
		             "it was decided that the keys are changed, and the result is not known here");
		mg_error_hint(&tx->err, "Do not send it again. Read the keys.");
	}
	answer(tx, tx->err.code ? &tx->err : NULL);
	if (!all || last_of(tx)->known) {
		tx_free(tx); /* who has not heard of it will ask */
		return;
	}
	tx->then = tx_free;
	tx->left = 1;
	tell(last_of(tx), MG_KV_FORGET, 0);
}

static void settle(struct mg_kv_tx *tx)
{
	tx->then = settled;
	tx->left = 1;
	for (uint32_t i = 0; i + 1 < tx->part_count; i++) {
		if (!tx->parts[i].known) {
			tx->left++;
			tell(&tx->parts[i], MG_KV_SETTLE, 1);
		}
	}
	if (--tx->left == 0) {
		settled(tx);
	}
}

/* ---- the decision ---- */

static void inquired(struct mg_kv_tx *tx)
{
	struct part *last = last_of(tx);

	if (last->err.code) {
		struct mg_error err = { 0 };

		mg_error_set(&err, MG_E_UNKNOWN_OUTCOME,
		             "nobody knows whether the keys were changed: %s", last->err.message);
		mg_error_hint(&err, "All of them were, or none: read one before trying again.");
		answer(tx, &err);
		tx_free(tx); /* the others will ask */
	} else if (last->own.number == 1) {
		settle(tx);
	} else {
		struct mg_error err = { 0 };

		mg_error_set(&err, MG_E_UNAVAILABLE, "the shard that decides was out of reach");
		mg_error_hint(&err, "Nothing happened: try again.");
		fail(tx, &err);
	}
}

static void conflict(struct mg_kv_tx *tx)
{
	tx->in_order = true;
	take_back(tx, begin);
}

static void decided(struct mg_kv_tx *tx)
{
	struct part *last = last_of(tx);
	struct mg_error err = { 0 };
	bool mixed = false;

	for (uint32_t i = 0; !last->err.code && i + 1 < tx->part_count; i++) {
		mixed = mixed || tx->parts[i].known != last->known;
	}
	if (last->err.code == MG_E_UNKNOWN_OUTCOME) {
		tx->then = inquired;
		tx->left = 1;
		tell(last, MG_KV_INQUIRE, 0);
	} else if (last->err.code) {
		err = last->err;
		fail(tx, &err);
	} else if (has(last, MG_KV_LOCKED) && !tx->in_order) {
		conflict(tx);
	} else if (has(last, MG_KV_OTHER_REQUEST)) {
		take_back(tx, tell_refusal);
	} else if (mixed && (last->known || has(last, MG_KV_ABORTED))) {
		mg_error_set(&err, MG_E_UNKNOWN_OUTCOME,
		             "the same request was carried out before, and its answer is forgotten");
		mg_error_hint(&err, "Read the keys that it has changed.");
		fail(tx, &err);
	} else if (has(last, MG_KV_ABORTED)) {
		mg_error_set(&err, MG_E_BUSY, "the keys were held for too long before they were changed");
		mg_error_hint(&err, "Nothing happened: try again.");
		fail(tx, &err);
	} else if (refused(last)) {
		take_back(tx, tell_refusal);
	} else {
		settle(tx);
	}
}

/* ---- preparation ---- */

/* By all parts but the last, of which it is not known yet. */
static void sum_growth(struct mg_kv_tx *tx, struct mg_kv_terms *terms)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i + 1 < tx->part_count; i++) {
		count += tx->parts[i].count;
	}
	tx->grown = mg_arena_new_array(tx->arena, struct mg_kv_growth, count);
	tx->grown_count = 0;
	for (uint32_t i = 0; i + 1 < tx->part_count; i++) {
		const struct part *part = &tx->parts[i];

		for (uint32_t j = 1; j < part->count; j++) {
			mg_kv_terms_add(terms, &part->ops[j], &part->results[j], tx->grown,
			                &tx->grown_count);
		}
	}
}

/* The first operation of a part that may have added to the namespace; or `count`. */
static uint32_t find_filling(const struct part *part, struct mg_str space)
{
	uint32_t i = 1;

	while (i < part->count && !(mg_kv_fills(part->ops[i].kind) &&
	                            mg_str_eq(part->ops[i].space, space))) {
		i++;
	}
	return i;
}

/* All have let go; as if the first part that adds to the namespace had refused to. */
static void tell_over_quota(struct mg_kv_tx *tx)
{
	struct part *part = tx->parts;
	uint32_t at = find_filling(part, tx->over->space);

	while (at == part->count && part + 1 < last_of(tx)) {
		at = find_filling(++part, tx->over->space);
	}
	mg_assert(at < part->count);
	part->results = mg_arena_new_array(tx->arena, struct mg_kv_result, part->count);
	for (uint32_t i = 0; i < part->count; i++) {
		part->results[i].status = MG_KV_NOT_TRIED;
	}
	part->results[at] = tx->refusal;
	tell_refusal(tx);
}

/* A namespace would hold more than it may. */
static bool grows_too_much(struct mg_kv_tx *tx)
{
	struct mg_kv_terms terms;

	tx->over = NULL;
	tx->grown_count = 0;
	mg_kv_terms_begin(&terms, tx->replica, 0);
	if (terms.data) {
		sum_growth(tx, &terms);
	}
	for (uint32_t i = 0; !tx->over && i < tx->grown_count; i++) {
		if (mg_kv_terms_exceeds(&terms, &tx->grown[i], &tx->refusal)) {
			tx->over = &tx->grown[i];
		}
	}
	mg_kv_terms_end(&terms);
	return tx->over != NULL;
}

static void prepared(struct mg_kv_tx *tx)
{
	bool any_locked = false, any_refused = false;
	struct mg_error err = { 0 }, cause;

	for (uint32_t i = 0; i < tx->next; i++) {
		const struct part *part = &tx->parts[i];

		if (part->err.code && !err.code) {
			err = part->err;
		}
		any_locked = any_locked || has(part, MG_KV_LOCKED);
		any_refused = any_refused || refused(part);
	}
	if (err.code == MG_E_UNKNOWN_OUTCOME) {
		cause = err;
		mg_error_set(&err, MG_E_UNAVAILABLE, "a shard was out of reach: %s", cause.message);
		mg_error_hint(&err, "Nothing happened: try again.");
	}
	if (err.code) {
		fail(tx, &err);
	} else if (any_locked && !tx->in_order) {
		conflict(tx);
	} else if (any_refused) {
		take_back(tx, tell_refusal);
	} else if (tx->next + 1 < tx->part_count) {
		tx->left = 1;
		ask(&tx->parts[tx->next++], MG_KV_PREPARE);
	} else if (!any_known(tx) && grows_too_much(tx)) {
		take_back(tx, tell_over_quota);
	} else {
		tx->then = decided;
		tx->left = 1;
		ask(last_of(tx), MG_KV_DECIDE);
	}
}

static void begin_on_raft(void *arg)
{
	begin(arg);
}

static void begin(struct mg_kv_tx *tx)
{
	uint32_t at_once = tx->in_order ? 1 : tx->part_count - 1;

	mg_random_bytes(tx->id, sizeof tx->id);
	tx->within_ms = mg_replica_kv_now_ms(tx->replica) + DECIDE_WITHIN_MS;
	for (uint32_t i = 0; i < tx->part_count; i++) {
		tx->parts[i].prepared = tx->parts[i].known = false;
		tx->parts[i].results = NULL;
		tx->parts[i].err = (struct mg_error){ 0 };
	}
	tx->then = prepared;
	tx->next = at_once;
	tx->left = at_once;
	for (uint32_t i = 0; i < at_once; i++) {
		ask(&tx->parts[i], MG_KV_PREPARE);
	}
}

/* ---- one shard ---- */

struct alone {
	struct mg_kv_call call; /* first */
	struct mg_kv_atomic *atomic;
};

static void alone_done(struct mg_kv_call *call, const struct mg_error *err,
                       const struct mg_kv_result *results)
{
	struct alone *alone = (struct alone *)call;
	struct mg_kv_atomic *atomic = alone->atomic;

	atomic->done(atomic, err, results);
	mg_free(alone);
}

static void begin_alone(struct mg_replica *replica, struct mg_kv_atomic *atomic, uint32_t shard)
{
	struct alone *alone = mg_alloc0(sizeof *alone);

	alone->atomic = atomic;
	alone->call = (struct mg_kv_call){
		.shard = shard, .ops = atomic->ops, .count = atomic->count, .id = atomic->id,
		.done = alone_done,
	};
	mg_replica_kv_call(replica, &alone->call);
}

/* ---- the beginning ---- */

struct placed {
	uint32_t shard, place;
};

static int by_shard(const void *a, const void *b)
{
	const struct placed *one = a, *other = b;

	return one->shard != other->shard ? (one->shard > other->shard) - (one->shard < other->shard)
	                                  : (one->place > other->place) - (one->place < other->place);
}

/* Operations `from` to before `end` of the list are one shard's. */
static void add_part(struct mg_kv_tx *tx, const struct placed *placed, uint32_t from, uint32_t end)
{
	struct part *part = &tx->parts[tx->part_count++];

	*part = (struct part){ .call.shard = placed[from].shard, .tx = tx, .count = end - from + 1 };
	part->ops = mg_arena_new_array(tx->arena, struct mg_kv_op, part->count);
	part->places = mg_arena_new_array(tx->arena, uint32_t, part->count);
	for (uint32_t i = from; i < end; i++) {
		part->places[i - from + 1] = placed[i].place;
		part->ops[i - from + 1] = tx->atomic->ops[placed[i].place];
	}
}

static void begin_parts(struct mg_replica *replica, struct mg_kv_atomic *atomic,
                        const struct placed *placed, uint32_t part_count)
{
	struct mg_kv_tx *tx = mg_alloc0(sizeof *tx);
	uint32_t from = 0;

	tx->replica = replica;
	tx->atomic = atomic;
	tx->arena = mg_arena_new();
	tx->parts = mg_arena_new_array(tx->arena, struct part, part_count);
	for (uint32_t i = 1; i <= atomic->count; i++) {
		if (i == atomic->count || placed[i].shard != placed[from].shard) {
			add_part(tx, placed, from, i);
			from = i;
		}
	}
	mg_raft_host_post(replica->host, begin_on_raft, tx);
}

void mg_replica_kv_atomic(struct mg_replica *replica, struct mg_kv_atomic *atomic)
{
	uint32_t count = atomic->count, part_count = count > 0;
	struct placed *placed = mg_alloc((count + 1) * sizeof *placed);

	for (uint32_t i = 0; i < count; i++) {
		const struct mg_kv_op *op = &atomic->ops[i];

		placed[i] = (struct placed){ mg_replica_kv_shard(replica, op->space, op->key), i };
	}
	qsort(placed, count, sizeof *placed, by_shard);
	for (uint32_t i = 1; i < count; i++) {
		part_count += placed[i].shard != placed[i - 1].shard;
	}
	if (part_count <= 1) {
		begin_alone(replica, atomic, count ? placed[0].shard : 0);
	} else {
		begin_parts(replica, atomic, placed, part_count);
	}
	mg_free(placed);
}
