/* test_distribute.c - the location algebra, case by case, and stages of small trees made by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/place.h"

#include <stdio.h>
#include <string.h>

static struct mg_arena *arena;

static int set_up(void **state)
{
	(void)state;
	arena = mg_arena_new();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	mg_arena_free(arena);
	return 0;
}

static struct mg_expr *col(size_t index, const char *type)
{
	return mg_expr_ref(arena, index, mg_type_simple(type));
}

static struct mg_expr *cast(struct mg_expr *kid, const char *type)
{
	struct mg_expr *expr = mg_arena_alloc(arena, sizeof *expr);
	expr->cls = MG_X_CAST;
	expr->kind = "OPERATOR_CAST";
	expr->type = mg_type_simple(type);
	expr->kids = mg_arena_new_array(arena, struct mg_expr *, 1);
	expr->kids[0] = kid;
	expr->kid_count = 1;
	return expr;
}

static struct mg_cond equal(struct mg_expr *left, struct mg_expr *right)
{
	return (struct mg_cond){ .left = left, .right = right, .compare = "COMPARE_EQUAL" };
}

static struct mg_dist part(size_t column)
{
	struct mg_expr *key = col(column, "BIGINT");
	return mg_dist_keyed(arena, &key, 1);
}

/* ---- joins: every combination of kinds and locations ---- */

enum { S = MG_DIST_SINGLE, R = MG_DIST_REPL, P = MG_DIST_PART, NO = -1 };

static void test_join_table(void **state)
{
	(void)state;
	/* Result for (left, right) = RR, RP, PR, PP not co-located, PP co-located. */
	static const struct {
		enum mg_join_kind kind;
		bool asof;
		int rr, rp, pr, pp, colocated;
	} cases[] = {
		{ MG_J_INNER, false, R, P, P, NO, P },  { MG_J_LEFT, false, R, NO, P, NO, P },
		{ MG_J_RIGHT, false, R, P, NO, NO, P }, { MG_J_FULL, false, R, NO, NO, NO, P },
		{ MG_J_SEMI, false, R, NO, P, NO, P },  { MG_J_ANTI, false, R, NO, P, NO, P },
		{ MG_J_MARK, false, R, NO, P, NO, P },  { MG_J_SINGLE, false, R, NO, P, NO, P },
		{ MG_J_INNER, true, R, NO, P, NO, P },  { MG_J_LEFT, true, R, NO, P, NO, P },
	};
	struct mg_dist repl = mg_dist_of(MG_DIST_REPL);
	struct mg_dist single = mg_dist_of(MG_DIST_SINGLE);
	struct mg_dist keyed = part(0);
	struct mg_cond cond = equal(col(0, "BIGINT"), col(0, "BIGINT"));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct {
			const struct mg_dist *left, *right;
			bool colocated;
			int want;
		} pairs[] = {
			{ &repl, &repl, false, cases[i].rr },
			{ &repl, &keyed, false, cases[i].rp },
			{ &keyed, &repl, false, cases[i].pr },
			{ &keyed, &keyed, false, cases[i].pp },
			{ &keyed, &keyed, true, cases[i].colocated },
			{ &single, &single, false, S },
			{ &single, &repl, false, S },
			{ &repl, &single, false, S },
			{ &single, &keyed, false, NO },
			{ &keyed, &single, false, NO },
		};
		for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
			struct mg_dist out;
			bool ok = mg_dist_join(arena, cases[i].kind, cases[i].asof, pairs[p].left, 2,
			                       pairs[p].right, &cond, 1, pairs[p].colocated, &out);
			if ((ok ? (int)out.kind : NO) != pairs[p].want) {
				fail_msg("join kind %d, pair %zu: %d instead of %d", (int)cases[i].kind, p,
				         ok ? (int)out.kind : NO, pairs[p].want);
			}
		}
	}
}

/* A broadcast is a replica: joined with a reference table it must not count as partitioned, or
 * every participant would add its own copy to a partial aggregate. */
static void test_reference_joined_with_broadcast_is_replicated(void **state)
{
	(void)state;
	struct mg_dist reference = mg_dist_of(MG_DIST_REPL);
	struct mg_dist broadcast = mg_dist_of(MG_DIST_REPL);
	struct mg_cols none = { 0 };
	for (int kind = MG_J_INNER; kind <= MG_J_SINGLE; kind++) {
		struct mg_dist out;
		assert_true(mg_dist_join(arena, (enum mg_join_kind)kind, false, &reference, 3, &broadcast,
		                         NULL, 0, false, &out));
		assert_int_equal(out.kind, MG_DIST_REPL);
		assert_true(mg_dist_within(&out, &none));
	}
}

static struct mg_dist join_keys(enum mg_join_kind kind)
{
	struct mg_dist left = part(0);
	struct mg_dist right = part(1);
	struct mg_cond cond = equal(col(0, "BIGINT"), col(1, "BIGINT"));
	struct mg_dist out;
	assert_true(mg_dist_colocated(&left, &right, &cond, 1));
	assert_true(mg_dist_join(arena, kind, false, &left, 2, &right, &cond, 1, true, &out));
	return out;
}

static void test_outer_joins_break_keys(void **state)
{
	(void)state;
	struct mg_dist inner = join_keys(MG_J_INNER);
	assert_int_equal(inner.key_count, 1);
	assert_true(mg_cols_has(&inner.keys[0], 0) && mg_cols_has(&inner.keys[0], 3));
	struct mg_dist left = join_keys(MG_J_LEFT);
	assert_true(mg_cols_has(&left.keys[0], 0));
	assert_false(mg_cols_has(&left.keys[0], 3));
	struct mg_dist right = join_keys(MG_J_RIGHT);
	assert_false(mg_cols_has(&right.keys[0], 0));
	assert_true(mg_cols_has(&right.keys[0], 3));
	assert_int_equal(join_keys(MG_J_FULL).key_count, 0);
	struct mg_dist semi = join_keys(MG_J_SEMI);
	assert_int_equal(mg_cols_count(&semi.keys[0]), 1);
}

static void test_equivalences_spread(void **state)
{
	(void)state;
	struct mg_dist left = part(0);
	struct mg_dist right = mg_dist_of(MG_DIST_REPL);
	/* l0 = r0, l1 = r0: all three hold the same value. */
	struct mg_cond conds[] = { equal(col(1, "BIGINT"), col(0, "BIGINT")),
		                       equal(col(0, "BIGINT"), col(0, "BIGINT")) };
	struct mg_dist out;
	assert_true(mg_dist_join(arena, MG_J_INNER, false, &left, 2, &right, conds, 2, false, &out));
	assert_int_equal(mg_cols_count(&out.keys[0]), 3);
	conds[0].compare = "COMPARE_LESSTHAN";
	assert_true(mg_dist_join(arena, MG_J_INNER, false, &left, 2, &right, conds, 2, false, &out));
	assert_int_equal(mg_cols_count(&out.keys[0]), 2);
}

/* ---- keys ---- */

static void test_key_classes(void **state)
{
	(void)state;
	struct mg_dist left = part(0);
	struct mg_dist right = part(0);
	struct mg_cond widened = equal(cast(col(0, "INTEGER"), "BIGINT"), col(0, "BIGINT"));
	assert_true(mg_dist_colocated(&left, &right, &widened, 1));
	struct mg_cond text = equal(cast(col(0, "INTEGER"), "VARCHAR"), col(0, "VARCHAR"));
	assert_false(mg_dist_colocated(&left, &right, &text, 1));
	struct mg_cond tried = widened;
	tried.left->try_cast = true;
	assert_false(mg_dist_colocated(&left, &right, &tried, 1));
	struct mg_cond less = { .left = col(0, "BIGINT"),
		                    .right = col(0, "BIGINT"),
		                    .compare = "COMPARE_LESSTHAN" };
	assert_false(mg_dist_colocated(&left, &right, &less, 1));
	struct mg_cond other = equal(col(0, "BIGINT"), col(1, "BIGINT"));
	assert_false(mg_dist_colocated(&left, &right, &other, 1));

	struct mg_type decimal = { .id = "DECIMAL", .width = 15, .scale = 2 };
	struct mg_type finer = { .id = "DECIMAL", .width = 15, .scale = 3 };
	struct mg_type folded = { .id = "VARCHAR", .collation = "nocase" };
	assert_true(mg_type_same_slot(mg_type_simple("TINYINT"), mg_type_simple("UHUGEINT")));
	assert_false(mg_type_same_slot(&decimal, mg_type_simple("INTEGER")));
	assert_false(mg_type_same_slot(&decimal, &finer));
	assert_false(mg_type_same_slot(&folded, &folded));
	assert_false(mg_type_same_slot(mg_type_simple("INTERVAL"), mg_type_simple("INTERVAL")));
}

static void test_within_map_shift(void **state)
{
	(void)state;
	struct mg_expr *keys[] = { col(0, "BIGINT"), col(2, "VARCHAR") };
	struct mg_dist dist = mg_dist_keyed(arena, keys, 2);
	struct mg_cols cols = { 0 };
	mg_cols_add(arena, &cols, 0);
	assert_false(mg_dist_within(&dist, &cols));
	mg_cols_add(arena, &cols, 2);
	assert_true(mg_dist_within(&dist, &cols));
	struct mg_dist unknown = mg_dist_of(MG_DIST_PART);
	assert_false(mg_dist_within(&unknown, &cols));

	struct mg_dist shifted = mg_dist_shift(arena, &dist, 100);
	assert_true(mg_cols_has(&shifted.keys[0], 100) && mg_cols_has(&shifted.keys[1], 102));

	struct mg_cols to[3] = { { 0 }, { 0 }, { 0 } };
	mg_cols_add(arena, &to[0], 5);
	mg_cols_add(arena, &to[0], 6);
	struct mg_dist lost = mg_dist_map(arena, &dist, to, 3);
	assert_int_equal(lost.kind, MG_DIST_PART);
	assert_int_equal(lost.key_count, 0);
	mg_cols_add(arena, &to[2], 1);
	struct mg_dist kept = mg_dist_map(arena, &dist, to, 3);
	assert_int_equal(kept.key_count, 2);
	assert_int_equal(mg_cols_count(&kept.keys[0]), 2);

	struct mg_expr *sum = mg_expr_raw(arena, "({0} + 1)", mg_type_simple("BIGINT"), 1, keys);
	assert_int_equal(mg_dist_keyed(arena, &sum, 1).key_count, 0);
}

static void test_unions(void **state)
{
	(void)state;
	struct mg_dist a = part(0);
	struct mg_dist b = part(0);
	struct mg_dist c = part(1);
	struct mg_dist unknown = mg_dist_of(MG_DIST_PART);
	const struct mg_dist *same[] = { &a, &b };
	const struct mg_dist *different[] = { &a, &c };
	const struct mg_dist *lost[] = { &a, &unknown };
	assert_true(mg_dist_aligned(arena, same, 2));
	assert_int_equal(mg_dist_union(arena, same, 2).key_count, 1);
	assert_false(mg_dist_aligned(arena, different, 2));
	assert_int_equal(mg_dist_union(arena, different, 2).key_count, 0);
	assert_false(mg_dist_aligned(arena, lost, 2));
	assert_int_equal(mg_dist_union(arena, lost, 2).kind, MG_DIST_PART);
}

/* ---- small trees ---- */

static const struct mg_table_place *find_table(void *arg, const char *schema, const char *table)
{
	static const char *keys[] = { "k" };
	static const struct mg_table_place sharded = { .schema = "main",
		                                           .table = "t",
		                                           .keys = keys,
		                                           .key_count = 1,
		                                           .rows = 1000000,
		                                           .bytes = 8000000 };
	static const struct mg_table_place reference = {
		.schema = "main", .table = "r", .rows = 10, .bytes = 80
	};
	(void)arg;
	(void)schema;
	return strcmp(table, "t") == 0 ? &sharded : strcmp(table, "r") == 0 ? &reference : NULL;
}

static struct mg_node *scan(const char *table)
{
	static const char *cols[] = { "k", "v" };
	struct mg_node *node = mg_node_new(arena, MG_OP_SCAN, 0, 2);
	node->schema = "main";
	node->table = table;
	node->cols = cols;
	node->types[0] = mg_type_simple("BIGINT");
	node->types[1] = mg_type_simple("INTEGER");
	return node;
}

static struct mg_node *sum_by(struct mg_node *kid, size_t group)
{
	struct mg_node *node = mg_node_new(arena, MG_OP_AGG, 1, 2);
	node->kids[0] = kid;
	node->groups = mg_arena_new_array(arena, struct mg_expr *, 1);
	node->groups[0] = mg_expr_ref(arena, group, kid->types[group]);
	node->group_count = 1;
	struct mg_expr *sum = mg_arena_alloc(arena, sizeof *sum);
	sum->cls = MG_X_AGGREGATE;
	sum->kind = "BOUND_AGGREGATE";
	sum->name = "sum";
	sum->type = mg_type_simple("HUGEINT");
	sum->kids = mg_arena_new_array(arena, struct mg_expr *, 1);
	sum->kids[0] = mg_expr_ref(arena, 1, kid->types[1]);
	sum->kid_count = 1;
	node->exprs = mg_arena_new_array(arena, struct mg_expr *, 1);
	node->exprs[0] = sum;
	node->expr_count = 1;
	node->types[0] = node->groups[0]->type;
	node->types[1] = sum->type;
	node->rows = 100;
	return node;
}

static struct mg_stage *plan(struct mg_plan_env *env, struct mg_node *root,
                             enum mg_strategy strategy)
{
	struct mg_error err;
	struct mg_stage *result = NULL;
	mg_error_clear(&err);
	*env = (struct mg_plan_env){ .arena = arena,
		                         .participants = 4,
		                         .strategy = strategy,
		                         .find_table = find_table,
		                         .next_stage = 1 };
	if (mg_plan_distribute(env, root, &result, &err) != 0) {
		fail_msg("%s", err.message);
	}
	assert_ptr_equal(env->stages[env->stage_count - 1], result);
	assert_int_equal(result->ship, MG_SHIP_RESULT);
	assert_false(result->everywhere);
	return result;
}

static void test_groups_with_the_key_stay_local(void **state)
{
	(void)state;
	struct mg_plan_env env;
	plan(&env, sum_by(scan("t"), 0), MG_STRATEGY_AUTO);
	assert_int_equal(env.stage_count, 2);
	assert_int_equal(env.stages[0]->ship, MG_SHIP_GATHER);
	assert_true(env.stages[0]->everywhere);
	assert_string_equal(env.stages[0]->scans[0], "main.t");
	assert_int_equal(env.stages[1]->input_count, 1);
}

static void test_other_groups_are_split(void **state)
{
	(void)state;
	struct mg_plan_env env;
	struct mg_stage *result = plan(&env, sum_by(scan("t"), 1), MG_STRATEGY_AUTO);
	assert_int_equal(env.stage_count, 2);
	assert_int_equal(env.stages[0]->ship, MG_SHIP_GATHER);
	assert_non_null(strstr(result->sql, "sum"));
	plan(&env, sum_by(scan("t"), 1), MG_STRATEGY_REPARTITION);
	assert_int_equal(env.stage_count, 3);
	assert_int_equal(env.stages[0]->ship, MG_SHIP_HASH);
	assert_non_null(strstr(env.stages[0]->sql, "mg_slot("));
}

static void test_reference_tables_do_not_move(void **state)
{
	(void)state;
	struct mg_plan_env env;
	plan(&env, sum_by(scan("r"), 1), MG_STRATEGY_CUT);
	assert_int_equal(env.stage_count, 1);
}

static struct mg_node *join(enum mg_join_kind kind, struct mg_node *left, struct mg_node *right,
                            size_t l, size_t r)
{
	struct mg_node *node = mg_node_new(arena, MG_OP_JOIN, 2, 4);
	node->kids[0] = left;
	node->kids[1] = right;
	node->join = kind;
	for (size_t i = 0; i < 4; i++) {
		node->types[i] = i < 2 ? left->types[i] : right->types[i - 2];
	}
	node->conds = mg_arena_new_array(arena, struct mg_cond, 1);
	node->conds[0] =
		equal(mg_expr_ref(arena, l, left->types[l]), mg_expr_ref(arena, r, right->types[r]));
	node->cond_count = 1;
	return node;
}

static void test_colocated_join_moves_only_the_answer(void **state)
{
	(void)state;
	struct mg_plan_env env;
	plan(&env, join(MG_J_FULL, scan("t"), scan("t"), 0, 0), MG_STRATEGY_AUTO);
	assert_int_equal(env.stage_count, 2);
	plan(&env, join(MG_J_LEFT, scan("t"), scan("r"), 1, 1), MG_STRATEGY_AUTO);
	assert_int_equal(env.stage_count, 2);
}

/* The replica is on the preserved side: each participant keeps its own part of it. */
static void test_preserved_replica_is_split_in_place(void **state)
{
	(void)state;
	struct mg_plan_env env;
	plan(&env, join(MG_J_LEFT, scan("r"), scan("t"), 0, 0), MG_STRATEGY_AUTO);
	assert_int_equal(env.stage_count, 2);
	assert_non_null(strstr(env.stages[0]->sql, "mg_mine("));
}

static void test_forced_ways(void **state)
{
	(void)state;
	struct mg_plan_env env;
	struct mg_node *tree = join(MG_J_INNER, scan("t"), scan("t"), 1, 1);
	plan(&env, tree, MG_STRATEGY_BROADCAST);
	assert_int_equal(env.stages[0]->ship, MG_SHIP_BROADCAST);
	plan(&env, tree, MG_STRATEGY_REPARTITION);
	assert_int_equal(env.stages[0]->ship, MG_SHIP_HASH);
	assert_int_equal(env.stages[1]->ship, MG_SHIP_GATHER); /* the same scan twice is one stage */
}

/* ---- the router ---- */

static struct mg_expr *constant(const char *json, const char *type)
{
	struct mg_error err;
	struct mg_json *value = NULL;
	assert_int_equal(mg_json_parse(arena, json, strlen(json), &value, &err), 0);
	struct mg_expr *expr = mg_arena_alloc(arena, sizeof *expr);
	expr->cls = MG_X_CONST;
	expr->kind = "VALUE_CONSTANT";
	expr->type = mg_type_simple(type);
	expr->json = value;
	return expr;
}

static struct mg_node *pinned(struct mg_node *kid, struct mg_expr *left, const char *kind,
                              struct mg_expr *right)
{
	struct mg_node *node = mg_node_new(arena, MG_OP_FILTER, 1, kid->column_count);
	node->kids[0] = kid;
	memcpy(node->types, kid->types, kid->column_count * sizeof *node->types);
	struct mg_expr *compare = mg_arena_alloc(arena, sizeof *compare);
	compare->cls = MG_X_COMPARE;
	compare->kind = kind;
	compare->type = mg_type_simple("BOOLEAN");
	compare->kids = mg_arena_new_array(arena, struct mg_expr *, 2);
	compare->kids[0] = left;
	compare->kids[1] = right;
	compare->kid_count = 2;
	node->exprs = mg_arena_new_array(arena, struct mg_expr *, 1);
	node->exprs[0] = compare;
	node->expr_count = 1;
	return node;
}

static void test_router(void **state)
{
	(void)state;
	struct mg_plan_env env = { .arena = arena, .participants = 4, .find_table = find_table };
	struct mg_expr *five = constant("{\"is_null\":false,\"value\":5}", "BIGINT");
	uint16_t slot = 0;
	uint16_t again = 0;
	assert_false(mg_plan_one_slot(&env, scan("t"), &slot));
	assert_false(mg_plan_one_slot(&env, scan("r"), &slot));
	assert_true(
		mg_plan_one_slot(&env, pinned(scan("t"), col(0, "BIGINT"), "COMPARE_EQUAL", five), &slot));
	/* Another width and the other way around: the same slot. */
	struct mg_expr *small = constant("{\"is_null\":false,\"value\":5}", "INTEGER");
	assert_true(mg_plan_one_slot(
		&env, pinned(scan("t"), small, "COMPARE_EQUAL", cast(col(0, "BIGINT"), "INTEGER")),
		&again));
	assert_int_equal(slot, again);
	assert_false(mg_plan_one_slot(
		&env, pinned(scan("t"), col(0, "BIGINT"), "COMPARE_LESSTHAN", five), &slot));
	assert_false(
		mg_plan_one_slot(&env, pinned(scan("t"), col(1, "INTEGER"), "COMPARE_EQUAL", five), &slot));
	struct mg_node *both = join(
		MG_J_INNER, pinned(scan("t"), col(0, "BIGINT"), "COMPARE_EQUAL", five), scan("r"), 0, 0);
	assert_true(mg_plan_one_slot(&env, both, &again));
	assert_int_equal(slot, again);
	both = join(MG_J_INNER, pinned(scan("t"), col(0, "BIGINT"), "COMPARE_EQUAL", five), scan("t"),
	            0, 0);
	assert_false(mg_plan_one_slot(&env, both, &again));
	struct mg_expr *null = constant("{\"is_null\":true}", "BIGINT");
	assert_false(
		mg_plan_one_slot(&env, pinned(scan("t"), col(0, "BIGINT"), "COMPARE_EQUAL", null), &again));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_join_table, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reference_joined_with_broadcast_is_replicated, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(test_outer_joins_break_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_equivalences_spread, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_classes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_within_map_shift, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_groups_with_the_key_stay_local, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_other_groups_are_split, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reference_tables_do_not_move, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_colocated_join_moves_only_the_answer, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(test_preserved_replica_is_split_in_place, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(test_forced_ways, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_router, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
