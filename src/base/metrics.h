/*
 * metrics.h - counters, gauges and histograms, and their Prometheus text.
 *
 * A metric is one series: a name, its labels as Prometheus writes them (`step="cut"`, or ""), and a
 * value that any thread changes without a lock.  Series are made once and never freed, so a pointer
 * to one can be kept; there are at most MG_METRIC_MAX, and no label may hold what a client wrote.
 *
 * Thread: any.
 */
#ifndef MG_BASE_METRICS_H
#define MG_BASE_METRICS_H

#include "base/str.h"

#include <stdint.h>

#define MG_METRIC_MAX 1024
#define MG_METRIC_BUCKETS_MAX 24

struct mg_metric;

/* Find or make the series.  Past MG_METRIC_MAX all new ones are one series that is not printed. */
struct mg_metric *mg_metric_counter(const char *name, const char *labels, const char *help);
struct mg_metric *mg_metric_gauge(const char *name, const char *labels, const char *help);
/* Seconds, in buckets from 0.5 ms to 2 minutes. */
struct mg_metric *mg_metric_histogram(const char *name, const char *labels, const char *help);

void mg_metric_add(struct mg_metric *metric, int64_t value);      /* counter, gauge */
void mg_metric_set(struct mg_metric *metric, int64_t value);      /* gauge */
void mg_metric_observe(struct mg_metric *metric, double seconds); /* histogram */
int64_t mg_metric_value(const struct mg_metric *metric);          /* histogram: how many */

/* Every series in Prometheus' text format, grouped by name. */
void mg_metrics_print(struct mg_sb *out);

#endif
