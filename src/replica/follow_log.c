/*
 * follow_log.c - see follow_log.h.
 *
 * Batches are immutable once they are in the list, and counted, so a slow follower holds what it is
 * being sent and nothing else.
 */
#include "replica/follow_log.h"

#include "base/assert.h"
#include "os/clock.h"

#include <pthread.h>
#include <string.h>

enum {
	RECORD_HEAD = 12,
	FIRST_PIECE = 512,
	OVERHEAD = 192, /* of the heap and of alignment, for a batch and for each piece */
};

struct mg_follow_log {
	size_t bytes_max;
	/* owner: the lane */
	struct mg_follow_batch *open; /* being added to; NULL: nothing yet */
	bool torn;                    /* no memory for it */
	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_follow_batch **batches; /* oldest first */
	size_t count, cap, bytes;
	uint64_t start, start_term; /* what comes behind is here */
	void (*more)(void *arg);
	void *more_arg;
};

/* ---- pieces ---- */

int mg_follow_piece_decode(const struct mg_buf *buf, struct mg_follow_piece *out,
                           struct mg_error *err)
{
	struct mg_in in = mg_in(buf->data, buf->size);

	*out = (struct mg_follow_piece){ .prev = mg_in_u64(&in) };
	out->index = mg_in_u64(&in);
	out->term = mg_in_u64(&in);
	out->last = mg_in_u8(&in) == 1;
	out->records = in;
	while (!in.failed && in.at < in.end) {
		uint64_t index = mg_in_u64(&in);
		uint32_t size = mg_in_u32(&in);

		(void)mg_in_bytes(&in, size);
		in.failed = in.failed || index <= out->prev || index > out->index;
	}
	return !in.failed && out->index > out->prev
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "entries to follow that make no sense");
}

bool mg_follow_record_next(struct mg_follow_piece *piece, uint64_t *index, struct mg_in *redo)
{
	if (piece->records.failed || piece->records.at == piece->records.end) {
		return false;
	}
	*index = mg_in_u64(&piece->records);
	uint32_t size = mg_in_u32(&piece->records);
	const uint8_t *bytes = mg_in_bytes(&piece->records, size);

	*redo = mg_in(bytes, bytes ? size : 0);
	return bytes != NULL;
}

/* ---- batches ---- */

void mg_follow_batch_unref(struct mg_follow_batch *batch)
{
	if (batch && atomic_fetch_sub(&batch->refs, 1) == 1) {
		for (size_t i = 0; i < batch->count; i++) {
			mg_buf_unref(batch->pieces[i]);
		}
		mg_free(batch->pieces);
		mg_free(batch);
	}
}

static struct mg_follow_batch *open_batch(struct mg_follow_log *log)
{
	if (!log->open) {
		log->open = mg_alloc0(sizeof *log->open);
		atomic_init(&log->open->refs, 1);
	}
	return log->open;
}

/* Room for so many bytes in one piece; NULL: no memory. */
static struct mg_buf *room(struct mg_follow_batch *batch, size_t size)
{
	struct mg_buf *last = batch->count ? batch->pieces[batch->count - 1] : NULL;

	if (last && last->size + size <= last->cap) {
		return last;
	}
	/* The first one is small, for most batches are a row or two, or none; each is twice the one
	 * before, so that what a batch takes, which is what counts, is not far more than it holds. */
	size_t cap = MG_FOLLOW_HEAD + size, first = size ? FIRST_PIECE : cap;
	size_t usual = last ? 2 * last->cap : first;

	usual = usual < MG_FOLLOW_PIECE ? usual : MG_FOLLOW_PIECE;
	struct mg_buf *buf = mg_buf_new(cap > usual ? cap : usual);

	if (buf) {
		memset(buf->data, 0, MG_FOLLOW_HEAD);
		buf->size = MG_FOLLOW_HEAD;
		mg_grow(batch->pieces, batch->count, batch->cap);
		batch->pieces[batch->count++] = buf;
	}
	return buf;
}

void mg_follow_log_add(struct mg_follow_log *log, uint64_t index, const void *redo, size_t size)
{
	if (!log || log->torn) {
		return;
	}
	struct mg_buf *buf = size > UINT32_MAX ? NULL : room(open_batch(log), RECORD_HEAD + size);

	if (!buf) {
		log->torn = true;
		return;
	}
	struct mg_out out = mg_out(buf->data + buf->size, buf->cap - buf->size);

	mg_out_u64(&out, index);
	mg_out_u32(&out, (uint32_t)size);
	mg_out_bytes(&out, redo, size);
	buf->size += out.size;
}

void mg_follow_log_drop(struct mg_follow_log *log)
{
	if (log) {
		mg_follow_batch_unref(log->open);
		log->open = NULL;
		log->torn = false;
	}
}

/* Under the lock. */
static void forget(struct mg_follow_log *log, size_t count)
{
	if (count == 0) {
		return; /* there may be no list yet */
	}
	for (size_t i = 0; i < count; i++) {
		log->bytes -= log->batches[i]->bytes;
		log->start = log->batches[i]->index;
		log->start_term = log->batches[i]->term;
		mg_follow_batch_unref(log->batches[i]);
	}
	log->count -= count;
	memmove(log->batches, log->batches + count, log->count * sizeof *log->batches);
}

/* Under the lock.  An eighth at once: what is behind moves up in the list. */
static void forget_old(struct mg_follow_log *log)
{
	size_t old = 0, bytes = log->bytes;

	if (bytes <= log->bytes_max) {
		return;
	}
	while (bytes > log->bytes_max - log->bytes_max / 8 && old + 1 < log->count) {
		bytes -= log->batches[old++]->bytes;
	}
	forget(log, old);
}

static void tell(struct mg_follow_log *log)
{
	pthread_mutex_lock(&log->lock);
	if (log->more) {
		log->more(log->more_arg);
	}
	pthread_mutex_unlock(&log->lock);
}

void mg_follow_log_reset(struct mg_follow_log *log, uint64_t index, uint64_t term)
{
	if (!log) {
		return;
	}
	mg_follow_log_drop(log);
	pthread_mutex_lock(&log->lock);
	forget(log, log->count);
	log->start = index;
	log->start_term = term;
	pthread_mutex_unlock(&log->lock);
	tell(log);
}

/* Under the lock. */
static uint64_t last_index(const struct mg_follow_log *log, uint64_t *term)
{
	const struct mg_follow_batch *last = log->count ? log->batches[log->count - 1] : NULL;

	*term = last ? last->term : log->start_term;
	return last ? last->index : log->start;
}

/* Heads, now that all is known. */
static void seal(struct mg_follow_batch *batch)
{
	batch->bytes = sizeof *batch + OVERHEAD;
	for (size_t i = 0; i < batch->count; i++) {
		struct mg_out out = mg_out(batch->pieces[i]->data, MG_FOLLOW_HEAD);

		mg_out_u64(&out, batch->prev);
		mg_out_u64(&out, batch->index);
		mg_out_u64(&out, batch->term);
		mg_out_u8(&out, i + 1 == batch->count);
		batch->bytes += batch->pieces[i]->cap + OVERHEAD;
	}
}

void mg_follow_log_end(struct mg_follow_log *log, uint64_t index, uint64_t term)
{
	if (!log) {
		return;
	}
	struct mg_follow_batch *batch = open_batch(log);

	if (!log->torn && batch->count == 0 && !room(batch, 0)) {
		log->torn = true; /* also a batch without records has a head */
	}
	if (log->torn) {
		mg_follow_log_reset(log, index, term);
		return;
	}
	log->open = NULL;
	pthread_mutex_lock(&log->lock);
	batch->prev = last_index(log, &batch->prev_term);
	mg_assert(index > batch->prev);
	batch->index = index;
	batch->term = term;
	batch->ms = mg_clock_ms();
	seal(batch);
	mg_grow(log->batches, log->count, log->cap);
	log->batches[log->count++] = batch;
	log->bytes += batch->bytes;
	forget_old(log);
	pthread_mutex_unlock(&log->lock);
	tell(log);
}

/* ---- followers ---- */

/* Under the lock: the first batch that ends behind this index; count: none does. */
static size_t find(const struct mg_follow_log *log, uint64_t index)
{
	size_t low = 0, high = log->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (log->batches[middle]->index <= index) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

/* Under the lock: may an entry of this index have this term? */
static bool may_be_term(const struct mg_follow_log *log, uint64_t index, uint64_t term)
{
	size_t at = find(log, index);
	uint64_t last_term, last = last_index(log, &last_term);

	if (index == last) {
		return term == last_term;
	}
	const struct mg_follow_batch *batch = log->batches[at];

	return index == batch->prev ? term == batch->prev_term
	                            : term >= batch->prev_term && term <= batch->term;
}

enum mg_follow mg_follow_log_covers(struct mg_follow_log *log, uint64_t index, uint64_t term)
{
	pthread_mutex_lock(&log->lock);
	uint64_t last_term, last = last_index(log, &last_term);
	enum mg_follow known = index > last          ? MG_FOLLOW_AHEAD
	                       : index < log->start  ? MG_FOLLOW_GONE
	                       : may_be_term(log, index, term) ? MG_FOLLOW_HERE
	                                                       : MG_FOLLOW_GONE;

	pthread_mutex_unlock(&log->lock);
	return known;
}

enum mg_follow mg_follow_log_next(struct mg_follow_log *log, uint64_t index,
                                  struct mg_follow_batch **out)
{
	enum mg_follow known = MG_FOLLOW_GONE;

	*out = NULL;
	pthread_mutex_lock(&log->lock);
	if (index >= log->start) {
		size_t at = find(log, index);

		known = MG_FOLLOW_HERE;
		if (at < log->count) {
			*out = log->batches[at];
			atomic_fetch_add(&(*out)->refs, 1);
		}
	}
	pthread_mutex_unlock(&log->lock);
	return known;
}

uint64_t mg_follow_log_last(struct mg_follow_log *log, uint64_t index, uint64_t *lag_ms)
{
	uint64_t now = mg_clock_ms(), term;

	pthread_mutex_lock(&log->lock);
	uint64_t last = last_index(log, &term);
	size_t at = find(log, index);

	*lag_ms = at < log->count ? now - log->batches[at]->ms : 0;
	pthread_mutex_unlock(&log->lock);
	return last;
}

/* ---- life ---- */

struct mg_follow_log *mg_follow_log_new(size_t bytes_max)
{
	struct mg_follow_log *log = mg_alloc0(sizeof *log);

	log->bytes_max = bytes_max;
	pthread_mutex_init(&log->lock, NULL);
	return log;
}

void mg_follow_log_free(struct mg_follow_log *log)
{
	if (!log) {
		return;
	}
	mg_follow_log_drop(log);
	forget(log, log->count);
	mg_free(log->batches);
	pthread_mutex_destroy(&log->lock);
	mg_free(log);
}

void mg_follow_log_watch(struct mg_follow_log *log, void (*more)(void *arg), void *arg)
{
	pthread_mutex_lock(&log->lock);
	log->more = more;
	log->more_arg = arg;
	pthread_mutex_unlock(&log->lock);
}
