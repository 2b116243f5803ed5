/*
 * cert_show.c - certificates in words: whom they name, who signed, for what, until when.
 *
 * Thread: any; blocks on the file.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "auth/cert_int.h"

/* What print has written to a fresh memory BIO, behind a label. */
static void add_printed(struct mg_sb *out, const char *label, BIO *bio)
{
	char *text = NULL;
	long len = BIO_get_mem_data(bio, &text);

	mg_sb_addf(out, "%-12s ", label);
	mg_sb_add_len(out, len > 0 ? text : "", len > 0 ? (size_t)len : 0);
	mg_sb_add_char(out, '\n');
	(void)BIO_reset(bio);
}

static void add_name(struct mg_sb *out, BIO *bio, const char *label, const X509_NAME *name)
{
	(void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
	add_printed(out, label, bio);
}

static void add_time(struct mg_sb *out, BIO *bio, const char *label, const ASN1_TIME *time)
{
	(void)ASN1_TIME_print_ex(bio, time, ASN1_DTFLGS_ISO8601);
	add_printed(out, label, bio);
}

static void add_days_left(struct mg_sb *out, const ASN1_TIME *end)
{
	int days = 0;
	int seconds = 0;

	if (ASN1_TIME_diff(&days, &seconds, NULL, end) != 1) {
		return;
	}
	if (days < 0 || seconds < 0) {
		mg_sb_addf(out, "%-12s expired %d days ago\n", "state", -days);
	} else {
		mg_sb_addf(out, "%-12s valid for %d more days\n", "state", days);
	}
}

static void add_serial(struct mg_sb *out, BIO *bio, const X509 *cert)
{
	(void)i2a_ASN1_INTEGER(bio, X509_get0_serialNumber(cert));
	add_printed(out, "serial", bio);
}

static void add_extension(struct mg_sb *out, BIO *bio, const X509 *cert, const char *label, int nid)
{
	int index = X509_get_ext_by_NID(cert, nid, -1);

	if (index < 0) {
		return;
	}
	X509_EXTENSION *extension = X509_get_ext(cert, index);

	(void)X509V3_EXT_print(bio, extension, 0, 0);
	if (X509_EXTENSION_get_critical(extension)) {
		(void)BIO_puts(bio, " (critical)");
	}
	add_printed(out, label, bio);
}

static void add_key(struct mg_sb *out, const X509 *cert)
{
	const EVP_PKEY *key = X509_get0_pubkey(cert);
	char group[64] = "";
	size_t len = 0;

	if (key == NULL) {
		return;
	}
	(void)EVP_PKEY_get_group_name(key, group, sizeof group, &len);
	mg_sb_addf(out, "%-12s %s %s, %d bits\n", "key", EVP_PKEY_get0_type_name(key), group,
	           EVP_PKEY_get_bits(key));
}

static void add_fingerprint(struct mg_sb *out, const X509 *cert)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;

	if (X509_digest(cert, EVP_sha256(), digest, &size) != 1) {
		return;
	}
	mg_sb_addf(out, "%-12s ", "sha256");
	for (unsigned i = 0; i < size; i++) {
		mg_sb_addf(out, "%s%02X", i > 0 ? ":" : "", digest[i]);
	}
	mg_sb_add_char(out, '\n');
}

static void show(struct mg_sb *out, BIO *bio, X509 *cert)
{
	add_name(out, bio, "subject", X509_get_subject_name(cert));
	add_name(out, bio, "issuer", X509_get_issuer_name(cert));
	add_serial(out, bio, cert);
	add_time(out, bio, "not before", X509_get0_notBefore(cert));
	add_time(out, bio, "not after", X509_get0_notAfter(cert));
	add_days_left(out, X509_get0_notAfter(cert));
	add_key(out, cert);
	add_extension(out, bio, cert, "names", NID_subject_alt_name);
	add_extension(out, bio, cert, "constraints", NID_basic_constraints);
	add_extension(out, bio, cert, "usage", NID_key_usage);
	add_extension(out, bio, cert, "purpose", NID_ext_key_usage);
	add_fingerprint(out, cert);
}

int mg_cert_show(const char *cert_file, struct mg_sb *out, struct mg_error *err)
{
	BIO *file = mg_cert__open(cert_file, err);
	BIO *bio = BIO_new(BIO_s_mem());
	size_t count = 0;
	X509 *cert;

	if (file == NULL || bio == NULL) {
		BIO_free(file);
		BIO_free(bio);
		return file == NULL && err != NULL && err->code != 0 ? err->code : MG_E_IO;
	}
	while ((cert = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL) {
		mg_sb_add(out, count++ > 0 ? "\n" : "");
		show(out, bio, cert);
		X509_free(cert);
	}
	BIO_free(file);
	BIO_free(bio);
	if (count == 0) {
		return mg_cert__fail(err, MG_E_DATA, "no certificate in", cert_file);
	}
	ERR_clear_error(); /* the end of the file is an error to OpenSSL */
	return 0;
}

int mg_cert_common_name(struct mg_arena *arena, const char *cert_file, const char **name,
                        struct mg_error *err)
{
	BIO *file = mg_cert__open(cert_file, err);
	unsigned char *text = NULL;
	int status = 0;

	*name = NULL;
	if (file == NULL) {
		return err != NULL && err->code != 0 ? err->code : MG_E_IO;
	}
	X509 *cert = PEM_read_bio_X509(file, NULL, NULL, NULL);

	BIO_free(file);
	if (cert == NULL) {
		return mg_cert__fail(err, MG_E_DATA, "no certificate in", cert_file);
	}
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	int len = at < 0 ? -1
	                 : ASN1_STRING_to_UTF8(
						   &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));

	if (len <= 0) {
		status =
			mg_error_set(err, MG_E_DATA, "the certificate in \"%s\" has no common name", cert_file);
	} else {
		*name = mg_arena_strndup(arena, (const char *)text, (size_t)len);
	}
	OPENSSL_free(text);
	X509_free(cert);
	ERR_clear_error();
	return status;
}
