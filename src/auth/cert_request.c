/*
 * cert_request.c - certificates for keys that stay elsewhere (PKCS#10).
 *
 * Rule: of a request only its key is believed, and only when the request is signed with it.  Who
 * the certificate names is for the caller to say.
 *
 * Thread: any; blocks on files.   Limits: a request has at most 8 KiB, its key is EC P-256.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "auth/cert_int.h"
#include "os/file.h"

enum { REQUEST_MAX = 8192, PEM_MAX = 1 << 20 };

/* ---- asking ---- */

static void add_bio(struct mg_sb *out, BIO *bio)
{
	char *text = NULL;
	long len = BIO_get_mem_data(bio, &text);

	mg_sb_add_len(out, len > 0 ? text : "", len > 0 ? (size_t)len : 0);
}

static int own_key(EVP_PKEY **out, const char *key_file, struct mg_error *err)
{
	if (mg_file_exists(key_file)) {
		*out = mg_cert__read_key(key_file, NULL, err);
		return *out != NULL ? 0 : MG_E_AUTH;
	}
	*out = EVP_EC_gen("P-256");
	if (*out == NULL) {
		return mg_cert__fail(err, MG_E_INTERNAL, "cannot make the key", key_file);
	}
	return mg_cert__write_key(*out, key_file, NULL, err);
}

int mg_cert_request(const char *key_file, struct mg_sb *out, struct mg_error *err)
{
	EVP_PKEY *key = NULL;
	X509_REQ *request = X509_REQ_new();
	BIO *bio = BIO_new(BIO_s_mem());
	int status = own_key(&key, key_file, err);

	if (status == 0 &&
	    (request == NULL || bio == NULL || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
	     X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "O", MBSTRING_UTF8,
	                                (const uint8_t *)"Merganser", -1, -1, 0) != 1 ||
	     X509_REQ_set_pubkey(request, key) != 1 || X509_REQ_sign(request, key, EVP_sha256()) == 0 ||
	     PEM_write_bio_X509_REQ(bio, request) != 1)) {
		status = mg_cert__fail(err, MG_E_INTERNAL, "cannot ask for a certificate for", key_file);
	}
	if (status == 0) {
		add_bio(out, bio);
	}
	BIO_free(bio);
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	return status;
}

/* ---- signing ---- */

static bool key_is_usable(EVP_PKEY *key)
{
	char group[32] = "";

	return key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
	       EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
	       strcmp(group, "prime256v1") == 0;
}

static X509_REQ *read_request(const char *text, struct mg_error *err)
{
	size_t len = strlen(text);
	BIO *bio = len <= REQUEST_MAX ? BIO_new_mem_buf(text, (int)len) : NULL;
	X509_REQ *request = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
	EVP_PKEY *key = request != NULL ? X509_REQ_get0_pubkey(request) : NULL;
	const char *why = request == NULL                      ? "it is none, in PEM"
	                  : !key_is_usable(key)                ? "its key is not EC P-256"
	                  : X509_REQ_verify(request, key) != 1 ? "it is not signed with its own key"
	                                                       : NULL;

	BIO_free(bio);
	ERR_clear_error();
	if (why != NULL) {
		(void)mg_error_set(err, MG_E_USAGE, "the request for a certificate is refused: %s", why);
		X509_REQ_free(request);
		request = NULL;
	}
	return request;
}

int mg_cert_request_check(const char *text, struct mg_error *err)
{
	X509_REQ *request = read_request(text, err);
	bool usable = request != NULL;

	X509_REQ_free(request);
	return usable ? 0 : MG_E_USAGE;
}

static int sign(const struct mg_cert_authority *ca, const char *text, enum mg_cert_kind kind,
                const struct mg_cert_names *names, struct mg_sb *out, struct mg_error *err)
{
	X509_REQ *request = read_request(text, err);
	struct mg_signer signer;
	X509 *cert = NULL;

	if (request == NULL) {
		return MG_E_USAGE;
	}
	int status = mg_cert__open_signer(&signer, ca->cert_file, ca->key_file, ca->key_password, err);

	if (status == 0) {
		status = mg_cert__build(&cert, X509_REQ_get0_pubkey(request), kind, names, signer.cert,
		                        signer.key, err);
	}
	if (status == 0) {
		BIO *bio = BIO_new(BIO_s_mem());

		if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1) {
			status = mg_cert__fail(err, MG_E_INTERNAL, "cannot encode the certificate for",
			                       names->common_name);
		} else {
			add_bio(out, bio);
		}
		BIO_free(bio);
	}
	X509_free(cert);
	mg_cert__close_signer(&signer);
	X509_REQ_free(request);
	return status;
}

int mg_cert_sign_node(const struct mg_cert_authority *ca, const char *request, uint64_t node,
                      struct mg_sb *out, struct mg_error *err)
{
	char *uri = mg_cert__node_uri(node);
	const struct mg_cert_names names = { .common_name = uri };
	int status = sign(ca, request, MG_CERT_NODE, &names, out, err);

	mg_free(uri);
	return status;
}

int mg_cert_sign_server(const struct mg_cert_authority *ca, const char *request,
                        const struct mg_cert_names *names, struct mg_sb *out, struct mg_error *err)
{
	return sign(ca, request, MG_CERT_SERVER, names, out, err);
}

/* ---- what came back ---- */

static X509 *read_text(const char *text)
{
	size_t len = strlen(text);
	BIO *bio = len <= PEM_MAX ? BIO_new_mem_buf(text, (int)len) : NULL;
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return cert;
}

static const char *why_not(X509 *cert, X509 *ca, EVP_PKEY *key, const char *uri)
{
	if (cert == NULL || ca == NULL) {
		return "it is none, in PEM";
	}
	if (X509_check_private_key(cert, key) != 1) {
		return "it is for another key";
	}
	if (uri != NULL && !mg_cert__has_uri(cert, uri)) {
		return "it is another node's";
	}
	switch (mg_cert__worth(cert, ca)) {
	case MG_CERT_FOREIGN:
		return "another CA has signed it";
	case MG_CERT_EXPIRED:
		return "it is not good now: compare the clocks";
	default:
		return NULL;
	}
}

int mg_cert_check_signed(const char *cert_text, const char *key_file, const char *ca_text,
                         uint64_t node, struct mg_error *err)
{
	EVP_PKEY *key = mg_cert__read_key(key_file, NULL, err);

	if (key == NULL) {
		return err != NULL && err->code != 0 ? err->code : MG_E_IO;
	}
	X509 *cert = read_text(cert_text), *ca = read_text(ca_text);
	char *uri = node != 0 ? mg_cert__node_uri(node) : NULL;
	const char *why = why_not(cert, ca, key, uri);

	ERR_clear_error();
	mg_free(uri);
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(key);
	return why == NULL ? 0
	                   : mg_error_set(err, MG_E_DATA, "the certificate for \"%s\" is refused: %s",
	                                  key_file, why);
}

bool mg_cert_file_holds(const char *file, const char *other_file)
{
	X509 *wanted = mg_cert__read(other_file, NULL), *cert = NULL;
	BIO *bio = mg_cert__open(file, NULL);
	bool found = false;

	while (wanted != NULL && bio != NULL && !found &&
	       (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		found = X509_cmp(cert, wanted) == 0;
		X509_free(cert);
	}
	BIO_free(bio);
	X509_free(wanted);
	ERR_clear_error();
	return found;
}
