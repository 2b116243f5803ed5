/*
 * frame.h - the bytes between nodes.
 *
 *     0  size      u32   of the whole frame
 *     4  version   u8    1
 *     5  kind      u8    a message of a group, or of all groups at once
 *     6  zero      u16
 *     8  group     u32   of a message; else 0
 *    12  from      u64   node
 *    20  incarnation u64 of the sender: higher after each start
 *    28  sequence  u64   1, 2, ... within an incarnation, for each receiver
 *    36  body
 *
 * Numbers are little-endian.  Bodies (kinds 1 to 6 are enum mg_message_kind, each after term u64):
 *
 *     append         prev_index u64, prev_term u64, commit u64, count u32,
 *                    then for each entry term u64, type u8, size u32, data
 *     append result  rejected u64, last u64, features u16, capacity u16
 *     vote           last_index u64, last_term u64, flags u8 (1 disrupt, 2 pre-vote, 4 told)
 *     vote result    flags u8 (1 granted, 2 pre-vote), features u16, capacity u16
 *     install        index u64, term u64, members_index u64, members (u8 size, bytes),
 *                    manifest (u32 size, bytes)
 *     timeout now    last_index u64, last_term u64
 *     probe (16)     round u64, count u32, then for each group group u32, term u64
 *     answer (17)    round u64, count u32, then for each group group u32, term u64,
 *                    flags u8 (1 yes, 2 promise)
 *
 * Flags that a node does not know it ignores, and one that does not know `told` and `promise` sends
 * none: it gives no promise, so it carries no lease, and waits for those of others like anybody.
 *
 * Rule: a frame is decoded whole or refused; every length is checked against the bytes that are
 * there before anything is made of it, and what is decoded points into the frame.  A frame is at
 * most MG_RAFT_FRAME_SIZE_MAX, and a sender starts a new one at MG_RAFT_FRAME_SIZE_SOFT.
 *
 * Pure; any thread.
 */
#ifndef MG_RAFT_FRAME_H
#define MG_RAFT_FRAME_H

#include "base/mem.h"
#include "raft/message.h"

#define MG_RAFT_FRAME_HEAD_SIZE 36
#define MG_RAFT_FRAME_SIZE_SOFT (1024u * 1024)
#define MG_RAFT_FRAME_SIZE_MAX (MG_ENTRY_SIZE_MAX + 64 * 1024)
#define MG_RAFT_FRAME_ENTRIES_MAX 65536u
#define MG_RAFT_FRAME_PROBES_MAX 65536u
#define MG_RAFT_FRAME_ENTRY_OVERHEAD 13

enum { MG_RAFT_FRAME_PROBE = 16, MG_RAFT_FRAME_ANSWER = 17 };

/* One group of a probe: "is your current term at most this one?", or of its answer. */
struct mg_probe {
	uint32_t group;
	uint64_t term; /* the leader's; in an answer: of the asked node */
	bool yes;      /* answer */
	bool promise;  /* answer: see lease.h */
};

struct mg_raft_frame {
	uint8_t kind;
	uint32_t group;
	uint64_t from, incarnation, sequence;
	struct mg_message message; /* kinds 1 to 6; peer is `from` */
	uint64_t round;            /* probe, answer */
	struct mg_probe *probes;   /* in the arena */
	size_t probe_count;
};

/* The frame without its numbers, which mg_raft_frame_number puts in when it is really sent. Entries
 * of an append must be filled in.  NULL when there is no memory. */
struct mg_buf *mg_raft_frame_message(uint32_t group, uint64_t from,
                                     const struct mg_message *message);
struct mg_buf *mg_raft_frame_probes(uint8_t kind, uint64_t from, uint64_t round,
                                    const struct mg_probe *probes, size_t count);
void mg_raft_frame_number(struct mg_buf *frame, uint64_t incarnation, uint64_t sequence);

/* Size of the frame whose first bytes these are: 0 when more are needed to tell.
 * Fails: MG_E_PROTOCOL, then the connection is of no use any more. */
int mg_raft_frame_size(const uint8_t *data, size_t available, size_t *size, struct mg_error *err);

/* Decode one whole frame.  Arrays lie in the arena, bytes in `data`.  Fails: MG_E_PROTOCOL. */
int mg_raft_frame_decode(struct mg_arena *arena, const uint8_t *data, size_t size,
                         struct mg_raft_frame *out, struct mg_error *err);

#endif
