/*
 * raft_int.h - how a node and its groups look inside; for the files of src/raft/ only.
 *
 * group.c steps the core and does what follows; propose.c, read.c and snapshot.c are the three
 * kinds of work a group has; node.c holds the groups, frames and turns.
 *
 * Owner: the raft thread.
 */
#ifndef MG_RAFT_RAFT_INT_H
#define MG_RAFT_RAFT_INT_H

#include "raft/armour.h"
#include "raft/frame.h"
#include "raft/lease.h"
#include "raft/node.h"

/* Rules of the host besides the armour, which tests may switch off. */
enum {
	MG_RULE_HOLD = 1 << 16,       /* messages wait for the hard state they depend on */
	MG_RULE_PROBE = 1 << 17,      /* a read asks a majority */
	MG_RULE_PROBE_TERM = 1 << 18, /* and an answer counts only if the term is not past */
	/* Of lease.h: */
	MG_RULE_PROMISE = 1 << 19, /* who has promised neither votes nor stands */
	MG_RULE_OPENING = 1 << 20, /* a replica begins with a promise */
	MG_RULE_GIVEN = 1 << 21,   /* who gives leadership away has no lease any more */
	MG_RULE_TOLD = 1 << 22,    /* and only the first try of who was told gets votes for it */
	MG_RULE_MEMBERS = 1 << 23, /* a lease ends with a change of members */
	MG_RULE_ALL = MG_ARMOUR_ALL | ((1 << 24) - (1 << 16)),
};

#define MG_HELD_MAX 4096          /* frames of a group that wait for a hard state; more are lost */
#define MG_APPLY_BYTES (1u << 20) /* given to a state machine at once */
#define MG_PROPOSE_COUNT_MAX 1024 /* entries proposed in one step */
#define MG_READS_MAX 65536        /* that wait in one group */
#define MG_TICK_MS 10             /* timers of many groups are looked at together */
#define MG_FREEZE_REST_MS 100     /* after a freeze that failed */

/* A put that is not durable yet; done in order, so a queue of each group. */
struct mg_wait {
	uint64_t last; /* entries up to this one; 0: none, or gone again */
	bool hard_state;
	bool mark; /* our own snapshot's */
	bool install;
};

struct mg_held {
	uint64_t peer;
	struct mg_buf *frame;
};

struct mg_proposal {
	struct mg_proposal *next;
	uint64_t index, term; /* 0: not proposed yet */
	uint64_t deadline_ms;
	mg_proposal_cb cb; /* may be NULL */
	void *arg;
	uint32_t size;
	uint8_t type;
	uint8_t data[];
};

struct mg_read {
	struct mg_read *next;
	uint64_t deadline_ms;
	mg_read_cb cb;
	void *arg;
};

enum mg_pull {
	MG_PULL_NONE,
	MG_PULL_RUNNING,
	MG_PULL_READY,    /* pulled; the core is told with the next INSTALL of the leader */
	MG_PULL_STORING,  /* the core has dropped its log; the mark is being stored */
	MG_PULL_ADOPTING, /* the state machine changes over */
};

struct mg_group {
	struct mg_raft_node *node;
	uint32_t id;
	struct mg_core *core;
	struct mg_sm *sm;
	int failed;
	bool closed; /* freed when the last wait is done */
	bool dirty;
	struct mg_group *next_dirty;

	enum mg_raft_role role;
	uint64_t leader;   /* as on_leader was told; 0: not known */
	bool transferring; /* it gives leadership away */
	uint64_t not_taken_term; /* the last one in which it was not taken */
	uint64_t term, commit, stored;
	struct mg_hard_state ballot; /* what rule H voted, beside the core */
	uint64_t heard_ms;           /* of a leader; 0: never */
	uint64_t promised_ms;        /* as a voter (lease.h); of boot_ms */
	uint64_t told_to_stand;      /* the term whose leader has told it to */
	uint64_t leader_term;        /* the term whose beginning we have handled as its leader */
	bool barrier_due;            /* and which still lacks an entry */
	uint64_t core_ms;            /* the core's timer */
	/* A leader of told_term: which commit each member was told of beside the core. */
	uint64_t told_term, told_all;
	uint64_t tell_for, tell_ms; /* the commit that is to be told of, not before then */
	bool tell_now;              /* somebody there waits */
	struct mg_told {
		uint64_t node, commit;
	} told[MG_MEMBERS_MAX];
	uint64_t deadline_ms;        /* the earliest of all */

	/* log */
	struct mg_wait *waits; /* ring */
	size_t wait_first, wait_count, wait_cap;
	size_t hard_states; /* put and not durable */
	struct mg_held *held;
	size_t held_count, held_cap;

	/* apply */
	uint64_t applied;
	bool applying;
	struct mg_entries batch; /* what the state machine has in hand */

	/* snapshots */
	struct mg_manifest snapshot; /* the newest durable one; bytes are ours */
	bool snapshot_asked, freezing, marking;
	uint64_t freeze_ms;       /* the last freeze has failed: not again before */
	uint64_t frozen_ms;       /* when the last one was made, or the group was opened */
	struct mg_manifest taken; /* being marked */
	enum mg_pull pull;
	bool core_waits; /* the core installs too: it hears SNAPSHOT_STORED */
	struct mg_manifest pulled;

	/* proposals: queue, then pending in the order of their indexes */
	struct mg_proposal *queue, **queue_end;
	struct mg_proposal *pending;
	uint64_t proposal_bytes;
	uint64_t proposal_ms; /* no deadline is earlier */

	/* reads: waiting, then of the round that is under way */
	struct mg_read *reads, *probing;
	size_t read_count;
	uint64_t read_ms; /* no deadline is earlier */
	uint64_t round, round_term, round_index, round_ms;
	struct mg_members yes, promised; /* of the round: who said so (only node numbers count) */
	struct mg_lease lease;
};

struct mg_raft_node {
	struct mg_raft_node_options options;
	unsigned rules;
	int failed;
	uint64_t now_ms;          /* of this turn */
	unsigned lease_ms;        /* 0: no leases */
	struct mg_group **groups; /* by number */
	size_t group_cap;
	struct mg_group *dirty;
	uint64_t deadline_ms;   /* no group's is earlier */
	struct mg_arena *arena; /* of the frame being received */
	bool stepping;
	struct mg_raft_log_record *records; /* of one put */
	size_t record_cap;

	struct mg_peer {
		uint64_t node;
		uint64_t sequence; /* sent */
		struct mg_armour_peer seen;
		struct mg_probe *probes; /* gathered in this turn */
		size_t probe_count, probe_cap;
	} * peers;
	size_t peer_count, peer_cap;
	uint64_t round;   /* of probes */
	uint64_t dropped; /* frames of unknown groups or old */
};

/* node.c */
static inline uint64_t mg_raft_node__boot_ms(const struct mg_raft_node *node)
{
	return node->options.env->ops->boot_ms(node->options.env);
}
struct mg_raft_node *mg_raft_node__new(const struct mg_raft_node_options *options, unsigned rules);
void mg_raft_node__dirty(struct mg_group *group);
void mg_raft_node__send(struct mg_raft_node *node, uint64_t peer, struct mg_buf *frame);
struct mg_peer *mg_raft_node__peer(struct mg_raft_node *node, uint64_t node_id);

/* group.c */
int mg_group__step(struct mg_group *group, struct mg_core_event *event, struct mg_error *err);
int mg_group__message(struct mg_group *group, struct mg_message *message, struct mg_error *err);
void mg_group__put(struct mg_group *group, const struct mg_raft_log_record *records, size_t count,
                   struct mg_wait wait);
void mg_group__turn(struct mg_group *group);
void mg_group__timer(struct mg_group *group);
void mg_group__lost(struct mg_group *group, uint64_t peer); /* see mg_raft_node_lost */
void mg_group__arm(struct mg_group *group);
uint64_t mg_group__term_of(const struct mg_group *group, uint64_t index);
void mg_group__tell_leader(struct mg_group *group, uint64_t leader);
uint64_t mg_group__leader(const struct mg_group *group);
void mg_group__apply(struct mg_group *group);
void mg_group__free(struct mg_group *group);

/* propose.c */
void mg_group__propose_queue(struct mg_group *group);
void mg_group__barrier(struct mg_group *group);
void mg_group__settle(struct mg_group *group, const struct mg_entry *entries, size_t count);
void mg_group__refuse_queue(struct mg_group *group, int error);
void mg_group__unknown(struct mg_group *group, uint64_t upto);
void mg_group__expire_proposals(struct mg_group *group);
void mg_group__hurry_proposals(struct mg_group *group); /* it leads no more */

/* read.c */
void mg_group__start_round(struct mg_group *group);
void mg_group__answer(struct mg_group *group, uint64_t from, uint64_t round,
                      const struct mg_probe *answer);
void mg_group__fail_reads(struct mg_group *group, int error);
void mg_group__expire_reads(struct mg_group *group);
bool mg_group__can_read(const struct mg_group *group);
bool mg_group__promise(struct mg_group *group);                  /* false: it cannot */
unsigned mg_group__promise_left(const struct mg_group *group); /* milliseconds */

/* snapshot.c */
void mg_group__maybe_freeze(struct mg_group *group);
void mg_group__marked(struct mg_group *group);
int mg_group__on_install(struct mg_group *group, struct mg_message *message, struct mg_error *err);
void mg_group__install(struct mg_group *group);
void mg_group__install_stored(struct mg_group *group);
void mg_group__readopt(struct mg_group *group);
int mg_group__snapshot_of(const struct mg_raft_log_state *state, struct mg_manifest *out,
                          struct mg_error *err);

#endif
