/*
 * cmd_replicas.c - `cluster rebalance`, and the comparing of `cluster check`: both begin something
 * by POST, and look by GET until it is done.
 */
#include "cli/cluster.h"
#include "cli/commands.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 200, UNCHANGED_MS_MAX = 15 * 60 * 1000 };

/* *json lies in the arena; text: as it came, on one line. */
static int ask(const struct mg_options *options, const char *method, const char *path,
               struct mg_arena *arena, struct mg_json **json, struct mg_sb *text,
               struct mg_error *err)
{
	int status = 0;

	mg_sb_clear(text);
	int code = mg_cluster_fetch(options, method, path, &status, text, err);

	if (code == 0 && status != 200) {
		code = mg_cluster_refusal(text, status, err);
	}
	if (code == 0) {
		char *copy = mg_arena_strndup(arena, mg_sb_text(text), text->len);

		code = mg_json_parse(arena, copy, text->len, json, err);
	}
	if (code == 0) {
		mg_sb_clear(text);
		mg_json_print(text, *json);
	}
	return code;
}

/* ---- check ---- */

static void add_differing(const struct mg_json *report, const char *list, const char *kind,
                          struct mg_sb *out)
{
	mg_json_each(shard, mg_json_get(report, list)) {
		mg_json_each(replica, mg_json_get(shard, "replicas")) {
			const char *state = mg_json_get_text(replica, "state");

			if (!mg_text_eq(state, "equal")) {
				mg_sb_addf(out, "%s %" PRId64 " of %s: %s\n", kind,
				           mg_json_get_int(shard, "shard", -1), mg_json_get_text(replica, "node"),
				           state);
			}
		}
	}
}

int mg_cluster_compare(const struct mg_options *options, struct mg_sb *report, bool *equal,
                       struct mg_sb *differing, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + UNCHANGED_MS_MAX;
	const char *method = "POST";
	bool running = true;
	int code = 0;

	*equal = false;
	while (!code && running) {
		struct mg_arena *arena = mg_arena_new();
		struct mg_json *json = NULL;

		code = ask(options, method, "/cluster/check", arena, &json, report, err);
		running = !code && mg_json_get_bool(json, "running", false);
		if (!code && !running) {
			*equal = mg_json_get_bool(json, "ok", false);
			add_differing(json, "shards", "shard", differing);
			add_differing(json, "kv_shards", "shard of keys", differing);
		}
		mg_arena_free(arena);
		method = "GET";
		if (running && mg_clock_ms() >= until) {
			code = mg_error_set(err, MG_E_TIMEOUT, "the replicas are still being compared");
		}
		if (running && !code) {
			mg_sleep_ms(LOOK_MS);
		}
	}
	return code;
}

/* ---- rebalance ---- */

static void print_moves(const struct mg_json *moves)
{
	mg_json_each(move, moves) {
		int64_t shard = mg_json_get_int(move, "shard", -1);

		if (shard < 0) {
			printf("the catalog");
		} else {
			printf("shard %" PRId64, shard);
		}
		printf(" of %s: %s, should be %s\n", mg_json_get_text(move, "node"),
		       mg_json_get_text(move, "is"), mg_json_get_text(move, "should"));
	}
}

int mg_command_cluster_rebalance(const struct mg_options *options)
{
	uint64_t until = mg_clock_ms() + mg_options_int(options, "timeout");
	bool wants_json = strcmp(mg_options_text(options, "format"), "json") == 0;
	struct mg_error err = { 0 };
	struct mg_sb text = { 0 }, before = { 0 };
	bool balanced = false;
	int code = 0;

	while (!code && !balanced) {
		struct mg_arena *arena = mg_arena_new();
		struct mg_json *json = NULL;

		code = ask(options, "POST", "/cluster/rebalance", arena, &json, &text, &err);
		balanced = !code && mg_json_get_bool(json, "balanced", false);
		if (!code && !wants_json && strcmp(mg_sb_text(&before), mg_sb_text(&text)) != 0) {
			print_moves(mg_json_get(json, "moves"));
			mg_sb_clear(&before);
			mg_sb_add(&before, mg_sb_text(&text));
		}
		mg_arena_free(arena);
		if (!code && !balanced && mg_clock_ms() >= until) {
			code = mg_error_set(&err, MG_E_TIMEOUT, "not all is where it should be yet");
			mg_error_hint(&err, "It goes on by itself; a server that is down is not waited for.");
		} else if (!code && !balanced) {
			mg_sleep_ms(LOOK_MS);
		}
	}
	if (wants_json && text.len) {
		printf("%s\n", mg_sb_text(&text));
	} else if (!code) {
		printf("balanced\n");
	}
	mg_sb_fini(&before);
	mg_sb_fini(&text);
	return code ? mg_cli_fail(&err) : 0;
}
