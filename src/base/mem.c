/*
 * mem.c - heap that does not fail, arenas, counted buffers.
 *
 * An arena is a list of blocks; small pieces are cut from the newest block, pieces above a quarter
 * of a block get a block of their own so that nothing is wasted.  Blocks grow from 4 KiB to 256
 * KiB. Hooks lie in the arena itself and run last-first before the blocks are freed.
 */
#include "base/mem.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MIN 4096
#define BLOCK_MAX (256 * 1024)
#define SMALL_MAX (2 * BLOCK_MAX) /* may use the reserve when memory is refused */

static _Noreturn void out_of_memory(size_t size)
{
	fprintf(stderr, "merganser: out of memory, %zu bytes were asked for\n", size);
	abort();
}

/* ---- heap ---- */

static bool (*more_memory)(bool frugal);

void mg_mem_on_failure(bool (*more)(bool frugal))
{
	more_memory = more;
}

/* After a failure: is it worth another try? */
static bool may_retry(size_t size, bool frugal)
{
	return size <= SMALL_MAX && more_memory && more_memory(frugal);
}

/* Of each period in which memory is tight: its number; 0: it is not. */
static atomic_uint tight_now;

void mg_mem_tight(bool tight)
{
	static atomic_uint periods;

	if (!tight) {
		atomic_store(&tight_now, 0);
	} else if (!atomic_load(&tight_now)) {
		atomic_store(&tight_now, atomic_fetch_add(&periods, 1) + 1);
	}
}

bool mg_mem_is_tight(void)
{
	return atomic_load_explicit(&tight_now, memory_order_relaxed) != 0;
}

/* malloc takes a page for a few bytes when its arenas cannot grow, so little becomes much. */
static bool has_enough(size_t size)
{
	static _Thread_local unsigned period;
	static _Thread_local size_t taken;
	unsigned now = atomic_load(&tight_now);

	if (now != period) {
		period = now;
		taken = 0;
	}
	taken += size;
	if (!now || taken <= MG_MEM_TIGHT_BYTES) {
		return false;
	}
	taken = 0; /* it failed: what undoes its work may ask for some bytes again */
	return true;
}

void *mg_mem_small(size_t size, bool frugal)
{
	if (frugal && has_enough(size)) {
		return NULL;
	}
	void *ptr = mg_try_alloc(size);
	while (!ptr && may_retry(size, frugal)) {
		ptr = mg_try_alloc(size);
	}
	return ptr;
}

void *mg_try_alloc(size_t size)
{
	return malloc(size ? size : 1);
}

void *mg_alloc(size_t size)
{
	void *ptr = mg_mem_small(size, false);
	if (!ptr) {
		out_of_memory(size);
	}
	return ptr;
}

static void *small_zeroed(size_t size)
{
	void *ptr = calloc(1, size ? size : 1);
	while (!ptr && may_retry(size, false)) {
		ptr = calloc(1, size ? size : 1);
	}
	return ptr;
}

void *mg_alloc0(size_t size)
{
	void *ptr = small_zeroed(size);
	if (!ptr) {
		out_of_memory(size);
	}
	return ptr;
}

void *mg_realloc(void *ptr, size_t size)
{
	void *grown = realloc(ptr, size ? size : 1);
	while (!grown && may_retry(size, false)) {
		grown = realloc(ptr, size ? size : 1);
	}
	if (!grown) {
		out_of_memory(size);
	}
	return grown;
}

char *mg_strndup(const char *text, size_t len)
{
	char *copy = mg_alloc(len + 1);
	if (len) {
		memcpy(copy, text, len);
	}
	copy[len] = '\0';
	return copy;
}

char *mg_strdup(const char *text)
{
	return mg_strndup(text, strlen(text));
}

static size_t format_size(const char *fmt, va_list ap)
{
	va_list copy;
	va_copy(copy, ap);
	int len = vsnprintf(NULL, 0, fmt, copy);
	va_end(copy);
	mg_assert(len >= 0);
	return (size_t)len + 1;
}

char *mg_format(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	size_t size = format_size(fmt, ap);
	char *text = mg_alloc(size);
	vsnprintf(text, size, fmt, ap);
	va_end(ap);
	return text;
}

void mg_free(void *ptr)
{
	free(ptr);
}

/* ---- arena ---- */

struct block {
	struct block *next;
	size_t size; /* bytes behind this header */
	size_t used;
	_Alignas(max_align_t) unsigned char bytes[];
};

struct hook {
	struct hook *next;
	void (*run)(void *);
	void *arg;
};

struct mg_arena {
	struct block *current; /* pieces are cut from here; older ones follow by next */
	struct hook *hooks;
	size_t block_size; /* of the next ordinary block */
	size_t held;
};

struct mg_arena *mg_arena_new(void)
{
	struct mg_arena *arena = mg_alloc0(sizeof *arena);
	arena->block_size = BLOCK_MIN;
	return arena;
}

void mg_arena_free(struct mg_arena *arena)
{
	if (!arena) {
		return;
	}
	/* A hook may add another one; so always take the head. */
	while (arena->hooks) {
		struct hook *hook = arena->hooks;
		arena->hooks = hook->next;
		hook->run(hook->arg);
	}
	struct block *block = arena->current;
	while (block) {
		struct block *next = block->next;
		free(block);
		block = next;
	}
	free(arena);
}

/* A zeroed block of at least size bytes; kept behind the current one when it serves one piece. */
static struct block *block_add(struct mg_arena *arena, size_t size, bool alone)
{
	struct block *block = small_zeroed(sizeof *block + size);
	if (!block) {
		out_of_memory(size);
	}
	block->size = size;
	arena->held += sizeof *block + size;
	if (alone && arena->current) {
		block->next = arena->current->next;
		arena->current->next = block;
	} else {
		block->next = arena->current;
		arena->current = block;
	}
	return block;
}

void *mg_arena_alloc(struct mg_arena *arena, size_t size)
{
	const size_t align = _Alignof(max_align_t);
	if (size > SIZE_MAX / 2) {
		out_of_memory(size);
	}
	size = size ? (size + align - 1) & ~(align - 1) : align;
	struct block *block = arena->current;
	if (!block || block->size - block->used < size) {
		bool alone = size > arena->block_size / 4;
		block = block_add(arena, alone ? size : arena->block_size, alone);
		if (!alone && arena->block_size < BLOCK_MAX) {
			arena->block_size *= 2;
		}
	}
	void *piece = block->bytes + block->used;
	block->used += size;
	mg_assert(block->used <= block->size);
	return piece;
}

char *mg_arena_strndup(struct mg_arena *arena, const char *text, size_t len)
{
	char *copy = mg_arena_alloc(arena, len + 1);
	if (len) {
		memcpy(copy, text, len);
	}
	return copy;
}

char *mg_arena_strdup(struct mg_arena *arena, const char *text)
{
	return mg_arena_strndup(arena, text, strlen(text));
}

char *mg_arena_format(struct mg_arena *arena, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	size_t size = format_size(fmt, ap);
	char *text = mg_arena_alloc(arena, size);
	vsnprintf(text, size, fmt, ap);
	va_end(ap);
	return text;
}

void mg_arena_defer(struct mg_arena *arena, void (*run)(void *), void *arg)
{
	struct hook *hook = mg_arena_alloc(arena, sizeof *hook);
	hook->run = run;
	hook->arg = arg;
	hook->next = arena->hooks;
	arena->hooks = hook;
}

size_t mg_arena_size(const struct mg_arena *arena)
{
	return arena->held;
}

/* ---- counted bytes ---- */

/* Data behind the struct starts at a multiple of 64, as Arrow bodies like it. */
#define BUF_ALIGN 64
#define BUF_HEAD ((sizeof(struct mg_buf) + BUF_ALIGN - 1) / BUF_ALIGN * BUF_ALIGN)

struct mg_buf *mg_buf_new(size_t cap)
{
	if (cap > SIZE_MAX / 2) {
		return NULL;
	}
	size_t whole = (BUF_HEAD + cap + BUF_ALIGN - 1) / BUF_ALIGN * BUF_ALIGN;
	struct mg_buf *buf = aligned_alloc(BUF_ALIGN, whole);
	if (!buf) {
		return NULL;
	}
	atomic_init(&buf->refs, 1);
	buf->size = 0;
	buf->cap = cap;
	buf->data = (uint8_t *)buf + BUF_HEAD;
	buf->release = NULL;
	buf->release_arg = NULL;
	return buf;
}

struct mg_buf *mg_buf_copy(const void *data, size_t size)
{
	struct mg_buf *buf = mg_buf_new(size);
	if (buf) {
		if (size) {
			memcpy(buf->data, data, size);
		}
		buf->size = size;
	}
	return buf;
}

struct mg_buf *mg_buf_wrap(void *data, size_t size, void (*release)(void *), void *arg)
{
	mg_assert(release != NULL);
	struct mg_buf *buf = mg_alloc(sizeof *buf);
	atomic_init(&buf->refs, 1);
	buf->size = size;
	buf->cap = size;
	buf->data = data;
	buf->release = release;
	buf->release_arg = arg;
	return buf;
}

struct mg_buf *mg_buf_ref(struct mg_buf *buf)
{
	int before = atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
	mg_assert(before > 0);
	return buf;
}

void mg_buf_unref(struct mg_buf *buf)
{
	if (!buf) {
		return;
	}
	int before = atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel);
	mg_assert(before > 0);
	if (before > 1) {
		return;
	}
	if (buf->release) {
		buf->release(buf->release_arg);
	}
	free(buf);
}
