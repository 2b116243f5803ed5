/* relay_frame.c - frames of statements between nodes.  Layout: relay_frame.h.  Pure. */
#include "session/relay_frame.h"

#include "base/bytes.h"

#include <string.h>

enum { LOSSLESS = 1, GOES_ON = 2, UNKNOWN_MILLI = -1, READER_CAP_MIN = 16 << 10 };

/* ---- out ---- */

static void put(struct mg_sb *out, const void *value, size_t size)
{
	mg_sb_add_len(out, value, size);
}

static void put_u8(struct mg_sb *out, uint8_t value)
{
	put(out, &value, sizeof value);
}

static void put_u16(struct mg_sb *out, uint16_t value)
{
	put(out, &value, sizeof value);
}

static void put_u32(struct mg_sb *out, uint32_t value)
{
	put(out, &value, sizeof value);
}

static void put_u64(struct mg_sb *out, uint64_t value)
{
	put(out, &value, sizeof value);
}

static void put_text_len(struct mg_sb *out, const char *text, size_t len)
{
	put_u32(out, (uint32_t)len);
	put(out, text, len);
}

/* A text of ours may have been cut within a character, and one of the engine's may quote bytes. */
static void put_text(struct mg_sb *out, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	size_t at = out->len + sizeof(uint32_t);
	bool valid = mg_utf8_valid(text ? text : "", len);

	put_text_len(out, text ? text : "", len);
	for (size_t i = at; !valid && i < out->len; i++) {
		out->ptr[i] = (unsigned char)out->ptr[i] < 0x80 ? out->ptr[i] : '?';
	}
}

static void put_run(struct mg_sb *out, const struct mg_relay_run *run)
{
	put_u8(out, (uint8_t)((run->lossless ? LOSSLESS : 0) | (run->goes_on ? GOES_ON : 0)));
	put_u8(out, (uint8_t)run->role);
	put_u64(out, run->batch_rows);
	put_text(out, run->user);
	put_text(out, run->once);
	put_u64(out, run->digest);
	put_u16(out, (uint16_t)run->setting_count);
	for (size_t i = 0; i < run->setting_count; i++) {
		put_text(out, run->settings[i].name);
		put_text(out, run->settings[i].value);
	}
	put_text_len(out, run->statement.ptr, run->statement.len);
	put_text(out, run->seen);
}

static void put_begin(struct mg_sb *out, const struct mg_relay_begin *begin)
{
	put_u32(out, (uint32_t)begin->count);
	for (size_t i = 0; i < begin->count; i++) {
		put_text(out, begin->names[i]);
		put_text(out, begin->types[i]);
	}
	put(out, begin->schema, begin->schema_size);
}

static void put_done(struct mg_sb *out, const char *tag, const struct mg_run_stats *stats)
{
	put_text(out, tag);
	put_text(out, stats->step);
	put_text(out, stats->reason);
	put_u64(out, stats->rows);
	put_u64(out, stats->bytes);
	put_u64(out, stats->moved_bytes);
	put_u64(out, stats->moved_rows);
	put_u64(out, stats->plan_micros);
	put_u64(out, stats->micros);
	put_u32(out, stats->nodes);
	put_u32(out, stats->workers);
	put_u32(out, stats->shards);
	put_u32(out, stats->stages);
	put_u32(out, stats->attempts);
	put_u32(out, stats->workers_there);
}

static void put_failed(struct mg_sb *out, const struct mg_relay_failed *failed)
{
	const struct mg_error *error = &failed->error;

	put_text(out, mg_code_info(error->code)->name);
	put_text(out, error->sqlstate);
	put_u8(out, error->origin);
	put_u32(out, error->shard);
	put_text(out, error->node);
	put_text(out, error->message);
	put_text(out, error->detail);
	put_text(out, error->hint);
	put_u8(out, failed->elsewhere);
	put_u64(out, failed->coordinator);
}

static void put_progress(struct mg_sb *out, const struct mg_relay_progress *progress)
{
	put_u64(out, progress->done < 0 ? UINT64_MAX : (uint64_t)(progress->done * 1000 + 0.5));
	put_u64(out, progress->rows);
	put_u64(out, progress->bytes);
	put_u32(out, progress->nodes);
}

struct mg_buf *mg_relay_frame_encode(const struct mg_relay_frame *frame)
{
	struct mg_sb out = { 0 };
	size_t behind = 0;

	put_u32(&out, 0);
	put_u8(&out, frame->kind);
	switch (frame->kind) {
	case MG_RELAY_RUN:
		put_run(&out, &frame->run);
		break;
	case MG_RELAY_BEGIN:
		put_begin(&out, &frame->begin);
		break;
	case MG_RELAY_BATCH:
		put_u64(&out, frame->batch.rows);
		behind = frame->batch.size;
		break;
	case MG_RELAY_DONE:
		put_done(&out, frame->done.tag, &frame->done.stats);
		break;
	case MG_RELAY_FAILED:
		put_failed(&out, &frame->failed);
		break;
	case MG_RELAY_NOTICE:
	case MG_RELAY_SEEN:
		put_text(&out, frame->notice);
		break;
	case MG_RELAY_PROGRESS:
		put_progress(&out, &frame->progress);
		break;
	case MG_RELAY_DATA:
		mg_sb_add_len(&out, (const char *)frame->batch.data, frame->batch.size);
		break;
	default:
		mg_assert(frame->kind == MG_RELAY_CANCEL || frame->kind == MG_RELAY_MORE);
	}
	uint32_t told = (uint32_t)(out.len + behind);
	size_t size = out.len;

	memcpy(out.ptr, &told, sizeof told);
	char *bytes = mg_sb_take(&out);

	return mg_buf_wrap(bytes, size, mg_free, bytes);
}

/* ---- in ---- */

int mg_relay_frame_size(const uint8_t head[4], size_t max, size_t *size, struct mg_error *err)
{
	uint32_t told;

	memcpy(&told, head, sizeof told);
	*size = told;
	return told >= MG_RELAY_HEAD && told <= max
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "a frame of %u bytes about a statement", told);
}

void mg_relay_reader_fini(struct mg_relay_reader *reader)
{
	mg_free(reader->bytes);
	reader->bytes = NULL;
	reader->size = reader->cap = reader->want = 0;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Room for `want` bytes, but not much more than have come. */
static int make_room(struct mg_relay_reader *reader, struct mg_error *err)
{
	size_t room = reader->cap ? least(reader->cap * 2, reader->want) : READER_CAP_MIN;
	uint8_t *bytes = mg_try_alloc(room);

	if (!bytes) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a frame of %zu bytes", reader->want);
	}
	if (reader->size) {
		memcpy(bytes, reader->bytes, reader->size);
	}
	mg_free(reader->bytes);
	reader->bytes = bytes;
	reader->cap = room;
	return 0;
}

int mg_relay_reader_take(struct mg_relay_reader *reader, const uint8_t *bytes, size_t size,
                         size_t *used, struct mg_buf **whole, struct mg_error *err)
{
	*whole = NULL;
	*used = 0;
	reader->want = reader->want ? reader->want : sizeof(uint32_t);
	if (reader->size == reader->cap && make_room(reader, err)) {
		return MG_E_NOMEM;
	}
	*used = least(size, least(reader->cap, reader->want) - reader->size);
	memcpy(reader->bytes + reader->size, bytes, *used);
	reader->size += *used;
	if (reader->size == sizeof(uint32_t) && reader->want == sizeof(uint32_t)) {
		return mg_relay_frame_size(reader->bytes, reader->max, &reader->want, err);
	}
	if (reader->size == reader->want) {
		*whole = mg_buf_wrap(reader->bytes, reader->size, mg_free, reader->bytes);
		reader->bytes = NULL;
		reader->size = reader->cap = reader->want = 0;
	}
	return 0;
}

static struct mg_str get_slice(struct mg_in *in)
{
	size_t size = mg_in_u32(in);
	const char *bytes = (const char *)mg_in_bytes(in, size);

	if (!bytes || memchr(bytes, '\0', size) || !mg_utf8_valid(bytes, size)) {
		in->failed = true;
		return (struct mg_str){ "", 0 };
	}
	return (struct mg_str){ bytes, size };
}

static const char *get_text(struct mg_in *in, struct mg_arena *arena)
{
	struct mg_str slice = get_slice(in);

	return mg_arena_strndup(arena, slice.ptr, slice.len);
}

/* Into a field that is long enough for what is sent. */
static void get_field(struct mg_in *in, char *field, size_t size)
{
	struct mg_str slice = get_slice(in);

	in->failed = in->failed || slice.len >= size;
	if (!in->failed) {
		memcpy(field, slice.ptr, slice.len);
		field[slice.len] = '\0';
	}
}

static void get_run(struct mg_in *in, struct mg_arena *arena, struct mg_relay_run *run)
{
	uint8_t flags = mg_in_u8(in), role = mg_in_u8(in);

	in->failed = in->failed || flags > (LOSSLESS | GOES_ON) || role > MG_ROLE_ADMIN;
	run->lossless = flags & LOSSLESS;
	run->goes_on = flags & GOES_ON;
	run->role = (enum mg_role)role;
	run->batch_rows = mg_in_u64(in);
	run->user = get_text(in, arena);
	run->once = get_text(in, arena);
	run->digest = mg_in_u64(in);
	run->setting_count = mg_in_u16(in);
	if (run->setting_count > MG_RELAY_SETTINGS_MAX) {
		in->failed = true;
		run->setting_count = 0;
	}
	run->settings = mg_arena_new_array(arena, struct mg_relay_setting, run->setting_count + 1);
	for (size_t i = 0; !in->failed && i < run->setting_count; i++) {
		run->settings[i].name = get_text(in, arena);
		run->settings[i].value = get_text(in, arena);
	}
	run->statement = get_slice(in);
	run->seen = get_text(in, arena);
}

static void get_begin(struct mg_in *in, struct mg_arena *arena, struct mg_relay_begin *begin)
{
	begin->count = mg_in_u32(in);
	if (begin->count > MG_RELAY_COLUMNS_MAX) {
		in->failed = true;
		begin->count = 0;
	}
	begin->names = mg_arena_new_array(arena, const char *, begin->count + 1);
	begin->types = mg_arena_new_array(arena, const char *, begin->count + 1);
	for (size_t i = 0; !in->failed && i < begin->count; i++) {
		begin->names[i] = get_text(in, arena);
		begin->types[i] = get_text(in, arena);
	}
	begin->schema_size = in->failed ? 0 : (size_t)(in->end - in->at);
	begin->schema = mg_in_bytes(in, begin->schema_size);
}

static void get_done(struct mg_in *in, struct mg_arena *arena, struct mg_relay_frame *out)
{
	struct mg_run_stats *stats = &out->done.stats;

	out->done.tag = get_text(in, arena);
	stats->step = get_text(in, arena);
	get_field(in, stats->reason, sizeof stats->reason);
	stats->rows = mg_in_u64(in);
	stats->bytes = mg_in_u64(in);
	stats->moved_bytes = mg_in_u64(in);
	stats->moved_rows = mg_in_u64(in);
	stats->plan_micros = mg_in_u64(in);
	stats->micros = mg_in_u64(in);
	stats->nodes = mg_in_u32(in);
	stats->workers = mg_in_u32(in);
	stats->shards = mg_in_u32(in);
	stats->stages = mg_in_u32(in);
	stats->attempts = mg_in_u32(in);
	stats->workers_there = mg_in_u32(in);
}

/* By name, because another version may number its codes otherwise; what it calls by a name that is
 * not known here fails without a promise. */
static int code_of(const char *name)
{
	for (int code = MG_OK + 1; code < MG_CODE_COUNT; code++) {
		if (mg_text_eq(mg_code_info(code)->name, name)) {
			return code;
		}
	}
	return MG_E_INTERNAL;
}

static void get_failed(struct mg_in *in, struct mg_arena *arena, struct mg_relay_failed *failed)
{
	struct mg_error *error = &failed->error;

	error->code = code_of(get_text(in, arena));
	get_field(in, error->sqlstate, sizeof error->sqlstate);
	error->origin = mg_in_u8(in);
	error->shard = mg_in_u32(in);
	get_field(in, error->node, sizeof error->node);
	get_field(in, error->message, sizeof error->message);
	get_field(in, error->detail, sizeof error->detail);
	get_field(in, error->hint, sizeof error->hint);
	uint8_t elsewhere = mg_in_u8(in);

	failed->elsewhere = elsewhere == 1;
	failed->coordinator = mg_in_u64(in);
	error->file = __FILE__;
	error->line = __LINE__;
	in->failed = in->failed || error->origin > MG_ORIGIN_MERGE || elsewhere > 1;
}

static void get_progress(struct mg_in *in, struct mg_relay_progress *progress)
{
	uint64_t milli = mg_in_u64(in);

	in->failed = in->failed || (milli > 1000 && milli != UINT64_MAX);
	progress->done = milli > 1000 ? UNKNOWN_MILLI : (double)milli / 1000;
	progress->rows = mg_in_u64(in);
	progress->bytes = mg_in_u64(in);
	progress->nodes = mg_in_u32(in);
}

int mg_relay_frame_decode(struct mg_arena *arena, const uint8_t *data, size_t size,
                          struct mg_relay_frame *out, struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);

	*out = (struct mg_relay_frame){ 0 };
	in.failed = mg_in_u32(&in) != size;
	out->kind = mg_in_u8(&in);
	switch (out->kind) {
	case MG_RELAY_RUN:
		get_run(&in, arena, &out->run);
		break;
	case MG_RELAY_BEGIN:
		get_begin(&in, arena, &out->begin);
		break;
	case MG_RELAY_BATCH:
		out->batch.rows = mg_in_u64(&in);
		out->batch.size = in.failed ? 0 : (size_t)(in.end - in.at);
		out->batch.data = mg_in_bytes(&in, out->batch.size);
		break;
	case MG_RELAY_DONE:
		get_done(&in, arena, out);
		break;
	case MG_RELAY_FAILED:
		get_failed(&in, arena, &out->failed);
		break;
	case MG_RELAY_NOTICE:
	case MG_RELAY_SEEN:
		out->notice = get_text(&in, arena);
		break;
	case MG_RELAY_PROGRESS:
		get_progress(&in, &out->progress);
		break;
	case MG_RELAY_DATA:
		out->batch.size = in.failed ? 0 : (size_t)(in.end - in.at);
		out->batch.data = mg_in_bytes(&in, out->batch.size);
		break;
	case MG_RELAY_CANCEL:
	case MG_RELAY_MORE:
		break;
	default:
		in.failed = true;
	}
	return mg_in_done(&in) ? 0
	                       : mg_error_set(err, MG_E_PROTOCOL,
	                                      "a frame of kind %u about a statement that makes no "
	                                      "sense",
	                                      out->kind);
}
