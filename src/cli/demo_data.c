/*
 * demo_data.c - the folder of a demo and the sample data in it.
 *
 * The sample of a scale factor and shard count is made once, by `merganser bootstrap`, and kept in
 * the user's cache; a demo starts from a copy, with passwords of its own.
 */
#include "auth/auth.h"
#include "cli/demo.h"
#include "cli/demo_int.h"
#include "os/clock.h"
#include "os/file.h"
#include "store/duck.h"

#include "mg_version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "merganser-demo-"
#define LEFT_OVER_S 60 /* younger folders are left alone: their demo may not have its lock yet */

/* ---- folders --------------------------------------------------------------------------------- */

static const char *temp_root(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : "/tmp";
}

/* Folders of demos that were killed hard: nobody holds their lock. */
static void remove_left_overs(void)
{
	char **names = NULL;
	size_t count = 0;

	if (mg_dir_list(temp_root(), &names, &count, NULL)) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		char *path = mg_path_join(temp_root(), names[i]);
		char *keep = mg_path_join(path, "keep");
		struct stat info;
		int lock;

		if (strncmp(names[i], PREFIX, strlen(PREFIX)) == 0 && lstat(path, &info) == 0 &&
		    S_ISDIR(info.st_mode) && info.st_uid == geteuid() && !mg_file_exists(keep) &&
		    time(NULL) - info.st_mtime > LEFT_OVER_S && mg_dir_lock(path, &lock, NULL) == 0) {
			mg_tree_remove(path, NULL);
			mg_dir_unlock(lock);
		}
		mg_free(keep);
		mg_free(path);
	}
	mg_free(names);
}

int mg_demo__make_dir(struct mg_demo *demo, struct mg_error *err)
{
	remove_left_overs();
	demo->dir = mg_format("%s/" PREFIX "XXXXXX", temp_root());
	if (!mkdtemp(demo->dir)) {
		mg_free(demo->dir);
		demo->dir = NULL;
		return mg_error_errno(err, errno, "cannot make a folder in \"%s\"", temp_root());
	}
	demo->data_dir = mg_path_join(demo->dir, "data");
	demo->roots = mg_path_join(demo->data_dir, "tls/ca.crt");
	if (demo->options.keep) {
		char *keep = mg_path_join(demo->dir, "keep");

		mg_file_write(keep, "", 0, 0600, NULL);
		mg_free(keep);
	}
	return mg_dir_lock(demo->dir, &demo->lock, err);
}

/* ---- sample data ----------------------------------------------------------------------------- */

static int bootstrap(struct mg_demo *demo, const char *data_dir, struct mg_error *err)
{
	char *scale = mg_format("%.17g", demo->options.scale_factor);
	char *shards = mg_format("%u", demo->options.shard_count);
	char *kv_shards = mg_format("%u", demo->options.kv_shard_count);
	char *client = mg_format("MERGANSER_CLIENT_PASSWORD=%s", demo->password);
	char *worker = mg_format("MERGANSER_WORKER_PASSWORD=%s", demo->worker_password);
	const char *env[] = { client, worker, NULL };
	const char *argv[] = { demo->self,
		                   "bootstrap",
		                   "--data-dir",
		                   data_dir,
		                   "--client-username",
		                   "demo",
		                   "--tpch-scale-factor",
		                   scale,
		                   "--shard-count",
		                   shards,
		                   "--kv-shard-count",
		                   kv_shards,
		                   NULL };
	struct mg_demo_node child = { .name = "bootstrap" };
	int status = 0, code = mg_demo__start_child(demo, &child, argv, env, err);

	while (code == 0 && !mg_process_wait(&child.process, 50, &status)) {
		if (mg_demo__stopped(err)) {
			mg_process_stop(&child.process, STOP_MS);
			code = MG_E_CANCELLED;
		}
	}
	if (code == 0 && status != 0) {
		code = mg_demo__child_failed(demo, child.name, err);
		mg_error_set(err, MG_E_IO, "the sample data cannot be made: %s", err->detail);
	}
	mg_free(scale);
	mg_free(shards);
	mg_free(kv_shards);
	mg_free(client);
	mg_free(worker);
	return code;
}

static char *cache_root(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (cache && *cache) {
		return mg_format("%s/merganser/demo", cache);
	}
	return home && *home ? mg_format("%s/.cache/merganser/demo", home) : NULL;
}

static int copy_file(const char *from, const char *to, mode_t mode, struct mg_error *err)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), code = 0;
	int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	ssize_t moved = 1;

	if (in < 0 || out < 0) {
		code = mg_error_errno(err, errno, "cannot copy \"%s\"", from);
	}
	while (code == 0 && moved > 0) {
		moved = copy_file_range(in, NULL, out, NULL, 1u << 30, 0);
		if (moved < 0 &&
		    (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
			static char block[1u << 16];

			moved = read(in, block, sizeof block);
			if (moved > 0 && write(out, block, (size_t)moved) != moved) {
				moved = -1;
			}
		}
		if (moved < 0) {
			code = mg_error_errno(err, errno, "cannot copy \"%s\"", from);
		}
	}
	if (in >= 0) {
		close(in);
	}
	if (out >= 0) {
		close(out);
	}
	return code;
}

/* Depth is small: a data directory has folders of files. */
static int copy_tree(const char *from, const char *to, unsigned depth, struct mg_error *err)
{
	char **names = NULL;
	size_t count = 0;
	int code = mg_dir_make(to, 0700, err);

	if (code == 0) {
		code = mg_dir_list(from, &names, &count, err);
	}
	for (size_t i = 0; i < count && code == 0; i++) {
		char *source = mg_path_join(from, names[i]), *target = mg_path_join(to, names[i]);
		struct stat info;

		if (lstat(source, &info) != 0) {
			code = mg_error_errno(err, errno, "cannot read \"%s\"", source);
		} else if (S_ISDIR(info.st_mode) && depth < 4) {
			code = copy_tree(source, target, depth + 1, err);
		} else if (S_ISREG(info.st_mode) && strcmp(names[i], "node.lock") != 0) {
			code = copy_file(source, target, info.st_mode & 0777, err);
		}
		mg_free(source);
		mg_free(target);
	}
	mg_free(names);
	return code;
}

/* Passwords of a cached directory are of the demo that made it: give them new ones. */
static int renew_passwords(struct mg_demo *demo, struct mg_error *err)
{
	struct mg_catalog *catalog = NULL;
	int code = mg_catalog_load(&catalog, demo->data_dir, err);

	if (code == 0) {
		code = mg_user_create(catalog, "demo", demo->password, MG_ROLE_ADMIN, true, err);
	}
	if (code == 0) {
		code = mg_user_create(catalog, "worker", demo->worker_password, MG_ROLE_WORKER, true, err);
	}
	mg_catalog_free(catalog);
	return code;
}

static int fill_cache(struct mg_demo *demo, const char *cached, struct mg_error *err)
{
	char *draft = mg_format("%s.%d", cached, (int)getpid());
	int code = bootstrap(demo, draft, err);

	if (code == 0 && rename(draft, cached) != 0 && !mg_dir_exists(cached)) {
		code = mg_error_errno(err, errno, "cannot keep the sample data in \"%s\"", cached);
	}
	mg_tree_remove(draft, NULL);
	mg_free(draft);
	return code;
}

/* The same sample as other builds made it: one is kept, the newest. */
static void remove_older(const char *root, const char *sample, const char *cached)
{
	char **names = NULL;
	size_t count = 0, len = strlen(sample);

	if (mg_dir_list(root, &names, &count, NULL)) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		char *path = mg_path_join(root, names[i]);
		size_t name_len = strlen(names[i]);
		struct stat info;

		if (name_len > len && strcmp(names[i] + name_len - len, sample) == 0 &&
		    strcmp(path, cached) != 0 && stat(path, &info) == 0 && S_ISDIR(info.st_mode) &&
		    time(NULL) - info.st_mtime > LEFT_OVER_S) {
			mg_tree_remove(path, NULL);
		}
		mg_free(path);
	}
	mg_free(names);
}

int mg_demo__make_data(struct mg_demo *demo, struct mg_error *err)
{
	uint64_t started = mg_clock_ms();
	char *root = cache_root(), *cached, *sample;
	int code;

	if (!root || mg_dir_make(root, 0700, NULL)) {
		mg_free(root);
		code = bootstrap(demo, demo->data_dir, err);
		demo->data_s = (double)(mg_clock_ms() - started) / 1000;
		return code;
	}
	sample = mg_format("-sf%g-shards%u", demo->options.scale_factor, demo->options.shard_count);
	cached = mg_format("%s/%s-%s-%s-kv%u%s", root, MG_VERSION, MG_COMMIT, mg_duck_version(),
	                   demo->options.kv_shard_count, sample);
	code = mg_dir_exists(cached) ? 0 : fill_cache(demo, cached, err);
	if (code == 0) {
		remove_older(root, sample, cached);
	}
	if (code == 0) {
		code = copy_tree(cached, demo->data_dir, 0, err);
	}
	if (code == 0) {
		code = renew_passwords(demo, err);
	}
	demo->reference = mg_format("%s/plain-%s-sf%g.duckdb", root, mg_duck_version(),
	                            demo->options.scale_factor);
	demo->data_s = (double)(mg_clock_ms() - started) / 1000;
	mg_free(cached);
	mg_free(sample);
	mg_free(root);
	return code;
}

