/*
 * test_statement.c - the lexer and what statements are.
 *
 * Each fact about DuckDB 1.5.5's lexer that statement splitting stands on is here once; where
 * DuckDB itself can say so, it is asked (test_splits_like_the_engine).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/statement.h"
#include "store/duck.h"

#include <stdio.h>
#include <string.h>

/* Tokens of text as "kind:text kind:text". */
static void tokens_are(const char *text, const char *want)
{
	static const char kinds[] = "EWQSNPOB";
	struct mg_lexer lexer;
	struct mg_sb sb = { 0 };

	mg_lex_init(&lexer, mg_str(text));
	for (struct mg_token token = mg_lex_next(&lexer); token.kind != MG_T_END;
	     token = mg_lex_next(&lexer)) {
		mg_sb_addf(&sb, "%s%c:%.*s", sb.len ? " " : "", kinds[token.kind], MG_STR_ARG(token.text));
	}
	assert_string_equal(mg_sb_text(&sb), want);
	mg_sb_fini(&sb);
}

static void test_names(void **state)
{
	(void)state;
	tokens_are("a_1$b", "W:a_1$b");
	tokens_are("\xc3\xa9t\xc3\xa9", "W:\xc3\xa9t\xc3\xa9");
	tokens_are("a\xc2\x85"
	           "b",
	           "W:a\xc2\x85"
	           "b"); /* U+0085 is a letter */
	tokens_are("a\xe2\x80\xa8"
	           "b",
	           "W:a\xe2\x80\xa8"
	           "b");              /* U+2028 too */
	tokens_are("a$$b", "W:a$$b"); /* no quote inside of a name */
	tokens_are("\"a\"\"b;\"", "Q:\"a\"\"b;\"");
	tokens_are("\"open", "B:\"open");
}

static void test_blanks(void **state)
{
	static const char *const blanks[] = { " ",
		                                  "\t",
		                                  "\n",
		                                  "\r",
		                                  "\v",
		                                  "\f",
		                                  "\xc2\xa0",
		                                  "\xe2\x80\x80",
		                                  "\xe2\x80\x8b",
		                                  "\xe2\x80\xaf",
		                                  "\xe2\x81\x9f",
		                                  "\xe2\x81\xa0",
		                                  "\xe3\x80\x80",
		                                  "\xef\xbb\xbf" };

	(void)state;
	for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++) {
		char text[16];

		(void)snprintf(text, sizeof text, "a%sb", blanks[i]);
		tokens_are(text, "W:a W:b");
	}
	tokens_are("a--x;\nb", "W:a W:b");
	tokens_are("a/* ; /* nested */ ; */b", "W:a W:b");
	tokens_are("a /* open /* */", "W:a B:/* open /* */");
}

static void test_strings(void **state)
{
	(void)state;
	tokens_are("'a''b;'", "S:'a''b;'");
	tokens_are("'a\\'b", "S:'a\\' W:b");                      /* a backslash is itself ... */
	tokens_are("E'a\\';b' e'\\\\'", "S:E'a\\';b' S:e'\\\\'"); /* ... but in E'' */
	tokens_are("'a'\n'b'", "S:'a' S:'b'");
	tokens_are("x'41' b'01'", "W:x S:'41' W:b S:'01'");
	tokens_are("'open;", "B:'open;");
}

static void test_dollar_quotes(void **state)
{
	(void)state;
	tokens_are("$$a;b$$", "S:$$a;b$$");
	tokens_are("$x$a$$;$x$", "S:$x$a$$;$x$");
	tokens_are("$x$a$X$b$x$", "S:$x$a$X$b$x$"); /* case-sensitive */
	tokens_are("$\xc3\xa9$;$\xc3\xa9$", "S:$\xc3\xa9$;$\xc3\xa9$");
	tokens_are("$a1$;$a1$", "S:$a1$;$a1$");
	tokens_are("$1a$;$1a$", "P:$1a$ O:; P:$1a$"); /* a tag starts with a letter */
	tokens_are("1$$;$$", "N:1$$ O:; B:$$");       /* not after a digit */
	tokens_are("?$$;", "P:?$$ O:;");              /* not after ? */
	tokens_are("$x$ open $y$", "B:$x$ open $y$");
}

static void test_params_numbers_operators(void **state)
{
	(void)state;
	tokens_are("? ?1 $1 $name $\"na me\"", "P:? P:?1 P:$1 P:$name P:$\"na me\"");
	tokens_are(":name", "O:: W:name"); /* never a parameter */
	tokens_are("1_000 0x1F 1e5 1e-5 1.5E+3 .5 5.",
	           "N:1_000 N:0x1F N:1e5 N:1e-5 N:1.5E+3 N:.5 N:5.");
	tokens_are("1e--x\n", "N:1e");
	tokens_are("3*-/**/2", "N:3 O:*- N:2"); /* comments end an operator */
	tokens_are("1+--x\n2", "N:1 O:+ N:2");
	tokens_are("a->>'b'::x", "W:a O:->> S:'b' O::: W:x");
	tokens_are("f(a,b);", "W:f O:( W:a O:, W:b O:) O:;");
}

/* Statements of text, joined by "|". */
static void splits(const char *text, const char *want)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *list;
	struct mg_error err;
	struct mg_sb sb = { 0 };
	size_t count;

	assert_int_equal(mg_statement_split(arena, mg_str(text), &list, &count, &err), 0);
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(&sb, "%s%.*s", i ? "|" : "", MG_STR_ARG(list[i].text));
	}
	assert_string_equal(mg_sb_text(&sb), want);
	mg_sb_fini(&sb);
	mg_arena_free(arena);
}

static void split_fails(const char *text, size_t len)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *list;
	struct mg_error err;
	size_t count;

	assert_int_equal(mg_statement_split(arena, (struct mg_str){ text, len }, &list, &count, &err),
	                 MG_E_SYNTAX);
	mg_arena_free(arena);
}

static void test_split(void **state)
{
	(void)state;
	splits("select 1", "select 1");
	splits(" select 1 ; -- last\n select 2; ", "select 1|select 2");
	splits("select ';' ; select \";\"; select $$;$$ /* ; */ ; ",
	       "select ';'|select \";\"|select $$;$$");
	splits("", "");
	splits("-- only a comment", "");
	splits(";;select 1", "||select 1");
	split_fails("select 'a", 9);
	split_fails("select /* a", 11);
	split_fails("select $$a", 10);
	split_fails("select \"a", 9);
	split_fails("select 1\0; drop", 15);
}

static struct mg_statement one(const char *text, int want_code)
{
	static struct mg_arena *arena;
	struct mg_statement *list, none = { 0 };
	struct mg_error err;
	size_t count;

	mg_arena_free(arena);
	arena = mg_arena_new();
	assert_int_equal(mg_statement_split(arena, mg_str(text), &list, &count, &err), want_code);
	if (want_code) {
		return none;
	}
	assert_int_equal(count, 1);
	return list[0];
}

static void kind_is(const char *text, enum mg_statement_kind kind)
{
	assert_int_equal(one(text, 0).kind, kind);
}

static void test_kinds(void **state)
{
	static const char *const reads[] = {
		"select 1",
		"SELECT 1",
		"from t",
		"values (1)",
		"table t",
		"(select 1)",
		"pivot t on a",
		"unpivot t on a",
		"summarize t",
		"describe t",
		"show tables",
		"show t",
		"selec 1",
		"with a as (select 1) select 1",
		"with recursive a(x) using key (x) as materialized (select (1)) , b as (select ')') from a",
		"desc t"
	};
	static const char *const writes[] = {
		"insert into t values (1)",
		"update t set a=1",
		"delete from t",
		"merge into t",
		"with a as (select 1) insert into t from a",
		"WITH a(x) AS NOT MATERIALIZED (select 1), insert as (select 2) update t set a=1",
		"truncate t"
	};
	static const char *const refused[] = { "attach 'x'",
		                                   "detach x",
		                                   "pragma x",
		                                   "call x()",
		                                   "load x",
		                                   "install x",
		                                   "checkpoint",
		                                   "force checkpoint",
		                                   "vacuum",
		                                   "analyze",
		                                   "export database 'x'",
		                                   "import database 'x'",
		                                   "set variable x = 1" };
	static const char *const transactions[] = { "begin",      "start transaction", "commit",
		                                        "end",        "rollback",          "abort",
		                                        "savepoint a" };

	(void)state;
	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
		kind_is(reads[i], MG_S_SELECT);
	}
	for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
		kind_is(writes[i], MG_S_DML);
	}
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		kind_is(refused[i], MG_S_REFUSED);
	}
	for (size_t i = 0; i < sizeof transactions / sizeof *transactions; i++) {
		kind_is(transactions[i], MG_S_TRANSACTION);
	}
	kind_is("create table t (a int)", MG_S_DDL);
	kind_is("grant select on t to u", MG_S_DDL);
	kind_is("copy t to 'x'", MG_S_COPY);
	kind_is("prepare a as select 1", MG_S_PREPARE);
	kind_is("/* c */ Insert into t values (1)", MG_S_DML);
	assert_string_equal(one("/* c */ Insert into t values (1)", 0).verb, "INSERT");
}

static void body_is(const char *text, const char *body, bool analyze, bool json, bool verbose)
{
	struct mg_statement statement = one(text, 0);

	assert_int_equal(statement.kind, MG_S_EXPLAIN);
	assert_true(mg_str_eq(statement.body, mg_str(body)));
	assert_int_equal(statement.analyze, analyze);
	assert_int_equal(statement.json, json);
	assert_int_equal(statement.verbose, verbose);
}

static void test_explain(void **state)
{
	(void)state;
	body_is("explain select 1", "select 1", false, false, false);
	body_is("EXPLAIN ANALYZE select 1", "select 1", true, false, false);
	body_is("explain verbose select 1", "select 1", false, false, true);
	body_is("explain analyze verbose from t", "from t", true, false, true);
	body_is("explain (analyze, format json) select 1", "select 1", true, true, false);
	body_is("explain (FORMAT 'json', verbose true) select 1", "select 1", false, true, true);
	body_is("explain (analyze false, format text) select 1", "select 1", false, false, false);
	body_is("explain (select 1)", "(select 1)", false, false, false);
	body_is("explain -- why\n select ';'", "-- why\n select ';'", false, false, false);
	(void)one("explain", MG_E_SYNTAX);
	(void)one("explain analyze", MG_E_SYNTAX);
	(void)one("explain (analyze, what) select 1", MG_E_SYNTAX);
	(void)one("explain (format graphviz) select 1", MG_E_UNSUPPORTED);
}

static void set_is(const char *text, enum mg_statement_kind kind, const char *name,
                   const char *value)
{
	struct mg_statement statement = one(text, 0);

	assert_int_equal(statement.kind, kind);
	assert_string_equal(statement.name, name);
	assert_string_equal(statement.value, value);
}

static void test_settings(void **state)
{
	(void)state;
	set_is("set distributed = false", MG_S_SET, "distributed", "false");
	set_is("SET strategy TO 'cut'", MG_S_SET, "strategy", "cut");
	set_is("set session max_staleness='5''s'", MG_S_SET, "max_staleness", "5's");
	set_is("set x = -5", MG_S_SET, "x", "-5");
	set_is("set search_path = a, \"b\"", MG_S_SET, "search_path", "a, \"b\"");
	set_is("set default_partitioning = 'primary key'", MG_S_SET, "default_partitioning",
	       "primary key");
	set_is("set time zone 'Europe/Berlin'", MG_S_SET, "timezone", "Europe/Berlin");
	set_is("set TimeZone = 'UTC'", MG_S_SET, "TimeZone", "UTC");
	set_is("set a.b = 1", MG_S_SET, "a.b", "1");
	set_is("reset strategy", MG_S_RESET, "strategy", "");
	set_is("reset local \"x\"", MG_S_RESET, "x", "");
	set_is("show strategy", MG_S_SHOW_SETTING, "strategy", "");
	set_is("show time zone", MG_S_SHOW_SETTING, "timezone", "");
	set_is("show all", MG_S_SHOW_SETTING, "all", "");
	set_is("show all tables", MG_S_SELECT, "", "");
	set_is("cancel 'abc'", MG_S_CANCEL, "abc", "");
	set_is("CANCEL QUERY 'abc'", MG_S_CANCEL, "abc", "");
	set_is("kill 'c-1'", MG_S_KILL, "c-1", "");
	set_is("kill connection 7", MG_S_KILL, "7", "");
	set_is("use main", MG_S_USE, "main", "");
	set_is("alter namespace a set (quota_keys = 1)", MG_S_NAMESPACE, "", "");
	set_is("drop namespace a", MG_S_NAMESPACE, "", "");
	set_is("alter table namespace add b integer", MG_S_DDL, "", "");
	set_is("create table namespace (a integer)", MG_S_DDL, "", "");
	(void)one("set", MG_E_SYNTAX);
	(void)one("set x", MG_E_SYNTAX);
	(void)one("set x =", MG_E_SYNTAX);
	(void)one("kill", MG_E_SYNTAX);
	(void)one("kill 'a' 'b'", MG_E_SYNTAX);
}

static void test_long_values_are_refused(void **state)
{
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof text);
	memcpy(text, "set a = '", 9);
	text[sizeof text - 2] = '\'';
	text[sizeof text - 1] = '\0';
	(void)one(text, MG_E_LIMIT);
}

static void test_complete(void **state)
{
	(void)state;
	assert_true(mg_statement_complete(MG_STR("select 1;")));
	assert_true(mg_statement_complete(MG_STR("select 1; -- done")));
	assert_true(mg_statement_complete(MG_STR("select 1\n/\n")));
	assert_true(mg_statement_complete(MG_STR("select 1\n / ")));
	assert_false(mg_statement_complete(MG_STR("select 1")));
	assert_false(mg_statement_complete(MG_STR("select 1; select 2")));
	assert_false(mg_statement_complete(MG_STR("select ';")));
	assert_false(mg_statement_complete(MG_STR("select $$;")));
	assert_false(mg_statement_complete(MG_STR("select /* ; ")));
	assert_false(mg_statement_complete(MG_STR("select 'a\n/\n")));
	assert_false(mg_statement_complete(MG_STR("select 6 / ")));
	assert_false(mg_statement_complete(MG_STR("/")));
	assert_false(mg_statement_complete(MG_STR("")));
}

/* DuckDB finds as many statements as we do: mg_duck_describe refuses more than one. */
static void test_splits_like_the_engine(void **state)
{
	static const char *const ones[] = { "select ';'",
		                                "select \";\" from (select 1 as \";\")",
		                                "select $$;$$",
		                                "select $a$;$$;$a$",
		                                "select 1 /* ; /* ; */ ; */",
		                                "select E'\\';'",
		                                "select 1 -- ;",
		                                "select 'a\\'",
		                                "select 1 as a\xe2\x80\xa8"
		                                "b",
		                                "select\xc2\xa0"
		                                "1",
		                                "select 1 as a$$b" };
	const struct mg_duck_options options = { .threads = 1 };
	struct mg_arena *arena = mg_arena_new();
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_error err;

	(void)state;
	assert_int_equal(mg_duck_open(&duck, &options, &err), 0);
	assert_int_equal(mg_duck_connect(duck, &conn, &err), 0);
	for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
		const char **names, **types;
		struct mg_statement *list;
		size_t count;

		assert_int_equal(mg_statement_split(arena, mg_str(ones[i]), &list, &count, &err), 0);
		assert_int_equal(count, 1);
		if (mg_duck_describe(conn, arena, ones[i], &count, &names, &types, &err)) {
			fail_msg("%s: %s", ones[i], err.message);
		}
	}
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	mg_arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_blanks),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_dollar_quotes),
		cmocka_unit_test(test_params_numbers_operators),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_long_values_are_refused),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_splits_like_the_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
