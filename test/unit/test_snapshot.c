/*
 * test_snapshot.c - snapshots between nodes: catching up, seeds, interruptions, lies, kills.
 */
#include "unit/snapshot_kit.h"

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
	fence(nodes, 7);
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
	/* The fence came with it: it too refuses what is older. */
	epoch_in_use = 6;
	write_rows(nodes, 950000, 1);
	epoch_in_use = 7;
	check_equal(nodes, NODES);
	assert_int_equal(atomic_load(&lagging->told), atomic_load(&lagging->adopted));
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
	epoch_in_use = 0;
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
	AWAIT(mg_shard_sm_applied(nodes[0].sm) >= look_at(leader_of(nodes)).info.core.commit);
	AWAIT(look_at(&nodes[0]).snapshot > 0);
}

struct match {
	struct node *of;
	uint64_t node, index;
};

static void match_now(void *arg)
{
	struct match *match = arg;

	(void)mg_group_match(mg_raft_host_group(match->of->host, group_in_use), match->node,
	                     &match->index);
}

/* What the leader knows the node to have. */
static uint64_t match_of(struct node *leader, const struct node *node)
{
	struct match match = { .of = leader, .node = node->self };

	mg_raft_host_call(leader->host, match_now, &match);
	return match.index;
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
	/* It has all there is, and nobody writes: it is promoted nevertheless. */
	AWAIT(match_of(leader_of(nodes), fresh) >= look_at(leader_of(nodes)).info.last);
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
	/* A good one; then its giver's copy rots.  That index was refused and a new snapshot asked for,
	 * which must not come later. */
	AWAIT(look_at(&nodes[0]).snapshot >= look_at(&nodes[0]).info.applied);
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
#ifdef __SANITIZE_THREAD__
	skip(); /* a fork takes all locks of DuckDB's allocator, more than the sanitizer can count */
#endif
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

static int propose_text(void *arg, const char *text, size_t len, bool anywhere,
                        struct mg_error *error)
{
	(void)anywhere;
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

static bool is_named(struct node *node, int number)
{
	const struct mg_catalog_data *data = mg_catalog_take(node->catalog);
	char name[32];

	snprintf(name, sizeof name, "name %d", number);
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
	uint64_t missing = look_at(lagging).info.last + 1;
	int next = 3;

	/* A leader keeps its log for who lags while there is room. */
	node_stop(lagging);
	for (int i = 0; i < NODES; i++) {
		while (&nodes[i] != lagging && look_at(&nodes[i]).info.first <= missing) {
			rename_cluster(nodes, next++, 1);
		}
	}
	start_all(nodes, NODES);
	AWAIT(is_named(lagging, next - 1));
	assert_true(counted(RECEIVED) > before);
	rename_cluster(nodes, next, 1);
	for (int i = 0; i < NODES; i++) {
		AWAIT(is_named(&nodes[i], next));
	}
	stop_all(nodes, NODES);
	start_all(nodes, NODES); /* saved */
	for (int i = 0; i < NODES; i++) {
		AWAIT(is_named(&nodes[i], next));
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
