/*
 * fuzz_kv_command.c - an entry of keys: what can be decoded is within its limits, and is written
 * the same way again.
 */
#include "base/mem.h"
#include "replica/kv_check.h"
#include "replica/kv_command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void copy_request(struct mg_kv_request *request, struct mg_out *out)
{
	struct mg_kv_op op;

	mg_kv_request_encode(out, request);
	for (uint32_t i = 0; i < request->op_count; i++) {
		mg_assert(mg_kv_op_next(&request->ops, &op));
		mg_assert(op.space.len <= MG_KV_SPACE_MAX && op.key.len <= MG_KV_KEY_MAX &&
		          op.value.len <= MG_KV_VALUE_MAX);
		mg_kv_op_encode(out, &op);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_kv_entry entry;
	struct mg_error err = { 0 };

	if (mg_kv_entry_decode(data, size, &entry, &err)) {
		return 0;
	}
	if (entry.kind == MG_KV_COMPARE) { /* what is behind is a command of its own */
		struct mg_command command;

		(void)mg_kv_check_decode(&entry, &command, &err);
		return 0;
	}
	struct mg_out out = mg_out(mg_alloc(size + 1), size);
	struct mg_kv_entry again;

	mg_kv_entry_encode(&out, &entry);
	for (uint32_t i = 0; i < entry.limit_count; i++) {
		struct mg_kv_limit limit;

		mg_assert(mg_kv_limit_next(&entry.limits, &limit));
		mg_assert(limit.space.len > 0 && limit.space.len <= MG_KV_SPACE_MAX);
		mg_kv_limit_encode(&out, &limit);
	}
	for (uint32_t i = 0; i < entry.count; i++) {
		struct mg_kv_request request;

		mg_assert(mg_kv_request_next(&entry.requests, &request));
		copy_request(&request, &out);
	}
	mg_assert(out.size == size);
	mg_assert(mg_kv_entry_decode(out.data, out.size, &again, &err) == 0);
	mg_assert(again.limit_count == entry.limit_count && again.count == entry.count);
	mg_assert(again.time_ms == entry.time_ms);
	mg_free(out.data);
	return 0;
}
