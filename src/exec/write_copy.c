/*
 * write_copy.c - COPY ... FROM: what a client has sent, or a file that was opened for it, as the
 * source of an INSERT.
 *
 *   bytes in a file without a name -> DuckDB's own reader of the format, in an instance of its own
 *       -> chunks, which go the way of any other INSERT
 *
 * Rule: the reader gets the descriptor of that file, the table's columns and options of a list
 * (sql/dml_copy.c), and no text of the client; so it can open nothing else.
 *
 * The instance is a small one: it parses and keeps nothing, and dies with the statement.
 */
#include "codec/arrow_ipc.h"
#include "exec/engine_int.h"
#include "exec/run.h"
#include "exec/write_int.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READER_MEMORY_BYTES (512ull << 20)
#define MESSAGE_MAX (64u << 20)
#define READ_BYTES (1u << 20)

/* ---- the columns that come ---- */

/* {'a': 'INTEGER', ...} */
static int add_columns(struct mg_sb *sql, const struct mg_write *write, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	size_t count = dml->column_count ? dml->column_count : write->table->column_count;

	mg_sb_add(sql, ", columns = {");
	for (size_t i = 0; i < count; i++) {
		const struct mg_column *column = dml->column_count
		                                     ? mg_table_find_column(write->table, dml->columns[i])
		                                     : &write->table->columns[i];

		if (!column) {
			return mg_error_set(err, MG_E_NO_COLUMN,
			                    "table \"%s\" does not have a column with name \"%s\"",
			                    write->table->name, dml->columns[i]);
		}
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_literal(sql, column->name, strlen(column->name));
		mg_sb_add(sql, ": ");
		mg_sb_add_literal(sql, column->type, strlen(column->type));
	}
	mg_sb_add(sql, "}");
	return 0;
}

static int reader_sql(struct mg_sb *sql, const struct mg_write *write, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	bool parquet = mg_text_eq(dml->copy_format, "parquet");
	int code = 0;

	mg_sb_addf(sql, "SELECT * FROM read_%s('/proc/self/fd/%d'", dml->copy_format,
	           write->request->input->fd);
	code = parquet ? 0 : add_columns(sql, write, err);
	for (size_t i = 0; i < dml->copy_option_count; i++) {
		mg_sb_addf(sql, ", %s = %s", dml->copy_options[i].name, dml->copy_options[i].value);
	}
	mg_sb_add(sql, ")");
	return code;
}

/* ---- what went wrong ---- */

/* The line of detail that begins so goes to the end of the message. */
static void tell_more(struct mg_error *err, const char *begins)
{
	char *line = strstr(err->detail, begins);

	if (line) {
		size_t len = strcspn(line, "\n"), used = strlen(err->message);

		(void)snprintf(err->message + used, sizeof err->message - used, ": %.*s", (int)len, line);
		memmove(line, line + len, strlen(line + len) + 1);
	}
}

static int say(const struct mg_write *write, int code, struct mg_error *err)
{
	char path[48];

	if (code && err) {
		/* The reader knows our descriptor as a file; a client knows no such file. */
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", write->request->input->fd);
		mg_error_rename(err, path, write->dml.copy_path ? "the file" : "STDIN");
		tell_more(err, "Error when converting");
		tell_more(err, "Expected Number of Columns");
		if (strstr(err->message, "sniffing")) {
			size_t count = write->dml.column_count ? write->dml.column_count
			                                       : write->table->column_count;

			(void)mg_error_set(err, code, "the rows are no CSV of %zu columns", count);
			mg_error_detail(err, "The lines have another number of columns, or the delimiter and "
			                     "quotes cannot be told.");
			mg_error_hint(err, "Compare the number of columns with the table's, and name FORMAT, "
			                   "HEADER, DELIMITER, QUOTE where they cannot be guessed.");
		}
	}
	return code;
}

/* ---- Arrow ---- */

static struct mg_spool *find_messages(void *arg, uint32_t stage)
{
	return stage == 0 ? arg : NULL;
}

/* One message after the other; the first one is the schema. */
static int read_messages(const struct mg_write *write, struct mg_spool *spool, struct mg_error *err)
{
	const struct mg_write_input *input = write->request->input;
	struct mg_sb pending = { 0 };
	uint8_t *bytes = mg_alloc(READ_BYTES);
	uint64_t at = 0;
	bool first = true, end = false;
	int code = 0;

	while (!code && !end && at < input->size) {
		ssize_t got = pread(input->fd, bytes, READ_BYTES, (off_t)at);
		size_t used = 0, size = 0;

		if (got <= 0) {
			code = mg_error_set(err, MG_E_IO, "what was sent cannot be read again");
			break;
		}
		at += (uint64_t)got;
		mg_sb_add_len(&pending, (const char *)bytes, (size_t)got);
		while (!code && !end) {
			code = mg_arrow_message_size(pending.ptr + used, pending.len - used, MESSAGE_MAX, &size,
			                             &end, err);
			if (code || end || !size || size > pending.len - used) {
				break;
			}
			struct mg_buf *message = mg_buf_copy(pending.ptr + used, size);

			code = !message ? mg_error_set(err, MG_E_NOMEM, "no memory for a batch of rows")
			       : first  ? mg_spool_set_schema(spool, message, err)
			                : mg_spool_put(spool, message, 1, err);
			mg_buf_unref(message);
			first = false;
			used += size;
		}
		memmove(pending.ptr, pending.ptr + used, pending.len - used);
		pending.len -= used;
	}
	if (!code && (first || (!end && pending.len))) {
		code = mg_error_set(err, MG_E_DATA, "the Arrow stream is not whole");
	}
	mg_free(bytes);
	mg_sb_fini(&pending);
	return code;
}

/* ---- the whole ---- */

struct copying {
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_duck_context context;
	struct mg_spool *messages; /* Arrow */
};

static int open_reader(struct copying *copying, struct mg_write *write, struct mg_error *err)
{
	const struct mg_duck_options options = {
		.threads = 2,
		.memory_bytes = READER_MEMORY_BYTES,
		.spill_dir = mg_engine_spill_dir(write->engine),
		.lossless_arrow = true,
	};
	struct mg_sb sql = { 0 };
	int code = mg_duck_open(&copying->duck, &options, err);

	code = code ? code : mg_duck_connect(copying->duck, &copying->conn, err);
	if (!code) {
		const char *zone = write->settings.timezone;

		mg_sb_add(&sql, "SET TimeZone = ");
		mg_sb_add_literal(&sql, zone ? zone : "UTC", strlen(zone ? zone : "UTC"));
		code = mg_duck_exec(copying->conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	return code;
}

static int read_rows(struct copying *copying, struct mg_write *write,
                     int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                     struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = 0;

	if (mg_text_eq(write->dml.copy_format, "arrow")) {
		copying->messages = mg_spool_new(&write->budget);
		code = read_messages(write, copying->messages, err);
		mg_spool_seal(copying->messages);
		copying->context =
			(struct mg_duck_context){ .find_spool = find_messages, .arg = copying->messages };
		mg_duck_set_context(copying->conn, &copying->context);
		mg_sb_add(&sql, "SELECT * FROM merganser_exchange(0)");
	} else {
		code = reader_sql(&sql, write, err);
	}
	code = code ? code
	            : mg_write__source_on(write, copying->conn, mg_sb_text(&sql), take, err);
	mg_sb_fini(&sql);
	return code;
}

const char *mg_write_copy_paths(const struct mg_engine *engine, bool written)
{
	return written ? engine->options.copy_paths_write : engine->options.copy_paths;
}

int mg_write__copy(struct mg_write *write,
                   int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                   struct mg_error *err)
{
	struct copying copying = { 0 };
	bool text = mg_text_eq(write->dml.copy_format, "csv") ||
	            mg_text_eq(write->dml.copy_format, "json");
	int code = 0;

	if (!write->request->input) {
		code = mg_error_set(err, MG_E_USAGE, "COPY FROM STDIN was sent without its rows");
		mg_error_hint(err, "Over HTTP they are the body of POST /db/execute?sql=COPY...; in the "
		                   "shell use \\copy, or end them with a line \\.");
		return code;
	}
	if (text && !write->request->input->size) {
		return 0; /* no line is no row */
	}
	code = open_reader(&copying, write, err);
	code = code ? code : say(write, read_rows(&copying, write, take, err), err);
	mg_duck_disconnect(copying.conn);
	mg_duck_close(copying.duck);
	if (copying.messages) {
		mg_spool_unref(copying.messages);
	}
	return code;
}
