/*
 * peer_cert.c - whom a client's certificate names, and what is wrong with it.
 *
 * Rule: only a certificate that OpenSSL has verified (our CA, purpose client, in time) and whose
 * subject has exactly one common name that could be a user's is good. Anything doubtful, such as
 * two names, a zero byte or a control character, names nobody. Nothing else of it is believed.
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

	if (verify != X509_V_OK) {
		(void)snprintf(out->reason, sizeof out->reason, "%s", why(verify));
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
