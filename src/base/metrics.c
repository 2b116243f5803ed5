/*
 * metrics.c - the registry of series and their text.
 *
 * Rule: changing a value is one atomic operation and never waits; only making a series and printing
 * all of them take the lock.  A histogram's sum is kept in microseconds, so that it is an integer
 * and needs no compare-and-swap loop.
 *
 * Limits: MG_METRIC_MAX series, MG_METRIC_BUCKETS_MAX buckets.
 */
#include "base/metrics.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct mg_metric {
	enum metric_kind kind;
	char *name, *labels, *help;
	atomic_llong value; /* histogram: number of observations */
	atomic_llong sum_micros;
	atomic_llong buckets[MG_METRIC_BUCKETS_MAX]; /* not cumulative */
};

static const double bounds[] = {
	0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120,
};
#define BOUND_COUNT (sizeof bounds / sizeof bounds[0])
_Static_assert(BOUND_COUNT < MG_METRIC_BUCKETS_MAX, "the last bucket is for what is longer");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mg_metric *metrics[MG_METRIC_MAX]; /* sorted by name, then labels */
static size_t metric_count;
static struct mg_metric overflow;

static int compare(const struct mg_metric *metric, const char *name, const char *labels)
{
	int order = strcmp(metric->name, name);

	return order ? order : strcmp(metric->labels, labels);
}

static struct mg_metric *get(enum metric_kind kind, const char *name, const char *labels,
                             const char *help)
{
	struct mg_metric *metric = &overflow;
	size_t at = 0;

	pthread_mutex_lock(&lock);
	while (at < metric_count && compare(metrics[at], name, labels) < 0) {
		at++;
	}
	if (at < metric_count && compare(metrics[at], name, labels) == 0) {
		metric = metrics[at];
	} else if (metric_count < MG_METRIC_MAX) {
		metric = mg_alloc0(sizeof *metric);
		metric->kind = kind;
		metric->name = mg_strdup(name);
		metric->labels = mg_strdup(labels);
		metric->help = mg_strdup(help);
		memmove(&metrics[at + 1], &metrics[at], (metric_count - at) * sizeof(metrics[0]));
		metrics[at] = metric;
		metric_count++;
	}
	pthread_mutex_unlock(&lock);
	return metric;
}

struct mg_metric *mg_metric_counter(const char *name, const char *labels, const char *help)
{
	return get(METRIC_COUNTER, name, labels, help);
}

struct mg_metric *mg_metric_gauge(const char *name, const char *labels, const char *help)
{
	return get(METRIC_GAUGE, name, labels, help);
}

struct mg_metric *mg_metric_histogram(const char *name, const char *labels, const char *help)
{
	return get(METRIC_HISTOGRAM, name, labels, help);
}

void mg_metric_add(struct mg_metric *metric, int64_t value)
{
	atomic_fetch_add_explicit(&metric->value, value, memory_order_relaxed);
}

void mg_metric_set(struct mg_metric *metric, int64_t value)
{
	atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

void mg_metric_observe(struct mg_metric *metric, double seconds)
{
	size_t bucket = 0;

	while (bucket < BOUND_COUNT && seconds > bounds[bucket]) {
		bucket++;
	}
	atomic_fetch_add_explicit(&metric->buckets[bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&metric->sum_micros, (long long)(seconds * 1e6),
	                          memory_order_relaxed);
	atomic_fetch_add_explicit(&metric->value, 1, memory_order_relaxed);
}

int64_t mg_metric_value(const struct mg_metric *metric)
{
	return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

static void print_value(struct mg_sb *out, const struct mg_metric *metric)
{
	mg_sb_add(out, metric->name);
	if (metric->labels[0]) {
		mg_sb_addf(out, "{%s}", metric->labels);
	}
	mg_sb_addf(out, " %lld\n", (long long)mg_metric_value(metric));
}

/* The count is summed from the buckets that are printed, so that the text agrees with itself while
 * other threads observe. */
static void print_histogram(struct mg_sb *out, const struct mg_metric *metric)
{
	const char *comma = metric->labels[0] ? "," : "";
	const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
	long long sum = 0;

	for (size_t i = 0; i <= BOUND_COUNT; i++) {
		sum += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
		mg_sb_addf(out, "%s_bucket{%s%sle=\"", metric->name, metric->labels, comma);
		if (i < BOUND_COUNT) {
			mg_sb_addf(out, "%g", bounds[i]);
		} else {
			mg_sb_add(out, "+Inf");
		}
		mg_sb_addf(out, "\"} %lld\n", sum);
	}
	mg_sb_addf(out, "%s_sum%s%s%s %.6f\n", metric->name, open, metric->labels, close,
	           (double)atomic_load_explicit(&metric->sum_micros, memory_order_relaxed) / 1e6);
	mg_sb_addf(out, "%s_count%s%s%s %lld\n", metric->name, open, metric->labels, close, sum);
}

void mg_metrics_print(struct mg_sb *out)
{
	static const char *const kinds[] = { "counter", "gauge", "histogram" };
	const char *name = "";

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < metric_count; i++) {
		const struct mg_metric *metric = metrics[i];

		if (strcmp(name, metric->name) != 0) {
			name = metric->name;
			mg_sb_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, metric->help, name,
			           kinds[metric->kind]);
		}
		if (metric->kind == METRIC_HISTOGRAM) {
			print_histogram(out, metric);
		} else {
			print_value(out, metric);
		}
	}
	pthread_mutex_unlock(&lock);
}
