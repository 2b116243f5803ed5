/*
 * lease.h - leader leases: reads without a round while no other node can lead.
 *
 *     leader: round begins ----probe---->  voter: promises, for promise_ms from now on, to vote
 *             |                            for nobody and not to stand
 *             |<------------answer-------
 *             a majority of the voters has promised: the lease lasts until
 *             the round's beginning + mg_lease_ms(promise_ms)
 *
 * Rule: a lease ends before the first promise does that it stands on.  It counts from before its
 * probes were sent, and promises from after they came; what is left are the clocks.  A lease is
 * shorter than a promise by a fifth, so it holds while no clock runs more than a ninth too fast or
 * too slow (chrony's fastest slew is a twelfth), and by MG_LEASE_TICK_MS.  The clock counts the
 * time that a machine sleeps.
 *
 * A promise does not lean on the core's own rule for followers that hear a leader: that one is
 * forgotten in a restart, and when a connection ends (mg_raft_node_lost).  It is short, because it
 * is how long an election may have to wait.
 *
 *   opening   A replica that opens does not know what it has promised, and begins with a promise.
 *   told      Who gives leadership away first ends its lease, for the rest of its term.  So a
 *             candidate whom the leader of the term before has told to stand gets votes in spite of
 *             promises: those made to that leader are void, later terms than its own it cannot ask
 *             for, and a lease of an earlier term ended before that leader was elected.
 *             A transfer that fails gives no lease back: nobody can tell a late TIMEOUT_NOW from
 *             one that counts.  The leader reads by rounds until its next term.
 *   members   A majority of the voters of one list meets each majority of the next list, but not of
 *             the one after that: a lease ends with each change of members that its leader begins.
 *
 * Pure; any thread.  Times are of mg_env's boot_ms.
 */
#ifndef MG_RAFT_LEASE_H
#define MG_RAFT_LEASE_H

#include <stdbool.h>
#include <stdint.h>

/* Read in whole milliseconds, a promise begins up to one before it was given. */
#define MG_LEASE_TICK_MS 1

/* Of a leader; zeros: none. */
struct mg_lease {
	uint64_t round_ms;   /* when the newest round began; 0: none that counts */
	uint64_t until_ms;   /* it holds before this */
	uint64_t given_term; /* leadership was given away in this term */
};

/* How long a lease lasts that stands on promises of this length; 0: too short for any. */
unsigned mg_lease_ms(unsigned promise_ms);

void mg_lease_round(struct mg_lease *lease, uint64_t now_ms); /* a round begins */
/* A majority of the voters has promised in the newest round, to the leader of `term`. */
void mg_lease_confirm(struct mg_lease *lease, uint64_t term, unsigned lease_ms);
bool mg_lease_holds(const struct mg_lease *lease, uint64_t now_ms);
/* Half of it is over, and no younger round is under way. */
bool mg_lease_ages(const struct mg_lease *lease, uint64_t now_ms, unsigned lease_ms);

/* Neither it nor the round under way counts any more: other members, another role or term. */
void mg_lease_end(struct mg_lease *lease);
/* And none of this term will. */
void mg_lease_give_away(struct mg_lease *lease, uint64_t term);

#endif
