/*
 * shell_meta.c - the commands of the shell itself: DuckDB's and rqlite's dots, psql's backslashes.
 *
 * Most are a SELECT over the schema cluster in short; so what they show is what SQL shows.
 */
#include "cli/demo.h"
#include "cli/shell.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 8
#define EDIT_SIZE_MAX (1u << 20)

struct meta {
	const char *name;
	const char *other;          /* the same in the other dialect, or NULL */
	const char *usage;
	const char *help;
	int (*run)(struct mg_shell *shell, size_t count, char **args, const char *rest);
};

static int usage_error(const char *message)
{
	struct mg_error err;

	mg_error_set(&err, MG_E_USAGE, "%s", message);
	mg_error_hint(&err, ".help lists the commands of the shell.");
	return mg_cli_fail(&err);
}

/* ---- looking around -------------------------------------------------------------------------- */

static int run_tables_where(struct mg_shell *shell, const char *where, const char *pattern)
{
	struct mg_sb sql = { 0 };
	int code;

	mg_sb_addf(&sql, "SELECT schema, name, kind, partitioned_by, rows, bytes FROM cluster.tables "
	                 "WHERE %s", where);
	if (pattern) {
		mg_sb_add(&sql, " AND name ILIKE ");
		mg_sb_add_literal(&sql, pattern, strlen(pattern));
	}
	mg_sb_add(&sql, " ORDER BY schema, name");
	code = mg_shell_statement(shell, sql.ptr, sql.len);
	mg_sb_fini(&sql);
	return code;
}

static int run_tables(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	return run_tables_where(shell, "true", count ? args[0] : NULL);
}

static int run_views(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	return run_tables_where(shell, "kind = 'view'", count ? args[0] : NULL);
}

static int run_describe(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	return count ? mg_shell_statementf(shell, "DESCRIBE %s", args[0])
	             : run_tables(shell, count, args, rest);
}

static int run_indexes(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell,
	                           "SELECT schema, name AS \"table\", primary_key, partitioned_by "
	                           "FROM cluster.tables WHERE len(primary_key) > 0 "
	                           "ORDER BY schema, name");
}

static int run_users(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell, "SELECT name, role FROM cluster.users ORDER BY name");
}

static int run_databases(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell, "SELECT 'merganser' AS database, count(*) AS tables, "
	                                  "sum(bytes) AS bytes FROM cluster.tables");
}

static int run_schema(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	struct mg_sb sql = { 0 };
	int code;

	(void)rest;
	mg_sb_add(&sql, "SELECT table_schema AS \"schema\", table_name AS \"table\", "
	                "string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) "
	                "AS columns FROM information_schema.columns "
	                "WHERE table_schema NOT IN ('cluster', 'information_schema', 'pg_catalog')");
	if (count) {
		mg_sb_add(&sql, " AND table_name ILIKE ");
		mg_sb_add_literal(&sql, args[0], strlen(args[0]));
	}
	mg_sb_add(&sql, " GROUP BY ALL ORDER BY ALL");
	code = mg_shell_statement(shell, sql.ptr, sql.len);
	mg_sb_fini(&sql);
	return code;
}

static int run_nodes(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell, "FROM cluster.nodes ORDER BY role, id");
}

static int run_shards(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell, "FROM cluster.shards ORDER BY id");
}

static int run_leader(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell,
	                           "SELECT id, address, state FROM cluster.nodes WHERE coordinator");
}

static int run_queries(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	return mg_shell_statementf(shell, "FROM cluster.queries ORDER BY started");
}

static int run_kill(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	if (count != 1) {
		return usage_error(".kill wants the id of a query, as .queries shows it");
	}
	if (strchr(args[0], '\'')) {
		return usage_error("that is no id of a query");
	}
	return mg_shell_statementf(shell, "CANCEL '%s'", args[0]);
}

/* ---- settings -------------------------------------------------------------------------------- */

static int run_set(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)args;
	if (count == 0) {
		return mg_shell_statementf(shell, "SHOW ALL");
	}
	return mg_shell_statementf(shell, "SET %s", rest);
}

static void show_own(const struct mg_shell *shell)
{
	fprintf(stderr, "shell: mode %s, maxrows %zu, timer %s, server %s, user %s\n",
	        mg_format_name(shell->format), shell->rows_max, shell->timer ? "on" : "off",
	        shell->connection.url, shell->connection.user);
}

static int run_show(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	if (count > 0) {
		return mg_shell_statementf(shell, "SHOW %s", args[0]);
	}
	if (shell->interactive) {
		show_own(shell);
	}
	return mg_shell_statementf(shell, "SHOW ALL");
}

static int run_mode(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	enum mg_format format;

	(void)rest;
	if (count == 0) {
		fprintf(stderr, "mode is %s; there are %s\n", mg_format_name(shell->format),
		        MG_FORMAT_CHOICES);
		return 0;
	}
	if (!mg_format_parse(args[0], &format)) {
		return usage_error("modes are box, csv, json, jsonl, markdown, line, arrow, parquet");
	}
	shell->format = format;
	return 0;
}

static int run_expanded(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	if (shell->format == MG_FORMAT_LINE) {
		shell->format = shell->format_before;
	} else {
		shell->format_before = shell->format;
		shell->format = MG_FORMAT_LINE;
	}
	fprintf(stderr, "mode is %s\n", mg_format_name(shell->format));
	return 0;
}

static int run_timer(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	if (count && !mg_text_eq_nocase(args[0], "on") && !mg_text_eq_nocase(args[0], "off")) {
		return usage_error(".timer wants on or off");
	}
	shell->timer = count ? mg_text_eq_nocase(args[0], "on") : !shell->timer;
	fprintf(stderr, "timer is %s\n", shell->timer ? "on" : "off");
	return 0;
}

static int run_maxrows(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	if (count && strspn(args[0], "0123456789") != strlen(args[0])) {
		return usage_error(".maxrows wants a number; 0 shows all rows");
	}
	if (count) {
		shell->rows_max = strtoul(args[0], NULL, 10);
	} else {
		fprintf(stderr, "maxrows is %zu\n", shell->rows_max);
	}
	return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

void mg_shell_set_output(struct mg_shell *shell, FILE *out, bool is_pipe)
{
	if (shell->out != stdout) {
		if (shell->out_is_pipe) {
			pclose(shell->out);
		} else {
			fclose(shell->out);
		}
	}
	shell->out = out;
	shell->out_is_pipe = is_pipe;
	shell->once = false;
	shell->holds_result = false;
}

static int open_output(struct mg_shell *shell, const char *target)
{
	bool is_pipe = *target == '|';
	FILE *file;

	if (!*target) {
		mg_shell_set_output(shell, stdout, false);
		return 0;
	}
	file = is_pipe ? popen(target + 1, "w") : fopen(target, "w");
	if (!file) {
		struct mg_error err;

		mg_error_errno(&err, errno, "cannot open \"%s\"", target);
		return mg_cli_fail(&err);
	}
	mg_shell_set_output(shell, file, is_pipe);
	return 0;
}

static int run_output(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args;
	return open_output(shell, rest);
}

static int run_once(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	int code;

	(void)args;
	if (count == 0) {
		return usage_error(".once wants a file, or | and a program");
	}
	code = open_output(shell, rest);
	shell->once = code == 0;
	return code;
}

static int run_read(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	bool stop = shell->stop_at_error;
	int before = shell->exit_code, code;

	(void)args;
	if (count == 0) {
		return usage_error(".read wants a file");
	}
	shell->exit_code = 0;
	shell->stop_at_error = true;
	code = mg_shell_run_file(shell, rest);
	shell->stop_at_error = stop;
	shell->exit_code = before;
	return code;
}

static int run_copy(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args;
	return mg_shell_copy(shell, rest);
}

/* ---- again ----------------------------------------------------------------------------------- */

static bool wait_seconds(double seconds)
{
	uint64_t until = mg_clock_ms() + (uint64_t)(seconds * 1000);

	while (mg_clock_ms() < until) {
		if (mg_shell_is_interrupted()) {
			return false;
		}
		mg_sleep_ms(20);
	}
	return true;
}

static int run_watch(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	double seconds = count ? strtod(args[0], NULL) : 2;
	char *sql;
	int code;

	(void)rest;
	if (shell->last.len == 0 || seconds <= 0) {
		return usage_error("\\watch repeats the last statement every so many seconds");
	}
	sql = mg_strdup(mg_sb_text(&shell->last));
	do {
		code = mg_shell_run_text(shell, sql);
	} while (code == 0 && !shell->quit && wait_seconds(seconds));
	mg_free(sql);
	shell->exit_code = 0;
	return mg_shell_is_interrupted() ? 0 : code;
}

static int edit_file(struct mg_shell *shell, const char *path)
{
	const char *editor = getenv("VISUAL") ? getenv("VISUAL") : getenv("EDITOR");
	char *command = mg_format("%s \"$0\"", editor && *editor ? editor : "vi");
	const char *argv[] = { "sh", "-c", command, path, NULL };
	struct mg_process process;
	struct mg_error err;
	char *text = NULL;
	size_t size = 0;
	int status = 0, code;

	code = mg_process_start(&process, &(struct mg_process_options){ .argv = argv }, &err);
	if (code == 0) {
		mg_process_wait(&process, UINT32_MAX, &status);
		mg_process_close(&process);
		code = mg_file_read(path, EDIT_SIZE_MAX, &text, &size, &err);
	}
	mg_free(command);
	if (code) {
		return mg_cli_fail(&err);
	}
	code = status ? usage_error("the editor ended with an error; nothing runs")
	              : mg_shell_run_text(shell, text);
	mg_line_remember(shell->line, text);
	mg_free(text);
	return code;
}

static int run_edit(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	const char *dir = getenv("TMPDIR");
	char *path = mg_format("%s/merganser-XXXXXX.sql", dir && *dir ? dir : "/tmp");
	int fd = mkstemps(path, 4), code;

	(void)count, (void)args, (void)rest;
	if (fd < 0 || write(fd, mg_sb_text(&shell->last), shell->last.len) < 0) {
		code = usage_error("cannot make a file for the editor");
	} else {
		code = edit_file(shell, path);
	}
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	mg_free(path);
	return code;
}

static int run_quit(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	shell->quit = true;
	return 0;
}

static int run_demo(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)rest;
	if (!shell->demo) {
		return usage_error(".demo works in the shell of `merganser demo`");
	}
	int exit_code = mg_demo_meta(shell->demo, count, args);

	/* The next statement connects to another one, instead of failing. */
	if (shell->client && !mg_demo_runs(shell->demo, mg_client_info(shell->client)->node)) {
		mg_shell_disconnect(shell);
	}
	return exit_code;
}

static int run_help(struct mg_shell *shell, size_t count, char **args, const char *rest);

/* ---- the table ------------------------------------------------------------------------------- */

static const struct meta metas[] = {
	{ ".help", "\\?", "", "this list", run_help },
	{ ".tables", "\\dt", "[PATTERN]", "tables and views, how they are partitioned, rows, bytes",
	  run_tables },
	{ "\\d", NULL, "[TABLE]", "columns of a table", run_describe },
	{ "\\dv", NULL, "[PATTERN]", "views", run_views },
	{ "\\di", NULL, "", "primary keys", run_indexes },
	{ "\\du", NULL, "", "users and roles", run_users },
	{ "\\l", NULL, "", "databases", run_databases },
	{ ".schema", NULL, "[PATTERN]", "tables with their columns and types", run_schema },
	{ ".nodes", NULL, "", "servers and workers", run_nodes },
	{ ".shards", NULL, "", "shards: slots, rows, bytes, hashes", run_shards },
	{ ".leader", NULL, "", "the server that coordinates writes", run_leader },
	{ ".queries", NULL, "", "what runs now", run_queries },
	{ ".kill", NULL, "QUERY-ID", "end a statement of anybody", run_kill },
	{ ".set", NULL, "NAME = VALUE", "a setting of the session: distributed, summarize, strategy",
	  run_set },
	{ ".show", NULL, "[NAME]", "settings", run_show },
	{ ".mode", NULL, "[NAME]", MG_FORMAT_CHOICES, run_mode },
	{ "\\x", NULL, "", "one line per column, and back", run_expanded },
	{ ".timer", "\\timing", "[on|off]", "time, rows, shards and nodes after each result",
	  run_timer },
	{ ".maxrows", NULL, "[N]", "rows of a box table; 0: all", run_maxrows },
	{ ".read", "\\i", "FILE", "run the statements of a file", run_read },
	{ ".output", "\\o", "[FILE]", "write rows to a file, or into a program: |less -S", run_output },
	{ ".once", NULL, "FILE", "the same for the next statement", run_once },
	{ "\\watch", NULL, "[SECONDS]", "repeat the last statement until Ctrl-C", run_watch },
	{ "\\e", NULL, "", "edit the last statement in $EDITOR, then run it", run_edit },
	{ "\\copy", NULL, "TABLE|(QUERY) from|to FILE [(OPTIONS)]",
	  "rows of a file into a table, or out",
	  run_copy },
	{ ".demo", NULL, "nodes | kill N | start N", "processes of a demo cluster", run_demo },
	{ ".quit", "\\q", "", "leave; Ctrl-D too", run_quit },
	{ ".exit", NULL, NULL, NULL, run_quit },
};

#define META_COUNT (sizeof metas / sizeof *metas)

const char *mg_shell_meta_name(size_t index)
{
	if (index < META_COUNT) {
		return metas[index].name;
	}
	index -= META_COUNT;
	for (size_t i = 0; i < META_COUNT; i++) {
		if (metas[i].other && index-- == 0) {
			return metas[i].other;
		}
	}
	return NULL;
}

static int run_help(struct mg_shell *shell, size_t count, char **args, const char *rest)
{
	(void)count, (void)args, (void)rest;
	fprintf(
		shell->out,
		"A statement ends with ; or with a line of only /.  Ctrl-C cancels it, Tab completes.\n\n");
	for (size_t i = 0; i < META_COUNT; i++) {
		char names[64];

		if (!metas[i].help) {
			continue;
		}
		snprintf(names, sizeof names, "%s%s%s %s", metas[i].name, metas[i].other ? "  " : "",
		         metas[i].other ? metas[i].other : "", metas[i].usage);
		fprintf(shell->out, "  %-32s %s\n", names, metas[i].help);
	}
	fflush(shell->out);
	return 0;
}

bool mg_shell_is_meta(const char *line)
{
	return *line == '\\' || (*line == '.' && ((line[1] >= 'a' && line[1] <= 'z') ||
	                                          (line[1] >= 'A' && line[1] <= 'Z')));
}

static int unknown_meta(const char *word)
{
	const char *names[META_COUNT * 2], *near, *name;
	struct mg_error err;
	size_t count = 0;

	while (count < META_COUNT * 2 && (name = mg_shell_meta_name(count))) {
		names[count++] = name;
	}
	near = mg_nearest_word(word, names, count);
	mg_error_set(&err, MG_E_USAGE, "unknown command \"%s\"", word);
	if (near) {
		mg_error_hint(&err, "Did you mean \"%s\"?", near);
	} else {
		mg_error_hint(&err, ".help lists the commands of the shell.");
	}
	return mg_cli_fail(&err);
}

int mg_shell_meta(struct mg_shell *shell, const char *line)
{
	char *text = mg_strdup(line), *rest_text, *args[ARGS_MAX], *save = NULL, *word;
	size_t len = strlen(text), name_len, count = 0;
	const struct meta *meta = NULL;
	int code;

	/* A ; at the end is a habit, and Sidewinder's users have it too. */
	while (len > 0 && strchr("; \t", text[len - 1])) {
		text[--len] = '\0';
	}
	name_len = strcspn(text, " \t");
	rest_text = mg_strdup(text + name_len + strspn(text + name_len, " \t"));
	if (text[name_len]) {
		text[name_len] = '\0';
		for (word = strtok_r(text + name_len + 1, " \t", &save); word && count < ARGS_MAX;
		     word = strtok_r(NULL, " \t", &save)) {
			args[count++] = word;
		}
	}
	for (size_t i = 0; i < META_COUNT && !meta; i++) {
		if (strcmp(metas[i].name, text) == 0 ||
		    (metas[i].other && strcmp(metas[i].other, text) == 0)) {
			meta = &metas[i];
		}
	}
	code = meta ? meta->run(shell, count, args, rest_text) : unknown_meta(text);
	mg_free(text);
	mg_free(rest_text);
	return code;
}
