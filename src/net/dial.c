/*
 * dial.c - connect to a host: look its name up, try its addresses in turn, shake hands.
 *
 * done is called exactly once, on the loop: with a connection that is ready to be given a protocol,
 * or with an error that says which address refused and why. When the loop stops first, done gets
 * MG_E_SHUTDOWN.
 *
 * owner: the loop's thread.   Limit: timeout_ms for everything together.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net_int.h"

enum { TIMEOUT_MS_DEFAULT = 10000 };

struct mg_dial {
	struct mg_loop *loop;
	struct mg_dial *next; /* of the loop */
	char *host_port;
	char host[256], port[8];
	struct mg_tls *tls;
	uint64_t timeout_ms;
	struct mg_timer *timer;
	uv_getaddrinfo_t lookup;
	bool looking_up;
	bool over; /* done was called; only the look-up's end is awaited */
	struct addrinfo *found, *address;
	struct mg_conn *conn; /* the attempt under way */
	struct mg_error err;  /* of the last attempt */
	void (*done)(struct mg_conn *conn, const struct mg_error *err, void *arg);
	void *arg;
};

static void dial_free(struct mg_dial *dial)
{
	if (dial->found != NULL) {
		uv_freeaddrinfo(dial->found);
	}
	mg_tls_unref(dial->tls);
	mg_free(dial->host_port);
	mg_free(dial);
}

/* Calls done; frees dial unless the look-up is still under way. */
static void finish(struct mg_dial *dial, struct mg_conn *conn)
{
	struct mg_dial **link = &dial->loop->dials;

	while (*link != dial) {
		link = &(*link)->next;
	}
	*link = dial->next;
	mg_timer_stop(dial->timer);
	dial->timer = NULL;
	dial->over = true;
	if (dial->conn != NULL && conn == NULL) {
		mg_conn_set_protocol(dial->conn, NULL, NULL); /* Its end is no news any more. */
		mg_conn_close(dial->conn);
	}
	dial->conn = NULL;
	dial->done(conn, conn != NULL ? NULL : &dial->err, dial->arg);
	if (dial->looking_up) {
		(void)uv_cancel((uv_req_t *)&dial->lookup);
	} else {
		dial_free(dial);
	}
}

/* ---- one address ---- */

static void try_next(struct mg_dial *dial);

static long attempt_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	(void)conn;
	(void)state;
	(void)bytes;
	(void)size;
	return 0; /* kept for the protocol that done will set */
}

static void attempt_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_dial *dial = state;

	dial->conn = NULL;
	(void)mg_error_set(&dial->err, MG_E_CONNECT, "cannot connect to \"%s\": %s", dial->host_port,
	                   reason);
	if (strstr(reason, "certificate") != NULL) {
		mg_error_hint(&dial->err, "Give the cluster's CA with --tls-roots DIR/tls/ca.crt.");
	} else if (conn->ssl != NULL) {
		mg_error_hint(&dial->err, "Is it a Merganser server that listens there, with TLS?");
	}
	if (conn->ssl != NULL) {
		dial->address =
			NULL; /* Somebody was there: that is the answer, whatever other addresses say. */
	}
	try_next(dial);
}

static const struct mg_protocol attempt_protocol = {
	.name = "dial",
	.data = attempt_data,
	.closed = attempt_closed,
};

static void attempt_opened(struct mg_conn *conn, void *arg)
{
	conn->protocol = NULL;
	conn->state = NULL;
	finish(arg, conn);
}

void mg_dial__connected(struct mg_conn *conn)
{
	struct mg_dial *dial = conn->opened_arg;

	if (dial->tls == NULL) {
		return;
	}
	SSL *ssl = mg_tls__open(dial->tls, dial->host, NULL);

	if (ssl == NULL) {
		mg_conn__fail(conn, "\"%s\" is no name that TLS can check", dial->host);
		return;
	}
	mg_conn__handshake(conn, ssl);
}

static void try_address(struct mg_dial *dial, const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		(void)mg_error_errno(&dial->err, errno, "cannot make a socket for \"%s\"", dial->host_port);
		return;
	}
	if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
		(void)mg_error_set(&dial->err, MG_E_CONNECT, "cannot connect to \"%s\": %s",
		                   dial->host_port, strerror(errno));
		(void)close(fd);
		return;
	}
	struct mg_conn *conn = mg_conn__new(dial->loop, fd, MG_CONN_CONNECTING, &dial->err);

	if (conn == NULL) {
		return;
	}
	conn->opened = attempt_opened;
	conn->opened_arg = dial;
	conn->protocol = &attempt_protocol;
	conn->state = dial;
	dial->conn = conn;
}

static void try_next(struct mg_dial *dial)
{
	while (dial->conn == NULL && dial->address != NULL) {
		const struct addrinfo *address = dial->address;

		dial->address = address->ai_next;
		try_address(dial, address);
	}
	if (dial->conn == NULL) {
		finish(dial, NULL);
	}
}

/* ---- the whole ---- */

static void on_timeout(void *arg)
{
	struct mg_dial *dial = arg;

	(void)mg_error_set(&dial->err, MG_E_CONNECT, "cannot connect to \"%s\": no answer in %llu ms",
	                   dial->host_port, (unsigned long long)dial->timeout_ms);
	finish(dial, NULL);
}

static void on_found(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
	struct mg_dial *dial = lookup->data;
	struct mg_loop *loop = dial->loop;

	dial->looking_up = false;
	dial->found = found;
	if (dial->over) {
		dial_free(dial);
	} else if (status != 0) {
		(void)mg_error_set(&dial->err, MG_E_CONNECT, "cannot find host \"%s\": %s", dial->host,
		                   uv_strerror(status));
		finish(dial, NULL);
	} else {
		dial->address = found;
		try_next(dial);
	}
	mg_loop__settle(loop);
}

static void start(void *arg)
{
	struct mg_dial *dial = arg;
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };

	dial->next = dial->loop->dials;
	dial->loop->dials = dial;
	if (dial->loop->stopping) {
		(void)mg_error_set(&dial->err, MG_E_SHUTDOWN, "shutting down");
		finish(dial, NULL);
		return;
	}
	if (mg_net_split(dial->host_port, dial->host, sizeof dial->host, dial->port, sizeof dial->port,
	                 &dial->err) != 0) {
		finish(dial, NULL);
		return;
	}
	dial->timer = mg_timer_start(dial->loop, dial->timeout_ms, 0, on_timeout, dial);
	dial->lookup.data = dial;
	int status =
		uv_getaddrinfo(&dial->loop->uv, &dial->lookup, on_found, dial->host, dial->port, &hints);

	if (status != 0) {
		(void)mg_error_set(&dial->err, MG_E_CONNECT, "cannot find host \"%s\": %s", dial->host,
		                   uv_strerror(status));
		finish(dial, NULL);
		return;
	}
	dial->looking_up = true;
}

void mg_dial__close_all(struct mg_loop *loop)
{
	while (loop->dials != NULL) {
		struct mg_dial *dial = loop->dials;

		(void)mg_error_set(&dial->err, MG_E_SHUTDOWN, "shutting down");
		finish(dial, NULL);
	}
}

void mg_dial(struct mg_loop *loop, const char *host_port, struct mg_tls *tls, uint64_t timeout_ms,
             void (*done)(struct mg_conn *conn, const struct mg_error *err, void *arg), void *arg)
{
	struct mg_dial *dial = mg_alloc0(sizeof *dial);

	dial->loop = loop;
	dial->host_port = mg_strdup(host_port);
	dial->tls = mg_tls__ref(tls);
	dial->timeout_ms = timeout_ms != 0 ? timeout_ms : TIMEOUT_MS_DEFAULT;
	dial->done = done;
	dial->arg = arg;
	mg_loop_post(loop, start, dial);
}
