/*
 * arrow_schema.h - what encoder and decoder agree on about the shape of columns.  Private to codec.
 */
#ifndef MG_CODEC_ARROW_SCHEMA_H
#define MG_CODEC_ARROW_SCHEMA_H

#include "base/error.h"

#include <nanoarrow/nanoarrow.h>

#define MG_ARROW_DEPTH_MAX 64
#define MG_ARROW_DECIMAL_MAX 76    /* digits of a 256-bit decimal */
#define MG_ARROW_COLUMNS_MAX 10000 /* nodes of the tree, nested ones counted */

/* Refuses what neither side can carry: a root that is no struct, views, run ends, dense unions,
 * dictionaries of nested values, trees that are too deep or too wide. */
int mg_arrow__check_shape(const struct ArrowArrayView *view, struct mg_error *err);

/* Point a view of the same shape at an array.  As nanoarrow's ArrowArrayViewSetArray, but it takes
 * an unknown count of NULLs (-1) without a bitmap too, which Arrow allows.  0 or nanoarrow's error.
 */
int mg_arrow__set_view(struct ArrowArrayView *view, const struct ArrowArray *array,
                       struct ArrowError *why);

/* Take "nullable" off the keys of maps: nanoarrow's reader sets it on each dictionary-coded field,
 * whatever the message says, and then refuses a map whose keys are an ENUM. */
void mg_arrow__repair_maps(struct ArrowSchema *schema);

#endif
