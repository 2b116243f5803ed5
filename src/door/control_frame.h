/*
 * control_frame.h - the JSON frames of wss /client, both ways (docs/protocol.md).
 *
 * Pure; any thread.
 */
#ifndef MG_DOOR_CONTROL_FRAME_H
#define MG_DOOR_CONTROL_FRAME_H

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "session/session.h"

#define MG_CLIENT_HEAD_SIZE 16

enum mg_control_kind { MG_CONTROL_QUERY, MG_CONTROL_CANCEL, MG_CONTROL_COMPLETE, MG_CONTROL_PING };

struct mg_control {
	enum mg_control_kind kind;
	uint32_t id;             /* all but ping */
	struct mg_str sql;       /* query; in the arena */
	const struct mg_json *params; /* query: values of ? and $1, or NULL; in the arena */
	bool progress, lossless; /* query */
	bool input;              /* query: the client can send rows for COPY */
	struct mg_str seen;      /* query: what its session has seen elsewhere, or empty */
};

/* Fails: MG_E_PROTOCOL for what is no frame that a client may send. */
int mg_control_parse(struct mg_arena *arena, const char *text, size_t len, struct mg_control *out,
                     struct mg_error *err);

void mg_control_begin(struct mg_sb *out, uint32_t id, const struct mg_answer *answer);
void mg_control_end(struct mg_sb *out, uint32_t id, const struct mg_answer *answer);
/* The client may send the next piece, of so many bytes at most. */
void mg_control_more(struct mg_sb *out, uint32_t id, uint32_t bytes_max);
void mg_control_notice(struct mg_sb *out, uint32_t id, const char *text);
/* Of the session, when a request ends. */
struct mg_control_state {
	const char *transaction; /* as mg_session_transaction has it */
	const char *seen;        /* as mg_session_add_seen has it */
};
void mg_control_error(struct mg_sb *out, uint32_t id, const struct mg_outcome *outcome,
                      const struct mg_error *err, const struct mg_control_state *state);
void mg_control_done(struct mg_sb *out, uint32_t id, const struct mg_control_state *state);
void mg_control_progress(struct mg_sb *out, uint32_t id, double done, uint64_t rows, uint64_t bytes,
                         uint32_t nodes);
/* Tables of the catalog and of the schema "cluster", and functions. */
void mg_control_names(struct mg_sb *out, uint32_t id, const struct mg_catalog_data *data);

/* Head of a binary message: kind 1 schema, 2 batch. */
void mg_control_head(uint8_t head[MG_CLIENT_HEAD_SIZE], uint8_t kind, uint32_t id, uint64_t rows);

#endif
