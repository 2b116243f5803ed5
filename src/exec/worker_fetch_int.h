/* worker_fetch_int.h - struct mg_fetch from the inside: for worker_fetch.c and worker_chunks.c. */
#ifndef MG_EXEC_WORKER_FETCH_INT_H
#define MG_EXEC_WORKER_FETCH_INT_H

#include "exec/worker_fetch.h"
#include "exec/worker_follow.h"

#include <pthread.h>

enum { MG_FETCH_SHARDS_MAX = 4096, MG_FETCH_AHEAD = 3, MG_FETCH_NAME = 80 };

enum mg_fetch_state {
	MG_FETCH_UNKNOWN,
	MG_FETCH_WANTED, /* leased, and there is something to do about it */
	MG_FETCH_ASKED,  /* leased; the server makes a file of it */
	MG_FETCH_HELD,
};

struct mg_fetch_shard {
	enum mg_fetch_state state;
	bool attached, own; /* fetcher's thread; own: for writing */
	bool released;      /* to be detached */
	bool needs_own;     /* it changes: the file must be this worker's alone */
	bool broken;        /* it is of no use any more */
	bool renew;         /* what is there can follow no more */
	bool offered;       /* the rest is of a file that the server has */
	uint32_t pins;      /* queries that use it */
	uint64_t lease;     /* counts them */
	uint64_t bytes, index;
	uint32_t chunk_size;
	char sha256[65];
	unsigned corrupt;             /* how often a file had another hash than promised */
	unsigned breaks;              /* how often, of late, what came could not be applied */
	uint64_t broke_ms;            /* when last */
	char attached_name[MG_FETCH_NAME]; /* of the file, up to its ending */
};

struct mg_fetch {
	struct mg_duck *duck;
	struct mg_follower *follower;
	char *cache_dir;
	uint64_t cache_bytes;
	unsigned number; /* of our own files */
	int number_lock;
	pthread_t thread;
	bool thread_started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
	char cluster[40];
	struct mg_channel *channel; /* with a reference */
	uint64_t connection;        /* counts connects: a fetch of an older one is given up */
	struct mg_fetch_shard *shards;
	uint32_t shard_count;          /* highest id + 1 */
	unsigned threads, threads_set; /* of the engine: wanted, and last set */
	/* the fetch under way: */
	uint32_t current;       /* shard, or UINT32_MAX */
	uint64_t number_of_it;  /* answers to others are late ones */
	const uint32_t *needed; /* chunks that are to come, in this order */
	size_t needed_count, next; /* the one that we wait for */
	struct mg_buf *hashes;  /* of all chunks, when they have come */
	struct mg_buf *arrived[MG_FETCH_AHEAD];
	size_t arrived_count;
};

/* A fetch under way: what was leased, and over which connection. */
struct mg_fetch_job {
	uint32_t id;
	struct mg_fetch_shard shard;
	uint64_t connection;
	char path[4096]; /* of the whole file */
};

/* ---- worker_chunks.c; fetcher's thread ---- */

bool mg_fetch__is_current_locked(const struct mg_fetch *fetch, const struct mg_fetch_job *job);
/* Is there a whole file of that content? */
bool mg_fetch__is_whole(const char *path, const struct mg_fetch_shard *shard);
/* The part of this content: what is there of it, or of an older file of the shard under that name,
 * is kept where its chunks are the same. */
int mg_fetch__file(struct mg_fetch *fetch, struct mg_fetch_job *job, struct mg_error *err);
void mg_fetch__part_path(const struct mg_fetch *fetch, const struct mg_fetch_job *job, char *path,
                         size_t size);
/* Under the lock. */
void mg_fetch__drop_arrived(struct mg_fetch *fetch);

#endif
