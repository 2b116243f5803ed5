/*
 * cmd_bootstrap.c - `merganser bootstrap`: from options to mg_bootstrap_run, and its progress.
 *
 * Generated passwords go to standard output, once; everything else to standard error.
 */
#include "cli/commands.h"
#include "cli/connect.h"
#include "os/tty.h"
#include "server/bootstrap.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct mg_option mg_options_bootstrap[] = {
	MG_OPTION_DATA_DIR(NULL, "made when missing"),
	{ .name = "client-username",
	  .kind = MG_O_TEXT,
	  .value = "NAME",
	  .fallback = "admin",
	  .help = "the first user, who is the admin" },
	MG_OPTION_PASSWORD("client-password", NULL, "its password; made when missing"),
	MG_OPTION_PASSWORD("worker-password", NULL, "of user \"worker\"; made when missing"),
	MG_OPTION_PASSWORD("join-password", NULL,
	                   "for servers that join; made when missing; also in tls/join.secret"),
	{ .name = "tpch-scale-factor",
	  .kind = MG_O_NUMBER,
	  .fallback = "1",
	  .help = "size of the TPC-H tables; 0: no sample data" },
	{ .name = "ssb",
	  .kind = MG_O_FLAG,
	  .help = "also the tables of the Star Schema Benchmark, in schema ssb" },
	{ .name = "tpcds-scale-factor",
	  .kind = MG_O_NUMBER,
	  .fallback = "0",
	  .help = "size of the TPC-DS tables, in schema tpcds; 0: none" },
	{ .name = "shard-count", .kind = MG_O_INT, .fallback = "11", .help = "shards of the tables" },
	{ .name = "kv-shard-count",
	  .kind = MG_O_INT,
	  .max = MG_BOOTSTRAP_SHARDS_MAX,
	  .fallback = "4",
	  .help = "shards of keys and values; 0: none" },
	{ .name = "host",
	  .kind = MG_O_TEXT,
	  .value = "NAME",
	  .help = "one more name or address in the server's certificate" },
	MG_OPTION_THREADS("0: what the machine gives"),
	MG_OPTION_MEMORY("0: a quarter of the machine's, at most 4 GiB"),
	{ .name = "overwrite", .kind = MG_O_FLAG, .help = "start anew: other keys, users and data" },
	{ 0 },
};

static atomic_bool stop;
static volatile sig_atomic_t stop_signal;

static void on_stop(int number)
{
	stop_signal = number;
	atomic_store(&stop, true);
}

struct progress {
	bool terminal;
	char step[32];
};

static void on_progress(void *arg, const char *step, double done)
{
	struct progress *progress = arg;

	if (progress->terminal) {
		fprintf(stderr, "\r\033[K%-8s %3d %%", step, (int)(done * 100));
		fflush(stderr);
	} else if (strcmp(progress->step, step) != 0) {
		fprintf(stderr, "%s ...\n", step);
	}
	snprintf(progress->step, sizeof progress->step, "%s", step);
}

/* A word for a shell, so that the line can be copied. */
static void print_word(const char *word, FILE *to)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
								"0123456789/._-+";
	if (*word && word[strspn(word, plain)] == '\0') {
		fputs(word, to);
		return;
	}
	fputc('\'', to);
	for (; *word; word++) {
		fputs(*word == '\'' ? "'\\''" : (char[]){ *word, '\0' }, to);
	}
	fputc('\'', to);
}

static void print_report(const struct mg_bootstrap_report *report, const char *data_dir)
{
	mg_bootstrap_print_passwords(report, stdout);
	fflush(stdout);
	if (!report->changed) {
		fprintf(stderr, "\"%s\" is complete; nothing was changed\n", data_dir);
	} else {
		fprintf(stderr, "\"%s\" is ready: %u shards made, %u kept, %llu rows, %.1f MB, in %.1f s\n",
		        data_dir, report->shards_made, report->shards_kept,
		        (unsigned long long)report->rows, (double)report->bytes / 1e6,
		        (double)report->millis / 1000);
	}
	fputs("next: merganser server --data-dir ", stderr);
	print_word(data_dir, stderr);
	fputc('\n', stderr);
}

static void wipe(char *secret)
{
	if (secret) {
		explicit_bzero(secret, strlen(secret));
	}
	mg_free(secret);
}

static int run(const struct mg_options *options, const char *client, const char *worker,
               const char *join)
{
	struct progress progress = { .terminal = mg_tty_is(2) };
	struct mg_bootstrap_report report = { 0 };
	struct mg_error err = { 0 };
	uint64_t kv_shards = mg_options_int(options, "kv-shard-count");
	bool kv_given = mg_options_given(options, "kv-shard-count");
	struct mg_bootstrap_options bootstrap = {
		.data_dir = mg_options_text(options, "data-dir"),
		.client_username = mg_options_text(options, "client-username"),
		.client_password = client,
		.worker_password = worker,
		.join_password = join,
		.host = mg_options_text(options, "host"),
		.tpch_scale_factor = mg_options_number(options, "tpch-scale-factor"),
		.tpcds_scale_factor = mg_options_number(options, "tpcds-scale-factor"),
		.ssb = mg_options_flag(options, "ssb"),
		.shard_count = mg_options_given(options, "shard-count")
		                   ? (uint32_t)mg_options_int(options, "shard-count") : 0,
		.kv_shard_count = kv_given ? (uint32_t)kv_shards : 0,
		.no_keys = kv_given && kv_shards == 0,
		.overwrite = mg_options_flag(options, "overwrite"),
		.threads = (unsigned)mg_options_int(options, "threads"),
		.memory_bytes = mg_options_int(options, "memory-limit"),
		.progress = on_progress,
		.arg = &progress,
		.stop = &stop,
	};
	int code = mg_bootstrap_run(&bootstrap, &report, &err);

	if (progress.terminal && progress.step[0]) {
		fputs("\r\033[K", stderr);
	}
	if (code) {
		int exit_code = mg_cli_fail(&err);

		return stop_signal == SIGINT ? 130 : exit_code;
	}
	print_report(&report, bootstrap.data_dir);
	memset(&report, 0, sizeof report);
	return 0;
}

int mg_command_bootstrap(const struct mg_options *options)
{
	struct sigaction action = { .sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND };
	uint64_t shards = mg_options_int(options, "shard-count");
	char *client = NULL, *worker = NULL, *join = NULL;
	struct mg_error err = { 0 };
	int exit_code;

	if (shards < 1 || shards > MG_BOOTSTRAP_SHARDS_MAX) {
		mg_error_set(&err, MG_E_USAGE, "option \"--shard-count\" is from 1 to %d",
		             MG_BOOTSTRAP_SHARDS_MAX);
		return mg_cli_fail(&err);
	}
	if (mg_options_secret(options, "client-password", NULL, &client, &err) ||
	    mg_options_secret(options, "worker-password", NULL, &worker, &err) ||
	    mg_options_secret(options, "join-password", NULL, &join, &err)) {
		exit_code = mg_cli_fail(&err);
	} else {
		sigemptyset(&action.sa_mask);
		sigaction(SIGINT, &action, NULL);
		sigaction(SIGTERM, &action, NULL);
		exit_code = run(options, client, worker, join);
	}
	wipe(client);
	wipe(worker);
	wipe(join);
	return exit_code;
}
