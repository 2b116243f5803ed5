/*
 * shard_mend.c - a shard's damaged file goes aside, and one of another node comes in its place.
 *
 *     set aside   writer closed, file detached -> renamed -> a stand-in in memory attached, opened
 *     put in      writer closed, stand-in detached -> pulled file renamed over NNNN -> attached
 *
 * Rule: between the two there is no file of the shard's name.  So a start in between finds it
 * missing, which is damage again, and never takes the stand-in for the shard.
 *
 * owner: the mender's thread, while the group is closed and the lane rests.
 */
#include "replica/shard_sm_int.h"

#include "base/assert.h"
#include "catalog/catalog.h"
#include "os/file.h"

struct aside {
	struct mg_shard_sm *sm;
	const char *kept;
	const struct mg_shard_meta *meta;
};

struct put_in {
	struct mg_shard_sm *sm;
	const char *from;
};

/* Whoever gives copies of the file must know, from before it changes until after. */
static void tell_changed(struct mg_shard_sm *sm)
{
	if (sm->options.on_write) {
		sm->options.on_write(sm->options.arg, sm->options.shard);
	}
}

static int put_away(struct mg_shard_sm *sm, const char *kept, struct mg_error *err)
{
	char *path = mg_shard_sm__file_path(sm);
	int code = !mg_file_exists(path) ? 0
	           : kept                ? mg_file_rename(path, kept, err)
	                                 : mg_file_remove(path, err);

	mg_free(path);
	return code;
}

static int swap_out(void *arg, struct mg_error *err)
{
	const struct aside *aside = arg;
	struct mg_shard_sm *sm = aside->sm;
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(sm->options.duck, &conn, err);

	pthread_mutex_lock(&sm->file_lock);
	mg_shard_writer_close(sm->writer);
	sm->writer = NULL;
	code = code ? code
	            : mg_duck_execf(conn, err, "DETACH DATABASE IF EXISTS s%u", sm->options.shard);
	code = code ? code : put_away(sm, aside->kept, err);
	code = code ? code : mg_shard_file_stand_in(conn, aside->meta, err);
	code = code ? code : mg_shard_sm__open_writer(sm, err);
	sm->checkpoint_known = false;
	pthread_mutex_unlock(&sm->file_lock);
	if (conn) {
		mg_duck_disconnect(conn);
	}
	return code;
}

int mg_shard_sm_set_aside(struct mg_shard_sm *sm, const char *kept,
                          const struct mg_shard_meta *meta, struct mg_error *err)
{
	struct aside aside = { sm, kept, meta };

	mg_assert(meta->shard == sm->options.shard);
	mg_shard_sm__end_giving(sm);
	tell_changed(sm);
	int code = mg_shard_sm__gate(sm, swap_out, &aside, err);

	tell_changed(sm);
	return code ? mg_error_wrap(err, "while setting aside the file of shard %u", meta->shard) : 0;
}

static int swap_in(void *arg, struct mg_error *err)
{
	const struct put_in *put = arg;
	struct mg_shard_sm *sm = put->sm;
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(sm->options.duck, &conn, err);

	pthread_mutex_lock(&sm->file_lock);
	code = code ? code : mg_shard_sm__replace_file(sm, conn, put->from, err);
	pthread_mutex_unlock(&sm->file_lock);
	if (conn) {
		mg_duck_disconnect(conn);
	}
	return code;
}

static void forget_failure(struct mg_shard_sm *sm)
{
	pthread_mutex_lock(&sm->lock);
	sm->failed = 0;
	sm->failure = (struct mg_error){ 0 };
	pthread_mutex_unlock(&sm->lock);
}

int mg_shard_sm_put_in(struct mg_shard_sm *sm, const char *from, uint64_t index, uint64_t term,
                       struct mg_error *err)
{
	struct put_in put = { sm, from };

	tell_changed(sm);
	int code = mg_shard_sm__gate(sm, swap_in, &put, err);

	if (!code && sm->index != index) {
		code = mg_error_set(err, MG_E_CORRUPT, "the file is at index %llu, not %llu",
		                    (unsigned long long)sm->index, (unsigned long long)index);
	}
	if (!code) {
		sm->term = term;
		mg_shard_late_reset(sm->late, sm->index);
		forget_failure(sm);
		mg_shard_sm__begin_giving(sm);
	}
	tell_changed(sm);
	return code ? mg_error_wrap(err, "while taking over a file of shard %u", sm->options.shard) : 0;
}

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *err)
{
	const struct mg_shard_sm *sm = arg;

	sm->mended(sm->mended_arg, manifest, err);
}

void mg_shard_sm_pull_newest(struct mg_shard_sm *sm, const char *path, uint64_t index,
                             uint64_t peer,
                             void (*done)(void *arg, const struct mg_snapshot_manifest *manifest,
                                          const struct mg_error *err),
                             void *arg)
{
	mg_assert(sm->options.puller != NULL);
	sm->mended = done;
	sm->mended_arg = arg;
	mg_shard_sm__want(sm, (struct mg_snapshot_want){ .index = index,
	                                                 .peer = peer,
	                                                 .path = path,
	                                                 .only = index == 0,
	                                                 .done = on_pulled });
}
