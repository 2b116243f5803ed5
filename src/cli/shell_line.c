/*
 * shell_line.c - the line editor: libedit with our own reading of keys, history and completion.
 *
 * Keys are read here and not by libedit, because it swallows a signal that arrives while it waits,
 * and Ctrl-C must throw away the line at once.  History lies in one file for all clusters
 * ($MERGANSER_HISTORY, or merganser/history in XDG_STATE_HOME); statements that may hold a secret
 * never reach it.
 */
#include "cli/shell.h"
#include "os/file.h"

#include <ctype.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <histedit.h>

#define HISTORY_MAX 5000
#define STATEMENT_MAX 65536     /* longer ones are not remembered */
#define LIST_MAX 200            /* candidates that are listed */
#define CTRL_C L'\003'
#define CTRL_D 4

struct name {
	char *text;
	char *owner;                /* table of a column, or NULL */
};

struct mg_line {
	struct mg_shell *shell;
	EditLine *editor;
	History *history;
	HistEvent event;
	char *history_path;
	struct mg_sb prompt[2];
	bool continued;
	bool interrupted;
	bool typed_ahead;           /* keys came before the terminal was ours; its Ctrl-D reads as 0 */
	struct mg_sb line;
	struct name *names;
	size_t name_count, name_cap;
	bool names_known;
};

static const char *const keywords[] = {
	"ALL",       "ALTER",        "ANALYZE",
	"AND",       "ANTI",         "ANY",
	"AS",        "ASC",          "ASOF",
	"BETWEEN",   "BY",           "CANCEL",
	"CASE",      "CAST",         "COLLATE",
	"COUNT",     "CREATE",       "CROSS",
	"CUBE",      "CURRENT_DATE", "CURRENT_TIMESTAMP",
	"DATE",      "DESC",         "DESCRIBE",
	"DISTINCT",  "ELSE",         "END",
	"EXCEPT",    "EXCLUDE",      "EXISTS",
	"EXPLAIN",   "EXTRACT",      "FALSE",
	"FILTER",    "FROM",         "FULL",
	"GROUP",     "GROUPING",     "HAVING",
	"ILIKE",     "IN",           "INNER",
	"INTERSECT", "INTERVAL",     "INTO",
	"IS",        "JOIN",         "KILL",
	"LATERAL",   "LEFT",         "LIKE",
	"LIMIT",     "MATERIALIZED", "NATURAL",
	"NOT",       "NULL",         "NULLS",
	"OFFSET",    "ON",           "OR",
	"ORDER",     "OUTER",        "OVER",
	"PARTITION", "PIVOT",        "POSITIONAL",
	"QUALIFY",   "RECURSIVE",    "REPLACE",
	"RESET",     "RIGHT",        "ROLLUP",
	"ROWS",      "SAMPLE",       "SELECT",
	"SEMI",      "SET",          "SETS",
	"SHOW",      "SUMMARIZE",    "TABLE",
	"TABLES",    "THEN",         "TIMESTAMP",
	"TRUE",      "UNION",        "UNNEST",
	"UNPIVOT",   "USING",        "VALUES",
	"WHEN",      "WHERE",        "WINDOW",
	"WITH",
};

/* ---- keys ------------------------------------------------------------------------------------ */

static int read_byte(struct mg_line *line, unsigned char *byte)
{
	for (;;) {
		struct pollfd fd = { STDIN_FILENO, POLLIN, 0 };
		ssize_t got;

		if (mg_shell_interrupted()) {
			line->interrupted = true;
			return -1;
		}
		if (line->shell->quit) {
			return 0;
		}
		if (poll(&fd, 1, 100) <= 0) {
			line->typed_ahead = false;
			continue;
		}
		got = read(STDIN_FILENO, byte, 1);
		if (got == 1) {
			*byte = *byte == 0 && line->typed_ahead ? CTRL_D : *byte;
			return 1;
		}
		if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
			return 0;
		}
	}
}

static int read_key(EditLine *editor, wchar_t *key)
{
	struct mg_line *line;
	mbstate_t state = { 0 };

	el_get(editor, EL_CLIENTDATA, &line);
	for (;;) {
		unsigned char byte;
		int got = read_byte(line, &byte);

		if (got < 0) {
			*key = CTRL_C;
			return 1;
		}
		if (got == 0) {
			return 0;
		}
		switch (mbrtowc(key, (const char *)&byte, 1, &state)) {
		case (size_t)-2: continue;
		case (size_t)-1:
			state = (mbstate_t){ 0 };
			continue;
		default: return 1;
		}
	}
}

static unsigned char on_ctrl_c(EditLine *editor, int key)
{
	struct mg_line *line;

	(void)key;
	el_get(editor, EL_CLIENTDATA, &line);
	line->interrupted = true;
	/* libedit leaves the cursor where it is, and draws the next prompt as if at the left edge. */
	fputs("^C\n", stdout);
	return CC_NEWLINE;
}

static char *prompt_of(EditLine *editor)
{
	struct mg_line *line;

	el_get(editor, EL_CLIENTDATA, &line);
	return line->prompt[line->continued].ptr;
}

/* ---- completion ------------------------------------------------------------------------------ */

static void add_name(struct mg_line *line, const char *text, const char *owner)
{
	mg_grow(line->names, line->name_count, line->name_cap);
	line->names[line->name_count++] =
		(struct name){ mg_strdup(text), owner ? mg_strdup(owner) : NULL };
}

void mg_line_forget_names(struct mg_line *line)
{
	if (!line) {
		return;
	}
	for (size_t i = 0; i < line->name_count; i++) {
		mg_free(line->names[i].text);
		mg_free(line->names[i].owner);
	}
	line->name_count = 0;
	line->names_known = false;
}

static void learn_names(struct mg_line *line)
{
	const struct mg_json *frame = NULL;

	if (line->names_known || !line->shell->client) {
		return;
	}
	line->names_known = true;
	for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
		add_name(line, keywords[i], NULL);
	}
	if (mg_client_complete(line->shell->client, &frame)) {
		if (!mg_client_error(line->shell->client)->connected) {
			mg_shell_disconnect(line->shell);
		}
		return;
	}
	mg_json_each(table, mg_json_get(frame, "tables")) {
		const char *name = mg_json_text(mg_json_get(table, "name"));

		add_name(line, name, NULL);
		mg_json_each(column, mg_json_get(table, "columns")) {
			add_name(line, mg_json_text(column), name);
		}
	}
	mg_json_each(function, mg_json_get(frame, "functions")) {
		add_name(line, mg_json_text(function), NULL);
	}
}

static bool is_word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

struct candidates {
	const char *texts[LIST_MAX];
	size_t count;
	size_t common;              /* bytes that all have in common */
};

static void add_candidate(struct candidates *c, const char *text)
{
	size_t same = 0;

	for (size_t i = 0; i < c->count; i++) {
		if (mg_text_eq_nocase(c->texts[i], text)) {
			return;
		}
	}
	if (c->count == 0) {
		c->common = strlen(text);
	} else {
		while (same < c->common && tolower((unsigned char)text[same]) ==
		                               tolower((unsigned char)c->texts[0][same])) {
			same++;
		}
		c->common = same;
	}
	if (c->count < LIST_MAX) {
		c->texts[c->count++] = text;
	}
}

static void find_candidates(struct mg_line *line, struct candidates *c, const char *word,
                            size_t len, const char *owner, size_t owner_len)
{
	learn_names(line);
	for (size_t i = 0; i < line->name_count; i++) {
		const struct name *name = &line->names[i];
		bool owned = name->owner && strlen(name->owner) == owner_len &&
		             strncasecmp(name->owner, owner, owner_len) == 0;

		if (strncasecmp(name->text, word, len) == 0 && (owner_len == 0 || owned)) {
			add_candidate(c, name->text);
		}
	}
}

static void list_candidates(const struct candidates *c)
{
	size_t widest = 1, columns;

	for (size_t i = 0; i < c->count; i++) {
		widest = strlen(c->texts[i]) > widest ? strlen(c->texts[i]) : widest;
	}
	columns = 80 / (widest + 2) ? 80 / (widest + 2) : 1;
	for (size_t i = 0; i < c->count; i++) {
		printf("%s%-*s", i % columns ? "  " : "\n", (int)widest, c->texts[i]);
	}
	printf("\n");
	fflush(stdout);
}

static unsigned char on_tab(EditLine *editor, int key)
{
	struct mg_line *line;
	const LineInfo *info = el_line(editor);
	const char *word = info->cursor, *owner, *start = info->buffer;
	struct candidates c = { 0 };
	size_t len, owner_len = 0;

	(void)key;
	el_get(editor, EL_CLIENTDATA, &line);
	while (word > info->buffer && is_word_char(word[-1])) {
		word--;
	}
	start += strspn(start, " \t");
	owner = word;
	if (!line->continued && word == start + 1 && (*start == '.' || *start == '\\')) {
		const char *name;

		word = start;
		len = (size_t)(info->cursor - word);
		for (size_t i = 0; (name = mg_shell_meta_name(i)); i++) {
			if (strncmp(name, word, len) == 0) {
				add_candidate(&c, name);
			}
		}
	} else {
		if (word > info->buffer && word[-1] == '.') {
			owner = word - 1;
			while (owner > info->buffer && is_word_char(owner[-1])) {
				owner--;
			}
			owner_len = (size_t)(word - 1 - owner);
		}
		len = (size_t)(info->cursor - word);
		find_candidates(line, &c, word, len, owner, owner_len);
	}
	if (c.count == 0) {
		return CC_REFRESH_BEEP;
	}
	if (c.common > len || c.count == 1) {
		/* Keep the case of what was typed: a lower-case writer gets lower-case keywords. */
		bool lower = len > 0 && islower((unsigned char)word[len - 1]);
		char *more = mg_strndup(c.texts[0] + len, c.common - len);

		for (char *at = more; lower && *at; at++) {
			*at = (char)tolower((unsigned char)*at);
		}
		el_insertstr(editor, more);
		if (c.count == 1) {
			el_insertstr(editor, " ");
		}
		mg_free(more);
		return CC_REFRESH;
	}
	list_candidates(&c);
	return CC_REDISPLAY;
}

/* ---- history --------------------------------------------------------------------------------- */

bool mg_line_is_secret(const char *statement)
{
	static const char *const words[] = { "password", "secret", "token", "identified",
		                                 "credential" };

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (strcasestr(statement, words[i])) {
			return true;
		}
	}
	return false;
}

/* One line is easier to edit, but a line comment or a quoted line end must keep its own. */
static char *flatten(const char *statement)
{
	char *text = mg_strdup(statement);

	if (!strstr(text, "--") && !strchr(text, '\'') && !strchr(text, '"') && !strchr(text, '$')) {
		for (char *at = text; *at; at++) {
			*at = *at == '\n' ? ' ' : *at;
		}
	}
	return text;
}

void mg_line_remember(struct mg_line *line, const char *statement)
{
	char *text;

	if (!line || strlen(statement) > STATEMENT_MAX || mg_line_is_secret(statement)) {
		return;
	}
	text = flatten(statement);
	history(line->history, &line->event, H_ENTER, text);
	mg_free(text);
	if (line->history_path) {
		history(line->history, &line->event, H_SAVE, line->history_path);
	}
}

static char *find_history_path(void)
{
	const char *own = getenv("MERGANSER_HISTORY"), *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	char *dir, *path;

	if (own) {
		return *own ? mg_strdup(own) : NULL;
	}
	if ((!state || !*state) && (!home || !*home)) {
		return NULL;
	}
	dir = state && *state ? mg_format("%s/merganser", state)
	                      : mg_format("%s/.local/state/merganser", home);
	path = mg_dir_make(dir, 0700, NULL) == 0 ? mg_path_join(dir, "history") : NULL;
	mg_free(dir);
	return path;
}

/* ---- the editor ------------------------------------------------------------------------------ */

static void use_utf8(void)
{
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
		setlocale(LC_CTYPE, "C.UTF-8");
	}
}

struct mg_line *mg_line_new(struct mg_shell *shell)
{
	struct mg_line *line = mg_alloc0(sizeof *line);

	use_utf8();
	line->shell = shell;
	line->editor = el_init("merganser", stdin, stdout, stderr);
	line->history = history_init();
	line->history_path = find_history_path();
	history(line->history, &line->event, H_SETSIZE, HISTORY_MAX);
	history(line->history, &line->event, H_SETUNIQUE, 1);
	if (line->history_path) {
		history(line->history, &line->event, H_LOAD, line->history_path);
	}
	el_set(line->editor, EL_CLIENTDATA, line);
	el_set(line->editor, EL_PROMPT, prompt_of);
	el_set(line->editor, EL_EDITOR, "emacs");
	el_set(line->editor, EL_SIGNAL, 0);
	el_set(line->editor, EL_HIST, history, line->history);
	el_set(line->editor, EL_GETCFN, read_key);
	el_set(line->editor, EL_ADDFN, "mg-interrupt", "throw the line away", on_ctrl_c);
	el_set(line->editor, EL_ADDFN, "mg-complete", "complete a name", on_tab);
	el_set(line->editor, EL_BIND, "^C", "mg-interrupt", NULL);
	el_set(line->editor, EL_BIND, "^I", "mg-complete", NULL);
	el_set(line->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_set(line->editor, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
	el_set(line->editor, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL);
	el_set(line->editor, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
	return line;
}

void mg_line_free(struct mg_line *line)
{
	if (!line) {
		return;
	}
	mg_line_forget_names(line);
	mg_free(line->names);
	el_end(line->editor);
	history_end(line->history);
	mg_free(line->history_path);
	mg_sb_fini(&line->prompt[0]);
	mg_sb_fini(&line->prompt[1]);
	mg_sb_fini(&line->line);
	mg_free(line);
}

/* "merganser*> " while a transaction is open, "merganser!> " when it can only be rolled back. */
static void make_prompts(struct mg_line *line)
{
	const struct mg_shell *shell = line->shell;
	const char *state = shell->client ? mg_client_transaction(shell->client) : "";
	const char *mark = !*state ? "" : strcmp(state, "open") == 0 ? "*" : "!";

	mg_sb_clear(&line->prompt[0]);
	mg_sb_clear(&line->prompt[1]);
	mg_sb_addf(&line->prompt[0], "%s%s> ", shell->prompt, mark);
	mg_sb_addf(&line->prompt[1], "%*s> ", (int)(strlen(shell->prompt) + strlen(mark)), "...");
}

const char *mg_line_read(struct mg_line *line, bool continued, bool *interrupted)
{
	struct pollfd fd = { STDIN_FILENO, POLLIN, 0 };
	const char *text;
	int count = 0;

	line->continued = continued;
	make_prompts(line);
	line->interrupted = false;
	line->typed_ahead = poll(&fd, 1, 0) > 0;
	el_set(line->editor, EL_PREP_TERM, 1);
	text = el_gets(line->editor, &count);
	*interrupted = line->interrupted;
	if (line->interrupted) {
		return "";
	}
	if (!text || count <= 0) {
		return NULL;
	}
	mg_sb_clear(&line->line);
	mg_sb_add_len(&line->line, text, (size_t)count);
	while (line->line.len > 0 && (line->line.ptr[line->line.len - 1] == '\n' ||
	                              line->line.ptr[line->line.len - 1] == '\r')) {
		line->line.ptr[--line->line.len] = '\0';
	}
	return mg_sb_text(&line->line);
}
