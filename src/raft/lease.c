/* lease.c - see lease.h.  Pure. */
#include "raft/lease.h"

#include "base/assert.h"

unsigned mg_lease_ms(unsigned promise_ms)
{
	unsigned shorter = promise_ms - promise_ms / 5 - (promise_ms % 5 != 0);

	mg_assert(shorter <= promise_ms);
	return shorter > MG_LEASE_TICK_MS ? shorter - MG_LEASE_TICK_MS : 0;
}

void mg_lease_round(struct mg_lease *lease, uint64_t now_ms)
{
	mg_assert(now_ms > 0);
	mg_assert(now_ms >= lease->round_ms);
	lease->round_ms = now_ms;
}

void mg_lease_confirm(struct mg_lease *lease, uint64_t term, unsigned lease_ms)
{
	uint64_t until_ms = lease->round_ms + lease_ms;

	mg_assert(term > 0 && term >= lease->given_term);
	if (lease->round_ms == 0 || lease->given_term == term || until_ms <= lease->until_ms) {
		return;
	}
	lease->until_ms = until_ms;
}

bool mg_lease_holds(const struct mg_lease *lease, uint64_t now_ms)
{
	mg_assert(lease->round_ms > 0 || lease->until_ms == 0);
	return now_ms < lease->until_ms;
}

bool mg_lease_ages(const struct mg_lease *lease, uint64_t now_ms, unsigned lease_ms)
{
	mg_assert(now_ms >= lease->round_ms);
	return now_ms - lease->round_ms >= lease_ms / 2;
}

void mg_lease_end(struct mg_lease *lease)
{
	lease->round_ms = 0;
	lease->until_ms = 0;
}

void mg_lease_give_away(struct mg_lease *lease, uint64_t term)
{
	mg_assert(term >= lease->given_term);
	mg_lease_end(lease);
	lease->given_term = term;
}
