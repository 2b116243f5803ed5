/* fuzz_snapshot.c - frames and manifests of a bulk connection; what was understood must come back
 * the same. */
#include "base/assert.h"
#include "replica/snapshot_frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void manifest(const uint8_t *data, size_t size)
{
	struct mg_snapshot_manifest manifest, again;
	struct mg_sb text = { 0 }, more = { 0 };
	struct mg_error err = { 0 };

	if (mg_snapshot_manifest_parse((const char *)data, size, &manifest, &err) != 0) {
		mg_assert(err.code == MG_E_PROTOCOL);
		return;
	}
	mg_snapshot_manifest_print(&manifest, &text);
	mg_assert(mg_snapshot_manifest_parse(mg_sb_text(&text), text.len, &again, &err) == 0);
	mg_snapshot_manifest_print(&again, &more);
	mg_assert(more.len == text.len && memcmp(mg_sb_text(&more), mg_sb_text(&text), text.len) == 0);
	mg_snapshot_manifest_fini(&again);
	mg_snapshot_manifest_fini(&manifest);
	mg_sb_fini(&text);
	mg_sb_fini(&more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_snapshot_frame frame;
	struct mg_error err = { 0 };

	manifest(data, size);
	if (mg_snapshot_frame_decode(data, size, &frame, &err) != 0) {
		mg_assert(err.code == MG_E_PROTOCOL);
		return 0;
	}
	struct mg_buf *back = mg_snapshot_frame_encode(&frame);

	mg_assert(back != NULL && back->size == size && memcmp(back->data, data, size) == 0);
	mg_buf_unref(back);
	if (frame.kind == MG_SNAPSHOT_MANIFEST) {
		manifest(frame.data, frame.size);
	}
	return 0;
}
