/*
 * manifest.c - the list of shard files and tables for people and programs, as JSON and as YAML.
 *
 * The same members in the same order in both: those of catalog_fields.c that are shown.  Passwords
 * and users are not in it.  Values are JSON in both forms, which is YAML too.  Pure; thread: any.
 */
#include "catalog/catalog_fields.h"

#include <string.h>

/* What stands around members: `{"a": 1, "b": 2}`, or lines. */
struct style {
	const char *quote;   /* around a name */
	const char *first;   /* before the first member */
	const char *between; /* before each other one */
};

static void add_fields(struct mg_sb *out, const struct style *style, const struct mg_field *fields,
                       const void *object)
{
	const char *before = style->first;
	for (; fields->stored || fields->shown; fields++) {
		if (fields->shown) {
			mg_sb_addf(out, "%s%s%s%s: ", before, style->quote, fields->shown, style->quote);
			mg_catalog__add_value(out, fields, object);
			before = style->between;
		}
	}
}

static void add_columns(struct mg_sb *out, const struct mg_table *table, const char *first,
                        const char *between)
{
	for (size_t i = 0; i < table->column_count; i++) {
		const struct mg_column *column = &table->columns[i];
		mg_sb_add(out, i ? between : first);
		mg_sb_add_json(out, column->name, strlen(column->name));
		mg_sb_add(out, ": ");
		mg_sb_add_json(out, column->type, strlen(column->type));
	}
}

void mg_catalog_manifest_json(const struct mg_catalog_data *data, struct mg_sb *out)
{
	static const struct style head = { "\"", "{", ",\n" };
	static const struct style item = { "\"", "{", ", " };
	add_fields(out, &head, mg_catalog__head_fields, data);
	mg_sb_add(out, ",\n\"shards\": [");
	for (size_t i = 0; i <= data->shard_count; i++) {
		mg_sb_add(out, i ? ",\n  " : "\n  ");
		add_fields(out, &item, mg_catalog__shard_fields, &data->shards[i]);
		mg_sb_add_char(out, '}');
	}
	mg_sb_add(out, "],\n\"tables\": [");
	for (size_t i = 0; i < data->table_count; i++) {
		mg_sb_add(out, i ? ",\n  " : "\n  ");
		add_fields(out, &item, mg_catalog__table_fields, &data->tables[i]);
		mg_sb_add(out, ", \"columns\": {");
		add_columns(out, &data->tables[i], "", ", ");
		mg_sb_add(out, "}}");
	}
	mg_sb_add(out, "]}\n");
}

void mg_catalog_manifest_yaml(const struct mg_catalog_data *data, struct mg_sb *out)
{
	static const struct style head = { "", "", "\n" };
	static const struct style item = { "", "\n  - ", "\n    " };
	add_fields(out, &head, mg_catalog__head_fields, data);
	mg_sb_add(out, "\nshards:");
	for (size_t i = 0; i <= data->shard_count; i++) {
		add_fields(out, &item, mg_catalog__shard_fields, &data->shards[i]);
	}
	mg_sb_add(out, data->table_count ? "\ntables:" : "\ntables: []");
	for (size_t i = 0; i < data->table_count; i++) {
		add_fields(out, &item, mg_catalog__table_fields, &data->tables[i]);
		mg_sb_add(out, "\n    columns:");
		add_columns(out, &data->tables[i], "\n      ", "\n      ");
	}
	mg_sb_add_char(out, '\n');
}
