/*
 * kv_command.h - an entry of a key-value group's log: requests that were gathered, as bytes.
 *
 *      0  u8 version: 1, or 2 with limits   u8 kind   u16 count of limits
 *      4  u32 count of requests
 *      8  u64 time_ms      kv_clock.h of its origin; the group's time is the latest of all so far
 *     16  u64 origin       node at which the requests wait
 *     24  u64 incarnation  of that node
 *     32  limits, each of a namespace (struct mg_kv_limit):
 *         u8 size, bytes of its name   u64 keys   u64 bytes   u64 keys elsewhere   u64 bytes
 *         elsewhere
 *         requests, each:
 *         u64 number       in that life of the node, from 1
 *         u8 size, bytes   the client's id of it, or none: the same id again changes nothing more,
 *                          and has the same answer
 *         u32 count of operations, each:
 *            u8 kind  u8 size of namespace  u16 flags
 *            u32 size of key   u32 size of value   u8 size of content type   u8 of encoding
 *            u64 number   u64 expiry
 *            the bytes of those five
 *
 * Numbers are little-endian.  A request is atomic: when one of its conditions does not hold, none
 * of its operations changes anything.  One that is a group's part of a transaction over several
 * begins with an operation that says so (kv_atomic.h).
 *
 * Pure; any thread.  Limits: MG_KV_..._MAX.
 */
#ifndef MG_REPLICA_KV_COMMAND_H
#define MG_REPLICA_KV_COMMAND_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

#define MG_KV_SPACE_MAX 64u
#define MG_KV_KEY_MAX 65536u
#define MG_KV_VALUE_MAX (4u << 20) /* of an operation; a larger value comes in parts */
#define MG_KV_LARGE_MAX (64u << 20) /* of a value in parts */
#define MG_KV_PARTS_MAX 128u
#define MG_KV_TYPE_MAX 255u
#define MG_KV_ID_MAX 64u
#define MG_KV_TX_ID 16u
#define MG_KV_TTL_S_MAX (100.0 * 365 * 86400) /* which the doors take */
#define MG_KV_OPS_MAX 65536u /* of a request */
#define MG_KV_ENTRY_HEAD 32u

/* Stored: never renumber. */
enum mg_kv_command_kind {
	MG_KV_REQUESTS = 1,
	MG_KV_TICK = 2, /* only time passes: what has expired goes */
	MG_KV_COMPARE = 3, /* behind its head: CHECK or CHECKED of command.h */
};

enum mg_kv_op_kind {
	MG_KV_READ = 1,
	MG_KV_PUT = 2,
	MG_KV_DELETE = 3,
	MG_KV_ADD = 4,    /* number, signed, to a value that is a decimal integer; none counts as 0 */
	MG_KV_APPEND = 5, /* value */
	MG_KV_EXPIRE = 6, /* as the flags say; without MG_KV_EXPIRES the key stays for good */
	MG_KV_CHECK = 7,  /* nothing but its conditions */
	/* Of a transaction, whose id, MG_KV_TX_ID bytes, is the key; they have no namespace. */
	MG_KV_PREPARE = 8,  /* first: what follows is looked at and waits; number: who decides */
	MG_KV_DECIDE = 9,   /* first: it happens, and what follows with it; expiry: no later, ms */
	MG_KV_SETTLE = 10,  /* alone: what waits happens, number 1, or does not, 0 */
	MG_KV_INQUIRE = 11, /* alone: was it decided?  If not, it cannot be any more */
	MG_KV_FORGET = 12,  /* alone: the decision has been carried out everywhere */
	/* Of a value in parts; the first two are alone, have no namespace, and the upload's id, of
	 * MG_KV_TX_ID bytes, is the key (kv_large.c). */
	MG_KV_STAGE = 13,      /* value: the part of that number, the next one or an earlier one */
	MG_KV_DISCARD = 14,    /* what was staged goes, unless a key has it */
	MG_KV_PUT_STAGED = 15, /* PUT, whose value is a struct mg_kv_staged */
};

/* Which parts make a value.  The same request with another upload is the same request. */
struct mg_kv_staged {
	char id[MG_KV_TX_ID];
	uint32_t count;
	uint64_t size;
	uint64_t digest[2]; /* of the bytes */
};

#define MG_KV_STAGED_SIZE (MG_KV_TX_ID + 4u + 3u * 8u)

enum mg_kv_flag {
	/* Conditions. */
	MG_KV_IF_ABSENT = 1,
	MG_KV_IF_PRESENT = 2,
	MG_KV_IF_VERSION = 4, /* is `number`; 0: absent */
	/* A condition that does not hold stops this operation only, not the request. */
	MG_KV_ALONE = 8,
	MG_KV_WANT_OLD = 16,  /* the answer holds what was there */
	MG_KV_EXPIRES = 32,   /* in `expiry` ms */
	MG_KV_ABSOLUTE = 64,  /* no, at `expiry`, ms since 1970 */
	MG_KV_KEEP_EXPIRY = 128,
	MG_KV_IF_EXPIRY_NONE = 256,  /* EXPIRE: only when it has no expiry; as the next two */
	MG_KV_IF_EXPIRY_LATER = 512, /* the new one is later; none is for ever */
	MG_KV_IF_EXPIRY_SOONER = 1024,
	MG_KV_IF_EXPIRY_ANY = 2048, /* only when it has one */
	/* Of one that stands ALONE: over a quota it stops its request all the same. */
	MG_KV_TOGETHER = 4096,
	/* EXPIRES is not the client's wish but the namespace's default. */
	MG_KV_EXPIRES_BY_DEFAULT = 8192,
	MG_KV_FOR_GOOD = 16384, /* and no default is meant */
};

struct mg_kv_op {
	uint8_t kind;
	uint16_t flags;
	struct mg_str space, key;
	struct mg_str value, type, encoding; /* type, encoding: as of HTTP's Content- */
	uint64_t number; /* IF_VERSION: the version; ADD: the summand */
	uint64_t expiry;
};

/* How much a namespace may hold, all shards together; what it holds in the others, as who made the
 * entry knew it.  So its requests end in the same way on all replicas. */
struct mg_kv_limit {
	struct mg_str space;
	uint64_t keys_max, bytes_max; /* 0: any number */
	uint64_t keys_elsewhere, bytes_elsewhere;
};

struct mg_kv_entry {
	uint8_t kind;
	uint16_t limit_count;
	uint32_t count;
	uint64_t time_ms, origin, incarnation;
	struct mg_in limits, requests;
};

struct mg_kv_request {
	uint64_t number;
	struct mg_str id;
	uint32_t op_count;
	struct mg_in ops;
};

/* Whether an operation is of a key in a namespace, and not of a transaction or an upload. */
bool mg_kv_has_key(uint8_t kind);
/* Whether it may make a key, or make one larger. */
bool mg_kv_fills(uint8_t kind);
/* MG_KV_STAGED_SIZE bytes.  False: it makes no sense. */
void mg_kv_staged_encode(const struct mg_kv_staged *staged, char *out);
bool mg_kv_staged_decode(struct mg_str bytes, struct mg_kv_staged *out);

/* The name of a namespace: 1 to 64 letters, digits, "_", "-" and ".". */
bool mg_kv_is_space(struct mg_str name);
/* What may be given back as a value of Content-Type or Content-Encoding: no control characters. */
bool mg_kv_is_header(struct mg_str text);

void mg_kv_entry_encode(struct mg_out *out, const struct mg_kv_entry *entry); /* its head */
size_t mg_kv_limit_size(const struct mg_kv_limit *limit);
void mg_kv_limit_encode(struct mg_out *out, const struct mg_kv_limit *limit);
size_t mg_kv_op_size(const struct mg_kv_op *op);
void mg_kv_op_encode(struct mg_out *out, const struct mg_kv_op *op);
size_t mg_kv_request_size(const struct mg_kv_request *request); /* its head */
void mg_kv_request_encode(struct mg_out *out, const struct mg_kv_request *request);

/* All of it is checked here, so that the others find what they look for.  Fails: MG_E_PROTOCOL. */
int mg_kv_entry_decode(const uint8_t *data, size_t size, struct mg_kv_entry *out,
                       struct mg_error *err);
/* It begins with what ends something that was begun.  Any bytes. */
bool mg_kv_entry_settles(const uint8_t *data, size_t size);
/* One after the other, `count` times.  False: it is cut, or too large. */
bool mg_kv_limit_next(struct mg_in *in, struct mg_kv_limit *out);
bool mg_kv_request_next(struct mg_in *in, struct mg_kv_request *out);
bool mg_kv_op_next(struct mg_in *in, struct mg_kv_op *out);

#endif
