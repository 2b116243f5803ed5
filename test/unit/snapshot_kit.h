/*
 * snapshot_kit.h - nodes with one group, a shard's or the catalog's: real files, engines and logs,
 * TLS over loopback, a source and a puller of snapshots each.
 */
#ifndef MG_TEST_SNAPSHOT_KIT_H
#define MG_TEST_SNAPSHOT_KIT_H

#include "base/metrics.h"
#include "net_kit.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/catalog_sm.h"
#include "replica/command.h"
#include "replica/peers.h"
#include "replica/redo.h"
#include "replica/shard_sm.h"
#include "store/shard_file.h"
#include "unit/batch_kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { NODES = 3, SHARD = 1, GROUP = 2, PATIENCE_MS = 60000 };
#define CLUSTER "0123456789abcdef0123456789abcdef"

static struct kit_certs certs;
static uint32_t group_in_use = GROUP; /* or 0, the catalog's */
static uint64_t epoch_in_use;         /* of commands */
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
	atomic_int role, adopted, told;
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

/* Counts the adopted: nothing else that is applied lies in the file as far as that. */
static void on_applied(void *arg, uint32_t group, uint64_t index)
{
	struct node *node = arg;
	struct mg_sm *seam = mg_shard_sm_seam(node->sm);

	assert_int_equal(group, GROUP);
	atomic_fetch_add(&node->told, index == seam->ops->durable_index(seam));
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
		                                         .on_applied = on_applied,
		                                         .gate = gate,
		                                         .on_step = on_step,
		                                         .arg = node,
		                                         .dir = node->dir,
		                                         .puller = node->puller,
		                                         .source = node->source };
	struct mg_members members = { 0 };
	struct mg_group *group;

	char *path = mg_format("%s/shards/%04u.duckdb", node->dir, SHARD);

	ok(mg_shard_file_attach(node->conn, SHARD, path, &err));
	mg_free(path);
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
	struct mg_command now = *head;

	now.epoch = epoch_in_use;
	mg_command_encode_head(&out, &now);
	if (redo) {
		mg_redo_encode(redo, SHARD, &out);
	}
	propose(nodes, (struct proposal){ .bytes = bytes, .size = out.size });
	mg_free(bytes);
}

/* Commands have this epoch from now on, and those of lower ones are refused. */
static void fence(struct node *nodes, uint64_t epoch)
{
	epoch_in_use = epoch;
	command(nodes, &(struct mg_command){ .kind = MG_COMMAND_FENCE }, NULL);
}

static void create_table(struct node *nodes)
{
	struct mg_redo *redo = mg_redo_new();

	mg_redo_create(redo, SHARD, "main", "t", "k INTEGER, v VARCHAR");
	command(nodes, &(struct mg_command){ .kind = MG_COMMAND_WRITE }, redo);
	mg_redo_free(redo);
}

/* So many rows from key on, of about 1 KB that nothing compresses. */
static struct mg_redo *rows_of(struct mg_duck_conn *conn, int key, int count)
{
	struct mg_redo *redo = mg_redo_new();
	struct batch batch;
	char *select = mg_format(
		"SELECT (%d + i)::INTEGER AS k, list_aggregate([md5((i + %d) || '-' || j) FOR j IN "
		"range(32)], 'string_agg', '') AS v, 7::USMALLINT AS slot FROM range(%d) AS r(i)",
		key, key, count);

	ok(batch_make(&batch, conn, select, &err));
	ok(mg_redo_rows(redo, SHARD, MG_REDO_INSERT, "main", "t", batch.schema, batch.rows,
	                (uint32_t)count, &err));
	batch_fini(&batch);
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
		AWAIT(mg_shard_sm_applied(nodes[i].sm) >= look_at(leader).info.core.commit);
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

#endif
