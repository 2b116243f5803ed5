/*
 * bank.c - money moves between groups, in transactions over two or three of them, and every node
 * reads cuts of what it has (replica/cuts.h, command.h: the product's own).
 *
 *     driver   one transfer after the other: DECIDE in its home group, then COMMIT in the others,
 *              each again until it has happened; sometimes it dies, and after a while the next one
 *              does once more what may be half done, whatever of it is still under way
 *     lane     a group's entries into its model, as replica/shard_sm.c has it: what readers wait
 *              for is shown before the lane waits
 *     reader   one on each node: maybe a barrier, then a cut, then it touches the groups one after
 *              the other, which takes time; of one group alone it touches that, and then waits
 *              until what it has seen is told
 *
 * Rule: a reader sees each transfer in all of the groups that it reads or in none, and all that was
 * acknowledged, or that another reader's answer has told, before its barrier; over all groups no
 * money is lost.
 */
#include "sim.h"

#include "base/assert.h"
#include "replica/command.h"

#include <inttypes.h>
#include <string.h>

#define IN_FLIGHT 4      /* transfers, when they do not wait for each other */
#define READ_MS_MAX 2000 /* that a reader waits */

struct transfer {
	uint64_t number;
	uint32_t groups[SIM_GROUPS_MAX];
	uint32_t count; /* the first one is home */
	bool decided, over, asked[SIM_GROUPS_MAX], done[SIM_GROUPS_MAX]; /* as the driver knows */
};

static struct {
	struct transfer *list; /* of all numbers, from 1 */
	size_t count, cap;
	uint64_t driver; /* which one */
	uint64_t sleep_until;
	/* The highest transfer in which the group takes part; or that a reader was shown anywhere. */
	uint64_t acknowledged[SIM_GROUPS_MAX];
	uint64_t reads, calm_reads[SIM_NODES + 1];
} bank;

enum reader_step { READER_RESTS, READER_AWAITS, READER_WAITS, READER_TOUCHES, READER_LISTENS };

static struct reader {
	enum reader_step step;
	uint32_t groups[SIM_GROUPS_MAX];
	size_t at;
	struct mg_cut cut;
	bool holds; /* the cut has begun */
	struct mg_cuts_told told;
	uint64_t until_ms;
	uint64_t index[SIM_GROUPS_MAX], acknowledged[SIM_GROUPS_MAX]; /* to be reached; to be seen */
	struct sim_state seen[SIM_GROUPS_MAX];
} readers[SIM_NODES + 1];

/* ---- transfers --------------------------------------------------------------------------------
 */

static int64_t amount(const struct transfer *transfer, uint32_t group)
{
	int64_t each = (int64_t)(transfer->number % 97) + 1;

	return group == transfer->groups[0] ? -each * ((int64_t)transfer->count - 1) : each;
}

static bool takes_part(const struct transfer *transfer, uint32_t group)
{
	bool part = false;

	for (uint32_t i = 0; i < transfer->count; i++) {
		part = part || transfer->groups[i] == group;
	}
	return part;
}

static void begin_transfer(void)
{
	struct transfer transfer = { .number = bank.count };
	uint32_t leave_out = (uint32_t)sim_below(2 * sim.profile.groups);

	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		if (sim.profile.groups == 2 || group != leave_out) {
			transfer.groups[transfer.count++] = group;
		}
	}
	mg_grow(bank.list, bank.count, bank.cap);
	bank.list[bank.count++] = transfer;
}

static struct mg_group *leader_of(uint32_t group, uint32_t *node)
{
	for (*node = 1; *node <= SIM_NODES; (*node)++) {
		struct mg_group *it = sim_group(*node, group);

		if (it != NULL && it->role == MG_RAFT_LEADER) {
			return it;
		}
	}
	return NULL;
}

/* What it knew goes with it. */
static void driver_dies(void)
{
	for (size_t n = 1; n < bank.count; n++) {
		struct transfer *transfer = &bank.list[n];

		if (!transfer->over) {
			transfer->decided = false;
			memset(transfer->asked, 0, sizeof transfer->asked);
			memset(transfer->done, 0, sizeof transfer->done);
		}
	}
	bank.driver++;
	bank.sleep_until = sim.now_ms + sim_below(1500);
	sim.result.drivers++;
}

struct asked {
	uint64_t number, command, driver;
	uint32_t place; /* in its groups */
};

static void on_step(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct asked *asked = arg;

	(void)leader;
	sim_command_ended(asked->command, error, index);
	if (bank.count > asked->number && asked->driver == bank.driver) { /* of this run */
		struct transfer *transfer = &bank.list[asked->number];

		transfer->asked[asked->place] = false;
		transfer->done[asked->place] = transfer->done[asked->place] || error == 0;
		if (error == 0 && asked->place == 0 && !transfer->decided) {
			transfer->decided = true;
			if (sim_chance(30) && !sim.calm) {
				driver_dies();
			}
		}
	}
	mg_free(asked);
}

static void ask(struct transfer *transfer, uint32_t place)
{
	uint8_t bytes[sizeof(uint64_t) + MG_COMMAND_HEAD_MAX + sizeof transfer->groups];
	struct mg_out out = mg_out(bytes, sizeof bytes);
	uint32_t node, id = transfer->groups[place];
	struct mg_group *group = leader_of(id, &node);

	if (group == NULL || transfer->asked[place] || transfer->done[place]) {
		return;
	}
	struct asked *asked = mg_alloc(sizeof *asked);
	const struct mg_command head = {
		.kind = place == 0 ? MG_COMMAND_DECIDE : MG_COMMAND_COMMIT,
		.commit = true,
		.number = transfer->number,
	};

	*asked = (struct asked){ transfer->number, sim_command_new(id), bank.driver, place };
	mg_out_u64(&out, asked->command);
	mg_command_encode_head(&out, &head);
	mg_out_bytes(&out, transfer->groups, transfer->count * sizeof transfer->groups[0]);
	transfer->asked[place] = true;
	if (mg_group_propose(group, bytes, out.size, on_step, asked, NULL) != 0) {
		sim_command_withdrawn(asked->command);
		transfer->asked[place] = false;
		mg_free(asked);
	}
	mg_raft_node_turn(sim.nodes[node].node);
}

/* Who reads any of its groups from now on must see it. */
static void note_acknowledged(const struct transfer *transfer)
{
	for (uint32_t i = 0; i < transfer->count; i++) {
		uint64_t *last = &bank.acknowledged[transfer->groups[i]];

		*last = transfer->number > *last ? transfer->number : *last;
	}
}

/* Over: all have it, and it is acknowledged. */
static bool go_on(struct transfer *transfer)
{
	bool over = true;

	if (transfer->over) {
		return true;
	}
	if (!transfer->decided) {
		ask(transfer, 0);
		return false;
	}
	for (uint32_t i = 1; i < transfer->count; i++) {
		ask(transfer, i);
		over = over && transfer->done[i];
	}
	if (over) {
		note_acknowledged(transfer);
	}
	transfer->over = over;
	return over;
}

void sim_bank_client(void)
{
	size_t open = 0, wanted = sim.options.overtaking ? IN_FLIGHT : 1;

	if (sim.profile.groups < 2 || sim.now_ms < bank.sleep_until) {
		return;
	}
	for (size_t n = bank.count > 8 ? bank.count - 8 : 1; n < bank.count; n++) {
		open += !go_on(&bank.list[n]);
	}
	if (open < wanted && sim_chance(700)) {
		begin_transfer();
	} else if (open > 0 && !sim.calm && sim_chance(5)) {
		driver_dies();
	}
}

/* ---- lanes ------------------------------------------------------------------------------------
 */

/* A step of a transfer, or another client's: false. */
static bool decode(const struct sim_model *model, const struct mg_entry *entry,
                   struct mg_command *command)
{
	struct mg_error err = { 0 };
	const size_t before = sizeof(uint64_t); /* of sim_command_new */

	if (entry->type != MG_ENTRY_COMMAND || entry->size <= before ||
	    ((const uint8_t *)entry->data)[before] == 0) {
		return false;
	}
	int code = mg_command_decode((const uint8_t *)entry->data + before, entry->size - before,
	                             command, &err);

	if (code != 0) {
		sim_fail("group %u holds a transfer that cannot be read: %s", model->group, err.message);
	}
	return code == 0;
}

void sim_bank_accept(struct sim_model *model, const struct mg_entry *entries, size_t count)
{
	struct mg_command command;

	for (size_t i = 0; i < count; i++) {
		if (decode(model, &entries[i], &command)) {
			mg_cuts_accept(sim.nodes[model->node].cuts, model->group, command.number);
		}
	}
}

/* False: readers wait for those before it. */
bool sim_bank_apply(struct sim_model *model, const struct mg_entry *entry)
{
	struct mg_command command;

	if (!decode(model, entry, &command)) {
		return true;
	}
	if (command.number <= model->now.seen[model->group]) {
		return true; /* a second time */
	}
	if (!mg_cuts_try_enter(sim.nodes[model->node].cuts, command.number, sim.now_ms)) {
		return false;
	}
	model->now.money += amount(&bank.list[command.number], model->group);
	while (!mg_in_done(&command.rest)) {
		uint32_t group = mg_in_u32(&command.rest);

		mg_assert(group < SIM_GROUPS_MAX);
		model->now.seen[group] = command.number;
	}
	return true;
}

bool sim_bank_show(struct sim_model *model)
{
	struct mg_cuts *cuts = sim.nodes[model->node].cuts;

	if (memcmp(model->shown.seen, model->now.seen, sizeof model->now.seen) == 0) {
		model->shown = model->now;
		return true;
	}
	if (sim.options.free_lanes) {
		model->shown = model->now; /* control: whoever reads */
	}
	if (!mg_cuts_try_publish(cuts, model->group)) {
		return false;
	}
	model->shown = model->now;
	mg_cuts_publish_end(cuts, model->group, model->shown.seen, false);
	return true;
}

/* ---- readers ----------------------------------------------------------------------------------
 */

static void read_later(uint32_t node, uint64_t delay)
{
	sim_push((struct sim_event){
		.at = sim.now_ms + delay, .kind = SIM_READ, .node = node, .life = sim.nodes[node].life });
}

static void rest(uint32_t node)
{
	struct reader *reader = &readers[node];

	if (reader->holds) {
		mg_cuts_end(sim.nodes[node].cuts);
	} else if (reader->cut.waits) {
		mg_cuts_give_up(sim.nodes[node].cuts, &reader->cut);
	}
	*reader = (struct reader){ .step = READER_RESTS };
}

void sim_bank_no_reader(uint32_t node)
{
	rest(node);
}

/* Some of the groups that the node has, or one; false: it has none. */
static bool choose(uint32_t node)
{
	struct reader *reader = &readers[node];
	bool all = sim_chance(700), one = sim_chance(300);
	uint32_t only = (uint32_t)sim_below(sim.profile.groups);
	size_t count = 0;

	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		if (sim_group(node, group) != NULL && (one ? group == only : all || sim_chance(700))) {
			reader->groups[count++] = group;
		}
	}
	reader->cut = (struct mg_cut){ .shards = reader->groups, .count = count };
	reader->told = (struct mg_cuts_told){ .shard = reader->groups[0] };
	return count > 0;
}

static void begin_read(uint32_t node)
{
	struct reader *reader = &readers[node];

	if (!choose(node)) {
		return;
	}
	bool barrier = sim_chance(600);

	for (size_t i = 0; i < reader->cut.count; i++) {
		uint32_t group = reader->groups[i];

		reader->index[i] = barrier ? sim_committed(group) : 0;
		reader->acknowledged[i] = barrier ? bank.acknowledged[group] : 0;
	}
	reader->step = READER_AWAITS;
	reader->until_ms = sim.now_ms + READ_MS_MAX;
}

static bool is_reached(uint32_t node)
{
	const struct reader *reader = &readers[node];
	bool reached = true;

	for (size_t i = 0; i < reader->cut.count; i++) {
		struct mg_group *group = sim_group(node, reader->groups[i]);
		struct mg_group_info info = { 0 };

		if (group != NULL) {
			mg_group_info(group, &info);
		}
		reached = reached && info.applied >= reader->index[i];
	}
	return reached;
}

/* Every transfer that the reader has seen somewhere it has seen everywhere; and whoever reads
 * after its answer, anywhere and whichever groups, sees it. */
static void check_transfers(uint32_t node)
{
	const struct reader *reader = &readers[node];

	for (size_t n = bank.count > 1000 ? bank.count - 1000 : 1; n < bank.count; n++) {
		bool some = false, all = true;

		for (size_t i = 0; i < reader->cut.count; i++) {
			uint32_t group = reader->groups[i];
			bool seen = reader->seen[i].seen[group] >= n;

			if (takes_part(&bank.list[n], group)) {
				some = some || seen;
				all = all && seen;
			}
		}
		if (some && !all) {
			sim_fail("node %u reads a part of transfer %zu", node, n);
		}
		if (some) {
			note_acknowledged(&bank.list[n]);
		}
	}
}

static void check_read(uint32_t node)
{
	const struct reader *reader = &readers[node];
	int64_t total = 0;

	for (size_t i = 0; i < reader->cut.count; i++) {
		total += reader->seen[i].money;
		if (reader->seen[i].seen[reader->groups[i]] < reader->acknowledged[i]) {
			sim_fail("node %u reads group %u without transfer %" PRIu64
			         ", which was acknowledged before",
			         node, reader->groups[i], reader->acknowledged[i]);
		}
	}
	if (reader->cut.count == sim.profile.groups && total != 0) {
		sim_fail("node %u reads a total of %" PRId64, node, total);
	}
	check_transfers(node);
	bank.reads++;
	sim.result.cuts++;
	bank.calm_reads[node] += sim.calm;
}

static void touch_next(uint32_t node)
{
	struct reader *reader = &readers[node];
	uint32_t group = reader->groups[reader->at];

	reader->seen[reader->at++] = sim.nodes[node].models[group].shown;
	if (reader->at < reader->cut.count) {
		return;
	}
	if (reader->cut.count == 1 && !sim.options.untold) {
		reader->step = READER_LISTENS;
		return;
	}
	check_read(node);
	rest(node);
}

static void step(uint32_t node)
{
	struct reader *reader = &readers[node];
	struct mg_cuts *cuts = sim.nodes[node].cuts;

	switch (reader->step) {
	case READER_RESTS:
		begin_read(node);
		return;
	case READER_AWAITS:
		reader->step = is_reached(node) ? READER_WAITS : READER_AWAITS;
		break;
	case READER_WAITS:
		if (sim.options.no_cuts || reader->cut.count == 1) { /* control, or no cut */
			reader->step = READER_TOUCHES;
		} else if (mg_cuts_try_begin(cuts, &reader->cut, sim.now_ms)) {
			reader->step = READER_TOUCHES;
			reader->holds = true;
		}
		break;
	case READER_TOUCHES:
		touch_next(node);
		return;
	case READER_LISTENS:
		if (mg_cuts_try_told(cuts, &reader->told)) {
			check_read(node);
			rest(node);
			return;
		}
		break;
	}
	if (reader->step != READER_TOUCHES && sim.now_ms >= reader->until_ms) {
		rest(node); /* another node may know */
	}
}

void sim_bank_read(uint32_t node)
{
	step(node);
	read_later(node, readers[node].step == READER_RESTS ? 5 + sim_below(60) : 1 + sim_below(3));
}

/* ---- life -------------------------------------------------------------------------------------
 */

void sim_bank_begin(void)
{
	memset(&bank, 0, sizeof bank);
	memset(readers, 0, sizeof readers);
	bank.count = 1;
	mg_grow(bank.list, bank.count, bank.cap);
}

void sim_bank_node_starts(uint32_t node)
{
	if (sim.profile.groups > 1) {
		read_later(node, 10);
	}
}

/* In the calm every node that has all groups reads them. */
void sim_bank_check_end(void)
{
	for (uint32_t node = 1; node <= SIM_NODES && sim.profile.groups > 1; node++) {
		bool has_all = true;

		for (uint32_t group = 0; group < sim.profile.groups; group++) {
			uint32_t at;
			struct mg_group *leader = leader_of(group, &at);
			struct mg_group_info info = { 0 };

			if (leader != NULL) {
				mg_group_info(leader, &info);
			}
			/* As the leader has it: one that was removed may not know. */
			has_all = has_all && mg_members_find(&info.core.members, node) != NULL;
		}
		if (has_all && bank.calm_reads[node] == 0) {
			sim_fail("node %u reads no cut in the calm", node);
		}
	}
}

void sim_bank_fini(void)
{
	mg_free(bank.list);
	bank.list = NULL;
	bank.count = bank.cap = 0;
}
