/*
 * fuzz_params.c - statements and values: what is put in stays one value.
 *
 * Input: SQL, a line break, JSON.  When binding goes well the new text has no parameter left, and
 * as many statements as before.
 */
#include "base/assert.h"
#include "session/params.h"
#include "sql/statement.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_params(struct mg_str sql, bool *bad)
{
	struct mg_lexer lexer;
	size_t count = 0;

	*bad = false;
	mg_lex_init(&lexer, sql);
	for (;;) {
		struct mg_token token = mg_lex_next(&lexer);

		if (token.kind == MG_T_END) {
			return count;
		}
		if (token.kind == MG_T_BAD) {
			*bad = true;
			return count;
		}
		count += token.kind == MG_T_PARAM;
	}
}

static void check(struct mg_arena *arena, struct mg_str before, struct mg_str after)
{
	struct mg_statement *statements = NULL;
	size_t count_before = 0, count_after = 0;
	bool bad = false;

	(void)count_params(before, &bad);
	if (bad || mg_statement_split(arena, before, &statements, &count_before, NULL)) {
		return;
	}
	mg_assert(count_params(after, &bad) == 0 && !bad);
	mg_assert(mg_statement_split(arena, after, &statements, &count_after, NULL) == 0);
	mg_assert(count_before == count_after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	struct mg_str sql = { (const char *)data, end ? (size_t)(end - data) : size }, out;
	struct mg_json *params = NULL;
	struct mg_error err = { 0 };

	if (!end ||
	    mg_json_parse(arena, (const char *)end + 1, size - sql.len - 1, &params, &err) == 0) {
		if (mg_params_bind(arena, sql, params, &out, &err) == 0) {
			check(arena, sql, out);
		}
	}
	mg_arena_free(arena);
	return 0;
}
