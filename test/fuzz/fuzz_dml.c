/* fuzz_dml.c - any bytes as a statement that writes: its pieces lie inside of the text, in the
 * order of the grammar; and as ALTER NAMESPACE. */
#include "base/assert.h"
#include "sql/dml.h"
#include "sql/kv_alter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mg_str text;

static void check(struct mg_str piece)
{
	mg_assert(!piece.len ||
	          (piece.ptr >= text.ptr && piece.ptr + piece.len <= text.ptr + text.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_kv_alter alter;
	struct mg_dml dml;
	struct mg_error err;

	text = (struct mg_str){ (const char *)data, size };
	if (mg_dml_parse(arena, text, &dml, &err) == 0) {
		mg_assert(dml.name && *dml.name && dml.table && dml.schema && dml.catalog);
		mg_assert(dml.verb != MG_DML_UPDATE || dml.set_count > 0);
		mg_assert(dml.verb != MG_DML_INSERT || dml.source.len || dml.default_values);
		check(dml.with);
		check(dml.source);
		check(dml.conflict_text);
		check(dml.from);
		check(dml.where);
		check(dml.returning);
		for (size_t i = 0; i < dml.set_count; i++) {
			mg_assert(dml.sets[i].expr.len > 0);
			check(dml.sets[i].expr);
		}
	} else {
		mg_assert(err.code && err.message[0]);
	}
	if (mg_kv_alter_parse(arena, text, &alter, &err) == 0) {
		mg_assert(alter.space && (alter.changes[0] || alter.changes[1] || alter.changes[2]));
	} else {
		mg_assert(err.code && err.message[0]);
	}
	mg_arena_free(arena);
	return 0;
}
