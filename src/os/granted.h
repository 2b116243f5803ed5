/*
 * granted.h - files of clients' choice, read or written inside of directories that were granted to
 * them.
 *
 * Rule: the kernel resolves the path below the directory's descriptor, and refuses every step that
 * would lead out of it ("..", a link, also one that is exchanged meanwhile); nothing is looked up
 * first and opened later.
 *
 * Thread: any.  Blocks on the disk.
 */
#ifndef MG_OS_GRANTED_H
#define MG_OS_GRANTED_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* dirs: directories with ':' between them; NULL or "": none.  path: absolute, inside of one of
 * them, or relative to one of them.  *fd: to read; the caller closes it.
 * Fails: MG_E_DENIED it lies in none of them, or leads out; MG_E_NOT_FOUND; MG_E_USAGE it is no
 * plain file; MG_E_IO. */
int mg_granted_open(const char *dirs, const char *path, int *fd, uint64_t *size,
                    struct mg_error *err);
/* Fails: MG_E_USAGE one of them is no absolute path of a directory. */
int mg_granted_check(const char *dirs, struct mg_error *err);

/* A file that is being written: under its path there is what was there before until it is kept, and
 * then all of it.  Until then it has no name, or ".merganser-*.new" where the file system knows no
 * files without one; a crash leaves nothing else. */
struct mg_granted_new;

/* dirs, path: as above; its directory must be there.  Fails: as above. */
int mg_granted_create(const char *dirs, const char *path, struct mg_granted_new **out,
                      struct mg_error *err);
int mg_granted_fd(const struct mg_granted_new *file); /* to write; stays the file's */
/* Or so, at its end. */
int mg_granted_write(struct mg_granted_new *file, const void *data, size_t size,
                     struct mg_error *err);
/* It is on the disk, and stands under its path, where it takes the place of a plain file or link.
 * Does not free. */
int mg_granted_keep(struct mg_granted_new *file, struct mg_error *err);
/* Frees; takes back what is not kept.  NULL is fine. */
void mg_granted_drop(struct mg_granted_new *file);

#endif
