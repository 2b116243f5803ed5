/*
 * core.h - mg_core, the seam of consensus: one member of one group, as a step function.
 *
 * Rule: pure.  A step takes one event and the time, changes the core, and says what follows.  No
 * file, clock, chance or thread: a core that gets the same events does the same.  The host does
 * what follows, in this order, before the next step of this group:
 *
 *     1. hard_state   put it into the log
 *     2. install      replace the whole log by the snapshot, later tell SNAPSHOT_STORED
 *     3. append       put the entries (truncate first when they start at or below the last one);
 *                     later tell STORED
 *     4. messages     read missing entries, encode, and hold them back until the last hard state
 *                     that was put is durable
 *     5. commit       apply what is committed and stored
 *
 * What the core asks of its host, because the library behind it does not survive otherwise, is
 * armour.h.
 *
 * Behind it today: cowsql/raft 0.22.1 (core_cowsql.c).  Steps must not be nested.
 *
 * Owner: the raft thread.  Limits: MG_MEMBERS_MAX members; a step's memory is small, except that
 * START looks at the term of each entry.
 */
#ifndef MG_RAFT_CORE_H
#define MG_RAFT_CORE_H

#include "raft/message.h"

struct mg_core;

enum mg_raft_role { MG_RAFT_FOLLOWER, MG_RAFT_CANDIDATE, MG_RAFT_LEADER, MG_RAFT_ROLE_COUNT };

const char *mg_raft_role_name(enum mg_raft_role role);

struct mg_core_options {
	uint64_t self;        /* node, from 1 */
	uint64_t seed;        /* of election timeouts */
	unsigned election_ms; /* the least; each wait is up to twice as long */
	unsigned heartbeat_ms;
	unsigned install_ms;       /* a snapshot that is not stored by then is sent again */
	unsigned inflight_max;     /* entries sent to a peer and not acknowledged */
	unsigned capacity_min_kib; /* refuse proposals when a majority has less disk; 0: never */
	void (*trace)(void *arg, const char *text); /* every decision, or NULL */
	void *trace_arg;
};

enum mg_core_event_kind {
	MG_CORE_START,           /* once, first: what the log holds */
	MG_CORE_MESSAGE,         /* of a peer */
	MG_CORE_STORED,          /* entries up to an index are durable */
	MG_CORE_SNAPSHOT_STORED, /* the installed snapshot is durable */
	MG_CORE_TIMER,           /* next_timer_ms has come */
	MG_CORE_PROPOSE,         /* leader: new entries; one CHANGE at a time, alone */
	MG_CORE_CHANGE_APPLIED,  /* a CHANGE entry is committed and was applied */
	MG_CORE_SNAPSHOT_TAKEN,  /* an own snapshot is durable, and entries may go */
	MG_CORE_TRANSFER,        /* leader: give leadership to node (0: the best one) */
	MG_CORE_CATCH_UP,        /* leader: measure whether node (a standby) keeps up */
	MG_CORE_LOST,            /* follower: its leader has probably ended; ask for votes soon */
	MG_CORE_EVENT_COUNT
};

struct mg_core_event {
	enum mg_core_event_kind kind;
	uint64_t now_ms;       /* monotonic */
	uint64_t capacity_kib; /* what the log can still take */
	union {
		struct {
			struct mg_hard_state hard_state;
			const struct mg_snapshot *snapshot; /* NULL: none */
			uint64_t first;                     /* index of entries[0] */
			const struct mg_entry *entries;     /* data is read of CHANGE entries only */
			size_t count;
		} start;
		const struct mg_message *message;
		uint64_t stored;                    /* index */
		const struct mg_snapshot *snapshot; /* stored */
		struct {
			const struct mg_snapshot *snapshot;
			uint64_t compacted; /* entries up to this one may go; at most its index */
		} taken;
		struct {
			const struct mg_entry *entries; /* term and index are filled in by the core */
			size_t count;
		} propose;
		struct {
			uint64_t index;
			const struct mg_members *members;
		} change;
		uint64_t node; /* transfer, catch up */
		struct {
			uint64_t node;
			unsigned wait_ms; /* before this node stands, if it hears of no leader */
		} lost;
	};
};

/* What follows from a step.  All it points to is valid until the next step of this core, or as long
 * as what the event pointed to. */
struct mg_core_out {
	bool hard_state_changed;
	struct mg_hard_state hard_state;
	const struct mg_entry *append; /* index, term, type, data */
	size_t append_count;
	const struct mg_message *messages;
	size_t message_count;
	bool install; /* the message of this event, which was an INSTALL, replaces the log */
	uint64_t commit, stored;
	uint64_t next_timer_ms; /* may lie in the past */
	enum mg_raft_role role;
	uint64_t leader;   /* 0: not known */
	bool transferring; /* as in mg_core_info */
};

enum mg_catch_up {
	MG_CATCH_UP_NONE,
	MG_CATCH_UP_RUNNING,
	MG_CATCH_UP_ABORTED, /* too slow or silent */
	MG_CATCH_UP_FINISHED,
};

struct mg_core_info {
	uint64_t term, vote;
	enum mg_raft_role role;
	uint64_t leader; /* 0: not known */
	uint64_t commit, stored, last;
	uint64_t snapshot_index;
	bool installing;   /* between install and SNAPSHOT_STORED */
	bool transferring; /* leader: proposals are refused meanwhile */
	struct mg_members members;
	struct mg_members committed_members;
	uint64_t committed_members_index; /* 0: none */
	uint64_t pending_members_index;   /* a CHANGE entry that is not known to be committed; 0 */
};

/* Owns: the caller frees it. */
struct mg_core *mg_core_new(const struct mg_core_options *options);
void mg_core_free(struct mg_core *core); /* NULL is fine */

/* Fails without any change: MG_E_UNAVAILABLE not leader, or transferring; MG_E_BUSY a change of
 * members is under way; MG_E_DISK_FULL; MG_E_NOT_FOUND no such member to transfer to or catch up;
 * MG_E_PROTOCOL a message that no sound peer sends.
 * Fails for good: MG_E_CORRUPT, a peer has another entry where ours is committed. */
int mg_core_step(struct mg_core *core, const struct mg_core_event *event, struct mg_core_out *out,
                 struct mg_error *err);

void mg_core_info(const struct mg_core *core, struct mg_core_info *out);
/* Leader: what a member is known to have stored.  False: not leader or no member. */
bool mg_core_match(const struct mg_core *core, uint64_t node, uint64_t *index);
enum mg_catch_up mg_core_catch_up(const struct mg_core *core, uint64_t node);

#endif
