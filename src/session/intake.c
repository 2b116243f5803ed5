/* intake.c - see intake.h. */
#include "session/intake.h"

#include "exec/engine.h"
#include "os/file.h"
#include "os/granted.h"
#include "os/scratch.h"
#include "sql/dml.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_int intakes; /* that have a file */

bool mg_intake_is_wanted(const char *verb)
{
	return strcmp(verb, "COPY") == 0;
}

static int open_file(struct mg_intake *intake, const char *dir, uint64_t *bytes_max,
                     struct mg_error *err)
{
	int code = 0;

	if (atomic_fetch_add(&intakes, 1) >= MG_INTAKES_MAX) {
		code = mg_error_set(err, MG_E_BUSY, "%d COPY ... FROM STDIN run on this server already",
		                    MG_INTAKES_MAX);
		mg_error_hint(err, "Try again when one has ended, or at another server.");
	}
	code = code ? code : mg_disk_free(dir, bytes_max, err);
	*bytes_max /= 2;
	code = code ? code : mg_scratch_open(&intake->file, dir, err);
	if (code) {
		atomic_fetch_sub(&intakes, 1);
	}
	return code;
}

static int append(struct mg_intake *intake, const struct mg_buf *piece, uint64_t bytes_max,
                  struct mg_error *err)
{
	uint64_t at = 0;

	if (piece->size > bytes_max - intake->input.size) {
		(void)mg_error_set(err, MG_E_DISK_FULL, "the rows of COPY are more than %llu bytes",
		                   (unsigned long long)bytes_max);
		mg_error_hint(err, "That is half of what is free on the server's disk: send them in "
		                   "several parts, or compressed, as Parquet.");
		return MG_E_DISK_FULL;
	}
	intake->input.size += piece->size;
	return mg_scratch_append(intake->file, piece->data, piece->size, &at, err);
}

static int take_all(struct mg_intake *intake, struct mg_sink *sink, const char *dir,
                    struct mg_error *err)
{
	uint64_t bytes_max = 0;
	bool more = true;
	int code = 0;

	if (!sink->input) {
		code = mg_error_set(err, MG_E_USAGE, "COPY FROM STDIN was sent without its rows");
		mg_error_hint(err, "Over HTTP they are the body of POST /db/execute?sql=COPY...; in the "
		                   "shell use \\copy, or end them with a line \\.");
		return code;
	}
	code = open_file(intake, dir, &bytes_max, err);
	while (!code && more) {
		struct mg_buf *piece = NULL;

		code = sink->input(sink->arg, &piece, err);
		more = !code && piece;
		if (more) {
			code = append(intake, piece, bytes_max, err);
		}
		mg_buf_unref(piece);
	}
	if (!code) {
		intake->input.fd = mg_scratch_fd(intake->file);
	}
	return code;
}

static int open_path(struct mg_intake *intake, struct mg_engine *engine, const char *path,
                     struct mg_error *err)
{
	const char *dirs = mg_write_copy_paths(engine, false);

	if (!dirs || !*dirs) {
		mg_error_set(err, MG_E_DENIED, "COPY reads no file of the server");
		mg_error_hint(err, "Send the rows: COPY ... FROM STDIN, or \\copy in the shell; or start "
		                   "the server with --copy-path DIR.");
		return MG_E_DENIED;
	}
	int code = mg_granted_open(dirs, path, &intake->fd, &intake->input.size, err);

	intake->opened = code == 0;
	intake->input.fd = intake->fd;
	return code;
}

int mg_intake_take(struct mg_intake *intake, struct mg_engine *engine, struct mg_str statement,
                   bool relayed, struct mg_sink *sink, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_dml dml = { 0 };
	int code = mg_dml_parse(arena, statement, &dml, err);

	if (!code) {
		code = dml.copy_path && !relayed
		           ? open_path(intake, engine, dml.copy_path, err)
		           : take_all(intake, sink, mg_engine_spill_dir(engine), err);
	}
	mg_arena_free(arena);
	return code;
}

const struct mg_write_input *mg_intake_input(const struct mg_intake *intake)
{
	return intake->file || intake->opened ? &intake->input : NULL;
}

void mg_intake_fini(struct mg_intake *intake)
{
	if (intake->file) {
		mg_scratch_close(intake->file);
		atomic_fetch_sub(&intakes, 1);
	}
	if (intake->opened) {
		(void)close(intake->fd);
	}
	*intake = (struct mg_intake){ 0 };
}
