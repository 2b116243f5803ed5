/*
 * commands.h - one function for each command; each returns the program's exit code.
 */
#ifndef MG_CLI_COMMANDS_H
#define MG_CLI_COMMANDS_H

#include "cli/options.h"

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
int mg_command_cluster_check(const struct mg_options *options);
int mg_command_cluster_manifest(const struct mg_options *options);
int mg_command_export(const struct mg_options *options);
int mg_command_completion(const struct mg_options *options);
int mg_command_doctor(const struct mg_options *options);

/* Option tables that are shared or long. */
extern const struct mg_option mg_options_shell[];
extern const struct mg_option mg_options_demo[];
extern const struct mg_option mg_options_bootstrap[];
extern const struct mg_option mg_options_export[];
extern const struct mg_option mg_options_server[];
extern const struct mg_option mg_options_worker[];

#endif
