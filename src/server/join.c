/*
 * join.c - see join.h.
 *
 * Order: who is it? -> does it fit? -> are its requests usable? -> its number (a change of the
 * catalog) -> certificates.  So whoever is refused has changed nothing; and whoever was interrupted
 * after the change asks again, with the same name and address, and gets the same number.
 */
#include "server/join.h"

#include "auth/auth.h"
#include "base/log.h"
#include "base/str.h"
#include "catalog/node_table.h"
#include "client/wire.h"
#include "mg_version.h"
#include "os/file.h"
#include "store/duck.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
	SECRET_MAX = 4096,
	PEM_MAX = 1 << 20,
	RELAY_TIMEOUT_MS = 5000,
	LOST_TIMEOUT_MS = 25000, /* a change of the catalog, too */
	WRONG_MS = 50,
};

struct serving {
	const struct mg_join_host *host;
	const struct mg_join_caller *caller;
	struct mg_arena *arena;
	struct mg_join_ask ask;
	struct mg_join_answer answer;
};

static const char *in_dir(const struct serving *s, const char *name)
{
	return mg_arena_format(s->arena, "%s/%s", s->host->data_dir, name);
}

static struct mg_cert_authority authority(const struct serving *s)
{
	return (struct mg_cert_authority){ .cert_file = in_dir(s, "tls/ca.crt"),
		                               .key_file = in_dir(s, "tls/ca.key") };
}

static bool can_sign(const struct serving *s)
{
	return mg_file_exists(in_dir(s, "tls/ca.key"));
}

/* ---- who is it? ---- */

/* In the same time wherever they differ. */
static bool same_secret(const char *a, const char *b)
{
	size_t len = strlen(a);
	unsigned differ = len != strlen(b);

	for (size_t i = 0; i < len && b[i]; i++) {
		differ |= (unsigned char)a[i] ^ (unsigned char)b[i];
	}
	return !differ;
}

/* Without argon2, so that whoever guesses is kept waiting. */
static int wrong_secret(struct mg_error *err)
{
	const struct timespec pause = { .tv_nsec = WRONG_MS * 1000000L };

	(void)nanosleep(&pause, NULL);
	mg_error_set(err, MG_E_AUTH, "wrong join password");
	mg_error_hint(err, "Bootstrap put it into tls/join.secret of the first server's data "
	                   "directory.");
	return MG_E_AUTH;
}

/* *known: it has been answered here; else a node with the secret must be asked. */
static int check_secret(const struct serving *s, bool *known, struct mg_error *err)
{
	const char *path = in_dir(s, "tls/join.secret");
	char *secret = NULL;
	size_t size = 0;

	*known = mg_file_exists(path);
	if (!mg_text_eq(s->caller->user, MG_JOIN_USER)) {
		mg_error_set(err, MG_E_AUTH, "user \"%.64s\" lets no servers in", s->caller->user);
		mg_error_hint(err, "Log in as \"" MG_JOIN_USER "\" with the join password.");
		return MG_E_AUTH;
	}
	if (!*known) {
		return 0;
	}
	int code = mg_file_read(path, SECRET_MAX, &secret, &size, err);

	if (code == 0) {
		secret[strcspn(secret, "\r\n")] = '\0';
		code = *secret && same_secret(s->caller->password, secret) ? 0 : wrong_secret(err);
		explicit_bzero(secret, size);
	}
	mg_free(secret);
	return code;
}

/* Is the number that the certificate names that of a node which has not been removed? */
static bool is_live(const struct serving *s, uint64_t number)
{
	const struct mg_catalog_data *data = mg_catalog_take(s->host->catalog);
	const struct mg_catalog_node *node = mg_catalog_find_node(data, number);
	bool live = node && strcmp(node->state, MG_NODE_REMOVED) != 0;

	mg_catalog_give(s->host->catalog, data);
	return live;
}

static int check_certificate(const struct serving *s, struct mg_error *err)
{
	if (!s->caller->node || s->host->other_client_ca) {
		mg_error_set(err, MG_E_AUTH, "a login is needed");
		mg_error_hint(err,
		              "Log in as \"" MG_JOIN_USER "\" with the join password (merganser server "
		              "--join ... --password), or by a node's certificate.");
		return MG_E_AUTH;
	}
	if (!is_live(s, s->caller->node)) {
		mg_error_set(err, MG_E_DENIED, "node %llu was removed from the cluster",
		             (unsigned long long)s->caller->node);
		mg_error_hint(err, "Its data directory cannot be used again: start it with an empty one, "
		                   "then it joins as a new node.");
		return MG_E_DENIED;
	}
	return 0;
}

static int authenticate(const struct serving *s, bool *known, struct mg_error *err)
{
	*known = true;
	return s->caller->user ? check_secret(s, known, err) : check_certificate(s, err);
}

/* What it has shown to be: a node of this number, or none yet.  A node that passes on a request
 * says for whom, and is believed: it is one of us. */
static uint64_t shown_number(const struct serving *s)
{
	if (s->caller->user) {
		return 0;
	}
	return s->ask.relayed ? s->ask.number : s->caller->node;
}

/* ---- does it fit? ---- */

static int misfit(struct mg_error *err, const char *hint, const char *what, const char *theirs,
                  const char *ours)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "the server that asks %s %s, this cluster %s", what, theirs,
	             ours);
	mg_error_hint(err, "%s", hint);
	return MG_E_UNSUPPORTED;
}

static int check_fit(const struct serving *s, const struct mg_catalog_data *data,
                     struct mg_error *err)
{
	static const char upgrade[] =
		"All servers of a cluster run the same release: install that one.";
	const struct mg_join_ask *ask = &s->ask;
	const struct mg_join_ask ours = mg_join_ask_of_this_program();

	if (*ask->cluster && strcmp(ask->cluster, data->cluster_id) != 0) {
		return misfit(err, "Its data directory cannot serve here: give it an empty one.",
		              "is of cluster", ask->cluster, data->cluster_id);
	}
	if (strcmp(ask->engine, ours.engine) != 0) {
		return misfit(err, upgrade, "runs DuckDB", ask->engine, ours.engine);
	}
	if (ask->file_format != ours.file_format || ask->catalog_format != ours.catalog_format) {
		const char *theirs =
			mg_arena_format(s->arena, "%u, catalog %u", ask->file_format, ask->catalog_format);
		const char *here =
			mg_arena_format(s->arena, "%u, catalog %u", ours.file_format, ours.catalog_format);

		return misfit(err, upgrade, "writes shard files of format", theirs, here);
	}
	return 0;
}

static int check_fit_here(const struct serving *s, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(s->host->catalog);
	int code = check_fit(s, data, err);

	mg_catalog_give(s->host->catalog, data);
	return code;
}

/* ---- can they find each other? ---- */

static bool is_loopback(const char *address)
{
	return strncasecmp(address, "localhost:", 10) == 0 || strncmp(address, "127.", 4) == 0 ||
	       strncmp(address, "[::1]", 5) == 0;
}

/* Servers of several machines must not call themselves localhost. */
static int check_addresses(const struct serving *s, struct mg_error *err)
{
	if (s->caller->same_host || s->ask.relayed) {
		return 0;
	}
	if (is_loopback(s->ask.address)) {
		mg_error_set(err, MG_E_UNSUPPORTED,
		             "the server that asks calls itself %s, where only its own machine finds it",
		             s->ask.address);
		mg_error_hint(err, "Start it with --advertise HOST:PORT.");
		return MG_E_UNSUPPORTED;
	}
	const struct mg_catalog_data *data = mg_catalog_take(s->host->catalog);
	const struct mg_catalog_node *self = mg_catalog_find_node(data, s->host->self);
	int code = 0;

	if (self && is_loopback(self->address)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED,
		                    "server \"%s\" calls itself %s, where only its own machine finds it",
		                    self->id, self->address);
		mg_error_hint(err, "Start it again, with --advertise HOST:PORT; then others can join.");
	}
	mg_catalog_give(s->host->catalog, data);
	return code;
}

/* ---- passing on ---- */

struct mg_join_ask mg_join_ask_of_this_program(void)
{
	return (struct mg_join_ask){ .version = MG_VERSION,
		                         .engine = mg_duck_version(),
		                         .file_format = MG_FILE_FORMAT,
		                         .catalog_format = MG_CATALOG_FORMAT,
		                         .cluster = "" };
}

int mg_join_post(const struct mg_endpoint *endpoint, const char *host_port,
                 const struct mg_join_ask *ask, struct mg_sb *answer, bool *transient,
                 struct mg_error *err)
{
	char *url = mg_format("https://%s", host_port);
	struct mg_endpoint to = *endpoint;
	struct mg_sb body = { 0 };
	int status = 0;

	to.url = url;
	mg_join_ask_write(ask, &body);
	mg_sb_clear(answer);
	int code = mg_http_fetch(&to, "POST", "/join", "application/json", NULL,
	                         (struct mg_str){ mg_sb_text(&body), body.len }, &status, answer, err);

	/* Nothing that time heals: an address that is none, a certificate of others. */
	*transient = code && code != MG_E_USAGE && !mg_text_eq(err->sqlstate, MG_CLIENT_UNTRUSTED);
	if (code == 0 && status != 200) {
		code =
			mg_join_refusal_read((struct mg_str){ mg_sb_text(answer), answer->len }, status, err);
		*transient = status == 429 || status >= 502;
	}
	mg_sb_fini(&body);
	mg_free(url);
	return code;
}

/* One after the other, until one can say yes or no. */
static int ask_others(const struct serving *s, const struct mg_catalog_data *data,
                      const struct mg_endpoint *endpoint, struct mg_sb *answer,
                      struct mg_error *err)
{
	struct mg_join_ask ask = s->ask;
	struct mg_sb tried = { 0 };
	bool transient = true;
	int code = MG_E_UNAVAILABLE;

	ask.relayed = true;
	ask.number = s->caller->user ? 0 : s->caller->node;
	for (size_t i = 0; code && transient && i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		if (node->number == s->host->self || strcmp(node->state, MG_NODE_REMOVED) == 0) {
			continue;
		}
		code = mg_join_post(endpoint, node->address, &ask, answer, &transient, err);
		if (code && mg_text_eq(err->sqlstate, MG_CLIENT_UNTRUSTED)) {
			transient = true; /* of that one alone */
		}
		if (code) {
			mg_sb_addf(&tried, "%s%s at %s: %s", tried.len ? "; " : "", node->id, node->address,
			           err->message);
		}
	}
	if (code && transient) {
		code = mg_error_set(err, MG_E_UNAVAILABLE,
		                    "this node cannot sign certificates, and none that can is reachable");
		mg_error_detail(err, "%s.", tried.len ? mg_sb_text(&tried) : "There is no other node");
		mg_error_hint(err, "The node whose data directory has tls/ca.key is needed, where the "
		                   "cluster was made: start it, then try again.");
	}
	mg_sb_fini(&tried);
	return code;
}

static int pass_on(const struct serving *s, struct mg_sb *answer, struct mg_error *err)
{
	struct mg_endpoint endpoint = {
		.user = s->caller->user,
		.password = s->caller->password,
		.tls = { .roots_file = in_dir(s, "tls/ca.crt"), .any_host = true },
		.timeout_ms = s->ask.lost ? LOST_TIMEOUT_MS : RELAY_TIMEOUT_MS,
		.wake_fd = -1,
	};

	if (s->ask.relayed) {
		return mg_error_set(err, MG_E_UNAVAILABLE,
		                    "its data directory lacks tls/ca.key or tls/join.secret");
	}
	if (!s->caller->user) {
		endpoint.tls.cert_file = in_dir(s, "tls/node.crt");
		endpoint.tls.key_file = in_dir(s, "tls/node.key");
	}
	const struct mg_catalog_data *data = mg_catalog_take(s->host->catalog);
	int code = ask_others(s, data, &endpoint, answer, err);

	mg_catalog_give(s->host->catalog, data);
	return code;
}

/* ---- letting in ---- */

static int sign_server(struct serving *s, struct mg_error *err)
{
	struct mg_cert_authority ca = authority(s);
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];
	unsigned char bytes[sizeof(struct in6_addr)];
	const char *dns[3] = { "localhost" }, *ips[4] = { "127.0.0.1", "::1" };
	struct mg_sb pem = { 0 };
	int code = mg_net_split(s->ask.address, host, sizeof host, port, sizeof port, err);

	if (code) {
		return code;
	}
	bool is_ip = inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;

	if (is_ip && strcmp(host, ips[0]) != 0 && strcmp(host, ips[1]) != 0) {
		ips[2] = host;
	} else if (!is_ip && strcasecmp(host, dns[0]) != 0) {
		dns[1] = host;
	}
	const struct mg_cert_names names = { .common_name = "merganser server",
		                                 .dns = dns,
		                                 .ips = ips };

	code = mg_cert_sign_server(&ca, s->ask.server_request, &names, &pem, err);
	s->answer.server_certificate = mg_arena_strdup(s->arena, mg_sb_text(&pem));
	mg_sb_fini(&pem);
	return code;
}

static int sign_node(struct serving *s, uint64_t number, struct mg_error *err)
{
	struct mg_cert_authority ca = authority(s);
	struct mg_sb pem = { 0 };
	int code = mg_cert_sign_node(&ca, s->ask.node_request, number, &pem, err);

	s->answer.node_certificate = mg_arena_strdup(s->arena, mg_sb_text(&pem));
	mg_sb_fini(&pem);
	return code;
}

static int read_ca(struct serving *s, struct mg_error *err)
{
	char *text = NULL;
	size_t size = 0;
	int code = mg_file_read(in_dir(s, "tls/ca.crt"), PEM_MAX, &text, &size, err);

	s->answer.ca = mg_arena_strdup(s->arena, text ? text : "");
	mg_free(text);
	return code;
}

/* What this node knows of its groups may be old, and then a node that votes seems to have none. */
static int try_again(const struct mg_node_claim *claim, struct mg_error *err)
{
	char why[sizeof err->message];

	mg_copy_text(why, sizeof why, err->message);
	mg_error_set(err, MG_E_UNAVAILABLE, "cannot tell now whether \"%.64s\" has replicas",
	             claim->id);
	mg_error_detail(err, "%s.", why);
	mg_error_hint(err, "Try again when a majority of the servers is there.");
	return MG_E_UNAVAILABLE;
}

/* Who asks again, without a number, has been interrupted; or has lost its directory. */
static int check_lost(const struct serving *s, const struct mg_node_claim *claim,
                      struct mg_error *err)
{
	const struct mg_join_host *host = s->host;
	bool has = false;

	if (claim->number) {
		return 0;
	}
	if (host->catch_up && host->catch_up(host->arg, err)) {
		return try_again(claim, err);
	}
	const struct mg_catalog_data *data = mg_catalog_take(host->catalog);
	const struct mg_catalog_node *node = mg_node_find(data, claim);
	int code = 0;

	if (node && host->has_replicas && host->has_replicas(host->arg, node->number, &has, err)) {
		code = try_again(claim, err);
	} else if (has) {
		code = mg_error_set(err, MG_E_DUPLICATE,
		                    "node %llu (\"%s\" at %s) has replicas in its data directory",
		                    (unsigned long long)node->number, node->id, node->address);
		mg_error_hint(err,
		              "Start it with that directory.  When it is lost: merganser cluster remove "
		              "%.64s, then try again; it becomes a new node.",
		              node->id);
	}
	mg_catalog_give(host->catalog, data);
	return code;
}

/* A node that has lost its log gives up its number, and with it all that it has voted for: it never
 * votes under it again, so its groups can do without, as soon as a majority of the others says so.
 */
static int give_up_number(const struct serving *s, struct mg_node_claim *claim,
                          struct mg_error *err)
{
	const struct mg_join_host *host = s->host;
	char id[MG_NODE_ID_MAX + 1] = "";

	if (!claim->number || claim->number == host->self) {
		return mg_error_set(err, MG_E_AUTH, "who gives up a number shows its certificate");
	}
	if (host->catch_up && host->catch_up(host->arg, err)) {
		return try_again(claim, err);
	}
	const struct mg_catalog_data *data = mg_catalog_take(host->catalog);
	const struct mg_catalog_node *node = mg_catalog_find_node(data, claim->number);

	if (node && !mg_text_eq(node->state, MG_NODE_REMOVED)) {
		mg_copy_text(id, sizeof id, node->id);
	}
	mg_catalog_give(host->catalog, data);
	int code = *id ? mg_node_set_state(host->catalog, id, MG_NODE_REMOVED, err) : 0;

	if (!code) {
		mg_log(MG_LOG_WARN, "join.lost", "server=%llu id=%s peer=%s",
		       (unsigned long long)claim->number, id, s->caller->peer);
		claim->number = 0;
	}
	return code;
}

static int let_in(struct serving *s, struct mg_sb *answer, struct mg_error *err)
{
	struct mg_node_claim claim = { .number = shown_number(s),
		                           .id = s->ask.id,
		                           .address = s->ask.address };
	bool sign = can_sign(s); /* else the one who asks does */
	int code = mg_node_id_check(claim.id, err);

	code = code ? code : mg_node_address_check(claim.address, err);
	code = code ? code : read_ca(s, err);
	code = code || !sign ? code : sign_server(s, err);
	code = code ? code : mg_cert_request_check(s->ask.node_request, err);
	code = code || !s->ask.lost ? code : give_up_number(s, &claim, err);
	code = code ? code : check_lost(s, &claim, err);
	code = code ? code : mg_node_enter(s->host->catalog, &claim, &s->answer.number, err);
	if (code == 0 && !claim.number && s->answer.number == s->host->self) {
		code = mg_error_set(err, MG_E_DUPLICATE,
		                    "\"%s\" at %s is the server that was asked to let it in", claim.id,
		                    claim.address);
		mg_error_hint(err, "Choose another --node-id and --listen or --advertise.");
	}
	code = code || !sign ? code : sign_node(s, s->answer.number, err);
	if (code) {
		return code;
	}
	const struct mg_catalog_data *data = mg_catalog_take(s->host->catalog);

	mg_join_answer_write(&s->answer, data, answer);
	mg_catalog_give(s->host->catalog, data);
	mg_log(MG_LOG_INFO, "join.let_in", "server=%llu id=%s address=%s version=%s peer=%s",
	       (unsigned long long)s->answer.number, s->ask.id, s->ask.address, s->ask.version,
	       s->caller->peer);
	return 0;
}

int mg_join_serve(const struct mg_join_host *host, const struct mg_join_caller *caller,
                  struct mg_str body, struct mg_sb *answer, struct mg_error *err)
{
	struct serving s = {
		.host = host,
		.caller = caller,
		.arena = mg_arena_new(),
		.answer = { .node_certificate = "", .server_certificate = "" },
	};
	bool known = false;
	int code = authenticate(&s, &known, err);

	code = code ? code : mg_join_ask_read(s.arena, body, &s.ask, err);
	code = code ? code : check_fit_here(&s, err);
	code = code ? code : check_addresses(&s, err);
	if (code == 0) {
		bool here = can_sign(&s) || (s.ask.lost && s.ask.signs);

		code = known && here ? let_in(&s, answer, err) : pass_on(&s, answer, err);
	}
	mg_arena_free(s.arena);
	return code;
}
