/*
 * hub_files.c - the files of shards that workers copy.
 *
 * Offered is the file of a shard that has not changed since it was loaded, whose hash the catalog
 * has; or a copy that copies.c has made of one that has, in shards/NNNN.copy.  Such a copy holds
 * one checkpoint and stays as it is; what came behind it is still in the shard's follow log, else
 * it is not fit any more and another one is made when somebody wants it.
 *
 * Rule: a worker counts as holding a shard only after it has shown the SHA-256 of the file that it
 * was leased, or the index and term of a copy that has followed the shard before.
 */
#include "exec/hub_int.h"

#include "base/log.h"
#include "base/str.h"
#include "exec/engine.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/follow_log.h"
#include "replica/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEEP_MS 60000u /* an offer that nobody asks for */

char *mg_hub_copy_path(const struct mg_hub *hub, uint32_t shard)
{
	return mg_format("%s/shards/%04u.copy", hub->data_dir, shard);
}

bool mg_hub__is_fit(struct mg_hub *hub, uint32_t shard)
{
	const struct mg_offer *offer = &hub->offers[shard];
	struct mg_follow_log *log = mg_replica_follow(mg_engine_replica(hub->engine), shard);
	uint64_t lag_ms;

	return offer->there &&
	       (offer->copied
	            ? mg_follow_log_covers(log, offer->index, offer->term) == MG_FOLLOW_HERE
	            : mg_follow_log_last(log, offer->index, &lag_ms) == offer->index);
}

/* Under the lock. */
static bool is_wanted(const struct mg_hub *hub, uint32_t shard)
{
	bool wanted = false;

	for (size_t i = 0; !wanted && i < hub->worker_count; i++) {
		const struct mg_worker *worker = hub->workers[i];

		wanted = worker->greeted && worker->holding[shard] == MG_LEASED &&
		         worker->held[shard].wants;
	}
	return wanted;
}

bool mg_hub_wanted_shard(struct mg_hub *hub, uint32_t *shard)
{
	uint32_t count = hub->shard_count + 1, first = *shard + 1;
	bool found = false;

	pthread_mutex_lock(&hub->lock);
	for (uint32_t i = 0; !found && i < count; i++) {
		uint32_t at = (first + i) % count;

		found = is_wanted(hub, at) && !mg_hub__is_fit(hub, at);
		*shard = found ? at : *shard;
	}
	pthread_mutex_unlock(&hub->lock);
	return found;
}

/* Whoever is reading goes on with the old one, which then is not what was offered. */
static int reopen(struct mg_hub *hub, uint32_t shard, const char *path)
{
	int fresh = open(path, O_RDONLY | O_CLOEXEC);

	if (fresh >= 0 && hub->files[shard] >= 0) {
		(void)dup3(fresh, hub->files[shard], O_CLOEXEC);
		close(fresh);
	} else if (fresh >= 0) {
		hub->files[shard] = fresh;
	}
	return fresh;
}

bool mg_hub_offer(struct mg_hub *hub, uint32_t shard, uint64_t index, uint64_t term,
                  const char *path, const char *sha256, uint64_t bytes)
{
	bool fit = false;

	pthread_mutex_lock(&hub->lock);
	if (reopen(hub, shard, path) >= 0) {
		hub->offers[shard] = (struct mg_offer){
			.there = true, .copied = true, .index = index, .term = term, .used_ms = mg_clock_ms()
		};
		hub->shards[shard].bytes = bytes;
		mg_copy_text(hub->shards[shard].sha256, sizeof hub->shards[shard].sha256, sha256);
		for (size_t i = 0; i < hub->worker_count; i++) {
			mg_hub__lease_again(hub, hub->workers[i], shard);
		}
		fit = mg_hub__is_fit(hub, shard);
	}
	pthread_mutex_unlock(&hub->lock);
	return fit;
}

/* Somebody is copying it. */
static bool is_asked(const struct mg_hub *hub, uint32_t shard)
{
	bool asked = false;

	for (size_t i = 0; i < hub->worker_count; i++) {
		asked = asked || hub->workers[i]->holding[shard] == MG_LEASED;
	}
	return asked;
}

void mg_hub__drop_offers(struct mg_hub *hub)
{
	uint64_t now = mg_clock_ms();

	for (uint32_t i = 0; i <= hub->shard_count; i++) {
		struct mg_offer *offer = &hub->offers[i];

		if (offer->there && offer->copied && !is_asked(hub, i) && now > offer->used_ms + KEEP_MS) {
			char *path = mg_hub_copy_path(hub, i);

			offer->there = false;
			(void)mg_file_remove(path, NULL);
			mg_free(path);
		}
	}
}

void mg_hub__remove_copies(struct mg_hub *hub)
{
	for (uint32_t i = 0; i <= hub->shard_count; i++) {
		char *path = mg_hub_copy_path(hub, i);

		(void)mg_file_remove(path, NULL);
		mg_free(path);
	}
}

/* ---- what workers ask and say ---- */

/* A shard id out of a frame, that this worker has been leased.  Under the lock. */
static int leased_shard(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                        uint32_t *shard, struct mg_error *err)
{
	int64_t id = mg_json_get_int(json, "shard", -1);

	if (!worker->greeted || id < 0 || id > hub->shard_count ||
	    worker->holding[id] == MG_NOT_LEASED) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "worker \"%s\" names shard %lld, which is not leased to it", worker->id,
		                    (long long)id);
	}
	*shard = (uint32_t)id;
	return 0;
}

static int read_piece(const struct mg_hub *hub, uint32_t shard, uint64_t offset, uint8_t *data,
                      size_t size, struct mg_error *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t got =
			pread(hub->files[shard], data + done, size - done, (off_t)(offset + done));

		if (got > 0) {
			done += (size_t)got;
		} else if (got == 0) {
			return mg_error_set(err, MG_E_CORRUPT,
			                    "the file of shard %u is shorter than its manifest says", shard);
		} else if (errno != EINTR) {
			return mg_error_errno(err, errno, "cannot read the file of shard %u", shard);
		}
	}
	return 0;
}

/* What is asked for of a file.  False: it is another one now, of which the worker hears. */
static int begin_reading(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                         uint32_t *shard, uint64_t *bytes, bool *same, struct mg_error *err)
{
	uint64_t index = (uint64_t)mg_json_get_int(json, "index", 0);

	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, shard, err);

	if (!code) {
		struct mg_offer *offer = &hub->offers[*shard];

		*same = offer->index == index &&
		        (offer->copied ? offer->there : mg_hub__is_fit(hub, *shard));
		*bytes = hub->shards[*shard].bytes;
		offer->used_ms = mg_clock_ms();
		if (!*same && worker->holding[*shard] == MG_LEASED) {
			worker->held[*shard].wants = true;
			mg_hub__lease_again(hub, worker, *shard);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return code;
}

/* A file that is another one since it was looked at is no reason to end the connection. */
static int forgive(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                   int code, struct mg_error *err)
{
	struct mg_error ignored = { 0 };
	uint64_t size;
	uint32_t shard;
	bool same = true;

	if (code == MG_E_CORRUPT &&
	    begin_reading(hub, worker, json, &shard, &size, &same, &ignored) == 0 && !same) {
		mg_error_clear(err);
		return 0;
	}
	return code;
}

int mg_hub__on_fetch(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                     struct mg_error *err)
{
	uint64_t chunk = (uint64_t)mg_json_get_int(json, "chunk", -1), size = 0;
	uint32_t shard = 0;
	bool same = false;
	int code = begin_reading(hub, worker, json, &shard, &size, &same, err);

	if (code || !same) {
		return code;
	}
	uint64_t offset = chunk * MG_HUB_CHUNK;

	if (chunk > UINT32_MAX || offset >= size) {
		return mg_error_set(err, MG_E_PROTOCOL, "chunk %llu is beyond the end of shard %u",
		                    (unsigned long long)chunk, shard);
	}
	size_t want = size - offset < MG_HUB_CHUNK ? (size_t)(size - offset) : MG_HUB_CHUNK;
	struct mg_buf *buf = mg_buf_new(want);

	if (!buf) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a chunk of shard %u", shard);
	}
	buf->size = want;
	code = read_piece(hub, shard, offset, buf->data, want, err);
	if (!code) {
		struct mg_frame frame = { .kind = MG_FRAME_CHUNK,
			                      .id = shard,
			                      .stage = (uint32_t)chunk,
			                      .rows = (uint64_t)mg_json_get_int(json, "fetch", 0) };

		code = mg_channel_send_data(worker->channel, &frame, buf, err);
	}
	mg_buf_unref(buf);
	return forgive(hub, worker, json, code, err);
}

/* Hashes of all chunks, for one that has an older copy and needs what differs alone. */
int mg_hub__on_hashes(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                      struct mg_error *err)
{
	uint64_t size = 0;
	uint32_t shard = 0;
	bool same = false;
	int code = begin_reading(hub, worker, json, &shard, &size, &same, err);

	if (code || !same) {
		return code;
	}
	size_t count = (size_t)((size + MG_HUB_CHUNK - 1) / MG_HUB_CHUNK);
	struct mg_buf *hashes = mg_buf_new(count * crypto_hash_sha256_BYTES);
	uint8_t *piece = mg_alloc(MG_HUB_CHUNK);

	code = hashes ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for hashes of shard %u", shard);
	for (size_t i = 0; !code && i < count; i++) {
		uint64_t offset = (uint64_t)i * MG_HUB_CHUNK;
		size_t part = size - offset < MG_HUB_CHUNK ? (size_t)(size - offset) : MG_HUB_CHUNK;

		code = read_piece(hub, shard, offset, piece, part, err);
		crypto_hash_sha256(hashes->data + i * crypto_hash_sha256_BYTES, piece, part);
	}
	if (!code) {
		struct mg_frame frame = { .kind = MG_FRAME_HASHES,
			                      .id = shard,
			                      .rows = (uint64_t)mg_json_get_int(json, "fetch", 0) };

		hashes->size = count * crypto_hash_sha256_BYTES;
		code = mg_channel_send_data(worker->channel, &frame, hashes, err);
	}
	mg_free(piece);
	mg_buf_unref(hashes);
	return forgive(hub, worker, json, code, err);
}

/* Under the lock. */
static int held_shard(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                      uint32_t shard, struct mg_error *err)
{
	const char *sha256 = mg_json_get_text(json, "sha256");
	const struct mg_hub_held *held = &worker->held[shard];
	int64_t index = mg_json_get_int(json, "index", -1), term = mg_json_get_int(json, "term", -1);

	if (sha256 && (!held->sha256[0] || !mg_text_eq(sha256, held->sha256))) {
		return mg_error_set(err, MG_E_CORRUPT, "worker \"%s\" shows a wrong hash of shard %u",
		                    worker->id, shard);
	}
	if (!sha256 && (index < 0 || term < 0)) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "worker \"%s\" does not say what it holds of shard %u", worker->id,
		                    shard);
	}
	mg_hub__claim(hub, worker, shard, sha256 ? held->leased : (uint64_t)index,
	              sha256 ? held->leased_term : (uint64_t)term);
	return 0;
}

int mg_hub__on_held(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err)
{
	uint32_t shard;

	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, &shard, err);

	code = code ? code : held_shard(hub, worker, json, shard, err);
	mg_hub__tell_ready(hub, worker);
	pthread_mutex_unlock(&hub->lock);
	mg_hub__kick_feeders(hub);
	return code;
}

int mg_hub__on_want(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err)
{
	uint32_t shard;

	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, &shard, err);
	bool follows = !code && (worker->holding[shard] == MG_HELD);

	if (follows) { /* what it holds is broken */
		mg_hub__forget_sent(worker, shard);
		worker->holding[shard] = MG_LEASED;
	}
	if (!code && worker->holding[shard] == MG_LEASED) {
		worker->held[shard].wants = true;
		worker->held[shard].renews = follows || mg_json_get_bool(json, "renew", false);
		worker->held[shard].claims = false;
		mg_hub__lease_again(hub, worker, shard);
	}
	pthread_mutex_unlock(&hub->lock);
	return code;
}

int mg_hub__on_decline(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                       struct mg_error *err)
{
	uint32_t shard;
	const char *reason = mg_json_get_text(json, "reason");

	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, &shard, err);

	if (!code) {
		mg_hub__forget_sent(worker, shard); /* it changes, and there is no room for that */
		mg_log(MG_LOG_WARN, "worker.full", "worker=%s shard=%u reason=\"%.200s\"", worker->id,
		       shard, reason ? reason : "");
		mg_hub__tell(hub, "worker.full", worker->id);
		mg_hub__decline(hub, worker, shard);
	}
	pthread_mutex_unlock(&hub->lock);
	return code;
}
