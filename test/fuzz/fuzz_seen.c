/*
 * fuzz_seen.c - what a session says that it has seen: whatever can be read is written the same way.
 */
#include "base/assert.h"
#include "codec/seen.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_seen seen = { 0 }, back = { 0 };
	struct mg_sb text = { 0 }, again = { 0 };
	struct mg_error err = { 0 };

	if (mg_seen_parse(&seen, (struct mg_str){ (const char *)data, size }, &err) == 0) {
		mg_seen_add(&text, &seen);
		mg_assert(text.len > 0 && text.len <= MG_SEEN_TEXT_MAX);
		mg_assert(mg_seen_parse(&back, mg_str(mg_sb_text(&text)), &err) == 0);
		mg_seen_add(&again, &back);
		mg_assert(strcmp(mg_sb_text(&text), mg_sb_text(&again)) == 0);
	}
	mg_assert(seen.any || (!seen.indexes && !seen.count));
	mg_seen_fini(&seen);
	mg_seen_fini(&back);
	mg_sb_fini(&text);
	mg_sb_fini(&again);
	return 0;
}
