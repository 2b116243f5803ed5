/*
 * gen.c - random queries over the tables of nasty.sql, the same for the same seed.
 *
 * Joins of all kinds with NULL keys, IN, NOT IN, EXISTS and correlated subqueries, grouping sets,
 * windows, set operations, common table expressions, DISTINCT and FILTER aggregates, ORDER BY with
 * LIMIT.  Every query has one answer: windows are ordered by unique columns, limits by all columns.
 */
#include "bed.h"

#include <stdio.h>
#include <string.h>

struct gen {
	uint64_t state;
	struct mg_sb sb;
	unsigned depth, names;
};

struct source {
	const char *table;
	const char *ints[5]; /* comparable integer columns */
	const char *unique;
	const char *number; /* exact number to add up */
	const char *text;
};

static const struct source sources[] = {
	{ "a", { "k", "g", "id", "g", "k" }, "id", "d", "s" },
	{ "b", { "k", "g", "id", "k", "g" }, "id", "d", "s" },
	{ "bn", { "k", "k", "id", "k", "k" }, "id", "k", "k::varchar" },
	{ "c", { "id", "cat", "id", "cat", "id" }, "id", "cat", "nm" },
	{ "edge", { "src", "dst", "src", "dst", "src" }, "(dst*100+src)", "dst", "src::varchar" },
	{ "e", { "k", "k", "k", "k", "k" }, "k", "k", "k::varchar" },
};

static unsigned roll(struct gen *gen, unsigned sides)
{
	return (unsigned)(bed_random(&gen->state) % sides);
}

static void put(struct gen *gen, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct gen *gen, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	mg_sb_addv(&gen->sb, fmt, ap);
	va_end(ap);
}

static const struct source *pick(struct gen *gen)
{
	static const unsigned weights[] = { 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5 };
	return &sources[weights[roll(gen, sizeof weights / sizeof *weights)]];
}

static const char *int_of(struct gen *gen, const struct source *source)
{
	return source->ints[roll(gen, 5)];
}

/* A condition over alias x of source. */
static void predicate(struct gen *gen, const struct source *source, const char *x)
{
	static const char *const compare[] = { "<", ">", "=", "<>", "<=", ">=" };
	switch (roll(gen, 7)) {
	case 0:
		put(gen, "%s.%s is %snull", x, int_of(gen, source), roll(gen, 2) ? "not " : "");
		break;
	case 1:
		put(gen, "%s.%s in (%u, %u, %u)", x, int_of(gen, source), roll(gen, 20), roll(gen, 20),
		    roll(gen, 400));
		break;
	case 2:
		put(gen, "%s.%s between %u and %u", x, int_of(gen, source), roll(gen, 20),
		    20 + roll(gen, 300));
		break;
	case 3:
		put(gen, "%s.%s %% %u = %u", x, int_of(gen, source), 2 + roll(gen, 5), roll(gen, 2));
		break;
	case 4:
		put(gen, "(%s.%s < %u or %s.%s > %u)", x, int_of(gen, source), roll(gen, 100), x,
		    int_of(gen, source), 100 + roll(gen, 300));
		break;
	default:
		put(gen, "%s.%s %s %u", x, int_of(gen, source), compare[roll(gen, 6)],
		    roll(gen, roll(gen, 2) ? 12 : 400));
		break;
	}
}

static void subquery_predicate(struct gen *gen, const struct source *outer, const char *x)
{
	const struct source *inner = pick(gen);
	unsigned n = gen->names++;
	char y[16];
	snprintf(y, sizeof y, "s%u", n);
	switch (roll(gen, 6)) {
	case 0:
	case 1:
		put(gen, "%s.%s %sin (select %s.%s from %s %s where ", x, int_of(gen, outer),
		    roll(gen, 2) ? "not " : "", y, int_of(gen, inner), inner->table, y);
		predicate(gen, inner, y);
		if (roll(gen, 3) == 0) {
			put(gen, " and %s.%s = %s.%s", y, int_of(gen, inner), x, int_of(gen, outer));
		}
		put(gen, ")");
		break;
	case 2:
	case 3:
		put(gen, "%sexists (select 1 from %s %s where %s.%s %s %s.%s and ",
		    roll(gen, 2) ? "not " : "", inner->table, y, y, int_of(gen, inner),
		    roll(gen, 5) ? "=" : "<", x, int_of(gen, outer));
		predicate(gen, inner, y);
		put(gen, ")");
		break;
	case 4:
		put(gen, "%s.%s > (select %s(%s.%s) from %s %s where %s.%s = %s.%s)", x, int_of(gen, outer),
		    roll(gen, 2) ? "min" : "count", y, int_of(gen, inner), inner->table, y, y,
		    int_of(gen, inner), x, int_of(gen, outer));
		break;
	default:
		put(gen, "%s.%s < (select max(%s.%s) from %s %s)", x, int_of(gen, outer), y,
		    int_of(gen, inner), inner->table, y);
		break;
	}
}

struct from {
	const struct source *sources[4];
	char names[4][8];
	size_t count; /* visible ones */
};

static void relation(struct gen *gen, const struct source *source, const char *name)
{
	switch (roll(gen, 6)) {
	case 0:
		put(gen, "(select * from %s q where ", source->table);
		predicate(gen, source, "q");
		put(gen, ") %s", name);
		break;
	default:
		put(gen, "%s %s", source->table, name);
		break;
	}
}

static void join_condition(struct gen *gen, const struct from *from, const struct source *right,
                           const char *name)
{
	size_t l = roll(gen, (unsigned)from->count);
	const struct source *left = from->sources[l];
	const char *x = from->names[l];
	switch (roll(gen, 10)) {
	case 0:
		/* Other types than whole numbers: text, decimals of different scale. */
		put(gen, "%s.%s = %s.%s", x, left->text, name, right->text);
		break;
	case 1:
		put(gen, "%s.%s = %s.%s", x, left->number, name, right->number);
		break;
	case 2:
	case 3:
	case 4:
		/* The first columns are the keys of the standard layout. */
		put(gen, "%s.%s = %s.%s", x, left->ints[0], name, right->ints[0]);
		break;
	default:
		put(gen, "%s.%s %s %s.%s", x, int_of(gen, left),
		    roll(gen, 8) ? "=" : "is not distinct from", name, int_of(gen, right));
		break;
	}
	switch (roll(gen, 10)) {
	case 0:
		put(gen, " and %s.%s = %s.%s", x, int_of(gen, left), name, int_of(gen, right));
		break;
	case 1:
		put(gen, " and %s.%s < %s.%s", x, int_of(gen, left), name, int_of(gen, right));
		break;
	case 2:
		put(gen, " and ");
		predicate(gen, right, name);
		break;
	case 3:
		put(gen, " and ");
		predicate(gen, left, x);
		break;
	default:
		break;
	}
}

/* FROM and WHERE of one block. */
static struct from from_clause(struct gen *gen, size_t joins_max)
{
	static const char *const kinds[] = { "join",      "join",      "left join", "right join",
		                                 "full join", "semi join", "anti join", "left join" };
	struct from from = { .count = 1 };
	unsigned n = gen->names++;
	from.sources[0] = pick(gen);
	snprintf(from.names[0], sizeof from.names[0], "t%u", n);
	put(gen, " from ");
	relation(gen, from.sources[0], from.names[0]);
	size_t joins = roll(gen, (unsigned)joins_max + 1);
	for (size_t j = 0; j < joins; j++) {
		const char *kind = kinds[roll(gen, sizeof kinds / sizeof *kinds)];
		const struct source *right = pick(gen);
		char name[8];
		snprintf(name, sizeof name, "t%u", gen->names++);
		put(gen, " %s ", kind);
		relation(gen, right, name);
		put(gen, " on ");
		join_condition(gen, &from, right, name);
		if (kind[0] != 's' && kind[0] != 'a') {
			from.sources[from.count] = right;
			memcpy(from.names[from.count++], name, sizeof name);
		}
	}
	bool where = false;
	for (size_t i = 0; i < 3; i++) {
		if (roll(gen, 5) != 0) {
			continue;
		}
		size_t at = roll(gen, (unsigned)from.count);
		put(gen, where ? " and " : " where ");
		where = true;
		if (roll(gen, 3) == 0) {
			subquery_predicate(gen, from.sources[at], from.names[at]);
		} else {
			predicate(gen, from.sources[at], from.names[at]);
		}
	}
	return from;
}

/* The select list comes first in the text but is known last: it is put in front. */
static void prepend(struct gen *gen, size_t at, const char *text)
{
	char *rest = mg_strdup(gen->sb.ptr + at);
	gen->sb.len = at;
	gen->sb.ptr[at] = '\0';
	put(gen, "%s%s", text, rest);
	mg_free(rest);
}

static void column(struct gen *gen, struct mg_sb *out, const struct from *from)
{
	size_t t = roll(gen, (unsigned)from->count);
	mg_sb_addf(out, "%s.%s", from->names[t],
	           roll(gen, 3) ? int_of(gen, from->sources[t]) : from->sources[t]->ints[0]);
}

static void aggregate(struct gen *gen, struct mg_sb *out, const struct from *from)
{
	size_t t = roll(gen, (unsigned)from->count);
	const struct source *source = from->sources[t];
	const char *x = from->names[t];
	switch (roll(gen, 20)) {
	case 14:
		mg_sb_addf(out, "quantile_disc(%s.%s, 0.4)", x, int_of(gen, source));
		break;
	case 15:
		mg_sb_addf(out, "list(distinct %s.%s order by %s.%s)", x, source->ints[0], x,
		           source->ints[0]);
		break;
	case 16:
		mg_sb_addf(out, "arg_max(%s.%s, %s.%s)", x, source->unique, x, source->unique);
		break;
	case 17:
		mg_sb_addf(out, "count(distinct %s.%s) filter (where %s.%s > %u)", x, int_of(gen, source),
		           x, int_of(gen, source), roll(gen, 20));
		break;
	case 18:
		mg_sb_addf(out, "covar_pop(%s.%s, %s.%s)", x, int_of(gen, source), x, int_of(gen, source));
		break;
	case 19:
		mg_sb_addf(out, "sum(%s.%s + 0.5e0)", x, int_of(gen, source));
		break;
	case 0:
	case 1:
		mg_sb_add(out, "count(*)");
		break;
	case 2:
		mg_sb_addf(out, "sum(%s.%s)", x, source->number);
		break;
	case 3:
		mg_sb_addf(out, "avg(%s.%s)", x, source->number);
		break;
	case 4:
		mg_sb_addf(out, "count(distinct %s.%s)", x, int_of(gen, source));
		break;
	case 5:
		mg_sb_addf(out, "sum(distinct %s.%s)", x, int_of(gen, source));
		break;
	case 6:
		mg_sb_addf(out, "min(%s.%s)", x, int_of(gen, source));
		break;
	case 7:
		mg_sb_addf(out, "max(%s.%s)", x, int_of(gen, source));
		break;
	case 8:
		mg_sb_addf(out, "stddev(%s.%s)", x, source->number);
		break;
	case 9:
		mg_sb_addf(out, "median(%s.%s)", x, int_of(gen, source));
		break;
	case 10:
		mg_sb_addf(out, "count(%s.%s) filter (where %s.%s > %u)", x, int_of(gen, source), x,
		           int_of(gen, source), roll(gen, 50));
		break;
	case 11:
		mg_sb_addf(out, "bool_or(%s.%s > 5)", x, int_of(gen, source));
		break;
	case 12:
		mg_sb_addf(out, "string_agg(distinct %s.%s::varchar, ',' order by %s.%s::varchar)", x,
		           source->ints[0], x, source->ints[0]);
		break;
	default:
		mg_sb_addf(out, "sum(%s.%s) filter (where %s.%s is not null)", x, int_of(gen, source), x,
		           int_of(gen, source));
		break;
	}
}

static void grouped_block(struct gen *gen, size_t joins)
{
	size_t at = gen->sb.len;
	struct mg_sb list = { 0 };
	struct from from = from_clause(gen, joins);
	size_t keys = roll(gen, 4);
	struct mg_sb names[3] = { { 0 }, { 0 }, { 0 } };
	mg_sb_add(&list, "select ");
	for (size_t i = 0; i < keys && i < 3; i++) {
		column(gen, &names[i], &from);
		if (roll(gen, 6) == 0) {
			mg_sb_add(&names[i], " % 7");
		}
		mg_sb_addf(&list, "%s x%zu, ", mg_sb_text(&names[i]), i);
	}
	size_t aggs = 1 + roll(gen, 3);
	for (size_t i = 0; i < aggs; i++) {
		mg_sb_add(&list, i ? ", " : "");
		aggregate(gen, &list, &from);
		mg_sb_addf(&list, " y%zu", i);
	}
	if (keys > 3) {
		keys = 3;
	}
	if (keys > 0) {
		static const char *const shapes[] = { "", "", "", "rollup", "cube" };
		const char *shape = shapes[roll(gen, 5)];
		put(gen, shape[0] ? " group by %s(" : " group by %s", shape);
		for (size_t i = 0; i < keys; i++) {
			put(gen, "%s%s", i ? ", " : "", mg_sb_text(&names[i]));
		}
		put(gen, "%s", shape[0] ? ")" : "");
		if (roll(gen, 5) == 0) {
			put(gen, " having count(*) > %u", roll(gen, 4));
		}
	}
	prepend(gen, at, mg_sb_text(&list));
	mg_sb_fini(&list);
	for (size_t i = 0; i < 3; i++) {
		mg_sb_fini(&names[i]);
	}
}

static void plain_block(struct gen *gen, size_t joins, size_t columns, bool distinct)
{
	size_t at = gen->sb.len;
	struct mg_sb list = { 0 };
	struct from from = from_clause(gen, joins);
	mg_sb_add(&list, distinct ? "select distinct " : "select ");
	for (size_t i = 0; i < columns; i++) {
		mg_sb_add(&list, i ? ", " : "");
		column(gen, &list, &from);
		mg_sb_addf(&list, "::bigint x%zu", i);
	}
	prepend(gen, at, mg_sb_text(&list));
	mg_sb_fini(&list);
}

static void window_block(struct gen *gen)
{
	static const char *const functions[] = { "row_number()", "rank()",  "sum(%s)",
		                                     "count(*)",     "lag(%s)", "first_value(%s)",
		                                     "min(%s)",      "max(%s)", "ntile(3)",
		                                     "lead(%s, 2)" };
	const struct source *source = &sources[roll(gen, 2)];
	unsigned count = 1 + roll(gen, 2);
	put(gen, "select t.id, t.k");
	for (unsigned i = 0; i < count; i++) {
		const char *function = functions[roll(gen, sizeof functions / sizeof *functions)];
		const char *mark = strstr(function, "%s");
		put(gen, ", ");
		if (mark) {
			put(gen, "%.*s%s%s", (int)(mark - function), function, int_of(gen, source), mark + 2);
		} else {
			put(gen, "%s", function);
		}
		put(gen, " over (");
		unsigned parts = roll(gen, 3);
		for (unsigned p = 0; p < parts; p++) {
			put(gen, "%s%s", p ? ", " : "partition by ", int_of(gen, source));
		}
		put(gen, "%sorder by id%s)", parts ? " " : "", roll(gen, 2) ? " desc" : "");
	}
	put(gen, " from %s t where ", source->table);
	predicate(gen, source, "t");
}

static void set_block(struct gen *gen)
{
	static const char *const operators[] = { "union",     "union all",  "except",
		                                     "intersect", "except all", "intersect all" };
	size_t columns = 1 + roll(gen, 2);
	plain_block(gen, 1, columns, false);
	size_t count = 1 + roll(gen, 2);
	for (size_t i = 0; i < count; i++) {
		put(gen, " %s ", operators[roll(gen, 6)]);
		plain_block(gen, roll(gen, 2), columns, false);
	}
}

static void cte_block(struct gen *gen)
{
	const struct source *source = pick(gen);
	const char *key = int_of(gen, source);
	put(gen, "with w as %s(select t.%s wk, count(*) n, sum(t.%s) v from %s t group by 1) ",
	    roll(gen, 2) ? "materialized " : "", key, int_of(gen, source), source->table);
	switch (roll(gen, 4)) {
	case 0:
		put(gen, "select x.wk, x.n, y.v from w x join w y on x.wk = y.n");
		break;
	case 1:
		put(gen, "select x.wk, x.n, (select max(n) from w) m from w x where x.n > (select avg(n) "
		         "from w)");
		break;
	case 2:
		put(gen, "select a.id, w.n from a left join w on w.wk = a.%s", roll(gen, 2) ? "k" : "g");
		break;
	default:
		put(gen,
		    "select x.wk, count(*), sum(y.n) from w x full join w y on x.n = y.wk group by x.wk");
		break;
	}
}

static void scalar_block(struct gen *gen)
{
	const struct source *outer = &sources[roll(gen, 4)];
	const struct source *inner = pick(gen);
	static const char *const functions[] = { "count(*)", "max(y.%s)", "sum(y.%s)", "min(y.%s)" };
	const char *function = functions[roll(gen, 4)];
	const char *mark = strstr(function, "%s");
	put(gen, "select x.%s, (select ", outer->unique);
	if (mark) {
		put(gen, "%.*s%s%s", (int)(mark - function), function, int_of(gen, inner), mark + 2);
	} else {
		put(gen, "%s", function);
	}
	put(gen, " from %s y where y.%s %s x.%s", inner->table, int_of(gen, inner),
	    roll(gen, 4) ? "=" : "<", int_of(gen, outer));
	if (roll(gen, 2)) {
		put(gen, " and ");
		predicate(gen, inner, "y");
	}
	put(gen, ") v, x.%s %sin (select ", int_of(gen, outer), roll(gen, 2) ? "not " : "");
	inner = pick(gen);
	put(gen, "z.%s from %s z) w from %s x where ", int_of(gen, inner), inner->table, outer->table);
	predicate(gen, outer, "x");
}

/* Recursion over the edges, joined with what does not recur. */
static void recursive_block(struct gen *gen)
{
	const struct source *source = pick(gen);
	put(gen,
	    "with recursive w(n, l) as (select %u, 0 union %s select e.dst, l + 1 from w join edge e "
	    "on e.src = w.n where l < %u) ",
	    roll(gen, 5), roll(gen, 2) ? "all" : "", 2 + roll(gen, 4));
	if (roll(gen, 2)) {
		put(gen,
		    "select w.l, count(*), count(x.%s) from w left join %s x on x.%s = w.n group by w.l",
		    source->ints[0], source->table, int_of(gen, source));
	} else {
		put(gen, "select n, l from w where n %sin (select %s from %s)", roll(gen, 2) ? "not " : "",
		    int_of(gen, source), source->table);
	}
}

/* Limits, DISTINCT ON and lists below other operators. */
static void nested_block(struct gen *gen)
{
	const struct source *source = &sources[roll(gen, 2)];
	const char *key = int_of(gen, source);
	switch (roll(gen, 5)) {
	case 0:
		put(gen,
		    "select q.g, count(*), sum(q.id) from (select * from %s order by id %s limit %u) q "
		    "left join b on b.k = q.%s group by q.g",
		    source->table, roll(gen, 2) ? "desc" : "", 1 + roll(gen, 200), key);
		break;
	case 1:
		put(gen, "select distinct on (%s) %s x, id from %s order by %s, id desc", key, key,
		    source->table, key);
		break;
	case 2:
		put(gen,
		    "select u, count(*) from (select unnest(l) u, k from a where id < %u) q where q.k is "
		    "not null group by u",
		    50 + roll(gen, 500));
		break;
	case 3:
		put(gen,
		    "select x.id, y.n, y.m from %s x, lateral (select count(*) n, max(z.id) m from b z "
		    "where z.%s = x.%s) y where x.id < %u",
		    source->table, roll(gen, 2) ? "k" : "g", key, 100 + roll(gen, 500));
		break;
	default:
		put(gen,
		    "select %s x, g, grouping(%s, g), count(*), sum(id) from %s group by grouping sets "
		    "((%s, g), (%s), (g), ()) having count(*) > %u",
		    key, key, source->table, key, key, roll(gen, 3));
		break;
	}
}

char *bed_generate(uint64_t seed)
{
	struct gen gen = { .state = seed * 7919 };
	bool limit = roll(&gen, 5) == 0;
	if (limit) {
		put(&gen, "select * from (");
	}
	switch (roll(&gen, 15)) {
	case 0:
	case 1:
	case 2:
	case 3:
		grouped_block(&gen, 2);
		break;
	case 4:
	case 5:
		plain_block(&gen, 2, 1 + roll(&gen, 3), roll(&gen, 3) == 0);
		break;
	case 6:
	case 7:
		window_block(&gen);
		break;
	case 8:
	case 9:
		set_block(&gen);
		break;
	case 10:
		cte_block(&gen);
		break;
	case 11:
		recursive_block(&gen);
		break;
	case 12:
	case 13:
		nested_block(&gen);
		break;
	default:
		scalar_block(&gen);
		break;
	}
	if (limit) {
		put(&gen, ") order by all %slimit %u offset %u", roll(&gen, 2) ? "desc " : "",
		    1 + roll(&gen, 30), roll(&gen, 4));
	}
	return mg_sb_take(&gen.sb);
}
