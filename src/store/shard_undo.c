/*
 * shard_undo.c - see shard_undo.h.
 *
 *     "MGUNDO1\n"  the file's name, 32 bytes  u32 block size  u32 blocks  its three headers
 *     blocks * (u64 id, bytes)  BLAKE2b-256 of all that
 *
 * Of DuckDB's file (storage_info.hpp, single_file_block_manager.cpp of v1.5.5): three headers of
 * 4,096 bytes, then blocks.  The second and third header are written in turn; each begins with its
 * checksum and its iteration, and that with the higher iteration counts.
 */
#include "store/shard_undo.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

enum {
	HEADER = 4096,
	HEADERS = 3 * HEADER,
	ITERATION_AT = 8,
	BLOCK_SIZE_AT = 40,
	BLOCK_SIZE_MAX = 1 << 20,
	SUM = crypto_generichash_BYTES,
	NAME = 32,
	COUNT_AT = 8 + NAME + 4,
};
#define MAGIC "MGUNDO1\n"
#define FIXED (sizeof MAGIC - 1 + NAME + 2 * sizeof(uint32_t) + HEADERS)
#define JOURNAL_MAX ((size_t)1 << 32)

struct journal {
	char *bytes; /* the whole; the caller's */
	uint32_t block_size, count;
	const uint8_t *name, *headers, *blocks;
};

static char *journal_path(const char *path)
{
	return mg_format("%s.undo", path);
}

/* The headers of two shards' files may be the same. */
static void name_of(const char *path, char *name)
{
	const char *slash = strrchr(path, '/');

	memset(name, 0, NAME);
	mg_copy_text(name, NAME, slash ? slash + 1 : path);
}

/* ---- DuckDB's headers ---- */

static uint64_t number_at(const uint8_t *bytes, size_t at)
{
	uint64_t number;

	memcpy(&number, bytes + at, sizeof number);
	return number;
}

static bool is_whole(const uint8_t *header)
{
	uint64_t sum = 5381;

	for (size_t at = sizeof sum; at < HEADER; at += sizeof sum) {
		sum ^= number_at(header, at) * UINT64_C(0xbf58476d1ce4e5b9);
	}
	return sum == number_at(header, 0);
}

static uint64_t iteration_of(const uint8_t *header)
{
	return number_at(header, ITERATION_AT);
}

/* Where the header lies that counts. */
static size_t current_at(const uint8_t *headers)
{
	return iteration_of(headers + HEADER) > iteration_of(headers + 2 * HEADER) ? HEADER
	                                                                          : 2 * HEADER;
}

/* The checkpoint before which the journal was written has not come to its end. */
static bool is_unfinished(const uint8_t *then, const uint8_t *now)
{
	size_t old = current_at(then), new = 3 * HEADER - old;
	bool same = memcmp(then + old, now + old, HEADER) == 0;
	bool finished = is_whole(now + new) && iteration_of(now + new) > iteration_of(then + old);

	return same && !finished;
}

/* ---- bytes of files ---- */

static int read_at(int fd, uint8_t *to, size_t size, uint64_t at, bool *whole, struct mg_error *err)
{
	ssize_t got = 1;

	while (size > 0 && got != 0) {
		got = pread(fd, to, size, (off_t)at);
		if (got < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot read");
		}
		if (got > 0) {
			to += got;
			size -= (size_t)got;
			at += (uint64_t)got;
		}
	}
	*whole = size == 0;
	return 0;
}

static int write_at(int fd, const uint8_t *from, size_t size, uint64_t at, struct mg_error *err)
{
	while (size > 0) {
		ssize_t wrote = pwrite(fd, from, size, (off_t)at);

		if (wrote < 0 && errno != EINTR) {
			return mg_error_errno(err, errno, "cannot write");
		}
		if (wrote > 0) {
			from += wrote;
			size -= (size_t)wrote;
			at += (uint64_t)wrote;
		}
	}
	return 0;
}

static uint64_t place_of(uint64_t block, uint32_t block_size)
{
	return HEADERS + block * block_size;
}

/* ---- the journal ---- */

static bool parse(struct journal *journal, const char *bytes, size_t size)
{
	uint8_t sum[SUM];
	size_t body = size < SUM ? 0 : size - SUM;
	struct mg_in in = mg_in((const uint8_t *)bytes, body);
	const uint8_t *magic = mg_in_bytes(&in, sizeof MAGIC - 1);

	journal->name = mg_in_bytes(&in, NAME);
	journal->block_size = mg_in_u32(&in);
	journal->count = mg_in_u32(&in);
	journal->headers = mg_in_bytes(&in, HEADERS);
	journal->blocks = in.at;
	if (in.failed || memcmp(magic, MAGIC, sizeof MAGIC - 1) != 0) {
		return false;
	}
	crypto_generichash(sum, sizeof sum, (const unsigned char *)bytes, body, NULL, 0);
	return memcmp(sum, bytes + body, SUM) == 0 &&
	       (uint64_t)(in.end - in.at) ==
	           journal->count * (sizeof(uint64_t) + (uint64_t)journal->block_size);
}

/* *there false: none, or none that can be read, which is not there any more then. */
static int read_journal(const char *path, struct journal *journal, bool *there,
                        struct mg_error *err)
{
	size_t size = 0;
	int code = mg_file_read(path, JOURNAL_MAX, &journal->bytes, &size, err);

	*there = !code && parse(journal, journal->bytes, size);
	if (code == MG_E_NOT_FOUND) {
		mg_error_clear(err);
		return 0;
	}
	if (!code && !*there) {
		mg_log(MG_LOG_WARN, "shard.undo", "path=%s error=\"it is damaged\"", path);
		code = mg_file_remove(path, err);
	}
	return code;
}

struct saving {
	int fd;
	const char *path;
	uint32_t block_size;
	uint8_t headers[HEADERS];
};

static int read_headers(int fd, const char *path, uint8_t *headers, struct mg_error *err)
{
	bool whole = false;
	int code = read_at(fd, headers, HEADERS, 0, &whole, err);

	return code || whole ? code
	                     : mg_error_set(err, MG_E_CORRUPT, "\"%s\" is shorter than its headers",
	                                    path);
}

static int look(struct saving *saving, struct mg_error *err)
{
	int code = read_headers(saving->fd, saving->path, saving->headers, err);
	const uint8_t *header = saving->headers + current_at(saving->headers);
	uint64_t block_size = number_at(header, BLOCK_SIZE_AT);

	if (!code && (!is_whole(saving->headers + HEADER) || !is_whole(saving->headers + 2 * HEADER) ||
	              !block_size || block_size > BLOCK_SIZE_MAX)) {
		code = mg_error_set(err, MG_E_CORRUPT, "the headers of \"%s\" cannot be read",
		                    saving->path);
	}
	saving->block_size = (uint32_t)block_size;
	return code;
}

/* Blocks that are behind the end of the file hold nothing of the checkpoint that is there. */
static int append_blocks(struct saving *saving, const char *ids, struct mg_out *out,
                         uint32_t *count, struct mg_error *err)
{
	char *end = NULL;
	int code = 0;

	for (const char *at = ids; !code; at = end) {
		uint64_t id = strtoull(at, &end, 10);
		bool whole = false;

		if (end == at) {
			break;
		}
		code = read_at(saving->fd, out->data + out->size + sizeof id, saving->block_size,
		               place_of(id, saving->block_size), &whole, err);
		if (!code && whole) {
			mg_out_u64(out, id);
			out->size += saving->block_size;
			++*count;
		}
	}
	return code;
}

static size_t count_words(const char *words)
{
	size_t count = *words != '\0';

	for (const char *at = words; *at; at++) {
		count += *at == ' ';
	}
	return count;
}

static int write_journal(struct saving *saving, const char *ids, const char *to,
                         struct mg_error *err)
{
	size_t blocks = count_words(ids);
	size_t cap = FIXED + blocks * (sizeof(uint64_t) + (size_t)saving->block_size) + SUM;
	struct mg_out out = { .data = mg_try_alloc(cap), .cap = cap };
	uint32_t count = 0;

	if (!out.data) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %zu blocks of a shard's file", blocks);
	}
	char name[NAME];

	name_of(saving->path, name);
	mg_out_bytes(&out, MAGIC, sizeof MAGIC - 1);
	mg_out_bytes(&out, name, NAME);
	mg_out_u32(&out, saving->block_size);
	mg_out_u32(&out, 0);
	mg_out_bytes(&out, saving->headers, HEADERS);
	int code = append_blocks(saving, ids, &out, &count, err);

	memcpy(out.data + COUNT_AT, &count, sizeof count);
	crypto_generichash(out.data + out.size, SUM, out.data, out.size, NULL, 0);
	code = code ? code : mg_file_write(to, out.data, out.size + SUM, 0600, err);
	mg_free(out.data);
	return code;
}

/* Of a checkpoint that failed. */
static bool is_saved(const struct saving *saving, const char *to)
{
	struct journal journal = { 0 };
	bool there = false;
	int code = read_journal(to, &journal, &there, NULL);
	bool same = !code && there && memcmp(journal.headers, saving->headers, HEADERS) == 0;

	mg_free(journal.bytes);
	return same;
}

int mg_shard_undo_save(struct mg_duck_conn *conn, const char *database, const char *path,
                       struct mg_error *err)
{
	struct saving saving = { .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
	char *to = journal_path(path), *ids = NULL;
	char *sql = mg_format("SELECT string_agg(block_id, ' ') FROM pragma_metadata_info('%s')",
	                      database);
	int code = saving.fd < 0 ? mg_error_errno(err, errno, "cannot open \"%s\"", path)
	                         : look(&saving, err);

	if (!code && !is_saved(&saving, to)) {
		code = mg_duck_text(conn, sql, &ids, err);
		code = code ? code : write_journal(&saving, ids ? ids : "", to, err);
	}
	if (saving.fd >= 0) {
		close(saving.fd);
	}
	mg_free(ids);
	mg_free(sql);
	mg_free(to);
	return code ? mg_error_wrap(err, "while keeping what a checkpoint overwrites of \"%s\"", path)
	            : 0;
}

int mg_shard_undo_remove(const char *path, struct mg_error *err)
{
	char *journal = journal_path(path);
	int code = mg_file_remove(journal, err);

	mg_free(journal);
	return code;
}

void mg_shard_undo_forget(const char *path)
{
	(void)mg_shard_undo_remove(path, NULL);
}

/* ---- going back ---- */

static int put_back(int fd, const struct journal *journal, struct mg_error *err)
{
	size_t step = sizeof(uint64_t) + journal->block_size;
	int code = 0;

	for (uint32_t i = 0; !code && i < journal->count; i++) {
		const uint8_t *at = journal->blocks + i * step;

		code = write_at(fd, at + sizeof(uint64_t), journal->block_size,
		                place_of(number_at(at, 0), journal->block_size), err);
	}
	code = code ? code : write_at(fd, journal->headers, HEADERS, 0, err);
	return code || !fsync(fd) ? code : mg_error_errno(err, errno, "cannot sync");
}

static int apply(const char *path, const struct journal *journal, struct mg_error *err)
{
	uint8_t now[HEADERS];
	bool whole = false;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		return errno == ENOENT ? 0 : mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	int code = read_at(fd, now, HEADERS, 0, &whole, err);
	char name[NAME];

	name_of(path, name);
	if (!code && memcmp(name, journal->name, NAME) != 0) {
		mg_log(MG_LOG_WARN, "shard.undo", "path=%s error=\"it is of another file\"", path);
	} else if (!code && whole && is_unfinished(journal->headers, now)) {
		code = put_back(fd, journal, err);
		mg_log(MG_LOG_INFO, "shard.undo", "path=%s blocks=%u code=%d", path, journal->count, code);
	}
	close(fd);
	return code;
}

int mg_shard_undo_apply(const char *path, struct mg_error *err)
{
	struct journal journal = { 0 };
	char *name = journal_path(path);
	bool there = false;
	int code = read_journal(name, &journal, &there, err);

	if (!code && there) {
		code = apply(path, &journal, err);
		code = code ? code : mg_file_remove(name, err);
	}
	mg_free(journal.bytes);
	mg_free(name);
	return code ? mg_error_wrap(err, "while undoing an unfinished checkpoint of \"%s\"", path) : 0;
}
