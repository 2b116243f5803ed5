/*
 * test_replica_nodes.c - mg_replica over three nodes in this process: three directories, engines,
 * hosts and listeners, with real TLS between them.
 */
#include "base/metrics.h"
#include "catalog/node_table.h"
#include "codec/seen.h"
#include "replica/replica_int.h"
#include "unit/peers_kit.h"
#include "unit/shards_kit.h"

enum { NODES = 3, THREADS = 4, KEYS_MAX = 20000 };

static const uint32_t all_shards[] = { 0, 1, 2, 3 };
static struct kit_certs certs;

/* ---- nodes ---- */

struct node {
	struct kit_net net;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_catalog *catalog;
	struct mg_replica *replica;
	atomic_int passes, refused; /* of the gate of shard 1 */
	pthread_rwlock_t use; /* read by those who are in the replica */
	bool up;              /* under it */
};

static struct node nodes[NODES];

static void open_engine(struct node *node)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };

	ok(mg_catalog_load(&node->catalog, node->net.dir, &err));
	ok(mg_duck_open(&node->duck, &options, &err));
	ok(mg_duck_connect(node->duck, &node->conn, &err));
	ok(mg_duck_exec(node->conn,
	                "SET GLOBAL wal_autocheckpoint = '1TB'; PRAGMA disable_checkpoint_on_shutdown",
	                &err));
	for (uint32_t i = 0; i <= SHARDS; i++) {
		char *path = mg_format("%s/shards/%04u.duckdb", node->net.dir, i);

		ok(mg_shard_file_attach(node->conn, i, path, &err));
		mg_free(path);
	}
}

static int gate(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *error),
                void *swap_arg, struct mg_error *error)
{
	struct node *node = arg;

	if (shard == 1 && atomic_load(&node->passes) == 0) {
		atomic_fetch_add(&node->refused, 1);
		return mg_error_set(error, MG_E_BUSY, "readers do not end");
	}
	atomic_fetch_sub(&node->passes, shard == 1);
	return swap(swap_arg, error);
}

static void node_start(struct node *node)
{
	struct mg_replica_options options = {
		.gate = gate,
		.arg = node,
		.dir = node->net.dir,
		.shard_count = SHARDS,
		.self = node->net.self,
		.election_ms = 300,
		.heartbeat_ms = 30,
	};

	open_engine(node);
	kit_net_open(&node->net, &certs);
	for (uint64_t i = 1; i <= NODES; i++) {
		ok(mg_members_set(&options.births, i, MG_MEMBER_VOTER, &err));
	}
	options.duck = node->duck;
	options.catalog = node->catalog;
	options.peers = node->net.peers;
	ok(mg_replica_open(&node->replica, &options, &err));
	kit_net_listen(&node->net);
	pthread_rwlock_wrlock(&node->use);
	node->up = true;
	pthread_rwlock_unlock(&node->use);
}

static void node_stop(struct node *node)
{
	if (!node->up) {
		return;
	}
	mg_listener_close(node->net.listener);
	mg_replica_stop(node->replica);
	pthread_rwlock_wrlock(&node->use); /* those who were in it have left */
	node->up = false;
	pthread_rwlock_unlock(&node->use);
	kit_net_stop(&node->net);
	mg_replica_close(node->replica);
	kit_net_free(&node->net);
	mg_duck_disconnect(node->conn);
	mg_duck_close(node->duck);
	mg_catalog_free(node->catalog);
}

static void name_each_other(void)
{
	for (size_t i = 0; i < NODES; i++) {
		for (size_t j = 0; j < NODES && nodes[i].up; j++) {
			kit_net_name(&nodes[i].net, &nodes[j].net);
		}
	}
}

static int begin(void **state)
{
	char *first = make_directory();

	(void)state;
	kit_certs_make(&certs, "server");
	for (size_t i = 0; i < NODES; i++) {
		struct node *node = &nodes[i];
		char *dir = mg_format("%s/node%zu", certs.dir, i + 1);

		*node = (struct node){ .passes = 1000 };
		pthread_rwlock_init(&node->use, NULL);
		kit_copy(first, dir);
		kit_net_make(&node->net, i + 1, &certs);
		node_start(node);
		mg_free(dir);
	}
	name_each_other();
	for (size_t i = 0; i < NODES; i++) {
		ok(mg_replica_wait(nodes[i].replica, &err));
	}
	ok(mg_tree_remove(first, &err));
	mg_free(first);
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < NODES; i++) {
		node_stop(&nodes[i]);
		pthread_rwlock_destroy(&nodes[i].use);
	}
	ok(mg_tree_remove(certs.dir, &err));
	return 0;
}

/* Of those that are up; NULL: none yet. */
static struct node *find_coordinator(void)
{
	for (size_t i = 0; i < NODES; i++) {
		if (nodes[i].up && mg_replica_is_coordinator(nodes[i].replica)) {
			return &nodes[i];
		}
	}
	return NULL;
}

static struct node *await_coordinator(void)
{
	struct node *node = NULL;

	AWAIT((node = find_coordinator()) != NULL);
	return node;
}

/* ---- leaders, on the raft thread ---- */

struct lead {
	struct node *node;
	uint32_t group;
	uint64_t to, leader;
};

static void look_at_leader(void *arg)
{
	struct lead *lead = arg;
	struct mg_group *group =
		mg_raft_node_group(mg_raft_host_node(lead->node->replica->host), lead->group);
	struct mg_group_info info;

	mg_group_info(group, &info);
	lead->leader = info.core.leader;
	if (info.core.leader == lead->node->net.self && lead->to != lead->node->net.self &&
	    lead->to != 0) {
		(void)mg_group_transfer(group, lead->to, NULL);
	}
}

/* As the node itself knows; and, when it leads and should not, it gives it to another. */
static uint64_t leader_of(struct node *node, uint32_t group, uint64_t to)
{
	struct lead lead = { .node = node, .group = group, .to = to };

	mg_raft_host_call(node->replica->host, look_at_leader, &lead);
	return lead.leader;
}

static bool all_follow(uint32_t group, struct node *to)
{
	size_t count = 0;

	for (size_t i = 0; i < NODES; i++) {
		count += leader_of(&nodes[i], group, to->net.self) == to->net.self;
	}
	return count == NODES;
}

static void lead_elsewhere(uint32_t group, struct node *to)
{
	AWAIT(all_follow(group, to));
}

/* ---- rows ---- */

static struct mg_redo *rows_in(struct mg_duck_conn *on, uint32_t first, uint32_t last, int key)
{
	struct mg_redo *redo = mg_redo_new();
	char *select = mg_format("SELECT %d::INTEGER AS k, 'v%d' AS v, 7::USMALLINT AS slot", key, key);

	for (uint32_t i = first; i <= last; i++) {
		add_rows(on, redo, i, MG_REDO_INSERT, select, 1);
	}
	mg_free(select);
	return redo;
}

static void create_table(void)
{
	struct mg_redo *redo = mg_redo_new();

	for (uint32_t i = 1; i <= SHARDS; i++) {
		mg_redo_create(redo, i, "main", "t", "k INTEGER, v VARCHAR");
	}
	ok(mg_replica_commit(await_coordinator()->replica, redo, &err));
	mg_redo_free(redo);
}

static int64_t ask(struct node *node, const char *sql)
{
	int64_t value = -1;

	ok(mg_duck_int(node->conn, sql, &value, &err));
	return value;
}

static void barrier(struct node *node)
{
	ok(mg_replica_read_barrier(node->replica, all_shards, SHARDS + 1, &err));
}

/* Every row of every shard, with its number. */
static char *contents(struct node *node)
{
	char *text = NULL;

	barrier(node);
	ok(mg_duck_text(node->conn,
	                "SELECT string_agg(concat_ws(':', shard, rid, k, v), ' ' ORDER BY shard, rid) "
	                "FROM (SELECT 1 AS shard, _mg_rid AS rid, k, v FROM s1.t "
	                "UNION ALL SELECT 2, _mg_rid, k, v FROM s2.t "
	                "UNION ALL SELECT 3, _mg_rid, k, v FROM s3.t)",
	                &text, &err));
	return text;
}

static void check_all_equal(void)
{
	char *first = contents(&nodes[0]);

	for (size_t i = 1; i < NODES; i++) {
		char *other = contents(&nodes[i]);

		assert_string_equal(first, other);
		mg_free(other);
	}
	mg_free(first);
}

/* ---- tests ---- */

static int add_schema(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                      struct mg_error *error)
{
	(void)error;
	const char **schemas = mg_arena_new_array(arena, const char *, data->schema_count + 1);

	for (size_t i = 0; i < data->schema_count; i++) {
		schemas[i] = data->schemas[i];
	}
	schemas[data->schema_count++] = arg;
	data->schemas = schemas;
	return 0;
}

static size_t schemas_of(struct node *node)
{
	const struct mg_catalog_data *data = mg_catalog_take(node->catalog);
	size_t count = data->schema_count;

	mg_catalog_give(node->catalog, data);
	return count;
}

static void test_what_is_committed_is_read_everywhere(void **state)
{
	struct node *at = await_coordinator();
	char name[] = "schema one", detail[32];

	(void)state;
	create_table();
	for (int key = 1; key <= 20; key++) {
		struct mg_redo *redo = rows_in(at->conn, 1, key % 2 ? SHARDS : 1, key);

		ok(mg_replica_commit(at->replica, redo, &err));
		mg_redo_free(redo);
		for (size_t i = 0; i < NODES && key % 5 == 0; i++) {
			barrier(&nodes[i]);
			assert_int_equal(ask(&nodes[i], "SELECT count(*) FROM s1.t"), key);
			assert_int_equal(ask(&nodes[i], "SELECT count(*) FROM s3.t"), (key + 1) / 2);
		}
	}
	ok(mg_catalog_change(at->catalog, add_schema, name, &err));
	snprintf(detail, sizeof detail, "Node %d ", (int)at->net.self);
	for (size_t i = 0; i < NODES; i++) {
		struct mg_redo *redo = rows_in(nodes[i].conn, 1, SHARDS, 100);
		struct mg_error why = { 0 };

		barrier(&nodes[i]);
		assert_int_equal(schemas_of(&nodes[i]), 1);
		assert_int_equal(mg_replica_coordinator(nodes[i].replica), at->net.self);
		if (&nodes[i] != at) {
			assert_int_equal(mg_replica_commit(nodes[i].replica, redo, &why), MG_E_UNAVAILABLE);
			assert_non_null(strstr(why.detail, detail));
			assert_int_equal(mg_catalog_change(nodes[i].catalog, add_schema, name, &why),
			                 MG_E_UNAVAILABLE);
			assert_non_null(strstr(why.detail, detail));
		}
		mg_redo_free(redo);
	}
	check_all_equal();
}

static void test_shards_may_be_led_elsewhere(void **state)
{
	struct node *at = await_coordinator();

	(void)state;
	create_table();
	for (uint32_t i = 1; i <= SHARDS; i++) {
		lead_elsewhere(mg_replica__group(i), &nodes[(at->net.self - 1 + i) % NODES]);
	}
	for (int key = 1; key <= 10; key++) {
		struct mg_redo *redo = rows_in(at->conn, 1, key % 2 ? SHARDS : 1, key);

		ok(mg_replica_commit(at->replica, redo, &err));
		mg_redo_free(redo);
		/* And who reads here awaits it, without a barrier. */
		ok(mg_replica_await_acked(at->replica, (const uint32_t[]){ 1, 2 }, 2,
		                          &(struct mg_patience){ .ms = 10000 }, &err));
		assert_int_equal(ask(at, "SELECT count(*) FROM s1.t"), key);
		assert_int_equal(ask(at, "SELECT count(*) FROM s2.t"), (key + 1) / 2);
	}
	check_all_equal();
}

/* ---- what an event loop may ask ---- */

enum { HELD_MS = 20000 };

static atomic_int held; /* 0: not yet, 1: the raft thread is held up, 2: it goes on */

static void hold_up(void *arg)
{
	uint64_t until_ms = mg_clock_ms() + HELD_MS;

	(void)arg;
	atomic_store(&held, 1);
	while (atomic_load(&held) == 1 && mg_clock_ms() < until_ms) {
		mg_sleep_ms(1);
	}
	atomic_store(&held, 2);
}

/* Who leads, and who is there, is told while the raft thread has no time. */
static void test_looking_waits_for_nobody(void **state)
{
	struct mg_server_info servers[NODES];
	struct node *at = await_coordinator();
	uint64_t self = at->net.self;
	struct node *other = &nodes[self % NODES];

	(void)state;
	for (uint32_t i = 0; i <= SHARDS; i++) {
		struct node *to = &nodes[(self + i) % NODES];

		lead_elsewhere(mg_replica__group(i), to);
		for (size_t k = 0; k < NODES; k++) {
			AWAIT(mg_replica_leader(nodes[k].replica, mg_replica__group(i)) == to->net.self);
		}
	}
	atomic_store(&held, 0);
	mg_replica_post(at->replica, hold_up, NULL);
	AWAIT(atomic_load(&held) == 1);
	assert_int_equal(mg_replica_leader(at->replica, 0), self);
	assert_true(mg_replica_servers(at->replica, servers, NODES) <= NODES);
	assert_int_equal(atomic_load(&held), 1);
	atomic_store(&held, 2);
	/* Its groups end with the node. */
	node_stop(at);
	AWAIT(mg_replica_leader(other->replica, 0) != self && mg_replica_leader(other->replica, 0));
	node_start(at);
	name_each_other();
	AWAIT(mg_replica_leader(at->replica, 0) != 0);
}

/* What one node has shown or acknowledged the next one shows, when it waits for that and asks
 * nobody; whoever leads. */
static void test_what_a_session_has_seen_it_sees_at_the_next_node(void **state)
{
	const struct mg_patience little = { .ms = 20 }, much = { .ms = MG_REPLICA_PATIENCE_MS };
	struct node *at = await_coordinator();
	struct mg_seen seen = { 0 };
	struct mg_error why = { 0 };
	char names[3][16];

	(void)state;
	create_table();
	for (uint32_t i = 1; i <= SHARDS; i++) {
		lead_elsewhere(mg_replica__group(i), &nodes[(at->net.self - 1 + i) % NODES]);
	}
	for (int key = 1; key <= 30; key++) {
		struct mg_redo *redo = rows_in(at->conn, 1, key % 2 ? SHARDS : 1, key);
		struct node *next = &nodes[key % NODES];

		ok(mg_replica_commit(at->replica, redo, &err));
		mg_redo_free(redo);
		mg_replica_note_seen(at->replica, &seen);
		ok(mg_replica_await_seen(next->replica, &seen, (const uint32_t[]){ 1, 3 }, 2,
		                         &much, &err));
		assert_int_equal(ask(next, "SELECT count(*) FROM s1.t"), key);
		assert_int_equal(ask(next, "SELECT count(*) FROM s3.t"), (key + 1) / 2);
		mg_replica_note_seen(next->replica, &seen); /* and on from there */
	}
	for (size_t i = 0; i < NODES; i++) {
		(void)snprintf(names[i], sizeof names[i], "schema %zu", i);
		ok(mg_catalog_change(await_coordinator()->catalog, add_schema, names[i], &err));
		mg_replica_note_seen(await_coordinator()->replica, &seen);
		ok(mg_replica_await_seen(nodes[i].replica, &seen, NULL, 0, &much, &err));
		assert_int_equal(schemas_of(&nodes[i]), i + 1);
	}
	barrier(&nodes[1]);
	assert_true(mg_replica_has_seen(nodes[1].replica, &seen));
	/* What nobody has; and too much to be told. */
	struct mg_seen more = { 0 };

	mg_seen_merge(&more, &seen);
	mg_seen_index(&more, 2, UINT64_MAX);
	assert_false(mg_replica_has_seen(nodes[1].replica, &more));
	ok(mg_replica_await_seen(nodes[1].replica, &more, (const uint32_t[]){ 1 }, 1,
	                         &little, &err));
	assert_int_equal(mg_replica_await_seen(nodes[1].replica, &more, (const uint32_t[]){ 2 }, 1,
	                                       &little, &why),
	                 MG_E_TIMEOUT);
	mg_seen_version(&more, more.cluster, UINT64_MAX);
	assert_int_equal(mg_replica_await_seen(nodes[1].replica, &more, NULL, 0, &little, &why),
	                 MG_E_TIMEOUT);
	more.all = true;
	ok(mg_replica_await_seen(nodes[1].replica, &more, all_shards, SHARDS + 1,
	                         &much, &err));
	mg_seen_fini(&more);
	mg_seen_fini(&seen);
}

/* ---- changes of the catalog from every node ---- */

enum { ENTRIES = 10 };

static void *enter_on(void *arg)
{
	struct node *node = arg;

	for (unsigned i = 0; i < ENTRIES; i++) {
		char id[32], address[32];
		struct mg_error why = { 0 };
		uint64_t number = 0;
		const struct mg_node_claim claim = { .id = id, .address = address };

		snprintf(id, sizeof id, "node-%d-%u", (int)node->net.self, i);
		snprintf(address, sizeof address, "host-%d:%u", (int)node->net.self, i + 1);
		while (mg_node_enter(node->catalog, &claim, &number, &why)) {
			mg_assert(why.code == MG_E_BUSY); /* the others were faster, eight times */
		}
		mg_assert(number > 0);
	}
	return NULL;
}

/* Each of them is there once, on every node, whoever else was let in at the same time. */
static void test_servers_enter_through_any_node(void **state)
{
	pthread_t threads[NODES];

	(void)state;
	await_coordinator();
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, enter_on, &nodes[i]), 0);
	}
	for (size_t i = 0; i < NODES; i++) {
		pthread_join(threads[i], NULL);
	}
	for (size_t i = 0; i < NODES; i++) {
		bool seen[NODES + 1][ENTRIES] = { 0 };

		barrier(&nodes[i]);
		const struct mg_catalog_data *data = mg_catalog_take(nodes[i].catalog);

		assert_int_equal(data->node_count, NODES * ENTRIES);
		for (size_t k = 0; k < data->node_count; k++) {
			unsigned self, entry;

			assert_int_equal(data->nodes[k].number, k + 1);
			assert_int_equal(sscanf(data->nodes[k].id, "node-%u-%u", &self, &entry), 2);
			assert_false(seen[self][entry]);
			seen[self][entry] = true;
		}
		mg_catalog_give(nodes[i].catalog, data);
	}
}

/* ---- a coordinator that goes ---- */

static atomic_int acked_count, next_key;
static atomic_bool writing;
static int acked[KEYS_MAX];

/* One try, wherever the coordinator is. */
static int commit_somewhere(int key)
{
	int code = MG_E_UNAVAILABLE;

	for (size_t i = 0; i < NODES; i++) {
		struct node *node = &nodes[i];
		struct mg_error own = { 0 };

		pthread_rwlock_rdlock(&node->use);
		if (node->up && mg_replica_is_coordinator(node->replica)) {
			struct mg_duck_conn *on = NULL;

			assert_int_equal(mg_duck_connect(node->duck, &on, &own), 0);
			struct mg_redo *redo = rows_in(on, 1, SHARDS, key);

			code = mg_replica_commit(node->replica, redo, &own);
			mg_redo_free(redo);
			mg_duck_disconnect(on);
			i = NODES;
		}
		pthread_rwlock_unlock(&node->use);
	}
	return code;
}

/* A key whose outcome is unknown is left alone; one that was refused is tried until it is not. */
static void *write_on(void *arg)
{
	(void)arg;
	while (atomic_load(&writing)) {
		int key = atomic_fetch_add(&next_key, 1), code;

		do {
			code = commit_somewhere(key);
			if (code && code != MG_E_UNKNOWN_OUTCOME) {
				mg_sleep_ms(5);
			}
		} while (code && code != MG_E_UNKNOWN_OUTCOME && atomic_load(&writing));
		if (code == 0) {
			acked[atomic_fetch_add(&acked_count, 1)] = key;
		}
	}
	return NULL;
}

/* All rows of all shards, as one cut of this node: what was acknowledged before, and of the rest
 * each transaction whole.  False: it could not be taken. */
static bool read_cut(struct node *node, struct mg_duck_conn *on, struct mg_error *own)
{
	static const uint32_t shards[] = { 1, 2, 3 };
	struct mg_cut cut = { .shards = shards, .count = 3 };
	int before = atomic_load(&acked_count);
	int64_t same = -1, rows = -1;
	uint64_t waited;

	if (mg_replica_try_barrier(node->replica, shards, 3, &(struct mg_patience){ .ms = 1000 },
	                           own) ||
	    mg_cuts_begin(mg_replica_cuts(node->replica), &cut, 1000, NULL, NULL, &waited, own)) {
		return false;
	}
	assert_int_equal(mg_duck_exec(on,
	                              "BEGIN; SELECT 1 FROM s1._mg.meta UNION ALL SELECT 1 FROM "
	                              "s2._mg.meta UNION ALL SELECT 1 FROM s3._mg.meta",
	                              own),
	                 0);
	mg_cuts_end(mg_replica_cuts(node->replica));
	assert_int_equal(mg_duck_int(on,
	                             "SELECT ((SELECT (count(*), sum(k)) FROM s1.t) = (SELECT "
	                             "(count(*), sum(k)) FROM s2.t) AND (SELECT (count(*), sum(k)) "
	                             "FROM s2.t) = (SELECT (count(*), sum(k)) FROM s3.t))::BIGINT",
	                             &same, own),
	                 0);
	assert_int_equal(mg_duck_int(on, "SELECT count(*) FROM s2.t", &rows, own), 0);
	assert_int_equal(mg_duck_exec(on, "ROLLBACK", own), 0);
	assert_int_equal(same, 1);
	assert_true(rows >= before);
	return true;
}

static atomic_int cuts_of[NODES];

static void *read_on(void *arg)
{
	struct node *node = arg;

	while (atomic_load(&writing)) {
		struct mg_error own = { 0 };
		struct mg_duck_conn *on = NULL;

		pthread_rwlock_rdlock(&node->use);
		if (node->up) {
			assert_int_equal(mg_duck_connect(node->duck, &on, &own), 0);
			atomic_fetch_add(&cuts_of[node - nodes], read_cut(node, on, &own));
			mg_duck_disconnect(on);
		}
		pthread_rwlock_unlock(&node->use);
		mg_sleep_ms(1);
	}
	return NULL;
}

static void check_transactions(struct node *node)
{
	barrier(node);
	assert_int_equal(ask(node,
	                     "SELECT count(*) FROM s1.t FULL JOIN s2.t USING (k) FULL JOIN s3.t "
	                     "USING (k) WHERE s1.t.v IS NULL OR s2.t.v IS NULL OR s3.t.v IS NULL"),
	                 0);
	assert_int_equal(ask(node, "SELECT count(*) - count(DISTINCT k) FROM s1.t"), 0);
	assert_int_equal(ask(node, "SELECT count(*) - count(DISTINCT _mg_rid) FROM s2.t"), 0);
	for (int i = 0; i < atomic_load(&acked_count); i++) {
		char sql[96];

		(void)snprintf(sql, sizeof sql, "SELECT count(*) FROM s3.t WHERE k = %d", acked[i]);
		assert_int_equal(ask(node, sql), 1);
	}
}

static void test_the_coordinator_goes_and_comes_back(void **state)
{
	pthread_t threads[THREADS], readers[NODES];
	struct node *gone;

	(void)state;
	create_table();
	atomic_store(&acked_count, 0);
	for (int round = 1; round <= 2; round++) {
		atomic_store(&writing, true);
		for (int i = 0; i < THREADS; i++) {
			assert_int_equal(pthread_create(&threads[i], NULL, write_on, NULL), 0);
		}
		for (size_t i = 0; i < NODES; i++) {
			atomic_store(&cuts_of[i], 0);
			assert_int_equal(pthread_create(&readers[i], NULL, read_on, &nodes[i]), 0);
		}
		int before = atomic_load(&acked_count);

		AWAIT(atomic_load(&acked_count) > before + 30);
		for (size_t i = 0; i < NODES; i++) {
			AWAIT(atomic_load(&cuts_of[i]) > 5);
		}
		gone = await_coordinator();
		uint64_t start = mg_clock_ms();

		node_stop(gone);
		uint64_t stopped = mg_clock_ms();

		before = atomic_load(&acked_count);
		AWAIT(atomic_load(&acked_count) > before);
		printf("             stopped in %d ms, and the next commit %d ms later\n",
		       (int)(stopped - start), (int)(mg_clock_ms() - stopped));
		AWAIT(atomic_load(&acked_count) > before + 30);
		atomic_store(&writing, false);
		for (int i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
		}
		for (size_t i = 0; i < NODES; i++) {
			pthread_join(readers[i], NULL);
			printf("             node %zu: %d cuts\n", i + 1, atomic_load(&cuts_of[i]));
		}
		for (size_t i = 0; i < NODES; i++) {
			if (nodes[i].up) {
				check_transactions(&nodes[i]);
			}
		}
		node_start(gone);
		name_each_other();
		/* Its checkpoint knows of a fence, whatever the log still holds. */
		assert_true(mg_shard_sm_refused(gone->replica->shards[1], 1, 1));
		ok(mg_replica_wait(gone->replica, &err));
		check_transactions(gone);
		check_all_equal();
	}
}

/* ---- a coordinator that sleeps ---- */

static void sleep_at_gate(void *arg)
{
	struct kit_gate *gates = arg;

	kit_gate_add(&gates[0], 1);
	assert_true(kit_gate_wait(&gates[1], 1));
}

struct late {
	struct node *node;
	uint64_t epoch;
	uint32_t last; /* shard */
	int key, code;
	struct kit_gate *begun;
	struct mg_error err;
};

static void *commit_late(void *arg)
{
	struct late *late = arg;
	struct mg_redo *redo = rows_in(late->node->conn, 1, late->last, late->key);

	kit_gate_add(late->begun, 1);
	late->code = mg_replica_commit_in(late->node->replica, late->epoch, redo, &late->err);
	mg_redo_free(redo);
	return NULL;
}

static void mark(void *arg)
{
	(void)arg;
}

/* What a sleeping coordinator was about to do meets the fence of the next one, at a leader that has
 * not changed. */
static void test_a_coordinator_that_slept_is_fenced(void **state)
{
	struct node *at = await_coordinator(), *leader = &nodes[at->net.self % NODES], *next = NULL;
	struct kit_gate gates[3] = { KIT_GATE, KIT_GATE, KIT_GATE };
	struct late late[2] = {
		{ .node = at, .last = 1, .key = 100, .begun = &gates[2] },
		{ .node = at, .last = SHARDS, .key = 200, .begun = &gates[2] },
	};
	pthread_t threads[2];

	(void)state;
	create_table();
	for (uint32_t i = 0; i <= SHARDS; i++) {
		lead_elsewhere(mg_replica__group(i), leader);
	}
	AWAIT((late[0].epoch = mg_replica_epoch(at->replica)) != 0);
	late[1].epoch = late[0].epoch;
	mg_raft_host_post(at->replica->host, sleep_at_gate, gates);
	assert_true(kit_gate_wait(&gates[0], 1));
	/* One after the other, as they share a connection to the engine. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, commit_late, &late[i]), 0);
		assert_true(kit_gate_wait(&gates[2], i + 1));
	}
	/* Until it hears otherwise it believes to coordinate: so the commits are under way. */
	while (next == NULL) {
		for (size_t i = 0; i < NODES; i++) {
			if (&nodes[i] != at && mg_replica_is_coordinator(nodes[i].replica)) {
				next = &nodes[i];
			}
		}
		mg_sleep_ms(2);
	}
	assert_int_equal(mg_replica_epoch(at->replica), late[0].epoch);
	struct mg_redo *redo = rows_in(next->conn, 1, SHARDS, 1);

	ok(mg_replica_commit(next->replica, redo, &err));
	mg_redo_free(redo);
	kit_gate_add(&gates[1], 1);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(late[i].code, MG_E_UNAVAILABLE);
		assert_non_null(strstr(late[i].err.message, "another node coordinates"));
	}
	mg_raft_host_call(at->replica->host, mark, NULL);
	for (size_t i = 0; i < NODES; i++) {
		barrier(&nodes[i]);
		assert_int_equal(ask(&nodes[i], "SELECT count(*) FROM s1.t"), 1);
		assert_int_equal(ask(&nodes[i], "SELECT count(*) FROM s3.t"), 1);
	}
	check_all_equal();
}

static int64_t received(void)
{
	return mg_metric_value(mg_metric_counter("merganser_snapshot_chunks_received_total", "", ""));
}

static void pass(struct node *node)
{
	atomic_store(&node->passes, 1);
	AWAIT(atomic_load(&node->passes) == 0);
}

/* Readers hold up one of its replicas, and who had good ones has left: another one does not wait
 * for that, and nothing is pulled twice. */
static void test_damaged_replicas_are_made_anew(void **state)
{
	struct node *first = await_coordinator();
	struct node *at = first == &nodes[0] ? &nodes[1] : &nodes[0];
	struct mg_members gone = { 0 };
	int64_t before = received();

	(void)state;
	create_table();
	struct mg_redo *redo = rows_in(first->conn, 1, SHARDS, 1);

	ok(mg_replica_commit(first->replica, redo, &err));
	mg_redo_free(redo);
	barrier(at);
	ok(mg_members_set(&gone, 9, MG_MEMBER_VOTER, &err));
	atomic_store(&at->passes, 0);
	mg_replica__mend(at->replica, 1, "a test", &gone);
	AWAIT(atomic_load(&at->refused) > 1);
	mg_replica__mend(at->replica, 2, "a test", NULL);
	AWAIT(!mg_replica__is_mending(at->replica, 2));
	assert_true(mg_replica__is_mending(at->replica, 1));
	pass(at); /* the file goes aside */
	int refused = atomic_load(&at->refused);

	AWAIT(atomic_load(&at->refused) > refused);
	pass(at);
	AWAIT(!mg_replica__is_mending(at->replica, 1));
	assert_int_equal(received() - before, 2);
	atomic_store(&at->passes, 1000);
	check_all_equal();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_committed_is_read_everywhere, begin, end),
		cmocka_unit_test_setup_teardown(test_shards_may_be_led_elsewhere, begin, end),
		cmocka_unit_test_setup_teardown(test_looking_waits_for_nobody, begin, end),
		cmocka_unit_test_setup_teardown(test_what_a_session_has_seen_it_sees_at_the_next_node,
		                                begin, end),
		cmocka_unit_test_setup_teardown(test_servers_enter_through_any_node, begin, end),
		cmocka_unit_test_setup_teardown(test_the_coordinator_goes_and_comes_back, begin, end),
		cmocka_unit_test_setup_teardown(test_a_coordinator_that_slept_is_fenced, begin, end),
		cmocka_unit_test_setup_teardown(test_damaged_replicas_are_made_anew, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
