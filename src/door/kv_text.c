/* kv_text.c - see kv_text.h. */
#include "door/kv_text.h"

#include <sodium.h>
#include <string.h>

bool mg_kv_from_hex(struct mg_arena *arena, struct mg_str text, struct mg_str *out)
{
	char *bytes = mg_arena_alloc(arena, text.len / 2 + 1);
	size_t len = 0;
	const char *end = NULL;

	if (text.len % 2 ||
	    sodium_hex2bin((unsigned char *)bytes, text.len / 2 + 1, text.ptr, text.len, NULL, &len,
	                   &end) ||
	    end != text.ptr + text.len) {
		return false;
	}
	*out = (struct mg_str){ bytes, len };
	return true;
}

bool mg_kv_from_base64(struct mg_arena *arena, struct mg_str text, struct mg_str *out)
{
	static const int variants[] = {
		sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING,
		sodium_base64_VARIANT_URLSAFE, sodium_base64_VARIANT_URLSAFE_NO_PADDING
	};
	char *bytes = mg_arena_alloc(arena, text.len + 1);
	bool good = false;

	for (size_t i = 0; !good && i < sizeof variants / sizeof *variants; i++) {
		const char *end = NULL;
		size_t len = 0;

		good = sodium_base642bin((unsigned char *)bytes, text.len + 1, text.ptr, text.len, NULL,
		                         &len, &end, variants[i]) == 0 &&
		       end == text.ptr + text.len;
		*out = (struct mg_str){ bytes, len };
	}
	return good;
}

void mg_kv_add_hex(struct mg_sb *out, struct mg_str bytes)
{
	static const char digits[] = "0123456789abcdef";
	char piece[4096];
	size_t len = 0;

	for (size_t i = 0; i < bytes.len; i++) {
		piece[len++] = digits[(uint8_t)bytes.ptr[i] >> 4];
		piece[len++] = digits[(uint8_t)bytes.ptr[i] & 15];
		if (len == sizeof piece) {
			mg_sb_add_len(out, piece, len);
			len = 0;
		}
	}
	mg_sb_add_len(out, piece, len);
}

void mg_kv_add_base64(struct mg_sb *out, struct mg_str bytes)
{
	size_t size = sodium_base64_ENCODED_LEN(bytes.len, sodium_base64_VARIANT_ORIGINAL);
	char *text = mg_alloc(size);

	mg_sb_add(out, sodium_bin2base64(text, size, (const unsigned char *)bytes.ptr, bytes.len,
	                                 sodium_base64_VARIANT_ORIGINAL));
	mg_free(text);
}
