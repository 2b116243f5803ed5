/*
 * commands.c - the table of all commands.
 */
#include "cli/commands.h"

#include "cli/connect.h"

#include <stddef.h>

#define TABLES(...) (const struct mg_option *const[]){ __VA_ARGS__, mg_options_common, NULL }

static const struct mg_option no_options[] = { { 0 } };

static const struct mg_option data_dir_options[] = {
	MG_OPTION_DATA_DIR(NULL, "the cluster's data directory"),
	{ 0 },
};

static const struct mg_option user_name_options[] = {
	{ .name = "username", .kind = MG_O_TEXT, .value = "NAME", .help = "the same as NAME" },
	{ 0 },
};

static const struct mg_option user_options[] = {
	{ .name = "password", .kind = MG_O_SECRET, .help = "the password; asked for when missing" },
	{ .name = "password-file", .kind = MG_O_TEXT, .value = "FILE",
	  .help = "read the password from the first line of FILE" },
	{ 0 },
};

static const struct mg_option user_role_options[] = {
	{ .name = "role", .kind = MG_O_CHOICE, .choices = "client|worker|admin", .fallback = "client",
	  .help = "what the user may do" },
	{ 0 },
};

static const struct mg_option format_options[] = {
	{ .name = "format", .kind = MG_O_CHOICE, .choices = "text|json", .fallback = "text",
	  .help = "text for people, json for programs" },
	{ 0 },
};

static const struct mg_option check_options[] = {
	{ .name = "quick", .kind = MG_O_FLAG, .help = "do not compare the replicas" },
	{ 0 },
};

static const struct mg_option kv_batch_options[] = {
	{ .name = "namespace", .alias = "n", .kind = MG_O_TEXT, .fallback = "default",
	  .help = "where the keys lie" },
	{ 0 },
};

static const struct mg_option kv_options[] = {
	{ .name = "namespace", .alias = "n", .kind = MG_O_TEXT, .fallback = "default",
	  .help = "where the key lies" },
	{ .name = "encoding", .kind = MG_O_CHOICE, .choices = "text|hex|base64", .fallback = "text",
	  .help = "how the key is written" },
	{ 0 },
};

static const struct mg_option kv_put_options[] = {
	{ .name = "ttl", .kind = MG_O_MS,
	  .help = "the key goes after this time (default: as its namespace says)" },
	{ .name = "no-ttl", .kind = MG_O_FLAG, .help = "the key stays, whatever its namespace says" },
	{ .name = "content-type", .kind = MG_O_TEXT, .fallback = "application/octet-stream",
	  .help = "kept with the value" },
	{ 0 },
};

static const struct mg_option kv_absent_options[] = {
	{ .name = "if-absent", .kind = MG_O_FLAG, .help = "only when there is no such key" },
	{ 0 },
};

static const struct mg_option kv_scan_options[] = {
	{ .name = "limit", .kind = MG_O_INT, .min = 1, .max = 100000, .fallback = "1000",
	  .help = "keys of a page" },
	{ .name = "cursor", .kind = MG_O_TEXT, .help = "where the page before has ended" },
	{ 0 },
};

static const struct mg_option kv_space_options[] = {
	{ .name = "default-ttl", .kind = MG_O_TEXT, .value = "TIME",
	  .help = "keys that are put without a TTL go after this time, such as 1h; none: they stay" },
	{ .name = "quota", .kind = MG_O_TEXT, .value = "SIZE",
	  .help = "how many bytes its keys and values may have, such as 1GB; none: any number" },
	{ .name = "quota-keys", .kind = MG_O_TEXT, .value = "N",
	  .help = "how many keys it may have; none: any number" },
	{ 0 },
};

static const struct mg_option kv_watch_options[] = {
	{ .name = "from", .kind = MG_O_TEXT, .value = "TOKEN",
	  .help = "what has changed since the line of this token (default: from now on)" },
	{ .name = "values", .kind = MG_O_CHOICE, .choices = "none|hex|base64", .fallback = "none",
	  .help = "show values, so written" },
	{ 0 },
};

static const struct mg_option enable_keys_options[] = {
	{ .name = "kv-shard-count",
	  .kind = MG_O_INT,
	  .min = 1,
	  .max = 64,
	  .fallback = "4",
	  .help = "shards of keys and values; their number stays" },
	{ 0 },
};

static const struct mg_option job_options[] = {
	{ .name = "set",
	  .kind = MG_O_TEXT,
	  .value = "NAME=VALUE",
	  .between = '\n',
	  .help = "a name that the file is given; a value that is JSON is a number, a list, ...; may "
	          "be repeated" },
	{ .name = "source",
	  .kind = MG_O_TEXT,
	  .value = "SQL",
	  .help = "a table or a SELECT, in place of the file's own" },
	{ .name = "deferred",
	  .kind = MG_O_FLAG,
	  .help = "do not wait: print the job's id, for `job show`" },
	{ .name = "format", .kind = MG_O_CHOICE, .choices = "text|json", .fallback = "text",
	  .help = "json: a text is in quotes, too" },
	{ 0 },
};

static const struct mg_option job_shown_options[] = {
	{ .name = "format", .kind = MG_O_CHOICE, .choices = "text|json", .fallback = "text",
	  .help = "json: one value on one line" },
	{ 0 },
};

static const struct mg_option rebalance_options[] = {
	{ .name = "timeout",
	  .kind = MG_O_MS,
	  .fallback = "1m",
	  .help = "how long to wait" },
	{ 0 },
};

static const struct mg_option drain_options[] = {
	{ .name = "undo", .kind = MG_O_FLAG, .help = "let the node be as the others again" },
	{ 0 },
};

static const struct mg_option yaml_options[] = {
	{ .name = "format", .kind = MG_O_CHOICE, .choices = "yaml|json", .fallback = "yaml",
	  .help = "of the manifest" },
	{ 0 },
};

static const struct mg_option cert_ca_options[] = {
	{ .name = "cert-file",
	  .alias = "ca-cert-file",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .fallback = "ca.crt",
	  .help = "where the certificate goes" },
	{ .name = "key-file",
	  .alias = "ca-key-file",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .fallback = "ca.key",
	  .help = "where its key goes (mode 0600)" },
	{ .name = "common-name",
	  .alias = "ca-common-name",
	  .kind = MG_O_TEXT,
	  .fallback = "merganser CA",
	  .help = "name of the CA" },
	MG_OPTION_PASSWORD("key-password", "password", "encrypt the key with a password"),
	{ .name = "overwrite", .kind = MG_O_FLAG, .help = "replace files that are there" },
	{ 0 },
};

static const struct mg_option cert_signed_options[] = {
	{ .name = "cert-file", .alias = "client-cert-file", .kind = MG_O_TEXT, .value = "FILE",
	  .help = "where the certificate goes (default: by the kind, server.crt or client.crt)" },
	{ .name = "key-file", .alias = "client-key-file", .kind = MG_O_TEXT, .value = "FILE",
	  .help = "where its key goes (mode 0600)" },
	{ .name = "ca-cert-file", .kind = MG_O_TEXT, .value = "FILE", .fallback = "ca.crt",
	  .help = "the CA that signs" },
	{ .name = "ca-key-file", .kind = MG_O_TEXT, .value = "FILE", .fallback = "ca.key",
	  .help = "and its key" },
	MG_OPTION_PASSWORD("ca-password", NULL, "password of the CA's key"),
	{ .name = "overwrite", .kind = MG_O_FLAG, .help = "replace files that are there" },
	{ 0 },
};

static const struct mg_option cert_server_options[] = {
	{ .name = "common-name",
	  .kind = MG_O_TEXT,
	  .fallback = "merganser",
	  .help = "name of the server" },
	{ .name = "names",
	  .kind = MG_O_TEXT,
	  .value = "NAME,IP,...",
	  .help = "host names and addresses beside localhost, 127.0.0.1 and ::1" },
	{ 0 },
};

static const struct mg_option cert_client_options[] = {
	{ .name = "common-name",
	  .alias = "client-common-name",
	  .kind = MG_O_TEXT,
	  .fallback = "client",
	  .help = "name of the user" },
	MG_OPTION_PASSWORD("key-password", "password", "encrypt the key with a password"),
	{ 0 },
};

static const struct mg_option doctor_options[] = {
	{ .name = "listen", .kind = MG_O_ADDRESS, .fallback = "0.0.0.0:8765",
	  .help = "the address the server shall have" },
	{ 0 },
};

const struct mg_command mg_commands[] = {
	{ .name = "demo",
	  .summary = "a whole throw-away cluster on this machine, and a shell on it",
	  .text = "Starts one server and workers with TLS, users and TPC-H data in a temporary folder, "
	          "which is gone at\n"
	          "exit.  In the shell: .demo nodes, .demo kill N, .demo start N.",
	  .example = "  merganser demo --workers 3\n"
	             "  merganser demo --run queries/tpch/q01.sql\n"
	             "  merganser demo --workers 3 --compare queries/tpch",
	  .tables = TABLES(mg_options_demo),
	  .run = mg_command_demo },
	{ .name = "bootstrap",
	  .summary = "make a cluster's first data directory: keys, users, sample data",
	  .text = "Safe to run again: it finishes what is missing and changes nothing that is there "
	          "(--overwrite does).\n"
	          "Passwords that are not given are made and printed once.  The client user is the "
	          "cluster's admin.",
	  .example = "  merganser bootstrap --client-username scott --client-password tiger "
	             "--worker-password united\n"
	             "  merganser bootstrap --client-username scott --tpch-scale-factor 0",
	  .tables = TABLES(mg_options_bootstrap),
	  .run = mg_command_bootstrap },
	{ .name = "server",
	  .arguments = "[DIR]",
	  .argument_option = "data-dir",
	  .arguments_max = 1,
	  .summary = "a durable node: holds the shards, plans, answers",
	  .text = "Opens DIR, or makes a cluster of its own there; with --join an empty DIR enters a "
	          "running cluster,\n"
	          "which needs its CA (--tls-roots) and its join password (MERGANSER_PASSWORD).\n"
	          "Stops cleanly on SIGTERM or Ctrl-C; SIGHUP reads the certificates again.",
	  .example = "  merganser server --data-dir merganser-data --listen 0.0.0.0:8765\n"
	             "  MERGANSER_PASSWORD=secret merganser server --data-dir data-2 --listen "
	             "localhost:8766 \\\n"
	             "      --join localhost:8765 --tls-roots merganser-data/tls/ca.crt",
	  .tables = TABLES(mg_options_server),
	  .run = mg_command_server },
	{ .name = "worker",
	  .summary = "an elastic node: dials a server, takes copies of shards, computes",
	  .text = "May come and go at any time, and there may be any number of them.",
	  .example = "  MERGANSER_PASSWORD=united merganser worker --server localhost:8765 --tls-roots "
	             "merganser-data/tls/ca.crt",
	  .tables = TABLES(mg_options_worker),
	  .run = mg_command_worker },
	{ .name = "sql",
	  .alias = "client",
	  .arguments = "[URL]",
	  .argument_option = "url",
	  .arguments_max = 1,
	  .summary = "the SQL shell",
	  .text =
	      "With -c, -f or statements on standard input it runs them and ends; else it is a shell.\n"
	      "Beside a data directory (./merganser-data or MERGANSER_DATA_DIR) it finds URL, CA and "
	      "user itself.\n"
	      "Exit codes: 0 done, 1 usage or local error, 2 cannot connect or connection lost, 3 a "
	      "statement\n"
	      "failed, 4 timed out or cancelled, 5 outcome unknown, 130 interrupted.",
	  .example = "  merganser sql https://localhost:8765 --username scott --tls-roots "
	             "merganser-data/tls/ca.crt\n"
	             "  merganser sql -c 'SELECT count(*) FROM lineitem' --format csv\n"
	             "  echo 'SELECT 1;' | merganser sql",
	  .tables = TABLES(mg_options_shell, mg_options_connection),
	  .run = mg_command_sql },
	{ .name = "cluster status",
	  .summary = "is the server up, what is in the cluster",
	  .example = "  merganser cluster status --format json",
	  .tables = TABLES(format_options, mg_options_connection),
	  .run = mg_command_cluster_status },
	{ .name = "cluster nodes",
	  .summary = "servers and workers, and their states",
	  .example = "  merganser cluster nodes",
	  .tables = TABLES(format_options, mg_options_connection),
	  .run = mg_command_cluster_nodes },
	{ .name = "cluster shards",
	  .summary = "shards: slots, rows, bytes, hashes",
	  .example = "  merganser cluster shards --format json",
	  .tables = TABLES(format_options, mg_options_connection),
	  .run = mg_command_cluster_shards },
	{ .name = "job run",
	  .arguments = "FILE.py",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "run a file's mapper and reducer over the rows of a SELECT, and print the result",
	  .text = "What the file prints, and its traceback, go to standard error; a mapper that fails "
	          "ends with 3.",
	  .example = "  merganser job run histogram.py --set bins=50\n"
	             "  merganser job run words.py --source 'SELECT l_comment FROM lineitem'",
	  .tables = TABLES(job_options, mg_options_connection),
	  .run = mg_command_job_run },
	{ .name = "job list",
	  .summary = "jobs of a server, of the last ten minutes: yours, or all for an admin",
	  .example = "  merganser job list",
	  .tables = TABLES(job_shown_options, mg_options_connection),
	  .run = mg_command_job_list },
	{ .name = "job show",
	  .arguments = "ID",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "print the result of a job, or its state when it has none",
	  .text = "Exit code 0 for a result, 3 for a job that failed, 4 for one that was cancelled, 5 "
	          "for one that still runs.",
	  .example = "  merganser job show j-server-1-7-1f00c0de",
	  .tables = TABLES(job_shown_options, mg_options_connection),
	  .run = mg_command_job_show },
	{ .name = "job cancel",
	  .arguments = "ID",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "end a job; one that has ended is forgotten",
	  .example = "  merganser job cancel j-server-1-7-1f00c0de",
	  .tables = TABLES(mg_options_connection),
	  .run = mg_command_job_cancel },
	{ .name = "kv get",
	  .arguments = "KEY",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "print the value of a key, as it is",
	  .example = "  merganser kv get greeting\n"
	             "  merganser kv get 00ff --encoding hex --namespace blobs > file",
	  .tables = TABLES(kv_options, mg_options_connection),
	  .run = mg_command_kv_get },
	{ .name = "kv put",
	  .arguments = "KEY [VALUE]",
	  .arguments_min = 1,
	  .arguments_max = 2,
	  .summary = "store a value; without VALUE, or with -, from standard input",
	  .text = "Prints the key's new version, for `kv cas`.",
	  .example = "  merganser kv put greeting hello --ttl 1h\n"
	             "  merganser kv put picture --content-type image/png < picture.png",
	  .tables = TABLES(kv_options, kv_put_options, kv_absent_options, mg_options_connection),
	  .run = mg_command_kv_put },
	{ .name = "kv cas",
	  .arguments = "KEY VERSION [VALUE]",
	  .arguments_min = 2,
	  .arguments_max = 3,
	  .summary = "store a value when the key still has this version",
	  .text = "VERSION 0: when there is no such key.",
	  .example = "  merganser kv cas greeting 7 goodbye",
	  .tables = TABLES(kv_options, kv_put_options, mg_options_connection),
	  .run = mg_command_kv_cas },
	{ .name = "kv delete",
	  .arguments = "KEY",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "remove a key",
	  .example = "  merganser kv delete greeting",
	  .tables = TABLES(kv_options, mg_options_connection),
	  .run = mg_command_kv_delete },
	{ .name = "kv batch",
	  .arguments = "[OPERATIONS]",
	  .arguments_max = 1,
	  .summary = "carry out operations on several keys, all of them or none",
	  .text = "OPERATIONS is JSON, as docs/kv.md says; without it, or with -, standard input.",
	  .example = "  merganser kv batch '{\"ops\": [\n"
	             "    {\"op\": \"check\", \"key\": \"a\", \"if_version\": 7},\n"
	             "    {\"op\": \"put\", \"key\": \"b\", \"value\": \"x\"}]}'",
	  .tables = TABLES(kv_batch_options, mg_options_connection),
	  .run = mg_command_kv_batch },
	{ .name = "kv scan",
	  .arguments = "[PREFIX]",
	  .arguments_max = 1,
	  .summary = "list keys in order: key, version, size, content type",
	  .example = "  merganser kv scan user/ --limit 100\n"
	             "  merganser kv scan --format json",
	  .tables = TABLES(kv_options, kv_scan_options, format_options, mg_options_connection),
	  .run = mg_command_kv_scan },
	{ .name = "kv namespaces",
	  .summary = "list namespaces: how much they hold, and what is wanted of them",
	  .example = "  merganser kv namespaces --format json",
	  .tables = TABLES(format_options, mg_options_connection),
	  .run = mg_command_kv_namespaces },
	{ .name = "kv namespace",
	  .arguments = "NAME",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "say what is wanted of a namespace, or show it",
	  .text = "What is not named stays as it is.  For an admin.",
	  .example = "  merganser kv namespace sessions --default-ttl 1h --quota 1GB\n"
	             "  merganser kv namespace sessions --quota none",
	  .tables = TABLES(kv_space_options, format_options, mg_options_connection),
	  .run = mg_command_kv_namespace },
	{ .name = "kv watch",
	  .arguments = "[PREFIX]",
	  .arguments_max = 1,
	  .summary = "follow what changes in keys: a line of JSON for each change, until Ctrl-C",
	  .text = "A lost connection is made again, to the next server of --url, from where it was.\n"
	          "Each line has the token for --from.",
	  .example = "  merganser kv watch user/\n"
	             "  merganser kv watch --namespace jobs --values base64 --from v1.12.0.7.3",
	  .tables = TABLES(kv_options, kv_watch_options, mg_options_connection),
	  .run = mg_command_kv_watch },
	{ .name = "cluster drain",
	  .arguments = "NODE",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "move a server's replicas to the others; it stays in the cluster",
	  .text = "NODE is its id in `merganser cluster nodes`, which shows when it holds no shard any "
	          "more.  For an admin.",
	  .example = "  merganser cluster drain server-2\n"
	             "  merganser cluster drain server-2 --undo",
	  .tables = TABLES(drain_options, format_options, mg_options_connection),
	  .run = mg_command_cluster_drain },
	{ .name = "cluster remove",
	  .arguments = "NODE",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "take a server out of the cluster for good",
	  .text = "Its replicas are made anew on the others, its certificate opens no door any "
	          "more, and its data\n"
	          "directory cannot come back.  One that still runs is better drained first.  For an "
	          "admin.",
	  .example = "  merganser cluster remove server-2",
	  .tables = TABLES(format_options, mg_options_connection),
	  .run = mg_command_cluster_remove },
	{ .name = "cluster check",
	  .summary = "exit 0 only when every node is ready and all replicas are equal",
	  .text = "Each replica sums what it holds of every shard, which reads all of it; --quick "
	          "leaves that out.\n"
	          "A replica that differs from more than half of them is made anew by itself.  For an "
	          "admin.",
	  .example = "  merganser cluster check && echo fine\n"
	             "  merganser cluster check --quick",
	  .tables = TABLES(check_options, format_options, mg_options_connection),
	  .run = mg_command_cluster_check },
	{ .name = "cluster enable-keys",
	  .summary = "shards of keys and values for a cluster that was made without",
	  .text = "Each server makes its replicas at once, and takes keys a moment later.  All servers "
	          "must run this\nversion.",
	  .example = "  merganser cluster enable-keys",
	  .tables = TABLES(enable_keys_options, format_options, mg_options_connection),
	  .run = mg_command_cluster_enable_keys },
	{ .name = "cluster rebalance",
	  .summary = "bring replicas, votes and leaders to where they should be, and wait for it",
	  .text = "The servers do so by themselves, within seconds; this looks now, says what is still "
	          "to be moved,\n"
	          "and ends when nothing is, or with code 4 after --timeout.  For an admin.",
	  .example = "  merganser cluster rebalance --timeout 2m",
	  .tables = TABLES(rebalance_options, format_options, mg_options_connection),
	  .run = mg_command_cluster_rebalance },
	{ .name = "cluster manifest",
	  .summary = "the manifest of a data directory: shards, tables, hashes",
	  .text = "Reads the data directory itself, also of a server that is down.",
	  .example = "  merganser cluster manifest --format yaml > manifest.yaml",
	  .tables = TABLES(yaml_options, data_dir_options),
	  .run = mg_command_cluster_manifest },
	{ .name = "user create",
	  .arguments = "[NAME]",
	  .arguments_max = 1,
	  .summary = "add a user to a data directory (its server must be down)",
	  .example = "  MERGANSER_PASSWORD=secret merganser user create ada --role client",
	  .tables = TABLES(user_name_options, user_options, user_role_options, data_dir_options),
	  .run = mg_command_user_create },
	{ .name = "user alter",
	  .arguments = "[NAME]",
	  .arguments_max = 1,
	  .summary = "change a user's password or role (its server must be down)",
	  .text = "What is not given stays; with neither password nor role it asks for a password.",
	  .example = "  merganser user alter ada --role admin",
	  .tables = TABLES(user_name_options, user_options, user_role_options, data_dir_options),
	  .run = mg_command_user_alter },
	{ .name = "user drop",
	  .arguments = "[NAME]",
	  .arguments_max = 1,
	  .summary = "remove a user (its server must be down)",
	  .example = "  merganser user drop ada",
	  .tables = TABLES(user_name_options, data_dir_options),
	  .run = mg_command_user_drop },
	{ .name = "user list",
	  .summary = "users and roles",
	  .example = "  merganser user list",
	  .tables = TABLES(data_dir_options, format_options),
	  .run = mg_command_user_list },
	{ .name = "user check",
	  .arguments = "[NAME]",
	  .arguments_max = 1,
	  .summary = "exit 0 only when the password is right",
	  .example = "  MERGANSER_PASSWORD=secret merganser user check ada",
	  .text = "Asks the data directory; with --url, or without a data directory, the server.",
	  .tables = TABLES(data_dir_options, mg_options_connection),
	  .run = mg_command_user_check },
	{ .name = "cert ca",
	  .summary = "make a CA: certificate and key",
	  .example = "  merganser cert ca --cert-file ca.crt --key-file ca.key",
	  .tables = TABLES(cert_ca_options),
	  .run = mg_command_cert_ca },
	{ .name = "cert create",
	  .summary = "make a server's certificate and key, signed by a CA",
	  .example = "  merganser cert create --ca-cert-file ca.crt --ca-key-file ca.key --names "
	             "db.example,10.0.0.7",
	  .tables = TABLES(cert_signed_options, cert_server_options),
	  .run = mg_command_cert_create },
	{ .name = "cert client",
	  .summary = "make a client's certificate and key, signed by a CA",
	  .example =
	      "  merganser cert client --ca-cert-file ca.crt --ca-key-file ca.key --common-name scott",
	  .tables = TABLES(cert_signed_options, cert_client_options),
	  .run = mg_command_cert_client },
	{ .name = "cert show",
	  .arguments = "FILE",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "what a certificate says",
	  .example = "  merganser cert show merganser-data/tls/server.crt",
	  .tables = TABLES(no_options),
	  .run = mg_command_cert_show },
	{ .name = "import",
	  .arguments = "DIR",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "a folder of CSV, JSON or Parquet files into tables of a running cluster",
	  .text = "A file is a table of its name, a folder inside of DIR a table of all its files; "
	          "columns and types are\n"
	          "what DuckDB sees in the first one.  --print-model shows that as JSON, --model takes "
	          "it back: other names,\n"
	          "types, keys (partitioned_by), patterns of files.  A table's files are one "
	          "transaction; one that has rows\n"
	          "is done, so an import that was interrupted goes on when it is started again.",
	  .example = "  merganser import lake --print-model > model.json\n"
	             "  merganser import lake --model model.json --url https://localhost:8765 "
	             "--username scott",
	  .tables = TABLES(mg_options_import, mg_options_connection),
	  .run = mg_command_import },
	{ .name = "export",
	  .arguments = "[TABLE ...]",
	  .arguments_max = 1000,
	  .summary = "copy tables into a DuckDB file, or a folder of Parquet or CSV files",
	  .text = "All tables, or the named ones (schema.table outside of main), with users' columns "
	          "only; any DuckDB\n"
	          "opens the result.  Reads a data directory whose server is down, or with --url a "
	          "running cluster.\n"
	          "The target gets its name when it is whole.",
	  .example = "  merganser export --data-dir merganser-data -o snapshot.duckdb\n"
	             "  merganser export --url https://localhost:8765 --username scott --format "
	             "parquet -o lake orders lineitem",
	  .tables = TABLES(mg_options_export, mg_options_connection),
	  .run = mg_command_export },
	{ .name = "completion",
	  .arguments = "bash|zsh|fish",
	  .arguments_min = 1,
	  .arguments_max = 1,
	  .summary = "a script that completes commands and options in your shell",
	  .example = "  source <(merganser completion bash)",
	  .tables = TABLES(no_options),
	  .run = mg_command_completion },
	{ .name = "doctor",
	  .summary = "look for what would keep a server from starting",
	  .example = "  merganser doctor --data-dir merganser-data",
	  .tables = TABLES(data_dir_options, doctor_options),
	  .run = mg_command_doctor },
	{ 0 },
};
