/*
 * members.h - who belongs to a group, and the bytes of it in CHANGE entries and manifests.
 *
 * Bytes: version 1 (u8), count (u8), then for each member node (u64, little-endian) and role (u8).
 * Frozen: they lie in logs.  Addresses are the catalog's matter; a group knows numbers only.
 *
 * Rule: a decoded list is sound: 1 to MG_MEMBERS_MAX members, numbers from 1, none twice, at least
 * one voter.
 *
 * Pure; any thread.
 */
#ifndef MG_RAFT_MEMBERS_H
#define MG_RAFT_MEMBERS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_MEMBERS_MAX 16
#define MG_MEMBERS_SIZE_MAX (2 + MG_MEMBERS_MAX * 9)

/* Stored: never renumber. */
enum mg_member_role {
	MG_MEMBER_STANDBY = 0, /* gets entries, has no vote: the ante-room of a voter */
	MG_MEMBER_VOTER = 1,
};

struct mg_member {
	uint64_t node;
	uint8_t role; /* enum mg_member_role */
};

struct mg_members {
	struct mg_member list[MG_MEMBERS_MAX];
	size_t count;
};

/* The member, or NULL. */
const struct mg_member *mg_members_find(const struct mg_members *members, uint64_t node);
bool mg_members_votes(const struct mg_members *members, uint64_t node); /* it is a voter of them */
size_t mg_members_voters(const struct mg_members *members);
bool mg_members_sound(const struct mg_members *members);

/* Add or change.  Fails: MG_E_LIMIT when there are too many. */
int mg_members_set(struct mg_members *members, uint64_t node, enum mg_member_role role,
                   struct mg_error *err);
/* Take out.  Fails: MG_E_NOT_FOUND; MG_E_USAGE when no voter would be left (nothing is changed). */
int mg_members_remove(struct mg_members *members, uint64_t node, struct mg_error *err);

/* Returns the bytes written, at most MG_MEMBERS_SIZE_MAX. */
size_t mg_members_encode(const struct mg_members *members, uint8_t out[MG_MEMBERS_SIZE_MAX]);
/* Fails: MG_E_PROTOCOL for what is not a sound list. */
int mg_members_decode(const uint8_t *data, size_t size, struct mg_members *out,
                      struct mg_error *err);

#endif
