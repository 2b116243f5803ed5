/*
 * worker_fetch.c - see worker_fetch.h.
 *
 * Rule: a file bears its hash as its name only after all of it was read back and hashed; what is
 * attached was checked in this life of the process.
 *
 * A shard goes WANTED -> (fetched) -> HELD.  A new lease of the same shard with another hash
 * replaces it; one that is declined or released is UNKNOWN again.  A copy that a query has pinned
 * is neither detached nor removed.
 *
 * `lock` guards everything but what is attached, which is the fetcher's thread's alone; that lets
 * go of the lock while it reads, writes and hashes.
 */
#include "exec/worker_fetch.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "exec/worker_cache.h"
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
	bool attached; /* fetcher's thread */
	bool released; /* to be detached */
	uint32_t pins; /* queries that use it */
	uint64_t bytes;
	uint32_t chunk_size;
	char sha256[65];
	char attached_sha256[65];
};

struct mg_fetch {
	struct mg_duck *duck;
	char *cache_dir;
	uint64_t cache_bytes;
	pthread_t thread;
	bool thread_started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	struct mg_channel *channel; /* with a reference */
	uint64_t connection;        /* counts connects: a fetch of an older one is given up */
	struct shard *shards;
	uint32_t shard_count;          /* highest id + 1 */
	unsigned threads, threads_set; /* of the engine: wanted, and last set */
	/* the fetch under way: */
	uint32_t current;    /* shard, or UINT32_MAX */
	uint32_t next_chunk; /* that we wait for */
	struct mg_buf *arrived[AHEAD];
	size_t arrived_count;
};

bool mg_fetch_pin(struct mg_fetch *fetch, uint32_t shard)
{
	pthread_mutex_lock(&fetch->lock);
	bool holds = shard < fetch->shard_count && fetch->shards[shard].state == HELD;
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
		shard->released = false;
		if (id >= fetch->shard_count) {
			fetch->shard_count = (uint32_t)id + 1;
		}
	}
	pthread_cond_broadcast(&fetch->changed);
	pthread_mutex_unlock(&fetch->lock);
	return code;
}

int mg_fetch_release(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err)
{
	int64_t id = mg_json_get_int(json, "shard", -1);
	pthread_mutex_lock(&fetch->lock);
	int code = id >= 0 && id < fetch->shard_count && fetch->shards[id].state == HELD
	               ? 0
	               : mg_error_set(err, MG_E_PROTOCOL, "shard %lld is released, but not held here",
	                              (long long)id);
	if (!code) {
		fetch->shards[id].state = UNKNOWN;
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

/* ---- room in the cache ---- */

static int detach(struct mg_fetch *fetch, uint32_t id, struct mg_error *err)
{
	struct shard *shard = &fetch->shards[id];
	int code = mg_engine_detach(fetch->duck, id, err);
	shard->attached = code != 0;
	return code;
}

/* May this copy go?  Not what is leased or pinned; what is only still attached is let go of. */
static bool may_remove(void *arg, const char *sha256)
{
	struct mg_fetch *fetch = arg;
	pthread_mutex_lock(&fetch->lock);
	uint32_t attached = UINT32_MAX;
	bool may = true;
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		const struct shard *shard = &fetch->shards[i];
		bool here = shard->attached && mg_text_eq(shard->attached_sha256, sha256);
		attached = here ? i : attached;
		may = may && !(here && (shard->pins || shard->state != UNKNOWN)) &&
		      !(shard->state != UNKNOWN && mg_text_eq(shard->sha256, sha256));
	}
	pthread_mutex_unlock(&fetch->lock);
	return may && (attached == UINT32_MAX || detach(fetch, attached, NULL) == 0);
}

/* See that this copy fits beside the others: those that nobody leases any more go first. */
static int make_room(struct mg_fetch *fetch, const struct job *job, struct mg_error *err)
{
	uint64_t need = job->shard.bytes, limit = fetch->cache_bytes, there = 0;
	char part_path[4096];
	snprintf(part_path, sizeof part_path, "%s/%s.part", fetch->cache_dir, job->shard.sha256);
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
	mg_error_set(err, MG_E_DISK_FULL, "the cache of %llu bytes has no room for shard %u of %llu",
	             (unsigned long long)limit, job->id, (unsigned long long)job->shard.bytes);
	mg_error_hint(err, "Give the worker a larger --cache-size.");
	return MG_E_DISK_FULL;
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

/* Fetch into the part file until it is whole.  Resumed over something that was not ours, or damaged
 * on the disk, it is fetched once more from the start. */
static int fill_part(struct mg_fetch *fetch, struct job *job, int fd, const char *part_path,
                     struct mg_error *err)
{
	int code = 0;
	for (int attempt = 0; attempt < 2; attempt++) {
		code = fetch_chunks(fetch, job, fd, part_path, err);
		if (code || is_whole(part_path, &job->shard)) {
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

static int fetch_file(struct mg_fetch *fetch, struct job *job, struct mg_error *err)
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

static int obtain(struct mg_fetch *fetch, struct job *job, struct mg_error *err)
{
	snprintf(job->path, sizeof job->path, "%s/%s.duckdb", fetch->cache_dir, job->shard.sha256);
	int code = make_room(fetch, job, err);
	if (code || is_whole(job->path, &job->shard)) {
		return code;
	}
	code = fetch_file(fetch, job, err);
	/* The disk is fuller than the limit knows: once more without all that is not needed. */
	if (code == MG_E_DISK_FULL) {
		mg_log(MG_LOG_WARN, "cache.full", "shard=%u error=\"%s\"", job->id, err->message);
		mg_cache_trim(fetch->cache_dir, 0, may_remove, fetch);
		mg_error_clear(err);
		code = fetch_file(fetch, job, err);
	}
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
		code = detach(fetch, job->id, err);
	}
	if (!code) {
		code = mg_engine_attach(fetch->duck, job->id, job->path, err);
	}
	if (!code) {
		shard->attached = true;
		mg_copy_text(shard->attached_sha256, sizeof shard->attached_sha256, job->shard.sha256);
		mg_file_touch(job->path);
	}
	return code;
}

/* What the server does wrong ends the connection; what we cannot do is declined. */
static void fail_locked(struct mg_fetch *fetch, const struct job *job, const struct mg_error *err)
{
	bool servers_fault = err->code == MG_E_PROTOCOL;
	mg_log(servers_fault ? MG_LOG_ERROR : MG_LOG_WARN,
	       servers_fault ? "shard.failed" : "shard.declined", "shard=%u error=\"%s\"%s", job->id,
	       err->message, job->id ? "" : " effect=\"without the reference tables no work is done\"");
	fetch->shards[job->id].state = UNKNOWN;
	if (servers_fault) {
		mg_channel_close(fetch->channel, err->message);
		return;
	}
	struct mg_sb json = { 0 };
	mg_sb_addf(&json, "{\"type\":\"decline\",\"shard\":%u,\"reason\":", job->id);
	mg_sb_add_json(&json, err->message, strlen(err->message));
	mg_sb_add_char(&json, '}');
	mg_channel_send(fetch->channel, mg_sb_text(&json));
	mg_sb_fini(&json);
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
		fail_locked(fetch, job, &err);
	}
	pthread_mutex_unlock(&fetch->lock);
}

/* What was released is let go of first, for its room may be needed; a query that still has it
 * pinned is being closed. */
static bool drop_released_locked(struct mg_fetch *fetch)
{
	for (uint32_t i = 0; i < fetch->shard_count; i++) {
		struct shard *shard = &fetch->shards[i];
		if (!shard->released) {
			continue;
		}
		if (shard->pins) {
			return false;
		}
		shard->released = false;
		if (shard->attached) {
			pthread_mutex_unlock(&fetch->lock);
			struct mg_error err;
			mg_error_clear(&err);
			if (detach(fetch, i, &err)) {
				mg_log(MG_LOG_WARN, "shard.detach", "shard=%u error=\"%s\"", i, err.message);
			}
			pthread_mutex_lock(&fetch->lock);
		}
	}
	return true;
}

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
		bool dropped = drop_released_locked(fetch);
		struct job job = { .id = UINT32_MAX, .connection = fetch->connection };
		for (uint32_t i = 0; dropped && fetch->channel && i < fetch->shard_count; i++) {
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

int mg_fetch_new(struct mg_fetch **out, struct mg_duck *duck, unsigned threads,
                 const char *cache_dir, uint64_t cache_bytes, struct mg_error *err)
{
	struct mg_fetch *fetch = mg_alloc0(sizeof *fetch);
	fetch->duck = duck;
	fetch->threads = fetch->threads_set = threads;
	fetch->cache_dir = mg_strdup(cache_dir);
	fetch->cache_bytes = cache_bytes;
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
