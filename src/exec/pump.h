/*
 * pump.h - rows of a DuckDB result into a sink, batch by batch, with names, types, limits and
 * cancel.
 */
#ifndef MG_EXEC_PUMP_H
#define MG_EXEC_PUMP_H

#include "exec/coordinator.h"
#include "sql/plandb.h"
#include "store/duck.h"

struct mg_pump {
	struct mg_run *run;
	const struct mg_rows *rows;
	bool began;                  /* the sink has seen begin: no second attempt is possible */
	/* Or NULL: called when the answer's snapshots are taken, before any of it is handed on. */
	int (*before)(void *arg, struct mg_error *err);
	void *arg;
	struct ArrowSchema schema;   /* of the answer */
	struct ArrowArrayView *view; /* to count bytes */
	/* Names and types of what mg_pump_query will run, when the caller knows them: to ask costs the
	 * engine another optimization.  known 0: not known. */
	size_t known;
	const char *const *names, *const *types;
	/* Of mg_pump_plandb, or NULL: called with its arg when the answer is complete and before any of
	 * it is handed on. */
	int (*held)(void *arg, struct mg_error *err);
	void *held_arg;
	struct mg_plan_replay replay; /* likewise: what the statement's transaction has defined */
};

void mg_pump_init(struct mg_pump *pump, struct mg_run *run, const struct mg_rows *rows);
void mg_pump_fini(struct mg_pump *pump);
/* Run sql on conn and hand on its rows; several calls make one answer (their columns must agree).
 */
int mg_pump_query(struct mg_pump *pump, struct mg_duck_conn *conn, const char *sql,
                  struct mg_error *err);
/* now_us: what now() tells; 0: the moment. */
int mg_pump_plandb(struct mg_pump *pump, struct mg_plandb *plandb, const char *timezone,
                   int64_t now_us, const char *sql, struct mg_error *err);
/* An answer without a single call of begin has no shape: fails. */
int mg_pump_end(struct mg_pump *pump, struct mg_error *err);
/* A sink that drops everything, for EXPLAIN ANALYZE. */
struct mg_rows mg_pump_nowhere(void);

#endif
