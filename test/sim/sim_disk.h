/*
 * sim_disk.h - a disk that forgets: disk.h in memory, for tests of crashes.
 *
 * What is written is seen at once and counts after sync; a crash keeps of what was not synced any
 * sectors of 512 bytes, and of unsynced names a first part of the changes.  A disk may die in the
 * middle of a job, may be full, may flip a bit.
 *
 * Jobs wait until sim_disk_step runs them.  All chance comes from the seed.
 */
#ifndef MG_TEST_SIM_SIM_DISK_H
#define MG_TEST_SIM_SIM_DISK_H

#include "os/disk.h"

struct sim_disk;

struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *disk);
struct mg_disk *sim_disk_face(struct sim_disk *disk);
/* Run the next job of a lane; false: there is none. */
bool sim_disk_step(struct sim_disk *disk, unsigned lane);
/* After so many more operations all fail and do nothing, as if the machine had stopped there. */
void sim_disk_die_after(struct sim_disk *disk, uint64_t operations);
bool sim_disk_dead(const struct sim_disk *disk);
/* The machine stops and starts: waiting jobs are gone, unsynced writes are kept in part. */
void sim_disk_crash(struct sim_disk *disk);
/* The process is killed, the machine goes on: waiting jobs are gone, writes stay. */
void sim_disk_kill(struct sim_disk *disk);
void sim_disk_limit(struct sim_disk *disk, uint64_t bytes); /* of all files; 0: none */
/* Change one byte of a file, durably; false when it has no such byte. */
bool sim_disk_flip(struct sim_disk *disk, const char *name, uint64_t offset);
/* Syncs do nothing from now on: what a broken disk does, for negative controls. */
void sim_disk_lie(struct sim_disk *disk, bool lie);
size_t sim_disk_open_files(const struct sim_disk *disk);

#endif
