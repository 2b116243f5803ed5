/* cluster.h - what the commands `cluster ...` and `kv ...` share. */
#ifndef MG_CLI_CLUSTER_H
#define MG_CLI_CLUSTER_H

#include "cli/connect.h"

/* One request to the server of the options; type, headers: as mg_http_fetch takes them.  Fails:
 * also MG_E_AUTH; any other status is the caller's to look at. */
int mg_cluster_send(const struct mg_options *options, const char *method, const char *path,
                    const char *type, const char *headers, struct mg_str content, int *status,
                    struct mg_sb *body, struct mg_error *err);
/* The same without content.  Fails: also MG_E_AUTH, MG_E_DENIED when it says so. */
int mg_cluster_fetch(const struct mg_options *options, const char *method, const char *path,
                     int *status, struct mg_sb *body, struct mg_error *err);
/* What a door says no with; always an error. */
int mg_cluster_refusal(const struct mg_sb *body, int status, struct mg_error *err);

/* A statement that answers nothing, or NULL, and a SELECT, which is shown as a table or, by the
 * option "format", as JSON.  The exit code. */
int mg_cluster_run(const struct mg_options *options, const char *first, const char *sql);

/* Compare all replicas, and wait for it.  report: JSON; differing: a line for each replica that is
 * not equal, and why. */
int mg_cluster_compare(const struct mg_options *options, struct mg_sb *report, bool *equal,
                       struct mg_sb *differing, struct mg_error *err);

#endif
