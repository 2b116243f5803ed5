/* Passwords, logins and users, on a real catalog in a folder of its own. */
#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net_kit.h"
#include "os/clock.h"
#include "os/file.h"

static char dir[64];
static struct mg_catalog *catalog;
static struct mg_login *login;

static int setup(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	(void)snprintf(dir, sizeof dir, "/tmp/mg-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	kit_must(mg_catalog_new(&catalog, dir, &err), &err);
	kit_must(mg_user_create(catalog, "scott", "tiger", MG_ROLE_ADMIN, false, &err), &err);
	kit_must(mg_user_create(catalog, "worker", "w\xC3\xBCrm", MG_ROLE_WORKER, false, &err), &err);
	login = mg_login_new(catalog);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mg_login_free(login);
	mg_catalog_free(catalog);
	return mg_tree_remove(dir, NULL);
}

/* Of this process's address space. */
static rlim_t mapped_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu", &pages), 1);
	fclose(file);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void test_hash_verifies_its_own_password_only(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err = { 0 };
	const char *one = NULL, *two = NULL, *scram = NULL;

	(void)state;
	kit_must(mg_password_hash(arena, "tiger", &one, &scram, &err), &err);
	kit_must(mg_password_hash(arena, "tiger", &two, &scram, &err), &err);
	assert_memory_equal(one, "$argon2id$", 10);
	assert_string_not_equal(one, two); /* salted */
	assert_int_equal(mg_password_verify(one, "tiger", &err), 0);
	assert_int_equal(mg_password_verify(two, "tiger", &err), 0);
	assert_int_equal(mg_password_verify(one, "Tiger", &err), MG_E_AUTH);
	assert_int_equal(mg_password_verify(one, "", &err), MG_E_AUTH);
	assert_int_equal(mg_password_verify("", "tiger", &err), MG_E_AUTH);
	assert_int_equal(mg_password_verify("$argon2id$nonsense", "tiger", &err), MG_E_AUTH);
	assert_int_equal(mg_password_hash(arena, "", &one, &scram, &err), MG_E_USAGE);
	char *longest = calloc(1, 1026);

	memset(longest, 'x', 1025);
	assert_int_equal(mg_password_hash(arena, longest, &one, &scram, &err), MG_E_USAGE);
	assert_int_equal(mg_password_verify(two, longest, &err), MG_E_AUTH);
	free(longest);
	mg_arena_free(arena);
}

/* A password that cannot be checked is not wrong: in a process that gets no 64 MiB. */
static void test_no_memory_is_no_wrong_password(void **state)
{
	int status = -1;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		enum mg_role role;
		struct mg_error err = { 0 };
		struct rlimit limit = { 0 };

		if (getrlimit(RLIMIT_AS, &limit) == 0) {
			limit.rlim_cur = mapped_bytes() + (16u << 20);
		}
		bool tight = setrlimit(RLIMIT_AS, &limit) == 0;
		int code = mg_login_check(login, "scott", "not remembered", &role, &err);

		_exit(tight && code == MG_E_NOMEM && strcmp(err.sqlstate, "53200") == 0 ? 0 : 1);
	}
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_int_equal(status, 0);
}

/* The verifier, taken apart and made again from the password, as a PostgreSQL client's proof would
 * need it. */
static void test_scram_verifier_follows_the_rfc(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err = { 0 };
	const char *hash = NULL, *scram = NULL;
	char salt_text[64], stored_text[64], server_text[64];
	uint8_t salt[64], salted[32], key[32], stored[32];
	int iterations = 0;

	(void)state;
	kit_must(mg_password_hash(arena, "pencil", &hash, &scram, &err), &err);
	assert_int_equal(sscanf(scram, "SCRAM-SHA-256$%d:%63[^$]$%63[^:]:%63s", &iterations, salt_text,
	                        stored_text, server_text),
	                 4);
	assert_int_equal(iterations, 4096);
	assert_int_equal(strlen(salt_text), 24);
	assert_int_equal(EVP_DecodeBlock(salt, (const unsigned char *)salt_text, 24),
	                 18); /* 16 bytes and padding */
	assert_int_equal(PKCS5_PBKDF2_HMAC("pencil", 6, salt, 16, iterations, EVP_sha256(), 32, salted),
	                 1);
	(void)HMAC(EVP_sha256(), salted, 32, (const uint8_t *)"Client Key", 10, key, NULL);
	(void)SHA256(key, 32, stored);
	unsigned char text[64];

	(void)EVP_EncodeBlock(text, stored, 32);
	assert_string_equal((char *)text, stored_text);
	(void)HMAC(EVP_sha256(), salted, 32, (const uint8_t *)"Server Key", 10, key, NULL);
	(void)EVP_EncodeBlock(text, key, 32);
	assert_string_equal((char *)text, server_text);
	mg_arena_free(arena);
}

static void test_generated_passwords_are_readable_and_differ(void **state)
{
	char seen[200][24];

	(void)state;
	for (int i = 0; i < 200; i++) {
		mg_password_generate(seen[i], i % 2 == 0 ? 24 : 15);
		size_t len = strlen(seen[i]);

		assert_int_equal(len, i % 2 == 0 ? 19 : 14);
		for (size_t c = 0; c < len; c++) {
			assert_true(c % 5 == 4 ? seen[i][c] == '-' : isalnum((unsigned char)seen[i][c]) != 0);
			assert_null(c < 5 || c > 8 ? strchr("0O1Il", seen[i][c]) : NULL);
		}
		for (int j = 0; j < i; j++) {
			assert_string_not_equal(seen[i], seen[j]);
		}
	}
}

static void test_login_knows_right_from_wrong_and_tells_the_role(void **state)
{
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };

	(void)state;
	assert_false(mg_login_cached(login, "scott", "tiger", &role));
	assert_int_equal(mg_login_check(login, "scott", "lion", &role, &err), MG_E_AUTH);
	assert_int_equal(mg_login_check(login, "nobody", "tiger", &role, &err), MG_E_AUTH);
	assert_int_equal(mg_login_check(login, "", "", &role, &err), MG_E_AUTH);
	assert_int_equal(role, MG_ROLE_NONE);
	kit_must(mg_login_check(login, "scott", "tiger", &role, &err), &err);
	assert_int_equal(role, MG_ROLE_ADMIN);
	kit_must(mg_login_check(login, "worker", "w\xC3\xBCrm", &role, &err), &err);
	assert_int_equal(role, MG_ROLE_WORKER);
	assert_true(mg_login_cached(login, "scott", "tiger", &role));
	assert_int_equal(role, MG_ROLE_ADMIN);
	assert_false(mg_login_cached(login, "scott", "lion", &role));
	assert_false(mg_login_cached(login, "worker", "tiger", &role));
	assert_false(mg_login_cached(login, "scottt", "iger", &role));
}

static void test_change_of_a_user_counts_at_once(void **state)
{
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };

	(void)state;
	kit_must(mg_user_create(catalog, "anna", "one", MG_ROLE_CLIENT, false, &err), &err);
	kit_must(mg_login_check(login, "anna", "one", &role, &err), &err);
	assert_true(mg_login_cached(login, "anna", "one", &role));
	assert_int_equal(mg_user_create(catalog, "anna", "two", MG_ROLE_CLIENT, false, &err),
	                 MG_E_DUPLICATE);
	kit_must(mg_user_create(catalog, "anna", "two", MG_ROLE_ADMIN, true, &err), &err);
	assert_false(mg_login_cached(login, "anna", "one", &role));
	assert_int_equal(mg_login_check(login, "anna", "one", &role, &err), MG_E_AUTH);
	kit_must(mg_login_check(login, "anna", "two", &role, &err), &err);
	assert_int_equal(role, MG_ROLE_ADMIN);
	kit_must(mg_user_drop(catalog, "anna", &err), &err);
	assert_false(mg_login_cached(login, "anna", "two", &role));
	assert_int_equal(mg_login_check(login, "anna", "two", &role, &err), MG_E_AUTH);
	assert_int_equal(mg_user_drop(catalog, "anna", &err), MG_E_NOT_FOUND);
}

static void test_last_admin_stays(void **state)
{
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(mg_user_drop(catalog, "scott", &err), MG_E_DENIED);
	assert_int_equal(mg_user_create(catalog, "scott", "tiger", MG_ROLE_CLIENT, true, &err),
	                 MG_E_DENIED);
	kit_must(mg_user_create(catalog, "second", "x", MG_ROLE_ADMIN, false, &err), &err);
	kit_must(mg_user_drop(catalog, "scott", &err), &err);
	assert_int_equal(mg_user_drop(catalog, "second", &err), MG_E_DENIED);
	kit_must(mg_user_create(catalog, "scott", "tiger", MG_ROLE_ADMIN, false, &err), &err);
	kit_must(mg_user_drop(catalog, "second", &err), &err);
}

static void test_names_that_basic_authentication_cannot_carry_are_refused(void **state)
{
	static const char *const names[] = {
		"",     "a:b",      "a\nb",
		"\x7f", "\xff\xfe", "0123456789012345678901234567890123456789012345678901234567890123"
	};
	struct mg_error err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		assert_int_equal(mg_user_create(catalog, names[i], "x", MG_ROLE_CLIENT, false, &err),
		                 MG_E_USAGE);
	}
	assert_int_equal(mg_user_create(catalog, "x", "x", MG_ROLE_NONE, false, &err), MG_E_USAGE);
}

/* Twelve connections of one client at once: the first check serves those that wait. */
static void *check_scott(void *arg)
{
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };

	*(int *)arg = mg_login_check(login, "scott", "tiger", &role, &err);
	return NULL;
}

static void test_many_logins_at_once(void **state)
{
	pthread_t threads[12];
	int status[12];
	enum mg_role role = MG_ROLE_NONE;
	struct mg_error err = { 0 };

	(void)state;
	for (int i = 0; i < 12; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, check_scott, &status[i]), 0);
	}
	for (int i = 0; i < 12; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(status[i], 0);
	}
	/* The table is small; thousands of others may push a login out, never break it. */
	uint64_t before_ms = mg_clock_ms();

	for (int i = 0; i < 1000; i++) {
		kit_must(mg_login_check(login, "scott", "tiger", &role, &err), &err);
	}
	assert_true(mg_clock_ms() - before_ms < 1000); /* remembered: far from a thousand times 50 ms */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash_verifies_its_own_password_only),
		cmocka_unit_test(test_scram_verifier_follows_the_rfc),
		cmocka_unit_test(test_generated_passwords_are_readable_and_differ),
		cmocka_unit_test(test_login_knows_right_from_wrong_and_tells_the_role),
		cmocka_unit_test(test_change_of_a_user_counts_at_once),
		cmocka_unit_test(test_last_admin_stays),
		cmocka_unit_test(test_names_that_basic_authentication_cannot_carry_are_refused),
		cmocka_unit_test(test_many_logins_at_once),
		cmocka_unit_test(test_no_memory_is_no_wrong_password),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
