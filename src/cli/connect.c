/*
 * connect.c - finds out where a client command goes and as whom.
 *
 * Order: what is named wins; else the cluster that lives in this folder.  Its node.json says where
 * it listens and its catalog who its admin is, so `merganser sql` beside a data directory asks
 * for a password at most.
 */
#include "cli/connect.h"

#include "auth/auth.h"
#include "base/json.h"
#include "catalog/catalog.h"
#include "os/file.h"
#include "os/tty.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_FILE_MAX (1u << 20)

const struct mg_option mg_options_connection[] = {
	{ .name = "url", .kind = MG_O_TEXT, .value = "URL",
	  .help = "server to ask: https://HOST:PORT (default https://localhost:8765); of several with "
	          "commas between, the first that answers" },
	{ .name = "username", .alias = "u user", .kind = MG_O_TEXT, .value = "NAME",
	  .help = "log in as NAME (default: whom --tls-cert names, or the admin of the cluster in this "
	          "folder)" },
	{ .name = "password", .kind = MG_O_SECRET,
	  .help = "its password; asked for when missing; better in MERGANSER_PASSWORD" },
	{ .name = "password-file", .kind = MG_O_TEXT, .value = "FILE",
	  .help = "read the password from the first line of FILE" },
	{ .name = "tls-roots", .kind = MG_O_TEXT, .value = "CA.crt",
	  .help = "trust this CA: tls/ca.crt of the cluster's data directory" },
	MG_OPTIONS_CERT,
	{ .name = "insecure-skip-verify", .alias = "k", .kind = MG_O_FLAG,
	  .help = "take any certificate; somebody may listen" },
	{ .name = "connect-timeout", .kind = MG_O_MS, .fallback = "10s", .help = "give up connecting" },
	{ .name = "timeout", .kind = MG_O_MS, .fallback = "0",
	  .help = "cancel a statement that takes longer; 0: never" },
	{ 0 },
};

/* ---- a cluster of this machine --------------------------------------------------------------- */

static char *local_url(const char *data_dir)
{
	char *path = mg_path_join(data_dir, "node.json"), *text = NULL, *url = NULL;
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json;
	size_t size;

	if (mg_file_read(path, NODE_FILE_MAX, &text, &size, NULL) == 0 &&
	    mg_json_parse(arena, text, size, &json, NULL) == 0) {
		const char *listen = mg_json_get_text(json, "listen");
		const char *port = listen ? strrchr(listen, ':') : NULL;

		if (port) {
			url = mg_format("https://localhost%s", port);
		}
	}
	mg_free(text);
	mg_free(path);
	mg_arena_free(arena);
	return url;
}

static char *local_admin(const char *data_dir)
{
	struct mg_catalog *catalog = NULL;
	const struct mg_catalog_data *data;
	char *name = NULL;

	if (mg_catalog_load(&catalog, data_dir, NULL)) {
		return NULL;
	}
	data = mg_catalog_take(catalog);
	for (size_t i = 0; i < data->user_count && !name; i++) {
		name = data->users[i].role == MG_ROLE_ADMIN ? mg_strdup(data->users[i].name) : NULL;
	}
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
	return name;
}

static bool is_local(const char *url)
{
	struct mg_url parsed;

	return mg_url_parse(url, &parsed, NULL) == 0 &&
	       (strcmp(parsed.host, "localhost") == 0 || strcmp(parsed.host, "::1") == 0 ||
	        strncmp(parsed.host, "127.", 4) == 0);
}

static void find_local(struct mg_connection *connection)
{
	const char *data_dir = getenv("MERGANSER_DATA_DIR");
	char *ca;

	if (!data_dir || !*data_dir) {
		data_dir = "merganser-data";
	}
	if (!mg_dir_exists(data_dir) || (connection->url && !is_local(connection->url))) {
		return;
	}
	ca = mg_format("%s/tls/ca.crt", data_dir);
	if (!connection->url) {
		connection->url = local_url(data_dir);
	}
	if (!connection->user) {
		connection->user = local_admin(data_dir);
	}
	if (!connection->roots && mg_file_exists(ca)) {
		connection->roots = ca;
		ca = NULL;
	}
	mg_free(ca);
}

/* ---- reading the options --------------------------------------------------------------------- */

static char *copy(const char *text)
{
	return text ? mg_strdup(text) : NULL;
}

int mg_cli_key_password(const struct mg_options *options, char **out, struct mg_error *err)
{
	const char *cert = mg_options_text(options, "tls-cert");
	const char *key = mg_options_text(options, "tls-key");

	*out = NULL;
	if (!cert && key) {
		mg_error_set(err, MG_E_USAGE, "--tls-key \"%s\" was given without --tls-cert", key);
		return MG_E_USAGE;
	}
	if (!cert || !mg_tls_key_encrypted(key ? key : cert)) {
		return 0;
	}
	return mg_options_secret(options, "tls-key-password", "passphrase of the key", out, err);
}

int mg_cli_cert_user(const char *cert, char **user, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	const char *name;
	int code = mg_cert_common_name(arena, cert, &name, err);

	if (code == 0 && *user && strcmp(*user, name) != 0) {
		mg_error_set(err, MG_E_USAGE, "the certificate \"%s\" logs in \"%s\", not \"%s\"", cert,
		             name, *user);
		mg_error_hint(err, "Leave --username out, or take the certificate of \"%s\".", *user);
		code = MG_E_USAGE;
	} else if (code == 0 && !*user) {
		*user = mg_strdup(name);
	}
	mg_arena_free(arena);
	return code;
}

static int find_password(struct mg_connection *connection, const struct mg_options *options,
                         struct mg_error *err)
{
	char *prompt = mg_format("password for %s", connection->user);
	int code = mg_options_secret(options, "password", connection->cert ? NULL : prompt,
	                             &connection->password, err);

	mg_free(prompt);
	if (code == 0 && !connection->password && !connection->cert) {
		mg_error_set(err, MG_E_USAGE, "no password for user \"%s\"", connection->user);
		mg_error_hint(err, "Give it in MERGANSER_PASSWORD or with --password-file FILE.");
		return MG_E_USAGE;
	}
	return code;
}

int mg_connection_read(struct mg_connection *connection, const struct mg_options *options,
                       const char *url_argument, struct mg_error *err)
{
	const char *url = url_argument ? url_argument : mg_options_text(options, "url");

	*connection = (struct mg_connection){
		.url = copy(url),
		.user = copy(mg_options_text(options, "username")),
		.roots = copy(mg_options_text(options, "tls-roots")),
		.cert = copy(mg_options_text(options, "tls-cert")),
		.key = copy(mg_options_text(options, "tls-key")),
		.insecure = mg_options_flag(options, "insecure-skip-verify"),
		.connect_timeout_ms = mg_options_int(options, "connect-timeout"),
		.statement_timeout_ms = mg_options_int(options, "timeout"),
	};
	if (mg_cli_key_password(options, &connection->key_password, err) ||
	    (connection->cert && mg_cli_cert_user(connection->cert, &connection->user, err))) {
		return err ? err->code : MG_E_USAGE;
	}
	find_local(connection);
	if (!connection->url) {
		connection->url = mg_strdup("https://localhost:8765");
	}
	if (!connection->user) {
		const char *user = getenv("USER");

		connection->user = mg_strdup(user && *user ? user : "admin");
	}
	if (mg_url_check(connection->url, err)) {
		return MG_E_USAGE;
	}
	if (connection->roots && !mg_file_exists(connection->roots)) {
		return mg_error_set(err, MG_E_USAGE, "there is no file \"%s\" for --tls-roots",
		                    connection->roots);
	}
	return find_password(connection, options, err);
}

void mg_connection_fini(struct mg_connection *connection)
{
	if (connection->password) {
		explicit_bzero(connection->password, strlen(connection->password));
	}
	mg_free(connection->url);
	mg_free(connection->user);
	mg_free(connection->password);
	mg_free(connection->roots);
	mg_free(connection->cert);
	mg_free(connection->key);
	if (connection->key_password) {
		explicit_bzero(connection->key_password, strlen(connection->key_password));
	}
	mg_free(connection->key_password);
	*connection = (struct mg_connection){ 0 };
}

struct mg_client_options mg_connection_client_options(const struct mg_connection *connection)
{
	return (struct mg_client_options){
		.size = sizeof(struct mg_client_options),
		.url = connection->url,
		.user = connection->user,
		.password = connection->password,
		.tls_roots = connection->roots,
		.tls_cert = connection->cert,
		.tls_key = connection->key,
		.tls_key_password = connection->key_password,
		.insecure_skip_verify = connection->insecure,
		.connect_timeout_ms = connection->connect_timeout_ms,
		.statement_timeout_ms = connection->statement_timeout_ms,
	};
}

struct mg_endpoint mg_connection_endpoint(const struct mg_connection *connection)
{
	return (struct mg_endpoint){
		.url = connection->url,
		.user = connection->user,
		.password = connection->password,
		.tls = {
			.roots_file = connection->roots,
			.insecure_skip_verify = connection->insecure,
			.cert_file = connection->cert,
			.key_file = connection->key,
			.key_password = connection->key_password,
		},
		.timeout_ms = connection->connect_timeout_ms,
		.wake_fd = -1,
	};
}

/* ---- errors ---------------------------------------------------------------------------------- */

bool mg_cli_color(int fd)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return (!no_color || !*no_color) && mg_tty_is(fd) && !(term && strcmp(term, "dumb") == 0);
}

void mg_cli_print_error(const struct mg_error *err)
{
	bool color = mg_cli_color(2);
	const char *state = err->sqlstate;

	fprintf(stderr, "%serror%s%s%s:%s %s\n", color ? "\033[31;1m" : "", *state ? " " : "", state,
	        "", color ? "\033[0m" : "", err->message);
	if (strchr(err->detail, '\n')) {
		fprintf(stderr, "%s\n", err->detail);      /* DuckDB's line with its caret */
	} else if (err->detail[0]) {
		fprintf(stderr, "  detail: %s\n", err->detail);
	}
	if (err->node[0] || err->shard) {
		fprintf(stderr, "  at: node \"%s\"", err->node);
		if (err->shard) {
			fprintf(stderr, ", shard %u", err->shard);
		}
		fputc('\n', stderr);
	}
	if (err->hint[0]) {
		fprintf(stderr, "  hint: %s\n", err->hint);
	}
}

int mg_cli_fail(const struct mg_error *err)
{
	struct mg_error shown = *err;

	shown.sqlstate[0] = '\0';
	mg_cli_print_error(&shown);
	switch (err->code) {
	case MG_E_CONNECT:
	case MG_E_DISCONNECTED:
	case MG_E_AUTH:
	case MG_E_PROTOCOL: return 2;
	case MG_E_CANCELLED:
	case MG_E_TIMEOUT: return 4;
	default: return 1;
	}
}

int mg_cli_fail_connect(const struct mg_error *err)
{
	int exit_code = mg_cli_fail(err);

	return err->code == MG_E_DENIED ? 2 : exit_code;
}
