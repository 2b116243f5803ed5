/*
 * intake.h - the bytes that a client sends for COPY ... FROM STDIN, in a file without a name.
 *
 * They are asked for piece by piece, so a client sends no more than is wanted, and the statement
 * begins when all of them are there: until then nothing is locked.
 *
 * Thread: that of the request; it waits for the client.
 */
#ifndef MG_SESSION_INTAKE_H
#define MG_SESSION_INTAKE_H

#include "exec/write.h"
#include "session/session.h"

#define MG_INTAKE_PIECE_BYTES (1u << 20) /* asked for at once */
#define MG_INTAKES_MAX 4                  /* at once, in the process */

struct mg_intake {
	struct mg_scratch *file; /* NULL: nothing was taken */
	struct mg_write_input input;
};

/* A statement whose rows the client sends. */
bool mg_intake_is_wanted(const char *verb);
/* All that the sink has, into dir.  Fails: MG_E_USAGE when it has nothing to ask, what it says,
 * MG_E_BUSY, MG_E_DISK_FULL when it is more than half of what was free on the disk. */
int mg_intake_take(struct mg_intake *intake, struct mg_sink *sink, const char *dir,
                   struct mg_error *err);
void mg_intake_fini(struct mg_intake *intake); /* of a zeroed one, too */

#endif
