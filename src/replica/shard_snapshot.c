/*
 * shard_snapshot.c - the snapshots of a shard: checkpoints, copies for others, and theirs adopted.
 *
 *     freeze   checkpoint: the file holds the state at the index, in place
 *     copy     shards/snap-NNNN-INDEX.duckdb, when somebody asks for that index and the file still
 *              holds it
 *     pull     shards/pull-NNNN.part -> checked -> shards/pull-NNNN-INDEX.duckdb
 *     adopt    writer closed, file detached -> pull-NNNN-INDEX renamed over NNNN -> attached,
 * opened
 *
 * Rule: between two checkpoints the engine writes only to blocks that the file's last checkpoint
 * does not refer to, so a copy made meanwhile holds exactly that checkpoint; file_lock keeps
 * checkpoints out while it is made.  Adopting replaces the file by one rename: a crash before it
 * leaves the old state and the pulled file, for which the group asks again; after it, the new
 * state.
 *
 * Opening the file here and closing it drops the engine's own lock on it, as POSIX has it: the lock
 * of the data directory keeps other processes out.
 *
 * owner: freeze, adopt: the lane; copy: the source's thread; check: the puller's.
 */
#include "replica/shard_sm_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "catalog/catalog.h"
#include "os/file.h"
#include "store/shard_file.h"
#include "store/shard_undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ATTACH_TRIES = 500, ATTACH_REST_MS = 10, GATE_REST_MS = 500, FILE_TRIES = 20 };

static struct mg_shard_sm *of(struct mg_sm *seam)
{
	return (struct mg_shard_sm *)seam;
}

char *mg_shard_sm__file_path(const struct mg_shard_sm *sm)
{
	return mg_format("%s/shards/%04" PRIu32 ".duckdb", sm->options.dir, sm->options.shard);
}

static char *copy_path(const struct mg_shard_sm *sm, uint64_t index)
{
	return mg_format("%s/shards/snap-%04" PRIu32 "-%" PRIu64 ".duckdb", sm->options.dir,
	                 sm->options.shard, index);
}

static char *pulled_path(const struct mg_shard_sm *sm, uint64_t index)
{
	return mg_format("%s/shards/pull-%04" PRIu32 "-%" PRIu64 ".duckdb", sm->options.dir,
	                 sm->options.shard, index);
}

/* ---- checkpoints ---- */

static int commit_index(struct mg_shard_sm *sm, struct mg_error *err)
{
	if (sm->index <= mg_shard_writer_applied(sm->writer)) {
		return 0;
	}
	int code = mg_shard_writer_begin(sm->writer, err);

	code = code ? code : mg_shard_writer_commit(sm->writer, sm->index, sm->term, err);
	if (code) {
		mg_shard_writer_rollback(sm->writer);
	} else {
		mg_follow_log_end(sm->follow, sm->index, sm->term);
	}
	return code;
}

/* Under file_lock. */
static void note_checkpoint(struct mg_shard_sm *sm)
{
	sm->checkpointed = mg_shard_writer_applied(sm->writer);
	sm->checkpointed_term = mg_shard_writer_term(sm->writer);
	sm->checkpoint_known = true;
}

/* A copy of a large file takes long where blocks cannot be shared: the lane does not wait for it.
 */
static bool lock_file(struct mg_shard_sm *sm)
{
	const struct timespec rest = { .tv_nsec = 1000000L };
	bool locked = false;

	for (int i = 0; !locked && i < FILE_TRIES; i++) {
		locked = pthread_mutex_trylock(&sm->file_lock) == 0;
		if (!locked) {
			(void)nanosleep(&rest, NULL);
		}
	}
	return locked;
}

static int write_file(struct mg_shard_sm *sm, const struct mg_buf *pending, struct mg_error *err)
{
	mg_changes_log_sync(sm->changes, sm->index);
	if (!lock_file(sm)) {
		return mg_error_set(err, MG_E_BUSY, "a copy of the file is being made");
	}
	char *path = sm->options.dir ? mg_shard_sm__file_path(sm) : NULL;
	int code = mg_shard_writer_checkpoint(sm->writer, pending ? pending->data : NULL,
	                                      pending ? pending->size : 0, path, err);

	mg_free(path);
	if (!code) {
		note_checkpoint(sm);
	} else if (code != MG_E_BUSY) { /* what a failed one has left is not known */
		sm->checkpoint_known = false;
	}
	pthread_mutex_unlock(&sm->file_lock);
	return code;
}

static int write_checkpoint(struct mg_shard_sm *sm, struct mg_error *err)
{
	bool nothing = sm->part_count == 0 && sm->decision_count == 0 && sm->fence_count == 0;
	struct mg_buf *pending = nothing ? NULL : mg_shard_sm__encode_pending(sm);
	int code = nothing || pending ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for a checkpoint");

	code = code ? code : commit_index(sm, err);
	code = code ? code : write_file(sm, pending, err);
	mg_buf_unref(pending);
	if (!code) {
		pthread_mutex_lock(&sm->lock);
		sm->dirty = false;
		pthread_mutex_unlock(&sm->lock);
	}
	return code;
}

static void tell_frozen(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_group *group = mg_shard_sm__group(sm);
	char manifest[64];
	int size = snprintf(manifest, sizeof manifest, "{\"shard\":%" PRIu32 ",\"index\":%" PRIu64 "}",
	                    sm->options.shard, sm->index);

	if (group) {
		mg_group_frozen(group, sm->frozen, manifest, (size_t)size);
	}
}

static void freeze_now(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_error err = { 0 };

	/* What the group has given is in it. */
	sm->frozen = mg_shard_sm__drain(sm);
	sm->frozen = sm->frozen ? sm->frozen : write_checkpoint(sm, &err);
	if (sm->frozen == MG_E_BUSY) {
		mg_shard_check_hurry(sm->check); /* it may be the reader in the way */
	} else if (sm->frozen) {
		pthread_mutex_lock(&sm->lock);
		sm->freezes_failed++;
		sm->freeze_failure = err.code ? err : sm->failure; /* what was accepted failed */
		pthread_mutex_unlock(&sm->lock);
	}
	if (sm->frozen && err.code) {
		mg_log(sm->frozen == MG_E_BUSY ? MG_LOG_INFO : MG_LOG_ERROR, "shard.checkpoint",
		       "shard=%" PRIu32 " error=\"%s\"", sm->options.shard, err.message);
	}
	mg_raft_host_post(sm->options.host, tell_frozen, sm);
}

uint64_t mg_shard_sm_freezes_failed(struct mg_shard_sm *sm, struct mg_error *err)
{
	pthread_mutex_lock(&sm->lock);
	uint64_t failed = sm->freezes_failed;

	*err = failed ? sm->freeze_failure : *err;
	pthread_mutex_unlock(&sm->lock);
	return failed;
}

void mg_shard_sm__freeze(struct mg_sm *seam)
{
	struct mg_shard_sm *sm = of(seam);

	mg_lane_run(sm->lane, freeze_now, sm);
}

bool mg_shard_sm_file_state(struct mg_shard_sm *sm, uint64_t *index, uint64_t *term)
{
	pthread_mutex_lock(&sm->file_lock);
	bool known = sm->checkpoint_known;

	*index = sm->checkpointed;
	*term = sm->checkpointed_term;
	pthread_mutex_unlock(&sm->file_lock);
	return known;
}

int mg_shard_sm_read_file(struct mg_shard_sm *sm, uint64_t index,
                          int (*read)(void *arg, struct mg_error *err), void *arg,
                          struct mg_error *err)
{
	pthread_mutex_lock(&sm->file_lock);
	int code = sm->checkpoint_known && sm->checkpointed == index
	               ? read(arg, err)
	               : mg_error_set(err, MG_E_NOT_FOUND,
	                              "the file of shard %" PRIu32 " is not at index %" PRIu64
	                              " any more",
	                              sm->options.shard, index);

	pthread_mutex_unlock(&sm->file_lock);
	return code;
}

/* ---- copies for others ---- */

static int copy_file(struct mg_shard_sm *sm, const char *path, struct mg_error *err)
{
	char *from = mg_shard_sm__file_path(sm), *fresh = mg_format("%s.new", path);
	int code = mg_file_copy(from, fresh, err);

	code = code ? code : mg_file_rename(fresh, path, err);
	mg_free(fresh);
	mg_free(from);
	return code;
}

static int make_copy(void *arg, uint64_t index, char **path, struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;
	char *copy = copy_path(sm, index);

	pthread_mutex_lock(&sm->file_lock);
	int code = mg_file_exists(copy) ? 0 /* of an earlier life; its name came when it was whole */
	           : sm->checkpoint_known && sm->checkpointed == index
	               ? copy_file(sm, copy, err)
	               : mg_error_set(err, MG_E_NOT_FOUND,
	                              "shard %" PRIu32 " is at index %" PRIu64 ", not %" PRIu64,
	                              sm->options.shard, sm->checkpointed, index);

	pthread_mutex_unlock(&sm->file_lock);
	if (code) {
		mg_free(copy);
		return code;
	}
	*path = copy;
	return 0;
}

/* Is `name` a file of ours that nobody can want any more? */
static bool is_leftover(const struct mg_shard_sm *sm, const char *name)
{
	unsigned shard;
	unsigned long long index;
	char ending[16];

	if (sscanf(name, "snap-%u-%llu.%15s", &shard, &index, ending) == 3) {
		return shard == sm->options.shard &&
		       (!sm->checkpoint_known || index != sm->checkpointed ||
		        strcmp(ending, "duckdb") != 0);
	}
	if (sscanf(name, "pull-%u-%llu.%15s", &shard, &index, ending) == 3) {
		return shard == sm->options.shard && index <= sm->durable;
	}
	return sscanf(name, "%u.duckdb.undo.%15s", &shard, ending) == 2 && /* half a journal */
	       shard == sm->options.shard;
}

static void remove_leftovers(const struct mg_shard_sm *sm)
{
	char *dir = mg_format("%s/shards", sm->options.dir), **names = NULL;
	struct mg_error ignored;
	size_t count = 0;

	if (mg_dir_list(dir, &names, &count, &ignored) == 0) {
		for (size_t i = 0; i < count; i++) {
			char *path = is_leftover(sm, names[i]) ? mg_path_join(dir, names[i]) : NULL;

			if (path) {
				(void)mg_file_remove(path, &ignored);
			}
			mg_free(path);
		}
		mg_free(names);
	}
	mg_free(dir);
}

void mg_shard_sm__begin_giving(struct mg_shard_sm *sm)
{
	if (sm->options.dir) {
		remove_leftovers(sm);
	}
	if (sm->options.source) {
		mg_assert(sm->options.dir != NULL);
		mg_snapshot_source_add(sm->options.source,
		                       &(struct mg_snapshot_state){ .group = sm->options.group,
		                                                    .engine = mg_duck_version(),
		                                                    .format = MG_FILE_FORMAT,
		                                                    .copy = make_copy,
		                                                    .arg = sm });
	}
}

void mg_shard_sm__end_giving(struct mg_shard_sm *sm)
{
	if (sm->options.source) {
		mg_snapshot_source_remove(sm->options.source, sm->options.group);
	}
}

/* ---- pulling ---- */

static void tell_pulled(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_group *group = mg_shard_sm__group(sm);

	if (group) {
		mg_group_pulled(group, sm->pulled);
	}
}

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;

	(void)manifest;
	sm->pulled = err ? err->code : 0;
	mg_raft_host_post(sm->options.host, tell_pulled, sm);
}

/* Every row can be read: its sender may have damage on its disk that it has not met yet, because it
 * has the rows in memory. */
static int read_all(struct mg_duck_conn *conn, uint32_t shard, struct mg_error *err)
{
	char *sql = mg_format("SELECT coalesce(string_agg(schema_name || chr(10) || table_name || "
	                      "chr(10), ''), '') FROM duckdb_tables() WHERE schema_name <> '_mg' AND "
	                      "database_name = 'pull%" PRIu32 "'",
	                      shard);
	char *tables = NULL, database[24];
	struct mg_shard_sum ignored;
	int code = mg_duck_text(conn, sql, &tables, err);

	(void)snprintf(database, sizeof database, "pull%" PRIu32, shard);
	code = code ? code : mg_shard_sum(conn, database, tables, NULL, NULL, &ignored, err);
	mg_free(tables);
	mg_free(sql);
	return code;
}

/* The file is what it was said to be: also in the engine's eyes, and of this cluster's shard. */
static int check_file(void *arg, const char *path,
                      const struct mg_snapshot_manifest *manifest, struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;
	struct mg_duck_conn *conn = NULL;
	struct mg_sb sql = { 0 };
	struct mg_error ignored;
	uint32_t shard = sm->options.shard;
	int64_t found = 0;
	int code = mg_duck_connect(sm->options.duck, &conn, err);

	mg_sb_add(&sql, "ATTACH ");
	mg_sb_add_literal(&sql, path, strlen(path));
	mg_sb_addf(&sql, " AS pull%" PRIu32 " (READ_ONLY)", shard);
	code = code ? code : mg_duck_exec(conn, mg_sb_text(&sql), err);
	if (!code) {
		mg_sb_clear(&sql);
		mg_sb_addf(&sql,
		           "SELECT count(*) FROM pull%" PRIu32 "._mg.meta AS new, s%" PRIu32
		           "._mg.meta AS old WHERE new.applied_index = %" PRIu64
		           " AND new.shard = old.shard AND new.shard_count = old.shard_count AND "
		           "new.cluster_id = old.cluster_id AND new.file_format = old.file_format",
		           shard, shard, manifest->index);
		code = mg_duck_int(conn, mg_sb_text(&sql), &found, err);
		code = code || found != 1 ? code : read_all(conn, shard, err);
		(void)mg_duck_execf(conn, &ignored, "DETACH pull%" PRIu32, shard);
	}
	if (!code && found != 1) {
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "the snapshot is not one of shard %" PRIu32 " at index %" PRIu64
		                    " of this cluster",
		                    shard, manifest->index);
	}
	if (conn) {
		mg_duck_disconnect(conn);
	}
	mg_sb_fini(&sql);
	return code;
}

void mg_shard_sm__want(struct mg_shard_sm *sm, struct mg_snapshot_want want)
{
	char *part = mg_format("%s/shards/pull-%04" PRIu32, sm->options.dir, sm->options.shard);

	want.group = sm->options.group;
	want.part = part;
	want.engine = mg_duck_version();
	want.format = MG_FILE_FORMAT;
	want.check = check_file;
	want.arg = sm;
	mg_snapshot_puller_want(sm->options.puller, &want);
	mg_free(part);
}

void mg_shard_sm__pull(struct mg_sm *seam, uint64_t peer, const struct mg_manifest *manifest)
{
	struct mg_shard_sm *sm = of(seam);
	struct mg_group *group = mg_shard_sm__group(sm);
	uint64_t index = manifest->snapshot.index;

	if (!sm->options.puller) { /* a cluster of one has nobody to pull from */
		if (group) {
			mg_group_pulled(group, MG_E_UNSUPPORTED);
		}
		return;
	}
	char *path = pulled_path(sm, index);

	if (group && mg_file_exists(path)) {
		mg_group_pulled(group, 0); /* by an earlier life, which did not get to adopt it */
	} else {
		mg_shard_sm__want(
			sm, (struct mg_snapshot_want){
					.index = index, .peer = peer, .path = path, .done = on_pulled });
	}
	mg_free(path);
}

/* ---- adopting, on the lane ---- */

static void step(struct mg_shard_sm *sm, enum mg_adopt_step at)
{
	if (sm->options.on_step) {
		sm->options.on_step(sm->options.arg, at);
	}
}

/* The engine closes a file when the last who uses it lets go, which may be a moment after. */
static int attach(struct mg_shard_sm *sm, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct timespec rest = { .tv_nsec = ATTACH_REST_MS * 1000000L };
	char *path = mg_shard_sm__file_path(sm);
	int code = MG_E_BUSY;

	for (int i = 0; code && i < ATTACH_TRIES; i++) {
		if (i > 0) {
			(void)nanosleep(&rest, NULL);
		}
		code = mg_shard_file_attach(conn, sm->options.shard, path, err);
		if (code && !strstr(err->message, "already attached")) {
			break;
		}
	}
	mg_free(path);
	return code;
}

int mg_shard_sm__open_writer(struct mg_shard_sm *sm, struct mg_error *err)
{
	char database[16];

	(void)snprintf(database, sizeof database, "s%" PRIu32, sm->options.shard);
	int code = mg_shard_writer_open(&sm->writer, sm->options.duck, database, err);

	code = code ? code : mg_shard_sm__read_pending(sm, err);
	if (!code) {
		sm->durable = sm->index = mg_shard_writer_applied(sm->writer);
		note_checkpoint(sm);
		mg_changes_log_reset(sm->changes, sm->index);
		mg_follow_log_reset(sm->follow, sm->index, mg_shard_writer_term(sm->writer));
		pthread_mutex_lock(&sm->lock);
		sm->dirty = false;
		sm->applied = sm->index;
		pthread_mutex_unlock(&sm->lock);
	}
	return code;
}

int mg_shard_sm__replace_file(struct mg_shard_sm *sm, struct mg_duck_conn *conn, const char *from,
                              struct mg_error *err)
{
	char *to = mg_shard_sm__file_path(sm);
	struct mg_error again = { 0 };

	mg_shard_writer_close(sm->writer);
	sm->writer = NULL;
	int code = mg_duck_execf(conn, err, "DETACH s%" PRIu32, sm->options.shard);

	if (!code) {
		step(sm, MG_ADOPT_DETACHED);
		code = mg_shard_undo_remove(to, err);
		code = code ? code : mg_file_rename(from, to, err);
		if (!code) {
			step(sm, MG_ADOPT_RENAMED);
		}
		int attached = attach(sm, conn, code ? &again : err);

		code = code ? code : attached;
	}
	if (!code) {
		step(sm, MG_ADOPT_ATTACHED);
		code = mg_shard_sm__open_writer(sm, err);
	}
	mg_free(to);
	return code;
}

int mg_shard_sm__gate(struct mg_shard_sm *sm, int (*swap)(void *arg, struct mg_error *err),
                      void *arg, struct mg_error *err)
{
	mg_shard_check_stop(sm->check, true);
	return sm->options.gate ? sm->options.gate(sm->options.arg, sm->options.shard, swap, arg, err)
	                        : swap(arg, err);
}

static int swap(void *arg, struct mg_error *err)
{
	struct mg_shard_sm *sm = arg;
	struct mg_duck_conn *conn = NULL;
	char *from = pulled_path(sm, sm->adopt_index);
	int code = mg_duck_connect(sm->options.duck, &conn, err);

	pthread_mutex_lock(&sm->file_lock);
	code = code ? code : mg_shard_sm__replace_file(sm, conn, from, err);
	pthread_mutex_unlock(&sm->file_lock);
	mg_free(from);
	if (conn) {
		mg_duck_disconnect(conn);
	}
	if (!code && sm->index != sm->adopt_index) {
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "the adopted file is at index %" PRIu64 ", not %" PRIu64, sm->index,
		                    sm->adopt_index);
	}
	return code;
}

static void tell_adopted(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_group *group = mg_shard_sm__group(sm);

	if (group && !sm->adopted && sm->options.on_applied) { /* first, as when entries are applied */
		sm->options.on_applied(sm->options.arg, sm->options.group, sm->adopt_index);
	}
	if (group) {
		mg_group_adopted(group, sm->adopted);
	}
}

/* Readers that do not end have others wait for them in turn: again, until this node stops. */
static int swap_at_gate(struct mg_shard_sm *sm, struct mg_error *err)
{
	const struct timespec rest = { .tv_nsec = GATE_REST_MS * 1000000L };
	int code = mg_shard_sm__gate(sm, swap, sm, err);

	while (code == MG_E_BUSY && !atomic_load(&sm->stopping)) {
		mg_log(MG_LOG_WARN, "shard.adopt.waits", "shard=%" PRIu32 " reason=\"%s\"",
		       sm->options.shard, err->message);
		(void)nanosleep(&rest, NULL);
		*err = (struct mg_error){ 0 };
		code = mg_shard_sm__gate(sm, swap, sm, err);
	}
	return code;
}

static void adopt_now(void *arg)
{
	struct mg_shard_sm *sm = arg;
	struct mg_error err = { 0 };
	char *path = pulled_path(sm, sm->adopt_index);
	int code = mg_shard_sm__drain(sm);

	code = code ? mg_error_set(&err, code, "it could not be applied what came before")
	            : mg_file_exists(path)
	               ? 0
	               : mg_error_set(&err, MG_E_CORRUPT, "the pulled snapshot \"%s\" is gone", path);

	if (!code) {
		step(sm, MG_ADOPT_BEGUN);
		if (sm->options.on_write) {
			sm->options.on_write(sm->options.arg, sm->options.shard);
		}
		code = swap_at_gate(sm, &err);
	}
	if (code) {
		(void)mg_error_wrap(&err, "while adopting a snapshot of shard %" PRIu32, sm->options.shard);
		mg_shard_sm__fail(sm, &err);
	} else {
		sm->term = sm->adopt_term;
		mg_shard_late_reset(sm->late, sm->index);
		mg_log(MG_LOG_INFO, "shard.adopted", "shard=%" PRIu32 " index=%" PRIu64, sm->options.shard,
		       sm->index);
	}
	sm->adopted = code;
	mg_free(path);
	mg_raft_host_post(sm->options.host, tell_adopted, sm);
}

void mg_shard_sm__adopt(struct mg_sm *seam, const struct mg_manifest *manifest)
{
	struct mg_shard_sm *sm = of(seam);

	sm->adopt_index = manifest->snapshot.index;
	sm->adopt_term = manifest->snapshot.term;
	if (!sm->options.dir) {
		sm->adopted = MG_E_UNSUPPORTED;
		tell_adopted(sm);
		return;
	}
	mg_lane_run(sm->lane, adopt_now, sm);
}
