/*
 * define_enum.c - CREATE TYPE ... AS ENUM (SELECT ...): the query is run once, as a SELECT of the
 * client's, and what it gives takes its place as text.  So the type is the same on every node.
 *
 * Which labels an ENUM has of them, and what is wrong with them, DuckDB says.
 */
#include "exec/define_int.h"

#include "codec/arrow_text.h"
#include "exec/pivot.h"
#include "exec/run.h"
#include "store/duck.h"

/* LIST_BYTES_MAX: of the rows, before each label is taken once. */
enum { VALUES_MAX = 1000000, LIST_BYTES_MAX = 64 << 20, LABELS_BYTES_MAX = 1 << 20 };

struct labels {
	struct mg_define *define;
	struct mg_arrow_view *view;
	struct mg_sb list; /* literals, with commas */
	size_t count;
};

static int begin(void *arg, const struct ArrowSchema *schema, size_t count,
                 const char *const *names, const char *const *types, struct mg_error *err)
{
	struct labels *labels = arg;

	(void)names, (void)types;
	if (count != 1) {
		return mg_error_set(err, MG_E_BIND, "The query must return a single column");
	}
	return mg_arrow_view_new(&labels->view, schema)
	           ? mg_error_set(err, MG_E_INTERNAL, "no view of the labels")
	           : 0;
}

static int batch(void *arg, struct ArrowArray *array, struct mg_error *err)
{
	struct labels *labels = arg;
	struct mg_sb text = { 0 };

	if (mg_arrow_view_set(labels->view, array)) {
		return mg_error_set(err, MG_E_INTERNAL, "no view of the labels");
	}
	for (int64_t row = 0; row < array->length && labels->list.len <= LIST_BYTES_MAX; row++) {
		mg_sb_add(&labels->list, labels->count++ ? ", " : "");
		if (mg_arrow_view_is_null(labels->view, 0, row)) {
			mg_sb_add(&labels->list, "NULL");
			continue;
		}
		mg_sb_clear(&text);
		mg_arrow_view_text(labels->view, 0, row, &text);
		mg_sb_add_literal(&labels->list, mg_sb_text(&text), text.len);
	}
	mg_sb_fini(&text);
	return labels->count <= VALUES_MAX && labels->list.len <= LIST_BYTES_MAX
	           ? 0
	           : mg_error_set(err, MG_E_LIMIT, "an ENUM is made of at most %d rows and %d bytes",
	                          VALUES_MAX, LIST_BYTES_MAX);
}

/* The labels, each once and in their order, as the text of a definition. */
static int make_type(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	static const char made[] =
		"SELECT coalesce(array_to_string(list_transform(labels, lambda l: '''' || "
		"replace(l, '''', '''''') || ''''), ', '), '') FROM duckdb_types() WHERE NOT internal AND "
		"database_name = 'merganser' AND type_name = '_mg_labels'";
	struct labels *labels = arg;
	struct mg_define *define = labels->define;
	struct mg_sb sql = { 0 };
	char *text = NULL;

	mg_sb_addf(&sql, "CREATE TYPE main._mg_labels AS ENUM (SELECT unnest([%s]::VARCHAR[]))",
	           mg_sb_text(&labels->list));
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	code = code ? code : mg_duck_text(conn, made, &text, err);
	if (!code) {
		define->ddl.definition = mg_str(mg_arena_format(define->arena, "AS ENUM (%s)", text));
	}
	if (!code && define->ddl.definition.len > LABELS_BYTES_MAX) {
		code = mg_error_set(err, MG_E_LIMIT, "the labels of an ENUM have at most %d bytes",
		                    LABELS_BYTES_MAX);
	}
	mg_free(text);
	mg_sb_fini(&sql);
	return code;
}

int mg_define__read_labels(struct mg_define *define, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, true);
	struct mg_run_settings own = *define->settings;
	struct labels labels = { .define = define };
	const struct mg_rows rows = {
		.begin = begin, .batch = batch, .lossless = true, .arg = &labels
	};

	own.summarize = true;
	const char *expanded = NULL;
	int code = mg_pivot_expand(define->engine, define->run, define->settings, define->arena,
	                           define->ddl.query, &expanded, err);

	code = code ? code
	            : mg_coordinator_run(define->engine, define->run, &own,
	                                 expanded ? mg_str(expanded) : define->ddl.query, &rows, err);
	*mg_run_own_stats(define->run) = (struct mg_run_stats){ .step = "" };
	code = code ? code
	            : mg_plandb_try(mg_engine_plandb(define->engine), &settings, make_type, &labels,
	                            err);
	if (!code) {
		struct mg_sb sql = { 0 };

		mg_sb_addf(&sql, "CREATE %sTYPE ", define->ddl.or_replace ? "OR REPLACE " : "");
		mg_sb_add_path(&sql, define->schema, define->ddl.name);
		mg_sb_addf(&sql, " %.*s", MG_STR_ARG(define->ddl.definition));
		define->statement = mg_arena_strdup(define->arena, mg_sb_text(&sql));
		mg_sb_fini(&sql);
	}
	if (labels.view) {
		mg_arrow_view_free(labels.view);
	}
	mg_sb_fini(&labels.list);
	return code;
}
