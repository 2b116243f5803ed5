/*
 * rest_kv_scan.c - GET /kv/{namespace}: its keys in order, a page at a time.
 *
 *     ?prefix= ?start= ?end=        of what; end is not in it
 *     ?encoding=hex|base64          of these, and of the keys in the answer; else they are text
 *     ?values=hex|base64            with them
 *     ?limit= ?cursor=              a page; the cursor of the next one stands in the answer
 *
 * owner: the connection's loop; between start and post a query thread.
 */
#include "door/doors_int.h"
#include "door/kv_text.h"
#include "replica/kv_scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 100000, PAGE_BYTES = 8 << 20 };

enum text { TEXT_PLAIN, TEXT_HEX, TEXT_BASE64, TEXT_NONE };

struct page {
	struct mg_doors *doors;
	struct mg_http_request *request;
	struct mg_loop *loop;
	bool gone; /* loop */
	struct mg_str space, first, end;
	enum text keys, values;
	uint64_t limit;
	bool any;
	struct mg_error err;
	struct mg_sb json;
};

/* ---- the answer ---- */

static void add_bytes(struct mg_sb *json, enum text how, struct mg_str bytes)
{
	if (how == TEXT_PLAIN) {
		mg_sb_add_json(json, bytes.ptr, bytes.len);
		return;
	}
	mg_sb_add_char(json, '"');
	if (how == TEXT_HEX) {
		mg_kv_add_hex(json, bytes);
	} else {
		mg_kv_add_base64(json, bytes);
	}
	mg_sb_add_char(json, '"');
}

static void add_key(struct page *page, struct mg_str key, const struct mg_kv_found *found)
{
	struct mg_sb *json = &page->json;
	bool text = page->keys != TEXT_PLAIN || mg_utf8_valid(key.ptr, key.len);

	/* A key that is no text, where text was asked for. */
	mg_sb_add(json, text ? "{\"key\": " : "{\"key_hex\": ");
	add_bytes(json, text ? page->keys : TEXT_HEX, key);
	mg_sb_addf(json, ", \"version\": %" PRIu64 ", \"size\": %zu", found->version,
	           found->value.len);
	mg_sb_addf(json, ", \"created_ms\": %" PRIu64 ", \"changed_ms\": %" PRIu64, found->created_ms,
	           found->changed_ms);
	if (found->expiry_ms) {
		mg_sb_addf(json, ", \"expires_ms\": %" PRIu64, found->expiry_ms);
	}
	mg_sb_add(json, ", \"content_type\": ");
	mg_sb_add_json(json, found->type.ptr, found->type.len);
	mg_sb_add(json, ", \"encoding\": ");
	mg_sb_add_json(json, found->encoding.ptr, found->encoding.len);
	if (page->values != TEXT_NONE) {
		mg_sb_add(json, ", \"value\": ");
		add_bytes(json, page->values, found->value);
	}
	mg_sb_add_char(json, '}');
}

static void fill(struct page *page, struct mg_kv_scan *scan)
{
	struct mg_kv_found found;
	struct mg_str key;
	uint64_t count = 0;
	bool more = false;

	mg_sb_add(&page->json, "{\"keys\": [");
	while (!more && mg_kv_scan_next(scan, &key, &found)) {
		more = count == page->limit || page->json.len > PAGE_BYTES;
		if (!more) {
			mg_sb_add(&page->json, count++ ? ",\n" : "\n");
			add_key(page, key, &found);
		}
	}
	/* The first key of the next page. */
	mg_sb_add(&page->json, "], \"cursor\": ");
	if (more) {
		add_bytes(&page->json, TEXT_HEX, key);
	} else {
		mg_sb_add(&page->json, "null");
	}
	mg_sb_add(&page->json, "}\n");
}

static void page_ended(void *arg)
{
	struct page *page = arg;

	if (page->gone) {
		mg_http_abort(page->request);
	} else if (page->err.code) {
		mg_rest_error(page->request, &page->err, 0);
	} else {
		mg_rest_count(page->request, 200);
		mg_http_reply(page->request, 200, "application/json", page->json.ptr, page->json.len,
		              "Cache-Control: no-store\r\n");
	}
	mg_sb_fini(&page->json);
	mg_free(page);
}

static void page_run(void *arg)
{
	struct page *page = arg;
	struct mg_replica *replica = mg_engine_replica(page->doors->options.engine);
	struct mg_kv_scan *scan = NULL;
	int code = mg_kv_scan_open(&scan, replica, page->space, page->first, page->end, page->any,
	                           &page->err);

	if (!code) {
		fill(page, scan);
		(void)mg_kv_scan_close(scan, &page->err);
	}
	mg_loop_post(page->loop, page_ended, page);
}

static void page_gone(void *arg)
{
	struct page *page = arg;

	page->gone = true;
}

/* ---- the question ---- */

static int read_text(const char *word, enum text fallback, enum text *out)
{
	*out = !word                         ? fallback
	       : mg_text_eq(word, "hex")     ? TEXT_HEX
	       : mg_text_eq(word, "base64")  ? TEXT_BASE64
	                                     : TEXT_PLAIN;
	return word && *out == TEXT_PLAIN ? MG_E_USAGE : 0;
}

static bool read_bytes(struct mg_arena *arena, enum text how, const char *text, struct mg_str *out)
{
	*out = mg_str(text);
	return !text || how == TEXT_PLAIN ||
	       (how == TEXT_HEX ? mg_kv_from_hex(arena, *out, out)
	                        : mg_kv_from_base64(arena, *out, out));
}

static struct mg_str later(struct mg_str a, struct mg_str b)
{
	int order = a.len && b.len ? memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len) : 0;

	return order > 0 || (order == 0 && a.len > b.len) ? a : b;
}

static int read_range(struct page *page, struct mg_error *err)
{
	struct mg_http_request *request = page->request;
	struct mg_arena *arena = mg_http_arena(request);
	struct mg_str prefix, start, end, cursor;

	if (!read_bytes(arena, page->keys, mg_http_query(request, "prefix"), &prefix) ||
	    !read_bytes(arena, page->keys, mg_http_query(request, "start"), &start) ||
	    !read_bytes(arena, page->keys, mg_http_query(request, "end"), &end) ||
	    !read_bytes(arena, TEXT_HEX, mg_http_query(request, "cursor"), &cursor)) {
		mg_error_set(err, MG_E_USAGE, "?prefix=, ?start=, ?end= or ?cursor= is not as encoded");
		mg_error_hint(err, "They are text, or as ?encoding= says; a cursor is as it was given.");
		return MG_E_USAGE;
	}
	struct mg_str behind = mg_lsm_behind(prefix, mg_arena_alloc(arena, prefix.len + 1));

	page->first = later(later(prefix, start), cursor);
	page->end = !end.len || (behind.len && mg_str_eq(later(end, behind), end)) ? behind : end;
	return 0;
}

static int read_page(struct page *page, struct mg_error *err)
{
	struct mg_http_request *request = page->request;
	const char *limit = mg_http_query(request, "limit");
	const char *word = mg_http_query(request, "consistency");
	char *end = NULL;

	page->limit = limit ? strtoull(limit, &end, 10) : LIMIT_DEFAULT;
	page->any = mg_text_eq(word, "any");
	if (limit && (*end || !*limit || page->limit < 1 || page->limit > LIMIT_MAX)) {
		return mg_error_set(err, MG_E_USAGE, "?limit= is from 1 to %d", LIMIT_MAX);
	}
	if (read_text(mg_http_query(request, "encoding"), TEXT_PLAIN, &page->keys) ||
	    read_text(mg_http_query(request, "values"), TEXT_NONE, &page->values)) {
		mg_error_set(err, MG_E_USAGE, "?encoding= and ?values= are hex or base64");
		return MG_E_USAGE;
	}
	if (!mg_kv_is_space(page->space)) {
		mg_error_set(err, MG_E_USAGE, "this is no name of a namespace");
		mg_error_hint(err, "Up to 64 letters, digits, \"_\", \"-\" and \".\".");
		return MG_E_USAGE;
	}
	return read_range(page, err);
}

void mg_rest_kv_scan(struct mg_doors *doors, struct mg_http_request *request, const char *space)
{
	struct page *page = mg_alloc0(sizeof *page);
	struct mg_error err = { 0 };

	page->doors = doors;
	page->request = request;
	page->loop = mg_conn_loop(mg_http_conn(request));
	page->space = mg_str(space);
	if (read_page(page, &err)) {
		mg_rest_error(request, &err, 400);
		mg_free(page);
		return;
	}
	mg_http_defer(request, page_gone, page);
	if (mg_pool_post(mg_sessions_pool(doors->sessions), page_run, page, &err)) {
		mg_rest_error(request, &err, 0);
		mg_free(page);
	}
}
