/*
 * peers_int.h - what peers.c (whom we know, who dials whom) and peer_link.c (the bytes of one
 * connection) share.
 *
 * Locks: peers->lock, then link->lock; a loop's own lock may be taken under both.
 */
#ifndef MG_REPLICA_PEERS_INT_H
#define MG_REPLICA_PEERS_INT_H

#include "base/metrics.h"
#include "net/net.h"
#include "replica/hello.h"
#include "replica/peers.h"

#include <pthread.h>
#include <stdatomic.h>

struct mg_peer_node {
	struct mg_peers *peers;
	uint64_t node;
	/* guarded by peers->lock */
	char *address;        /* NULL: not known, or no node any more */
	bool removed;         /* was named as one that is not */
	struct mg_link *link; /* counted; NULL: not connected */
	uint64_t incarnation; /* the highest that was heard */
	char program[64];
	char told_name[64], told_address[256];
	char why[256];
	uint64_t opened_ms; /* when it was last connected */
	/* owner: the loop that dials */
	struct mg_timer *timer;
	bool dialing;
	bool refused;      /* the last time, in words */
	unsigned failures; /* one after the other */
};

/* Who takes connections beside the one of raft; take NULL: nobody. */
struct mg_taker {
	bool (*take)(void *arg, struct mg_conn *conn, uint64_t node, size_t skip);
	void *arg;
};

struct mg_peers {
	struct mg_net net; /* first */
	struct mg_peers_options options;
	struct mg_raft_host *host; /* set by start */
	struct mg_peers_messages messages;
	struct mg_metric *sent_frames, *sent_bytes, *received_frames, *received_bytes;
	struct mg_metric *dropped_full, *dropped_down, *refused, *links;
	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_peer_node **nodes;
	size_t node_count, node_cap;
	bool started, stopping;
	uint64_t link_count; /* that there ever were */
	uint64_t refusal_logged_ms;
	struct mg_taker bulk, relay;
	/* owner: the raft thread */
	struct mg_link *dirty; /* links with something to send, counted */
};

/* Frames in order: what was taken lies before `first`. */
struct mg_link_queue {
	struct mg_buf **list;
	size_t first, count, cap;
	size_t bytes; /* with what a frame costs beside its own */
};

/* A connection that has said its hellos, or is about to. */
struct mg_link {
	atomic_int refs; /* the connection, the node, posts */
	struct mg_peers *peers;
	struct mg_peer_node *node;
	struct mg_loop *loop;
	uint64_t number; /* from 1; when it is established */
	/* owner: its loop */
	struct mg_conn *conn; /* NULL: closed */
	bool dialled;
	bool open;    /* both hellos are said */
	bool refused; /* in place of a hello */
	size_t skip;  /* bytes of the hello, which come again */
	struct mg_timer *timer;
	uint64_t heard_ms;
	bool said;       /* something, since the last beat */
	uint8_t head[4]; /* the size of a frame that begins */
	size_t head_size;
	struct mg_buf *frame; /* that comes in */
	size_t frame_size;
	char why[256]; /* it is closed, when we did it */
	bool ended;    /* the node closed it, and there is no other one */
	/* owner: the raft thread */
	struct mg_link *next_dirty;
	bool dirty;
	bool broken; /* raft has refused a frame */

	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_link_queue out, in;
	bool out_posted; /* the loop will look at out: a post or a drain is under way */
	bool in_posted;  /* raft will look at in */
	bool paused;     /* not read, until raft has taken enough */
	bool closed;
};

/* ---- peers.c ---- */

/* Post to a loop, unless the end has begun, when loops may be gone.  False: it was not posted. */
bool mg_peers__post(struct mg_peers *peers, struct mg_loop *loop, void (*fn)(void *), void *arg);
/* Under the lock.  NULL: there are too many. */
struct mg_peer_node *mg_peers__find_or_add(struct mg_peers *peers, uint64_t node);
/* Under the lock.  A copy of where it is, or NULL. */
char *mg_peers__address(const struct mg_peers *peers, uint64_t node);
/* Under the lock.  It was named as one that is no node any more. */
bool mg_peers__removed(const struct mg_peers *peers, uint64_t node);

/* ---- peer_dial.c ---- */

/* For a post to the loop that dials; arg: a node of which something has changed that makes it worth
 * to try now. */
void mg_peers__kick(void *arg);
/* A link's connection is gone.  On its loop. */
/* True: it was the way to that node, which goes by another one now, or none. */
bool mg_peers__lost(struct mg_link *link, const char *reason);

/* ---- peer_hello.c ---- */

void mg_peers__hello(struct mg_peers *peers, struct mg_conn *conn, uint8_t kind);
void mg_peers__say_hello(struct mg_peers *peers, struct mg_conn *conn);
/* Is it one of ours?  node: who it is by its certificate.  Fails: MG_E_DENIED. */
int mg_peers__check_hello(const struct mg_peers *peers, const struct mg_hello *hello, uint64_t node,
                          struct mg_error *err);
/* Both hellos are good: from now on this is the connection of its node.  On the link's loop.
 * Fails: MG_E_SHUTDOWN; MG_E_DENIED; MG_E_DUPLICATE a dial that was not needed. */
int mg_peers__establish(struct mg_link *link, const struct mg_hello *hello, size_t skip,
                        struct mg_error *err);

/* ---- peer_bulk.c ---- */

/* A good hello for a connection beside that of raft, of this kind; its `size` bytes come again.
 * Fails: why it is refused. */
int mg_peers__welcome_beside(struct mg_peers *peers, struct mg_conn *conn, uint8_t kind,
                             size_t size, struct mg_error *err);

/* ---- peer_link.c ---- */

struct mg_link *mg_link__new(struct mg_peers *peers, struct mg_peer_node *node,
                             struct mg_conn *conn, bool dialled);
struct mg_link *mg_link__ref(struct mg_link *link);
void mg_link__unref(struct mg_link *link);
/* Frames from now on; skip: so many bytes come before them.  On its loop. */
void mg_link__open(struct mg_link *link, size_t skip);
/* Hang up.  On its loop. */
void mg_link__close(struct mg_link *link, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Raft thread: takes the frame.  False: the queue was full. */
bool mg_link__send(struct mg_link *link, struct mg_buf *frame);
void mg_link__flush(struct mg_link *link);
/* What a link's protocol does when its connection ends, also before it is open. */
void mg_link__closed(struct mg_conn *conn, void *state, const char *reason);

#endif
