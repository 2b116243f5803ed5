/*
 * sample_tpch.c - TPC-H as a set of tables, made by DuckDB's dbgen.
 *
 * The generator keeps its distributions in global variables and crashes when two parts are made at
 * once in one process [ran]; so each generator process makes one part at a time.
 */
#include "server/sample_int.h"

#include <math.h>
#include <string.h>

/* A part makes about so much of scale factor 1: 150,000 rows of lineitem, 40 MB as Arrow. */
#define PARTS_PER_SCALE 40.0

/* In the order of loading; small ones first, so that errors come early. */
static const struct mg_sample_def tables[] = {
	{ "region", NULL, { "r_regionkey", NULL } },
	{ "nation", NULL, { "n_nationkey", NULL } },
	{ "supplier", "s_suppkey", { "s_suppkey", NULL } },
	{ "customer", "c_custkey", { "c_custkey", NULL } },
	{ "part", "p_partkey", { "p_partkey", NULL } },
	{ "partsupp", "ps_partkey", { "ps_partkey", "ps_suppkey" } },
	{ "orders", "o_orderkey", { "o_orderkey", NULL } },
	{ "lineitem", "l_orderkey", { "l_orderkey", "l_linenumber" } },
};

static uint32_t parts(double scale_factor)
{
	double count = ceil(scale_factor * PARTS_PER_SCALE);
	return count < 1 ? 1 : count > (double)INT32_MAX ? INT32_MAX : (uint32_t)count;
}

static int make(struct mg_duck_conn *conn, double scale_factor, uint32_t count, uint32_t part,
                const char *catalog, struct mg_error *err)
{
	return mg_duck_execf(conn, err,
	                     "CALL dbgen(sf = %.17g, children = %u, step = %u, catalog = '%s')",
	                     scale_factor, count, part, catalog);
}

const struct mg_sample_set mg_sample_tpch = {
	.name = "tpch",
	.tables = tables,
	.count = sizeof tables / sizeof *tables,
	.shape = "CALL dbgen(sf = 0.001)",
	.parts = parts,
	.make = make,
};

const struct mg_sample_set *mg_sample_set_find(const char *name)
{
	static const struct mg_sample_set *const sets[] = { &mg_sample_tpch };
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
		if (strcmp(sets[i]->name, name) == 0) {
			return sets[i];
		}
	}
	return NULL;
}
