/*
 * message.c - the bytes of a manifest.  Format: message.h.  Pure.
 *
 * Rule: a decoded manifest is sound: indexes from 1, the members' entry not behind it, its data
 * within the bytes.
 */
#include "raft/message.h"

#include "base/mem.h"

#define MANIFEST_VERSION 1
#define MANIFEST_FIXED_SIZE (1 + 3 * 8 + 1 + 4)

static bool sound(const struct mg_manifest *manifest)
{
	const struct mg_snapshot *snapshot = &manifest->snapshot;

	return snapshot->index > 0 && snapshot->index < UINT64_MAX / 2 && snapshot->term > 0 &&
	       snapshot->members_index > 0 && snapshot->members_index <= snapshot->index &&
	       manifest->size <= MG_MANIFEST_SIZE_MAX;
}

size_t mg_manifest_size(const struct mg_manifest *manifest)
{
	uint8_t members[MG_MEMBERS_SIZE_MAX];

	mg_assert(manifest->size <= MG_MANIFEST_SIZE_MAX);
	return MANIFEST_FIXED_SIZE + mg_members_encode(&manifest->snapshot.members, members) +
	       manifest->size;
}

void mg_manifest_encode(struct mg_out *out, const struct mg_manifest *manifest)
{
	uint8_t members[MG_MEMBERS_SIZE_MAX];
	size_t size = mg_members_encode(&manifest->snapshot.members, members);

	mg_assert(sound(manifest));
	mg_assert(size <= UINT8_MAX);
	mg_out_u8(out, MANIFEST_VERSION);
	mg_out_u64(out, manifest->snapshot.index);
	mg_out_u64(out, manifest->snapshot.term);
	mg_out_u64(out, manifest->snapshot.members_index);
	mg_out_u8(out, (uint8_t)size);
	mg_out_bytes(out, members, size);
	mg_out_u32(out, manifest->size);
	mg_out_bytes(out, manifest->data, manifest->size);
}

int mg_manifest_decode(struct mg_in *in, struct mg_manifest *out, struct mg_error *err)
{
	uint8_t version = mg_in_u8(in);

	*out = (struct mg_manifest){ 0 };
	out->snapshot.index = mg_in_u64(in);
	out->snapshot.term = mg_in_u64(in);
	out->snapshot.members_index = mg_in_u64(in);
	uint8_t members_size = mg_in_u8(in);
	const uint8_t *members = mg_in_bytes(in, members_size);

	out->size = mg_in_u32(in);
	out->data = mg_in_bytes(in, out->size);
	if (in->failed || version != MANIFEST_VERSION || !sound(out)) {
		return mg_error_set(err, MG_E_PROTOCOL, "the manifest of a snapshot is damaged");
	}
	mg_assert(out->data != NULL || out->size == 0);
	return mg_members_decode(members, members_size, &out->snapshot.members, err);
}

struct mg_manifest mg_manifest_copy(const struct mg_manifest *manifest)
{
	struct mg_manifest copy = *manifest;

	mg_assert(manifest->size <= MG_MANIFEST_SIZE_MAX);
	mg_assert(manifest->data != NULL || manifest->size == 0);
	copy.data = NULL;
	if (manifest->size > 0) {
		uint8_t *data = mg_alloc(manifest->size);

		memcpy(data, manifest->data, manifest->size);
		copy.data = data;
	}
	return copy;
}

void mg_manifest_fini(struct mg_manifest *manifest)
{
	mg_assert(manifest->size <= MG_MANIFEST_SIZE_MAX);
	mg_free((void *)manifest->data);
	*manifest = (struct mg_manifest){ 0 };
}
