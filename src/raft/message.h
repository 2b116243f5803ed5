/*
 * message.h - what members of a group say to each other, as values.
 *
 * One struct for both directions: `peer` is the receiver of what the core hands out and the sender
 * of what comes in.  The core hands out appends without entries (it keeps only their terms): the
 * host reads `count` entries behind prev_index from the log before the next step.
 *
 * Pure values; what they point to belongs to whoever filled them in.
 */
#ifndef MG_RAFT_MESSAGE_H
#define MG_RAFT_MESSAGE_H

#include "base/bytes.h"
#include "raft/log.h"
#include "raft/members.h"

/* On the wire: never renumber. */
enum mg_message_kind {
	MG_MESSAGE_APPEND = 1,
	MG_MESSAGE_APPEND_RESULT = 2,
	MG_MESSAGE_VOTE = 3,
	MG_MESSAGE_VOTE_RESULT = 4,
	MG_MESSAGE_INSTALL = 5,
	MG_MESSAGE_TIMEOUT_NOW = 6,
};

/* What consensus has to know of a snapshot. */
struct mg_snapshot {
	uint64_t index, term;      /* the last entry it holds */
	struct mg_members members; /* as committed at index */
	uint64_t members_index;    /* the entry they come from */
};

/* A snapshot and the state machine's description of it: which files, which hashes. */
struct mg_manifest {
	struct mg_snapshot snapshot;
	const uint8_t *data; /* the state machine's bytes */
	uint32_t size;       /* at most MG_MANIFEST_SIZE_MAX */
};

struct mg_message {
	enum mg_message_kind kind;
	uint64_t peer;
	uint64_t term;
	union {
		struct {
			uint64_t prev_index, prev_term; /* the entry before the first one */
			uint64_t commit;                /* what the leader knows to be committed */
			const struct mg_entry *entries; /* NULL: read them from the log */
			size_t count;
		} append;
		struct {
			uint64_t rejected; /* the prev_index that did not fit; 0: accepted */
			uint64_t last;     /* stored up to here; after a rejection a hint */
			uint16_t features, capacity;
		} append_result;
		struct {
			uint64_t last_index, last_term; /* of the candidate's log */
			bool disrupt;                   /* the leader itself asked for this election */
			bool pre_vote;
			bool told; /* the leader of the term before did: in this term, not in a later try */
		} vote;
		struct {
			bool granted;
			bool pre_vote;
			uint16_t features, capacity;
		} vote_result;
		struct {
			uint64_t index; /* as the core hands it out: of the leader's newest snapshot */
			struct mg_manifest manifest; /* as it travels */
		} install;
		struct {
			uint64_t last_index, last_term; /* of the leader's log */
		} timeout_now;
	};
};

/* A manifest's bytes, in frames and in the log's marks: version u8, index u64, term u64,
 * members_index u64, members (u8 size, bytes), data (u32 size, bytes). */
size_t mg_manifest_size(const struct mg_manifest *manifest);
void mg_manifest_encode(struct mg_out *out, const struct mg_manifest *manifest);
/* data points into the bytes.  Fails: MG_E_PROTOCOL for what is damaged or not sound. */
int mg_manifest_decode(struct mg_in *in, struct mg_manifest *out, struct mg_error *err);

struct mg_manifest mg_manifest_copy(const struct mg_manifest *manifest); /* owns its data */
void mg_manifest_fini(struct mg_manifest *manifest); /* of a copy; zeroed after */

#endif
