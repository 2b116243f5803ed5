/*
 * duck_keys.h - kv('namespace'): keys and values that somebody else has, as a table.
 *
 *     kv('namespace')                    key, value as text; what is no text is an error
 *     kv('namespace', binary := true)    as bytes
 *
 * Its rows come in the order of their keys, by one thread, and none of them is kept.  Further
 * parameters are for plans: merganser_first and merganser_end (BLOB; end is not in it) bound what
 * is read; merganser_bytes := true adds a last column, key_bytes, for who needs keys that may be no
 * text beside a condition that takes them as text.
 *
 * Thread: the hooks are called from DuckDB's threads; one at a time for a scan.
 */
#ifndef MG_STORE_DUCK_KEYS_H
#define MG_STORE_DUCK_KEYS_H

#include "base/error.h"
#include "base/str.h"

struct mg_duck;

#define MG_DUCK_KEYS_NAME "kv"
#define MG_DUCK_KEYS_FIRST "merganser_first"
#define MG_DUCK_KEYS_END "merganser_end"
#define MG_DUCK_KEYS_BYTES "merganser_bytes"
#define MG_DUCK_KEYS_BYTES_COLUMN "key_bytes"

/* A key; valid until the next one is asked for. */
struct mg_duck_key {
	struct mg_str key, value, type, encoding;
	uint64_t version, created_ms, changed_ms;
	uint64_t expiry_ms; /* since 1970; 0: none */
	bool in_parts;      /* the value is not here: `whole` reads it */
};

struct mg_duck_keys {
	/* May there be such a namespace?  Fails: MG_E_UNSUPPORTED there are none at all; MG_E_USAGE. */
	int (*check)(void *arg, struct mg_str space, struct mg_error *err);
	/* How many keys it has, roughly. */
	uint64_t (*count)(void *arg, struct mg_str space);
	/* Those from `first` to before `end` (len 0: all). */
	int (*open)(void *arg, struct mg_str space, struct mg_str first, struct mg_str end, void **scan,
	            struct mg_error *err);
	/* False: the end, or an error, which close tells. */
	bool (*next)(void *scan, struct mg_duck_key *out);
	/* The value of the key that was given last, valid until the next one is asked for.  False: as
	 * next. */
	bool (*whole)(void *scan, struct mg_str *value);
	int (*close)(void *scan, struct mg_error *err);
	void *arg;
};

/* Whom kv() asks from now on; borrowed, until the instance is closed or told NULL.  Before the
 * first statement that calls it. */
void mg_duck_set_keys(struct mg_duck *duck, const struct mg_duck_keys *keys);

#endif
