/*
 * sim.h - a cluster in one process, on one thread, under a simulated clock, network and disk.
 *
 * The code under test is src/raft as it is in the product, from frames and the armour to reads,
 * members and snapshots, and the cuts of src/replica; only what lies behind its seams is ours.
 *
 * Rule: everything that happens follows from the seed.  Chance comes from sim_random alone, time
 * from the queue of events, whose ties are broken by the order in which they were made.
 *
 *     world.c    events, clock, network, life and death of nodes
 *     disk.c     the log: what a crash leaves is a prefix of what was put
 *     model.c    a state machine: a chain of hashes, and money; checkpoints, snapshots
 *     bank.c     transactions over groups, and readers of cuts on every node
 *     play.c     clients, reads, changes of members, faults, the calm at the end
 *     check.c    what must never happen, and what must
 */
#ifndef MG_TEST_SIM_H
#define MG_TEST_SIM_H

#include "raft/raft_int.h"
#include "replica/cuts.h"

#define SIM_NODES 5
#define SIM_GROUPS_MAX 3

/* ---- one run ----------------------------------------------------------------------------------
 */

struct sim_options {
	uint64_t seed;
	uint64_t virtual_ms;
	unsigned rules;  /* of the host; MG_RULE_ALL unless a control */
	bool skip_fsync; /* control: what is told as durable is not */
	bool slow_disk;  /* every third sync takes long */
	bool no_cuts;    /* control: readers read what is there */
	bool free_lanes; /* control: what is applied is shown, whoever reads */
	bool overtaking; /* control: transactions over groups do not wait for each other */
	bool untold;     /* control: who reads one group answers at once */
	bool drift;      /* control: clocks run faster and slower than leases allow for */
	bool overstay;   /* control: leases last longer than the promises they stand on */
	bool sleepy;     /* control: leases do not count the time that a machine sleeps */
	bool trace;      /* every decision, on stdout */
};

/* Drawn from the seed. */
struct sim_profile {
	bool churn;     /* members come and go */
	bool fifo;      /* links keep their order */
	bool snapshots; /* often, with short tails */
	uint32_t groups;
	size_t voters, voters_min;
	unsigned drop, duplicate; /* per mille */
	unsigned disk_slow;       /* per mille of syncs */
	unsigned apply_ms;        /* the most an apply takes; 0: at once */
	bool damage;              /* states are lost, of one replica of a group at a time */
	bool leases;              /* leaders have them */
	unsigned clock_off;       /* per mille that a clock may run too fast or too slow */
};

struct sim_result {
	uint64_t events, committed, acknowledged, refused, unknown, reads, elections, changes, installs,
		crashes, mended, older, cuts, drivers, leased;
};

enum sim_event_kind {
	SIM_FRAME,
	SIM_SYNC,
	SIM_APPLIED,
	SIM_FROZEN,
	SIM_PULLED,
	SIM_ADOPTED,
	SIM_CLIENT,
	SIM_FAULT,
	SIM_RESUME,
	SIM_LANE,
	SIM_READ,
	SIM_LOST,
	SIM_BLINK,
};

struct sim_event {
	uint64_t at, order;
	enum sim_event_kind kind;
	uint32_t node, group, from;
	uint64_t life; /* of the node; an event of an earlier one is void */
	struct mg_buf *frame;
};

/* ---- disk (disk.c) ----------------------------------------------------------------------------
 */

struct sim_entry {
	uint64_t term;
	uint8_t type;
	struct mg_buf *data;
};

struct sim_replica_log {
	bool present;
	struct mg_hard_state hard_state;
	struct mg_snapshot_mark mark; /* manifest in mark_data */
	struct mg_buf *mark_data;
	uint64_t first;
	struct sim_entry *entries;
	size_t count, cap;
	uint64_t bytes;
};

struct sim_record {
	uint32_t group;
	enum mg_raft_log_kind kind;
	struct mg_hard_state hard_state;
	struct mg_snapshot_mark mark;
	uint64_t index;
	struct sim_entry entry; /* data also of a mark */
	bool last;              /* of its put: then `done` */
	mg_raft_log_done done;
	void *arg;
	uint64_t sequence;
};

struct sim_records {
	struct sim_record *list;
	size_t count, cap;
};

struct sim_disk {
	struct mg_raft_log base;
	uint32_t node;
	struct sim_replica_log put[SIM_GROUPS_MAX], durable[SIM_GROUPS_MAX];
	struct sim_records gathered, syncing, finished; /* finished: `done` is due */
	struct sim_records lied; /* told as durable, and not: only with skip_fsync */
	bool flushed;
	uint64_t sequence;
};

void sim_disk_init(struct sim_disk *disk, uint32_t node);
void sim_disk_fini(struct sim_disk *disk);
void sim_disk_synced(struct sim_disk *disk);
/* The process died: of what was not synced a prefix is left. */
void sim_disk_crash(struct sim_disk *disk);

/* ---- state machine (model.c) ------------------------------------------------------------------
 */

struct sim_state {
	uint64_t index, hash;
	int64_t money;
	uint64_t seen[SIM_GROUPS_MAX]; /* see replica/cuts.h */
};

struct sim_model {
	struct mg_sm base;
	uint32_t node, group;
	struct sim_state now;     /* applied, in memory */
	struct sim_state durable; /* of the last checkpoint */
	struct sim_state kept;    /* what the newest snapshot describes; others may pull it */
	struct sim_state pulled;  /* durable beside */
	struct sim_state shown;   /* to readers of cuts */
	const struct mg_entry *entries; /* in hand */
	size_t entry_count, entry_at;
	uint64_t applying;        /* last index in hand */
	uint32_t pull_from;
	struct sim_state pulling;
	uint64_t refused_ms;    /* when it last failed to freeze, on the node's clock; 0: never */
	struct mg_group *owner; /* NULL when the node is down */
	bool damaged, mending;  /* its state is lost; another one's is on the way */
	struct sim_state mended;
};

void sim_model_init(struct sim_model *model, uint32_t node, uint32_t group);
void sim_model_event(struct sim_model *model, const struct sim_event *event);
void sim_model_crash(struct sim_model *model);
/* What it holds is there at once: nobody reads. */
void sim_model_reset(struct sim_model *model);

/* ---- transactions over groups (bank.c) --------------------------------------------------------
 */

void sim_bank_begin(void);
void sim_bank_client(void);
void sim_bank_node_starts(uint32_t node);
bool sim_bank_apply(struct sim_model *model, const struct mg_entry *entry); /* false: not yet */
/* These are accepted: the lane has them. */
void sim_bank_accept(struct sim_model *model, const struct mg_entry *entries, size_t count);
bool sim_bank_show(struct sim_model *model);                                /* false: not yet */
void sim_bank_read(uint32_t node);
void sim_bank_no_reader(uint32_t node); /* its state goes, or is replaced */
void sim_bank_check_end(void);
void sim_bank_fini(void);

/* ---- world (world.c) --------------------------------------------------------------------------
 */

struct sim_node {
	struct mg_env env;
	struct mg_net net;
	uint32_t id;
	bool up;
	uint64_t life;
	uint64_t paused_until;             /* 0: runs */
	uint64_t wake_ms;                  /* world time */
	uint64_t clock_offset, clock_rate; /* of its own clock; rate in per mille */
	uint64_t paused_at, slept_ms;      /* slept: what its monotonic clock did not count */
	bool sleeps;                       /* the machine, and not only the process */
	struct mg_raft_node *node;
	struct sim_disk disk;
	struct mg_cuts *cuts; /* while it is up */
	struct sim_model models[SIM_GROUPS_MAX];
};

struct sim_world {
	struct sim_options options;
	struct sim_profile profile;
	struct sim_result result;
	uint64_t random;
	uint64_t now_ms, order;
	uint64_t incarnation;
	struct sim_event *queue;
	size_t queue_count, queue_cap;
	struct sim_node nodes[SIM_NODES + 1]; /* from 1 */
	bool cut[SIM_NODES + 1][SIM_NODES + 1];
	uint64_t arrival[SIM_NODES + 1][SIM_NODES + 1]; /* the last one, for FIFO links */
	bool calm;
	uint64_t quiet_until; /* nobody writes much */
	char failure[256];
};

extern struct sim_world sim; /* one at a time */

uint64_t sim_random(void);
uint64_t sim_below(uint64_t bound);
bool sim_chance(uint64_t per_mille);
void sim_push(struct sim_event event);
void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool sim_run(const struct sim_options *options, struct sim_result *result, char *failure,
             size_t failure_size);

void sim_start(uint32_t node);
void sim_crash(uint32_t node);
void sim_open(uint32_t node, uint32_t group);
struct mg_group *sim_group(uint32_t node, uint32_t group); /* NULL unless it is up and open */

/* ---- play (play.c) ----------------------------------------------------------------------------
 */

void sim_play_begin(void);
void sim_play_client(void);
void sim_play_fault(void);
void sim_play_resumed(uint32_t node);
void sim_play_blink(uint32_t node, uint32_t leader);
struct mg_members sim_first_members(void);

/* ---- checks (check.c) -------------------------------------------------------------------------
 */

void sim_check_begin(void);
bool sim_check_led(void); /* each group has a leader */
void sim_check_end(void);
void sim_check_fini(void);
void sim_check_role(uint32_t node, uint32_t group, enum mg_raft_role role, uint64_t term);
void sim_check_applied(uint32_t group, uint64_t index, uint64_t term, uint64_t hash,
                       uint64_t command);
void sim_check_calm(void);
uint64_t sim_command_new(uint32_t group);
void sim_command_withdrawn(uint64_t command); /* propose itself failed */
void sim_command_ended(uint64_t command, int error, uint64_t index);
uint64_t sim_committed(uint32_t group);
/* A read of `asked_ms`. */
void sim_read_ended(uint32_t group, uint64_t asked_ms, uint64_t committed_before, int error,
                    uint64_t index);

#endif
