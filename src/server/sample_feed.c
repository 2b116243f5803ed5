/*
 * sample_feed.c - generator processes, and their frames in the order of the parts.
 *
 *   child 0   part 0 ====> part 3 ...   child 1   part 1 ...wait... ====> part 4 ...
 *
 * Idea: part p comes from child p mod count.  One child is read at a time; the others make their
 * next part meanwhile, and wait in write() when it is ready.  So the rows come in the same order
 * whatever the number of children, and none of them is ever more than one part ahead.
 *
 * Rule: what a child sends is checked before anyone sees it; a child that ends early is an error
 * that says how it ended.  Children die with the thread that opened the feed (PR_SET_PDEATHSIG), so
 * a kill -9 leaves none.
 *
 * owner: the thread that opened it.
 */
#include "server/sample_int.h"

#include "base/assert.h"
#include "base/str.h"
#include "codec/slot.h"
#include "os/pipe.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CHILDREN_MAX 64
#define END_MS 2000 /* a child that closed its output is given so long to end */

struct mg_sample_feed {
	struct mg_sample_feed_options options;
	struct mg_process children[CHILDREN_MAX];
	unsigned count;
	uint32_t part; /* being read */
};

/* A child is gone before its part is here. */
static int child_died(struct mg_sample_feed *feed, struct mg_process *child, struct mg_error *err)
{
	int pid = child->pid;
	int status = -1;
	if (!mg_process_wait(child, END_MS, &status)) {
		return mg_error_set(err, MG_E_NODE, "generator process %d closed its pipes in part %u", pid,
		                    feed->part);
	}
	if (status > 128) {
		mg_error_set(err, MG_E_NODE, "generator process %d was ended by signal %d in part %u of %u",
		             pid, status - 128, feed->part, feed->options.parts);
	} else {
		mg_error_set(err, MG_E_NODE, "generator process %d ended with code %d in part %u of %u",
		             pid, status, feed->part, feed->options.parts);
	}
	mg_error_hint(err,
	              "Run bootstrap again: it makes what is missing. If memory was short, give it "
	              "a smaller --memory-limit or fewer --threads.");
	return MG_E_NODE;
}

/* The program that runs is exactly ours, also when its file was replaced meanwhile. */
static int child_start(struct mg_sample_feed *feed, unsigned index, struct mg_error *err)
{
	const struct mg_sample_feed_options *o = &feed->options;
	struct mg_process *child = &feed->children[index];
	char scale[32], parts[16], first[16], stride[16], shards[16], bytes[24];
	char *spill_dir = mg_format("%s.%u", o->spill_dir, index); /* one each */
	const char *argv[] = {
		"/proc/self/exe", MG_SAMPLE_CHILD,          o->set->name, scale,     parts, first, stride,
		shards,           o->reference ? "1" : "0", bytes,        spill_dir, NULL
	};
	snprintf(scale, sizeof scale, "%.17g", o->scale_factor);
	snprintf(parts, sizeof parts, "%u", o->parts);
	snprintf(first, sizeof first, "%u", index);
	snprintf(stride, sizeof stride, "%u", o->children);
	snprintf(shards, sizeof shards, "%u", o->shard_count);
	snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)o->child_bytes);
	struct mg_process_options process = {
		.argv = argv,
		.in = MG_STDIO_PIPE,
		.out = MG_STDIO_PIPE,
		.err = MG_STDIO_INHERIT,
		.die_with_parent = true,
		.new_group = true, /* Ctrl-C is for us: then the error is "stopped", not "child died" */
	};
	int rc = mg_process_start(child, &process, err);
	mg_free(spill_dir);
	if (rc == 0) {
		feed->count++;
		mg_pipe_widen(child->in_fd);
		rc = mg_pipe_write(child->in_fd, o->owner, MG_SLOTS * sizeof *o->owner, err);
		rc = rc == MG_E_DISCONNECTED ? child_died(feed, child, err) : rc;
	}
	return rc == 0 ? 0 : mg_error_wrap(err, "while starting a generator process");
}

int mg_sample_feed_open(struct mg_sample_feed **out, const struct mg_sample_feed_options *options,
                        struct mg_error *err)
{
	struct mg_sample_feed *feed = mg_alloc0(sizeof *feed);
	int rc = 0;
	feed->options = *options;
	if (feed->options.children > CHILDREN_MAX) {
		feed->options.children = CHILDREN_MAX;
	}
	mg_assert(feed->options.children > 0 && options->set->count <= MG_SAMPLE_TABLES_MAX);
	for (unsigned i = 0; rc == 0 && i < feed->options.children; i++) {
		rc = child_start(feed, i, err);
	}
	*out = rc == 0 ? feed : NULL;
	if (rc != 0) {
		mg_sample_feed_close(feed);
	}
	return rc;
}

void mg_sample_feed_close(struct mg_sample_feed *feed)
{
	if (!feed) {
		return;
	}
	/* None of them has anything to lose: all at once, then wait. */
	for (unsigned i = 0; i < feed->count; i++) {
		mg_process_close(&feed->children[i]);
		mg_process_signal(&feed->children[i], SIGKILL);
	}
	for (unsigned i = 0; i < feed->count; i++) {
		mg_process_wait(&feed->children[i], UINT32_MAX, NULL);
	}
	mg_free(feed);
}

static int child_error(const struct mg_sample_frame *frame, struct mg_buf *bytes,
                       struct mg_error *err)
{
	const char *text = (const char *)bytes->data;
	if (bytes->size < 2 || text[bytes->size - 1] != '\0' || frame->number == 0 ||
	    frame->number >= MG_CODE_COUNT) {
		return mg_error_set(err, MG_E_PROTOCOL, "a generator process sent a bad error");
	}
	size_t message = strlen(text) + 1;
	mg_error_set(err, (int)frame->number, "%s", text);
	if (message < bytes->size && text[message]) {
		mg_error_hint(err, "%s", text + message);
	}
	return mg_error_wrap(err, "while generating rows");
}

static int frame_check(const struct mg_sample_feed *feed, const struct mg_sample_frame *frame,
                       struct mg_error *err)
{
	const struct mg_sample_feed_options *o = &feed->options;
	bool good = frame->size <= MG_SAMPLE_FRAME_MAX && frame->table < o->set->count;
	switch (frame->kind) {
	case MG_SAMPLE_SCHEMA:
	case MG_SAMPLE_ERROR:
		good = good && frame->size > 0;
		break;
	case MG_SAMPLE_BATCH:
		good = good && frame->size > 0 && frame->number < o->shard_count;
		break;
	case MG_SAMPLE_PART_END:
		good = good && frame->size == 0 && frame->number == feed->part;
		break;
	default:
		good = false;
	}
	return good ? 0
	            : mg_error_set(err, MG_E_PROTOCOL,
	                           "a generator process sent a bad frame in part %u", feed->part);
}

static int read_some(struct mg_sample_feed *feed, struct mg_process *child, void *to, size_t size,
                     struct mg_error *err)
{
	int rc = mg_pipe_read(child->out_fd, to, size, feed->options.stopped, feed->options.arg, err);
	return rc == MG_E_DISCONNECTED ? child_died(feed, child, err) : rc;
}

int mg_sample_feed_next(struct mg_sample_feed *feed, struct mg_sample_frame *frame,
                        struct mg_buf **bytes, bool *done, struct mg_error *err)
{
	*bytes = NULL;
	*done = feed->part >= feed->options.parts;
	if (*done) {
		return 0;
	}
	struct mg_process *child = &feed->children[feed->part % feed->options.children];
	int rc = read_some(feed, child, frame, sizeof *frame, err);
	if (rc == 0) {
		rc = frame_check(feed, frame, err);
	}
	if (rc == 0 && frame->size > 0) {
		*bytes = mg_buf_new(frame->size);
		rc = *bytes
		         ? read_some(feed, child, (*bytes)->data, frame->size, err)
		         : mg_error_set(err, MG_E_NOMEM, "no memory for a batch of %u bytes", frame->size);
	}
	if (rc == 0 && *bytes) {
		(*bytes)->size = frame->size;
	}
	if (rc == 0 && frame->kind == MG_SAMPLE_ERROR) {
		rc = child_error(frame, *bytes, err);
	}
	if (rc == 0 && frame->kind == MG_SAMPLE_PART_END) {
		feed->part++;
	}
	if (rc != 0) {
		mg_buf_unref(*bytes);
		*bytes = NULL;
	}
	return rc;
}
