/*
 * ir.h - the planner's tree: DuckDB's bound, optimized plan in our own words.
 *
 * plan_read.c makes it from plan JSON, prune.c removes columns nobody asks for, distribute.c says
 * where each operator's rows are and inserts exchanges, cut.c splits it into stages, print.c turns
 * a stage into SQL.  References are positions: MG_X_REF with index i is column i of the child's
 * output (for joins: left columns, then right).  Everything lives in the query's arena and is
 * never changed after it is shared: passes copy nodes (mg_node_copy).
 *
 * Pure: no I/O, no global state.  Thread: whoever owns the arena.
 */
#ifndef MG_SQL_IR_H
#define MG_SQL_IR_H

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

/* A DuckDB type.  `id` is DuckDB's name for it, as in plan JSON ("INTEGER", "DECIMAL", "LIST"). */
struct mg_type {
	const char *id;
	int width, scale;   /* DECIMAL */
	uint64_t size;      /* ARRAY */
	size_t child_count; /* LIST, ARRAY: 1; MAP: 2 (key, value); STRUCT, UNION: members */
	const struct mg_type **children;
	const char **names; /* STRUCT, UNION members; ENUM values */
	size_t name_count;
	const char *alias;     /* JSON and user types, or NULL */
	const char *collation; /* VARCHAR, or NULL */
};

enum mg_expr_class {
	MG_X_REF,   /* index */
	MG_X_CONST, /* json: the value object {type, is_null, value} */
	MG_X_PARAM,
	MG_X_COMPARE,     /* kids: left, right; kind COMPARE_... */
	MG_X_CONJUNCTION, /* kids; kind CONJUNCTION_AND/OR */
	MG_X_CAST,        /* kids: child; try_cast */
	MG_X_CASE,        /* kids: when, then, when, then, ..., else */
	MG_X_BETWEEN,     /* kids: input, lower, upper; json has lower_inclusive, upper_inclusive */
	MG_X_OPERATOR,    /* kids; kind OPERATOR_..., COMPARE_IN ... */
	MG_X_FUNCTION,    /* kids; name; json has function_data */
	MG_X_AGGREGATE,   /* kids; name; filter; distinct; orders; json has function_data */
	MG_X_WINDOW, /* kids; kind WINDOW_...; name; filter; partitions, orders, frame in json-backed
	                fields below */
	MG_X_UNNEST, /* kids: child */
	MG_X_LAMBDA_REF, /* parameter of a lambda */
	MG_X_RAW         /* planner-made: SQL template in `name`, {0} {1} ... stand for kids */
};

struct mg_order {
	struct mg_expr *expr;
	bool descending;
	bool nulls_first;
};

struct mg_window {
	struct mg_expr **partitions;
	size_t partition_count;
	struct mg_order *orders;
	size_t order_count;
	struct mg_order *arg_orders;
	size_t arg_order_count;
	const char *start, *end, *exclude; /* as in the JSON */
	struct mg_expr *start_expr, *end_expr, *offset_expr, *default_expr;
	bool ignore_nulls;
};

struct mg_expr {
	enum mg_expr_class cls;
	const char *kind;           /* the JSON's "type", e.g. COMPARE_EQUAL; "" for RAW */
	const char *name;           /* function, or RAW template */
	const struct mg_type *type; /* return type; never NULL */
	const char *alias;          /* or NULL */
	size_t index;               /* MG_X_REF */
	struct mg_expr **kids;
	size_t kid_count;
	struct mg_expr *filter;  /* aggregates and windows: FILTER (WHERE ...), or NULL */
	struct mg_order *orders; /* aggregates: ORDER BY inside */
	size_t order_count;
	bool distinct; /* aggregates and windows */
	bool try_cast;
	const char *merge; /* RAW partial aggregates: template that merges two of them, or NULL */
	struct mg_window *window;   /* MG_X_WINDOW */
	struct mg_expr *lambda;     /* body, when function_data holds one */
	const struct mg_json *json; /* what it was read from, for bind data; NULL for made ones */
};

enum mg_op {
	MG_OP_SCAN, /* schema, table, cols (NULL name: a column nobody can read, printed NULL) */
	MG_OP_ROWS, /* VALUES: row_values[row][col] */
	MG_OP_FUNC, /* range and friends: text, func_names (all), cols (chosen) */
	MG_OP_EMPTY,
	MG_OP_DUMMY,     /* one row, no columns */
	MG_OP_PROJECT,   /* exprs */
	MG_OP_FILTER,    /* exprs, all must hold */
	MG_OP_JOIN,      /* join */
	MG_OP_AGG,       /* groups, exprs = aggregates, sets, gfuncs */
	MG_OP_DISTINCT,  /* groups = ON targets or none, keys = its order */
	MG_OP_WINDOW,    /* child columns, then exprs */
	MG_OP_UNNEST,    /* child columns, then exprs */
	MG_OP_ORDER,     /* keys */
	MG_OP_LIMIT,     /* limit, offset */
	MG_OP_TOPN,      /* keys, limit, offset */
	MG_OP_UNION,     /* always ALL */
	MG_OP_EXCEPT,    /* all */
	MG_OP_INTERSECT, /* all */
	MG_OP_CTE,       /* name; children: definition, main */
	MG_OP_REF,       /* name of a CTE or recursive table */
	MG_OP_RECCTE,    /* name, all; children: initial, recursive */
	MG_OP_EXCHANGE,  /* exchange, groups = hash keys */
	MG_OP_READ       /* rows of a finished stage: stage */
};

enum mg_join_kind {
	MG_J_INNER,
	MG_J_LEFT,
	MG_J_RIGHT,
	MG_J_FULL,
	MG_J_SEMI,
	MG_J_ANTI,
	MG_J_MARK,
	MG_J_SINGLE
};

struct mg_cond {
	struct mg_expr *left, *right; /* over the left and the right child */
	const char *compare;          /* COMPARE_EQUAL, ... */
};

enum mg_exchange_kind {
	MG_EX_GATHER,    /* to the coordinator */
	MG_EX_BROADCAST, /* to every participant */
	MG_EX_HASH,      /* by slot of the keys to the slot's owner */
	MG_EX_SPLIT,     /* replicated input: each keeps the rows whose slot it owns; nothing moves */
	MG_EX_ONCE,      /* replicated input: only participant 0 keeps its rows; nothing moves */
	MG_EX_LOCAL      /* coordinator's rows seen as one part of a partitioned set; nothing moves */
};

enum mg_dist_kind { MG_DIST_SINGLE, MG_DIST_REPL, MG_DIST_PART };

/* A set of column positions. */
struct mg_cols {
	uint64_t *words;
	size_t word_count;
};

/* Where the rows of an operator are.  PART: keys is one set of equivalent columns per hash
 * position; key_count 0 means partitioned by something unknown. */
struct mg_dist {
	enum mg_dist_kind kind;
	struct mg_cols *keys;
	size_t key_count;
};

struct mg_node {
	enum mg_op op;
	struct mg_node **kids;
	size_t kid_count;
	const struct mg_type **types; /* of the output columns */
	size_t column_count;
	double rows;         /* estimate; negative: unknown */
	bool counted;        /* rows is a count, not an estimate */
	bool copied;         /* READ: the coordinator has all its rows too, as stage + MG_STAGE_COPY */
	double raw;          /* set by distribute.c: `rows` as the planning database's sample has it */
	struct mg_dist dist; /* set by distribute.c */

	const char *schema, *table; /* SCAN */
	const char **cols;          /* SCAN, FUNC: column names, parallel to types */
	const char *text;           /* FUNC */
	bool kv, binary;            /* FUNC: it is kv(), which servers alone have; keys as bytes */
	const char **func_names;
	size_t func_name_count;
	struct mg_expr ***row_values; /* ROWS */
	size_t row_count;
	struct mg_expr **exprs; /* PROJECT, FILTER, AGG, WINDOW, UNNEST */
	size_t expr_count;
	struct mg_expr **groups; /* AGG, DISTINCT ON, EXCHANGE hash keys */
	size_t group_count;
	size_t **sets; /* AGG: grouping sets as indexes into groups; set_count 0: plain */
	size_t *set_sizes;
	size_t set_count;
	size_t **gfuncs; /* AGG: GROUPING(...) functions */
	size_t *gfunc_sizes;
	size_t gfunc_count;
	struct mg_order *keys; /* ORDER, TOPN, DISTINCT ON */
	size_t key_count;
	bool has_limit;
	uint64_t limit, offset;
	enum mg_join_kind join; /* JOIN */
	struct mg_cond *conds;
	size_t cond_count;
	struct mg_expr **preds; /* JOIN: further predicates over left ++ right */
	size_t pred_count;
	bool asof;
	bool all;         /* set operations, RECCTE */
	const char *name; /* CTE, REF, RECCTE */
	enum mg_exchange_kind exchange;
	uint32_t stage; /* READ */
};

/* ---- helpers (ir.c) ---- */
struct mg_node *mg_node_new(struct mg_arena *arena, enum mg_op op, size_t kid_count,
                            size_t column_count);
struct mg_node *mg_node_copy(struct mg_arena *arena,
                             const struct mg_node *node); /* shallow; kids array copied */
struct mg_node *mg_node_project(struct mg_arena *arena, struct mg_node *child,
                                struct mg_expr **exprs, size_t count);
struct mg_expr *mg_expr_ref(struct mg_arena *arena, size_t index, const struct mg_type *type);
struct mg_expr *mg_expr_raw(struct mg_arena *arena, const char *format, const struct mg_type *type,
                            size_t kid_count, struct mg_expr *const *kids);
struct mg_expr *mg_expr_copy(struct mg_arena *arena, const struct mg_expr *expr); /* shallow */
/* Copy with every reference i replaced by map[i]; map entries of SIZE_MAX must not be met. */
struct mg_expr *mg_expr_remap(struct mg_arena *arena, const struct mg_expr *expr,
                              const size_t *map);
/* Call fn for expr and everything below it (filters, orders, windows, lambda captures). */
void mg_expr_walk(const struct mg_expr *expr, void (*fn)(const struct mg_expr *, void *),
                  void *arg);
void mg_expr_refs(struct mg_arena *arena, const struct mg_expr *expr, struct mg_cols *into);
bool mg_expr_volatile(const struct mg_expr *expr);
bool mg_expr_equal(const struct mg_expr *a,
                   const struct mg_expr *b); /* same meaning, aliases ignored */
/* Column index when expr is a column seen through integer widening casts, else -1. */
long mg_expr_plain(const struct mg_expr *expr);
bool mg_type_is(const struct mg_type *type, const char *id);
bool mg_type_equal(const struct mg_type *a, const struct mg_type *b);
bool mg_type_hashable(const struct mg_type *type);    /* may be a hash key */
bool mg_type_is_integer(const struct mg_type *type);  /* any width and sign */
double mg_type_width(const struct mg_type *type);     /* bytes a value, for costs */
const struct mg_type *mg_type_simple(const char *id); /* static types without parameters */

void mg_cols_add(struct mg_arena *arena, struct mg_cols *set, size_t column);
bool mg_cols_has(const struct mg_cols *set, size_t column);
bool mg_cols_empty(const struct mg_cols *set);
size_t mg_cols_count(const struct mg_cols *set);
void mg_cols_union(struct mg_arena *arena, struct mg_cols *into, const struct mg_cols *from);
bool mg_cols_meet(const struct mg_cols *a, const struct mg_cols *b); /* have a member in common */

/* ---- passes before distribution ---- */

/* Read one plan (an element of json_serialize_plan's "plans").  Fails: MG_E_UNSUPPORTED with the
 * reason (an operator, expression, type or bind datum we do not know): the caller falls back. */
int mg_plan_read(struct mg_arena *arena, const struct mg_json *plan, struct mg_node **out,
                 struct mg_error *err);

/* The same, with the estimates of EXPLAIN (FORMAT JSON)'s tree (explain_output = optimized_only) on
 * the operators: both trees are walked in parallel; where their shapes differ nothing is set. */
int mg_plan_read_sized(struct mg_arena *arena, const struct mg_json *plan,
                       const struct mg_json *explain, struct mg_node **out, struct mg_error *err);

/* Remove unused columns; every node ends with exactly the columns its parent asks for. */
int mg_plan_prune(struct mg_arena *arena, struct mg_node *root, struct mg_node **out,
                  struct mg_error *err);

/* Does it read keys and values (plan_keys.c)? */
bool mg_plan_reads_keys(const struct mg_node *root);
/* The same plan, which reads no more of them than it can need. */
struct mg_node *mg_plan_bound_keys(struct mg_arena *arena, struct mg_node *root);

/* SQL of a subtree that holds no exchange, columns named c0, c1, ...; scans read
 * temp.main."schema.table", READ reads merganser_exchange(stage), REF reads the CTE's name. */
int mg_plan_print(struct mg_arena *arena, const struct mg_node *node, char **sql,
                  struct mg_error *err);

/* SQL of one expression; column i is printed as prefix "c" i: alias.c0. */
int mg_expr_print(struct mg_arena *arena, const struct mg_expr *expr, const char *alias, char **sql,
                  struct mg_error *err);
int mg_type_print(struct mg_arena *arena, const struct mg_type *type, char **sql,
                  struct mg_error *err);
/* Append a cast of the SQL `what` to the type that the engine describes as `type`, even when no
 * CAST can name that: STRUCT(INTEGER, VARCHAR). */
void mg_cast_add(struct mg_sb *sb, const char *what, const char *type);

#endif
