/* seen.c - see seen.h. */
#include "codec/seen.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

enum { HASH_DIGITS = 8, NUMBER_DIGITS_MAX = 16 };

void mg_seen_fini(struct mg_seen *seen)
{
	mg_free(seen->indexes);
	*seen = (struct mg_seen){ 0 };
}

static uint32_t hash(const char *bytes, size_t size)
{
	return (uint32_t)XXH3_64bits(bytes, size);
}

uint32_t mg_seen_cluster(const char *cluster_id)
{
	return hash(cluster_id, strlen(cluster_id));
}

void mg_seen_version(struct mg_seen *seen, uint32_t cluster, uint64_t version)
{
	seen->any = true;
	seen->cluster = cluster;
	seen->version = version > seen->version ? version : seen->version;
}

void mg_seen_index(struct mg_seen *seen, size_t shard, uint64_t index)
{
	while (seen->count <= shard) {
		mg_grow(seen->indexes, seen->count, seen->cap);
		seen->indexes[seen->count++] = 0;
	}
	if (index > seen->indexes[shard]) {
		seen->indexes[shard] = index;
	}
}

void mg_seen_merge(struct mg_seen *seen, const struct mg_seen *other)
{
	if (!other->any) {
		return;
	}
	if (seen->any && seen->cluster != other->cluster) {
		mg_seen_fini(seen);
	}
	mg_seen_version(seen, other->cluster, other->version);
	seen->all = seen->all || other->all;
	for (size_t i = 0; i < other->count; i++) {
		mg_seen_index(seen, i, other->indexes[i]);
	}
}

/* ---- as text ---- */

void mg_seen_add(struct mg_sb *out, const struct mg_seen *seen)
{
	size_t start = out->len;

	if (!seen->any) {
		return;
	}
	mg_sb_addf(out, "v1.%08" PRIx32 ".%" PRIx64, seen->cluster, seen->version);
	for (size_t i = 0; i < seen->count; i++) {
		mg_sb_addf(out, ".%" PRIx64, seen->indexes[i]);
	}
	if (seen->all || out->len - start + 1 + HASH_DIGITS > MG_SEEN_TEXT_MAX) {
		out->len = start;
		mg_sb_addf(out, "v1.%08" PRIx32 ".all", seen->cluster);
	}
	mg_sb_addf(out, ".%08" PRIx32, hash(out->ptr + start, out->len - start));
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* As mg_seen_add writes it, and no other way: of so many digits, or for 0 without leading zeros. */
static bool take_number(struct mg_str *rest, size_t digits, uint64_t *out)
{
	size_t len = 0;

	*out = 0;
	while (len < rest->len && len <= NUMBER_DIGITS_MAX && digit(rest->ptr[len]) >= 0) {
		*out = *out << 4 | (unsigned)digit(rest->ptr[len++]);
	}
	bool good = digits ? len == digits
	                   : len > 0 && len <= NUMBER_DIGITS_MAX && (len == 1 || rest->ptr[0] != '0');

	rest->ptr += len;
	rest->len -= len;
	return good;
}

static bool take_word(struct mg_str *rest, const char *word)
{
	size_t len = strlen(word);

	if (rest->len < len || memcmp(rest->ptr, word, len) != 0) {
		return false;
	}
	rest->ptr += len;
	rest->len -= len;
	return true;
}

/* Behind the cluster, and before the hash. */
static bool take_indexes(struct mg_str *rest, struct mg_seen *one)
{
	uint64_t number = 0;
	bool good = take_word(rest, ".") && take_number(rest, 0, &one->version);

	while (good && rest->len > 0) {
		good = take_word(rest, ".") && take_number(rest, 0, &number) &&
		       one->count < MG_SEEN_SHARDS_MAX;
		if (good) {
			mg_seen_index(one, one->count, number);
		}
	}
	return good;
}

static bool parse_one(struct mg_seen *one, struct mg_str text)
{
	uint64_t cluster = 0, check = 0;

	if (text.len > MG_SEEN_TEXT_MAX || text.len <= HASH_DIGITS) {
		return false;
	}
	struct mg_str rest = { text.ptr, text.len - HASH_DIGITS - 1 };
	struct mg_str last = { rest.ptr + rest.len, HASH_DIGITS + 1 };

	if (!take_word(&last, ".") || !take_number(&last, HASH_DIGITS, &check) ||
	    check != hash(rest.ptr, rest.len) || !take_word(&rest, "v1.") ||
	    !take_number(&rest, HASH_DIGITS, &cluster)) {
		return false;
	}
	one->any = true;
	one->cluster = (uint32_t)cluster;
	one->all = take_word(&rest, ".all");
	return one->all ? rest.len == 0 : take_indexes(&rest, one);
}

static int refuse(const char *what, struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE, "%s", what);
	mg_error_hint(err, "Send what an answer of this cluster has said, as it stands; of several "
	                   "answers all, with commas between.");
	return MG_E_USAGE;
}

static bool is_between(char c)
{
	return c == ',' || c == ' ' || c == '\t';
}

int mg_seen_parse(struct mg_seen *seen, struct mg_str text, struct mg_error *err)
{
	size_t texts = 0;
	int code = 0;

	for (size_t at = 0; !code && at < text.len;) {
		size_t end = at;
		struct mg_seen one = { 0 };

		while (end < text.len && !is_between(text.ptr[end])) {
			end++;
		}
		if (end == at) {
			at++;
			continue;
		}
		if (++texts > MG_SEEN_TEXTS_MAX ||
		    !parse_one(&one, (struct mg_str){ text.ptr + at, end - at })) {
			code = refuse("what a session has seen cannot be read", err);
		} else if (seen->any && seen->cluster != one.cluster) {
			code = refuse("what a session has seen is of two clusters", err);
		} else {
			mg_seen_merge(seen, &one);
		}
		mg_seen_fini(&one);
		at = end;
	}
	if (!code && texts == 0) {
		code = refuse("what a session has seen is an empty text", err);
	}
	if (code) {
		mg_seen_fini(seen);
	}
	return code;
}
