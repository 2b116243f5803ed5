/* reads.c - see reads.h. */
#include "exec/reads.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

void mg_exec_reads_add(struct mg_exec_reads *reads, uint32_t shard, const char *table,
                       uint64_t rows, uint64_t scanned)
{
	struct mg_exec_read read = { .shard = shard };
	mg_copy_text(read.table, sizeof read.table, table);
	size_t i = 0;
	while (i < reads->count &&
	       (reads->items[i].shard != shard || strcmp(reads->items[i].table, read.table) != 0)) {
		i++;
	}
	if (i == reads->count) {
		if (reads->count == MG_EXEC_READS_MAX) {
			return;
		}
		mg_grow(reads->items, reads->count, reads->cap);
		reads->items[reads->count++] = read;
	}
	reads->items[i].rows += rows;
	reads->items[i].scanned += scanned;
}

void mg_exec_reads_clear(struct mg_exec_reads *reads)
{
	reads->count = 0;
}

void mg_exec_reads_fini(struct mg_exec_reads *reads)
{
	mg_free(reads->items);
	*reads = (struct mg_exec_reads){ 0 };
}

/* Attached shards are called s0, s1, ... (engine.h); other tables are nobody's rows. */
void mg_exec_reads_add_scan(void *arg, const struct mg_duck_scan *scan)
{
	const char *digits = scan->database + 1;
	size_t len = strspn(digits, "0123456789");
	if (scan->database[0] != 's' || !len || len > 9 || digits[len]) {
		return;
	}
	struct mg_sb name = { 0 };
	mg_sb_addf(&name, "%s.%s", scan->schema, scan->table);
	mg_exec_reads_add(arg, (uint32_t)strtoul(digits, NULL, 10), mg_sb_text(&name), scan->rows,
	                  scan->scanned);
	mg_sb_fini(&name);
}
