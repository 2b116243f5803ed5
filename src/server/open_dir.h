/*
 * open_dir.h - a server's data directory, locked, with its catalog: as it is there, or made by
 * entering a cluster (--join), or as a new cluster of its own.
 *
 * Thread: the main thread; blocks.
 */
#ifndef MG_SERVER_OPEN_DIR_H
#define MG_SERVER_OPEN_DIR_H

#include "catalog/catalog.h"
#include "server/server.h"

/* lock and catalog are the caller's to give back, also when it fails: -1 and NULL then, or not. */
int mg_server_open_dir(const struct mg_server_options *options, const char *data_dir, int *lock,
                       struct mg_catalog **catalog, struct mg_error *err);

#endif
