/*
 * options.c - reads a command's options from the command line, the environment and a file.
 *
 * Rule: an option's value is the text of the source with the highest rank, and every text that a
 * source gives is checked against the option's kind, also when a higher source hides it: a wrong
 * line in a file is told before it surprises somebody.
 */
#include "cli/options.h"

#include "base/assert.h"
#include "base/units.h"
#include "os/tty.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_SIZE_MAX (1u << 20)
#define OPTIONS_MAX 64

enum source { FROM_NOWHERE, FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct value {
	const struct mg_option *option;
	const char *text;
	enum source source;
	const char *where; /* for a person; "" for a default */
};

struct occurrence {
	const char *name, *text;
};

struct mg_options {
	struct mg_arena *arena;
	const struct mg_command *command;
	struct value values[OPTIONS_MAX];
	size_t count;
	const char **arguments;
	size_t argument_count;
	struct occurrence *occurrences;
	size_t occurrence_count;
};

const struct mg_option mg_options_common[] = {
	{ .name = "config", .kind = MG_O_TEXT, .value = "FILE",
	  .help = "read options from FILE: lines `name = value`, # starts a comment" },
	{ .name = "print-config", .kind = MG_O_CHOICE, .choices = "text|json", .bare = "text",
	  .help = "show every option as it stands and where that came from, and do nothing else" },
	{ .name = "help", .alias = "h", .kind = MG_O_FLAG, .help = "show this page" },
	{ 0 },
};

/* ---- values ---------------------------------------------------------------------------------- */

static bool parse_flag(const char *text, bool *out)
{
	static const char *const yes[] = { "true", "1", "yes", "on" };
	static const char *const no[] = { "false", "0", "no", "off" };

	for (size_t i = 0; i < 4; i++) {
		if (mg_text_eq_nocase(text, yes[i]) || mg_text_eq_nocase(text, no[i])) {
			*out = mg_text_eq_nocase(text, yes[i]);
			return true;
		}
	}
	return false;
}

static bool is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
		if (strcspn(at, "|") == len && strncmp(at, text, len) == 0) {
			return true;
		}
	}
	return false;
}

/* host:port with a port from 0 to 65535; [::1]:80; host and :port alone are completed later. */
static bool is_address(const char *text)
{
	const char *colon = strrchr(text, ':');

	if (!*text || strchr(text, ' ') || strchr(text, '/')) {
		return false;
	}
	if (*text == '[') {
		const char *close = strchr(text, ']');

		if (!close) {
			return false;
		}
		colon = close[1] == ':' ? close + 1 : NULL;
		if (!colon) {
			return close[1] == '\0';
		}
	}
	if (!colon) {
		return strspn(text, "0123456789") < strlen(text) || strlen(text) < 6;
	}
	return colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
	       strlen(colon + 1) < 6 && strtol(colon + 1, NULL, 10) < 65536;
}

static const char *kind_wants(const struct mg_option *option, struct mg_arena *arena)
{
	switch (option->kind) {
	case MG_O_FLAG: return "true or false";
	case MG_O_CHOICE: return mg_arena_format(arena, "one of %s", option->choices);
	case MG_O_INT:
		return option->max ? mg_arena_format(arena, "a whole number up to %llu",
		                                     (unsigned long long)option->max)
		                   : "a whole number";
	case MG_O_NUMBER: return "a number, 0 or more";
	case MG_O_SIZE:
		return option->max ? mg_arena_format(arena, "a size from %llu to %llu bytes, such as 4MiB",
		                                     (unsigned long long)option->min,
		                                     (unsigned long long)option->max)
		                   : "a size such as 512MB or 4GiB";
	case MG_O_MS:
		return option->max ? mg_arena_format(arena, "a time from %llums to %llus, such as 30s",
		                                     (unsigned long long)option->min,
		                                     (unsigned long long)option->max / 1000)
		                   : "a time such as 500ms, 30s or 5m";
	case MG_O_ADDRESS: return "an address such as 127.0.0.1:8765";
	default: return "a text";
	}
}

static bool in_range(const struct mg_option *option, uint64_t whole)
{
	return whole >= option->min && (!option->max || whole <= option->max);
}

static bool value_fits(const struct mg_option *option, const char *text)
{
	uint64_t whole;
	bool flag;
	char *end;

	switch (option->kind) {
	case MG_O_FLAG: return parse_flag(text, &flag);
	case MG_O_CHOICE: return is_choice(option->choices, text);
	case MG_O_INT:
		return *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19 &&
		       in_range(option, strtoull(text, NULL, 10));
	case MG_O_NUMBER:
		if (!isdigit((unsigned char)*text) && *text != '.') {
			return false;
		}
		return isfinite(strtod(text, &end)) && !*end;
	case MG_O_SIZE: return mg_parse_size(text, &whole) && in_range(option, whole);
	case MG_O_MS: return mg_parse_ms(text, &whole) && in_range(option, whole);
	case MG_O_ADDRESS: return is_address(text);
	default: return true;
	}
}

static int value_set(struct mg_options *o, struct value *value, const char *text,
                     enum source source, const char *where, struct mg_error *err)
{
	if (!value_fits(value->option, text)) {
		bool secret = value->option->kind == MG_O_SECRET;

		mg_error_set(err, MG_E_USAGE, "%s wants %s, not \"%s\"", where,
		             kind_wants(value->option, o->arena), secret ? "..." : text);
		return MG_E_USAGE;
	}
	if (source >= value->source) {
		bool more = value->option->between && source == value->source;

		value->text = more ? mg_arena_format(o->arena, "%s%c%s", value->text,
		                                     value->option->between, text)
		                   : mg_arena_strdup(o->arena, text);
		value->source = source;
		value->where = mg_arena_strdup(o->arena, where);
	}
	return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_alias(const char *aliases, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = aliases; at && len; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL) {
		if (strcspn(at, " ") == len && strncmp(at, word, len) == 0) {
			return true;
		}
	}
	return false;
}

static struct value *find_value(struct mg_options *o, const char *name)
{
	for (size_t i = 0; i < o->count; i++) {
		if (strcmp(o->values[i].option->name, name) == 0 ||
		    is_alias(o->values[i].option->alias, name)) {
			return &o->values[i];
		}
	}
	return NULL;
}

static const struct value *value_of(const struct mg_options *o, const char *name)
{
	for (size_t i = 0; i < o->count; i++) {
		if (strcmp(o->values[i].option->name, name) == 0) {
			return &o->values[i];
		}
	}
	mg_assert(!"the command has this option");
	return NULL;
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[40], len_a = strlen(a), len_b = strlen(b);

	if (len_a >= 40 || len_b >= 40) {
		return 40;
	}
	for (size_t j = 0; j <= len_b; j++) {
		row[j] = j;
	}
	for (size_t i = 1; i <= len_a; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len_b; j++) {
			size_t change = diagonal + (tolower((unsigned char)a[i - 1]) !=
			                            tolower((unsigned char)b[j - 1]));
			size_t step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = change < step ? change : step;
		}
	}
	return row[len_b];
}

const char *mg_nearest_word(const char *word, const char *const *candidates, size_t count)
{
	const char *best = NULL;
	size_t best_distance = 40;

	for (size_t i = 0; i < count; i++) {
		size_t distance = edit_distance(word, candidates[i]);

		/* A word that was cut short is as good as one wrong letter. */
		if (strlen(word) >= 3 && strncmp(candidates[i], word, strlen(word)) == 0) {
			distance = 1;
		}
		if (distance < best_distance) {
			best_distance = distance;
			best = candidates[i];
		}
	}
	return best && best_distance <= 1 + strlen(word) / 4 ? best : NULL;
}

static int unknown_option(struct mg_options *o, const char *word, const char *where,
                          struct mg_error *err)
{
	const char *names[OPTIONS_MAX], *near;
	const char *bare = word + strspn(word, "-");

	for (size_t i = 0; i < o->count; i++) {
		names[i] = o->values[i].option->name;
	}
	near = mg_nearest_word(bare, names, o->count);
	mg_error_set(err, MG_E_USAGE, "unknown option \"%s\"%s", word, where);
	if (near) {
		mg_error_hint(err, "Did you mean \"%s%s\"?", word == bare ? "" : "--", near);
	} else {
		mg_error_hint(err, "`merganser %s --help` lists the options.", o->command->name);
	}
	return MG_E_USAGE;
}

/* ---- sources --------------------------------------------------------------------------------- */

static int read_environment(struct mg_options *o, struct mg_error *err)
{
	for (size_t i = 0; i < o->count; i++) {
		char name[80] = "MERGANSER_";
		size_t len = strlen(name);
		const char *text;

		if (strcmp(o->values[i].option->name, "help") == 0 ||
		    strcmp(o->values[i].option->name, "print-config") == 0) {
			continue;
		}
		for (const char *at = o->values[i].option->name; *at && len + 1 < sizeof name; at++) {
			name[len++] = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
		}
		name[len] = '\0';
		text = getenv(name);
		if (text && *text && value_set(o, &o->values[i], text, FROM_ENVIRONMENT, name, err)) {
			return MG_E_USAGE;
		}
	}
	return 0;
}

static bool known_to_another_command(const char *name)
{
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		for (size_t t = 0; c->tables[t]; t++) {
			for (const struct mg_option *option = c->tables[t]; option->name; option++) {
				if (strcmp(option->name, name) == 0) {
					return true;
				}
			}
		}
	}
	return false;
}

static int read_file_line(struct mg_options *o, char *line, const char *path, size_t number,
                          struct mg_error *err)
{
	char where[300];
	char *equals = strchr(line, '=');
	struct mg_str name, text;
	struct value *value;
	const char *key;

	if (!equals) {
		return mg_error_set(err, MG_E_USAGE, "\"%s\" line %zu is not `name = value`", path, number);
	}
	name = mg_str_trim((struct mg_str){ line, (size_t)(equals - line) });
	text = mg_str_trim(mg_str(equals + 1));
	if (text.len >= 2 && (*text.ptr == '"' || *text.ptr == '\'') &&
	    text.ptr[text.len - 1] == *text.ptr) {
		text = (struct mg_str){ text.ptr + 1, text.len - 2 };
	}
	key = mg_arena_strndup(o->arena, name.ptr, name.len);
	for (char *at = (char *)(uintptr_t)key; *at; at++) {
		*at = *at == '_' ? '-' : *at;
	}
	snprintf(where, sizeof where, " in \"%s\" line %zu", path, number);
	value = find_value(o, key);
	if (!value || strcmp(value->option->name, "help") == 0 ||
	    strcmp(value->option->name, "print-config") == 0 ||
	    strcmp(value->option->name, "config") == 0) {
		/* One file may serve several commands. */
		return !value && known_to_another_command(key) ? 0 : unknown_option(o, key, where, err);
	}
	snprintf(where, sizeof where, "\"%s\" in \"%s\" line %zu", key, path, number);
	return value_set(o, value, mg_arena_strndup(o->arena, text.ptr, text.len), FROM_FILE, where,
	                 err);
}

static int read_config(struct mg_options *o, const char *path, struct mg_error *err)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0, number = 0, total = 0;
	ssize_t len;
	int code = 0;

	if (!file) {
		return mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	while (code == 0 && (len = getline(&line, &cap, file)) >= 0) {
		/* Editors of other systems put a mark of the encoding in front of the first line. */
		size_t mark = number == 0 && len >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
		struct mg_str text = mg_str_trim((struct mg_str){ line + mark, (size_t)len - mark });

		number++;
		total += (size_t)len;
		if (total > CONFIG_SIZE_MAX) {
			code = mg_error_set(err, MG_E_LIMIT, "\"%s\" is larger than 1 MiB", path);
		} else if (memchr(line, '\0', (size_t)len)) {
			code = mg_error_set(err, MG_E_USAGE, "\"%s\" line %zu holds a zero byte", path, number);
		} else if (text.len > 0 && *text.ptr != '#') {
			code = read_file_line(o, mg_arena_strndup(o->arena, text.ptr, text.len), path, number,
			                      err);
		}
	}
	if (code == 0 && !feof(file)) {
		/* A directory opens like a file, and only reading it fails. */
		code = mg_error_errno(err, errno, "cannot read \"%s\"", path);
	}
	free(line);
	fclose(file);
	return code;
}

static void remember(struct mg_options *o, const struct value *value, const char *text, size_t max)
{
	if (!o->occurrences) {
		o->occurrences = mg_arena_new_array(o->arena, struct occurrence, max);
	}
	mg_assert(o->occurrence_count < max);
	o->occurrences[o->occurrence_count++] = (struct occurrence){ value->option->name, text };
}

/* One option at argv[*i]; takes the next word as its value when it needs one. */
static int read_flag(struct mg_options *o, int argc, char *const *argv, int *i,
                     struct mg_error *err)
{
	const char *word = argv[*i], *equals = strchr(word, '='), *text;
	const char *bare = word + (word[1] == '-' ? 2 : 1);
	const char *name = mg_arena_strndup(o->arena, bare,
	                                    equals ? (size_t)(equals - bare) : strlen(bare));
	struct value *value = find_value(o, name);

	if (!value || (word[1] == '-' && strlen(name) == 1)) {
		const char *shown = mg_arena_strndup(o->arena, word,
		                                     equals ? (size_t)(equals - word) : strlen(word));

		return unknown_option(o, shown, "", err);
	}
	if (equals) {
		text = equals + 1;
	} else if (value->option->kind == MG_O_FLAG) {
		text = "true";
	} else if (value->option->bare) {
		text = value->option->bare;
	} else if (*i + 1 < argc) {
		text = argv[++*i];
	} else {
		mg_error_set(err, MG_E_USAGE, "option \"%s\" needs a value", word);
		mg_error_hint(err, "It wants %s.", kind_wants(value->option, o->arena));
		return MG_E_USAGE;
	}
	if (value_set(o, value, text, FROM_FLAG,
	              mg_arena_format(o->arena, "option \"--%s\"", value->option->name), err)) {
		return MG_E_USAGE;
	}
	remember(o, value, text, (size_t)argc);
	return 0;
}

static int read_arguments(struct mg_options *o, int argc, char *const *argv, struct mg_error *err)
{
	bool only_arguments = false;

	o->arguments = mg_arena_new_array(o->arena, const char *, (size_t)argc + 1);
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];

		if (!only_arguments && strcmp(word, "--") == 0) {
			only_arguments = true;
		} else if (!only_arguments && word[0] == '-' && word[1]) {
			if (read_flag(o, argc, argv, &i, err)) {
				return MG_E_USAGE;
			}
		} else if (o->argument_count == o->command->arguments_max) {
			mg_error_set(err, MG_E_USAGE, "unexpected argument \"%s\"", word);
			mg_error_hint(err, "Usage: merganser %s %s%s[OPTIONS]", o->command->name,
			              o->command->arguments ? o->command->arguments : "",
			              o->command->arguments ? " " : "");
			return MG_E_USAGE;
		} else {
			o->arguments[o->argument_count++] = word;
		}
	}
	return 0;
}

static int check_argument_count(const struct mg_options *o, struct mg_error *err)
{
	if (o->argument_count < o->command->arguments_min) {
		mg_error_set(err, MG_E_USAGE, "an argument is missing");
		mg_error_hint(err, "Usage: merganser %s %s [OPTIONS]", o->command->name,
		              o->command->arguments);
		return MG_E_USAGE;
	}
	return 0;
}

static bool asks_for_help(int argc, char *const *argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 ||
		    strcmp(argv[i], "-help") == 0) {
			return true;
		}
	}
	return false;
}

bool mg_option_is_shadowed(const struct mg_command *command, size_t table, const char *name)
{
	for (size_t t = 0; t < table; t++) {
		for (const struct mg_option *option = command->tables[t]; option->name; option++) {
			if (strcmp(option->name, name) == 0) {
				return true;
			}
		}
	}
	return false;
}

int mg_options_parse(struct mg_options **out, const struct mg_command *command, int argc,
                     char *const *argv, bool *help, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_options *o = mg_arena_alloc(arena, sizeof *o);
	const char *config;

	o->arena = arena;
	o->command = command;
	*out = o;
	for (size_t t = 0; command->tables[t]; t++) {
		for (const struct mg_option *option = command->tables[t]; option->name; option++) {
			if (mg_option_is_shadowed(command, t, option->name)) {
				continue;
			}
			mg_assert(o->count < OPTIONS_MAX);
			o->values[o->count++] = (struct value){
				option, option->fallback, option->fallback ? FROM_DEFAULT : FROM_NOWHERE, "",
			};
		}
	}
	*help = asks_for_help(argc, argv);
	if (*help) {
		return 0;
	}
	if (read_arguments(o, argc, argv, err) || read_environment(o, err)) {
		return MG_E_USAGE;
	}
	if (command->argument_option && o->argument_count > 0 &&
	    value_set(o, find_value(o, command->argument_option), o->arguments[0], FROM_FLAG,
	              "the argument", err)) {
		return MG_E_USAGE;
	}
	config = mg_options_text(o, "config");
	if (config && read_config(o, config, err)) {
		return err ? err->code : MG_E_USAGE;
	}
	return check_argument_count(o, err);
}

void mg_options_free(struct mg_options *options)
{
	if (options) {
		mg_arena_free(options->arena);
	}
}

/* ---- asking ---------------------------------------------------------------------------------- */

bool mg_options_given(const struct mg_options *options, const char *name)
{
	return value_of(options, name)->source > FROM_DEFAULT;
}

const char *mg_options_text(const struct mg_options *options, const char *name)
{
	return value_of(options, name)->text;
}

bool mg_options_flag(const struct mg_options *options, const char *name)
{
	const struct value *value = value_of(options, name);
	bool flag = false;

	mg_assert(value->option->kind == MG_O_FLAG);
	return value->text && parse_flag(value->text, &flag) && flag;
}

uint64_t mg_options_int(const struct mg_options *options, const char *name)
{
	const struct value *value = value_of(options, name);
	uint64_t number = 0;

	if (!value->text) {
		return 0;
	}
	switch (value->option->kind) {
	case MG_O_INT: return strtoull(value->text, NULL, 10);
	case MG_O_SIZE: mg_assert(mg_parse_size(value->text, &number)); return number;
	case MG_O_MS: mg_assert(mg_parse_ms(value->text, &number)); return number;
	default: mg_assert(!"an option of this kind has no whole number"); return 0;
	}
}

double mg_options_number(const struct mg_options *options, const char *name)
{
	const struct value *value = value_of(options, name);

	mg_assert(value->option->kind == MG_O_NUMBER);
	return value->text ? strtod(value->text, NULL) : 0;
}

size_t mg_options_arguments(const struct mg_options *options)
{
	return options->argument_count;
}

const char *mg_options_argument(const struct mg_options *options, size_t index)
{
	return index < options->argument_count ? options->arguments[index] : NULL;
}

const char *mg_options_occurrence(const struct mg_options *options, size_t index, const char **name)
{
	if (index >= options->occurrence_count) {
		return NULL;
	}
	*name = options->occurrences[index].name;
	return options->occurrences[index].text;
}

/* ---- showing --------------------------------------------------------------------------------- */

bool mg_options_at(const struct mg_options *options, size_t index, struct mg_option_state *state)
{
	static const char *const sources[] = { "not set", "default", "file", "environment", "flag" };

	for (size_t i = 0; i < options->count; i++) {
		const struct value *value = &options->values[i];
		const struct mg_option *option = value->option;
		bool common = false;

		for (const struct mg_option *each = mg_options_common; each->name; each++) {
			common = common || each == option;
		}
		if (common || index-- > 0) {
			continue;
		}
		bool secret = option->kind == MG_O_SECRET;

		*state = (struct mg_option_state){
			.name = option->name,
			.value = secret && value->text ? "(hidden)" : value->text,
			.fallback = option->fallback,
			.help = option->help,
			.source = sources[value->source],
			.where = value->where,
			.secret = secret,
			.automatic = option->automatic && mg_text_eq(value->text, "0"),
		};
		if (state->automatic) {
			state->value = mg_arena_format(options->arena, "%u", option->automatic());
		}
		return true;
	}
	return false;
}

static void print_json(const struct mg_options *options, struct mg_sb *out)
{
	struct mg_option_state state;

	mg_sb_add_char(out, '[');
	for (size_t i = 0; mg_options_at(options, i, &state); i++) {
		const char *texts[] = { "name", state.name, "value", state.value, "source", state.source,
			                    "where", state.where };

		mg_sb_add(out, i ? ",\n {" : "\n {");
		for (size_t k = 0; k < sizeof texts / sizeof *texts; k += 2) {
			mg_sb_addf(out, "%s\"%s\": ", k ? ", " : "", texts[k]);
			if (texts[k + 1]) {
				mg_sb_add_json(out, texts[k + 1], strlen(texts[k + 1]));
			} else {
				mg_sb_add(out, "null");
			}
		}
		mg_sb_add_char(out, '}');
	}
	mg_sb_add(out, "\n]\n");
}

/* Blanks at the ends are kept by quotes. */
static void print_value(const char *text, struct mg_sb *out)
{
	size_t len = strlen(text);
	bool quote = len == 0 || text[0] == ' ' || text[len - 1] == ' ' || text[0] == '"' ||
	             text[0] == '\'';

	mg_sb_addf(out, quote ? "\"%s\"\n" : "%s\n", text);
}

/* What stands is a line, what does not stand or must not be shown a comment: so the page is a file
 * for --config. */
void mg_options_print(const struct mg_options *options, bool json, struct mg_sb *out)
{
	static const char *const sources[] = { "flag", "environment", "file", "default", "not set" };
	struct mg_option_state state;

	if (json) {
		print_json(options, out);
		return;
	}
	mg_sb_addf(out, "# merganser %s: every option, by where it came from\n",
	           options->command->name);
	for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
		bool any = false;

		for (size_t i = 0; mg_options_at(options, i, &state); i++) {
			if (strcmp(state.source, sources[s]) != 0) {
				continue;
			}
			mg_sb_addf(out, any ? "" : "\n# ---- %s ----\n", sources[s]);
			any = true;
			if (state.where[0]) {
				mg_sb_addf(out, "# %s\n", state.where);
			}
			/* As a line the number would be given, and would hold on any other machine too. */
			mg_sb_add(out, state.automatic ? "# 0, which is here:\n" : "");
			mg_sb_addf(out, "%s%s = ",
			           state.secret || state.automatic || !state.value ? "# " : "", state.name);
			print_value(state.value ? state.value : "", out);
		}
	}
}

/* ---- secrets --------------------------------------------------------------------------------- */

static int read_secret_file(const char *path, char **out, struct mg_error *err)
{
	FILE *file = fopen(path, "r");
	char line[1024];

	if (!file) {
		return mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	if (!fgets(line, sizeof line, file)) {
		fclose(file);
		return mg_error_set(err, MG_E_USAGE, "\"%s\" holds no password", path);
	}
	fclose(file);
	*out = mg_strndup(line, strcspn(line, "\r\n"));
	explicit_bzero(line, sizeof line);
	return 0;
}

int mg_options_secret(const struct mg_options *options, const char *name, const char *prompt,
                      char **out, struct mg_error *err)
{
	const struct value *plain = value_of(options, name);
	char file_name[64];
	const struct value *file;

	*out = NULL;
	snprintf(file_name, sizeof file_name, "%s-file", name);
	file = value_of(options, file_name);
	if (file->source > FROM_DEFAULT && file->source >= plain->source) {
		return read_secret_file(file->text, out, err);
	}
	if (plain->text) {
		*out = mg_strdup(plain->text);
		return 0;
	}
	if (!prompt || !mg_tty_is(2)) {
		return 0;
	}
	return mg_tty_password(prompt, out, err);
}

/* ---- help ------------------------------------------------------------------------------------ */

static const char *value_word(const struct mg_option *option)
{
	if (option->value) {
		return option->value;
	}
	switch (option->kind) {
	case MG_O_FLAG: return NULL;
	case MG_O_CHOICE: return option->choices;
	case MG_O_INT: return "N";
	case MG_O_NUMBER: return "X";
	case MG_O_SIZE: return "SIZE";
	case MG_O_MS: return "TIME";
	case MG_O_ADDRESS: return "HOST:PORT";
	case MG_O_SECRET: return "PASSWORD";
	default: return "TEXT";
	}
}

static void help_option(const struct mg_option *option, struct mg_sb *out)
{
	struct mg_sb left = { 0 };
	const char *word = value_word(option);

	for (const char *at = option->alias; at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL) {
		int len = (int)strcspn(at, " ");

		if (len == 1 || option->alias == at) {
			mg_sb_addf(&left, "%s%.*s, ", len == 1 ? "-" : "--", len, at);
		}
	}
	mg_sb_addf(&left, "--%s", option->name);
	if (word) {
		mg_sb_addf(&left, option->bare ? "[=%s]" : " %s", word);
	}
	if (left.len > 28) {
		mg_sb_addf(out, "  %s\n%32s", mg_sb_text(&left), "");
	} else {
		mg_sb_addf(out, "  %-28s  ", mg_sb_text(&left));
	}
	mg_sb_add(out, option->help);
	if (option->fallback && *option->fallback && option->kind != MG_O_FLAG) {
		mg_sb_addf(out, " (default %s)", option->fallback);
	}
	mg_sb_add(out, "\n");
	mg_sb_fini(&left);
}

void mg_options_help(const struct mg_command *command, struct mg_sb *out)
{
	mg_sb_addf(out, "usage: merganser %s%s%s [OPTIONS]\n\n%s\n", command->name,
	           command->arguments ? " " : "", command->arguments ? command->arguments : "",
	           command->summary);
	if (command->alias) {
		mg_sb_addf(out, "Also called `merganser %s`.\n", command->alias);
	}
	if (command->text) {
		mg_sb_addf(out, "\n%s\n", command->text);
	}
	mg_sb_add(out, "\noptions:\n");
	for (size_t t = 0; command->tables[t]; t++) {
		for (const struct mg_option *option = command->tables[t]; option->name; option++) {
			if (!mg_option_is_shadowed(command, t, option->name)) {
				help_option(option, out);
			}
		}
	}
	mg_sb_add(out, "\nEach option is also read from the environment (--data-dir: "
	               "MERGANSER_DATA_DIR) and from the\n"
	               "file of --config; a flag beats the environment, which beats the file.\n");
	mg_sb_addf(out, "\nexample:\n%s\n", command->example);
}
