/*
 * plandb_raw.c - what a plan must not hold when the optimizer has computed its constants, and when
 * it has not.
 *
 * Pure; any thread.  Depth is that of the JSON, which its reader bounds.
 */
#include "sql/plandb_int.h"

#include <string.h>

const char *mg_plandb__raw_type(const struct mg_json *json)
{
	static const char *const raw[] = { "BIT", "BIGNUM" };
	const char *id = mg_json_is(json, MG_JSON_OBJECT) ? mg_json_get_text(json, "id") : NULL;

	for (size_t i = 0; id && i < sizeof raw / sizeof *raw; i++) {
		if (strcmp(id, raw[i]) == 0) {
			return raw[i];
		}
	}
	mg_json_each(kid, json) {
		const char *found = mg_plandb__raw_type(kid);

		if (found) {
			return found;
		}
	}
	return NULL;
}

bool mg_plandb__has_moments(const struct mg_json *json)
{
	static const char *const moments[] = { "now",          "get_current_timestamp",
		                                   "today",        "transaction_timestamp",
		                                   "current_date", "current_timestamp",
		                                   "current_time", "current_localtimestamp",
		                                   "txid_current", "current_localtime",
		                                   "age",          "get_current_time" };
	const char *cls =
		mg_json_is(json, MG_JSON_OBJECT) ? mg_json_get_text(json, "expression_class") : NULL;
	const char *name =
		cls && strcmp(cls, "BOUND_FUNCTION") == 0 ? mg_json_get_text(json, "name") : NULL;
	bool found = false;

	for (size_t i = 0; name && i < sizeof moments / sizeof *moments; i++) {
		found = found || strcmp(name, moments[i]) == 0;
	}
	mg_json_each(kid, json) {
		found = found || mg_plandb__has_moments(kid);
	}
	return found;
}
