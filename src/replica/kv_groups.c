/* kv_groups.c - see kv_groups.h: requests, reads and time; kv_open.c: how the groups begin. */
#include "replica/kv_groups_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "codec/slot.h"
#include "os/clock.h"
#include "replica/kv_terms.h"

#include <inttypes.h>
#include <string.h>

enum {
	TICK_MS = 100,
	IDLE_MS = 1000, /* while no key is due sooner */
	ENTRY_PREPARES = 32, /* each goes back in the tree's batch, which is dear */
	READS_FEW = 16,      /* of one call, without a heap */
};
#define REQUEST_BYTES_MAX (15u << 20) /* an entry of raft has 16 MiB */
#define ENTRY_BYTES (4u << 20) /* gathered into one entry; a larger request is one of its own */

/* An entry that was proposed: whose requests it holds. */
struct sent {
	struct sent *next;
	struct kv_group *group;
	uint64_t index;          /* where it is in the log, once that is known; 0: not yet */
	bool asked, answered;    /* its proposal has ended; its requests have heard */
	uint32_t count;
	struct mg_kv_call *calls[];
};

/* Reads that wait for one index. */
struct reading {
	struct reading *next;
	struct kv_group *group;
	uint64_t index, until_ms;
	struct mg_kv_call *calls; /* a list */
};

/* ---- calls that end ---- */

static void end_call(struct mg_kv_groups *groups, struct mg_kv_call *call,
                     const struct mg_error *err, const struct mg_kv_result *results)
{
	pthread_mutex_lock(&groups->lock);
	groups->bytes -= call->bytes;
	pthread_mutex_unlock(&groups->lock);
	call->done(call, err, results);
}

/* ---- calls that transactions hold up ---- */

static void end_held(struct mg_kv_groups *groups, struct mg_kv_call *call)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_BUSY, "a transaction has held a key for %d s", MG_KV_HELD_MS / 1000);
	mg_error_hint(&err, "Nothing happened: try again. It ends as soon as the shards that it "
	                    "has written to have a majority.");
	end_call(groups, call, &err, NULL);
}

static void hold(struct kv_group *group, struct mg_kv_call *call)
{
	call->until_ms = call->until_ms ? call->until_ms : mg_clock_ms() + MG_KV_HELD_MS;
	call->next = group->held;
	group->held = call;
}

/* A refusal for this reason is the whole request's. */
static bool is_held(const struct mg_kv_call *call, const struct mg_kv_result *results)
{
	bool held = false;

	for (uint32_t i = 0; !call->never_waits && !held && i < call->count; i++) {
		held = results[i].status == MG_KV_LOCKED;
	}
	return held;
}

/* ---- writes ---- */

static void unlink_sent(struct sent *sent)
{
	struct sent **at = &sent->group->sent;

	while (*at != sent) {
		at = &(*at)->next;
	}
	*at = sent->next;
}

/* The proposal and the requests end in either order. */
static void maybe_free(struct sent *sent)
{
	if (sent->asked && sent->answered) {
		mg_free(sent);
	}
}

static void refuse_sent(struct sent *sent, const struct mg_error *err)
{
	unlink_sent(sent);
	sent->answered = true;
	for (uint32_t i = 0; i < sent->count; i++) {
		end_call(sent->group->groups, sent->calls[i], err, NULL);
	}
}

static void on_results(void *arg, uint32_t number, const struct mg_kv_results *results,
                       size_t count)
{
	struct mg_kv_groups *groups = arg;
	struct kv_group *group = &groups->list[number - groups->list[0].number];
	struct sent *sent = group->sent;

	while (sent && sent->calls[0]->number != results[0].number) {
		sent = sent->next;
	}
	if (!sent) {
		return; /* it had lost sight of it, and said so */
	}
	mg_assert(sent->count == count);
	unlink_sent(sent);
	sent->answered = true;
	for (uint32_t i = 0; i < sent->count; i++) {
		mg_assert(sent->calls[i]->number == results[i].number);
		if (is_held(sent->calls[i], results[i].list)) {
			hold(group, sent->calls[i]);
		} else {
			end_call(groups, sent->calls[i], NULL, results[i].list);
		}
	}
	maybe_free(sent);
}

static void say_condemned(struct mg_error *err)
{
	mg_error_set(err, MG_E_UNAVAILABLE, "this server's replica of the keys is being made anew");
	mg_error_hint(err, "Try again in a moment, or at another server.");
}

/* It was applied here as a part of a snapshot: what came of it is not told there. */
static void lose_sight(struct kv_group *group, uint64_t index)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_UNKNOWN_OUTCOME,
	             "the request was carried out, and its result is not known here");
	mg_error_hint(&err, "Read what it would have changed before trying again.");
	for (struct sent *sent = group->sent, *next; sent; sent = next) {
		next = sent->next;
		if (sent->index && sent->index <= index) {
			refuse_sent(sent, &err);
			maybe_free(sent);
		}
	}
}

static void on_asked(void *arg, const struct mg_error *err, uint64_t index)
{
	struct sent *sent = arg;
	bool condemned = mg_kv_state_is_condemned(mg_kv_sm_state(sent->group->sm));
	struct mg_error why;

	if (condemned && err->code && err->code != MG_E_UNKNOWN_OUTCOME) {
		say_condemned(&why); /* and not that there is no such group, or what has damaged it */
		err = &why;
	}
	sent->asked = true;
	if (!sent->answered && err->code) {
		refuse_sent(sent, err);
	} else if (!sent->answered) {
		sent->index = index;
		if (index <= sent->group->told || condemned) {
			lose_sight(sent->group, index);
			return;
		}
	}
	maybe_free(sent);
}

static size_t request_size(const struct mg_kv_call *call)
{
	const struct mg_kv_request head = { .id = call->id };
	size_t size = mg_kv_request_size(&head);

	for (uint32_t i = 0; i < call->count; i++) {
		size += mg_kv_op_size(&call->ops[i]);
	}
	return size;
}

static void encode_request(struct mg_out *out, const struct mg_kv_call *call,
                           struct mg_kv_terms *terms)
{
	const struct mg_kv_request head = {
		.number = call->number, .id = call->id, .op_count = call->count
	};

	mg_kv_request_encode(out, &head);
	for (uint32_t i = 0; i < call->count; i++) {
		const struct mg_kv_op op = mg_kv_terms_with(terms, &call->ops[i]);

		mg_kv_op_encode(out, &op);
	}
}

/* What the settings of namespaces mean for the calls of a list, `count` of them. */
static void look_up_terms(struct mg_kv_terms *terms, struct kv_group *group,
                          const struct mg_kv_call *call, uint32_t count)
{
	mg_kv_terms_begin(terms, group->groups->replica, group->number - group->groups->list[0].number);
	for (uint32_t i = 0; terms->data && i < count; i++, call = call->next) {
		for (uint32_t j = 0; j < call->count; j++) {
			mg_kv_terms_note(terms, &call->ops[j]);
		}
		for (uint32_t j = 0; j < call->grown_count; j++) {
			mg_kv_terms_grow(terms, &call->grown[j]);
		}
	}
}

/* The calls that it carries, and their numbers. */
static struct sent *new_sent(struct kv_group *group, struct mg_kv_call *calls, uint32_t count)
{
	struct sent *sent = mg_alloc0(sizeof *sent + count * sizeof(struct mg_kv_call *));

	sent->group = group;
	sent->next = group->sent;
	group->sent = sent;
	sent->count = count;
	for (uint32_t i = 0; i < count; i++, calls = calls->next) {
		sent->calls[i] = calls;
		calls->number = ++group->groups->next_number;
	}
	return sent;
}

static void encode_entry(struct mg_out *out, const struct sent *sent, struct mg_kv_terms *terms)
{
	struct mg_kv_groups *groups = sent->group->groups;
	const struct mg_kv_entry head = {
		.kind = MG_KV_REQUESTS,
		.limit_count = (uint16_t)terms->count,
		.count = sent->count,
		.time_ms = mg_kv_clock_now_ms(&groups->clock),
		.origin = groups->replica->options.self,
		.incarnation = mg_raft_host_incarnation(groups->replica->host),
	};

	mg_kv_entry_encode(out, &head);
	mg_kv_terms_encode(terms, out);
	for (uint32_t i = 0; i < sent->count; i++) {
		encode_request(out, sent->calls[i], terms);
	}
}

/* Calls of a list, `count` of them, as one entry; size: without its limits. */
static void propose(struct kv_group *group, struct mg_kv_call *calls, uint32_t count, size_t size)
{
	struct sent *sent = new_sent(group, calls, count);
	struct mg_kv_terms terms;

	look_up_terms(&terms, group, calls, count);
	size += mg_kv_terms_size(&terms);
	struct mg_question *question = mg_replica__question(group->groups->replica, MG_ASK_PROPOSE,
	                                                    group->number, size, on_asked, sent);

	if (question) {
		struct mg_out out = mg_out(mg_replica__question_bytes(question), size);

		encode_entry(&out, sent, &terms);
		size = out.size;
	}
	mg_kv_terms_end(&terms);
	if (!question) {
		struct mg_error err = { 0 };

		mg_error_set(&err, MG_E_NOMEM, "no memory for a write of %zu bytes", size);
		on_asked(sent, &err, 0);
		return;
	}
	mg_replica__question_ask(question, size);
}

/* ---- reads ---- */

/* A value in parts is for who takes it so. */
static void refuse_parts(const struct mg_kv_call *call, struct mg_kv_result *results)
{
	for (uint32_t i = 0; i < call->count && !call->takes_parts; i++) {
		if (results[i].found && results[i].was.part_count) {
			results[i].status = MG_KV_TOO_LARGE;
		}
	}
}

/* What was decided elsewhere, and not yet here, must be seen by who begins now. */
static int any_held(struct mg_kv_groups *groups, const struct mg_kv_call *call, bool *held,
                    struct mg_error *err)
{
	struct mg_kv_state *state = mg_kv_sm_state(groups->list[call->shard].sm);
	int code = 0;

	*held = false;
	for (uint32_t i = 0; !code && !*held && i < call->count; i++) {
		code = mg_kv_state_held(state, call->ops[i].space, call->ops[i].key, held, err);
	}
	return code;
}

static void answer_read(struct mg_kv_groups *groups, struct mg_kv_call *call)
{
	struct mg_kv_result few[READS_FEW], *results = few;
	struct mg_lsm_value few_values[READS_FEW], *values = few_values;
	struct mg_kv_state *state = mg_kv_sm_state(groups->list[call->shard].sm);
	struct mg_error err = { 0 };
	bool held = false;
	int code = call->any ? 0 : any_held(groups, call, &held, &err);

	if (held) {
		hold(&groups->list[call->shard], call);
		return;
	}
	if (call->count > READS_FEW) {
		results = mg_alloc(call->count * sizeof *results);
		values = mg_alloc(call->count * sizeof *values);
	}
	memset(results, 0, call->count * sizeof *results);
	code = code ? code : mg_kv_state_read(state, call->ops, call->count, results, values, &err);
	uint32_t count = code ? 0 : call->count;

	if (!code) {
		refuse_parts(call, results);
	}
	end_call(groups, call, code ? &err : NULL, results);
	for (uint32_t i = 0; i < count; i++) {
		mg_lsm_value_free(&values[i]);
	}
	if (results != few) {
		mg_free(results);
		mg_free(values);
	}
}

static void end_reading(struct reading *reading, const struct mg_error *err)
{
	struct mg_kv_groups *groups = reading->group->groups;

	for (struct mg_kv_call *call = reading->calls, *next; call; call = next) {
		next = call->next;
		if (err) {
			end_call(groups, call, err, NULL);
		} else {
			answer_read(groups, call);
		}
	}
	mg_free(reading);
}

static void on_index(void *arg, const struct mg_error *err, uint64_t index)
{
	struct reading *reading = arg;
	struct kv_group *group = reading->group;
	struct mg_error why;

	if (mg_kv_state_is_condemned(mg_kv_sm_state(group->sm))) {
		say_condemned(&why);
		end_reading(reading, &why);
		return;
	}
	reading->index = index;
	if (err->code || index <= mg_kv_state_index(mg_kv_sm_state(group->sm))) {
		end_reading(reading, err->code ? err : NULL);
	} else {
		reading->until_ms = mg_clock_ms() + MG_KV_HELD_MS;
		reading->next = group->readings;
		group->readings = reading;
	}
}

static void ask_index(struct kv_group *group, struct mg_kv_call *calls)
{
	struct reading *reading = mg_alloc0(sizeof *reading);
	struct mg_replica *replica = group->groups->replica;
	struct mg_question *question =
		mg_replica__question(replica, MG_ASK_READ, group->number, 0, on_index, reading);

	reading->group = group;
	reading->calls = calls;
	if (!question) {
		struct mg_error err = { 0 };

		mg_error_set(&err, MG_E_NOMEM, "no memory for a read");
		end_reading(reading, &err);
		return;
	}
	mg_replica__question_ask(question, 0);
}

static void serve_readings(struct kv_group *group, uint64_t index)
{
	struct reading **at = &group->readings;

	while (*at) {
		struct reading *reading = *at;

		if (reading->index > index) {
			at = &reading->next;
			continue;
		}
		*at = reading->next;
		end_reading(reading, NULL);
	}
}

/* ---- calls that come ---- */

/* What has come for one group. */
struct gathered {
	struct mg_kv_call *reads, **reads_last;
	struct mg_kv_call *writes, **writes_last;
};

static void propose_all(struct kv_group *group, struct mg_kv_call *calls)
{
	while (calls) {
		struct mg_kv_call *first = calls;
		size_t size = MG_KV_ENTRY_HEAD;
		uint32_t count = 0, prepares = 0;

		do {
			size += calls->bytes;
			prepares += calls->count > 0 && calls->ops[0].kind == MG_KV_PREPARE;
			count++;
			calls = calls->next;
		} while (calls && size + calls->bytes <= ENTRY_BYTES && prepares < ENTRY_PREPARES);
		propose(group, first, count, size);
	}
}

static void gather(void *arg)
{
	struct mg_kv_groups *groups = arg;
	struct gathered *gathered = mg_alloc0(groups->count * sizeof *gathered);

	pthread_mutex_lock(&groups->lock);
	struct mg_kv_call *calls = groups->first;

	groups->first = NULL;
	groups->last = &groups->first;
	groups->posted = false;
	pthread_mutex_unlock(&groups->lock);
	for (struct mg_kv_call *call = calls, *next; call; call = next) {
		struct gathered *own = &gathered[call->shard];
		struct mg_kv_call ***last = call->reads ? &own->reads_last : &own->writes_last;

		if (!*last) {
			*last = call->reads ? &own->reads : &own->writes;
		}
		next = call->next;
		call->next = NULL;
		**last = call;
		*last = &call->next;
	}
	for (uint32_t i = 0; i < groups->count; i++) {
		if (gathered[i].reads) {
			ask_index(&groups->list[i], gathered[i].reads);
		}
		propose_all(&groups->list[i], gathered[i].writes);
	}
	mg_free(gathered);
}

/* What no replica could decode must not get into the log. */
static int check(const struct mg_kv_call *call, struct mg_error *err)
{
	bool good = call->count <= MG_KV_OPS_MAX && call->id.len <= MG_KV_ID_MAX &&
	            (call->id.len == 0 || call->id.ptr[0] != '\0'); /* decisions stand behind a zero */

	for (uint32_t i = 0; good && i < call->count; i++) {
		const struct mg_kv_op *op = &call->ops[i];

		good = (op->space.len > 0) == mg_kv_has_key(op->kind) &&
		       op->space.len <= MG_KV_SPACE_MAX &&
		       op->key.len <= MG_KV_KEY_MAX && op->value.len <= MG_KV_VALUE_MAX &&
		       op->type.len <= MG_KV_TYPE_MAX && op->encoding.len <= MG_KV_TYPE_MAX;
	}
	if (good && call->bytes <= REQUEST_BYTES_MAX) {
		return 0;
	}
	mg_error_set(err, MG_E_LIMIT, "a key, a value or the whole request is too large");
	mg_error_hint(err, "A key has up to 64 KiB, a value 4 MiB, a request 15 MiB.");
	return MG_E_LIMIT;
}

/* True: somebody must be told that there is one. */
static bool add_locked(struct mg_kv_groups *groups, struct mg_kv_call *call)
{
	bool was_posted = groups->posted;

	call->next = NULL;
	*groups->last = call;
	groups->last = &call->next;
	groups->posted = true;
	return !was_posted;
}

void mg_replica_kv_call(struct mg_replica *replica, struct mg_kv_call *call)
{
	struct mg_kv_groups *groups = replica->kv;
	struct mg_error err = { 0 };

	mg_assert(groups && call->shard < groups->count);
	call->next = NULL;
	call->until_ms = 0;
	call->bytes = request_size(call);
	if (check(call, &err) ||
	    (!call->reads && !call->is_settling && mg_replica__has_room(replica, &err))) {
		call->done(call, &err, NULL);
		return;
	}
	bool any = call->any; /* it may be over, and gone, once it is in the list */

	pthread_mutex_lock(&groups->lock);
	bool ended = groups->ended;
	bool full = !ended && groups->bytes + call->bytes > MG_KV_CALLS_BYTES && groups->bytes > 0 &&
	            !call->is_settling;
	groups->bytes += call->bytes;
	bool post = !ended && !full && !any && add_locked(groups, call);

	pthread_mutex_unlock(&groups->lock);
	if (ended) {
		mg_error_set(&err, MG_E_SHUTDOWN, "the server is stopping");
		end_call(groups, call, &err, NULL);
	} else if (full) {
		mg_error_set(&err, MG_E_BUSY, "too much is being written to keys and values");
		mg_error_hint(&err, "Nothing was written: try again a little later.");
		end_call(groups, call, &err, NULL);
	} else if (any) {
		answer_read(groups, call);
	} else if (post) {
		mg_raft_host_post(replica->host, gather, groups);
	}
}

/* ---- what was held up ---- */

static void try_again(struct mg_kv_groups *groups, struct mg_kv_call *call)
{
	struct mg_error err = { 0 };
	bool held = false;

	if (call->reads) {
		answer_read(groups, call);
		return;
	}
	if (!any_held(groups, call, &held, &err) && held) {
		hold(&groups->list[call->shard], call); /* its bytes need not go through the log for that */
		return;
	}
	pthread_mutex_lock(&groups->lock);
	bool ended = groups->ended, post = !ended && add_locked(groups, call);

	pthread_mutex_unlock(&groups->lock);
	if (ended) {
		mg_error_set(&err, MG_E_SHUTDOWN, "the server is stopping");
		end_call(groups, call, &err, NULL);
	} else if (post) {
		mg_raft_host_post(groups->replica->host, gather, groups);
	}
}

/* In the order in which they came, when keys were let go; who has waited for too long hears so. */
static void try_held(struct kv_group *group, bool only_late)
{
	struct mg_kv_call *calls = NULL;
	uint64_t now_ms = mg_clock_ms();

	for (struct mg_kv_call *call = group->held, *next; call; call = next) {
		next = call->next;
		call->next = calls;
		calls = call;
	}
	group->held = NULL;
	for (struct mg_kv_call *call = calls, *next; call; call = next) {
		next = call->next;
		if (now_ms >= call->until_ms) {
			end_held(group->groups, call);
		} else if (only_late) {
			hold(group, call);
		} else {
			try_again(group->groups, call);
		}
	}
}

static void serve_held(struct kv_group *group)
{
	uint64_t releases = mg_kv_state_releases(mg_kv_sm_state(group->sm));

	if (group->held && releases != group->releases) {
		try_held(group, false);
	}
	group->releases = releases;
}

/* ---- time ---- */

static void on_ticked(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct kv_group *group = arg;

	(void)error;
	(void)index;
	(void)leader;
	group->ticking = false;
}

/* Who leads a group lets what has expired go. */
static void tick(struct kv_group *group)
{
	struct mg_group *raft = mg_raft_host_group(group->groups->replica->host, group->number);
	uint64_t expiry_ms = mg_kv_state_expiry_ms(mg_kv_sm_state(group->sm));
	const struct mg_kv_entry entry = { .kind = MG_KV_TICK,
		                               .time_ms = mg_kv_clock_now_ms(&group->groups->clock) };
	struct mg_group_info info;
	uint8_t bytes[MG_KV_ENTRY_HEAD];
	struct mg_out out = mg_out(bytes, sizeof bytes);

	if (!raft) {
		return;
	}
	mg_group_info(raft, &info);
	if (info.core.role == MG_RAFT_LEADER) {
		mg_replica__kv_resolve(group->groups->replica,
		                       group->number - group->groups->list[0].number, &group->resolver);
	}
	if (info.core.role == MG_RAFT_LEADER && !group->ticking && expiry_ms &&
	    expiry_ms <= entry.time_ms) {
		mg_kv_entry_encode(&out, &entry);
		group->ticking = mg_group_propose(raft, bytes, out.size, on_ticked, group, NULL) == 0;
	}
}

/* This node does not come to apply what they wait for. */
static void end_late_readings(struct kv_group *group)
{
	struct reading **at = &group->readings;
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_UNAVAILABLE, "this server lags behind the others by more than %d s",
	             MG_KV_HELD_MS / 1000);
	mg_error_hint(&err, "Try again, or at another server.");
	while (*at) {
		struct reading *reading = *at;

		if (mg_clock_ms() < reading->until_ms) {
			at = &reading->next;
			continue;
		}
		*at = reading->next;
		end_reading(reading, &err);
	}
}

static void end_all_held(struct mg_kv_groups *groups)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_SHUTDOWN, "the server is stopping");
	for (uint32_t i = 0; i < groups->count; i++) {
		for (struct mg_kv_call *call = groups->list[i].held, *next; call; call = next) {
			next = call->next;
			end_call(groups, call, &err, NULL);
		}
		groups->list[i].held = NULL;
	}
}

/* How long this group can wait for the next tick. */
static uint64_t rest_of(struct kv_group *group, uint64_t time_ms)
{
	uint64_t expiry_ms = mg_kv_state_expiry_ms(mg_kv_sm_state(group->sm));

	if (group->held || group->readings || (expiry_ms && expiry_ms <= time_ms + TICK_MS)) {
		return TICK_MS;
	}
	return expiry_ms && expiry_ms < time_ms + IDLE_MS ? expiry_ms - time_ms : IDLE_MS;
}

static void tick_at(struct mg_kv_groups *groups, uint64_t ms)
{
	groups->tick_ms = ms;
	mg_raft_host_post_at(groups->replica->host, ms, mg_kv__tick_all, groups);
}

/* An entry may have brought a key that is due before the next tick. */
static void hurry_tick(struct kv_group *group)
{
	struct mg_kv_groups *groups = group->groups;
	uint64_t now_ms = mg_clock_ms();

	if (groups->tick_ms > now_ms + TICK_MS &&
	    mg_kv_state_expiry_ms(mg_kv_sm_state(group->sm))) {
		uint64_t next_ms = now_ms + rest_of(group, mg_kv_clock_now_ms(&groups->clock));

		if (next_ms < groups->tick_ms) {
			tick_at(groups, next_ms);
		}
	}
}

void mg_kv__tick_all(void *arg)
{
	struct mg_kv_groups *groups = arg;
	struct mg_replica *replica = groups->replica;
	uint64_t now_ms = mg_clock_ms(), rest_ms = IDLE_MS;

	if (!mg_raft_host_node(replica->host)) {
		end_all_held(groups);
		return;
	}
	if (now_ms < groups->tick_ms) {
		return; /* an earlier one has come in between, and said when the next one is */
	}
	for (uint32_t i = 0; i < groups->count; i++) {
		tick(&groups->list[i]);
		if (groups->list[i].held) {
			try_held(&groups->list[i], true);
		}
		end_late_readings(&groups->list[i]);
		uint64_t own_ms = rest_of(&groups->list[i], mg_kv_clock_now_ms(&groups->clock));

		rest_ms = own_ms < rest_ms ? own_ms : rest_ms;
	}
	tick_at(groups, now_ms + rest_ms);
}

/* ---- life ---- */

static void on_applied(void *arg, uint32_t number, uint64_t index)
{
	struct mg_kv_groups *groups = arg;
	struct kv_group *group = &groups->list[number - groups->list[0].number];

	mg_kv_clock_saw(&groups->clock, mg_kv_state_time_ms(mg_kv_sm_state(group->sm)));
	mg_replica__on_applied(groups->replica, number, index);
	group->told = index;
	lose_sight(group, index);
	serve_readings(group, index);
	serve_held(group);
	hurry_tick(group);
}

static void on_failed(void *arg, uint32_t number)
{
	struct mg_kv_groups *groups = arg;
	struct kv_group *group = &groups->list[number - groups->list[0].number];
	struct mg_error err;

	say_condemned(&err);
	for (struct reading *reading = group->readings, *next; reading; reading = next) {
		next = reading->next;
		end_reading(reading, &err);
	}
	group->readings = NULL;
	lose_sight(group, UINT64_MAX);
}

void mg_kv__listen(struct mg_kv_groups *groups, struct mg_kv_sm_options *options)
{
	options->on_results = on_results;
	options->on_applied = on_applied;
	options->on_failed = on_failed;
	options->arg = groups;
}

void mg_replica__kv_reopened(struct mg_replica *replica, uint32_t number, uint64_t index)
{
	on_applied(replica->kv, number, index);
}

bool mg_replica__kv_leads(const struct mg_replica *replica, uint32_t shard)
{
	struct mg_group *raft = mg_raft_host_group(replica->host, replica->kv->list[shard].number);
	struct mg_group_info info = { 0 };

	if (raft) {
		mg_group_info(raft, &info);
	}
	return raft && !info.failed && info.core.role == MG_RAFT_LEADER;
}

struct mg_kv_bell *mg_replica__kv_bell(struct mg_replica *replica)
{
	mg_assert(replica->kv);
	return replica->kv->bell;
}

int mg_replica__kv_failed(struct mg_replica *replica, struct mg_error *err)
{
	int code = 0;

	for (uint32_t i = 0; !code && i < mg_replica_kv_shards(replica); i++) {
		code = replica->kv->list[i].sm ? mg_kv_sm_failed(replica->kv->list[i].sm, err) : 0;
	}
	return code;
}

struct mg_kv_sm *mg_replica__kv_sm(const struct mg_replica *replica, uint32_t shard)
{
	mg_assert(replica->kv && shard < replica->kv->count);
	return replica->kv->list[shard].sm;
}

/* ---- where keys are ---- */

uint32_t mg_replica_kv_shards(const struct mg_replica *replica)
{
	return atomic_load(&replica->kv_shards);
}

int mg_replica_kv_check(const struct mg_replica *replica, struct mg_error *err)
{
	if (mg_replica_kv_shards(replica)) {
		return 0;
	}
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	bool wanted = data->kv_shards > 0;

	mg_catalog_give(replica->options.catalog, data);
	if (wanted) {
		mg_error_set(err, MG_E_UNAVAILABLE, "this server's shards of keys have not begun yet");
		mg_error_hint(err, "Try again in a moment, or at another server; if it stays so, this "
		                   "server's log says why, at kv.begin.");
		return MG_E_UNAVAILABLE;
	}
	mg_error_set(err, MG_E_UNSUPPORTED, "this cluster has no shards for keys and values");
	mg_error_hint(err, "merganser cluster enable-keys makes them.");
	return MG_E_UNSUPPORTED;
}

uint64_t mg_replica_kv_leader(const struct mg_replica *replica, uint32_t shard)
{
	mg_assert(shard < mg_replica_kv_shards(replica));
	return mg_replica_leader(replica, replica->kv->list[shard].number);
}

uint64_t mg_replica_kv_now_ms(struct mg_replica *replica)
{
	return mg_replica_kv_shards(replica) ? mg_kv_clock_now_ms(&replica->kv->clock) : 0;
}

uint32_t mg_replica_kv_shard(const struct mg_replica *replica, struct mg_str space,
                             struct mg_str key)
{
	struct mg_slot_hash hash;

	mg_slot_begin(&hash);
	mg_slot_text(&hash, space.ptr, space.len);
	mg_slot_bytes(&hash, 5, key.ptr, key.len);
	return mg_slot_shard(mg_slot_end(&hash), mg_replica_kv_shards(replica));
}

struct mg_kv_state *mg_replica_kv_state(struct mg_replica *replica, uint32_t shard)
{
	mg_assert(replica->kv && shard < replica->kv->count);
	return mg_kv_sm_state(replica->kv->list[shard].sm);
}
