/*
 * resp_commands.c - the table of Redis' commands, who may ask for them, and COMMAND itself.
 *
 * owner: the connection's loop.
 */
#include "door/resp_int.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define R MG_REDIS_READ
#define W MG_REDIS_WRITE
#define F MG_REDIS_FAST
#define SLOW (MG_REDIS_READ | MG_REDIS_ALONE | MG_REDIS_NO_MULTI)
#define OPEN (MG_REDIS_OPEN | MG_REDIS_FAST)
#define NOW (MG_REDIS_NOW | MG_REDIS_FAST)
#define REJECT MG_REDIS_NO_MULTI

enum { SECOND = 1000 };

/* clang-format off */
const struct mg_redis_command mg_redis_commands[] = {
	/* the most wanted first */
	{ "get", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_value_answer, 1 },
	{ "set", -3, W, 1, 1, 1, mg_redis_set, mg_redis_set_answer, 0 },
	{ "del", -2, W, 1, -1, 1, mg_redis_del, mg_redis_count_answer, 0 },
	{ "incr", 2, W | F, 1, 1, 1, mg_redis_incr, mg_redis_number_answer, 1 },
	{ "mget", -2, R | F, 1, -1, 1, mg_redis_read, mg_redis_values_answer, 1 },
	{ "expire", -3, W | F, 1, 1, 1, mg_redis_expire, mg_redis_done_answer, SECOND },
	{ "exists", -2, R | F, 1, -1, 1, mg_redis_read, mg_redis_count_answer, 0 },
	{ "ttl", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_ttl_answer, 0 },
	{ "ping", -1, F, 0, 0, 0, mg_redis_ping, NULL, 0 },
	{ "append", 3, W | F, 1, 1, 1, mg_redis_append, mg_redis_number_answer, 0 },
	{ "auth", -2, OPEN | NOW | REJECT, 0, 0, 0, mg_redis_auth, mg_redis_login_answer, 0 },
	{ "client", -2, 0, 0, 0, 0, mg_redis_client, NULL, 0 },
	{ "command", -1, 0, 0, 0, 0, mg_redis_command, NULL, 0 },
	{ "config", -2, 0, 0, 0, 0, mg_redis_config, NULL, 0 },
	{ "dbsize", 1, SLOW | F, 0, 0, 0, mg_redis_dbsize, mg_redis_slow_answer, 0 },
	{ "decr", 2, W | F, 1, 1, 1, mg_redis_incr, mg_redis_number_answer, -1 },
	{ "decrby", 3, W | F, 1, 1, 1, mg_redis_incrby, mg_redis_number_answer, -1 },
	{ "discard", 1, NOW, 0, 0, 0, mg_redis_discard, NULL, 0 },
	{ "echo", 2, F, 0, 0, 0, mg_redis_echo, NULL, 0 },
	{ "exec", 1, W | NOW | MG_REDIS_ALONE, 0, 0, 0, mg_redis_exec, mg_redis_exec_answer, 0 },
	{ "expireat", -3, W | F, 1, 1, 1, mg_redis_expire, mg_redis_done_answer, -SECOND },
	{ "expiretime", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_ttl_answer, 2 },
	{ "getdel", 2, W | F, 1, 1, 1, mg_redis_getdel, mg_redis_value_answer, 0 },
	{ "getex", -2, W | F, 1, 1, 1, mg_redis_getex, mg_redis_value_answer, 0 },
	{ "getset", 3, W | F, 1, 1, 1, mg_redis_getset, mg_redis_value_answer, 0 },
	{ "hello", -1, OPEN | NOW | REJECT, 0, 0, 0, mg_redis_hello, mg_redis_login_answer, 0 },
	{ "incrby", 3, W | F, 1, 1, 1, mg_redis_incrby, mg_redis_number_answer, 1 },
	{ "info", -1, 0, 0, 0, 0, mg_redis_info, NULL, 0 },
	{ "keys", 2, SLOW, 0, 0, 0, mg_redis_keys, mg_redis_slow_answer, 0 },
	{ "mset", -3, W | MG_REDIS_ALONE, 1, -1, 2, mg_redis_mset, mg_redis_ok_answer, 0 },
	{ "multi", 1, NOW, 0, 0, 0, mg_redis_multi, NULL, 0 },
	{ "persist", 2, W | F, 1, 1, 1, mg_redis_persist, mg_redis_done_answer, 0 },
	{ "pexpire", -3, W | F, 1, 1, 1, mg_redis_expire, mg_redis_done_answer, 1 },
	{ "pexpireat", -3, W | F, 1, 1, 1, mg_redis_expire, mg_redis_done_answer, -1 },
	{ "pexpiretime", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_ttl_answer, 3 },
	{ "psetex", 4, W, 1, 1, 1, mg_redis_setex, mg_redis_ok_answer, 1 },
	{ "pttl", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_ttl_answer, 1 },
	{ "quit", -1, OPEN | NOW, 0, 0, 0, mg_redis_quit, NULL, 0 },
	{ "reset", 1, OPEN | NOW, 0, 0, 0, mg_redis_reset, NULL, 0 },
	{ "scan", -2, SLOW, 0, 0, 0, mg_redis_scan, mg_redis_slow_answer, 0 },
	{ "select", 2, F, 0, 0, 0, mg_redis_select, NULL, 0 },
	{ "setex", 4, W, 1, 1, 1, mg_redis_setex, mg_redis_ok_answer, SECOND },
	{ "setnx", 3, W | F, 1, 1, 1, mg_redis_setnx, mg_redis_setnx_answer, 0 },
	{ "strlen", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_strlen_answer, 0 },
	{ "type", 2, R | F, 1, 1, 1, mg_redis_read, mg_redis_type_answer, 0 },
	{ "unlink", -2, W | F, 1, -1, 1, mg_redis_del, mg_redis_count_answer, 0 },
	{ "unwatch", 1, F, 0, 0, 0, mg_redis_unwatch, NULL, 0 },
	{ "watch", -2, R | NOW, 1, -1, 1, mg_redis_watch, mg_redis_watch_answer, 0 },
};
/* clang-format on */

const size_t mg_redis_command_count = sizeof mg_redis_commands / sizeof *mg_redis_commands;

bool mg_redis_is(struct mg_str word, const char *name)
{
	return mg_str_eq_nocase(word, mg_str(name));
}

const struct mg_redis_command *mg_redis_find(struct mg_str name)
{
	int first = name.len ? tolower((unsigned char)name.ptr[0]) : 0;

	for (size_t i = 0; i < mg_redis_command_count; i++) {
		if (mg_redis_commands[i].name[0] == first && mg_redis_is(name, mg_redis_commands[i].name)) {
			return &mg_redis_commands[i];
		}
	}
	return NULL;
}

/* Labels are commands of ours, so a stranger cannot make series. */
void mg_redis_count(const struct mg_redis_command *what)
{
	static struct mg_metric *_Atomic metrics[sizeof mg_redis_commands / sizeof *mg_redis_commands +
	                                         1];
	size_t i = what ? (size_t)(what - mg_redis_commands) : mg_redis_command_count;
	struct mg_metric *metric = atomic_load(&metrics[i]);

	if (!metric) {
		char labels[48];

		(void)snprintf(labels, sizeof labels, "command=\"%s\"", what ? what->name : "other");
		metric = mg_metric_counter("merganser_redis_commands_total", labels,
		                           "Commands of Redis clients.");
		atomic_store(&metrics[i], metric);
	}
	mg_metric_add(metric, 1);
}

/* ---- answers of begin ---- */

void mg_redis_error(struct mg_redis_job *job, const char *text)
{
	mg_sb_clear(&job->reply.bytes);
	mg_resp_error(&job->reply, "%s", text);
	job->wave->op_count = job->first_op; /* nothing of it happens */
	job->op_count = 0;
}

void mg_redis_ok(struct mg_redis_job *job)
{
	mg_resp_simple(&job->reply, "OK");
}

bool mg_redis_int(struct mg_redis_job *job, struct mg_str text, int64_t *out)
{
	bool good = mg_resp_int(text, out);

	if (!good) {
		mg_redis_error(job, MG_REDIS_NO_INT);
	}
	return good;
}

static void refuse_unknown(struct mg_redis_job *job)
{
	struct mg_sb args = { 0 };

	for (size_t i = 1; i < job->arg_count && args.len < 128; i++) {
		size_t room = 128 - args.len, len = job->args[i].len;

		mg_sb_add_char(&args, '\'');
		mg_sb_addf(&args, "%.*s", (int)(len < room ? len : room), job->args[i].ptr);
		mg_sb_add(&args, "' ");
	}
	mg_resp_error(&job->reply, "ERR unknown command '%.*s', with args beginning with: %s",
	              (int)(job->args[0].len < 128 ? job->args[0].len : 128), job->args[0].ptr,
	              mg_sb_text(&args));
	mg_sb_fini(&args);
}

void mg_redis_unknown_part(struct mg_redis_job *job)
{
	char name[32];
	size_t i = 0;

	for (; job->what->name[i] && i + 1 < sizeof name; i++) {
		name[i] = (char)toupper((unsigned char)job->what->name[i]);
	}
	name[i] = '\0';
	mg_resp_error(&job->reply, "ERR unknown subcommand '%.*s'. Try %s HELP.",
	              (int)(job->args[1].len < 128 ? job->args[1].len : 128), job->args[1].ptr, name);
}

void mg_redis_wrong_count(struct mg_redis_job *job)
{
	mg_resp_error(&job->reply, "ERR wrong number of arguments for '%s' command", job->what->name);
}

/* ---- begin ---- */

static bool right_count(const struct mg_redis_job *job)
{
	int arity = job->what->arity;

	return arity > 0 ? job->arg_count == (size_t)arity : job->arg_count >= (size_t)-arity;
}

/* Into the transaction that is open. */
static void queue_command(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;
	struct mg_resp_command *command = job->command;

	if (redis->queued_count >= MG_REDIS_MULTI_OPS ||
	    redis->queued_bytes + command->bytes > MG_REDIS_MULTI_BYTES) {
		redis->dirty = true;
		mg_redis_error(job, "ERR the transaction is too large");
		return;
	}
	redis->pending_bytes -= command->bytes;
	redis->queued_bytes += command->bytes;
	redis->queued_count++;
	command->next = NULL;
	*redis->queued_last = command;
	redis->queued_last = &command->next;
	job->command = NULL;
	job->what = NULL;
	mg_resp_simple(&job->reply, "QUEUED");
}

void mg_redis_begin(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;
	const struct mg_redis_command *what = job->what;

	mg_redis_count(what);
	if (!what) {
		refuse_unknown(job);
	} else if (!right_count(job)) {
		mg_redis_wrong_count(job);
	} else if (!redis->logged_in && !(what->flags & MG_REDIS_OPEN)) {
		mg_redis_error(job, "NOAUTH Authentication required.");
	} else if (redis->multi && what->flags & MG_REDIS_NO_MULTI) {
		mg_redis_error(job, "ERR Command not allowed inside a transaction");
	} else if (redis->multi && !(what->flags & MG_REDIS_NOW)) {
		queue_command(job);
		return;
	} else {
		what->begin(job);
		return;
	}
	redis->dirty = redis->multi;
}

/* ---- COMMAND ---- */

static size_t count_bits(unsigned bits)
{
	return (size_t)__builtin_popcount(bits);
}

/* As of Redis 7: ten elements. */
static void describe(struct mg_resp_out *out, const struct mg_redis_command *what)
{
	unsigned told = what->flags & (MG_REDIS_READ | MG_REDIS_WRITE | MG_REDIS_FAST | MG_REDIS_OPEN);

	mg_resp_array(out, 10);
	mg_resp_bulk(out, mg_str(what->name));
	mg_resp_number(out, what->arity);
	mg_resp_set(out, count_bits(told));
	if (told & MG_REDIS_READ) {
		mg_resp_simple(out, "readonly");
	}
	if (told & MG_REDIS_WRITE) {
		mg_resp_simple(out, "write");
	}
	if (told & MG_REDIS_FAST) {
		mg_resp_simple(out, "fast");
	}
	if (told & MG_REDIS_OPEN) {
		mg_resp_simple(out, "no_auth");
	}
	mg_resp_number(out, what->first);
	mg_resp_number(out, what->last);
	mg_resp_number(out, what->step);
	mg_resp_set(out, 0);   /* categories of ACLs */
	mg_resp_array(out, 0); /* tips */
	mg_resp_array(out, 0); /* key specifications */
	mg_resp_array(out, 0); /* subcommands */
}

static void describe_named(struct mg_redis_job *job)
{
	mg_resp_array(&job->reply, job->arg_count - 2);
	for (size_t i = 2; i < job->arg_count; i++) {
		const struct mg_redis_command *what = mg_redis_find(job->args[i]);

		if (what) {
			describe(&job->reply, what);
		} else {
			mg_resp_nil_array(&job->reply);
		}
	}
}

void mg_redis_command(struct mg_redis_job *job)
{
	struct mg_str part = job->arg_count > 1 ? job->args[1] : mg_str("");
	bool all = job->arg_count == 1 || (mg_redis_is(part, "info") && job->arg_count == 2);

	if (all) {
		mg_resp_array(&job->reply, mg_redis_command_count);
		for (size_t i = 0; i < mg_redis_command_count; i++) {
			describe(&job->reply, &mg_redis_commands[i]);
		}
	} else if (mg_redis_is(part, "info")) {
		describe_named(job);
	} else if (mg_redis_is(part, "count")) {
		mg_resp_number(&job->reply, (int64_t)mg_redis_command_count);
	} else if (mg_redis_is(part, "docs")) {
		mg_resp_map(&job->reply, 0);
	} else if (mg_redis_is(part, "list")) {
		mg_resp_array(&job->reply, mg_redis_command_count);
		for (size_t i = 0; i < mg_redis_command_count; i++) {
			mg_resp_bulk(&job->reply, mg_str(mg_redis_commands[i].name));
		}
	} else {
		mg_redis_unknown_part(job);
	}
}
