/*
 * spool.h - the rows of one exchange on one node: filled by any thread, then read many times.
 *
 * Items are IPC batches (mg_buf); past the memory share they go to an unlinked file in the spill
 * directory.  A spool is sealed before it is read; readers never wait.  Checksums guard what lies
 * in the file.  Ref-counted.
 */
#ifndef MG_STORE_SPOOL_H
#define MG_STORE_SPOOL_H

#include "base/error.h"
#include "base/mem.h"

#include <nanoarrow/nanoarrow.h>

struct mg_spool;

/* Memory shared by all spools of a query; past it they spill.  Also counts for admission. */
struct mg_spool_budget {
	atomic_ullong used;
	uint64_t limit; /* bytes in memory before spilling */
	atomic_ullong spilled;
	uint64_t spill_limit; /* 0: none; past it: MG_E_NOMEM */
	/* Bytes on disk of all budgets that share this count: never more than they leave free, else
	 * MG_E_DISK_FULL.  NULL: no limit. */
	atomic_ullong *together;
	const char *spill_dir;
};

struct mg_spool *mg_spool_new(struct mg_spool_budget *budget);
struct mg_spool *mg_spool_ref(struct mg_spool *spool);
void mg_spool_unref(struct mg_spool *spool);
/* The schema message (IPC); the first one stays, later ones must be byte-equal or fail
 * MG_E_PROTOCOL. */
int mg_spool_set_schema(struct mg_spool *spool, struct mg_buf *schema, struct mg_error *err);
struct mg_buf *mg_spool_schema(struct mg_spool *spool); /* NULL when none; borrowed */
int mg_spool_put(struct mg_spool *spool, struct mg_buf *batch, uint64_t rows,
                 struct mg_error *err); /* takes a ref */
void mg_spool_seal(struct mg_spool *spool);
uint64_t mg_spool_rows(const struct mg_spool *spool);
uint64_t mg_spool_bytes(const struct mg_spool *spool);
size_t mg_spool_count(const struct mg_spool *spool);
/* Item i of a sealed spool; caller unrefs. Any thread. */
int mg_spool_get(struct mg_spool *spool, size_t index, struct mg_buf **out, struct mg_error *err);

#endif
