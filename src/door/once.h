/*
 * once.h - what requests with an Idempotency-Key were answered, so that one which is sent again is
 * not done again.
 *
 *   begin -> FIRST   carry it out, then end
 *            WAIT    it is being carried out: told is called when it has ended
 *            KNOWN   the answer, at once
 *            OTHER   the key was used for another request
 *
 * Keys belong to their user.  They live in memory: a restart forgets them.
 *
 * Rule: between begin and end of a key nobody else is FIRST with it.
 *
 * Limits: MG_ONCE_KEYS_MAX answers, MG_ONCE_BYTES_MAX of them, each for MG_ONCE_KEEP_MS; the oldest
 * goes first.  A key that is being carried out never goes.
 *
 * Thread: any.
 */
#ifndef MG_DOOR_ONCE_H
#define MG_DOOR_ONCE_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_ONCE_KEYS_MAX 10000
#define MG_ONCE_BYTES_MAX (64u << 20)
#define MG_ONCE_KEEP_MS 600000u
#define MG_ONCE_KEY_SIZE_MAX 255

struct mg_once;
struct mg_once_entry;

struct mg_once_answer {
	int status;
	bool later;          /* with Retry-After */
	struct mg_buf *body; /* counted; who is given an answer gives its body back */
	struct mg_buf *seen; /* likewise: a header, or NULL */
	char query_id[40];
};

/* References to all that it holds. */
void mg_once_answer_ref(const struct mg_once_answer *answer);
void mg_once_answer_unref(struct mg_once_answer *answer);

struct mg_once_request {
	const char *user, *key;
	uint64_t digest; /* of the request */
	uint64_t now_ms; /* monotonic */
};

/* Of a request that waits; owned by it, and alive until told was called. */
struct mg_once_wait {
	struct mg_once_wait *next;
	/* On the thread of end; takes a reference of its own to the body when it keeps it. */
	void (*told)(void *arg, const struct mg_once_answer *answer);
	void *arg;
};

enum mg_once_state { MG_ONCE_FIRST, MG_ONCE_WAIT, MG_ONCE_KNOWN, MG_ONCE_OTHER };

struct mg_once *mg_once_new(void);
void mg_once_free(struct mg_once *once); /* nothing is being carried out; NULL is fine */
/* FIRST fills entry, WAIT takes wait, KNOWN fills known. */
enum mg_once_state mg_once_begin(struct mg_once *once, const struct mg_once_request *request,
                                 struct mg_once_wait *wait, struct mg_once_answer *known,
                                 struct mg_once_entry **entry);
/* Tells those who wait.  kept: the answer from now on, or NULL: the key may be tried anew. */
void mg_once_end(struct mg_once *once, struct mg_once_entry *entry,
                 const struct mg_once_answer *answer, const struct mg_once_answer *kept,
                 uint64_t now_ms);
size_t mg_once_count(struct mg_once *once); /* keys that are known or being carried out */

#endif
