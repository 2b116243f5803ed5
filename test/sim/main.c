/*
 * main.c - the simulator's front: seeds, workers, controls.
 *
 *     sim --seeds N [--first SEED]    that many histories, on all cores; each failure with its seed
 *     sim --seed SEED [--trace]       one of them again, told in full
 *     sim --without RULE              with a rule of the host switched off
 *     sim --controls                  each rule off in turn: the checkers must bite
 *
 * Workers are processes, because a history may end in an assertion: then its seed counts as failed
 * and another worker goes on behind it.
 */
#include "sim.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define FAILURES_SHOWN 10
#define VIRTUAL_MS 30000
#define TWICE_EVERY 20 /* seeds: one of them runs twice, to the same end */

struct work {
	struct sim_options options;
	uint64_t seeds;
	unsigned workers;
	uint64_t failures_max; /* stop after that many */
	bool quiet;
};

/* Shared by the workers. */
static struct board {
	uint64_t done[WORKERS_MAX]; /* seeds of each worker that have begun */
	uint64_t failed[WORKERS_MAX];
	struct sim_result sum[WORKERS_MAX];
} * board;

static const struct control {
	const char *name;
	unsigned rules; /* off */
	bool skip_fsync;
	bool slow_disk; /* what it prevents happens while a sync takes long */
	bool no_cuts, free_lanes, overtaking, untold; /* of transactions over groups */
	bool drift, overstay, sleepy;                 /* of leases */
	uint64_t seeds; /* within which it must fail; 0: shown by its unit test alone */
} controls[] = {
	{ .name = "anchor", .rules = MG_ARMOUR_ANCHOR, .seeds = 2000 },
	{ .name = "pieces", .rules = MG_ARMOUR_PIECES, .seeds = 2000 },
	{ .name = "promotion", .rules = MG_ARMOUR_PROMOTION },
	{ .name = "numbers", .rules = MG_ARMOUR_NUMBERS, .seeds = 2000 },
	{ .name = "start", .rules = MG_ARMOUR_START, .seeds = 2000 },
	{ .name = "refusal", .rules = MG_ARMOUR_REFUSAL },
	{ .name = "term", .rules = MG_ARMOUR_TERM, .seeds = 2000 },
	{ .name = "ballot", .rules = MG_ARMOUR_BALLOT, .seeds = 2000 },
	{ .name = "farewell", .rules = MG_ARMOUR_FAREWELL, .seeds = 2000 },
	{ .name = "counting", .rules = MG_ARMOUR_COUNTING },
	{ .name = "hold", .rules = MG_RULE_HOLD, .slow_disk = true, .seeds = 2000 },
	{ .name = "probe", .rules = MG_RULE_PROBE, .seeds = 2000 },
	{ .name = "probe-term", .rules = MG_RULE_PROBE_TERM, .seeds = 2000 },
	{ .name = "promise", .rules = MG_RULE_PROMISE, .seeds = 2000 },
	{ .name = "opening", .rules = MG_RULE_OPENING, .seeds = 2000 },
	{ .name = "given", .rules = MG_RULE_GIVEN, .seeds = 2000 },
	{ .name = "told-once", .rules = MG_RULE_TOLD },
	{ .name = "members", .rules = MG_RULE_MEMBERS },
	{ .name = "drift", .drift = true, .seeds = 2000 },
	{ .name = "overstay", .overstay = true, .seeds = 2000 },
	{ .name = "sleepy", .sleepy = true, .seeds = 2000 },
	{ .name = "fsync", .skip_fsync = true, .seeds = 2000 },
	{ .name = "cuts", .no_cuts = true, .seeds = 2000 },
	{ .name = "touch", .free_lanes = true, .seeds = 2000 },
	{ .name = "order", .overtaking = true, .seeds = 2000 },
	{ .name = "told", .untold = true, .seeds = 2000 },
};

static void add(struct sim_result *sum, const struct sim_result *one)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)one;

	for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) {
		to[i] += from[i];
	}
}

/* Whatever chance there is comes from the seed: then a failure can be looked at again. */
static bool repeats(const struct sim_options *options, const struct sim_result *first,
                    char *failure, size_t size)
{
	struct sim_result again;
	bool good = sim_run(options, &again, failure, size);

	if (good && memcmp(first, &again, sizeof again) != 0) {
		(void)snprintf(failure, size, "the same seed gave another history");
		good = false;
	}
	return good;
}

/* Worker `number` does every workers-th seed, from where it or its predecessor stood. */
static void run_worker(const struct work *work, unsigned number)
{
	while (number + board->done[number] * work->workers < work->seeds) {
		struct sim_options options = work->options;
		struct sim_result result;
		char failure[512];

		options.seed += number + board->done[number] * work->workers;
		board->done[number]++;
		bool good = sim_run(&options, &result, failure, sizeof failure);

		if (good && options.seed % TWICE_EVERY == 0) {
			good = repeats(&options, &result, failure, sizeof failure);
		}
		if (!good) {
			board->failed[number]++;
			if (!work->quiet) {
				printf("seed %" PRIu64 ": %s\n", options.seed, failure);
				(void)fflush(stdout);
			}
			if (board->failed[number] >= work->failures_max) {
				return;
			}
		}
		add(&board->sum[number], &result);
	}
}

static pid_t spawn(const struct work *work, unsigned number)
{
	(void)fflush(stdout);
	pid_t child = fork();

	mg_assert(child >= 0);
	if (child == 0) {
		if (work->quiet) {
			(void)!freopen("/dev/null", "w", stderr);
		}
		run_worker(work, number);
		(void)fflush(stdout);
		_exit(0);
	}
	return child;
}

/* Returns how many seeds failed. */
static uint64_t run(const struct work *work, uint64_t *ran, struct sim_result *sum)
{
	pid_t children[WORKERS_MAX];
	unsigned alive = work->workers;
	uint64_t failed = 0;

	memset(board, 0, sizeof *board);
	for (unsigned i = 0; i < work->workers; i++) {
		children[i] = spawn(work, i);
	}
	while (alive > 0) {
		int status;
		pid_t child = wait(&status);

		for (unsigned i = 0; i < work->workers; i++) {
			if (children[i] != child) {
				continue;
			}
			alive--;
			if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
				continue;
			}
			board->failed[i]++;
			if (!work->quiet) {
				printf("seed %" PRIu64 ": ended by signal %d (an assertion, above)\n",
				       work->options.seed + i + (board->done[i] - 1) * work->workers,
				       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
			}
			if (board->failed[i] < work->failures_max) {
				children[i] = spawn(work, i);
				alive++;
			}
		}
	}
	*ran = 0;
	*sum = (struct sim_result){ 0 };
	for (unsigned i = 0; i < work->workers; i++) {
		failed += board->failed[i];
		*ran += board->done[i];
		add(sum, &board->sum[i]);
	}
	return failed;
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_seeds(const struct work *work)
{
	uint64_t ran;
	struct sim_result sum;
	double start = seconds();
	uint64_t failed = run(work, &ran, &sum);

	printf("%" PRIu64 " seeds of %" PRIu64 " s in %.0f s: %" PRIu64 " events, %" PRIu64
	       " entries committed, %" PRIu64 " writes acknowledged, %" PRIu64 " refused, %" PRIu64
	       " unknown, %" PRIu64 " reads, %" PRIu64 " of them by leases, %" PRIu64
	       " elections, %" PRIu64
	       " changes of members, %" PRIu64 " snapshots installed, %" PRIu64
	       " crashes, %" PRIu64 " states made anew, %" PRIu64 " of them from older ones, %" PRIu64
	       " cuts read, %" PRIu64 " drivers of transactions lost\n",
	       ran, work->options.virtual_ms / 1000, seconds() - start, sum.events, sum.committed,
	       sum.acknowledged, sum.refused, sum.unknown, sum.reads, sum.leased, sum.elections,
	       sum.changes, sum.installs, sum.crashes, sum.mended, sum.older,
	       sum.cuts, sum.drivers);
	printf("[  PASSED  ] %" PRIu64 " test(s).\n", ran - failed);
	if (failed > 0) {
		printf("[  FAILED  ] %" PRIu64 " test(s)\n", failed);
	}
	return failed > 0;
}

/* more: beside what is switched off already. */
static void switch_off_more(struct sim_options *options, const struct control *control, bool more)
{
	options->no_cuts = (more && options->no_cuts) || control->no_cuts;
	options->free_lanes = (more && options->free_lanes) || control->free_lanes;
	options->overtaking = (more && options->overtaking) || control->overtaking;
	options->untold = (more && options->untold) || control->untold;
	options->drift = (more && options->drift) || control->drift;
	options->overstay = (more && options->overstay) || control->overstay;
	options->sleepy = (more && options->sleepy) || control->sleepy;
}

static int run_controls(struct work work)
{
	unsigned bites = 0, silent = 0;

	work.failures_max = 1;
	work.quiet = true;
	for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
		uint64_t ran;
		struct sim_result sum;

		if (controls[i].seeds == 0) {
			continue;
		}
		work.seeds = controls[i].seeds;
		work.options.rules = MG_RULE_ALL & ~controls[i].rules;
		work.options.skip_fsync = controls[i].skip_fsync;
		work.options.slow_disk = controls[i].slow_disk;
		switch_off_more(&work.options, &controls[i], false);
		bool bitten = run(&work, &ran, &sum) > 0;

		printf("without %s: %s within %" PRIu64 " seeds\n", controls[i].name,
		       bitten ? "fails" : "NOTHING FAILS", ran);
		bites += bitten;
		silent += !bitten;
	}
	printf("[  PASSED  ] %u test(s).\n", bites);
	if (silent > 0) {
		printf("[  FAILED  ] %u test(s)\n", silent);
	}
	return silent > 0;
}

static int run_one(const struct work *work)
{
	struct sim_result result;
	char failure[512];
	bool good = sim_run(&work->options, &result, failure, sizeof failure);

	printf("seed %" PRIu64 ": %s; %" PRIu64 " events, %" PRIu64 " committed\n", work->options.seed,
	       good ? "right" : failure, result.events, result.committed);
	return !good;
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: sim [--seeds N] [--first SEED] [--seed SEED] [--trace] [--ms N]\n"
	                      "           [--workers N] [--without RULE] [--slow-disk] [--controls]\n"
	                      "rules:");
	for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
		(void)fprintf(stderr, " %s", controls[i].name);
	}
	(void)fprintf(stderr, "\n");
	return 2;
}

static bool switch_off(struct sim_options *options, const char *name)
{
	for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
		if (strcmp(controls[i].name, name) == 0) {
			options->rules &= ~controls[i].rules;
			options->skip_fsync = options->skip_fsync || controls[i].skip_fsync;
			switch_off_more(options, &controls[i], true);
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct work work = {
		.options = { .seed = 1, .virtual_ms = VIRTUAL_MS, .rules = MG_RULE_ALL },
		.seeds = 100,
		.workers = cores < 1             ? 1
		           : cores > WORKERS_MAX ? WORKERS_MAX
		                                 : (unsigned)cores,
		.failures_max = FAILURES_SHOWN,
	};
	bool one = false, control = false;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--trace") == 0) {
			work.options.trace = true;
		} else if (strcmp(argv[i], "--slow-disk") == 0) {
			work.options.slow_disk = true;
		} else if (strcmp(argv[i], "--controls") == 0) {
			control = true;
		} else if (value == NULL) {
			return usage();
		} else if (strcmp(argv[i], "--seeds") == 0) {
			work.seeds = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--first") == 0) {
			work.options.seed = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--seed") == 0) {
			work.options.seed = strtoull(argv[++i], NULL, 10);
			one = true;
		} else if (strcmp(argv[i], "--ms") == 0) {
			work.options.virtual_ms = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--workers") == 0) {
			work.workers = (unsigned)strtoul(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--without") == 0 && switch_off(&work.options, value)) {
			i++;
		} else {
			return usage();
		}
	}
	if (work.workers < 1 || work.workers > WORKERS_MAX || work.options.virtual_ms < 10000) {
		return usage();
	}
	(void)mg_log_open(&(struct mg_log_options){ .level = MG_LOG_OFF });
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mg_assert(board != MAP_FAILED);
	return control ? run_controls(work) : one ? run_one(&work) : run_seeds(&work);
}
