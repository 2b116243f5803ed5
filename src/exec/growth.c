/* growth.c - see growth.h. */
#include "exec/growth.h"

#include "base/log.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

struct grown {
	uint64_t id, bytes, next; /* next: at which it is told */
};

struct mg_growth {
	pthread_mutex_t lock; /* guards what follows */
	struct grown tables[MG_GROWTH_TABLES_MAX];
	size_t count;
};

struct mg_growth *mg_growth_new(void)
{
	struct mg_growth *growth = mg_alloc0(sizeof *growth);

	pthread_mutex_init(&growth->lock, NULL);
	return growth;
}

void mg_growth_free(struct mg_growth *growth)
{
	if (growth) {
		pthread_mutex_destroy(&growth->lock);
		mg_free(growth);
	}
}

/* Tables of a cluster's beginning have no id (mg_table_stored). */
static uint64_t id_of(const struct mg_table *table)
{
	const char *name = table->stored && *table->stored ? table->stored : table->name;

	return table->id ? table->id
	                 : XXH3_64bits_withSeed(name, strlen(name),
	                                        XXH3_64bits(table->schema, strlen(table->schema)));
}

static struct grown *find(struct mg_growth *growth, const struct mg_table *table)
{
	uint64_t id = id_of(table);

	for (size_t i = 0; i < growth->count; i++) {
		if (growth->tables[i].id == id) {
			return &growth->tables[i];
		}
	}
	return NULL;
}

static void forget(struct mg_growth *growth, const struct grown *grown)
{
	size_t at = (size_t)(grown - growth->tables);

	growth->count--;
	memmove(&growth->tables[at], &growth->tables[at + 1],
	        (growth->count - at) * sizeof *growth->tables);
}

static void pass(struct grown *grown)
{
	while (grown->next <= grown->bytes) {
		grown->next *= 2;
	}
}

/* True: it is to be told now. */
static bool add(struct mg_growth *growth, const struct mg_table *table, uint64_t least,
                uint64_t bytes, uint64_t *size)
{
	pthread_mutex_lock(&growth->lock);
	struct grown *grown = find(growth, table);

	if (!grown) {
		if (growth->count == MG_GROWTH_TABLES_MAX) {
			forget(growth, growth->tables);
		}
		grown = &growth->tables[growth->count++];
		*grown = (struct grown){ id_of(table), least, MG_GROWTH_FIRST_BYTES };
		pass(grown);
	}
	grown->bytes += bytes;
	grown->bytes = grown->bytes > least ? grown->bytes : least;
	bool tell = grown->bytes >= grown->next;

	*size = grown->bytes;
	pass(grown);
	pthread_mutex_unlock(&growth->lock);
	return tell;
}

bool mg_growth_look(struct mg_growth *growth, const struct mg_table *table, uint64_t rows,
                    uint64_t bytes, char *text, size_t text_size)
{
	uint64_t wide = rows * table->column_count * 8, size = 0;

	if (table->key_count ||
	    !add(growth, table, wide > table->bytes ? wide : table->bytes, bytes, &size)) {
		return false;
	}
	mg_log(MG_LOG_WARN, "table.large", "table=%s.%s bytes=%llu", table->schema, table->name,
	       (unsigned long long)size);
	if (text_size) {
		(void)snprintf(text, text_size,
		               "the reference table \"%s\" holds about %llu MB, and every node has all of "
		               "it: ALTER TABLE ... SET PARTITIONED BY (column) spreads it over the shards",
		               table->name, (unsigned long long)(size / 1000000));
	}
	return true;
}

void mg_growth_forget(struct mg_growth *growth, const struct mg_table *table)
{
	pthread_mutex_lock(&growth->lock);
	const struct grown *grown = find(growth, table);

	if (grown) {
		forget(growth, grown);
	}
	pthread_mutex_unlock(&growth->lock);
}
