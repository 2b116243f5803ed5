/*
 * shell.c - `merganser sql`: where statements come from, and how the shell begins and ends.
 *
 * Lines are collected until they end a statement (a ; or a line /); a line that starts with . or \
 * is a command of the shell, as long as no statement is open.  Each statement of a line is sent on
 * its own, so that one that fails says nothing about the others: -c and -f stop there, the
 * terminal and standard input go on.
 */
#include "cli/shell.h"

#include "cli/commands.h"
#include "os/tty.h"
#include "sql/statement.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_DEPTH_MAX 16

/* ---- Ctrl-C ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupts;
static struct mg_shell *interrupt_shell;

static void on_interrupt(int number)
{
	struct mg_shell *shell = interrupt_shell;

	(void)number;
	interrupts++;
	if (shell && shell->client) {
		mg_client_cancel(shell->client);
	} else if (!shell || !shell->interactive) {
		_exit(130);     /* while connecting there is nothing to tell anybody */
	}
}

void mg_shell_catch_interrupts(struct mg_shell *shell)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	interrupt_shell = shell;
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

bool mg_shell_is_interrupted(void)
{
	return interrupts > 0;
}

bool mg_shell_interrupted(void)
{
	bool was = interrupts > 0;

	interrupts = 0;
	return was;
}

/* ---- collecting statements ------------------------------------------------------------------- */

static bool should_stop(const struct mg_shell *shell)
{
	return shell->quit ||
	       (shell->exit_code && (shell->stop_at_error || (!shell->client && !shell->interactive) ||
	                             shell->exit_code == 130));
}

static void note_exit(struct mg_shell *shell, int exit_code)
{
	if (exit_code && (shell->exit_code == 0 || exit_code == 130 || exit_code == 2 ||
	                  exit_code == 5)) {
		shell->exit_code = exit_code;
	}
}

/* Run the statements of text; the first that fails ends it when the shell stops at errors. */
static void run_statements(struct mg_shell *shell, struct mg_str text)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *statements;
	size_t count;

	mg_sb_clear(&shell->last);
	mg_sb_add_len(&shell->last, text.ptr, text.len);
	if (mg_statement_split(arena, text, &statements, &count, NULL)) {
		/* Let the server say what is wrong, as it would over any other door. */
		note_exit(shell, mg_shell_statement(shell, text.ptr, text.len));
		count = 0;
	}
	for (size_t i = 0; i < count && !should_stop(shell); i++) {
		if (statements[i].kind != MG_S_EMPTY) {
			note_exit(shell, mg_shell_statement(shell, statements[i].text.ptr,
			                                    statements[i].text.len));
		}
	}
	mg_arena_free(arena);
}

static bool is_slash_line(struct mg_str line)
{
	return mg_str_eq(mg_str_trim(line), MG_STR("/"));
}

/* Add a line to what is open; runs it when it is complete. */
static void feed_line(struct mg_shell *shell, struct mg_sb *open, struct mg_str line)
{
	struct mg_str trimmed = mg_str_trim(line), text;

	if (open->len == 0) {
		if (trimmed.len == 0 || is_slash_line(line)) {
			return;
		}
		if (mg_shell_is_meta(trimmed.ptr)) {
			char *command = mg_strndup(trimmed.ptr, trimmed.len);

			note_exit(shell, mg_shell_meta(shell, command));
			mg_free(command);
			return;
		}
	}
	mg_sb_add_len(open, line.ptr, line.len);
	mg_sb_add_char(open, '\n');
	text = (struct mg_str){ open->ptr, open->len };
	if (!mg_statement_complete(text)) {
		return;
	}
	if (is_slash_line(line)) {
		text.len -= line.len + 1;
	}
	run_statements(shell, mg_str_trim(text));
	mg_sb_clear(open);
}

/* Text at the end of a file that no ; ends. */
static void feed_rest(struct mg_shell *shell, struct mg_sb *open)
{
	struct mg_str rest = mg_str_trim((struct mg_str){ mg_sb_text(open), open->len });

	if (rest.len > 0 && !should_stop(shell)) {
		run_statements(shell, rest);
	}
	mg_sb_fini(open);
}

int mg_shell_run_text(struct mg_shell *shell, const char *text)
{
	struct mg_sb open = { 0 };

	for (const char *at = text; *at && !should_stop(shell);) {
		size_t len = strcspn(at, "\n");

		feed_line(shell, &open, (struct mg_str){ at, len });
		at += len + (at[len] == '\n');
	}
	feed_rest(shell, &open);
	return shell->exit_code;
}

int mg_shell_run_file(struct mg_shell *shell, const char *path)
{
	bool from_stdin = strcmp(path, "-") == 0;
	FILE *file = from_stdin ? stdin : fopen(path, "r");
	struct mg_sb open = { 0 };
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	if (!file || shell->depth >= READ_DEPTH_MAX) {
		struct mg_error err;

		if (file && !from_stdin) {
			fclose(file);
		}
		mg_error_set(&err, MG_E_USAGE, file ? "files read each other" : "cannot open \"%s\": %s",
		             path, strerror(errno));
		note_exit(shell, mg_cli_fail(&err));
		return shell->exit_code;
	}
	FILE *script = shell->script;

	shell->script = file;
	shell->depth++;
	while (!should_stop(shell) && (len = getline(&line, &cap, file)) >= 0) {
		while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
			len--;
		}
		line[len] = '\0';
		feed_line(shell, &open, (struct mg_str){ line, (size_t)len });
	}
	feed_rest(shell, &open);
	shell->depth--;
	shell->script = script;
	free(line);
	if (!from_stdin) {
		fclose(file);
	}
	return shell->exit_code;
}

/* ---- the terminal ---------------------------------------------------------------------------- */

void mg_shell_banner(const struct mg_shell *shell)
{
	const struct mg_client_info *info = mg_client_info(shell->client);

	fprintf(stderr, "merganser %s (DuckDB %s)  server \"%s\"  user \"%s\"\n", info->version,
	        info->engine, info->node, info->user);
	fprintf(stderr,
	        "%u node%s, %u worker%s, %u shard%s.  .help for help, .quit or Ctrl-D to leave.\n",
	        info->nodes, info->nodes == 1 ? "" : "s", info->workers, info->workers == 1 ? "" : "s",
	        info->shards, info->shards == 1 ? "" : "s");
}

void mg_shell_interact(struct mg_shell *shell)
{
	struct mg_sb open = { 0 }, whole = { 0 };

	shell->interactive = true;
	shell->stop_at_error = false;
	shell->line = mg_line_new(shell);
	while (!shell->quit) {
		bool interrupted = false, was_open;
		const char *line = mg_line_read(shell->line, open.len > 0, &interrupted);

		if (!line) {
			break;
		}
		if (interrupted) {
			mg_sb_clear(&open);
			mg_sb_clear(&whole);
			continue;
		}
		was_open = open.len > 0;
		mg_sb_addf(&whole, "%s%s", whole.len ? "\n" : "", line);
		mg_shell_interrupted();
		if (!was_open && mg_shell_is_meta(line + strspn(line, " \t"))) {
			mg_line_remember(shell->line, mg_sb_text(&whole));
			mg_sb_clear(&whole);
		} else if (mg_statement_complete((struct mg_str){ whole.ptr, whole.len })) {
			/* Before it runs: a statement that ends the shell is wanted again most. */
			mg_line_remember(shell->line, mg_sb_text(&whole));
			mg_sb_clear(&whole);
		}
		feed_line(shell, &open, mg_str(line));
		if (open.len == 0) {
			mg_sb_clear(&whole);
		}
		mg_shell_interrupted();
		shell->exit_code = 0;
	}
	mg_sb_fini(&open);
	mg_sb_fini(&whole);
	mg_line_free(shell->line);
	shell->line = NULL;
	if (!shell->quit) {
		fputc('\n', stderr);
	}
}

/* ---- the command ----------------------------------------------------------------------------- */

void mg_shell_init(struct mg_shell *shell)
{
	*shell = (struct mg_shell){
		.prompt = "merganser", .out = stdout, .rows_max = 40, .timer = true,
	};
}

void mg_shell_fini(struct mg_shell *shell)
{
	interrupt_shell = NULL;
	mg_shell_set_output(shell, stdout, false);
	mg_shell_disconnect(shell);
	mg_free(shell->seen);
	mg_connection_fini(&shell->connection);
	mg_sb_fini(&shell->last);
}

const struct mg_option mg_options_shell[] = {
	{ .name = "command",
	  .alias = "c",
	  .kind = MG_O_TEXT,
	  .value = "SQL",
	  .help = "run SQL and end; may be repeated, also beside -f" },
	{ .name = "file",
	  .alias = "f",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .help = "run the statements of FILE (- is standard input) and end" },
	{ .name = "format",
	  .kind = MG_O_CHOICE,
	  .choices = MG_FORMAT_CHOICES,
	  .fallback = "box",
	  .help = "how rows are written" },
	{ .name = "output",
	  .alias = "o",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .help = "write rows to FILE instead of standard output" },
	{ .name = "max-rows",
	  .alias = "max-result-set-rows",
	  .kind = MG_O_INT,
	  .fallback = "40",
	  .help = "rows of a box table, more are cut in the middle; 0: all" },
	{ .name = "no-header", .kind = MG_O_FLAG, .help = "no line of names in csv" },
	{ .name = "timer",
	  .kind = MG_O_CHOICE,
	  .choices = "on|off|auto",
	  .fallback = "auto",
	  .help = "the line of time, rows, shards and nodes after each result, on standard error; "
	          "auto: with the format box" },
	{ .name = "quiet",
	  .alias = "q",
	  .kind = MG_O_FLAG,
	  .help = "no notices, no progress, no timer" },
	{ 0 },
};

static int shell_setup(struct mg_shell *shell, const struct mg_options *options,
                       struct mg_error *err)
{
	const char *output = mg_options_text(options, "output");
	const char *timer = mg_options_text(options, "timer");

	mg_format_parse(mg_options_text(options, "format"), &shell->format);
	shell->rows_max = (size_t)mg_options_int(options, "max-rows");
	shell->no_header = mg_options_flag(options, "no-header");
	shell->quiet = mg_options_flag(options, "quiet");
	shell->timer = !shell->quiet && (strcmp(timer, "auto") == 0 ? shell->format == MG_FORMAT_BOX
	                                                             : strcmp(timer, "on") == 0);
	if (output) {
		FILE *file = fopen(output, "w");

		if (!file) {
			return mg_error_errno(err, errno, "cannot open \"%s\"", output);
		}
		mg_shell_set_output(shell, file, false);
	}
	return 0;
}

/* -c and -f in the order of the command line; from the environment or a file once each. */
static bool run_given(struct mg_shell *shell, const struct mg_options *options)
{
	const char *name, *text;
	bool any = false;

	shell->stop_at_error = true;
	for (size_t i = 0; (text = mg_options_occurrence(options, i, &name)); i++) {
		if (strcmp(name, "command") == 0 || strcmp(name, "file") == 0) {
			any = true;
			if (!should_stop(shell)) {
				if (strcmp(name, "command") == 0) {
					mg_shell_run_text(shell, text);
				} else {
					mg_shell_run_file(shell, text);
				}
			}
		}
	}
	if (!any && mg_options_text(options, "command")) {
		mg_shell_run_text(shell, mg_options_text(options, "command"));
		any = true;
	}
	if (!any && mg_options_text(options, "file")) {
		mg_shell_run_file(shell, mg_options_text(options, "file"));
		any = true;
	}
	shell->stop_at_error = false;
	return any;
}

int mg_command_sql(const struct mg_options *options)
{
	struct mg_shell shell;
	struct mg_error err = { 0 };
	int exit_code;

	mg_shell_init(&shell);
	if (shell_setup(&shell, options, &err) ||
	    mg_connection_read(&shell.connection, options, mg_options_argument(options, 0), &err)) {
		exit_code = mg_cli_fail(&err);
		mg_shell_fini(&shell);
		return exit_code;
	}
	mg_shell_catch_interrupts(&shell);
	if (mg_shell_connect(&shell, &err)) {
		exit_code = mg_shell_interrupted() ? 130 : mg_cli_fail_connect(&err);
		mg_shell_fini(&shell);
		return exit_code;
	}
	if (!run_given(&shell, options)) {
		if (mg_tty_is(STDIN_FILENO)) {
			mg_shell_banner(&shell);
			mg_shell_interact(&shell);
		} else {
			mg_shell_run_file(&shell, "-");
		}
	}
	exit_code = shell.exit_code;
	mg_shell_fini(&shell);
	return exit_code;
}
