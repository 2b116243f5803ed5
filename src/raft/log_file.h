/*
 * log_file.h - the node's log on files: log.h over segments of one directory.
 *
 * Segments have a fixed size and are written ahead, so that a sync is one write of the data and
 * nothing of the file system.  A batch of puts is one write and one sync; the next one gathers
 * meanwhile.
 *
 *     0000002a.log    a segment: a head, records, a seal at the end
 *     spare-00000007  one that waits for its number; made ahead, or used before
 *
 * What a crash leaves is a prefix: records of one batch may be torn, and then all that follow are
 * of the same batch.  A broken record with later batches behind it is damage, MG_E_CORRUPT; one at
 * the very end cannot be told from a torn one, and is cut.
 *
 * owner: the raft thread; see log.h.
 */
#ifndef MG_RAFT_LOG_FILE_H
#define MG_RAFT_LOG_FILE_H

#include "os/disk.h"
#include "raft/log.h"

struct mg_log_file_options {
	struct mg_disk *disk;      /* borrowed, with nothing else in it */
	uint32_t segment_bytes;    /* 0: 64 MiB; holds the largest record */
	size_t cache_bytes;        /* of written records that stay in memory; 0: 32 MiB */
	void (*notify)(void *arg); /* results wait: call poll; on any thread */
	void *arg;
};

/* Reads what is there; replay tells it.
 * Fails: MG_E_CORRUPT with the segment and byte; MG_E_IO, MG_E_NOMEM, MG_E_DISK_FULL. */
int mg_log_file_open(struct mg_raft_log **out, const struct mg_log_file_options *options,
                     struct mg_error *err);
/* Waits for what was flushed; no `done` runs any more.  NULL is fine. */
void mg_log_file_close(struct mg_raft_log *log);

/* Where the log itself may be called. */
struct mg_log_file_stats {
	size_t segments, spares;
	uint64_t syncs, bytes_written, rewritten;
	uint64_t reads; /* of entries that were not in memory any more */
};
void mg_log_file_stats(struct mg_raft_log *log, struct mg_log_file_stats *out);

#endif
