/*
 * kv_state.h - what a key-value group holds: keys in namespaces, over a part of an LSM tree.
 *
 *     open -> apply, apply, ... -> write        changes gather in a batch; then they are there
 *             get, scan, spaces                 any thread, at any time: what was written last
 *     close
 *
 * In the tree, behind the group's number (big-endian, so that groups lie side by side):
 *
 *     'm'                          applied index, term, the group's time, the last version
 *     'd' space key                a key: its version, times, content type, encoding, value, or
 *                                  which parts are its value
 *     'c' id number                a part of a value: of a key, or of an upload
 *     'u' id                       an upload: how many parts came
 *     'n' space                    how many keys a namespace has, and their bytes: of the keys
 *                                  themselves, their values, content types and encodings
 *     'r' id                       a request that its client named, and its answer; behind a zero
 *                                  byte: a transaction that was decided here, and how
 *     't' id                       a transaction's part that waits for what is decided elsewhere
 *     'l' space key                which transaction holds the key meanwhile
 *     'x' expiry space key         when a key goes; with an empty space: a request,
 *                                  or, behind "\0\1", an upload
 *
 * A version is the number of the change in its group: it rises with each change of any key, and 0
 * is no key.  The group's time is the latest that an entry has brought; a key whose expiry it has
 * reached is not there for anybody, and a tick removes it.  So all of it is a function of the log.
 *
 * Thread: apply and write: one at a time; the rest: any.
 */
#ifndef MG_REPLICA_KV_STATE_H
#define MG_REPLICA_KV_STATE_H

#include "base/mem.h"
#include "replica/kv_command.h"
#include "store/lsm.h"

#define MG_KV_FORMAT 1u /* of what stands in the tree */
#define MG_KV_ID_KEEP_MS 600000u /* a request's id is remembered so long */
#define MG_KV_UPLOAD_KEEP_MS 60000u /* an upload, since its last part */
#define MG_KV_WORK_MAX (32u << 20) /* bytes of answers and of records, of one request */

struct mg_kv_feed;
struct mg_kv_state;

enum mg_kv_status {
	MG_KV_DONE,
	MG_KV_ABSENT,        /* IF_PRESENT, and there is none; or IF_EXPIRY_..., likewise */
	MG_KV_PRESENT,       /* IF_ABSENT */
	MG_KV_OTHER_VERSION, /* IF_VERSION */
	MG_KV_OTHER_EXPIRY,  /* IF_EXPIRY_... */
	MG_KV_NO_NUMBER,     /* ADD: what is there is no integer */
	MG_KV_OVERFLOW,      /* ADD */
	MG_KV_TOO_LARGE,     /* APPEND, STAGE; READ, WANT_OLD: the value is in parts */
	MG_KV_NOT_TRIED,     /* another operation of its request was refused */
	MG_KV_OTHER_REQUEST, /* the client has used its id for another request */
	MG_KV_LOCKED,        /* a transaction holds the key: nothing was tried */
	MG_KV_TOO_MUCH,      /* what the request reads and writes is more than MG_KV_WORK_MAX */
	MG_KV_ABORTED,       /* DECIDE: it was decided otherwise, or is too late; STAGE, PUT_STAGED: the
	                        upload is not there (any more) */
	MG_KV_OVER_QUOTA,    /* the namespace would hold more than it may */
};

/* A key. */
struct mg_kv_found {
	uint64_t version, created_ms, changed_ms;
	uint64_t expiry_ms; /* since 1970; 0: none */
	struct mg_str value, type, encoding;
	uint64_t size; /* of the value */
	/* Not 0: the value lies in so many parts, of this upload, and `value` is empty. */
	uint32_t part_count;
	char parts[MG_KV_TX_ID];
};

struct mg_kv_result {
	enum mg_kv_status status;
	/* READ, WANT_OLD: `was`; DELETE, EXPIRE: there was one; PREPARE, DECIDE: the answers are those
	 * of the same request before; SETTLE: it had waited. */
	bool found;
	struct mg_kv_found was;  /* with its bytes: READ and WANT_OLD only */
	uint64_t version;        /* of the key now; 0: none */
	int64_t number;          /* ADD: the sum; APPEND: bytes of the value; INQUIRE: 1, it happens */
	int64_t more_keys, more_bytes; /* what its namespace has become larger by; not remembered */
	uint64_t quota;          /* OVER_QUOTA: how much it may hold, */
	bool quota_of_keys;      /* of keys or of bytes */
};

/* What a transaction has prepared in other groups adds to a namespace. */
struct mg_kv_growth {
	struct mg_str space;
	int64_t keys, bytes;
};

/* Of one request; of SETTLE, when what waited happens, with those of its operations behind. */
struct mg_kv_results {
	uint64_t number;
	uint32_t count;
	struct mg_kv_result *list;
};

/* Whether the operation, which ended so, keeps its whole request from happening. */
bool mg_kv_stops(const struct mg_kv_op *op, enum mg_kv_status status);

/* Fails: MG_E_CORRUPT, MG_E_IO; MG_E_UNSUPPORTED a newer format. */
int mg_kv_state_open(struct mg_kv_state **out, struct mg_lsm *lsm, uint32_t group,
                     struct mg_error *err);
void mg_kv_state_close(struct mg_kv_state *state); /* NULL is fine */
/* All of it becomes what a file of mg_lsm_export holds, and what was applied and not written is
 * forgotten.  Whoever reads meanwhile is told so, and it
 * is condemned no more. */
int mg_kv_state_replace(struct mg_kv_state *state, const char *path, struct mg_error *err);

/* What it holds is not to be read, until it is replaced.  Any thread. */
void mg_kv_state_condemn(struct mg_kv_state *state);
bool mg_kv_state_is_condemned(const struct mg_kv_state *state);

/* Of the last entry that can be read.  Any thread. */
uint64_t mg_kv_state_index(const struct mg_kv_state *state);
uint64_t mg_kv_state_time_ms(const struct mg_kv_state *state);   /* any thread */
/* The first one; 0: none.  Any thread. */
uint64_t mg_kv_state_expiry_ms(const struct mg_kv_state *state);

/* An entry as mg_kv_entry_decode gives it, or NULL: one that only moves the index.  results: as
 * many as it has requests, in arena; NULL: nobody wants them.  Fails: MG_E_CORRUPT, MG_E_IO. */
int mg_kv_state_apply(struct mg_kv_state *state, uint64_t index, uint64_t term,
                      const struct mg_kv_entry *entry, struct mg_arena *arena,
                      struct mg_kv_results **results, struct mg_error *err);
/* The part that has waited here for longest, if since before `since_ms` of mg_clock_ms: its id, and
 * the shard that decides, which is not `avoid`.  Thread: as apply, and not while entries are in
 * hand. */
bool mg_kv_state_waits(const struct mg_kv_state *state, uint64_t since_ms, uint32_t avoid,
                       char *id, uint32_t *decides);
/* Whether a transaction holds the key.  Thread: as apply.  Fails: as get. */
int mg_kv_state_held(struct mg_kv_state *state, struct mg_str space, struct mg_str key, bool *held,
                     struct mg_error *err);
/* Rises when transactions have let keys go.  Any thread. */
uint64_t mg_kv_state_releases(const struct mg_kv_state *state);
/* It has gone back since the last write: the tree sorts its whole batch anew each time, so it is to
 * be written before it grows.  Thread: as apply. */
bool mg_kv_state_went_back(const struct mg_kv_state *state);
/* As mg_lsm_batch_write. */
int mg_kv_state_write(struct mg_kv_state *state, bool now, struct mg_error *err);

/* Bytes of *out are valid until the value is freed.  MG_E_NOT_FOUND, without a message.  Fails:
 * MG_E_UNAVAILABLE it is being replaced. */
int mg_kv_state_get(struct mg_kv_state *state, struct mg_str space, struct mg_str key,
                    struct mg_kv_found *out, struct mg_lsm_value *value, struct mg_error *err);

/* As get, of so many operations' keys; results: found, was, version.  Each value is to be freed,
 * unless it fails. */
int mg_kv_state_read(struct mg_kv_state *state, const struct mg_kv_op *ops, size_t count,
                     struct mg_kv_result *results, struct mg_lsm_value *values,
                     struct mg_error *err);

/* Keys of a namespace from `first` to before `end` (len 0: all), in order, as of this moment.
 * Fails, by close: as get. */
struct mg_kv_iter;
struct mg_kv_iter *mg_kv_iter_open(struct mg_kv_state *state, struct mg_str space,
                                   struct mg_str first, struct mg_str end);
/* False: the end, or an error, which close tells.  Valid until the next call. */
bool mg_kv_iter_next(struct mg_kv_iter *iter, struct mg_str *key, struct mg_kv_found *found);
bool mg_kv_iter_failed(const struct mg_kv_iter *iter); /* when next has said false */
/* Parts of the value of the key that next has given, one after the other, as of the same moment:
 * there is one key behind them.  The next call of next goes on behind the key.  False: the end, or
 * an error, which close tells; *part is valid until the next call. */
bool mg_kv_iter_part(struct mg_kv_iter *iter, struct mg_str *part);
/* All of them, at once.  Valid until the next call. */
bool mg_kv_iter_whole(struct mg_kv_iter *iter, struct mg_str *value);
int mg_kv_iter_close(struct mg_kv_iter *iter, struct mg_error *err); /* NULL is fine */
/* The same, until take says false. */
int mg_kv_state_scan(struct mg_kv_state *state, struct mg_str space, struct mg_str first,
                     struct mg_str end,
                     bool (*take)(void *arg, struct mg_str key, const struct mg_kv_found *found),
                     void *arg, struct mg_error *err);
/* Namespaces that have keys. */
int mg_kv_state_spaces(struct mg_kv_state *state,
                       void (*take)(void *arg, struct mg_str space, uint64_t keys, uint64_t bytes),
                       void *arg, struct mg_error *err);

/* What changes in it, as it is written.  Lives as long. */
struct mg_kv_feed *mg_kv_state_feed(struct mg_kv_state *state);
/* Bytes that were staged and are no key's.  Any thread. */
uint64_t mg_kv_state_staged(const struct mg_kv_state *state);
/* How much a namespace holds here; 0 also when that cannot be read. */
void mg_kv_state_use(struct mg_kv_state *state, struct mg_str space, uint64_t *keys,
                     uint64_t *bytes);

/* What all of its keys in the tree begin with. */
struct mg_str mg_kv_state_prefix(const struct mg_kv_state *state);

#endif
