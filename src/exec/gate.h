/*
 * gate.h - readers of the engine's shards on one side, and who replaces a shard's file on the
 * other.
 *
 *     reader: enter -> statements on a connection -> mute -> disconnect -> leave
 *     swap:   no new readers, those inside get a moment, then are interrupted; swap; readers again
 *
 * Rule: nobody is inside while a file is replaced.
 *
 * A file is replaced when this node takes over another one's snapshot: rarely, and only where it
 * lags far behind.  Somebody who is inside may enter again; when a swap waits then, the second
 * entry fails after a while, so that neither waits for the other for ever.
 *
 * Thread: any.
 */
#ifndef MG_EXEC_GATE_H
#define MG_EXEC_GATE_H

#include "base/error.h"
#include "base/mem.h"

struct mg_gate;

/* One reader; the caller's memory. */
struct mg_gate_pass {
	struct mg_gate_pass *next, *prev;
	void (*interrupt)(void *arg);
	void *arg;
	bool inside;
};

struct mg_gate *mg_gate_new(void);
void mg_gate_free(struct mg_gate *gate); /* nobody is inside; NULL is fine */

/* interrupt: asks the reader to end, from another thread, until mute; may come again; NULL: it is
 * short.  gate NULL: nothing to do.  Fails: MG_E_BUSY. */
int mg_gate_enter(struct mg_gate *gate, struct mg_gate_pass *pass, void (*interrupt)(void *arg),
                  void *arg, struct mg_error *err);
void mg_gate_mute(struct mg_gate *gate, struct mg_gate_pass *pass);
void mg_gate_leave(struct mg_gate *gate, struct mg_gate_pass *pass); /* not inside: nothing */

/* Call swap with nobody inside; returns what it says.  Fails: MG_E_BUSY, without calling it:
 * somebody does not leave within half a minute; try again, others come first. */
int mg_gate_swap(struct mg_gate *gate, int (*swap)(void *arg, struct mg_error *err), void *arg,
                 struct mg_error *err);

#endif
