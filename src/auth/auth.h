/*
 * auth.h - passwords, users, certificates.
 */
#ifndef MG_AUTH_AUTH_H
#define MG_AUTH_AUTH_H

#include "catalog/catalog.h"

/* ---- passwords (password.c) ---- */
int mg_password_hash(struct mg_arena *arena, const char *password, const char **argon2id,
                     const char **scram, struct mg_error *err);
/* ~50 ms of CPU, and up to 2 s of waiting for memory: never on a loop.  Fails: MG_E_AUTH it is
 * wrong, MG_E_NOMEM. */
int mg_password_verify(const char *argon2id, const char *password, struct mg_error *err);
void mg_password_generate(char *out, size_t size); /* readable, e.g. "7Hk4-tern-41qZ" */

/* ---- login (login.c): remembers verified logins for 60 s by keyed hash, in memory ---- */
struct mg_login;
struct mg_login *mg_login_new(struct mg_catalog *catalog);
void mg_login_free(struct mg_login *login);
/* Answer from memory: true and the role when known; false: mg_login_check must be asked. Any
 * thread. */
bool mg_login_cached(struct mg_login *login, const char *user, const char *password,
                     enum mg_role *role);
/* Fails MG_E_AUTH for a wrong user or password, in the same time for both, and MG_E_NOMEM. Blocks
 * ~50 ms. */
int mg_login_check(struct mg_login *login, const char *user, const char *password,
                   enum mg_role *role, struct mg_error *err);

/* The user that a verified certificate names: does it exist, and as what?  Fails MG_E_AUTH. */
int mg_login_certificate(struct mg_login *login, const char *name, enum mg_role *role,
                         struct mg_error *err);

/* ---- users in the catalog (user.c) ---- */
/* password NULL with replace: the old one stays. */
int mg_user_create(struct mg_catalog *catalog, const char *name, const char *password,
                   enum mg_role role, bool replace, struct mg_error *err);
int mg_user_drop(struct mg_catalog *catalog, const char *name, struct mg_error *err);

/* ---- certificates (cert.c): EC P-256; keys 0600; critical basicConstraints and keyUsage ---- */
int mg_cert_ca_create(const char *cert_file, const char *key_file, const char *common_name,
                      const char *key_password, bool overwrite, struct mg_error *err);
struct mg_cert_names {
	const char *common_name;
	const char *const *dns; /* NULL-terminated */
	const char *const *ips; /* NULL-terminated texts */
};
int mg_cert_server_create(const char *cert_file, const char *key_file, const char *ca_cert,
                          const char *ca_key, const char *ca_key_password,
                          const struct mg_cert_names *names, bool overwrite, struct mg_error *err);
int mg_cert_client_create(const char *cert_file, const char *key_file, const char *ca_cert,
                          const char *ca_key, const char *ca_key_password, const char *common_name,
                          const char *key_password, bool overwrite, struct mg_error *err);
/* What a node shows to the other nodes, at both ends of a connection: its number as a URI
 * (MG_NET_NODE_URI). */
int mg_cert_node_create(const char *cert_file, const char *key_file, const char *ca_cert,
                        const char *ca_key, const char *ca_key_password, uint64_t node,
                        bool overwrite, struct mg_error *err);
/* `tls/node.crt` and `tls/node.key` of a data directory: stay when they are this node's, of the
 * directory's CA and good for a month; else they are made with `tls/ca.key`.  Without that they
 * stay as long as they are good at all; then it fails: MG_E_NOT_FOUND. */
int mg_cert_node_ensure(const char *data_dir, uint64_t node, struct mg_error *err);
/* Signed by this CA, in whatever time; and good for less than a month, or no more. */
bool mg_cert_is_signed_by(const char *cert_file, const char *ca_file);
bool mg_cert_is_due(const char *cert_file, const char *ca_file);
bool mg_cert_names_host(const char *cert_file, const char *host); /* or address */
/* `tls/server.crt` of a data directory also names this host, or address (NULL: none), and is not
 * due: else it is signed anew for the same key, when it is of the directory's CA, whose key is
 * there. */
int mg_cert_server_ensure(const char *data_dir, const char *key_password, const char *host,
                          struct mg_error *err);

/* ---- requests (cert_request.c): a key stays where it was made, others sign for it ---- */
/* Asks for a certificate of the key in the file, which is made when it is not there; PEM is added.
 */
int mg_cert_request(const char *key_file, struct mg_sb *out, struct mg_error *err);
struct mg_cert_authority {
	const char *cert_file, *key_file, *key_password; /* the last one may be NULL */
};
int mg_cert_request_check(const char *request, struct mg_error *err); /* usable below? */
/* Certificates for the key of a request, as PEM.  Nothing else of the request counts, whatever it
 * asks for.  Fails: MG_E_USAGE when it is none, or its key is not EC P-256. */
int mg_cert_sign_node(const struct mg_cert_authority *ca, const char *request, uint64_t node,
                      struct mg_sb *out, struct mg_error *err);
int mg_cert_sign_server(const struct mg_cert_authority *ca, const char *request,
                        const struct mg_cert_names *names, struct mg_sb *out, struct mg_error *err);
/* Is what was signed elsewhere, as PEM, for the key in the file, by this CA, good now, and of that
 * node (0: a server's)?  Fails: MG_E_DATA. */
int mg_cert_check_signed(const char *cert, const char *key_file, const char *ca, uint64_t node,
                         struct mg_error *err);
/* Is one of the certificates in a file the first one of another? */
bool mg_cert_file_holds(const char *file, const char *other_file);
/* The common name of the first certificate in a file, in arena: whom it logs in. */
int mg_cert_common_name(struct mg_arena *arena, const char *cert_file, const char **name,
                        struct mg_error *err);
int mg_cert_show(const char *cert_file, struct mg_sb *out, struct mg_error *err);

#endif
