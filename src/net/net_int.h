/*
 * net_int.h - what the files of net/ share: the structs of loops, connections, TLS and listeners.
 *
 * Nothing outside net/ (and its tests and fuzz targets) includes this. Everything here belongs to
 * the loop's thread, unless a line says otherwise.
 */
#ifndef MG_NET_NET_INT_H
#define MG_NET_NET_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/ssl.h>
#include <uv.h>

#include "base/assert.h"
#include "net/net.h"

enum {
	MG_NET_READ_SIZE = 64 * 1024,   /* one read of a connection, shared by all of a loop */
	MG_NET_RECORD_SIZE = 16 * 1024, /* one TLS record */
	MG_NET_READ_ROUNDS = 8,         /* reads of one connection before the others have their turn */
	MG_NET_WRITE_ROUND = 1 << 20,   /* bytes written for one connection before the others' turn */
	MG_NET_KEPT_MAX = 17 << 20,     /* bytes that a protocol may leave unused */
	MG_NET_CHOOSE_MAX = 16 * 1024,  /* bytes in which a listener must have chosen a protocol */
	MG_NET_LINGER_MS = 1000,        /* wait for the peer's end after our last byte */
	MG_NET_FLUSH_MS = 30000,        /* a closing connection whose peer takes nothing */
	MG_NET_SWEEP_MS = 250,          /* how exactly deadlines are kept */
	MG_NET_CONNECTIONS_MAX = 10000,
};

/* A function that was posted from another thread. */
struct mg_post {
	struct mg_post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct mg_acceptor;

struct mg_loop {
	uv_loop_t uv;
	uv_poll_t wake; /* posts are there */
	int wake_fd;
	uv_idle_t idle;   /* runs while unsettled connections, or posts of its own, are left */
	uv_prepare_t prepare;
	uv_timer_t sweep; /* deadlines; runs while there are connections */
	pthread_t thread;
	char name[16];

	pthread_mutex_t lock; /* guards posts */
	struct mg_post *posts;
	struct mg_post **posts_end;
	bool woken;        /* by others, and has not looked since */
	atomic_int waking; /* threads that are about to write to wake_fd */

	bool posted_here;          /* by itself */
	struct mg_conn *conns;     /* all of this loop */
	struct mg_conn *unsettled; /* to be flushed, fed or buried before the loop sleeps */
	struct mg_conn **unsettled_end;
	struct mg_acceptor *acceptors;
	struct mg_dial *dials;
	bool stopping;
	uint8_t read_bytes[MG_NET_READ_SIZE];
	uint8_t record[MG_NET_RECORD_SIZE];
	struct mg_buf *spare; /* of MG_NET_RECORD_SIZE; NULL: none */
};

/* For tests and fuzz targets: a loop that is run by the calling thread with uv_run. */
struct mg_loop *mg_loop__new(const char *name);
void mg_loop__enter(struct mg_loop *loop); /* the calling thread becomes the loop's */
void mg_loop__free(struct mg_loop *loop);  /* closes everything and runs to the end */
/* End of every call from libuv: flush, feed and bury the connections that ask for it. */
void mg_loop__settle(struct mg_loop *loop);
void mg_loop__add_unsettled(struct mg_loop *loop, struct mg_conn *conn);
void mg_loop__add_conn(struct mg_loop *loop, struct mg_conn *conn);
void mg_loop__remove_conn(struct mg_loop *loop, struct mg_conn *conn);

struct mg_tls {
	atomic_int refs;
	bool server;
	bool insecure, any_host;
	struct mg_tls *peers; /* of a server: for clients that are nodes; or NULL */
	char *cert_file, *key_file, *ca_file, *key_password;
	uint8_t *alpn; /* wire form: length, name, length, name */
	unsigned alpn_size;
	pthread_mutex_t lock; /* guards ctx */
	SSL_CTX *ctx;
};

struct mg_tls *mg_tls__ref(struct mg_tls *tls);
/* A new SSL of the present context; host: whom a client wants to reach. Any thread. */
SSL *mg_tls__open(struct mg_tls *tls, const char *host, struct mg_error *err);
/* The oldest error of OpenSSL's queue as text; empties the queue. */
void mg_tls__error_text(char *text, size_t size);
/* A client offers these protocols; names may be NULL. */
void mg_tls__offer(SSL_CTX *ctx, const char *const *names);
/* Certificate and key of a context; password NULL: the key must not be encrypted. */
int mg_tls__identity(SSL_CTX *ctx, const char *cert_file, const char *key_file,
                     const char *password, struct mg_error *err);

/* peer_cert.c: what the peer of a finished handshake has shown; NULL: nothing. On the heap. */
struct mg_peer_cert *mg_peer_cert__take(const SSL *ssl);
/* For the line above, tests and fuzzing. verify: X509_V_OK, or what is wrong with it. */
void mg_peer_cert__read(const X509 *cert, long verify, struct mg_peer_cert *out);

enum mg_conn_phase {
	MG_CONN_CONNECTING, /* dialled, TCP is not there yet */
	MG_CONN_FIRST,      /* accepted, not a byte yet */
	MG_CONN_HANDSHAKE,
	MG_CONN_OPEN,
	MG_CONN_FLUSHING, /* closes when the queue is empty */
	MG_CONN_LINGER,   /* we have said all, the peer may still be sending */
	MG_CONN_DEAD,     /* to be buried by mg_loop__settle */
};

/* A piece of the write queue. */
struct mg_piece {
	struct mg_piece *next;
	struct mg_buf *buf;
	size_t offset; /* bytes of buf already written */
	bool open;     /* buf is ours alone: small writes are added to it */
};

struct mg_conn {
	struct mg_loop *loop;
	struct mg_conn *next, *prev; /* of the loop */
	struct mg_conn *next_unsettled;
	bool unsettled;
	uv_poll_t poll;
	int poll_events; /* armed now */
	bool polled;     /* poll was initialised */
	int fd;          /* -1: a memory connection of a fuzz target */
	enum mg_conn_phase phase;
	uint64_t id;
	char peer[64];
	bool loopback, same_host;
	char alpn[32];
	char reason[200]; /* why it is dead */

	SSL *ssl;
	struct mg_peer_cert *cert; /* what the other end has shown, or NULL */
	struct mg_tls *tls;        /* of start_tls; a listener holds its own */
	SSL *ssl_next;             /* start_tls: as soon as the queue is empty */
	bool ssl_broken;           /* no call but SSL_free any more */
	bool read_wants_write, write_wants_read;

	const struct mg_protocol *protocol;
	void *state;
	uint8_t *kept; /* read, and not used by the protocol */
	size_t kept_size, kept_cap;
	bool paused;
	bool more; /* deliver kept bytes and read on, in mg_loop__settle */

	struct mg_piece *out, **out_end;
	size_t queued;
	bool was_high, was_filled; /* what drain is owed for */

	uint64_t last_io_ms;
	uint64_t idle_ms;
	uint64_t deadline_ms; /* 0: none */
	const char *deadline_reason;

	bool only_postgres;                              /* its SSLRequest was answered */
	struct mg_listener *listener;                    /* accepted: counted there */
	void (*opened)(struct mg_conn *conn, void *arg); /* dialled */
	void *opened_arg;
};

/* A connection on fd, which it owns from now on, even when NULL is returned. */
struct mg_conn *mg_conn__new(struct mg_loop *loop, int fd, enum mg_conn_phase phase,
                             struct mg_error *err);
void mg_conn__settle(struct mg_conn *conn);
void mg_conn__sweep(struct mg_conn *conn, uint64_t now_ms);
void mg_conn__fail(struct mg_conn *conn, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void mg_conn__deadline(struct mg_conn *conn, uint64_t ms, const char *reason); /* 0: none */
/* Close so that the peer sees a broken connection, never an end. */
void mg_conn__cut(struct mg_conn *conn);
/* Begin the TLS handshake; ssl is owned from now on. */
void mg_conn__handshake(struct mg_conn *conn, SSL *ssl);
/* Bytes as if they had come from the socket. */
void mg_conn__feed(struct mg_conn *conn, const uint8_t *bytes, size_t size);
void mg_conn__read(struct mg_conn *conn);
void mg_conn__give_kept(struct mg_conn *conn);
void mg_conn__flush(struct mg_conn *conn);
void mg_conn__free_queue(struct mg_conn *conn);
/* The queue is empty: end our half, or begin TLS. */
void mg_conn__linger(struct mg_conn *conn);
void mg_conn__start_tls(struct mg_conn *conn);
void mg_conn__arm(struct mg_conn *conn);
void mg_conn__set_peer(struct mg_conn *conn);
/* A protocol's wish to hear again of bytes it has left. */
void mg_conn__wake(struct mg_conn *conn);

/* listen.c: the first byte of an accepted connection is there; a protocol is to be chosen; it is
 * gone. */
void mg_listener__first(struct mg_conn *conn);
bool mg_listener__choose(struct mg_conn *conn, const uint8_t *bytes, size_t size);
void mg_listener__gone(struct mg_conn *conn);
void mg_acceptor__close_all(struct mg_loop *loop);
/* dial.c */
void mg_dial__close_all(struct mg_loop *loop);
void mg_dial__connected(struct mg_conn *conn);

#endif
