/*
 * resp_int.h - what resp*.c share: a connection, its waves, and the table of commands.
 *
 * A wave is a run of commands at the queue's head that may be under way at once: all that only
 * read, or those that write, with a few reads behind them that go through the log as they do.
 * Their operations are sorted by shard, a few calls carry them, and when the last call has ended
 * all are answered in order and the next wave begins.  So a command finds what those before it
 * did, and of one connection there is never more than one wave under way to a shard: writes cannot
 * overtake each other.
 *
 * owner: the connection's loop; results of a wave: the raft thread, from its start to its end; a
 * slow command's job: a query thread, likewise.
 */
#ifndef MG_DOOR_RESP_INT_H
#define MG_DOOR_RESP_INT_H

#include "door/resp.h"
#include "door/resp_parse.h"
#include "door/resp_reply.h"
#include "replica/kv_groups.h"
#include "replica/kv_terms.h"
#include "replica/replica.h"

enum {
	MG_REDIS_COMMANDS_MAX = 1024,     /* of one connection, from parsed to answered */
	MG_REDIS_COMMAND_BYTES = 8 << 20, /* of them, likewise: then nothing more is read */
	MG_REDIS_WAVE_OPS = 1024,         /* then a wave has enough */
	MG_REDIS_WAVE_BYTES = 1 << 20,
	MG_REDIS_OLD_MAX = 8,             /* values that a wave of writes brings: they have room */
	MG_REDIS_READS_MAX = 64,          /* of one call: their values are in memory at once */
	MG_REDIS_WRITES_MAX = 4096,       /* of one call */
	MG_REDIS_CALL_BYTES = 4 << 20,
	MG_REDIS_GOT_BYTES = 32 << 20,    /* values that one call brings */
	MG_REDIS_MULTI_OPS = 16384,       /* of one transaction: it is one entry of a log */
	MG_REDIS_MULTI_BYTES = 12 << 20,
	MG_REDIS_WATCHES_MAX = 1024,
	MG_REDIS_CURSORS = 64,            /* of SCAN, remembered by a connection */
	MG_REDIS_QUEUED_MAX = 4 << 20,    /* answers that a client has not taken: then it must */
};

struct mg_redis;
struct mg_redis_wave;
struct mg_redis_job;

enum mg_redis_flag {
	MG_REDIS_READ = 1,
	MG_REDIS_WRITE = 2,
	MG_REDIS_OPEN = 4,       /* without a login */
	MG_REDIS_NOW = 8,        /* in a transaction it is carried out, not queued */
	MG_REDIS_ALONE = 16,     /* the last one of its wave, which has no other operations */
	MG_REDIS_NO_MULTI = 32,  /* refused in a transaction */
	MG_REDIS_FAST = 64,      /* for COMMAND alone */
};

/* A row of the table. */
struct mg_redis_command {
	const char *name; /* lower case */
	int arity;        /* words, with the name; negative: at least */
	unsigned flags;
	int first, last, step; /* where its keys are; 0: none */
	/* On the loop: adds operations, or answers. */
	void (*begin)(struct mg_redis_job *job);
	/* On the loop, when the operations have ended well; NULL: begin answers. */
	void (*answer)(struct mg_redis_job *job, struct mg_resp_out *out);
	int param; /* of begin and answer */
};

/* What came of an operation. */
struct mg_redis_got {
	enum mg_kv_status status;
	bool found, skipped; /* skipped: there was no room for its value */
	uint64_t version, expiry_ms;
	int64_t number;
	size_t size;         /* of the value */
	struct mg_str value; /* when it was wanted */
	uint64_t quota;      /* as of mg_kv_result */
	bool quota_of_keys;
};

struct mg_redis_op {
	struct mg_kv_op op;
	uint32_t shard;
	bool want_value;
	struct mg_redis_got got;
};

/* A command of a wave, or of a transaction in it. */
struct mg_redis_job {
	struct mg_redis_job *next;
	struct mg_redis_wave *wave;
	struct mg_redis *redis;
	struct mg_resp_command *command; /* NULL: it belongs to a transaction */
	const struct mg_redis_command *what;
	const struct mg_str *args; /* with the name */
	size_t arg_count;
	struct mg_resp_out reply;  /* of begin, or of the slow part */
	size_t first_op, op_count; /* in the wave */
	int64_t number;            /* these two as the command likes */
	bool flag;
	struct mg_redis_job *parts; /* EXEC: of its commands */
	size_t part_count, checks;  /* and how many keys were watched */
	void *detail;               /* in the wave's arena */
};

struct mg_redis_call;

struct mg_redis_wave {
	struct mg_redis *redis;
	struct mg_arena *arena;
	struct mg_redis_job *jobs, **last;
	size_t job_count;
	unsigned kind; /* MG_REDIS_READ, MG_REDIS_WRITE or 0 */
	bool full;     /* nothing more comes into it */
	bool one;      /* its operations happen together or not at all */
	size_t bytes, olds;
	struct mg_redis_op *ops;
	size_t op_count, op_cap;
	struct mg_str space; /* a copy of the connection's, for its operations */
	/* Shards that must be up to date for the slow part. */
	uint32_t barrier_first, barrier_count;
	void (*slow)(struct mg_redis_job *job); /* of the last job, on a query thread; or NULL */
	struct mg_redis_call *calls;
	atomic_size_t left; /* calls that have not ended */
};

struct mg_redis_watch {
	char *space, *key;
	size_t key_len;
	uint64_t version;
};

struct mg_redis_cursor {
	uint64_t token; /* 0: none */
	uint32_t shard;
	char *key; /* the first one that was not looked at */
	size_t key_len;
};

struct mg_redis {
	struct mg_doors *doors;
	struct mg_conn *conn; /* NULL: gone; then only the wave keeps this */
	struct mg_loop *loop;
	struct mg_resp_parser parser;
	char bad[MG_RESP_ERROR_SIZE]; /* to be said when all before it is answered; "" */
	struct mg_resp_command *queue, **queue_last;
	size_t pending, pending_bytes; /* from parsed to answered */
	struct mg_redis_wave *wave;    /* under way; or NULL */
	bool quitting;
	/* what commands have set */
	bool logged_in, v3;
	char user[64];
	char space[MG_KV_SPACE_MAX + 1];
	char name[64], lib_name[64], lib_version[32];
	uint64_t since_ms;
	/* transactions */
	bool multi, dirty;
	struct mg_resp_command *queued, **queued_last;
	size_t queued_count, queued_bytes;
	struct mg_redis_watch *watches;
	size_t watch_count, watch_cap;
	/* SCAN */
	struct mg_redis_cursor *cursors; /* MG_REDIS_CURSORS of them; or NULL */
	uint64_t next_token;
};

/* ---- resp.c ---- */
void mg_redis_go_on(struct mg_redis *redis);
/* Login, or its end. */
void mg_redis_admit(struct mg_redis *redis, const char *user);
void mg_redis_forget(struct mg_redis *redis); /* all that commands have set, as RESET does */

/* ---- resp_wave.c ---- */
struct mg_replica *mg_redis_replica(const struct mg_redis *redis);
/* Commands of the queue's head, begun. */
struct mg_redis_wave *mg_redis_wave_new(struct mg_redis *redis);
/* False: there is nothing to wait for.  Else mg_redis_wave_ended is called, later. */
bool mg_redis_wave_start(struct mg_redis_wave *wave);
/* Answers of all, in order; those that had no room go back to the queue. */
void mg_redis_wave_answer(struct mg_redis_wave *wave, struct mg_resp_out *out);
bool mg_redis_has_large(struct mg_redis_job *job); /* a value that is wanted is in parts */
void mg_redis_wave_free(struct mg_redis_wave *wave);
void mg_redis_wave_ended(struct mg_redis_wave *wave); /* resp.c */

/* An operation of the job; the key, and a value, stay as long as the command.  NULL: the job has
 * been answered: the key or the value cannot be. */
struct mg_redis_op *mg_redis_add(struct mg_redis_job *job, enum mg_kv_op_kind kind,
                                 struct mg_str key);
struct mg_redis_got *mg_redis_got(struct mg_redis_job *job, size_t i);
bool mg_redis_has_shards(struct mg_redis_job *job); /* of keys; false after an answer */

/* ---- resp_commands.c ---- */
extern const struct mg_redis_command mg_redis_commands[];
extern const size_t mg_redis_command_count;
const struct mg_redis_command *mg_redis_find(struct mg_str name);
/* Begins it, or queues it, or refuses it: what is NULL for a command that is none. */
void mg_redis_begin(struct mg_redis_job *job);
void mg_redis_count(const struct mg_redis_command *what); /* NULL: unknown */
void mg_redis_error(struct mg_redis_job *job, const char *text); /* with its first word */
void mg_redis_ok(struct mg_redis_job *job);
void mg_redis_unknown_part(struct mg_redis_job *job);       /* a subcommand */
void mg_redis_wrong_count(struct mg_redis_job *job);        /* arguments */
bool mg_redis_is(struct mg_str word, const char *name);     /* in any case */
/* False after an answer. */
bool mg_redis_int(struct mg_redis_job *job, struct mg_str text, int64_t *out);

#define MG_REDIS_SYNTAX "ERR syntax error"
#define MG_REDIS_NO_INT "ERR value is not an integer or out of range"
#define MG_REDIS_LARGE "ERR the value is larger than 4 MiB: GET /kv/NAMESPACE/KEY over HTTP"
#define MG_REDIS_BAD_NAME \
	"ERR Client names cannot contain spaces, newlines or special characters."
#define MG_REDIS_VERSION "7.0.0" /* whose commands and answers these are */

/* ---- resp_client.c, resp_login.c, resp_tx.c, resp_keys.c, resp_expiry.c, resp_scan.c ---- */
typedef void mg_redis_begin_fn(struct mg_redis_job *job);
typedef void mg_redis_answer_fn(struct mg_redis_job *job, struct mg_resp_out *out);

mg_redis_begin_fn mg_redis_auth, mg_redis_hello, mg_redis_select, mg_redis_ping, mg_redis_echo,
	mg_redis_quit, mg_redis_reset, mg_redis_client, mg_redis_config, mg_redis_info,
	mg_redis_command;
mg_redis_begin_fn mg_redis_multi, mg_redis_exec, mg_redis_discard, mg_redis_watch,
	mg_redis_unwatch;
mg_redis_begin_fn mg_redis_read, mg_redis_set, mg_redis_setnx, mg_redis_setex, mg_redis_getset,
	mg_redis_getdel, mg_redis_mset, mg_redis_del, mg_redis_incr, mg_redis_incrby,
	mg_redis_append;
mg_redis_begin_fn mg_redis_getex, mg_redis_expire, mg_redis_persist;
mg_redis_begin_fn mg_redis_scan, mg_redis_keys, mg_redis_dbsize;
mg_redis_answer_fn mg_redis_login_answer, mg_redis_exec_answer, mg_redis_watch_answer,
	mg_redis_slow_answer;
mg_redis_answer_fn mg_redis_value_answer, mg_redis_values_answer, mg_redis_set_answer,
	mg_redis_setnx_answer, mg_redis_ok_answer, mg_redis_count_answer, mg_redis_strlen_answer,
	mg_redis_type_answer, mg_redis_number_answer, mg_redis_ttl_answer, mg_redis_done_answer;

/* Milliseconds from `count` of unit_ms each, behind now or (absolute) since 1970, into an
 * operation.  False after an answer: nothing such can be. */
bool mg_redis_put_expiry(struct mg_redis_job *job, struct mg_kv_op *op, int64_t count,
                         int64_t unit_ms, bool absolute, bool past_too);
bool mg_redis_is_name(struct mg_str text); /* of a client */
void mg_redis_unwatch_all(struct mg_redis *redis);
void mg_redis_drop_queued(struct mg_redis *redis); /* of a transaction, which ends */
void mg_redis_drop_cursors(struct mg_redis *redis);

#endif
