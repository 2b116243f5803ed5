/*
 * members.c - lists of members: look-up, change, bytes.  Rule and format: members.h.  Pure.
 */
#include "raft/members.h"

#include "base/assert.h"
#include "base/bytes.h"

#include <string.h>

#define MEMBERS_VERSION 1
#define MEMBER_SIZE 9

const struct mg_member *mg_members_find(const struct mg_members *members, uint64_t node)
{
	mg_assert(members->count <= MG_MEMBERS_MAX);
	for (size_t i = 0; i < members->count; i++) {
		if (members->list[i].node == node) {
			return &members->list[i];
		}
	}
	return NULL;
}

bool mg_members_votes(const struct mg_members *members, uint64_t node)
{
	const struct mg_member *member = mg_members_find(members, node);

	return member && member->role == MG_MEMBER_VOTER;
}

size_t mg_members_voters(const struct mg_members *members)
{
	size_t count = 0;

	mg_assert(members->count <= MG_MEMBERS_MAX);
	for (size_t i = 0; i < members->count; i++) {
		count += members->list[i].role == MG_MEMBER_VOTER;
	}
	return count;
}

bool mg_members_sound(const struct mg_members *members)
{
	if (members->count == 0 || members->count > MG_MEMBERS_MAX) {
		return false;
	}
	for (size_t i = 0; i < members->count; i++) {
		const struct mg_member *member = &members->list[i];

		if (member->node == 0 || member->role > MG_MEMBER_VOTER ||
		    mg_members_find(members, member->node) != member) {
			return false;
		}
	}
	return mg_members_voters(members) > 0;
}

int mg_members_set(struct mg_members *members, uint64_t node, enum mg_member_role role,
                   struct mg_error *err)
{
	struct mg_member *member = (struct mg_member *)mg_members_find(members, node);

	mg_assert(node > 0);
	if (member == NULL) {
		if (members->count == MG_MEMBERS_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "a group has at most %d members", MG_MEMBERS_MAX);
		}
		member = &members->list[members->count++];
		member->node = node;
	}
	member->role = (uint8_t)role;
	return 0;
}

int mg_members_remove(struct mg_members *members, uint64_t node, struct mg_error *err)
{
	const struct mg_member *member = mg_members_find(members, node);

	if (member == NULL) {
		return mg_error_set(err, MG_E_NOT_FOUND, "node %llu is no member of the group",
		                    (unsigned long long)node);
	}
	if (member->role == MG_MEMBER_VOTER && mg_members_voters(members) == 1) {
		return mg_error_set(err, MG_E_USAGE, "node %llu is the last voter of the group",
		                    (unsigned long long)node);
	}
	size_t at = (size_t)(member - members->list);

	mg_assert(at < members->count);
	members->count--;
	memmove(&members->list[at], &members->list[at + 1],
	        (members->count - at) * sizeof members->list[0]);
	return 0;
}

size_t mg_members_encode(const struct mg_members *members, uint8_t out[MG_MEMBERS_SIZE_MAX])
{
	struct mg_out bytes = mg_out(out, MG_MEMBERS_SIZE_MAX);

	mg_assert(mg_members_sound(members));
	mg_out_u8(&bytes, MEMBERS_VERSION);
	mg_out_u8(&bytes, (uint8_t)members->count);
	for (size_t i = 0; i < members->count; i++) {
		mg_out_u64(&bytes, members->list[i].node);
		mg_out_u8(&bytes, members->list[i].role);
	}
	mg_assert(bytes.size == 2 + members->count * MEMBER_SIZE);
	return bytes.size;
}

int mg_members_decode(const uint8_t *data, size_t size, struct mg_members *out,
                      struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	uint8_t version = mg_in_u8(&in);
	uint8_t count = mg_in_u8(&in);

	*out = (struct mg_members){ 0 };
	if (in.failed || version != MEMBERS_VERSION || count > MG_MEMBERS_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a list of members of %zu bytes, version %u, is not understood", size,
		                    version);
	}
	for (uint8_t i = 0; i < count; i++) {
		out->list[i].node = mg_in_u64(&in);
		out->list[i].role = mg_in_u8(&in);
	}
	out->count = count;
	if (!mg_in_done(&in) || !mg_members_sound(out)) {
		*out = (struct mg_members){ 0 };
		return mg_error_set(err, MG_E_PROTOCOL, "a list of %u members is damaged", count);
	}
	mg_assert(out->count > 0);
	return 0;
}
