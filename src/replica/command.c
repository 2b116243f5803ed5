/*
 * command.c - see command.h.
 */
#include "replica/command.h"

#define VERSION 3
#define VERSION_WITHOUT_NUMBER 2
#define VERSION_WITHOUT_EPOCH 1

static bool has_redo(enum mg_command_kind kind)
{
	return kind == MG_COMMAND_WRITE || kind == MG_COMMAND_PREPARE;
}

/* Which commit it is, and of which shards. */
static bool has_number(enum mg_command_kind kind)
{
	return kind == MG_COMMAND_DECIDE || kind == MG_COMMAND_COMMIT;
}

static bool has_transaction(enum mg_command_kind kind)
{
	return kind == MG_COMMAND_PREPARE || kind == MG_COMMAND_DECIDE || kind == MG_COMMAND_COMMIT ||
	       kind == MG_COMMAND_ABORT || kind == MG_COMMAND_FORGET;
}

static bool is_known(enum mg_command_kind kind)
{
	return (kind >= MG_COMMAND_WRITE && kind <= MG_COMMAND_FENCE) || kind == MG_COMMAND_CHECK ||
	       kind == MG_COMMAND_CHECKED;
}

static void encode_checked(struct mg_out *out, const struct mg_checked *checked)
{
	mg_out_u64(out, checked->node);
	mg_out_u64(out, checked->index);
	mg_out_u8(out, checked->status);
	mg_out_u64(out, checked->rows);
	mg_out_bytes(out, checked->digest, sizeof checked->digest);
}

static void decode_checked(struct mg_in *in, struct mg_checked *checked)
{
	checked->node = mg_in_u64(in);
	checked->index = mg_in_u64(in);
	checked->status = mg_in_u8(in);
	checked->rows = mg_in_u64(in);
	mg_in_number(in, checked->digest, sizeof checked->digest);
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
	} else if (command->kind == MG_COMMAND_CHECK) {
		mg_out_u32(out, command->checking.members);
		mg_out_u8(out, command->checking.urgent);
	} else if (command->kind == MG_COMMAND_CHECKED) {
		encode_checked(out, &command->checked);
	}
	if (has_number(command->kind)) {
		mg_out_u64(out, command->number);
	}
}

/* What stands behind the head is of the right size. */
static bool rest_fits(const struct mg_command *command)
{
	size_t size = (size_t)(command->rest.end - command->rest.at);

	return has_redo(command->kind) || size == 0 ||
	       (has_number(command->kind) && command->numbered && size % sizeof(uint32_t) == 0);
}

int mg_command_decode(const uint8_t *data, size_t size, struct mg_command *out,
                      struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	uint8_t version = mg_in_u8(&in);

	*out = (struct mg_command){ .kind = mg_in_u8(&in) };
	if (version < VERSION_WITHOUT_EPOCH || version > VERSION) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a log entry of version %u, and this program knows %d", version,
		                    VERSION);
	}
	if (!is_known(out->kind)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a log entry of unknown kind %d", out->kind);
	}
	out->numbered = version > VERSION_WITHOUT_NUMBER;
	out->epoch = version > VERSION_WITHOUT_EPOCH ? mg_in_u64(&in) : 0;
	if (has_transaction(out->kind)) {
		mg_in_number(&in, &out->transaction, sizeof out->transaction);
	}
	if (out->kind == MG_COMMAND_PREPARE) {
		out->home = mg_in_u32(&in);
	} else if (out->kind == MG_COMMAND_DECIDE) {
		out->commit = mg_in_u8(&in) == 1;
	} else if (out->kind == MG_COMMAND_CHECK) {
		out->checking.members = mg_in_u32(&in);
		out->checking.urgent = mg_in_u8(&in) == 1;
	} else if (out->kind == MG_COMMAND_CHECKED) {
		decode_checked(&in, &out->checked);
	}
	if (has_number(out->kind) && out->numbered) {
		out->number = mg_in_u64(&in);
	}
	out->rest = in;

	return in.failed || !rest_fits(out)
	           ? mg_error_set(err, MG_E_PROTOCOL, "a log entry of kind %d is cut or too long",
	                          out->kind)
	           : 0;
}
