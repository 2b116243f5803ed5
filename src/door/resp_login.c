/*
 * resp_login.c - AUTH and HELLO: who is there, and which version is spoken.
 *
 * A password that is not remembered is checked on a query thread: argon2id takes 50 ms on purpose.
 *
 * owner: the connection's loop; struct login is the query thread's while it checks.
 */
#include "door/resp_int.h"

#include "auth/auth.h"
#include "base/log.h"
#include "mg_version.h"

#include <sodium.h>
#include <string.h>

struct login {
	char *user, *password; /* NULL: nobody logs in */
	enum mg_role role;
	struct mg_error err;
	/* of HELLO */
	bool hello, v3;
	const char *name; /* NULL: stays */
};

static char *text_of(struct mg_redis_job *job, struct mg_str text)
{
	return mg_arena_strndup(job->wave->arena, text.ptr, text.len);
}

/* ---- answers ---- */

static void say_hello(struct mg_redis *redis, struct mg_resp_out *out)
{
	mg_resp_map(out, 7);
	mg_resp_bulk(out, mg_str("server"));
	mg_resp_bulk(out, mg_str("redis")); /* what clients know */
	mg_resp_bulk(out, mg_str("version"));
	mg_resp_bulk(out, mg_str(MG_REDIS_VERSION));
	mg_resp_bulk(out, mg_str("proto"));
	mg_resp_number(out, redis->v3 ? 3 : 2);
	mg_resp_bulk(out, mg_str("id"));
	mg_resp_number(out, redis->conn ? (int64_t)mg_conn_id(redis->conn) : 0);
	mg_resp_bulk(out, mg_str("mode"));
	mg_resp_bulk(out, mg_str("standalone"));
	mg_resp_bulk(out, mg_str("role"));
	mg_resp_bulk(out, mg_str("master"));
	mg_resp_bulk(out, mg_str("modules"));
	mg_resp_array(out, 0);
}

static void refuse(const struct mg_redis *redis, const struct login *login,
                   struct mg_resp_out *out)
{
	mg_rest_count_login("refused");
	mg_log(MG_LOG_WARN, "login.refused", "user=%.64s peer=%s reason=%s", login->user,
	       redis->conn ? mg_conn_peer(redis->conn) : "", login->err.message);
	mg_resp_error(out, "WRONGPASS invalid username-password pair or user is disabled.");
}

/* Whether who wanted to log in is in; an answer when not. */
static bool admit(struct mg_redis *redis, const struct login *login, struct mg_resp_out *out)
{
	if (!login->user) {
		return true;
	}
	if (login->err.code == MG_E_AUTH) {
		refuse(redis, login, out);
	} else if (login->err.code) {
		mg_resp_error(out, "ERR %s", login->err.message);
	} else if (login->role != MG_ROLE_CLIENT && login->role != MG_ROLE_ADMIN) {
		mg_rest_count_login("wrong_role");
		mg_resp_error(out, "NOPERM the user of workers opens /worker and nothing else");
	} else {
		mg_rest_count_login("ok");
		mg_redis_admit(redis, login->user);
		return true;
	}
	return false;
}

/* What was asked for, as far as the login is good. */
static void conclude(struct mg_redis *redis, const struct login *login, struct mg_resp_out *out)
{
	if (!admit(redis, login, out)) {
		return;
	}
	if (!login->hello) {
		mg_resp_simple(out, "OK");
		return;
	}
	redis->v3 = out->v3 = login->v3;
	if (login->name) {
		mg_copy_text(redis->name, sizeof redis->name, login->name);
	}
	say_hello(redis, out);
}

void mg_redis_login_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	struct login *login = job->detail;

	conclude(job->redis, login, out);
}

/* ---- checking ---- */

static void wipe(void *arg)
{
	struct login *login = arg;

	sodium_memzero(login->password, strlen(login->password));
}

/* On a query thread. */
static void check(struct mg_redis_job *job)
{
	struct login *login = job->detail;
	struct mg_doors *doors = job->redis->doors;

	if (mg_admission_enter(doors->logins, NULL, NULL, &login->err) == 0) {
		(void)mg_login_check(doors->options.login, login->user, login->password, &login->role,
		                     &login->err);
		mg_admission_leave(doors->logins);
	}
}

/* Answers at once, or when a thread has looked at the password. */
static void begin_login(struct mg_redis_job *job, struct login *login)
{
	struct mg_redis *redis = job->redis;
	struct mg_doors *doors = redis->doors;
	struct mg_error err = { 0 };

	job->detail = login;
	if (login->user && mg_rest_check_cert(doors, mg_conn_cert(redis->conn), login->user, &err)) {
		mg_rest_count_login("refused");
		mg_resp_error(&job->reply, "WRONGPASS %s", err.message);
		return;
	}
	if (login->user) {
		mg_arena_defer(job->wave->arena, wipe, login);
	}
	if (!login->user ||
	    mg_login_cached(doors->options.login, login->user, login->password, &login->role)) {
		conclude(redis, login, &job->reply);
	} else {
		job->wave->slow = check;
	}
}

/* ---- AUTH, HELLO ---- */

void mg_redis_auth(struct mg_redis_job *job)
{
	struct login *login = mg_arena_alloc(job->wave->arena, sizeof *login);

	if (job->arg_count > 3) {
		mg_redis_error(job, MG_REDIS_SYNTAX);
		return;
	}
	login->user = text_of(job, job->arg_count == 3 ? job->args[1] : MG_STR("default"));
	login->password = text_of(job, job->args[job->arg_count - 1]);
	begin_login(job, login);
}

/* AUTH user password, SETNAME name; false after an answer. */
static bool read_options(struct mg_redis_job *job, struct login *login)
{
	for (size_t i = 2; i < job->arg_count; i++) {
		struct mg_str word = job->args[i];

		if (mg_redis_is(word, "auth") && i + 2 < job->arg_count) {
			login->user = text_of(job, job->args[i + 1]);
			login->password = text_of(job, job->args[i + 2]);
			i += 2;
		} else if (mg_redis_is(word, "setname") && i + 1 < job->arg_count) {
			login->name = text_of(job, job->args[++i]);
			if (!mg_redis_is_name(job->args[i])) {
				mg_redis_error(job, MG_REDIS_BAD_NAME);
				return false;
			}
		} else {
			mg_resp_error(&job->reply, "ERR Syntax error in HELLO option '%.*s'",
			              (int)(word.len < 128 ? word.len : 128), word.ptr);
			return false;
		}
	}
	return true;
}

void mg_redis_hello(struct mg_redis_job *job)
{
	struct login *login = mg_arena_alloc(job->wave->arena, sizeof *login);
	int64_t version = job->redis->v3 ? 3 : 2;

	if (job->arg_count > 1 && !mg_resp_int(job->args[1], &version)) {
		mg_redis_error(job, "ERR Protocol version is not an integer or out of range");
		return;
	}
	if (version != 2 && version != 3) {
		mg_redis_error(job, "NOPROTO unsupported protocol version");
		return;
	}
	login->hello = true;
	login->v3 = version == 3;
	if (!read_options(job, login)) {
		return;
	}
	if (!login->user && !job->redis->logged_in) {
		mg_redis_error(job, "NOAUTH HELLO must be called with the client already authenticated, "
		                    "otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "
		                    "authenticate the client and select the RESP protocol version at the "
		                    "same time");
		return;
	}
	begin_login(job, login);
}
