/*
 * address.h - where others are told to find this server.
 *
 * --advertise, else --listen; when that is every address of the machine: the one by which it was
 * known before, else the one from which it reaches the cluster it joins, else localhost.
 *
 * Thread: any; may block on a name.
 */
#ifndef MG_SERVER_ADDRESS_H
#define MG_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

struct mg_address_wish {
	const char *listen, *advertise; /* HOST:PORT; advertise may be NULL */
	uint16_t port;                  /* that is listened on; 0: as in listen */
	const char *before;             /* HOST:PORT, or NULL */
	const char *seeds; /* of the cluster: HOST:PORT,..., the first one counts; or NULL */
};

/* Heap text.  *guess, which may be NULL: nobody has said so. */
char *mg_server_address(const struct mg_address_wish *wish, bool *guess);

#endif
