/*
 * model.c - a state machine for the simulator: all that it has applied, as a chain of hashes.
 *
 * Rule: two replicas that applied the same entries have the same hash, so one number tells a
 * divergence.  What a crash leaves is the last checkpoint; a snapshot is the hash at its index,
 * which travels in the manifest, so that pulling it takes time and may fail but needs no files.
 * What it has applied it shows to readers of several groups when they may see it (bank.c).
 */
#include "sim.h"

#include "base/assert.h"

#include <string.h>

/* What a state machine may count on after a freeze that failed. */
enum { REST_MS = 100 };

static struct sim_model *model_of(struct mg_sm *sm)
{
	return (struct sim_model *)sm;
}

static void later(struct sim_model *model, enum sim_event_kind kind, uint64_t delay)
{
	sim_push((struct sim_event){ .at = sim.now_ms + delay,
	                             .kind = kind,
	                             .node = model->node,
	                             .group = model->group,
	                             .life = sim.nodes[model->node].life });
}

/* False: not yet. */
static bool apply_one(struct sim_model *model, const struct mg_entry *entry)
{
	uint64_t command = 0, hash = model->now.hash;

	if (entry->index != model->now.index + 1) {
		sim_fail("group %u of node %u applies %llu after %llu", model->group, model->node,
		         (unsigned long long)entry->index, (unsigned long long)model->now.index);
		return false;
	}
	if (entry->type == MG_ENTRY_COMMAND) {
		mg_assert(entry->size >= sizeof command);
		memcpy(&command, entry->data, sizeof command);
		if (!sim_bank_apply(model, entry)) {
			return false;
		}
	}
	hash = (hash ^ entry->term ^ (uint64_t)entry->type << 56) * 1099511628211u;
	hash = (hash ^ command ^ (uint64_t)entry->size << 40) * 1099511628211u;
	hash = (hash ^ (uint64_t)model->now.money) * 1099511628211u;
	model->now.index = entry->index;
	model->now.hash = hash;
	sim_check_applied(model->group, entry->index, entry->term, hash, command);
	return true;
}

/* As in shard_sm.c: before it waits, what readers may wait for is shown. */
static void run_lane(struct sim_model *model)
{
	while (model->entry_at < model->entry_count &&
	       apply_one(model, &model->entries[model->entry_at])) {
		model->entry_at++;
	}
	if (sim.failure[0] != '\0') {
		return;
	}
	if (!sim_bank_show(model) || model->entry_at < model->entry_count) {
		later(model, SIM_LANE, 1 + sim_below(2));
		return;
	}
	model->entries = NULL;
	model->applying = model->now.index;
	if (sim.profile.apply_ms == 0) {
		mg_group_applied(model->owner, model->applying);
	} else {
		later(model, SIM_APPLIED, sim_below(sim.profile.apply_ms));
	}
}

static void on_apply(struct mg_sm *sm, const struct mg_entry *entries, size_t count)
{
	struct sim_model *model = model_of(sm);

	mg_assert(model->entries == NULL);
	model->entries = entries;
	model->entry_count = count;
	model->entry_at = 0;
	sim_bank_accept(model, entries, count);
	run_lane(model);
}

static uint64_t on_durable_index(struct mg_sm *sm)
{
	return model_of(sm)->durable.index;
}

static uint64_t clock_of(const struct sim_model *model)
{
	struct mg_env *env = &sim.nodes[model->node].env;

	return env->ops->now_ms(env);
}

static void on_freeze(struct mg_sm *sm)
{
	struct sim_model *model = model_of(sm);

	if (model->refused_ms > 0 && clock_of(model) < model->refused_ms + REST_MS) {
		sim_fail("group %u of node %u is frozen again %llu ms after that failed", model->group,
		         model->node, (unsigned long long)(clock_of(model) - model->refused_ms));
		return;
	}
	later(model, SIM_FROZEN, 1 + sim_below(30));
}

static void on_pull(struct mg_sm *sm, uint64_t peer, const struct mg_manifest *manifest)
{
	struct sim_model *model = model_of(sm);

	mg_assert(manifest->size == sizeof model->pulling);
	model->pull_from = (uint32_t)peer;
	memcpy(&model->pulling, manifest->data, sizeof model->pulling);
	later(model, SIM_PULLED, 5 + sim_below(sim_chance(100) ? 1500 : 60));
}

static void on_adopt(struct mg_sm *sm, const struct mg_manifest *manifest)
{
	struct sim_model *model = model_of(sm);
	struct sim_state state;

	memcpy(&state, manifest->data, sizeof state);
	if (state.index != model->pulled.index || state.hash != model->pulled.hash) {
		sim_fail("node %u adopts a snapshot of group %u that it did not pull", model->node,
		         model->group);
	}
	later(model, SIM_ADOPTED, 1 + sim_below(20));
}

void sim_model_init(struct sim_model *model, uint32_t node, uint32_t group)
{
	static const struct mg_sm_ops ops = {
		.apply = on_apply,
		.durable_index = on_durable_index,
		.freeze = on_freeze,
		.pull = on_pull,
		.adopt = on_adopt,
	};

	*model = (struct sim_model){ .base.ops = &ops, .node = node, .group = group };
}

static void frozen(struct sim_model *model)
{
	bool fails = sim_chance(20);

	model->refused_ms = fails ? clock_of(model) : 0;
	if (!fails) {
		model->durable = model->kept = model->now;
	}
	mg_group_frozen(model->owner, fails ? MG_E_IO : 0, &model->kept, sizeof model->kept);
}

static void pulled(struct sim_model *model)
{
	const struct sim_node *peer = &sim.nodes[model->pull_from];
	const struct sim_state *kept = &peer->models[model->group].kept;
	bool works = peer->up && !sim.cut[peer->id][model->node] && kept->hash == model->pulling.hash;

	if (works) {
		model->pulled = model->pulling;
	}
	mg_group_pulled(model->owner, works ? 0 : MG_E_CONNECT);
}

void sim_model_event(struct sim_model *model, const struct sim_event *event)
{
	if (model->owner == NULL) {
		return;
	}
	switch (event->kind) {
	case SIM_LANE:
		run_lane(model);
		return;
	case SIM_APPLIED:
		if (sim_chance(100)) {
			model->durable = model->now; /* a checkpoint of its own */
		}
		mg_group_applied(model->owner, model->applying);
		return;
	case SIM_FROZEN:
		frozen(model);
		return;
	case SIM_PULLED:
		pulled(model);
		return;
	case SIM_ADOPTED:
		model->now = model->durable = model->kept = model->pulled;
		sim_bank_no_reader(model->node); /* the gate is closed */
		sim_model_reset(model);
		sim.result.installs++;
		mg_group_adopted(model->owner, 0);
		return;
	default:
		mg_assert(!"an event of a state machine");
	}
}

void sim_model_crash(struct sim_model *model)
{
	model->owner = NULL;
	model->mending = false;
	model->refused_ms = 0;
	model->entries = NULL;
	model->now = model->durable;
}

void sim_model_reset(struct sim_model *model)
{
	struct mg_cuts *cuts = sim.nodes[model->node].cuts;
	bool may = mg_cuts_try_publish(cuts, model->group);

	mg_assert(may);
	model->shown = model->now;
	mg_cuts_publish_end(cuts, model->group, model->shown.seen, false);
}
