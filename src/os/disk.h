/*
 * disk.h - the seam to a directory of files that must survive a crash.
 *
 * Idea: what writes for durability stands on this and not on the system, so that a simulator can
 * put a disk under it that tears, loses and slows what is written.  A disk is one flat directory.
 * What is written counts after `sync`; a name that was made, changed or removed, after
 * `sync_names`.
 *
 * Calls block, so an owner that must not wait hands them over: `submit` runs a job on a lane, one
 * after the other within a lane, side by side between lanes.  In the real disk a lane is a thread,
 * in a simulator an event.
 *
 * Thread: any; one file by one thread at a time for writing, reads at once are fine.
 */
#ifndef MG_OS_DISK_H
#define MG_OS_DISK_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define MG_DISK_NAME_MAX 64
#define MG_DISK_LANES 2

struct mg_disk;
struct mg_disk_file;

struct mg_disk_ops {
	int (*list)(struct mg_disk *disk, char ***names, size_t *count, struct mg_error *err);
	int (*open)(struct mg_disk *disk, const char *name, bool create, struct mg_disk_file **out,
	            struct mg_error *err);
	void (*close)(struct mg_disk *disk, struct mg_disk_file *file);
	int (*size)(struct mg_disk *disk, struct mg_disk_file *file, uint64_t *size,
	            struct mg_error *err);
	int (*read)(struct mg_disk *disk, struct mg_disk_file *file, uint64_t offset, void *data,
	            size_t size, struct mg_error *err);
	int (*write)(struct mg_disk *disk, struct mg_disk_file *file, uint64_t offset,
	             const void *data, size_t size, struct mg_error *err);
	int (*sync)(struct mg_disk *disk, struct mg_disk_file *file, struct mg_error *err);
	int (*rename)(struct mg_disk *disk, const char *from, const char *to, struct mg_error *err);
	int (*remove)(struct mg_disk *disk, const char *name, struct mg_error *err);
	int (*sync_names)(struct mg_disk *disk, struct mg_error *err);
	uint64_t (*free_bytes)(struct mg_disk *disk);
	void (*submit)(struct mg_disk *disk, unsigned lane, void (*run)(void *arg), void *arg);
	void (*drain)(struct mg_disk *disk);
};

/* An implementation has this as its first member. */
struct mg_disk {
	const struct mg_disk_ops *ops;
};

/* The directory `path`, made when missing, with a thread for each lane. */
int mg_disk_open(struct mg_disk **out, const char *path, struct mg_error *err);
/* Runs what was submitted to its end; files must be closed.  NULL is fine. */
void mg_disk_close(struct mg_disk *disk);

/* Names of all files, sorted.  One heap block: free it with mg_free. */
static inline int mg_disk_list(struct mg_disk *disk, char ***names, size_t *count,
                               struct mg_error *err)
{
	return disk->ops->list(disk, names, count, err);
}

/* Open for reading and writing.  create: make it, empty; an existing file is emptied.
 * Fails: MG_E_NOT_FOUND when it is not there and create is false. */
static inline int mg_disk_file_open(struct mg_disk *disk, const char *name, bool create,
                                    struct mg_disk_file **out, struct mg_error *err)
{
	return disk->ops->open(disk, name, create, out, err);
}

/* NULL is fine. */
static inline void mg_disk_file_close(struct mg_disk *disk, struct mg_disk_file *file)
{
	if (file) {
		disk->ops->close(disk, file);
	}
}

static inline int mg_disk_file_size(struct mg_disk *disk, struct mg_disk_file *file,
                                    uint64_t *size, struct mg_error *err)
{
	return disk->ops->size(disk, file, size, err);
}

/* Exactly size bytes, or MG_E_CORRUPT when the file is shorter. */
static inline int mg_disk_file_read(struct mg_disk *disk, struct mg_disk_file *file,
                                    uint64_t offset, void *data, size_t size, struct mg_error *err)
{
	return disk->ops->read(disk, file, offset, data, size, err);
}

/* Fails: MG_E_DISK_FULL, MG_E_IO; part of it may have been written. */
static inline int mg_disk_file_write(struct mg_disk *disk, struct mg_disk_file *file,
                                     uint64_t offset, const void *data, size_t size,
                                     struct mg_error *err)
{
	return disk->ops->write(disk, file, offset, data, size, err);
}

/* What was written is on the disk when this returns.  A failure says nothing about what is lost. */
static inline int mg_disk_file_sync(struct mg_disk *disk, struct mg_disk_file *file,
                                    struct mg_error *err)
{
	return disk->ops->sync(disk, file, err);
}

static inline int mg_disk_rename(struct mg_disk *disk, const char *from, const char *to,
                                 struct mg_error *err)
{
	return disk->ops->rename(disk, from, to, err);
}

/* Absent is fine. */
static inline int mg_disk_remove(struct mg_disk *disk, const char *name, struct mg_error *err)
{
	return disk->ops->remove(disk, name, err);
}

static inline int mg_disk_sync_names(struct mg_disk *disk, struct mg_error *err)
{
	return disk->ops->sync_names(disk, err);
}

/* What may still be written by others than the system's own user, as of MG_DISK_ROOM_MS ago at the
 * longest; 0 when unknown. */
static inline uint64_t mg_disk_free_bytes(struct mg_disk *disk)
{
	return disk->ops->free_bytes(disk);
}

/* Run a job on a lane (below MG_DISK_LANES), after those submitted to it before. */
static inline void mg_disk_submit(struct mg_disk *disk, unsigned lane, void (*run)(void *arg),
                                  void *arg)
{
	disk->ops->submit(disk, lane, run, arg);
}

/* Wait until all that was submitted has run. */
static inline void mg_disk_drain(struct mg_disk *disk)
{
	disk->ops->drain(disk);
}

#endif
