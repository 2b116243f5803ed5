/*
 * forward.c - see forward.h.
 *
 * Requests wait in the order in which they were sent, and are mostly answered in it.
 *
 * owner: the raft thread.
 */
#include "replica/forward.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "os/clock.h"
#include "os/random.h"

#include <inttypes.h>

#define VERSION 1
#define HEAD_SIZE 36u

enum { KIND_REQUEST = MG_PEERS_MESSAGE_MIN, KIND_ANSWER };

struct request {
	struct request *next;
	uint64_t id, connection, deadline_ms;
	size_t size;
	mg_answer_cb cb;
	void *arg;
};

struct mg_forward {
	struct mg_forward_options options;
	struct request *first, **end;
	size_t count, bytes;
	uint64_t id;
	uint64_t wake_ms; /* when a post looks at deadlines; UINT64_MAX: none does */
	bool stopped;
};

/* What another node has asked. */
struct guest {
	struct mg_forward *forward;
	uint64_t node, id;
	uint32_t group;
};

static struct mg_buf *encode(uint8_t kind, uint8_t what, uint32_t group, uint64_t id,
                             const struct mg_answer *answer, const void *data, size_t size)
{
	struct mg_buf *buf = mg_buf_new(HEAD_SIZE + size);

	if (!buf) {
		return NULL;
	}
	struct mg_out out = mg_out(buf->data, HEAD_SIZE + size);

	mg_out_u32(&out, (uint32_t)(HEAD_SIZE + size));
	mg_out_u8(&out, VERSION);
	mg_out_u8(&out, kind);
	mg_out_u8(&out, what);
	mg_out_u8(&out, 0);
	mg_out_u32(&out, group);
	mg_out_u64(&out, id);
	mg_out_u64(&out, answer ? answer->index : 0);
	mg_out_u64(&out, answer ? answer->leader : 0);
	mg_out_bytes(&out, data, size);
	buf->size = out.size;
	return buf;
}

/* ---- asking ---- */

static void finish(struct mg_forward *forward, struct request *request,
                   const struct mg_answer *answer)
{
	forward->count--;
	forward->bytes -= request->size;
	request->cb(request->arg, answer);
	mg_free(request);
}

/* Take those out for which `gone` holds, and then tell them: they may ask again. */
static void finish_unknown(struct mg_forward *forward,
                           bool (*gone)(const struct request *request, uint64_t value),
                           uint64_t value)
{
	const struct mg_answer unknown = { .error = MG_E_UNKNOWN_OUTCOME };
	struct request *list = NULL, **list_end = &list, **at = &forward->first;

	while (*at) {
		struct request *request = *at;

		if (gone(request, value)) {
			*at = request->next;
			request->next = NULL;
			*list_end = request;
			list_end = &request->next;
		} else {
			at = &request->next;
		}
	}
	forward->end = at;
	while (list) {
		struct request *next = list->next;

		finish(forward, list, &unknown);
		list = next;
	}
}

static bool is_late(const struct request *request, uint64_t now_ms)
{
	return request->deadline_ms <= now_ms;
}

static bool went_over(const struct request *request, uint64_t connection)
{
	return request->connection == connection;
}

static bool is_any(const struct request *request, uint64_t value)
{
	(void)request;
	(void)value;
	return true;
}

static void wake(void *arg);

static void arm(struct mg_forward *forward, uint64_t ms)
{
	if (ms < forward->wake_ms) {
		forward->wake_ms = ms;
		mg_raft_host_post_at(forward->options.host, ms, wake, forward);
	}
}

static void wake(void *arg)
{
	struct mg_forward *forward = arg;

	forward->wake_ms = UINT64_MAX;
	finish_unknown(forward, is_late, mg_clock_ms());
	for (const struct request *each = forward->first; each; each = each->next) {
		arm(forward, each->deadline_ms);
	}
}

static int send_request(struct mg_forward *forward, uint64_t node, const struct mg_ask *ask,
                        struct request *request)
{
	struct mg_buf *frame = NULL;

	if (forward->stopped) {
		return MG_E_SHUTDOWN;
	}
	if (ask->size >
	    MG_ENTRY_SIZE_MAX) { /* as the group would say; but the frame would be refused */
		return MG_E_LIMIT;
	}
	if (forward->count >= MG_FORWARD_COUNT_MAX ||
	    (forward->count > 0 && forward->bytes + ask->size > MG_FORWARD_BYTES_MAX)) {
		return MG_E_BUSY;
	}
	request->id = ++forward->id;
	frame = encode(KIND_REQUEST, (uint8_t)ask->kind, ask->group, request->id, NULL, ask->data,
	               ask->size);
	if (!frame) {
		return MG_E_NOMEM;
	}
	request->connection = mg_peers_send(forward->options.peers, node, frame);
	return request->connection ? 0 : MG_E_UNAVAILABLE;
}

void mg_forward_ask(struct mg_forward *forward, uint64_t node, const struct mg_ask *ask,
                    unsigned timeout_ms, mg_answer_cb cb, void *arg)
{
	struct request *request = mg_alloc(sizeof *request);

	*request = (struct request){
		.deadline_ms = mg_clock_ms() + timeout_ms,
		.size = ask->size,
		.cb = cb,
		.arg = arg,
	};
	const struct mg_answer failed = { .error = send_request(forward, node, ask, request) };

	if (failed.error) {
		mg_free(request);
		cb(arg, &failed);
		return;
	}
	*forward->end = request;
	forward->end = &request->next;
	forward->count++;
	forward->bytes += request->size;
	arm(forward, request->deadline_ms);
}

static void on_lost(void *arg, uint64_t connection)
{
	finish_unknown(arg, went_over, connection);
}

/* ---- messages ---- */

static void on_served(void *arg, const struct mg_answer *answer)
{
	struct guest *guest = arg;
	uint16_t error = (uint16_t)answer->error;
	struct mg_buf *frame =
		encode(KIND_ANSWER, 0, guest->group, guest->id, answer, &error, sizeof error);

	/* Without an answer they learn by time that nobody knows. */
	if (frame) {
		(void)mg_peers_send(guest->forward->options.peers, guest->node, frame);
	}
	mg_free(guest);
}

static void take_answer(struct mg_forward *forward, uint64_t id, const struct mg_answer *answer)
{
	struct request **at = &forward->first;

	while (*at && (*at)->id != id) {
		at = &(*at)->next;
	}
	struct request *request = *at;

	if (request) { /* else it was given up */
		*at = request->next;
		forward->end = request->next ? forward->end : at;
		finish(forward, request, answer);
	}
}

static int take(void *arg, uint64_t node, const uint8_t *data, size_t size, struct mg_error *err)
{
	struct mg_forward *forward = arg;
	struct mg_in in = mg_in(data, size);
	struct mg_answer answer;
	struct mg_ask ask;

	(void)mg_in_u32(&in);
	uint8_t version = mg_in_u8(&in), kind = mg_in_u8(&in);

	ask.kind = mg_in_u8(&in);
	(void)mg_in_u8(&in);
	ask.group = mg_in_u32(&in);
	uint64_t id = mg_in_u64(&in);

	answer.index = mg_in_u64(&in);
	answer.leader = mg_in_u64(&in);
	if (in.failed || version != VERSION) {
		return mg_error_set(err, MG_E_PROTOCOL, "a message of version %u between nodes", version);
	}
	if (kind == KIND_ANSWER) {
		answer.error = mg_in_u16(&in);
		if (!mg_in_done(&in) || (answer.error >= MG_CODE_COUNT && answer.error != MG_FENCED)) {
			return mg_error_set(err, MG_E_PROTOCOL, "an answer of %zu bytes between nodes", size);
		}
		take_answer(forward, id, &answer);
		return 0;
	}
	if (kind != KIND_REQUEST || (ask.kind != MG_ASK_PROPOSE && ask.kind != MG_ASK_READ)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a message of kind %u %d between nodes", kind,
		                    (int)ask.kind);
	}
	ask.data = in.at;
	ask.size = (size_t)(in.end - in.at);
	struct guest *guest = mg_alloc(sizeof *guest);

	*guest = (struct guest){ .forward = forward, .node = node, .id = id, .group = ask.group };
	forward->options.serve(forward->options.arg, &ask, on_served, guest);
	return 0;
}

/* ---- life ---- */

struct mg_forward *mg_forward_new(const struct mg_forward_options *options)
{
	struct mg_forward *forward = mg_alloc0(sizeof *forward);
	const struct mg_peers_messages messages = { .take = take, .lost = on_lost, .arg = forward };

	forward->options = *options;
	forward->end = &forward->first;
	forward->wake_ms = UINT64_MAX;
	forward->id = mg_random_u64() >> 1; /* never one of an earlier life */
	mg_peers_set_messages(options->peers, &messages);
	return forward;
}

void mg_forward_stop(struct mg_forward *forward)
{
	forward->stopped = true;
	finish_unknown(forward, is_any, 0);
}

void mg_forward_free(struct mg_forward *forward)
{
	mg_assert(!forward || !forward->first);
	mg_free(forward);
}
