/*
 * test_yaml.c - YAML that people write, as JSON; what is no plain YAML is refused with its place.
 */
#include "cli/yaml.h"

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static void expect(const char *yaml, const char *json)
{
	struct mg_sb out = { 0 };
	struct mg_error err = { 0 };

	if (mg_yaml_to_json(yaml, strlen(yaml), &out, &err)) {
		fail_msg("%s: %s", yaml, err.message);
	}
	assert_string_equal(mg_sb_text(&out), json);
	mg_sb_fini(&out);
}

static void refuse(const char *yaml, const char *says)
{
	struct mg_sb out = { 0 };
	struct mg_error err = { 0 };

	assert_int_equal(mg_yaml_to_json(yaml, strlen(yaml), &out, &err), MG_E_USAGE);
	if (!strstr(err.message, says)) {
		fail_msg("%s: %s", yaml, err.message);
	}
	mg_sb_fini(&out);
}

static void test_a_model(void **state)
{
	(void)state;
	expect("# a comment\n"
	       "tables:\n"
	       "  - name: city   # one table\n"
	       "    files: [city.csv, \"more *.csv\"]\n"
	       "    columns:\n"
	       "      id: BIGINT\n"
	       "      price: DECIMAL(5, 2)\n"
	       "      'no': VARCHAR\n"
	       "    partitioned_by: [id]\n"
	       "  - {name: empty, files: []}\n",
	       "{\"tables\": [{\"name\": \"city\", \"files\": [\"city.csv\", \"more *.csv\"], "
	       "\"columns\": {\"id\": \"BIGINT\", \"price\": \"DECIMAL(5, 2)\", \"no\": "
	       "\"VARCHAR\"}, \"partitioned_by\": [\"id\"]}, {\"name\": \"empty\", "
	       "\"files\": []}]}");
}

static void test_scalars(void **state)
{
	(void)state;
	expect("[true, False, null, ~, 1, -2.5, 1e9, 0]",
	       "[true, false, null, null, 1, -2.5, 1e9, 0]");
	expect("[yes, NO, on, 1_000, 0x1F, 01, 1., .5, -, \"1\", 'true', 1.2.3]",
	       "[\"yes\", \"NO\", \"on\", \"1_000\", \"0x1F\", \"01\", \"1.\", \".5\", \"-\", "
	       "\"1\", \"true\", \"1.2.3\"]");
	expect("1: one\ntrue: two\nempty:\n", "{\"1\": \"one\", \"true\": \"two\", \"empty\": null}");
	expect("a: |\n  two\n  lines\n", "{\"a\": \"two\\nlines\\n\"}");
	/* JSON is YAML */
	expect("{\"tables\": [1, {\"a\": null}]}", "{\"tables\": [1, {\"a\": null}]}");
}

static void test_refused(void **state)
{
	(void)state;
	refuse("", "nothing in it");
	refuse("a: &x 1\nb: *x\n", "line 1, column 4: anchors");
	refuse("a: !!int 1\n", "tags");
	refuse("a: 1\n---\nb: 2\n", "line 2, column 1: a second document");
	refuse("[1]: x\n", "a key is a text");
	refuse("a: [1, 2\n", "line 2");
	refuse("a: b: c\n", "line 1");
	refuse("\ta: 1\n", "line 1");
	char deep[201];

	memset(deep, '[', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	refuse(deep, "nested too deep");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_model),
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
