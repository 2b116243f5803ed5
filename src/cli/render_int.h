/*
 * render_int.h - what render.c and box.c share.
 */
#ifndef MG_CLI_RENDER_INT_H
#define MG_CLI_RENDER_INT_H

#include "cli/render.h"
#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"

struct mg_box;

struct mg_render {
	struct mg_render_options options;
	struct mg_sb pending;           /* text that is not written yet */
	struct mg_sb value;
	struct mg_arrow_view *view;
	struct mg_arrow_encoder *encoder;
	struct mg_copy_writer *parquet;
	struct mg_box *box;
	struct mg_arena *arena;         /* of the statement */
	size_t count;
	const char *const *names;       /* unique */
	bool plain_text;                /* EXPLAIN */
	bool bytes;                     /* COPY ... TO STDOUT: written as they are */
	size_t name_width;              /* line format */
	uint64_t rows;
	bool pipe_broken;
};

/* A box table that is being collected. */
struct mg_box *mg_box_new(const struct mg_render_options *options, const struct mg_arrow_view *view,
                          const struct mg_render_table *table);
void mg_box_free(struct mg_box *box);
void mg_box_batch(struct mg_box *box, const struct mg_arrow_view *view);
void mg_box_draw(struct mg_box *box, struct mg_sb *out);

#endif
