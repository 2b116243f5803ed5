/* fuzz_lexer.c - any bytes as SQL text: tokens lie one behind the other, statements inside of the
 * text. */
#include "base/assert.h"
#include "sql/statement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_str text = { (const char *)data, size };
	struct mg_arena *arena = mg_arena_new();
	struct mg_lexer lexer;
	struct mg_statement *list;
	struct mg_error err;
	const char *last = text.ptr;
	size_t count;

	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer); token.kind != MG_T_END;
	     token = mg_lex_next(&lexer)) {
		mg_assert(token.text.len > 0);
		mg_assert(token.text.ptr >= last && token.text.ptr + token.text.len <= text.ptr + size);
		last = token.text.ptr + token.text.len;
	}
	if (mg_statement_split(arena, text, &list, &count, &err) == 0) {
		for (size_t i = 0; i < count; i++) {
			mg_assert(list[i].text.ptr >= text.ptr);
			mg_assert(list[i].text.ptr + list[i].text.len <= text.ptr + size);
		}
	}
	(void)mg_statement_complete(text);
	mg_arena_free(arena);
	return 0;
}
