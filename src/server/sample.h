/*
 * sample.h - sample data straight into shard files: TPC-H and TPC-DS by their generators,
 * SSB by SQL over TPC-H.
 *
 * Thread: the caller's, and as many threads and child processes of its own as options say; all are
 * gone when it returns.  The children are this program again, called MG_SAMPLE_CHILD: whatever
 * program calls mg_sample_make hands such a call on in its main().
 */
#ifndef MG_SERVER_SAMPLE_H
#define MG_SERVER_SAMPLE_H

#include "catalog/catalog.h"
#include "store/shard_file.h"

struct mg_sample_options {
	struct mg_duck *duck; /* with the generator loaded */
	const char *data_dir;
	double scale_factor; /* of TPC-H; 0: none */
	bool ssb;
	double tpcds_scale_factor; /* 0: none */
	unsigned threads;     /* that store, and children that generate, at most */
	uint64_t child_bytes; /* memory for all children together */
	const char *spill_dir;
	uint32_t layout_row_groups; /* tables of so many are laid out in slot ranges; 0: the default */
	struct mg_shard_meta meta;  /* of all files: cluster, sample, shard_count, versions */
	const struct mg_shard *shards; /* shard_count + 1: their slots */
	const bool *wanted;            /* [shard_count + 1]: which files to make */
	void (*progress)(void *arg, const char *step, double done);
	void *arg;
	const atomic_bool *stop;
};

/* What became of one file. */
struct mg_sample_file {
	char sha256[65];
	uint64_t bytes;
};

/* Make the wanted files; files has shard_count + 1 entries, those not wanted stay untouched. */
int mg_sample_make(const struct mg_sample_options *options, struct mg_sample_file *files,
                   struct mg_error *err);
/* The tables that such files hold, for the catalog.  Rows are counted in the complete files in
 * data_dir: in the tables, and in shard_rows[shard_count + 1]. */
int mg_sample_tables(const struct mg_sample_options *options, struct mg_arena *arena,
                     struct mg_table **tables, size_t *count, uint64_t *shard_rows,
                     struct mg_error *err);

/* First argument of a generator process, and its main. */
#define MG_SAMPLE_CHILD "sample-generator"
int mg_sample_child_main(int argc, char *const *argv);

/* sample_ssb.c: make and fill the tables of schema ssb in one file that holds its part of TPC-H. */
struct mg_ssb_table {
	const char *name, *key; /* key NULL: reference table */
	const char *primary_key[2];
	const char *sql; /* SELECT; "$D" stands for the file's database */
};
extern const struct mg_ssb_table mg_ssb_tables[];
extern const size_t mg_ssb_table_count;
int mg_ssb_fill(struct mg_shard_file *file, struct mg_error *err);

/* sample_tpcds.c: make and fill the tables of schema tpcds in files[shard_count + 1]; NULL entries
 * are left out.  list gets MG_TPCDS_TABLES tables without rows. */
#define MG_TPCDS_TABLES 24
int mg_tpcds_fill(const struct mg_sample_options *options, struct mg_shard_file **files,
                  struct mg_error *err);
int mg_tpcds_tables(struct mg_duck_conn *conn, struct mg_arena *arena, struct mg_table *list,
                    struct mg_error *err);

#endif
