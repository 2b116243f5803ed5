/*
 * snapshot_manifest.h - what a snapshot that travels between nodes consists of.
 *
 *     {"group":4,"index":1017,"engine":"v1.5.5","format":1,"bytes":9437184,
 *      "sha256":"<of the whole>","chunk_bytes":4194304,"chunks":["<sha256>",...],"raft":"<hex>"}
 *
 * One file, cut into chunks of 4 MiB, the last one shorter.  `raft` is the mark with which a new
 * replica begins (raft/message.h); "" when it is not known.
 *
 * Rule: bytes count only after their hash was compared; a manifest whose numbers do not agree with
 * each other is refused whole.
 *
 * Pure, but for mg_snapshot_manifest_hash.  Limit: MG_SNAPSHOT_CHUNKS_MAX, 1 TiB.
 */
#ifndef MG_REPLICA_SNAPSHOT_MANIFEST_H
#define MG_REPLICA_SNAPSHOT_MANIFEST_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "raft/message.h"

#define MG_SNAPSHOT_CHUNK_BYTES (4u << 20)
#define MG_SNAPSHOT_CHUNKS_MAX (1u << 18)
#define MG_SNAPSHOT_TEXT_MAX (24u << 20)
#define MG_SNAPSHOT_HASH 32

struct mg_snapshot_manifest {
	uint32_t group;
	uint64_t index;
	char engine[32]; /* version; "" when no engine's file */
	uint32_t format;
	uint64_t bytes;
	uint8_t sha256[MG_SNAPSHOT_HASH];
	uint32_t chunk_count;
	uint8_t (*chunks)[MG_SNAPSHOT_HASH];
	struct mg_buf *raft; /* NULL: not known */
};

/* Fill in bytes, sha256 and chunks from the file.  Blocks: reads all of it. */
int mg_snapshot_manifest_hash(struct mg_snapshot_manifest *manifest, const char *path,
                              struct mg_error *err);
void mg_snapshot_manifest_print(const struct mg_snapshot_manifest *manifest, struct mg_sb *out);
/* Fails: MG_E_PROTOCOL. */
int mg_snapshot_manifest_parse(const char *text, size_t len, struct mg_snapshot_manifest *out,
                               struct mg_error *err);
/* Could this node use it?  Fails: MG_E_UNSUPPORTED. */
int mg_snapshot_manifest_fits(const struct mg_snapshot_manifest *manifest, const char *engine,
                              uint32_t format, struct mg_error *err);
/* The mark with which a replica begins.  Owns: the caller.  Fails: MG_E_BUSY it is not known: the
 * snapshot is not the group's newest any more; MG_E_PROTOCOL. */
int mg_snapshot_manifest_mark(const struct mg_snapshot_manifest *manifest, struct mg_manifest *out,
                              struct mg_error *err);
size_t mg_snapshot_chunk_size(const struct mg_snapshot_manifest *manifest, uint32_t chunk);
bool mg_snapshot_chunk_is(const struct mg_snapshot_manifest *manifest, uint32_t chunk,
                          const void *data, size_t size);
void mg_snapshot_manifest_fini(struct mg_snapshot_manifest *manifest); /* zeroed after */

#endif
