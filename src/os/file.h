/*
 * file.h - whole files and directories.
 *
 * A file is either old or new after a crash, never half: mg_file_write goes through a temporary
 * file, fsync, rename and fsync of the directory.  Everything here blocks; never on a loop thread.
 * Errors: MG_E_NOT_FOUND (no such file), MG_E_DISK_FULL, MG_E_IO.  Thread: any.
 */
#ifndef MG_OS_FILE_H
#define MG_OS_FILE_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whole file as heap text with a zero behind it.  MG_E_LIMIT when larger than size_max. */
int mg_file_read(const char *path, size_t size_max, char **out, size_t *size, struct mg_error *err);
/* Replace or create, durably.  mode such as 0600 is set exactly, whatever the umask says. */
int mg_file_write(const char *path, const void *data, size_t size, unsigned mode,
                  struct mg_error *err);
int mg_file_remove(const char *path, struct mg_error *err);                 /* absent is fine */
int mg_file_rename(const char *from, const char *to, struct mg_error *err); /* durable */
/* A new file with the same bytes, on the disk, though its name may be lost: rename it.  Shares
 * blocks where the file system can.  Nothing is left when it fails. */
int mg_file_copy(const char *from, const char *to, struct mg_error *err);
int mg_file_sync(const char *path, struct mg_error *err); /* fsync of a file or directory */
bool mg_file_exists(const char *path);                    /* anything of that name */
/* Does any process hold a lock on it, by flock or fcntl?  Never ask for a file that this process
 * has locked by fcntl itself: closing it here would drop that lock. */
bool mg_file_is_locked(const char *path);
void mg_file_touch(const char *path); /* used just now: its time of change says so */
bool mg_dir_exists(const char *path);
/* Of an open file: bytes in it, 0 for a pipe.  Empty it; pipes stay as they are. */
uint64_t mg_file_fd_size(int fd);
void mg_file_fd_empty(int fd);
int mg_file_size(const char *path, uint64_t *size, struct mg_error *err);
/* 64 lower-case digits; reads in pieces of 1 MiB. */
#define MG_SHA256_TEXT_SIZE 65
int mg_file_sha256(const char *path, char out[MG_SHA256_TEXT_SIZE], struct mg_error *err);

char *mg_path_join(const char *dir, const char *name); /* heap */
int mg_dir_make(const char *path, unsigned mode,
                struct mg_error *err);                      /* with parents; there is fine */
int mg_tree_remove(const char *path, struct mg_error *err); /* absent is fine; follows no link */
/* Names without "." and "..", sorted.  One heap block: free it with mg_free. */
int mg_dir_list(const char *path, char ***names, size_t *count, struct mg_error *err);
/* "DIR/PREFIXyyyymmddThhmmssZ", of now: where something goes that people may want to look at.  Of
 * what is called so already only the newest stays.  Heap. */
char *mg_dir_keep(const char *dir, const char *prefix);
uint64_t mg_dir_size(const char *path); /* bytes of all files below; 0 when absent */
/* Bytes an ordinary user may still write there. */
int mg_disk_free(const char *path, uint64_t *bytes, struct mg_error *err);
/* The same, for who asks before each write: looked up again after MG_DISK_ROOM_MS.  Zeros at first;
 * any thread. */
#define MG_DISK_ROOM_MS 100
struct mg_disk_room {
	atomic_uint_fast64_t until_ms, bytes;
};
int mg_disk_room(struct mg_disk_room *room, const char *path, uint64_t *bytes,
                 struct mg_error *err);

/* Hold "node.lock" in a directory, so that one process uses it.  The kernel's flock: it goes away
 * with the process, however that ends, and is not inherited by programs that are started.
 * MG_E_BUSY when another process holds it (the message names its pid). */
int mg_dir_lock(const char *dir, int *lock, struct mg_error *err);
void mg_dir_unlock(int lock); /* negative is fine */

#endif
