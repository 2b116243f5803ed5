/*
 * catalog_fields.h - the members of the catalog's objects, declared once for the catalog's file and
 * for the manifest in both of its forms.  Private to catalog.
 *
 * Pure; thread: any.
 */
#ifndef MG_CATALOG_CATALOG_FIELDS_H
#define MG_CATALOG_CATALOG_FIELDS_H

#include "base/json.h"
#include "catalog/catalog.h"

enum mg_field_kind {
	MG_FIELD_U16,
	MG_FIELD_U32,
	MG_FIELD_U64,
	MG_FIELD_TEXT,  /* const char *; never NULL after reading */
	MG_FIELD_CHARS, /* char[size] in the object */
	MG_FIELD_LIST   /* const char **, its size_t count at `count` */
};

struct mg_field {
	const char *stored; /* name in the catalog's file, frozen with its format; NULL: not there */
	const char *shown;  /* name in the manifest; NULL: not there */
	enum mg_field_kind kind;
	size_t offset;
	size_t size; /* CHARS: bytes in the object; LIST: offset of the count */
};

/* Ended by a field of neither name. */
extern const struct mg_field mg_catalog__head_fields[];  /* struct mg_catalog_data */
extern const struct mg_field mg_catalog__shard_fields[]; /* struct mg_shard */
extern const struct mg_field mg_catalog__table_fields[]; /* struct mg_table, without columns */
extern const struct mg_field mg_catalog__object_fields[]; /* struct mg_object */
extern const struct mg_field mg_catalog__node_fields[];  /* struct mg_catalog_node */
extern const struct mg_field mg_catalog__space_fields[]; /* struct mg_catalog_space */
extern const struct mg_field mg_catalog__done_fields[];  /* struct mg_catalog_done */

/* The field's value as JSON, which is YAML too. */
void mg_catalog__add_value(struct mg_sb *out, const struct mg_field *field, const void *object);
/* All stored fields as members of a JSON object, with commas between. */
void mg_catalog__write_fields(struct mg_sb *out, const struct mg_field *fields, const void *object);
/* What write_fields wrote; missing ones are empty.  False when a text or number does not fit. */
bool mg_catalog__read_fields(struct mg_arena *arena, const struct mg_json *json,
                             const struct mg_field *fields, void *object);

#endif
