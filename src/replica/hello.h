/*
 * hello.h - the first bytes of both ends of a connection between nodes.
 *
 *     dials                                     accepts
 *     hello  ------------------------------->   is it one of ours?
 *            <-------------------------------   hello, or a refusal in words, and the end
 *
 *     0  size         u32   of the whole
 *     4  kind         u8    1 hello, 2 refusal; of a connection beside: 3 snapshots, 4 statements,
 *                           each answered by 1
 *    hello:
 *     5  version_min  u8    what the sender can speak after this
 *     6  version_max  u8
 *     7  zero         u8
 *     8  node         u64   as its certificate says
 *    16  incarnation  u64   higher at each start of the node
 *    24  cluster      u8 size, bytes
 *        program      u8 size, bytes, for logs
 *        name         u8 size, bytes: what the node is called; may be missing, as the next
 *        address      u8 size, bytes: where it says that it is
 *    refusal:
 *     5  text         u8 size, bytes
 *
 * Numbers are little-endian.  What follows behind is for later versions, and not looked at.  After
 * the hellos both ends send frames of raft (raft/frame.h), messages between them (forward.h) and,
 * in silence, beats: a size of 4 alone; on connections beside this one the frames of
 * snapshot_frame.h, or of session/relay_frame.h.
 *
 * Pure; any thread.   Limit: MG_HELLO_SIZE_MAX.
 */
#ifndef MG_REPLICA_HELLO_H
#define MG_REPLICA_HELLO_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define MG_HELLO_SIZE_MAX 1024
#define MG_HELLO_TEXT_MAX 255
#define MG_HELLO_NAME_MAX 63
#define MG_HELLO_ADDRESS_MAX 255
#define MG_LINK_VERSION_MIN 2 /* 2: numbers of commits over shards */
#define MG_LINK_VERSION_MAX 2
#define MG_LINK_BEAT_SIZE 4

enum mg_hello_kind {
	MG_HELLO = 1,
	MG_HELLO_REFUSAL = 2,
	MG_HELLO_BULK = 3,
	MG_HELLO_RELAY = 4,
};

struct mg_hello {
	uint8_t kind;
	uint8_t version_min, version_max;
	uint64_t node, incarnation;
	char cluster[MG_HELLO_TEXT_MAX + 1];
	char program[MG_HELLO_TEXT_MAX + 1];
	char name[MG_HELLO_NAME_MAX + 1], address[MG_HELLO_ADDRESS_MAX + 1];
	char text[MG_HELLO_TEXT_MAX + 1]; /* of a refusal */
};

/* Returns the bytes written. */
size_t mg_hello_encode(const struct mg_hello *hello, uint8_t out[MG_HELLO_SIZE_MAX]);

/* size: of the hello that these bytes begin, 0 when more are needed to tell.  Fails: MG_E_PROTOCOL.
 */
int mg_hello_size(const uint8_t *data, size_t available, size_t *size, struct mg_error *err);
/* A whole one.  Texts that are not printable UTF-8 are refused.  Fails: MG_E_PROTOCOL. */
int mg_hello_decode(const uint8_t *data, size_t size, struct mg_hello *out, struct mg_error *err);

#endif
