/*
 * node_file.h - DIR/node.json: who the node is, and where a client on this machine finds it.
 *
 * {"id":"server-2","number":2,"listen":"localhost:8766","pid":4711,"version":"...","engine":"..."}
 *
 * id, number and listen outlive a restart; the rest says who wrote it last.
 *
 * Thread: the main thread.
 */
#ifndef MG_SERVER_NODE_FILE_H
#define MG_SERVER_NODE_FILE_H

#include "base/error.h"

struct mg_node_file {
	uint64_t number; /* 0: not known */
	char *id;        /* heap, or NULL: not known */
	char *listen;    /* likewise: the address that it was last told by */
};

/* What cannot be read is not known. */
void mg_node_file_read(const char *data_dir, struct mg_node_file *out);
void mg_node_file_free(struct mg_node_file *file);
int mg_node_file_write(const char *data_dir, const struct mg_node_file *file, struct mg_error *err);

#endif
