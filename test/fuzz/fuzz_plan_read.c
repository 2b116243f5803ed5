/*
 * fuzz_plan_read.c - any bytes as DuckDB's plan: what can be read can be pruned, and printed or
 * refused.  The same bytes go through the wall as an AST.
 */
#include "sql/ir.h"
#include "sql/statement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json;
	struct mg_node *root, *pruned;
	struct mg_error err;
	const char *why;
	char *sql;

	if (mg_json_parse(arena, (const char *)data, size, &json, &err) == 0) {
		const struct mg_json *plan = mg_json_at(mg_json_get(json, "plans"), 0);

		(void)mg_wall_check(arena, json, &why, &err);
		if (mg_plan_read_sized(arena, plan ? plan : json, json, &root, &err) == 0 &&
		    mg_plan_prune(arena, root, &pruned, &err) == 0) {
			(void)mg_plan_print(arena, pruned, &sql, &err);
		}
	}
	mg_arena_free(arena);
	return 0;
}
