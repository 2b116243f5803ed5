/* engine_comments.c - comments of the catalog, in the planning database's tables and views. */
#include "exec/engine_int.h"

#include "base/log.h"

/* All as text: another text is to be shown. */
static void add_all(struct mg_sb *out, const char *kind, const char *schema, const char *name,
                    const struct mg_comments *comments)
{
	for (size_t i = 0; i < comments->count; i++) {
		mg_comment_add_sql(out, kind, schema, name, &comments->list[i]);
		mg_sb_add_char(out, ';');
	}
}

/* One by one: a view's column may have gone. */
static void run_all(struct mg_engine *engine, const char *kind, const char *schema,
                    const char *name, const struct mg_comments *comments)
{
	struct mg_sb sql = { 0 };

	for (size_t i = 0; i < comments->count; i++) {
		struct mg_error err = { 0 };

		mg_sb_clear(&sql);
		mg_comment_add_sql(&sql, kind, schema, name, &comments->list[i]);
		if (mg_plandb_exec(engine->plandb, mg_sb_text(&sql), &err)) {
			mg_log(MG_LOG_INFO, "catalog.show", "comment=%s.%s error=\"%s\"", schema, name,
			       err.message);
		}
	}
	mg_sb_fini(&sql);
}

static void show(struct mg_engine *engine, const char *kind, const char *schema, const char *name,
                 const struct mg_comments *comments)
{
	struct mg_sb text = { 0 };

	if (!comments->count) {
		return; /* once there was one, there always is */
	}
	add_all(&text, kind, schema, name, comments);
	if (mg_engine__note_comments(engine, kind, schema, name, mg_sb_text(&text))) {
		run_all(engine, kind, schema, name, comments);
	}
	mg_sb_fini(&text);
}

void mg_engine__show_comments(struct mg_engine *engine, const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];

		show(engine, MG_SHOWN_TABLE, table->schema, table->name, &table->comments);
	}
	for (size_t i = 0; i < data->view_count; i++) {
		const struct mg_view *view = &data->views[i];

		show(engine, MG_SHOWN_VIEW, view->schema, view->name, &view->comments);
	}
}
