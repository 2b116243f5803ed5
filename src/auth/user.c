/*
 * user.c - users in the catalog: made, changed, dropped.
 *
 * Rule: a cluster always keeps an admin; the last one can be neither dropped nor made less.
 * A name must fit Basic authentication (no colon) and a terminal (no control characters).
 *
 * Thread: any; blocks for the hash (before the catalog's lock is taken) and for the catalog's save.
 */
#include <string.h>

#include "auth/auth.h"

enum { NAME_MAX_BYTES = 63 };

struct change {
	const char *name;
	enum mg_role role;
	const char *argon2id, *scram;
	bool replace;
};

static int check_name(const char *name, struct mg_error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_BYTES || !mg_utf8_valid(name, len)) {
		return mg_error_set(err, MG_E_USAGE, "a user's name has 1 to %d bytes of UTF-8",
		                    NAME_MAX_BYTES);
	}
	for (const char *c = name; *c != '\0'; c++) {
		if (*c == ':' || (unsigned char)*c < 0x20 || *c == 0x7f) {
			return mg_error_set(err, MG_E_USAGE,
			                    "a user's name has no colon and no control characters");
		}
	}
	return 0;
}

static bool is_last_admin(const struct mg_catalog_data *data, const struct mg_user *user)
{
	size_t admins = 0;

	for (size_t i = 0; i < data->user_count; i++) {
		admins += data->users[i].role == MG_ROLE_ADMIN;
	}
	return user->role == MG_ROLE_ADMIN && admins == 1;
}

static int keep_admin(const char *name, struct mg_error *err)
{
	(void)mg_error_set(err, MG_E_DENIED, "user \"%s\" is the last admin of the cluster", name);
	mg_error_hint(err, "Make another user admin first.");
	return MG_E_DENIED;
}

static struct mg_user *find(struct mg_catalog_data *data, const char *name)
{
	for (size_t i = 0; i < data->user_count; i++) {
		if (strcmp(data->users[i].name, name) == 0) {
			return &data->users[i];
		}
	}
	return NULL;
}

static int create(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                  struct mg_error *err)
{
	const struct change *change = arg;
	struct mg_user *user = find(data, change->name);

	if (user != NULL && !change->replace) {
		return mg_error_set(err, MG_E_DUPLICATE, "user \"%s\" is there already", change->name);
	}
	if (user != NULL && change->role != MG_ROLE_ADMIN && is_last_admin(data, user)) {
		return keep_admin(change->name, err);
	}
	if (user == NULL && change->argon2id == NULL) {
		return mg_error_set(err, MG_E_USAGE, "user \"%s\" needs a password", change->name);
	}
	if (user == NULL) {
		struct mg_user *users = mg_arena_new_array(arena, struct mg_user, data->user_count + 1);

		if (data->user_count > 0) {
			memcpy(users, data->users, data->user_count * sizeof *users);
		}
		data->users = users;
		user = &users[data->user_count++];
		user->name = mg_arena_strdup(arena, change->name);
	}
	user->role = change->role;
	if (change->argon2id != NULL) {
		user->argon2id = mg_arena_strdup(arena, change->argon2id);
		user->scram = mg_arena_strdup(arena, change->scram);
	}
	return 0;
}

int mg_user_create(struct mg_catalog *catalog, const char *name, const char *password,
                   enum mg_role role, bool replace, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct change change = { .name = name, .role = role, .replace = replace };
	int status = check_name(name, err);

	if (status == 0 && role == MG_ROLE_NONE) {
		status = mg_error_set(err, MG_E_USAGE, "user \"%s\" needs a role", name);
	}
	if (status == 0 && password != NULL) {
		status = mg_password_hash(arena, password, &change.argon2id, &change.scram, err);
	}
	if (status == 0) {
		status = mg_catalog_change(catalog, create, &change, err);
	}
	mg_arena_free(arena);
	return status;
}

static int drop(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                struct mg_error *err)
{
	const char *name = arg;
	struct mg_user *user = find(data, name);

	if (user == NULL) {
		return mg_error_set(err, MG_E_NOT_FOUND, "there is no user \"%s\"", name);
	}
	if (is_last_admin(data, user)) {
		return keep_admin(name, err);
	}
	struct mg_user *users = mg_arena_new_array(arena, struct mg_user, data->user_count);
	size_t index = (size_t)(user - data->users);
	size_t count = 0;

	for (size_t i = 0; i < data->user_count; i++) {
		if (i != index) {
			users[count++] = data->users[i];
		}
	}
	data->users = users;
	data->user_count = count;
	return 0;
}

int mg_user_drop(struct mg_catalog *catalog, const char *name, struct mg_error *err)
{
	return mg_catalog_change(catalog, drop, (void *)name, err);
}
