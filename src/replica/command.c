/*
 * command.c - see command.h.
 */
#include "replica/command.h"

#define VERSION 2
#define VERSION_WITHOUT_EPOCH 1

static bool has_redo(enum mg_command_kind kind)
{
	return kind == MG_COMMAND_WRITE || kind == MG_COMMAND_PREPARE;
}

static bool has_transaction(enum mg_command_kind kind)
{
	return kind != MG_COMMAND_WRITE && kind != MG_COMMAND_FENCE;
}

void mg_command_encode_head(struct mg_out *out, const struct mg_command *command)
{
	mg_out_u8(out, VERSION);
	mg_out_u8(out, (uint8_t)command->kind);
	mg_out_u64(out, command->epoch);
	if (has_transaction(command->kind)) {
		mg_out_bytes(out, &command->transaction, sizeof command->transaction);
	}
	if (command->kind == MG_COMMAND_PREPARE) {
		mg_out_u32(out, command->home);
	} else if (command->kind == MG_COMMAND_DECIDE) {
		mg_out_u8(out, command->commit);
	}
}

int mg_command_decode(const uint8_t *data, size_t size, struct mg_command *out,
                      struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	uint8_t version = mg_in_u8(&in);

	*out = (struct mg_command){ .kind = mg_in_u8(&in) };
	if (version != VERSION && version != VERSION_WITHOUT_EPOCH) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a log entry of version %u, and this program knows %d", version,
		                    VERSION);
	}
	if (out->kind < MG_COMMAND_WRITE || out->kind > MG_COMMAND_FENCE) {
		return mg_error_set(err, MG_E_PROTOCOL, "a log entry of unknown kind %d", out->kind);
	}
	out->epoch = version == VERSION ? mg_in_u64(&in) : 0;
	if (has_transaction(out->kind)) {
		mg_in_number(&in, &out->transaction, sizeof out->transaction);
	}
	if (out->kind == MG_COMMAND_PREPARE) {
		out->home = mg_in_u32(&in);
	} else if (out->kind == MG_COMMAND_DECIDE) {
		out->commit = mg_in_u8(&in) == 1;
	}
	out->redo = in;

	return in.failed || (!has_redo(out->kind) && in.at != in.end)
	           ? mg_error_set(err, MG_E_PROTOCOL, "a log entry of kind %d is cut or too long",
	                          out->kind)
	           : 0;
}
