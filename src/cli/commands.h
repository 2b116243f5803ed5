/*
 * commands.h - one function for each command; each returns the program's exit code.
 */
#ifndef MG_CLI_COMMANDS_H
#define MG_CLI_COMMANDS_H

#include "cli/options.h"
#include "exec/engine.h"

int mg_command_sql(const struct mg_options *options);
int mg_command_demo(const struct mg_options *options);
int mg_command_bootstrap(const struct mg_options *options);
int mg_command_server(const struct mg_options *options);
int mg_command_worker(const struct mg_options *options);
int mg_command_user_create(const struct mg_options *options);
int mg_command_user_alter(const struct mg_options *options);
int mg_command_user_drop(const struct mg_options *options);
int mg_command_user_list(const struct mg_options *options);
int mg_command_user_check(const struct mg_options *options);
int mg_command_cert_ca(const struct mg_options *options);
int mg_command_cert_create(const struct mg_options *options);
int mg_command_cert_client(const struct mg_options *options);
int mg_command_cert_show(const struct mg_options *options);
int mg_command_cluster_status(const struct mg_options *options);
int mg_command_cluster_nodes(const struct mg_options *options);
int mg_command_cluster_shards(const struct mg_options *options);
int mg_command_cluster_drain(const struct mg_options *options);
int mg_command_cluster_remove(const struct mg_options *options);
int mg_command_cluster_check(const struct mg_options *options);
int mg_command_cluster_rebalance(const struct mg_options *options);
int mg_command_cluster_enable_keys(const struct mg_options *options);
int mg_command_cluster_manifest(const struct mg_options *options);
int mg_command_kv_get(const struct mg_options *options);
int mg_command_kv_put(const struct mg_options *options);
int mg_command_kv_delete(const struct mg_options *options);
int mg_command_kv_cas(const struct mg_options *options);
int mg_command_kv_batch(const struct mg_options *options);
int mg_command_kv_scan(const struct mg_options *options);
int mg_command_kv_namespace(const struct mg_options *options);
int mg_command_kv_namespaces(const struct mg_options *options);
int mg_command_kv_watch(const struct mg_options *options);
int mg_command_job_run(const struct mg_options *options);
int mg_command_job_list(const struct mg_options *options);
int mg_command_job_show(const struct mg_options *options);
int mg_command_job_cancel(const struct mg_options *options);
int mg_command_import(const struct mg_options *options);
int mg_command_export(const struct mg_options *options);
int mg_command_completion(const struct mg_options *options);
int mg_command_doctor(const struct mg_options *options);

/* Entries that several tables have, each with its own help; alias_ NULL: none. */
#define MG_OPTION_DATA_DIR(alias_, help_) \
	{ .name = "data-dir", .alias = alias_, .kind = MG_O_TEXT, .value = "DIR", \
	  .fallback = "merganser-data", .help = help_ }
#define MG_OPTION_THREADS(help_) \
	{ .name = "threads",     \
	  .kind = MG_O_INT,      \
	  .max = 1024,           \
	  .fallback = "0",       \
	  .automatic = mg_engine_default_threads, \
	  .help = help_ }
#define MG_OPTION_MEMORY(help_) \
	{ .name = "memory-limit", .alias = "memory", .kind = MG_O_SIZE, .fallback = "0", .help = help_ }
/* A password and the file it may come from. */
#define MG_OPTION_PASSWORD(name_, alias_, help_) \
	{ .name = name_, .alias = alias_, .kind = MG_O_SECRET, .help = help_ }, \
	{ .name = name_ "-file", .kind = MG_O_TEXT, .value = "FILE", .help = "read it from FILE" }

/* Option tables that are shared or long. */
extern const struct mg_option mg_options_shell[];
extern const struct mg_option mg_options_demo[];
extern const struct mg_option mg_options_bootstrap[];
extern const struct mg_option mg_options_import[];
extern const struct mg_option mg_options_export[];
extern const struct mg_option mg_options_server[];
extern const struct mg_option mg_options_worker[];

#endif
