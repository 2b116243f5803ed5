/*
 * main.c - the program's entry: `merganser COMMAND [OPTIONS]`.
 *
 * A command is found by its first one or two words in the table of commands.c; what is not in it
 * does not exist.
 */
#include "cli/commands.h"
#include "cli/connect.h"
#include "server/sample.h"
#include "store/duck.h"

#include "mg_version.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static int print_version(void)
{
	printf("merganser %s (%s)\nDuckDB %s\nbuilt with %s %s\n", MG_VERSION, MG_COMMIT,
	       mg_duck_version(),
#ifdef __clang__
	       "clang",
#else
	       "gcc",
#endif
	       __VERSION__);
	return 0;
}

static int print_help(FILE *to)
{
	fprintf(to, "merganser %s: DuckDB as a cluster\n\nusage: merganser COMMAND [OPTIONS]\n\n",
	        MG_VERSION);
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		fprintf(to, "  %-18s %s\n", c->name, c->summary);
	}
	fprintf(to, "\n`merganser COMMAND --help` shows the options of a command, with an example.\n"
	            "`merganser --version` shows the versions.\n\n"
	            "first steps:\n"
	            "  merganser demo\n"
	            "  merganser bootstrap --client-username scott && merganser server\n");
	return to == stdout ? 0 : 1;
}

/* The command of argv, and how many words name it. */
static const struct mg_command *find_command(int argc, char **argv, int *words)
{
	for (const struct mg_command *c = mg_commands; c->name; c++) {
		const char *blank = strchr(c->name, ' ');
		size_t len = blank ? (size_t)(blank - c->name) : strlen(c->name);
		bool first = (strlen(argv[1]) == len && strncmp(argv[1], c->name, len) == 0) ||
		             mg_text_eq(c->alias, argv[1]);

		if (first && (!blank || (argc > 2 && strcmp(argv[2], blank + 1) == 0))) {
			*words = blank ? 2 : 1;
			return c;
		}
	}
	return NULL;
}

/* `merganser user`: the commands that begin so. */
static bool print_group(const char *word, FILE *to)
{
	size_t len = strlen(word);
	bool any = false;

	for (const struct mg_command *c = mg_commands; c->name; c++) {
		if (strncmp(c->name, word, len) == 0 && c->name[len] == ' ') {
			fprintf(to, any ? "" : "usage: merganser %s COMMAND [OPTIONS]\n\n", word);
			fprintf(to, "  %-18s %s\n", c->name, c->summary);
			any = true;
		}
	}
	return any;
}

static int unknown_command(int argc, char **argv)
{
	const char *names[64], *near;
	struct mg_error err;
	size_t count = 0;
	bool group = false;
	char *word;

	for (const struct mg_command *c = mg_commands; c->name && count < 64; c++) {
		size_t len = strlen(argv[1]);

		names[count++] = c->name;
		group = group || (strncmp(c->name, argv[1], len) == 0 && c->name[len] == ' ');
	}
	if (group && argc == 2) {
		print_group(argv[1], stderr);
		return 1;
	}
	if (group && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
		print_group(argv[1], stdout);
		return 0;
	}
	word = group ? mg_format("%s %s", argv[1], argv[2]) : mg_strdup(argv[1]);
	near = mg_nearest_word(word, names, count);
	mg_error_set(&err, MG_E_USAGE, "unknown command \"%s\"", word);
	if (near) {
		mg_error_hint(&err, "Did you mean \"%s\"?", near);
	} else {
		mg_error_hint(&err, "`merganser --help` lists the commands.");
	}
	mg_free(word);
	return mg_cli_fail(&err);
}

static int run_command(const struct mg_command *command, int argc, char **argv)
{
	struct mg_options *options = NULL;
	struct mg_error err = { 0 };
	bool help;
	int code = mg_options_parse(&options, command, argc, argv, &help, &err);

	if (code) {
		code = mg_cli_fail(&err);
	} else if (help) {
		struct mg_sb page = { 0 };

		mg_options_help(command, &page);
		fputs(mg_sb_text(&page), stdout);
		mg_sb_fini(&page);
	} else if (mg_options_given(options, "print-config")) {
		struct mg_sb page = { 0 };

		mg_options_print(options, mg_text_eq(mg_options_text(options, "print-config"), "json"),
		                 &page);
		fputs(mg_sb_text(&page), stdout);
		mg_sb_fini(&page);
	} else {
		code = command->run(options);
	}
	mg_options_free(options);
	return code;
}

int main(int argc, char **argv)
{
	const struct mg_command *command;
	int words;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		return print_help(stderr);
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		return print_help(stdout);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0 ||
	    strcmp(argv[1], "version") == 0) {
		return print_version();
	}
	if (strcmp(argv[1], MG_SAMPLE_CHILD) == 0) {
		return mg_sample_child_main(argc - 1, argv + 1); /* bootstrap's; in no list of commands */
	}
	command = find_command(argc, argv, &words);
	return command ? run_command(command, argc - 1 - words, argv + 1 + words)
	               : unknown_command(argc, argv);
}
