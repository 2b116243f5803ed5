/*
 * shell_copy.c - rows from the shell's side into a table, and into files: \copy, and the lines
 * behind COPY ... FROM STDIN.
 *
 *     \copy t [(columns)] from 'FILE' [(options)]     the file's bytes, as they are
 *     \copy t to 'FILE', \copy (query) to 'FILE'      the bytes of COPY ... TO STDOUT; what that
 *                                                     does not write, as .once does
 *     COPY t FROM STDIN;   in a script, on the terminal: lines up to a line \. ; with -c: all of
 *                          standard input
 *
 * The server asks for each piece; nothing is read that it does not want.
 */
#include "cli/shell.h"
#include "os/file.h"
#include "sql/statement.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what the server asks for ---------------------------------------------------------------- */

/* The next line of where statements come from, without its end; false at the end. */
static bool next_line(struct mg_shell *shell, struct mg_sb *line)
{
	if (shell->script) {
		char *text = NULL;
		size_t cap = 0;
		ssize_t len = getline(&text, &cap, shell->script);

		if (len >= 0) {
			mg_sb_add_len(line, text, (size_t)len);
		}
		free(text);
		return len >= 0;
	}
	bool interrupted = false;
	const char *text = mg_line_read(shell->line, true, &interrupted);

	if (interrupted) {
		shell->copy.given_up = true;
	}
	if (!text || interrupted) {
		return false;
	}
	mg_sb_addf(line, "%s\n", text);
	return true;
}

static bool is_end(const struct mg_sb *line)
{
	struct mg_str text = mg_str_trim((struct mg_str){ mg_sb_text(line), line->len });

	return mg_str_eq(text, MG_STR("\\."));
}

/* Lines until there are enough bytes, or no more lines. */
static void fill_from_lines(struct mg_shell *shell, size_t wanted)
{
	struct mg_shell_copy *copy = &shell->copy;

	while (!copy->over && copy->piece.len < wanted) {
		struct mg_sb line = { 0 };

		if (!next_line(shell, &line) || is_end(&line)) {
			copy->over = true;
		} else {
			mg_sb_add_len(&copy->piece, line.ptr, line.len);
		}
		mg_sb_fini(&line);
	}
}

static void fill_from_file(struct mg_shell_copy *copy, FILE *file, size_t wanted)
{
	char bytes[65536];

	while (!copy->over && copy->piece.len < wanted) {
		size_t left = wanted - copy->piece.len;
		size_t got = fread(bytes, 1, left < sizeof bytes ? left : sizeof bytes, file);

		mg_sb_add_len(&copy->piece, bytes, got);
		copy->over = got == 0;
	}
	copy->given_up = copy->given_up || ferror(file);
}

int mg_shell_on_input(void *arg, size_t size_max, const void **bytes, size_t *size)
{
	struct mg_shell *shell = arg;
	struct mg_shell_copy *copy = &shell->copy;

	/* What was handed out last time. */
	if (copy->given) {
		memmove(copy->piece.ptr, copy->piece.ptr + copy->given, copy->piece.len - copy->given);
		copy->piece.len -= copy->given;
	}
	copy->asked = true;
	if (copy->file) {
		fill_from_file(copy, copy->file, size_max);
	} else if (shell->script || shell->line) {
		fill_from_lines(shell, size_max);
	} else {
		fill_from_file(copy, stdin, size_max);
	}
	copy->given = copy->piece.len < size_max ? copy->piece.len : size_max;
	*bytes = mg_sb_text(&copy->piece);
	*size = copy->given;
	return copy->given_up;
}

void mg_shell_copy_done(struct mg_shell *shell)
{
	struct mg_shell_copy *copy = &shell->copy;

	/* After an error lines that are left are rows still, and no statements. */
	while (copy->asked && !copy->over && !copy->file && shell->script) {
		mg_sb_clear(&copy->piece);
		fill_from_lines(shell, 1);
	}
	mg_sb_fini(&copy->piece);
	shell->copy = (struct mg_shell_copy){ .file = copy->file };
}

/* ---- \copy ----------------------------------------------------------------------------------- */

struct command {
	struct mg_str what; /* in front of FROM or TO */
	bool into;          /* FROM: into the table */
	char *path;
	struct mg_str rest; /* options */
};

/* 'it''s', "a b" or a word. */
static char *unquote(struct mg_str text)
{
	char quote = text.ptr[0];
	char *out = mg_strndup(text.ptr, text.len);
	size_t len = 0;

	if (quote != '\'' && quote != '"') {
		return out;
	}
	for (size_t i = 1; i + 1 < text.len; i++) {
		out[len++] = text.ptr[i];
		i += text.ptr[i] == quote;
	}
	out[len] = '\0';
	return out;
}

/* A path that is not quoted ends at a blank. */
static const char *end_of_path(const char *at, const char *end)
{
	char quote = *at == '\'' || *at == '"' ? *at : '\0';
	const char *p = at + (quote != '\0');

	while (p < end && (quote ? *p != quote || p[1] == quote : !strchr(" \t(", *p))) {
		p += quote && *p == quote ? 2 : 1;
	}
	return p + (quote && p < end);
}

static bool read_command(const char *text, struct command *out)
{
	struct mg_lexer lexer;
	const char *end = text + strlen(text);
	size_t depth = 0;

	mg_lex_init(&lexer, mg_str(text));
	for (struct mg_token token = mg_lex_next(&lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(&lexer)) {
		bool word = token.kind == MG_T_WORD && !depth;
		bool from = word && mg_str_eq_nocase(token.text, MG_STR("from"));
		bool to = word && mg_str_eq_nocase(token.text, MG_STR("to"));

		depth += token.kind == MG_T_OPERATOR && token.text.len == 1 && *token.text.ptr == '(';
		depth -= depth && token.kind == MG_T_OPERATOR && token.text.len == 1 &&
		         *token.text.ptr == ')';
		if (!from && !to) {
			continue;
		}
		const char *path = token.text.ptr + token.text.len;

		path += strspn(path, " \t");
		const char *behind = end_of_path(path, end);

		out->into = from;
		out->what = mg_str_trim((struct mg_str){ text, (size_t)(token.text.ptr - text) });
		out->rest = mg_str_trim((struct mg_str){ behind, (size_t)(end - behind) });
		if (out->what.len == 0 || behind == path) {
			return false;
		}
		out->path = unquote((struct mg_str){ path, (size_t)(behind - path) });
		return true;
	}
	return false;
}

static const char *format_of(const char *path)
{
	static const struct {
		const char *ending, *format;
	} known[] = { { ".parquet", "parquet" }, { ".json", "json" },   { ".jsonl", "json" },
		          { ".ndjson", "json" },     { ".arrow", "arrow" }, { ".arrows", "arrow" } };
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++) {
		if (strcmp(dot, known[i].ending) == 0) {
			return known[i].format;
		}
	}
	return "csv";
}

/* Whether the options name a format, and which: the word or string behind FORMAT. */
static char *read_format(struct mg_str options)
{
	struct mg_lexer lexer;

	mg_lex_init(&lexer, options);
	for (struct mg_token token = mg_lex_next(&lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(&lexer)) {
		if (token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, MG_STR("format"))) {
			token = mg_lex_next(&lexer);
			return token.kind == MG_T_END ? NULL : unquote(token.text);
		}
	}
	return NULL;
}

/* The server sees no name of a file: the format that this one's says goes with the options. */
static void add_options(struct mg_sb *sql, const struct command *command, bool named)
{
	if (!named && command->rest.len && command->rest.ptr[0] == '(') {
		mg_sb_addf(sql, "(FORMAT %s, %.*s", format_of(command->path), (int)command->rest.len - 1,
		           command->rest.ptr + 1);
		return;
	}
	mg_sb_addf(sql, "%.*s", MG_STR_ARG(command->rest));
	if (!command->rest.len) {
		mg_sb_addf(sql, "(FORMAT %s)", format_of(command->path));
	}
}

static int copy_in(struct mg_shell *shell, const struct command *command)
{
	struct mg_sb sql = { 0 };
	char *format = read_format(command->rest);
	FILE *file = fopen(command->path, "rb");

	if (!file) {
		struct mg_error err;

		mg_error_errno(&err, errno, "cannot open \"%s\"", command->path);
		mg_free(format);
		return mg_cli_fail(&err);
	}
	mg_sb_addf(&sql, "COPY %.*s FROM STDIN ", MG_STR_ARG(command->what));
	add_options(&sql, command, format != NULL);
	shell->copy.file = file;
	int code = mg_shell_statement(shell, sql.ptr, sql.len);

	shell->copy.file = NULL;
	fclose(file);
	mg_free(format);
	mg_sb_fini(&sql);
	return code;
}

/* What COPY writes; the shell's other formats are for people. */
static bool is_copy_format(const char *format)
{
	static const char *const known[] = { "csv", "json", "parquet", "arrow" };

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (mg_text_eq_nocase(format, known[i])) {
			return true;
		}
	}
	return false;
}

/* Where a file's bytes wait until they are whole: beside it, readable for whom it was; a link stays
 * one.  A device or a pipe takes them as they come. */
struct draft {
	char *path;   /* of the file itself */
	char *beside; /* or NULL */
	FILE *file;
};

static int draft_open(struct draft *draft, const char *path, struct mg_error *err)
{
	struct stat info;
	bool there = stat(path, &info) == 0;

	*draft = (struct draft){ .path = mg_strdup(path) };
	if (there && S_ISREG(info.st_mode)) {
		char *real = realpath(path, NULL);

		if (real) {
			mg_free(draft->path);
			draft->path = mg_strdup(real);
		}
		free(real);
	}
	if (!there || S_ISREG(info.st_mode)) {
		draft->beside = mg_format("%s.part-%d", draft->path, getpid());
	}
	draft->file = draft->beside ? fopen(draft->beside, "wbx") : fopen(draft->path, "wb");
	if (draft->file && draft->beside && there) {
		(void)fchmod(fileno(draft->file), info.st_mode & 07777);
	}
	return draft->file ? 0 : mg_error_errno(err, errno, "cannot write \"%s\"", path);
}

/* keep: it is whole, and becomes the file. */
static int draft_close(struct draft *draft, bool keep, struct mg_error *err)
{
	int code = 0;

	if (draft->file && fclose(draft->file) != 0 && keep) {
		code = mg_error_errno(err, errno, "cannot write \"%s\"", draft->path);
	}
	if (draft->file && draft->beside && keep && !code) {
		code = mg_file_rename(draft->beside, draft->path, err);
	}
	if (draft->file && draft->beside && (!keep || code)) {
		mg_file_remove(draft->beside, NULL);
	}
	mg_free(draft->beside);
	mg_free(draft->path);
	return code;
}

/* The statement's answer into the file, whole; what fails leaves what was there. */
static int run_into(struct mg_shell *shell, const char *path, const struct mg_sb *sql)
{
	FILE *out = shell->out;
	bool is_pipe = shell->out_is_pipe;
	struct draft draft;
	struct mg_error err = { 0 };

	if (draft_open(&draft, path, &err)) {
		(void)draft_close(&draft, false, NULL);
		return mg_cli_fail(&err);
	}
	shell->out = draft.file;
	shell->out_is_pipe = shell->holds_result = false;
	int code = mg_shell_statement(shell, sql->ptr, sql->len);

	if (draft_close(&draft, code == 0, &err)) {
		code = mg_cli_fail(&err);
	}
	shell->out = out;
	shell->out_is_pipe = is_pipe;
	shell->holds_result = false;
	return code;
}

static int copy_out(struct mg_shell *shell, const struct command *command)
{
	char *named = read_format(command->rest);
	const char *format = named ? named : format_of(command->path);
	bool query = command->what.ptr[0] == '(';
	enum mg_format before = shell->format;
	struct mg_error err;
	struct mg_sb sql = { 0 };
	int code = 0;

	if (is_copy_format(format)) {
		mg_sb_addf(&sql, "COPY %.*s TO STDOUT ", MG_STR_ARG(command->what));
		add_options(&sql, command, named != NULL);
	} else if (mg_format_parse(format, &shell->format)) {
		mg_sb_addf(&sql, query ? "%.*s" : "FROM %.*s", MG_STR_ARG(command->what));
	} else {
		mg_error_set(&err, MG_E_USAGE, "\\copy knows no format \"%s\"", format);
		mg_error_hint(&err, "There are " MG_FORMAT_CHOICES ".");
		code = mg_cli_fail(&err);
	}
	code = code ? code : run_into(shell, command->path, &sql);
	mg_free(named);
	shell->format = before;
	mg_sb_fini(&sql);
	return code;
}

int mg_shell_copy(struct mg_shell *shell, const char *text)
{
	struct command command = { .into = false };

	if (!read_command(text, &command)) {
		struct mg_error err;

		mg_error_set(&err, MG_E_USAGE, "\\copy wants a table, from or to, and a file");
		mg_error_hint(&err, "\\copy t from 'rows.csv' (header), "
		                    "\\copy (SELECT ...) to 'rows.parquet'");
		return mg_cli_fail(&err);
	}
	int code = command.into ? copy_in(shell, &command) : copy_out(shell, &command);

	mg_free(command.path);
	return code;
}
