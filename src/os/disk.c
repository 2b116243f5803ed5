/*
 * disk.c - the real disk behind disk.h: a directory, and a thread for each lane.
 *
 * owner: whoever opened it; a lane's queue is guarded by its lock, nothing runs under it.
 */
#include "os/disk.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"
#include "os/thread.h"
#include "os/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mg_disk_file {
	int fd;
	char name[MG_DISK_NAME_MAX]; /* as opened, for messages */
};

struct job {
	void (*run)(void *arg);
	void *arg;
	struct job *next;
};

struct lane {
	pthread_mutex_t lock;
	struct mg_waker waker;
	pthread_cond_t done; /* a job */
	pthread_t thread;
	struct job *first, **last;
	bool running, closing;
};

struct real_disk {
	struct mg_disk base;
	char *path;
	int fd; /* of the directory: names are relative to it */
	struct mg_disk_room room;
	struct lane lanes[MG_DISK_LANES];
	size_t lane_count; /* that have a thread */
};

static struct real_disk *real(struct mg_disk *disk)
{
	return (struct real_disk *)disk;
}

/* ---- files ---- */

static int disk_list(struct mg_disk *disk, char ***names, size_t *count, struct mg_error *err)
{
	return mg_dir_list(real(disk)->path, names, count, err);
}

static int disk_open(struct mg_disk *disk, const char *name, bool create,
                     struct mg_disk_file **out, struct mg_error *err)
{
	int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0);
	int fd = openat(real(disk)->fd, name, flags, 0600);

	*out = NULL;
	if (fd < 0) {
		return errno == ENOENT
		           ? mg_error_set(err, MG_E_NOT_FOUND, "there is no file \"%s/%s\"",
		                          real(disk)->path, name)
		           : mg_error_errno(err, errno, "cannot open \"%s/%s\"", real(disk)->path, name);
	}
	struct mg_disk_file *file = mg_alloc0(sizeof *file);
	file->fd = fd;
	mg_copy_text(file->name, sizeof file->name, name);
	*out = file;
	return 0;
}

static void disk_close(struct mg_disk *disk, struct mg_disk_file *file)
{
	(void)disk;
	close(file->fd);
	mg_free(file);
}

static int disk_size(struct mg_disk *disk, struct mg_disk_file *file, uint64_t *size,
                     struct mg_error *err)
{
	struct stat info;

	(void)disk;
	if (fstat(file->fd, &info) != 0) {
		return mg_error_errno(err, errno, "cannot look at \"%s\"", file->name);
	}
	*size = (uint64_t)info.st_size;
	return 0;
}

static int disk_read(struct mg_disk *disk, struct mg_disk_file *file, uint64_t offset, void *data,
                     size_t size, struct mg_error *err)
{
	uint8_t *to = data;

	for (size_t done = 0; done < size;) {
		ssize_t got = pread(file->fd, to + done, size - done, (off_t)(offset + done));
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			return mg_error_errno(err, errno, "cannot read \"%s/%s\"", real(disk)->path,
			                      file->name);
		}
		if (got == 0) {
			return mg_error_set(err, MG_E_CORRUPT, "\"%s/%s\" ends at byte %llu",
			                    real(disk)->path, file->name,
			                    (unsigned long long)(offset + done));
		}
		done += (size_t)got;
	}
	return 0;
}

static int disk_write(struct mg_disk *disk, struct mg_disk_file *file, uint64_t offset,
                      const void *data, size_t size, struct mg_error *err)
{
	const uint8_t *from = data;

	for (size_t done = 0; done < size;) {
		ssize_t put = pwrite(file->fd, from + done, size - done, (off_t)(offset + done));
		if (put < 0 && errno == EINTR) {
			continue;
		}
		if (put <= 0) {
			return mg_error_errno(err, put < 0 ? errno : ENOSPC, "cannot write \"%s/%s\"",
			                      real(disk)->path, file->name);
		}
		done += (size_t)put;
	}
	return 0;
}

static int disk_sync(struct mg_disk *disk, struct mg_disk_file *file, struct mg_error *err)
{
	return fdatasync(file->fd) == 0
	           ? 0
	           : mg_error_errno(err, errno, "cannot sync \"%s/%s\"", real(disk)->path, file->name);
}

/* ---- names ---- */

static int disk_rename(struct mg_disk *disk, const char *from, const char *to,
                       struct mg_error *err)
{
	int fd = real(disk)->fd;

	return renameat(fd, from, fd, to) == 0
	           ? 0
	           : mg_error_errno(err, errno, "cannot rename \"%s/%s\" to \"%s\"", real(disk)->path,
	                            from, to);
}

static int disk_remove(struct mg_disk *disk, const char *name, struct mg_error *err)
{
	return unlinkat(real(disk)->fd, name, 0) == 0 || errno == ENOENT
	           ? 0
	           : mg_error_errno(err, errno, "cannot remove \"%s/%s\"", real(disk)->path, name);
}

static int disk_sync_names(struct mg_disk *disk, struct mg_error *err)
{
	return fsync(real(disk)->fd) == 0
	           ? 0
	           : mg_error_errno(err, errno, "cannot sync \"%s\"", real(disk)->path);
}

static uint64_t disk_free_bytes(struct mg_disk *disk)
{
	uint64_t bytes = 0;

	return mg_disk_room(&real(disk)->room, real(disk)->path, &bytes, NULL) == 0 ? bytes : 0;
}

/* ---- lanes ---- */

static void *run_lane(void *arg)
{
	struct lane *lane = arg;

	mg_thread_prompt();
	pthread_mutex_lock(&lane->lock);
	for (;;) {
		while (!lane->first && !lane->closing) {
			mg_waker_sleep(&lane->waker, &lane->lock, UINT64_MAX);
		}
		struct job *job = lane->first;
		if (!job) {
			break;
		}
		lane->first = job->next;
		if (!lane->first) {
			lane->last = &lane->first;
		}
		lane->running = true;
		pthread_mutex_unlock(&lane->lock);
		job->run(job->arg);
		mg_free(job);
		pthread_mutex_lock(&lane->lock);
		lane->running = false;
		pthread_cond_broadcast(&lane->done);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

static void disk_submit(struct mg_disk *disk, unsigned at, void (*run)(void *arg), void *arg)
{
	mg_assert(at < MG_DISK_LANES);
	struct lane *lane = &real(disk)->lanes[at];
	struct job *job = mg_alloc(sizeof *job);

	*job = (struct job){ .run = run, .arg = arg };
	pthread_mutex_lock(&lane->lock);
	*lane->last = job;
	lane->last = &job->next;
	mg_waker_wake_sleeper(&lane->waker, &lane->lock);
}

static void disk_drain(struct mg_disk *disk)
{
	for (size_t i = 0; i < real(disk)->lane_count; i++) {
		struct lane *lane = &real(disk)->lanes[i];

		pthread_mutex_lock(&lane->lock);
		while (lane->first || lane->running) {
			pthread_cond_wait(&lane->done, &lane->lock);
		}
		pthread_mutex_unlock(&lane->lock);
	}
}

static int start_lane(struct lane *lane, struct mg_error *err)
{
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->done, NULL);
	mg_waker_init(&lane->waker);
	lane->last = &lane->first;
	int failed = pthread_create(&lane->thread, NULL, run_lane, lane);

	if (failed) {
		mg_waker_fini(&lane->waker);
		pthread_cond_destroy(&lane->done);
		pthread_mutex_destroy(&lane->lock);
		return mg_error_errno(err, failed, "cannot start a thread for the disk");
	}
	return 0;
}

static void stop_lane(struct lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	lane->closing = true;
	mg_waker_wake_sleeper(&lane->waker, &lane->lock);
	pthread_join(lane->thread, NULL);
	mg_waker_fini(&lane->waker);
	pthread_cond_destroy(&lane->done);
	pthread_mutex_destroy(&lane->lock);
}

/* ---- life ---- */

static const struct mg_disk_ops real_ops = {
	.list = disk_list,
	.open = disk_open,
	.close = disk_close,
	.size = disk_size,
	.read = disk_read,
	.write = disk_write,
	.sync = disk_sync,
	.rename = disk_rename,
	.remove = disk_remove,
	.sync_names = disk_sync_names,
	.free_bytes = disk_free_bytes,
	.submit = disk_submit,
	.drain = disk_drain,
};

int mg_disk_open(struct mg_disk **out, const char *path, struct mg_error *err)
{
	struct real_disk *disk = mg_alloc0(sizeof *disk);

	*out = NULL;
	disk->base.ops = &real_ops;
	disk->path = mg_strdup(path);
	disk->fd = -1;
	int code = mg_dir_make(path, 0700, err);

	if (!code) {
		disk->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		code = disk->fd < 0 ? mg_error_errno(err, errno, "cannot open \"%s\"", path) : 0;
	}
	while (!code && disk->lane_count < MG_DISK_LANES) {
		code = start_lane(&disk->lanes[disk->lane_count], err);
		disk->lane_count += !code;
	}
	if (code) {
		mg_disk_close(&disk->base);
		return code;
	}
	*out = &disk->base;
	return 0;
}

void mg_disk_close(struct mg_disk *base)
{
	struct real_disk *disk = real(base);

	if (!disk) {
		return;
	}
	for (size_t i = 0; i < disk->lane_count; i++) {
		stop_lane(&disk->lanes[i]);
	}
	if (disk->fd >= 0) {
		close(disk->fd);
	}
	mg_free(disk->path);
	mg_free(disk);
}
