/*
 * cmd_kv_spaces.c - `kv namespaces` and `kv namespace`: what namespaces hold, and what is wanted of
 * them, by SQL.
 */
#include "cli/cluster.h"
#include "cli/commands.h"

#include <string.h>

static const char *const settings[][2] = {
	{ "default-ttl", "default_ttl" },
	{ "quota", "quota_bytes" },
	{ "quota-keys", "quota_keys" },
};

/* NAME = VALUE, ... of the options that were given. */
static void add_settings(const struct mg_options *options, struct mg_sb *sql)
{
	const char *comma = "";

	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const char *value = mg_options_text(options, settings[i][0]);

		if (!value) {
			continue;
		}
		mg_sb_addf(sql, "%s%s = ", comma, settings[i][1]);
		if (mg_text_eq_nocase(value, "none")) {
			mg_sb_add(sql, "NULL");
		} else {
			mg_sb_add_literal(sql, value, strlen(value));
		}
		comma = ", ";
	}
}

int mg_command_kv_namespaces(const struct mg_options *options)
{
	return mg_cluster_run(options, NULL, "FROM cluster.kv_namespaces ORDER BY name");
}

int mg_command_kv_namespace(const struct mg_options *options)
{
	const char *name = mg_options_argument(options, 0);
	struct mg_sb wanted = { 0 }, alter = { 0 }, select = { 0 };

	add_settings(options, &wanted);
	mg_sb_add(&alter, "ALTER NAMESPACE ");
	mg_sb_add_ident(&alter, name);
	mg_sb_addf(&alter, " SET (%s)", mg_sb_text(&wanted));
	mg_sb_add(&select, "FROM cluster.kv_namespaces WHERE name = ");
	mg_sb_add_literal(&select, name, strlen(name));
	int exit_code = mg_cluster_run(options, wanted.len ? mg_sb_text(&alter) : NULL,
	                               mg_sb_text(&select));

	mg_sb_fini(&wanted);
	mg_sb_fini(&alter);
	mg_sb_fini(&select);
	return exit_code;
}
