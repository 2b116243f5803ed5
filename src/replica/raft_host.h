/*
 * raft_host.h - hosts a node's Raft groups: their log, their clock, their mailbox, a thread.
 *
 *     open -> birth, seed, open groups -> start      the opener owns the node until start
 *     post, call                                     from any thread, any time from open to close
 *     stop                                           the node and its groups end
 *     close                                          the mailbox and the thread end
 *
 * "The raft thread" is whichever thread has the turn, one at a time: the host's own, or, while that
 * sleeps, a loop that has posted or the disk's lane that has synced a batch.  A loop takes it where
 * it holds no locks, behind the callback that has posted.
 *
 * Rule: what is posted runs exactly once, on the raft thread, in the order of the posts, and a turn
 * of the node follows before the host's thread sleeps.  After stop there is no node:
 * mg_raft_host_node is NULL and every group is gone, so what is posted looks at it first and
 * otherwise only gives its error.
 *
 * A turn is taken for a post, for a batch that the disk has synced, and for the node's timers;
 * nothing here polls.  Posts never wait, so the mailbox has no bound of its own: proposals are
 * bounded by the group (proposal_bytes_max), frames by the connection they come from (peers.h), and
 * state machines have one answer under way.
 *
 * On disk, in the data directory: `log/raft/` is the log's own; `log/incarnation` counts the
 * starts.
 */
#ifndef MG_REPLICA_RAFT_HOST_H
#define MG_REPLICA_RAFT_HOST_H

#include "raft/node.h"

struct mg_raft_host;

struct mg_raft_host_options {
	const char *dir;      /* the node's data directory, which exists and is locked by the caller */
	uint64_t self;        /* node, from 1 */
	uint64_t incarnation; /* 0: the host counts; else higher than at each start before */
	struct mg_net *net;   /* NULL: a cluster of one; outlives the host */
	uint32_t log_segment_bytes; /* 0: the log's standard */
	/* The rest of what a node may choose: sizes, times and watchers (they run on the raft thread).
	 * Its self, incarnation, log, env and net are not looked at. */
	struct mg_raft_node_options raft;
	/* The log has failed: nothing goes on, the process must start again.  Raft thread; once. */
	void (*on_failed)(void *arg, int code);
	void *on_failed_arg;
};

/* Owns: the caller, who ends it by close.
 * Fails: MG_E_CORRUPT, MG_E_IO, MG_E_DISK_FULL, MG_E_NOMEM of the log; MG_E_USAGE an incarnation
 * that is not higher.  Blocks: reads the whole log. */
int mg_raft_host_open(struct mg_raft_host **out, const struct mg_raft_host_options *options,
                      struct mg_error *err);
/* Raft thread, or the opener before start; NULL after stop. */
struct mg_raft_node *mg_raft_host_node(struct mg_raft_host *host);
/* The group of the node when both are there, else NULL; where mg_raft_host_node may be called. */
struct mg_group *mg_raft_host_group(struct mg_raft_host *host, uint32_t group);
uint64_t mg_raft_host_self(const struct mg_raft_host *host);        /* any thread */
uint64_t mg_raft_host_incarnation(const struct mg_raft_host *host); /* any thread */
/* Fails: MG_E_IO when there is no thread to be had. */
int mg_raft_host_start(struct mg_raft_host *host, struct mg_error *err);

/* Any thread.  Never blocks. */
void mg_raft_host_post(struct mg_raft_host *host, void (*run)(void *arg), void *arg);
/* Post, to run not before this time (mg_clock_ms), or at close. */
void mg_raft_host_post_at(struct mg_raft_host *host, uint64_t ms, void (*run)(void *arg),
                          void *arg);
/* Post and wait until it has run.  Any thread but the raft thread; the host has started. */
void mg_raft_host_call(struct mg_raft_host *host, void (*run)(void *arg), void *arg);

/* Run what was posted, make durable what was put, free the node: what waits for it hears
 * MG_E_UNKNOWN_OUTCOME or MG_E_SHUTDOWN, on the raft thread.  The net gets no frame any more.
 * State machines with threads of their own end those first: what they have in hand is freed.
 * Blocks.  Again is fine.  Not on the raft thread. */
void mg_raft_host_stop(struct mg_raft_host *host);
/* Stop, run what was posted since, and free the host.  Nobody posts any more.  NULL is fine. */
void mg_raft_host_close(struct mg_raft_host *host);

#endif
