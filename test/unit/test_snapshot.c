/*
 * test_snapshot.c - snapshots between nodes: real files, engines and logs, TLS over loopback.
 */
#include "base/metrics.h"
#include "codec/arrow_ipc.h"
#include "net_kit.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/catalog_sm.h"
#include "replica/command.h"
#include "replica/peers.h"
#include "replica/redo.h"
#include "replica/shard_sm.h"
#include "store/shard_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { NODES = 3, SHARD = 1, GROUP = 2, PATIENCE_MS = 60000 };
#define CLUSTER "0123456789abcdef0123456789abcdef"

static struct kit_certs certs;
static uint32_t group_in_use = GROUP; /* or 0, the catalog's */
static struct mg_error err;

#define ok(call)                                                             \
	do {                                                                     \
		int code_ = (call);                                                  \
		if (code_) {                                                         \
			fail_msg("%s: %d %s %s", #call, code_, err.message, err.detail); \
		}                                                                    \
	} while (0)

#define AWAIT(condition)                                                   \
	for (uint64_t patience = mg_clock_ms() + PATIENCE_MS; !(condition);) { \
		if (mg_clock_ms() > patience) {                                    \
			fail_msg("waited in vain: " #condition);                       \
		}                                                                  \
		mg_sleep_ms(5);                                                    \
	}

/* ---- nodes ---- */

struct node {
	uint64_t self;
	char dir[128];
	bool up, bare; /* bare: no group, only what gives and pulls */
	uint16_t port;
	uint64_t bytes_per_s;
	enum mg_adopt_step die_at;
	bool dies;
	struct mg_loop *loops[2];
	struct mg_tls *tls, *accept, *dial;
	struct mg_listener *listener;
	struct mg_peers *peers;
	struct mg_raft_host *host;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_snapshot_source *source;
	struct mg_snapshot_puller *puller;
	struct mg_shard_sm *sm;
	struct mg_catalog *catalog;
	struct mg_catalog_sm *catalog_sm;
	atomic_int role, adopted;
	pthread_rwlock_t readers; /* held by each; written by the gate */
};

static bool choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	if (strcmp(mg_conn_alpn(conn), MG_NET_ALPN_PEER) != 0) {
		mg_conn_close(conn);
		return false;
	}
	return mg_peers_choose(conn, arg, bytes, size);
}

static void copy_text(const char *from, const char *dir, const char *name)
{
	char *path = mg_path_join(dir, name), *text = NULL;
	size_t size;

	ok(mg_file_read(from, 1 << 16, &text, &size, &err));
	ok(mg_file_write(path, text, size, 0600, &err));
	mg_free(text);
	mg_free(path);
}

static void make_file(struct node *node)
{
	const struct mg_duck_options options = { .threads = 1, .lossless_arrow = true };
	const struct mg_shard_meta meta = {
		.cluster_id = CLUSTER, .sample = "", .shard = SHARD, .shard_count = 1, .file_format = 1
	};
	struct mg_shard_file *file = NULL;
	struct mg_duck *duck;
	char sha256[65];
	uint64_t bytes;

	ok(mg_duck_open(&duck, &options, &err));
	ok(mg_shard_file_create(&file, duck, node->dir, &meta, &err));
	ok(mg_shard_file_finish(file, sha256, &bytes, &err));
	mg_duck_close(duck);
}

static void node_make(struct node *node, uint64_t self, bool bare)
{
	char path[160];

	*node = (struct node){ .self = self, .bare = bare };
	pthread_rwlock_init(&node->readers, NULL);
	snprintf(node->dir, sizeof node->dir, "%s/node%d.XXXXXX", certs.dir, (int)self);
	assert_non_null(mkdtemp(node->dir));
	snprintf(path, sizeof path, "%s/tls", node->dir);
	ok(mg_dir_make(path, 0700, &err));
	snprintf(path, sizeof path, "%s/shards", node->dir);
	ok(mg_dir_make(path, 0700, &err));
	copy_text(certs.ca, node->dir, "tls/ca.crt");
	copy_text(certs.ca_key, node->dir, "tls/ca.key");
	if (!bare) {
		make_file(node);
	}
}

static void on_role(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term)
{
	struct node *node = arg;

	(void)group;
	(void)term;
	atomic_store(&node->role, (int)role);
}

static void on_step(void *arg, enum mg_adopt_step step)
{
	struct node *node = arg;

	if (node->dies && step == node->die_at) {
		kill(getpid(), SIGKILL);
	}
	atomic_fetch_add(&node->adopted, step == MG_ADOPT_ATTACHED);
}

static int gate(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *error),
                void *swap_arg, struct mg_error *error)
{
	struct node *node = arg;

	assert_int_equal(shard, SHARD);
	pthread_rwlock_wrlock(&node->readers);
	int code = swap(swap_arg, error);

	pthread_rwlock_unlock(&node->readers);
	return code;
}

static void open_engine(struct node *node)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };

	ok(mg_duck_open(&node->duck, &options, &err));
	ok(mg_duck_connect(node->duck, &node->conn, &err));
	ok(mg_duck_exec(node->conn,
	                "SET GLOBAL wal_autocheckpoint = '1TB'; PRAGMA disable_checkpoint_on_shutdown",
	                &err));
}

/* The shard's state machine and its group; begun by `seed`, or born with all nodes. */
static void open_group(struct node *node, const struct mg_manifest *seed)
{
	struct mg_raft_node *raft = mg_raft_host_node(node->host);
	const struct mg_shard_sm_options options = { .host = node->host,
		                                         .duck = node->duck,
		                                         .shard = SHARD,
		                                         .group = GROUP,
		                                         .gate = gate,
		                                         .on_step = on_step,
		                                         .arg = node,
		                                         .dir = node->dir,
		                                         .puller = node->puller,
		                                         .source = node->source };
	struct mg_members members = { 0 };
	struct mg_group *group;

	ok(mg_duck_execf(node->conn, &err,
	                 "ATTACH '%s/shards/%04u.duckdb' AS s%u (RECOVERY_MODE no_wal_writes)",
	                 node->dir, SHARD, SHARD));
	ok(mg_shard_sm_open(&node->sm, &options, &err));
	for (uint64_t i = 1; i <= NODES; i++) {
		ok(mg_members_set(&members, i, MG_MEMBER_VOTER, NULL));
	}
	if (!mg_raft_node_knows(raft, GROUP)) {
		ok(seed ? mg_raft_node_seed(raft, GROUP, seed, &err)
		        : mg_raft_node_birth(raft, GROUP, &members, &err));
	}
	ok(mg_raft_node_open(raft, GROUP, mg_shard_sm_seam(node->sm), &group, &err));
}

static void open_catalog(struct node *node)
{
	struct mg_raft_node *raft = mg_raft_host_node(node->host);
	const struct mg_catalog_sm_options options = {
		.host = node->host, .dir = node->dir, .puller = node->puller, .source = node->source
	};
	struct mg_catalog_sm_options with_catalog = options;
	struct mg_members members = { 0 };
	struct mg_group *group;

	ok(mg_catalog_load(&node->catalog, node->dir, &err));
	with_catalog.catalog = node->catalog;
	ok(mg_catalog_sm_open(&node->catalog_sm, &with_catalog, &err));
	for (uint64_t i = 1; i <= NODES; i++) {
		ok(mg_members_set(&members, i, MG_MEMBER_VOTER, NULL));
	}
	if (!mg_raft_node_knows(raft, 0)) {
		ok(mg_raft_node_birth(raft, 0, &members, &err));
	}
	ok(mg_raft_node_open(raft, 0, mg_catalog_sm_seam(node->catalog_sm), &group, &err));
}

static void node_listen(struct node *node)
{
	static const char *const http[] = { "http/1.1", NULL };
	const struct mg_tls_server_options tls = {
		.cert_file = certs.cert, .key_file = certs.key, .alpn = http, .peers = node->accept
	};
	char address[32];

	ok(mg_tls_server(&node->tls, &tls, &err));
	snprintf(address, sizeof address, "127.0.0.1:%u", node->port);
	ok(mg_listen(&node->listener, node->loops, 2,
	             &(struct mg_listen_options){
					 .host_port = address, .tls = node->tls, .choose = choose, .arg = node->peers },
	             &err));
	node->port = mg_listener_port(node->listener);
}

static void node_start(struct node *node)
{
	for (int i = 0; i < 2; i++) {
		ok(mg_loop_start(&node->loops[i], "test", &err));
	}
	ok(mg_peers_tls(node->dir, node->self, &node->accept, &node->dial, &err));
	node->peers = mg_peers_new(&(struct mg_peers_options){ .self = node->self,
	                                                       .cluster = CLUSTER,
	                                                       .program = "test",
	                                                       .loop = node->loops[0],
	                                                       .tls = node->dial });
	const struct mg_raft_host_options options = {
		.dir = node->dir,
		.self = node->self,
		.net = mg_peers_net(node->peers),
		.raft = { .election_ms = 500,
		          .heartbeat_ms = 50,
		          .snapshot_entries = 10,
		          .snapshot_bytes = 64 << 10,
		          .keep_entries = 3,
		          .on_role = on_role,
		          .watch_arg = node },
	};
	const struct mg_snapshot_source_options source = { .bytes_per_s = node->bytes_per_s };

	ok(mg_raft_host_open(&node->host, &options, &err));
	struct mg_snapshot_source_options with_host = source;

	with_host.host = node->host;
	ok(mg_snapshot_source_new(&node->source, &with_host, &err));
	ok(mg_snapshot_puller_new(&node->puller, node->peers, &err));
	open_engine(node);
	if (!node->bare && group_in_use == 0) {
		open_catalog(node);
	} else if (!node->bare) {
		open_group(node, NULL);
	}
	mg_peers_set_bulk(node->peers, mg_snapshot_source_take, node->source);
	mg_peers_start(node->peers, node->host);
	node_listen(node);
	ok(mg_raft_host_start(node->host, &err));
	node->up = true;
}

static void node_stop(struct node *node)
{
	if (!node->up) {
		return;
	}
	node->up = false;
	mg_listener_close(node->listener);
	mg_snapshot_puller_stop(node->puller);
	mg_snapshot_source_stop(node->source);
	mg_peers_stop(node->peers);
	if (node->sm) {
		mg_shard_sm_stop(node->sm);
	}
	if (node->catalog_sm) {
		mg_catalog_sm_stop(node->catalog_sm);
	}
	mg_raft_host_stop(node->host);
	mg_loop_stop(node->loops[0]);
	mg_loop_stop(node->loops[1]);
	mg_raft_host_close(node->host);
	mg_shard_sm_free(node->sm);
	mg_catalog_sm_free(node->catalog_sm);
	mg_catalog_free(node->catalog);
	node->sm = NULL;
	node->catalog_sm = NULL;
	node->catalog = NULL;
	mg_snapshot_source_free(node->source);
	mg_snapshot_puller_free(node->puller);
	mg_peers_free(node->peers);
	mg_duck_disconnect(node->conn);
	mg_duck_close(node->duck);
	mg_tls_unref(node->tls);
	mg_tls_unref(node->accept);
	mg_tls_unref(node->dial);
	atomic_store(&node->role, 0);
}

static void name_each_other(struct node *nodes, size_t count)
{
	char address[32];

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count && nodes[i].up; j++) {
			snprintf(address, sizeof address, "127.0.0.1:%u", nodes[j].port);
			mg_peers_set(nodes[i].peers, nodes[j].self, address);
		}
	}
}

static void start_all(struct node *nodes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!nodes[i].up) {
			node_start(&nodes[i]);
		}
	}
	name_each_other(nodes, count);
}

static void make_all(struct node *nodes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		node_make(&nodes[i], i + 1, i >= NODES);
	}
}

static void stop_all(struct node *nodes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		node_stop(&nodes[i]);
	}
}

static struct node *leader_of(struct node *nodes)
{
	for (int i = 0; i < NODES; i++) {
		if (nodes[i].up && atomic_load(&nodes[i].role) == MG_RAFT_LEADER) {
			return &nodes[i];
		}
	}
	return NULL;
}

static struct node *follower_of(struct node *nodes)
{
	struct node *leader = NULL;

	AWAIT((leader = leader_of(nodes)) != NULL);
	return leader == &nodes[0] ? &nodes[1] : &nodes[0];
}

/* ---- on the raft thread ---- */

struct look {
	struct node *node;
	struct mg_group_info info;
	uint64_t snapshot;
};

static void look_now(void *arg)
{
	struct look *look = arg;
	struct mg_raft_node *raft = mg_raft_host_node(look->node->host);
	struct mg_group *group = raft ? mg_raft_node_group(raft, group_in_use) : NULL;

	if (group) {
		const struct mg_manifest *snapshot = mg_group_snapshot(group);

		mg_group_info(group, &look->info);
		look->snapshot = snapshot ? snapshot->snapshot.index : 0;
	}
}

static struct look look_at(struct node *node)
{
	struct look look = { .node = node };

	mg_raft_host_call(node->host, look_now, &look);
	return look;
}

struct proposal {
	struct node *node;
	const uint8_t *bytes;
	size_t size;
	enum mg_change change;
	uint64_t whom; /* not 0: a change of members */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	int error;
};

static void on_decided(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct proposal *proposal = arg;

	(void)index;
	(void)leader;
	pthread_mutex_lock(&proposal->lock);
	proposal->done = true;
	proposal->error = error;
	pthread_cond_signal(&proposal->changed);
	pthread_mutex_unlock(&proposal->lock);
}

static void propose_now(void *arg)
{
	struct proposal *proposal = arg;
	struct mg_raft_node *raft = mg_raft_host_node(proposal->node->host);
	struct mg_group *group = raft ? mg_raft_node_group(raft, group_in_use) : NULL;
	int code =
		!group ? MG_E_SHUTDOWN
		: proposal->whom
			? mg_group_change(group, proposal->change, proposal->whom, on_decided, proposal, NULL)
			: mg_group_propose(group, proposal->bytes, proposal->size, on_decided, proposal, NULL);

	if (code) {
		on_decided(proposal, code, 0, 0);
	}
}

/* By whoever leads, until it is done. */
static void propose(struct node *nodes, struct proposal proposal)
{
	do {
		AWAIT((proposal.node = leader_of(nodes)) != NULL);
		proposal.done = false;
		pthread_mutex_init(&proposal.lock, NULL);
		pthread_cond_init(&proposal.changed, NULL);
		mg_raft_host_post(proposal.node->host, propose_now, &proposal);
		pthread_mutex_lock(&proposal.lock);
		while (!proposal.done) {
			pthread_cond_wait(&proposal.changed, &proposal.lock);
		}
		pthread_mutex_unlock(&proposal.lock);
		if (proposal.error) {
			mg_sleep_ms(20);
		}
	} while (proposal.error);
}

/* ---- rows ---- */

static void command(struct node *nodes, const struct mg_command *head, const struct mg_redo *redo)
{
	size_t size = redo ? mg_redo_size(redo, SHARD) : 0;
	uint8_t *bytes = mg_alloc(size + MG_COMMAND_HEAD_MAX);
	struct mg_out out = mg_out(bytes, size + MG_COMMAND_HEAD_MAX);

	mg_command_encode_head(&out, head);
	if (redo) {
		mg_redo_encode(redo, SHARD, &out);
	}
	propose(nodes, (struct proposal){ .bytes = bytes, .size = out.size });
	mg_free(bytes);
}

static void create_table(struct node *nodes)
{
	struct mg_redo *redo = mg_redo_new();

	mg_redo_create(redo, SHARD, "main", "t", "k INTEGER, v VARCHAR");
	command(nodes, &(struct mg_command){ .kind = MG_COMMAND_WRITE }, redo);
	mg_redo_free(redo);
}

struct batch {
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema, *rows;
};

static int batch_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *error)
{
	struct batch *batch = arg;
	int code = mg_arrow_encoder_new(&batch->encoder, schema, false, error);

	return code ? code : mg_arrow_encode_schema(batch->encoder, &batch->schema, error);
}

static int batch_put(void *arg, uint32_t target, struct ArrowArray *array, struct mg_error *error)
{
	struct batch *batch = arg;
	uint64_t raw;

	(void)target;
	return mg_arrow_encode_batch(batch->encoder, array, &batch->rows, &raw, error);
}

/* So many rows from key on, of about 1 KB that nothing compresses. */
static struct mg_redo *rows_of(struct mg_duck_conn *conn, int key, int count)
{
	struct mg_redo *redo = mg_redo_new();
	struct batch batch = { 0 };
	const struct mg_duck_sink sink = { .begin = batch_begin, .put = batch_put, .arg = &batch };
	char *select = mg_format(
		"SELECT (%d + i)::INTEGER AS k, list_aggregate([md5((i + %d) || '-' || j) FOR j IN "
		"range(32)], 'string_agg', '') AS v, 7::USMALLINT AS slot FROM range(%d) AS r(i)",
		key, key, count);

	ok(mg_duck_scatter(conn, select, NULL, 1, &sink, &err));
	ok(mg_redo_rows(redo, SHARD, MG_REDO_INSERT, "main", "t", batch.schema, batch.rows,
	                (uint32_t)count, &err));
	mg_arrow_encoder_free(batch.encoder);
	mg_buf_unref(batch.schema);
	mg_buf_unref(batch.rows);
	mg_free(select);
	return redo;
}

/* A connection of its own: nodes come and go. */
static void write_rows(struct node *nodes, int key, int count)
{
	const struct mg_duck_options options = { .threads = 1, .lossless_arrow = true };
	struct mg_duck *duck;
	struct mg_duck_conn *conn;

	ok(mg_duck_open(&duck, &options, &err));
	ok(mg_duck_connect(duck, &conn, &err));
	struct mg_redo *redo = rows_of(conn, key, count);

	command(nodes, &(struct mg_command){ .kind = MG_COMMAND_WRITE }, redo);
	mg_redo_free(redo);
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
}

static void write_many(struct node *nodes, int first, int entries, int rows)
{
	for (int i = 0; i < entries; i++) {
		write_rows(nodes, first + i * rows, rows);
	}
}

static void prepare_rows(struct node *nodes, uint8_t id, int key)
{
	const struct mg_command head = { .kind = MG_COMMAND_PREPARE,
		                             .transaction = { { id } },
		                             .home = 3 };
	struct node *leader = NULL;

	AWAIT((leader = leader_of(nodes)) != NULL);
	struct mg_redo *redo = rows_of(leader->conn, key, 5);

	command(nodes, &head, redo);
	mg_redo_free(redo);
}

static char *contents(struct node *node)
{
	char *text = NULL;

	ok(mg_duck_text(node->conn,
	                "SELECT count(*) || ' ' || count(DISTINCT k) || ' ' || "
	                "coalesce(md5(string_agg(_mg_rid || ':' || k || ':' || v, ',' ORDER BY "
	                "_mg_rid)), '') FROM s1.t",
	                &text, &err));
	return text;
}

/* Nobody writes any more: all have applied the same, and hold the same. */
static void check_equal(struct node *nodes, size_t count)
{
	struct node *leader = NULL;

	AWAIT((leader = leader_of(nodes)) != NULL && look_at(leader).info.can_read);
	for (size_t i = 0; i < count; i++) {
		AWAIT(look_at(&nodes[i]).info.applied >= look_at(leader).info.core.commit);
	}
	char *expected = contents(leader);

	for (size_t i = 0; i < count; i++) {
		struct mg_in_doubt ours[8] = { 0 }, theirs[8] = { 0 };

		char *found = contents(&nodes[i]);

		assert_string_equal(found, expected);
		assert_int_equal(mg_shard_sm_in_doubt(nodes[i].sm, ours, 8),
		                 mg_shard_sm_in_doubt(leader->sm, theirs, 8));
		assert_memory_equal(ours, theirs, sizeof ours);
		mg_free(found);
	}
	mg_free(expected);
}

static int64_t counted(const char *name)
{
	return mg_metric_value(mg_metric_counter(name, "", ""));
}

#define SENT "merganser_snapshot_chunks_sent_total"
#define RECEIVED "merganser_snapshot_chunks_received_total"
#define RESUMED "merganser_snapshot_chunks_resumed_total"
#define LIES "merganser_snapshot_corrupt_total"

/* ---- a follower that lags ---- */

struct busy {
	struct node *nodes;
	atomic_bool stop;
	int next;
};

static void *keep_writing(void *arg)
{
	struct busy *busy = arg;

	while (!atomic_load(&busy->stop)) {
		write_rows(busy->nodes, busy->next, 10);
		busy->next += 10;
	}
	return NULL;
}

/* Reads all the time, through the gate; what it counts never falls. */
struct reader {
	struct node *node;
	struct mg_duck_conn *conn;
	atomic_bool stop;
	int reads, errors;
};

static void *keep_reading(void *arg)
{
	struct reader *reader = arg;
	int64_t last = 0;

	while (!atomic_load(&reader->stop)) {
		struct mg_error error = { 0 };
		int64_t count = 0;

		pthread_rwlock_rdlock(&reader->node->readers);
		int code = mg_duck_int(reader->conn, "SELECT count(*) FROM s1.t", &count, &error);

		pthread_rwlock_unlock(&reader->node->readers);
		reader->errors += code != 0 || count < last;
		reader->reads++;
		last = count;
		mg_sleep_ms(1);
	}
	return NULL;
}

static void test_a_lagging_follower_catches_up_while_others_write(void **state)
{
	struct node nodes[NODES];
	struct busy busy = { .nodes = nodes, .next = 500000 };
	struct reader reader = { 0 };
	pthread_t writer, reading;

	(void)state;
	make_all(nodes, NODES);
	start_all(nodes, NODES);
	create_table(nodes);
	write_many(nodes, 200000, 15, 2);
	for (int i = 0; i < NODES; i++) {
		AWAIT(look_at(&nodes[i]).snapshot > 5); /* the table is in the files */
	}
	prepare_rows(nodes, 1, 900000);
	struct node *lagging = follower_of(nodes);

	node_stop(lagging);
	write_many(nodes, 0, 40, 50);
	prepare_rows(nodes, 2, 910000);
	int64_t before = counted(RECEIVED);

	assert_int_equal(pthread_create(&writer, NULL, keep_writing, &busy), 0);
	node_start(lagging);
	reader.node = lagging;
	ok(mg_duck_connect(lagging->duck, &reader.conn, &err));
	assert_int_equal(pthread_create(&reading, NULL, keep_reading, &reader), 0);
	name_each_other(nodes, NODES);
	AWAIT(atomic_load(&lagging->adopted) > 0);
	int at = busy.next;

	AWAIT(look_at(lagging).info.applied + 20 >= look_at(leader_of(nodes)).info.applied);
	atomic_store(&busy.stop, true);
	pthread_join(writer, NULL);
	atomic_store(&reader.stop, true);
	pthread_join(reading, NULL);
	mg_duck_disconnect(reader.conn);
	assert_true(reader.reads > 0);
	assert_int_equal(reader.errors, 0);
	assert_true(busy.next >= at);
	assert_true(counted(RECEIVED) > before);
	check_equal(nodes, NODES);
	struct mg_in_doubt doubt[8];

	assert_int_equal(mg_shard_sm_in_doubt(lagging->sm, doubt, 8), 2);
	/* What came prepared can be committed there. */
	command(nodes, &(struct mg_command){ .kind = MG_COMMAND_COMMIT, .transaction = { { 1 } } },
	        NULL);
	check_equal(nodes, NODES);
	assert_int_equal(mg_shard_sm_in_doubt(lagging->sm, doubt, 8), 1);
	stop_all(nodes, NODES);
	start_all(nodes, NODES); /* and it all opens again */
	check_equal(nodes, NODES);
	stop_all(nodes, NODES);
}

/* ---- pulling alone ---- */

struct pulled {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	struct mg_error err;
	uint64_t index;
	uint32_t chunks;
	struct mg_manifest raft;
};

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *error)
{
	struct pulled *pulled = arg;

	pthread_mutex_lock(&pulled->lock);
	pulled->done = true;
	if (error) {
		pulled->err = *error;
	} else {
		pulled->index = manifest->index;
		pulled->chunks = manifest->chunk_count;
		if (manifest->raft) {
			struct mg_in in = mg_in(manifest->raft->data, manifest->raft->size);

			if (mg_manifest_decode(&in, &pulled->raft, NULL) == 0) {
				pulled->raft = mg_manifest_copy(&pulled->raft);
			}
		}
	}
	pthread_cond_signal(&pulled->changed);
	pthread_mutex_unlock(&pulled->lock);
}

static void begin_pull(struct node *node, uint64_t peer, uint64_t index, const char *engine,
                       struct pulled *pulled)
{
	char *path = mg_path_join(node->dir, "shards/0001.duckdb");
	char *part = mg_path_join(node->dir, "shards/pull-0001");

	*pulled = (struct pulled){ 0 };
	pthread_mutex_init(&pulled->lock, NULL);
	pthread_cond_init(&pulled->changed, NULL);
	mg_snapshot_puller_want(node->puller, &(struct mg_snapshot_want){ .group = GROUP,
	                                                                  .index = index,
	                                                                  .peer = peer,
	                                                                  .path = path,
	                                                                  .part = part,
	                                                                  .engine = engine,
	                                                                  .format = 1,
	                                                                  .done = on_pulled,
	                                                                  .arg = pulled });
	mg_free(part);
	mg_free(path);
}

static int end_pull(struct pulled *pulled)
{
	pthread_mutex_lock(&pulled->lock);
	while (!pulled->done) {
		pthread_cond_wait(&pulled->changed, &pulled->lock);
	}
	pthread_mutex_unlock(&pulled->lock);
	return pulled->err.code;
}

static int pull(struct node *node, uint64_t peer, uint64_t index, const char *engine,
                struct pulled *pulled)
{
	begin_pull(node, peer, index, engine, pulled);
	return end_pull(pulled);
}

/* Three nodes with a file of several chunks, and a fourth without anything. */
static void start_four(struct node *nodes, uint64_t bytes_per_s)
{
	make_all(nodes, NODES + 1);
	nodes[0].bytes_per_s = bytes_per_s;
	start_all(nodes, NODES + 1);
	create_table(nodes);
	write_many(nodes, 0, 10, 2000);
	AWAIT(look_at(&nodes[0]).info.applied >= look_at(leader_of(nodes)).info.core.commit);
	AWAIT(look_at(&nodes[0]).snapshot > 0);
}

static void test_a_new_replica_begins_with_a_seed(void **state)
{
	struct node nodes[NODES + 1], *fresh = &nodes[NODES];
	struct pulled pulled;

	(void)state;
	start_four(nodes, 0);
	ok(pull(fresh, 1, 0, mg_duck_version(), &pulled));
	assert_true(pulled.chunks > 2);
	assert_int_equal(pulled.raft.snapshot.index, pulled.index);
	node_stop(fresh);
	/* As a node does it that joins: the file first, then the mark in its log, then the group. */
	fresh->bare = true;
	for (int i = 0; i < 2; i++) {
		ok(mg_loop_start(&fresh->loops[i], "test", &err));
	}
	ok(mg_peers_tls(fresh->dir, fresh->self, &fresh->accept, &fresh->dial, &err));
	fresh->peers = mg_peers_new(&(struct mg_peers_options){ .self = fresh->self,
	                                                        .cluster = CLUSTER,
	                                                        .program = "test",
	                                                        .loop = fresh->loops[0],
	                                                        .tls = fresh->dial });
	ok(mg_raft_host_open(
		&fresh->host,
		&(struct mg_raft_host_options){ .dir = fresh->dir,
	                                    .self = fresh->self,
	                                    .net = mg_peers_net(fresh->peers),
	                                    .raft = { .on_role = on_role, .watch_arg = fresh } },
		&err));
	ok(mg_snapshot_source_new(&fresh->source,
	                          &(struct mg_snapshot_source_options){ .host = fresh->host }, &err));
	ok(mg_snapshot_puller_new(&fresh->puller, fresh->peers, &err));
	open_engine(fresh);
	open_group(fresh, &pulled.raft);
	mg_manifest_fini(&pulled.raft);
	mg_peers_start(fresh->peers, fresh->host);
	node_listen(fresh);
	ok(mg_raft_host_start(fresh->host, &err));
	fresh->up = true;
	name_each_other(nodes, NODES + 1);
	propose(nodes, (struct proposal){ .change = MG_CHANGE_ADD_STANDBY, .whom = fresh->self });
	propose(nodes, (struct proposal){ .change = MG_CHANGE_PROMOTE, .whom = fresh->self });
	write_many(nodes, 600000, 3, 10);
	check_equal(nodes, NODES + 1);
	stop_all(nodes, NODES + 1);
}

static void test_a_transfer_goes_on_where_it_was(void **state)
{
	struct node nodes[NODES + 1], *fresh = &nodes[NODES];
	struct pulled pulled;

	(void)state;
	start_four(nodes, 8 << 20);
	int64_t received = counted(RECEIVED), resumed = counted(RESUMED);

	/* The puller dies, and comes back. */
	begin_pull(fresh, 1, 0, mg_duck_version(), &pulled);
	AWAIT(counted(RECEIVED) >= received + 1);
	node_stop(fresh);
	assert_int_equal(end_pull(&pulled), MG_E_SHUTDOWN);
	int64_t first = counted(RECEIVED) - received;

	start_all(nodes, NODES + 1);
	/* The giver dies in the middle, and comes back. */
	begin_pull(fresh, 1, 0, mg_duck_version(), &pulled);
	AWAIT(counted(RECEIVED) >= received + first + 1);
	assert_true(counted(RESUMED) - resumed == first);
	node_stop(&nodes[0]);
	start_all(nodes, NODES + 1);
	/* It gives up when nobody is there for long; raft's next offer comes then. */
	while (end_pull(&pulled) == MG_E_CONNECT) {
		begin_pull(fresh, 1, 0, mg_duck_version(), &pulled);
	}
	assert_int_equal(pulled.err.code, 0);
	assert_true(pulled.chunks >= 3);
	/* No chunk that counted has come twice. */
	assert_int_equal(counted(RECEIVED) - received, pulled.chunks);
	mg_manifest_fini(&pulled.raft);
	stop_all(nodes, NODES + 1);
}

static void damage(struct node *node, uint64_t index)
{
	char *path =
		mg_format("%s/shards/snap-%04d-%llu.duckdb", node->dir, SHARD, (unsigned long long)index);
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, MG_SNAPSHOT_CHUNK_BYTES + 77), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, MG_SNAPSHOT_CHUNK_BYTES + 77), 1);
	close(fd);
	mg_free(path);
}

static void test_what_cannot_be_used_is_refused(void **state)
{
	struct node nodes[NODES + 1], *fresh = &nodes[NODES];
	char *whole, *part;
	struct pulled pulled;

	(void)state;
	start_four(nodes, 0);
	whole = mg_path_join(fresh->dir, "shards/0001.duckdb");
	part = mg_path_join(fresh->dir, "shards/pull-0001.part");
	/* Another engine's, before any chunk. */
	int64_t sent = counted(SENT), lies = counted(LIES);

	assert_int_equal(pull(fresh, 1, 0, "v0.0.1", &pulled), MG_E_UNSUPPORTED);
	assert_non_null(strstr(pulled.err.message, "v0.0.1"));
	assert_int_equal(counted(SENT), sent);
	assert_false(mg_file_exists(whole));
	/* No room: told, and nothing stays. */
	assert_int_equal(symlink("/dev/full", part), 0);
	assert_int_equal(pull(fresh, 1, 0, mg_duck_version(), &pulled), MG_E_DISK_FULL);
	assert_false(mg_file_exists(part));
	assert_false(mg_file_exists(whole));
	/* An index that nobody has. */
	assert_int_equal(pull(fresh, 1, 1, mg_duck_version(), &pulled), MG_E_NOT_FOUND);
	/* A good one; then its giver's copy rots. */
	ok(pull(fresh, 1, 0, mg_duck_version(), &pulled));
	mg_manifest_fini(&pulled.raft);
	ok(mg_file_remove(whole, &err));
	damage(&nodes[0], pulled.index);
	assert_int_equal(counted(LIES), lies);
	/* The others are asked then; they are told to have none by their names. */
	node_stop(&nodes[1]);
	node_stop(&nodes[2]);
	AWAIT(look_at(&nodes[0]).snapshot == pulled.index);
	assert_int_equal(pull(fresh, 1, pulled.index, mg_duck_version(), &pulled), MG_E_CORRUPT);
	assert_int_equal(counted(LIES), lies + 1);
	assert_false(mg_file_exists(whole));
	mg_free(part);
	mg_free(whole);
	stop_all(nodes, NODES + 1);
}

/* ---- kills ---- */

/* In a child: a follower lags and dies at that step of adopting. */
static void die(struct node *nodes, enum mg_adopt_step step)
{
	alarm(PATIENCE_MS / 1000);
	(void)signal(SIGSEGV, SIG_DFL); /* not cmocka's: the parent is to see it */
	start_all(nodes, NODES);
	create_table(nodes);
	struct node *lagging = &nodes[2];

	if (leader_of(nodes) == lagging) {
		node_stop(lagging); /* another one leads */
		write_many(nodes, 0, 1, 5);
		start_all(nodes, NODES);
	}
	node_stop(lagging);
	write_many(nodes, 1000, 40, 50);
	prepare_rows(nodes, 1, 900000);
	lagging->dies = true;
	lagging->die_at = step;
	start_all(nodes, NODES);
	for (int i = 0;; i++) {
		write_rows(nodes, 100000 + i, 1);
		mg_sleep_ms(20);
	}
}

static void test_a_kill_while_adopting_leaves_the_old_or_the_new(void **state)
{
	(void)state;
	for (int step = MG_ADOPT_BEGUN; step <= MG_ADOPT_ATTACHED; step++) {
		struct node nodes[NODES];
		int status = 0;

		make_all(nodes, NODES);
		fflush(stdout);
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0) {
			die(nodes, (enum mg_adopt_step)step);
			_exit(1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
			fail_msg("the child ended with status %x at step %d", (unsigned)status, step);
		}
		start_all(nodes, NODES);
		write_rows(nodes, 700000, 1);
		check_equal(nodes, NODES);
		/* Where the rename had not come, it was asked for again. */
		assert_true(step >= MG_ADOPT_RENAMED || atomic_load(&nodes[2].adopted) > 0);
		stop_all(nodes, NODES);
	}
}

/* ---- the catalog ---- */

static int name_it(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                   struct mg_error *error)
{
	(void)error;
	data->name = mg_arena_strdup(arena, arg);
	return 0;
}

static int propose_text(void *arg, const char *text, size_t len, struct mg_error *error)
{
	(void)error;
	propose(arg, (struct proposal){ .bytes = (const uint8_t *)text, .size = len });
	return 0;
}

static void rename_cluster(struct node *nodes, int first, int count)
{
	for (int i = first; i < first + count; i++) {
		struct node *leader = NULL;
		char name[32];

		snprintf(name, sizeof name, "name %d", i);
		AWAIT((leader = leader_of(nodes)) != NULL && look_at(leader).info.can_read);
		mg_catalog_set_log(leader->catalog, propose_text, nodes);
		ok(mg_catalog_change(leader->catalog, name_it, name, &err));
	}
}

static bool is_called(struct node *node, const char *name)
{
	const struct mg_catalog_data *data = mg_catalog_take(node->catalog);
	bool same = strcmp(data->name, name) == 0;

	mg_catalog_give(node->catalog, data);
	return same;
}

static void test_a_lagging_catalog_catches_up(void **state)
{
	struct mg_catalog *catalog;
	struct node nodes[NODES];

	(void)state;
	group_in_use = 0;
	for (int i = 0; i < NODES; i++) {
		node_make(&nodes[i], (uint64_t)i + 1, false);
	}
	ok(mg_catalog_new(&catalog, nodes[0].dir, &err));
	ok(mg_catalog_change(catalog, name_it, "first", &err));
	mg_catalog_free(catalog);
	for (int i = 1; i < NODES; i++) {
		char *log = mg_path_join(nodes[i].dir, "log");
		char *from = mg_path_join(nodes[0].dir, "log/catalog.json");

		ok(mg_dir_make(log, 0700, &err));
		copy_text(from, nodes[i].dir, "log/catalog.json");
		mg_free(from);
		mg_free(log);
	}
	start_all(nodes, NODES);
	rename_cluster(nodes, 0, 3);
	struct node *lagging = follower_of(nodes);
	int64_t before = counted(RECEIVED);

	node_stop(lagging);
	rename_cluster(nodes, 3, 40);
	start_all(nodes, NODES);
	AWAIT(is_called(lagging, "name 42"));
	assert_true(counted(RECEIVED) > before);
	rename_cluster(nodes, 43, 1);
	for (int i = 0; i < NODES; i++) {
		AWAIT(is_called(&nodes[i], "name 43"));
	}
	stop_all(nodes, NODES);
	start_all(nodes, NODES); /* saved */
	for (int i = 0; i < NODES; i++) {
		AWAIT(is_called(&nodes[i], "name 43"));
	}
	stop_all(nodes, NODES);
	group_in_use = GROUP;
}

/* ---- manifests ---- */

static void test_a_manifest_comes_back_or_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[1]",
		"{\"group\":2,\"index\":-1}",
	};
	struct mg_snapshot_manifest manifest = { .group = 2, .index = 77, .engine = "v1", .format = 1 };
	struct mg_snapshot_manifest back;
	struct mg_sb text = { 0 };

	(void)state;
	ok(mg_snapshot_manifest_hash(&manifest, certs.cert, &err));
	manifest.raft = mg_buf_copy("abc", 3);
	mg_snapshot_manifest_print(&manifest, &text);
	ok(mg_snapshot_manifest_parse(mg_sb_text(&text), text.len, &back, &err));
	assert_int_equal(back.index, 77);
	assert_int_equal(back.chunk_count, 1);
	assert_memory_equal(back.sha256, manifest.sha256, MG_SNAPSHOT_HASH);
	assert_memory_equal(back.chunks[0], manifest.sha256, MG_SNAPSHOT_HASH);
	assert_memory_equal(back.raft->data, "abc", 3);
	mg_snapshot_manifest_fini(&back);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(mg_snapshot_manifest_parse(bad[i], strlen(bad[i]), &back, NULL),
		                 MG_E_PROTOCOL);
	}
	/* Numbers that do not agree: chunks for other bytes. */
	char *wrong = mg_strdup(mg_sb_text(&text)), *bytes = strstr(wrong, "\"bytes\":");

	struct mg_sb more = { 0 };

	mg_sb_add_len(&more, wrong, (size_t)(bytes + 8 - wrong));
	mg_sb_add(&more, "99999999");
	mg_sb_add(&more, strchr(bytes, ','));
	assert_int_equal(mg_snapshot_manifest_parse(mg_sb_text(&more), more.len, &back, NULL),
	                 MG_E_PROTOCOL);
	mg_sb_fini(&more);
	mg_free(wrong);
	mg_sb_fini(&text);
	mg_snapshot_manifest_fini(&manifest);
}

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "server");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return mg_tree_remove(certs.dir, NULL);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		cmocka_set_test_filter(argv[1]);
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_manifest_comes_back_or_is_refused),
		cmocka_unit_test(test_a_lagging_follower_catches_up_while_others_write),
		cmocka_unit_test(test_a_new_replica_begins_with_a_seed),
		cmocka_unit_test(test_a_transfer_goes_on_where_it_was),
		cmocka_unit_test(test_what_cannot_be_used_is_refused),
		cmocka_unit_test(test_a_lagging_catalog_catches_up),
		cmocka_unit_test(test_a_kill_while_adopting_leaves_the_old_or_the_new),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
