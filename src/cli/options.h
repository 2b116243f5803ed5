/*
 * options.h - one declarative table of options for each command.
 *
 * An option has one name everywhere: --listen on the command line, MERGANSER_LISTEN in the
 * environment, `listen = ...` in the file of --config.  Flag beats environment beats file beats
 * the table's default.  What is unknown or has the wrong type is refused with its name, and with
 * the name that was probably meant.
 *
 * Thread: the main thread, before anything else starts.
 */
#ifndef MG_CLI_OPTIONS_H
#define MG_CLI_OPTIONS_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

enum mg_option_kind {
	MG_O_FLAG,      /* true when named; --x=false, MERGANSER_X=0 */
	MG_O_TEXT,
	MG_O_CHOICE,    /* one of `choices`, which are separated by | */
	MG_O_INT,       /* whole number, not negative */
	MG_O_NUMBER,    /* not negative */
	MG_O_SIZE,      /* bytes: 512MB, 4GiB */
	MG_O_MS,        /* a time: 500ms, 30s, 5m, 1h; a bare number is seconds */
	MG_O_ADDRESS,   /* host:port; host or :port alone take the rest from the default */
	MG_O_SECRET,    /* a password; NAME-file and a prompt stand beside it */
};

struct mg_option {
	const char *name;
	const char *alias;          /* other spellings, separated by blanks: "c id"; or NULL */
	enum mg_option_kind kind;
	const char *value;          /* what stands for the value in the help; NULL: by the kind */
	const char *fallback;       /* default, or NULL */
	const char *choices;
	const char *bare; /* value when a flag-like option is named without one; NULL: needs one */
	const char *help;
	uint64_t min, max; /* of a whole number, a size or a time; 0: any */
	unsigned (*automatic)(void); /* the number that 0 means here; NULL: 0 is 0 */
	/* Of a text that may be repeated: what stands between the values of one source; else the last
	 * one counts. */
	char between;
};

struct mg_options;

struct mg_command {
	const char *name;           /* "sql", "user create" */
	const char *alias;          /* other name, or NULL */
	const char *arguments;      /* in the usage: "[URL]"; NULL: none */
	const char *argument_option; /* the option that the first argument stands for, or NULL */
	unsigned arguments_min, arguments_max;
	const char *summary;        /* one line */
	const char *text;           /* more for --help, or NULL */
	const char *example;        /* lines of "merganser ..." */
	const struct mg_option *const
		*tables; /* NULL-terminated list of tables, each ended by a NULL name */
	int (*run)(const struct mg_options *options);
};

/* An earlier table of the command has an option of that name, which is the one that counts. */
bool mg_option_is_shadowed(const struct mg_command *command, size_t table, const char *name);

/* All commands of the program, in the order of the help; ended by a NULL name. */
extern const struct mg_command mg_commands[];

/* Options that every command takes: --config, --print-config, --help. */
extern const struct mg_option mg_options_common[];

/* Read argv (after the command's words), the environment and the file.  *help is set when --help
 * was asked for, and then nothing else is checked.  Fails: MG_E_USAGE, MG_E_IO. */
int mg_options_parse(struct mg_options **out, const struct mg_command *command, int argc,
                     char *const *argv, bool *help, struct mg_error *err);
void mg_options_free(struct mg_options *options);

/* Values; asking for a name that the command does not have is our mistake and asserts. */
bool mg_options_given(const struct mg_options *options, const char *name);  /* not the default */
const char *mg_options_text(const struct mg_options *options, const char *name);    /* or NULL */
bool mg_options_flag(const struct mg_options *options, const char *name);
uint64_t mg_options_int(const struct mg_options *options, const char *name);    /* INT, SIZE, MS */
double mg_options_number(const struct mg_options *options, const char *name);
size_t mg_options_arguments(const struct mg_options *options);
const char *mg_options_argument(const struct mg_options *options, size_t index);    /* or NULL */

/* One option after the other, as it stands and where that came from; false at the end. A secret is
 * never shown: its value is "(hidden)" when it has one. */
struct mg_option_state {
	const char *name, *value, *fallback, *help; /* value, fallback: or NULL */
	const char *source; /* "flag", "environment", "file", "default", "not set" */
	const char *where;  /* "--listen", "MERGANSER_LISTEN", "a.conf line 3", or "" */
	bool secret;
	bool automatic; /* 0 stands; value is what that means here */
};
bool mg_options_at(const struct mg_options *options, size_t index, struct mg_option_state *state);
/* The page of --print-config: a file for --config, or JSON. */
void mg_options_print(const struct mg_options *options, bool json, struct mg_sb *out);

/* Values of an option in the order of the command line, beside others: name of occurrence `index`
 * in *name, value returned; NULL at the end. */
const char *mg_options_occurrence(const struct mg_options *options, size_t index,
                                  const char **name);

/* Password of option `name`: its value, the first line of the file of `name`-file, whichever has
 * the higher rank; else a prompt on the terminal, when prompt is not NULL and there is one.
 * *out is heap text, or NULL when there is none. */
int mg_options_secret(const struct mg_options *options, const char *name, const char *prompt,
                      char **out, struct mg_error *err);
/* The page of --help. */
void mg_options_help(const struct mg_command *command, struct mg_sb *out);

/* The nearest of the candidates to a mistyped word, or NULL when none is near. */
const char *mg_nearest_word(const char *word, const char *const *candidates, size_t count);

#endif
