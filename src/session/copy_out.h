/*
 * copy_out.h - COPY ... TO: a query's rows as bytes of CSV, JSON, Parquet or Arrow, for the client
 * (STDOUT) or for a file of this server that was granted (os/granted.h).
 *
 *   the query --rows--> copy.sink --bytes--> STDOUT: rows of one column "copy", BLOB, in order
 *                                 \--------> the file, which stands under its path at the end
 *
 * The query runs like any other, here or at another node; only its sink is ours.  Bytes go on while
 * they are made, and wait for the client.
 *
 * Limit: MG_COPIES_OUT_MAX at once in the process.  Thread: that of the sink.
 */
#ifndef MG_SESSION_COPY_OUT_H
#define MG_SESSION_COPY_OUT_H

#include "session/session.h"
#include "sql/copy_to.h"

#define MG_COPIES_OUT_MAX 8

struct mg_copy_out {
	struct mg_copy_to to;
	struct mg_sink sink; /* for the query; of its answer the client's gets what is said above */
	struct mg_sink *client;
	struct mg_engine *engine;
	struct mg_encoder *arrow;
	struct mg_copy_writer *writer;
	struct mg_granted_new *file;
	struct ArrowSchema schema; /* of STDOUT */
	bool counted;
};

/* What may not be written is refused here, before the query begins.  client is borrowed.
 * mg_copy_out_fini in any case.  Fails: as mg_copy_to_parse and mg_granted_create; MG_E_DENIED when
 * nothing is granted; MG_E_BUSY. */
int mg_copy_out_init(struct mg_copy_out *copy, struct mg_arena *arena, struct mg_str statement,
                     struct mg_engine *engine, struct mg_sink *client, struct mg_error *err);
/* Takes back a file that is not whole; of a zeroed one, too. */
void mg_copy_out_fini(struct mg_copy_out *copy);

/* The bytes of a batch that a sink gets from STDOUT. */
struct mg_str mg_copy_out_bytes(const struct ArrowArray *batch);

#endif
