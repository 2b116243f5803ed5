/*
 * kv_redirect.h - ?redirect=1: a write of a key goes to who leads its shard, by its client.
 *
 * Thread: a loop.
 */
#ifndef MG_DOOR_KV_REDIRECT_H
#define MG_DOOR_KV_REDIRECT_H

#include "door/doors_int.h"

/* True after an answer: 307 with Location.  False: it was not asked for, or this node leads, or
 * nobody knows who does. */
bool mg_kv_redirect(struct mg_doors *doors, struct mg_http_request *request, struct mg_str space,
                    struct mg_str key);

#endif
