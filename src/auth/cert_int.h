/* cert_int.h - what cert.c (making) and the other cert_*.c share. */
#ifndef MG_AUTH_CERT_INT_H
#define MG_AUTH_CERT_INT_H

#include <openssl/bio.h>
#include <openssl/x509.h>

#include "auth/auth.h"

#define MG_CERT_DAY (24 * 60 * 60)

enum mg_cert_kind { MG_CERT_CA, MG_CERT_SERVER, MG_CERT_CLIENT, MG_CERT_NODE };

struct mg_signer {
	X509 *cert;
	EVP_PKEY *key;
};

/* A file's bytes to read from, or NULL with err set. */
BIO *mg_cert__open(const char *file, struct mg_error *err);
/* NULL with err set. */
X509 *mg_cert__read(const char *file, struct mg_error *err);
EVP_PKEY *mg_cert__read_key(const char *file, const char *password, struct mg_error *err);
int mg_cert__write_key(EVP_PKEY *key, const char *file, const char *password, struct mg_error *err);
int mg_cert__write(X509 *cert, const char *file, struct mg_error *err);
/* Close it, also when it fails. */
int mg_cert__open_signer(struct mg_signer *signer, const char *ca_cert, const char *ca_key,
                         const char *password, struct mg_error *err);
void mg_cert__close_signer(struct mg_signer *signer);
/* ca, ca_key: NULL for a certificate that signs itself.  A node's common name is its URI. */
int mg_cert__build(X509 **out, EVP_PKEY *key, enum mg_cert_kind kind,
                   const struct mg_cert_names *names, X509 *ca, EVP_PKEY *ca_key,
                   struct mg_error *err);
int mg_cert__create(const char *cert_file, const char *key_file, const char *key_password,
                    enum mg_cert_kind kind, const struct mg_cert_names *names, X509 *ca,
                    EVP_PKEY *ca_key, bool overwrite, struct mg_error *err);
/* What is a certificate worth to who trusts this CA? */
enum mg_cert_worth {
	MG_CERT_FOREIGN, /* another CA's */
	MG_CERT_EXPIRED, /* or not valid yet */
	MG_CERT_DUE,     /* good, but not for a month */
	MG_CERT_GOOD
};
enum mg_cert_worth mg_cert__worth(const X509 *cert, X509 *ca);
char *mg_cert__node_uri(uint64_t node); /* heap */
bool mg_cert__has_uri(const X509 *cert, const char *uri);
/* What, the name in quotes, and OpenSSL's reason; returns code. */
int mg_cert__fail(struct mg_error *err, int code, const char *what, const char *name);

#endif
