/* kv_command.c - see kv_command.h. */
#include "replica/kv_command.h"

#include <string.h>

enum { VERSION = 1, VERSION_LIMITS = 2, REQUEST_HEAD = 8 + 1 + 4, OP_HEAD = 4 + 4 + 4 + 2 + 8 + 8 };

bool mg_kv_is_space(struct mg_str name)
{
	bool good = name.len > 0 && name.len <= MG_KV_SPACE_MAX;

	for (size_t i = 0; good && i < name.len; i++) {
		good = name.ptr[i] && /* which strchr would find */
		       strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-",
		              name.ptr[i]) != NULL;
	}
	return good;
}

bool mg_kv_is_header(struct mg_str text)
{
	bool good = text.len <= MG_KV_TYPE_MAX;

	for (size_t i = 0; good && i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		good = c >= ' ' && c != 0x7f;
	}
	return good;
}

bool mg_kv_has_key(uint8_t kind)
{
	return kind < MG_KV_PREPARE || kind == MG_KV_PUT_STAGED;
}

bool mg_kv_fills(uint8_t kind)
{
	return kind == MG_KV_PUT || kind == MG_KV_PUT_STAGED || kind == MG_KV_ADD ||
	       kind == MG_KV_APPEND;
}

/* ---- writing ---- */

void mg_kv_entry_encode(struct mg_out *out, const struct mg_kv_entry *entry)
{
	mg_out_u8(out, entry->limit_count ? VERSION_LIMITS : VERSION);
	mg_out_u8(out, entry->kind);
	mg_out_u16(out, entry->limit_count);
	mg_out_u32(out, entry->count);
	mg_out_u64(out, entry->time_ms);
	mg_out_u64(out, entry->origin);
	mg_out_u64(out, entry->incarnation);
}

size_t mg_kv_limit_size(const struct mg_kv_limit *limit)
{
	return 1 + limit->space.len + 4 * sizeof(uint64_t);
}

void mg_kv_limit_encode(struct mg_out *out, const struct mg_kv_limit *limit)
{
	mg_out_u8(out, (uint8_t)limit->space.len);
	mg_out_bytes(out, limit->space.ptr, limit->space.len);
	mg_out_u64(out, limit->keys_max);
	mg_out_u64(out, limit->bytes_max);
	mg_out_u64(out, limit->keys_elsewhere);
	mg_out_u64(out, limit->bytes_elsewhere);
}

size_t mg_kv_request_size(const struct mg_kv_request *request)
{
	return REQUEST_HEAD + request->id.len;
}

void mg_kv_request_encode(struct mg_out *out, const struct mg_kv_request *request)
{
	mg_out_u64(out, request->number);
	mg_out_u8(out, (uint8_t)request->id.len);
	mg_out_bytes(out, request->id.ptr, request->id.len);
	mg_out_u32(out, request->op_count);
}

size_t mg_kv_op_size(const struct mg_kv_op *op)
{
	return OP_HEAD + op->space.len + op->key.len + op->value.len + op->type.len + op->encoding.len;
}

void mg_kv_op_encode(struct mg_out *out, const struct mg_kv_op *op)
{
	mg_out_u8(out, op->kind);
	mg_out_u8(out, (uint8_t)op->space.len);
	mg_out_u16(out, op->flags);
	mg_out_u32(out, (uint32_t)op->key.len);
	mg_out_u32(out, (uint32_t)op->value.len);
	mg_out_u8(out, (uint8_t)op->type.len);
	mg_out_u8(out, (uint8_t)op->encoding.len);
	mg_out_u64(out, op->number);
	mg_out_u64(out, op->expiry);
	mg_out_bytes(out, op->space.ptr, op->space.len);
	mg_out_bytes(out, op->key.ptr, op->key.len);
	mg_out_bytes(out, op->value.ptr, op->value.len);
	mg_out_bytes(out, op->type.ptr, op->type.len);
	mg_out_bytes(out, op->encoding.ptr, op->encoding.len);
}

void mg_kv_staged_encode(const struct mg_kv_staged *staged, char *out)
{
	struct mg_out bytes = mg_out((uint8_t *)out, MG_KV_STAGED_SIZE);

	mg_out_bytes(&bytes, staged->id, sizeof staged->id);
	mg_out_u32(&bytes, staged->count);
	mg_out_u64(&bytes, staged->size);
	mg_out_u64(&bytes, staged->digest[0]);
	mg_out_u64(&bytes, staged->digest[1]);
}

/* ---- reading ---- */

bool mg_kv_staged_decode(struct mg_str bytes, struct mg_kv_staged *out)
{
	struct mg_in in = mg_in((const uint8_t *)bytes.ptr, bytes.len);
	const uint8_t *id = mg_in_bytes(&in, sizeof out->id);

	*out = (struct mg_kv_staged){ .count = mg_in_u32(&in), .size = mg_in_u64(&in) };
	out->digest[0] = mg_in_u64(&in);
	out->digest[1] = mg_in_u64(&in);
	if (id) {
		memcpy(out->id, id, sizeof out->id);
	}
	return mg_in_done(&in) && out->count > 0 && out->count <= MG_KV_PARTS_MAX &&
	       out->size <= MG_KV_LARGE_MAX;
}

static struct mg_str text(struct mg_in *in, size_t size)
{
	const uint8_t *at = mg_in_bytes(in, size);

	return (struct mg_str){ (const char *)at, at ? size : 0 };
}

bool mg_kv_limit_next(struct mg_in *in, struct mg_kv_limit *out)
{
	uint8_t space = mg_in_u8(in);

	*out = (struct mg_kv_limit){ .space = text(in, space) };
	out->keys_max = mg_in_u64(in);
	out->bytes_max = mg_in_u64(in);
	out->keys_elsewhere = mg_in_u64(in);
	out->bytes_elsewhere = mg_in_u64(in);
	return !in->failed && space > 0 && space <= MG_KV_SPACE_MAX;
}

bool mg_kv_op_next(struct mg_in *in, struct mg_kv_op *out)
{
	*out = (struct mg_kv_op){ .kind = mg_in_u8(in) };
	uint8_t space = mg_in_u8(in);

	out->flags = mg_in_u16(in);
	uint32_t key = mg_in_u32(in), value = mg_in_u32(in);
	uint8_t type = mg_in_u8(in), encoding = mg_in_u8(in);

	out->number = mg_in_u64(in);
	out->expiry = mg_in_u64(in);
	out->space = text(in, space);
	out->key = text(in, key);
	out->value = text(in, value);
	out->type = text(in, type);
	out->encoding = text(in, encoding);
	bool named = mg_kv_has_key(out->kind) ? space > 0 : space == 0 && key == MG_KV_TX_ID;
	struct mg_kv_staged staged;
	bool sane = out->kind != MG_KV_PUT_STAGED || mg_kv_staged_decode(out->value, &staged);

	return !in->failed && named && sane && space <= MG_KV_SPACE_MAX && key <= MG_KV_KEY_MAX &&
	       value <= MG_KV_VALUE_MAX && out->kind >= MG_KV_READ && out->kind <= MG_KV_PUT_STAGED;
}

/* Those of a transaction stand first, or alone. */
static bool may_stand(const struct mg_kv_op *op, uint32_t at, uint32_t count)
{
	return mg_kv_has_key(op->kind) || (at == 0 && (op->kind <= MG_KV_DECIDE || count == 1));
}

bool mg_kv_request_next(struct mg_in *in, struct mg_kv_request *out)
{
	*out = (struct mg_kv_request){ .number = mg_in_u64(in) };
	out->id = text(in, mg_in_u8(in));
	out->op_count = mg_in_u32(in);
	out->ops = *in;
	struct mg_kv_op op;
	bool good = !in->failed && out->op_count <= MG_KV_OPS_MAX && out->id.len <= MG_KV_ID_MAX;

	for (uint32_t i = 0; good && i < out->op_count; i++) {
		good = mg_kv_op_next(in, &op) && may_stand(&op, i, out->op_count);
	}
	out->ops.end = in->at;
	return good;
}

bool mg_kv_entry_settles(const uint8_t *data, size_t size)
{
	struct mg_in in = mg_in(data, size);
	bool limited = mg_in_u8(&in) != VERSION; /* and ends nothing */

	(void)mg_in_bytes(&in, MG_KV_ENTRY_HEAD - 1 + 8); /* and the first request's number */
	(void)mg_in_bytes(&in, mg_in_u8(&in));
	uint32_t count = mg_in_u32(&in);
	uint8_t kind = mg_in_u8(&in);

	return !in.failed && !limited && count == 1 &&
	       (kind == MG_KV_SETTLE || kind == MG_KV_INQUIRE || kind == MG_KV_FORGET ||
	        kind == MG_KV_DISCARD);
}

static bool read_limits(struct mg_in *in, struct mg_kv_entry *out)
{
	struct mg_kv_limit limit;
	bool good = true;

	out->limits = *in;
	for (uint32_t i = 0; good && i < out->limit_count; i++) {
		good = mg_kv_limit_next(in, &limit);
	}
	out->limits.end = in->at;
	return good;
}

int mg_kv_entry_decode(const uint8_t *data, size_t size, struct mg_kv_entry *out,
                       struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	uint8_t version = mg_in_u8(&in);

	*out = (struct mg_kv_entry){ .kind = mg_in_u8(&in) };
	out->limit_count = mg_in_u16(&in);
	out->count = mg_in_u32(&in);
	out->time_ms = mg_in_u64(&in);
	out->origin = mg_in_u64(&in);
	out->incarnation = mg_in_u64(&in);
	if (version != VERSION && version != VERSION_LIMITS) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a log entry of keys of version %u, and this program knows %d and %d",
		                    version, VERSION, VERSION_LIMITS);
	}
	bool limited = version == VERSION_LIMITS;
	struct mg_kv_request request;
	bool good = !in.failed && limited == (out->limit_count > 0) && read_limits(&in, out);

	out->requests = in;
	if (good && !limited && out->kind == MG_KV_COMPARE && out->count == 0) {
		return 0; /* what is behind is not ours */
	}
	good = good && (out->kind == MG_KV_REQUESTS || (out->kind == MG_KV_TICK && !limited));
	for (uint32_t i = 0; good && i < out->count; i++) {
		good = mg_kv_request_next(&in, &request);
	}
	return good && mg_in_done(&in)
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "a log entry of keys is cut or makes no sense");
}
