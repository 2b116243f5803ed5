/*
 * cell.h - one process of a job, at its other end: what it is asked, and what it answers (cell.py).
 *
 * It runs a user's code, which can write to its socket, too: what comes is checked, its size is
 * bounded, and it means nothing to us but for its kind.
 *
 * Thread: one at a time.  A call that waits asks `stopped` every 100 ms.
 */
#ifndef MG_JOB_CELL_H
#define MG_JOB_CELL_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "job/nursery.h"

enum mg_cell_ask { MG_CELL_LOAD = 1, MG_CELL_CHUNK, MG_CELL_MERGE, MG_CELL_TAKE, MG_CELL_FINISH };

enum { MG_CELL_VALUE_MAX = 256 << 20, MG_CELL_RESULT_MAX = 32 << 20 };

struct mg_cell;

struct mg_cell_options {
	struct mg_nursery *nursery;
	const char *user;           /* whose it is */
	bool (*stopped)(void *arg); /* NULL: never */
	void *arg;
	/* What the user's code has printed, as it comes; may be NULL. */
	void (*printed)(void *arg, struct mg_str text);
};

/* Fails: as mg_nursery_begin. */
int mg_cell_begin(struct mg_cell **out, const struct mg_cell_options *options,
                  struct mg_error *err);
void mg_cell_end(struct mg_cell *cell); /* also in the middle of its work; NULL is fine */

/* Asks it; it must be idle.  parts: the payload, in pieces.  Fails: MG_E_CANCELLED; MG_E_DATA when
 * the user's code has ended it. */
int mg_cell_ask(struct mg_cell *cell, enum mg_cell_ask ask, const struct mg_str *parts,
                size_t count, struct mg_error *err);
bool mg_cell_is_idle(const struct mg_cell *cell);
int mg_cell_fd(const struct mg_cell *cell); /* readable when it has something to say */
/* Its answer, which it waits for; then it is idle.  *out may be NULL: an answer without a payload
 * is expected.  Fails: MG_E_DATA, the user's code has raised: message and detail say what and
 * where, mg_cell_traceback the whole; MG_E_USAGE, the file does not keep the contract; MG_E_LIMIT,
 * what it says is too large; as mg_cell_ask. */
int mg_cell_answer(struct mg_cell *cell, struct mg_buf **out, struct mg_error *err);
/* Of the last MG_E_DATA, until the next call; "". */
const char *mg_cell_traceback(const struct mg_cell *cell);

#endif
