/* fuzz_hello.c - the first bytes of a node; what was understood must come back the same. */
#include "base/assert.h"
#include "replica/hello.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX], more[MG_HELLO_SIZE_MAX];
	struct mg_hello hello, again;
	struct mg_error err = { 0 };
	size_t told;

	if (mg_hello_size(data, size, &told, &err) != 0 || told == 0 || told > size) {
		return 0;
	}
	if (mg_hello_decode(data, told, &hello, &err) != 0) {
		mg_assert(err.code == MG_E_PROTOCOL);
		return 0;
	}
	size_t written = mg_hello_encode(&hello, bytes);

	mg_assert(written <= told); /* what later versions add is not ours to repeat */
	mg_assert(mg_hello_size(bytes, written, &told, &err) == 0 && told == written);
	mg_assert(mg_hello_decode(bytes, written, &again, &err) == 0);
	mg_assert(mg_hello_encode(&again, more) == written && memcmp(bytes, more, written) == 0);
	return 0;
}
