/*
 * cmd_demo.c - `merganser demo`: a cluster, then a shell, a file or a comparison on it.
 *
 * Whatever ends it (the end of the shell, Ctrl-C before there is a shell, SIGTERM, SIGHUP), the
 * cluster is stopped and its folder removed.
 */
#include "cli/commands.h"
#include "cli/compare.h"
#include "cli/demo.h"
#include "cli/shell.h"
#include "os/file.h"
#include "os/tty.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SHARDS_MAX 1024
#define SERVERS_MAX 9

const struct mg_option mg_options_demo[] = {
	{ .name = "nodes",
	  .kind = MG_O_INT,
	  .fallback = "1",
	  .help = "servers; the first makes the cluster, the others join it" },
	{ .name = "workers", .kind = MG_O_INT, .fallback = "2", .help = "workers beside the servers" },
	{ .name = "scale-factor",
	  .kind = MG_O_NUMBER,
	  .fallback = "0.1",
	  .help = "of the TPC-H data; 0: none" },
	{ .name = "shard-count", .kind = MG_O_INT, .fallback = "4", .help = "shards of the tables" },
	{ .name = "kv-shard-count",
	  .kind = MG_O_INT,
	  .max = SHARDS_MAX,
	  .fallback = "4",
	  .help = "shards of keys and values; 0: none" },
	{ .name = "run",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .help = "run the statements of FILE (- is standard input) and end" },
	{ .name = "compare",
	  .kind = MG_O_TEXT,
	  .value = "DIR",
	  .help = "run each DIR/*.sql here and on plain DuckDB, print times, equal or differs, and "
	          "end; exits 0 "
	          "only if all are equal" },
	{ .name = "strategy",
	  .kind = MG_O_CHOICE,
	  .choices = "auto|local|cut|broadcast|repartition|gather",
	  .fallback = "auto",
	  .help = "how --compare runs its queries; auto leaves small ones to the server" },
	{ .name = "keep", .kind = MG_O_FLAG, .help = "leave the folder when it ends" },
	{ .name = "format",
	  .kind = MG_O_CHOICE,
	  .choices = MG_FORMAT_CHOICES,
	  .fallback = "box",
	  .help = "how rows are written" },
	{ .name = "max-rows",
	  .kind = MG_O_INT,
	  .fallback = "40",
	  .help = "rows of a box table; 0: all" },
	{ 0 },
};

static struct mg_shell *demo_shell;

static void on_stop(int number)
{
	mg_demo_stopped = number;
	if (demo_shell) {
		demo_shell->quit = true;
		if (demo_shell->client) {
			mg_client_cancel(demo_shell->client);
		}
	}
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction action = { .sa_handler = on_stop };

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		sigaction(numbers[i], &action, NULL);
	}
}

static int connect_shell(struct mg_shell *shell, struct mg_demo *demo, struct mg_error *err)
{
	shell->demo = demo;
	shell->prompt = "demo";
	shell->connection = (struct mg_connection){
		.url = mg_strdup(mg_demo_url(demo)),
		.user = mg_strdup(mg_demo_user(demo)),
		.password = mg_strdup(mg_demo_password(demo)),
		.roots = mg_strdup(mg_demo_roots(demo)),
		.connect_timeout_ms = 10000,
	};
	return mg_shell_connect(shell, err);
}

static int run_compare(const struct mg_options *options, struct mg_shell *shell,
                       const struct mg_demo *demo)
{
	struct mg_compare_options compare = {
		.folder = mg_options_text(options, "compare"),
		.scale_factor = mg_options_number(options, "scale-factor"),
		.reference = mg_demo_reference(demo),
	};
	struct mg_error err = { 0 };
	bool all_equal = false;

	shell->timer = false;
	if (mg_options_given(options, "strategy") &&
	    mg_shell_statementf(shell, "SET strategy = '%s'", mg_options_text(options, "strategy"))) {
		return 3;
	}
	if (mg_compare_run(shell->client, &compare, &all_equal, &err)) {
		mg_cli_print_error(&err);
		return 3;
	}
	return all_equal ? 0 : 3;
}

static int run_on_demo(const struct mg_options *options, struct mg_shell *shell,
                       struct mg_demo *demo)
{
	const char *file = mg_options_text(options, "run");

	if (mg_options_text(options, "compare")) {
		return run_compare(options, shell, demo);
	}
	if (!file && !mg_tty_is(0)) {
		file = "-";
	}
	if (file) {
		mg_shell_catch_interrupts(shell);
		shell->stop_at_error = strcmp(file, "-") != 0;
		return mg_shell_run_file(shell, file);
	}
	fprintf(stderr, " .help for help, .demo kill 2 to see what happens, .quit or Ctrl-D to end\n");
	mg_shell_catch_interrupts(shell);
	mg_shell_interact(shell);
	return 0;
}

/* Said before a cluster is built for it. */
static int check_files(const struct mg_options *options, struct mg_error *err)
{
	const char *file = mg_options_text(options, "run");
	const char *folder = mg_options_text(options, "compare");
	char **names = NULL;
	size_t count = 0;

	if (file && strcmp(file, "-") != 0) {
		/* One that is read once, such as a pipe, is not opened here. */
		if (access(file, R_OK)) {
			return mg_error_errno(err, errno, "cannot open \"%s\"", file);
		}
		if (mg_dir_exists(file)) {
			return mg_error_set(err, MG_E_USAGE, "\"%s\" is a directory", file);
		}
	}
	if (folder) {
		int code = mg_dir_list(folder, &names, &count, err);

		mg_free(names);
		return code;
	}
	return 0;
}

static int check_options(const struct mg_options *options, struct mg_error *err)
{
	if (mg_options_int(options, "nodes") < 1 || mg_options_int(options, "nodes") > SERVERS_MAX) {
		return mg_error_set(err, MG_E_USAGE, "option \"--nodes\" is from 1 to %d", SERVERS_MAX);
	}
	if (mg_options_int(options, "workers") > 100) {
		return mg_error_set(err, MG_E_USAGE, "option \"--workers\" is at most 100");
	}
	if (mg_options_int(options, "shard-count") < 1 ||
	    mg_options_int(options, "shard-count") > SHARDS_MAX) {
		return mg_error_set(err, MG_E_USAGE, "option \"--shard-count\" is from 1 to %d",
		                    SHARDS_MAX);
	}
	return check_files(options, err);
}

int mg_command_demo(const struct mg_options *options)
{
	struct mg_shell shell;
	struct mg_demo *demo = NULL;
	struct mg_error err = { 0 };
	int exit_code;

	if (check_options(options, &err)) {
		return mg_cli_fail(&err);
	}
	mg_shell_init(&shell);
	mg_format_parse(mg_options_text(options, "format"), &shell.format);
	shell.rows_max = (size_t)mg_options_int(options, "max-rows");
	shell.timer = shell.format == MG_FORMAT_BOX;
	catch_signals();
	demo_shell = &shell;
	if (mg_demo_start(&demo, &(struct mg_demo_options){
			.servers = (unsigned)mg_options_int(options, "nodes"),
			.workers = (unsigned)mg_options_int(options, "workers"),
			.scale_factor = mg_options_number(options, "scale-factor"),
			.shard_count = (unsigned)mg_options_int(options, "shard-count"),
			.kv_shard_count = (unsigned)mg_options_int(options, "kv-shard-count"),
			.keep = mg_options_flag(options, "keep"),
		}, &err) || connect_shell(&shell, demo, &err)) {
		exit_code = mg_demo_stopped ? 0 : mg_cli_fail(&err);
	} else {
		exit_code = run_on_demo(options, &shell, demo);
	}
	mg_shell_fini(&shell);
	demo_shell = NULL;
	catch_signals();        /* a second Ctrl-C must not leave the folder behind */
	mg_demo_stop(demo);
	return mg_demo_stopped == SIGINT ? 130 : mg_demo_stopped ? 128 + mg_demo_stopped : exit_code;
}
