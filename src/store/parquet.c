/*
 * parquet.c - see parquet.h.
 *
 * Idea: COPY (SELECT ... FROM merganser_feed()) TO '/proc/self/fd/N'.  DuckDB opens the file behind
 * a descriptor of ours, so it needs no name, and what has none is gone with us, whatever ends us.
 *
 * One thread without preserve_insertion_order keeps the order all the same, and only so does DuckDB
 * bound row groups by bytes.
 */
#include "store/parquet.h"

#include "os/file.h"
#include "store/duck_feed.h"

struct mg_parquet {
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_duck_feed *feed;
	int fd;
};

static int start(struct mg_parquet *parquet, const struct mg_parquet_options *options,
                 struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "COPY (");
	mg_duck_feed_select(&sql, options->names, options->types, options->count);
	mg_sb_addf(&sql,
	           ") TO '/proc/self/fd/%d' (FORMAT parquet, USE_TMP_FILE false, "
	           "ROW_GROUP_SIZE_BYTES %llu)",
	           options->fd, MG_PARQUET_GROUP_BYTES);
	int rc = mg_duck_feed_open(&parquet->feed, parquet->conn, options->schema, mg_sb_text(&sql),
	                           err);
	mg_sb_fini(&sql);
	return rc;
}

int mg_parquet_open(struct mg_parquet **out, const struct mg_parquet_options *options,
                    struct mg_error *err)
{
	struct mg_parquet *parquet = mg_alloc0(sizeof *parquet);
	struct mg_duck_options duck = { .threads = 1,
		                            .memory_bytes = MG_PARQUET_MEMORY_BYTES,
		                            .lossless_arrow = true };
	parquet->fd = options->fd;
	int rc = mg_duck_open(&parquet->duck, &duck, err);
	if (rc == 0) {
		rc = mg_duck_connect(parquet->duck, &parquet->conn, err);
	}
	if (rc == 0) {
		rc = mg_duck_exec(parquet->conn, "SET preserve_insertion_order = false", err);
	}
	if (rc == 0) {
		rc = start(parquet, options, err);
	}
	if (rc != 0) {
		(void)mg_parquet_close(parquet, false, NULL);
		parquet = NULL;
	}
	*out = parquet;
	return rc;
}

int mg_parquet_put(struct mg_parquet *parquet, struct ArrowArray *batch, struct mg_error *err)
{
	int rc = mg_duck_feed_put(parquet->feed, batch, err);
	return rc ? mg_error_wrap(err, "while writing Parquet") : 0;
}

int mg_parquet_close(struct mg_parquet *parquet, bool whole, struct mg_error *err)
{
	if (!parquet) {
		return 0;
	}
	int rc = parquet->feed ? mg_duck_feed_close(parquet->feed, whole, err) : 0;
	if (rc != 0) {
		mg_error_wrap(err, "while writing Parquet");
	}
	mg_duck_disconnect(parquet->conn);
	mg_duck_close(parquet->duck);
	if (!whole || rc != 0) {
		mg_file_fd_empty(parquet->fd);
	}
	mg_free(parquet);
	return rc;
}
