/*
 * manifest.c - the list of shard files and tables for people and programs, as JSON and as YAML.
 *
 * The same members in the same order in both.  Passwords and users are not in it.  Pure; thread:
 * any.
 */
#include "catalog/catalog.h"

#include <string.h>

static void text(struct mg_sb *out, const char *value)
{
	mg_sb_add_json(out, value ? value : "", value ? strlen(value) : 0);
}

/* A JSON list, which is YAML too. */
static void list(struct mg_sb *out, const char *const *values, size_t count)
{
	mg_sb_add_char(out, '[');
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(out, i ? ", " : "");
		text(out, values[i]);
	}
	mg_sb_add_char(out, ']');
}

static void shard_json(struct mg_sb *out, const struct mg_shard *shard)
{
	mg_sb_addf(out, "{\"id\": %u, \"slot_first\": %u, \"slot_last\": %u, \"file\": ", shard->id,
	           shard->slot_first, shard->slot_last);
	text(out, shard->file);
	mg_sb_addf(out,
	           ", \"rows\": %llu, \"bytes\": %llu, \"sha256\": ", (unsigned long long)shard->rows,
	           (unsigned long long)shard->bytes);
	text(out, shard->sha256);
	mg_sb_add(out, ", \"created\": ");
	text(out, shard->created);
	mg_sb_add(out, ", \"engine_version\": ");
	text(out, shard->engine_version);
	mg_sb_addf(out, ", \"file_format\": %u}", shard->file_format);
}

static void table_json(struct mg_sb *out, const struct mg_table *table)
{
	mg_sb_add(out, "{\"schema\": ");
	text(out, table->schema);
	mg_sb_add(out, ", \"name\": ");
	text(out, table->name);
	mg_sb_add(out, ", \"partitioned_by\": ");
	list(out, table->keys, table->key_count);
	mg_sb_add(out, ", \"primary_key\": ");
	list(out, table->primary_key, table->primary_key_count);
	mg_sb_addf(out, ", \"rows\": %llu, \"columns\": {", (unsigned long long)table->rows);
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(out, i ? ", " : "");
		text(out, table->columns[i].name);
		mg_sb_add(out, ": ");
		text(out, table->columns[i].type);
	}
	mg_sb_add(out, "}}");
}

static void head(const struct mg_catalog_data *data, struct mg_sb *out, const char *quote,
                 const char *comma)
{
	mg_sb_addf(out, "%scluster_id%s: ", quote, quote);
	text(out, data->cluster_id);
	mg_sb_addf(out, "%s\n%sname%s: ", comma, quote, quote);
	text(out, data->name);
	mg_sb_addf(out, "%s\n%ssample%s: ", comma, quote, quote);
	text(out, data->sample);
	mg_sb_addf(out, "%s\n%scatalog_version%s: %llu%s\n", comma, quote, quote,
	           (unsigned long long)data->version, comma);
	mg_sb_addf(out, "%sshard_count%s: %u%s\n", quote, quote, data->shard_count, comma);
}

void mg_catalog_manifest_json(const struct mg_catalog_data *data, struct mg_sb *out)
{
	mg_sb_add(out, "{");
	head(data, out, "\"", ",");
	mg_sb_add(out, "\"shards\": [");
	for (size_t i = 0; i <= data->shard_count; i++) {
		mg_sb_add(out, i ? ",\n  " : "\n  ");
		shard_json(out, &data->shards[i]);
	}
	mg_sb_add(out, "],\n\"tables\": [");
	for (size_t i = 0; i < data->table_count; i++) {
		mg_sb_add(out, i ? ",\n  " : "\n  ");
		table_json(out, &data->tables[i]);
	}
	mg_sb_add(out, "]}\n");
}

static void shard_yaml(struct mg_sb *out, const struct mg_shard *shard)
{
	mg_sb_addf(out, "  - id: %u\n    slot_first: %u\n    slot_last: %u\n    file: ", shard->id,
	           shard->slot_first, shard->slot_last);
	text(out, shard->file);
	mg_sb_addf(out,
	           "\n    rows: %llu\n    bytes: %llu\n    sha256: ", (unsigned long long)shard->rows,
	           (unsigned long long)shard->bytes);
	text(out, shard->sha256);
	mg_sb_add(out, "\n    created: ");
	text(out, shard->created);
	mg_sb_add(out, "\n    engine_version: ");
	text(out, shard->engine_version);
	mg_sb_addf(out, "\n    file_format: %u\n", shard->file_format);
}

static void table_yaml(struct mg_sb *out, const struct mg_table *table)
{
	mg_sb_add(out, "  - schema: ");
	text(out, table->schema);
	mg_sb_add(out, "\n    name: ");
	text(out, table->name);
	mg_sb_add(out, "\n    partitioned_by: ");
	list(out, table->keys, table->key_count);
	mg_sb_add(out, "\n    primary_key: ");
	list(out, table->primary_key, table->primary_key_count);
	mg_sb_addf(out, "\n    rows: %llu\n    columns:\n", (unsigned long long)table->rows);
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(out, "      ");
		text(out, table->columns[i].name);
		mg_sb_add(out, ": ");
		text(out, table->columns[i].type);
		mg_sb_add_char(out, '\n');
	}
}

void mg_catalog_manifest_yaml(const struct mg_catalog_data *data, struct mg_sb *out)
{
	head(data, out, "", "");
	mg_sb_add(out, "shards:\n");
	for (size_t i = 0; i <= data->shard_count; i++) {
		shard_yaml(out, &data->shards[i]);
	}
	mg_sb_add(out, data->table_count ? "tables:\n" : "tables: []\n");
	for (size_t i = 0; i < data->table_count; i++) {
		table_yaml(out, &data->tables[i]);
	}
}
