/*
 * cmd_node.c - `server` and `worker`: from options to the structs of src/server.
 */
#include "catalog/catalog.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "os/file.h"
#include "os/granted.h"
#include "server/server.h"
#include "server/worker.h"

#include <string.h>

#define SETTINGS_MAX 64 /* as many as a command may have options */

#define LOG_OPTIONS \
	{ .name = "log-level", .kind = MG_O_CHOICE, .choices = "debug|info|warn|error|off", \
	  .fallback = "info", .help = "what is logged" }, \
	{ .name = "log-format", .kind = MG_O_CHOICE, .choices = "text|json", .fallback = "text", \
	  .help = "logfmt or JSON lines" }, \
	{ .name = "log-file", .kind = MG_O_TEXT, .value = "FILE", \
	  .help = "where the log goes (default: standard error)" }

const struct mg_option mg_options_server[] = {
	MG_OPTION_DATA_DIR("dir", "made when missing; also as the last word"),
	{ .name = "listen",
	  .alias = "http",
	  .kind = MG_O_ADDRESS,
	  .fallback = "0.0.0.0:8765",
	  .help = "the one port of all protocols" },
	{ .name = "listen-http", .kind = MG_O_ADDRESS, .help = "a second port, for HTTP alone" },
	{ .name = "listen-redis",
	  .kind = MG_O_ADDRESS,
	  .help = "a port for Redis clients alone, as 127.0.0.1:6379" },
	{ .name = "advertise",
	  .kind = MG_O_ADDRESS,
	  .help = "the address others are told (default: --listen)" },
	{ .name = "node-id",
	  .alias = "id",
	  .kind = MG_O_TEXT,
	  .value = "NAME",
	  .help = "name of this node (default: as before, or server-1)" },
	{ .name = "raft", .kind = MG_O_ADDRESS, .help = "an extra port for other servers" },
	{ .name = "join",
	  .alias = "leader",
	  .kind = MG_O_TEXT,
	  .value = "HOST:PORT,...",
	  .help = "with an empty DIR: enter the cluster of these servers" },
	{ .name = "join-timeout",
	  .kind = MG_O_MS,
	  .fallback = "1m",
	  .help = "how long to try while none of them answers" },
	{ .name = "checksum-interval",
	  .kind = MG_O_MS,
	  .fallback = "1h",
	  .help = "how often the replicas of each shard are compared, at leisure; 0: never" },
	{ .name = "dead-after",
	  .kind = MG_O_MS,
	  .min = 1000,
	  .max = 30ull * 86400 * 1000,
	  .fallback = "5m",
	  .help = "a server that is away for so long loses its votes to others that are there" },
	{ .name = "tls-roots",
	  .kind = MG_O_TEXT,
	  .value = "CA.crt",
	  .help = "the CA of the cluster to join" },
	MG_OPTION_PASSWORD("password", NULL, "its join password"),
	{ .name = "client-ca",
	  .kind = MG_O_TEXT,
	  .value = "CA.crt",
	  .help = "log clients in by certificates of this CA (default: tls/ca.crt of DIR)" },
	{ .name = "require-client-cert",
	  .kind = MG_O_FLAG,
	  .help = "every login needs a client certificate; a password alone is refused" },
	{ .name = "tls-key-password",
	  .kind = MG_O_SECRET,
	  .help = "passphrase of tls/server.key when it is encrypted" },
	{ .name = "tls-key-password-file",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .help = "read it from the first line of FILE" },
	MG_OPTION_THREADS("of the engine; 0: what the machine gives"),
	{ .name = "loops",
	  .kind = MG_O_INT,
	  .max = 16,
	  .fallback = "0",
	  .help = "threads of the network; 0: by the machine" },
	MG_OPTION_MEMORY("of the engine; 0: 75 % of what the machine or container gives"),
	{ .name = "query-memory-limit",
	  .kind = MG_O_SIZE,
	  .fallback = "0",
	  .help = "of one query; 0: an eighth of that" },
	{ .name = "changes-retention",
	  .kind = MG_O_SIZE,
	  .fallback = "512MiB",
	  .help = "of tables' changes, kept in the data directory for who follows them; 0: none" },
	{ .name = "no-read-leases",
	  .kind = MG_O_FLAG,
	  .help = "each linearizable read asks a majority: for machines whose clocks are not to be "
	          "trusted" },
	{ .name = "python",
	  .kind = MG_O_TEXT,
	  .value = "PROGRAM",
	  .help = "of jobs, with numpy and pyarrow; default: the one that the build has set up, or "
	          "python3" },
	{ .name = "no-jobs",
	  .kind = MG_O_FLAG,
	  .help = "run no code of users, not even confined" },
	{ .name = "copy-path",
	  .kind = MG_O_TEXT,
	  .value = "DIR[:DIR]",
	  .between = ':',
	  .help = "COPY ... FROM 'path' may read files in these directories of this server; may be "
	          "repeated" },
	{ .name = "copy-path-write",
	  .kind = MG_O_TEXT,
	  .value = "DIR[:DIR]",
	  .between = ':',
	  .help = "COPY ... TO 'path' may make and replace files in these; COPY ... FROM reads them "
	          "only when --copy-path names them, too; may be repeated" },
	{ .name = "write-memory",
	  .kind = MG_O_SIZE,
	  .fallback = "32MiB",
	  .help = "of the rows of one statement that writes: more go to the shards in parts; at most "
	          "32MiB" },
	{ .name = "max-queries",
	  .kind = MG_O_INT,
	  .max = 10000,
	  .fallback = "0",
	  .help = "that run at once, others wait; 0: twice the threads" },
	{ .name = "idle-timeout",
	  .kind = MG_O_MS,
	  .fallback = "10m",
	  .help = "close a connection without a byte" },
	{ .name = "max-message-size",
	  .alias = "max-websocket-message-size",
	  .kind = MG_O_SIZE,
	  .min = 64 << 10,
	  .max = 1 << 30,
	  .fallback = "16MiB",
	  .help = "of a client's WebSocket message, 64KiB to 1GiB; workers may always send 16MiB" },
	{ .name = "ping-timeout",
	  .alias = "websocket-ping-timeout",
	  .kind = MG_O_MS,
	  .min = 1000,
	  .max = 86400000,
	  .fallback = "90s",
	  .help = "end the channel of a client that answers no ping for so long" },
	{ .name = "worker-ping-timeout",
	  .kind = MG_O_MS,
	  .min = 3000,
	  .max = 600000,
	  .fallback = "7s",
	  .help = "the same for a worker; its shards are then computed elsewhere" },
	{ .name = "insecure-plaintext",
	  .kind = MG_O_CHOICE,
	  .choices = "loopback|any|off",
	  .bare = "loopback",
	  .fallback = "off",
	  .help = "also serve without TLS, on loopback or anywhere" },
	LOG_OPTIONS,
	{ 0 },
};

const struct mg_option mg_options_worker[] = {
	{ .name = "server",
	  .kind = MG_O_TEXT,
	  .value = "HOST:PORT,...",
	  .fallback = "localhost:8765",
	  .help = "any servers of the cluster; it goes to the one where it is of use" },
	{ .name = "tls-roots",
	  .kind = MG_O_TEXT,
	  .value = "CA.crt",
	  .help = "trust this CA: tls/ca.crt of the server's data directory" },
	{ .name = "insecure-skip-verify", .kind = MG_O_FLAG, .help = "take any certificate" },
	MG_OPTIONS_CERT,
	{ .name = "username",
	  .kind = MG_O_TEXT,
	  .value = "NAME",
	  .help = "log in as NAME (default: whom --tls-cert names, or worker)" },
	MG_OPTION_PASSWORD("password", NULL, "its password; better in MERGANSER_PASSWORD"),
	{ .name = "node-id",
	  .alias = "name id",
	  .kind = MG_O_TEXT,
	  .value = "NAME",
	  .help = "name of this worker (default: worker- and the host's name)" },
	{ .name = "cache-dir",
	  .kind = MG_O_TEXT,
	  .value = "DIR",
	  .help = "where copies of shards lie (default: merganser/shards in XDG_CACHE_HOME)" },
	{ .name = "cache-size",
	  .kind = MG_O_SIZE,
	  .fallback = "0",
	  .help = "of all copies there; 0: half of what the disk has free" },
	MG_OPTION_THREADS("0: what the machine gives, shared with other nodes on it"),
	MG_OPTION_MEMORY("0: 75 % of what the machine or container gives"),
	{ .name = "max-message-size",
	  .alias = "max-websocket-message-size",
	  .kind = MG_O_SIZE,
	  .min = 16 << 20,
	  .max = 1 << 30,
	  .fallback = "16MiB",
	  .help = "of one WebSocket message of the server, up to 1GiB" },
	{ .name = "ping-timeout",
	  .alias = "websocket-ping-timeout",
	  .kind = MG_O_MS,
	  .min = 3000,
	  .max = 600000,
	  .fallback = "15s",
	  .help = "dial again when the server shows no sign of life for so long" },
	LOG_OPTIONS,
	{ 0 },
};

static struct mg_log_options log_options(const struct mg_options *options)
{
	struct mg_log_options log = {
		.json = strcmp(mg_options_text(options, "log-format"), "json") == 0,
		.path = mg_options_text(options, "log-file"),
		.node = mg_options_text(options, "node-id"),
	};

	mg_log_level_parse(mg_options_text(options, "log-level"), &log.level);
	return log;
}

static void free_secret(char *secret)
{
	if (secret) {
		explicit_bzero(secret, strlen(secret));
	}
	mg_free(secret);
}

/* All options as they stand, for cluster.settings. */
static size_t list_settings(const struct mg_options *options, struct mg_server_setting *settings)
{
	struct mg_option_state state;
	size_t count = 0;

	while (count < SETTINGS_MAX && mg_options_at(options, count, &state)) {
		settings[count++] = (struct mg_server_setting){
			.name = state.name,
			.value = state.value,
			.standard = state.fallback,
			.source = state.source,
			.description = state.help,
		};
	}
	return count;
}

int mg_command_server(const struct mg_options *options)
{
	const char *plain = mg_options_text(options, "insecure-plaintext");
	struct mg_server_options server = {
		.data_dir = mg_options_text(options, "data-dir"),
		.listen = mg_options_text(options, "listen"),
		.listen_http = mg_options_text(options, "listen-http"),
		.listen_redis = mg_options_text(options, "listen-redis"),
		.advertise = mg_options_text(options, "advertise"),
		.node_id = mg_options_text(options, "node-id"),
		.listen_peers = mg_options_text(options, "raft"),
		.join = mg_options_text(options, "join"),
		.tls_roots = mg_options_text(options, "tls-roots"),
		.join_timeout_ms = mg_options_int(options, "join-timeout"),
		.check_ms = mg_options_int(options, "checksum-interval"),
		.dead_after_ms = mg_options_int(options, "dead-after"),
		.threads = (unsigned)mg_options_int(options, "threads"),
		.loops = (unsigned)mg_options_int(options, "loops"),
		.memory_bytes = mg_options_int(options, "memory-limit"),
		.query_memory_bytes = mg_options_int(options, "query-memory-limit"),
		.changes_bytes = mg_options_int(options, "changes-retention"),
		.no_leases = mg_options_flag(options, "no-read-leases"),
		.python = mg_options_text(options, "python"),
		.no_jobs = mg_options_flag(options, "no-jobs"),
		.copy_paths = mg_options_text(options, "copy-path"),
		.copy_paths_write = mg_options_text(options, "copy-path-write"),
		.write_bytes = mg_options_int(options, "write-memory"),
		.queries_max = (unsigned)mg_options_int(options, "max-queries"),
		.idle_ms = mg_options_int(options, "idle-timeout"),
		.message_max = mg_options_int(options, "max-message-size"),
		.ping_timeout_ms = mg_options_int(options, "ping-timeout"),
		.worker_timeout_ms = mg_options_int(options, "worker-ping-timeout"),
		.plain_loopback = strcmp(plain, "off") != 0,
		.plain_any = strcmp(plain, "any") == 0,
		.client_ca = mg_options_text(options, "client-ca"),
		.require_client_cert = mg_options_flag(options, "require-client-cert"),
		.log = log_options(options),
	};
	struct mg_server_setting settings[SETTINGS_MAX];
	struct mg_error err = { 0 };
	char *key = mg_path_join(server.data_dir, "tls/server.key"), *key_password = NULL;
	char *join_password = NULL;
	int exit_code;

	server.settings = settings;
	server.setting_count = list_settings(options, settings);
	if (mg_granted_check(server.copy_paths, &err) ||
	    mg_granted_check(server.copy_paths_write, &err)) {
		exit_code = mg_cli_fail(&err);
	} else if (mg_tls_key_encrypted(key) &&
	           mg_options_secret(options, "tls-key-password", "passphrase of the server's key",
	                             &key_password, &err)) {
		exit_code = mg_cli_fail(&err);
	} else if (server.join && !mg_catalog_exists(server.data_dir) &&
	           mg_options_secret(options, "password", "join password", &join_password, &err)) {
		exit_code = mg_cli_fail(&err);
	} else {
		server.join_password = join_password;
		server.tls_key_password = key_password;
		exit_code = mg_server_main(&server);
	}
	free_secret(join_password);
	free_secret(key_password);
	mg_free(key);
	return exit_code;
}

int mg_command_worker(const struct mg_options *options)
{
	const char *cert = mg_options_text(options, "tls-cert");
	const char *given = mg_options_text(options, "username");
	struct mg_error err = { 0 };
	char *password = NULL, *key_password = NULL, *user = given ? mg_strdup(given) : NULL;
	int exit_code, code = mg_cli_key_password(options, &key_password, &err);

	if (!code && cert) {
		code = mg_cli_cert_user(cert, &user, &err);
	}
	user = user ? user : mg_strdup("worker");
	if (!code) {
		code = mg_options_secret(options, "password", cert ? NULL : "worker's password", &password,
		                         &err);
	}
	if (!code && !password && !cert) {
		code = mg_error_set(&err, MG_E_USAGE, "no password for user \"%s\"", user);
		mg_error_hint(&err, "Give it in MERGANSER_PASSWORD or with --password-file FILE, or a "
		                    "certificate with --tls-cert and --tls-key.");
	}
	exit_code = code ? mg_cli_fail(&err) : mg_worker_main(&(struct mg_worker_options){
		.server = mg_options_text(options, "server"),
		.tls_roots = mg_options_text(options, "tls-roots"),
		.insecure_skip_verify = mg_options_flag(options, "insecure-skip-verify"),
		.tls_cert = cert,
		.tls_key = mg_options_text(options, "tls-key"),
		.tls_key_password = key_password,
		.username = user,
		.password = password,
		.name = mg_options_text(options, "node-id"),
		.cache_dir = mg_options_text(options, "cache-dir"),
		.threads = (unsigned)mg_options_int(options, "threads"),
		.memory_bytes = mg_options_int(options, "memory-limit"),
		.message_max = mg_options_int(options, "max-message-size"),
		.ping_timeout_ms = mg_options_int(options, "ping-timeout"),
		.cache_bytes = mg_options_int(options, "cache-size"),
		.log = log_options(options),
	});
	free_secret(password);
	free_secret(key_password);
	mg_free(user);
	return exit_code;
}
