/*
 * tls.c - TLS contexts: counted, and replaceable while connections use them.
 *
 * A reload builds a new SSL_CTX from the same files and swaps it; connections that were opened
 * before keep the old one, which OpenSSL counts. TLS 1.2 at least; AES-128-GCM first, which costs 5
 * to 20 % less than the others; no renegotiation, no compression, no session tickets (a client that
 * writes and closes before it has read its ticket would get a reset).
 *
 * Thread: any; ctx under lock.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "net/net_int.h"

#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20"

enum {
	KEY_LINES_MAX = 20,   /* in which a key says that it is encrypted */
	CLIENT_CHAIN_MAX = 3, /* certificates between a client's and its CA */
};

void mg_tls__error_text(char *text, size_t size)
{
	unsigned long code = ERR_get_error();
	const char *reason = ERR_reason_error_string(code);
	char system[100];

	ERR_clear_error();
	if (reason == NULL && ERR_SYSTEM_ERROR(code)) {
		/* An errno, of which OpenSSL keeps no text. */
		reason = strerror_r(ERR_GET_REASON(code), system, sizeof system); /* the GNU form */
	}
	(void)snprintf(text, size, "%s",
	               reason != NULL ? reason
	               : code == 0    ? "unknown"
	                              : "no text for it");
}

static int fail(struct mg_error *err, int code, const char *what, const char *name)
{
	char text[160];

	mg_tls__error_text(text, sizeof text);
	return mg_error_set(err, code, "%s \"%s\": %s", what, name, text);
}

/* ---- ALPN ---- */

/* NULL: no names. */
static unsigned char *alpn_encode(const char *const *names, unsigned *encoded)
{
	*encoded = 0;
	if (names == NULL || names[0] == NULL) {
		return NULL;
	}
	size_t size = 0;

	for (size_t i = 0; names[i] != NULL; i++) {
		mg_assert(strlen(names[i]) > 0 && strlen(names[i]) < 32);
		size += 1 + strlen(names[i]);
	}
	unsigned char *alpn = mg_alloc(size);

	for (size_t i = 0; names[i] != NULL; i++) {
		size_t len = strlen(names[i]);

		alpn[(*encoded)++] = (uint8_t)len;
		memcpy(alpn + *encoded, names[i], len);
		*encoded += (unsigned)len;
	}
	return alpn;
}

void mg_tls__offer(SSL_CTX *ctx, const char *const *names)
{
	unsigned size;
	unsigned char *alpn = alpn_encode(names, &size);

	if (alpn != NULL) {
		(void)SSL_CTX_set_alpn_protos(ctx, alpn, size);
	}
	mg_free(alpn);
}

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *arg)
{
	const struct mg_tls *tls = arg;
	unsigned char *chosen = NULL;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, out_size, tls->alpn, tls->alpn_size, in, in_size) !=
	    OPENSSL_NPN_NEGOTIATED) {
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	}
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* The names of an ALPN extension: their size in two bytes, then each behind its own. */
static bool offers(const unsigned char *list, size_t size, const char *name)
{
	for (size_t at = 2; at < size && (size_t)list[at] < size - at; at += 1 + list[at]) {
		if (list[at] == strlen(name) && memcmp(list + at + 1, name, list[at]) == 0) {
			return true;
		}
	}
	return false;
}

/* The first message of a client, before any certificate is chosen: is it a node? */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
	const struct mg_tls *tls = arg;
	const unsigned char *list = NULL;
	size_t size = 0;

	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &list,
	                              &size) != 1 ||
	    !offers(list, size, MG_NET_ALPN_PEER)) {
		return SSL_CLIENT_HELLO_SUCCESS;
	}
	pthread_mutex_lock(&tls->peers->lock);
	SSL_CTX *ctx = SSL_set_SSL_CTX(ssl, tls->peers->ctx);

	pthread_mutex_unlock(&tls->peers->lock);
	if (ctx == NULL) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return SSL_CLIENT_HELLO_ERROR;
	}
	/* The rest of what a connection has of its context it took when it was made. */
	SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_verify_callback(ctx));
	return SSL_CLIENT_HELLO_SUCCESS;
}

/* ---- contexts ---- */

bool mg_tls_key_encrypted(const char *key_file)
{
	FILE *file = fopen(key_file, "r");
	char line[128];
	bool encrypted = false;

	/* "BEGIN ENCRYPTED PRIVATE KEY", or the older "Proc-Type: 4,ENCRYPTED". */
	for (int i = 0; file != NULL && i < KEY_LINES_MAX && !encrypted; i++) {
		if (fgets(line, sizeof line, file) == NULL) {
			break;
		}
		encrypted = strstr(line, "ENCRYPTED") != NULL;
	}
	OPENSSL_cleanse(line, sizeof line);
	if (file != NULL) {
		(void)fclose(file);
	}
	return encrypted;
}

int mg_tls_give_passphrase(char *buf, int size, int writing, void *arg)
{
	const char *password = arg;
	size_t len = password != NULL ? strlen(password) : 0;

	(void)writing;
	if (len == 0 || len > (size_t)size) {
		return -1;
	}
	memcpy(buf, password, len);
	return (int)len;
}

static int fail_key(const char *key_file, const char *password, struct mg_error *err)
{
	if (!mg_tls_key_encrypted(key_file)) {
		return fail(err, MG_E_IO, "cannot read key", key_file);
	}
	ERR_clear_error();
	(void)mg_error_set(err, MG_E_USAGE,
	                   password != NULL ? "the passphrase of key \"%s\" is wrong"
	                                    : "key \"%s\" is encrypted and needs its passphrase",
	                   key_file);
	mg_error_hint(err, "Give it with --tls-key-password-file FILE or in "
	                   "MERGANSER_TLS_KEY_PASSWORD.");
	return MG_E_USAGE;
}

int mg_tls__identity(SSL_CTX *ctx, const char *cert_file, const char *key_file,
                     const char *password, struct mg_error *err)
{
	int status = 0;

	if (cert_file == NULL) {
		return 0;
	}
	if (key_file == NULL) {
		key_file = cert_file;
	}
	SSL_CTX_set_default_passwd_cb(ctx, mg_tls_give_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, (void *)password);
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1) {
		status = fail(err, MG_E_IO, "cannot read certificate", cert_file);
	} else if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1) {
		/* Also when it is the key of another certificate. */
		status = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH
		             ? fail(err, MG_E_USAGE, "this is the key of another certificate:", key_file)
		             : fail_key(key_file, password, err);
	} else if (SSL_CTX_check_private_key(ctx) != 1) {
		status = fail(err, MG_E_USAGE, "certificate and key do not belong together:", cert_file);
	}
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	return status;
}

/* What is wrong with a client's certificate stays in the verify result, and the door says it. */
static int verify_client(int good, X509_STORE_CTX *store)
{
	(void)good;
	(void)store;
	return 1;
}

static int load_roots(SSL_CTX *ctx, const struct mg_tls *tls, struct mg_error *err)
{
	if (tls->ca_file != NULL) {
		if (SSL_CTX_load_verify_file(ctx, tls->ca_file) != 1) {
			return fail(err, MG_E_IO, "cannot read root certificates", tls->ca_file);
		}
	} else if (!tls->server && !tls->insecure) {
		(void)SSL_CTX_set_default_verify_paths(ctx);
	}
	if (tls->server && tls->ca_file != NULL) {
		STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(tls->ca_file);

		if (names == NULL) {
			return fail(err, MG_E_IO, "cannot read root certificates", tls->ca_file);
		}
		SSL_CTX_set_client_CA_list(ctx, names);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, verify_client);
		SSL_CTX_set_verify_depth(ctx, CLIENT_CHAIN_MAX);
	} else {
		SSL_CTX_set_verify(ctx, tls->server || tls->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
		                   NULL);
	}
	return 0;
}

static int build(const struct mg_tls *tls, SSL_CTX **out, struct mg_error *err)
{
	SSL_CTX *ctx = SSL_CTX_new(tls->server ? TLS_server_method() : TLS_client_method());
	int status = 0;

	*out = NULL;
	ERR_clear_error();
	if (ctx == NULL) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a TLS context");
	}
	(void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	(void)SSL_CTX_set_ciphersuites(ctx, CIPHERS_13);
	(void)SSL_CTX_set_cipher_list(ctx, CIPHERS_12);
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	                                   SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
	                                   SSL_OP_ENABLE_KTLS);
	(void)SSL_CTX_set_num_tickets(ctx, 0);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1); /* a record's head and its bytes by one read */
	/* A repeated write may come from another address (the queue moves) and be longer than before;
	 * buffers of quiet connections go back to the heap. */
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
	                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	status = mg_tls__identity(ctx, tls->cert_file, tls->key_file, tls->key_password, err);
	if (status == 0) {
		status = load_roots(ctx, tls, err);
	}
	if (status != 0) {
		SSL_CTX_free(ctx);
		return status;
	}
	if (tls->alpn != NULL && tls->server) {
		SSL_CTX_set_alpn_select_cb(ctx, alpn_select, (void *)tls);
	} else if (tls->alpn != NULL) {
		(void)SSL_CTX_set_alpn_protos(ctx, tls->alpn, tls->alpn_size);
	}
	if (tls->peers != NULL) {
		SSL_CTX_set_client_hello_cb(ctx, on_client_hello, (void *)tls);
	}
	*out = ctx;
	return 0;
}

static char *copy(const char *text)
{
	return text != NULL ? mg_strdup(text) : NULL;
}

static struct mg_tls *tls_new(const char *cert_file, const char *key_file, const char *ca_file,
                              const char *const *alpn)
{
	struct mg_tls *tls = mg_alloc0(sizeof *tls);

	atomic_init(&tls->refs, 1);
	tls->cert_file = copy(cert_file);
	tls->key_file = copy(key_file);
	tls->ca_file = copy(ca_file);
	tls->alpn = alpn_encode(alpn, &tls->alpn_size);
	(void)pthread_mutex_init(&tls->lock, NULL);
	return tls;
}

static int tls_open(struct mg_tls **out, struct mg_tls *tls, struct mg_error *err)
{
	int status = 0;

	*out = NULL;
	if (tls->cert_file == NULL && tls->key_file != NULL) {
		status = mg_error_set(err, MG_E_USAGE, "key \"%s\" was given without a certificate",
		                      tls->key_file);
	} else {
		status = build(tls, &tls->ctx, err);
	}
	if (status != 0) {
		mg_tls_unref(tls);
		return status;
	}
	*out = tls;
	return 0;
}

int mg_tls_server(struct mg_tls **out, const struct mg_tls_server_options *options,
                  struct mg_error *err)
{
	struct mg_tls *tls =
		tls_new(options->cert_file, options->key_file, options->client_ca_file, options->alpn);

	tls->server = true;
	tls->peers = mg_tls__ref(options->peers);
	tls->key_password = copy(options->key_password);
	return tls_open(out, tls, err);
}

int mg_tls_client(struct mg_tls **out, const struct mg_tls_client_options *options,
                  struct mg_error *err)
{
	struct mg_tls *tls =
		tls_new(options->cert_file, options->key_file, options->roots_file, options->alpn);

	tls->insecure = options->insecure_skip_verify;
	tls->any_host = options->any_host;
	tls->key_password = copy(options->key_password);
	return tls_open(out, tls, err);
}

int mg_tls_reload(struct mg_tls *tls, struct mg_error *err)
{
	SSL_CTX *fresh = NULL;
	int status = build(tls, &fresh, err);

	if (status != 0) {
		return status; /* The old one goes on. */
	}
	pthread_mutex_lock(&tls->lock);
	SSL_CTX *old = tls->ctx;

	tls->ctx = fresh;
	pthread_mutex_unlock(&tls->lock);
	SSL_CTX_free(old);
	return 0;
}

struct mg_tls *mg_tls__ref(struct mg_tls *tls)
{
	if (tls != NULL) {
		(void)atomic_fetch_add(&tls->refs, 1);
	}
	return tls;
}

void mg_tls_unref(struct mg_tls *tls)
{
	if (tls == NULL || atomic_fetch_sub(&tls->refs, 1) != 1) {
		return;
	}
	SSL_CTX_free(tls->ctx);
	mg_tls_unref(tls->peers);
	(void)pthread_mutex_destroy(&tls->lock);
	mg_free(tls->cert_file);
	mg_free(tls->key_file);
	mg_free(tls->ca_file);
	if (tls->key_password != NULL) {
		OPENSSL_cleanse(tls->key_password, strlen(tls->key_password));
	}
	mg_free(tls->key_password);
	mg_free(tls->alpn);
	mg_free(tls);
}

/* ---- one connection ---- */

static int expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1) {
		return 1; /* An address: no SNI for it. */
	}
	ERR_clear_error();
	return SSL_set_tlsext_host_name(ssl, host) == 1 &&
	       X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

SSL *mg_tls__open(struct mg_tls *tls, const char *host, struct mg_error *err)
{
	pthread_mutex_lock(&tls->lock);
	SSL *ssl = SSL_new(tls->ctx);

	pthread_mutex_unlock(&tls->lock);
	if (ssl == NULL) {
		(void)mg_error_set(err, MG_E_NOMEM, "no memory for a TLS connection");
		return NULL;
	}
	if (tls->server) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	if (host != NULL && !tls->any_host && expect_host(ssl, host) != 1) {
		SSL_free(ssl);
		(void)mg_error_set(err, MG_E_USAGE, "\"%s\" is no name of a host", host);
		return NULL;
	}
	return ssl;
}
