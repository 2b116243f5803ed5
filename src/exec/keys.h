/*
 * keys.h - this server's keys and values, as kv('namespace') of SQL reads them.
 *
 *   kv() in the engine, or in the planning database --store/duck_keys.h--> replica/kv_scan.h
 *
 * Every server has all keys, so they are read where the statement runs, and never by a worker.
 * What was acknowledged before is waited for once for a statement (mg_keys_await), and each call of
 * kv() then reads as of the moment at which it begins.
 */
#ifndef MG_EXEC_KEYS_H
#define MG_EXEC_KEYS_H

#include "base/error.h"
#include "store/duck_keys.h"

struct mg_replica;

/* What kv() asks; replica is borrowed. */
void mg_keys_of(struct mg_replica *replica, struct mg_duck_keys *out);
/* Until what was acknowledged before can be read here.  Thread: one that may wait.  Fails: as a
 * read of kv_groups.h. */
int mg_keys_await(struct mg_replica *replica, struct mg_error *err);
/* Fails: as mg_replica_kv_check; MG_E_USAGE the name is none of a namespace. */
int mg_keys_check(struct mg_replica *replica, struct mg_str space, struct mg_error *err);

#endif
