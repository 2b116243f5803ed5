/*
 * changes_record.h - a record of a shard's log of changes (changes_log.h), as bytes.
 *
 *     u32 size of the head   u32 size of the payload   u64 check of both   head   payload
 *
 *     head:  u64 index   u8 kind   u8 together, and then 16 bytes of a transaction
 *            u8 length, schema and a zero   u8 length, table and a zero
 *            u64 first row id   u32 rows   u16 number of the columns
 *
 *     COLUMNS                   payload: IPC schema, under this number until it is given again
 *     OLD                       rows that the next record replaces or deletes, as they were:
 *                               "_mg_rid", "_mg_slot", the user's columns; maybe several batches
 *     INSERT, REPLACE, DELETE   as in redo.h; INSERT has the ids first row id, + 1, ...
 *     CREATE, DROP              a table; payload of CREATE: its columns as SQL
 *     MARK                      what the shard has done up to this index stands before
 *     MOVED                     payload: another table of the schema, and a zero; the rows that
 *                               were inserted there since its CREATE are this one's now, with
 *                               their ids
 *
 * Numbers are little-endian.  Pure; any thread.
 */
#ifndef MG_REPLICA_CHANGES_RECORD_H
#define MG_REPLICA_CHANGES_RECORD_H

#include "base/str.h"
#include "replica/command.h"

#define MG_CHANGES_FRAME 16u /* bytes before the head */
#define MG_CHANGES_HEAD_MAX 600u
#define MG_CHANGES_PAYLOAD_MAX (48u << 20) /* a redo's, which holds it */
#define MG_CHANGES_COLUMNS_MAX 32u         /* numbers of columns: 0 .. */

/* On disk: never renumber. */
enum mg_changes_kind {
	MG_CHANGES_COLUMNS = 1,
	MG_CHANGES_OLD = 2,
	MG_CHANGES_INSERT = 3,
	MG_CHANGES_REPLACE = 4,
	MG_CHANGES_DELETE = 5,
	MG_CHANGES_CREATE = 6,
	MG_CHANGES_DROP = 7,
	MG_CHANGES_MARK = 8,
	MG_CHANGES_MOVED = 9,
};

struct mg_changes_record {
	enum mg_changes_kind kind;
	uint64_t index; /* of the entry */
	bool together;  /* part of a transaction over several shards */
	struct mg_txid transaction;
	const char *schema, *table; /* as stored; NULL: "" */
	uint64_t first_rid;
	uint32_t rows;
	uint16_t columns;
	const uint8_t *payload;
	size_t payload_size;
};

struct mg_changes_frame {
	uint32_t head_size, payload_size;
	uint64_t check;
};

/* Frame and head; the payload goes behind it. */
void mg_changes_record_encode(struct mg_out *out, const struct mg_changes_record *record);
/* Fails (false): sizes that no record has. */
bool mg_changes_frame_decode(const uint8_t bytes[MG_CHANGES_FRAME], struct mg_changes_frame *out);
/* bytes: head and payload.  Texts and payload of out point into them.  Fails (false): they are not
 * what was written. */
bool mg_changes_record_decode(const struct mg_changes_frame *frame, const uint8_t *bytes,
                              struct mg_changes_record *out);

#endif
