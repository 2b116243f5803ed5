/*
 * peer_cert.c - whom a certificate names, a user or a node, and what is wrong with it.
 *
 * Rule: only a certificate that OpenSSL has verified (our CA, purpose client, in time) and whose
 * subject has exactly one common name that could be a user's is good. Anything doubtful, such as
 * two names, a zero byte or a control character, names nobody. Nothing else of it is believed.
 * One with a node's URI names that node and never a user.
 *
 * Thread: any; pure.   Limit: a name has at most 63 bytes, as a user's.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "net/net_int.h"

/* The subject's one common name; false when there is none or it is no name. */
static bool read_name(const X509 *cert, char *name, size_t size)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;

	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
		return false;
	}
	int len =
		ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	bool fits = len > 0 && (size_t)len < size && mg_utf8_valid((const char *)text, (size_t)len);

	for (int i = 0; fits && i < len; i++) {
		fits = text[i] >= 0x20 && text[i] != 0x7f;
	}
	if (fits) {
		memcpy(name, text, (size_t)len);
		name[len] = '\0';
	}
	OPENSSL_free(text);
	return fits;
}

/* The number behind our URI, as we write it: decimal, no zero in front. */
static uint64_t read_number(const char *text, size_t len)
{
	uint64_t number = 0;

	if (len == 0 || len > 19 || text[0] == '0') {
		return 0;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9') {
			return 0;
		}
		number = number * 10 + (uint64_t)(text[i] - '0');
	}
	return number;
}

/* How many of its names are URIs of a node, and the number of the last of them, or 0. */
static int read_node(const X509 *cert, uint64_t *node)
{
	static const char uri[] = MG_NET_NODE_URI;
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int count = 0;

	*node = 0;
	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
		const char *text = type == GEN_URI ? (const char *)ASN1_STRING_get0_data(value) : NULL;
		size_t len = text != NULL ? (size_t)ASN1_STRING_length(value) : 0;

		if (len >= sizeof uri - 1 && memcmp(text, uri, sizeof uri - 1) == 0) {
			count++;
			*node = read_number(text + sizeof uri - 1, len - (sizeof uri - 1));
		}
	}
	GENERAL_NAMES_free(names);
	return count;
}

static int64_t read_end(const X509 *cert)
{
	struct tm end = { 0 };

	return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) == 1 ? timegm(&end) : 0;
}

/* What is wrong, for somebody who has to do something about it. */
static const char *why(long verify)
{
	switch (verify) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return "it has expired";
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "it is not valid yet";
	case X509_V_ERR_INVALID_PURPOSE:
		return "it is not made for clients";
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return "another CA has signed it";
	default:
		return X509_verify_cert_error_string(verify);
	}
}

void mg_peer_cert__read(const X509 *cert, long verify, struct mg_peer_cert *out)
{
	*out = (struct mg_peer_cert){ .until_s = read_end(cert) };
	bool named = read_name(cert, out->name, sizeof out->name);
	uint64_t node;
	int nodes = read_node(cert, &node);

	if (verify != X509_V_OK) {
		(void)snprintf(out->reason, sizeof out->reason, "%s", why(verify));
	} else if (nodes > 0) {
		out->node = nodes == 1 ? node : 0;
		(void)snprintf(out->reason, sizeof out->reason, "it is a node's, not a user's");
	} else if (!named) {
		(void)snprintf(out->reason, sizeof out->reason,
		               "its subject has no common name that could be a user's");
	} else {
		out->good = true;
	}
	ERR_clear_error();
}

struct mg_peer_cert *mg_peer_cert__take(const SSL *ssl)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);

	if (cert == NULL) {
		return NULL;
	}
	struct mg_peer_cert *out = mg_alloc(sizeof *out);

	mg_peer_cert__read(cert, SSL_get_verify_result(ssl), out);
	X509_free(cert);
	return out;
}
