/*
 * resp_reply.h - answers in RESP2, or RESP3 where that says more: nothing, maps, texts.
 *
 * Pure; owner: one thread.
 */
#ifndef MG_DOOR_RESP_REPLY_H
#define MG_DOOR_RESP_REPLY_H

#include "base/str.h"

struct mg_resp_out {
	struct mg_sb bytes;
	bool v3;
};

void mg_resp_simple(struct mg_resp_out *out, const char *text); /* "OK" */
/* With its first word, as "ERR syntax error"; line breaks become blanks. */
void mg_resp_error(struct mg_resp_out *out, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void mg_resp_number(struct mg_resp_out *out, int64_t number);
void mg_resp_bulk(struct mg_resp_out *out, struct mg_str bytes);
void mg_resp_verbatim(struct mg_resp_out *out, struct mg_str text); /* for people; RESP2: bulk */
void mg_resp_nil(struct mg_resp_out *out);
void mg_resp_nil_array(struct mg_resp_out *out);
void mg_resp_array(struct mg_resp_out *out, size_t count); /* so many follow */
void mg_resp_set(struct mg_resp_out *out, size_t count);
void mg_resp_map(struct mg_resp_out *out, size_t pairs);   /* RESP2: an array of twice as many */

#endif
