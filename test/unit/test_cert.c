/* Certificates: what they say, who may read the keys, what is not overwritten. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "net_kit.h"
#include "os/file.h"

static struct kit_certs certs;

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "node-1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_certs_remove(&certs);
	return 0;
}

static X509 *load(const char *file)
{
	FILE *stream = fopen(file, "r");

	assert_non_null(stream);
	X509 *cert = PEM_read_X509(stream, NULL, NULL, NULL);

	(void)fclose(stream);
	assert_non_null(cert);
	return cert;
}

static int verify(X509 *ca, X509 *leaf, int purpose)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	assert_int_equal(X509_STORE_add_cert(store, ca), 1);
	assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, NULL), 1);
	X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
	(void)X509_STORE_CTX_set_purpose(ctx, purpose);
	(void)X509_verify_cert(ctx);
	int error = X509_STORE_CTX_get_error(ctx);

	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return error;
}

static bool is_critical(X509 *cert, int nid)
{
	int index = X509_get_ext_by_NID(cert, nid, -1);

	return index >= 0 && X509_EXTENSION_get_critical(X509_get_ext(cert, index)) == 1;
}

static long days_between(X509 *cert)
{
	int days = 0;
	int seconds = 0;

	assert_int_equal(
		ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), X509_get0_notAfter(cert)), 1);
	return days;
}

static void test_server_certificate_verifies_strictly_and_names_its_hosts(void **state)
{
	(void)state;
	X509 *ca = load(certs.ca);
	X509 *leaf = load(certs.cert);

	assert_int_equal(verify(ca, leaf, X509_PURPOSE_SSL_SERVER), X509_V_OK);
	assert_int_not_equal(verify(ca, leaf, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	assert_int_equal(X509_check_host(leaf, "localhost", 0, 0, NULL), 1);
	assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
	assert_int_equal(X509_check_host(leaf, "example.org", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip_asc(leaf, "10.0.0.1", 0), 0);
	X509_free(leaf);
	X509_free(ca);
}

static void test_extensions_are_critical_and_times_are_bounded(void **state)
{
	(void)state;
	X509 *ca = load(certs.ca);
	X509 *leaf = load(certs.cert);

	assert_true(is_critical(ca, NID_basic_constraints));
	assert_true(is_critical(ca, NID_key_usage));
	assert_true(is_critical(leaf, NID_basic_constraints));
	assert_true(is_critical(leaf, NID_key_usage));
	assert_int_equal(X509_check_ca(ca), 1);
	assert_int_equal(X509_check_ca(leaf), 0);
	assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	assert_int_equal(X509_get_pathlen(ca), 0);
	assert_in_range(days_between(ca), 3650, 3651);
	assert_in_range(days_between(leaf), 730, 731);
	X509_free(leaf);
	X509_free(ca);
}

static void test_keys_are_for_the_owner_alone(void **state)
{
	struct stat status;

	(void)state;
	assert_int_equal(stat(certs.key, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(stat(certs.ca_key, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(stat(certs.cert, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0644);
}

static char *slurp(const char *file)
{
	static char text[2][8192];
	static int turn;
	FILE *stream = fopen(file, "r");

	turn = !turn;
	memset(text[turn], 0, sizeof text[turn]);
	assert_non_null(stream);
	assert_true(fread(text[turn], 1, sizeof text[turn] - 1, stream) > 0);
	(void)fclose(stream);
	return text[turn];
}

static void test_nothing_is_overwritten_unasked(void **state)
{
	struct mg_error err = { 0 };
	const char *before = slurp(certs.ca);

	(void)state;
	assert_int_equal(mg_cert_ca_create(certs.ca, certs.ca_key, "other", NULL, false, &err),
	                 MG_E_DUPLICATE);
	assert_non_null(strstr(err.hint, "--overwrite"));
	assert_string_equal(before, slurp(certs.ca));
}

static void test_key_left_by_a_cut_off_run_is_kept(void **state)
{
	struct mg_error err = { 0 };
	char cert[128], key[128], before[8192];

	(void)state;
	(void)snprintf(cert, sizeof cert, "%s/again.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/again.key", certs.dir);
	kit_must(
		mg_cert_client_create(cert, key, certs.ca, certs.ca_key, NULL, "scott", NULL, false, &err),
		&err);
	(void)snprintf(before, sizeof before, "%s", slurp(key));
	assert_int_equal(unlink(cert), 0);
	kit_must(
		mg_cert_client_create(cert, key, certs.ca, certs.ca_key, NULL, "scott", NULL, false, &err),
		&err);
	assert_string_equal(before, slurp(key));
	kit_must(
		mg_cert_client_create(cert, key, certs.ca, certs.ca_key, NULL, "scott", NULL, true, &err),
		&err);
	assert_string_not_equal(before, slurp(key));
	X509 *ca = load(certs.ca);
	X509 *leaf = load(cert);

	assert_int_equal(verify(ca, leaf, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	assert_int_not_equal(verify(ca, leaf, X509_PURPOSE_SSL_SERVER), X509_V_OK);
	X509_free(leaf);
	X509_free(ca);
	(void)unlink(cert);
	(void)unlink(key);
}

static void test_encrypted_ca_key_needs_its_password(void **state)
{
	struct mg_error err = { 0 };
	char ca[128], ca_key[128], cert[128], key[128];

	(void)state;
	(void)snprintf(ca, sizeof ca, "%s/enc.crt", certs.dir);
	(void)snprintf(ca_key, sizeof ca_key, "%s/enc.key", certs.dir);
	(void)snprintf(cert, sizeof cert, "%s/leaf.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/leaf.key", certs.dir);
	kit_must(mg_cert_ca_create(ca, ca_key, "locked CA", "open sesame", false, &err), &err);
	assert_non_null(strstr(slurp(ca_key), "ENCRYPTED PRIVATE KEY"));
	assert_int_equal(mg_cert_client_create(cert, key, ca, ca_key, NULL, "scott", NULL, false, &err),
	                 MG_E_AUTH);
	assert_int_equal(
		mg_cert_client_create(cert, key, ca, ca_key, "wrong", "scott", NULL, false, &err),
		MG_E_AUTH);
	kit_must(
		mg_cert_client_create(cert, key, ca, ca_key, "open sesame", "scott", NULL, false, &err),
		&err);
	(void)unlink(ca);
	(void)unlink(ca_key);
	(void)unlink(cert);
	(void)unlink(key);
}

static void test_wrong_signer_and_wrong_names_are_refused(void **state)
{
	struct mg_error err = { 0 };
	const char *bad_dns[] = { "a b", NULL };
	const char *bad_ips[] = { "300.1.2.3", NULL };
	struct mg_cert_names names = { .common_name = "n", .dns = bad_dns };
	char cert[128], key[128];

	(void)state;
	(void)snprintf(cert, sizeof cert, "%s/x.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/x.key", certs.dir);
	assert_int_equal(
		mg_cert_server_create(cert, key, certs.ca, certs.ca_key, NULL, &names, false, &err),
		MG_E_USAGE);
	names = (struct mg_cert_names){ .common_name = "n", .ips = bad_ips };
	assert_int_equal(
		mg_cert_server_create(cert, key, certs.ca, certs.ca_key, NULL, &names, false, &err),
		MG_E_USAGE);
	names.ips = NULL;
	assert_int_equal(
		mg_cert_server_create(cert, key, certs.ca, certs.ca_key, NULL, &names, false, &err),
		MG_E_USAGE);
	assert_int_equal(
		mg_cert_client_create(cert, key, certs.ca, certs.key, NULL, "scott", NULL, false, &err),
		MG_E_USAGE);
	assert_int_equal(
		mg_cert_client_create(cert, key, certs.cert, certs.key, NULL, "scott", NULL, false, &err),
		MG_E_USAGE);
	assert_int_equal(mg_cert_client_create(cert, key, "/nowhere/ca.crt", certs.ca_key, NULL,
	                                       "scott", NULL, false, &err),
	                 MG_E_NOT_FOUND);
	assert_int_equal(access(cert, F_OK), -1);
	assert_int_equal(access(key, F_OK), -1);
}

static void test_show_says_names_and_times(void **state)
{
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	(void)state;
	kit_must(mg_cert_show(certs.cert, &out, &err), &err);
	assert_non_null(strstr(out.ptr, "CN=node-1"));
	assert_non_null(strstr(out.ptr, "DNS:localhost"));
	assert_non_null(strstr(out.ptr, "IP Address:127.0.0.1"));
	assert_non_null(strstr(out.ptr, "more days"));
	assert_non_null(strstr(out.ptr, "(critical)"));
	mg_sb_fini(&out);
	assert_int_equal(mg_cert_show(certs.key, &out, &err), MG_E_DATA);
	mg_sb_fini(&out);
}

static void copy_file(const char *from, const char *dir, const char *name)
{
	char *path = mg_path_join(dir, name);
	char *text = slurp(from);

	assert_int_equal(mg_file_write(path, text, strlen(text), 0600, NULL), 0);
	mg_free(path);
}

static void test_a_node_makes_its_certificate_when_it_must(void **state)
{
	struct mg_error err = { 0 };
	char dir[] = "/tmp/mg-test-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	char *cert = mg_path_join(dir, "tls/node.crt");
	char *key = mg_path_join(dir, "tls/node.key");
	char *ca_key = mg_path_join(dir, "tls/ca.key");
	char *tls = mg_path_join(dir, "tls");

	assert_int_equal(mg_dir_make(tls, 0700, &err), 0);
	/* A directory that was given its certificates, and no CA's key. */
	copy_file(certs.ca, dir, "tls/ca.crt");
	assert_int_equal(mg_cert_node_ensure(dir, 3, &err), MG_E_NOT_FOUND);
	assert_non_null(strstr(err.hint, "cluster remove"));
	assert_int_equal(access(cert, F_OK), -1);
	copy_file(certs.ca_key, dir, "tls/ca.key");
	kit_must(mg_cert_node_ensure(dir, 3, &err), &err);
	X509 *ca = load(certs.ca);
	X509 *leaf = load(cert);

	assert_int_equal(verify(ca, leaf, X509_PURPOSE_SSL_SERVER), X509_V_OK);
	assert_int_equal(verify(ca, leaf, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	X509_free(leaf);
	X509_free(ca);
	/* What is good stays, with or without the CA's key. */
	char *before = slurp(cert);

	kit_must(mg_cert_node_ensure(dir, 3, &err), &err);
	assert_int_equal(unlink(ca_key), 0);
	kit_must(mg_cert_node_ensure(dir, 3, &err), &err);
	char *after = slurp(cert);

	assert_string_equal(before, after);
	/* Of another node, or of another CA, it is not good. */
	assert_int_equal(mg_cert_node_ensure(dir, 4, &err), MG_E_NOT_FOUND);
	copy_file(certs.ca_key, dir, "tls/ca.key");
	kit_must(mg_cert_node_ensure(dir, 4, &err), &err);
	char *name = mg_path_join(dir, "tls/ca.crt");

	kit_must(mg_cert_ca_create(name, ca_key, "another CA", NULL, true, &err), &err);
	kit_must(mg_cert_node_ensure(dir, 4, &err), &err);
	ca = load(name);
	leaf = load(cert);
	assert_int_equal(verify(ca, leaf, X509_PURPOSE_SSL_SERVER), X509_V_OK);
	X509_free(leaf);
	X509_free(ca);
	mg_free(name);
	kit_must(mg_tree_remove(dir, &err), &err);
	mg_free(tls);
	mg_free(ca_key);
	mg_free(key);
	mg_free(cert);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_certificate_verifies_strictly_and_names_its_hosts),
		cmocka_unit_test(test_extensions_are_critical_and_times_are_bounded),
		cmocka_unit_test(test_keys_are_for_the_owner_alone),
		cmocka_unit_test(test_nothing_is_overwritten_unasked),
		cmocka_unit_test(test_key_left_by_a_cut_off_run_is_kept),
		cmocka_unit_test(test_encrypted_ca_key_needs_its_password),
		cmocka_unit_test(test_wrong_signer_and_wrong_names_are_refused),
		cmocka_unit_test(test_show_says_names_and_times),
		cmocka_unit_test(test_a_node_makes_its_certificate_when_it_must),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
