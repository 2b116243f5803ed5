/* reenter.c - see reenter.h. */
#include "server/reenter.h"

#include "auth/auth.h"
#include "base/log.h"
#include "base/str.h"
#include "client/wire.h"
#include "os/file.h"
#include "server/join.h"
#include "server/join_dir.h"
#include "server/node_file.h"

#include <stdio.h>
#include <string.h>

enum { PAUSE_MIN_MS = 250, PAUSE_MAX_MS = 5000, ASK_TIMEOUT_MS = 30 * 1000 };

#define STAGE "reenter"
#define READY STAGE "/ready"

struct reentering {
	const struct mg_reenter_options *options;
	struct mg_arena *arena;
	bool signs;              /* it has the cluster's CA: it needs nobody's signature */
	const char *server_key;  /* whose certificate is asked for */
	const char *said;        /* the last trouble that was told */
};

static const char *in_dir(const struct reentering *r, const char *name)
{
	return mg_arena_format(r->arena, "%s/%s", r->options->data_dir, name);
}

static bool is_other(const struct mg_reenter_options *options, const struct mg_catalog_node *node)
{
	return node->number != options->number && strcmp(node->state, MG_NODE_REMOVED) != 0;
}

bool mg_reenter_can(const struct mg_reenter_options *options)
{
	const struct mg_catalog_data *data = mg_catalog_take(options->catalog);
	bool others = false;

	for (size_t i = 0; i < data->node_count; i++) {
		others = others || is_other(options, &data->nodes[i]);
	}
	mg_catalog_give(options->catalog, data);
	return others;
}

/* ---- asking ---- */

/* The keys stay: only the number that their certificate names is another one. */
static int make_ask(struct reentering *r, const char *cluster, struct mg_join_ask *ask,
                    struct mg_error *err)
{
	r->signs = mg_file_exists(in_dir(r, "tls/ca.key"));
	r->server_key = r->signs ? "tls/node.key" : mg_join_server_key(r->options->data_dir);
	*ask = mg_join_ask_of_this_program();
	ask->id = r->options->node_id;
	ask->address = r->options->address;
	ask->cluster = cluster;
	ask->lost = true;
	ask->signs = r->signs;
	return mg_join_requests(r->options->data_dir, r->server_key, r->arena, ask, err);
}

static void tell(struct reentering *r, const char *why)
{
	if (!mg_text_eq(r->said, why)) {
		r->said = mg_arena_strdup(r->arena, why);
		mg_log(MG_LOG_WARN, "reenter.waits", "reason=\"%s\"", why);
	}
}

/* Each of the others once.  *again: none has refused for good. */
static int ask_round(struct reentering *r, const struct mg_catalog_data *data,
                     const struct mg_join_ask *ask, struct mg_sb *answer, bool *again,
                     struct mg_error *err)
{
	const struct mg_endpoint endpoint = {
		.tls = { .roots_file = in_dir(r, "tls/ca.crt"),
		         .any_host = true,
		         .cert_file = in_dir(r, "tls/node.crt"),
		         .key_file = in_dir(r, "tls/node.key") },
		.timeout_ms = ASK_TIMEOUT_MS,
		.wake_fd = -1,
	};
	int code = MG_E_UNAVAILABLE;

	*again = true;
	for (size_t i = 0; code && *again && i < data->node_count; i++) {
		if (is_other(r->options, &data->nodes[i])) {
			*err = (struct mg_error){ 0 };
			code = mg_join_post(&endpoint, data->nodes[i].address, ask, answer, again, err);
			*again = *again || mg_text_eq(err->sqlstate, MG_CLIENT_UNTRUSTED);
			if (code && *again) {
				tell(r, err->message);
			}
		}
	}
	return code;
}

static int ask_until(struct reentering *r, const struct mg_catalog_data *data,
                     struct mg_sb *answer, struct mg_error *err)
{
	struct mg_join_ask ask;
	unsigned pause = PAUSE_MIN_MS;
	int code = make_ask(r, data->cluster_id, &ask, err);

	while (!code) {
		bool again = false;
		int asked = ask_round(r, data, &ask, answer, &again, err);

		if (!asked || !again) {
			return asked;
		}
		if (r->options->stopped(r->options->arg, pause)) {
			code = mg_error_set(err, MG_E_CANCELLED, "stopped before another server let it in");
		}
		pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
	}
	return code;
}

/* ---- staging ---- */

static int stage_text(const struct reentering *r, const char *name, const char *text,
                      struct mg_error *err)
{
	return mg_file_write(in_dir(r, mg_arena_format(r->arena, STAGE "/%s", name)), text,
	                     strlen(text), 0644, err);
}

static int stage_certificates(const struct reentering *r, struct mg_join_answer *answer,
                              struct mg_error *err)
{
	if (r->signs) { /* the start makes one for the new number */
		return 0;
	}
	int code =
		mg_join_answer_check(r->options->data_dir, r->server_key, r->arena, answer, err);

	code = code ? code : stage_text(r, "node.crt", answer->node_certificate, err);
	if (!code && strcmp(r->server_key, "tls/server.key") == 0) {
		code = stage_text(r, "server.crt", answer->server_certificate, err);
	}
	return code;
}

static int stage(const struct reentering *r, struct mg_join_answer *answer, struct mg_error *err)
{
	const struct mg_node_file node = { .number = answer->number,
		                               .id = (char *)r->options->node_id,
		                               .listen = (char *)r->options->address };
	const char *dir = in_dir(r, STAGE);

	mg_tree_remove(dir, NULL);
	int code = mg_dir_make(dir, 0700, err);

	code = code ? code : stage_certificates(r, answer, err);
	code = code ? code : mg_node_file_write(dir, &node, err);
	code = code ? code : mg_catalog_install(dir, answer->catalog.ptr, answer->catalog.len, err);
	return code ? code : stage_text(r, "ready", "", err);
}

int mg_reenter_ask(const struct mg_reenter_options *options, struct mg_error *err)
{
	struct reentering r = { .options = options, .arena = mg_arena_new() };
	const struct mg_catalog_data *data = mg_catalog_take(options->catalog);
	struct mg_join_answer answer;
	struct mg_sb text = { 0 };
	int code = ask_until(&r, data, &text, err);

	code = code ? code
	            : mg_join_answer_read(r.arena, (struct mg_str){ mg_sb_text(&text), text.len },
	                                  &answer, err);
	code = code ? code : stage(&r, &answer, err);
	if (!code) {
		mg_log(MG_LOG_WARN, "reenter.staged", "was=%llu is=%llu",
		       (unsigned long long)options->number, (unsigned long long)answer.number);
	}
	mg_catalog_give(options->catalog, data);
	mg_sb_fini(&text);
	mg_arena_free(r.arena);
	return code ? mg_error_wrap(err, "while this server entered its cluster anew") : 0;
}

/* ---- taking effect ---- */

/* One that is not staged, or has moved before, stays. */
static int move(const char *data_dir, const char *from, const char *to, struct mg_error *err)
{
	char *source = mg_path_join(data_dir, from), *target = mg_path_join(data_dir, to);
	int code = mg_file_exists(source) ? mg_file_rename(source, target, err) : 0;

	mg_free(target);
	mg_free(source);
	return code;
}

static int put_log_aside(const char *data_dir, struct mg_error *err)
{
	char *staged = mg_path_join(data_dir, STAGE "/log"), *log = mg_path_join(data_dir, "log");
	int code = 0;

	if (mg_dir_exists(staged) && mg_dir_exists(log)) {
		char *kept = mg_dir_keep(data_dir, "damaged-log-");

		code = mg_file_rename(log, kept, err);
		if (!code) {
			fprintf(stderr, "merganser server: the damaged log is kept as \"%s\"\n", kept);
		}
		mg_free(kept);
	}
	mg_free(log);
	mg_free(staged);
	return code;
}

int mg_reenter_finish(const char *data_dir, struct mg_error *err)
{
	char *ready = mg_path_join(data_dir, READY), *dir = mg_path_join(data_dir, STAGE);
	int code = 0;

	if (mg_file_exists(ready)) {
		code = move(data_dir, STAGE "/node.crt", "tls/node.crt", err);
		code = code ? code : move(data_dir, STAGE "/server.crt", "tls/server.crt", err);
		code = code ? code : move(data_dir, STAGE "/node.json", "node.json", err);
		code = code ? code : put_log_aside(data_dir, err);
		code = code ? code : move(data_dir, STAGE "/log", "log", err);
	}
	if (!code && mg_dir_exists(dir)) {
		mg_tree_remove(dir, NULL);
	}
	mg_free(dir);
	mg_free(ready);
	return code;
}
