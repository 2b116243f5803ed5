/*
 * bins.c - see bins.h.  Each step is numpy's (2.4: linspace, histogram, histogramdd), in its order:
 * another one would round differently.
 */
#include "store/bins.h"

#include <math.h>

/* numpy.linspace(low, high, count + 1) */
static void set_edges(struct mg_bins *bins)
{
	double delta = bins->high - bins->low, step = delta / (double)bins->count;

	for (size_t i = 0; i < bins->count; i++) {
		/* volatile: rounded before the sum, also where one instruction could do both. */
		volatile double y = step == 0 ? (double)i / (double)bins->count * delta : (double)i * step;

		bins->edges[i] = y + bins->low;
	}
	bins->edges[bins->count] = bins->high;
}

const char *mg_bins_set(struct mg_bins *bins, double low, double high)
{
	if (!isfinite(low) || !isfinite(high)) {
		return "both ends of the range must be finite";
	}
	if (low > high) {
		return "the range's upper end is below its lower one";
	}
	bins->low = low == high ? low - 0.5 : low;
	bins->high = low == high ? high + 0.5 : high;
	if (!isfinite(bins->high - bins->low)) {
		return "the range is too wide";
	}
	set_edges(bins);
	for (size_t i = 0; i < bins->count; i++) {
		if (!(bins->edges[i] < bins->edges[i + 1])) {
			return "too many bins for the range: two edges would be the same number";
		}
	}
	return NULL;
}

/* By equal widths; near an edge it may be the bin beside. */
static bool guess(const struct mg_bins *bins, double value, size_t *bin)
{
	if (!(value >= bins->low && value <= bins->high)) {
		return false;
	}
	size_t at =
		(size_t)((value - bins->low) / (bins->high - bins->low) * (double)bins->count);

	*bin = at == bins->count ? at - 1 : at;
	return true;
}

bool mg_bins_find(const struct mg_bins *bins, double value, size_t *bin)
{
	if (!guess(bins, value, bin)) {
		return false;
	}
	if (value < bins->edges[*bin]) {
		(*bin)--;
	}
	if (*bin != bins->count - 1 && value >= bins->edges[*bin + 1]) {
		(*bin)++;
	}
	return true;
}

bool mg_bins_search(const struct mg_bins *bins, double value, size_t *bin)
{
	if (!guess(bins, value, bin)) {
		return false;
	}
	while (value < bins->edges[*bin]) {
		(*bin)--;
	}
	while (*bin != bins->count - 1 && value >= bins->edges[*bin + 1]) {
		(*bin)++;
	}
	return true;
}
