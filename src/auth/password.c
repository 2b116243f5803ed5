/*
 * password.c - how passwords are kept: an argon2id hash for checking, a SCRAM verifier for
 * PostgreSQL's login.
 *
 * argon2id with 64 MiB and two passes takes about 50 ms of CPU, so a stolen catalog costs its thief
 * that much for each guess; hence never on a loop. SCRAM-SHA-256 is made at the same time, because
 * it cannot be made later without the password. Passwords are taken as bytes: no Unicode
 * normalisation.
 *
 * Thread: any.   Limits: PASSWORD_MAX bytes.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "auth/auth.h"
#include "base/assert.h"
#include "os/clock.h"

enum {
	PASSWORD_MAX = 1024,
	SCRAM_ITERATIONS = 4096, /* PostgreSQL's */
	SCRAM_SALT_SIZE = 16,
	DIGEST_SIZE = SHA256_DIGEST_LENGTH,
	DIGEST_TEXT_SIZE = 48, /* base64 of a digest, with its zero */
	NO_MEMORY_TRIES = 40,
	NO_MEMORY_REST_MS = 50,
};

static void must(bool done)
{
	mg_assert(done); /* A hash over a few bytes fails only in a broken library. */
}

static void hmac(const uint8_t *key, const char *text, uint8_t *out)
{
	unsigned size = DIGEST_SIZE;

	must(HMAC(EVP_sha256(), key, DIGEST_SIZE, (const uint8_t *)text, strlen(text), out, &size) !=
	     NULL);
}

static void base64(const uint8_t *bytes, int size, char *out)
{
	(void)EVP_EncodeBlock((unsigned char *)out, bytes, size);
}

/* RFC 5803: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey */
static const char *scram_verifier(struct mg_arena *arena, const char *password)
{
	uint8_t salt[SCRAM_SALT_SIZE], salted[DIGEST_SIZE], client[DIGEST_SIZE], stored[DIGEST_SIZE],
		server[DIGEST_SIZE];
	char salt_text[DIGEST_TEXT_SIZE], stored_text[DIGEST_TEXT_SIZE], server_text[DIGEST_TEXT_SIZE];

	randombytes_buf(salt, sizeof salt);
	must(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, sizeof salt, SCRAM_ITERATIONS,
	                       EVP_sha256(), DIGEST_SIZE, salted) == 1);
	hmac(salted, "Client Key", client);
	must(SHA256(client, sizeof client, stored) != NULL);
	hmac(salted, "Server Key", server);
	base64(salt, sizeof salt, salt_text);
	base64(stored, sizeof stored, stored_text);
	base64(server, sizeof server, server_text);
	OPENSSL_cleanse(salted, sizeof salted);
	OPENSSL_cleanse(client, sizeof client);
	return mg_arena_format(arena, "SCRAM-SHA-256$%d:%s$%s:%s", SCRAM_ITERATIONS, salt_text,
	                       stored_text, server_text);
}

int mg_password_hash(struct mg_arena *arena, const char *password, const char **argon2id,
                     const char **scram, struct mg_error *err)
{
	char *text = mg_arena_alloc(arena, crypto_pwhash_STRBYTES);
	size_t len = strlen(password);

	if (len == 0 || len > PASSWORD_MAX) {
		return mg_error_set(err, MG_E_USAGE, "a password has 1 to %d bytes", PASSWORD_MAX);
	}
	must(sodium_init() >= 0);
	if (crypto_pwhash_str_alg(text, password, len, crypto_pwhash_OPSLIMIT_INTERACTIVE,
	                          crypto_pwhash_MEMLIMIT_INTERACTIVE,
	                          crypto_pwhash_ALG_ARGON2ID13) != 0) {
		return mg_error_set(err, MG_E_NOMEM, "no memory to hash a password");
	}
	*argon2id = text;
	*scram = scram_verifier(arena, password);
	return 0;
}

/* What "$argon2id$..." says. */
struct hashed {
	unsigned kib, passes;
	uint8_t salt[crypto_pwhash_SALTBYTES], digest[DIGEST_SIZE];
};

static bool from_base64(const char *text, uint8_t *out, size_t size)
{
	size_t found = 0;

	return sodium_base642bin(out, size, text, strlen(text), NULL, &found, NULL,
	                         sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
	       found == size;
}

static bool read_hash(const char *text, struct hashed *out)
{
	char salt[24], digest[48];
	int end = 0;

	return sscanf(text, "$argon2id$v=19$m=%7u,t=%3u,p=1$%23[^$]$%47[^$]%n", &out->kib, &out->passes,
	              salt, digest, &end) == 4 &&
	       text[end] == '\0' && out->kib >= crypto_pwhash_MEMLIMIT_MIN >> 10 &&
	       out->passes >= crypto_pwhash_OPSLIMIT_MIN &&
	       from_base64(salt, out->salt, sizeof out->salt) &&
	       from_base64(digest, out->digest, sizeof out->digest);
}

/* crypto_pwhash_str_verify calls a password wrong that it has no memory for. */
int mg_password_verify(const char *argon2id, const char *password, struct mg_error *err)
{
	struct hashed known;
	uint8_t digest[DIGEST_SIZE];
	size_t len = strlen(password);

	must(sodium_init() >= 0);
	if (len > PASSWORD_MAX) {
		len = 0; /* It is nobody's; the time is spent all the same. */
	}
	bool readable = read_hash(argon2id, &known);

	/* It takes 64 MiB; when they are not there now, that is no wrong password. */
	for (int tries = 0; readable && tries < NO_MEMORY_TRIES; tries++) {
		if (crypto_pwhash(digest, sizeof digest, password, len, known.salt, known.passes,
		                  (size_t)known.kib << 10, crypto_pwhash_ALG_ARGON2ID13) == 0) {
			bool same = sodium_memcmp(digest, known.digest, sizeof digest) == 0;

			sodium_memzero(digest, sizeof digest);
			return same && len > 0 ? 0 : mg_error_set(err, MG_E_AUTH, "wrong password");
		}
		mg_sleep_ms(NO_MEMORY_REST_MS);
	}
	if (!readable) {
		return mg_error_set(err, MG_E_AUTH, "there is no password");
	}
	mg_error_set(err, MG_E_NOMEM, "there is no memory to check the password");
	mg_error_hint(err, "It takes 64 MiB: try again when less runs on that machine.");
	return MG_E_NOMEM;
}

/* XXXX-bird-XXXX, and -XXXX when there is room: no 0 O 1 I l, which people misread. 51, 74 bits. */
void mg_password_generate(char *out, size_t size)
{
	static const char letters[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
	static const char birds[][5] = {
		"coot", "crow", "dodo", "dove", "duck", "erne", "gull", "hawk", "huia", "ibis", "kite",
		"kiwi", "knot", "koel", "lark", "loon", "lory", "myna", "nene", "rail", "rhea", "rook",
		"ruff", "shag", "skua", "smew", "sora", "swan", "teal", "tern", "tody", "wren",
	};
	size_t groups = size >= 20 ? 4 : 3;
	size_t len = 0;

	mg_assert(size >= 15);
	must(sodium_init() >= 0);
	for (size_t group = 0; group < groups; group++) {
		const char *bird = birds[randombytes_uniform(sizeof birds / sizeof birds[0])];

		for (int i = 0; i < 4; i++) {
			out[len++] = group == 1 ? bird[i] : letters[randombytes_uniform(sizeof letters - 1)];
		}
		out[len++] = group + 1 < groups ? '-' : '\0';
	}
}
