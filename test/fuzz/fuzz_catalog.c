/*
 * fuzz_catalog.c - the catalog's text form from anywhere; what it takes must write to a text that
 * it takes again, and that writes to the same text.
 */
#include "catalog/catalog_int.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_catalog_data first, second;
	struct mg_error err;
	char *text = mg_strndup((const char *)data, size);
	(void)mg_catalog__unseal(arena, text, size, &first, &err);
	if (mg_catalog__read(arena, text, size, &first, &err) == 0) {
		struct mg_sb a = { 0 };
		struct mg_sb b = { 0 };
		mg_catalog__write(&first, &a);
		if (mg_catalog__read(arena, mg_sb_text(&a), a.len, &second, &err) != 0) {
			abort();
		}
		mg_catalog__write(&second, &b);
		if (a.len != b.len || memcmp(a.ptr, b.ptr, a.len) != 0) {
			abort();
		}
		mg_sb_clear(&b);
		mg_catalog_manifest_json(&first, &b);
		mg_catalog_manifest_yaml(&first, &b);
		mg_sb_fini(&a);
		mg_sb_fini(&b);
	}
	mg_free(text);
	mg_arena_free(arena);
	return 0;
}
