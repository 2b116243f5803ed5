/*
 * cmd_user.c - users in a data directory: create, alter, drop, list, check.
 *
 * These work on the directory itself, which is locked meanwhile, so its server must be down; check
 * and list only read and need no lock.
 */
#include "auth/auth.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "os/file.h"

#include <stdio.h>
#include <string.h>

static const char *const role_names[] = { "none", "client", "worker", "admin" };

static enum mg_role role_of(const char *name)
{
	for (int i = 0; i < 4; i++) {
		if (strcmp(role_names[i], name) == 0) {
			return (enum mg_role)i;
		}
	}
	return MG_ROLE_NONE;
}

static int load(const struct mg_options *options, struct mg_catalog **catalog, struct mg_error *err)
{
	const char *dir = mg_options_text(options, "data-dir");
	int code = mg_catalog_load(catalog, dir, err);

	if (code == MG_E_NOT_FOUND) {
		mg_error_set(err, MG_E_NOT_FOUND, "there is no cluster in \"%s\"", dir);
		mg_error_hint(err, "`merganser bootstrap` makes one; --data-dir names another folder.");
	}
	return code;
}

/* The user's name: the argument, or --username. */
static int name_of(const struct mg_options *options, const char **name, struct mg_error *err)
{
	*name = mg_options_argument(options, 0);
	if (!*name) {
		*name = mg_options_text(options, "username");
	}
	return *name ? 0 : mg_error_set(err, MG_E_USAGE, "which user?  A name is missing");
}

static int set_user(const struct mg_options *options, struct mg_catalog *catalog, const char *name,
                    bool alter, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	const struct mg_user *user = mg_catalog_find_user(data, name);
	enum mg_role role = role_of(mg_options_text(options, "role"));
	bool role_given = mg_options_given(options, "role");
	char *password = NULL;
	int code;

	if (alter && user && !role_given) {
		role = user->role;
	}
	mg_catalog_give(catalog, data);
	if (alter && !user) {
		return mg_error_set(err, MG_E_NOT_FOUND, "there is no user \"%s\"", name);
	}
	if (!alter && user) {
		return mg_error_set(err, MG_E_DUPLICATE, "user \"%s\" is there already", name);
	}
	code = mg_options_secret(options, "password", alter && role_given ? NULL : "new password",
	                         &password, err);
	if (code == 0 && !password && !(alter && role_given)) {
		mg_error_set(err, MG_E_USAGE, "no password for user \"%s\"", name);
		mg_error_hint(err, "Give it in MERGANSER_PASSWORD or with --password-file FILE.");
		code = MG_E_USAGE;
	}
	if (code == 0) {
		code = mg_user_create(catalog, name, password, role, alter, err);
	}
	if (password) {
		explicit_bzero(password, strlen(password));
	}
	mg_free(password);
	return code;
}

enum change { CREATE, ALTER, DROP };

static int change_user(const struct mg_options *options, enum change change)
{
	struct mg_catalog *catalog = NULL;
	struct mg_error err = { 0 };
	const char *name;
	int lock = -1, code = name_of(options, &name, &err);

	/* A folder that is not there must not be made by its lock. */
	if (code == 0 && mg_dir_exists(mg_options_text(options, "data-dir"))) {
		code = mg_dir_lock(mg_options_text(options, "data-dir"), &lock, &err);
	}
	if (code == 0) {
		code = load(options, &catalog, &err);
	}
	if (code == 0 && change == DROP) {
		code = mg_user_drop(catalog, name, &err);
	} else if (code == 0) {
		code = set_user(options, catalog, name, change == ALTER, &err);
	}
	mg_catalog_free(catalog);
	mg_dir_unlock(lock);
	return code ? mg_cli_fail(&err) : 0;
}

int mg_command_user_create(const struct mg_options *options)
{
	return change_user(options, CREATE);
}

int mg_command_user_alter(const struct mg_options *options)
{
	return change_user(options, ALTER);
}

int mg_command_user_drop(const struct mg_options *options)
{
	return change_user(options, DROP);
}

int mg_command_user_list(const struct mg_options *options)
{
	const char *format = mg_options_text(options, "format");
	struct mg_catalog *catalog = NULL;
	const struct mg_catalog_data *data;
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	if (load(options, &catalog, &err)) {
		return mg_cli_fail(&err);
	}
	data = mg_catalog_take(catalog);
	for (size_t i = 0; i < data->user_count; i++) {
		const struct mg_user *user = &data->users[i];

		if (strcmp(format, "json") == 0) {
			mg_sb_add(&out, i ? "," : "[");
			mg_sb_add(&out, "{\"name\":");
			mg_sb_add_json(&out, user->name, strlen(user->name));
			mg_sb_addf(&out, ",\"role\":\"%s\"}", role_names[user->role]);
		} else {
			mg_sb_addf(&out, "%-24s %s\n", user->name, role_names[user->role]);
		}
	}
	if (strcmp(format, "json") == 0) {
		mg_sb_add(&out, data->user_count ? "]\n" : "[]\n");
	}
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
	fputs(mg_sb_text(&out), stdout);
	mg_sb_fini(&out);
	return 0;
}

static int tell_check(const char *name, bool right, const char *role)
{
	fprintf(right ? stdout : stderr, "user \"%s\": %s\n", name,
	        right ? role : "wrong user or password");
	return right ? 0 : 1;
}

/* A user of role worker may not use the shell's door, but is told so only with the right password.
 */
static int check_online(const struct mg_options *options, const char *name)
{
	struct mg_connection connection = { 0 };
	struct mg_client_options client_options;
	struct mg_error err = { 0 };
	mg_client *client = NULL;
	int code = mg_connection_read(&connection, options, NULL, &err);

	if (code == 0) {
		mg_free(connection.user);
		connection.user = mg_strdup(name);
		client_options = mg_connection_client_options(&connection);
		code = mg_client_connect(&client, &client_options);
		if (code) {
			err = *mg_client_failure(client);
		}
		mg_client_close(client);
	}
	mg_connection_fini(&connection);
	if (code == 0 || code == MG_E_AUTH || code == MG_E_DENIED) {
		return tell_check(name, code != MG_E_AUTH, code == 0 ? "right" : "right (a worker)");
	}
	return mg_cli_fail(&err);
}

static int check_directory(const struct mg_options *options, const char *name)
{
	struct mg_catalog *catalog = NULL;
	const struct mg_catalog_data *data;
	const struct mg_user *user;
	struct mg_error err = { 0 };
	char *password = NULL;
	int exit_code;

	if (load(options, &catalog, &err) ||
	    mg_options_secret(options, "password", "password", &password, &err)) {
		mg_catalog_free(catalog);
		return mg_cli_fail(&err);
	}
	data = mg_catalog_take(catalog);
	user = mg_catalog_find_user(data, name);
	int code =
		user && password ? mg_password_verify(user->argon2id, password, &err) : MG_E_AUTH;

	exit_code = code == MG_E_NOMEM
	                ? mg_cli_fail(&err)
	                : tell_check(name, code == 0, user ? role_names[user->role] : "");
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
	mg_free(password);
	return exit_code;
}

int mg_command_user_check(const struct mg_options *options)
{
	struct mg_error err = { 0 };
	const char *name;

	if (name_of(options, &name, &err)) {
		return mg_cli_fail(&err);
	}
	if (mg_options_given(options, "url") ||
	    (!mg_options_given(options, "data-dir") &&
	     !mg_dir_exists(mg_options_text(options, "data-dir")))) {
		return check_online(options, name);
	}
	return check_directory(options, name);
}
