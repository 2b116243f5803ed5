/* random.h - unpredictable bytes, fit for tokens and keys.  Thread: any. */
#ifndef MG_OS_RANDOM_H
#define MG_OS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void mg_random_bytes(void *out, size_t size);
uint64_t mg_random_u64(void);
uint32_t mg_random_below(uint32_t limit); /* 0 .. limit-1, without bias; 0 when limit < 2 */
/* 2 * bytes lower-case digits and a zero; out holds 2 * bytes + 1. */
char *mg_random_hex(char *out, size_t bytes);

#endif
