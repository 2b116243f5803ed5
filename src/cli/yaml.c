/*
 * yaml.c - see yaml.h. libyaml tells what comes next, and each event is a piece of JSON.
 */
#include "cli/yaml.h"

#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 64

struct level {
	bool map;
	size_t count; /* items; keys and values of a map count alike */
};

struct converter {
	yaml_parser_t parser;
	struct level levels[DEPTH_MAX];
	size_t depth;
	size_t documents;
	struct mg_sb *out;
};

static int say(const yaml_mark_t *mark, const char *what, struct mg_error *err)
{
	return mg_error_set(err, MG_E_USAGE, "line %zu, column %zu: %s", mark->line + 1,
	                    mark->column + 1, what);
}

/* ---- scalars ---- */

static bool is_number(const char *text)
{
	const char *at = text + (*text == '-');
	size_t digits = strspn(at, "0123456789");

	if (!digits || (digits > 1 && *at == '0')) {
		return false;
	}
	at += digits;
	if (*at == '.') {
		digits = strspn(++at, "0123456789");
		at += digits;
		if (!digits) {
			return false;
		}
	}
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '-' || *at == '+';
		digits = strspn(at, "0123456789");
		at += digits;
		if (!digits) {
			return false;
		}
	}
	return !*at;
}

/* What a plain scalar means when it is not text; NULL: it is. */
static const char *meaning(const char *text)
{
	static const char *const words[][2] = {
		{ "true", "true" },   { "True", "true" },   { "TRUE", "true" }, { "false", "false" },
		{ "False", "false" }, { "FALSE", "false" }, { "null", "null" }, { "Null", "null" },
		{ "NULL", "null" },   { "~", "null" },      { "", "null" },
	};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (strcmp(text, words[i][0]) == 0) {
			return words[i][1];
		}
	}
	return is_number(text) ? text : NULL;
}

/* ---- what comes ---- */

static bool is_key(const struct converter *converter)
{
	if (converter->depth == 0) {
		return false;
	}
	const struct level *level = &converter->levels[converter->depth - 1];

	return level->map && level->count % 2 == 0;
}

/* What stands before an item. */
static void separate(struct converter *converter)
{
	if (converter->depth > 0) {
		struct level *level = &converter->levels[converter->depth - 1];

		mg_sb_add(converter->out, level->map && level->count % 2 ? ": " : level->count ? ", " : "");
		level->count++;
	}
}

static void put_scalar(struct converter *converter, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !is_key(converter);
	const char *word = plain && strlen(text) == event->data.scalar.length ? meaning(text) : NULL;

	separate(converter);
	if (word) {
		mg_sb_add(converter->out, word);
	} else {
		mg_sb_add_json(converter->out, text, event->data.scalar.length);
	}
}

static int open_level(struct converter *converter, const yaml_event_t *event, bool map,
                      struct mg_error *err)
{
	if (is_key(converter)) {
		return say(&event->start_mark, "a key is a text", err);
	}
	if (converter->depth == DEPTH_MAX) {
		return say(&event->start_mark, "lists and maps are nested too deep", err);
	}
	separate(converter);
	converter->levels[converter->depth++] = (struct level){ .map = map };
	mg_sb_add_char(converter->out, map ? '{' : '[');
	return 0;
}

static bool has_extras(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor || event->data.scalar.tag;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor || event->data.sequence_start.tag;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor || event->data.mapping_start.tag;
	default:
		return event->type == YAML_ALIAS_EVENT;
	}
}

static int take(struct converter *converter, const yaml_event_t *event, struct mg_error *err)
{
	if (has_extras(event)) {
		return say(&event->start_mark, "anchors, aliases and tags are not known here", err);
	}
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		return converter->documents++ ? say(&event->start_mark, "a second document", err) : 0;
	case YAML_SCALAR_EVENT:
		put_scalar(converter, event);
		return 0;
	case YAML_SEQUENCE_START_EVENT:
		return open_level(converter, event, false, err);
	case YAML_MAPPING_START_EVENT:
		return open_level(converter, event, true, err);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		converter->depth--;
		mg_sb_add_char(converter->out, event->type == YAML_MAPPING_END_EVENT ? '}' : ']');
		return 0;
	default:
		return 0;
	}
}

int mg_yaml_to_json(const char *text, size_t size, struct mg_sb *out, struct mg_error *err)
{
	struct converter converter = { .out = out };
	bool end = false;
	int code = 0;

	if (!yaml_parser_initialize(&converter.parser)) {
		return mg_error_set(err, MG_E_NOMEM, "no memory to read YAML");
	}
	yaml_parser_set_input_string(&converter.parser, (const unsigned char *)text, size);
	while (!code && !end) {
		yaml_event_t event;

		if (!yaml_parser_parse(&converter.parser, &event)) {
			const char *problem = converter.parser.problem;

			code = say(&converter.parser.problem_mark, problem ? problem : "this is no YAML", err);
			break;
		}
		end = event.type == YAML_STREAM_END_EVENT;
		code = take(&converter, &event, err);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&converter.parser);
	if (!code && !converter.documents) {
		code = mg_error_set(err, MG_E_USAGE, "there is nothing in it");
	}
	return code;
}
