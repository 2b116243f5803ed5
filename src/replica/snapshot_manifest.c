/* snapshot_manifest.c - see snapshot_manifest.h. */
#include "replica/snapshot_manifest.h"

#include "base/assert.h"
#include "base/json.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

_Static_assert(MG_SNAPSHOT_HASH == crypto_hash_sha256_BYTES, "SHA-256");

static uint32_t chunks_of(uint64_t bytes)
{
	return (uint32_t)((bytes + MG_SNAPSHOT_CHUNK_BYTES - 1) / MG_SNAPSHOT_CHUNK_BYTES);
}

int mg_snapshot_manifest_mark(const struct mg_snapshot_manifest *manifest, struct mg_manifest *out,
                              struct mg_error *err)
{
	struct mg_manifest found;

	if (!manifest->raft) {
		return mg_error_set(err, MG_E_BUSY, "the snapshot is not the group's newest any more");
	}
	struct mg_in in = mg_in(manifest->raft->data, manifest->raft->size);
	int code = mg_manifest_decode(&in, &found, err);

	if (!code) {
		*out = mg_manifest_copy(&found);
	}
	return code;
}

size_t mg_snapshot_chunk_size(const struct mg_snapshot_manifest *manifest, uint32_t chunk)
{
	uint64_t left = manifest->bytes - (uint64_t)chunk * MG_SNAPSHOT_CHUNK_BYTES;

	mg_assert(chunk < manifest->chunk_count);
	return left < MG_SNAPSHOT_CHUNK_BYTES ? (size_t)left : MG_SNAPSHOT_CHUNK_BYTES;
}

bool mg_snapshot_chunk_is(const struct mg_snapshot_manifest *manifest, uint32_t chunk,
                          const void *data, size_t size)
{
	uint8_t hash[MG_SNAPSHOT_HASH];

	if (chunk >= manifest->chunk_count || size != mg_snapshot_chunk_size(manifest, chunk)) {
		return false;
	}
	crypto_hash_sha256(hash, data, size);
	return memcmp(hash, manifest->chunks[chunk], sizeof hash) == 0;
}

/* ---- from a file ---- */

/* As many as there are, up to a whole chunk. */
static int read_chunk(int fd, uint8_t *chunk, size_t *size)
{
	*size = 0;
	while (*size < MG_SNAPSHOT_CHUNK_BYTES) {
		ssize_t got = read(fd, chunk + *size, MG_SNAPSHOT_CHUNK_BYTES - *size);

		if (got == 0) {
			break;
		}
		if (got < 0 && errno != EINTR) {
			return errno;
		}
		*size += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static int hash_chunks(struct mg_snapshot_manifest *manifest, int fd, const char *path,
                       struct mg_error *err)
{
	uint8_t *chunk = mg_alloc(MG_SNAPSHOT_CHUNK_BYTES);
	crypto_hash_sha256_state whole;
	uint64_t bytes = 0;
	int code = 0;

	(void)crypto_hash_sha256_init(&whole);
	for (uint32_t i = 0; !code && i < manifest->chunk_count; i++) {
		size_t size;
		int error = read_chunk(fd, chunk, &size);

		if (error) {
			code = mg_error_errno(err, error, "cannot read \"%s\"", path);
		} else {
			(void)crypto_hash_sha256(manifest->chunks[i], chunk, size);
			(void)crypto_hash_sha256_update(&whole, chunk, size);
			bytes += size;
		}
	}
	(void)crypto_hash_sha256_final(&whole, manifest->sha256);
	mg_free(chunk);
	return code                       ? code
	       : bytes != manifest->bytes ? mg_error_set(err, MG_E_CORRUPT, "\"%s\" changes", path)
	                                  : 0;
}

int mg_snapshot_manifest_hash(struct mg_snapshot_manifest *manifest, const char *path,
                              struct mg_error *err)
{
	int code = mg_file_size(path, &manifest->bytes, err);
	int fd = code ? -1 : open(path, O_RDONLY | O_CLOEXEC);

	if (!code && fd < 0) {
		code = mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	if (!code && manifest->bytes > (uint64_t)MG_SNAPSHOT_CHUNKS_MAX * MG_SNAPSHOT_CHUNK_BYTES) {
		code = mg_error_set(err, MG_E_LIMIT, "\"%s\" of %" PRIu64 " bytes is too large to travel",
		                    path, manifest->bytes);
	}
	if (!code) {
		mg_free(manifest->chunks);
		manifest->chunk_count = chunks_of(manifest->bytes);
		manifest->chunks = mg_alloc0(((size_t)manifest->chunk_count + 1) * MG_SNAPSHOT_HASH);
		code = hash_chunks(manifest, fd, path, err);
	}
	if (fd >= 0) {
		close(fd);
	}
	return code;
}

/* ---- text ---- */

static void add_hash(struct mg_sb *out, const uint8_t *hash)
{
	char hex[2 * MG_SNAPSHOT_HASH + 1];

	mg_sb_add(out, sodium_bin2hex(hex, sizeof hex, hash, MG_SNAPSHOT_HASH));
}

void mg_snapshot_manifest_print(const struct mg_snapshot_manifest *manifest, struct mg_sb *out)
{
	mg_sb_addf(out, "{\"group\":%" PRIu32 ",\"index\":%" PRIu64 ",\"engine\":", manifest->group,
	           manifest->index);
	mg_sb_add_json(out, manifest->engine, strlen(manifest->engine));
	mg_sb_addf(out, ",\"format\":%" PRIu32 ",\"bytes\":%" PRIu64 ",\"sha256\":\"", manifest->format,
	           manifest->bytes);
	add_hash(out, manifest->sha256);
	mg_sb_addf(out, "\",\"chunk_bytes\":%u,\"chunks\":[", MG_SNAPSHOT_CHUNK_BYTES);
	for (uint32_t i = 0; i < manifest->chunk_count; i++) {
		mg_sb_add(out, i ? ",\"" : "\"");
		add_hash(out, manifest->chunks[i]);
		mg_sb_add_char(out, '"');
	}
	mg_sb_add(out, "],\"raft\":\"");
	if (manifest->raft) {
		size_t size = 2 * manifest->raft->size + 1;
		char *hex = mg_alloc(size);

		mg_sb_add(out, sodium_bin2hex(hex, size, manifest->raft->data, manifest->raft->size));
		mg_free(hex);
	}
	mg_sb_add(out, "\"}");
}

static bool read_hash(const struct mg_json *value, uint8_t hash[MG_SNAPSHOT_HASH])
{
	size_t size = 0;

	return mg_json_is(value, MG_JSON_STRING) && value->text.len == 2 * MG_SNAPSHOT_HASH &&
	       sodium_hex2bin(hash, MG_SNAPSHOT_HASH, value->text.ptr, value->text.len, NULL, &size,
	                      NULL) == 0 &&
	       size == MG_SNAPSHOT_HASH;
}

static bool read_raft(const struct mg_json *value, struct mg_buf **out)
{
	if (!mg_json_is(value, MG_JSON_STRING) || value->text.len == 0) {
		return mg_json_is(value, MG_JSON_STRING);
	}
	size_t size = value->text.len / 2;

	*out = mg_buf_new(size);
	return *out &&
	       sodium_hex2bin((*out)->data, size, value->text.ptr, value->text.len, NULL, &(*out)->size,
	                      NULL) == 0 &&
	       (*out)->size == size;
}

/* A number from 0, whole. */
static bool read_number(const struct mg_json *json, const char *key, uint64_t max, uint64_t *out)
{
	int64_t value = mg_json_get_int(json, key, -1);

	*out = (uint64_t)value;
	return value >= 0 && *out <= max;
}

static bool read_all(const struct mg_json *json, struct mg_snapshot_manifest *out)
{
	const struct mg_json *chunks = mg_json_get(json, "chunks");
	const char *engine = mg_json_get_text(json, "engine");
	uint64_t group, format, chunk_bytes;
	uint32_t count = 0;
	bool good =
		read_number(json, "group", UINT32_MAX, &group) &&
		read_number(json, "index", INT64_MAX, &out->index) &&
		read_number(json, "format", UINT32_MAX, &format) &&
		read_number(json, "bytes", (uint64_t)MG_SNAPSHOT_CHUNKS_MAX * MG_SNAPSHOT_CHUNK_BYTES,
	                &out->bytes) &&
		read_number(json, "chunk_bytes", UINT32_MAX, &chunk_bytes) &&
		chunk_bytes == MG_SNAPSHOT_CHUNK_BYTES && engine && strlen(engine) < sizeof out->engine &&
		read_hash(mg_json_get(json, "sha256"), out->sha256) && mg_json_is(chunks, MG_JSON_ARRAY) &&
		chunks->count == chunks_of(out->bytes) && read_raft(mg_json_get(json, "raft"), &out->raft);

	if (!good) {
		return false;
	}
	out->group = (uint32_t)group;
	out->format = (uint32_t)format;
	mg_copy_text(out->engine, sizeof out->engine, engine);
	out->chunk_count = (uint32_t)chunks->count;
	out->chunks = mg_alloc0(((size_t)out->chunk_count + 1) * MG_SNAPSHOT_HASH);
	mg_json_each(chunk, chunks) {
		good = good && read_hash(chunk, out->chunks[count++]);
	}
	return good;
}

int mg_snapshot_manifest_parse(const char *text, size_t len, struct mg_snapshot_manifest *out,
                               struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_error why = { 0 };
	int code = 0;

	*out = (struct mg_snapshot_manifest){ 0 };
	if (len > MG_SNAPSHOT_TEXT_MAX || mg_json_parse(arena, text, len, &json, &why) != 0 ||
	    !read_all(json, out)) {
		mg_snapshot_manifest_fini(out);
		code = mg_error_set(err, MG_E_PROTOCOL, "a manifest of a snapshot that makes no sense");
	}
	mg_arena_free(arena);
	return code;
}

int mg_snapshot_manifest_fits(const struct mg_snapshot_manifest *manifest, const char *engine,
                              uint32_t format, struct mg_error *err)
{
	if (strcmp(manifest->engine, engine) == 0 && manifest->format == format) {
		return 0;
	}
	mg_error_set(err, MG_E_UNSUPPORTED,
	             "the snapshot was written by engine \"%s\" in format %" PRIu32
	             ", this node has engine \"%s\" and format %" PRIu32,
	             manifest->engine, manifest->format, engine, format);
	mg_error_hint(err, "Bring all nodes to the same version.");
	return MG_E_UNSUPPORTED;
}

void mg_snapshot_manifest_fini(struct mg_snapshot_manifest *manifest)
{
	mg_free(manifest->chunks);
	mg_buf_unref(manifest->raft);
	*manifest = (struct mg_snapshot_manifest){ 0 };
}
