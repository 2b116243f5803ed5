/* hello.c - the first bytes between nodes.  Layout: hello.h.  Pure. */
#include "replica/hello.h"

#include "base/bytes.h"
#include "base/str.h"

#include <inttypes.h>

#define SIZE_MIN 6 /* a refusal without a word */

static void text_out(struct mg_out *out, const char *text)
{
	size_t size = strnlen(text, MG_HELLO_TEXT_MAX);

	while (size > 0 && !mg_utf8_valid(text, size)) {
		size--; /* it was cut in the middle of a character */
	}
	mg_out_u8(out, (uint8_t)size);
	mg_out_bytes(out, text, size);
}

size_t mg_hello_encode(const struct mg_hello *hello, uint8_t bytes[MG_HELLO_SIZE_MAX])
{
	struct mg_out out = mg_out(bytes, MG_HELLO_SIZE_MAX);

	mg_out_u32(&out, 0);
	mg_out_u8(&out, hello->kind);
	if (hello->kind != MG_HELLO_REFUSAL) {
		mg_out_u8(&out, hello->version_min);
		mg_out_u8(&out, hello->version_max);
		mg_out_u8(&out, 0);
		mg_out_u64(&out, hello->node);
		mg_out_u64(&out, hello->incarnation);
		text_out(&out, hello->cluster);
		text_out(&out, hello->program);
		if (hello->name[0] || hello->address[0]) {
			text_out(&out, hello->name);
			text_out(&out, hello->address);
		}
	} else {
		text_out(&out, hello->text);
	}
	uint32_t size = (uint32_t)out.size;

	memcpy(bytes, &size, sizeof size);
	return out.size;
}

int mg_hello_size(const uint8_t *data, size_t available, size_t *size, struct mg_error *err)
{
	uint32_t told;

	*size = 0;
	if (available < sizeof told) {
		return 0;
	}
	memcpy(&told, data, sizeof told);
	if (told < SIZE_MIN || told > MG_HELLO_SIZE_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL, "a hello of %" PRIu32 " bytes", told);
	}
	*size = told;
	return 0;
}

/* These texts go to logs and errors. */
static void text_in(struct mg_in *in, char *text, size_t max)
{
	size_t size = mg_in_u8(in);
	const char *bytes = (const char *)mg_in_bytes(in, size);

	if (bytes == NULL || size > max || !mg_utf8_valid(bytes, size)) {
		in->failed = true;
		return;
	}
	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7f) {
			in->failed = true;
			return;
		}
	}
	memcpy(text, bytes, size);
	text[size] = '\0';
}

int mg_hello_decode(const uint8_t *data, size_t size, struct mg_hello *out, struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);

	*out = (struct mg_hello){ 0 };
	(void)mg_in_u32(&in);
	out->kind = mg_in_u8(&in);
	if (out->kind == MG_HELLO || out->kind == MG_HELLO_BULK || out->kind == MG_HELLO_RELAY) {
		out->version_min = mg_in_u8(&in);
		out->version_max = mg_in_u8(&in);
		(void)mg_in_u8(&in);
		out->node = mg_in_u64(&in);
		out->incarnation = mg_in_u64(&in);
		text_in(&in, out->cluster, MG_HELLO_TEXT_MAX);
		text_in(&in, out->program, MG_HELLO_TEXT_MAX);
		if (!in.failed && in.at != in.end) { /* before, it was not said */
			text_in(&in, out->name, MG_HELLO_NAME_MAX);
			text_in(&in, out->address, MG_HELLO_ADDRESS_MAX);
		}
	} else if (out->kind == MG_HELLO_REFUSAL) {
		text_in(&in, out->text, MG_HELLO_TEXT_MAX);
	} else {
		in.failed = true;
	}
	if (in.failed) {
		return mg_error_set(err, MG_E_PROTOCOL, "a hello of kind %u that makes no sense",
		                    out->kind);
	}
	return 0;
}
