/* join_wire.c - see join_wire.h. */
#include "server/join_wire.h"

#include <string.h>

/* ---- texts ---- */

static void add_text(struct mg_sb *out, const char *name, const char *text)
{
	mg_sb_addf(out, "\"%s\":", name);
	mg_sb_add_json(out, text, strlen(text));
}

/* "" when it is missing, no text, or holds a zero. */
static const char *text_of(struct mg_arena *arena, const struct mg_json *json, const char *name)
{
	const struct mg_json *value = mg_json_get(json, name);
	bool whole = mg_json_is(value, MG_JSON_STRING) && strlen(value->text.ptr) == value->text.len;

	return mg_arena_strdup(arena, whole ? value->text.ptr : "");
}

static uint64_t number_of(const struct mg_json *json, const char *name)
{
	int64_t number = mg_json_get_int(json, name, 0);

	return number > 0 ? (uint64_t)number : 0;
}

static uint32_t format_of(const struct mg_json *json, const char *name)
{
	uint64_t number = number_of(json, name);

	return number <= UINT32_MAX ? (uint32_t)number : 0;
}

/* ---- asking ---- */

static int missing(const char *name, struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE, "\"%s\" is missing or too long", name);
	mg_error_detail(err, "A server asks with its name and address (id, addr), two requests for "
	                     "certificates in PEM (node_request, server_request), and what it runs "
	                     "(version, engine, file_format, catalog_format); it cannot serve without "
	                     "keys.");
	mg_error_hint(err, "Start it with: merganser server --join HOST:PORT --tls-roots CA.crt.");
	return MG_E_USAGE;
}

int mg_join_ask_read(struct mg_arena *arena, struct mg_str body, struct mg_join_ask *out,
                     struct mg_error *err)
{
	struct mg_json *json = NULL;

	*out = (struct mg_join_ask){ 0 };
	if (mg_json_parse(arena, body.ptr ? body.ptr : "", body.len, &json, err) ||
	    !mg_json_is(json, MG_JSON_OBJECT)) {
		mg_error_set(err, MG_E_USAGE, "the body is no JSON object");
		mg_error_hint(err, "POST /join is how a server enters a cluster: merganser server --join.");
		return MG_E_USAGE;
	}
	*out = (struct mg_join_ask){
		.id = text_of(arena, json, "id"),
		.address = text_of(arena, json, "addr"),
		.node_request = text_of(arena, json, "node_request"),
		.server_request = text_of(arena, json, "server_request"),
		.version = text_of(arena, json, "version"),
		.engine = text_of(arena, json, "engine"),
		.file_format = format_of(json, "file_format"),
		.catalog_format = format_of(json, "catalog_format"),
		.cluster = text_of(arena, json, "cluster"),
		.lost = mg_json_get_bool(json, "lost", false),
		.signs = mg_json_get_bool(json, "signs", false),
		.relayed = mg_json_get_bool(json, "relayed", false),
		.number = number_of(json, "number"),
	};
	const struct {
		const char *name, *text;
		size_t max;
	} needed[] = {
		{ "id", out->id, 255 },
		{ "addr", out->address, 1023 },
		{ "node_request", out->node_request, MG_JOIN_REQUEST_MAX },
		{ "server_request", out->server_request, MG_JOIN_REQUEST_MAX },
		{ "version", out->version, 63 },
		{ "engine", out->engine, 63 },
	};
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		if (!*needed[i].text || strlen(needed[i].text) > needed[i].max) {
			return missing(needed[i].name, err);
		}
	}
	return out->file_format == 0 || out->catalog_format == 0
	           ? missing(out->file_format ? "catalog_format" : "file_format", err)
	           : 0;
}

void mg_join_ask_write(const struct mg_join_ask *ask, struct mg_sb *out)
{
	mg_sb_add_char(out, '{');
	add_text(out, "id", ask->id);
	mg_sb_add_char(out, ',');
	add_text(out, "addr", ask->address);
	mg_sb_add_char(out, ',');
	add_text(out, "node_request", ask->node_request);
	mg_sb_add_char(out, ',');
	add_text(out, "server_request", ask->server_request);
	mg_sb_add_char(out, ',');
	add_text(out, "version", ask->version);
	mg_sb_add_char(out, ',');
	add_text(out, "engine", ask->engine);
	mg_sb_addf(out, ",\"file_format\":%u,\"catalog_format\":%u,", ask->file_format,
	           ask->catalog_format);
	add_text(out, "cluster", ask->cluster);
	if (ask->lost) {
		mg_sb_addf(out, ",\"lost\":true,\"signs\":%s", ask->signs ? "true" : "false");
	}
	mg_sb_addf(out, ",\"relayed\":%s,\"number\":%llu}", ask->relayed ? "true" : "false",
	           (unsigned long long)ask->number);
}

/* ---- answering ---- */

int mg_join_answer_read(struct mg_arena *arena, struct mg_str body, struct mg_join_answer *out,
                        struct mg_error *err)
{
	struct mg_json *json = NULL;
	struct mg_sb catalog = { 0 };

	*out = (struct mg_join_answer){ 0 };
	if (mg_json_parse(arena, body.ptr ? body.ptr : "", body.len, &json, err) ||
	    !mg_json_is(json, MG_JSON_OBJECT)) {
		return mg_error_set(err, MG_E_PROTOCOL, "the answer is no JSON object");
	}
	*out = (struct mg_join_answer){
		.number = number_of(json, "number"),
		.cluster = text_of(arena, json, "cluster"),
		.ca = text_of(arena, json, "ca"),
		.node_certificate = text_of(arena, json, "node_certificate"),
		.server_certificate = text_of(arena, json, "server_certificate"),
	};
	/* Certificates are missing for who signs its own; who does not, checks them. */
	if (!out->number || !*out->cluster || !*out->ca ||
	    !mg_json_is(mg_json_get(json, "catalog"), MG_JSON_OBJECT)) {
		return mg_error_set(err, MG_E_PROTOCOL, "the answer is not that of a server that lets in");
	}
	mg_json_print(&catalog, mg_json_get(json, "catalog"));
	out->catalog.len = catalog.len;
	out->catalog.ptr = mg_arena_strndup(arena, mg_sb_text(&catalog), catalog.len);
	mg_sb_fini(&catalog);
	return 0;
}

void mg_join_answer_write(const struct mg_join_answer *answer, const struct mg_catalog_data *data,
                          struct mg_sb *out)
{
	mg_sb_addf(out, "{\"number\":%llu,", (unsigned long long)answer->number);
	add_text(out, "cluster", data->cluster_id);
	mg_sb_add_char(out, ',');
	add_text(out, "ca", answer->ca);
	mg_sb_add_char(out, ',');
	add_text(out, "node_certificate", answer->node_certificate);
	mg_sb_add_char(out, ',');
	add_text(out, "server_certificate", answer->server_certificate);
	mg_sb_add(out, ",\"nodes\":[");
	for (size_t i = 0; i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		mg_sb_addf(out, "%s{\"number\":%llu,", i ? "," : "", (unsigned long long)node->number);
		add_text(out, "id", node->id);
		mg_sb_add_char(out, ',');
		add_text(out, "address", node->address);
		mg_sb_add_char(out, ',');
		add_text(out, "state", node->state);
		mg_sb_add_char(out, '}');
	}
	mg_sb_add(out, "],\"catalog\":");
	mg_catalog_text(data, out);
	mg_sb_add(out, "}\n");
}

int mg_join_refusal_read(struct mg_str body, int status, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_error ignored;

	(void)mg_json_parse(arena, body.ptr ? body.ptr : "", body.len, &json, &ignored);
	const struct mg_json *error = mg_json_get(json, "error");
	const char *state = mg_json_get_text(error, "sqlstate");
	const char *message = mg_json_get_text(error, "message");
	const char *detail = mg_json_get_text(error, "detail");
	const char *hint = mg_json_get_text(error, "hint");
	int code = state && message ? mg_code_from_sqlstate(state) : MG_E_PROTOCOL;

	code = code ? code : MG_E_PROTOCOL; /* "00000" is no refusal */
	if (message) {
		mg_error_set(err, code, "%s", message);
	} else {
		mg_error_set(err, code, "the answer is HTTP %d: that is no server of Merganser", status);
	}
	if (detail && *detail) {
		mg_error_detail(err, "%s", detail);
	}
	if (hint && *hint) {
		mg_error_hint(err, "%s", hint);
	}
	mg_arena_free(arena);
	return code;
}
