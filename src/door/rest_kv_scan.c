/*
 * rest_kv_scan.c - GET /kv/{namespace}: its keys in order, a page at a time.
 *
 *     ?prefix= ?start= ?end=        of what; end is not in it
 *     ?encoding=hex|base64          of these, and of the keys in the answer; else they are text
 *     ?values=hex|base64            with them
 *     ?limit= ?cursor=              a page; the cursor of the next one stands in the answer, and
 *                                   the token from which a watch misses nothing (rest_kv_watch.c)
 *
 * owner: the connection's loop; between start and post a query thread.
 */
#include "door/doors_int.h"
#include "door/kv_json.h"
#include "replica/kv_scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 100000, PAGE_BYTES = 8 << 20 };

struct page {
	struct mg_doors *doors;
	struct mg_http_request *request;
	struct mg_loop *loop;
	bool gone; /* loop */
	struct mg_str space, first, end;
	struct mg_kv_forms forms;
	uint64_t limit;
	bool any;
	struct mg_error err;
	struct mg_sb json;
};

/* ---- the answer ---- */

static void add_key(struct page *page, struct mg_str key, const struct mg_kv_found *found)
{
	mg_sb_add_char(&page->json, '{');
	mg_kv_add_key(&page->json, page->forms, key);
	mg_sb_addf(&page->json, ", \"version\": %" PRIu64, found->version);
	mg_kv_add_found(&page->json, page->forms, found);
	mg_sb_add_char(&page->json, '}');
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
		mg_kv_add_bytes(&page->json, MG_KV_FORM_HEX, key);
	} else {
		mg_sb_add(&page->json, "null");
	}
	mg_sb_add(&page->json, ", \"watch\": \"");
	mg_kv_scan_token(scan, &page->json);
	mg_sb_add(&page->json, "\"}\n");
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

	if (!mg_kv_read_bytes(arena, page->forms.keys, mg_http_query(request, "prefix"), &prefix) ||
	    !mg_kv_read_bytes(arena, page->forms.keys, mg_http_query(request, "start"), &start) ||
	    !mg_kv_read_bytes(arena, page->forms.keys, mg_http_query(request, "end"), &end) ||
	    !mg_kv_read_bytes(arena, MG_KV_FORM_HEX, mg_http_query(request, "cursor"), &cursor)) {
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
	if (mg_kv_read_forms(request, &page->forms, err)) {
		return MG_E_USAGE;
	}
	if (!mg_kv_is_space(page->space)) {
		return mg_kv_refuse_space(err);
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
