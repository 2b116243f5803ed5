/*
 * ws_int.h - what ws.c (frames) and ws_open.c (the upgrade, both sides) share.
 *
 * owner: the connection's loop.
 */
#ifndef MG_NET_WS_INT_H
#define MG_NET_WS_INT_H

#include <wslay/wslay.h>

#include "net/http_int.h"

#define MG_WS_SUBPROTOCOL "merganser.v1"

enum { MG_WS_ACCEPT_SIZE = 32 }; /* base64 of a SHA-1, with its zero */

struct mg_ws_shake;

/* The frame that is arriving. */
struct mg_ws_frame {
	size_t head_size;
	uint64_t size; /* of the payload */
	uint8_t mask[4];
	bool masked;
	bool minimal;        /* its length is written as shortly as can be */
	bool direct;         /* its payload goes straight into the message */
	uint64_t wslay_left; /* bytes of it, head and all, that wslay has not taken */
};

struct mg_ws {
	struct mg_conn *conn;
	const struct mg_ws_handler *handler;
	void *state;
	wslay_event_context_ptr wslay;
	bool client;
	bool open;        /* the upgrade is done */
	bool close_asked; /* mg_ws_close was called */
	bool broken;      /* we have refused a message */
	int broken_code;  /* sent by us beside wslay; 0: none */
	bool in_control;  /* the frame that arrives is a control frame */
	struct mg_ws_frame frame;
	const uint8_t *in; /* bytes for wslay, during ws_data */
	size_t in_size;
	struct mg_buf *message; /* that is arriving */
	uint64_t last_heard_ms;
	char reason[400];
	struct mg_ws_shake *shake; /* client: until the answer is there */
};

extern const struct mg_protocol mg_ws__protocol;
struct mg_ws *mg_ws__new(struct mg_conn *conn, bool client, const struct mg_ws_handler *handler,
                         void *state);
void mg_ws__free(struct mg_ws *ws);
/* Sec-WebSocket-Accept for a key of 24 characters; out: MG_WS_ACCEPT_SIZE bytes. */
void mg_ws__accept_key(const char *key, char *out);

#endif
