/*
 * join_wire.h - what a server that wants to enter a cluster says at POST /join, and what it hears.
 *
 *   ask     {"id":"server-2","addr":"db2:8765","node_request":PEM,"server_request":PEM,
 *            "version":"0.9.0","engine":"v1.5.5","file_format":1,"catalog_format":1,
 *            "cluster":"..." of who is in one already}
 *            "lost":true of who has lost its log and asks by the certificate of the number that it
 *            gives up; "signs":true it needs no certificates, having the cluster's CA
 *   passed on by a node that cannot sign: and "relayed":true, "number": of who asked, when known
 *   answer  {"number":2,"cluster":"...","ca":PEM,"node_certificate":PEM,"server_certificate":PEM,
 *            "nodes":[{"number","id","address","state"}],"catalog":{...}}
 *   error   {"error":{"sqlstate","message","detail","hint"}}, as at every door
 *
 * Pure.  Thread: any.
 */
#ifndef MG_SERVER_JOIN_WIRE_H
#define MG_SERVER_JOIN_WIRE_H

#include "base/json.h"
#include "catalog/catalog.h"

#define MG_JOIN_USER "join"
#define MG_JOIN_REQUEST_MAX 8192 /* bytes of a PEM that is asked with */

/* Texts are never NULL after reading. */
struct mg_join_ask {
	const char *id, *address;
	const char *node_request, *server_request;
	const char *version, *engine;
	uint32_t file_format, catalog_format;
	const char *cluster; /* "": in none yet */
	bool lost, signs;
	bool relayed;
	uint64_t number; /* with relayed: what the one who asked has shown to be; 0: none yet */
};

struct mg_join_answer {
	uint64_t number;
	const char *cluster, *ca, *node_certificate, *server_certificate;
	struct mg_str catalog; /* its text */
};

/* Fails: MG_E_USAGE, with what is missing. */
int mg_join_ask_read(struct mg_arena *arena, struct mg_str body, struct mg_join_ask *out,
                     struct mg_error *err);
void mg_join_ask_write(const struct mg_join_ask *ask, struct mg_sb *out);

/* Fails: MG_E_PROTOCOL. */
int mg_join_answer_read(struct mg_arena *arena, struct mg_str body, struct mg_join_answer *out,
                        struct mg_error *err);
/* cluster, nodes and catalog are those of data. */
void mg_join_answer_write(const struct mg_join_answer *answer, const struct mg_catalog_data *data,
                          struct mg_sb *out);

/* An answer that is no 200, as an error; returns its code. */
int mg_join_refusal_read(struct mg_str body, int status, struct mg_error *err);

#endif
