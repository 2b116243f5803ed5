/* kv_alter.c - see kv_alter.h. */
#include "session/kv_alter.h"

#include "base/log.h"
#include "exec/engine.h"
#include "exec/keys.h"
#include "replica/kv_command.h"
#include "sql/kv_alter.h"

#include <inttypes.h>

static int put_space(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                     struct mg_error *err)
{
	const struct mg_kv_alter *alter = arg;
	const struct mg_catalog_space *was = mg_catalog_find_space(data, mg_str(alter->space));
	struct mg_catalog_space space = was ? *was : (struct mg_catalog_space){ 0 };
	uint64_t *const fields[] = { &space.default_ttl_ms, &space.quota_bytes, &space.quota_keys };

	space.name = mg_arena_strdup(arena, alter->space);
	for (int i = 0; i < MG_KV_SETTING_COUNT; i++) {
		*fields[i] = alter->changes[i] ? alter->values[i] : *fields[i];
	}
	return mg_catalog_put_space(arena, data, &space, err);
}

/* What is wanted of a namespace holds for all users, so it is for admins to say. */
static int refuse(const struct mg_kv_alter_begin *begin, struct mg_error *err)
{
	if (!begin->is_admin) {
		return mg_error_set(err, MG_E_DENIED, "what is wanted of a namespace is for admins to say");
	}
	if (begin->in_transaction || begin->has_key) {
		mg_error_set(err, MG_E_UNSUPPORTED,
		             "ALTER NAMESPACE is no part of a transaction, and takes no Idempotency-Key");
		mg_error_hint(err, "Send it by itself: the same twice is as once.");
		return MG_E_UNSUPPORTED;
	}
	return 0;
}

static int check(const struct mg_kv_alter_begin *begin, const struct mg_kv_alter *alter,
                 struct mg_error *err)
{
	double ttl_s = (double)alter->values[MG_KV_DEFAULT_TTL] / 1000;

	if (ttl_s > MG_KV_TTL_S_MAX) {
		mg_error_set(err, MG_E_USAGE, "a default_ttl of %.0f s", ttl_s);
		mg_error_hint(err, "At most %.0f s: a hundred years.", MG_KV_TTL_S_MAX);
		return MG_E_USAGE;
	}
	return mg_keys_check(mg_engine_replica(begin->engine), mg_str(alter->space), err);
}

/* For the log: -1, it stays as it is; 0, it is taken away. */
static int64_t wish(const struct mg_kv_alter *alter, enum mg_kv_setting setting)
{
	return alter->changes[setting] ? (int64_t)alter->values[setting] : -1;
}

int mg_kv_alter(struct mg_arena *arena, const struct mg_kv_alter_begin *begin,
                struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(begin->engine);
	struct mg_kv_alter alter;
	int code = refuse(begin, err);

	code = code ? code : mg_kv_alter_parse(arena, begin->statement, &alter, err);
	code = code ? code : check(begin, &alter, err);
	code = code ? code : mg_catalog_change_anywhere(catalog, put_space, &alter, err);
	if (!code) {
		mg_log(MG_LOG_INFO, "kv.namespace",
		       "namespace=%s default_ttl_ms=%" PRId64 " quota_bytes=%" PRId64
		       " quota_keys=%" PRId64,
		       alter.space, wish(&alter, MG_KV_DEFAULT_TTL), wish(&alter, MG_KV_QUOTA_BYTES),
		       wish(&alter, MG_KV_QUOTA_KEYS));
	}
	return code;
}
