/*
 * snapshot_pull.c - see snapshot_pull.h.
 *
 *     open a wire -> ASK -> MANIFEST: fits? -> the part: which chunks are there -> GET, CHUNK, ...
 *     -> compare the whole -> sync -> check -> rename
 *
 * The side file is a hint: each chunk that it names is hashed again before it counts, so it need
 * not be durable.
 *
 * owner: a pull: the puller's thread; the queue under `lock`.
 */
#include "replica/snapshot_pull.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "replica/snapshot_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	AHEAD = 2,
	MANIFEST_MS = 600 * 1000, /* the other end copies and hashes */
	CHUNK_MS = 60 * 1000,
	TRIES = 3, /* in a row that bring no chunk */
	BACK_OFF_MS = 100,
	PEERS_MAX = 16,
	HAVE_BYTES_MAX = 8 << 20,
};

struct mg_snapshot_puller {
	struct mg_peers *peers;
	struct mg_metric *received, *resumed, *lies;
	pthread_t thread;
	atomic_bool stopping;
	bool joined;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct mg_snapshot_want *queue; /* guarded by lock; texts are its own */
	size_t queue_count, queue_cap;
};

/* One want, with what it has open. */
struct pull {
	struct mg_snapshot_puller *puller;
	const struct mg_snapshot_want *want;
	uint64_t peer;
	char *part_path, *have_path;
	struct mg_snapshot_manifest manifest; /* of the peer in hand */
	bool *have;
	uint32_t have_count;
	int part, side; /* descriptors */
	uint32_t fresh; /* chunks that came in this try */
};

/* ---- the part ---- */

static void close_part(struct pull *pull)
{
	if (pull->part >= 0) {
		close(pull->part);
	}
	if (pull->side >= 0) {
		close(pull->side);
	}
	pull->part = pull->side = -1;
	mg_free(pull->have);
	pull->have = NULL;
	pull->have_count = 0;
}

static void remove_part(struct pull *pull)
{
	struct mg_error ignored;

	close_part(pull);
	(void)mg_file_remove(pull->part_path, &ignored);
	(void)mg_file_remove(pull->have_path, &ignored);
}

static bool part_has(struct pull *pull, uint32_t chunk, uint8_t *data)
{
	size_t size = mg_snapshot_chunk_size(&pull->manifest, chunk), done = 0;
	ssize_t got = 1;

	while (done < size && got > 0) {
		got = pread(pull->part, data + done, size - done,
		            (off_t)((uint64_t)chunk * MG_SNAPSHOT_CHUNK_BYTES + done));
		done += got > 0 ? (size_t)got : 0;
	}
	return done == size && mg_snapshot_chunk_is(&pull->manifest, chunk, data, size);
}

/* The side file: a line that says whose chunks, then a line with the number of each. */
static char *title_of(const struct pull *pull)
{
	char hex[2 * MG_SNAPSHOT_HASH + 1];

	return mg_format("%s %" PRIu64 "\n",
	                 sodium_bin2hex(hex, sizeof hex, pull->manifest.sha256, MG_SNAPSHOT_HASH),
	                 pull->manifest.bytes);
}

static void look_at_listed(struct pull *pull, char *list)
{
	uint8_t *data = mg_alloc(MG_SNAPSHOT_CHUNK_BYTES);

	for (char *line = list, *end; *line; line = end) {
		unsigned long long chunk = strtoull(line, &end, 10);

		if (end == line || *end != '\n') {
			break; /* cut off */
		}
		end++;
		if (chunk < pull->manifest.chunk_count && !pull->have[chunk] &&
		    part_has(pull, (uint32_t)chunk, data)) {
			pull->have[chunk] = true;
			pull->have_count++;
		}
	}
	mg_free(data);
}

static int write_all(int fd, const uint8_t *data, size_t size, uint64_t offset, const char *path,
                     struct mg_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t wrote = pwrite(fd, data + done, size - done, (off_t)(offset + done));

		if (wrote < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot write \"%s\"", path);
		}
		done += wrote > 0 ? (size_t)wrote : 0;
	}
	return 0;
}

/* To the end of the side file. */
static int note(struct pull *pull, const char *text, struct mg_error *err)
{
	size_t size = strlen(text);

	return write(pull->side, text, size) == (ssize_t)size
	           ? 0
	           : mg_error_errno(err, errno, "cannot write \"%s\"", pull->have_path);
}

/* Begin again what is not of this manifest. */
static int begin_anew(struct pull *pull, const char *title, struct mg_error *err)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC;

	pull->part = open(pull->part_path, flags | O_TRUNC, 0600);
	pull->side = open(pull->have_path, flags | O_TRUNC | O_APPEND, 0600);
	if (pull->part < 0 || pull->side < 0) {
		return mg_error_errno(err, errno, "cannot make \"%s\"", pull->part_path);
	}
	return note(pull, title, err);
}

static int check_room(struct pull *pull, struct mg_error *err)
{
	char *dir = mg_strdup(pull->part_path);
	uint64_t there = 0, needed = 0;

	*strrchr(dir, '/') = '\0';
	for (uint32_t i = 0; i < pull->manifest.chunk_count; i++) {
		needed += pull->have[i] ? 0 : mg_snapshot_chunk_size(&pull->manifest, i);
	}
	int code = mg_disk_free(dir, &there, err);

	mg_free(dir);
	if (!code && there < needed) {
		code = mg_error_set(err, MG_E_DISK_FULL,
		                    "a snapshot needs %" PRIu64 " bytes more, the disk has %" PRIu64,
		                    needed, there);
		mg_error_hint(err, "Make room in the data directory.");
	}
	return code;
}

static int open_part(struct pull *pull, struct mg_error *err)
{
	char *title = title_of(pull), *list = NULL;
	struct mg_error ignored;
	size_t size = 0, len = strlen(title);
	int code = 0;

	close_part(pull);
	pull->have = mg_alloc0((size_t)pull->manifest.chunk_count + 1);
	if (mg_file_read(pull->have_path, HAVE_BYTES_MAX, &list, &size, &ignored) == 0 &&
	    strncmp(list, title, len) == 0) {
		pull->part = open(pull->part_path, O_RDWR | O_CLOEXEC);
		pull->side = open(pull->have_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	}
	if (pull->part >= 0 && pull->side >= 0) {
		look_at_listed(pull, list + len);
		mg_metric_add(pull->puller->resumed, pull->have_count);
	} else {
		bool *have = pull->have;

		pull->have = NULL;
		close_part(pull);
		pull->have = have;
		code = begin_anew(pull, title, err);
	}
	mg_free(list);
	mg_free(title);
	return code ? code : check_room(pull, err);
}

/* ---- the peer ---- */

static int as_refused(const struct pull *pull, const struct mg_snapshot_frame *frame,
                      struct mg_error *err)
{
	/* What is wrong over there is not wrong here. */
	int code = frame->code == MG_E_BUSY || frame->code == MG_E_NOT_FOUND ? (int)frame->code
	                                                                     : MG_E_UNAVAILABLE;
	int size = frame->size < 300 ? (int)frame->size : 300;
	bool text = mg_utf8_valid((const char *)frame->data, (size_t)size);

	return mg_error_set(err, code, "node %" PRIu64 ": %.*s", pull->peer, text ? size : 0,
	                    (const char *)frame->data);
}

static int receive(struct pull *pull, struct mg_snapshot_wire *wire, enum mg_snapshot_kind kind,
                   uint64_t timeout_ms, struct mg_buf **buf, struct mg_snapshot_frame *frame,
                   struct mg_error *err)
{
	int code = mg_snapshot_wire_receive(wire, timeout_ms, &pull->puller->stopping, buf, frame, err);

	if (!code && frame->kind == MG_SNAPSHOT_REFUSED) {
		code = as_refused(pull, frame, err);
	} else if (!code && frame->kind != kind) {
		code =
			mg_error_set(err, MG_E_PROTOCOL, "node %" PRIu64 " answers something else", pull->peer);
	}
	return code;
}

static int get_manifest(struct pull *pull, struct mg_snapshot_wire *wire, struct mg_error *err)
{
	const struct mg_snapshot_want *want = pull->want;
	struct mg_snapshot_frame frame = { .kind = MG_SNAPSHOT_ASK,
		                               .group = want->group,
		                               .index = want->index };
	struct mg_buf *buf = NULL;

	mg_snapshot_manifest_fini(&pull->manifest);
	mg_snapshot_wire_send(wire, &frame);
	int code = receive(pull, wire, MG_SNAPSHOT_MANIFEST, MANIFEST_MS, &buf, &frame, err);

	code = code ? code
	            : mg_snapshot_manifest_parse((const char *)frame.data, frame.size, &pull->manifest,
	                                         err);
	mg_buf_unref(buf);
	if (!code && (pull->manifest.group != want->group ||
	              (want->index && pull->manifest.index != want->index))) {
		code = mg_error_set(err, MG_E_PROTOCOL, "node %" PRIu64 " offers another snapshot",
		                    pull->peer);
	}
	return code ? code
	            : mg_snapshot_manifest_fits(&pull->manifest, want->engine, want->format, err);
}

static void request_chunk(struct pull *pull, struct mg_snapshot_wire *wire, uint32_t chunk)
{
	mg_snapshot_wire_send(wire, &(struct mg_snapshot_frame){ .kind = MG_SNAPSHOT_GET,
	                                                         .group = pull->manifest.group,
	                                                         .index = pull->manifest.index,
	                                                         .chunk = chunk });
}

static int take_chunk(struct pull *pull, const struct mg_snapshot_frame *frame,
                      struct mg_error *err)
{
	uint32_t chunk = frame->chunk;
	char line[16];

	if (!mg_snapshot_chunk_is(&pull->manifest, chunk, frame->data, frame->size)) {
		mg_metric_add(pull->puller->lies, 1);
		return mg_error_set(err, MG_E_CORRUPT,
		                    "chunk %" PRIu32 " of node %" PRIu64 " is not what its manifest says",
		                    chunk, pull->peer);
	}
	mg_metric_add(pull->puller->received, 1);
	if (pull->have[chunk]) {
		return 0;
	}
	int code = write_all(pull->part, frame->data, frame->size,
	                     (uint64_t)chunk * MG_SNAPSHOT_CHUNK_BYTES, pull->part_path, err);

	(void)snprintf(line, sizeof line, "%" PRIu32 "\n", chunk);
	code = code ? code : note(pull, line, err);
	if (!code) {
		pull->have[chunk] = true;
		pull->have_count++;
		pull->fresh++;
	}
	return code;
}

static int get_chunks(struct pull *pull, struct mg_snapshot_wire *wire, struct mg_error *err)
{
	uint32_t asked = 0, under_way = 0;
	int code = 0;

	while (!code && pull->have_count < pull->manifest.chunk_count) {
		struct mg_snapshot_frame frame;
		struct mg_buf *buf = NULL;

		for (; under_way < AHEAD && asked < pull->manifest.chunk_count; asked++) {
			if (!pull->have[asked]) {
				request_chunk(pull, wire, asked);
				under_way++;
			}
		}
		code = under_way ? receive(pull, wire, MG_SNAPSHOT_CHUNK, CHUNK_MS, &buf, &frame, err)
		                 : mg_error_set(err, MG_E_PROTOCOL,
		                                "node %" PRIu64 " sends other chunks than it was asked for",
		                                pull->peer);
		code = code ? code : take_chunk(pull, &frame, err);
		under_way -= under_way > 0;
		mg_buf_unref(buf);
	}
	return code;
}

/* ---- the end ---- */

/* All chunks are good; so must the whole be. */
static int finish(struct pull *pull, struct mg_error *err)
{
	struct mg_snapshot_manifest read = { 0 };
	const struct mg_snapshot_want *want = pull->want;
	int code = fsync(pull->part) ? mg_error_errno(err, errno, "cannot sync \"%s\"", pull->part_path)
	                             : 0;

	code = code ? code : mg_snapshot_manifest_hash(&read, pull->part_path, err);
	if (!code && (read.bytes != pull->manifest.bytes ||
	              memcmp(read.sha256, pull->manifest.sha256, MG_SNAPSHOT_HASH) != 0)) {
		mg_metric_add(pull->puller->lies, 1);
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "the snapshot of node %" PRIu64 " is not what its manifest says",
		                    pull->peer);
	}
	mg_snapshot_manifest_fini(&read);
	if (!code && want->check) {
		code = want->check(want->arg, pull->part_path, &pull->manifest, err);
	}
	if (code == MG_E_CORRUPT || code == MG_E_UNSUPPORTED) {
		remove_part(pull);
	}
	code = code ? code : mg_file_rename(pull->part_path, want->path, err);
	if (!code) {
		remove_part(pull); /* the side file */
	}
	return code;
}

static int pull_once(struct pull *pull, struct mg_error *err)
{
	struct mg_snapshot_wire *wire = NULL;
	int code =
		mg_snapshot_wire_open(&wire, pull->puller->peers, pull->peer, &pull->puller->stopping, err);

	pull->fresh = 0;
	code = code ? code : get_manifest(pull, wire, err);
	code = code ? code : open_part(pull, err);
	code = code ? code : get_chunks(pull, wire, err);
	mg_snapshot_wire_close(wire);
	code = code ? code : finish(pull, err);
	if (code == MG_E_DISK_FULL) {
		remove_part(pull); /* what the log needs more */
	}
	close_part(pull);
	return code;
}

static bool is_passing(int code)
{
	return code == MG_E_DISCONNECTED || code == MG_E_TIMEOUT || code == MG_E_CONNECT ||
	       code == MG_E_BUSY || code == MG_E_IO;
}

static void rest_ms(struct mg_snapshot_puller *puller, unsigned ms)
{
	uint64_t until_ms = mg_clock_ms() + ms;

	pthread_mutex_lock(&puller->lock);
	while (!atomic_load(&puller->stopping) &&
	       mg_cond_wait_until(&puller->changed, &puller->lock, until_ms)) {
	}
	pthread_mutex_unlock(&puller->lock);
}

/* From this peer, as long as it brings us on. */
static int pull_from(struct pull *pull, struct mg_error *err)
{
	int code = 0;

	for (unsigned tries = 0; tries < TRIES; tries++) {
		code = pull_once(pull, err);
		if (!is_passing(code) || atomic_load(&pull->puller->stopping)) {
			break;
		}
		tries = pull->fresh ? 0 : tries;
		rest_ms(pull->puller, BACK_OFF_MS << tries);
	}
	if (code) {
		mg_log(MG_LOG_WARN, code == MG_E_CORRUPT ? "snapshot.peer.lies" : "snapshot.pull.failed",
		       "server=%" PRIu64 " group=%" PRIu32 " index=%" PRIu64 " error=\"%s\"", pull->peer,
		       pull->want->group, pull->want->index, err->message);
	}
	return code;
}

/* The peer that offered it, then those that are connected; none helps a full disk. */
static int pull_from_any(struct pull *pull, struct mg_error *err)
{
	struct mg_peer_info *infos = mg_alloc0(PEERS_MAX * sizeof *infos);
	size_t count = mg_peers_list(pull->puller->peers, infos, PEERS_MAX);

	pull->peer = pull->want->peer;
	int code = pull_from(pull, err);

	for (size_t i = 0; i < count && i < PEERS_MAX && !pull->want->only && code &&
	                   code != MG_E_DISK_FULL &&
	                   !atomic_load(&pull->puller->stopping);
	     i++) {
		struct mg_error other = { 0 };

		if (infos[i].node != pull->want->peer && infos[i].connected) {
			pull->peer = infos[i].node;
			code = pull_from(pull, &other);
		}
		if (!code || code == MG_E_DISK_FULL) {
			*err = other;
		} else {
			code = err->code; /* what the first one said */
		}
	}
	mg_free(infos);
	return code;
}

static void run(struct mg_snapshot_puller *puller, const struct mg_snapshot_want *want)
{
	struct pull pull = { .puller = puller, .want = want, .part = -1, .side = -1 };
	struct mg_error err = { 0 };
	uint64_t start = mg_clock_ms();

	pull.part_path = mg_format("%s.part", want->part);
	pull.have_path = mg_format("%s.have", want->part);
	int code = pull_from_any(&pull, &err);

	if (!code) {
		mg_log(MG_LOG_INFO, "snapshot.pulled",
		       "group=%" PRIu32 " index=%" PRIu64 " server=%" PRIu64 " bytes=%" PRIu64
		       " took_ms=%" PRIu64,
		       want->group, pull.manifest.index, pull.peer, pull.manifest.bytes,
		       mg_clock_ms() - start);
	}
	want->done(want->arg, code ? NULL : &pull.manifest, code ? &err : NULL);
	mg_snapshot_manifest_fini(&pull.manifest);
	mg_free(pull.part_path);
	mg_free(pull.have_path);
}

/* ---- the thread ---- */

static void want_fini(struct mg_snapshot_want *want)
{
	mg_free((char *)want->path);
	mg_free((char *)want->part);
	mg_free((char *)want->engine);
}

static bool next(struct mg_snapshot_puller *puller, struct mg_snapshot_want *out)
{
	pthread_mutex_lock(&puller->lock);
	while (!puller->queue_count && !atomic_load(&puller->stopping)) {
		pthread_cond_wait(&puller->changed, &puller->lock);
	}
	bool found = puller->queue_count && !atomic_load(&puller->stopping);

	if (found) {
		*out = puller->queue[0];
		puller->queue_count--;
		memmove(puller->queue, puller->queue + 1, puller->queue_count * sizeof *puller->queue);
	}
	pthread_mutex_unlock(&puller->lock);
	return found;
}

static void *work(void *arg)
{
	struct mg_snapshot_puller *puller = arg;
	struct mg_snapshot_want want;

	while (next(puller, &want)) {
		run(puller, &want);
		want_fini(&want);
	}
	return NULL;
}

int mg_snapshot_puller_new(struct mg_snapshot_puller **out, struct mg_peers *peers,
                           struct mg_error *err)
{
	struct mg_snapshot_puller *puller = mg_alloc0(sizeof *puller);

	*out = NULL;
	puller->peers = peers;
	puller->received = mg_metric_counter("merganser_snapshot_chunks_received_total", "",
	                                     "Good chunks of snapshots that came from other nodes.");
	puller->resumed = mg_metric_counter("merganser_snapshot_chunks_resumed_total", "",
	                                    "Chunks that were there already when a transfer went on.");
	puller->lies = mg_metric_counter("merganser_snapshot_corrupt_total", "",
	                                 "Chunks and files of other nodes that failed their hash.");
	pthread_mutex_init(&puller->lock, NULL);
	mg_cond_init(&puller->changed);
	if (pthread_create(&puller->thread, NULL, work, puller) != 0) {
		puller->joined = true;
		mg_snapshot_puller_free(puller);
		return mg_error_set(err, MG_E_NOMEM, "no thread to pull snapshots");
	}
	*out = puller;
	return 0;
}

static void shut_out(struct mg_snapshot_want *want)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_SHUTDOWN, "this node stops");
	want->done(want->arg, NULL, &err);
	want_fini(want);
}

void mg_snapshot_puller_want(struct mg_snapshot_puller *puller, const struct mg_snapshot_want *want)
{
	struct mg_snapshot_want own = *want;

	own.path = mg_strdup(want->path);
	own.part = mg_strdup(want->part);
	own.engine = mg_strdup(want->engine);
	pthread_mutex_lock(&puller->lock);
	bool taken = !atomic_load(&puller->stopping);

	if (taken) {
		mg_grow(puller->queue, puller->queue_count, puller->queue_cap);
		puller->queue[puller->queue_count++] = own;
		pthread_cond_broadcast(&puller->changed);
	}
	pthread_mutex_unlock(&puller->lock);
	if (!taken) {
		shut_out(&own);
	}
}

void mg_snapshot_puller_stop(struct mg_snapshot_puller *puller)
{
	pthread_mutex_lock(&puller->lock);
	atomic_store(&puller->stopping, true);
	pthread_cond_broadcast(&puller->changed);
	pthread_mutex_unlock(&puller->lock);
	if (!puller->joined) {
		pthread_join(puller->thread, NULL);
		puller->joined = true;
	}
	for (size_t i = 0; i < puller->queue_count; i++) {
		shut_out(&puller->queue[i]);
	}
	puller->queue_count = 0;
}

void mg_snapshot_puller_free(struct mg_snapshot_puller *puller)
{
	if (!puller) {
		return;
	}
	mg_snapshot_puller_stop(puller);
	mg_free(puller->queue);
	pthread_cond_destroy(&puller->changed);
	pthread_mutex_destroy(&puller->lock);
	mg_free(puller);
}
