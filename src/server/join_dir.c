/*
 * join_dir.c - see join_dir.h.
 *
 *   tls/node.key, tls/server.key   made here, never sent; a try that was cut off has left them
 *   POST /join
 *   tls/ca.crt, node.crt, server.crt, node.json
 *   log/catalog.json               from now on the directory is a member's
 */
#include "server/join_dir.h"

#include "auth/auth.h"
#include "catalog/node_table.h"
#include "client/wire.h"
#include "os/clock.h"
#include "os/file.h"
#include "server/join.h"
#include "server/node_file.h"

#include <stdio.h>
#include <string.h>

#define NODE_CERT "tls/node.crt"
#define NODE_KEY "tls/node.key"
#define SERVER_CERT "tls/server.crt"
#define SERVER_KEY "tls/server.key"

enum {
	SEEDS_MAX = 64,
	PAUSE_MIN_MS = 250,
	PAUSE_MAX_MS = 5000,
	CONNECT_TIMEOUT_MS = 5000,
	CA_MAX = 1 << 20,
};

struct joining {
	const struct mg_join_options *options;
	struct mg_arena *arena;
	const char *seeds[SEEDS_MAX];
	size_t seed_count;
	const char *id;
	const char *said[SEEDS_MAX]; /* the last of each seed's troubles that was told */
};

/* What a try makes in the directory. */
static const char *const made[] = { "node.json", "shards", "kv", "log", "tls" };
enum { MADE = sizeof made / sizeof *made };

static char *in_dir(const char *data_dir, const char *name)
{
	return mg_path_join(data_dir, name);
}

/* ---- what is given ---- */

static int read_seeds(struct joining *j, const char *text, struct mg_error *err)
{
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];

	while (*text) {
		size_t len = strcspn(text, ",");
		struct mg_str word = mg_str_trim((struct mg_str){ text, len });

		text += len + (text[len] == ',');
		if (word.len == 0) {
			continue;
		}
		if (j->seed_count == SEEDS_MAX) {
			return mg_error_set(err, MG_E_USAGE, "--join names more than %d servers", SEEDS_MAX);
		}
		const char *seed = mg_arena_strndup(j->arena, word.ptr, word.len);

		if (mg_net_split(seed, host, sizeof host, port, sizeof port, err) || !host[0]) {
			mg_error_set(err, MG_E_USAGE, "--join wants addresses such as db1:8765, not \"%s\"",
			             seed);
			return MG_E_USAGE;
		}
		j->seeds[j->seed_count++] = seed;
	}
	return j->seed_count ? 0
	                     : mg_error_set(err, MG_E_USAGE, "--join names no server of the cluster");
}

/* An address is one node's alone, so a name made of it is, too: "server-10.0.0.2", or on the
 * loopback, where all have the same host, "server-8766". */
static const char *name_of_address(struct mg_arena *arena, const char *address)
{
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];

	if (mg_net_split(address, host, sizeof host, port, sizeof port, NULL)) {
		return "";
	}
	if (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
	    strcmp(host, "::1") == 0) {
		return mg_arena_format(arena, "server-%s", port);
	}
	return mg_arena_format(arena, strcmp(port, "8765") == 0 ? "server-%s" : "server-%s-%s", host,
	                       port);
}

int mg_join_check(const struct mg_join_options *options, struct mg_error *err)
{
	struct joining j = { .options = options, .arena = mg_arena_new() };
	int code = read_seeds(&j, options->seeds, err);
	const char *id = options->node_id ? options->node_id
	                                  : name_of_address(j.arena, options->address);

	if (code == 0 && (!options->password || !*options->password)) {
		code = mg_error_set(err, MG_E_USAGE, "--join needs the cluster's join password");
		mg_error_hint(err, "Give it in MERGANSER_PASSWORD or with --password-file FILE; bootstrap "
		                   "put it into tls/join.secret of the first server's data directory.");
	}
	if (code == 0 && (!options->tls_roots || !*options->tls_roots)) {
		code = mg_error_set(err, MG_E_USAGE, "--join needs the cluster's CA");
		mg_error_hint(err, "Give it with --tls-roots CA.crt or in MERGANSER_TLS_ROOTS: it is "
		                   "tls/ca.crt of any server's data directory.");
	}
	code = code ? code : mg_node_address_check(options->address, err);
	code = code ? code : mg_node_id_check(id, err);
	if (code == 0 && !mg_file_exists(options->tls_roots)) {
		code = mg_error_set(err, MG_E_USAGE, "there is no file \"%s\"", options->tls_roots);
		mg_error_hint(err, "--tls-roots is the cluster's CA: tls/ca.crt of any server's data "
		                   "directory.");
	}
	mg_arena_free(j.arena);
	return code;
}

int mg_join_dir_check(const char *data_dir, const char *tls_roots, struct mg_error *err)
{
	char *ca = in_dir(data_dir, "tls/ca.crt");
	bool other = tls_roots && mg_file_exists(ca) && !mg_cert_file_holds(tls_roots, ca);

	mg_free(ca);
	if (!other) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE,
	             "\"%s\" is the data directory of another cluster: its CA is not in "
	             "\"%s\"",
	             data_dir, tls_roots);
	mg_error_hint(err,
	              "Give an empty --data-dir to enter that cluster; without --join it is started "
	              "as it is.");
	return MG_E_USAGE;
}

/* ---- the keys, and what is asked with them ---- */

int mg_join_requests(const char *data_dir, const char *server_key_name, struct mg_arena *arena,
                     struct mg_join_ask *ask, struct mg_error *err)
{
	char *tls = in_dir(data_dir, "tls");
	char *node_key = in_dir(data_dir, NODE_KEY);
	char *server_key = in_dir(data_dir, server_key_name);
	struct mg_sb node = { 0 }, server = { 0 };
	int code = mg_dir_make(tls, 0700, err);

	code = code ? code : mg_cert_request(node_key, &node, err);
	code = code ? code : mg_cert_request(server_key, &server, err);
	ask->node_request = mg_arena_strdup(arena, mg_sb_text(&node));
	ask->server_request = mg_arena_strdup(arena, mg_sb_text(&server));
	mg_sb_fini(&node);
	mg_sb_fini(&server);
	mg_free(server_key);
	mg_free(node_key);
	mg_free(tls);
	return code;
}

/* ---- what is kept of the answer ---- */

static int check_answer(const char *data_dir, const char *server_key_name,
                        const struct mg_join_answer *answer, struct mg_error *err)
{
	char *node_key = in_dir(data_dir, NODE_KEY);
	char *server_key = in_dir(data_dir, server_key_name);
	int code =
		mg_cert_check_signed(answer->node_certificate, node_key, answer->ca, answer->number, err);

	code = code ? code
	            : mg_cert_check_signed(answer->server_certificate, server_key, answer->ca, 0, err);
	mg_free(server_key);
	mg_free(node_key);
	return code;
}

static int write_text(const char *data_dir, const char *name, const char *text,
                      struct mg_error *err)
{
	char *path = in_dir(data_dir, name);
	int code = mg_file_write(path, text, strlen(text), 0644, err);

	mg_free(path);
	return code;
}

static int write_directory(const struct joining *j, const struct mg_join_answer *answer,
                           struct mg_error *err)
{
	static const char *const dirs[] = { "shards", "kv" };
	const char *data_dir = j->options->data_dir;
	const struct mg_node_file node = { .number = answer->number,
		                               .id = (char *)j->id,
		                               .listen = (char *)j->options->address };
	int code = check_answer(data_dir, SERVER_KEY, answer, err);

	code = code ? code : write_text(data_dir, "tls/ca.crt", answer->ca, err);
	code = code ? code : write_text(data_dir, NODE_CERT, answer->node_certificate, err);
	code = code ? code : write_text(data_dir, SERVER_CERT, answer->server_certificate, err);
	for (size_t i = 0; !code && i < sizeof dirs / sizeof *dirs; i++) {
		char *dir = in_dir(data_dir, dirs[i]);

		code = mg_dir_make(dir, 0700, err);
		mg_free(dir);
	}
	code = code ? code : mg_node_file_write(data_dir, &node, err);
	return code ? code
	            : mg_catalog_install(data_dir, answer->catalog.ptr, answer->catalog.len, err);
}

/* ---- asking ---- */

static void say(struct joining *j, size_t seed, const struct mg_error *err)
{
	if (j->options->say && !mg_text_eq(j->said[seed], err->message)) {
		char *text = mg_format("%s does not let this server in yet: %s; trying again",
		                       j->seeds[seed], err->message);

		j->said[seed] = mg_arena_strdup(j->arena, err->message);
		j->options->say(j->options->arg, text);
		mg_free(text);
	}
}

/* Each seed once; *again: none has refused for good. */
static int ask_round(struct joining *j, const struct mg_join_ask *ask, struct mg_sb *answer,
                     bool *again, struct mg_error *err)
{
	const struct mg_endpoint endpoint = {
		.user = MG_JOIN_USER,
		.password = j->options->password,
		.tls = { .roots_file = j->options->tls_roots },
		.timeout_ms = CONNECT_TIMEOUT_MS,
		.wake_fd = -1,
	};
	size_t untrusted = 0;
	int code = MG_E_INTERNAL;

	*again = true;
	for (size_t i = 0; code && *again && i < j->seed_count; i++) {
		code = mg_join_post(&endpoint, j->seeds[i], ask, answer, again, err);
		if (code && !*again && mg_text_eq(err->sqlstate, MG_CLIENT_UNTRUSTED)) {
			if (!strstr(err->message, "mismatch")) {
				mg_error_hint(err, "--tls-roots must be the CA of the cluster that listens there.");
			}
			*again = ++untrusted < j->seed_count; /* another one may be the right one */
		}
		if (code && *again) {
			say(j, i, err);
		}
	}
	return code;
}

static int ask_until(struct joining *j, const struct mg_join_ask *ask, struct mg_sb *answer,
                     struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + j->options->timeout_ms;
	unsigned pause = PAUSE_MIN_MS;

	for (;;) {
		bool again;
		int code = ask_round(j, ask, answer, &again, err);

		if (code == 0 || !again) {
			return code;
		}
		if (mg_clock_ms() >= until) {
			mg_error_wrap(err, "no server lets this one in");
			if (!err->hint[0]) {
				mg_error_hint(err, "Does one listen there?  --join-timeout is how long to try.");
			}
			return code;
		}
		if (j->options->pause && j->options->pause(j->options->arg, pause)) {
			return mg_error_set(err, MG_E_CANCELLED, "stopped before a server let this one in");
		}
		pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
	}
}

static int join(struct joining *j, struct mg_error *err)
{
	struct mg_join_ask ask = mg_join_ask_of_this_program();
	struct mg_join_answer answer;
	struct mg_sb text = { 0 };

	ask.id = j->id;
	ask.address = j->options->address;
	int code = mg_join_requests(j->options->data_dir, SERVER_KEY, j->arena, &ask, err);

	code = code ? code : ask_until(j, &ask, &text, err);
	if (code == 0) {
		code = mg_join_answer_read(j->arena, (struct mg_str){ mg_sb_text(&text), text.len },
		                           &answer, err);
	}
	code = code ? code : write_directory(j, &answer, err);
	mg_sb_fini(&text);
	return code;
}

static void look_around(const char *data_dir, bool there[MADE])
{
	for (size_t i = 0; i < MADE; i++) {
		char *path = in_dir(data_dir, made[i]);

		there[i] = mg_file_exists(path);
		mg_free(path);
	}
}

/* What was there before stays, whosever it is. */
static void remove_traces(const char *data_dir, const bool there[MADE])
{
	for (size_t i = 0; i < MADE; i++) {
		char *path = in_dir(data_dir, made[i]);

		if (!there[i]) {
			(void)mg_tree_remove(path, NULL);
		}
		mg_free(path);
	}
}

/* A directory that lost its catalog is not empty. */
static int check_empty(const char *data_dir, struct mg_error *err)
{
	char *shard = in_dir(data_dir, "shards/0000.duckdb");
	char *ca_key = in_dir(data_dir, "tls/ca.key");
	bool used = mg_file_exists(shard) || mg_file_exists(ca_key);

	mg_free(ca_key);
	mg_free(shard);
	if (!used) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE, "\"%s\" holds parts of a cluster, but no log/catalog.json",
	             data_dir);
	mg_error_hint(err, "Give an empty --data-dir to enter another one.");
	return MG_E_USAGE;
}

int mg_join_dir_make(const struct mg_join_options *options, struct mg_error *err)
{
	struct joining j = { .options = options, .arena = mg_arena_new() };
	bool there[MADE];
	int code = check_empty(options->data_dir, err);

	look_around(options->data_dir, there);
	if (code == 0) {
		j.id = options->node_id ? options->node_id : name_of_address(j.arena, options->address);
		code = read_seeds(&j, options->seeds, err);
		code = code ? code : join(&j, err);
		if (code) {
			remove_traces(options->data_dir, there);
		}
	}
	mg_arena_free(j.arena);
	return code;
}

/* ---- again, as a member ---- */

static int ask_again(struct joining *j, const struct mg_join_renewal *renewal,
                     const struct mg_join_ask *ask, struct mg_sb *answer, struct mg_error *err)
{
	char *roots = in_dir(renewal->data_dir, "tls/ca.crt");
	char *cert = in_dir(renewal->data_dir, NODE_CERT);
	char *key = in_dir(renewal->data_dir, NODE_KEY);
	const struct mg_endpoint endpoint = {
		.tls = { .roots_file = roots, .any_host = true, .cert_file = cert, .key_file = key },
		.timeout_ms = CONNECT_TIMEOUT_MS,
		.wake_fd = renewal->wake_fd,
	};
	bool transient = true;
	int code = MG_E_INTERNAL;

	for (size_t i = 0; code && transient && i < j->seed_count; i++) {
		code = mg_join_post(&endpoint, j->seeds[i], ask, answer, &transient, err);
		transient = code != MG_E_CANCELLED &&
		            (transient || mg_text_eq(err->sqlstate, MG_CLIENT_UNTRUSTED));
	}
	mg_free(key);
	mg_free(cert);
	mg_free(roots);
	return code;
}

const char *mg_join_server_key(const char *data_dir)
{
	char *cert = in_dir(data_dir, SERVER_CERT), *ca = in_dir(data_dir, "tls/ca.crt");
	const char *key = mg_cert_is_signed_by(cert, ca) ? SERVER_KEY : NODE_KEY;

	mg_free(ca);
	mg_free(cert);
	return key;
}

int mg_join_answer_check(const char *data_dir, const char *server_key, struct mg_arena *arena,
                         struct mg_join_answer *answer, struct mg_error *err)
{
	char *path = in_dir(data_dir, "tls/ca.crt"), *ca = NULL;
	size_t size = 0;
	int code = mg_file_read(path, CA_MAX, &ca, &size, err);

	answer->ca = mg_arena_strdup(arena, ca ? ca : "");
	mg_free(ca);
	mg_free(path);
	return code ? code : check_answer(data_dir, server_key, answer, err);
}

static int keep_answer(struct mg_arena *arena, const struct mg_join_renewal *renewal,
                       const char *server_key, struct mg_join_answer *answer, struct mg_error *err)
{
	int code = answer->number == renewal->number
	               ? 0
	               : mg_error_set(err, MG_E_PROTOCOL,
	                              "the answer is for node %llu, not for node %llu",
	                              (unsigned long long)answer->number,
	                              (unsigned long long)renewal->number);

	code = code ? code : mg_join_answer_check(renewal->data_dir, server_key, arena, answer, err);
	code = code ? code : write_text(renewal->data_dir, NODE_CERT, answer->node_certificate, err);
	if (code == 0 && strcmp(server_key, SERVER_KEY) == 0) {
		code = write_text(renewal->data_dir, SERVER_CERT, answer->server_certificate, err);
	}
	return code;
}

int mg_join_renew(const struct mg_join_renewal *renewal, struct mg_error *err)
{
	struct joining j = { .arena = mg_arena_new() };
	struct mg_join_ask ask = mg_join_ask_of_this_program();
	struct mg_join_answer answer;
	struct mg_sb text = { 0 };
	const char *server_key = mg_join_server_key(renewal->data_dir);
	int code = read_seeds(&j, renewal->seeds, err);

	ask.id = renewal->node_id;
	ask.address = renewal->address;
	ask.cluster = renewal->cluster;
	code = code ? code : mg_join_requests(renewal->data_dir, server_key, j.arena, &ask, err);
	code = code ? code : ask_again(&j, renewal, &ask, &text, err);
	if (code == 0) {
		code = mg_join_answer_read(j.arena, (struct mg_str){ mg_sb_text(&text), text.len }, &answer,
		                           err);
	}
	code = code ? code : keep_answer(j.arena, renewal, server_key, &answer, err);
	mg_sb_fini(&text);
	mg_arena_free(j.arena);
	return code;
}
