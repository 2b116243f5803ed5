/*
 * worker_fetch.c - see worker_fetch.h; the files themselves come in worker_chunks.c, and what
 * changes them in worker_follow.c.
 *
 *     lease -> a file of our own from an earlier life, or a copy that is attached: go on with it
 *           -> else ask for a file, fetch it, attach it for reading: others may use it, too
 *     it changes -> a file of our own, attached for writing
 *     it can follow no more -> a newer file, of which the chunks are fetched that differ
 *
 * Rule: what is attached for reading was checked in this life of the process; a file of our own is
 * whole because its engine writes it so, and says itself of which cluster and shard it is and what
 * of the shard's log it holds.
 *
 * A shard goes WANTED -> (fetched) -> HELD.  A new lease of the same shard replaces the one before;
 * one that is declined or released is UNKNOWN again.  A copy that a query has pinned is neither
 * detached nor removed.
 *
 * `lock` guards everything but what is attached, which is the fetcher's thread's alone; that lets
 * go of the lock while it reads, writes and hashes.
 */
#include "exec/worker_fetch_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "exec/worker_cache.h"
#include "os/clock.h"
#include "os/file.h"

#include <stdio.h>
#include <string.h>

enum { ATTACH_TRIES = 100, ATTACH_REST_MS = 10, CORRUPT_MAX = 2, OTHERS_MS = 60000 };
enum { BREAKS_MAX = 4, BREAKS_MS = 600 * 1000 };

/* ---- any thread ---- */

bool mg_fetch_pin(struct mg_fetch *fetch, uint32_t shard)
{
	pthread_mutex_lock(&fetch->lock);
	bool holds = shard < fetch->shard_count && fetch->shards[shard].state == MG_FETCH_HELD &&
	             !fetch->shards[shard].needs_own && !fetch->shards[shard].broken;
	fetch->shards[holds ? shard : 0].pins += holds;
	pthread_mutex_unlock(&fetch->lock);
	return holds;
}

void mg_fetch_unpin(struct mg_fetch *fetch, uint32_t shard)
{
	pthread_mutex_lock(&fetch->lock);
	mg_assert(fetch->shards[shard].pins > 0);
	fetch->shards[shard].pins--;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

/* ---- the follower's thread ---- */

static void needs_own(void *arg, uint32_t shard)
{
	struct mg_fetch *fetch = arg;
	pthread_mutex_lock(&fetch->lock);
	fetch->shards[shard].needs_own = true;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

static void broken(void *arg, uint32_t shard)
{
	struct mg_fetch *fetch = arg;
	pthread_mutex_lock(&fetch->lock);
	fetch->shards[shard].broken = true;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

/* ---- the channel's thread ---- */

static bool is_hash(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static int read_lease_locked(struct mg_fetch *fetch, const struct mg_json *item,
                             struct mg_error *err)
{
	int64_t id = mg_json_get_int(item, "id", -1), bytes = mg_json_get_int(item, "bytes", -1);
	int64_t chunk = mg_json_get_int(item, "chunk", 0), index = mg_json_get_int(item, "index", 0);
	const char *sha256 = mg_json_get_text(item, "sha256");
	if (id < 0 || id >= MG_FETCH_SHARDS_MAX || bytes < 0 || index < 0 ||
	    (sha256 && (!is_hash(sha256) || chunk < 4096 || chunk > MG_CHANNEL_MESSAGE_MAX / 2))) {
		return mg_error_set(err, MG_E_PROTOCOL, "a lease without a proper id, size or hash");
	}
	struct mg_fetch_shard *shard = &fetch->shards[id];
	shard->bytes = (uint64_t)bytes;
	shard->offered = sha256 != NULL;
	shard->chunk_size = (uint32_t)chunk;
	shard->index = (uint64_t)index;
	mg_copy_text(shard->sha256, sizeof shard->sha256, sha256);
	shard->renew = mg_json_get_bool(item, "renew", false) || shard->broken;
	shard->state = MG_FETCH_WANTED;
	shard->released = false;
	shard->lease++;
	if (id >= fetch->shard_count) {
		fetch->shard_count = (uint32_t)id + 1;
	}
	return 0;
}

int mg_fetch_lease(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err)
{
	int code = 0;
	pthread_mutex_lock(&fetch->lock);
	mg_json_each(item, mg_json_get(json, "shards")) {
		code = code ? code : read_lease_locked(fetch, item, err);
	}
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

int mg_fetch_release(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err)
{
	int64_t id = mg_json_get_int(json, "shard", -1);
	pthread_mutex_lock(&fetch->lock);
	int code = id >= 0 && id < fetch->shard_count
	               ? 0
	               : mg_error_set(err, MG_E_PROTOCOL, "shard %lld is released, but not held here",
	                              (long long)id);
	/* It may have been declined, or found broken, while the release was on its way. */
	if (!code && fetch->shards[id].state != MG_FETCH_UNKNOWN) {
		fetch->shards[id].state = MG_FETCH_UNKNOWN;
		fetch->shards[id].released = true;
		pthread_cond_broadcast(&fetch->changed);
	}
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

void mg_fetch_threads(struct mg_fetch *fetch, unsigned threads)
{
	pthread_mutex_lock(&fetch->lock);
	fetch->threads = threads;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

void mg_fetch_welcome(struct mg_fetch *fetch, const char *cluster)
{
	pthread_mutex_lock(&fetch->lock);
	bool proper = cluster && strspn(cluster, "0123456789abcdef") == strlen(cluster);
	mg_copy_text(fetch->cluster, sizeof fetch->cluster, proper ? cluster : "");
	pthread_mutex_unlock(&fetch->lock);
}

void mg_fetch_connect(struct mg_fetch *fetch, struct mg_channel *channel)
{
	mg_follower_connect(fetch->follower, channel);
	pthread_mutex_lock(&fetch->lock);
	fetch->channel = mg_channel_ref(channel);
	fetch->connection++;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

void mg_fetch_disconnect(struct mg_fetch *fetch)
{
	pthread_mutex_lock(&fetch->lock);
	mg_channel_unref(fetch->channel);
	fetch->channel = NULL;
	fetch->connection++;
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		/* Leases end with the connection; the copies stay for the next one. */
		fetch->shards[i].state = MG_FETCH_UNKNOWN;
	}
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
	mg_follower_disconnect(fetch->follower);
}

struct mg_follower *mg_fetch_follower(struct mg_fetch *fetch)
{
	return fetch->follower;
}

/* ---- files, on the fetcher's thread ---- */

static void own_name(const struct mg_fetch *fetch, uint32_t shard, char name[MG_FETCH_NAME])
{
	snprintf(name, MG_FETCH_NAME, "own-%u-%s-%04u", fetch->number, fetch->cluster, shard);
}

static void path_of(const struct mg_fetch *fetch, const char *name, char *path, size_t size)
{
	snprintf(path, size, "%s/%s.duckdb", fetch->cache_dir, name);
}

/* Let go of what is attached. */
static int detach(struct mg_fetch *fetch, uint32_t id, bool stays, struct mg_error *err)
{
	struct mg_fetch_shard *shard = &fetch->shards[id];
	mg_follower_close(fetch->follower, id, stays);
	int code = mg_engine_detach(fetch->duck, id, err);
	shard->attached = code != 0;
	return code;
}

/* The engine closes a file when the last who uses it lets go, which may be a moment after. */
static int attach_file(struct mg_fetch *fetch, uint32_t id, const char *name, bool own,
                       struct mg_error *err)
{
	struct mg_fetch_shard *shard = &fetch->shards[id];
	char path[4096];
	int code = MG_E_BUSY;
	path_of(fetch, name, path, sizeof path);
	for (int i = 0; code && i < ATTACH_TRIES; i++) {
		if (i) {
			mg_sleep_ms(ATTACH_REST_MS);
		}
		mg_error_clear(err);
		code = own ? mg_engine_attach_own(fetch->duck, id, path, err)
		           : mg_engine_attach(fetch->duck, id, path, err);
		if (code && !strstr(err->message, "already attached")) {
			break;
		}
	}
	if (!code) {
		shard->attached = true;
		shard->own = own;
		mg_copy_text(shard->attached_name, sizeof shard->attached_name, name);
		mg_file_touch(path);
	}
	return code;
}

/* Is it of this cluster's shard? */
static int check_whose(struct mg_fetch *fetch, uint32_t id, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int64_t found = 0;
	char *sql = mg_format("SELECT count(*) FROM s%u._mg.meta WHERE shard = %u AND cluster_id = "
	                      "'%s'",
	                      id, id, fetch->cluster);
	int code = mg_duck_connect(fetch->duck, &conn, err);
	code = code ? code : mg_duck_int(conn, sql, &found, err);
	mg_duck_disconnect(conn);
	mg_free(sql);
	return code || found == 1
	           ? code
	           : mg_error_set(err, MG_E_CORRUPT, "the file is not one of shard %u", id);
}

/* May this copy go?  Not what is leased or pinned; what is only still attached is let go of. */
static bool may_remove(void *arg, const char *name)
{
	struct mg_fetch *fetch = arg;
	char own[MG_FETCH_NAME];
	pthread_mutex_lock(&fetch->lock);
	uint32_t attached = UINT32_MAX;
	bool may = true;
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		const struct mg_fetch_shard *shard = &fetch->shards[i];
		bool here = shard->attached && mg_text_eq(shard->attached_name, name);
		bool leased = shard->state != MG_FETCH_UNKNOWN;
		own_name(fetch, i, own);
		attached = here ? i : attached;
		may = may && !(here && (shard->pins || leased)) &&
		      !(leased && shard->offered && mg_text_eq(shard->sha256, name)) &&
		      !(leased && mg_text_eq(own, name));
	}
	pthread_mutex_unlock(&fetch->lock);
	return may && (attached == UINT32_MAX || detach(fetch, attached, false, NULL) == 0);
}

static int no_room(const struct mg_fetch *fetch, uint32_t id, uint64_t bytes, struct mg_error *err)
{
	mg_error_set(err, MG_E_DISK_FULL, "the cache of %llu bytes has no room for shard %u of %llu",
	             (unsigned long long)fetch->cache_bytes, id, (unsigned long long)bytes);
	mg_error_hint(err, "Give the worker a larger --cache-size.");
	return MG_E_DISK_FULL;
}

/* See that this copy fits beside the others: those that nobody leases any more go first. */
static int make_room(struct mg_fetch *fetch, const struct mg_fetch_job *job, struct mg_error *err)
{
	uint64_t need = job->shard.bytes, limit = fetch->cache_bytes, there = 0;
	char part_path[4096];
	mg_fetch__part_path(fetch, job, part_path, sizeof part_path);
	const char *path = mg_file_exists(job->path) ? job->path : part_path;
	/* What is there of it already is counted by the folder. */
	if (mg_file_exists(path) && mg_file_size(path, &there, NULL) == 0 && there > need) {
		there = need;
	}
	need -= there;
	uint64_t others = need <= limit ? limit - need : 0;
	uint64_t left = mg_cache_trim(fetch->cache_dir, others, may_remove, fetch);
	/* A whole file that another worker of the folder has fetched costs nothing more. */
	if (need == 0 || (need <= limit && left <= others)) {
		return 0;
	}
	return no_room(fetch, job->id, job->shard.bytes, err);
}

/* What is there of the shard becomes the part: most of its chunks may be the same. */
static void begin_with(struct mg_fetch *fetch, const struct mg_fetch_job *job, const char *name)
{
	char from[4096], part[4096];
	int lock = -1;
	path_of(fetch, name, from, sizeof from);
	mg_fetch__part_path(fetch, job, part, sizeof part);
	if (mg_cache_lock(fetch->cache_dir, 0, &lock, NULL)) {
		return; /* it may be what another worker is copying */
	}
	if (mg_file_exists(from) && !mg_file_exists(job->path) && !mg_file_exists(part) &&
	    !mg_file_is_locked(from)) {
		(void)mg_file_rename(from, part, NULL);
	}
	mg_dir_unlock(lock);
}

static int obtain(struct mg_fetch *fetch, struct mg_fetch_job *job, struct mg_error *err)
{
	path_of(fetch, job->shard.sha256, job->path, sizeof job->path);
	int code = make_room(fetch, job, err);
	if (code || mg_fetch__is_whole(job->path, &job->shard)) {
		return code;
	}
	code = mg_fetch__file(fetch, job, err);
	/* The disk is fuller than the limit knows: once more without all that is not needed. */
	if (code == MG_E_DISK_FULL) {
		mg_log(MG_LOG_WARN, "cache.full", "shard=%u error=\"%s\"", job->id, err->message);
		mg_cache_trim(fetch->cache_dir, 0, may_remove, fetch);
		mg_error_clear(err);
		code = mg_fetch__file(fetch, job, err);
	}
	return code;
}

/* Another worker of the folder may make the file its own before we have it. */
static int obtain_attached(struct mg_fetch *fetch, struct mg_fetch_job *job, struct mg_error *err)
{
	int code = 0;
	for (int i = 0; i < 2; i++) {
		mg_error_clear(err);
		code = obtain(fetch, job, err);
		if (code) {
			break;
		}
		code = attach_file(fetch, job->id, job->shard.sha256, false, err);
		if (!code || mg_file_exists(job->path)) {
			break;
		}
	}
	return code;
}

/* ---- jobs ---- */

/* What the server does wrong ends the connection; what we cannot do is declined. */
static void fail_locked(struct mg_fetch *fetch, uint32_t id, const struct mg_error *err)
{
	bool servers_fault = err->code == MG_E_PROTOCOL;
	mg_log(servers_fault ? MG_LOG_ERROR : MG_LOG_WARN,
	       servers_fault ? "shard.failed" : "shard.declined", "shard=%u error=%s effect=%s", id,
	       err->message,
	       servers_fault ? "the connection ends"
	       : id          ? "others do its work"
	                     : "without the reference tables no work is done");
	fetch->shards[id].state = MG_FETCH_UNKNOWN;
	if (servers_fault) {
		mg_channel_close(fetch->channel, err->message);
		return;
	}
	struct mg_sb json = { 0 };
	mg_sb_addf(&json, "{\"type\":\"decline\",\"shard\":%u,\"reason\":", id);
	mg_sb_add_json(&json, err->message, strlen(err->message));
	mg_sb_add_char(&json, '}');
	mg_channel_send(fetch->channel, mg_sb_text(&json));
	mg_sb_fini(&json);
}

static void want_locked(struct mg_fetch *fetch, uint32_t id, bool renew)
{
	fetch->shards[id].state = MG_FETCH_ASKED;
	mg_channel_sendf(fetch->channel, "{\"type\":\"want\",\"shard\":%u,\"renew\":%s}", id,
	                 renew ? "true" : "false");
}

/* Go on with what is attached, or with the file of an earlier life. */
static bool goes_on(struct mg_fetch *fetch, const struct mg_fetch_job *job, uint64_t *index,
                    uint64_t *term)
{
	char name[MG_FETCH_NAME], path[4096];
	struct mg_error err = { 0 };
	if (fetch->shards[job->id].attached) {
		return mg_follower_at(fetch->follower, job->id, index, term);
	}
	own_name(fetch, job->id, name);
	path_of(fetch, name, path, sizeof path);
	if (!mg_file_exists(path)) {
		return false;
	}
	int code = attach_file(fetch, job->id, name, true, &err);
	code = code ? code : check_whose(fetch, job->id, &err);
	code = code ? code : mg_follower_open(fetch->follower, job->id, true, index, term, &err);
	if (code) {
		mg_log(MG_LOG_WARN, "copy.lost", "shard=%u error=\"%s\"", job->id, err.message);
		if (fetch->shards[job->id].attached) {
			(void)detach(fetch, job->id, false, NULL);
		}
	}
	return code == 0;
}

/* The file that is offered, attached for reading. */
static int take_file(struct mg_fetch *fetch, struct mg_fetch_job *job, struct mg_error *err)
{
	struct mg_fetch_shard *shard = &fetch->shards[job->id];
	char own[MG_FETCH_NAME], before[MG_FETCH_NAME];
	uint64_t index, term;
	int code = 0;
	mg_copy_text(before, sizeof before, shard->attached ? shard->attached_name : "");
	if (shard->attached) {
		code = detach(fetch, job->id, false, err);
	}
	path_of(fetch, job->shard.sha256, job->path, sizeof job->path);
	if (!code && before[0]) {
		begin_with(fetch, job, before);
	}
	own_name(fetch, job->id, own);
	begin_with(fetch, job, own);
	code = code ? code : obtain_attached(fetch, job, err);
	code = code ? code : mg_follower_open(fetch->follower, job->id, false, &index, &term, err);
	return code;
}

static bool is_offered_attached(const struct mg_fetch *fetch, const struct mg_fetch_job *job)
{
	return job->shard.offered && fetch->shards[job->id].attached &&
	       mg_text_eq(fetch->shards[job->id].attached_name, job->shard.sha256);
}

static void tell_held_locked(struct mg_fetch *fetch, const struct mg_fetch_job *job, bool proved,
                             uint64_t index, uint64_t term)
{
	struct mg_fetch_shard *shard = &fetch->shards[job->id];
	shard->state = MG_FETCH_HELD;
	shard->corrupt = 0;
	shard->broken = false;
	if (proved) {
		mg_channel_sendf(fetch->channel, "{\"type\":\"held\",\"shard\":%u,\"sha256\":\"%s\"}",
		                 job->id, job->shard.sha256);
	} else {
		mg_channel_sendf(fetch->channel,
		                 "{\"type\":\"held\",\"shard\":%u,\"index\":%llu,\"term\":%llu}", job->id,
		                 (unsigned long long)index, (unsigned long long)term);
	}
}

static void do_job(struct mg_fetch *fetch, struct mg_fetch_job *job)
{
	struct mg_error err = { 0 };
	uint64_t start = mg_clock_ms(), index = 0, term = 0;
	bool on = !job->shard.renew && goes_on(fetch, job, &index, &term);
	bool proved = on ? is_offered_attached(fetch, job) && index == job->shard.index
	                 : job->shard.offered;
	int code = on || !job->shard.offered ? 0 : take_file(fetch, job, &err);
	pthread_mutex_lock(&fetch->lock);
	struct mg_fetch_shard *shard = &fetch->shards[job->id];
	bool current = mg_fetch__is_current_locked(fetch, job);
	shard->needs_own = shard->needs_own && on;
	if (current && !code && !on && !job->shard.offered) {
		want_locked(fetch, job->id, job->shard.renew);
	} else if (current && !code) {
		tell_held_locked(fetch, job, proved, index, term);
		mg_log(MG_LOG_INFO, "shard.held", "shard=%u bytes=%llu index=%llu own=%s ms=%llu", job->id,
		       (unsigned long long)job->shard.bytes,
		       (unsigned long long)(proved ? job->shard.index : index),
		       shard->own ? "true" : "false", (unsigned long long)(mg_clock_ms() - start));
	} else if (current && code == MG_E_CORRUPT && ++shard->corrupt < CORRUPT_MAX) {
		want_locked(fetch, job->id, true); /* it may have begun to change under our hands */
	} else if (current) {
		fail_locked(fetch, job->id, &err);
	}
	pthread_mutex_unlock(&fetch->lock);
}

/* What was released is let go of first, for its room may be needed; a query that still has it
 * pinned is being closed. */
static bool drop_released_locked(struct mg_fetch *fetch)
{
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		struct mg_fetch_shard *shard = &fetch->shards[i];
		if (!shard->released) {
			continue;
		}
		if (shard->pins) {
			return false;
		}
		shard->released = shard->needs_own = false;
		if (shard->attached) {
			pthread_mutex_unlock(&fetch->lock);
			struct mg_error err;
			mg_error_clear(&err);
			if (detach(fetch, i, false, &err)) {
				mg_log(MG_LOG_WARN, "shard.detach", "shard=%u error=\"%s\"", i, err.message);
			}
			pthread_mutex_lock(&fetch->lock);
		}
	}
	return true;
}

/* ---- a file of our own ---- */

/* The file that was attached for reading becomes ours, or a copy of it when others use it. */
static int make_own(struct mg_fetch *fetch, uint32_t id, const char *from_name,
                    const char *own, struct mg_error *err)
{
	char from[4096], to[4096], fresh[4200];
	uint64_t bytes = 0, limit = fetch->cache_bytes;
	path_of(fetch, from_name, from, sizeof from);
	path_of(fetch, own, to, sizeof to);
	if (!mg_file_is_locked(from)) {
		return mg_file_rename(from, to, err);
	}
	int code = mg_file_size(from, &bytes, err);
	if (!code && (bytes > limit || mg_cache_trim(fetch->cache_dir, limit - bytes, may_remove,
	                                             fetch) > limit - bytes)) {
		return no_room(fetch, id, bytes, err);
	}
	snprintf(fresh, sizeof fresh, "%s.new", to);
	code = code ? code : mg_file_copy(from, fresh, err);
	code = code ? code : mg_file_rename(fresh, to, err);
	if (code) {
		(void)mg_file_remove(fresh, NULL);
	}
	return code;
}

static int change_over(struct mg_fetch *fetch, uint32_t id, struct mg_error *err)
{
	struct mg_fetch_shard *shard = &fetch->shards[id];
	char before[MG_FETCH_NAME], own[MG_FETCH_NAME];
	uint64_t index, term;
	mg_copy_text(before, sizeof before, shard->attached_name);
	own_name(fetch, id, own);
	int lock = -1;
	/* Others who use the file see it attached, or wait: they do not rename it under our hands. */
	int code = mg_cache_lock(fetch->cache_dir, OTHERS_MS, &lock, err);
	code = code ? code : detach(fetch, id, true, err);
	code = code ? code : make_own(fetch, id, before, own, err);
	code = code ? code : attach_file(fetch, id, own, true, err);
	mg_dir_unlock(lock);
	return code ? code : mg_follower_open(fetch->follower, id, true, &index, &term, err);
}

/* A copy changes for the first time. */
static void own_locked(struct mg_fetch *fetch, uint32_t id)
{
	struct mg_fetch_shard *shard = &fetch->shards[id];
	struct mg_error err = { 0 };
	pthread_mutex_unlock(&fetch->lock);
	int code = change_over(fetch, id, &err);
	if (code) {
		if (shard->attached) {
			(void)detach(fetch, id, false, NULL);
		} else {
			mg_follower_close(fetch->follower, id, false);
		}
	}
	pthread_mutex_lock(&fetch->lock);
	shard->needs_own = false;
	if (code && shard->state == MG_FETCH_HELD && fetch->channel) {
		fail_locked(fetch, id, &err);
	}
	mg_log(MG_LOG_INFO, "copy.own", "shard=%u code=%d", id, code);
}

static void mend_locked(struct mg_fetch *fetch, uint32_t id)
{
	struct mg_fetch_shard *shard = &fetch->shards[id];
	char own[MG_FETCH_NAME], path[4096];
	own_name(fetch, id, own);
	path_of(fetch, own, path, sizeof path);
	pthread_mutex_unlock(&fetch->lock);
	if (shard->attached) {
		(void)detach(fetch, id, false, NULL);
	}
	(void)mg_file_remove(path, NULL);
	pthread_mutex_lock(&fetch->lock);
	shard->broken = false;
	uint64_t now = mg_clock_ms();
	shard->breaks = now < shard->broke_ms + BREAKS_MS ? shard->breaks + 1 : 1;
	shard->broke_ms = now;
	if (shard->state != MG_FETCH_HELD || !fetch->channel) {
		return;
	}
	if (shard->breaks < BREAKS_MAX) {
		want_locked(fetch, id, true);
		return;
	}
	/* Else the whole file would travel again and again. */
	struct mg_error err = { 0 };
	shard->breaks = 0;
	mg_error_set(&err, MG_E_NODE, "what shard %u has changed could not be applied %d times", id,
	             BREAKS_MAX);
	fail_locked(fetch, id, &err);
}

/* One of them; true: the lock was let go of. */
static bool tend_locked(struct mg_fetch *fetch)
{
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		struct mg_fetch_shard *shard = &fetch->shards[i];
		if (shard->pins || !shard->attached) {
			continue;
		}
		if (shard->broken) {
			mend_locked(fetch, i);
			return true;
		}
		if (shard->needs_own && !shard->own) {
			own_locked(fetch, i);
			return true;
		}
	}
	return false;
}

/* ---- the thread ---- */

static void set_threads(struct mg_fetch *fetch, unsigned threads)
{
	struct mg_error err;
	mg_error_clear(&err);
	if (mg_duck_set_threads(fetch->duck, threads, &err)) {
		mg_log(MG_LOG_WARN, "worker.threads", "threads=%u error=\"%s\"", threads, err.message);
	} else {
		mg_log(MG_LOG_INFO, "worker.threads", "threads=%u", threads);
	}
}

/* A copy that is to be made anew is let go of when no query reads it any more. */
static bool choose_locked(const struct mg_fetch *fetch, struct mg_fetch_job *job)
{
	for (uint32_t i = 0; fetch->channel && i < fetch->shard_count; i++) {
		const struct mg_fetch_shard *shard = &fetch->shards[i];
		bool replaced = shard->attached && shard->renew;
		if (shard->state == MG_FETCH_WANTED && !(replaced && shard->pins)) {
			job->id = i;
			job->shard = *shard;
			job->connection = fetch->connection;
			return true;
		}
	}
	return false;
}

static void *fetch_thread(void *arg)
{
	struct mg_fetch *fetch = arg;
	pthread_mutex_lock(&fetch->lock);
	while (!fetch->stopping) {
		if (fetch->threads != fetch->threads_set) {
			unsigned threads = fetch->threads_set = fetch->threads;
			pthread_mutex_unlock(&fetch->lock);
			set_threads(fetch, threads);
			pthread_mutex_lock(&fetch->lock);
			continue;
		}
		struct mg_fetch_job job = { 0 };
		bool dropped = drop_released_locked(fetch);
		if (tend_locked(fetch)) {
			continue;
		}
		if (!dropped || !choose_locked(fetch, &job)) {
			pthread_cond_wait(&fetch->changed, &fetch->lock);
			continue;
		}
		pthread_mutex_unlock(&fetch->lock);
		do_job(fetch, &job);
		pthread_mutex_lock(&fetch->lock);
	}
	pthread_mutex_unlock(&fetch->lock);
	return NULL;
}

/* ---- life ---- */

int mg_fetch_new(struct mg_fetch **out, struct mg_duck *duck, unsigned threads,
                 const char *cache_dir, uint64_t cache_bytes, struct mg_error *err)
{
	struct mg_fetch *fetch = mg_alloc0(sizeof *fetch);
	fetch->duck = duck;
	fetch->threads = fetch->threads_set = threads;
	fetch->cache_dir = mg_strdup(cache_dir);
	fetch->cache_bytes = cache_bytes;
	fetch->shards = mg_alloc0(sizeof *fetch->shards * MG_FETCH_SHARDS_MAX);
	fetch->current = UINT32_MAX;
	fetch->number_lock = -1;
	pthread_mutex_init(&fetch->lock, NULL);
	pthread_cond_init(&fetch->changed, NULL);
	const struct mg_follower_options follower = {
		.duck = duck, .needs_own = needs_own, .broken = broken, .arg = fetch
	};
	int code = mg_dir_make(cache_dir, 0700, err);
	code = code ? code : mg_cache_own_number(cache_dir, &fetch->number, &fetch->number_lock, err);
	code = code ? code : mg_follower_new(&fetch->follower, &follower, err);
	if (!code && pthread_create(&fetch->thread, NULL, fetch_thread, fetch) != 0) {
		code = mg_error_set(err, MG_E_NOMEM, "no thread to fetch shards with");
	}
	fetch->thread_started = !code;
	if (code) {
		mg_fetch_free(fetch);
		return code;
	}
	*out = fetch;
	return 0;
}

void mg_fetch_free(struct mg_fetch *fetch)
{
	if (!fetch) {
		return;
	}
	pthread_mutex_lock(&fetch->lock);
	fetch->stopping = true;
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
	if (fetch->follower) {
		mg_follower_stop(fetch->follower);
	}
	if (fetch->thread_started) {
		pthread_join(fetch->thread, NULL);
	}
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		if (fetch->shards[i].attached) {
			(void)detach(fetch, i, false, NULL);
		}
	}
	mg_fetch__drop_arrived(fetch);
	mg_follower_free(fetch->follower);
	mg_channel_unref(fetch->channel);
	mg_dir_unlock(fetch->number_lock);
	pthread_cond_destroy(&fetch->changed);
	pthread_mutex_destroy(&fetch->lock);
	mg_free(fetch->shards);
	mg_free(fetch->cache_dir);
	mg_free(fetch);
}
