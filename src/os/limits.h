/*
 * limits.h - how many cores and how much memory this process may really use: the least of the
 * machine, the CPU affinity, and the cgroups (v2 or v1) it lives in.  Thread: any.
 */
#ifndef MG_OS_LIMITS_H
#define MG_OS_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

unsigned mg_os_cores(void);        /* at least 1; a quota of 1.5 cores counts as 2 */
uint64_t mg_os_memory_bytes(void); /* at least 64 MiB */
/* A name of the cores behind mg_os_cores: processes that compete for the same ones have the same
 * name.  Empty when this machine does not say which one it is. */
#define MG_OS_CORES_NAME_SIZE 17
void mg_os_cores_name(char name[MG_OS_CORES_NAME_SIZE]);
uint64_t mg_os_resident_bytes(void); /* memory that this process holds now; 0 when unknown */
uint64_t
mg_os_files_raise(void); /* allow as many open files as the hard limit does; returns how many */

/* Ask no more of the system than seven eighths of mg_os_memory_bytes: an allocation beyond fails,
 * and its statement with it, before the kernel ends the process.  Some of DuckDB's functions
 * allocate outside of its own limit (range() as a list, repeat()).  Small allocations, without
 * which nobody can even say that memory is gone, get a reserve behind it, up to 15/16; every call
 * puts the fence back, so call it now and then.  Nothing with sanitizers. */
void mg_os_memory_fence(void);
/* The reserve was needed since the last call: somebody has to give memory back.  Any thread. */
bool mg_os_memory_short(void);

/* For tests: read below `root` instead of "/". */
void mg_os_cores_name_below(const char *root, char name[MG_OS_CORES_NAME_SIZE]);
/* For tests: the cgroup part alone, read below `root` instead of "/"; UINT64_MAX: no limit. */
uint64_t mg_os_cgroup_memory(const char *root);
uint64_t mg_os_cgroup_millicores(const char *root);

#endif
