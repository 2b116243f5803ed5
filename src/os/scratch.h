/*
 * scratch.h - a temporary file without a name: gone with its last descriptor, however the process
 * ends.
 *
 * Written by appending, read anywhere.  Thread: any, reads and appends at once; each append gets
 * its own place.  Blocks on the disk: never on a loop thread.
 */
#ifndef MG_OS_SCRATCH_H
#define MG_OS_SCRATCH_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct mg_scratch;

int mg_scratch_open(struct mg_scratch **out, const char *dir, struct mg_error *err);
void mg_scratch_close(struct mg_scratch *scratch); /* NULL is fine */
/* *offset: where it went. MG_E_DISK_FULL when the disk is full. */
int mg_scratch_append(struct mg_scratch *scratch, const void *data, size_t size, uint64_t *offset,
                      struct mg_error *err);
/* For others who write it by its descriptor, instead of appending. */
int mg_scratch_fd(const struct mg_scratch *scratch);
/* Exactly size bytes, or MG_E_CORRUPT when the file is shorter. */
int mg_scratch_read(struct mg_scratch *scratch, uint64_t offset, void *data, size_t size,
                    struct mg_error *err);

#endif
