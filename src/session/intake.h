/*
 * intake.h - the rows of COPY ... FROM: the bytes that a client sends for STDIN, in a file without
 * a name, or a file of this server that was granted (os/granted.h).
 *
 * A client's bytes are asked for piece by piece, so it sends no more than is wanted, and the
 * statement begins when all of them are there: until then nothing is locked.
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
	struct mg_scratch *file; /* of a client's bytes, or NULL */
	int fd;                  /* of the server's file, when `opened` */
	bool opened;
	struct mg_write_input input;
};

/* NULL: nothing was taken. */
const struct mg_write_input *mg_intake_input(const struct mg_intake *intake);

/* A statement whose rows the client sends. */
bool mg_intake_is_wanted(const char *verb);
/* What the statement names: all that the sink has, or the file of a path.  relayed: another server
 * sends the file's bytes, as they are named there.  Fails: MG_E_USAGE when the sink has nothing to
 * ask, what it says, MG_E_BUSY, MG_E_DISK_FULL when it is more than half of what was free on the
 * disk; as mg_granted_open. */
int mg_intake_take(struct mg_intake *intake, struct mg_engine *engine, struct mg_str statement,
                   bool relayed, struct mg_sink *sink, struct mg_error *err);
void mg_intake_fini(struct mg_intake *intake); /* of a zeroed one, too */

#endif
