/*
 * resp.h - the Redis door: commands of Redis on the keys and values of this cluster.
 *
 *     first bytes -> mg_redis_open -> data: parsed, queued -> waves -> answers, in order
 *
 * Thread: the connection's loop.
 */
#ifndef MG_DOOR_RESP_H
#define MG_DOOR_RESP_H

#include "door/doors_int.h"

/* The connection speaks it from here on. */
void mg_redis_open(struct mg_doors *doors, struct mg_conn *conn);
/* A word and a sentence, as "LOADING ...", and the end. */
void mg_redis_refuse(struct mg_conn *conn, const char *error);

#endif
