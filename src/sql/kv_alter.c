/* kv_alter.c - see kv_alter.h. */
#include "sql/kv_alter.h"

#include "base/units.h"
#include "sql/cursor.h"

#include <stdlib.h>
#include <string.h>

enum { DIGITS_MAX = 18 };

static bool parse_count(const char *text, uint64_t *out)
{
	size_t len = strlen(text);

	*out = strtoull(text, NULL, 10);
	return len > 0 && len <= DIGITS_MAX && strspn(text, "0123456789") == len;
}

static const struct {
	const char *name;
	bool (*parse)(const char *text, uint64_t *out);
	const char *wants;
} settings[MG_KV_SETTING_COUNT] = {
	[MG_KV_DEFAULT_TTL] = { "default_ttl", mg_parse_ms,
	                        "Seconds, or a time such as '30 min', '1 hour' or '7 days'." },
	[MG_KV_QUOTA_BYTES] = { "quota_bytes", mg_parse_size,
	                        "Bytes, or a size such as '500 MB' or '1 GiB'." },
	[MG_KV_QUOTA_KEYS] = { "quota_keys", parse_count, "A whole number of keys." },
};

/* ---- values ---- */

/* A number or a text as it is meant. */
static const char *text_of(struct mg_cursor *cursor)
{
	struct mg_str text = cursor->token.text;
	bool quoted = cursor->token.kind == MG_T_STRING && text.len > 1 && text.ptr[0] == '\'';

	return quoted ? mg_arena_strndup(cursor->arena, text.ptr + 1, text.len - 2)
	              : mg_arena_strndup(cursor->arena, text.ptr, text.len);
}

static int take_value(struct mg_cursor *cursor, enum mg_kv_setting setting, uint64_t *value)
{
	*value = 0;
	if (mg_cursor_take(cursor, "null")) {
		return 0;
	}
	if (cursor->token.kind != MG_T_STRING && cursor->token.kind != MG_T_NUMBER) {
		return mg_cursor_expected(cursor, "the value");
	}
	const char *text = text_of(cursor);

	if (!settings[setting].parse(text, value) || *value == 0) {
		mg_error_set(cursor->err, MG_E_USAGE, "\"%.60s\" is no %s", text,
		             settings[setting].name);
		mg_error_hint(cursor->err, "%s RESET (%s) takes it away.", settings[setting].wants,
		              settings[setting].name);
		return MG_E_USAGE;
	}
	mg_cursor_next(cursor);
	return 0;
}

static int take_setting(struct mg_cursor *cursor, bool resets, struct mg_kv_alter *out)
{
	const char *name = "";
	int setting = 0, code = mg_cursor_take_name(cursor, "the name of a setting", &name);

	while (setting < MG_KV_SETTING_COUNT && !mg_text_eq_nocase(settings[setting].name, name)) {
		setting++;
	}
	if (code) {
		return code;
	}
	if (setting == MG_KV_SETTING_COUNT) {
		mg_error_set(cursor->err, MG_E_USAGE, "namespaces have no setting \"%.60s\"", name);
		mg_error_hint(cursor->err, "default_ttl, quota_bytes or quota_keys.");
		return MG_E_USAGE;
	}
	if (out->changes[setting]) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "%s is given twice", name);
	}
	out->changes[setting] = true;
	if (resets) {
		return 0;
	}
	return mg_cursor_take_sign(cursor, '=')
	           ? take_value(cursor, (enum mg_kv_setting)setting, &out->values[setting])
	           : mg_cursor_expected(cursor, "\"=\"");
}

/* ---- the statement ---- */

static int refuse(struct mg_cursor *cursor, bool drops)
{
	mg_error_set(cursor->err, MG_E_UNSUPPORTED, "%s NAMESPACE is not supported",
	             drops ? "DROP" : "CREATE");
	mg_error_hint(cursor->err,
	              drops ? "A namespace is gone with its last key and its last setting: DELETE FROM "
	                      "kv.name, and ALTER NAMESPACE name RESET (...)."
	                    : "A namespace is made by its first key, or by the first setting: ALTER "
	                      "NAMESPACE name SET (...).");
	return MG_E_UNSUPPORTED;
}

int mg_kv_alter_parse(struct mg_arena *arena, struct mg_str text, struct mg_kv_alter *out,
                      struct mg_error *err)
{
	struct mg_cursor cursor;

	*out = (struct mg_kv_alter){ .space = "" };
	mg_cursor_init(&cursor, arena, text, err);
	if (!mg_cursor_take(&cursor, "alter")) {
		return refuse(&cursor, mg_token_is(cursor.token, "drop"));
	}
	if (!mg_cursor_take(&cursor, "namespace")) {
		return mg_cursor_expected(&cursor, "NAMESPACE");
	}
	int code = mg_cursor_take_name(&cursor, "the namespace's name", &out->space);

	if (code) {
		return code;
	}
	bool resets = mg_cursor_take(&cursor, "reset");

	if (!resets && !mg_cursor_take(&cursor, "set")) {
		return mg_cursor_expected(&cursor, "SET (...) or RESET (...)");
	}
	if (!mg_cursor_take_sign(&cursor, '(')) {
		return mg_cursor_expected(&cursor, "\"(\"");
	}
	do {
		code = take_setting(&cursor, resets, out);
	} while (!code && mg_cursor_take_sign(&cursor, ','));
	if (!code && !mg_cursor_take_sign(&cursor, ')')) {
		code = mg_cursor_expected(&cursor, "\")\"");
	}
	return code || mg_token_is_end(cursor.token)
	           ? code
	           : mg_cursor_expected(&cursor, "the end of the statement");
}
