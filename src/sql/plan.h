/*
 * plan.h - from a pruned tree to stages that nodes can run.
 *
 * The planner decides and runs in turns: when sizes matter and are not known, it asks the oracle,
 * which runs the subtree as a KEEP stage (rows stay where they are), and tells how many rows and
 * bytes came out.  Without an oracle (EXPLAIN) the estimates decide.
 */
#ifndef MG_SQL_PLAN_H
#define MG_SQL_PLAN_H

#include "sql/ir.h"

#define MG_SLOT_COUNT 16384

/* How a table's rows are placed. */
struct mg_table_place {
	const char *schema, *table;
	const char **keys; /* partition columns, in order; key_count 0: a reference table */
	size_t key_count;
	uint64_t rows, bytes; /* whole table */
	uint64_t sample_rows; /* rows of it in the planning database; 0: not known */
};

enum mg_strategy {
	MG_STRATEGY_AUTO,
	MG_STRATEGY_LOCAL,
	MG_STRATEGY_CUT,
	MG_STRATEGY_BROADCAST,
	MG_STRATEGY_REPARTITION,
	MG_STRATEGY_GATHER
};

enum mg_ship {
	MG_SHIP_KEEP,      /* rows stay on the node that made them */
	MG_SHIP_GATHER,    /* to the coordinator */
	MG_SHIP_BROADCAST, /* a copy to every participant */
	MG_SHIP_HASH,      /* last column is the slot (USMALLINT); to its owner, slot taken off */
	MG_SHIP_RESULT     /* the last stage: to the client */
};

struct mg_stage {
	uint32_t id; /* from 1; what merganser_exchange(id) reads */
	enum mg_ship ship;
	bool everywhere; /* every participant runs it; else the coordinator alone */
	const char *sql;
	const char *label;            /* "broadcast", "hash", "cte", "partial", ... for EXPLAIN */
	const struct mg_type **types; /* of the rows, without the slot */
	size_t column_count;
	uint32_t *inputs; /* ids of stages that it reads */
	size_t input_count;
	const char **scans; /* "schema.table" that it reads */
	size_t scan_count;
	double rows_estimate;
	/* Rows that stay, of which each participant sends the coordinator a copy if they are few.  When
	 * all have (mg_count.copied), stage id + MG_STAGE_COPY has all rows there. */
	bool copy_few;
};

#define MG_STAGE_COPY (1u << 20)

struct mg_count {
	uint64_t rows, bytes;
	bool copied;
};

/* What the planner needs to know of the world. */
struct mg_plan_env {
	struct mg_arena *arena;
	size_t participants; /* nodes that take part; participant 0 is the coordinator */
	enum mg_strategy
		strategy; /* CUT: never local; BROADCAST, REPARTITION: where there is a choice */
	const struct mg_table_place *(*find_table)(void *arg, const char *schema, const char *table);
	/* Run a finished stage now; NULL: only plan.  counts: rows and bytes it made in all. */
	int (*run)(void *arg, const struct mg_stage *stage, struct mg_count *count,
	           struct mg_error *err);
	void *arg;
	uint32_t next_stage;      /* ids given so far; starts at 1 */
	struct mg_stage **stages; /* every stage made, in the order to run */
	size_t stage_count, stage_cap;
	struct mg_sb
		*notes; /* a line per decision, for EXPLAIN: "join: broadcast right (12 rows, ...)" */
};

/* Distribute root, run or collect all stages but the last, and return the last (SHIP_RESULT, on
 * the coordinator).  With env->run every other stage has been run when this returns.
 * Fails: MG_E_UNSUPPORTED with a reason (fall down the ladder), or what run returned. */
int mg_plan_distribute(struct mg_plan_env *env, struct mg_node *root, struct mg_stage **result,
                       struct mg_error *err);

/* ---- routing (route.c) ---- */
/* Slots that the plan can touch: when the filters above every sharded scan pin the partition key to
 * constants that lie in one slot, *slot is it and the result is true. */
bool mg_plan_one_slot(struct mg_plan_env *env, const struct mg_node *root, uint16_t *slot);

#endif
