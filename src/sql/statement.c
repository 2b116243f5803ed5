/*
 * statement.c - statements of a text: where each ends, what kind it is, and what the statements say
 * that DuckDB does not have.
 *
 * The kind is told by the first words alone.  A word that starts no statement counts as one that
 * reads, so that the parser says what is wrong with it, with the line and the caret.
 *
 * Pure; any thread.
 */
#include "sql/statement.h"

#include <string.h>

static bool word_is(struct mg_token token, const char *word)
{
	return token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(word));
}

static bool word_in(struct mg_token token, const char *const *list)
{
	for (; *list; list++) {
		if (word_is(token, *list)) {
			return true;
		}
	}
	return false;
}

static bool is_sign(struct mg_token token, char sign)
{
	return token.kind == MG_T_OPERATOR && token.text.len == 1 && token.text.ptr[0] == sign;
}

/* ---- values ---- */

/* Copy into a fixed field without the token's quotes; false when it does not fit. */
static bool copy_token(char *field, size_t size, struct mg_token token)
{
	const char *ptr = token.text.ptr, *end = ptr + token.text.len;
	char quote = token.kind == MG_T_STRING || token.kind == MG_T_QUOTED ? *ptr : '\0';
	size_t len = 0;

	if (quote == '\'' || quote == '"') {
		ptr++;
		end--;
	} else {
		quote = '\0';
	}
	for (; ptr < end; ptr++) {
		if (len + 1 >= size) {
			return false;
		}
		field[len++] = *ptr;
		ptr += quote && *ptr == quote;
	}
	field[len] = '\0';
	return true;
}

/* The value of SET: one token without its quotes, or the text as it stands. */
static int copy_value(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	struct mg_lexer rest = *lexer;
	struct mg_token first = mg_lex_next(&rest);
	struct mg_lexer after = rest;
	const char *end = first.text.ptr + first.text.len;
	bool fits;

	if (first.kind == MG_T_END) {
		return mg_error_set(err, MG_E_SYNTAX, "setting \"%s\" needs a value", statement->name);
	}
	if (mg_lex_next(&after).kind == MG_T_END) {
		fits = copy_token(statement->value, sizeof statement->value, first);
	} else {
		for (struct mg_token token = first; token.kind != MG_T_END; token = mg_lex_next(&rest)) {
			end = token.text.ptr + token.text.len;
		}
		struct mg_token whole = { MG_T_WORD, { first.text.ptr, (size_t)(end - first.text.ptr) } };

		fits = copy_token(statement->value, sizeof statement->value, whole);
	}
	return fits ? 0
	            : mg_error_set(err, MG_E_LIMIT, "the value of setting \"%s\" is too long",
	                           statement->name);
}

/* name or a.b.c, or TIME ZONE; the first token is read. */
static int copy_name(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_token token,
                     struct mg_error *err)
{
	struct mg_lexer ahead = *lexer;
	size_t len = 0;

	if (word_is(token, "time") && word_is(mg_lex_next(&ahead), "zone")) {
		*lexer = ahead;
		mg_copy_text(statement->name, sizeof statement->name, "timezone");
		return 0;
	}
	for (;;) {
		if ((token.kind != MG_T_WORD && token.kind != MG_T_QUOTED) ||
		    !copy_token(statement->name + len, sizeof statement->name - len, token)) {
			return mg_error_set(err, MG_E_SYNTAX, "%s needs the name of a setting",
			                    statement->verb);
		}
		len = strlen(statement->name);
		ahead = *lexer;
		if (!is_sign(mg_lex_next(&ahead), '.') || len + 2 > sizeof statement->name) {
			return 0;
		}
		statement->name[len++] = '.';
		statement->name[len] = '\0';
		*lexer = ahead;
		token = mg_lex_next(lexer);
	}
}

static struct mg_token skip_scope(struct mg_lexer *lexer)
{
	static const char *const scopes[] = { "session", "local", "global", NULL };
	struct mg_token token = mg_lex_next(lexer);

	return word_in(token, scopes) ? mg_lex_next(lexer) : token;
}

static int read_set(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	struct mg_token token = skip_scope(lexer);

	if (word_is(token, "variable")) {
		statement->kind = MG_S_REFUSED;
		return 0;
	}
	int code = copy_name(statement, lexer, token, err);

	if (code) {
		return code;
	}
	struct mg_lexer ahead = *lexer;

	token = mg_lex_next(&ahead);
	if (is_sign(token, '=') || word_is(token, "to")) {
		*lexer = ahead;
	} else if (strcmp(statement->name, "timezone") != 0) {
		return mg_error_set(err, MG_E_SYNTAX, "SET needs \"=\" or TO behind \"%s\"",
		                    statement->name);
	}
	return copy_value(statement, lexer, err);
}

static int read_reset(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	return copy_name(statement, lexer, skip_scope(lexer), err);
}

/* SHOW of a setting; anything else DuckDB answers (tables, databases, a table's columns). */
static int read_show(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	static const char *const settings[] = { "distributed",
		                                    "summarize",
		                                    "strategy",
		                                    "read_consistency",
		                                    "max_staleness",
		                                    "default_partitioning",
		                                    "timezone",
		                                    "statement_timeout",
		                                    "idle_in_transaction_timeout",
		                                    "application_name",
		                                    "search_path",
		                                    "server_version",
		                                    "server_version_num",
		                                    "server_encoding",
		                                    "client_encoding",
		                                    "datestyle",
		                                    "intervalstyle",
		                                    "transaction_isolation",
		                                    "transaction_read_only",
		                                    "standard_conforming_strings",
		                                    "extra_float_digits",
		                                    "max_rows",
		                                    "all",
		                                    "integer_datetimes",
		                                    "is_superuser",
		                                    "session_authorization",
		                                    "lc_collate",
		                                    "lc_ctype",
		                                    NULL };
	struct mg_token token = mg_lex_next(lexer);
	struct mg_lexer after = *lexer;
	bool zone = word_is(token, "time") && word_is(mg_lex_next(&after), "zone");

	if (!zone) {
		after = *lexer;
	}
	if ((!zone && !word_in(token, settings)) || mg_lex_next(&after).kind != MG_T_END) {
		return 0;
	}
	statement->kind = MG_S_SHOW_SETTING;
	return copy_name(statement, lexer, token, err);
}

/* CANCEL 'id', CANCEL QUERY 'id', KILL 'id', KILL CONNECTION 'id' */
static int read_id(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	struct mg_token token = mg_lex_next(lexer);

	if (word_is(token, "query") || word_is(token, "connection")) {
		token = mg_lex_next(lexer);
	}
	if (token.kind == MG_T_END || token.kind == MG_T_OPERATOR ||
	    mg_lex_next(lexer).kind != MG_T_END ||
	    !copy_token(statement->name, sizeof statement->name, token)) {
		return mg_error_set(err, MG_E_SYNTAX, "%s needs one id in quotes", statement->verb);
	}
	return 0;
}

/* ALTER NAMESPACE and its like are no definitions of DuckDB's. */
static int read_definition(struct mg_statement *statement, struct mg_lexer *lexer,
                           struct mg_error *err)
{
	(void)err;
	if (word_is(mg_lex_next(lexer), "namespace")) {
		statement->kind = MG_S_NAMESPACE;
	}
	return 0;
}

static int read_use(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	return copy_name(statement, lexer, mg_lex_next(lexer), err);
}

/* ---- transactions ---- */

static int refuse_word(const struct mg_statement *statement, struct mg_token token,
                       struct mg_error *err)
{
	mg_error_set(err, MG_E_SYNTAX, "syntax error at or near \"%.*s\" behind %s",
	             MG_STR_ARG(token.text), statement->verb);
	mg_error_hint(err, "Write BEGIN, BEGIN READ ONLY, COMMIT or ROLLBACK.");
	return MG_E_SYNTAX;
}

/* READ ONLY, READ WRITE, ISOLATION LEVEL ..., with commas or without.  Snapshot isolation is more
 * than the standard asks of all levels but one. */
static int read_modes(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_token token,
                      struct mg_error *err)
{
	static const char *const levels[][2] = { { "read", "committed" },
		                                     { "read", "uncommitted" },
		                                     { "repeatable", "read" },
		                                     { "snapshot", NULL } };

	for (; token.kind != MG_T_END; token = mg_lex_next(lexer)) {
		if (is_sign(token, ',')) {
			continue;
		}
		if (word_is(token, "read")) {
			token = mg_lex_next(lexer);
			if (!word_is(token, "only") && !word_is(token, "write")) {
				return refuse_word(statement, token, err);
			}
			statement->read_only = word_is(token, "only");
			continue;
		}
		if (!word_is(token, "isolation") || !word_is(token = mg_lex_next(lexer), "level")) {
			return refuse_word(statement, token, err);
		}
		token = mg_lex_next(lexer);
		if (word_is(token, "serializable")) {
			mg_error_set(err, MG_E_UNSUPPORTED, "isolation level SERIALIZABLE is not supported");
			mg_error_hint(err, "Transactions have snapshot isolation: BEGIN alone says so.");
			return MG_E_UNSUPPORTED;
		}
		bool known = false;

		for (size_t i = 0; !known && i < sizeof levels / sizeof *levels; i++) {
			struct mg_lexer ahead = *lexer;

			known = word_is(token, levels[i][0]) &&
			        (!levels[i][1] || word_is(mg_lex_next(&ahead), levels[i][1]));
			if (known) {
				*lexer = levels[i][1] ? ahead : *lexer;
			}
		}
		if (!known) {
			return refuse_word(statement, token, err);
		}
	}
	return 0;
}

/* BEGIN, START TRANSACTION, COMMIT, END, ROLLBACK, ABORT, and savepoints. */
static int read_transaction(struct mg_statement *statement, struct mg_lexer *lexer,
                            struct mg_error *err)
{
	static const char *const nouns[] = { "transaction", "work", NULL };
	bool start = mg_text_eq(statement->verb, "START");
	struct mg_token token = mg_lex_next(lexer);

	if (mg_text_eq(statement->verb, "SAVEPOINT") || mg_text_eq(statement->verb, "RELEASE")) {
		statement->transaction = MG_TRANSACTION_SAVEPOINT;
		return 0;
	}
	if (word_in(token, nouns)) {
		token = mg_lex_next(lexer);
	} else if (start) {
		return refuse_word(statement, token, err);
	}
	if (start || mg_text_eq(statement->verb, "BEGIN")) {
		statement->transaction = MG_TRANSACTION_BEGIN;
		return read_modes(statement, lexer, token, err);
	}
	bool commit = mg_text_eq(statement->verb, "COMMIT") || mg_text_eq(statement->verb, "END");

	statement->transaction = commit ? MG_TRANSACTION_COMMIT : MG_TRANSACTION_ROLLBACK;
	if (!commit && word_is(token, "to")) {
		statement->transaction = MG_TRANSACTION_SAVEPOINT;
		return 0;
	}
	return token.kind == MG_T_END ? 0 : refuse_word(statement, token, err);
}

/* ---- EXPLAIN ---- */

static bool option_on(struct mg_lexer *lexer)
{
	static const char *const off[] = { "false", "off", "no", NULL };
	static const char *const on[] = { "true", "on", "yes", NULL };
	struct mg_lexer ahead = *lexer;
	struct mg_token token = mg_lex_next(&ahead);
	bool no = word_in(token, off) ||
	          (token.kind == MG_T_NUMBER && mg_str_eq(token.text, MG_STR("0")));

	if (no || word_in(token, on) || token.kind == MG_T_NUMBER) {
		*lexer = ahead;
	}
	return !no;
}

static int explain_format(struct mg_statement *statement, struct mg_lexer *lexer,
                          struct mg_error *err)
{
	char format[16];
	struct mg_token token = mg_lex_next(lexer);

	if (token.kind == MG_T_END || token.kind == MG_T_OPERATOR ||
	    !copy_token(format, sizeof format, token)) {
		return mg_error_set(err, MG_E_SYNTAX, "EXPLAIN's FORMAT needs text or json");
	}
	statement->json = mg_text_eq_nocase(format, "json");
	if (!statement->json && !mg_text_eq_nocase(format, "text") &&
	    !mg_text_eq_nocase(format, "default")) {
		return mg_error_set(err, MG_E_UNSUPPORTED,
		                    "EXPLAIN knows the formats text and json, not \"%s\"", format);
	}
	return 0;
}

/* The list in parentheses; the first option's word is known to be one. */
static int explain_options(struct mg_statement *statement, struct mg_lexer *lexer,
                           struct mg_error *err)
{
	for (;;) {
		struct mg_token token = mg_lex_next(lexer);
		int code = 0;

		if (word_is(token, "analyze") || word_is(token, "analyse")) {
			statement->analyze = option_on(lexer);
		} else if (word_is(token, "verbose")) {
			statement->verbose = option_on(lexer);
		} else if (word_is(token, "format")) {
			code = explain_format(statement, lexer, err);
		} else {
			return mg_error_set(err, MG_E_SYNTAX, "unknown option of EXPLAIN: \"%.*s\"",
			                    MG_STR_ARG(token.text));
		}
		token = code ? token : mg_lex_next(lexer);
		if (code || is_sign(token, ')')) {
			return code;
		}
		if (!is_sign(token, ',')) {
			return mg_error_set(err, MG_E_SYNTAX,
			                    "EXPLAIN's options need \",\" or \")\" between them");
		}
	}
}

static int read_explain(struct mg_statement *statement, struct mg_lexer *lexer,
                        struct mg_error *err)
{
	static const char *const options[] = { "analyze", "analyse", "verbose", "format", NULL };
	struct mg_lexer ahead = *lexer;
	struct mg_token token = mg_lex_next(&ahead);
	int code = 0;

	if (is_sign(token, '(')) {
		struct mg_lexer inside = ahead;

		if (word_in(mg_lex_next(&inside), options)) {
			*lexer = ahead;
			code = explain_options(statement, lexer, err);
		}
	} else {
		while (word_is(token, "analyze") || word_is(token, "analyse") ||
		       word_is(token, "verbose")) {
			statement->analyze = statement->analyze || token.text.ptr[0] == 'a' ||
			                     token.text.ptr[0] == 'A';
			statement->verbose = statement->verbose || token.text.ptr[0] == 'v' ||
			                     token.text.ptr[0] == 'V';
			*lexer = ahead;
			token = mg_lex_next(&ahead);
		}
	}
	if (code) {
		return code;
	}
	const char *end = statement->text.ptr + statement->text.len;

	statement->body = mg_str_trim((struct mg_str){ lexer->ptr, (size_t)(end - lexer->ptr) });
	ahead = *lexer;
	return mg_lex_next(&ahead).kind == MG_T_END
	           ? mg_error_set(err, MG_E_SYNTAX, "EXPLAIN needs a statement")
	           : 0;
}

/* ---- kinds ---- */

/* COPY t FROM writes; COPY t TO, and COPY (SELECT ... FROM ...) TO, do not. */
static int read_copy(struct mg_statement *statement, struct mg_lexer *lexer, struct mg_error *err)
{
	size_t depth = 0;

	(void)err;
	for (struct mg_token token = mg_lex_next(lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(lexer)) {
		depth += is_sign(token, '(');
		depth -= depth && is_sign(token, ')');
		if (!depth && word_is(token, "from")) {
			statement->kind = MG_S_DML;
		}
		if (!depth && (word_is(token, "from") || word_is(token, "to"))) {
			break;
		}
	}
	return 0;
}

/* WITH ... SELECT reads, WITH ... INSERT writes: the verb stands right behind a definition's ")".
 */
static enum mg_statement_kind with_kind(struct mg_lexer *lexer)
{
	static const char *const part[] = { "as", "using", NULL };
	static const char *const writes[] = { "insert", "update", "delete", "merge", "truncate", NULL };
	size_t depth = 0;
	bool closed = false;

	for (struct mg_token token = mg_lex_next(lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD; token = mg_lex_next(lexer)) {
		if (closed && token.kind == MG_T_WORD && !word_in(token, part)) {
			return word_in(token, writes) ? MG_S_DML : MG_S_SELECT;
		}
		depth += is_sign(token, '(');
		closed = is_sign(token, ')') && depth == 1;
		depth -= is_sign(token, ')') && depth > 0;
	}
	return MG_S_SELECT;
}

static const struct {
	const char *word;
	enum mg_statement_kind kind;
	int (*read)(struct mg_statement *, struct mg_lexer *, struct mg_error *);
} verbs[] = {
	{ "explain", MG_S_EXPLAIN, read_explain },
	{ "set", MG_S_SET, read_set },
	{ "reset", MG_S_RESET, read_reset },
	{ "show", MG_S_SELECT, read_show },
	{ "cancel", MG_S_CANCEL, read_id },
	{ "kill", MG_S_KILL, read_id },
	{ "use", MG_S_USE, read_use },
	{ "insert", MG_S_DML, NULL },
	{ "update", MG_S_DML, NULL },
	{ "delete", MG_S_DML, NULL },
	{ "merge", MG_S_DML, NULL },
	{ "truncate", MG_S_DML, NULL },
	{ "create", MG_S_DDL, read_definition },
	{ "alter", MG_S_DDL, read_definition },
	{ "drop", MG_S_DDL, read_definition },
	{ "comment", MG_S_DDL, NULL },
	{ "grant", MG_S_DDL, NULL },
	{ "revoke", MG_S_DDL, NULL },
	{ "begin", MG_S_TRANSACTION, read_transaction },
	{ "start", MG_S_TRANSACTION, read_transaction },
	{ "commit", MG_S_TRANSACTION, read_transaction },
	{ "end", MG_S_TRANSACTION, read_transaction },
	{ "rollback", MG_S_TRANSACTION, read_transaction },
	{ "abort", MG_S_TRANSACTION, read_transaction },
	{ "savepoint", MG_S_TRANSACTION, read_transaction },
	{ "release", MG_S_TRANSACTION, read_transaction },
	{ "copy", MG_S_COPY, read_copy },
	{ "prepare", MG_S_PREPARE, NULL },
	{ "execute", MG_S_PREPARE, NULL },
	{ "deallocate", MG_S_PREPARE, NULL },
	{ "attach", MG_S_REFUSED, NULL },
	{ "detach", MG_S_REFUSED, NULL },
	{ "pragma", MG_S_REFUSED, NULL },
	{ "call", MG_S_REFUSED, NULL },
	{ "load", MG_S_REFUSED, NULL },
	{ "install", MG_S_REFUSED, NULL },
	{ "checkpoint", MG_S_REFUSED, NULL },
	{ "force", MG_S_REFUSED, NULL },
	{ "vacuum", MG_S_REFUSED, NULL },
	{ "analyze", MG_S_REFUSED, NULL },
	{ "export", MG_S_REFUSED, NULL },
	{ "import", MG_S_REFUSED, NULL },
};

/* Upper-case copy of a word. */
static const char *verb_text(struct mg_arena *arena, struct mg_str word)
{
	char *verb = mg_arena_strndup(arena, word.ptr, word.len);

	for (char *c = verb; *c; c++) {
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
	}
	return verb;
}

static int classify(struct mg_arena *arena, struct mg_statement *statement, struct mg_error *err)
{
	struct mg_lexer lexer;
	struct mg_token token;

	mg_lex_init(&lexer, statement->text);
	token = mg_lex_next(&lexer);
	statement->kind = MG_S_SELECT;
	statement->verb = verb_text(arena, token.text);
	if (word_is(token, "with")) {
		statement->kind = with_kind(&lexer);
		return 0;
	}
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		if (word_is(token, verbs[i].word)) {
			statement->kind = verbs[i].kind;
			return verbs[i].read ? verbs[i].read(statement, &lexer, err) : 0;
		}
	}
	return 0;
}

/* ---- splitting ---- */

static int bad_token(struct mg_token token, struct mg_error *err)
{
	char c = token.text.len ? token.text.ptr[0] : '\0';
	const char *what = c == '\'' || c == 'e' || c == 'E' ? "string"
	                   : c == '"'                        ? "quoted name"
	                   : c == '$'                        ? "dollar quote"
	                                                     : "comment";

	return mg_error_set(err, MG_E_SYNTAX, "a %s is not closed", what);
}

static void append(struct mg_arena *arena, struct mg_statement **list, size_t *count, size_t *cap,
                   struct mg_str text)
{
	if (*count == *cap) {
		size_t more = *cap ? *cap * 2 : 8;
		struct mg_statement *grown = mg_arena_new_array(arena, struct mg_statement, more);

		if (*count) {
			memcpy(grown, *list, *count * sizeof *grown);
		}
		*list = grown;
		*cap = more;
	}
	(*list)[(*count)++] = (struct mg_statement){ .text = text, .verb = "" };
}

int mg_statement_split(struct mg_arena *arena, struct mg_str text, struct mg_statement **out,
                       size_t *count, struct mg_error *err)
{
	struct mg_lexer lexer;
	const char *start = NULL, *end = NULL;
	size_t cap = 0;

	*out = NULL;
	*count = 0;
	if (text.len && memchr(text.ptr, '\0', text.len)) {
		return mg_error_set(err, MG_E_SYNTAX, "a statement must not hold a zero byte");
	}
	mg_lex_init(&lexer, text);
	for (;;) {
		struct mg_token token = mg_lex_next(&lexer);
		bool last = token.kind == MG_T_END;

		if (token.kind == MG_T_BAD) {
			return bad_token(token, err);
		}
		if (!last && !is_sign(token, ';')) {
			start = start ? start : token.text.ptr;
			end = token.text.ptr + token.text.len;
			continue;
		}
		if (start) {
			append(arena, out, count, &cap, (struct mg_str){ start, (size_t)(end - start) });
			int code = classify(arena, &(*out)[*count - 1], err);

			if (code) {
				return code;
			}
		} else if (!last) {
			append(arena, out, count, &cap, (struct mg_str){ token.text.ptr, 0 });
			(*out)[*count - 1].kind = MG_S_EMPTY;
		}
		start = NULL;
		if (last) {
			return 0;
		}
	}
}

/* The last line that holds more than blanks. */
static struct mg_str last_line(struct mg_str text)
{
	while (text.len && strchr(" \t\r\n", text.ptr[text.len - 1])) {
		text.len--;
	}
	size_t start = text.len;

	while (start && text.ptr[start - 1] != '\n') {
		start--;
	}
	return (struct mg_str){ text.ptr + start, text.len - start };
}

bool mg_statement_complete(struct mg_str text)
{
	struct mg_str line = last_line(text);
	bool slash = mg_str_eq(mg_str_trim(line), MG_STR("/"));
	struct mg_token last = { MG_T_END, { "", 0 } };
	struct mg_lexer lexer;

	if (slash) {
		text.len = (size_t)(line.ptr - text.ptr);
	}
	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer); token.kind != MG_T_END;
	     token = mg_lex_next(&lexer)) {
		if (token.kind == MG_T_BAD) {
			return false;
		}
		last = token;
	}
	return slash ? last.kind != MG_T_END : is_sign(last, ';');
}
