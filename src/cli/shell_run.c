/*
 * shell_run.c - sends statements and shows their answers.
 *
 * Rule: rows go to the output, everything else to stderr; the progress line is wiped before
 * anything else is written.
 */
#include "base/assert.h"
#include "cli/shell.h"
#include "os/clock.h"
#include "os/tty.h"
#include "sql/statement.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define BAR_CELLS 20

enum { EXIT_LOST = 2, EXIT_UNKNOWN_OUTCOME = 5 };

/* ---- while it runs --------------------------------------------------------------------------- */

static void wipe_progress(struct mg_shell *shell)
{
	if (shell->progress_shown) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
		shell->progress_shown = false;
	}
}

static void add_amount(struct mg_sb *sb, double amount, const char *const *units, double step)
{
	size_t unit = 0;

	while (amount >= step * 0.99995 && units[unit + 1]) {
		amount /= step;
		unit++;
	}
	mg_sb_addf(sb, unit == 0 ? "%.0f%s" : amount < 10 ? "%.2f%s" : "%.1f%s", amount, units[unit]);
}

static void add_rows(struct mg_sb *sb, uint64_t rows)
{
	static const char *const units[] = { "", "k", "M", "G", "T", NULL };

	add_amount(sb, (double)rows, units, 1000);
	mg_sb_add(sb, rows == 1 ? " row" : " rows");
}

static void add_bytes(struct mg_sb *sb, uint64_t bytes)
{
	static const char *const units[] = { " B", " kB", " MB", " GB", " TB", NULL };

	add_amount(sb, (double)bytes, units, 1000);
}

static void add_bar(struct mg_sb *sb, double done)
{
	static const char *const parts[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	int eighths, full;

	done = done > 1 ? 1 : done;
	eighths = (int)(done * BAR_CELLS * 8);
	full = eighths / 8;
	mg_sb_addf(sb, "%3d%% ▕", (int)(done * 100));
	for (int i = 0; i < full; i++) {
		mg_sb_add(sb, "█");
	}
	mg_sb_add(sb, parts[eighths % 8]);
	for (int i = full + (eighths % 8 ? 1 : 0); i < BAR_CELLS; i++) {
		mg_sb_add(sb, " ");
	}
	mg_sb_add(sb, "▏ ");
}

static void on_progress(void *arg, const struct mg_client_progress *progress)
{
	struct mg_shell *shell = arg;
	struct mg_sb line = { 0 };

	if (!mg_tty_is(STDERR_FILENO) || shell->quiet) {
		return;
	}
	mg_sb_add(&line, "\r\033[K");
	if (progress->done >= 0) {
		add_bar(&line, progress->done);
	}
	add_rows(&line, progress->rows);
	mg_sb_add(&line, "  ");
	add_bytes(&line, progress->bytes);
	mg_sb_addf(&line, "  %u node%s  %.1f s", progress->nodes, progress->nodes == 1 ? "" : "s",
	           (double)((int64_t)mg_clock_ms() - shell->started_ms) / 1000);
	fputs(mg_sb_text(&line), stderr);
	fflush(stderr);
	shell->progress_shown = true;
	mg_sb_fini(&line);
}

static void on_notice(void *arg, const char *message)
{
	struct mg_shell *shell = arg;

	wipe_progress(shell);
	if (!shell->quiet) {
		fprintf(stderr, "note: %s\n", message);
	}
}

/* ---- connecting ------------------------------------------------------------------------------ */

void mg_shell_disconnect(struct mg_shell *shell)
{
	mg_client *client = shell->client;

	if (client) { /* the next connection, to whichever server, goes on from there */
		mg_free(shell->seen);
		shell->seen = mg_strdup(mg_client_seen(client));
	}
	shell->client = NULL;
	mg_client_close(client);
}

int mg_shell_connect(struct mg_shell *shell, struct mg_error *err)
{
	struct mg_client_options options = mg_connection_client_options(&shell->connection);
	mg_client *client;
	int code;

	mg_shell_disconnect(shell);
	options.plain_types = shell->format == MG_FORMAT_ARROW;
	options.on_progress = on_progress;
	options.on_notice = on_notice;
	options.on_input = mg_shell_on_input;
	options.arg = shell;
	options.seen = shell->seen;
	/* The signal handler must find it while it connects, so the handle is the shell's own. */
	code = mg_client_connect((mg_client **)(uintptr_t)&shell->client, &options);
	client = shell->client;
	if (code) {
		*err = *mg_client_failure(client);
		mg_shell_disconnect(shell);
	}
	return code;
}

static int connect_again(struct mg_shell *shell)
{
	struct mg_error err = { 0 };

	if (shell->client) {
		return 0;
	}
	if (mg_shell_connect(shell, &err)) {
		return mg_cli_fail_connect(&err);
	}
	fprintf(stderr, "note: connected again to %s; settings of the session are the defaults\n",
	        mg_client_info(shell->client)->node);
	return 0;
}

/* ---- after it ran ---------------------------------------------------------------------------- */

static void print_footer(struct mg_shell *shell, const struct mg_client_statement *s,
                         int64_t elapsed_ms)
{
	struct mg_sb line = { 0 };
	bool color = mg_cli_color(STDERR_FILENO);

	if (!shell->timer) {
		return;
	}
	mg_sb_add(&line, color ? "\033[90m" : "");
	if (s->column_count) {
		mg_sb_addf(&line, "%llu row%s", (unsigned long long)s->rows, s->rows == 1 ? "" : "s");
	} else {
		mg_sb_add(&line, *s->tag ? s->tag : s->verb);
	}
	if (s->shards) {
		mg_sb_addf(&line, "  %u shard%s on %u node%s", s->shards, s->shards == 1 ? "" : "s",
		           s->nodes, s->nodes == 1 ? "" : "s");
	} else if (s->nodes) {
		mg_sb_addf(&line, "  %u node%s", s->nodes, s->nodes == 1 ? "" : "s");
	}
	mg_sb_addf(&line, "  %.3f s", (s->elapsed_ms > 0 ? s->elapsed_ms : (double)elapsed_ms) / 1000);
	if (*s->step && strcmp(s->step, "session") != 0) {
		mg_sb_addf(&line, "  (%s%s%s)", s->step, *s->reason ? ": " : "", s->reason);
	}
	mg_sb_add(&line, color ? "\033[0m\n" : "\n");
	fputs(mg_sb_text(&line), stderr);
	mg_sb_fini(&line);
}

/* What became of the transaction whose connection is lost; returns an exit code. */
static int show_lost(const struct mg_shell *shell, const char *sql, size_t len)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *statements = NULL;
	size_t count = 0;
	bool open = *mg_client_transaction(shell->client) != '\0';
	bool commits = false;

	if (open && mg_statement_split(arena, (struct mg_str){ sql, len }, &statements, &count, NULL) ==
	                0) {
		for (size_t i = 0; i < count; i++) {
			commits = commits || (statements[i].kind == MG_S_TRANSACTION &&
			                      statements[i].transaction == MG_TRANSACTION_COMMIT);
		}
	}
	if (commits) {
		fprintf(stderr, "note: the connection was lost while the transaction was being committed: "
		                "nobody knows whether it was.\n"
		                "      Read what it would have changed before you run it again.\n");
	} else if (open) {
		fprintf(stderr, "note: the open transaction is rolled back; nothing of it was written\n");
	}
	mg_arena_free(arena);
	return commits ? EXIT_UNKNOWN_OUTCOME : EXIT_LOST;
}

static int show_failure(struct mg_shell *shell, const char *sql, size_t len)
{
	struct mg_error err = *mg_client_failure(shell->client);
	const struct mg_client_error *e = mg_client_error(shell->client);
	int exit_code = e->exit_code;

	wipe_progress(shell);
	mg_cli_print_error(&err);
	if (!e->connected) {
		exit_code = show_lost(shell, sql, len);
		mg_shell_disconnect(shell);
	}
	if (err.code == MG_E_CANCELLED && mg_shell_is_interrupted()) {
		exit_code = 130;
	}
	return exit_code;
}

/* A mistake of our own side while rows came: the rest of the request is not wanted. */
static int show_local_failure(struct mg_shell *shell, const struct mg_error *err)
{
	wipe_progress(shell);
	return mg_cli_fail(err);
}

/* ---- one statement --------------------------------------------------------------------------- */

static struct mg_render_options render_options(struct mg_shell *shell)
{
	bool to_terminal = shell->out == stdout && mg_tty_is(STDOUT_FILENO);

	return (struct mg_render_options){
		.format = shell->format,
		.out = shell->out,
		.rows_max = shell->rows_max,
		.width_max = to_terminal ? mg_tty_columns(STDOUT_FILENO) : 0,
		.color = shell->out == stdout && mg_cli_color(STDOUT_FILENO),
		.no_header = shell->no_header,
		.holds_result = &shell->holds_result,
	};
}

/* The rows of the statement that has just begun.  *failed_here: err tells of our own side. */
static int take_rows(struct mg_shell *shell, struct mg_render *render,
                     const struct mg_client_statement *s, bool *failed_here, struct mg_error *err)
{
	struct mg_render_table table = {
		.verb = s->verb,
		.count = s->column_count,
		.names = s->names,
		.types = s->types,
		.schema = mg_client_schema(shell->client),
	};
	bool bytes = mg_render_is_bytes(s->verb, s->column_count);
	int code, done = 0;

	*failed_here = false;
	if (table.count && !table.schema) {
		/* The statement failed before its first row; next_batch knows how. */
		struct ArrowArray none;

		return mg_client_next_batch(shell->client, &none, &done);
	}
	code = mg_render_begin(render, &table, err);
	if (code) {
		*failed_here = true;
		return code;
	}
	for (;;) {
		struct ArrowArray batch;

		code = mg_client_next_batch(shell->client, &batch, &done);
		if (code || done) {
			break;
		}
		if (shell->progress_shown && (shell->format != MG_FORMAT_BOX || bytes)) {
			wipe_progress(shell);
		}
		code = mg_render_batch(render, &batch, err);
		if (batch.release) {
			ArrowArrayRelease(&batch);
		}
		if (code) {
			*failed_here = true;
			return code;
		}
	}
	wipe_progress(shell);
	if (code == 0) {
		code = mg_render_end(render, err);
		*failed_here = code != 0;
	}
	return code;
}

static int run_request(struct mg_shell *shell, struct mg_render *render, const char *sql,
                       size_t len)
{
	const struct mg_client_statement *s;
	struct mg_error err = { 0 };
	bool failed_here = false;

	shell->started_ms = (int64_t)mg_clock_ms();
	if (mg_client_query(shell->client, sql, len)) {
		return show_failure(shell, sql, len);
	}
	while (mg_client_next_statement(shell->client, &s) == 0 && s) {
		int code = take_rows(shell, render, s, &failed_here, &err);

		if (code) {
			mg_render_abort(render);
			if (mg_render_pipe_broken(render)) {
				shell->quit = true;
				return 0;
			}
			return failed_here ? show_local_failure(shell, &err) : show_failure(shell, sql, len);
		}
		print_footer(shell, s, (int64_t)mg_clock_ms() - shell->started_ms);
	}
	return mg_client_error(shell->client)->code ? show_failure(shell, sql, len) : 0;
}

int mg_shell_statement(struct mg_shell *shell, const char *sql, size_t len)
{
	struct mg_render_options options = render_options(shell);
	struct mg_render *render = NULL;
	struct mg_error err = { 0 };
	int exit_code;

	if (mg_render_new(&render, &options, &err)) {
		return mg_cli_fail(&err);
	}
	exit_code = connect_again(shell);
	if (exit_code == 0) {
		exit_code = run_request(shell, render, sql, len);
		mg_shell_copy_done(shell);
	}
	mg_render_free(render);
	if (shell->once) {
		mg_shell_set_output(shell, stdout, false);
	}
	return exit_code;
}

int mg_shell_statementf(struct mg_shell *shell, const char *fmt, ...)
{
	struct mg_sb sql = { 0 };
	va_list ap;
	int exit_code;

	va_start(ap, fmt);
	mg_sb_addv(&sql, fmt, ap);
	va_end(ap);
	exit_code = mg_shell_statement(shell, mg_sb_text(&sql), sql.len);
	mg_sb_fini(&sql);
	return exit_code;
}
