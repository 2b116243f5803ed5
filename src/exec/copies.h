/*
 * copies.h - makes files that workers can copy of shards that have changed.
 *
 * A thread looks for shards that workers want and whose file is not offered: it has them written to
 * their files where that is needed, copies and hashes these, and offers them to the hub.
 */
#ifndef MG_EXEC_COPIES_H
#define MG_EXEC_COPIES_H

#include "base/error.h"

struct mg_copies;
struct mg_engine;

int mg_copies_start(struct mg_copies **out, struct mg_engine *engine, struct mg_error *err);
void mg_copies_stop(struct mg_copies *copies); /* waits; frees; NULL is fine */

#endif
