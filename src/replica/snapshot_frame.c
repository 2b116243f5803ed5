/* snapshot_frame.c - frames of a bulk connection.  Layout: snapshot_frame.h.  Pure. */
#include "replica/snapshot_frame.h"

#include "base/bytes.h"

struct mg_buf *mg_snapshot_frame_encode(const struct mg_snapshot_frame *frame)
{
	struct mg_buf *buf = mg_buf_new(MG_SNAPSHOT_REQUEST_MAX + frame->size);

	if (!buf) {
		return NULL;
	}
	struct mg_out out = mg_out(buf->data, buf->cap);

	mg_out_u32(&out, 0);
	mg_out_u8(&out, frame->kind);
	switch (frame->kind) {
	case MG_SNAPSHOT_ASK:
	case MG_SNAPSHOT_GET:
		mg_out_u32(&out, frame->group);
		mg_out_u64(&out, frame->index);
		if (frame->kind == MG_SNAPSHOT_GET) {
			mg_out_u32(&out, frame->chunk);
		}
		break;
	case MG_SNAPSHOT_REFUSED:
		mg_out_u32(&out, frame->code);
		break;
	case MG_SNAPSHOT_CHUNK:
		mg_out_u32(&out, frame->chunk);
		break;
	default:
		mg_assert(frame->kind == MG_SNAPSHOT_MANIFEST);
	}
	mg_out_bytes(&out, frame->data, frame->size);
	uint32_t size = (uint32_t)out.size;

	memcpy(buf->data, &size, sizeof size);
	buf->size = out.size;
	return buf;
}

int mg_snapshot_frame_size(const uint8_t head[4], size_t max, size_t *size, struct mg_error *err)
{
	uint32_t told;

	memcpy(&told, head, sizeof told);
	*size = told;
	return told >= MG_SNAPSHOT_FRAME_HEAD && told <= max
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "a frame of %u bytes about a snapshot", told);
}

int mg_snapshot_frame_decode(const uint8_t *data, size_t size, struct mg_snapshot_frame *out,
                             struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	bool rest = false;

	*out = (struct mg_snapshot_frame){ 0 };
	in.failed = mg_in_u32(&in) != size;
	out->kind = mg_in_u8(&in);
	switch (out->kind) {
	case MG_SNAPSHOT_ASK:
	case MG_SNAPSHOT_GET:
		out->group = mg_in_u32(&in);
		out->index = mg_in_u64(&in);
		out->chunk = out->kind == MG_SNAPSHOT_GET ? mg_in_u32(&in) : 0;
		break;
	case MG_SNAPSHOT_REFUSED:
		out->code = mg_in_u32(&in);
		rest = true;
		break;
	case MG_SNAPSHOT_CHUNK:
		out->chunk = mg_in_u32(&in);
		rest = true;
		break;
	case MG_SNAPSHOT_MANIFEST:
		rest = true;
		break;
	default:
		in.failed = true;
	}
	if (rest && !in.failed) {
		out->size = (size_t)(in.end - in.at);
		out->data = mg_in_bytes(&in, out->size);
	}
	return mg_in_done(&in) ? 0
	                       : mg_error_set(err, MG_E_PROTOCOL,
	                                      "a frame of kind %u about a snapshot "
	                                      "that makes no sense",
	                                      out->kind);
}
