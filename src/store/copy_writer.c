/*
 * copy_writer.c - see copy_writer.h.
 *
 * Idea: COPY (SELECT ... FROM merganser_feed()) TO '/proc/self/fd/N'.  DuckDB opens the file behind
 * a descriptor of ours, so it needs no name, and what has none is gone with us, whatever ends us.
 * With emit that file is a pipe.  Who puts rows also reads it: it waits for either room for a batch
 * or bytes, so neither side can wait for the other for ever.
 *
 * One thread without preserve_insertion_order keeps the order all the same, and only so does DuckDB
 * bound row groups by bytes.
 */
#include "store/copy_writer.h"

#include "os/file.h"
#include "os/pipe.h"
#include "store/duck_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mg_copy_writer {
	struct mg_copy_writer_options options; /* without what the caller lends for open */
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_duck_feed *feed;
	int fd;              /* that DuckDB writes; ours when there is emit */
	int from_duck, wake; /* the pipe's other end, and the feed's word; or -1 */
	uint8_t *piece;      /* of the pipe */
};

/* ---- the pipe ---- */

static int open_pipe(struct mg_copy_writer *writer, struct mg_error *err)
{
	int ends[2];

	writer->piece = mg_alloc(MG_COPY_WRITER_PIECE_BYTES);
	/* DuckDB opens its end anew, so it blocks there. */
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
		return mg_error_errno(err, errno, "cannot make a pipe");
	}
	writer->from_duck = ends[0];
	writer->fd = ends[1];
	mg_pipe_widen(writer->fd);
	writer->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return writer->wake < 0 ? mg_error_errno(err, errno, "cannot make a descriptor of events") : 0;
}

static void close_pipe(struct mg_copy_writer *writer)
{
	int *const ours[] = { &writer->fd, &writer->from_duck, &writer->wake };

	for (size_t i = 0; writer->options.emit && i < sizeof ours / sizeof *ours; i++) {
		if (*ours[i] >= 0) {
			(void)close(*ours[i]);
		}
		*ours[i] = -1;
	}
}

/* One piece of what DuckDB has written, if there is any.  *more: there was. */
static int pass_on(struct mg_copy_writer *writer, bool keep, bool *more, struct mg_error *err)
{
	ssize_t got = read(writer->from_duck, writer->piece, MG_COPY_WRITER_PIECE_BYTES);

	*more = got > 0;
	if (got <= 0) {
		return got < 0 && errno != EAGAIN && errno != EINTR
		           ? mg_error_errno(err, errno, "cannot read rows of COPY")
		           : 0;
	}
	struct mg_buf *buf = keep ? mg_buf_copy(writer->piece, (size_t)got) : NULL;

	if (keep && !buf) {
		return mg_error_set(err, MG_E_NOMEM, "not enough memory for rows of COPY");
	}
	return keep ? writer->options.emit(writer->options.arg, buf, err) : 0;
}

/* Until there is room for a batch, the statement has ended, or bytes came, which are passed on. */
static int wait_and_pass_on(struct mg_copy_writer *writer, bool keep, struct mg_error *err)
{
	struct pollfd fds[] = { { .fd = writer->from_duck, .events = POLLIN },
		                    { .fd = writer->wake, .events = POLLIN } };
	eventfd_t told;
	bool more;

	if (poll(fds, 2, -1) < 0 && errno != EINTR) {
		return mg_error_errno(err, errno, "cannot wait for rows of COPY");
	}
	(void)eventfd_read(writer->wake, &told); /* what it told is looked at next */
	return pass_on(writer, keep, &more, err);
}

/* The statement comes to its end, and all bytes are passed on. */
static int drain(struct mg_copy_writer *writer, bool keep, struct mg_error *err)
{
	bool more = true;
	int rc = 0;

	mg_duck_feed_finish(writer->feed, keep);
	while (!mg_duck_feed_ended(writer->feed)) {
		int failed = wait_and_pass_on(writer, keep, rc ? NULL : err);

		rc = rc ? rc : failed;
		keep = keep && !rc;
	}
	while (more) { /* DuckDB has closed its end: what is there is all */
		int failed = pass_on(writer, keep, &more, rc ? NULL : err);

		rc = rc ? rc : failed;
		keep = keep && !rc;
	}
	return rc;
}

/* ---- the statement ---- */

static int start(struct mg_copy_writer *writer, const struct mg_copy_writer_options *options,
                 struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "COPY (");
	mg_duck_feed_select(&sql, options->names, options->types, options->count);
	mg_sb_addf(&sql, ") TO '/proc/self/fd/%d' (%s, USE_TMP_FILE false)", writer->fd, options->how);
	int rc = mg_duck_feed_open(&writer->feed, writer->conn, options->schema, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	if (rc == 0 && options->emit) {
		mg_duck_feed_wake(writer->feed, writer->wake);
	}
	return rc;
}

int mg_copy_writer_open(struct mg_copy_writer **out, const struct mg_copy_writer_options *options,
                        struct mg_error *err)
{
	struct mg_copy_writer *writer = mg_alloc0(sizeof *writer);
	struct mg_duck_options duck = { .threads = 1,
		                            .memory_bytes = MG_COPY_WRITER_MEMORY_BYTES,
		                            .lossless_arrow = true };
	writer->options.emit = options->emit;
	writer->options.arg = options->arg;
	writer->fd = options->emit ? -1 : options->fd;
	writer->from_duck = writer->wake = -1;
	int rc = options->emit ? open_pipe(writer, err) : 0;
	if (rc == 0) {
		rc = mg_duck_open(&writer->duck, &duck, err);
	}
	if (rc == 0) {
		rc = mg_duck_connect(writer->duck, &writer->conn, err);
	}
	if (rc == 0) {
		rc = mg_duck_exec(writer->conn, "SET preserve_insertion_order = false", err);
	}
	if (rc == 0) {
		rc = start(writer, options, err);
	}
	if (rc != 0) {
		(void)mg_copy_writer_close(writer, false, NULL);
		writer = NULL;
	}
	*out = writer;
	return rc;
}

static int offer(struct mg_copy_writer *writer, struct ArrowArray *batch, struct mg_error *err)
{
	bool taken = false, more = true;
	int rc = mg_duck_feed_offer(writer->feed, batch, &taken, err);

	while (rc == 0 && !taken) {
		rc = wait_and_pass_on(writer, true, err);
		rc = rc ? rc : mg_duck_feed_offer(writer->feed, batch, &taken, err);
	}
	if (!taken) {
		ArrowArrayRelease(batch);
	}
	while (rc == 0 && more) { /* the client gets what is there, not what fits */
		rc = pass_on(writer, true, &more, err);
	}
	return rc;
}

/* DuckDB knows our descriptor as a file; nobody else knows such a file. */
static void hide_path(int fd, struct mg_error *err)
{
	char path[48];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	mg_error_rename(err, path, "the file");
}

int mg_copy_writer_put(struct mg_copy_writer *writer, struct ArrowArray *batch,
                       struct mg_error *err)
{
	int rc = writer->options.emit ? offer(writer, batch, err)
	                              : mg_duck_feed_put(writer->feed, batch, err);

	if (rc != 0) {
		hide_path(writer->fd, err);
	}
	return rc;
}

int mg_copy_writer_close(struct mg_copy_writer *writer, bool whole, struct mg_error *err)
{
	if (!writer) {
		return 0;
	}
	int rc = writer->feed && writer->options.emit ? drain(writer, whole, whole ? err : NULL) : 0;
	int failed = writer->feed ? mg_duck_feed_close(writer->feed, whole && !rc, rc ? NULL : err) : 0;
	rc = rc ? rc : failed;
	if (rc != 0) {
		hide_path(writer->fd, err);
	}
	mg_duck_disconnect(writer->conn);
	mg_duck_close(writer->duck);
	if (!writer->options.emit && (!whole || rc != 0)) {
		mg_file_fd_empty(writer->fd);
	}
	close_pipe(writer);
	mg_free(writer->piece);
	mg_free(writer);
	return rc;
}
