/*
 * client.h - what our own programs use of the client beside its public header.
 */
#ifndef MG_CLIENT_CLIENT_H
#define MG_CLIENT_CLIENT_H

#include "base/error.h"
#include "base/json.h"
#include "merganser.h"

/* Exit code of the program for an error: interface.md's 0 to 5.  connected: a server was there. */
int mg_client_exit_code(int code, bool connected);

/* The last error as the program's own kind. */
const struct mg_error *mg_client_failure(const mg_client *client);

/* Names for completion, a frame of type `names`; it lives until the next call of this function. */
int mg_client_complete(mg_client *client, const struct mg_json **out);

#endif
