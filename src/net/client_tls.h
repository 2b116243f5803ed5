/*
 * client_tls.h - a blocking client socket with TLS, for programs that have one thing to wait for.
 *
 * The shell and the C client library need no loop: they send a statement and wait for its rows.
 * Each wait ends by bytes, by the time limit, or by a byte in the wake descriptor, which is how
 * another thread or a signal handler (write(2) is safe there) reaches a client that waits.
 *
 * Thread: a socket belongs to one thread at a time; only its wake descriptor is written by others.
 */
#ifndef MG_NET_CLIENT_TLS_H
#define MG_NET_CLIENT_TLS_H

#include "base/error.h"
#include "net/net.h"

#include <stdbool.h>
#include <stddef.h>

struct mg_client_socket;

struct mg_client_socket_options {
	const char *host, *port;
	const struct mg_tls_client_options *tls;    /* NULL: no TLS */
	uint64_t timeout_ms;                        /* for each address and for the handshake */
	int wake_fd;                                /* readable: stop waiting; -1: none */
};

/* SQLSTATE of the failure that time does not heal: the server's certificate is not accepted. */
#define MG_CLIENT_UNTRUSTED "08004"
/* Connect and shake hands.  Fails: MG_E_CONNECT (with what to do about a certificate),
 * MG_E_CANCELLED when woken. */
int mg_client_socket_open(struct mg_client_socket **out,
                          const struct mg_client_socket_options *options, struct mg_error *err);
void mg_client_socket_close(struct mg_client_socket *socket);   /* NULL is fine */

enum mg_client_wait { MG_WAIT_BYTES, MG_WAIT_WOKEN, MG_WAIT_TIMEOUT };

/* Read what is there, without waiting: *got is 0 when nothing is.  Fails: MG_E_DISCONNECTED. */
int mg_client_socket_read(struct mg_client_socket *socket, void *bytes, size_t size, size_t *got,
                          struct mg_error *err);
/* Wait until bytes can be read.  timeout_ms negative: for ever. */
enum mg_client_wait mg_client_socket_wait(struct mg_client_socket *socket, int64_t timeout_ms);
/* Write all.  Fails: MG_E_DISCONNECTED, MG_E_TIMEOUT after 60 s without a byte taken. */
int mg_client_socket_write(struct mg_client_socket *socket, const void *bytes, size_t size,
                           struct mg_error *err);

/* ---- the WebSocket hand-shake's two small sums ----------------------------------------------- */
void mg_client_ws_key(char out[25]);                                /* a fresh Sec-WebSocket-Key */
bool mg_client_ws_accepts(const char *key, const char *accept);    /* is it the answer to key? */

#endif
