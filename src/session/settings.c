/*
 * settings.c - one table of settings, each with a parser and a printer.
 *
 * Rule: what get prints, set takes, and a failed set changes nothing.
 */
#include "session/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct setting {
	const char *name, *standard, *values, *description;
	bool (*set)(struct mg_settings *settings, const char *value);
	void (*get)(const struct mg_settings *settings, struct mg_sb *value);
};

static bool parse_bool(const char *text, bool *value)
{
	static const char *const words[] = { "false", "true", "off", "on", "0", "1", "no", "yes" };

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (mg_text_eq_nocase(text, words[i])) {
			*value = i % 2 == 1;
			return true;
		}
	}
	return false;
}

/* Index of text in words, or -1. */
static int parse_word(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_text_eq_nocase(text, words[i])) {
			return (int)i;
		}
	}
	return -1;
}

bool mg_duration_parse(const char *text, uint64_t *ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "", 1 },        { "ms", 1 },    { "s", 1000 },        { "sec", 1000 },
		          { "min", 60000 }, { "m", 60000 }, { "minutes", 60000 }, { "seconds", 1000 },
		          { "h", 3600000 } };
	uint64_t number = 0;
	const char *at = text;

	if (!isdigit((unsigned char)*at)) {
		return false;
	}
	for (; isdigit((unsigned char)*at); at++) {
		number = number * 10 + (uint64_t)(*at - '0');
		if (number > UINT32_MAX) {
			return false;
		}
	}
	while (*at == ' ') {
		at++;
	}
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (mg_text_eq_nocase(at, units[i].name)) {
			*ms = number * units[i].ms;
			return true;
		}
	}
	return false;
}

static void print_duration(struct mg_sb *sb, uint64_t ms)
{
	if (ms % 1000 == 0) {
		mg_sb_addf(sb, "%llus", (unsigned long long)(ms / 1000));
	} else {
		mg_sb_addf(sb, "%llums", (unsigned long long)ms);
	}
}

/* ---- each setting ---- */

static bool set_distributed(struct mg_settings *settings, const char *value)
{
	bool on;

	if (mg_text_eq_nocase(value, "force")) {
		settings->run.distributed = MG_DISTRIBUTED_FORCE;
		return true;
	}
	if (!parse_bool(value, &on)) {
		return false;
	}
	settings->run.distributed = on ? MG_DISTRIBUTED_TRUE : MG_DISTRIBUTED_FALSE;
	return true;
}

static void get_distributed(const struct mg_settings *settings, struct mg_sb *value)
{
	static const char *const words[] = { "false", "true", "force" };

	mg_sb_add(value, words[settings->run.distributed]);
}

static bool set_summarize(struct mg_settings *settings, const char *value)
{
	return parse_bool(value, &settings->run.summarize);
}

static void get_summarize(const struct mg_settings *settings, struct mg_sb *value)
{
	mg_sb_add(value, settings->run.summarize ? "true" : "false");
}

/* In the order of enum mg_strategy. */
static const char *const strategies[] = { "auto",      "local",       "cut",
	                                      "broadcast", "repartition", "gather" };
_Static_assert(sizeof strategies / sizeof strategies[0] == MG_STRATEGY_GATHER + 1, "one word each");

static bool set_strategy(struct mg_settings *settings, const char *value)
{
	int index = parse_word(value, strategies, sizeof strategies / sizeof strategies[0]);

	if (index >= 0) {
		settings->run.strategy = (enum mg_strategy)index;
	}
	return index >= 0;
}

static void get_strategy(const struct mg_settings *settings, struct mg_sb *value)
{
	mg_sb_add(value, strategies[settings->run.strategy]);
}

static const char *const consistencies[] = { "linearizable", "bounded", "any" };

static bool set_read_consistency(struct mg_settings *settings, const char *value)
{
	int index = parse_word(value, consistencies, sizeof consistencies / sizeof consistencies[0]);

	if (index >= 0) {
		settings->run.consistency = (enum mg_consistency)index;
	}
	return index >= 0;
}

static void get_read_consistency(const struct mg_settings *settings, struct mg_sb *value)
{
	mg_sb_add(value, consistencies[settings->run.consistency]);
}

static bool set_max_staleness(struct mg_settings *settings, const char *value)
{
	return mg_duration_parse(value, &settings->run.max_staleness_ms);
}

static void get_max_staleness(const struct mg_settings *settings, struct mg_sb *value)
{
	print_duration(value, settings->run.max_staleness_ms);
}

static bool set_idle_in_transaction(struct mg_settings *settings, const char *value)
{
	return mg_duration_parse(value, &settings->idle_in_transaction_ms);
}

static void get_idle_in_transaction(const struct mg_settings *settings, struct mg_sb *value)
{
	print_duration(value, settings->idle_in_transaction_ms);
}

static bool set_statement_timeout(struct mg_settings *settings, const char *value)
{
	return mg_duration_parse(value, &settings->run.timeout_ms);
}

static void get_statement_timeout(const struct mg_settings *settings, struct mg_sb *value)
{
	print_duration(value, settings->run.timeout_ms);
}

/* Only the shape is checked here, so that a name can never leave its quotes; the engine knows which
 * zones there are, and says so when a statement runs. */
static bool set_timezone(struct mg_settings *settings, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || len >= sizeof settings->run.timezone) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)value[i]) && !strchr("/_+-:", value[i])) {
			return false;
		}
	}
	memcpy(settings->run.timezone, value, len + 1);
	return true;
}

static void get_timezone(const struct mg_settings *settings, struct mg_sb *value)
{
	mg_sb_add(value, settings->run.timezone[0] ? settings->run.timezone : "UTC");
}

static bool set_default_partitioning(struct mg_settings *settings, const char *value)
{
	if (!mg_text_eq_nocase(value, "none") && !mg_text_eq_nocase(value, "primary key")) {
		return false;
	}
	settings->partition_by_primary_key = mg_text_eq_nocase(value, "primary key");
	return true;
}

static void get_default_partitioning(const struct mg_settings *settings, struct mg_sb *value)
{
	mg_sb_add(value, settings->partition_by_primary_key ? "primary key" : "none");
}

static const struct setting table[] = {
	{ "default_partitioning", "none", "'none' or 'primary key'",
	  "how CREATE TABLE without PARTITIONED BY places rows", set_default_partitioning,
	  get_default_partitioning },
	{ "distributed", "true", "true, false or force",
	  "whether workers take part; force runs the statement on every shard as it stands",
	  set_distributed, get_distributed },
	{ "idle_in_transaction_timeout", "600s", "a time such as '10min', 0 for none",
	  "rolls back a transaction that waits longer for its next statement", set_idle_in_transaction,
	  get_idle_in_transaction },
	{ "max_staleness", "5s", "a time such as '5s'", "how old a bounded read may be",
	  set_max_staleness, get_max_staleness },
	{ "read_consistency", "linearizable", "'linearizable', 'bounded' or 'any'",
	  "how fresh a read is", set_read_consistency, get_read_consistency },
	{ "statement_timeout", "0s", "a time such as '30s', 0 for none",
	  "ends a statement that takes longer", set_statement_timeout, get_statement_timeout },
	{ "strategy", "auto", "'auto', 'local', 'cut', 'broadcast', 'repartition' or 'gather'",
	  "forces a way to run distributed statements", set_strategy, get_strategy },
	{ "summarize", "true", "true or false",
	  "false returns partial results unmerged, with a column shard", set_summarize, get_summarize },
	{ "TimeZone", "UTC", "the name of a time zone", "time zone of TIMESTAMP WITH TIME ZONE",
	  set_timezone, get_timezone },
};
#define SETTING_COUNT (sizeof table / sizeof table[0])

/* Names that a user of DuckDB may try; the rest of its settings is unknown here, which is as good.
 */
static const char *const engine_settings[] = {
	"access_mode",
	"allow_community_extensions",
	"allow_persistent_secrets",
	"allow_unsigned_extensions",
	"allowed_directories",
	"allowed_paths",
	"autoinstall_known_extensions",
	"autoload_known_extensions",
	"calendar",
	"catalog_error_max_schemas",
	"checkpoint_threshold",
	"custom_extension_repository",
	"default_collation",
	"default_null_order",
	"default_order",
	"disabled_filesystems",
	"disabled_optimizers",
	"enable_external_access",
	"enable_logging",
	"enable_object_cache",
	"enable_profiling",
	"enable_progress_bar",
	"errors_as_json",
	"explain_output",
	"extension_directory",
	"file_search_path",
	"home_directory",
	"http_proxy",
	"integer_division",
	"lock_configuration",
	"log_query_path",
	"logging_level",
	"logging_storage",
	"max_memory",
	"max_temp_directory_size",
	"memory_limit",
	"password",
	"preserve_insertion_order",
	"profile_output",
	"profiling_mode",
	"profiling_output",
	"s3_access_key_id",
	"s3_endpoint",
	"s3_region",
	"s3_secret_access_key",
	"schema",
	"search_path",
	"secret_directory",
	"storage_compatibility_version",
	"temp_directory",
	"threads",
	"user",
	"username",
	"wal_autocheckpoint",
	"worker_threads",
};

static const struct setting *find(const char *name, struct mg_error *err)
{
	struct mg_sb names = { 0 };

	for (size_t i = 0; i < SETTING_COUNT; i++) {
		if (mg_text_eq_nocase(name, table[i].name)) {
			return &table[i];
		}
	}
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		mg_sb_addf(&names, "%s%s", i ? ", " : "", table[i].name);
	}
	if (parse_word(name, engine_settings, sizeof engine_settings / sizeof engine_settings[0]) >=
	    0) {
		mg_error_set(err, MG_E_DENIED, "setting \"%s\" belongs to the engine", name);
	} else {
		mg_error_set(err, MG_E_USAGE, "unknown setting \"%s\"", name);
	}
	mg_error_hint(err, "A session can set: %s.", mg_sb_text(&names));
	mg_sb_fini(&names);
	return NULL;
}

void mg_settings_init(struct mg_settings *settings)
{
	memset(settings, 0, sizeof *settings);
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		(void)table[i].set(settings, table[i].standard);
	}
}

int mg_settings_set(struct mg_settings *settings, const char *name, const char *value,
                    struct mg_error *err)
{
	const struct setting *setting = find(name, err);

	if (!setting) {
		return err ? err->code : MG_E_USAGE;
	}
	if (mg_text_eq_nocase(value, "default")) {
		value = setting->standard;
	}
	if (!setting->set(settings, value)) {
		return mg_error_set(err, MG_E_USAGE, "setting \"%s\" takes %s, not \"%s\"", setting->name,
		                    setting->values, value);
	}
	return 0;
}

int mg_settings_reset(struct mg_settings *settings, const char *name, struct mg_error *err)
{
	if (mg_text_eq_nocase(name, "all")) {
		mg_settings_init(settings);
		return 0;
	}
	return mg_settings_set(settings, name, "default", err);
}

int mg_settings_get(const struct mg_settings *settings, const char *name, struct mg_sb *value,
                    struct mg_error *err)
{
	const struct setting *setting = find(name, err);

	if (!setting) {
		return err ? err->code : MG_E_USAGE;
	}
	setting->get(settings, value);
	return 0;
}

bool mg_settings_at(size_t index, const char **name, const char **standard,
                    const char **description)
{
	if (index >= SETTING_COUNT) {
		return false;
	}
	*name = table[index].name;
	*standard = table[index].standard;
	*description = table[index].description;
	return true;
}

int mg_settings_show(const struct mg_settings *settings, const char *name,
                     struct mg_text_rows *rows, struct mg_error *err)
{
	bool all = mg_text_eq_nocase(name, "all");
	int code = 0;

	for (size_t i = 0; !code && i < (all ? SETTING_COUNT : 1); i++) {
		const char *one = all ? table[i].name : name;
		struct mg_sb value = { 0 };

		code = mg_settings_get(settings, one, &value, err);
		if (!code && all) {
			struct mg_str values[] = { mg_str(one), mg_str(mg_sb_text(&value)),
				                       mg_str(table[i].description) };

			code = mg_text_rows_add(rows, values, err);
		} else if (!code) {
			struct mg_str text = mg_str(mg_sb_text(&value));

			code = mg_text_rows_add(rows, &text, err);
		}
		mg_sb_fini(&value);
	}
	return code;
}
