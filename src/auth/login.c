/*
 * login.c - is this the user's password? With a memory of 60 seconds, since argon2id costs 50 ms
 * each time.
 *
 * What is remembered is a keyed hash over user, password and the user's present argon2id text; the
 * key is made at start and never leaves memory. So a changed password, a dropped user or a new role
 * counts at once, and a picture of the table tells nothing.
 *
 * A user that is not there costs the same time as a wrong password. At most PARALLEL_MAX checks run
 * at once (64 MiB each); the others wait.
 *
 * Thread: any; table and count under lock, never during a hash.
 */
#include <openssl/crypto.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "auth/auth.h"
#include "base/assert.h"
#include "os/clock.h"

enum {
	REMEMBER_MS = 60000,
	SLOT_COUNT = 1024, /* a power of two */
	PROBE_MAX = 8,
	PARALLEL_MAX = 4,
	ID_SIZE = 32,
};

struct remembered {
	uint8_t id[ID_SIZE];
	uint64_t until_ms; /* 0: free */
};

struct mg_login {
	struct mg_catalog *catalog;
	uint8_t key[crypto_generichash_KEYBYTES];
	char nobody[crypto_pwhash_STRBYTES]; /* hash that is checked for users that are not there */
	pthread_mutex_t lock;
	pthread_cond_t free_slot;
	int running; /* checks */
	struct remembered slots[SLOT_COUNT];
};

struct mg_login *mg_login_new(struct mg_catalog *catalog)
{
	struct mg_login *login = mg_alloc0(sizeof *login);
	uint8_t random[16];
	char password[sizeof random * 2 + 1];

	mg_assert(sodium_init() >= 0);
	login->catalog = catalog;
	randombytes_buf(login->key, sizeof login->key);
	randombytes_buf(random, sizeof random);
	(void)sodium_bin2hex(password, sizeof password, random, sizeof random);
	if (crypto_pwhash_str(login->nobody, password, strlen(password),
	                      crypto_pwhash_OPSLIMIT_INTERACTIVE,
	                      crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0) {
		login->nobody[0] = '\0'; /* Only the time of an unknown user is then shorter. */
	}
	(void)pthread_mutex_init(&login->lock, NULL);
	(void)pthread_cond_init(&login->free_slot, NULL);
	return login;
}

void mg_login_free(struct mg_login *login)
{
	if (login == NULL) {
		return;
	}
	(void)pthread_cond_destroy(&login->free_slot);
	(void)pthread_mutex_destroy(&login->lock);
	OPENSSL_cleanse(login, sizeof *login);
	mg_free(login);
}

/* ---- the memory ---- */

static void hash_text(crypto_generichash_state *state, const char *text)
{
	(void)crypto_generichash_update(state, (const uint8_t *)text,
	                                strlen(text) + 1); /* the zero parts them */
}

static void id_of(const struct mg_login *login, const char *user, const char *password,
                  const char *argon2id, uint8_t *id)
{
	crypto_generichash_state state;

	(void)crypto_generichash_init(&state, login->key, sizeof login->key, ID_SIZE);
	hash_text(&state, user);
	hash_text(&state, password);
	hash_text(&state, argon2id);
	(void)crypto_generichash_final(&state, id, ID_SIZE);
	OPENSSL_cleanse(&state, sizeof state);
}

static struct remembered *slot_at(struct mg_login *login, const uint8_t *id, size_t probe)
{
	size_t start;

	memcpy(&start, id, sizeof start);
	return &login->slots[(start + probe) & (SLOT_COUNT - 1)];
}

static bool remembers(struct mg_login *login, const uint8_t *id)
{
	uint64_t now_ms = mg_clock_ms();
	bool found = false;

	pthread_mutex_lock(&login->lock);
	for (size_t i = 0; i < PROBE_MAX && !found; i++) {
		const struct remembered *slot = slot_at(login, id, i);

		found = slot->until_ms > now_ms && sodium_memcmp(slot->id, id, ID_SIZE) == 0;
	}
	pthread_mutex_unlock(&login->lock);
	return found;
}

static void remember(struct mg_login *login, const uint8_t *id)
{
	pthread_mutex_lock(&login->lock);
	struct remembered *oldest = slot_at(login, id, 0);

	for (size_t i = 0; i < PROBE_MAX; i++) {
		struct remembered *slot = slot_at(login, id, i);

		if (sodium_memcmp(slot->id, id, ID_SIZE) == 0) {
			oldest = slot;
			break;
		}
		if (slot->until_ms < oldest->until_ms) {
			oldest = slot;
		}
	}
	memcpy(oldest->id, id, ID_SIZE);
	oldest->until_ms = mg_clock_ms() + REMEMBER_MS;
	pthread_mutex_unlock(&login->lock);
}

/* ---- checking ---- */

/* What the catalog says of a user, copied, so that no snapshot is held for 50 ms. */
struct known {
	bool exists;
	enum mg_role role;
	char argon2id[crypto_pwhash_STRBYTES];
	uint8_t id[ID_SIZE];
};

static void look_up(struct mg_login *login, const char *name, const char *password,
                    struct known *known)
{
	const struct mg_catalog_data *data = mg_catalog_take(login->catalog);
	const struct mg_user *user = mg_catalog_find_user(data, name);

	memset(known, 0, sizeof *known);
	if (user != NULL && user->argon2id != NULL && strlen(user->argon2id) < sizeof known->argon2id) {
		known->exists = true;
		known->role = user->role;
		memcpy(known->argon2id, user->argon2id, strlen(user->argon2id));
	}
	mg_catalog_give(login->catalog, data);
	id_of(login, name, password, known->argon2id, known->id);
}

bool mg_login_cached(struct mg_login *login, const char *user, const char *password,
                     enum mg_role *role)
{
	struct known known;

	look_up(login, user, password, &known);
	if (!known.exists || !remembers(login, known.id)) {
		return false;
	}
	*role = known.role;
	return true;
}

static void enter(struct mg_login *login)
{
	pthread_mutex_lock(&login->lock);
	while (login->running >= PARALLEL_MAX) {
		(void)pthread_cond_wait(&login->free_slot, &login->lock);
	}
	login->running++;
	pthread_mutex_unlock(&login->lock);
}

static void leave(struct mg_login *login)
{
	pthread_mutex_lock(&login->lock);
	login->running--;
	(void)pthread_cond_signal(&login->free_slot);
	pthread_mutex_unlock(&login->lock);
}

int mg_login_check(struct mg_login *login, const char *user, const char *password,
                   enum mg_role *role, struct mg_error *err)
{
	struct known known;

	enter(login);
	look_up(login, user, password, &known);
	/* Several connections of one client wait together: the first one's check serves all. */
	int code = 0;

	if (!known.exists || !remembers(login, known.id)) {
		code = mg_password_verify(known.exists ? known.argon2id : login->nobody, password, err);
		code = code || known.exists ? code : MG_E_AUTH;
		if (!code) {
			remember(login, known.id);
		}
	}
	leave(login);
	if (code == MG_E_AUTH) {
		return mg_error_set(err, MG_E_AUTH, "wrong user or password for \"%.64s\"", user);
	}
	if (!code) {
		*role = known.role;
	}
	return code;
}

int mg_login_certificate(struct mg_login *login, const char *name, enum mg_role *role,
                         struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(login->catalog);
	const struct mg_user *user = mg_catalog_find_user(data, name);

	*role = user != NULL ? user->role : MG_ROLE_NONE;
	mg_catalog_give(login->catalog, data);
	if (user == NULL) {
		(void)mg_error_set(err, MG_E_AUTH, "the certificate names \"%s\", who is no user", name);
		mg_error_hint(err, "Its common name must be a user's: merganser cert client --common-name "
		                   "USER, or make that user.");
		return MG_E_AUTH;
	}
	return 0;
}
