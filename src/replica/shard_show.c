/*
 * shard_show.c - what a shard has applied becomes visible, with what readers of several shards ask
 * of it (cuts.h).
 *
 * owner: the lane.
 */
#include "replica/shard_sm_int.h"

#include "os/clock.h"

/* What is not in the file yet: rows, or transactions in doubt. */
void mg_shard_sm__note_state(struct mg_shard_sm *sm, bool dirty)
{
	pthread_mutex_lock(&sm->lock);
	sm->dirty = sm->dirty || dirty;
	sm->changing = false; /* what was applied is shown */
	pthread_mutex_unlock(&sm->lock);
}

/* What was applied up to this entry becomes visible, at once with what readers ask of it. */
int mg_shard_sm__show(struct mg_shard_sm *sm, const struct mg_entry *last, struct mg_error *err)
{
	struct mg_cuts *cuts = sm->options.cuts;
	bool blind = mg_shard_sm__is_blind(sm);
	bool tells = cuts && (sm->seen_is_newer || blind != sm->blind);
	int code = 0;

	pthread_mutex_lock(&sm->lock);
	sm->showing = last->index;
	pthread_mutex_unlock(&sm->lock);
	if (tells) {
		mg_cuts_publish_begin(cuts, sm->options.shard);
	}
	if (sm->writing) {
		code = mg_shard_writer_commit(sm->writer, last->index, last->term, err);
	}
	if (tells) {
		mg_cuts_publish_end(cuts, sm->options.shard, code ? NULL : sm->seen, blind);
	}
	if (!code) {
		if (sm->writing) {
			mg_follow_log_end(sm->follow, last->index, last->term);
		}
		sm->writing = sm->seen_is_newer = false;
		sm->blind = blind;
		sm->index = last->index;
		sm->term = last->term;
		mg_changes_log_publish(sm->changes, sm->index);
	}
	return code;
}

/* When readers wait for this shard and others to come together, what came before this commit is
 * shown, and they are waited for. */
int mg_shard_sm__enter_commit(struct mg_shard_sm *sm, uint64_t number, struct mg_error *err)
{
	struct mg_cuts *cuts = sm->options.cuts;
	int code = 0;

	if (!cuts || number == 0 || mg_cuts_try_enter(cuts, number, mg_clock_ms())) {
		return 0;
	}
	if (sm->at > 0) {
		bool dirty = sm->writing;

		code = mg_shard_sm__show(sm, &sm->entries[sm->at - 1], err);
		mg_shard_sm__note_state(sm, dirty);
	}
	if (!code) {
		mg_cuts_enter(cuts, number);
	}
	return code;
}

void mg_shard_sm__note_commit(struct mg_shard_sm *sm, const struct mg_command *command)
{
	struct mg_in shards = command->rest;
	uint64_t number = command->number;

	sm->old = sm->old || !command->numbered;
	while (sm->seen && !shards.failed && shards.at < shards.end) {
		uint32_t shard = mg_in_u32(&shards);

		if (shard < mg_cuts_count(sm->options.cuts) && number > sm->seen[shard]) {
			sm->seen[shard] = number;
			sm->seen_is_newer = true;
		}
	}
}
