/* cert_int.h - what cert.c (making) and cert_show.c (showing) share. */
#ifndef MG_AUTH_CERT_INT_H
#define MG_AUTH_CERT_INT_H

#include <openssl/bio.h>

#include "auth/auth.h"

/* A file's bytes to read from, or NULL with err set. */
BIO *mg_cert__open(const char *file, struct mg_error *err);
/* What, the name in quotes, and OpenSSL's reason; returns code. */
int mg_cert__fail(struct mg_error *err, int code, const char *what, const char *name);

#endif
