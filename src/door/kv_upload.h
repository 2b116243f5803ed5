/*
 * kv_upload.h - the body of a PUT as a value: whole when it is small, else in parts that are staged
 * as they come (replica/kv_large.c), so that no more than about two of them are held here.
 *
 *     begin -> ... done -> value -> (the caller's PUT) -> end
 *
 * Thread: the request's loop.   Bound: MG_KV_UPLOADS_MAX of a server, then MG_E_BUSY.
 */
#ifndef MG_DOOR_KV_UPLOAD_H
#define MG_DOOR_KV_UPLOAD_H

#include "net/http.h"
#include "replica/kv_groups.h"

#define MG_KV_UPLOADS_MAX 16 /* of a server at once */

struct mg_kv_upload;

/* Takes the body of a request that is deferred (net/http.h: a streamed one) for a key of this
 * shard.  done, once, never before it returns, unless it is ended before: err, or NULL.  Fails:
 * MG_E_BUSY; MG_E_NOMEM. */
int mg_kv_upload_begin(struct mg_kv_upload **out, struct mg_replica *replica,
                       struct mg_http_request *request, uint32_t shard,
                       void (*done)(void *arg, const struct mg_error *err), void *arg,
                       struct mg_error *err);
/* What a PUT takes, after done without an error: *kind and *value, which the upload holds. */
void mg_kv_upload_value(struct mg_kv_upload *upload, uint8_t *kind, struct mg_str *value);
/* At any time; the client may have gone.  kept: a key has its parts, or may have them; else they
 * are thrown away, now or, when nobody can be reached, by the group itself after a while.  NULL is
 * fine. */
void mg_kv_upload_end(struct mg_kv_upload *upload, bool kept);
int mg_kv_upload_count(void); /* for the metrics */

#endif
