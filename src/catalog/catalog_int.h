/* catalog_int.h - the catalog's text form: shared by catalog.c, catalog_json.c and manifest.c only.
 */
#ifndef MG_CATALOG_CATALOG_INT_H
#define MG_CATALOG_CATALOG_INT_H

#include "catalog/catalog.h"

void mg_catalog__write(const struct mg_catalog_data *data, struct mg_sb *out);
/* Fails MG_E_CORRUPT for what write cannot have written. */
int mg_catalog__read(struct mg_arena *arena, const char *text, size_t len,
                     struct mg_catalog_data *out, struct mg_error *err);
/* The same in an envelope with format number and checksum, as it lies on disk. */
void mg_catalog__seal(const struct mg_sb *body, struct mg_sb *file);
int mg_catalog__unseal(struct mg_arena *arena, const char *text, size_t len,
                       struct mg_catalog_data *out, struct mg_error *err);

struct mg_json;
/* ---- comments.c: a member of a table's or view's JSON, nothing when there are none ---- */
void mg_catalog__write_comments(struct mg_sb *out, const struct mg_comments *comments);
struct mg_comments mg_catalog__read_comments(struct mg_arena *arena, const struct mg_json *json);

#endif
