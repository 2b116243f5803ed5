/*
 * compare.h - the same queries on a cluster and on plain DuckDB, in front of the user.
 */
#ifndef MG_CLI_COMPARE_H
#define MG_CLI_COMPARE_H

#include "client/client.h"

struct mg_compare_options {
	const char *folder;         /* of .sql files, one query each */
	double scale_factor;        /* of the TPC-H data on both sides */
	const char *reference;      /* file that keeps plain DuckDB's data; NULL: made in memory */
};

/* One line for each query on stdout; *all_equal tells the verdict.  Fails when a side cannot work.
 */
int mg_compare_run(mg_client *client, const struct mg_compare_options *options, bool *all_equal,
                   struct mg_error *err);

#endif
