/*
 * granted.h - files of clients' choice, inside of directories that were granted to them.
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

#include <stdint.h>

/* dirs: directories with ':' between them; NULL or "": none.  path: absolute, inside of one of
 * them, or relative to one of them.  *fd: to read; the caller closes it.
 * Fails: MG_E_DENIED it lies in none of them, or leads out; MG_E_NOT_FOUND; MG_E_USAGE it is no
 * plain file; MG_E_IO. */
int mg_granted_open(const char *dirs, const char *path, int *fd, uint64_t *size,
                    struct mg_error *err);
/* Fails: MG_E_USAGE one of them is no absolute path of a directory. */
int mg_granted_check(const char *dirs, struct mg_error *err);

#endif
