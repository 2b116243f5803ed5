/*
 * events.c - an answer of events that the server sends, which does not end: chunks -> lines ->
 * events, as they come.
 *
 * Limit: an event of EVENT_SIZE_MAX.
 */
#include "client/wire.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define EVENT_SIZE_MAX (64u << 20)
#define SILENCE_MS 60000 /* a server that has nothing to say says that */

struct reader {
	bool chunked, end;
	size_t left;   /* bytes of this chunk that are to come, then `behind` of its line's end */
	size_t behind;
	struct mg_sb raw;  /* of chunks */
	struct mg_sb text; /* of them, from the first line that is not whole on */
	size_t looked;     /* bytes of text without a line's end */
	/* of the event that is being read */
	struct mg_sb name, id, data;
	bool has_id;
	bool (*take)(void *arg, const struct mg_event *event);
	void *arg;
};

/* ---- chunks ---- */

/* False: more bytes are needed. */
static bool read_size(struct reader *reader, size_t *at, struct mg_error *err)
{
	const char *line = reader->raw.ptr + *at, *line_end = strstr(line, "\r\n");

	if (!line_end && reader->raw.len - *at < 1024) {
		return false;
	}
	reader->left = strtoul(line, NULL, 16);
	if (!line_end || !isxdigit((unsigned char)*line) || reader->left > EVENT_SIZE_MAX) {
		mg_error_set(err, MG_E_PROTOCOL, "a chunk has no size");
		return false;
	}
	*at = (size_t)(line_end + 2 - reader->raw.ptr);
	reader->end = reader->left == 0;
	reader->behind = 2;
	return true;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* All that has come, onto text. */
static int decode(struct reader *reader, struct mg_error *err)
{
	struct mg_sb *raw = &reader->raw;
	size_t at = 0;
	bool go_on = true;

	while (go_on && !reader->end && at < raw->len) {
		size_t size = smaller(reader->left ? reader->left : reader->behind, raw->len - at);

		if (!reader->chunked) {
			size = raw->len - at;
			mg_sb_add_len(&reader->text, raw->ptr + at, size);
		} else if (reader->left) {
			mg_sb_add_len(&reader->text, raw->ptr + at, size);
			reader->left -= size;
		} else if (reader->behind) {
			reader->behind -= size;
		} else {
			go_on = read_size(reader, &at, err);
		}
		at += size;
	}
	if (at) {
		memmove(raw->ptr, raw->ptr + at, raw->len - at + 1);
		raw->len -= at;
	}
	return err->code;
}

/* ---- lines ---- */

static void set(struct mg_sb *field, struct mg_str value)
{
	mg_sb_clear(field);
	mg_sb_add_len(field, value.ptr, value.len);
}

static void read_field(struct reader *reader, struct mg_str line)
{
	const char *colon = memchr(line.ptr, ':', line.len);
	struct mg_str name = { line.ptr, colon ? (size_t)(colon - line.ptr) : line.len };
	struct mg_str value = { name.ptr + name.len, line.len - name.len };
	size_t skip = !colon ? 0 : value.len > 1 && value.ptr[1] == ' ' ? 2 : 1;

	value = (struct mg_str){ value.ptr + skip, value.len - skip };
	if (mg_str_eq(name, MG_STR("event"))) {
		set(&reader->name, value);
	} else if (mg_str_eq(name, MG_STR("id"))) {
		set(&reader->id, value);
		reader->has_id = true;
	} else if (mg_str_eq(name, MG_STR("data"))) {
		mg_sb_add(&reader->data, reader->data.len ? "\n" : "");
		mg_sb_add_len(&reader->data, value.ptr, value.len);
	}
}

/* False: enough. */
static bool read_line(struct reader *reader, struct mg_str line)
{
	bool go_on = true;

	if (line.len) {
		read_field(reader, line);
		return true;
	}
	if (reader->data.len || reader->has_id) {
		const struct mg_event event = { .name = { mg_sb_text(&reader->name), reader->name.len },
			                            .id = { mg_sb_text(&reader->id), reader->id.len },
			                            .data = { mg_sb_text(&reader->data), reader->data.len } };

		go_on = reader->take(reader->arg, &event);
	}
	mg_sb_clear(&reader->name);
	mg_sb_clear(&reader->data);
	reader->has_id = false;
	return go_on;
}

/* All lines that are whole.  False: enough. */
static bool read_lines(struct reader *reader)
{
	struct mg_sb *text = &reader->text;
	size_t begin = 0;
	bool go_on = true;

	while (go_on && reader->looked < text->len) {
		const char *from = text->ptr + reader->looked;
		const char *line_end = memchr(from, '\n', text->len - reader->looked);

		if (!line_end) {
			reader->looked = text->len;
			break;
		}
		size_t end = (size_t)(line_end - text->ptr);

		go_on = read_line(reader, mg_str_trim((struct mg_str){ text->ptr + begin, end - begin }));
		begin = reader->looked = end + 1;
	}
	if (begin) {
		memmove(text->ptr, text->ptr + begin, text->len - begin + 1);
		text->len -= begin;
		reader->looked -= begin;
	}
	return go_on;
}

static int follow(struct reader *reader, struct mg_client_socket *socket, struct mg_error *err)
{
	bool end = false;
	int code = 0;

	for (;;) {
		code = decode(reader, err);
		if (code || !read_lines(reader)) {
			return code;
		}
		if (reader->end || end) {
			return mg_error_set(err, MG_E_DISCONNECTED, "the server has ended its answer");
		}
		if (reader->text.len + reader->data.len > EVENT_SIZE_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "an event is larger than 64 MiB");
		}
		code = mg_wire__read_more(socket, SILENCE_MS, &reader->raw, &end, err);
		if (code) {
			return code;
		}
	}
}

int mg_http_events(const struct mg_endpoint *endpoint, const char *path, const char *headers,
                   bool (*take)(void *arg, const struct mg_event *event), void *arg, int *status,
                   struct mg_sb *body, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_wire_answer answer = { 0 };
	struct reader reader = { .take = take, .arg = arg };
	int code = mg_wire__ask(endpoint, "GET", path, NULL, headers, (struct mg_str){ 0 }, &answer,
	                        err);

	*status = answer.status;
	if (code == 0 && answer.status != 200) {
		code = mg_wire__read_body(answer.socket, arena, &answer.raw, answer.head_size, body, err);
	} else if (code == 0) {
		const char *coding = mg_wire__header(arena, answer.raw.ptr, "transfer-encoding");

		reader.chunked = coding && strstr(coding, "chunked");
		mg_sb_add_len(&reader.raw, answer.raw.ptr + answer.head_size,
		              answer.raw.len - answer.head_size);
		code = follow(&reader, answer.socket, err);
	}
	mg_wire__answer_fini(&answer);
	mg_sb_fini(&reader.raw);
	mg_sb_fini(&reader.text);
	mg_sb_fini(&reader.name);
	mg_sb_fini(&reader.id);
	mg_sb_fini(&reader.data);
	mg_arena_free(arena);
	return code;
}
