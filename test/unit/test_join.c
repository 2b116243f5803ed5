/* test_join.c - requests and what is signed for them; who is let into a cluster, as what, and what
 * is said to the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/auth.h"
#include "catalog/node_table.h"
#include "net/net.h"
#include "os/file.h"
#include "server/address.h"
#include "server/join.h"
#include "server/join_dir.h"
#include "server/node_file.h"

static char dir[64];  /* of the server that is asked */
static char keys[64]; /* of the one that asks */
static struct mg_catalog *catalog;
static struct mg_arena *arena;
static int (*catches_up)(void *arg, struct mg_error *err);
static int (*replicas_of)(void *arg, uint64_t number, bool *has, struct mg_error *err);

static void must(int code, const struct mg_error *err)
{
	if (code) {
		fail_msg("%d: %s", code, err->message);
	}
}

static const char *in(const char *folder, const char *name)
{
	return mg_arena_format(arena, "%s/%s", folder, name);
}

static void make_ca(const char *folder)
{
	struct mg_error err = { 0 };

	must(mg_dir_make(in(folder, "tls"), 0700, &err), &err);
	must(mg_cert_ca_create(in(folder, "tls/ca.crt"), in(folder, "tls/ca.key"), "test CA", NULL,
	                       true, &err),
	     &err);
	must(mg_file_write(in(folder, "tls/join.secret"), "sesame\n", 7, 0600, &err), &err);
}

static int setup(void **state)
{
	struct mg_node_claim first = { .number = 1, .id = "server-1", .address = "localhost:8765" };
	struct mg_error err = { 0 };
	uint64_t number;

	(void)state;
	snprintf(dir, sizeof dir, "/tmp/mg-join-XXXXXX");
	snprintf(keys, sizeof keys, "/tmp/mg-keys-XXXXXX");
	if (!mkdtemp(dir) || !mkdtemp(keys)) {
		return 1;
	}
	arena = mg_arena_new();
	make_ca(dir);
	must(mg_catalog_new(&catalog, dir, &err), &err);
	must(mg_node_enter(catalog, &first, &number, &err), &err);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mg_catalog_free(catalog);
	mg_arena_free(arena);
	return mg_tree_remove(dir, NULL) || mg_tree_remove(keys, NULL);
}

/* ---- what is asked ---- */

static const char *request_of(const char *key_file)
{
	struct mg_error err = { 0 };
	struct mg_sb pem = { 0 };

	must(mg_cert_request(key_file, &pem, &err), &err);
	const char *text = mg_arena_strdup(arena, mg_sb_text(&pem));

	mg_sb_fini(&pem);
	return text;
}

static struct mg_join_ask ask_as(const char *id, const char *address)
{
	struct mg_join_ask ask = mg_join_ask_of_this_program();

	ask.id = id;
	ask.address = address;
	ask.node_request = request_of(in(keys, "node.key"));
	ask.server_request = request_of(in(keys, "server.key"));
	return ask;
}

static int serve(const struct mg_join_ask *ask, const struct mg_join_caller *caller,
                 struct mg_join_answer *answer, struct mg_error *err)
{
	const struct mg_join_host host = {
		.data_dir = dir,
		.catalog = catalog,
		.self = 1,
		.catch_up = catches_up,
		.has_replicas = replicas_of,
	};
	struct mg_sb body = { 0 }, text = { 0 };

	mg_error_clear(err);
	mg_join_ask_write(ask, &body);
	int code = mg_join_serve(&host, caller, (struct mg_str){ body.ptr, body.len }, &text, err);

	if (code == 0) {
		must(mg_join_answer_read(arena, (struct mg_str){ text.ptr, text.len }, answer, err), err);
	}
	mg_sb_fini(&body);
	mg_sb_fini(&text);
	return code;
}

static const struct mg_join_caller by_password = {
	.user = "join", .password = "sesame", .peer = "127.0.0.1:1", .same_host = true
};

static struct mg_join_answer let_in(const struct mg_join_ask *ask,
                                    const struct mg_join_caller *caller)
{
	struct mg_join_answer answer;
	struct mg_error err;

	must(serve(ask, caller, &answer, &err), &err);
	return answer;
}

static void refused(const struct mg_join_ask *ask, const struct mg_join_caller *caller, int code,
                    const char *words)
{
	struct mg_join_answer answer;
	struct mg_error err;
	int got = serve(ask, caller, &answer, &err);

	if (got != code || !strstr(err.message, words)) {
		fail_msg("%d, not %d: \"%s\", not \"%s\"", got, code, err.message, words);
	}
}

static size_t node_count(void)
{
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	size_t count = data->node_count;

	mg_catalog_give(catalog, data);
	return count;
}

static X509 *read_pem(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	BIO_free(bio);
	assert_non_null(cert);
	return cert;
}

/* ---- keys and certificates ---- */

static void test_a_key_is_made_once_and_for_its_owner(void **state)
{
	struct stat info;

	(void)state;
	const char *key = in(keys, "node.key");

	assert_null(strstr(request_of(key), "PRIVATE"));
	assert_int_equal(stat(key, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	ino_t inode = info.st_ino;

	(void)request_of(key);
	assert_int_equal(stat(key, &info), 0);
	assert_int_equal(info.st_ino, inode);
}

/* A request that wants to be everything: a CA, another node, other hosts. */
static char *greedy_request(EVP_PKEY *key)
{
	X509_REQ *request = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;

	sk_X509_EXTENSION_push(extensions,
	                       X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
	                                           "URI:" MG_NET_NODE_URI "1,DNS:bank.example"));
	sk_X509_EXTENSION_push(
		extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE"));
	assert_int_equal(X509_REQ_add_extensions(request, extensions), 1);
	X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_UTF8,
	                           (const uint8_t *)"scott", -1, -1, 0);
	assert_int_equal(X509_REQ_set_pubkey(request, key), 1);
	assert_true(X509_REQ_sign(request, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_REQ(bio, request), 1);
	long len = BIO_get_mem_data(bio, &text);
	char *copy = mg_arena_strndup(arena, text, (size_t)len);

	BIO_free(bio);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	X509_REQ_free(request);
	return copy;
}

static void test_of_a_request_only_the_key_counts(void **state)
{
	(void)state;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	struct mg_join_ask ask = ask_as("server-2", "db2.example:8766");

	ask.node_request = ask.server_request = greedy_request(key);
	struct mg_join_answer answer = let_in(&ask, &by_password);
	X509 *node = read_pem(answer.node_certificate), *server = read_pem(answer.server_certificate);
	GENERAL_NAMES *names = X509_get_ext_d2i(node, NID_subject_alt_name, NULL, NULL);

	assert_int_equal(answer.number, 2);
	assert_int_equal(sk_GENERAL_NAME_num(names), 1);
	const ASN1_STRING *uri = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, 0), NULL);

	assert_string_equal((const char *)ASN1_STRING_get0_data(uri), MG_NET_NODE_URI "2");
	GENERAL_NAMES_free(names);
	names = X509_get_ext_d2i(server, NID_subject_alt_name, NULL, NULL);
	assert_int_equal(sk_GENERAL_NAME_num(names), 4);
	GENERAL_NAMES_free(names);
	assert_int_equal(X509_check_host(server, "db2.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(server, "localhost", 0, 0, NULL), 1);
	assert_int_equal(X509_check_ip_asc(server, "127.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(server, "::1", 0), 1);
	assert_int_equal(X509_check_host(server, "bank.example", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ca(node), 0);
	assert_int_equal(X509_check_ca(server), 0);
	assert_int_equal(X509_check_private_key(node, key), 1);
	X509_free(node);
	X509_free(server);
	EVP_PKEY_free(key);
}

static void test_bad_requests_change_nothing(void **state)
{
	(void)state;
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *other = EVP_EC_gen("P-384");
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");
	struct mg_join_ask good = ask;

	ask.node_request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n";
	refused(&ask, &by_password, MG_E_USAGE, "it is none, in PEM");
	ask.node_request = greedy_request(rsa);
	refused(&ask, &by_password, MG_E_USAGE, "not EC P-256");
	ask = good;
	ask.server_request = greedy_request(other);
	refused(&ask, &by_password, MG_E_USAGE, "not EC P-256");
	assert_int_equal(node_count(), 1);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(other);
}

static void test_what_was_signed_is_checked(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");
	struct mg_join_answer answer = let_in(&ask, &by_password);
	const char *node_key = in(keys, "node.key"), *server_key = in(keys, "server.key");

	must(mg_cert_check_signed(answer.node_certificate, node_key, answer.ca, 2, &err), &err);
	must(mg_cert_check_signed(answer.server_certificate, server_key, answer.ca, 0, &err), &err);
	assert_int_equal(mg_cert_check_signed(answer.node_certificate, node_key, answer.ca, 3, &err),
	                 MG_E_DATA);
	assert_int_equal(mg_cert_check_signed(answer.node_certificate, server_key, answer.ca, 2, &err),
	                 MG_E_DATA);
	assert_int_equal(mg_cert_check_signed("no PEM", node_key, answer.ca, 2, &err), MG_E_DATA);
	assert_true(mg_cert_file_holds(in(dir, "tls/ca.crt"), in(dir, "tls/ca.crt")));
	make_ca(keys);
	assert_false(mg_cert_file_holds(in(dir, "tls/ca.crt"), in(keys, "tls/ca.crt")));
	char *foreign = NULL;
	size_t size = 0;

	must(mg_file_read(in(keys, "tls/ca.crt"), 1 << 20, &foreign, &size, &err), &err);
	assert_int_equal(mg_cert_check_signed(answer.node_certificate, node_key, foreign, 2, &err),
	                 MG_E_DATA);
	assert_non_null(strstr(err.message, "another CA"));
	mg_free(foreign);
}

/* A certificate of so many days, which our own tool would not make. */
static void sign_for_days(const char *file, long days)
{
	FILE *in_ca = fopen(in(dir, "tls/ca.crt"), "r"), *in_key = fopen(in(dir, "tls/ca.key"), "r");
	X509 *ca = PEM_read_X509(in_ca, NULL, NULL, NULL), *cert = X509_new();
	EVP_PKEY *ca_key = PEM_read_PrivateKey(in_key, NULL, NULL, NULL);
	FILE *out = fopen(file, "w");

	X509_set_version(cert, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(cert), -100L * 86400);
	X509_gmtime_adj(X509_getm_notAfter(cert), days * 86400);
	X509_set_pubkey(cert, ca_key);
	X509_set_issuer_name(cert, X509_get_subject_name(ca));
	assert_true(X509_sign(cert, ca_key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(out, cert), 1);
	fclose(out);
	fclose(in_ca);
	fclose(in_key);
	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
}

static void test_a_certificate_is_due_in_its_last_month(void **state)
{
	(void)state;
	const char *cert = in(keys, "some.crt"), *ca = in(dir, "tls/ca.crt");

	sign_for_days(cert, 40);
	assert_false(mg_cert_is_due(cert, ca));
	sign_for_days(cert, 29);
	assert_true(mg_cert_is_due(cert, ca));
	sign_for_days(cert, -1);
	assert_true(mg_cert_is_due(cert, ca));
	assert_true(mg_cert_is_signed_by(cert, ca));
	make_ca(keys); /* another CA's is not ours to replace */
	assert_false(mg_cert_is_due(cert, in(keys, "tls/ca.crt")));
	assert_false(mg_cert_is_signed_by(cert, in(keys, "tls/ca.crt")));
}

static void test_a_server_s_certificate_takes_one_more_name(void **state)
{
	const char *dns[] = { "localhost", "db0.example", NULL }, *ips[] = { "127.0.0.1", NULL };
	const struct mg_cert_names names = { .common_name = "x", .dns = dns, .ips = ips };
	const char *cert = in(dir, "tls/server.crt"), *key = in(dir, "tls/server.key");
	struct mg_error err = { 0 };
	char *before = NULL, *after = NULL;
	size_t size;

	(void)state;
	must(mg_cert_server_create(cert, key, in(dir, "tls/ca.crt"), in(dir, "tls/ca.key"), NULL,
	                           &names, true, &err),
	     &err);
	must(mg_file_read(key, 1 << 20, &before, &size, &err), &err);
	must(mg_cert_server_ensure(dir, NULL, "10.0.0.7", &err), &err);
	must(mg_cert_server_ensure(dir, NULL, "db1.example", &err), &err);
	must(mg_file_read(key, 1 << 20, &after, &size, &err), &err);
	assert_string_equal(before, after);
	mg_free(before);
	mg_free(after);
	static const char *const all[] = { "localhost", "db0.example", "127.0.0.1", "10.0.0.7",
		                               "db1.example" };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		assert_true(mg_cert_names_host(cert, all[i]));
	}
	assert_false(mg_cert_names_host(cert, "db2.example"));
	/* Named already: it stays.  Without the CA's key: likewise. */
	must(mg_file_read(cert, 1 << 20, &before, &size, &err), &err);
	must(mg_cert_server_ensure(dir, NULL, "localhost", &err), &err);
	must(mg_file_remove(in(dir, "tls/ca.key"), &err), &err);
	must(mg_cert_server_ensure(dir, NULL, "db2.example", &err), &err);
	must(mg_file_read(cert, 1 << 20, &after, &size, &err), &err);
	assert_string_equal(before, after);
	mg_free(before);
	mg_free(after);
}

/* ---- who is let in ---- */

static void test_the_answer_is_all_that_a_server_needs(void **state)
{
	struct mg_error err = { 0 };
	struct mg_catalog *copy = NULL;

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");
	struct mg_join_answer answer = let_in(&ask, &by_password);

	must(mg_catalog_install(keys, answer.catalog.ptr, answer.catalog.len, &err), &err);
	must(mg_catalog_load(&copy, keys, &err), &err);
	const struct mg_catalog_data *data = mg_catalog_take(copy);
	const struct mg_catalog_node *node = mg_catalog_find_node(data, 2);

	assert_string_equal(data->cluster_id, answer.cluster);
	assert_non_null(node);
	assert_string_equal(node->id, "server-2");
	assert_string_equal(node->address, "localhost:8766");
	mg_catalog_give(copy, data);
	mg_catalog_free(copy);
	assert_int_equal(mg_catalog_install(keys, "{}", 2, &err), MG_E_CORRUPT);
}

static void test_asking_again_gives_the_same_number(void **state)
{
	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");

	assert_int_equal(let_in(&ask, &by_password).number, 2);
	assert_int_equal(let_in(&ask, &by_password).number, 2);
	assert_int_equal(node_count(), 2);
	ask.address = "localhost:8767";
	refused(&ask, &by_password, MG_E_DUPLICATE, "the name \"server-2\" is that of node 2");
	ask.id = "server-3";
	ask.address = "localhost:8766";
	refused(&ask, &by_password, MG_E_DUPLICATE, "the address \"localhost:8766\" is that of node 2");
	ask.id = "server-1";
	ask.address = "localhost:8765";
	refused(&ask, &by_password, MG_E_DUPLICATE, "is the server that was asked");
	assert_int_equal(node_count(), 2);
}

static int second_has_replicas(void *arg, uint64_t number, bool *has, struct mg_error *err)
{
	(void)arg;
	(void)err;
	*has = number == 2;
	return 0;
}

static int nobody_knows(void *arg, uint64_t number, bool *has, struct mg_error *err)
{
	(void)arg;
	(void)number;
	*has = false;
	return mg_error_set(err, MG_E_TIMEOUT, "this node lags behind");
}

static int is_cut_off(void *arg, struct mg_error *err)
{
	(void)arg;
	return mg_error_set(err, MG_E_UNAVAILABLE, "group 0 has no leader");
}

/* An empty directory under the name of a node that has voted would have forgotten that. */
static void test_a_node_does_not_come_back_empty(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");

	assert_int_equal(let_in(&ask, &by_password).number, 2);
	replicas_of = second_has_replicas;
	refused(&ask, &by_password, MG_E_DUPLICATE, "has replicas in its data directory");
	const struct mg_join_caller caller = { .node = 2, .peer = "127.0.0.1:1", .same_host = true };

	assert_int_equal(let_in(&ask, &caller).number, 2); /* with its directory */
	must(mg_node_set_state(catalog, "server-2", MG_NODE_REMOVED, &err), &err);
	assert_int_equal(let_in(&ask, &by_password).number, 3);
	replicas_of = NULL;
}

/* Who does not know what a node has gives away neither its number nor a new one. */
static void test_without_a_majority_nobody_enters(void **state)
{
	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");

	assert_int_equal(let_in(&ask, &by_password).number, 2);
	replicas_of = nobody_knows;
	refused(&ask, &by_password, MG_E_UNAVAILABLE, "cannot tell now whether \"server-2\"");
	ask = ask_as("server-3", "localhost:8767");
	assert_int_equal(let_in(&ask, &by_password).number, 3);
	catches_up = is_cut_off;
	ask = ask_as("server-4", "localhost:8768");
	refused(&ask, &by_password, MG_E_UNAVAILABLE, "cannot tell now");
	assert_int_equal(node_count(), 3);
	catches_up = NULL;
	replicas_of = NULL;
	assert_int_equal(let_in(&ask, &by_password).number, 4);
}

/* A server that stops does not wait for those which do not answer. */
static void test_asking_for_a_certificate_ends_at_once(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof address;
	struct mg_error err = { 0 };
	int silent = socket(AF_INET, SOCK_STREAM, 0), wake = eventfd(1, 0);
	char seeds[64];

	(void)state;
	assert_int_equal(bind(silent, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(silent, 8), 0); /* and never accepts */
	assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &size), 0);
	int port = ntohs(address.sin_port);

	(void)snprintf(seeds, sizeof seeds, "127.0.0.1:%d,127.0.0.1:%d", port, port);
	must(mg_cert_node_ensure(dir, 1, &err), &err);
	const struct mg_join_renewal renewal = { .data_dir = dir,
		                                     .seeds = seeds,
		                                     .cluster = "",
		                                     .number = 1,
		                                     .node_id = "server-1",
		                                     .address = "localhost:8765",
		                                     .wake_fd = wake };

	assert_int_equal(mg_join_renew(&renewal, &err), MG_E_CANCELLED);
	(void)close(silent);
	(void)close(wake);
}

static void test_a_node_comes_back_by_its_certificate(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");
	const struct mg_join_caller caller = { .node = 2, .peer = "127.0.0.1:1", .same_host = true };

	refused(&ask, &caller, MG_E_DENIED, "node 2");
	assert_int_equal(let_in(&ask, &by_password).number, 2);
	ask.address = "db2.example:9000"; /* it has moved */
	struct mg_join_answer answer = let_in(&ask, &caller);

	assert_int_equal(answer.number, 2);
	X509 *server = read_pem(answer.server_certificate);

	assert_int_equal(X509_check_host(server, "db2.example", 0, 0, NULL), 1);
	X509_free(server);
	must(mg_node_set_state(catalog, "server-2", MG_NODE_REMOVED, &err), &err);
	refused(&ask, &caller, MG_E_DENIED, "was removed from the cluster");
}

/* Node 2 passes on what node 3, whose certificate it has seen, asks. */
static void test_a_node_speaks_for_another(void **state)
{
	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");

	assert_int_equal(let_in(&ask, &by_password).number, 2);
	ask.id = "server-3";
	ask.address = "localhost:8767";
	assert_int_equal(let_in(&ask, &by_password).number, 3);
	const struct mg_join_caller relay = { .node = 2, .peer = "127.0.0.1:1", .same_host = true };

	ask.relayed = true;
	ask.number = 3;
	assert_int_equal(let_in(&ask, &relay).number, 3);
	assert_int_equal(node_count(), 3);
}

static void test_strangers_are_refused(void **state)
{
	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");
	struct mg_join_caller caller = by_password;

	caller.password = "sesam";
	refused(&ask, &caller, MG_E_AUTH, "wrong join password");
	caller.password = "";
	refused(&ask, &caller, MG_E_AUTH, "wrong join password");
	caller.user = "scott";
	refused(&ask, &caller, MG_E_AUTH, "user \"scott\" lets no servers in");
	caller = (struct mg_join_caller){ .peer = "127.0.0.1:1" };
	refused(&ask, &caller, MG_E_AUTH, "a login is needed");
	assert_int_equal(node_count(), 1);
}

static void test_servers_of_two_machines_are_no_localhost(void **state)
{
	struct mg_error err = { 0 };
	const struct mg_node_claim named = { .number = 1,
		                                 .id = "server-1",
		                                 .address = "db1.example:1" };
	uint64_t number;

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "db2.example:8766");
	struct mg_join_caller far = by_password;

	far.same_host = false;
	refused(&ask, &far, MG_E_UNSUPPORTED, "server \"server-1\" calls itself localhost:8765");
	must(mg_node_enter(catalog, &named, &number, &err), &err);
	assert_int_equal(let_in(&ask, &far).number, 2);
	ask = ask_as("server-3", "localhost:8767");
	refused(&ask, &far, MG_E_UNSUPPORTED, "calls itself localhost:8767");
	assert_int_equal(node_count(), 2);
}

static void test_what_does_not_fit_is_refused(void **state)
{
	(void)state;
	const struct mg_join_ask good = ask_as("server-2", "localhost:8766");
	struct mg_join_ask ask = good;

	ask.engine = "v9.9.9";
	refused(&ask, &by_password, MG_E_UNSUPPORTED, "runs DuckDB v9.9.9, this cluster v");
	ask = good;
	ask.file_format = 99;
	refused(&ask, &by_password, MG_E_UNSUPPORTED, "format 99");
	ask = good;
	ask.cluster = "0123456789abcdef0123456789abcdef";
	refused(&ask, &by_password, MG_E_UNSUPPORTED, "is of cluster 0123456789abcdef");
	ask = good;
	ask.id = "a b";
	refused(&ask, &by_password, MG_E_USAGE, "is no name for a node");
	ask = good;
	ask.address = "0.0.0.0:8766";
	refused(&ask, &by_password, MG_E_USAGE, "is no address at which");
	ask = good;
	ask.node_request = "";
	refused(&ask, &by_password, MG_E_USAGE, "\"node_request\" is missing");
	assert_int_equal(node_count(), 1);
}

static void test_who_cannot_sign_says_who_is_needed(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	struct mg_join_ask ask = ask_as("server-2", "localhost:8766");

	must(mg_file_remove(in(dir, "tls/ca.key"), &err), &err);
	refused(&ask, &by_password, MG_E_UNAVAILABLE, "cannot sign certificates");
	ask.relayed = true;
	refused(&ask, &by_password, MG_E_UNAVAILABLE, "lacks tls/ca.key");
	assert_int_equal(node_count(), 1);
}

/* ---- words on the wire ---- */

static void test_the_predecessors_body_hears_what_is_missing(void **state)
{
	struct mg_join_ask ask;
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(
		mg_join_ask_read(arena, MG_STR("{\"id\":\"a\",\"addr\":\"localhost:1\"}"), &ask, &err),
		MG_E_USAGE);
	assert_non_null(strstr(err.message, "node_request"));
	assert_non_null(strstr(err.hint, "--join"));
	assert_int_equal(mg_join_ask_read(arena, MG_STR("[1"), &ask, &err), MG_E_USAGE);
	assert_int_equal(mg_join_ask_read(arena, (struct mg_str){ 0 }, &ask, &err), MG_E_USAGE);
}

static void test_refusals_travel(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(
		mg_join_refusal_read(MG_STR("{\"error\": {\"sqlstate\": \"42P07\", \"message\": "
	                                "\"taken\", \"hint\": \"Choose.\"}}"),
	                         409, &err),
		MG_E_DUPLICATE);
	assert_string_equal(err.message, "taken");
	assert_string_equal(err.hint, "Choose.");
	assert_int_equal(mg_join_refusal_read(MG_STR("<html>"), 404, &err), MG_E_PROTOCOL);
	assert_non_null(strstr(err.message, "404"));
	assert_int_equal(
		mg_join_refusal_read(
			MG_STR("{\"error\": {\"sqlstate\": \"00000\", \"message\": \"fine\"}}"), 500, &err),
		MG_E_PROTOCOL);
}

/* ---- where a server is found ---- */

static void check_address(struct mg_address_wish wish, const char *expected, bool expected_guess)
{
	bool guess;
	char *address = mg_server_address(&wish, &guess);

	assert_string_equal(address, expected);
	assert_int_equal(guess, expected_guess);
	mg_free(address);
}

static void test_addresses(void **state)
{
	(void)state;
	check_address((struct mg_address_wish){ .listen = "127.0.0.1:0", .port = 71 }, "127.0.0.1:71",
	              false);
	check_address((struct mg_address_wish){ .listen = "[::1]:70" }, "[::1]:70", false);
	check_address((struct mg_address_wish){ .listen = "0.0.0.0:70" }, "localhost:70", true);
	check_address(
		(struct mg_address_wish){ .listen = "0.0.0.0:0", .port = 71, .advertise = "db.example:0" },
		"db.example:71", false);
	check_address((struct mg_address_wish){ .listen = "0.0.0.0:70", .advertise = "db.example:443" },
	              "db.example:443", false);
	/* As before, when it can be the same. */
	check_address((struct mg_address_wish){ .listen = "[::]:70", .before = "10.0.0.1:70" },
	              "10.0.0.1:70", true);
	check_address((struct mg_address_wish){ .listen = "0.0.0.0:71", .before = "10.0.0.1:70" },
	              "localhost:71", true);
	check_address(
		(struct mg_address_wish){ .listen = "0.0.0.0:70", .seeds = "127.0.0.1:8765,10.0.0.1:8765" },
		"localhost:70", true);
}

static void test_a_node_file_comes_back(void **state)
{
	const struct mg_node_file written = { .number = 7, .id = (char *)"a", .listen = (char *)"h:1" };
	struct mg_node_file file;
	struct mg_error err = { 0 };

	(void)state;
	mg_node_file_read(keys, &file);
	assert_int_equal(file.number, 0);
	assert_null(file.id);
	must(mg_node_file_write(keys, &written, &err), &err);
	mg_node_file_read(keys, &file);
	assert_int_equal(file.number, 7);
	assert_string_equal(file.id, "a");
	assert_string_equal(file.listen, "h:1");
	mg_node_file_free(&file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_a_key_is_made_once_and_for_its_owner),
		CASE(test_of_a_request_only_the_key_counts),
		CASE(test_bad_requests_change_nothing),
		CASE(test_what_was_signed_is_checked),
		CASE(test_a_certificate_is_due_in_its_last_month),
		CASE(test_a_server_s_certificate_takes_one_more_name),
		CASE(test_the_answer_is_all_that_a_server_needs),
		CASE(test_asking_again_gives_the_same_number),
		CASE(test_a_node_does_not_come_back_empty),
		CASE(test_without_a_majority_nobody_enters),
		CASE(test_asking_for_a_certificate_ends_at_once),
		CASE(test_a_node_comes_back_by_its_certificate),
		CASE(test_a_node_speaks_for_another),
		CASE(test_strangers_are_refused),
		CASE(test_servers_of_two_machines_are_no_localhost),
		CASE(test_what_does_not_fit_is_refused),
		CASE(test_who_cannot_sign_says_who_is_needed),
		CASE(test_the_predecessors_body_hears_what_is_missing),
		CASE(test_refusals_travel),
		CASE(test_addresses),
		CASE(test_a_node_file_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
