/*
 * mem.h - the three kinds of memory.
 *
 * arena      for one request, query or pass: freed at once, in reverse, with clean-up hooks
 * heap       mg_alloc and friends: one owner, named in the comment of the struct
 * mg_buf     counted bytes that cross threads
 *
 * Allocation of small things cannot fail (the process ends with a message); what may be large,
 * because its size comes from outside, uses the try_ forms, which return NULL.
 */
#ifndef MG_BASE_MEM_H
#define MG_BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mg_alloc(size_t size);  /* uninitialised; ends the process when out of memory */
void *mg_alloc0(size_t size); /* zeroed */
void *mg_realloc(void *ptr, size_t size);
void *mg_try_alloc(size_t size); /* NULL when out of memory */
char *mg_strdup(const char *text);
char *mg_strndup(const char *text, size_t len);
char *mg_format(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* heap text */
/* Asked when memory is refused: true: more may be had now, try again.  frugal: the caller can do
 * without, so a thread that asks again and again is to be refused.  Set once, at the start; any
 * thread calls it. */
void mg_mem_on_failure(bool (*more)(bool frugal));
/* While memory is tight a frugal thread is refused once whenever it has taken so much. */
#define MG_MEM_TIGHT_BYTES (32 * 1024)
void mg_mem_tight(bool tight);
bool mg_mem_is_tight(void);
/* malloc that asks so for small sizes (512 KiB); NULL when out of memory. */
void *mg_mem_small(size_t size, bool frugal);
void mg_free(void *ptr);                                                     /* NULL is fine */

/* Grow array `ptr` (count used, cap allocated) so that one more fits. */
#define mg_grow(ptr, count, cap) \
	((count) < (cap)             \
	     ? (void)0               \
	     : (void)((cap) = (cap) ? (cap)*2 : 8, (ptr) = mg_realloc((ptr), (cap) * sizeof *(ptr))))

/* ---- arena: owner: one thread at a time ---- */
struct mg_arena;
struct mg_arena *mg_arena_new(void);
void mg_arena_free(struct mg_arena *arena); /* runs the hooks, last first; NULL is fine */
void *mg_arena_alloc(struct mg_arena *arena, size_t size); /* zeroed, aligned for any type */
char *mg_arena_strdup(struct mg_arena *arena, const char *text);
char *mg_arena_strndup(struct mg_arena *arena, const char *text, size_t len);
char *mg_arena_format(struct mg_arena *arena, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void mg_arena_defer(struct mg_arena *arena, void (*hook)(void *), void *arg);
size_t mg_arena_size(const struct mg_arena *arena); /* bytes held */
#define mg_arena_new_array(arena, type, count) \
	((type *)mg_arena_alloc((arena), (count) * sizeof(type)))

/* ---- counted bytes: any thread ---- */
struct mg_buf {
	atomic_int refs;
	size_t size; /* bytes used */
	size_t cap;  /* bytes allocated behind data */
	uint8_t *data;
	void (*release)(void *arg); /* frees foreign data; NULL: data lies behind this struct */
	void *release_arg;
};

struct mg_buf *mg_buf_new(size_t cap);                     /* size 0; NULL when out of memory */
struct mg_buf *mg_buf_copy(const void *data, size_t size); /* NULL when out of memory */
struct mg_buf *mg_buf_wrap(void *data, size_t size, void (*release)(void *), void *arg);
struct mg_buf *mg_buf_ref(struct mg_buf *buf);
void mg_buf_unref(struct mg_buf *buf); /* NULL is fine */

#endif
