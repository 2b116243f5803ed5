/*
 * catalog_fields.c - see catalog_fields.h.
 *
 * Rule: a stored name never changes; a new field gets an empty value when an old file is read.
 */
#include "catalog/catalog_fields.h"

#include <stddef.h>
#include <string.h>

#define NUMBER(stored, shown, kind, type, member)      \
	{                                                  \
		stored, shown, kind, offsetof(type, member), 0 \
	}
#define TEXT(stored, shown, type, member)                       \
	{                                                           \
		stored, shown, MG_FIELD_TEXT, offsetof(type, member), 0 \
	}
#define CHARS(stored, shown, type, member)                                                 \
	{                                                                                      \
		stored, shown, MG_FIELD_CHARS, offsetof(type, member), sizeof(((type *)0)->member) \
	}
#define LIST(stored, shown, type, member, count)                                    \
	{                                                                               \
		stored, shown, MG_FIELD_LIST, offsetof(type, member), offsetof(type, count) \
	}
#define END                            \
	{                                  \
		NULL, NULL, MG_FIELD_U16, 0, 0 \
	}

const struct mg_field mg_catalog__head_fields[] = {
	TEXT("cluster_id", "cluster_id", struct mg_catalog_data, cluster_id),
	TEXT("name", "name", struct mg_catalog_data, name),
	TEXT("sample", "sample", struct mg_catalog_data, sample),
	NUMBER("version", "catalog_version", MG_FIELD_U64, struct mg_catalog_data, version),
	NUMBER("shard_count", "shard_count", MG_FIELD_U32, struct mg_catalog_data, shard_count),
	NUMBER("kv_shards", "kv_shards", MG_FIELD_U32, struct mg_catalog_data, kv_shards),
	LIST("kv_born", NULL, struct mg_catalog_data, kv_born, kv_born_count),
	NUMBER("applied", NULL, MG_FIELD_U64, struct mg_catalog_data, applied),
	LIST("schemas", NULL, struct mg_catalog_data, schemas, schema_count),
	END,
};

/* The file has the slots as one list, "slots". */
const struct mg_field mg_catalog__shard_fields[] = {
	NUMBER("id", "id", MG_FIELD_U32, struct mg_shard, id),
	NUMBER(NULL, "slot_first", MG_FIELD_U16, struct mg_shard, slot_first),
	NUMBER(NULL, "slot_last", MG_FIELD_U16, struct mg_shard, slot_last),
	TEXT("file", "file", struct mg_shard, file),
	NUMBER("rows", "rows", MG_FIELD_U64, struct mg_shard, rows),
	NUMBER("bytes", "bytes", MG_FIELD_U64, struct mg_shard, bytes),
	CHARS("sha256", "sha256", struct mg_shard, sha256),
	CHARS("created", "created", struct mg_shard, created),
	TEXT("engine", "engine_version", struct mg_shard, engine_version),
	NUMBER("file_format", "file_format", MG_FIELD_U32, struct mg_shard, file_format),
	END,
};

const struct mg_field mg_catalog__table_fields[] = {
	TEXT("schema", "schema", struct mg_table, schema),
	TEXT("name", "name", struct mg_table, name),
	LIST("keys", "partitioned_by", struct mg_table, keys, key_count),
	LIST("primary_key", "primary_key", struct mg_table, primary_key, primary_key_count),
	NUMBER("rows", "rows", MG_FIELD_U64, struct mg_table, rows),
	NUMBER("bytes", NULL, MG_FIELD_U64, struct mg_table, bytes),
	NUMBER("version", NULL, MG_FIELD_U32, struct mg_table, version),
	NUMBER("id", NULL, MG_FIELD_U64, struct mg_table, id),
	TEXT("definition", NULL, struct mg_table, definition),
	TEXT("declared", NULL, struct mg_table, declared),
	TEXT("stored", NULL, struct mg_table, stored),
	TEXT("whole", NULL, struct mg_table, whole),
	END,
};

const struct mg_field mg_catalog__object_fields[] = {
	TEXT("kind", NULL, struct mg_object, kind),
	TEXT("schema", NULL, struct mg_object, schema),
	TEXT("name", NULL, struct mg_object, name),
	TEXT("sql", NULL, struct mg_object, sql),
	NUMBER("id", NULL, MG_FIELD_U64, struct mg_object, id),
	TEXT("reserved", NULL, struct mg_object, reserved),
	END,
};

const struct mg_field mg_catalog__done_fields[] = {
	TEXT("key", NULL, struct mg_catalog_done, key),
	TEXT("digest", NULL, struct mg_catalog_done, digest),
	NUMBER("rows", NULL, MG_FIELD_U64, struct mg_catalog_done, rows),
	NUMBER("at_ms", NULL, MG_FIELD_U64, struct mg_catalog_done, at_ms),
	END,
};

const struct mg_field mg_catalog__space_fields[] = {
	TEXT("name", NULL, struct mg_catalog_space, name),
	NUMBER("default_ttl_ms", NULL, MG_FIELD_U64, struct mg_catalog_space, default_ttl_ms),
	NUMBER("quota_bytes", NULL, MG_FIELD_U64, struct mg_catalog_space, quota_bytes),
	NUMBER("quota_keys", NULL, MG_FIELD_U64, struct mg_catalog_space, quota_keys),
	END,
};

const struct mg_field mg_catalog__node_fields[] = {
	NUMBER("number", NULL, MG_FIELD_U64, struct mg_catalog_node, number),
	TEXT("id", NULL, struct mg_catalog_node, id),
	TEXT("address", NULL, struct mg_catalog_node, address),
	TEXT("state", NULL, struct mg_catalog_node, state),
	END,
};

/* ---- writing ---- */

static void add_text(struct mg_sb *out, const char *text)
{
	mg_sb_add_json(out, text ? text : "", text ? strlen(text) : 0);
}

static void add_list(struct mg_sb *out, const char *const *texts, size_t count)
{
	mg_sb_add_char(out, '[');
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(out, i ? ", " : "");
		add_text(out, texts[i]);
	}
	mg_sb_add_char(out, ']');
}

void mg_catalog__add_value(struct mg_sb *out, const struct mg_field *field, const void *object)
{
	const char *at = (const char *)object + field->offset;
	switch (field->kind) {
	case MG_FIELD_U16:
		mg_sb_addf(out, "%u", *(const uint16_t *)(const void *)at);
		break;
	case MG_FIELD_U32:
		mg_sb_addf(out, "%u", *(const uint32_t *)(const void *)at);
		break;
	case MG_FIELD_U64:
		mg_sb_addf(out, "%llu", (unsigned long long)*(const uint64_t *)(const void *)at);
		break;
	case MG_FIELD_TEXT:
		add_text(out, *(const char *const *)(const void *)at);
		break;
	case MG_FIELD_CHARS:
		add_text(out, at);
		break;
	case MG_FIELD_LIST:
		add_list(out, *(const char *const *const *)(const void *)at,
		         *(const size_t *)(const void *)((const char *)object + field->size));
		break;
	}
}

void mg_catalog__write_fields(struct mg_sb *out, const struct mg_field *fields, const void *object)
{
	const char *comma = "";
	for (; fields->stored || fields->shown; fields++) {
		if (fields->stored) {
			mg_sb_addf(out, "%s\"%s\":", comma, fields->stored);
			mg_catalog__add_value(out, fields, object);
			comma = ",";
		}
	}
}

/* ---- reading ---- */

static const char **read_list(struct mg_arena *arena, const struct mg_json *list, size_t *count)
{
	const char **texts = mg_arena_new_array(arena, const char *, (list ? list->count : 0) + 1);
	*count = 0;
	mg_json_each(item, list) {
		texts[(*count)++] = mg_arena_strdup(arena, mg_json_text(item));
	}
	return texts;
}

static uint64_t read_number(const struct mg_json *json, const char *name)
{
	int64_t value = mg_json_get_int(json, name, 0);
	return value < 0 ? 0 : (uint64_t)value;
}

bool mg_catalog__read_fields(struct mg_arena *arena, const struct mg_json *json,
                             const struct mg_field *fields, void *object)
{
	for (; fields->stored || fields->shown; fields++) {
		if (!fields->stored) {
			continue;
		}
		void *at = (char *)object + fields->offset;
		const char *text = mg_json_get_text(json, fields->stored);
		uint64_t number = read_number(json, fields->stored);
		switch (fields->kind) {
		case MG_FIELD_U16:
			*(uint16_t *)at = (uint16_t)number;
			break;
		case MG_FIELD_U32:
			*(uint32_t *)at = (uint32_t)number;
			break;
		case MG_FIELD_U64:
			*(uint64_t *)at = number;
			break;
		case MG_FIELD_TEXT:
			*(const char **)at = mg_arena_strdup(arena, text ? text : "");
			break;
		case MG_FIELD_CHARS:
			if (text && strlen(text) >= fields->size) {
				return false;
			}
			memcpy(at, text ? text : "", text ? strlen(text) + 1 : 1);
			break;
		case MG_FIELD_LIST:
			*(const char ***)at = read_list(arena, mg_json_get(json, fields->stored),
			                                (size_t *)(void *)((char *)object + fields->size));
			break;
		}
		if ((fields->kind == MG_FIELD_U16 && number > UINT16_MAX) ||
		    (fields->kind == MG_FIELD_U32 && number > UINT32_MAX)) {
			return false;
		}
	}
	return true;
}
