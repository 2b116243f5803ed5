/*
 * armour.h - six rules that keep from the core the histories it does not survive.
 *
 * Found by simulation of cowsql/raft 0.22.1: without one of them the core aborts, never again
 * changes its members, or elects no leader though a majority lives.  None needs the library
 * patched.
 *
 *   A  anchor     An append whose previous entry we have compacted is anchored at our snapshot: the
 *                 core would reject it, though all up to there is committed, and its leader aborts
 *                 when a rejection meets what it knows to be acknowledged.
 *   B  pieces     A CHANGE entry comes first in what the core is given: it notes the index of the
 *                 first entry of a batch as that of the change, and then never sees it committed.
 *   C  promotion  A standby becomes a voter only when it has caught up and all other voters hold
 * the last list of members: one that does not know yet that it votes refuses to. D  numbers Frames
 * of a peer are numbered; one that is older than the newest seen is dropped: a late rejection trips
 * the same assertion as in A. E  start      A group starts from its birth entry or from a snapshot,
 * never from an empty log: fed from index 1 it has no committed members to fall back to. F  refusal
 * A refused pre-vote carries our own term when that is higher: the core echoes the candidate's,
 * which with the longer log and the lower term then never learns why.
 *   G  term       The only voter of a group takes a new term before it elects itself, which the
 * core does in the term it has: what it sent of that term to a standby and lost in a crash, or what
 * another led in it, would be written a second time under the same number.
 *   H  ballot     A node that is no voter in its own log votes all the same, by the host: it may be
 * one in the candidate's log, and be needed.  The core refuses, and two voters, or one that has
 * just taken in a second, then never elect anyone again.
 *   I  farewell   Who is about to lose its vote does not get that entry before it is committed, and
 * a leader does not take its own: a node that finds itself no voter never stands for election,
 * although with the longest log nobody else can win.
 *   J  counting   Only a candidate hears the result of a vote: in another role the core looks for
 * its election in memory that holds something else by then, the bytes of a pointer, and acts by
 * chance.
 *
 * Rule: each is one pure function, and each can be switched off by a mask that only the internal
 * constructor of a node takes, so that tests show what each is needed for.
 *
 * Pure; any thread.
 */
#ifndef MG_RAFT_ARMOUR_H
#define MG_RAFT_ARMOUR_H

#include "raft/core.h"

enum {
	MG_ARMOUR_ANCHOR = 1 << 0,
	MG_ARMOUR_PIECES = 1 << 1,
	MG_ARMOUR_PROMOTION = 1 << 2,
	MG_ARMOUR_NUMBERS = 1 << 3,
	MG_ARMOUR_START = 1 << 4,
	MG_ARMOUR_REFUSAL = 1 << 5,
	MG_ARMOUR_TERM = 1 << 6,
	MG_ARMOUR_BALLOT = 1 << 7,
	MG_ARMOUR_FAREWELL = 1 << 8,
	MG_ARMOUR_COUNTING = 1 << 9,
	MG_ARMOUR_ALL = (1 << 10) - 1,
};

/* The sender of mg_armour_next_term; nothing goes back to it. */
#define MG_ARMOUR_NOBODY UINT64_MAX

/* How far behind the leader's log a standby may be when it is promoted, in entries. */
#define MG_PROMOTION_LAG_MAX 1024

/* What has been received of a peer. */
struct mg_armour_peer {
	uint64_t incarnation, sequence;
};

/* A: `snapshot` is ours (index 0: none).  Changes the append in place. */
void mg_armour_anchor(unsigned rules, const struct mg_core_info *info,
                      const struct mg_snapshot *snapshot, struct mg_message *append);

/* B: how many of the `count` entries may be given to the core at once; at least 1 when count is. */
size_t mg_armour_piece(unsigned rules, const struct mg_entry *entries, size_t count);

/* C: may `node`, a standby, become a voter?  Fails: MG_E_BUSY with who is behind; MG_E_NOT_FOUND;
 * MG_E_UNAVAILABLE when core does not lead. */
int mg_armour_promotion(unsigned rules, const struct mg_core *core, uint64_t node,
                        struct mg_error *err);

/* D: is this frame newer than all seen of its peer?  Notes it. */
bool mg_armour_number(unsigned rules, struct mg_armour_peer *peer, uint64_t incarnation,
                      uint64_t sequence);

/* E: may a group start from this?  Fails: MG_E_NOT_FOUND when there is nothing to start from;
 * MG_E_CORRUPT when the log has lost its beginning. */
int mg_armour_start(unsigned rules, const struct mg_raft_log_state *state, uint8_t first_type,
                    struct mg_error *err);

/* F: changes a vote result in place before it is sent. */
void mg_armour_refusal(unsigned rules, uint64_t own_term, struct mg_message *message);

/* G: would node elect itself alone, in its present term?  Then the host starts the core with the
 * next term, or before a timer steps the message of mg_armour_next_term; a TIMEOUT_NOW it drops. */
bool mg_armour_elects_itself(unsigned rules, const struct mg_members *members, uint64_t node);
/* A request for a vote that cannot be granted, of nobody: it only raises the term. */
struct mg_message mg_armour_next_term(uint64_t term);

/* What a node knows when it is asked for its vote. */
struct mg_ballot {
	uint64_t term, vote;            /* its own; vote 0: none in this term */
	uint64_t last_index, last_term; /* of its log */
	bool has_leader;                /* it has heard of one within an election timeout */
	bool installing;
};

/* H: does the host answer this request, because the core would refuse it as no voter? */
bool mg_armour_answers(unsigned rules, const struct mg_members *members, uint64_t self);
/* H: the vote, once our term is at least the request's (a pre-vote: whatever our term is). */
bool mg_armour_grants(const struct mg_ballot *ballot, const struct mg_message *request);

/* I: how many of these entries may go to `peer` now; `committed` is the leader's commit index,
 * `members` those committed. */
size_t mg_armour_farewell(unsigned rules, const struct mg_entry *entries, size_t count,
                          uint64_t committed, const struct mg_members *members, uint64_t peer);
/* I: may the leader `self` propose these members?  Fails: MG_E_USAGE. */
int mg_armour_keeps_vote(unsigned rules, const struct mg_members *members, uint64_t self,
                         struct mg_error *err);

/* J: may a node in this role hear the result of a vote? */
bool mg_armour_counts(unsigned rules, enum mg_raft_role role);

#endif
