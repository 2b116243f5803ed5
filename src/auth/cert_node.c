/*
 * cert_node.c - the certificates that nodes show to each other, and when a new one is due.
 *
 * Thread: any; blocks on files.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "auth/cert_int.h"
#include "base/assert.h"
#include "net/net.h"
#include "os/file.h"

enum { RENEW_DAYS = 30 }; /* before its end a certificate is replaced */

char *mg_cert__node_uri(uint64_t node)
{
	mg_assert(node > 0);
	return mg_format("%s%llu", MG_NET_NODE_URI, (unsigned long long)node);
}

int mg_cert_node_create(const char *cert_file, const char *key_file, const char *ca_cert,
                        const char *ca_key, const char *ca_key_password, uint64_t node,
                        bool overwrite, struct mg_error *err)
{
	char *uri = mg_cert__node_uri(node);
	const struct mg_cert_names names = { .common_name = uri };
	struct mg_signer signer;
	int status = mg_cert__open_signer(&signer, ca_cert, ca_key, ca_key_password, err);

	if (status == 0) {
		status = mg_cert__create(cert_file, key_file, NULL, MG_CERT_NODE, &names, signer.cert,
		                         signer.key, overwrite, err);
	}
	mg_cert__close_signer(&signer);
	mg_free(uri);
	return status;
}

bool mg_cert__has_uri(const X509 *cert, const char *uri)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

		found = found || (type == GEN_URI && (size_t)ASN1_STRING_length(value) == strlen(uri) &&
		                  memcmp(ASN1_STRING_get0_data(value), uri, strlen(uri)) == 0);
	}
	GENERAL_NAMES_free(names);
	return found;
}

enum mg_cert_worth mg_cert__worth(const X509 *cert, X509 *ca)
{
	time_t soon = time(NULL) + (time_t)RENEW_DAYS * MG_CERT_DAY;
	bool ours = X509_verify((X509 *)cert, X509_get0_pubkey(ca)) == 1;

	ERR_clear_error();
	if (!ours || X509_cmp_current_time(X509_get0_notBefore(cert)) > 0 ||
	    X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
		return ours ? MG_CERT_EXPIRED : MG_CERT_FOREIGN;
	}
	return X509_cmp_time(X509_get0_notAfter(cert), &soon) > 0 ? MG_CERT_GOOD : MG_CERT_DUE;
}

/* Of a file, and of this node when it is not 0. */
static enum mg_cert_worth file_worth(const char *cert_file, const char *ca_file, uint64_t node)
{
	X509 *cert = mg_cert__read(cert_file, NULL), *ca = mg_cert__read(ca_file, NULL);
	char *uri = node ? mg_cert__node_uri(node) : NULL;
	enum mg_cert_worth worth = MG_CERT_FOREIGN;

	if (cert != NULL && ca != NULL && (uri == NULL || mg_cert__has_uri(cert, uri))) {
		worth = mg_cert__worth(cert, ca);
	}
	mg_free(uri);
	X509_free(ca);
	X509_free(cert);
	return worth;
}

bool mg_cert_is_signed_by(const char *cert_file, const char *ca_file)
{
	return file_worth(cert_file, ca_file, 0) != MG_CERT_FOREIGN;
}

bool mg_cert_is_due(const char *cert_file, const char *ca_file)
{
	enum mg_cert_worth worth = file_worth(cert_file, ca_file, 0);

	return worth == MG_CERT_DUE || worth == MG_CERT_EXPIRED;
}

int mg_cert_node_ensure(const char *data_dir, uint64_t node, struct mg_error *err)
{
	char *cert = mg_path_join(data_dir, "tls/node.crt");
	char *key = mg_path_join(data_dir, "tls/node.key");
	char *ca = mg_path_join(data_dir, "tls/ca.crt");
	char *ca_key = mg_path_join(data_dir, "tls/ca.key");
	int status = 0;

	enum mg_cert_worth worth = mg_file_exists(key) ? file_worth(cert, ca, node) : MG_CERT_FOREIGN;

	if (worth != MG_CERT_GOOD && mg_file_exists(ca) && mg_file_exists(ca_key)) {
		status = mg_cert_node_create(cert, key, ca, ca_key, NULL, node, true, err);
	} else if (worth != MG_CERT_GOOD && worth != MG_CERT_DUE) {
		status = mg_error_set(err, MG_E_NOT_FOUND,
		                      "\"%s\" is no certificate that the other nodes would take", cert);
		mg_error_detail(err, "It must be of node %llu, signed by \"%s\", and not expired.",
		                (unsigned long long)node, ca);
		mg_error_hint(err, "Remove the node (merganser cluster remove, on another one) and let it "
		                   "enter again: start it with an empty data directory and --join.");
	}
	mg_free(ca_key);
	mg_free(ca);
	mg_free(key);
	mg_free(cert);
	return status;
}
