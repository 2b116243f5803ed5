/*
 * connect.h - the connection options that every client command shares, and how errors end a
 * command.
 */
#ifndef MG_CLI_CONNECT_H
#define MG_CLI_CONNECT_H

#include "cli/options.h"
#include "client/client.h"
#include "client/wire.h"

/* --url, --username, --password, --tls-roots, ... */
extern const struct mg_option mg_options_connection[];

/* --tls-cert, --tls-key and its passphrase, of every command that logs in. */
#define MG_OPTIONS_CERT \
	{ .name = "tls-cert", .kind = MG_O_TEXT, .value = "FILE", \
	  .help = "client certificate; it logs in the user that it names" }, \
	{ .name = "tls-key", .kind = MG_O_TEXT, .value = "FILE", \
	  .help = "its key (default: in the certificate's file)" }, \
	{ .name = "tls-key-password", .kind = MG_O_SECRET, \
	  .help = "passphrase of an encrypted key; asked for when missing" }, \
	{ .name = "tls-key-password-file", .kind = MG_O_TEXT, .value = "FILE", \
	  .help = "read it from the first line of FILE" }

/* The passphrase of the key of --tls-cert, --tls-key: given, or asked for when the key wants one;
 * *out NULL: it wants none. */
int mg_cli_key_password(const struct mg_options *options, char **out, struct mg_error *err);
/* Whom --tls-cert logs in when there is no password: *user NULL is filled from it, another name is
 * refused. */
int mg_cli_cert_user(const char *cert, char **user, struct mg_error *err);

/* Where to, as whom: all texts on the heap, or NULL. */
struct mg_connection {
	char *url, *user, *password, *roots, *cert, *key, *key_password;
	bool insecure;
	uint64_t connect_timeout_ms, statement_timeout_ms;
};

/* Fill from the options; a cluster of this machine (MERGANSER_DATA_DIR or ./merganser-data) gives
 * URL, CA and user when they are not named.  A missing password is asked for on a terminal. */
int mg_connection_read(struct mg_connection *connection, const struct mg_options *options,
                       const char *url_argument, struct mg_error *err);
void mg_connection_fini(struct mg_connection *connection);

/* Options of the client library, borrowed from the connection. */
struct mg_client_options mg_connection_client_options(const struct mg_connection *connection);
struct mg_endpoint mg_connection_endpoint(const struct mg_connection *connection);

/* "error: ...", detail and hint on stderr. */
void mg_cli_print_error(const struct mg_error *err);
/* ... and the exit code that fits: 1 for our own and the user's mistakes, 2 for connections. */
int mg_cli_fail(const struct mg_error *err);
/* The same for an error while connecting: a refusal is also 2. */
int mg_cli_fail_connect(const struct mg_error *err);
bool mg_cli_color(int fd);      /* a terminal, and NO_COLOR is not set */

#endif
