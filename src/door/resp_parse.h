/*
 * resp_parse.h - bytes of a Redis client to commands: arrays of bulk strings, or lines of words.
 *
 *     parser = { .limits = ... }
 *     loop: mg_resp_parse(&parser, bytes, size, &used, &command, error)
 *
 * What came of an unfinished command is kept inside, so that each byte is looked at once, in
 * whatever pieces it comes.  No length is believed: memory is taken for what has come.
 *
 * Pure.  owner: one thread.  Limits: below, and those that the caller gives.
 */
#ifndef MG_DOOR_RESP_PARSE_H
#define MG_DOOR_RESP_PARSE_H

#include "base/str.h"

#define MG_RESP_ARGS_MAX (1u << 20)
#define MG_RESP_LINE_MAX (64u << 10) /* of words, or of a length */
#define MG_RESP_ERROR_SIZE 80

/* One block on the heap, freed by mg_resp_command_free. */
struct mg_resp_command {
	struct mg_resp_command *next; /* for its owner */
	size_t count;                 /* of args: 1 or more */
	size_t bytes;                 /* memory that it holds */
	char *text;                   /* what args point into, when it is no part of the block */
	struct mg_str args[];
};

struct mg_resp_limits {
	size_t args, arg, command; /* how many; bytes of one; bytes of all */
	bool strangers;            /* they are those of a client that has not logged in */
};

struct mg_resp_parser {
	struct mg_resp_limits limits;
	/* From here on ours; a zeroed struct is a new one. */
	struct mg_sb line;    /* a line that has not ended yet */
	struct mg_sb text;    /* of all args so far */
	size_t *ends;         /* in text, of each */
	size_t count, cap;
	size_t wanted;        /* args of this command; 0: between two */
	size_t missing;       /* bytes of this arg, with its line's end */
	bool in_arg;
};

enum mg_resp_parsed {
	MG_RESP_MORE,    /* all was used, and nothing is complete */
	MG_RESP_COMMAND, /* *command is the caller's */
	MG_RESP_BAD,     /* error says how, without the "-ERR " of Redis; nothing more is understood */
};

enum mg_resp_parsed mg_resp_parse(struct mg_resp_parser *parser, const uint8_t *bytes, size_t size,
                                  size_t *used, struct mg_resp_command **command,
                                  char error[MG_RESP_ERROR_SIZE]);
void mg_resp_parser_fini(struct mg_resp_parser *parser);
size_t mg_resp_parser_bytes(const struct mg_resp_parser *parser); /* that it holds */
void mg_resp_command_free(struct mg_resp_command *command);       /* NULL is fine */

/* A decimal integer as Redis takes it: no blanks, no plus, no leading zeros. */
bool mg_resp_int(struct mg_str text, int64_t *out);
/* Does the text fit a pattern of *, ?, [...] and \?  Time: at most the product of their sizes. */
bool mg_resp_glob(struct mg_str pattern, struct mg_str text);

#endif
