/*
 * snapshot_frame.h - what a bulk connection between nodes carries, after its hellos.
 *
 *     pulls                                       gives
 *     ASK group, index   ---------------------->  0 for index: the newest
 *                        <----------------------  MANIFEST text, or REFUSED code, text
 *     GET group, index, chunk   --------------->
 *                        <----------------------  CHUNK number, bytes; or REFUSED
 *
 *     0  size  u32   of the whole frame
 *     4  kind  u8
 *     5  ASK       group u32, index u64
 *        MANIFEST  text (snapshot_manifest.h)
 *        REFUSED   code u32, text
 *        GET       group u32, index u64, chunk u32
 *        CHUNK     chunk u32, bytes
 *
 * Numbers are little-endian.  Pure; any thread.
 */
#ifndef MG_REPLICA_SNAPSHOT_FRAME_H
#define MG_REPLICA_SNAPSHOT_FRAME_H

#include "base/error.h"
#include "base/mem.h"
#include "replica/snapshot_manifest.h"

enum mg_snapshot_kind {
	MG_SNAPSHOT_ASK = 1,
	MG_SNAPSHOT_MANIFEST,
	MG_SNAPSHOT_REFUSED,
	MG_SNAPSHOT_GET,
	MG_SNAPSHOT_CHUNK,
};

#define MG_SNAPSHOT_FRAME_HEAD 5
#define MG_SNAPSHOT_REQUEST_MAX 21                           /* ASK, GET */
#define MG_SNAPSHOT_FRAME_MAX (MG_SNAPSHOT_TEXT_MAX + 4096u) /* the others */

struct mg_snapshot_frame {
	uint8_t kind;
	uint32_t group, chunk;
	uint64_t index;
	uint32_t code;       /* enum mg_code */
	const uint8_t *data; /* text or bytes, in the frame */
	size_t size;
};

/* NULL: no memory. */
struct mg_buf *mg_snapshot_frame_encode(const struct mg_snapshot_frame *frame);
/* Of a frame that begins so.  Fails: MG_E_PROTOCOL when above max. */
int mg_snapshot_frame_size(const uint8_t head[4], size_t max, size_t *size, struct mg_error *err);
/* A whole one.  Fails: MG_E_PROTOCOL. */
int mg_snapshot_frame_decode(const uint8_t *data, size_t size, struct mg_snapshot_frame *out,
                             struct mg_error *err);

#endif
