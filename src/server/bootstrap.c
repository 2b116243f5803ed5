/*
 * bootstrap.c - the making of a data directory, in an order that a kill at any point cannot spoil.
 *
 *   1  log/catalog.json   cluster id, shards with their slots, the sample that is wanted; no file
 * has a hash yet 2  tls/               CA, server certificate, join secret: each made when it is
 * not there 3  users              in the catalog 4  shards/            files are made under another
 * name, renamed when complete, closed and synced 5  log/catalog.json   hashes, sizes, rows, tables:
 * from now on the directory is complete
 *
 * A file that has its right name is whole, so after a kill between 4 and 5 it is recognised by its
 * own meta table and kept.  A file whose hash does not agree with the catalog is made again.
 *
 * owner: the caller's thread; the directory's lock keeps others out.
 */
#include "server/bootstrap.h"

#include "auth/auth.h"
#include "codec/slot.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "server/sample.h"

#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARDS_DEFAULT 11
#define SCALE_MAX 100000.0
#define MEMORY_MIN (512ull << 20)
#define MEMORY_MAX (4ull << 30)

/* What a sample's text says. */
struct sample {
	double tpch, tpcds; /* scale factors; 0: none */
	bool ssb;
};

struct run {
	const struct mg_bootstrap_options *options;
	struct mg_bootstrap_report *report;
	struct mg_arena *arena;
	struct mg_catalog *catalog;
	const char *sample; /* as it shall be: "", "tpch 1", "tpch 1 ssb", "tpch 1 ssb tpcds 0.1" */
	struct sample sample_parts;
};

static const char *in_dir(struct run *run, const char *name)
{
	return mg_arena_format(run->arena, "%s/%s", run->options->data_dir, name);
}

static void report(struct run *run, const char *step, double done)
{
	if (run->options->progress) {
		run->options->progress(run->options->arg, step, done);
	}
}

/* ---- 1: the catalog's first version ---- */

/* The shortest text that reads back as the same number. */
static void scale_text(char number[32], double scale_factor)
{
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(number, 32, "%.*g", digits, scale_factor);
		if (strtod(number, NULL) >= scale_factor && strtod(number, NULL) <= scale_factor) {
			break;
		}
	}
}

static const char *sample_text(struct mg_arena *arena, const struct sample *sample)
{
	char number[32] = "";
	const char *text = "";
	if (sample->tpch > 0) {
		scale_text(number, sample->tpch);
		text = mg_arena_format(arena, "tpch %s%s", number, sample->ssb ? " ssb" : "");
	}
	if (sample->tpcds > 0) {
		scale_text(number, sample->tpcds);
		text = mg_arena_format(arena, "%s%stpcds %s", text, *text ? " " : "", number);
	}
	return text;
}

/* Read back what sample_text wrote. */
static struct sample sample_parse(const char *text)
{
	struct sample sample = { 0 };
	if (strncmp(text, "tpch ", 5) == 0) {
		sample.tpch = strtod(text + 5, NULL);
	}
	sample.ssb = strstr(text, " ssb") != NULL;
	const char *tpcds = strstr(text, "tpcds ");
	if (tpcds) {
		sample.tpcds = strtod(tpcds + 6, NULL);
	}
	return sample;
}

static struct sample sample_asked(const struct mg_bootstrap_options *options)
{
	return (struct sample){ options->tpch_scale_factor, options->tpcds_scale_factor, options->ssb };
}

static bool scale_is_usable(double scale_factor)
{
	return isfinite(scale_factor) && scale_factor >= 0 && scale_factor <= SCALE_MAX;
}

static int options_check(const struct mg_bootstrap_options *options, struct mg_error *err)
{
	if (!options->data_dir || !*options->data_dir) {
		return mg_error_set(err, MG_E_USAGE, "the data directory has no name");
	}
	if (options->shard_count > MG_BOOTSTRAP_SHARDS_MAX) {
		return mg_error_set(err, MG_E_USAGE, "the number of shards must be between 1 and %d",
		                    MG_BOOTSTRAP_SHARDS_MAX);
	}
	if (options->kv_shard_count > MG_BOOTSTRAP_SHARDS_MAX) {
		return mg_error_set(err, MG_E_USAGE,
		                    "the number of shards of keys must be between 0 and %d",
		                    MG_BOOTSTRAP_SHARDS_MAX);
	}
	if (!scale_is_usable(options->tpch_scale_factor) ||
	    !scale_is_usable(options->tpcds_scale_factor)) {
		return mg_error_set(err, MG_E_USAGE, "the scale factor must be between 0 and %.0f",
		                    SCALE_MAX);
	}
	if (options->ssb && options->tpch_scale_factor <= 0) {
		return mg_error_set(err, MG_E_USAGE,
		                    "SSB is made from TPC-H, which needs a scale factor above 0");
	}
	if (options->client_username &&
	    (!*options->client_username || strlen(options->client_username) >= MG_BOOTSTRAP_TEXT)) {
		return mg_error_set(err, MG_E_USAGE, "the user name must have between 1 and %d characters",
		                    MG_BOOTSTRAP_TEXT - 1);
	}
	const char *given[] = { options->client_password, options->worker_password,
		                    options->join_password };
	for (size_t i = 0; i < 3; i++) {
		if (given[i] && !*given[i]) {
			return mg_error_set(err, MG_E_USAGE, "a password must not be empty");
		}
	}
	if (options->client_username && strcmp(options->client_username, "worker") == 0) {
		mg_error_set(err, MG_E_USAGE, "the user \"worker\" is made for workers");
		mg_error_hint(err, "Choose another --client-username.");
		return MG_E_USAGE;
	}
	return 0;
}

static int layout_change(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                         struct mg_error *err)
{
	struct run *run = arg;
	uint32_t count = run->options->shard_count ? run->options->shard_count : SHARDS_DEFAULT;
	(void)err;
	data->shard_count = count;
	data->kv_shards = run->options->no_keys          ? 0
	                  : run->options->kv_shard_count ? run->options->kv_shard_count
	                                                 : MG_BOOTSTRAP_KV_SHARDS;
	data->shards = mg_arena_new_array(arena, struct mg_shard, count + 1);
	data->sample = mg_arena_strdup(arena, run->sample);
	for (uint32_t i = 0; i <= count; i++) {
		struct mg_shard *shard = &data->shards[i];
		shard->id = i;
		shard->file = mg_shard_file_name(arena, i);
		shard->engine_version = mg_duck_version();
		shard->file_format = MG_FILE_FORMAT;
		if (i > 0) {
			shard->slot_first = mg_slot_first(i - 1, count);
			shard->slot_last = (uint16_t)(i == count ? MG_SLOTS - 1 : mg_slot_first(i, count) - 1);
		}
	}
	return 0;
}

/* Another sample than before: all files are to be made again. */
static int sample_change(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                         struct mg_error *err)
{
	struct run *run = arg;
	(void)err;
	data->sample = mg_arena_strdup(arena, run->sample);
	data->table_count = 0;
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		data->shards[i].sha256[0] = '\0';
		data->shards[i].rows = data->shards[i].bytes = 0;
	}
	return 0;
}

static int check_counts(const struct mg_bootstrap_options *options,
                        const struct mg_catalog_data *data, struct mg_error *err)
{
	bool other_keys = options->no_keys ? data->kv_shards > 0
	                                   : options->kv_shard_count &&
	                                         options->kv_shard_count != data->kv_shards;

	if (options->shard_count && options->shard_count != data->shard_count) {
		mg_error_set(err, MG_E_USAGE, "\"%s\" has %u shards, not %u", options->data_dir,
		             data->shard_count, options->shard_count);
		mg_error_hint(err, "Leave --shard-count out, or use --overwrite to start anew.");
		return MG_E_USAGE;
	}
	if (other_keys) {
		mg_error_set(err, MG_E_USAGE, "\"%s\" has %u shards of keys, not %u", options->data_dir,
		             data->kv_shards, options->no_keys ? 0 : options->kv_shard_count);
		mg_error_hint(err, data->kv_shards
		                       ? "Leave --kv-shard-count out, or use --overwrite to start anew."
		                       : "A running cluster gets them by merganser cluster enable-keys.");
		return MG_E_USAGE;
	}
	return 0;
}

/* What is there decides; the options may only add to it. */
static int sample_choose(struct run *run, const struct mg_catalog_data *data, struct mg_error *err)
{
	const struct mg_bootstrap_options *options = run->options;
	const struct sample there = sample_parse(data->sample);
	const struct sample asked = sample_asked(options);
	run->sample_parts = there;
	run->sample = mg_arena_strdup(run->arena, data->sample);
	if (check_counts(options, data, err)) {
		return MG_E_USAGE;
	}
	struct sample both = {
		.tpch = asked.tpch > 0 ? asked.tpch : there.tpch,
		.tpcds = asked.tpcds > 0 ? asked.tpcds : there.tpcds,
		.ssb = asked.ssb || there.ssb,
	};
	const char *wanted = sample_text(run->arena, &both);
	if (strcmp(wanted, data->sample) == 0) {
		return 0;
	}
	/* With what is there alone, the sizes asked for would be the same text. */
	struct sample kept = {
		.tpch = there.tpch > 0 ? both.tpch : 0,
		.tpcds = there.tpcds > 0 ? both.tpcds : 0,
		.ssb = there.ssb,
	};
	const char *same_scale = sample_text(run->arena, &kept);
	bool other_tables = *data->sample == '\0' && data->table_count > 0;
	if (other_tables || (*data->sample && strcmp(same_scale, data->sample) != 0)) {
		mg_error_set(err, MG_E_USAGE, "\"%s\" holds %s already, not %s", options->data_dir,
		             other_tables ? "tables" : data->sample, wanted);
		mg_error_hint(err, "Use --overwrite to start anew.");
		return MG_E_USAGE;
	}
	run->sample = wanted;
	run->sample_parts = both;
	run->report->changed = true;
	return mg_catalog_change(run->catalog, sample_change, run, err);
}

/* The catalog is written before any file: files without it have lost it, and a new cluster's would
 * take their place. */
static int check_lost(const struct run *run, struct mg_error *err)
{
	const char *dir = run->options->data_dir;
	char *path = mg_path_join(dir, "shards/0000.duckdb");
	bool lost = mg_file_exists(path);
	mg_free(path);
	if (!lost) {
		return 0;
	}
	mg_error_set(err, MG_E_CORRUPT, "\"%s\" has shard files but no \"log/catalog.json\"", dir);
	mg_error_hint(err, "Put the catalog back, or choose another --data-dir; \"merganser bootstrap "
	                   "--overwrite\" begins anew and removes the data.");
	return MG_E_CORRUPT;
}

static int catalog_open(struct run *run, struct mg_error *err)
{
	int rc = mg_catalog_load(&run->catalog, run->options->data_dir, err);
	if (rc == MG_E_NOT_FOUND && check_lost(run, err) != 0) {
		return MG_E_CORRUPT;
	}
	if (rc == 0) {
		const struct mg_catalog_data *data = mg_catalog_take(run->catalog);
		rc = sample_choose(run, data, err);
		mg_catalog_give(run->catalog, data);
		return rc;
	}
	if (rc != MG_E_NOT_FOUND) {
		return rc;
	}
	mg_error_clear(err);
	run->sample_parts = sample_asked(run->options);
	run->sample = sample_text(run->arena, &run->sample_parts);
	run->report->changed = true;
	rc = mg_catalog_new(&run->catalog, run->options->data_dir, err);
	return rc == 0 ? mg_catalog_change(run->catalog, layout_change, run, err) : rc;
}

static int start_anew(struct run *run, struct mg_error *err)
{
	static const char *const trees[] = { "shards", "log", "tls", "kv" };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof trees / sizeof *trees; i++) {
		rc = mg_tree_remove(in_dir(run, trees[i]), err);
	}
	return rc;
}

static int dirs_make(struct run *run, struct mg_error *err)
{
	static const char *const dirs[] = { "log", "shards", "tls", "kv" };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++) {
		rc = mg_dir_make(in_dir(run, dirs[i]), 0700, err);
	}
	return rc;
}

/* ---- 2: keys ---- */

static bool is_address(const char *text)
{
	unsigned char bytes[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static int server_certificate(struct run *run, bool overwrite, struct mg_error *err)
{
	char host[256] = "";
	const char *dns[4] = { "localhost" };
	const char *ips[4] = { "127.0.0.1", "::1" };
	size_t dns_count = 1;
	if (gethostname(host, sizeof host - 1) == 0 && *host && strcmp(host, "localhost") != 0) {
		dns[dns_count++] = host;
	}
	const char *extra = run->options->host;
	if (extra && is_address(extra)) {
		ips[2] = extra;
	} else if (extra && *extra && strcmp(extra, host) != 0 && strcmp(extra, "localhost") != 0) {
		dns[dns_count] = extra;
	}
	struct mg_cert_names names = { .common_name = "merganser server", .dns = dns, .ips = ips };
	return mg_cert_server_create(in_dir(run, "tls/server.crt"), in_dir(run, "tls/server.key"),
	                             in_dir(run, "tls/ca.crt"), in_dir(run, "tls/ca.key"), NULL, &names,
	                             overwrite, err);
}

static int keys_make(struct run *run, struct mg_error *err)
{
	const char *ca_cert = in_dir(run, "tls/ca.crt");
	const char *ca_key = in_dir(run, "tls/ca.key");
	bool ca_there = mg_file_exists(ca_cert) && mg_file_exists(ca_key);
	bool server_there = mg_file_exists(in_dir(run, "tls/server.crt")) &&
	                    mg_file_exists(in_dir(run, "tls/server.key"));
	int rc = 0;
	if (server_there && mg_file_exists(ca_cert)) {
		/* A directory given its certificates from outside may lack the CA's key. */
		return 0;
	}
	run->report->changed = true;
	if (!ca_there) {
		run->report->keys_made = true;
		rc = mg_cert_ca_create(ca_cert, ca_key, "merganser CA", NULL, true, err);
	}
	if (rc == 0) {
		rc = server_certificate(run, true, err);
	}
	return rc;
}

static int join_secret_make(struct run *run, struct mg_error *err)
{
	const char *path = in_dir(run, "tls/join.secret");
	const char *password = run->options->join_password;
	if (mg_file_exists(path)) {
		return 0;
	}
	if (!password) {
		mg_password_generate(run->report->join_password, sizeof run->report->join_password);
		password = run->report->join_password;
	}
	run->report->changed = true;
	return mg_file_write(path, password, strlen(password), 0600, err);
}

/* ---- 3: users ---- */

/* generated: where a password is put that nobody gave. */
static int user_make(struct run *run, const char *name, const char *password, char *generated,
                     enum mg_role role, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(run->catalog);
	bool there = mg_catalog_find_user(data, name) != NULL;
	mg_catalog_give(run->catalog, data);
	if (there) {
		return 0;
	}
	if (!password) {
		mg_password_generate(generated, MG_BOOTSTRAP_TEXT);
		password = generated;
	}
	run->report->changed = true;
	return mg_user_create(run->catalog, name, password, role, false, err);
}

/* A second admin is made only when asked for by name. */
static int users_make(struct run *run, struct mg_error *err)
{
	const struct mg_bootstrap_options *options = run->options;
	const char *name = options->client_username ? options->client_username : "admin";
	const struct mg_catalog_data *data = mg_catalog_take(run->catalog);
	bool admin_there = false;
	for (size_t i = 0; i < data->user_count; i++) {
		admin_there = admin_there || data->users[i].role == MG_ROLE_ADMIN;
	}
	mg_catalog_give(run->catalog, data);
	int rc = 0;
	if (options->client_username || !admin_there) {
		snprintf(run->report->client_username, sizeof run->report->client_username, "%s", name);
		rc = user_make(run, name, options->client_password, run->report->client_password,
		               MG_ROLE_ADMIN, err);
	}
	if (rc == 0) {
		rc = user_make(run, "worker", options->worker_password, run->report->worker_password,
		               MG_ROLE_WORKER, err);
	}
	return rc;
}

/* ---- 4 and 5: shard files ---- */

/* Which files are as the catalog says; by threads, since hashing is all the work. */
struct check {
	struct run *run;
	const struct mg_catalog_data *data;
	bool *wanted;
	atomic_uint next;
	atomic_uint done;
	pthread_mutex_t lock;
};

static bool file_is_good(const struct run *run, const struct mg_shard *shard)
{
	char *path = mg_path_join(run->options->data_dir, shard->file);
	char sha256[MG_SHA256_TEXT_SIZE] = "";
	uint64_t bytes = 0;
	bool good = shard->sha256[0] != '\0' && mg_file_exists(path) &&
	            mg_file_size(path, &bytes, NULL) == 0 && bytes == shard->bytes &&
	            mg_file_sha256(path, sha256, NULL) == 0 && strcmp(sha256, shard->sha256) == 0;
	mg_free(path);
	return good;
}

static void *check_run(void *arg)
{
	struct check *check = arg;
	uint32_t count = check->data->shard_count + 1;
	for (uint32_t i; (i = atomic_fetch_add(&check->next, 1)) < count;) {
		check->wanted[i] = !file_is_good(check->run, &check->data->shards[i]);
		uint32_t done = atomic_fetch_add(&check->done, 1) + 1;
		pthread_mutex_lock(&check->lock);
		report(check->run, "check", (double)done / count);
		pthread_mutex_unlock(&check->lock);
	}
	return NULL;
}

static void files_check(struct run *run, const struct mg_catalog_data *data, bool *wanted,
                        unsigned threads)
{
	struct check check = { .run = run, .data = data, .wanted = wanted };
	pthread_t helpers[8];
	unsigned started = 0;
	pthread_mutex_init(&check.lock, NULL);
	while (started + 1 < threads && started < 8 &&
	       pthread_create(&helpers[started], NULL, check_run, &check) == 0) {
		started++;
	}
	check_run(&check);
	while (started > 0) {
		pthread_join(helpers[--started], NULL);
	}
	pthread_mutex_destroy(&check.lock);
}

/* Whole files that the catalog does not know yet: a kill came before it was told. */
static void files_adopt(const struct run *run, const struct mg_sample_options *sample, bool *wanted,
                        struct mg_sample_file *files)
{
	for (uint32_t i = 0; i <= sample->meta.shard_count; i++) {
		struct mg_shard_meta meta = sample->meta;
		char *path = mg_path_join(run->options->data_dir, sample->shards[i].file);
		meta.shard = i;
		meta.slot_first = sample->shards[i].slot_first;
		meta.slot_last = sample->shards[i].slot_last;
		if (wanted[i] && sample->shards[i].sha256[0] == '\0' &&
		    mg_shard_file_matches(sample->duck, run->options->data_dir, &meta) &&
		    mg_file_size(path, &files[i].bytes, NULL) == 0 &&
		    mg_file_sha256(path, files[i].sha256, NULL) == 0) {
			wanted[i] = false;
		}
		mg_free(path);
	}
}

struct finish {
	const struct mg_sample_options *sample;
	const struct mg_sample_file *files; /* sha256 "": as it was */
	const uint64_t *shard_rows;
	const struct mg_table *tables;
	size_t table_count;
};

static int finish_change(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                         struct mg_error *err)
{
	struct finish *finish = arg;
	(void)err;
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		struct mg_shard *shard = &data->shards[i];
		shard->rows = finish->shard_rows[i];
		if (finish->files[i].sha256[0]) {
			memcpy(shard->sha256, finish->files[i].sha256, sizeof shard->sha256);
			shard->bytes = finish->files[i].bytes;
			shard->engine_version = mg_duck_version();
			shard->file_format = MG_FILE_FORMAT;
			mg_clock_format(mg_clock_wall_ms(), shard->created);
		}
	}
	/* Tables of others stay; those of the sample are replaced. */
	size_t kept = 0;
	struct mg_table *tables =
		mg_arena_new_array(arena, struct mg_table, data->table_count + finish->table_count + 1);
	for (size_t i = 0; i < data->table_count; i++) {
		bool ours = false;
		for (size_t k = 0; k < finish->table_count; k++) {
			ours = ours || (mg_text_eq_nocase(data->tables[i].schema, finish->tables[k].schema) &&
			                mg_text_eq_nocase(data->tables[i].name, finish->tables[k].name));
		}
		if (!ours) {
			tables[kept++] = data->tables[i];
		}
	}
	memcpy(tables + kept, finish->tables, finish->table_count * sizeof *tables);
	data->tables = tables;
	data->table_count = kept + finish->table_count;
	return 0;
}

/* Half of the memory is for those who generate, half for the engine that stores. */
static int engine_open(const struct run *run, struct mg_sample_options *sample,
                       struct mg_error *err)
{
	uint64_t memory = run->options->memory_bytes;
	if (memory == 0) {
		memory = mg_os_memory_bytes() / 4;
		memory = memory > MEMORY_MAX ? MEMORY_MAX : memory < MEMORY_MIN ? MEMORY_MIN : memory;
	}
	sample->child_bytes = memory / 2;
	struct mg_duck_options options = {
		.threads = sample->threads,
		.memory_bytes = memory - sample->child_bytes,
		.spill_dir = sample->spill_dir,
	};
	int rc = mg_duck_open(&sample->duck, &options, err);
	return rc == 0 ? mg_duck_load_tpch(sample->duck, err) : rc;
}

/* Names in shards/ that end in ".new...": half-made files and spilled rows of a run that was
 * killed. */
static int leftovers_remove(struct run *run, struct mg_error *err)
{
	const char *dir = in_dir(run, "shards");
	char **names = NULL;
	size_t count = 0;
	int rc = mg_dir_list(dir, &names, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (strstr(names[i], ".new")) {
			rc = mg_tree_remove(mg_arena_format(run->arena, "%s/%s", dir, names[i]), err);
		}
	}
	mg_free(names);
	return rc;
}

static int files_make(struct run *run, const struct mg_catalog_data *data,
                      struct mg_sample_options *sample, bool *wanted, struct mg_error *err)
{
	uint32_t count = data->shard_count + 1;
	struct mg_sample_file *files = mg_arena_new_array(run->arena, struct mg_sample_file, count);
	struct mg_table *tables = NULL;
	struct finish finish = { .sample = sample, .files = files };
	uint64_t *shard_rows = mg_arena_new_array(run->arena, uint64_t, count);
	files_adopt(run, sample, wanted, files);
	uint32_t missing = 0;
	for (uint32_t i = 0; i < count; i++) {
		missing += wanted[i];
	}
	sample->wanted = wanted;
	int rc = missing > 0 ? mg_sample_make(sample, files, err) : 0;
	if (rc == 0) {
		rc = mg_sample_tables(sample, run->arena, &tables, &finish.table_count, shard_rows, err);
	}
	if (rc == 0) {
		finish.tables = tables;
		finish.shard_rows = shard_rows;
		rc = mg_catalog_change(run->catalog, finish_change, &finish, err);
		run->report->changed = true;
		run->report->shards_made = missing;
	}
	return rc;
}

static int shards_make(struct run *run, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(run->catalog);
	unsigned threads = run->options->threads ? run->options->threads : mg_os_cores();
	bool *wanted = mg_arena_new_array(run->arena, bool, data->shard_count + 1);
	bool any = false;
	struct mg_sample_options sample = {
		.data_dir = run->options->data_dir,
		.scale_factor = run->sample_parts.tpch,
		.ssb = run->sample_parts.ssb,
		.tpcds_scale_factor = run->sample_parts.tpcds,
		.threads = threads,
		.spill_dir = in_dir(run, "shards/spill.new"),
		.layout_row_groups = run->options->layout_row_groups,
		.meta = {
			.cluster_id = data->cluster_id,
			.sample = data->sample,
			.shard_count = data->shard_count,
			.file_format = MG_FILE_FORMAT,
			.catalog_version = data->version,
		},
		.shards = data->shards,
		.progress = run->options->progress,
		.arg = run->options->arg,
		.stop = run->options->stop,
	};
	int rc = leftovers_remove(run, err);
	if (rc == 0) {
		files_check(run, data, wanted, threads);
	}
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		any = any || wanted[i];
	}
	if (rc == 0 && any && mg_dir_exists(in_dir(run, "log/raft"))) {
		/* What was written since lies in the file that is gone: the sample would not be it. */
		rc = mg_error_set(err, MG_E_CORRUPT,
		                  "a shard file of \"%s\" is missing or damaged, and the cluster has been "
		                  "in use: loading the sample again would lose what was written",
		                  run->options->data_dir);
		mg_error_hint(err, "Put the file back from a backup; --overwrite begins anew and removes "
		                   "the data.");
	}
	/* Every shard file is open while the data are made. */
	if (rc == 0 && any && mg_os_files_raise() < data->shard_count + 64) {
		rc = mg_error_set(err, MG_E_LIMIT,
		                  "%u shards need more open files than this process may have",
		                  data->shard_count);
		mg_error_hint(err, "Raise the limit with ulimit -n, or use fewer shards.");
	}
	if (rc == 0 && any) {
		rc = engine_open(run, &sample, err);
		if (rc == 0) {
			rc = files_make(run, data, &sample, wanted, err);
		}
		mg_duck_close(sample.duck);
		struct mg_error ignored;
		(void)leftovers_remove(run, &ignored);
	}
	mg_catalog_give(run->catalog, data);
	return rc;
}

/* ---- all of it ---- */

static void totals(struct run *run)
{
	const struct mg_catalog_data *data = mg_catalog_take(run->catalog);
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		run->report->rows += data->shards[i].rows;
		run->report->bytes += data->shards[i].bytes;
	}
	run->report->shards_kept = data->shard_count + 1 - run->report->shards_made;
	mg_catalog_give(run->catalog, data);
}

static int run_all(struct run *run, struct mg_error *err)
{
	int rc = 0;
	if (run->options->overwrite) {
		run->report->changed = true;
		rc = start_anew(run, err);
	}
	if (rc == 0) {
		rc = dirs_make(run, err);
	}
	if (rc == 0) {
		rc = catalog_open(run, err);
	}
	report(run, "keys", 0);
	if (rc == 0) {
		rc = keys_make(run, err);
	}
	if (rc == 0) {
		rc = join_secret_make(run, err);
	}
	report(run, "users", 0);
	if (rc == 0) {
		rc = users_make(run, err);
	}
	if (rc == 0) {
		rc = shards_make(run, err);
	}
	if (rc == 0) {
		totals(run);
	}
	return rc;
}

int mg_bootstrap_run(const struct mg_bootstrap_options *options, struct mg_bootstrap_report *out,
                     struct mg_error *err)
{
	struct run run = { .options = options, .report = out };
	uint64_t start = mg_clock_ms();
	int lock = -1;
	memset(out, 0, sizeof *out);
	int rc = options_check(options, err);
	if (rc == 0) {
		rc = mg_dir_make(options->data_dir, 0700, err);
	}
	if (rc == 0) {
		rc = mg_dir_lock(options->data_dir, &lock, err);
	}
	if (rc == 0) {
		run.arena = mg_arena_new();
		rc = run_all(&run, err);
		if (rc == MG_E_DISK_FULL && err && !*err->hint) {
			mg_error_hint(err, "Make space and run bootstrap again: it makes what is missing.");
		}
		mg_catalog_free(run.catalog);
		mg_arena_free(run.arena);
	}
	mg_dir_unlock(lock);
	out->millis = mg_clock_ms() - start;
	return rc;
}

void mg_bootstrap_print_passwords(const struct mg_bootstrap_report *r, FILE *out)
{
	if (!*r->client_password && !*r->worker_password && !*r->join_password) {
		return;
	}
	fprintf(out, "These passwords were generated and are shown only this once:\n");
	if (*r->client_password) {
		fprintf(out, "  user %-12s %s\n", r->client_username, r->client_password);
	}
	if (*r->worker_password) {
		fprintf(out, "  user %-12s %s\n", "worker", r->worker_password);
	}
	if (*r->join_password) {
		fprintf(out, "  %-17s %s\n", "servers join with", r->join_password);
	}
}

bool mg_bootstrap_complete(const struct mg_catalog_data *data)
{
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		if (data->shards[i].sha256[0] == '\0') {
			return false;
		}
	}
	return true;
}
