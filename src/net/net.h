/*
 * net.h - loops, connections, TLS.  One thread per loop; a connection lives on one loop for life.
 *
 * A connection speaks one protocol at a time: a table of callbacks that can be swapped (after ALPN,
 * after the first bytes, after an upgrade).  Loops never touch the engine; other threads reach a
 * loop only by mg_loop_post and mg_stream.  Nothing here blocks a loop for more than 1 ms.
 *
 * Limits: MG_NET_IDLE_MS without a byte closes a connection whose protocol asks for it;
 * MG_NET_HELLO_MS for TLS hello and first bytes; write queues are bounded by streams.
 */
#ifndef MG_NET_NET_H
#define MG_NET_NET_H

#include "base/error.h"
#include "base/mem.h"

#define MG_NET_HELLO_MS 10000
/* By this ALPN name a client says that it is a node of the cluster, and by this URI, with its
 * number behind it, a certificate says which one. */
#define MG_NET_ALPN_PEER "merganser-peer"
#define MG_NET_NODE_URI "merganser://node/"

struct mg_loop;
struct mg_conn;
struct mg_listener;
struct mg_tls; /* a counted, replaceable TLS context */
struct mg_timer;

/* ---- loops ---- */
int mg_loop_start(struct mg_loop **out, const char *name, struct mg_error *err); /* own thread */
void mg_loop_stop(struct mg_loop *loop); /* closes its connections, joins the thread, frees */
/* Any thread; fn runs on the loop. */
void mg_loop_post(struct mg_loop *loop, void (*fn)(void *), void *arg);
bool mg_loop_is_current(const struct mg_loop *loop);
struct mg_loop *mg_loop_current(void); /* NULL: the calling thread is no loop's */
/* Timers: on the loop's thread only.  repeat_ms 0: once; it must be stopped also after it has
 * fired. */
struct mg_timer *mg_timer_start(struct mg_loop *loop, uint64_t delay_ms, uint64_t repeat_ms,
                                void (*fn)(void *), void *arg);
void mg_timer_stop(struct mg_timer *timer); /* NULL is fine; frees */

/* ---- TLS ---- */
struct mg_tls_server_options {
	const char *cert_file, *key_file;
	const char *key_password;   /* of an encrypted key, or NULL */
	const char *client_ca_file; /* NULL: no client certificates are asked for */
	const char *const *alpn;    /* in order of preference, NULL-terminated; or NULL */
	/* What a client that offers MG_NET_ALPN_PEER gets in place of all this: another certificate,
	 * another CA.  Counted; or NULL. */
	struct mg_tls *peers;
};
struct mg_tls_client_options {
	const char *roots_file; /* NULL with insecure false: the system's roots */
	bool insecure_skip_verify;
	bool any_host; /* verify, but not for whom it is: the caller asks mg_conn_cert */
	const char *cert_file, *key_file; /* or NULL; key_file NULL: in the certificate's file */
	const char *key_password;         /* of an encrypted key, or NULL */
	const char *const *alpn;
};
/* Does the file hold a key that wants a passphrase? */
bool mg_tls_key_encrypted(const char *key_file);
/* OpenSSL's callback for a passphrase: gives arg, a text or NULL.  OpenSSL would ask the terminal;
 * a server must fail instead. */
int mg_tls_give_passphrase(char *buf, int size, int writing, void *arg);
int mg_tls_server(struct mg_tls **out, const struct mg_tls_server_options *options,
                  struct mg_error *err);
/* Reads the files again; old connections keep theirs. When it fails nothing has changed. */
int mg_tls_reload(struct mg_tls *tls, struct mg_error *err);
int mg_tls_client(struct mg_tls **out, const struct mg_tls_client_options *options,
                  struct mg_error *err);
void mg_tls_unref(struct mg_tls *tls);

/* ---- connections: callbacks and calls on the loop's thread ---- */
struct mg_protocol {
	const char *name;
	/* Bytes came; returns how many were used (the rest is given again with more, or when reading
	 * goes on after a pause). Negative: close. */
	long (*data)(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size);
	/* The write queue fell below MG_STREAM_LOW, or is empty again. */
	void (*drain)(struct mg_conn *conn, void *state);
	/* The connection is gone (error, peer, idle, mg_conn_close); free state. reason may be empty.
	 * Called exactly once, from the loop, never inside a call of this connection. */
	void (*closed)(struct mg_conn *conn, void *state, const char *reason);
};

/* The former protocol hears nothing of it: who swaps also frees the former state. */
void mg_conn_set_protocol(struct mg_conn *conn, const struct mg_protocol *protocol, void *state);
void *mg_conn_state(struct mg_conn *conn);
struct mg_loop *mg_conn_loop(struct mg_conn *conn);
uint64_t mg_conn_id(const struct mg_conn *conn);
const char *mg_conn_peer(const struct mg_conn *conn); /* "127.0.0.1:5432" */
const char *mg_conn_alpn(const struct mg_conn *conn); /* "" when none */
bool mg_conn_is_tls(const struct mg_conn *conn);
/* The certificate that the other end showed, or NULL. A client's is asked for, never demanded: a
 * handshake with a bad one succeeds, so that the door can say in words what is wrong with it. */
struct mg_peer_cert {
	bool good;        /* signed by our CA, for clients, in time; and the name below is one */
	uint64_t node;    /* signed so, and made for the node of this number, never for a user; or 0 */
	char name[64];    /* the one common name of its subject; "" when it is none */
	char reason[120]; /* why it is not good */
	int64_t until_s;  /* wall clock: the last second that it is good for */
};
const struct mg_peer_cert *mg_conn_cert(const struct mg_conn *conn);
/* Over loopback, or by an address of its own host. */
bool mg_conn_is_same_host(const struct mg_conn *conn);
/* Queue bytes; copies what does not go out at once. */
void mg_conn_write(struct mg_conn *conn, const void *bytes, size_t size);
/* Queue a counted buffer without copying (takes a ref). */
void mg_conn_write_buf(struct mg_conn *conn, struct mg_buf *buf);
/* What is queued goes out now, as far as the system takes it, not at the end of the loop's turn:
 * for what is to leave before something else is done.  Not inside of a call of its protocol. */
void mg_conn_flush(struct mg_conn *conn);
size_t mg_conn_write_queued(const struct mg_conn *conn);   /* bytes not yet given to the system */
void mg_conn_pause_read(struct mg_conn *conn, bool pause); /* back-pressure on the peer */
/* Close when no byte comes or goes for so long; 0: never. */
void mg_conn_idle_limit(struct mg_conn *conn, uint64_t ms);
void mg_conn_close(struct mg_conn *conn);             /* at once */
void mg_conn_close_after_write(struct mg_conn *conn); /* when the queue is empty */
/* Start TLS as server on a live plain connection (PostgreSQL's SSLRequest). */
int mg_conn_start_tls(struct mg_conn *conn, struct mg_tls *tls, struct mg_error *err);

/* "HOST:PORT" or "[V6]:PORT" in two texts; the host may be empty.  Fails: MG_E_USAGE. */
int mg_net_split(const char *host_port, char *host, size_t host_size, char *port, size_t port_size,
                 struct mg_error *err);

/* ---- listening ---- */
struct mg_listen_options {
	const char *host_port;          /* "0.0.0.0:8765", "[::1]:0" */
	struct mg_tls *tls;             /* NULL: plain only */
	bool plain_loopback, plain_any; /* accept plaintext from loopback, from anywhere */
	size_t connections_max;         /* 0: 10,000; more are closed at once */
	uint64_t hello_ms;              /* 0: MG_NET_HELLO_MS */
	/* First application bytes of a new connection are there (after the TLS handshake, if any), or
	 * plain first bytes that are no TLS hello: choose a protocol with mg_conn_set_protocol, which
	 * then gets the bytes. PostgreSQL's SSLRequest is answered before. Returns false for "more
	 * bytes needed"; closing refuses. */
	bool (*choose)(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size);
	void *arg;
};
/* Listen on all loops (SO_REUSEPORT), which must live until the listener is closed. Fails: MG_E_IO
 * "address in use", which says who to ask. */
int mg_listen(struct mg_listener **out, struct mg_loop **loops, size_t loop_count,
              const struct mg_listen_options *options, struct mg_error *err);
/* Whether mg_listen could have these addresses, all of them at once: each is parsed, resolved,
 * bound and given back. Fails as mg_listen does. */
#define MG_LISTEN_CHECK_MAX 4
int mg_listen_check(const char *const *host_ports, size_t count, struct mg_error *err);
uint16_t mg_listener_port(const struct mg_listener *listener);
void mg_listener_close(struct mg_listener *listener);

/* Dial out.  On the loop: done(conn, NULL) after TCP and TLS, or done(NULL, err). Any thread may
 * call. */
void mg_dial(struct mg_loop *loop, const char *host_port, struct mg_tls *tls, uint64_t timeout_ms,
             void (*done)(struct mg_conn *conn, const struct mg_error *err, void *arg), void *arg);

#endif
