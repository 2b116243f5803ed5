/*
 * cert_hosts.c - which hosts a server's certificate names; one more, and a longer life.
 *
 * Thread: any; blocks on files.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "auth/cert_int.h"
#include "os/file.h"

enum { NAMES_MAX = 64 };

bool mg_cert_names_host(const char *cert_file, const char *host)
{
	X509 *cert = mg_cert__read(cert_file, NULL);
	bool named = cert != NULL && (X509_check_ip_asc(cert, host, 0) == 1 ||
	                              X509_check_host(cert, host, 0, 0, NULL) == 1);

	ERR_clear_error();
	X509_free(cert);
	return named;
}

struct hosts {
	const char *dns[NAMES_MAX + 2], *ips[NAMES_MAX + 2]; /* NULL-terminated */
	size_t dns_count, ip_count;
};

static bool is_address(const char *text)
{
	unsigned char bytes[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static void add_host(struct hosts *hosts, const char *host)
{
	if (is_address(host)) {
		hosts->ips[hosts->ip_count++] = host;
	} else {
		hosts->dns[hosts->dns_count++] = host;
	}
}

static void add_name(struct mg_arena *arena, struct hosts *hosts, const GENERAL_NAME *name)
{
	int type;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
	const unsigned char *bytes = type == GEN_DNS || type == GEN_IPADD ? ASN1_STRING_get0_data(value)
	                                                                  : NULL;
	int len = bytes != NULL ? ASN1_STRING_length(value) : 0;
	char text[INET6_ADDRSTRLEN];

	if (type == GEN_DNS) {
		add_host(hosts, mg_arena_strndup(arena, (const char *)bytes, (size_t)len));
	} else if (type == GEN_IPADD && (len == 4 || len == 16) &&
	           inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text) != NULL) {
		add_host(hosts, mg_arena_strdup(arena, text));
	}
}

/* The names of a certificate, and host, which may be NULL. */
static void read_hosts(struct mg_arena *arena, const char *cert_file, const char *host,
                       struct hosts *out)
{
	X509 *cert = mg_cert__read(cert_file, NULL);
	GENERAL_NAMES *names = cert != NULL ? X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL)
	                                    : NULL;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names) && i < NAMES_MAX; i++) {
		add_name(arena, out, sk_GENERAL_NAME_value(names, i));
	}
	if (host != NULL) {
		add_host(out, host);
	}
	GENERAL_NAMES_free(names);
	X509_free(cert);
	ERR_clear_error();
}

static int sign_anew(const char *cert_file, const char *ca_file, const char *ca_key_file,
                     EVP_PKEY *key, const struct hosts *hosts, struct mg_error *err)
{
	const struct mg_cert_names names = { .common_name = "merganser server",
		                                 .dns = hosts->dns,
		                                 .ips = hosts->ips };
	struct mg_signer signer;
	X509 *cert = NULL;
	int status = mg_cert__open_signer(&signer, ca_file, ca_key_file, NULL, err);

	if (status == 0) {
		status = mg_cert__build(&cert, key, MG_CERT_SERVER, &names, signer.cert, signer.key, err);
	}
	if (status == 0) {
		status = mg_cert__write(cert, cert_file, err);
	}
	X509_free(cert);
	mg_cert__close_signer(&signer);
	return status;
}

int mg_cert_server_ensure(const char *data_dir, const char *key_password, const char *host,
                          struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	const char *cert_file = mg_arena_format(arena, "%s/tls/server.crt", data_dir);
	const char *ca_file = mg_arena_format(arena, "%s/tls/ca.crt", data_dir);
	const char *ca_key_file = mg_arena_format(arena, "%s/tls/ca.key", data_dir);
	const char *key_file = mg_arena_format(arena, "%s/tls/server.key", data_dir);
	int status = 0;

	if (host != NULL && mg_cert_names_host(cert_file, host)) {
		host = NULL;
	}
	if (mg_file_exists(ca_key_file) && mg_cert_is_signed_by(cert_file, ca_file) &&
	    (host != NULL || mg_cert_is_due(cert_file, ca_file))) {
		EVP_PKEY *key = mg_cert__read_key(key_file, key_password, err);
		struct hosts hosts = { 0 };

		read_hosts(arena, cert_file, host, &hosts);
		status = key == NULL ? MG_E_AUTH
		                     : sign_anew(cert_file, ca_file, ca_key_file, key, &hosts, err);
		EVP_PKEY_free(key);
	}
	mg_arena_free(arena);
	return status;
}
