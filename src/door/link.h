/*
 * link.h - a WebSocket that a client's session hangs on, from the connection's loop and from
 * outside: how it is killed.
 *
 * A link is the first member of a door's channel, which is freed with it: by the last of the
 * connection, of whoever works for it on the loop, and of kills that are on their way.
 *
 * owner: the loop, but for mg_link_kill.
 */
#ifndef MG_DOOR_LINK_H
#define MG_DOOR_LINK_H

#include "net/http.h"

#include <stdatomic.h>

struct mg_link {
	struct mg_loop *loop;
	struct mg_ws *ws; /* NULL: closed */
	atomic_int refs;
};

/* In a channel from mg_alloc; with one reference, the connection's. */
void mg_link_init(struct mg_link *link, struct mg_loop *loop);
void mg_link_ref(struct mg_link *link);
void mg_link_unref(struct mg_link *link);
/* Close it because a user said KILL: the hook of mg_session_open. Any thread; the session is open,
 * so the connection still holds its reference. */
void mg_link_kill(void *link);

#endif
