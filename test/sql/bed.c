/*
 * bed.c - run suites of queries on the test bed's cluster and on plain DuckDB and compare.
 *
 *   bed --suite tpch|tpcds|ssb|nasty|generated [--sf 0.01] [--strategy
 * auto|cut|broadcast|repartition|gather|dry]
 *       [--layouts n] [--seed n] [--seeds a..b] [--parts n] [--query n] [--dir test/sql] [-v]
 * [--explain] [--list]
 *
 * A suite's standard layout runs first; --layouts n adds n random ones (every table a reference
 * table or hashed by a random column, 1 to 13 shards, 1 to 6 participants).  Exit code 1 when an
 * answer is wrong.
 */
#include "bed.h"

#include "exec/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct suite {
	const char *name;
	const char *load; /* SQL, with %s for the scale factor */
	const char *list; /* SQL: name, text */
	const char *file; /* statements instead of `list`; may make tables first */
	const char *placement;
	bool typed; /* types must not drift */
};

static const struct suite suites[] = {
	{ "tpch", "CALL dbgen(sf=%s)",
	  "SELECT query_nr::VARCHAR, query FROM tpch_queries() ORDER BY query_nr", NULL,
	  "lineitem:l_orderkey,orders:o_orderkey,part:p_partkey,partsupp:ps_partkey,customer:c_custkey,"
	  "supplier:s_suppkey",
	  true },
	{ "tpcds", "CALL dsdgen(sf=%s)",
	  "SELECT query_nr::VARCHAR, query FROM tpcds_queries() ORDER BY query_nr", NULL,
	  "store_sales:ss_item_sk,store_returns:sr_item_sk,catalog_sales:cs_item_sk,catalog_returns:cr_"
	  "item_sk,web_sales:ws_item_sk,"
	  "web_returns:wr_item_sk,inventory:inv_item_sk,item:i_item_sk,customer:c_customer_sk,customer_"
	  "address:ca_address_sk,"
	  "customer_demographics:cd_demo_sk",
	  true },
	{ "ssb", "CALL dbgen(sf=%s)", NULL, "ssb.sql",
	  "lineorder:lo_orderkey,customer_d:c_custkey,part_d:p_partkey", true },
	{ "nasty", NULL, NULL, "nasty.sql", "a:k,b:k,e:k,bn:id,edge:src,ty:id", false },
	{ "generated", NULL, NULL, "nasty.sql", "a:k,b:k,e:k,bn:id,edge:src,ty:id", false },
};

struct options {
	const struct suite *suite;
	const char *sf, *dir;
	enum mg_strategy strategy;
	bool dry;
	size_t layouts, parts, query;
	uint64_t seed, seed_from, seed_to;
	bool verbose, explain, list;
};

struct totals {
	size_t exact, ties, unsupported, wrong, errors;
};

/* ---- the statements of a suite ---- */

struct list {
	struct bed_query *queries;
	size_t count, cap;
	struct mg_arena *arena;
};

static void list_add(struct list *list, const char *name, const char *text)
{
	mg_grow(list->queries, list->count, list->cap);
	struct bed_query *query = &list->queries[list->count++];
	*query = (struct bed_query){ .name = mg_arena_strdup(list->arena, name),
		                         .text = mg_arena_strdup(list->arena, text) };
	size_t len = strlen(query->text);
	while (len > 0 && (query->text[len - 1] == ';' || query->text[len - 1] == '\n' ||
	                   query->text[len - 1] == ' ')) {
		query->text[--len] = '\0';
	}
}

static char *read_file(const char *dir, const char *name)
{
	char *path = mg_format("%s/%s", dir, name);
	FILE *file = fopen(path, "rb");
	mg_free(path);
	if (!file) {
		return NULL;
	}
	struct mg_sb sb = { 0 };
	char chunk[4096];
	size_t got;
	while ((got = fread(chunk, 1, sizeof chunk, file)) > 0) {
		mg_sb_add_len(&sb, chunk, got);
	}
	fclose(file);
	return mg_sb_take(&sb);
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* One statement a line, or several lines up to a ; at a line's end.  CREATE statements are run. */
static int read_statements(struct bed *bed, struct list *list, const char *text, bool only_tables,
                           struct mg_error *err)
{
	struct mg_sb sb = { 0 };
	int rc = 0;
	for (const char *line = text; rc == 0 && *line;) {
		size_t len = strcspn(line, "\n");
		bool comment = starts_with(line, "--");
		if (!comment && len > 0) {
			mg_sb_add_len(&sb, line, len);
			mg_sb_add(&sb, "\n");
		}
		if (!comment && len > 0 && line[len - 1] == ';') {
			const char *statement = mg_sb_text(&sb);
			if (starts_with(statement, "create ") || starts_with(statement, "CREATE ") ||
			    starts_with(statement, "drop ")) {
				rc = mg_duck_exec(bed->truth, statement, err);
			} else if (!only_tables) {
				char name[24];
				snprintf(name, sizeof name, "%zu", list->count + 1);
				list_add(list, name, statement);
			}
			mg_sb_clear(&sb);
		}
		line += len + (line[len] == '\n');
	}
	mg_sb_fini(&sb);
	return rc;
}

static int load_suite(struct bed *bed, const struct options *options, struct list *list,
                      struct mg_error *err)
{
	const struct suite *suite = options->suite;
	int rc = 0;
	if (suite->load) {
		struct mg_sb sb = { 0 };
		const char *mark = strstr(suite->load, "%s");
		mg_sb_add_len(&sb, suite->load, (size_t)(mark - suite->load));
		mg_sb_addf(&sb, "%s%s", options->sf, mark + 2);
		rc = mg_duck_exec(bed->truth, mg_sb_text(&sb), err);
		mg_sb_fini(&sb);
	}
	if (rc == 0 && suite->file) {
		char *text = read_file(options->dir, suite->file);
		if (!text) {
			return mg_error_set(err, MG_E_NOT_FOUND, "cannot read \"%s/%s\"", options->dir,
			                    suite->file);
		}
		rc = read_statements(bed, list, text, strcmp(suite->name, "generated") == 0, err);
		mg_free(text);
	}
	if (rc == 0 && suite->list) {
		struct bed_rows rows = { .arena = list->arena };
		rc = bed_fetch(bed->truth, suite->list, &rows, err);
		for (size_t i = 0; i < rows.row_count; i++) {
			list_add(list, rows.rows[i][0], rows.rows[i][1]);
		}
	}
	if (strcmp(suite->name, "generated") == 0) {
		for (uint64_t seed = options->seed_from; rc == 0 && seed <= options->seed_to; seed++) {
			char name[24];
			snprintf(name, sizeof name, "%llu", (unsigned long long)seed);
			char *text = bed_generate(seed);
			list_add(list, name, text);
			mg_free(text);
		}
	}
	return rc ? rc : bed_ready(bed, err);
}

/* ---- one query ---- */

/* SELECT CAST(c0 AS VARCHAR), ... FROM (sql) t(c0, ...), by way of the types the query has. */
static char *as_text(const char *sql, const char *const *types, size_t count, bool cast)
{
	struct mg_sb sb = { 0 };
	mg_sb_add(&sb, "SELECT ");
	for (size_t i = 0; i < count; i++) {
		char column[24];
		snprintf(column, sizeof column, "c%zu", i);
		mg_sb_add(&sb, i ? ", CAST(" : "CAST(");
		if (cast) {
			mg_cast_add(&sb, column, types[i]);
		} else {
			mg_sb_add(&sb, column);
		}
		mg_sb_add(&sb, " AS VARCHAR)");
	}
	mg_sb_addf(&sb, " FROM (%s\n) t(", sql);
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(&sb, "%sc%zu", i ? ", " : "", i);
	}
	mg_sb_add(&sb, ")");
	return mg_sb_take(&sb);
}

static void learn_truth(struct bed *bed, struct bed_query *query, struct mg_arena *arena)
{
	struct mg_error err;
	mg_error_clear(&err);
	const char **names = NULL;
	query->truth.arena = arena;
	int rc = mg_duck_describe(bed->truth, arena, query->text, &query->column_count, &names,
	                          &query->types, &err);
	if (rc == 0) {
		char *sql = as_text(query->text, query->types, query->column_count, false);
		rc = bed_fetch(bed->truth, sql, &query->truth, &err);
		mg_free(sql);
	}
	query->fails = rc != 0;
	query->error = mg_arena_strdup(arena, err.message);
}

/* The operator that orders the result, through projections; NULL: none.  *keys: its output columns.
 */
static const struct mg_node *top_order(const struct mg_node *root, size_t *columns,
                                       size_t *column_count)
{
	size_t map[256];
	const struct mg_node *node = root;
	*column_count = 0;
	if (root->column_count > 256) {
		return NULL;
	}
	for (size_t i = 0; i < root->column_count; i++) {
		map[i] = i;
	}
	while (node->op == MG_OP_PROJECT || node->op == MG_OP_LIMIT) {
		for (size_t i = 0; i < root->column_count && node->op == MG_OP_PROJECT; i++) {
			const struct mg_expr *expr = map[i] == SIZE_MAX ? NULL : node->exprs[map[i]];
			map[i] = expr && expr->cls == MG_X_REF ? expr->index : SIZE_MAX;
		}
		node = node->kids[0];
	}
	if (node->op != MG_OP_ORDER && node->op != MG_OP_TOPN) {
		return NULL;
	}
	for (size_t k = 0; k < node->key_count; k++) {
		const struct mg_expr *expr = node->keys[k].expr;
		size_t at = SIZE_MAX;
		for (size_t i = 0; i < root->column_count && expr->cls == MG_X_REF; i++) {
			at = map[i] == expr->index ? i : at;
		}
		if (at == SIZE_MAX) {
			break;
		}
		columns[(*column_count)++] = at;
	}
	return node;
}

static bool keys_in_order(const struct bed_query *query, const struct bed_rows *got,
                          const size_t *columns, size_t count)
{
	for (size_t r = 0; r < query->truth.row_count; r++) {
		for (size_t k = 0; k < count; k++) {
			size_t c = columns[k];
			if (!bed_cell_same(query->truth.rows[r][c], got->rows[r][c], query->types[c])) {
				return false;
			}
		}
	}
	return true;
}

/* The plan without its last LIMIT, as SQL over the whole tables. */
static char *unlimited(struct mg_arena *arena, const struct mg_node *root, struct mg_error *err)
{
	struct mg_node *top = mg_node_copy(arena, root);
	struct mg_node *node = top;
	while (node->op == MG_OP_PROJECT) {
		node->kids[0] = mg_node_copy(arena, node->kids[0]);
		node = node->kids[0];
	}
	if (node->op != MG_OP_LIMIT && node->op != MG_OP_TOPN) {
		return NULL;
	}
	node->op = MG_OP_LIMIT;
	node->has_limit = false;
	node->offset = 0;
	char *sql = NULL;
	return mg_plan_print(arena, top, &sql, err) == 0 ? sql : NULL;
}

static bool right_up_to_ties(struct bed *bed, const struct bed_query *query,
                             const struct mg_node *root, const struct bed_rows *got)
{
	size_t columns[256];
	size_t count = 0;
	struct mg_error err;
	mg_error_clear(&err);
	if (query->truth.row_count != got->row_count) {
		return false;
	}
	top_order(root, columns, &count);
	char *sql = unlimited(got->arena, root, &err);
	if (!sql || !keys_in_order(query, got, columns, count)) {
		return false;
	}
	struct bed_rows all = { .arena = got->arena };
	char *text = as_text(sql, query->types, query->column_count, true);
	for (size_t i = 0; i < bed->table_count; i++) {
		mg_duck_execf(bed->truth, &err,
		              "CREATE OR REPLACE TEMP VIEW \"main.%s\" AS FROM memory.main.\"%s\"",
		              bed->tables[i].name, bed->tables[i].name);
	}
	int rc = bed_fetch(bed->truth, text, &all, &err);
	for (size_t i = 0; i < bed->table_count; i++) {
		mg_duck_execf(bed->truth, &err, "DROP VIEW IF EXISTS temp.main.\"main.%s\"",
		              bed->tables[i].name);
	}
	mg_free(text);
	return rc == 0 && bed_rows_contained(&all, got, query->types);
}

/* As EXPLAIN shows it, by the same code. */
static void explain(const struct mg_plan_env *env, const char *notes, const char *sql)
{
	struct mg_explain *explained = mg_explain_new();
	struct mg_way way = { .kind = MG_WAY_CUT, .step = "cut", .reason = "test bed" };
	struct mg_run_stats stats = { 0 };
	struct mg_sb sb = { 0 };
	mg_explain_plan(explained, env, notes);
	mg_explain_print(explained, &way, &stats, sql, false, false, &sb);
	fprintf(stderr, "%s\n", mg_sb_text(&sb));
	mg_sb_fini(&sb);
	mg_explain_free(explained);
}

static void print_rows(const char *title, const struct bed_rows *rows)
{
	fprintf(stderr, "%s: %zu rows\n", title, rows->row_count);
	for (size_t r = 0; r < rows->row_count && r < 12; r++) {
		for (size_t c = 0; c < rows->column_count; c++) {
			fprintf(stderr, "%s%s", c ? " | " : "  ", rows->rows[r][c] ? rows->rows[r][c] : "NULL");
		}
		fprintf(stderr, "\n");
	}
}

static int run_distributed(struct bed *bed, const struct bed_query *query,
                           const struct options *options, struct mg_plan_env *env,
                           struct mg_node *root, struct bed_rows *got, struct mg_error *err)
{
	struct mg_stage *result = NULL;
	if (options->dry) {
		env->run = NULL;
	}
	int rc = mg_plan_distribute(env, root, &result, err);
	for (size_t i = 0; rc == 0 && options->dry && i + 1 < env->stage_count; i++) {
		struct mg_count count = { 0 };
		rc = bed_run_stage(bed, env->stages[i], &count, err);
	}
	if (rc == 0 && result->column_count != query->column_count) {
		rc = mg_error_set(err, MG_E_INTERNAL, "%zu columns instead of %zu", result->column_count,
		                  query->column_count);
	}
	if (rc == 0) {
		char *text = as_text(result->sql, query->types, query->column_count, true);
		rc = bed_fetch(bed->parts[0].conn, text, got, err);
		mg_free(text);
	}
	if (rc == 0 && options->suite->typed) {
		size_t count = 0;
		const char **names = NULL;
		const char **types = NULL;
		rc = mg_duck_describe(bed->parts[0].conn, got->arena, result->sql, &count, &names, &types,
		                      err);
		for (size_t i = 0; rc == 0 && i < count; i++) {
			if (strcmp(types[i], query->types[i]) != 0) {
				rc = mg_error_set(err, MG_E_INTERNAL, "column %zu is %s instead of %s", i + 1,
				                  types[i], query->types[i]);
			}
		}
	}
	return rc;
}

static enum bed_verdict judge(struct bed *bed, const struct bed_query *query,
                              const struct mg_node *root, const struct bed_rows *got)
{
	bool ordered = false;
	size_t columns[256];
	size_t count = 0;
	if (bed_rows_same(&query->truth, got, query->types, &ordered)) {
		if (ordered) {
			return BED_EXACT;
		}
		return !top_order(root, columns, &count) || keys_in_order(query, got, columns, count)
		           ? BED_TIES
		           : BED_WRONG;
	}
	return right_up_to_ties(bed, query, root, got) ? BED_TIES : BED_WRONG;
}

static enum bed_verdict run_query(struct bed *bed, struct bed_query *query,
                                  const struct options *options, struct totals *totals)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err;
	struct mg_sb notes = { 0 };
	struct mg_bound bound = { 0 };
	struct mg_plan_settings settings = { .timezone = "UTC" };
	struct bed_rows got = { .arena = arena };
	enum bed_verdict verdict = BED_WRONG;
	mg_error_clear(&err);
	struct mg_plan_env env = { .arena = arena,
		                       .participants = bed->parts_count,
		                       .strategy = options->strategy,
		                       .find_table = bed_find_table,
		                       .run = bed_run_stage,
		                       .arg = bed,
		                       .next_stage = 1,
		                       .notes = &notes };
	int rc = mg_plandb_bind(bed->plandb, arena, &settings, query->text, &bound, &err);
	if (rc == 0 && bound.root) {
		rc = run_distributed(bed, query, options, &env, bound.root, &got, &err);
	} else if (rc == 0) {
		rc = mg_error_set(&err, MG_E_UNSUPPORTED, "%s",
		                  bound.unsupported ? bound.unsupported : "no plan");
	}
	if (rc == MG_E_UNSUPPORTED) {
		verdict = BED_UNSUPPORTED;
	} else if (rc != 0 || query->fails) {
		verdict = rc != 0 && query->fails ? BED_EXACT : BED_WRONG;
		totals->errors += verdict == BED_EXACT;
	} else {
		verdict = judge(bed, query, bound.root, &got);
	}
	bool tell = verdict == BED_WRONG || options->verbose ||
	            (verdict == BED_UNSUPPORTED && options->layouts == 0);
	if (tell) {
		static const char *const names[] = { "exact", "ties", "unsupported", "WRONG" };
		struct mg_sb layout = { 0 };
		bed_layout_text(bed, &layout);
		printf("%s %s: %s%s%s\n", options->suite->name, query->name, names[verdict],
		       err.code ? ": " : "", err.message);
		if (verdict == BED_WRONG) {
			fflush(stdout);
			fprintf(stderr, "layout: %s\n%s\n", mg_sb_text(&layout), query->text);
			if (query->fails) {
				fprintf(stderr, "plain DuckDB says: %s\n", query->error);
			}
			explain(&env, mg_sb_text(&notes), query->text);
			print_rows("wanted", &query->truth);
			print_rows("got", &got);
		}
		mg_sb_fini(&layout);
	}
	if (options->explain && verdict != BED_WRONG) {
		explain(&env, mg_sb_text(&notes), query->text);
	}
	bed_drop_spools(bed);
	mg_sb_fini(&notes);
	mg_arena_free(arena);
	return verdict;
}

static void run_all(struct bed *bed, struct list *list, const struct options *options,
                    struct totals *totals)
{
	for (size_t i = 0; i < list->count; i++) {
		char number[24];
		snprintf(number, sizeof number, "%zu", options->query);
		if (options->query && strcmp(list->queries[i].name, number) != 0) {
			continue;
		}
		switch (run_query(bed, &list->queries[i], options, totals)) {
		case BED_EXACT:
			totals->exact++;
			break;
		case BED_TIES:
			totals->ties++;
			break;
		case BED_UNSUPPORTED:
			totals->unsupported++;
			break;
		case BED_WRONG:
			totals->wrong++;
			break;
		}
	}
}

/* ---- command line ---- */

static bool parse_strategy(const char *text, struct options *options)
{
	static const struct {
		const char *name;
		enum mg_strategy strategy;
	} names[] = {
		{ "auto", MG_STRATEGY_AUTO },           { "cut", MG_STRATEGY_CUT },
		{ "broadcast", MG_STRATEGY_BROADCAST }, { "repartition", MG_STRATEGY_REPARTITION },
		{ "gather", MG_STRATEGY_GATHER },       { "dry", MG_STRATEGY_AUTO },
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(text, names[i].name) == 0) {
			options->strategy = names[i].strategy;
			options->dry = strcmp(text, "dry") == 0;
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *options)
{
	*options = (struct options){
		.sf = "0.01", .dir = "test/sql", .seed = 1, .seed_from = 1, .seed_to = 200, .parts = 4
	};
	for (int i = 1; i < argc; i++) {
		const char *flag = argv[i];
		if (strcmp(flag, "-v") == 0) {
			options->verbose = true;
			continue;
		}
		if (strcmp(flag, "--explain") == 0) {
			options->explain = true;
			continue;
		}
		if (strcmp(flag, "--list") == 0) {
			options->list = true;
			continue;
		}
		const char *value = i + 1 < argc ? argv[++i] : "";
		if (strcmp(flag, "--suite") == 0) {
			for (size_t s = 0; s < sizeof suites / sizeof *suites; s++) {
				options->suite = strcmp(suites[s].name, value) == 0 ? &suites[s] : options->suite;
			}
		} else if (strcmp(flag, "--sf") == 0) {
			options->sf = value;
		} else if (strcmp(flag, "--dir") == 0) {
			options->dir = value;
		} else if (strcmp(flag, "--layouts") == 0) {
			options->layouts = strtoul(value, NULL, 10);
		} else if (strcmp(flag, "--parts") == 0) {
			options->parts = strtoul(value, NULL, 10);
		} else if (strcmp(flag, "--query") == 0) {
			options->query = strtoul(value, NULL, 10);
		} else if (strcmp(flag, "--seed") == 0) {
			options->seed = strtoul(value, NULL, 10);
		} else if (strcmp(flag, "--seeds") == 0) {
			char *end = NULL;
			options->seed_from = strtoul(value, &end, 10);
			options->seed_to = *end == '.' ? strtoul(end + 2, NULL, 10) : options->seed_from;
		} else if (strcmp(flag, "--strategy") != 0 || !parse_strategy(value, options)) {
			return false;
		}
	}
	return options->suite && options->parts > 0 && options->parts <= BED_PARTS_MAX;
}

static int run_layouts(struct bed *bed, struct list *list, const struct options *options,
                       struct totals *totals, struct mg_error *err)
{
	int rc = bed_layout(bed, options->suite->placement, options->parts, options->parts * 3, 0, err);
	if (rc == 0) {
		run_all(bed, list, options, totals);
	}
	for (size_t i = 0; rc == 0 && i < options->layouts; i++) {
		uint64_t seed = options->seed + i;
		uint64_t state = seed;
		size_t parts = 1 + bed_random(&state) % 6;
		size_t shards = 1 + bed_random(&state) % 13;
		rc = bed_layout(bed, NULL, parts, shards, seed, err);
		struct totals before = *totals;
		if (rc == 0) {
			run_all(bed, list, options, totals);
		}
		if (options->verbose || totals->wrong > before.wrong) {
			struct mg_sb layout = { 0 };
			bed_layout_text(bed, &layout);
			printf("layout %llu (%zu shards; %s): %zu wrong\n", (unsigned long long)seed, shards,
			       mg_sb_text(&layout), totals->wrong - before.wrong);
			mg_sb_fini(&layout);
		}
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct options options;
	if (!parse(argc, argv, &options)) {
		fprintf(stderr, "usage: bed --suite tpch|tpcds|ssb|nasty|generated [--sf 0.01] [--strategy "
		                "auto|cut|broadcast|repartition|gather|dry]\n"
		                "           [--layouts n] [--seed n] [--seeds a..b] [--parts n] [--query "
		                "n] [--dir test/sql] [-v] [--explain] [--list]\n");
		return 2;
	}
	struct bed bed = { .verbose = options.verbose };
	struct list list = { .arena = mg_arena_new() };
	struct totals totals = { 0 };
	struct mg_error err;
	mg_error_clear(&err);
	int rc = bed_open(&bed, &err);
	rc = rc ? rc : load_suite(&bed, &options, &list, &err);
	if (rc == 0 && options.list) {
		for (size_t i = 0; i < list.count; i++) {
			printf("%s;\n", list.queries[i].text);
		}
		return 0;
	}
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		learn_truth(&bed, &list.queries[i], list.arena);
	}
	rc = rc ? rc : run_layouts(&bed, &list, &options, &totals, &err);
	if (rc != 0) {
		fprintf(stderr, "bed: %s\n", err.message);
	}
	size_t empty = 0;
	for (size_t i = 0; i < list.count; i++) {
		empty += !list.queries[i].fails && list.queries[i].truth.row_count == 0;
	}
	printf("%s: %zu right (%zu of them but for ties or unasked order, %zu errors as expected), %zu "
	       "unsupported, %zu wrong; "
	       "%zu of %zu queries have no rows; %llu rows moved\n",
	       options.suite->name, totals.exact + totals.ties, totals.ties, totals.errors,
	       totals.unsupported, totals.wrong, empty, list.count, (unsigned long long)bed.rows_moved);
	bed_close(&bed);
	mg_free(list.queries);
	mg_arena_free(list.arena);
	return rc != 0 || totals.wrong > 0;
}
