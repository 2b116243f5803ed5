/*
 * open_dir.c - see open_dir.h.
 *
 * Rule: a start that cannot succeed leaves nothing behind.
 */
#include "server/open_dir.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/net.h"
#include "os/file.h"
#include "server/address.h"
#include "server/bootstrap.h"
#include "server/join_dir.h"
#include "server/reenter.h"
#include "server/signals.h"

#include <stdio.h>
#include <string.h>

#define FRESH_SHARDS 4

struct opening {
	const struct mg_server_options *options;
	const char *data_dir;
	int lock;
	struct mg_catalog *catalog;
};

/* An empty directory becomes a cluster of its own: keys, an admin, empty shards. */
static int make_fresh(struct opening *o, struct mg_error *err)
{
	struct mg_bootstrap_options options = {
		.data_dir = o->data_dir,
		.client_username = "admin",
		.shard_count = FRESH_SHARDS,
		.tpch_scale_factor = 0,
	};
	struct mg_bootstrap_report report;
	memset(&report, 0, sizeof report);
	int code = mg_bootstrap_run(&options, &report, err);
	if (!code) {
		fprintf(stderr, "merganser: made a new cluster in \"%s\"\n", o->data_dir);
		mg_bootstrap_print_passwords(&report, stderr);
	}
	return code;
}

/* A bootstrap that was killed leaves a directory that only another bootstrap should touch. */
static int check_complete(struct opening *o, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(o->catalog);
	bool complete = mg_bootstrap_complete(data);
	mg_catalog_give(o->catalog, data);
	if (complete) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE,
	             "the bootstrap of \"%s\" was interrupted: some shards are missing", o->data_dir);
	mg_error_hint(err, "Run \"merganser bootstrap --data-dir %s\" again: it makes what is missing.",
	              o->data_dir);
	return MG_E_USAGE;
}

/* Before a directory is made: a start that cannot succeed leaves nothing behind. */
static int check_addresses(const struct opening *o, struct mg_error *err)
{
	const struct mg_server_options *options = o->options;
	const char *given[MG_LISTEN_CHECK_MAX] = { options->listen, options->listen_http,
		                                       options->listen_redis, options->listen_peers };
	const char *addresses[MG_LISTEN_CHECK_MAX];
	size_t count = 0;

	for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
		if (given[i]) {
			addresses[count++] = given[i];
		}
	}
	return mg_listen_check(addresses, count, err);
}

static bool stop_trying(void *arg, unsigned ms)
{
	(void)arg;
	return mg_signals_wait(ms) > 0;
}

static void say(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "merganser server: %s\n", text);
}

/* How this server asks to be let in; address is the caller's. */
static struct mg_join_options join_options(const struct opening *o, char **address)
{
	const struct mg_server_options *options = o->options;
	*address = mg_server_address(&(struct mg_address_wish){ .listen = options->listen,
	                                                        .advertise = options->advertise,
	                                                        .seeds = options->join },
	                             NULL);
	return (struct mg_join_options){
		.data_dir = o->data_dir,
		.seeds = options->join,
		.tls_roots = options->tls_roots,
		.password = options->join_password,
		.node_id = options->node_id,
		.address = *address,
		.timeout_ms = options->join_timeout_ms,
		.pause = stop_trying,
		.say = say,
	};
}

/* Before a directory is made, and before one that is there is used. */
static int check_join(const struct opening *o, bool member, struct mg_error *err)
{
	char *address;
	if (!o->options->join) {
		return 0;
	}
	if (member) {
		return mg_join_dir_check(o->data_dir, o->options->tls_roots, err);
	}
	struct mg_join_options join = join_options(o, &address);
	int code = mg_join_check(&join, err);
	mg_free(address);
	return code;
}

/* What is missing is made: by entering a cluster, or as one of its own. */
static int make_directory(struct opening *o, struct mg_error *err)
{
	if (!o->options->join) {
		/* Bootstrap takes the lock itself. */
		mg_dir_unlock(o->lock);
		o->lock = -1;
		int code = make_fresh(o, err);
		return code ? code : mg_dir_lock(o->data_dir, &o->lock, err);
	}
	char *address;
	struct mg_join_options join = join_options(o, &address);
	int code = mg_join_dir_make(&join, err);
	if (!code) {
		fprintf(stderr, "merganser: \"%s\" entered the cluster\n", o->data_dir);
	}
	mg_free(address);
	return code;
}

/* One that was made for nothing, or the lock in one that was there. */
static void unmake_directory(struct opening *o, bool there, bool lock_there)
{
	char *lock = mg_path_join(o->data_dir, "node.lock");
	if (!there) {
		mg_tree_remove(o->data_dir, NULL);
	} else if (!lock_there) {
		mg_file_remove(lock, NULL);
	}
	mg_free(lock);
	mg_dir_unlock(o->lock);
	o->lock = -1;
}

static bool lock_exists(const struct opening *o)
{
	char *lock = mg_path_join(o->data_dir, "node.lock");
	bool there = mg_file_exists(lock);
	mg_free(lock);
	return there;
}

/* Under the lock, in a directory that has one. */
static int finish_reentering(struct opening *o, struct mg_error *err)
{
	int lock = -1;
	int code = lock_exists(o) ? mg_dir_lock(o->data_dir, &lock, err) : 0;
	code = code || lock < 0 ? code : mg_reenter_finish(o->data_dir, err);
	mg_dir_unlock(lock);
	return code;
}

static int open_dir(struct opening *o, struct mg_error *err)
{
	int code = finish_reentering(o, err);
	bool member = mg_catalog_exists(o->data_dir), there = mg_dir_exists(o->data_dir);
	bool lock_there = lock_exists(o);
	code = code || member ? code : check_addresses(o, err);
	code = code ? code : check_join(o, member, err);
	if (!code) {
		code = mg_dir_make(o->data_dir, 0700, err);
	}
	if (!code) {
		code = mg_dir_lock(o->data_dir, &o->lock, err);
	}
	if (code) {
		return code;
	}
	code = mg_catalog_load(&o->catalog, o->data_dir, err);
	if (!code) {
		return check_complete(o, err);
	}
	if (code != MG_E_NOT_FOUND) {
		return code;
	}
	mg_error_clear(err);
	code = make_directory(o, err);
	if (code && o->options->join) {
		unmake_directory(o, there, lock_there);
	}
	return code ? code : mg_catalog_load(&o->catalog, o->data_dir, err);
}

int mg_server_open_dir(const struct mg_server_options *options, const char *data_dir, int *lock,
                       struct mg_catalog **catalog, struct mg_error *err)
{
	struct opening o = { .options = options, .data_dir = data_dir, .lock = -1 };
	int code = open_dir(&o, err);

	*lock = o.lock;
	*catalog = o.catalog;
	return code;
}
