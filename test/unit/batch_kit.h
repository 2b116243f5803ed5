/* batch_kit.h - the rows of a statement as one IPC batch, as redo has them. */
#ifndef MG_TEST_BATCH_KIT_H
#define MG_TEST_BATCH_KIT_H

#include "codec/arrow_ipc.h"
#include "store/duck.h"

struct batch {
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema, *rows;
};

static int batch_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *error)
{
	struct batch *batch = arg;
	int code = mg_arrow_encoder_new(&batch->encoder, schema, false, error);

	return code ? code : mg_arrow_encode_schema(batch->encoder, &batch->schema, error);
}

static int batch_put(void *arg, uint32_t target, struct ArrowArray *array, struct mg_error *error)
{
	struct batch *batch = arg;
	uint64_t raw;

	(void)target;
	assert_null(batch->rows);
	return mg_arrow_encode_batch(batch->encoder, array, &batch->rows, &raw, error);
}

static void batch_fini(struct batch *batch)
{
	mg_arrow_encoder_free(batch->encoder);
	mg_buf_unref(batch->schema);
	mg_buf_unref(batch->rows);
}

/* All of them; fails when one batch does not hold them. */
static int batch_make(struct batch *batch, struct mg_duck_conn *conn, const char *select,
                      struct mg_error *error)
{
	const struct mg_duck_sink sink = { .begin = batch_begin, .put = batch_put, .arg = batch };

	*batch = (struct batch){ 0 };
	return mg_duck_scatter(conn, select, NULL, 1, &sink, error);
}

#endif
