/*
 * worker_chunks.c - the file of a shard, by chunks: those that are not here yet, or differ.
 *
 * Rule: a file bears its hash as its name only after all of it was read back and hashed.
 *
 * A part may be what an interrupted transfer has left, or an older file of the same shard.  Either
 * way the server is asked for the hashes of all chunks, and then for those that are others here.
 *
 * owner: the fetcher's thread; what arrives is put down by the channel's, under the lock.
 */
#include "exec/worker_fetch_int.h"

#include "base/log.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool mg_fetch__is_current_locked(const struct mg_fetch *fetch, const struct mg_fetch_job *job)
{
	const struct mg_fetch_shard *shard = &fetch->shards[job->id];

	return !fetch->stopping && fetch->connection == job->connection &&
	       shard->state == MG_FETCH_WANTED && shard->lease == job->shard.lease;
}

/* ---- the channel's thread ---- */

/* Of the fetch that is under way, not of one that was given up. */
static bool is_answer(const struct mg_fetch *fetch, const struct mg_frame *frame)
{
	return frame->id == fetch->current && frame->rows == fetch->number_of_it;
}

int mg_fetch_chunk(struct mg_fetch *fetch, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&fetch->lock);
	size_t at = fetch->next + fetch->arrived_count;

	if (is_answer(fetch, frame) &&
	    (!fetch->needed || at >= fetch->needed_count || frame->stage != fetch->needed[at] ||
	     fetch->arrived_count == MG_FETCH_AHEAD)) {
		code = mg_error_set(err, MG_E_PROTOCOL, "chunk %u of shard %u came out of turn",
		                    frame->stage, fetch->current);
	} else if (is_answer(fetch, frame)) {
		fetch->arrived[fetch->arrived_count++] = mg_buf_ref(payload);
		pthread_cond_broadcast(&fetch->changed);
	}
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

void mg_fetch_hashes(struct mg_fetch *fetch, const struct mg_frame *frame, struct mg_buf *payload)
{
	pthread_mutex_lock(&fetch->lock);
	if (is_answer(fetch, frame) && !fetch->hashes && !fetch->needed) {
		fetch->hashes = mg_buf_ref(payload);
		pthread_cond_broadcast(&fetch->changed);
	}
	pthread_mutex_unlock(&fetch->lock);
}

void mg_fetch__drop_arrived(struct mg_fetch *fetch)
{
	while (fetch->arrived_count) {
		mg_buf_unref(fetch->arrived[--fetch->arrived_count]);
	}
	mg_buf_unref(fetch->hashes);
	fetch->hashes = NULL;
}

/* ---- the fetcher's thread ---- */

/* The channel, with a reference; NULL: the fetch is given up. */
static struct mg_channel *begin(struct mg_fetch *fetch, const struct mg_fetch_job *job)
{
	struct mg_channel *channel = NULL;

	pthread_mutex_lock(&fetch->lock);
	if (mg_fetch__is_current_locked(fetch, job)) {
		channel = mg_channel_ref(fetch->channel);
		fetch->current = job->id;
		fetch->number_of_it++;
		fetch->needed = NULL;
		fetch->needed_count = fetch->next = 0;
		mg_fetch__drop_arrived(fetch);
	}
	pthread_mutex_unlock(&fetch->lock);
	return channel;
}

static void end(struct mg_fetch *fetch, struct mg_channel *channel)
{
	pthread_mutex_lock(&fetch->lock);
	fetch->current = UINT32_MAX;
	fetch->needed = NULL;
	mg_fetch__drop_arrived(fetch);
	pthread_mutex_unlock(&fetch->lock);
	mg_channel_unref(channel);
}

static int give_up(struct mg_error *err)
{
	return mg_error_set(err, MG_E_DISCONNECTED, "the fetch was given up");
}

/* Wait for the next chunk. NULL: the fetch is given up. */
static struct mg_buf *await_chunk(struct mg_fetch *fetch, const struct mg_fetch_job *job)
{
	struct mg_buf *buf = NULL;

	pthread_mutex_lock(&fetch->lock);
	while (mg_fetch__is_current_locked(fetch, job) && !fetch->arrived_count) {
		pthread_cond_wait(&fetch->changed, &fetch->lock);
	}
	if (mg_fetch__is_current_locked(fetch, job)) {
		buf = fetch->arrived[0];
		memmove(fetch->arrived, fetch->arrived + 1,
		        --fetch->arrived_count * sizeof *fetch->arrived);
		fetch->next++;
	}
	pthread_mutex_unlock(&fetch->lock);
	return buf;
}

/* Of all chunks; the caller's. */
static int await_hashes(struct mg_fetch *fetch, const struct mg_fetch_job *job,
                        struct mg_channel *channel, uint32_t chunks, struct mg_buf **out,
                        struct mg_error *err)
{
	mg_channel_sendf(channel, "{\"type\":\"hashes\",\"shard\":%u,\"index\":%llu,\"fetch\":%llu}",
	                 job->id, (unsigned long long)job->shard.index,
	                 (unsigned long long)fetch->number_of_it);
	pthread_mutex_lock(&fetch->lock);
	while (mg_fetch__is_current_locked(fetch, job) && !fetch->hashes) {
		pthread_cond_wait(&fetch->changed, &fetch->lock);
	}
	bool current = mg_fetch__is_current_locked(fetch, job);

	*out = current ? fetch->hashes : NULL;
	fetch->hashes = current ? NULL : fetch->hashes;
	pthread_mutex_unlock(&fetch->lock);
	if (!current) {
		return give_up(err);
	}
	return (*out)->size == (size_t)chunks * crypto_hash_sha256_BYTES
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "the hashes are not those of %u chunks", chunks);
}

static int write_all(int fd, const struct mg_buf *buf, uint64_t offset, const char *path,
                     struct mg_error *err)
{
	size_t done = 0;

	while (done < buf->size) {
		ssize_t wrote = pwrite(fd, buf->data + done, buf->size - done, (off_t)(offset + done));

		if (wrote >= 0) {
			done += (size_t)wrote;
		} else if (errno != EINTR) {
			return mg_error_errno(err, errno, "cannot write \"%s\"", path);
		}
	}
	return 0;
}

static bool has_hash(int fd, uint8_t *piece, uint64_t offset, size_t size, const uint8_t *hash)
{
	uint8_t found[crypto_hash_sha256_BYTES];
	size_t done = 0;

	while (done < size) {
		ssize_t got = pread(fd, piece + done, size - done, (off_t)(offset + done));

		if (got <= 0 && !(got < 0 && errno == EINTR)) {
			return false;
		}
		done += got > 0 ? (size_t)got : 0;
	}
	crypto_hash_sha256(found, piece, size);
	return memcmp(found, hash, sizeof found) == 0;
}

static uint32_t count_chunks(const struct mg_fetch_job *job)
{
	return (uint32_t)((job->shard.bytes + job->shard.chunk_size - 1) / job->shard.chunk_size);
}

static size_t chunk_bytes(const struct mg_fetch_job *job, uint32_t chunk)
{
	uint64_t left = job->shard.bytes - (uint64_t)chunk * job->shard.chunk_size;

	return left < job->shard.chunk_size ? (size_t)left : job->shard.chunk_size;
}

/* Those that are not as they should be in what is there of the file. */
static int find_needed(struct mg_fetch *fetch, const struct mg_fetch_job *job, int fd,
                       struct mg_channel *channel, const char *path, uint32_t *needed,
                       size_t *count, struct mg_error *err)
{
	struct stat info;
	uint32_t chunks = count_chunks(job);
	struct mg_buf *hashes = NULL;
	int code = fstat(fd, &info) == 0 ? 0 : mg_error_errno(err, errno, "cannot read \"%s\"", path);

	if (!code && info.st_size > 0) {
		code = await_hashes(fetch, job, channel, chunks, &hashes, err);
	}
	uint8_t *piece = mg_alloc(job->shard.chunk_size);

	*count = 0;
	for (uint32_t i = 0; !code && i < chunks; i++) {
		if (!hashes || !has_hash(fd, piece, (uint64_t)i * job->shard.chunk_size,
		                         chunk_bytes(job, i),
		                         hashes->data + (size_t)i * crypto_hash_sha256_BYTES)) {
			needed[(*count)++] = i;
		}
	}
	if (!code) {
		mg_log(MG_LOG_INFO, "shard.fetch", "shard=%u index=%llu chunks=%u needed=%zu", job->id,
		       (unsigned long long)job->shard.index, chunks, *count);
	}
	mg_free(piece);
	mg_buf_unref(hashes);
	return code;
}

static void request_chunk(const struct mg_fetch *fetch, struct mg_channel *channel,
                          const struct mg_fetch_job *job, uint32_t chunk)
{
	mg_channel_sendf(channel,
	                 "{\"type\":\"fetch\",\"shard\":%u,\"chunk\":%u,\"index\":%llu,\"fetch\":%llu}",
	                 job->id, chunk, (unsigned long long)job->shard.index,
	                 (unsigned long long)fetch->number_of_it);
}

static int fetch_needed(struct mg_fetch *fetch, const struct mg_fetch_job *job, int fd,
                        struct mg_channel *channel, const char *path, const uint32_t *needed,
                        size_t count, struct mg_error *err)
{
	size_t asked = 0;
	int code = 0;

	for (size_t i = 0; !code && i < count; i++) {
		while (asked < count && asked < i + MG_FETCH_AHEAD) {
			request_chunk(fetch, channel, job, needed[asked++]);
		}
		struct mg_buf *buf = await_chunk(fetch, job);

		if (!buf) {
			code = give_up(err);
		} else if (buf->size != chunk_bytes(job, needed[i])) {
			code = mg_error_set(err, MG_E_PROTOCOL, "a chunk has a wrong size");
		} else {
			code = write_all(fd, buf, (uint64_t)needed[i] * job->shard.chunk_size, path, err);
		}
		mg_buf_unref(buf);
	}
	return code;
}

static int fetch_chunks(struct mg_fetch *fetch, const struct mg_fetch_job *job, int fd,
                        const char *path, struct mg_error *err)
{
	struct mg_channel *channel = begin(fetch, job);

	if (!channel) {
		return give_up(err);
	}
	uint32_t *needed = mg_alloc((count_chunks(job) + 1) * sizeof *needed);
	size_t count = 0;
	int code = find_needed(fetch, job, fd, channel, path, needed, &count, err);

	if (!code) {
		pthread_mutex_lock(&fetch->lock);
		fetch->needed = needed;
		fetch->needed_count = count;
		pthread_mutex_unlock(&fetch->lock);
		code = fetch_needed(fetch, job, fd, channel, path, needed, count, err);
	}
	end(fetch, channel);
	mg_free(needed);
	if (!code && (ftruncate(fd, (off_t)job->shard.bytes) != 0 || fsync(fd) != 0)) {
		code = mg_error_errno(err, errno, "cannot write \"%s\"", path);
	}
	return code;
}

bool mg_fetch__is_whole(const char *path, const struct mg_fetch_shard *shard)
{
	uint64_t size;
	char sha256[MG_SHA256_TEXT_SIZE];

	return mg_file_exists(path) && mg_file_size(path, &size, NULL) == 0 && size == shard->bytes &&
	       mg_file_sha256(path, sha256, NULL) == 0 && mg_text_eq(sha256, shard->sha256);
}

void mg_fetch__part_path(const struct mg_fetch *fetch, const struct mg_fetch_job *job, char *path,
                         size_t size)
{
	snprintf(path, size, "%s/%s.part", fetch->cache_dir, job->shard.sha256);
}

/* The part file of this content; another worker of this machine may be writing the common one, then
 * an own. */
static int open_part(struct mg_fetch *fetch, const struct mg_fetch_job *job, char *path,
                     size_t path_size, struct mg_error *err)
{
	for (int own = 0; own < 2; own++) {
		mg_fetch__part_path(fetch, job, path, path_size);
		if (own) {
			snprintf(path, path_size, "%s/%s-%ld.part", fetch->cache_dir, job->shard.sha256,
			         (long)getpid());
		}
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0) {
			mg_error_errno(err, errno, "cannot write \"%s\"", path);
			return -1;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			return fd;
		}
		close(fd);
	}
	mg_error_set(err, MG_E_BUSY, "\"%s\" is being written by another process", path);
	return -1;
}

/* Fetch into the part file until it is whole.  Damaged on its way to the disk, it is fetched once
 * more from the start. */
static int fill_part(struct mg_fetch *fetch, struct mg_fetch_job *job, int fd,
                     const char *part_path, struct mg_error *err)
{
	int code = 0;

	for (int attempt = 0; attempt < 2; attempt++) {
		code = fetch_chunks(fetch, job, fd, part_path, err);
		if (code || mg_fetch__is_whole(part_path, &job->shard)) {
			break;
		}
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "the copy of shard %u does not have the hash that was promised",
		                    job->id);
		mg_log(MG_LOG_WARN, "shard.hash", "shard=%u attempt=%d", job->id, attempt + 1);
		if (ftruncate(fd, 0) != 0) {
			break;
		}
	}
	return code;
}

/* A part that will not become whole only takes room; one of a lost connection is gone on with. */
static bool is_worth_keeping(int code)
{
	return code == MG_E_DISCONNECTED;
}

int mg_fetch__file(struct mg_fetch *fetch, struct mg_fetch_job *job, struct mg_error *err)
{
	char part_path[4096];
	int fd = open_part(fetch, job, part_path, sizeof part_path, err);

	if (fd < 0) {
		return err->code;
	}
	int code = fill_part(fetch, job, fd, part_path, err);

	if (!code) {
		code = mg_file_rename(part_path, job->path, err);
	}
	if (code && !is_worth_keeping(code)) {
		(void)mg_file_remove(part_path, NULL);
	}
	close(fd);
	return code;
}
