/* kv_check.c - see kv_check.h. */
#include "replica/kv_check.h"

#include "os/clock.h"

#include <sodium.h>

#define PIECE_BYTES (4u << 20) /* until it rests */

void mg_kv_check_encode(struct mg_out *out, const struct mg_command *command)
{
	mg_kv_entry_encode(out, &(struct mg_kv_entry){ .kind = MG_KV_COMPARE });
	mg_command_encode_head(out, command);
}

int mg_kv_check_decode(const struct mg_kv_entry *entry, struct mg_command *out,
                       struct mg_error *err)
{
	const struct mg_in *in = &entry->requests;
	int code = mg_command_decode(in->at, (size_t)(in->end - in->at), out, err);

	if (!code && out->kind != MG_COMMAND_CHECK && out->kind != MG_COMMAND_CHECKED) {
		code = mg_error_set(err, MG_E_PROTOCOL, "a log entry of keys compares nothing");
	}
	return code;
}

/* With its size, so that no two lists of texts are the same bytes. */
static void digest(crypto_generichash_state *state, struct mg_str text)
{
	const uint64_t size = text.len;

	crypto_generichash_update(state, (const unsigned char *)&size, sizeof size);
	crypto_generichash_update(state, (const unsigned char *)text.ptr, text.len);
}

int mg_kv_check_sum(struct mg_lsm_view *view, struct mg_str prefix,
                    bool (*pace)(void *arg, uint64_t us), void *arg, struct mg_shard_sum *out,
                    struct mg_error *err)
{
	struct mg_lsm_iter *iter = mg_lsm_view_iter(view, prefix);
	crypto_generichash_state state;
	struct mg_str key, value;
	uint64_t start = mg_clock_us();
	size_t bytes = 0;
	bool goes_on = true;

	*out = (struct mg_shard_sum){ 0 };
	crypto_generichash_init(&state, NULL, 0, sizeof out->digest);
	while (goes_on && mg_lsm_iter_next(iter, &key, &value)) {
		digest(&state, key);
		digest(&state, value);
		out->rows++;
		bytes += key.len + value.len;
		if (bytes >= PIECE_BYTES) {
			goes_on = !pace || pace(arg, mg_clock_us() - start);
			start = mg_clock_us();
			bytes = 0;
		}
	}
	crypto_generichash_final(&state, out->digest, sizeof out->digest);
	int code = mg_lsm_iter_close(iter, err);

	return code || goes_on ? code : mg_error_set(err, MG_E_CANCELLED, "the check was ended");
}
