/* kv_redirect.c - see kv_redirect.h. */
#include "door/kv_redirect.h"

#include "door/rest_sql.h"
#include "replica/kv_groups.h"
#include "replica/replica.h"

/* As the path of the request was: what has another meaning there is escaped. */
static void add_path(struct mg_sb *out, const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
								"0123456789-._~/";

	for (; *path; path++) {
		if (strchr(plain, *path)) {
			mg_sb_add_char(out, *path);
		} else {
			mg_sb_addf(out, "%%%02X", (unsigned char)*path);
		}
	}
}

static void answer(struct mg_http_request *request, const char *address)
{
	struct mg_sb url = { 0 }, json = { 0 }, extra = { 0 };

	mg_sb_addf(&url, "https://%s", address);
	add_path(&url, mg_http_path(request));
	mg_rest_add_query_without(&url, mg_http_query_text(request), "redirect");
	mg_sb_add(&json, "{\"location\": ");
	mg_sb_add_json(&json, url.ptr, url.len);
	mg_sb_add(&json, "}\n");
	mg_sb_addf(&extra, "Location: %s\r\n", mg_sb_text(&url));
	mg_rest_count(request, 307);
	mg_http_reply(request, 307, "application/json", json.ptr, json.len, mg_sb_text(&extra));
	mg_sb_fini(&url);
	mg_sb_fini(&json);
	mg_sb_fini(&extra);
}

bool mg_kv_redirect(struct mg_doors *doors, struct mg_http_request *request, struct mg_str space,
                    struct mg_str key)
{
	struct mg_replica *replica = mg_engine_replica(doors->options.engine);

	if (!mg_rest_flag(request, "redirect")) {
		return false;
	}
	uint64_t node = mg_replica_kv_leader(replica, mg_replica_kv_shard(replica, space, key));
	const struct mg_catalog_data *data = mg_catalog_take(doors->options.catalog);
	const struct mg_catalog_node *found =
		node && node != mg_replica_self(replica) ? mg_catalog_find_node(data, node) : NULL;

	if (found) {
		answer(request, found->address);
	}
	mg_catalog_give(doors->options.catalog, data);
	return found != NULL;
}
