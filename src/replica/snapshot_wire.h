/*
 * snapshot_wire.h - the puller's end of a bulk connection, for a thread that may wait.
 *
 *     open -> send, receive, send, ... -> close
 *
 * Bounds: frames of MG_SNAPSHOT_FRAME_MAX; what was not asked for is refused, so no more than the
 * answers to what is under way lie here.
 *
 * Thread: one at a time; interrupt by any.
 */
#ifndef MG_REPLICA_SNAPSHOT_WIRE_H
#define MG_REPLICA_SNAPSHOT_WIRE_H

#include "replica/peers.h"
#include "replica/snapshot_frame.h"

struct mg_snapshot_wire;

/* stop: asked while it waits.  Fails: MG_E_CONNECT, MG_E_DENIED, MG_E_TIMEOUT, MG_E_SHUTDOWN. */
int mg_snapshot_wire_open(struct mg_snapshot_wire **out, struct mg_peers *peers, uint64_t node,
                          const atomic_bool *stop, struct mg_error *err);
void mg_snapshot_wire_send(struct mg_snapshot_wire *wire, const struct mg_snapshot_frame *frame);
/* The next answer; *out points into *buf, which the caller unrefs.  Fails: MG_E_DISCONNECTED,
 * MG_E_TIMEOUT, MG_E_PROTOCOL, MG_E_SHUTDOWN. */
int mg_snapshot_wire_receive(struct mg_snapshot_wire *wire, uint64_t timeout_ms,
                             const atomic_bool *stop, struct mg_buf **buf,
                             struct mg_snapshot_frame *out, struct mg_error *err);
void mg_snapshot_wire_close(struct mg_snapshot_wire *wire); /* NULL is fine */

#endif
