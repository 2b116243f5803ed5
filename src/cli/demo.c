/*
 * demo.c - starts, watches and stops the processes of a demo cluster.
 *
 * Every node is this same program as a child.  Rule: no child outlives this process (the kernel
 * kills it with its parent), and no folder outlives it either, unless it was killed hard; then the
 * next demo removes what nobody holds the lock of.
 *
 * owner: the main thread.
 */
#include "cli/demo.h"

#include "auth/auth.h"
#include "cli/connect.h"
#include "cli/demo_int.h"
#include "cli/render.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"

#include "mg_version.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_READY_MS 30000
#define JOIN_READY_MS 300000
#define WORKERS_READY_MS 120000

volatile sig_atomic_t mg_demo_stopped;

/* ---- children -------------------------------------------------------------------------------- */

bool mg_demo__stopped(struct mg_error *err)
{
	if (mg_demo_stopped) {
		mg_error_set(err, MG_E_CANCELLED, "stopped");
	}
	return mg_demo_stopped;
}

static char *log_path(const struct mg_demo *demo, const char *name)
{
	return mg_format("%s/%s.log", demo->dir, name);
}

/* The last lines of a child's log say why it ended. */
int mg_demo__child_failed(const struct mg_demo *demo, const char *name, struct mg_error *err)
{
	char *path = log_path(demo, name), *text = NULL;
	size_t size = 0;

	mg_error_set(err, MG_E_IO, "%s ended before it was ready", name);
	if (mg_file_read(path, 16u << 20, &text, &size, NULL) == 0 && size > 0) {
		const char *from = text + size;

		for (int lines = 0; from > text && lines < 4; from--) {
			lines += from[-1] == '\n';
		}
		mg_error_detail(err, "%s", from + (*from == '\n'));
	}
	mg_free(text);
	mg_free(path);
	return MG_E_IO;
}

int mg_demo__start_child(struct mg_demo *demo, struct mg_demo_node *node, const char *const *argv,
                       const char *const *env, struct mg_error *err)
{
	char *log = log_path(demo, node->name);
	int code;

	node->started_ms = mg_clock_ms();
	code = mg_process_start(&node->process, &(struct mg_process_options){
		.argv = argv,
		.env = env,
		.in = MG_STDIO_NULL,
		.out = MG_STDIO_FILE,
		.err = MG_STDIO_OUT,
		.out_path = log,
		.die_with_parent = true,
		.new_group = true,
	}, err);
	node->running = code == 0;
	mg_free(log);
	return code;
}

static char *memory_share(const struct mg_demo *demo)
{
	uint64_t share = mg_os_memory_bytes() / 10 * 6 / demo->count;

	return mg_format("%lluMiB", (unsigned long long)(share >> 20 < 256 ? 256 : share >> 20));
}

static int start_first(struct mg_demo *demo, struct mg_error *err)
{
	struct mg_demo_node *node = &demo->nodes[0];
	char *listen = mg_format("127.0.0.1:%u", node->port), *memory = memory_share(demo);
	const char *argv[] = { demo->self, "server", "--data-dir", demo->data_dir, "--listen", listen,
		                   "--node-id", node->name, "--memory-limit", memory, NULL };
	int code = mg_demo__start_child(demo, node, argv, NULL, err);

	mg_free(memory);
	mg_free(listen);
	return code;
}

/* What a server shows that asks to be let in, as the environment's line. */
static int join_password(const struct mg_demo *demo, char **out, struct mg_error *err)
{
	char *path = mg_path_join(demo->data_dir, "tls/join.secret"), *text = NULL;
	size_t size = 0;
	int code = mg_file_read(path, 4096, &text, &size, err);

	*out = code ? NULL : mg_format("MERGANSER_PASSWORD=%.*s", (int)strcspn(text, "\r\n"), text);
	mg_free(text);
	mg_free(path);
	return code;
}

static int start_joining(struct mg_demo *demo, struct mg_demo_node *node, struct mg_error *err)
{
	char *listen = mg_format("127.0.0.1:%u", node->port), *memory = memory_share(demo);
	char *dir = mg_path_join(demo->dir, node->name), *password = NULL;
	struct mg_sb seeds = { 0 };

	for (unsigned i = 0; i < demo->options.servers; i++) {
		if (&demo->nodes[i] != node) {
			mg_sb_addf(&seeds, "%s127.0.0.1:%u", seeds.len ? "," : "", demo->nodes[i].port);
		}
	}
	int code = join_password(demo, &password, err);

	if (code == 0) {
		const char *env[] = { password, NULL };
		const char *argv[] = { demo->self, "server", "--data-dir", dir, "--listen", listen,
			                   "--join", mg_sb_text(&seeds), "--tls-roots", demo->roots,
			                   "--node-id", node->name, "--memory-limit", memory, NULL };

		code = mg_demo__start_child(demo, node, argv, env, err);
	}
	mg_sb_fini(&seeds);
	mg_free(password);
	mg_free(dir);
	mg_free(memory);
	mg_free(listen);
	return code;
}

static int start_server(struct mg_demo *demo, struct mg_demo_node *node, struct mg_error *err)
{
	return node == &demo->nodes[0] ? start_first(demo, err) : start_joining(demo, node, err);
}

static int start_worker(struct mg_demo *demo, struct mg_demo_node *node, struct mg_error *err)
{
	char *server = mg_format("127.0.0.1:%u", demo->nodes[0].port), *memory = memory_share(demo);
	char *cache = mg_path_join(demo->dir, node->name);
	char *password = mg_format("MERGANSER_PASSWORD=%s", demo->worker_password);
	const char *env[] = { password, NULL };
	const char *argv[] = { demo->self, "worker", "--server", server, "--tls-roots", demo->roots,
		                   "--cache-dir", cache, "--node-id", node->name, "--memory-limit", memory,
		                   NULL };
	int code = mg_demo__start_child(demo, node, argv, env, err);

	mg_free(server);
	mg_free(memory);
	mg_free(cache);
	mg_free(password);
	return code;
}

static bool is_alive(struct mg_demo_node *node)
{
	int status;

	if (node->running && mg_process_wait(&node->process, 0, &status)) {
		node->running = false;
	}
	return node->running;
}

static int free_port(unsigned *port, struct mg_error *err)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), code = 0;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
		code = mg_error_errno(err, errno, "cannot find a free port");
	}
	*port = ntohs(address.sin_port);
	if (fd >= 0) {
		close(fd);
	}
	return code;
}

/* ---- readiness ------------------------------------------------------------------------------- */

static int wait_server(struct mg_demo *demo, struct mg_demo_node *node, struct mg_error *err)
{
	char *url = mg_format("https://127.0.0.1:%u", node->port);
	struct mg_endpoint endpoint = {
		.url = url, .tls = { .roots_file = demo->roots }, .timeout_ms = 1000, .wake_fd = -1,
	};
	/* A joining one takes the data over first. */
	uint64_t max_ms = node == &demo->nodes[0] ? SERVER_READY_MS : JOIN_READY_MS;
	int result = 0;

	for (bool ready = false; !ready && result == 0;) {
		struct mg_sb body = { 0 };
		int status = 0, code = mg_http_fetch(&endpoint, "GET", "/health", NULL, NULL,
		                                     (struct mg_str){ 0 }, &status, &body, NULL);

		mg_sb_fini(&body);
		ready = code == 0 && status == 200;
		if (ready) {
			node->ready_s = (double)(mg_clock_ms() - node->started_ms) / 1000;
		} else if (mg_demo__stopped(err)) {
			result = MG_E_CANCELLED;
		} else if (!is_alive(node)) {
			result = mg_demo__child_failed(demo, node->name, err);
		} else if (mg_clock_ms() - node->started_ms > max_ms) {
			result = mg_error_set(err, MG_E_TIMEOUT, "%s is not ready after %d s", node->name,
			                      (int)(max_ms / 1000));
		} else {
			mg_sleep_ms(10);
		}
	}
	mg_free(url);
	return result;
}

/* Which workers are ready, asked of the server; their names are added to out. */
static int ask(mg_client *client, const char *sql, struct mg_sb *out, struct mg_error *err)
{
	const struct mg_client_statement *s = NULL;
	int done = 0, code = mg_client_query(client, sql, 0);

	if (code == 0) {
		code = mg_client_next_statement(client, &s);
	}
	while (code == 0 && s && !done) {
		struct ArrowArray batch;

		code = mg_client_next_batch(client, &batch, &done);
		if (code == 0 && !done) {
			mg_render_first_value(mg_client_schema(client), &batch, out);
			batch.release(&batch);
		}
	}
	if (code) {
		*err = *mg_client_failure(client);
	}
	return code;
}

static mg_client *connect_client(struct mg_demo *demo, struct mg_error *err)
{
	struct mg_client_options options = MG_CLIENT_OPTIONS_INIT;
	mg_client *client;

	options.url = demo->url;
	options.user = "demo";
	options.password = demo->password;
	options.tls_roots = demo->roots;
	if (mg_client_connect(&client, &options)) {
		*err = *mg_client_failure(client);
		mg_client_close(client);
		return NULL;
	}
	return client;
}

static bool has_line(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = text; (at = strstr(at, name)); at += len) {
		if ((at == text || at[-1] == ',') && (at[len] == ',' || at[len] == '\0')) {
			return true;
		}
	}
	return false;
}

static int wait_workers(struct mg_demo *demo, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + WORKERS_READY_MS;
	mg_client *client = connect_client(demo, err);
	unsigned servers = demo->options.servers, ready = servers;
	int code = client ? 0 : err->code;

	while (code == 0 && ready < demo->count) {
		struct mg_sb names = { 0 };

		code = ask(client, "SELECT string_agg(id, ',') FROM cluster.nodes "
		                   "WHERE role = 'worker' AND state = 'ready'", &names, err);
		for (unsigned i = servers; i < demo->count && code == 0; i++) {
			struct mg_demo_node *node = &demo->nodes[i];

			if (node->ready_s == 0 && has_line(mg_sb_text(&names), node->name)) {
				node->ready_s = (double)(mg_clock_ms() - node->started_ms) / 1000;
				ready++;
			} else if (node->ready_s == 0 && !is_alive(node)) {
				code = mg_demo__child_failed(demo, node->name, err);
			}
		}
		mg_sb_fini(&names);
		if (code == 0 && mg_demo__stopped(err)) {
			code = MG_E_CANCELLED;
		} else if (code == 0 && mg_clock_ms() > until) {
			code = mg_error_set(err, MG_E_TIMEOUT, "the workers are not ready after %d s",
			                    WORKERS_READY_MS / 1000);
		} else if (ready < demo->count) {
			mg_sleep_ms(20);
		}
	}
	mg_client_close(client);
	return code;
}

static void name_servers(struct mg_demo *demo)
{
	struct mg_sb urls = { 0 };

	for (unsigned i = 0; i < demo->options.servers; i++) {
		mg_sb_addf(&urls, "%shttps://127.0.0.1:%u", i ? "," : "", demo->nodes[i].port);
	}
	demo->urls = mg_sb_take(&urls);
	demo->url = mg_format("https://127.0.0.1:%u", demo->nodes[0].port);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void print_transcript(struct mg_demo *demo)
{
	struct mg_error err = { 0 };
	struct mg_sb rows = { 0 };
	mg_client *client = connect_client(demo, &err);

	if (client) {
		ask(client, "SELECT format('{:,}', coalesce(sum(rows), 0)::BIGINT) FROM cluster.tables",
		    &rows, &err);
	}
	mg_client_close(client);
	fprintf(stderr, " merganser %s  demo cluster, data in %s, %s\n", MG_VERSION, demo->dir,
	        demo->options.keep ? "kept" : "gone at exit");
	for (unsigned i = 0; i < demo->count; i++) {
		char place[64] = "";

		if (i < demo->options.servers) {
			snprintf(place, sizeof place, "127.0.0.1:%u  %u shards", demo->nodes[i].port,
			         demo->options.shard_count);
		}
		fprintf(stderr, " node %-3u %-10s %-28s ready %.2f s\n", i + 1, demo->nodes[i].name, place,
		        demo->nodes[i].ready_s);
	}
	fprintf(stderr, " user demo   password %s   %s/   CA %s\n", demo->password, demo->url,
	        demo->roots);
	if (demo->options.scale_factor > 0) {
		fprintf(stderr, " sample data: TPC-H scale %g (%s rows, %.1f s)\n",
		        demo->options.scale_factor, mg_sb_text(&rows), demo->data_s);
	}
	mg_sb_fini(&rows);
}

/* The first one alone, then the others together. */
static int start_servers(struct mg_demo *demo, struct mg_error *err)
{
	int code = start_server(demo, &demo->nodes[0], err);

	code = code ? code : wait_server(demo, &demo->nodes[0], err);
	for (unsigned i = 1; i < demo->options.servers && code == 0; i++) {
		code = start_server(demo, &demo->nodes[i], err);
	}
	for (unsigned i = 1; i < demo->options.servers && code == 0; i++) {
		code = wait_server(demo, &demo->nodes[i], err);
	}
	return code;
}

int mg_demo_start(struct mg_demo **out, const struct mg_demo_options *options, struct mg_error *err)
{
	struct mg_demo *demo = mg_alloc0(sizeof *demo);
	int code;

	*out = demo;
	demo->options = *options;
	demo->lock = -1;
	demo->count = options->servers + options->workers;
	demo->self = mg_process_self_path();
	for (unsigned i = 0; i < demo->count && i < NODES_MAX; i++) {
		bool server = i < options->servers;

		snprintf(demo->nodes[i].name, sizeof demo->nodes[i].name,
		         server ? "server-%u" : "worker-%u", server ? i + 1 : i + 1 - options->servers);
	}
	mg_password_generate(demo->password, sizeof demo->password);
	mg_password_generate(demo->worker_password, sizeof demo->worker_password);
	if (!demo->self || demo->count > NODES_MAX) {
		return mg_error_set(err, MG_E_USAGE, "a demo has at most %d nodes", NODES_MAX);
	}
	code = mg_demo__make_dir(demo, err);
	if (code == 0) {
		code = mg_demo__make_data(demo, err);
	}
	for (unsigned i = 0; i < options->servers && code == 0; i++) {
		code = free_port(&demo->nodes[i].port, err);
	}
	if (code == 0) {
		name_servers(demo);
		code = start_servers(demo, err);
	}
	for (unsigned i = options->servers; i < demo->count && code == 0; i++) {
		code = start_worker(demo, &demo->nodes[i], err);
	}
	if (code == 0) {
		code = wait_workers(demo, err);
	}
	if (code == 0 && !options->quiet) {
		print_transcript(demo);
	}
	return code;
}

void mg_demo_stop(struct mg_demo *demo)
{
	if (!demo) {
		return;
	}
	/* All are asked first, so that they stop at the same time; workers before the server. */
	for (unsigned i = demo->count; i-- > 0 && demo->count <= NODES_MAX;) {
		if (is_alive(&demo->nodes[i])) {
			mg_process_signal(&demo->nodes[i].process, SIGTERM);
		}
	}
	for (unsigned i = demo->count; i-- > 0 && demo->count <= NODES_MAX;) {
		if (demo->nodes[i].running) {
			mg_process_stop(&demo->nodes[i].process, STOP_MS);
		}
	}
	if (demo->dir && !demo->options.keep) {
		mg_tree_remove(demo->dir, NULL);
	} else if (demo->dir) {
		fprintf(stderr, "the data stays in %s\n", demo->dir);
	}
	mg_dir_unlock(demo->lock);
	mg_free(demo->self);
	mg_free(demo->dir);
	mg_free(demo->data_dir);
	mg_free(demo->roots);
	mg_free(demo->url);
	mg_free(demo->urls);
	mg_free(demo->reference);
	mg_free(demo);
}

const char *mg_demo_url(const struct mg_demo *demo)
{
	return demo->urls;
}

const char *mg_demo_user(const struct mg_demo *demo)
{
	(void)demo;
	return "demo";
}

const char *mg_demo_password(const struct mg_demo *demo)
{
	return demo->password;
}

const char *mg_demo_roots(const struct mg_demo *demo)
{
	return demo->roots;
}

const char *mg_demo_data_dir(const struct mg_demo *demo)
{
	return demo->data_dir;
}

const char *mg_demo_reference(const struct mg_demo *demo)
{
	return demo->reference;
}

/* ---- .demo ----------------------------------------------------------------------------------- */

static struct mg_demo_node *find_node(struct mg_demo *demo, const char *word)
{
	unsigned long number = strtoul(word, NULL, 10);

	for (unsigned i = 0; i < demo->count; i++) {
		if (number == i + 1 || strcmp(demo->nodes[i].name, word) == 0) {
			return &demo->nodes[i];
		}
	}
	return NULL;
}

static int meta_kill(struct mg_demo_node *node)
{
	if (!is_alive(node)) {
		fprintf(stderr, "node %s does not run\n", node->name);
		return 1;
	}
	mg_process_signal(&node->process, SIGKILL);
	mg_process_wait(&node->process, UINT32_MAX, NULL);
	node->running = false;
	fprintf(stderr, "node %s killed\n", node->name);
	return 0;
}

static int meta_start(struct mg_demo *demo, struct mg_demo_node *node)
{
	struct mg_error err = { 0 };
	int code;

	if (is_alive(node)) {
		fprintf(stderr, "node %s runs already\n", node->name);
		return 1;
	}
	node->ready_s = 0;
	if (node < demo->nodes + demo->options.servers) {
		code = start_server(demo, node, &err);
		code = code ? code : wait_server(demo, node, &err);
	} else {
		code = start_worker(demo, node, &err);
	}
	if (code) {
		return mg_cli_fail(&err);
	}
	fprintf(stderr, "node %s started\n", node->name);
	return 0;
}

bool mg_demo_runs(struct mg_demo *demo, const char *name)
{
	for (unsigned i = 0; i < demo->count; i++) {
		if (mg_text_eq(demo->nodes[i].name, name)) {
			return is_alive(&demo->nodes[i]);
		}
	}
	return false;
}

int mg_demo_meta(struct mg_demo *demo, size_t count, char **args)
{
	struct mg_demo_node *node = count == 2 ? find_node(demo, args[1]) : NULL;

	if (count == 1 && strcmp(args[0], "nodes") == 0) {
		for (unsigned i = 0; i < demo->count; i++) {
			bool alive = is_alive(&demo->nodes[i]);

			fprintf(stderr, " node %-3u %-10s %s", i + 1, demo->nodes[i].name,
			        alive ? "runs" : "is down");
			fprintf(stderr, alive ? "  pid %d\n" : "\n", demo->nodes[i].process.pid);
		}
		return 0;
	}
	if (node && strcmp(args[0], "kill") == 0) {
		return meta_kill(node);
	}
	if (node && strcmp(args[0], "start") == 0) {
		return meta_start(demo, node);
	}
	fprintf(stderr, "usage: .demo nodes | .demo kill N | .demo start N, with N from 1 to %u\n",
	        demo->count);
	return 1;
}
