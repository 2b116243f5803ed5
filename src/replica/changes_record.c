/*
 * changes_record.c - see changes_record.h.
 */
#include "replica/changes_record.h"

#include <xxhash.h>

static uint64_t check_of(const uint8_t *head, size_t head_size, const uint8_t *payload,
                         size_t payload_size)
{
	uint64_t seed = XXH3_64bits(head, head_size);

	return payload_size ? XXH3_64bits_withSeed(payload, payload_size, seed) : seed;
}

static void put_text(struct mg_out *out, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	mg_assert(len < 255);
	mg_out_u8(out, (uint8_t)(len + 1));
	mg_out_bytes(out, text ? text : "", len + 1);
}

void mg_changes_record_encode(struct mg_out *out, const struct mg_changes_record *record)
{
	uint8_t bytes[MG_CHANGES_HEAD_MAX];
	struct mg_out head = mg_out(bytes, sizeof bytes);

	mg_out_u64(&head, record->index);
	mg_out_u8(&head, (uint8_t)record->kind);
	mg_out_u8(&head, record->together);
	if (record->together) {
		mg_out_bytes(&head, &record->transaction, sizeof record->transaction);
	}
	put_text(&head, record->schema);
	put_text(&head, record->table);
	mg_out_u64(&head, record->first_rid);
	mg_out_u32(&head, record->rows);
	mg_out_u16(&head, record->columns);
	mg_out_u32(out, (uint32_t)head.size);
	mg_out_u32(out, (uint32_t)record->payload_size);
	mg_out_u64(out, check_of(bytes, head.size, record->payload, record->payload_size));
	mg_out_bytes(out, bytes, head.size);
}

bool mg_changes_frame_decode(const uint8_t bytes[MG_CHANGES_FRAME], struct mg_changes_frame *out)
{
	struct mg_in in = mg_in(bytes, MG_CHANGES_FRAME);

	out->head_size = mg_in_u32(&in);
	out->payload_size = mg_in_u32(&in);
	out->check = mg_in_u64(&in);
	return out->head_size > 0 && out->head_size <= MG_CHANGES_HEAD_MAX &&
	       out->payload_size <= MG_CHANGES_PAYLOAD_MAX;
}

static const char *take_text(struct mg_in *in)
{
	size_t size = mg_in_u8(in);
	const uint8_t *text = mg_in_bytes(in, size);

	if (!text || size == 0 || text[size - 1] != '\0') {
		in->failed = true;
		return "";
	}
	return (const char *)text;
}

bool mg_changes_record_decode(const struct mg_changes_frame *frame, const uint8_t *bytes,
                              struct mg_changes_record *out)
{
	const uint8_t *payload = bytes + frame->head_size;
	struct mg_in in = mg_in(bytes, frame->head_size);

	if (check_of(bytes, frame->head_size, payload, frame->payload_size) != frame->check) {
		return false;
	}
	*out = (struct mg_changes_record){ .index = mg_in_u64(&in) };
	out->kind = mg_in_u8(&in);
	out->together = mg_in_u8(&in) == 1;
	if (out->together) {
		mg_in_number(&in, &out->transaction, sizeof out->transaction);
	}
	out->schema = take_text(&in);
	out->table = take_text(&in);
	out->first_rid = mg_in_u64(&in);
	out->rows = mg_in_u32(&in);
	out->columns = mg_in_u16(&in);
	out->payload = payload;
	out->payload_size = frame->payload_size;
	return mg_in_done(&in) && out->kind >= MG_CHANGES_COLUMNS && out->kind <= MG_CHANGES_MOVED &&
	       out->columns < MG_CHANGES_COLUMNS_MAX;
}
