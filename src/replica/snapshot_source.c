/*
 * snapshot_source.c - see snapshot_source.h.
 *
 *     loop: ASK -> raft thread: which index -> queue -> source's thread: copy, hash -> loop: answer
 *     loop: GET -------------------------------> queue -> source's thread: read ----> loop: answer
 *
 * owner: copies: the source's thread; a client: its loop, but for what is counted; the queue and
 * the states under `lock`.
 */
#include "replica/snapshot_source.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "replica/snapshot_frame.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { KEEP_MS = 600 * 1000, REQUESTS_MAX = 4, COPIES_OF_A_GROUP = 2 };

struct client {
	atomic_int refs; /* its connection, its requests */
	atomic_int requests;
	struct mg_snapshot_source *source;
	struct mg_loop *loop;
	uint64_t node;
	/* owner: its loop */
	struct mg_conn *conn; /* NULL: closed */
	size_t skip;
	uint8_t frame[MG_SNAPSHOT_REQUEST_MAX];
	size_t frame_size;
};

struct request {
	struct client *client;
	struct mg_snapshot_frame frame;
	struct mg_buf *raft; /* the group's mark, when its index is the one asked for */
	struct mg_error err; /* known already */
	bool newest;         /* whatever index */
};

struct copy {
	struct mg_snapshot_manifest manifest;
	char *path;
	int fd;
	uint64_t asked_ms;
};

struct mg_snapshot_source {
	struct mg_snapshot_source_options options;
	struct mg_metric *sent_chunks, *sent_bytes, *made_copies;
	pthread_t thread;
	atomic_int clients;
	/* owner: the source's thread */
	struct copy *copies;
	size_t copy_count, copy_cap;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	struct request *queue;
	size_t queue_first, queue_count, queue_cap;
	struct mg_snapshot_state *states;
	size_t state_count, state_cap;
	bool copying; /* a state's copy is being called */
	uint32_t copying_group;
	bool stopping, joined;
};

/* ---- clients ---- */

static void client_unref(struct client *client)
{
	if (atomic_fetch_sub(&client->refs, 1) == 1) {
		mg_assert(client->conn == NULL);
		mg_free(client);
	}
}

static void request_fini(struct request *request)
{
	mg_buf_unref(request->raft);
	(void)atomic_fetch_sub(&request->client->requests, 1);
	client_unref(request->client);
}

static bool is_stopping(struct mg_snapshot_source *source)
{
	pthread_mutex_lock(&source->lock);
	bool stopping = source->stopping;

	pthread_mutex_unlock(&source->lock);
	return stopping;
}

/* To the source's thread, unless that ends. */
static void enqueue(struct mg_snapshot_source *source, struct request *request)
{
	pthread_mutex_lock(&source->lock);
	bool taken = !source->stopping;

	if (taken) {
		if (source->queue_first > 0 && source->queue_count == source->queue_cap) {
			source->queue_count -= source->queue_first;
			memmove(source->queue, source->queue + source->queue_first,
			        source->queue_count * sizeof *source->queue);
			source->queue_first = 0;
		}
		mg_grow(source->queue, source->queue_count, source->queue_cap);
		source->queue[source->queue_count++] = *request;
		pthread_cond_broadcast(&source->changed);
	}
	pthread_mutex_unlock(&source->lock);
	if (!taken) {
		request_fini(request);
	}
}

/* Raft thread: which snapshot the group has. */
static void look_up(void *arg)
{
	struct request *request = arg;
	struct mg_group *group =
		mg_raft_host_group(request->client->source->options.host, request->frame.group);

	request->newest = request->frame.index == 0;
	const struct mg_manifest *snapshot = group ? mg_group_snapshot(group) : NULL;

	if (!group) {
		mg_error_set(&request->err, MG_E_NOT_FOUND, "this node has no group %" PRIu32,
		             request->frame.group);
	} else if (!snapshot && request->frame.index == 0) {
		mg_error_set(&request->err, MG_E_BUSY, "group %" PRIu32 " has no snapshot yet",
		             request->frame.group);
		mg_group_ask_snapshot(group);
	}
	if (snapshot &&
	    (request->frame.index == 0 || request->frame.index == snapshot->snapshot.index)) {
		size_t size = mg_manifest_size(snapshot);

		request->frame.index = snapshot->snapshot.index;
		request->raft = mg_buf_new(size);
		if (request->raft) {
			struct mg_out out = mg_out(request->raft->data, size);

			mg_manifest_encode(&out, snapshot);
			request->raft->size = size;
		}
	}
	enqueue(request->client->source, request);
	mg_free(request);
}

static void on_frame(struct client *client, const struct mg_snapshot_frame *frame)
{
	struct request request = { .client = client, .frame = *frame };

	if (atomic_fetch_add(&client->requests, 1) >= REQUESTS_MAX) {
		(void)atomic_fetch_sub(&client->requests, 1);
		mg_log(MG_LOG_WARN, "snapshot.protocol", "server=%" PRIu64 " error=\"it asks too much\"",
		       client->node);
		mg_conn_close(client->conn);
		return;
	}
	(void)atomic_fetch_add(&client->refs, 1);
	if (frame->kind == MG_SNAPSHOT_ASK && !is_stopping(client->source)) {
		struct request *posted = mg_alloc(sizeof *posted);

		*posted = request;
		mg_raft_host_post(client->source->options.host, look_up, posted);
	} else {
		enqueue(client->source, &request);
	}
}

/* False: it is closed. */
static bool take_byte(struct client *client, uint8_t byte)
{
	struct mg_snapshot_frame frame;
	struct mg_error err = { 0 };
	size_t size = 0;

	client->frame[client->frame_size++] = byte;
	if (client->frame_size < 4) {
		return true;
	}
	int code = mg_snapshot_frame_size(client->frame, MG_SNAPSHOT_REQUEST_MAX, &size, &err);

	if (!code && client->frame_size < size) {
		return true;
	}
	code = code ? code : mg_snapshot_frame_decode(client->frame, size, &frame, &err);
	if (!code && frame.kind != MG_SNAPSHOT_ASK && frame.kind != MG_SNAPSHOT_GET) {
		code = mg_error_set(&err, MG_E_PROTOCOL, "an answer where a request is due");
	}
	client->frame_size = 0;
	if (code) {
		mg_log(MG_LOG_WARN, "snapshot.protocol", "server=%" PRIu64 " error=\"%s\"", client->node,
		       err.message);
		mg_conn_close(client->conn);
		return false;
	}
	on_frame(client, &frame);
	return true;
}

static long client_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct client *client = state;
	size_t at = size < client->skip ? size : client->skip;

	(void)conn;
	client->skip -= at;
	while (at < size && take_byte(client, bytes[at])) {
		at++;
	}
	return (long)size;
}

static void client_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct client *client = state;

	(void)conn;
	(void)reason;
	client->conn = NULL;
	(void)atomic_fetch_sub(&client->source->clients, 1);
	client_unref(client);
}

static const struct mg_protocol client_protocol = {
	.name = "peer bulk",
	.data = client_data,
	.closed = client_closed,
};

bool mg_snapshot_source_take(void *arg, struct mg_conn *conn, uint64_t node, size_t skip)
{
	struct mg_snapshot_source *source = arg;

	bool room = atomic_fetch_add(&source->clients, 1) < MG_SNAPSHOT_CLIENTS;

	if (!room || is_stopping(source)) {
		(void)atomic_fetch_sub(&source->clients, 1);
		return false;
	}
	struct client *client = mg_alloc0(sizeof *client);

	atomic_init(&client->refs, 1);
	client->source = source;
	client->loop = mg_conn_loop(conn);
	client->node = node;
	client->conn = conn;
	client->skip = skip;
	mg_conn_set_protocol(conn, &client_protocol, client);
	return true;
}

/* ---- answers ---- */

struct answer {
	struct client *client;
	struct mg_buf *frame;
};

static void send_answer(void *arg)
{
	struct answer *answer = arg;

	if (answer->client->conn && answer->frame) {
		mg_conn_write_buf(answer->client->conn, answer->frame);
	} else if (answer->client->conn) {
		mg_conn_close(answer->client->conn); /* no memory for it */
	}
	mg_buf_unref(answer->frame);
	client_unref(answer->client);
	mg_free(answer);
}

static void give(struct client *client, const struct mg_snapshot_frame *frame)
{
	struct answer *answer = mg_alloc(sizeof *answer);

	*answer = (struct answer){ client, mg_snapshot_frame_encode(frame) };
	(void)atomic_fetch_add(&client->refs, 1);
	mg_loop_post(client->loop, send_answer, answer);
}

static void refuse(const struct request *request, const struct mg_error *err)
{
	struct mg_snapshot_frame frame = { .kind = MG_SNAPSHOT_REFUSED,
		                               .code = (uint32_t)err->code,
		                               .data = (const uint8_t *)err->message,
		                               .size = strlen(err->message) };

	mg_log(MG_LOG_INFO, "snapshot.refused",
	       "server=%" PRIu64 " group=%" PRIu32 " index=%" PRIu64 " reason=\"%s\"",
	       request->client->node, request->frame.group, request->frame.index, err->message);
	give(request->client, &frame);
}

/* ---- copies, on the source's thread ---- */

static void copy_fini(struct copy *copy, bool remove)
{
	struct mg_error ignored;

	if (remove) {
		(void)mg_file_remove(copy->path, &ignored);
	}
	if (copy->fd >= 0) {
		close(copy->fd);
	}
	mg_free(copy->path);
	mg_snapshot_manifest_fini(&copy->manifest);
}

static struct copy *find_copy(struct mg_snapshot_source *source, uint32_t group, uint64_t index)
{
	for (size_t i = 0; i < source->copy_count; i++) {
		const struct mg_snapshot_manifest *manifest = &source->copies[i].manifest;

		if (manifest->group == group && manifest->index == index) {
			return &source->copies[i];
		}
	}
	return NULL;
}

static void drop_copy(struct mg_snapshot_source *source, size_t at)
{
	copy_fini(&source->copies[at], true);
	source->copies[at] = source->copies[--source->copy_count];
}

/* Those that nobody has asked for lately, and of this group those that are too many. */
static void sweep(struct mg_snapshot_source *source, uint32_t group)
{
	uint64_t now_ms = mg_clock_ms();

	for (size_t i = 0; i < source->copy_count; i++) {
		size_t newer = 0;

		for (size_t k = 0; k < source->copy_count; k++) {
			newer += source->copies[k].manifest.group == group &&
			         source->copies[i].manifest.group == group &&
			         source->copies[k].manifest.index > source->copies[i].manifest.index;
		}
		if (newer >= COPIES_OF_A_GROUP ||
		    now_ms - source->copies[i].asked_ms > source->options.keep_ms) {
			drop_copy(source, i--);
		}
	}
}

/* The group's state; its copy may be called until end_copying. */
static bool begin_copying(struct mg_snapshot_source *source, uint32_t group,
                          struct mg_snapshot_state *out)
{
	pthread_mutex_lock(&source->lock);
	for (size_t i = 0; i < source->state_count && !source->copying; i++) {
		if (source->states[i].group == group) {
			*out = source->states[i];
			source->copying = true;
			source->copying_group = group;
		}
	}
	bool found = source->copying;

	pthread_mutex_unlock(&source->lock);
	return found;
}

static void end_copying(struct mg_snapshot_source *source)
{
	pthread_mutex_lock(&source->lock);
	source->copying = false;
	pthread_cond_broadcast(&source->changed);
	pthread_mutex_unlock(&source->lock);
}

static int make_copy(struct mg_snapshot_source *source, const struct request *request,
                     struct mg_error *err)
{
	const struct mg_snapshot_frame *frame = &request->frame;
	struct copy copy = { .fd = -1, .asked_ms = mg_clock_ms() };
	struct mg_snapshot_state state = { 0 };
	uint64_t start = mg_clock_ms();

	if (!begin_copying(source, frame->group, &state)) {
		return mg_error_set(err, MG_E_NOT_FOUND, "this node gives no snapshot of group %" PRIu32,
		                    frame->group);
	}
	copy.manifest.group = frame->group;
	copy.manifest.index = frame->index;
	copy.manifest.format = state.format;
	mg_copy_text(copy.manifest.engine, sizeof copy.manifest.engine, state.engine);
	int code = state.copy(state.arg, frame->index, &copy.path, err);

	end_copying(source);
	code = code ? code : mg_snapshot_manifest_hash(&copy.manifest, copy.path, err);
	if (!code) {
		copy.fd = open(copy.path, O_RDONLY | O_CLOEXEC);
		code = copy.fd < 0 ? mg_error_errno(err, errno, "cannot open \"%s\"", copy.path) : 0;
	}
	if (code) {
		copy_fini(&copy, copy.path != NULL);
		return code;
	}
	mg_grow(source->copies, source->copy_count, source->copy_cap);
	source->copies[source->copy_count++] = copy;
	mg_metric_add(source->made_copies, 1);
	mg_log(MG_LOG_INFO, "snapshot.copied",
	       "group=%" PRIu32 " index=%" PRIu64 " bytes=%" PRIu64 " took_ms=%" PRIu64, frame->group,
	       frame->index, copy.manifest.bytes, mg_clock_ms() - start);
	return 0;
}

static void ask_snapshot(void *arg)
{
	struct request *request = arg;
	struct mg_group *group =
		mg_raft_host_group(request->client->source->options.host, request->frame.group);
	struct mg_group_info info = { 0 };

	if (group) {
		mg_group_info(group, &info);
	}
	/* Only the leader's offers name an index. */
	if (group && (request->newest || info.core.role == MG_RAFT_LEADER)) {
		mg_group_ask_snapshot(group);
	}
	client_unref(request->client);
	mg_free(request);
}

/* The file has gone on: the next offer is to be of what is there. */
static void ask_for_newer(const struct request *request)
{
	struct request *posted = mg_alloc0(sizeof *posted);

	posted->client = request->client;
	posted->frame = request->frame;
	posted->newest = request->newest;
	(void)atomic_fetch_add(&request->client->refs, 1);
	mg_raft_host_post(request->client->source->options.host, ask_snapshot, posted);
}

static int answer_ask(struct mg_snapshot_source *source, struct request *request,
                      struct mg_error *err)
{
	struct copy *copy = find_copy(source, request->frame.group, request->frame.index);
	int code = copy ? 0 : make_copy(source, request, err);

	if (code) {
		if (code == MG_E_NOT_FOUND) {
			ask_for_newer(request);
		}
		return code == MG_E_NOT_FOUND && request->newest ? MG_E_BUSY : code; /* try again */
	}
	sweep(source, request->frame.group);
	copy = find_copy(source, request->frame.group, request->frame.index);
	if (!copy) {
		return mg_error_set(err, MG_E_NOT_FOUND, "there are newer snapshots");
	}
	copy->asked_ms = mg_clock_ms();
	if (request->raft && !copy->manifest.raft) {
		copy->manifest.raft = mg_buf_ref(request->raft);
	}
	struct mg_sb text = { 0 };

	mg_snapshot_manifest_print(&copy->manifest, &text);
	give(request->client, &(struct mg_snapshot_frame){ .kind = MG_SNAPSHOT_MANIFEST,
	                                                   .data = (const uint8_t *)mg_sb_text(&text),
	                                                   .size = text.len });
	mg_sb_fini(&text);
	return 0;
}

/* Sleep so long that this many bytes a second are not passed; ends early when the end has come. */
static void keep_rate(struct mg_snapshot_source *source, size_t bytes)
{
	uint64_t rate = source->options.bytes_per_s;
	uint64_t us = rate ? bytes * 1000000ull / rate : 0;
	uint64_t until_ms = mg_clock_ms() + (us + 999) / 1000;

	pthread_mutex_lock(&source->lock);
	while (us > 0 && !source->stopping &&
	       mg_cond_wait_until(&source->changed, &source->lock, until_ms)) {
	}
	pthread_mutex_unlock(&source->lock);
}

static int read_chunk(const struct copy *copy, uint32_t chunk, uint8_t *data, size_t size,
                      struct mg_error *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t got = pread(copy->fd, data + done, size - done,
		                    (off_t)((uint64_t)chunk * MG_SNAPSHOT_CHUNK_BYTES + done));

		if (got == 0) {
			return mg_error_set(err, MG_E_CORRUPT, "\"%s\" is shorter than it was", copy->path);
		}
		if (got < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot read \"%s\"", copy->path);
		}
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static int answer_get(struct mg_snapshot_source *source, struct request *request,
                      struct mg_error *err)
{
	struct copy *copy = find_copy(source, request->frame.group, request->frame.index);

	if (!copy || request->frame.chunk >= copy->manifest.chunk_count) {
		return mg_error_set(err, MG_E_NOT_FOUND,
		                    "there is no chunk %" PRIu32 " of a snapshot at index %" PRIu64,
		                    request->frame.chunk, request->frame.index);
	}
	size_t size = mg_snapshot_chunk_size(&copy->manifest, request->frame.chunk);
	uint8_t *data = mg_alloc(MG_SNAPSHOT_CHUNK_BYTES);
	int code = read_chunk(copy, request->frame.chunk, data, size, err);

	copy->asked_ms = mg_clock_ms();
	if (!code) {
		mg_metric_add(source->sent_chunks, 1);
		mg_metric_add(source->sent_bytes, (int64_t)size);
		give(request->client, &(struct mg_snapshot_frame){ .kind = MG_SNAPSHOT_CHUNK,
		                                                   .chunk = request->frame.chunk,
		                                                   .data = data,
		                                                   .size = size });
		keep_rate(source, size);
	}
	mg_free(data);
	return code;
}

/* ---- the thread ---- */

/* Under the lock: until there is a request, or copies have to be looked at. */
static void wait_for_work(struct mg_snapshot_source *source)
{
	uint64_t until_ms = mg_clock_ms() + source->options.keep_ms / 2 + 1;
	bool waits = true;

	while (!source->stopping && source->queue_first == source->queue_count && waits) {
		if (source->copy_count) {
			waits = mg_cond_wait_until(&source->changed, &source->lock, until_ms);
		} else {
			(void)pthread_cond_wait(&source->changed, &source->lock);
		}
	}
}

static bool next(struct mg_snapshot_source *source, struct request *out, bool *found)
{
	pthread_mutex_lock(&source->lock);
	wait_for_work(source);
	*found = !source->stopping && source->queue_first < source->queue_count;
	if (*found) {
		*out = source->queue[source->queue_first++];
	}
	bool goes_on = !source->stopping;

	pthread_mutex_unlock(&source->lock);
	return goes_on;
}

static void *work(void *arg)
{
	struct mg_snapshot_source *source = arg;
	struct request request;
	bool found;

	while (next(source, &request, &found)) {
		struct mg_error err = request.err;

		sweep(source, UINT32_MAX);
		if (!found) {
			continue;
		}
		if (!err.code) {
			err.code = request.frame.kind == MG_SNAPSHOT_ASK ? answer_ask(source, &request, &err)
			                                                 : answer_get(source, &request, &err);
		}
		if (err.code) {
			refuse(&request, &err);
		}
		request_fini(&request);
	}
	return NULL;
}

/* ---- life ---- */

int mg_snapshot_source_new(struct mg_snapshot_source **out,
                           const struct mg_snapshot_source_options *options, struct mg_error *err)
{
	struct mg_snapshot_source *source = mg_alloc0(sizeof *source);

	*out = NULL;
	source->options = *options;
	source->options.keep_ms = options->keep_ms ? options->keep_ms : KEEP_MS;
	source->sent_chunks = mg_metric_counter("merganser_snapshot_chunks_sent_total", "",
	                                        "Chunks of snapshots sent to other nodes.");
	source->sent_bytes = mg_metric_counter("merganser_snapshot_bytes_sent_total", "",
	                                       "Bytes of snapshots sent to other nodes.");
	source->made_copies = mg_metric_counter("merganser_snapshot_copies_total", "",
	                                        "Copies of files made for other nodes.");
	pthread_mutex_init(&source->lock, NULL);
	mg_cond_init(&source->changed);
	if (pthread_create(&source->thread, NULL, work, source) != 0) {
		source->joined = true;
		mg_snapshot_source_free(source);
		return mg_error_set(err, MG_E_NOMEM, "no thread to give snapshots");
	}
	*out = source;
	return 0;
}

void mg_snapshot_source_stop(struct mg_snapshot_source *source)
{
	pthread_mutex_lock(&source->lock);
	source->stopping = true;
	pthread_cond_broadcast(&source->changed);
	pthread_mutex_unlock(&source->lock);
	if (!source->joined) {
		pthread_join(source->thread, NULL);
		source->joined = true;
	}
	while (source->queue_first < source->queue_count) {
		request_fini(&source->queue[source->queue_first++]);
	}
}

void mg_snapshot_source_free(struct mg_snapshot_source *source)
{
	if (!source) {
		return;
	}
	mg_snapshot_source_stop(source);
	for (size_t i = 0; i < source->copy_count; i++) {
		copy_fini(&source->copies[i], false);
	}
	mg_free(source->copies);
	mg_free(source->queue);
	mg_free(source->states);
	pthread_cond_destroy(&source->changed);
	pthread_mutex_destroy(&source->lock);
	mg_free(source);
}

void mg_snapshot_source_add(struct mg_snapshot_source *source,
                            const struct mg_snapshot_state *state)
{
	pthread_mutex_lock(&source->lock);
	mg_grow(source->states, source->state_count, source->state_cap);
	source->states[source->state_count++] = *state;
	pthread_mutex_unlock(&source->lock);
}

void mg_snapshot_source_remove(struct mg_snapshot_source *source, uint32_t group)
{
	pthread_mutex_lock(&source->lock);
	while (source->copying && source->copying_group == group) {
		pthread_cond_wait(&source->changed, &source->lock);
	}
	for (size_t i = 0; i < source->state_count; i++) {
		if (source->states[i].group == group) {
			source->states[i--] = source->states[--source->state_count];
		}
	}
	pthread_mutex_unlock(&source->lock);
}
