/*
 * changes.c - the logs of changes of a node's shards (changes_log.h), and who waits for more.
 */
#include "base/log.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "replica/replica_int.h"

static void notify(void *arg)
{
	struct mg_replica *replica = arg;

	pthread_mutex_lock(&replica->changes_lock);
	replica->changes_count++;
	if (replica->changes_waiting) {
		pthread_cond_broadcast(&replica->changes_more);
	}
	pthread_mutex_unlock(&replica->changes_lock);
}

void mg_replica__init_changes(struct mg_replica *replica)
{
	pthread_mutex_init(&replica->changes_lock, NULL);
	mg_cond_init(&replica->changes_more);
}

void mg_replica__fini_changes(struct mg_replica *replica)
{
	pthread_cond_destroy(&replica->changes_more);
	pthread_mutex_destroy(&replica->changes_lock);
}

int mg_replica__open_changes(struct mg_replica *replica, struct mg_error *err)
{
	char *path = mg_path_join(replica->options.dir, "changes");
	int code = replica->options.changes_bytes ? mg_disk_open(&replica->changes_disk, path, err)
	                                          : mg_tree_remove(path, err);

	mg_free(path);
	return code;
}

void mg_replica__close_changes(struct mg_replica *replica)
{
	mg_disk_close(replica->changes_disk);
}

struct mg_changes_log_options mg_replica__changes_of(struct mg_replica *replica, uint32_t shard)
{
	uint64_t bytes = replica->options.changes_bytes / ((uint64_t)replica->options.shard_count + 1);

	return (struct mg_changes_log_options){
		.disk = replica->changes_disk,
		.shard = shard,
		.bytes_max = replica->changes_disk && bytes == 0 ? 1 : bytes,
		.notify = notify,
		.arg = replica,
	};
}

struct mg_changes_log *mg_replica_changes(struct mg_replica *replica, uint32_t shard)
{
	return mg_shard_sm_changes(replica->shards[shard]);
}

uint64_t mg_replica_changes_count(struct mg_replica *replica)
{
	pthread_mutex_lock(&replica->changes_lock);
	uint64_t count = replica->changes_count;

	pthread_mutex_unlock(&replica->changes_lock);
	return count;
}

void mg_replica_changes_wait(struct mg_replica *replica, uint64_t count, unsigned ms)
{
	uint64_t at = mg_clock_ms() + ms;

	pthread_mutex_lock(&replica->changes_lock);
	replica->changes_waiting++;
	while (replica->changes_count == count &&
	       mg_cond_wait_until(&replica->changes_more, &replica->changes_lock, at)) {
	}
	replica->changes_waiting--;
	pthread_mutex_unlock(&replica->changes_lock);
}

void mg_replica_changes_kick(struct mg_replica *replica)
{
	notify(replica);
}
