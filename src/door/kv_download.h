/*
 * kv_download.h - a value in parts as the body of an answer: one part after the other, as the
 * client takes them.
 */
#ifndef MG_DOOR_KV_DOWNLOAD_H
#define MG_DOOR_KV_DOWNLOAD_H

#include "door/doors_int.h"
#include "replica/kv_state.h"

/* Before the first byte, on the loop: header lines of the key, and its type, in the request's
 * arena.  found NULL: it is gone.  False: it has answered instead. */
typedef bool mg_kv_download_begin(void *arg, const struct mg_kv_found *found, struct mg_sb *extra,
                                  const char **type);

/* Answers a request that is deferred, on its loop; whoever was told when its client goes is told no
 * more.  What is read is what the key has by now.  arg lives as long as the request. */
void mg_kv_download(struct mg_doors *doors, struct mg_http_request *request, struct mg_str space,
                    struct mg_str key, mg_kv_download_begin *begin, void *arg);

#endif
