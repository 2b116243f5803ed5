/*
 * sim_disk.c - see sim_disk.h.
 */
#include "sim_disk.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define FILES_MAX 256

struct content {
	uint8_t *bytes;
	uint64_t size;
};

/* A file without regard to its name.  seen: what a reader gets; kept: what a crash cannot take. */
struct node {
	struct content seen, kept;
	bool *dirty; /* of each sector of seen */
	size_t dirty_cap;
	int refs;
};

struct name {
	char text[MG_DISK_NAME_MAX];
	struct node *node;
};

struct names {
	struct name list[FILES_MAX];
	size_t count;
};

struct mg_disk_file {
	struct node *node;
};

struct job {
	void (*run)(void *arg);
	void *arg;
};

struct sim_disk {
	struct mg_disk base;
	uint64_t random;
	struct names seen;
	struct names *history; /* durable names first, then each state since */
	size_t history_count, history_cap;
	struct job *jobs[MG_DISK_LANES];
	size_t job_count[MG_DISK_LANES], job_cap[MG_DISK_LANES];
	uint64_t die_after; /* operations that still succeed */
	uint64_t limit;
	bool lying;
	size_t open_files;
};

static struct sim_disk *sim(struct mg_disk *disk)
{
	return (struct sim_disk *)disk;
}

static uint64_t next_random(struct sim_disk *disk)
{
	uint64_t z = (disk->random += 0x9E3779B97F4A7C15u);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* ---- nodes and names ---- */

static void node_unref(struct node *node)
{
	if (--node->refs == 0) {
		free(node->seen.bytes);
		free(node->kept.bytes);
		free(node->dirty);
		free(node);
	}
}

static void names_copy(struct names *to, const struct names *from)
{
	*to = *from;
	for (size_t i = 0; i < to->count; i++) {
		to->list[i].node->refs++;
	}
}

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->count; i++) {
		node_unref(names->list[i].node);
	}
	names->count = 0;
}

static struct name *names_find(struct names *names, const char *text)
{
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->list[i].text, text) == 0) {
			return &names->list[i];
		}
	}
	return NULL;
}

static void names_drop(struct names *names, struct name *name)
{
	node_unref(name->node);
	*name = names->list[--names->count];
}

/* A state of the names that a crash may come back to. */
static void remember(struct sim_disk *disk)
{
	mg_grow(disk->history, disk->history_count, disk->history_cap);
	names_copy(&disk->history[disk->history_count++], &disk->seen);
}

static void forget_history(struct sim_disk *disk)
{
	for (size_t i = 0; i < disk->history_count; i++) {
		names_fini(&disk->history[i]);
	}
	disk->history_count = 0;
}

static void resize(struct node *node, uint64_t size)
{
	size_t sectors = (size_t)((size + SECTOR - 1) / SECTOR);

	if (size > node->seen.size) {
		node->seen.bytes = realloc(node->seen.bytes, size);
		memset(node->seen.bytes + node->seen.size, 0, size - node->seen.size);
	}
	if (sectors > node->dirty_cap) {
		node->dirty = realloc(node->dirty, sectors);
		memset(node->dirty + node->dirty_cap, 0, sectors - node->dirty_cap);
		node->dirty_cap = sectors;
	}
	node->seen.size = size;
}

/* ---- operations ---- */

/* One more operation: fails when the disk has died. */
static int operate(struct sim_disk *disk, struct mg_error *err)
{
	if (disk->die_after == 0) {
		return mg_error_set(err, MG_E_IO, "the disk has died");
	}
	disk->die_after -= disk->die_after != UINT64_MAX;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int op_list(struct mg_disk *base, char ***out, size_t *count, struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	size_t head = disk->seen.count * sizeof(char *);
	char **names = mg_alloc(head + disk->seen.count * MG_DISK_NAME_MAX + 1);

	(void)err;
	for (size_t i = 0; i < disk->seen.count; i++) {
		names[i] = (char *)names + head + i * MG_DISK_NAME_MAX;
		mg_copy_text(names[i], MG_DISK_NAME_MAX, disk->seen.list[i].text);
	}
	qsort(names, disk->seen.count, sizeof *names, compare_names);
	*out = names;
	*count = disk->seen.count;
	return 0;
}

static int op_open(struct mg_disk *base, const char *text, bool create, struct mg_disk_file **out,
                   struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	struct name *name = names_find(&disk->seen, text);
	int code = operate(disk, err);

	if (code) {
		return code;
	}
	if (!name && !create) {
		return mg_error_set(err, MG_E_NOT_FOUND, "there is no file \"%s\"", text);
	}
	if (create && name) {
		names_drop(&disk->seen, name);
		name = NULL;
	}
	if (!name) {
		mg_assert(disk->seen.count < FILES_MAX);
		name = &disk->seen.list[disk->seen.count++];
		mg_copy_text(name->text, sizeof name->text, text);
		name->node = calloc(1, sizeof *name->node);
		name->node->refs = 1;
		remember(disk);
	}
	*out = malloc(sizeof **out);
	(*out)->node = name->node;
	name->node->refs++;
	disk->open_files++;
	return 0;
}

static void op_close(struct mg_disk *base, struct mg_disk_file *file)
{
	sim(base)->open_files--;
	node_unref(file->node);
	free(file);
}

static int op_size(struct mg_disk *base, struct mg_disk_file *file, uint64_t *size,
                   struct mg_error *err)
{
	(void)base;
	(void)err;
	*size = file->node->seen.size;
	return 0;
}

static int op_read(struct mg_disk *base, struct mg_disk_file *file, uint64_t offset, void *data,
                   size_t size, struct mg_error *err)
{
	int code = operate(sim(base), err);

	if (!code && offset + size > file->node->seen.size) {
		code = mg_error_set(err, MG_E_CORRUPT, "the file is too short");
	}
	if (!code) {
		memcpy(data, file->node->seen.bytes + offset, size);
	}
	return code;
}

static uint64_t used_bytes(const struct sim_disk *disk)
{
	uint64_t used = 0;

	for (size_t i = 0; i < disk->seen.count; i++) {
		used += disk->seen.list[i].node->seen.size;
	}
	return used;
}

static int op_write(struct mg_disk *base, struct mg_disk_file *file, uint64_t offset,
                    const void *data, size_t size, struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	struct node *node = file->node;
	uint64_t end = offset + size;
	int code = operate(disk, err);

	if (code) {
		return code;
	}
	if (disk->limit && end > node->seen.size &&
	    used_bytes(disk) + end - node->seen.size > disk->limit) {
		return mg_error_set(err, MG_E_DISK_FULL, "the disk is full");
	}
	if (end > node->seen.size) {
		resize(node, end);
	}
	memcpy(node->seen.bytes + offset, data, size);
	for (uint64_t at = offset / SECTOR; at * SECTOR < end; at++) {
		node->dirty[at] = true;
	}
	return 0;
}

static void keep(struct node *node)
{
	node->kept.bytes = realloc(node->kept.bytes, node->seen.size + 1);
	node->kept.size = node->seen.size;
	if (node->seen.size) {
		memcpy(node->kept.bytes, node->seen.bytes, node->seen.size);
		memset(node->dirty, 0, node->dirty_cap);
	}
}

static int op_sync(struct mg_disk *base, struct mg_disk_file *file, struct mg_error *err)
{
	int code = operate(sim(base), err);

	if (!code && !sim(base)->lying) {
		keep(file->node);
	}
	return code;
}

static int op_rename(struct mg_disk *base, const char *from, const char *to, struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	int code = operate(disk, err);
	struct name *old = names_find(&disk->seen, to);

	if (code) {
		return code;
	}
	if (!names_find(&disk->seen, from)) {
		return mg_error_set(err, MG_E_NOT_FOUND, "there is no file \"%s\"", from);
	}
	if (old) {
		names_drop(&disk->seen, old);
	}
	struct name *name = names_find(&disk->seen, from);

	mg_copy_text(name->text, sizeof name->text, to);
	remember(disk);
	return 0;
}

static int op_remove(struct mg_disk *base, const char *text, struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	int code = operate(disk, err);
	struct name *name = names_find(&disk->seen, text);

	if (!code && name) {
		names_drop(&disk->seen, name);
		remember(disk);
	}
	return code;
}

static int op_sync_names(struct mg_disk *base, struct mg_error *err)
{
	struct sim_disk *disk = sim(base);
	int code = operate(disk, err);

	if (!code && !disk->lying) {
		forget_history(disk);
		remember(disk);
	}
	return code;
}

static uint64_t op_free_bytes(struct mg_disk *base)
{
	struct sim_disk *disk = sim(base);
	uint64_t used = used_bytes(disk);

	return !disk->limit ? UINT64_C(1) << 40 : used < disk->limit ? disk->limit - used : 0;
}

static void op_submit(struct mg_disk *base, unsigned lane, void (*run)(void *arg), void *arg)
{
	struct sim_disk *disk = sim(base);

	mg_assert(lane < MG_DISK_LANES);
	mg_grow(disk->jobs[lane], disk->job_count[lane], disk->job_cap[lane]);
	disk->jobs[lane][disk->job_count[lane]++] = (struct job){ run, arg };
}

/* Who closes a log on a disk that has died lets its jobs run, and fail. */
static void op_drain(struct mg_disk *base)
{
	for (unsigned lane = 0; lane < MG_DISK_LANES; lane++) {
		while (sim_disk_step(sim(base), lane)) {
		}
	}
}

static const struct mg_disk_ops sim_ops = {
	.list = op_list,
	.open = op_open,
	.close = op_close,
	.size = op_size,
	.read = op_read,
	.write = op_write,
	.sync = op_sync,
	.rename = op_rename,
	.remove = op_remove,
	.sync_names = op_sync_names,
	.free_bytes = op_free_bytes,
	.submit = op_submit,
	.drain = op_drain,
};

/* ---- the test's side ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
	struct sim_disk *disk = calloc(1, sizeof *disk);

	disk->base.ops = &sim_ops;
	disk->random = seed;
	disk->die_after = UINT64_MAX;
	remember(disk);
	return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
	forget_history(disk);
	mg_free(disk->history);
	names_fini(&disk->seen);
	for (size_t i = 0; i < MG_DISK_LANES; i++) {
		mg_free(disk->jobs[i]);
	}
	free(disk);
}

struct mg_disk *sim_disk_face(struct sim_disk *disk)
{
	return &disk->base;
}

bool sim_disk_step(struct sim_disk *disk, unsigned lane)
{
	if (!disk->job_count[lane]) {
		return false;
	}
	struct job job = disk->jobs[lane][0];

	disk->job_count[lane]--;
	memmove(disk->jobs[lane], disk->jobs[lane] + 1, disk->job_count[lane] * sizeof job);
	job.run(job.arg);
	return true;
}

void sim_disk_die_after(struct sim_disk *disk, uint64_t operations)
{
	disk->die_after = operations;
}

bool sim_disk_dead(const struct sim_disk *disk)
{
	return disk->die_after == 0;
}

void sim_disk_kill(struct sim_disk *disk)
{
	for (size_t i = 0; i < MG_DISK_LANES; i++) {
		disk->job_count[i] = 0;
	}
	disk->die_after = UINT64_MAX;
}

/* Each unsynced sector may or may not be there. */
static void tear(struct sim_disk *disk, struct node *node)
{
	uint64_t size = node->seen.size;
	uint8_t *bytes = calloc(1, size + 1);

	memcpy(bytes, node->kept.bytes ? node->kept.bytes : (uint8_t *)"",
	       node->kept.size < size ? node->kept.size : size);
	for (uint64_t at = 0; at * SECTOR < size; at++) {
		uint64_t end = (at + 1) * SECTOR < size ? (at + 1) * SECTOR : size;

		if (node->dirty[at] && next_random(disk) & 1) {
			memcpy(bytes + at * SECTOR, node->seen.bytes + at * SECTOR, end - at * SECTOR);
		}
	}
	free(node->seen.bytes);
	node->seen.bytes = bytes;
	keep(node);
}

void sim_disk_crash(struct sim_disk *disk)
{
	size_t back = (size_t)(next_random(disk) % disk->history_count);
	struct names names;

	sim_disk_kill(disk);
	names_copy(&names, &disk->history[back]);
	names_fini(&disk->seen);
	disk->seen = names;
	for (size_t i = 0; i < disk->seen.count; i++) {
		tear(disk, disk->seen.list[i].node);
	}
	forget_history(disk);
	remember(disk);
}

void sim_disk_limit(struct sim_disk *disk, uint64_t bytes)
{
	disk->limit = bytes;
}

void sim_disk_lie(struct sim_disk *disk, bool lie)
{
	disk->lying = lie;
}

bool sim_disk_flip(struct sim_disk *disk, const char *text, uint64_t offset)
{
	struct name *name = names_find(&disk->seen, text);

	if (!name || offset >= name->node->seen.size) {
		return false;
	}
	name->node->seen.bytes[offset] ^= 0x10;
	keep(name->node);
	return true;
}

size_t sim_disk_open_files(const struct sim_disk *disk)
{
	return disk->open_files;
}
