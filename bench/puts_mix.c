/*
 * puts_mix.c - what clients ask of keys, and of which ones.
 *
 * A, B, C and E are the core workloads of YCSB (Cooper et al., SoCC 2010), with values of 100 bytes
 * in place of ten fields of that size.  Its zipfian keys are drawn as in Gray et al., "Quickly
 * generating billion-record synthetic databases", and then scattered over all by a hash.
 */
#include "puts_int.h"

#include <math.h>
#include <string.h>

#define THETA 0.99

static const struct mix mixes[] = {
	{ "fill", 100, 0, KEYS_ALL },
	{ "insert", 100, 0, KEYS_NEW },
	{ "set", 100, 0, KEYS_EVEN },
	{ "get", 0, 0, KEYS_EVEN },
	{ "A", 50, 0, KEYS_ZIPF },
	{ "B", 5, 0, KEYS_ZIPF },
	{ "C", 0, 0, KEYS_ZIPF },
	{ "E", 5, 95, KEYS_ZIPF }, /* what it writes is new */
};

const struct mix *puts_mix(const char *name)
{
	for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
		if (strcmp(mixes[i].name, name) == 0) {
			return &mixes[i];
		}
	}
	puts_fail(name, "there is no such mix");
}

void puts_mix_begin(struct load *load)
{
	for (uint64_t i = 1; load->mix->keys == KEYS_ZIPF && i <= load->keys; i++) {
		load->zeta += 1 / pow((double)i, THETA);
	}
}

static uint64_t scatter(uint64_t value)
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

	for (size_t i = 0; i < sizeof value; i++) {
		hash = (hash ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
	}
	return hash;
}

static uint64_t zipf_key(struct worker *worker)
{
	const struct load *load = worker->load;
	double n = (double)load->keys, u = (double)(puts_random(worker) >> 11) * 0x1p-53;
	double two = 1 + pow(0.5, THETA), at = u * load->zeta;
	double eta = (1 - pow(2 / n, 1 - THETA)) / (1 - two / load->zeta);
	double rank = at < 1     ? 0
	              : at < two ? 1
	                         : n * pow(eta * u - eta + 1, 1 / (1 - THETA));

	return scatter((uint64_t)rank) % load->keys;
}

static uint64_t choose_key(struct worker *worker, bool fresh)
{
	const struct load *load = worker->load;

	if (fresh) {
		return (uint64_t)worker->number << 24 | worker->fresh++;
	}
	return load->mix->keys == KEYS_ZIPF ? zipf_key(worker) : puts_random(worker) % load->keys;
}

bool puts_next(struct worker *worker, struct step *step)
{
	struct load *load = worker->load;
	const struct mix *mix = load->mix;
	unsigned chance = (unsigned)(puts_random(worker) >> 32) % 100;
	uint64_t key;

	step->op = chance < mix->writes               ? OP_WRITE
	           : chance < mix->writes + mix->scans ? OP_SCAN
	                                               : OP_READ;
	step->count = step->op == OP_SCAN ? puts_random(worker) % SCAN_MAX + 1 : 1;
	if (mix->keys == KEYS_ALL) {
		key = atomic_fetch_add(&load->next, 1);
		worker->ended = key >= load->keys;
	} else {
		key = choose_key(worker, step->op == OP_WRITE && (mix->keys == KEYS_NEW || mix->scans));
	}
	for (size_t i = 0; i < sizeof step->key; i++) {
		step->key[i] = (char)(key >> (8 * (sizeof step->key - 1 - i)));
	}
	return !worker->ended;
}
