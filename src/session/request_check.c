/*
 * request_check.c - which statements a request may hold, and what is said of the others.
 *
 * Rule: a request is looked at as a whole before its first statement runs, so that what is refused
 * here has done nothing.  Every refusal says what to do instead.
 */
#include "session/session_int.h"
#include "sql/copy_to.h"
#include "sql/cursor.h"

/* VACUUM, ANALYZE, and CHECKPOINT, which may stand behind FORCE, as INSTALL may. */
static bool is_upkeep(const struct mg_statement *statement)
{
	struct mg_lexer lexer;

	mg_lex_init(&lexer, statement->text);
	struct mg_token token = mg_lex_next(&lexer);

	token = mg_token_is(token, "force") ? mg_lex_next(&lexer) : token;
	return mg_token_is(token, "vacuum") || mg_token_is(token, "analyze") ||
	       mg_token_is(token, "checkpoint");
}

int mg_session__refuse(const struct mg_statement *statement, struct mg_error *err)
{
	int code;

	switch (statement->kind) {
	case MG_S_DML:
	case MG_S_DDL:
	case MG_S_NAMESPACE:
		code = mg_error_set(err, MG_E_READ_ONLY, "%s is not taken here: this path only reads",
		                    statement->verb);
		mg_error_hint(err, "Use POST /db/execute, or the shell: merganser sql.");
		return code;
	case MG_S_TRANSACTION:
		if (statement->transaction == MG_TRANSACTION_SAVEPOINT) {
			code = mg_error_set(err, MG_E_UNSUPPORTED, "savepoints are not supported");
			mg_error_hint(err, "ROLLBACK takes back the whole transaction.");
			return code;
		}
		code = mg_error_set(err, MG_E_DENIED, "statement %s is not allowed here", statement->verb);
		mg_error_hint(err,
		              "Over HTTP a transaction is opened by POST /db/tx; \"transaction\": true "
		              "makes one of a list for /db/execute.");
		return code;
	case MG_S_COPY:
		code = mg_error_set(err, MG_E_UNSUPPORTED, "EXPLAIN of COPY is not supported");
		mg_error_hint(err, "EXPLAIN the query that it copies.");
		return code;
	case MG_S_USE:
		code = mg_error_set(err, MG_E_UNSUPPORTED, "USE is not supported");
		mg_error_hint(err, "Write schema.table instead.");
		return code;
	case MG_S_PREPARE:
		code = mg_error_set(err, MG_E_UNSUPPORTED, "%s is not supported", statement->verb);
		mg_error_hint(err, "Send the statement with its values, or \"params\" over HTTP.");
		return code;
	default:
		code = mg_error_set(err, MG_E_DENIED, "statement %s is not allowed",
		                    statement->verb ? statement->verb : "of this kind");
		mg_error_hint(err, is_upkeep(statement)
		                       ? "Nothing needs to be done: the cluster makes checkpoints and "
		                         "keeps statistics by itself."
		                       : "Clients reach no file, extension or setting of the engine.");
		return code;
	}
}

int mg_session__check_explained(struct mg_arena *arena, const struct mg_statement *statement,
                                struct mg_error *err)
{
	struct mg_statement *body = NULL;
	size_t count = 0;
	int code = mg_statement_split(arena, statement->body, &body, &count, err);

	if (code) {
		return code;
	}
	if (count != 1 || body[0].kind == MG_S_EMPTY) {
		return mg_error_set(err, MG_E_SYNTAX, "EXPLAIN needs a statement");
	}
	if (body[0].kind == MG_S_DML || body[0].kind == MG_S_DDL || body[0].kind == MG_S_NAMESPACE) {
		mg_error_set(err, MG_E_UNSUPPORTED, "EXPLAIN of %s is not supported yet", body[0].verb);
		mg_error_hint(err, "EXPLAIN the SELECT that it reads from.");
		return MG_E_UNSUPPORTED;
	}
	return body[0].kind == MG_S_SELECT ? 0 : mg_session__refuse(&body[0], err);
}

/* Statements that only change or show the session or others; over HTTP each request has its own. */
static int refuse_session(const struct mg_statement *statement, struct mg_error *err)
{
	bool setting = statement->kind == MG_S_SET || statement->kind == MG_S_RESET;

	mg_error_set(err, MG_E_DENIED, "statement %s is not allowed here", statement->verb);
	mg_error_hint(err, setting ? "Settings are parameters of the request, such as "
	                             "?distributed=false."
	                           : "Use the shell: merganser sql -c \"CANCEL 'query-id'\".");
	return MG_E_DENIED;
}

/* COPY ... TO reads; but a file of the server is written, and its rows are no answer. */
static int check_copy(struct mg_arena *arena, const struct mg_statement *statement, bool reads,
                      struct mg_error *err)
{
	struct mg_copy_to to;
	int code = mg_copy_to_parse(arena, statement->text, &to, err);

	if (code || reads == !to.path) {
		return code;
	}
	mg_error_set(err, MG_E_USAGE, "COPY ... TO %s is not taken here: this path only %s",
	             reads ? "a file" : "STDOUT", reads ? "reads" : "writes");
	mg_error_hint(err, reads ? "Use POST /db/execute." : "Use POST /db/query.");
	return MG_E_USAGE;
}

static int check_one_read(struct mg_arena *arena, const struct mg_statement *statements,
                          size_t count, struct mg_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int code = 0;

		switch (statements[i].kind) {
		case MG_S_SELECT:
		case MG_S_EXPLAIN:
		case MG_S_SHOW_SETTING:
			break;
		case MG_S_COPY:
			code = check_copy(arena, &statements[i], true, err);
			break;
		case MG_S_SET:
		case MG_S_RESET:
		case MG_S_CANCEL:
		case MG_S_KILL:
			return refuse_session(&statements[i], err);
		default:
			return mg_session__refuse(&statements[i], err);
		}
		if (code) {
			return code;
		}
	}
	return count == 1 ? 0
	                  : mg_error_set(err, MG_E_USAGE, "%zu statements where one is allowed", count);
}

/* What reads; and what begins like no statement at all, of which the splitter knows no kind. */
static int refuse_read(const struct mg_statement *statement, struct mg_error *err)
{
	static const char *const reads[] = { "SELECT",   "WITH",  "FROM",    "VALUES",
		                                 "TABLE",    "PIVOT", "UNPIVOT", "SUMMARIZE",
		                                 "DESCRIBE", "DESC",  "SHOW",    "EXPLAIN" };
	const char *verb = statement->verb && statement->verb[0] ? statement->verb : NULL;

	for (size_t i = 0; verb && i < sizeof reads / sizeof reads[0]; i++) {
		if (mg_text_eq(verb, reads[i])) {
			mg_error_set(err, MG_E_USAGE, "%s is not taken here: this path only writes", verb);
			mg_error_hint(err, "Use POST /db/query.");
			return MG_E_USAGE;
		}
	}
	if (verb) {
		mg_error_set(err, MG_E_SYNTAX, "syntax error at or near \"%.64s\"", verb);
	} else {
		mg_error_set(err, MG_E_SYNTAX, "the statement begins with no word");
	}
	mg_error_hint(err, "INSERT, UPDATE, DELETE, TRUNCATE, CREATE and DROP are taken here; what "
	                   "reads is for POST /db/query.");
	return MG_E_SYNTAX;
}

static int check_one_write(struct mg_arena *arena, const struct mg_statement *statements,
                           size_t count, struct mg_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int code = 0;

		switch (statements[i].kind) {
		case MG_S_DML:
		case MG_S_DDL:
		case MG_S_NAMESPACE:
			break;
		case MG_S_COPY:
			code = check_copy(arena, &statements[i], false, err);
			break;
		case MG_S_SELECT:
		case MG_S_EXPLAIN:
		case MG_S_SHOW_SETTING:
			return refuse_read(&statements[i], err);
		case MG_S_SET:
		case MG_S_RESET:
		case MG_S_CANCEL:
		case MG_S_KILL:
			return refuse_session(&statements[i], err);
		default:
			return mg_session__refuse(&statements[i], err);
		}
		if (code) {
			return code;
		}
	}
	if (count > 1) {
		mg_error_set(err, MG_E_USAGE, "%zu statements where one is allowed", count);
		mg_error_hint(err, "Send them as a list: {\"statements\": [\"...\", \"...\"]}.");
		return MG_E_USAGE;
	}
	return 0;
}

/* Statements without the empty ones, in place. */
static size_t drop_empty(struct mg_statement *statements, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (statements[i].kind != MG_S_EMPTY) {
			statements[kept++] = statements[i];
		}
	}
	return kept;
}

int mg_session__check(struct mg_arena *arena, const struct mg_request *request,
                      struct mg_statement *statements, size_t *count, struct mg_error *err)
{
	*count = drop_empty(statements, *count);
	if (!request->one_read && !request->one_write) {
		return 0;
	}
	if (*count == 0) {
		return mg_error_set(err, MG_E_USAGE, "there is no statement");
	}
	return request->one_read ? check_one_read(arena, statements, *count, err)
	                         : check_one_write(arena, statements, *count, err);
}
