/*
 * resp_keys.c - commands on values, except those about their expiry.
 *
 * owner: the connection's loop.
 */
#include "door/resp_int.h"

#define TOO_LARGE                                                                          \
	"ERR string exceeds maximum allowed size (proto-max-bulk-len, 4 MiB; PUT /kv/ of HTTP takes " \
	"64 MiB)"

/* ---- begin ---- */

/* Every word is a key; param: the values are wanted. */
void mg_redis_read(struct mg_redis_job *job)
{
	for (size_t i = 1; i < job->arg_count; i++) {
		struct mg_redis_op *op = mg_redis_add(job, MG_KV_READ, job->args[i]);

		if (!op) {
			return;
		}
		op->want_value = job->what->param != 0;
	}
}

static struct mg_redis_op *put(struct mg_redis_job *job, struct mg_str key, struct mg_str value)
{
	if (value.len > MG_KV_VALUE_MAX) {
		mg_redis_error(job, TOO_LARGE);
		return NULL;
	}
	struct mg_redis_op *op = mg_redis_add(job, MG_KV_PUT, key);

	if (op) {
		op->op.value = value;
	}
	return op;
}

static struct mg_redis_op *want_old(struct mg_redis_op *op)
{
	if (op) {
		op->op.flags |= MG_KV_WANT_OLD;
		op->want_value = true;
	}
	return op;
}

/* EX, PX, EXAT or PXAT and its number at args[i]; false after an answer. */
static bool set_expiry(struct mg_redis_job *job, struct mg_kv_op *op, size_t i)
{
	struct mg_str word = job->args[i];
	bool absolute = mg_redis_is(word, "exat") || mg_redis_is(word, "pxat");
	bool seconds = mg_redis_is(word, "ex") || mg_redis_is(word, "exat");
	int64_t count = 0;

	return mg_redis_int(job, job->args[i + 1], &count) &&
	       mg_redis_put_expiry(job, op, count, seconds ? 1000 : 1, absolute, false);
}

static bool is_expiry(struct mg_str word)
{
	return mg_redis_is(word, "ex") || mg_redis_is(word, "px") || mg_redis_is(word, "exat") ||
	       mg_redis_is(word, "pxat");
}

/* What stands behind SET key value; *expiry: where its expiry stands, or 0.  False: nonsense. */
static bool read_set_options(struct mg_redis_job *job, unsigned *flags, size_t *expiry)
{
	for (size_t i = 3; i < job->arg_count; i++) {
		struct mg_str word = job->args[i];

		if (mg_redis_is(word, "nx") && !(*flags & MG_KV_IF_PRESENT)) {
			*flags |= MG_KV_IF_ABSENT;
		} else if (mg_redis_is(word, "xx") && !(*flags & MG_KV_IF_ABSENT)) {
			*flags |= MG_KV_IF_PRESENT;
		} else if (mg_redis_is(word, "get")) {
			*flags |= MG_KV_WANT_OLD;
		} else if (mg_redis_is(word, "keepttl") && !*expiry) {
			*flags |= MG_KV_KEEP_EXPIRY;
		} else if (is_expiry(word) && !*expiry && !(*flags & MG_KV_KEEP_EXPIRY) &&
		           i + 1 < job->arg_count) {
			*expiry = i++;
		} else {
			return false;
		}
	}
	return true;
}

void mg_redis_set(struct mg_redis_job *job)
{
	unsigned flags = 0;
	size_t expiry = 0;

	if (!read_set_options(job, &flags, &expiry)) {
		mg_redis_error(job, MG_REDIS_SYNTAX);
		return;
	}
	struct mg_redis_op *op = put(job, job->args[1], job->args[2]);

	if (op && (!expiry || set_expiry(job, &op->op, expiry))) {
		op->op.flags |= (uint16_t)flags;
		op->want_value = job->flag = (flags & MG_KV_WANT_OLD) != 0;
	}
}

void mg_redis_setnx(struct mg_redis_job *job)
{
	struct mg_redis_op *op = put(job, job->args[1], job->args[2]);

	if (op) {
		op->op.flags |= MG_KV_IF_ABSENT;
	}
}

/* SETEX key seconds value; param: how many ms one is. */
void mg_redis_setex(struct mg_redis_job *job)
{
	int64_t count = 0;

	if (mg_redis_int(job, job->args[2], &count)) {
		struct mg_redis_op *op = put(job, job->args[1], job->args[3]);

		if (op) {
			(void)mg_redis_put_expiry(job, &op->op, count, job->what->param, false, false);
		}
	}
}

void mg_redis_getset(struct mg_redis_job *job)
{
	(void)want_old(put(job, job->args[1], job->args[2]));
}

void mg_redis_getdel(struct mg_redis_job *job)
{
	(void)want_old(mg_redis_add(job, MG_KV_DELETE, job->args[1]));
}

void mg_redis_mset(struct mg_redis_job *job)
{
	if (job->arg_count % 2 == 0) {
		mg_redis_wrong_count(job);
		return;
	}
	for (size_t i = 1; i < job->arg_count; i += 2) {
		if (!put(job, job->args[i], job->args[i + 1])) {
			return;
		}
	}
	job->wave->one = true;
}

void mg_redis_del(struct mg_redis_job *job)
{
	for (size_t i = 1; i < job->arg_count; i++) {
		if (!mg_redis_add(job, MG_KV_DELETE, job->args[i])) {
			return;
		}
	}
}

static void add_number(struct mg_redis_job *job, int64_t number)
{
	struct mg_redis_op *op = mg_redis_add(job, MG_KV_ADD, job->args[1]);

	if (op) {
		op->op.number = (uint64_t)number;
	}
}

void mg_redis_incr(struct mg_redis_job *job)
{
	add_number(job, job->what->param);
}

void mg_redis_incrby(struct mg_redis_job *job)
{
	int64_t number = 0;

	if (!mg_redis_int(job, job->args[2], &number)) {
		return;
	}
	if (job->what->param < 0 && number == INT64_MIN) {
		mg_redis_error(job, "ERR decrement would overflow");
		return;
	}
	add_number(job, job->what->param < 0 ? -number : number);
}

void mg_redis_append(struct mg_redis_job *job)
{
	if (job->args[2].len > MG_KV_VALUE_MAX) {
		mg_redis_error(job, TOO_LARGE);
		return;
	}
	struct mg_redis_op *op = mg_redis_add(job, MG_KV_APPEND, job->args[1]);

	if (op) {
		op->op.value = job->args[2];
	}
}

/* ---- answers ---- */

static void say_value(struct mg_resp_out *out, const struct mg_redis_got *got)
{
	if (got->found) {
		mg_resp_bulk(out, got->value);
	} else {
		mg_resp_nil(out);
	}
}

void mg_redis_value_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	say_value(out, mg_redis_got(job, 0));
}

void mg_redis_values_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	mg_resp_array(out, job->op_count);
	for (size_t i = 0; i < job->op_count; i++) {
		say_value(out, mg_redis_got(job, i));
	}
}

void mg_redis_set_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	const struct mg_redis_got *got = mg_redis_got(job, 0);

	if (job->flag) {
		say_value(out, got);
	} else if (got->status == MG_KV_DONE) {
		mg_resp_simple(out, "OK");
	} else {
		mg_resp_nil(out);
	}
}

void mg_redis_setnx_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	mg_resp_number(out, mg_redis_got(job, 0)->status == MG_KV_DONE);
}

void mg_redis_ok_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	(void)job;
	mg_resp_simple(out, "OK");
}

void mg_redis_count_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	int64_t count = 0;

	for (size_t i = 0; i < job->op_count; i++) {
		count += mg_redis_got(job, i)->found;
	}
	mg_resp_number(out, count);
}

void mg_redis_strlen_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	const struct mg_redis_got *got = mg_redis_got(job, 0);

	mg_resp_number(out, got->found ? (int64_t)got->size : 0);
}

void mg_redis_type_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	mg_resp_simple(out, mg_redis_got(job, 0)->found ? "string" : "none");
}

void mg_redis_number_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	const struct mg_redis_got *got = mg_redis_got(job, 0);

	if (got->status == MG_KV_DONE) {
		mg_resp_number(out, got->number);
	} else {
		mg_resp_error(out, "%s",
		              got->status == MG_KV_OVERFLOW  ? "ERR increment or decrement would overflow"
		              : got->status == MG_KV_TOO_LARGE ? TOO_LARGE
		                                               : MG_REDIS_NO_INT);
	}
}

/* param: 0 seconds that are left, 1 ms; 2 seconds since 1970, 3 ms. */
void mg_redis_ttl_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	const struct mg_redis_got *got = mg_redis_got(job, 0);
	bool left = job->what->param < 2;
	int64_t now_ms = left ? (int64_t)mg_replica_kv_now_ms(mg_redis_replica(job->redis)) : 0;
	int64_t left_ms = (int64_t)got->expiry_ms - now_ms;

	if (!got->found) {
		mg_resp_number(out, -2);
		return;
	}
	if (got->expiry_ms == 0) {
		mg_resp_number(out, -1);
		return;
	}
	left_ms = left_ms > 0 ? left_ms : 0; /* the group's clock has not seen it yet */
	mg_resp_number(out, job->what->param % 2 ? left_ms : left_ms / 1000 + (left_ms % 1000 >= 500));
}

void mg_redis_done_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	mg_resp_number(out, mg_redis_got(job, 0)->status == MG_KV_DONE);
}
