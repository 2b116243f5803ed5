/* random.c - libsodium's generator, which reads the kernel's. */
#include "os/random.h"

#include "base/assert.h"

#include <sodium.h>

static void ensure_sodium(void)
{
	int state = sodium_init(); /* 1 when it was done before; safe from any thread */
	mg_assert(state >= 0);
}

void mg_random_bytes(void *out, size_t size)
{
	ensure_sodium();
	randombytes_buf(out, size);
}

uint64_t mg_random_u64(void)
{
	uint64_t value;
	mg_random_bytes(&value, sizeof value);
	return value;
}

uint32_t mg_random_below(uint32_t limit)
{
	ensure_sodium();
	return randombytes_uniform(limit);
}

char *mg_random_hex(char *out, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t done = 0; done < bytes;) {
		uint8_t some[32];
		size_t now = bytes - done < sizeof some ? bytes - done : sizeof some;
		mg_random_bytes(some, now);
		for (size_t i = 0; i < now; i++, done++) {
			out[2 * done] = digits[some[i] >> 4];
			out[2 * done + 1] = digits[some[i] & 15];
		}
	}
	out[2 * bytes] = '\0';
	return out;
}
