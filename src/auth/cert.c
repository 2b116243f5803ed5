/*
 * cert.c - the cluster's own certificates: a CA, servers, clients, nodes. EC P-256, SHA-256, X.509
 * version 3.
 *
 * The CA signs leaves only (pathlen 0). Critical: basicConstraints and keyUsage everywhere. Keys
 * are PKCS#8, mode 0600, encrypted when a password is given. The key is written before its
 * certificate, so a certificate that is there has its key; a key without a certificate, from a run
 * that was cut off, is used and not replaced.
 *
 * Thread: any; blocks on files.   Limits: CA 10 years, others 2 and never longer than their CA.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "auth/cert_int.h"
#include "base/assert.h"
#include "net/net.h"
#include "os/file.h"

enum {
	DAY = MG_CERT_DAY,
	CA_DAYS = 3650,
	LEAF_DAYS = 730,
	BACKDATE = 60 * 60, /* clocks differ */
	SERIAL_SIZE = 16,
	FILE_MAX = 1 << 20,
};

int mg_cert__fail(struct mg_error *err, int code, const char *what, const char *name)
{
	unsigned long number = ERR_peek_last_error();
	const char *reason = number != 0 ? ERR_reason_error_string(number) : NULL;

	ERR_clear_error();
	return mg_error_set(err, code, "%s \"%s\"%s%s", what, name, reason != NULL ? ": " : "",
	                    reason != NULL ? reason : "");
}

/* ---- reading ---- */

BIO *mg_cert__open(const char *file, struct mg_error *err)
{
	char *text = NULL;
	size_t size = 0;

	if (mg_file_read(file, FILE_MAX, &text, &size, err) != 0) {
		return NULL;
	}
	BIO *bio = BIO_new(BIO_s_mem());

	if (bio != NULL && BIO_write(bio, text, (int)size) != (int)size) {
		BIO_free(bio);
		bio = NULL;
	}
	OPENSSL_cleanse(text, size);
	mg_free(text);
	if (bio == NULL) {
		(void)mg_error_set(err, MG_E_NOMEM, "no memory to read \"%s\"", file);
	}
	return bio;
}

X509 *mg_cert__read(const char *file, struct mg_error *err)
{
	BIO *bio = mg_cert__open(file, err);

	if (bio == NULL) {
		return NULL;
	}
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	if (cert == NULL) {
		(void)mg_cert__fail(err, MG_E_DATA, "no certificate in", file);
	}
	return cert;
}

EVP_PKEY *mg_cert__read_key(const char *file, const char *password, struct mg_error *err)
{
	BIO *bio = mg_cert__open(file, err);

	if (bio == NULL) {
		return NULL;
	}
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, mg_tls_give_passphrase, (void *)password);

	BIO_free(bio);
	if (key == NULL) {
		(void)mg_cert__fail(err, MG_E_AUTH, "cannot read the key in", file);
		mg_error_hint(err, "Is it an encrypted key, and its password missing or wrong?");
	}
	return key;
}

/* ---- writing ---- */

static int write_bio(BIO *bio, const char *file, unsigned mode, struct mg_error *err)
{
	char *text = NULL;
	long size = BIO_get_mem_data(bio, &text);

	return mg_file_write(file, text, (size_t)size, mode, err);
}

int mg_cert__write_key(EVP_PKEY *key, const char *file, const char *password, struct mg_error *err)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	const EVP_CIPHER *cipher = password != NULL ? EVP_aes_256_cbc() : NULL;
	int len = password != NULL ? (int)strlen(password) : 0;
	int status = 0;

	if (bio == NULL ||
	    PEM_write_bio_PKCS8PrivateKey(bio, key, cipher, (char *)password, len, NULL, NULL) != 1) {
		status = mg_cert__fail(err, MG_E_INTERNAL, "cannot encode the key for", file);
	} else {
		status = write_bio(bio, file, 0600, err);
	}
	BIO_free(bio);
	return status;
}

int mg_cert__write(X509 *cert, const char *file, struct mg_error *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int status = 0;

	if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1) {
		status = mg_cert__fail(err, MG_E_INTERNAL, "cannot encode the certificate for", file);
	} else {
		status = write_bio(bio, file, 0644, err);
	}
	BIO_free(bio);
	return status;
}

/* ---- building ---- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool done = extension != NULL && X509_add_ext(cert, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return done;
}

static bool set_serial(X509 *cert)
{
	uint8_t bytes[SERIAL_SIZE];

	if (RAND_bytes(bytes, sizeof bytes) != 1) {
		return false;
	}
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always of the same length */
	BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
	bool done = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;

	BN_free(number);
	return done;
}

static bool set_name(X509 *cert, const char *common_name)
{
	X509_NAME *name = X509_get_subject_name(cert);

	return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)"Merganser", -1,
	                                  -1, 0) == 1 &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
	                                  -1, 0) == 1;
}

static bool set_times(X509 *cert, int days, const X509 *ca)
{
	if (X509_gmtime_adj(X509_getm_notBefore(cert), -BACKDATE) == NULL ||
	    X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * DAY) == NULL) {
		return false;
	}
	if (ca != NULL && ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(ca)) > 0) {
		return X509_set1_notAfter(cert, X509_get0_notAfter(ca)) == 1;
	}
	return true;
}

static GENERAL_NAME *general_name(int type, const char *text)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value = NULL;

	if (name == NULL) {
		return NULL;
	}
	if (type == GEN_IPADD) {
		value = a2i_IPADDRESS(text);
	} else {
		value = ASN1_IA5STRING_new();
		if (value != NULL && ASN1_STRING_set(value, text, -1) != 1) {
			ASN1_STRING_free(value);
			value = NULL;
		}
	}
	if (value == NULL) {
		GENERAL_NAME_free(name);
		return NULL;
	}
	GENERAL_NAME_set0_value(name, type, value);
	return name;
}

/* A name as DNS has it: letters, digits, hyphens, dots, and a leading "*." */
static bool dns_is_valid(const char *text)
{
	size_t len = strlen(text);

	if (strncmp(text, "*.", 2) == 0) {
		text += 2;
		len -= 2;
	}
	return len > 0 && len <= 253 && text[0] != '.' && text[0] != '-' &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

static int add_names(GENERAL_NAMES *all, int type, const char *const *texts, struct mg_error *err)
{
	for (size_t i = 0; texts != NULL && texts[i] != NULL; i++) {
		GENERAL_NAME *name =
			type == GEN_DNS && !dns_is_valid(texts[i]) ? NULL : general_name(type, texts[i]);

		if (name == NULL) {
			ERR_clear_error();
			return mg_error_set(err, MG_E_USAGE, "\"%s\" is no %s", texts[i],
			                    type == GEN_DNS ? "name of a host" : "IP address");
		}
		if (sk_GENERAL_NAME_push(all, name) == 0) {
			GENERAL_NAME_free(name);
			return mg_error_set(err, MG_E_NOMEM, "no memory for the names of a certificate");
		}
	}
	return 0;
}

static int add_subject_names(X509 *cert, const struct mg_cert_names *names, const char *uri,
                             struct mg_error *err)
{
	const char *const uris[] = { uri, NULL };
	GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
	int status = 0;

	if (all == NULL) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the names of a certificate");
	}
	status = add_names(all, GEN_DNS, names->dns, err);
	if (status == 0) {
		status = add_names(all, GEN_IPADD, names->ips, err);
	}
	if (status == 0) {
		status = add_names(all, GEN_URI, uris, err);
	}
	if (status == 0 && sk_GENERAL_NAME_num(all) == 0) {
		status = mg_error_set(err, MG_E_USAGE,
		                      "a server's certificate needs at least one name or address");
	}
	if (status == 0 &&
	    X509_add1_ext_i2d(cert, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) != 1) {
		status = mg_cert__fail(err, MG_E_INTERNAL, "cannot add names to", names->common_name);
	}
	sk_GENERAL_NAME_pop_free(all, GENERAL_NAME_free);
	return status;
}

static bool add_extensions(X509 *cert, X509 *issuer, enum mg_cert_kind kind)
{
	static const char *const purposes[] = {
		[MG_CERT_SERVER] = "serverAuth",
		[MG_CERT_CLIENT] = "clientAuth",
		[MG_CERT_NODE] = "serverAuth,clientAuth",
	};
	bool done =
		add_extension(cert, issuer, NID_basic_constraints,
	                  kind == MG_CERT_CA ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
		add_extension(cert, issuer, NID_key_usage,
	                  kind == MG_CERT_CA ? "critical,keyCertSign,cRLSign"
	                                     : "critical,digitalSignature") &&
		add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
		add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always");

	if (done && kind != MG_CERT_CA) {
		done = add_extension(cert, issuer, NID_ext_key_usage, purposes[kind]);
	}
	return done;
}

int mg_cert__build(X509 **out, EVP_PKEY *key, enum mg_cert_kind kind,
                   const struct mg_cert_names *names, X509 *ca, EVP_PKEY *ca_key,
                   struct mg_error *err)
{
	X509 *cert = X509_new();
	int status = 0;

	*out = NULL;
	if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || !set_serial(cert) ||
	    !set_times(cert, kind == MG_CERT_CA ? CA_DAYS : LEAF_DAYS, ca) ||
	    X509_set_pubkey(cert, key) != 1) {
		status =
			mg_cert__fail(err, MG_E_INTERNAL, "cannot make a certificate for", names->common_name);
		goto out;
	}
	if (!set_name(cert, names->common_name)) {
		ERR_clear_error();
		status = mg_error_set(err, MG_E_USAGE,
		                      "\"%s\" is no name for a certificate: it has 1 to 64 characters",
		                      names->common_name);
		goto out;
	}
	if (X509_set_issuer_name(cert, X509_get_subject_name(ca != NULL ? ca : cert)) != 1 ||
	    !add_extensions(cert, ca != NULL ? ca : cert, kind)) {
		status =
			mg_cert__fail(err, MG_E_INTERNAL, "cannot make a certificate for", names->common_name);
		goto out;
	}
	if (kind == MG_CERT_SERVER || kind == MG_CERT_NODE) {
		status =
			add_subject_names(cert, names, kind == MG_CERT_NODE ? names->common_name : NULL, err);
		if (status != 0) {
			goto out;
		}
	}
	if (X509_sign(cert, ca_key != NULL ? ca_key : key, EVP_sha256()) == 0) {
		status = mg_cert__fail(err, MG_E_INTERNAL, "cannot sign the certificate for",
		                       names->common_name);
		goto out;
	}
	*out = cert;
	cert = NULL;
out:
	X509_free(cert);
	return status;
}

/* ---- commands ---- */

/* The key in the file when one is there and may stay, else a new one, to be written (*fresh). */
static int prepare_key(EVP_PKEY **out, bool *fresh, const char *cert_file, const char *key_file,
                       const char *password, bool overwrite, struct mg_error *err)
{
	*out = NULL;
	if (!overwrite && mg_file_exists(cert_file)) {
		(void)mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is there already", cert_file);
		mg_error_hint(err, "Use --overwrite to replace it.");
		return MG_E_DUPLICATE;
	}
	*fresh = overwrite || !mg_file_exists(key_file);
	if (!*fresh) {
		*out = mg_cert__read_key(key_file, password, err);
		return *out != NULL ? 0 : MG_E_AUTH;
	}
	*out = EVP_EC_gen("P-256");
	return *out != NULL ? 0 : mg_cert__fail(err, MG_E_INTERNAL, "cannot make a key for", cert_file);
}

int mg_cert__create(const char *cert_file, const char *key_file, const char *key_password,
                    enum mg_cert_kind kind, const struct mg_cert_names *names, X509 *ca,
                    EVP_PKEY *ca_key, bool overwrite, struct mg_error *err)
{
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	bool fresh = false;
	int status = prepare_key(&key, &fresh, cert_file, key_file, key_password, overwrite, err);

	if (status == 0) {
		status = mg_cert__build(&cert, key, kind, names, ca, ca_key, err);
	}
	if (status == 0 && fresh) {
		if (overwrite) {
			status = mg_file_remove(cert_file,
			                        err); /* It must not stand beside a key that is not its own. */
		}
		if (status == 0) {
			status = mg_cert__write_key(key, key_file, key_password, err);
		}
	}
	if (status == 0) {
		status = mg_cert__write(cert, cert_file, err);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	return status;
}

int mg_cert_ca_create(const char *cert_file, const char *key_file, const char *common_name,
                      const char *key_password, bool overwrite, struct mg_error *err)
{
	const struct mg_cert_names names = { .common_name = common_name };

	return mg_cert__create(cert_file, key_file, key_password, MG_CERT_CA, &names, NULL, NULL,
	                       overwrite, err);
}

int mg_cert__open_signer(struct mg_signer *signer, const char *ca_cert, const char *ca_key,
                         const char *password, struct mg_error *err)
{
	*signer = (struct mg_signer){ .cert = mg_cert__read(ca_cert, err) };
	if (signer->cert == NULL) {
		return err != NULL && err->code != 0 ? err->code : MG_E_IO;
	}
	signer->key = mg_cert__read_key(ca_key, password, err);
	if (signer->key == NULL) {
		return err != NULL && err->code != 0 ? err->code : MG_E_IO;
	}
	if (X509_check_private_key(signer->cert, signer->key) != 1) {
		ERR_clear_error();
		return mg_error_set(err, MG_E_USAGE, "\"%s\" is not the key of \"%s\"", ca_key, ca_cert);
	}
	if (X509_check_ca(signer->cert) != 1) {
		return mg_error_set(err, MG_E_USAGE, "\"%s\" is no certificate of a CA", ca_cert);
	}
	if (X509_cmp_current_time(X509_get0_notAfter(signer->cert)) <= 0) {
		return mg_error_set(err, MG_E_USAGE, "the CA in \"%s\" has expired", ca_cert);
	}
	return 0;
}

void mg_cert__close_signer(struct mg_signer *signer)
{
	X509_free(signer->cert);
	EVP_PKEY_free(signer->key);
}

int mg_cert_server_create(const char *cert_file, const char *key_file, const char *ca_cert,
                          const char *ca_key, const char *ca_key_password,
                          const struct mg_cert_names *names, bool overwrite, struct mg_error *err)
{
	struct mg_signer signer;
	int status = mg_cert__open_signer(&signer, ca_cert, ca_key, ca_key_password, err);

	if (status == 0) {
		status = mg_cert__create(cert_file, key_file, NULL, MG_CERT_SERVER, names, signer.cert,
		                         signer.key, overwrite, err);
	}
	mg_cert__close_signer(&signer);
	return status;
}

int mg_cert_client_create(const char *cert_file, const char *key_file, const char *ca_cert,
                          const char *ca_key, const char *ca_key_password, const char *common_name,
                          const char *key_password, bool overwrite, struct mg_error *err)
{
	const struct mg_cert_names names = { .common_name = common_name };
	struct mg_signer signer;
	int status = mg_cert__open_signer(&signer, ca_cert, ca_key, ca_key_password, err);

	if (status == 0) {
		status = mg_cert__create(cert_file, key_file, key_password, MG_CERT_CLIENT, &names,
		                         signer.cert, signer.key, overwrite, err);
	}
	mg_cert__close_signer(&signer);
	return status;
}
