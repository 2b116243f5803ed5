/*
 * worker_fetch.c - see worker_fetch.h.
 *
 * Rule: a file bears its hash as its name only after all of it was read back and hashed; what is
 * attached was checked in this life of the process.
 *
 * A shard goes WANTED -> (fetched) -> HELD.  A new lease of the same shard with another hash
 * replaces it. `lock` guards everything; the fetcher's thread lets go of it while it reads, writes
 * and hashes.
 */
#include "exec/worker_fetch.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARDS_MAX = 4096, AHEAD = 3 };

enum state { UNKNOWN, WANTED, HELD };

struct shard {
	enum state state;
	bool attached, shown;
	uint64_t bytes;
	uint32_t chunk_size;
	char sha256[65];
	char attached_sha256[65];
};

struct mg_fetch {
	struct mg_duck *duck;
	char *cache_dir;
	pthread_t thread;
	bool thread_started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	struct mg_channel *channel; /* with a reference */
	uint64_t connection;        /* counts connects: a fetch of an older one is given up */
	struct shard *shards;
	uint32_t shard_count; /* highest id + 1 */
	/* the fetch under way: */
	uint32_t current;    /* shard, or UINT32_MAX */
	uint32_t next_chunk; /* that we wait for */
	struct mg_buf *arrived[AHEAD];
	size_t arrived_count;
};

bool mg_fetch_holds(struct mg_fetch *fetch, uint32_t shard)
{
	pthread_mutex_lock(&fetch->lock);
	bool holds = shard < fetch->shard_count && fetch->shards[shard].state == HELD;
	pthread_mutex_unlock(&fetch->lock);
	return holds;
}

/* ---- the channel's thread ---- */

int mg_fetch_lease(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err)
{
	int code = 0;
	pthread_mutex_lock(&fetch->lock);
	mg_json_each(item, mg_json_get(json, "shards")) {
		int64_t id = mg_json_get_int(item, "id", -1), bytes = mg_json_get_int(item, "bytes", -1);
		int64_t chunk = mg_json_get_int(item, "chunk", 0);
		const char *sha256 = mg_json_get_text(item, "sha256");
		if (id < 0 || id >= SHARDS_MAX || bytes < 0 || chunk < 4096 ||
		    chunk > MG_CHANNEL_MESSAGE_MAX / 2 || !sha256 || strlen(sha256) != 64 ||
		    strspn(sha256, "0123456789abcdef") != 64) {
			code = mg_error_set(err, MG_E_PROTOCOL, "a lease without a proper id, size or hash");
			break;
		}
		struct shard *shard = &fetch->shards[id];
		shard->bytes = (uint64_t)bytes;
		shard->chunk_size = (uint32_t)chunk;
		mg_copy_text(shard->sha256, sizeof shard->sha256, sha256);
		shard->state = WANTED;
		if (id >= fetch->shard_count) {
			fetch->shard_count = (uint32_t)id + 1;
		}
	}
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

int mg_fetch_chunk(struct mg_fetch *fetch, uint32_t shard, uint32_t chunk, struct mg_buf *payload,
                   struct mg_error *err)
{
	int code = 0;
	pthread_mutex_lock(&fetch->lock);
	if (shard != fetch->current) {
		/* An answer to a fetch that was given up. */
	} else if (chunk != fetch->next_chunk + fetch->arrived_count || fetch->arrived_count == AHEAD) {
		code =
			mg_error_set(err, MG_E_PROTOCOL, "chunk %u of shard %u came out of turn", chunk, shard);
	} else {
		fetch->arrived[fetch->arrived_count++] = mg_buf_ref(payload);
		pthread_cond_broadcast(&fetch->changed);
	}
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

static void drop_arrived_locked(struct mg_fetch *fetch)
{
	while (fetch->arrived_count) {
		mg_buf_unref(fetch->arrived[--fetch->arrived_count]);
	}
}

void mg_fetch_connect(struct mg_fetch *fetch, struct mg_channel *channel)
{
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
		fetch->shards[i].state = UNKNOWN;
	}
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
}

/* ---- the fetcher's thread ---- */

/* A fetch under way: what was leased, and over which connection. */
struct job {
	uint32_t id;
	struct shard shard;
	uint64_t connection;
	char path[4096];
};

static bool is_current_locked(const struct mg_fetch *fetch, const struct job *job)
{
	return !fetch->stopping && fetch->connection == job->connection &&
	       fetch->shards[job->id].state == WANTED &&
	       memcmp(fetch->shards[job->id].sha256, job->shard.sha256, sizeof job->shard.sha256) == 0;
}

static void request_chunk(struct mg_channel *channel, const struct job *job, uint32_t chunk)
{
	mg_channel_sendf(channel, "{\"type\":\"fetch\",\"shard\":%u,\"chunk\":%u}", job->id, chunk);
}

/* Wait for the next chunk. NULL: the fetch is given up. */
static struct mg_buf *await_chunk(struct mg_fetch *fetch, const struct job *job)
{
	struct mg_buf *buf = NULL;
	pthread_mutex_lock(&fetch->lock);
	while (is_current_locked(fetch, job) && !fetch->arrived_count) {
		pthread_cond_wait(&fetch->changed, &fetch->lock);
	}
	if (is_current_locked(fetch, job)) {
		buf = fetch->arrived[0];
		memmove(fetch->arrived, fetch->arrived + 1,
		        --fetch->arrived_count * sizeof *fetch->arrived);
		fetch->next_chunk++;
	}
	pthread_mutex_unlock(&fetch->lock);
	return buf;
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

/* Fetch the chunks that the part file does not have yet. */
static int fetch_chunks(struct mg_fetch *fetch, struct job *job, int fd, const char *part_path,
                        struct mg_error *err)
{
	struct stat info;
	if (fstat(fd, &info) != 0) {
		return mg_error_errno(err, errno, "cannot read \"%s\"", part_path);
	}
	uint64_t size = job->shard.chunk_size, have = (uint64_t)info.st_size;
	uint32_t chunks = (uint32_t)((job->shard.bytes + size - 1) / size);
	uint32_t first = have <= job->shard.bytes ? (uint32_t)(have / size) : 0;
	pthread_mutex_lock(&fetch->lock);
	bool current = is_current_locked(fetch, job);
	struct mg_channel *channel = current ? mg_channel_ref(fetch->channel) : NULL;
	fetch->current = job->id;
	fetch->next_chunk = first;
	drop_arrived_locked(fetch);
	pthread_mutex_unlock(&fetch->lock);
	int code = current ? 0 : mg_error_set(err, MG_E_DISCONNECTED, "the fetch was given up");
	uint32_t asked = first;
	for (uint32_t chunk = first; !code && chunk < chunks; chunk++) {
		while (asked < chunks && asked < chunk + AHEAD) {
			request_chunk(channel, job, asked++);
		}
		struct mg_buf *buf = await_chunk(fetch, job);
		uint64_t offset = chunk * size, left = job->shard.bytes - offset;
		if (!buf) {
			code = mg_error_set(err, MG_E_DISCONNECTED, "the fetch was given up");
		} else if (buf->size != (left < size ? left : size)) {
			code = mg_error_set(err, MG_E_PROTOCOL, "a chunk has a wrong size");
		} else {
			code = write_all(fd, buf, offset, part_path, err);
		}
		mg_buf_unref(buf);
	}
	pthread_mutex_lock(&fetch->lock);
	fetch->current = UINT32_MAX;
	drop_arrived_locked(fetch);
	pthread_mutex_unlock(&fetch->lock);
	mg_channel_unref(channel);
	if (!code && ftruncate(fd, (off_t)job->shard.bytes) != 0) {
		code = mg_error_errno(err, errno, "cannot write \"%s\"", part_path);
	}
	return code        ? code
	       : fsync(fd) ? mg_error_errno(err, errno, "cannot write \"%s\"", part_path)
	                   : 0;
}

/* Is there a whole file of that content? */
static bool is_whole(const char *path, const struct shard *shard)
{
	uint64_t size;
	char sha256[MG_SHA256_TEXT_SIZE];
	return mg_file_exists(path) && mg_file_size(path, &size, NULL) == 0 && size == shard->bytes &&
	       mg_file_sha256(path, sha256, NULL) == 0 && mg_text_eq(sha256, shard->sha256);
}

/* The part file of this content; another worker of this machine may be writing the common one, then
 * an own. */
static int open_part(struct mg_fetch *fetch, const struct job *job, char *path, size_t path_size,
                     struct mg_error *err)
{
	for (int own = 0; own < 2; own++) {
		char suffix[32] = "";
		if (own) {
			snprintf(suffix, sizeof suffix, "-%ld", (long)getpid());
		}
		snprintf(path, path_size, "%s/%s%s.part", fetch->cache_dir, job->shard.sha256, suffix);
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

static int obtain(struct mg_fetch *fetch, struct job *job, struct mg_error *err)
{
	snprintf(job->path, sizeof job->path, "%s/%s.duckdb", fetch->cache_dir, job->shard.sha256);
	if (is_whole(job->path, &job->shard)) {
		return 0;
	}
	char part_path[4096];
	int fd = open_part(fetch, job, part_path, sizeof part_path, err);
	if (fd < 0) {
		return err->code;
	}
	int code = 0;
	for (int attempt = 0; attempt < 2; attempt++) {
		code = fetch_chunks(fetch, job, fd, part_path, err);
		if (code || is_whole(part_path, &job->shard)) {
			break;
		}
		/* Resumed over something that was not ours, or damaged on the disk: once more from the
		 * start. */
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "the copy of shard %u does not have the hash that was promised",
		                    job->id);
		mg_log(MG_LOG_WARN, "shard.hash", "shard=%u attempt=%d", job->id, attempt + 1);
		if (ftruncate(fd, 0) != 0) {
			break;
		}
	}
	if (!code) {
		code = mg_file_rename(part_path, job->path, err);
	}
	close(fd);
	return code;
}

static int attach(struct mg_fetch *fetch, const struct job *job, struct mg_error *err)
{
	struct shard *shard = &fetch->shards[job->id];
	if (shard->attached && mg_text_eq(shard->attached_sha256, job->shard.sha256)) {
		return 0;
	}
	int code = 0;
	if (shard->attached) {
		code = mg_engine_detach(fetch->duck, job->id, err);
		shard->attached = code != 0;
	}
	if (!code) {
		code = mg_engine_attach(fetch->duck, job->id, job->path, err);
	}
	if (!code) {
		shard->attached = true;
		mg_copy_text(shard->attached_sha256, sizeof shard->attached_sha256, job->shard.sha256);
	}
	return code;
}

static void do_job(struct mg_fetch *fetch, struct job *job)
{
	struct mg_error err;
	mg_error_clear(&err);
	uint64_t start = mg_clock_ms();
	bool known = fetch->shards[job->id].attached &&
	             mg_text_eq(fetch->shards[job->id].attached_sha256, job->shard.sha256);
	int code = known ? 0 : obtain(fetch, job, &err);
	if (!code) {
		code = attach(fetch, job, &err);
	}
	pthread_mutex_lock(&fetch->lock);
	bool current = is_current_locked(fetch, job);
	if (!code && current) {
		fetch->shards[job->id].state = HELD;
		mg_channel_sendf(fetch->channel, "{\"type\":\"held\",\"shard\":%u,\"sha256\":\"%s\"}",
		                 job->id, job->shard.sha256);
		mg_log(MG_LOG_INFO, "shard.held", "shard=%u bytes=%llu ms=%llu", job->id,
		       (unsigned long long)job->shard.bytes, (unsigned long long)(mg_clock_ms() - start));
	} else if (code && current) {
		/* The lease is useless to us: without the channel the server gives it to another. */
		mg_log(MG_LOG_ERROR, "shard.failed", "shard=%u error=\"%s\"", job->id, err.message);
		mg_channel_close(fetch->channel, err.message);
		fetch->shards[job->id].state = UNKNOWN;
	}
	pthread_mutex_unlock(&fetch->lock);
}

static void *fetch_thread(void *arg)
{
	struct mg_fetch *fetch = arg;
	pthread_mutex_lock(&fetch->lock);
	while (!fetch->stopping) {
		struct job job = { .id = UINT32_MAX, .connection = fetch->connection };
		for (uint32_t i = 0; fetch->channel && i < fetch->shard_count; i++) {
			if (fetch->shards[i].state == WANTED) {
				job.id = i;
				job.shard = fetch->shards[i];
				break;
			}
		}
		if (job.id == UINT32_MAX) {
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

int mg_fetch_new(struct mg_fetch **out, struct mg_duck *duck, const char *cache_dir,
                 struct mg_error *err)
{
	struct mg_fetch *fetch = mg_alloc0(sizeof *fetch);
	fetch->duck = duck;
	fetch->cache_dir = mg_strdup(cache_dir);
	fetch->shards = mg_alloc0(sizeof *fetch->shards * SHARDS_MAX);
	fetch->current = UINT32_MAX;
	pthread_mutex_init(&fetch->lock, NULL);
	pthread_cond_init(&fetch->changed, NULL);
	int code = mg_dir_make(cache_dir, 0700, err);
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
	if (fetch->thread_started) {
		pthread_join(fetch->thread, NULL);
	}
	drop_arrived_locked(fetch);
	mg_channel_unref(fetch->channel);
	pthread_cond_destroy(&fetch->changed);
	pthread_mutex_destroy(&fetch->lock);
	mg_free(fetch->shards);
	mg_free(fetch->cache_dir);
	mg_free(fetch);
}
