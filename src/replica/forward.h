/*
 * forward.h - a node asks the leader of a group on another node: to propose, or where to read.
 *
 * Frames between those of raft (peers.h), with a head of the same size:
 *
 *     0  size     u32   of the whole frame
 *     4  version  u8    1
 *     5  kind     u8    32 request, 33 answer
 *     6  what     u8    request: enum mg_ask_kind
 *     7  zero     u8
 *     8  group    u32
 *    12  id       u64   of the request, from its sender
 *    20  index    u64   answer
 *    28  leader   u64   answer: whom to ask when it is not this node; 0: not known
 *    36  request: the bytes to propose; answer: u16 error, 0 for none
 *
 * Rule: each request is answered once.  What was never sent did not happen (MG_E_UNAVAILABLE); when
 * its connection ends, or its time, before an answer has come, nobody knows
 * (MG_E_UNKNOWN_OUTCOME).
 *
 * Bounds: MG_ENTRY_SIZE_MAX to propose, then MG_E_LIMIT; MG_FORWARD_BYTES_MAX and
 * MG_FORWARD_COUNT_MAX under way, then MG_E_BUSY; what others ask of this node is bounded by its
 * groups.
 *
 * Thread: raft's.
 */
#ifndef MG_REPLICA_FORWARD_H
#define MG_REPLICA_FORWARD_H

#include "replica/peers.h"

#define MG_FORWARD_BYTES_MAX (64u << 20)
#define MG_FORWARD_COUNT_MAX 65536u

/* Between nodes: never renumber. */
enum mg_ask_kind { MG_ASK_PROPOSE = 1, MG_ASK_READ = 2 };

struct mg_ask {
	enum mg_ask_kind kind;
	uint32_t group;
	const uint8_t *data; /* MG_ASK_PROPOSE */
	size_t size;
};

/* Of an answer, besides those of enum mg_code: the epoch is over, and nothing happened. */
#define MG_FENCED 0xffff

struct mg_answer {
	int error;
	uint64_t index;  /* where it is applied, or refused by a fence; or to read at */
	uint64_t leader; /* where to go, 0: not known */
};

typedef void (*mg_answer_cb)(void *arg, const struct mg_answer *answer);

struct mg_forward;

struct mg_forward_options {
	struct mg_raft_host *host;
	struct mg_peers *peers;
	/* Another node asks this one: answer once, at once or later. */
	void (*serve)(void *arg, const struct mg_ask *ask, mg_answer_cb answer, void *answer_arg);
	void *arg;
};

/* Before mg_peers_start.  Any thread. */
struct mg_forward *mg_forward_new(const struct mg_forward_options *options);
void mg_forward_ask(struct mg_forward *forward, uint64_t node, const struct mg_ask *ask,
                    unsigned timeout_ms, mg_answer_cb cb, void *arg);
/* Answers what is under way: the node has ended. */
void mg_forward_stop(struct mg_forward *forward);
/* After the host has closed.  Any thread; NULL is fine. */
void mg_forward_free(struct mg_forward *forward);

#endif
