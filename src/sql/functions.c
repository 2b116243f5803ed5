/*
 * functions.c - every function of DuckDB 1.5.5 and of ours, by what a client's text may do with it.
 *
 * pure       depends on the arguments, the clock or chance alone: text may run in the engine
 * planned    depends on the session or the catalog: the planning database evaluates it
 * catalog    (table functions) lists the catalog: the planning database answers
 * denied     files, secrets, settings, logs, raw state, other SQL, waiting: no client may call it
 *
 * The lists are sorted, and test_wall holds them against duckdb_functions(): a function that a new
 * version brings stands on no list, counts as unknown, and fails the test until somebody decides.
 * Pure; any thread.
 */
#include "sql/wall.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

static const char *const pure_functions[] = {
	"!__postfix", "!~~", "!~~*", "%", "&", "&&", "*", "**", "+", "-", "->>", "/", "//", "<->",
	"<<", "<=>", "<@", ">>", "@", "@>", "^", "^@", "abs", "acos", "acosh", "add", "age",
	"aggregate", "ago", "alias", "any_value", "apply", "approx_count_distinct", "approx_quantile",
	"approx_top_k", "arbitrary", "arcmin", "arcsec", "arg_max", "arg_max_null",
	"arg_max_nulls_last", "arg_min",
	"arg_min_null", "arg_min_nulls_last", "argmax", "argmin", "array_agg", "array_aggr",
	"array_aggregate", "array_append", "array_apply", "array_cat", "array_concat",
	"array_contains", "array_cosine_distance", "array_cosine_similarity", "array_cross_product",
	"array_distance", "array_distinct", "array_dot_product", "array_extract", "array_filter",
	"array_grade_up", "array_has", "array_has_all", "array_has_any", "array_indexof",
	"array_inner_product", "array_intersect", "array_length", "array_negative_dot_product",
	"array_negative_inner_product", "array_pop_back", "array_pop_front", "array_position",
	"array_prepend", "array_push_back", "array_push_front", "array_reduce", "array_resize",
	"array_reverse", "array_reverse_sort", "array_select", "array_slice", "array_sort",
	"array_to_json", "array_to_string", "array_to_string_comma_default", "array_transform",
	"array_unique", "array_value", "array_where", "array_zip", "ascii", "asin", "asinh", "atan",
	"atan2", "atanh", "avg", "bar", "base64", "bin", "bit_and", "bit_count", "bit_length",
	"bit_or", "bit_position", "bit_xor", "bitstring", "bitstring_agg", "bool_and", "bool_or",
	"cardinality", "cast_to_type", "cbrt", "ceil", "ceiling", "century", "char_length",
	"character_length", "chr", "concat", "concat_ws", "constant_or_null", "contains", "corr",
	"cos", "cosh", "cot", "count", "count_if", "count_star", "countif", "covar_pop", "covar_samp",
	"create_sort_key", "crossmatch", "cume_dist", "current_date", "current_localtime",
	"current_localtimestamp",
	"current_time", "current_timestamp", "damerau_levenshtein", "date_add", "date_diff",
	"date_part", "date_sub", "date_trunc", "datediff", "datepart", "datesub", "datetrunc", "day",
	"dayname", "dayofmonth", "dayofweek", "dayofyear", "days_in_month", "decade", "decode",
	"degree", "degrees", "dense_rank", "divide", "editdist3", "element_at", "encode", "ends_with",
	"entropy", "enum_code", "enum_first", "enum_last", "enum_range", "enum_range_boundary",
	"epoch", "epoch_ms", "epoch_ns", "epoch_us", "equi_width_bins", "era", "error", "even", "exp",
	"factorial", "favg", "fdiv", "fill", "filter", "first", "first_value", "flatten", "floor",
	"flux2mag", "fmod", "format", "format_bytes", "formatreadabledecimalsize",
	"formatreadablesize",
	"from_base64", "from_binary", "from_hex", "from_json", "from_json_strict", "fsum", "gamma",
	"gcd", "gen_random_uuid", "generate_series", "generate_subscripts", "geomean",
	"geometric_mean", "get_bit", "get_current_time", "get_current_timestamp", "grade_up",
	"greatest", "greatest_common_divisor", "group_concat", "grouping", "grouping_id", "hamming",
	"hash", "hex", "histogram", "histogram_exact", "hour", "icu_sort_key", "ifnull",
	"ilike_escape", "instr", "is_histogram_other_bin", "isfinite", "isinf", "isnan", "isodow",
	"isoyear", "jaccard", "jaro_similarity", "jaro_winkler_similarity", "json", "json_array",
	"json_array_length", "json_contains", "json_exists", "json_extract", "json_extract_path",
	"json_extract_path_text", "json_extract_string", "json_group_array", "json_group_object",
	"json_group_structure", "json_keys", "json_merge_patch", "json_object", "json_pretty",
	"json_quote", "json_structure", "json_transform", "json_transform_strict", "json_type",
	"json_valid", "json_value", "julian", "kahan_sum", "kurtosis", "kurtosis_pop", "lag", "last",
	"last_day", "last_value", "lcase", "lcm", "lead", "least", "least_common_multiple", "left",
	"left_grapheme", "len", "length", "length_grapheme", "levenshtein", "lgamma", "like_escape",
	"list", "list_aggr", "list_aggregate", "list_any_value", "list_append", "list_apply",
	"list_approx_count_distinct", "list_avg", "list_bit_and", "list_bit_or", "list_bit_xor",
	"list_bool_and", "list_bool_or", "list_cat", "list_comprehension", "list_concat",
	"list_contains", "list_cosine_distance", "list_cosine_similarity", "list_count",
	"list_distance", "list_distinct", "list_dot_product", "list_element", "list_entropy",
	"list_extract", "list_filter", "list_first", "list_grade_up", "list_has", "list_has_all",
	"list_has_any", "list_histogram", "list_indexof", "list_inner_product", "list_intersect",
	"list_kurtosis", "list_kurtosis_pop", "list_last", "list_mad", "list_max", "list_median",
	"list_min", "list_mode", "list_negative_dot_product", "list_negative_inner_product",
	"list_pack", "list_position", "list_prepend", "list_product", "list_reduce", "list_resize",
	"list_reverse", "list_reverse_sort", "list_select", "list_sem", "list_skewness", "list_slice",
	"list_sort", "list_stddev_pop", "list_stddev_samp", "list_string_agg", "list_sum",
	"list_transform", "list_unique", "list_value", "list_var_pop", "list_var_samp", "list_where",
	"list_zip", "listagg", "ln", "localtime", "localtimestamp", "log", "log10", "log2", "lower",
	"lpad", "ltrim", "mad", "make_date", "make_time", "make_timestamp", "make_timestamp_ms",
	"make_timestamp_ns", "make_timestamptz", "map", "map_concat", "map_contains",
	"map_contains_entry", "map_contains_value", "map_entries", "map_extract", "map_extract_value",
	"map_from_entries", "map_keys", "map_values", "max", "max_by", "md5", "md5_number",
	"md5_number_lower", "md5_number_upper", "mean", "median", "mg_histogram",
	"mg_histogram2d", "mg_histogram2d_sum", "mg_histogram_sum", "microsecond", "millennium",
	"millisecond", "min", "min_by", "minmax", "minute", "mismatches", "mod", "mode", "month",
	"monthname",
	"multiply", "nanosecond", "nextafter", "nfc_normalize", "normalized_interval",
	"not_ilike_escape", "not_like_escape", "now", "nth_value", "ntile", "nullif", "octet_length",
	"ord", "parse_dirname", "parse_dirpath", "parse_filename", "parse_formatted_bytes",
	"parse_path", "percent_rank", "percentile_cont", "percentile_disc", "pi", "position", "pow",
	"power", "prefix", "printf", "product", "quantile", "quantile_cont", "quantile_disc",
	"quarter", "radians", "random", "range", "rank", "rank_dense", "reduce", "regexp_escape",
	"regexp_extract", "regexp_extract_all", "regexp_full_match", "regexp_matches",
	"regexp_replace", "regexp_split_to_array", "regexp_split_to_table", "regr_avgx", "regr_avgy",
	"regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy",
	"remap_struct", "repeat", "replace", "reservoir_quantile", "reverse", "right",
	"right_grapheme", "round", "round_even", "roundbankers", "row", "row_number", "row_to_json",
	"rpad", "rtrim", "second", "sem", "set_bit", "sha1", "sha256", "sign", "signbit", "sin",
	"sinh", "skewness", "split", "split_part", "sqrt", "st_asbinary", "st_astext", "st_aswkb",
	"st_aswkt", "st_geomfromwkb", "st_intersects_extent", "starts_with", "stddev", "stddev_pop",
	"stddev_samp", "str_split", "str_split_regex", "strftime", "string_agg", "string_split",
	"string_split_regex", "string_to_array", "strip_accents", "strlen", "strpos", "strptime",
	"struct_concat", "struct_contains", "struct_extract", "struct_extract_at", "struct_has",
	"struct_indexof", "struct_insert", "struct_keys", "struct_pack", "struct_position",
	"struct_update", "struct_values", "substr", "substring", "substring_grapheme", "subtract",
	"suffix", "sum", "sum_no_overflow", "sumkahan", "switch", "tan", "tanh", "time_bucket",
	"timetz_byte_comparable", "timezone", "timezone_hour", "timezone_minute", "to_base",
	"to_base64", "to_binary", "to_centuries", "to_days", "to_decades", "to_hex", "to_hours",
	"to_json", "to_microseconds", "to_millennia", "to_milliseconds", "to_minutes", "to_months",
	"to_quarters", "to_seconds", "to_timestamp", "to_weeks", "to_years", "today",
	"transaction_timestamp", "translate", "trim", "trunc", "try", "try_strptime", "typeof",
	"ucase", "unbin", "unhex", "unicode", "union_extract", "union_tag", "union_value", "unlist",
	"unnest", "unpivot_list", "upper", "url_decode", "url_encode", "uuid",
	"uuid_extract_timestamp", "uuid_extract_version", "uuidv4", "uuidv7", "var_pop", "var_samp",
	"variance", "variant_extract", "variant_normalize", "variant_typeof", "version", "wavg",
	"week", "weekday", "weekofyear", "weighted_avg", "xor", "year", "yearweek", "|", "||", "~",
	"~~", "~~*", "~~~",
};

static const char *const planned_functions[] = {
	"can_cast_implicitly", "col_description", "current_catalog", "current_connection_id",
	"current_database", "current_query", "current_query_id", "current_role", "current_schema",
	"current_schemas", "current_setting", "current_transaction_id", "current_user", "currval",
	"format_pg_type", "format_type", "get_type", "has_any_column_privilege",
	"has_column_privilege", "has_database_privilege", "has_foreign_data_wrapper_privilege",
	"has_function_privilege", "has_language_privilege", "has_schema_privilege",
	"has_sequence_privilege", "has_server_privilege", "has_table_privilege",
	"has_tablespace_privilege", "in_search_path", "inet_client_addr", "inet_client_port",
	"inet_server_addr", "inet_server_port", "make_type", "map_to_pg_oid", "nextval",
	"obj_description", "pg_collation_is_visible", "pg_conf_load_time", "pg_conversion_is_visible",
	"pg_function_is_visible", "pg_get_constraintdef", "pg_get_expr", "pg_get_viewdef",
	"pg_has_role", "pg_is_other_temp_schema", "pg_my_temp_schema", "pg_opclass_is_visible",
	"pg_operator_is_visible", "pg_opfamily_is_visible", "pg_postmaster_start_time",
	"pg_size_pretty", "pg_table_is_visible", "pg_ts_config_is_visible", "pg_ts_dict_is_visible",
	"pg_ts_parser_is_visible", "pg_ts_template_is_visible", "pg_type_is_visible", "pg_typeof",
	"replace_type", "session_user", "shobj_description", "st_crs", "st_setcrs", "txid_current",
	"user", "variant_bytes_to_variant", "variant_to_parquet_variant",
};

static const char *const denied_functions[] = {
	"__internal_compress_integral_ubigint", "__internal_compress_integral_uinteger",
	"__internal_compress_integral_usmallint", "__internal_compress_integral_utinyint",
	"__internal_compress_string_hugeint", "__internal_compress_string_ubigint",
	"__internal_compress_string_uhugeint", "__internal_compress_string_uinteger",
	"__internal_compress_string_usmallint", "__internal_compress_string_utinyint",
	"__internal_decompress_integral_bigint", "__internal_decompress_integral_hugeint",
	"__internal_decompress_integral_integer", "__internal_decompress_integral_smallint",
	"__internal_decompress_integral_ubigint", "__internal_decompress_integral_uhugeint",
	"__internal_decompress_integral_uinteger", "__internal_decompress_integral_usmallint",
	"__internal_decompress_string", "combine", "duckdb_secrets", "finalize", "get_block_size",
	"getenv", "getvariable", "json_deserialize_sql", "json_execute_serialized_sql",
	"json_serialize_plan", "json_serialize_sql", "merganser_exchange", "mg_mine", "mg_node",
	"mg_slot", "parse_duckdb_log_message", "pg_sleep", "query", "query_table", "setseed",
	"sleep_ms", "stats", "vector_type", "which_secret", "write_log",
};

static const char *const pure_tables[] = {
	"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest",
};

/* Macros of this name may have been made before there was such a function: they hide it. */
static const char *const keys_tables[] = {
	"kv",
};

static const char *const planned_tables[] = {
	"summary",
};

static const char *const catalog_tables[] = {
	"duckdb_columns", "duckdb_constraints", "duckdb_coordinate_systems", "duckdb_databases",
	"duckdb_dependencies", "duckdb_functions", "duckdb_indexes", "duckdb_keywords",
	"duckdb_optimizers", "duckdb_schemas", "duckdb_sequences", "duckdb_tables", "duckdb_types",
	"duckdb_views", "icu_calendar_names", "pg_timezone_names", "pragma_collations",
	"pragma_platform", "pragma_show", "pragma_table_info", "pragma_user_agent", "pragma_version",
};

static const char *const denied_tables[] = {
	"__internal_compress_integral_ubigint", "__internal_compress_integral_uinteger",
	"__internal_compress_integral_usmallint", "__internal_compress_integral_utinyint",
	"__internal_compress_string_hugeint", "__internal_compress_string_ubigint",
	"__internal_compress_string_uhugeint", "__internal_compress_string_uinteger",
	"__internal_compress_string_usmallint", "__internal_compress_string_utinyint",
	"__internal_decompress_integral_bigint", "__internal_decompress_integral_hugeint",
	"__internal_decompress_integral_integer", "__internal_decompress_integral_smallint",
	"__internal_decompress_integral_ubigint", "__internal_decompress_integral_uhugeint",
	"__internal_decompress_integral_uinteger", "__internal_decompress_integral_usmallint",
	"__internal_decompress_string", "add_parquet_key", "all_profiling_output", "arrow_scan",
	"arrow_scan_dumb", "aws_secrets", "check_peg_parser", "checkpoint", "collations", "combine",
	"copy_database", "database_list", "database_size", "dbgen", "delta_scan",
	"disable_checkpoint_on_shutdown", "disable_logging", "disable_object_cache",
	"disable_optimizer", "disable_peg_parser", "disable_print_progress_bar", "disable_profile",
	"disable_profiling", "disable_progress_bar", "disable_verification",
	"disable_verify_external", "disable_verify_fetch_row", "disable_verify_parallelism",
	"disable_verify_serializer", "dsdgen", "duckdb_approx_database_count",
	"duckdb_connection_count", "duckdb_extensions", "duckdb_external_file_cache",
	"duckdb_log_contexts", "duckdb_logs", "duckdb_logs_parsed", "duckdb_memory",
	"duckdb_prepared_statements", "duckdb_profiling_settings", "duckdb_secret_types",
	"duckdb_secrets", "duckdb_settings", "duckdb_table_sample", "duckdb_temporary_files",
	"duckdb_variables", "enable_checkpoint_on_shutdown", "enable_logging", "enable_object_cache",
	"enable_optimizer", "enable_peg_parser", "enable_print_progress_bar", "enable_profile",
	"enable_profiling", "enable_progress_bar", "enable_verification", "extension_versions",
	"finalize", "force_checkpoint", "from_substrait", "functions", "get_block_size",
	"get_substrait", "getenv", "getvariable", "glob", "histogram", "histogram_values", "http_get",
	"iceberg_scan", "import_database", "json_deserialize_sql", "json_execute_serialized_sql",
	"json_serialize_plan", "json_serialize_sql", "load_aws_credentials", "merganser_exchange",
	"merganser_feed",
	"metadata_info", "mg_mine", "mg_node", "mg_slot", "mysql_query", "pandas_scan",
	"parquet_bloom_probe", "parquet_file_metadata", "parquet_full_metadata",
	"parquet_kv_metadata", "parquet_metadata", "parquet_scan", "parquet_schema",
	"parse_duckdb_log_message", "pg_sleep", "platform", "postgres_query", "postgres_scan",
	"pragma_database_size", "pragma_metadata_info", "pragma_storage_info", "python_map_function",
	"query", "query_table", "read_blob", "read_csv", "read_csv_auto", "read_duckdb", "read_json",
	"read_json_auto", "read_json_objects", "read_json_objects_auto", "read_ndjson",
	"read_ndjson_auto", "read_ndjson_objects", "read_parquet", "read_text", "read_xlsx",
	"seq_scan", "setseed", "shell", "show", "show_databases", "show_tables",
	"show_tables_expanded", "sleep_ms", "sniff_csv", "sql_auto_complete", "sqlite_scan",
	"st_read", "stats", "storage_info", "table_info", "test_all_types", "test_vector_types",
	"tpcds_answers", "tpcds_queries", "tpch_answers", "tpch_queries", "truncate_duckdb_logs",
	"user_agent", "vector_type", "verify_external", "verify_fetch_row", "verify_parallelism",
	"verify_serializer", "version", "which_secret", "write_log",
};

enum { NAME_MAX_LEN = 64 };

static int name_compare(const void *a, const void *b)
{
	return strcmp(a, *(const char *const *)b);
}

static bool listed(const char *name, const char *const *list, size_t count)
{
	return bsearch(name, list, count, sizeof *list, name_compare) != NULL;
}

#define IN(name, list) listed((name), (list), sizeof(list) / sizeof *(list))

/* Lower-case copy; false when it is too long to be on a list. */
static bool name_lower(char *lower, const char *name)
{
	size_t len = strlen(name);

	if (len >= NAME_MAX_LEN) {
		return false;
	}
	for (size_t i = 0; i <= len; i++) {
		lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
	}
	return true;
}

enum mg_function_class mg_function_class(const char *name)
{
	char lower[NAME_MAX_LEN];

	if (!name_lower(lower, name)) {
		return MG_FUNCTION_UNKNOWN;
	}
	if (IN(lower, denied_functions)) {
		return MG_FUNCTION_DENIED;
	}
	if (IN(lower, pure_functions) || strncmp(lower, "icu_collate_", 12) == 0) {
		return MG_FUNCTION_PURE;
	}
	return IN(lower, planned_functions) ? MG_FUNCTION_PLANNED : MG_FUNCTION_UNKNOWN;
}

enum mg_function_class mg_table_function_class(const char *name)
{
	char lower[NAME_MAX_LEN];

	if (!name_lower(lower, name)) {
		return MG_FUNCTION_UNKNOWN;
	}
	if (IN(lower, pure_tables)) {
		return MG_FUNCTION_PURE;
	}
	if (IN(lower, keys_tables)) {
		return MG_FUNCTION_KEYS;
	}
	if (IN(lower, catalog_tables)) {
		return MG_FUNCTION_CATALOG;
	}
	if (IN(lower, planned_tables)) {
		return MG_FUNCTION_PLANNED;
	}
	return IN(lower, denied_tables) ? MG_FUNCTION_DENIED : MG_FUNCTION_UNKNOWN;
}

/* ---- named arguments ---- */

struct named {
	const char *function;
	const char *arguments[3];
};

/* Ours of several arguments.  DuckDB tells them apart by place and type, and reads no name. */
static const struct named named[] = {
	{ "crossmatch", { NULL } },
	{ "mg_histogram", { "bins", "range", NULL } },
	{ "mg_histogram2d", { "bins", "range", NULL } },
};

const char *const *mg_function_arguments(const char *name)
{
	for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
		if (mg_text_eq_nocase(named[i].function, name)) {
			return named[i].arguments;
		}
	}
	return NULL;
}
