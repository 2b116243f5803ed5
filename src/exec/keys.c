/* keys.c - see keys.h. */
#include "exec/keys.h"

#include "replica/kv_scan.h"

int mg_keys_check(struct mg_replica *replica, struct mg_str space, struct mg_error *err)
{
	int code = mg_replica_kv_check(replica, err);

	if (!code && !mg_kv_is_space(space)) {
		code = mg_error_set(err, MG_E_USAGE, "this is no name of a namespace");
		mg_error_hint(err, "Up to 64 letters, digits, \"_\", \"-\" and \".\".");
	}
	return code;
}

int mg_keys_await(struct mg_replica *replica, struct mg_error *err)
{
	return mg_kv_await(replica, err);
}

/* ---- what kv() asks ---- */

static int check(void *arg, struct mg_str space, struct mg_error *err)
{
	return mg_keys_check(arg, space, err);
}

static uint64_t count(void *arg, struct mg_str space)
{
	uint64_t keys = 0;

	for (uint32_t i = 0; i < mg_replica_kv_shards(arg); i++) {
		uint64_t here, bytes;

		mg_kv_state_use(mg_replica_kv_state(arg, i), space, &here, &bytes);
		keys += here;
	}
	return keys;
}

static int open_scan(void *arg, struct mg_str space, struct mg_str first, struct mg_str end,
                     void **scan, struct mg_error *err)
{
	struct mg_kv_scan *opened = NULL;
	int code = mg_kv_scan_open(&opened, arg, space, first, end, true, err);

	*scan = opened;
	return code;
}

static bool next(void *scan, struct mg_duck_key *out)
{
	struct mg_kv_found found;

	if (!mg_kv_scan_next(scan, &out->key, &found)) {
		return false;
	}
	out->value = found.value;
	out->in_parts = found.part_count > 0;
	out->type = found.type;
	out->encoding = found.encoding;
	out->version = found.version;
	out->created_ms = found.created_ms;
	out->changed_ms = found.changed_ms;
	out->expiry_ms = found.expiry_ms;
	return true;
}

static bool whole(void *scan, struct mg_str *value)
{
	return mg_kv_scan_whole(scan, value);
}

static int close_scan(void *scan, struct mg_error *err)
{
	return mg_kv_scan_close(scan, err);
}

void mg_keys_of(struct mg_replica *replica, struct mg_duck_keys *out)
{
	*out = (struct mg_duck_keys){
		.check = check,
		.count = count,
		.open = open_scan,
		.next = next,
		.whole = whole,
		.close = close_scan,
		.arg = replica,
	};
}
