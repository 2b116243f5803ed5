/* puts_etcd.c - etcd: HTTP/2 and protobuf by hand, as much as Put and Range need. */
#include "puts_int.h"

#include <string.h>

enum { H2_HEAD = 9, H2_DATA = 0, H2_HEADERS = 1, H2_SETTINGS = 4, H2_PING = 6, H2_WINDOW = 8 };
enum { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4 };

static void add_frame(struct mg_sb *out, uint8_t kind, uint8_t flags, uint32_t stream,
                      const void *data, size_t size)
{
	const char head[H2_HEAD] = { (char)(size >> 16),  (char)(size >> 8),    (char)size,
		                         (char)kind,          (char)flags,          (char)(stream >> 24),
		                         (char)(stream >> 16), (char)(stream >> 8), (char)stream };

	mg_sb_add_len(out, head, sizeof head);
	mg_sb_add_len(out, data, size);
}

static void etcd_open(struct worker *worker)
{
	static const char window[4] = { 0x3f, (char)0xff, 0, 0 };
	/* No table of headers: we look at none of the answer's. */
	static const char settings[6] = { 0, 1, 0, 0, 0, 0 };

	puts_connect(worker, worker->load->arguments[0], worker->load->arguments[1], "h2");
	mg_sb_add(&worker->text, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	add_frame(&worker->text, H2_SETTINGS, 0, 0, settings, sizeof settings);
	add_frame(&worker->text, H2_WINDOW, 0, 0, window, sizeof window);
	puts_send(worker);
	worker->stream = 1;
}

/* A literal header without a place in the table. */
static void add_header(struct mg_sb *out, const char *name, const char *value)
{
	mg_sb_add_char(out, 0);
	mg_sb_add_char(out, (char)strlen(name));
	mg_sb_add(out, name);
	mg_sb_add_char(out, (char)strlen(value));
	mg_sb_add(out, value);
}

/* A call with one message. */
static void add_call(struct worker *worker, const char *method, const struct mg_sb *message)
{
	struct mg_sb headers = { 0 }, data = { 0 };
	const char prefix[5] = { 0, 0, 0, 0, (char)message->len };

	add_header(&headers, ":method", "POST");
	add_header(&headers, ":scheme", "https");
	add_header(&headers, ":path", method);
	add_header(&headers, ":authority", "localhost");
	add_header(&headers, "te", "trailers");
	add_header(&headers, "content-type", "application/grpc");
	add_frame(&worker->text, H2_HEADERS, H2_END_HEADERS, worker->stream, headers.ptr, headers.len);
	mg_sb_add_len(&data, prefix, sizeof prefix);
	mg_sb_add_len(&data, message->ptr, message->len);
	add_frame(&worker->text, H2_DATA, H2_END_STREAM, worker->stream, data.ptr, data.len);
	mg_sb_fini(&headers);
	mg_sb_fini(&data);
}

static void add_field(struct mg_sb *out, char number, const void *bytes, size_t size)
{
	mg_sb_add_char(out, (char)(number << 3 | 2));
	mg_sb_add_char(out, (char)size);
	mg_sb_add_len(out, bytes, size);
}

/* Take whole frames; true when the answer to our stream has ended, of so many bytes so far. */
static bool take_frames(struct worker *worker, size_t *answered)
{
	bool ended = false;
	size_t at = 0;

	while (!ended && worker->in_size - at >= H2_HEAD) {
		const uint8_t *head = worker->in + at;
		size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
		uint32_t stream = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 |
		                  (uint32_t)head[7] << 8 | head[8];

		if (size > sizeof worker->in - H2_HEAD) {
			puts_fail("etcd", "a frame that is too large");
		}
		if (worker->in_size - at < H2_HEAD + size) {
			break;
		}
		if ((head[3] == H2_SETTINGS || head[3] == H2_PING) && !(head[4] & H2_ACK)) {
			add_frame(&worker->text, head[3], H2_ACK, 0, head + H2_HEAD,
			          head[3] == H2_PING ? size : 0);
		}
		if (stream == worker->stream && head[3] == H2_DATA) {
			*answered += size; /* an error comes without a message */
		}
		ended = stream == worker->stream && (head[3] == H2_DATA || head[3] == H2_HEADERS) &&
		        (head[4] & H2_END_STREAM);
		at += H2_HEAD + size;
	}
	memmove(worker->in, worker->in + at, worker->in_size - at);
	worker->in_size -= at;
	return ended;
}

/* Its answer has at least so many bytes. */
static void call(struct worker *worker, const char *method, const struct mg_sb *message,
                 size_t least)
{
	size_t answered = 0;

	add_call(worker, method, message);
	puts_send(worker);
	while (!take_frames(worker, &answered)) {
		puts_read(worker);
	}
	if (answered < least) {
		puts_fail(method, "was refused, or has not found the key");
	}
	worker->stream += 2;
}

/* Linearizable, as Range is without more. */
static void etcd_put(struct worker *worker, uint64_t unused)
{
	struct mg_sb message = { 0 };
	struct step step;

	(void)unused;
	if (!puts_next(worker, &step)) {
		return;
	}
	add_field(&message, 1, step.key, sizeof step.key);
	if (step.op == OP_WRITE) {
		add_field(&message, 2, worker->value, VALUE_SIZE);
		call(worker, "/etcdserverpb.KV/Put", &message, 6);
	} else {
		if (step.op == OP_SCAN) {
			const char limit[] = { 3 << 3, (char)step.count }; /* of one byte */

			add_field(&message, 2, "", 1); /* to the last key */
			mg_sb_add_len(&message, limit, sizeof limit);
		}
		call(worker, "/etcdserverpb.KV/Range", &message, VALUE_SIZE);
	}
	mg_sb_fini(&message);
}

static void etcd_close(struct worker *worker)
{
	mg_client_socket_close(worker->socket);
}

const struct way puts_etcd = { etcd_open, etcd_put, etcd_close };
