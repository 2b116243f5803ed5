/*
 * relay_frame.h - what a connection between nodes carries that is for statements, after its hellos.
 *
 *     asks                                        runs it
 *     RUN who, settings, statement ------------->
 *     CANCEL, at any time ---------------------->
 *                      <------------------------- NOTICE, PROGRESS, at any time
 *                      <------------------------- SEEN, before BEGIN and before DONE
 *                      <------------------------- BEGIN columns, schema, when it has rows
 *                      <------------------------- BATCH rows, Arrow IPC, as often as needed
 *                      <------------------------- MORE, of a COPY, as often as needed
 *     DATA bytes, the answer to each ----------->
 *                      <------------------------- DONE tag, figures; or FAILED error: the last one
 *
 *      0  size  u32   of the whole frame
 *      4  kind  u8
 *      5  RUN       u8 flags (1 lossless, 2 goes on)  u8 role  u64 batch_rows  user  key
 *                   u64 digest  u16 count, so many times a setting's name and value  statement
 *                   what its session has seen (codec/seen.h), or nothing
 *         BEGIN     u32 count, so many times a column's name and type  Arrow's schema message
 *         BATCH     u64 rows  Arrow's messages
 *         DONE      tag  step  reason  u64 rows, bytes, moved bytes, moved rows, plan us, us
 *                   u32 nodes, workers, shards, stages, attempts
 *         FAILED    code's name  sqlstate  u8 origin  u32 shard  node  message  detail  hint
 *                   u8 elsewhere  u64 coordinator
 *         NOTICE    text
 *         PROGRESS  u64 done, in thousandths, all ones: not known  u64 rows, bytes  u32 nodes
 *         CANCEL    nothing
 *         MORE      nothing: the next piece of what COPY stores is wanted
 *         DATA      it, or no bytes: that was all
 *         SEEN      what the session has seen now
 *
 * A text is u32 size, bytes, in UTF-8 and without a zero.  Numbers are little-endian.  One RUN at a
 * time; the next may follow when the last has been answered.
 *
 * Pure; any thread.
 */
#ifndef MG_SESSION_RELAY_FRAME_H
#define MG_SESSION_RELAY_FRAME_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "catalog/catalog.h"
#include "exec/coordinator.h"

enum mg_relay_kind {
	MG_RELAY_RUN = 1,
	MG_RELAY_CANCEL,
	MG_RELAY_BEGIN,
	MG_RELAY_BATCH,
	MG_RELAY_DONE,
	MG_RELAY_FAILED,
	MG_RELAY_NOTICE,
	MG_RELAY_PROGRESS,
	MG_RELAY_MORE,
	MG_RELAY_DATA,
	MG_RELAY_SEEN,
};

#define MG_RELAY_HEAD 5
#define MG_RELAY_BATCH_HEAD 13
#define MG_RELAY_ASK_MAX (256u << 20)     /* RUN */
#define MG_RELAY_ANSWER_MAX (1024u << 20) /* the others: one row of any width */
#define MG_RELAY_SETTINGS_MAX 64
#define MG_RELAY_COLUMNS_MAX 65536

struct mg_relay_setting {
	const char *name, *value;
};

struct mg_relay_run {
	const char *user;
	enum mg_role role;
	bool lossless;
	bool goes_on; /* with the transaction that was begun on this connection */
	uint64_t batch_rows;
	const char *once; /* the key of a write, or "" */
	uint64_t digest;
	struct mg_relay_setting *settings;
	size_t setting_count;
	struct mg_str statement;
	const char *seen; /* or "" */
};

struct mg_relay_begin {
	size_t count;
	const char **names, **types;
	const uint8_t *schema; /* behind them */
	size_t schema_size;
};

struct mg_relay_failed {
	struct mg_error error;
	/* Nothing was done: this node is not the one to ask. */
	bool elsewhere;
	uint64_t coordinator; /* it is this one; 0: not known */
};

struct mg_relay_progress {
	double done; /* 0 to 1; below 0: not known */
	uint64_t rows, bytes;
	uint32_t nodes;
};

struct mg_relay_frame {
	uint8_t kind;
	union {
		struct mg_relay_run run;
		struct mg_relay_begin begin;
		struct mg_relay_failed failed;
		struct mg_relay_progress progress;
		struct {
			uint64_t rows;
			const uint8_t *data;
			size_t size;
		} batch;
		struct {
			const char *tag;
			struct mg_run_stats stats; /* step in the arena of decoding */
		} done;
		const char *notice; /* NOTICE, SEEN */
	};
};

/* The whole; of a BATCH, only what stands before Arrow's bytes, which follow as they are. */
struct mg_buf *mg_relay_frame_encode(const struct mg_relay_frame *frame);
/* Of a frame that begins so.  Fails: MG_E_PROTOCOL when above max. */
int mg_relay_frame_size(const uint8_t head[4], size_t max, size_t *size, struct mg_error *err);
/* Whole frames out of bytes as they come; memory grows with what has come, not with what a head
 * says.  A zeroed struct with max set is an empty one. */
struct mg_relay_reader {
	size_t max;
	uint8_t *bytes;
	size_t size, cap, want;
};

/* Some of the bytes; *used: how many; *whole: a frame, the caller's, or NULL.  Fails:
 * MG_E_PROTOCOL, MG_E_NOMEM. */
int mg_relay_reader_take(struct mg_relay_reader *reader, const uint8_t *bytes, size_t size,
                         size_t *used, struct mg_buf **whole, struct mg_error *err);
void mg_relay_reader_fini(struct mg_relay_reader *reader);

/* A whole one; texts and lists in arena, bytes and the statement in data.  Fails: MG_E_PROTOCOL. */
int mg_relay_frame_decode(struct mg_arena *arena, const uint8_t *data, size_t size,
                          struct mg_relay_frame *out, struct mg_error *err);

#endif
