/*
 * seed.c - see seed.h.
 *
 * The catalog comes first: it names the others.  Then the shards, AT_ONCE at a time, each taker
 * with a puller of its own.
 *
 * owner: the caller's thread, which looks whether the node is to stop; groups: threads of takers;
 * pullers answer on their own.
 */
#include "replica/seed.h"

#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/kv_sm.h"
#include "replica/snapshot_pull.h"
#include "store/duck.h"
#include "store/shard_undo.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { LOOK_MS = 100, AGAIN_MS = 1000, AT_ONCE = 3 };

#define TEXT_BYTES_MAX (256u << 20)

struct seed;

/* Takes one group after the other. */
struct taker {
	struct seed *seed;
	struct mg_snapshot_puller *puller;
	pthread_t thread;
	struct mg_error failed;

	pthread_mutex_t lock;
	/* guarded by lock: of the pull that is under way */
	bool done;
	struct mg_error err;
	struct mg_manifest manifest; /* owned */
};

struct seed {
	const struct mg_seed_options *options;
	struct mg_loop *loop;
	struct mg_peers *peers;
	struct mg_raft_host *host;
	uint32_t shard_count, group_count; /* of tables, without shard 0; of all */
	struct taker takers[AT_ONCE];

	pthread_mutex_t lock;
	/* guarded by lock */
	uint32_t next, end; /* groups that nobody has taken yet */
	size_t working;     /* takers */
	bool stopped;      /* the node is to stop, or one of them has failed */
	char trouble[200]; /* that was told last */
};

/* ---- one pull ---- */

static bool is_kv(const struct seed *seed, uint32_t group)
{
	return group > seed->shard_count + 1;
}

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *err)
{
	struct taker *taker = arg;

	pthread_mutex_lock(&taker->lock);
	taker->done = true;
	if (err) {
		taker->err = *err;
	} else {
		(void)mg_snapshot_manifest_mark(manifest, &taker->manifest, &taker->err);
	}
	pthread_mutex_unlock(&taker->lock);
}

static bool is_done(struct taker *taker, struct mg_error *err)
{
	pthread_mutex_lock(&taker->lock);
	bool done = taker->done;

	*err = taker->err;
	pthread_mutex_unlock(&taker->lock);
	return done;
}

static int stopped(struct mg_error *err)
{
	return mg_error_set(err, MG_E_CANCELLED, "stopped before this node had all of its data");
}

static bool is_stopped(struct seed *seed)
{
	pthread_mutex_lock(&seed->lock);
	bool stopped = seed->stopped;
	pthread_mutex_unlock(&seed->lock);
	return stopped;
}

/* True: the node is to stop, or another taker has failed. */
static bool wait(struct seed *seed, unsigned ms)
{
	for (unsigned waited = 0; waited < ms && !is_stopped(seed); waited += LOOK_MS) {
		mg_sleep_ms(LOOK_MS);
	}
	return is_stopped(seed);
}

static int pull(struct taker *taker, uint32_t group, uint64_t peer, const char *path,
                struct mg_error *err)
{
	const char *dir = taker->seed->options->dir;
	bool kv = is_kv(taker->seed, group);
	char *part = kv      ? mg_format("%s/kv/pull-%" PRIu32, dir, group)
	             : group ? mg_format("%s/shards/pull-%04" PRIu32, dir, group - 1)
	                     : mg_format("%s/log/pull-catalog", dir);
	const struct mg_snapshot_want want = {
		.group = group,
		.peer = peer,
		.path = path,
		.part = part,
		.engine = kv ? mg_lsm_version() : group ? mg_duck_version() : "",
		.format = kv ? MG_KV_FORMAT : group ? MG_FILE_FORMAT : MG_CATALOG_FORMAT,
		.done = on_pulled,
		.arg = taker,
	};

	mg_manifest_fini(&taker->manifest);
	taker->done = false;
	taker->err = (struct mg_error){ 0 };
	mg_snapshot_puller_want(taker->puller, &want);
	mg_free(part);
	while (!is_done(taker, err)) {
		if (wait(taker->seed, LOOK_MS)) {
			mg_snapshot_puller_stop(taker->puller);
			return stopped(err);
		}
	}
	return err->code;
}

/* ---- what was pulled becomes the beginning ---- */

struct begin {
	struct seed *seed;
	uint32_t group;
	const struct mg_manifest *manifest;
	bool known;
	int code;
	struct mg_error err;
};

static void look_now(void *arg)
{
	struct begin *begin = arg;

	begin->known = mg_raft_node_knows(mg_raft_host_node(begin->seed->host), begin->group);
}

static void begin_now(void *arg)
{
	struct begin *begin = arg;

	begin->code = mg_raft_node_seed(mg_raft_host_node(begin->seed->host), begin->group,
	                                begin->manifest, &begin->err);
}

static bool is_known(struct seed *seed, uint32_t group)
{
	struct begin begin = { .seed = seed, .group = group };

	mg_raft_host_call(seed->host, look_now, &begin);
	return begin.known;
}

static int begin_group(struct taker *taker, uint32_t group, struct mg_error *err)
{
	struct seed *seed = taker->seed;
	struct begin begin = { .seed = seed, .group = group, .manifest = &taker->manifest };

	mg_raft_host_call(seed->host, begin_now, &begin);
	if (begin.code) {
		*err = begin.err;
	}
	return begin.code;
}

static int take_catalog(struct taker *taker, const char *path, struct mg_error *err)
{
	struct mg_error ignored;
	char *text = NULL;
	size_t size = 0;
	int code = mg_file_read(path, TEXT_BYTES_MAX, &text, &size, err);

	code = code ? code
	            : mg_catalog_replace(taker->seed->options->catalog, text, size,
	                                 taker->manifest.snapshot.index, err);
	if (!code) {
		(void)mg_file_remove(path, &ignored);
	}
	mg_free(text);
	return code;
}

/* The state machine adopts it when it is opened. */
static int take_kv(struct taker *taker, uint32_t group, const char *path, struct mg_error *err)
{
	char *pulled = mg_kv_pulled_path(taker->seed->options->dir, group,
	                                 taker->manifest.snapshot.index);
	int code = mg_file_rename(path, pulled, err);

	mg_free(pulled);
	return code;
}

static int seed_from(struct taker *taker, uint32_t group, uint64_t peer, struct mg_error *err)
{
	const struct seed *seed = taker->seed;
	const char *dir = seed->options->dir;
	bool kv = is_kv(seed, group);
	char *path = kv      ? mg_format("%s/kv/seed-%" PRIu32 ".sst", dir, group)
	             : group ? mg_format("%s/shards/%04" PRIu32 ".duckdb", dir, group - 1)
	                     : mg_format("%s/log/seed-catalog.json", dir);
	uint64_t start = mg_clock_ms();
	int code = group && !kv ? mg_shard_undo_remove(path, err) : 0; /* of what was there */

	code = code ? code : pull(taker, group, peer, path, err);
	code = code || group ? code : take_catalog(taker, path, err);
	code = code || !kv ? code : take_kv(taker, group, path, err);
	code = code ? code : begin_group(taker, group, err);
	if (!code) {
		mg_log(MG_LOG_INFO, "seed.group",
		       "group=%" PRIu32 " of=%" PRIu32 " index=%" PRIu64 " server=%" PRIu64
		       " took_ms=%" PRIu64,
		       group, seed->group_count, taker->manifest.snapshot.index, peer,
		       mg_clock_ms() - start);
	}
	mg_free(path);
	return code;
}

/* ---- all of them ---- */

/* The other nodes as the catalog has them now. */
static void name_peers(struct seed *seed)
{
	const struct mg_catalog_data *data = mg_catalog_take(seed->options->catalog);

	for (size_t i = 0; i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		mg_peers_set(seed->peers, node->number,
		             strcmp(node->state, MG_NODE_REMOVED) == 0 ? NULL : node->address);
	}
	mg_catalog_give(seed->options->catalog, data);
}

static void tell(struct seed *seed, uint32_t group, const char *why)
{
	pthread_mutex_lock(&seed->lock);
	if (strncmp(seed->trouble, why, sizeof seed->trouble - 1) != 0) {
		mg_copy_text(seed->trouble, sizeof seed->trouble, why);
		mg_log(MG_LOG_WARN, "seed.waits", "group=%" PRIu32 " reason=\"%s\"", group, why);
	}
	pthread_mutex_unlock(&seed->lock);
}

static int seed_group(struct taker *taker, uint32_t group, struct mg_error *err)
{
	struct seed *seed = taker->seed;

	for (uint32_t turn = group;; turn++) {
		uint64_t peer = mg_peers_one_of(seed->peers, NULL, turn);
		int code = 0;

		*err = (struct mg_error){ 0 };
		if (peer) {
			code = seed_from(taker, group, peer, err);
			if (!code || code == MG_E_CANCELLED || code == MG_E_DISK_FULL ||
			    code == MG_E_UNSUPPORTED || code == MG_E_DUPLICATE) {
				return code;
			}
		}
		tell(seed, group, peer ? err->message : "no other node is connected");
		if (wait(seed, peer ? AGAIN_MS : LOOK_MS)) {
			return stopped(err);
		}
	}
}

/* The next group that the log lacks; false: none is left, or the end. */
static bool next_group(struct seed *seed, uint32_t *group)
{
	bool found = false;

	while (!found) {
		pthread_mutex_lock(&seed->lock);
		bool over = seed->stopped || seed->next >= seed->end;

		*group = over ? 0 : seed->next++;
		pthread_mutex_unlock(&seed->lock);
		if (over) {
			return false;
		}
		found = !is_known(seed, *group);
	}
	return true;
}

static void *take(void *arg)
{
	struct taker *taker = arg;
	struct seed *seed = taker->seed;
	uint32_t group;

	while (!taker->failed.code && next_group(seed, &group)) {
		struct mg_error err = { 0 };

		if (seed_group(taker, group, &err)) {
			taker->failed = err;
		}
	}
	pthread_mutex_lock(&seed->lock);
	seed->stopped = seed->stopped || taker->failed.code;
	seed->working--;
	pthread_mutex_unlock(&seed->lock);
	return NULL;
}

static size_t count_working(struct seed *seed)
{
	pthread_mutex_lock(&seed->lock);
	size_t working = seed->working;
	pthread_mutex_unlock(&seed->lock);
	return working;
}

/* Groups first .. end - 1, by at most AT_ONCE takers. */
static int take_groups(struct seed *seed, uint32_t first, uint32_t end, struct mg_error *err)
{
	size_t want = end - first < AT_ONCE ? end - first : AT_ONCE, started = 0;
	int code = 0;

	seed->next = first;
	seed->end = end;
	seed->working = want;
	while (!code && started < want) {
		struct taker *taker = &seed->takers[started];

		code = pthread_create(&taker->thread, NULL, take, taker);
		started += code == 0;
	}
	pthread_mutex_lock(&seed->lock);
	seed->working -= want - started;
	seed->stopped = seed->stopped || code;
	pthread_mutex_unlock(&seed->lock);
	while (count_working(seed) > 0) {
		if (seed->options->stopped(seed->options->arg, LOOK_MS)) {
			pthread_mutex_lock(&seed->lock);
			seed->stopped = true;
			pthread_mutex_unlock(&seed->lock);
		}
	}
	code = code ? mg_error_errno(err, code, "cannot start a thread to take data over") : 0;
	for (size_t i = 0; i < started; i++) {
		const struct mg_error *failed = &seed->takers[i].failed;

		pthread_join(seed->takers[i].thread, NULL);
		if (failed->code && (!code || code == MG_E_CANCELLED)) {
			*err = *failed; /* what made the others stop is the reason */
			code = failed->code;
		}
	}
	return code ? code : seed->stopped ? stopped(err) : 0;
}

static int open_net(struct seed *seed, struct mg_error *err)
{
	const struct mg_seed_options *options = seed->options;
	const struct mg_catalog_data *data = mg_catalog_take(options->catalog);
	int code = mg_loop_start(&seed->loop, "seed", err);

	if (!code) {
		seed->peers = mg_peers_new(&(struct mg_peers_options){ .self = options->self,
		                                                       .cluster = data->cluster_id,
		                                                       .program = options->program,
		                                                       .name = options->name,
		                                                       .address = options->address,
		                                                       .loop = seed->loop,
		                                                       .tls = options->tls });
		seed->shard_count = data->shard_count;
		seed->group_count = data->shard_count + 2 + data->kv_shards;
	}
	mg_catalog_give(options->catalog, data);
	return code;
}

static int open_all(struct seed *seed, struct mg_error *err)
{
	int code = open_net(seed, err);

	if (!code) {
		const struct mg_raft_host_options host = { .dir = seed->options->dir,
			                                       .self = seed->options->self,
			                                       .net = mg_peers_net(seed->peers) };

		code = mg_raft_host_open(&seed->host, &host, err);
	}
	for (size_t i = 0; !code && i < AT_ONCE; i++) {
		code = mg_snapshot_puller_new(&seed->takers[i].puller, seed->peers, err);
	}
	code = code ? code : mg_raft_host_start(seed->host, err);
	if (!code) {
		name_peers(seed);
		mg_peers_start(seed->peers, seed->host);
	}
	return code;
}

static void close_all(struct seed *seed)
{
	for (size_t i = 0; i < AT_ONCE; i++) {
		if (seed->takers[i].puller) {
			mg_snapshot_puller_stop(seed->takers[i].puller);
		}
	}
	if (seed->host) {
		mg_raft_host_stop(seed->host); /* makes durable what was begun */
	}
	if (seed->peers) {
		mg_peers_stop(seed->peers);
	}
	if (seed->loop) {
		mg_loop_stop(seed->loop);
	}
	mg_raft_host_close(seed->host);
	for (size_t i = 0; i < AT_ONCE; i++) {
		mg_snapshot_puller_free(seed->takers[i].puller);
	}
	mg_peers_free(seed->peers);
	for (size_t i = 0; i < AT_ONCE; i++) {
		mg_manifest_fini(&seed->takers[i].manifest);
		pthread_mutex_destroy(&seed->takers[i].lock);
	}
	pthread_mutex_destroy(&seed->lock);
}

int mg_seed(const struct mg_seed_options *options, struct mg_error *err)
{
	struct seed seed = { .options = options };
	char *mark = mg_path_join(options->dir, "log/seeded");
	char *shards = mg_path_join(options->dir, "shards"), *kv = mg_path_join(options->dir, "kv");
	uint64_t start = mg_clock_ms();
	int code = 0;

	if (mg_file_exists(mark)) {
		goto out;
	}
	pthread_mutex_init(&seed.lock, NULL);
	for (size_t i = 0; i < AT_ONCE; i++) {
		seed.takers[i].seed = &seed;
		pthread_mutex_init(&seed.takers[i].lock, NULL);
	}
	code = mg_dir_make(shards, 0700, err);
	code = code ? code : mg_dir_make(kv, 0700, err);
	code = code ? code : open_all(&seed, err);
	code = code ? code : take_groups(&seed, 0, 1, err);
	code = code ? code : take_groups(&seed, 1, seed.group_count, err);
	close_all(&seed);
	code = code ? code : mg_file_write(mark, "", 0, 0600, err);
	if (!code) {
		mg_log(MG_LOG_INFO, "seed.done", "groups=%" PRIu32 " took_ms=%" PRIu64, seed.group_count,
		       mg_clock_ms() - start);
	}
out:
	mg_free(shards);
	mg_free(kv);
	mg_free(mark);
	return code ? mg_error_wrap(err, "while taking the cluster's data over from other nodes") : 0;
}
