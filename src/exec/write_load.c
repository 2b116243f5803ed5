/*
 * write_load.c - the rows of a query into a table that nobody sees yet.
 *
 * The columns are the query's own, or made of them: nothing is tried, a chunk gets its slots and
 * goes.  All of it is of one moment, as now() tells.
 */
#include "exec/run.h"
#include "exec/tx.h"
#include "exec/write_int.h"
#include "os/clock.h"

struct load {
	struct mg_write write; /* first: what mg_write__source hands to take */
	const struct mg_write_load *asked;
};

/* Few rows may become wide ones in the middle of a chunk. */
static int flush(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
                 struct mg_redo *redo, struct mg_error *err)
{
	const struct mg_write_load *asked = arg;

	(void)data, (void)table;
	int code = asked->flush(asked->arg, redo, err);

	mg_redo_clear(redo);
	return code;
}

static int take(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct load *load = arg;
	struct mg_write *write = &load->write;
	struct mg_sb sql = { 0 };

	mg_duck_set_context(conn, &write->context);
	int code = load->asked->through ? mg_duck_exec(conn, load->asked->through, err) : 0;

	mg_sb_add(&sql, "SELECT ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	if (load->asked->through) {
		mg_sb_addf(&sql, " FROM %s", load->asked->from);
	} else {
		mg_sb_add(&sql, " FROM (SELECT ");
		mg_write__add_stored(&sql, write, 0, true);
		mg_sb_addf(&sql, " FROM merganser_exchange(%d))", MG_WRITE_SOURCE);
	}
	code = code ? code : mg_write__redo_query(write, MG_REDO_INSERT, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code ? code : mg_write__flush_from(write, 1, err);
}

int mg_write_load(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_write_load *asked,
                  uint64_t *rows, struct mg_error *err)
{
	struct load *load = mg_alloc0(sizeof *load);
	struct mg_write *write = &load->write;
	struct mg_write_result result = { .arena = mg_arena_new() };
	const struct mg_write_request request = { .flush = flush, .flush_arg = (void *)asked };

	load->asked = asked;
	write->request = &request;
	write->engine = engine;
	write->run = run;
	write->settings = *settings;
	write->settings.strategy = MG_STRATEGY_AUTO;
	write->settings.summarize = true;
	write->now_us = mg_clock_wall_us();
	write->redo = mg_redo_new();
	write->result = &result;
	write->arena = mg_arena_new();
	write->data = mg_tx_take_catalog(settings->tx, engine);
	write->table = asked->table;
	mg_write__open(write);
	char *query = mg_arena_strndup(write->arena, asked->query.ptr, asked->query.len);
	int code = mg_write__source(write, query, take, err);

	if (mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err);
	}
	*rows = write->outlets[MG_REDO_INSERT].rows;
	mg_write__close(write);
	mg_catalog_give(mg_engine_catalog(engine), write->data);
	mg_write_result_fini(&result);
	mg_redo_free(write->redo);
	mg_arena_free(write->arena);
	mg_free(load);
	return code;
}
