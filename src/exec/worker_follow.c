/*
 * worker_follow.c - see worker_follow.h.
 *
 * `lock` guards the queues, the pins and what is known of copies.  A writer is the applying
 * thread's while `busy` names its shard, and the fetcher's while nothing does.
 */
#include "exec/worker_follow.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/participant.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/follow_log.h"
#include "replica/redo_apply.h"
#include "store/shard_write.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHARDS_MAX = 4096,
	LAZY_MS = 50,          /* what nobody waits for is applied with what comes until then */
	PIN_MS_MAX = 1000,     /* nobody waits for a pin any more */
	CHECKPOINT_MS = 30000, /* between two, when there is something to write */
	AGAIN_MS = 1000,       /* after a reader was in the way of one */
};
#define EAGER_BYTES (1u << 20)
#define TRANSACTION_BYTES (16u << 20)
#define CHECKPOINT_BYTES (32u << 20)
#define UNWRITTEN_BYTES_MAX (256u << 20) /* of one copy: no reader begins until it is written */

struct piece {
	struct piece *next;
	struct mg_buf *buf;
	struct mg_follow_piece head;
	uint64_t ms; /* when it came */
};

struct copy {
	struct mg_shard_writer *writer; /* NULL: closed */
	bool follows;                   /* also while it is closed for a moment */
	bool own, asked_own, broken;
	uint64_t index, term; /* applied */
	uint64_t queued;      /* whole batches up to there have come */
	uint64_t opened;      /* the batch of which a part has come; 0: none */
	struct piece *first, **end;
	size_t bytes;
	size_t unwritten;   /* bytes applied since the file was written */
	uint64_t tried_ms;  /* to write it, or when it was opened */
	bool tried_in_vain; /* then */
};

struct target {
	uint32_t shard;
	uint64_t index;
};

struct pin {
	struct pin *next;
	uint64_t query;
	bool done;
	struct mg_duck_conn *conn; /* of one that is done */
	uint64_t ms;
	size_t count;
	struct target targets[];
};

struct mg_follower {
	struct mg_follower_options options;
	pthread_t thread;
	bool started, stopping;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	struct mg_channel *channel;
	struct copy *copies; /* by shard */
	uint32_t count;      /* highest shard + 1 */
	uint32_t busy;       /* UINT32_MAX: nothing; SHARDS_MAX: a snapshot is being taken */
	struct pin *pins;    /* oldest first */
	size_t pin_count;
};

/* ---- queues, under the lock ---- */

static void forget_queue(struct copy *copy)
{
	while (copy->first) {
		struct piece *piece = copy->first;

		copy->first = piece->next;
		mg_buf_unref(piece->buf);
		mg_free(piece);
	}
	copy->bytes = 0;
	copy->opened = 0;
	copy->queued = copy->index;
}

static void answer(struct mg_follower *follower, const struct pin *pin, const char *missed)
{
	if (follower->channel && missed) {
		mg_channel_sendf(follower->channel,
		                 "{\"type\":\"pinned\",\"query\":%" PRIu64 ",\"missed\":\"%s\"}",
		                 pin->query, missed);
	} else if (follower->channel) {
		mg_channel_sendf(follower->channel, "{\"type\":\"pinned\",\"query\":%" PRIu64 "}",
		                 pin->query);
	}
}

/* Takes it off the list; its connection is the caller's. */
static struct mg_duck_conn *remove_pin(struct mg_follower *follower, struct pin *pin)
{
	struct pin **at = &follower->pins;
	struct mg_duck_conn *conn = pin->conn;

	while (*at != pin) {
		at = &(*at)->next;
	}
	*at = pin->next;
	follower->pin_count--;
	mg_free(pin);
	return conn;
}

static struct pin *find_pin(struct mg_follower *follower, uint64_t query)
{
	struct pin *pin = follower->pins;

	while (pin && pin->query != query) {
		pin = pin->next;
	}
	return pin;
}

/* ---- applying; without the lock, the copy is busy ---- */

struct applying {
	uint64_t index, term; /* of the last whole batch */
	struct piece *last;   /* of it */
	size_t bytes;
};

/* All records of one piece that the copy does not have. */
static int apply_piece(struct copy *copy, uint32_t shard, const struct piece *piece,
                       struct mg_error *err)
{
	const struct mg_redo_apply apply = { .writer = copy->writer, .shard = shard };
	struct mg_follow_piece head = piece->head;
	struct mg_in redo;
	uint64_t index;
	int code = 0;

	while (!code && mg_follow_record_next(&head, &index, &redo)) {
		code = index > copy->index ? mg_redo_apply(&apply, redo, NULL, err) : 0;
	}
	return code;
}

/* Batches from the front of the list up to this index, as one transaction.  All that are up to
 * there are whole: the front pieces of a batch whose last one is under way are not among them. */
static int apply(struct copy *copy, uint32_t shard, struct piece *first, uint64_t limit,
                 struct applying *done, struct mg_error *err)
{
	int code = mg_shard_writer_begin(copy->writer, err);

	*done = (struct applying){ 0 };
	if (!code && first->head.prev > copy->index) {
		code = mg_error_set(err, MG_E_CORRUPT, "a batch is missing");
	}
	for (struct piece *at = first; !code && at && at->head.index <= limit; at = at->next) {
		code = apply_piece(copy, shard, at, err);
		done->bytes += at->buf->size;
		if (at->head.last) {
			done->index = at->head.index;
			done->term = at->head.term;
			done->last = at;
			if (done->bytes >= TRANSACTION_BYTES || done->index == limit) {
				break; /* behind the limit the channel's thread may be adding */
			}
		}
	}
	mg_assert(code || done->index > copy->index);
	code = code ? code : mg_shard_writer_commit(copy->writer, done->index, done->term, err);
	if (code) {
		mg_shard_writer_rollback(copy->writer);
	}
	return code;
}

/* ---- the applying thread, under the lock ---- */

static void begin_busy(struct mg_follower *follower, uint32_t shard)
{
	mg_assert(follower->busy == UINT32_MAX);
	follower->busy = shard;
	pthread_mutex_unlock(&follower->lock);
}

static void end_busy(struct mg_follower *follower)
{
	pthread_mutex_lock(&follower->lock);
	follower->busy = UINT32_MAX;
	pthread_cond_broadcast(&follower->changed);
}

static void ack(struct mg_follower *follower, uint32_t shard)
{
	const struct copy *copy = &follower->copies[shard];

	if (follower->channel && copy->follows) {
		mg_channel_sendf(follower->channel,
		                 "{\"type\":\"applied\",\"shard\":%" PRIu32 ",\"index\":%" PRIu64 "}",
		                 shard, copy->index);
	}
}

/* What was applied goes off the queue, to which more may have come meanwhile. */
static void take_off(struct copy *copy, const struct piece *last)
{
	bool more = true;

	while (more) {
		struct piece *piece = copy->first;

		more = piece != last;
		copy->first = piece->next;
		copy->bytes -= piece->buf->size;
		mg_buf_unref(piece->buf);
		mg_free(piece);
	}
}

/* It is of no use any more. */
static void give_up(struct mg_follower *follower, uint32_t shard, const struct mg_error *err)
{
	struct copy *copy = &follower->copies[shard];

	mg_log(MG_LOG_ERROR, "copy.broken", "shard=%" PRIu32 " index=%" PRIu64 " error=\"%s\"", shard,
	       copy->index, err->message);
	copy->broken = true;
	copy->follows = false;
	forget_queue(copy);
	pthread_mutex_unlock(&follower->lock);
	follower->options.broken(follower->options.arg, shard);
	pthread_mutex_lock(&follower->lock);
}

static void apply_some(struct mg_follower *follower, uint32_t shard, uint64_t limit)
{
	struct copy *copy = &follower->copies[shard];
	struct piece *first = copy->first;
	struct applying done;
	struct mg_error err = { 0 };

	limit = limit < copy->queued ? limit : copy->queued;
	begin_busy(follower, shard);
	int code = apply(copy, shard, first, limit, &done, &err);
	end_busy(follower);
	if (code) {
		give_up(follower, shard, &err);
		return;
	}
	copy->index = done.index;
	copy->term = done.term;
	copy->unwritten += done.bytes;
	take_off(copy, done.last);
	copy->queued = copy->queued > copy->index ? copy->queued : copy->index;
	ack(follower, shard);
}

static void checkpoint(struct mg_follower *follower, uint32_t shard)
{
	struct copy *copy = &follower->copies[shard];
	struct mg_error err = { 0 };

	begin_busy(follower, shard);
	int code = mg_shard_writer_checkpoint(copy->writer, NULL, 0, NULL, &err);
	end_busy(follower);
	copy->tried_ms = mg_clock_ms();
	copy->tried_in_vain = code != 0;
	copy->unwritten = code ? copy->unwritten : 0;
	if (code && code != MG_E_BUSY) { /* the engine has done with this file until it is attached */
		give_up(follower, shard, &err);
	}
}

/* ---- what is to be done; under the lock ---- */

enum pin_is { PIN_READY, PIN_WAITS, PIN_MISSED };

static enum pin_is look_at(const struct mg_follower *follower, const struct pin *pin)
{
	enum pin_is is = PIN_READY;

	for (size_t i = 0; i < pin->count; i++) {
		const struct copy *copy = &follower->copies[pin->targets[i].shard];
		uint64_t index = pin->targets[i].index;

		if (!copy->follows || copy->index > index || copy->unwritten > UNWRITTEN_BYTES_MAX ||
		    /* the batches that are there do not end at it */
		    (copy->index < index && copy->first && copy->first->head.index > index)) {
			return PIN_MISSED;
		}
		if (!copy->writer || copy->index < index) {
			is = PIN_WAITS;
		}
	}
	return is;
}

/* How far this shard may go: the oldest pin that reads it says.  False: none does. */
static bool limit_of(const struct mg_follower *follower, uint32_t shard, uint64_t *limit)
{
	*limit = UINT64_MAX;
	for (const struct pin *pin = follower->pins; pin; pin = pin->next) {
		for (size_t i = 0; !pin->done && i < pin->count; i++) {
			if (pin->targets[i].shard == shard) {
				*limit = pin->targets[i].index;
				return true;
			}
		}
	}
	return false;
}

static int take_snapshot(struct mg_follower *follower, const struct target *targets, size_t count,
                         struct mg_duck_conn **out, struct mg_error *err)
{
	uint32_t *shards = mg_alloc((count + 1) * sizeof *shards);
	uint64_t *at = mg_alloc((count + 1) * sizeof *at);
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(follower->options.duck, &conn, err);

	for (size_t i = 0; i < count; i++) {
		shards[i] = targets[i].shard;
	}
	code = code ? code : mg_duck_exec(conn, "BEGIN", err);
	code = code ? code : mg_participant_touch(conn, shards, count, at, err);
	for (size_t i = 0; !code && i < count; i++) {
		if (at[i] != targets[i].index) {
			code = mg_error_set(err, MG_E_CORRUPT,
			                    "the copy of shard %" PRIu32 " is at index %" PRIu64
			                    ", not at %" PRIu64,
			                    shards[i], at[i], targets[i].index);
		}
	}
	if (code && conn) {
		mg_duck_disconnect(conn);
		conn = NULL;
	}
	*out = conn;
	mg_free(shards);
	mg_free(at);
	return code;
}

static void take(struct mg_follower *follower, const struct pin *ready)
{
	size_t size = ready->count * sizeof *ready->targets, count = ready->count;
	struct target *targets = mg_alloc(size + 1);
	uint64_t query = ready->query;
	struct mg_duck_conn *conn = NULL;
	struct mg_error err = { 0 };

	memcpy(targets, ready->targets, size);
	begin_busy(follower, SHARDS_MAX);
	if (take_snapshot(follower, targets, count, &conn, &err)) {
		mg_log(MG_LOG_WARN, "copy.pin", "query=%" PRIu64 " error=\"%s\"", query, err.message);
	}
	end_busy(follower);
	mg_free(targets);
	struct pin *pin = find_pin(follower, query); /* it may have been dropped meanwhile */

	if (pin && conn) {
		pin->done = true;
		pin->conn = conn;
		answer(follower, pin, NULL);
		return;
	}
	if (pin) {
		answer(follower, pin, "no snapshot could be taken");
		(void)remove_pin(follower, pin);
	}
	if (conn) {
		pthread_mutex_unlock(&follower->lock);
		mg_duck_disconnect(conn);
		pthread_mutex_lock(&follower->lock);
	}
}

/* True: something was done. */
static bool serve_pins(struct mg_follower *follower, uint64_t now, uint64_t *wake_ms)
{
	for (struct pin *pin = follower->pins; pin; pin = pin->next) {
		enum pin_is is = pin->done ? PIN_WAITS : look_at(follower, pin);

		if (pin->done) {
			continue;
		}
		if (is == PIN_MISSED || now >= pin->ms + PIN_MS_MAX) {
			answer(follower, pin,
			       is == PIN_MISSED ? "the copies are at no such index" : "it took too long");
			(void)remove_pin(follower, pin);
			return true;
		}
		if (is == PIN_READY) {
			take(follower, pin);
			return true;
		}
		*wake_ms = pin->ms + PIN_MS_MAX < *wake_ms ? pin->ms + PIN_MS_MAX : *wake_ms;
	}
	return false;
}

/* A batch of this shard is whole, may be applied, and should be: now, or at *wake_ms. */
static bool is_due(const struct mg_follower *follower, uint32_t shard, uint64_t now,
                   uint64_t *limit, uint64_t *wake_ms)
{
	const struct copy *copy = &follower->copies[shard];
	bool wanted = limit_of(follower, shard, limit);

	if (!copy->first || copy->broken || copy->queued <= copy->index ||
	    copy->first->head.index > *limit) {
		return false;
	}
	if (wanted || copy->bytes >= EAGER_BYTES || now >= copy->first->ms + LAZY_MS) {
		return true;
	}
	*wake_ms = copy->first->ms + LAZY_MS < *wake_ms ? copy->first->ms + LAZY_MS : *wake_ms;
	return false;
}

/* When its file may be written next: not sooner than AGAIN_MS after the last time, however much
 * there is, for a reader may be in the way for long, and other copies wait. */
static uint64_t checkpoint_at(const struct copy *copy)
{
	bool soon = copy->tried_in_vain || copy->unwritten >= CHECKPOINT_BYTES;

	return copy->tried_ms + (soon ? AGAIN_MS : CHECKPOINT_MS);
}

/* True: the lock was let go of. */
static bool serve_copy(struct mg_follower *follower, uint32_t shard, uint64_t now,
                       uint64_t *wake_ms)
{
	struct copy *copy = &follower->copies[shard];
	uint64_t limit;

	if (!copy->writer || copy->broken) {
		return false;
	}
	if (is_due(follower, shard, now, &limit, wake_ms)) {
		if (copy->own) {
			apply_some(follower, shard, limit);
			return true;
		}
		if (!copy->asked_own) {
			copy->asked_own = true;
			pthread_mutex_unlock(&follower->lock);
			follower->options.needs_own(follower->options.arg, shard);
			pthread_mutex_lock(&follower->lock);
			return true;
		}
		return false;
	}
	uint64_t at = checkpoint_at(copy);

	if (copy->unwritten && !follower->pins && now >= at) {
		checkpoint(follower, shard);
		return true;
	}
	at = at > now ? at : now + AGAIN_MS;
	if (copy->unwritten && at < *wake_ms) {
		*wake_ms = at;
	}
	return false;
}

static void *work(void *arg)
{
	struct mg_follower *follower = arg;

	pthread_mutex_lock(&follower->lock);
	while (!follower->stopping) {
		uint64_t now = mg_clock_ms(), wake_ms = now + 60000;
		bool did = serve_pins(follower, now, &wake_ms);

		for (uint32_t i = 0; !did && i < follower->count; i++) {
			did = serve_copy(follower, i, now, &wake_ms);
		}
		if (!did && !follower->stopping) {
			(void)mg_cond_wait_until(&follower->changed, &follower->lock, wake_ms);
		}
	}
	pthread_mutex_unlock(&follower->lock);
	return NULL;
}

/* ---- the fetcher's thread ---- */

int mg_follower_open(struct mg_follower *follower, uint32_t shard, bool own, uint64_t *index,
                     uint64_t *term, struct mg_error *err)
{
	struct mg_shard_writer *writer = NULL;
	char database[16];

	mg_assert(shard < SHARDS_MAX);
	(void)snprintf(database, sizeof database, "s%" PRIu32, shard);
	int code = mg_shard_writer_open(&writer, follower->options.duck, database, err);

	if (code) {
		return code;
	}
	pthread_mutex_lock(&follower->lock);
	struct copy *copy = &follower->copies[shard];

	mg_assert(!copy->writer);
	copy->writer = writer;
	copy->own = own;
	copy->asked_own = copy->broken = false;
	copy->unwritten = 0;
	copy->tried_ms = mg_clock_ms();
	copy->tried_in_vain = false;
	*index = mg_shard_writer_applied(writer);
	*term = mg_shard_writer_term(writer);
	if (!copy->follows || copy->index != *index) {
		forget_queue(copy);
		copy->index = copy->queued = *index;
	}
	copy->term = *term;
	copy->follows = true;
	follower->count = shard >= follower->count ? shard + 1 : follower->count;
	pthread_cond_broadcast(&follower->changed);
	pthread_mutex_unlock(&follower->lock);
	return 0;
}

void mg_follower_close(struct mg_follower *follower, uint32_t shard, bool stays)
{
	struct copy *copy = &follower->copies[shard];

	pthread_mutex_lock(&follower->lock);
	while (follower->busy == shard || follower->busy == SHARDS_MAX) {
		pthread_cond_wait(&follower->changed, &follower->lock);
	}
	struct mg_shard_writer *writer = copy->writer;
	bool write = writer && copy->own && !copy->broken && copy->unwritten;

	copy->writer = NULL;
	if (!stays) {
		copy->follows = false;
		forget_queue(copy);
	}
	pthread_cond_broadcast(&follower->changed);
	pthread_mutex_unlock(&follower->lock);
	if (write) {
		(void)mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &(struct mg_error){ 0 });
	}
	mg_shard_writer_close(writer);
}

bool mg_follower_at(struct mg_follower *follower, uint32_t shard, uint64_t *index, uint64_t *term)
{
	pthread_mutex_lock(&follower->lock);
	while (follower->busy == shard) {
		pthread_cond_wait(&follower->changed, &follower->lock);
	}
	struct copy *copy = &follower->copies[shard];
	bool open = copy->writer && !copy->broken;

	*index = copy->index;
	*term = copy->term;
	if (open) { /* a server begins to send what comes behind, and what an older lease left goes */
		forget_queue(copy);
		copy->follows = true;
	}
	pthread_mutex_unlock(&follower->lock);
	return open;
}

/* ---- the channel's thread ---- */

void mg_follower_connect(struct mg_follower *follower, struct mg_channel *channel)
{
	pthread_mutex_lock(&follower->lock);
	follower->channel = mg_channel_ref(channel);
	pthread_mutex_unlock(&follower->lock);
}

void mg_follower_disconnect(struct mg_follower *follower)
{
	struct mg_duck_conn *conn = NULL;

	pthread_mutex_lock(&follower->lock);
	while (follower->busy != UINT32_MAX) { /* what is being applied counts */
		pthread_cond_wait(&follower->changed, &follower->lock);
	}
	mg_channel_unref(follower->channel);
	follower->channel = NULL;
	for (uint32_t i = 0; i < follower->count; i++) {
		follower->copies[i].follows = false;
		forget_queue(&follower->copies[i]);
	}
	while (follower->pins) {
		conn = remove_pin(follower, follower->pins);
		if (conn) {
			mg_duck_disconnect(conn);
		}
	}
	pthread_mutex_unlock(&follower->lock);
}

/* Under the lock. */
static int enqueue(struct copy *copy, uint32_t shard, struct mg_buf *buf,
                   const struct mg_follow_piece *head, struct mg_error *err)
{
	bool goes_on = copy->opened ? head->index == copy->opened
	                            : head->prev <= copy->queued && head->index > copy->queued;

	if (!goes_on || copy->bytes > MG_FOLLOWER_QUEUE_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    goes_on ? "more is sent of shard %" PRIu32 " than was applied"
		                            : "entries of shard %" PRIu32 " that do not follow",
		                    shard);
	}
	struct piece *piece = mg_alloc0(sizeof *piece);

	piece->buf = mg_buf_ref(buf);
	piece->head = *head;
	piece->ms = mg_clock_ms();
	*(copy->first ? copy->end : &copy->first) = piece;
	copy->end = &piece->next;
	copy->bytes += buf->size;
	copy->opened = head->last ? 0 : head->index;
	copy->queued = head->last ? head->index : copy->queued;
	return 0;
}

int mg_follower_batch(struct mg_follower *follower, uint32_t shard, struct mg_buf *buf,
                      struct mg_error *err)
{
	struct mg_follow_piece head;
	int code = shard < SHARDS_MAX
	               ? mg_follow_piece_decode(buf, &head, err)
	               : mg_error_set(err, MG_E_PROTOCOL, "entries of no shard");

	if (code) {
		return code;
	}
	pthread_mutex_lock(&follower->lock);
	struct copy *copy = &follower->copies[shard];

	if (copy->follows) { /* else it was sent to a copy that is none any more */
		code = enqueue(copy, shard, buf, &head, err);
		pthread_cond_broadcast(&follower->changed);
	}
	pthread_mutex_unlock(&follower->lock);
	return code;
}

static struct pin *read_pin(uint64_t query, const struct mg_json *at)
{
	size_t count = mg_json_is(at, MG_JSON_ARRAY) ? at->count : 0;
	struct pin *pin = mg_alloc0(sizeof *pin + count * sizeof *pin->targets);

	pin->query = query;
	pin->ms = mg_clock_ms();
	mg_json_each(item, at) {
		unsigned long shard = strtoul(mg_json_text(mg_json_at(item, 0)), NULL, 10);

		if (shard >= SHARDS_MAX || pin->count == count) {
			mg_free(pin);
			return NULL;
		}
		pin->targets[pin->count++] = (struct target){
			(uint32_t)shard, strtoull(mg_json_text(mg_json_at(item, 1)), NULL, 10)
		};
	}
	return pin;
}

int mg_follower_pin(struct mg_follower *follower, uint64_t query, const struct mg_json *at,
                    struct mg_error *err)
{
	struct pin *pin = read_pin(query, at), **end = &follower->pins;
	int code = 0;

	pthread_mutex_lock(&follower->lock);
	if (!pin || find_pin(follower, query) || follower->pin_count == MG_FOLLOWER_PINS_MAX) {
		code = mg_error_set(err, MG_E_PROTOCOL, "query %" PRIu64 " cannot be pinned", query);
		mg_free(pin);
	} else {
		while (*end) {
			end = &(*end)->next;
		}
		*end = pin;
		follower->pin_count++;
		pthread_cond_broadcast(&follower->changed);
	}
	pthread_mutex_unlock(&follower->lock);
	return code;
}

struct mg_duck_conn *mg_follower_take(struct mg_follower *follower, uint64_t query)
{
	struct mg_duck_conn *conn = NULL;

	pthread_mutex_lock(&follower->lock);
	struct pin *pin = find_pin(follower, query);

	if (pin && pin->done) {
		conn = remove_pin(follower, pin);
	}
	pthread_mutex_unlock(&follower->lock);
	return conn;
}

void mg_follower_drop(struct mg_follower *follower, uint64_t query)
{
	struct mg_duck_conn *conn = NULL;

	pthread_mutex_lock(&follower->lock);
	struct pin *pin = find_pin(follower, query);

	if (pin) {
		if (!pin->done) {
			answer(follower, pin, "it is not asked for any more");
		}
		conn = remove_pin(follower, pin);
		pthread_cond_broadcast(&follower->changed);
	}
	pthread_mutex_unlock(&follower->lock);
	if (conn) {
		mg_duck_disconnect(conn);
	}
}

/* ---- life ---- */

int mg_follower_new(struct mg_follower **out, const struct mg_follower_options *options,
                    struct mg_error *err)
{
	struct mg_follower *follower = mg_alloc0(sizeof *follower);

	follower->options = *options;
	follower->copies = mg_alloc0(SHARDS_MAX * sizeof *follower->copies);
	follower->busy = UINT32_MAX;
	pthread_mutex_init(&follower->lock, NULL);
	mg_cond_init(&follower->changed);
	follower->started = pthread_create(&follower->thread, NULL, work, follower) == 0;
	if (!follower->started) {
		mg_follower_free(follower);
		return mg_error_set(err, MG_E_NOMEM, "no thread to follow shards with");
	}
	*out = follower;
	return 0;
}

void mg_follower_stop(struct mg_follower *follower)
{
	pthread_mutex_lock(&follower->lock);
	bool join = follower->started;

	follower->stopping = true;
	follower->started = false;
	pthread_cond_broadcast(&follower->changed);
	pthread_mutex_unlock(&follower->lock);
	if (join) {
		pthread_join(follower->thread, NULL);
	}
}

void mg_follower_free(struct mg_follower *follower)
{
	if (!follower) {
		return;
	}
	mg_follower_stop(follower);
	for (uint32_t i = 0; i < follower->count; i++) {
		mg_assert(!follower->copies[i].writer);
		forget_queue(&follower->copies[i]);
	}
	while (follower->pins) {
		struct mg_duck_conn *conn = remove_pin(follower, follower->pins);

		if (conn) {
			mg_duck_disconnect(conn);
		}
	}
	mg_channel_unref(follower->channel);
	pthread_cond_destroy(&follower->changed);
	pthread_mutex_destroy(&follower->lock);
	mg_free(follower->copies);
	mg_free(follower);
}
