/* changes_log_int.h - struct mg_changes_log from the inside: for changes_log.c and changes_reader.c
 * only. */
#ifndef MG_REPLICA_CHANGES_LOG_INT_H
#define MG_REPLICA_CHANGES_LOG_INT_H

#include "base/str.h"
#include "replica/changes_log.h"

#include <pthread.h>

#define MG_CHANGES_HEAD 24u /* bytes of a segment before its first record */

struct mg_changes_segment {
	uint64_t number; /* the next one's is one more, unless something between is missing */
	uint64_t base;   /* all behind this index stands in it and in those that follow */
	uint64_t size;   /* published */
};

struct mg_changes_log {
	struct mg_changes_log_options options;
	uint64_t segment_bytes;

	/* of the lane */
	struct mg_disk_file *file; /* the last segment; NULL: it could not be made */
	uint64_t written;          /* bytes in it, published or not */
	uint64_t unsynced;         /* from this segment on */
	uint64_t marked;           /* index of the last MARK */
	struct mg_sb pending;      /* behind what is written */
	struct mg_buf *columns[MG_CHANGES_COLUMNS_MAX]; /* that the segment has, by number */
	uint16_t next_columns;
	bool added, broken;

	pthread_mutex_t lock;
	/* guarded by lock; changed by the lane alone */
	struct mg_changes_segment *segments; /* the last one is being written */
	size_t count, cap;
	uint64_t to;
};

void mg_changes__name(const struct mg_changes_log *log, uint64_t number,
                      char name[MG_DISK_NAME_MAX]);

#endif
