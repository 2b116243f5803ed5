/*
 * limits.c - cores and memory as cgroups and affinity allow.
 *
 * /proc/self/cgroup names our group per controller: "0::/a/b" in v2, "4:memory:/a/b" in v1.  A
 * limit of any ancestor holds too, so the walk goes up to the root of the mount.  In a container
 * the names may be those of the host, which are not visible inside; then only the mount's root
 * is found, and it holds our limits.
 */
#include "os/limits.h"

#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#define MEMORY_MIN (64u * 1024 * 1024)
#define SMALL_FILE_MAX (256 * 1024)
#define RESERVE_SHARE 14 /* a fourteenth of the fence: 7/8 of memory, then up to 15/16 */
#define RESERVE_STEPS 256

enum controller { CONTROLLER_CPU, CONTROLLER_MEMORY };

static char *read_small(const char *root, const char *path)
{
	char *whole = mg_format("%s%s", root, path);
	char *text = NULL;
	if (mg_file_read(whole, SMALL_FILE_MAX, &text, NULL, NULL) != MG_OK) {
		text = NULL;
	}
	mg_free(whole);
	return text;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A number; UINT64_MAX for "max", "-1" or nothing. */
static uint64_t read_limit(const char *text)
{
	if (!text || *text < '0' || *text > '9') {
		return UINT64_MAX;
	}
	return strtoull(text, NULL, 10);
}

static uint64_t quota_to_millicores(uint64_t quota_us, uint64_t period_us)
{
	if (quota_us == UINT64_MAX || quota_us == 0 || period_us == 0 || period_us == UINT64_MAX ||
	    quota_us > UINT64_MAX / 1000) {
		return UINT64_MAX;
	}
	return quota_us * 1000 / period_us;
}

/* Limit of one directory of the hierarchy. */
static uint64_t group_limit(const char *root, const char *dir, enum controller what, bool v2)
{
	uint64_t limit = UINT64_MAX;
	struct mg_sb path = { 0 };
	mg_sb_addf(&path, "%s/%s", dir,
	           what == CONTROLLER_MEMORY ? (v2 ? "memory.max" : "memory.limit_in_bytes")
	                                     : (v2 ? "cpu.max" : "cpu.cfs_quota_us"));
	char *text = read_small(root, mg_sb_text(&path));
	if (text && what == CONTROLLER_MEMORY) {
		limit = read_limit(text);
	} else if (text && v2) {
		const char *blank = strchr(text, ' ');
		limit = quota_to_millicores(read_limit(text), read_limit(blank ? blank + 1 : NULL));
	} else if (text) {
		mg_sb_clear(&path);
		mg_sb_addf(&path, "%s/cpu.cfs_period_us", dir);
		char *period = read_small(root, mg_sb_text(&path));
		limit = quota_to_millicores(read_limit(text), read_limit(period));
		mg_free(period);
	}
	mg_free(text);
	mg_sb_fini(&path);
	return limit;
}

/* The least limit from mount + group up to the mount. */
static uint64_t walk_up(const char *root, const char *mount, struct mg_str group,
                        enum controller what, bool v2)
{
	char *dir = mg_format("%s%.*s", mount, MG_STR_ARG(group));
	size_t stop = strlen(mount);
	uint64_t limit = UINT64_MAX;
	for (;;) {
		size_t len = strlen(dir);
		while (len > stop && dir[len - 1] == '/') {
			dir[--len] = '\0';
		}
		limit = least(limit, group_limit(root, dir, what, v2));
		if (len <= stop) {
			break;
		}
		*strrchr(dir, '/') = '\0';
	}
	mg_free(dir);
	return limit;
}

/* Is `wanted` one of the comma-separated controllers? */
static bool lists_controller(struct mg_str list, const char *wanted)
{
	size_t start = 0;
	for (size_t i = 0; i <= list.len; i++) {
		if (i == list.len || list.ptr[i] == ',') {
			if (mg_str_eq((struct mg_str){ list.ptr + start, i - start }, mg_str(wanted))) {
				return true;
			}
			start = i + 1;
		}
	}
	return false;
}

/* One line "id:controllers:path" of /proc/self/cgroup. */
static uint64_t line_limit(const char *root, struct mg_str line, enum controller what)
{
	const char *first = memchr(line.ptr, ':', line.len);
	if (!first) {
		return UINT64_MAX;
	}
	size_t left = line.len - (size_t)(first + 1 - line.ptr);
	const char *second = memchr(first + 1, ':', left);
	if (!second) {
		return UINT64_MAX;
	}
	struct mg_str list = { first + 1, (size_t)(second - first - 1) };
	struct mg_str group = { second + 1, line.len - (size_t)(second + 1 - line.ptr) };
	if (list.len == 0) {
		return least(walk_up(root, "/sys/fs/cgroup", group, what, true),
		             walk_up(root, "/sys/fs/cgroup/unified", group, what, true));
	}
	const char *name = what == CONTROLLER_MEMORY ? "memory" : "cpu";
	if (!lists_controller(list, name)) {
		return UINT64_MAX;
	}
	const char *mount = what == CONTROLLER_MEMORY ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup/cpu";
	uint64_t limit = walk_up(root, mount, group, what, false);
	if (what == CONTROLLER_CPU) {
		limit = least(limit, walk_up(root, "/sys/fs/cgroup/cpu,cpuacct", group, what, false));
	}
	return limit;
}

static uint64_t cgroup_limit(const char *root, enum controller what)
{
	char *text = read_small(root, "/proc/self/cgroup");
	uint64_t limit = UINT64_MAX;
	for (const char *at = text; at && *at;) {
		size_t len = strcspn(at, "\n");
		limit = least(limit, line_limit(root, (struct mg_str){ at, len }, what));
		at += len + (at[len] == '\n' ? 1 : 0);
	}
	mg_free(text);
	return limit;
}

uint64_t mg_os_cgroup_memory(const char *root)
{
	return cgroup_limit(root, CONTROLLER_MEMORY);
}

uint64_t mg_os_cgroup_millicores(const char *root)
{
	return cgroup_limit(root, CONTROLLER_CPU);
}

unsigned mg_os_cores(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t cores = online > 0 ? (uint64_t)online : 1;
	cpu_set_t allowed;
	if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) > 0) {
		cores = least(cores, (uint64_t)CPU_COUNT(&allowed));
	}
	uint64_t quota = mg_os_cgroup_millicores("");
	if (quota != UINT64_MAX) {
		cores = least(cores, (quota + 999) / 1000);
	}
	return cores > 0 ? (unsigned)cores : 1;
}

/* The machine is told by its boot id, which containers share; a set of CPUs or a quota of CPU time
 * that is less than the machine makes a smaller place of it.  A quota that several groups share
 * from above counts as one of each: they are then thought to be apart, which costs speed alone. */
void mg_os_cores_name_below(const char *root, char name[MG_OS_CORES_NAME_SIZE])
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t allowed;
	struct mg_sb text = { 0 };
	char *boot = read_small(root, "/proc/sys/kernel/random/boot_id");
	*name = '\0';
	if (!boot || !*boot) {
		mg_free(boot);
		return;
	}
	mg_sb_add(&text, boot);
	mg_free(boot);
	if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
		for (size_t i = 0; i < CPU_SETSIZE; i++) {
			if (CPU_ISSET(i, &allowed)) {
				mg_sb_addf(&text, " %zu", i);
			}
		}
	}
	uint64_t quota = mg_os_cgroup_millicores(root);
	if (online > 0 && quota < (uint64_t)online * 1000) {
		/* Each container may call its group "/": the namespace tells them apart. */
		char *group = read_small(root, "/proc/self/cgroup");
		char *space = mg_format("%s/proc/self/ns/cgroup", root);
		struct stat status;
		if (stat(space, &status) == 0) {
			mg_sb_addf(&text, " in %llu", (unsigned long long)status.st_ino);
		}
		mg_sb_addf(&text, " %s", group ? group : "");
		mg_free(space);
		mg_free(group);
	}
	snprintf(name, MG_OS_CORES_NAME_SIZE, "%016llx",
	         (unsigned long long)XXH3_64bits(mg_sb_text(&text), text.len));
	mg_sb_fini(&text);
}

void mg_os_cores_name(char name[MG_OS_CORES_NAME_SIZE])
{
	mg_os_cores_name_below("", name);
}

uint64_t mg_os_memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page = sysconf(_SC_PAGE_SIZE);
	uint64_t machine = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
	uint64_t bytes = least(machine, mg_os_cgroup_memory(""));
	if (bytes == UINT64_MAX || bytes < MEMORY_MIN) {
		return MEMORY_MIN;
	}
	return bytes;
}

uint64_t mg_os_resident_bytes(void)
{
	unsigned long long all = 0, resident = 0;
	long page = sysconf(_SC_PAGE_SIZE);
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL) {
		return 0;
	}
	int read = fscanf(file, "%llu %llu", &all, &resident);
	(void)fclose(file);
	return read == 2 && page > 0 ? resident * (uint64_t)page : 0;
}

uint64_t mg_os_files_raise(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
		return 0;
	}
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = { .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
			limit = raised;
		}
	}
	return limit.rlim_cur;
}

/* Sanitizers map terabytes of shadow, which count here. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static struct {
	pthread_mutex_t lock;
	rlim_t low, high; /* the fence, and the end of the reserve behind it; 0: not set */
	rlim_t slack;     /* further than that, for the time being */
	bool reached;     /* once or more */
	bool raised;
} fence = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool set_fence(rlim_t bytes)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_DATA, &limit) != 0) {
		return false;
	}
	rlim_t before = limit.rlim_cur;
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	return (bytes <= limit.rlim_max || limit.rlim_cur > before) &&
	       setrlimit(RLIMIT_DATA, &limit) == 0;
}

static atomic_bool reserve_opened;

bool mg_os_memory_short(void)
{
	return atomic_exchange(&reserve_opened, false);
}

/* A step of the reserve, for small allocations. */
static bool open_reserve(bool frugal)
{
	atomic_store(&reserve_opened, true);
	mg_mem_tight(true);
	pthread_mutex_lock(&fence.lock);
	struct rlimit limit;
	/* Half of it is for those who must not fail: who handles a failure, and our own code. */
	rlim_t end = fence.slack + (frugal ? fence.low / 2 + fence.high / 2 : fence.high);
	bool more = getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur < end;
	fence.reached = true;
	if (more) {
		rlim_t step = (fence.high - fence.low) / RESERVE_STEPS + 1;
		rlim_t left = end - limit.rlim_cur;
		more = set_fence(limit.rlim_cur + (step < left ? step : left));
		fence.raised = more;
	}
	pthread_mutex_unlock(&fence.lock);
	return more;
}

/* What counts against the fence, and what of it has no page; no memory is asked for. */
static void read_held(rlim_t *data, rlim_t *empty)
{
	unsigned long size, resident, shared, text, lib, pages;
	char line[160];
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, line, sizeof line - 1) : -1;

	if (fd >= 0) {
		close(fd);
	}
	line[len > 0 ? len : 0] = '\0';
	*data = *empty = 0;
	if (sscanf(line, "%lu %lu %lu %lu %lu %lu", &size, &resident, &shared, &text, &lib, &pages) ==
	    6) {
		rlim_t page = (rlim_t)sysconf(_SC_PAGESIZE);
		unsigned long own = resident > shared ? resident - shared : 0;

		*data = pages * page;
		*empty = pages > own ? (pages - own) * page : 0;
	}
}

/* Back to where it was, or as far as what is held allows: a fence before that would take a step for
 * nothing from everybody who needs a few bytes.
 *
 * Once the fence was reached, malloc keeps what was freed below what still lives, for one of its
 * arenas each, and it counts although it has no page. So that a server is not without memory for
 * good, half of that does not count; as pages come back, the fence does. */
static void put_back_locked(void)
{
	rlim_t held, empty;

	read_held(&held, &empty);
	fence.slack = fence.reached ? empty / 2 : 0;
	rlim_t low = fence.low + fence.slack, high = fence.high + fence.slack;
	rlim_t to = held < low ? low : held < high ? held : high;

	mg_mem_tight(to > low);
	fence.raised = !set_fence(to) || to > fence.low;
}

void mg_os_memory_fence(void)
{
	struct rlimit limit;
	pthread_mutex_lock(&fence.lock);
	if (!fence.low && getrlimit(RLIMIT_DATA, &limit) == 0) {
		rlim_t own = mg_os_memory_bytes() / 8 * 7;
		fence.low = limit.rlim_cur < own ? limit.rlim_cur : own;
		fence.high = fence.low + fence.low / RESERVE_SHARE;
		if (fence.high > limit.rlim_max) { /* a hard limit: the reserve lies before it */
			fence.high = limit.rlim_max;
			fence.low = fence.high - fence.high / (RESERVE_SHARE + 1);
		}
		fence.raised = true;
		mg_mem_on_failure(open_reserve);
	}
	if (fence.raised) {
		put_back_locked();
	}
	pthread_mutex_unlock(&fence.lock);
}

#else

void mg_os_memory_fence(void)
{
}

bool mg_os_memory_short(void)
{
	return false;
}

#endif
