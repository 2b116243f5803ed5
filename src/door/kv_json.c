/* kv_json.c - see kv_json.h. */
#include "door/kv_json.h"

#include <inttypes.h>

void mg_kv_add_bytes(struct mg_sb *json, enum mg_kv_form form, struct mg_str bytes)
{
	if (form == MG_KV_FORM_TEXT) {
		mg_sb_add_json(json, bytes.ptr, bytes.len);
		return;
	}
	mg_sb_add_char(json, '"');
	if (form == MG_KV_FORM_HEX) {
		mg_kv_add_hex(json, bytes);
	} else {
		mg_kv_add_base64(json, bytes);
	}
	mg_sb_add_char(json, '"');
}

void mg_kv_add_key(struct mg_sb *json, struct mg_kv_forms forms, struct mg_str key)
{
	bool fits = forms.keys != MG_KV_FORM_TEXT || mg_utf8_valid(key.ptr, key.len);

	mg_sb_add(json, fits ? "\"key\": " : "\"key_hex\": ");
	mg_kv_add_bytes(json, fits ? forms.keys : MG_KV_FORM_HEX, key);
}

void mg_kv_add_found(struct mg_sb *json, struct mg_kv_forms forms, const struct mg_kv_found *found)
{
	mg_sb_addf(json, ", \"size\": %" PRIu64, found->size);
	mg_sb_addf(json, ", \"created_ms\": %" PRIu64 ", \"changed_ms\": %" PRIu64, found->created_ms,
	           found->changed_ms);
	if (found->expiry_ms) {
		mg_sb_addf(json, ", \"expires_ms\": %" PRIu64, found->expiry_ms);
	}
	mg_sb_add(json, ", \"content_type\": ");
	mg_sb_add_json(json, found->type.ptr, found->type.len);
	mg_sb_add(json, ", \"encoding\": ");
	mg_sb_add_json(json, found->encoding.ptr, found->encoding.len);
	if (found->size > found->value.len) {
		mg_sb_add(json, ", \"large\": true"); /* it is in parts */
	} else if (forms.values != MG_KV_FORM_NONE) {
		mg_sb_add(json, ", \"value\": ");
		mg_kv_add_bytes(json, forms.values, found->value);
	}
}

/* ---- the question ---- */

static bool read_form(const char *word, enum mg_kv_form fallback, enum mg_kv_form *out)
{
	*out = !word                        ? fallback
	       : mg_text_eq(word, "hex")    ? MG_KV_FORM_HEX
	       : mg_text_eq(word, "base64") ? MG_KV_FORM_BASE64
	                                    : MG_KV_FORM_TEXT;
	return !word || *out != MG_KV_FORM_TEXT;
}

int mg_kv_read_forms(struct mg_http_request *request, struct mg_kv_forms *out,
                     struct mg_error *err)
{
	bool good = read_form(mg_http_query(request, "encoding"), MG_KV_FORM_TEXT, &out->keys);

	good = read_form(mg_http_query(request, "values"), MG_KV_FORM_NONE, &out->values) && good;
	return good ? 0 : mg_error_set(err, MG_E_USAGE, "?encoding= and ?values= are hex or base64");
}

bool mg_kv_read_bytes(struct mg_arena *arena, enum mg_kv_form form, const char *text,
                      struct mg_str *out)
{
	*out = mg_str(text);
	return !text || form == MG_KV_FORM_TEXT ||
	       (form == MG_KV_FORM_HEX ? mg_kv_from_hex(arena, *out, out)
	                               : mg_kv_from_base64(arena, *out, out));
}

int mg_kv_refuse_space(struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE, "this is no name of a namespace");
	mg_error_hint(err, "Up to 64 letters, digits, \"_\", \"-\" and \".\".");
	return MG_E_USAGE;
}
