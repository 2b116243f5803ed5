/*
 * log_record.h - a record of the node's log as bytes.
 *
 *      0  u64 checksum   XXH3-64 of the rest, seeded with the number of the segment
 *      8  u32 size       of the payload
 *     12  u32 group
 *     16  u64 batch      records of one sync; never falls, grows by one
 *     24  u64 index      entry, truncate, compact, mark; hard state: the vote; state: first entry
 *     32  u64 term       entry, mark, hard state, state
 *     40  u8 kind  u8 type (of an entry)  u8 flags  u8 zero  u32 zero
 *     48  payload, then zeros up to a multiple of 8
 *
 * All numbers little-endian.  The seed is why a segment that is used again needs no wiping: its old
 * records are those of another number.  Pure; checked byte by byte, for it also reads what a crash
 * or a bad disk left.
 */
#ifndef MG_RAFT_LOG_RECORD_H
#define MG_RAFT_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_LOG_HEAD_SIZE 48u
#define MG_LOG_ALIGN 8u

/* Kinds beside those of enum mg_raft_log_kind.  Stored: never renumber. */
enum mg_log_kind {
	MG_LOG_KIND_REWRITE = 64, /* an entry again, because its old segment goes */
	MG_LOG_KIND_STATE = 65,   /* all but the entries of a group, for the same reason */
	MG_LOG_KIND_SEAL = 66,    /* the log goes on in the next segment */
};

enum mg_log_flag {
	MG_LOG_FLAG_END = 1,   /* the last record of its batch */
	MG_LOG_FLAG_RESET = 2, /* of a mark: it replaces all entries */
};

struct mg_log_head {
	uint32_t size, group;
	uint64_t batch, index, term;
	uint8_t kind, type, flags;
};

/* Bytes of a record with that payload, padded. */
static inline size_t mg_log_record_size(size_t payload)
{
	return MG_LOG_HEAD_SIZE + (payload + MG_LOG_ALIGN - 1) / MG_LOG_ALIGN * MG_LOG_ALIGN;
}

/* Write head and payload; bytes holds mg_log_record_size(head->size).  Sealed later. */
void mg_log_record_write(uint8_t *bytes, const struct mg_log_head *head, const void *payload);
/* The last touch before the disk: more flags, then the checksum. */
void mg_log_record_seal(uint8_t *record, uint8_t flags, uint64_t seed);
/* Is there a whole record at bytes, of which `left` can be read?  Fills head. */
bool mg_log_record_read(const uint8_t *bytes, size_t left, uint64_t seed,
                        struct mg_log_head *head);
/* Its head alone, unchecked: of bytes that mg_log_record_write wrote. */
void mg_log_record_head(const uint8_t *bytes, struct mg_log_head *head);

#endif
