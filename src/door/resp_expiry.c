/*
 * resp_expiry.c - commands about when a key goes.
 *
 * owner: the connection's loop.
 */
#include "door/resp_int.h"

#include <stdio.h>

static bool refuse_time(struct mg_redis_job *job)
{
	char text[80];

	(void)snprintf(text, sizeof text, "ERR invalid expire time in '%s' command", job->what->name);
	mg_redis_error(job, text);
	return false;
}

static int64_t now_ms(const struct mg_redis_job *job)
{
	return (int64_t)mg_replica_kv_now_ms(mg_redis_replica(job->redis));
}

bool mg_redis_put_expiry(struct mg_redis_job *job, struct mg_kv_op *op, int64_t count,
                         int64_t unit_ms, bool absolute, bool past_too)
{
	int64_t ms = 0, at = 0;

	if ((count <= 0 && !past_too) || __builtin_mul_overflow(count, unit_ms, &ms) ||
	    __builtin_add_overflow(ms, absolute ? 0 : now_ms(job), &at)) {
		return refuse_time(job);
	}
	op->flags |= MG_KV_EXPIRES;
	if (absolute || ms < 0) {
		op->flags |= MG_KV_ABSOLUTE;
		op->expiry = at > 0 ? (uint64_t)at : 1;
	} else {
		op->expiry = (uint64_t)ms;
	}
	return true;
}

/* NX, XX, GT, LT behind EXPIRE key time; false after an answer. */
static bool read_conditions(struct mg_redis_job *job, unsigned *flags)
{
	for (size_t i = 3; i < job->arg_count; i++) {
		struct mg_str word = job->args[i];
		unsigned flag = mg_redis_is(word, "nx")   ? MG_KV_IF_EXPIRY_NONE
		                : mg_redis_is(word, "xx") ? MG_KV_IF_EXPIRY_ANY
		                : mg_redis_is(word, "gt") ? MG_KV_IF_EXPIRY_LATER
		                : mg_redis_is(word, "lt") ? MG_KV_IF_EXPIRY_SOONER
		                                          : 0;

		if (!flag) {
			mg_resp_error(&job->reply, "ERR Unsupported option %.*s",
			              (int)(word.len < 128 ? word.len : 128), word.ptr);
			return false;
		}
		*flags |= flag;
	}
	if (*flags & MG_KV_IF_EXPIRY_NONE && *flags != MG_KV_IF_EXPIRY_NONE) {
		mg_redis_error(job,
		               "ERR NX and XX, GT or LT options at the same time are not compatible");
		return false;
	}
	if (*flags & MG_KV_IF_EXPIRY_LATER && *flags & MG_KV_IF_EXPIRY_SOONER) {
		mg_redis_error(job, "ERR GT and LT options at the same time are not compatible");
		return false;
	}
	return true;
}

/* param: how many ms one is; negative: they are counted since 1970. */
void mg_redis_expire(struct mg_redis_job *job)
{
	int unit = job->what->param;
	int64_t count = 0;
	unsigned flags = 0;

	if (!read_conditions(job, &flags) || !mg_redis_int(job, job->args[2], &count)) {
		return;
	}
	struct mg_redis_op *op = mg_redis_add(job, MG_KV_EXPIRE, job->args[1]);

	if (op && mg_redis_put_expiry(job, &op->op, count, unit < 0 ? -unit : unit, unit < 0, true)) {
		op->op.flags |= (uint16_t)flags;
	}
}

void mg_redis_persist(struct mg_redis_job *job)
{
	struct mg_redis_op *op = mg_redis_add(job, MG_KV_EXPIRE, job->args[1]);

	if (op) {
		op->op.flags |= MG_KV_IF_EXPIRY_ANY;
	}
}

/* GETEX key [EX n | PX n | EXAT n | PXAT n | PERSIST] */
void mg_redis_getex(struct mg_redis_job *job)
{
	static const char *const words[] = { "ex", "px", "exat", "pxat" };
	size_t word = 0;
	int64_t count = 0;
	bool persist = job->arg_count == 3 && mg_redis_is(job->args[2], "persist");

	while (job->arg_count == 4 && word < 4 && !mg_redis_is(job->args[2], words[word])) {
		word++;
	}
	if (job->arg_count > 4 || (job->arg_count == 3 && !persist) || word == 4) {
		mg_redis_error(job, MG_REDIS_SYNTAX);
		return;
	}
	if (job->arg_count == 4 && !mg_redis_int(job, job->args[3], &count)) {
		return;
	}
	struct mg_redis_op *op =
		mg_redis_add(job, job->arg_count == 2 ? MG_KV_READ : MG_KV_EXPIRE, job->args[1]);

	if (op) {
		op->op.flags |= MG_KV_WANT_OLD;
		op->want_value = true;
	}
	if (op && job->arg_count == 4) {
		(void)mg_redis_put_expiry(job, &op->op, count, word % 2 ? 1 : 1000, word >= 2, false);
	}
}
