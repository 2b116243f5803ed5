/* membership.c - see membership.h. */
#include "server/membership.h"

#include "auth/auth.h"
#include "base/log.h"
#include "base/mem.h"
#include "catalog/node_table.h"
#include "net/net.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "server/join_dir.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { AGAIN_MIN_S = 1, AGAIN_MAX_S = 300, LOOK_S = 3600 };

struct mg_membership {
	struct mg_membership_options options;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;    /* guarded by lock */
	int wake_fd;      /* readable when it is to end: it may be waiting for another node */
	unsigned again_s; /* the thread's: pause after the last failure */
};

/* ---- the row ---- */

static int enter(struct mg_membership *m, struct mg_error *err)
{
	const struct mg_node_claim claim = { .number = m->options.number,
		                                 .id = m->options.node_id,
		                                 .address = m->options.address };
	uint64_t number;

	return mg_node_enter(m->options.catalog, &claim, &number, err);
}

/* With others the one that coordinates writes keeps the rows: it hears of a node's name and address
 * when that connects. */
static bool has_others(const struct mg_membership *m)
{
	const struct mg_catalog_data *data = mg_catalog_take(m->options.catalog);
	bool others = false;

	for (size_t i = 0; i < data->node_count; i++) {
		others = others || (data->nodes[i].number != m->options.number &&
		                    strcmp(data->nodes[i].state, MG_NODE_REMOVED) != 0);
	}
	mg_catalog_give(m->options.catalog, data);
	return others;
}

/* ---- certificates ---- */

/* The others' addresses, as --join has them. */
static char *list_seeds(const struct mg_membership *m)
{
	const struct mg_catalog_data *data = mg_catalog_take(m->options.catalog);
	struct mg_sb list = { 0 };

	mg_sb_add(&list, m->options.seeds ? m->options.seeds : "");
	for (size_t i = 0; i < data->node_count && i < 32; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		if (node->number != m->options.number && strcmp(node->state, MG_NODE_REMOVED) != 0) {
			mg_sb_addf(&list, ",%s", node->address);
		}
	}
	mg_catalog_give(m->options.catalog, data);
	return mg_sb_take(&list);
}

static bool can_sign(const struct mg_membership *m)
{
	char *ca_key = mg_path_join(m->options.data_dir, "tls/ca.key");
	bool there = mg_file_exists(ca_key);

	mg_free(ca_key);
	return there;
}

/* Does a certificate end soon, or lack the address? */
static bool is_due(const struct mg_membership *m)
{
	char *ca = mg_path_join(m->options.data_dir, "tls/ca.crt");
	char *node = mg_path_join(m->options.data_dir, "tls/node.crt");
	char *server = mg_path_join(m->options.data_dir, "tls/server.crt");
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];
	bool named = mg_net_split(m->options.address, host, sizeof host, port, sizeof port, NULL) !=
	                 0 ||
	             mg_cert_names_host(server, host);
	bool due = mg_cert_is_due(node, ca) || mg_cert_is_due(server, ca) ||
	           (!named && mg_cert_is_signed_by(server, ca));

	mg_free(server);
	mg_free(node);
	mg_free(ca);
	return due;
}

static int sign(const struct mg_membership *m, struct mg_error *err)
{
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];
	int code = mg_cert_node_ensure(m->options.data_dir, m->options.number, err);

	code = code ? code
	            : mg_net_split(m->options.address, host, sizeof host, port, sizeof port, err);
	return code ? code
	            : mg_cert_server_ensure(m->options.data_dir, m->options.key_password, host, err);
}

static int ask(const struct mg_membership *m, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(m->options.catalog);
	char *cluster = mg_strdup(data->cluster_id);
	char *seeds = list_seeds(m);

	mg_catalog_give(m->options.catalog, data);
	int code = mg_join_renew(&(struct mg_join_renewal){ .data_dir = m->options.data_dir,
	                                                    .seeds = seeds,
	                                                    .cluster = cluster,
	                                                    .number = m->options.number,
	                                                    .node_id = m->options.node_id,
	                                                    .address = m->options.address,
	                                                    .wake_fd = m->wake_fd },
	                         err);

	mg_free(seeds);
	mg_free(cluster);
	return code;
}

/* ---- the thread ---- */

/* True when it is to end. */
static bool rest(struct mg_membership *m, unsigned seconds)
{
	uint64_t until_ms = mg_clock_ms() + seconds * 1000ull;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping && mg_cond_wait_until(&m->changed, &m->lock, until_ms)) {
	}
	bool stopping = m->stopping;

	pthread_mutex_unlock(&m->lock);
	return stopping;
}

static unsigned look_after(struct mg_membership *m)
{
	struct mg_error err = { 0 };

	if (!is_due(m)) {
		return LOOK_S;
	}
	if (can_sign(m) ? sign(m, &err) : ask(m, &err)) {
		mg_log(MG_LOG_WARN, "node.certificate", "error=\"%s\"", err.message);
		m->again_s = m->again_s * 2 > AGAIN_MAX_S ? AGAIN_MAX_S : m->again_s * 2;
		return m->again_s;
	}
	m->again_s = AGAIN_MIN_S;
	mg_log(MG_LOG_INFO, "node.certificate", "renewed=true");
	m->options.renewed(m->options.arg);
	return LOOK_S;
}

static void *run(void *arg)
{
	struct mg_membership *m = arg;

	while (!rest(m, look_after(m))) {
	}
	return NULL;
}

int mg_membership_start(struct mg_membership **out, const struct mg_membership_options *options,
                        struct mg_error *err)
{
	struct mg_membership *m = mg_alloc0(sizeof *m);

	*out = NULL;
	m->options = *options;
	m->again_s = AGAIN_MIN_S;
	int code = has_others(m) ? 0 : enter(m, err);

	if (code && code != MG_E_USAGE && code != MG_E_DUPLICATE && code != MG_E_DENIED) {
		/* Not the operator's doing, such as a full disk: to serve is worth more than a row. */
		mg_log(MG_LOG_WARN, "node.entry", "error=\"%s\"", err->message);
		code = 0;
	}
	if (code) {
		mg_free(m);
		return code;
	}
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake_fd < 0) {
		mg_free(m);
		return mg_error_errno(err, errno, "cannot make an eventfd");
	}
	pthread_mutex_init(&m->lock, NULL);
	mg_cond_init(&m->changed);
	int failed = pthread_create(&m->thread, NULL, run, m);

	if (failed) {
		pthread_cond_destroy(&m->changed);
		pthread_mutex_destroy(&m->lock);
		(void)close(m->wake_fd);
		mg_free(m);
		return mg_error_errno(err, failed, "cannot start a thread");
	}
	*out = m;
	return 0;
}

void mg_membership_stop(struct mg_membership *m)
{
	if (!m) {
		return;
	}
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->lock);
	(void)eventfd_write(m->wake_fd, 1);
	pthread_join(m->thread, NULL);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	(void)close(m->wake_fd);
	mg_free(m);
}
