/*
 * shell.h - the state of `merganser sql`, shared by its files.
 *
 *	shell.c          the command, its modes, reading statements
 *	shell_run.c      one statement to the server and its rows to the terminal
 *	shell_copy.c     rows for COPY, from files and lines
 *	shell_meta.c     what starts with . or \
 *	shell_line.c     the line editor: history and completion
 *
 * owner: the main thread.  The signal handler touches only `interrupts` and the client's pipe.
 */
#ifndef MG_CLI_SHELL_H
#define MG_CLI_SHELL_H

#include "cli/connect.h"
#include "cli/render.h"

#include <signal.h>
#include <stdio.h>

struct mg_demo;
struct mg_line;

/* The rows of a COPY that runs. */
struct mg_shell_copy {
	FILE *file;         /* of \copy, or NULL: lines of the script, or standard input */
	struct mg_sb piece; /* read, and not taken yet */
	size_t given;       /* of it, handed out */
	bool asked, over, given_up;
};

struct mg_shell {
	struct mg_connection connection;
	mg_client *volatile client;     /* NULL: not connected; signal handlers cancel it */
	char *seen;                     /* by the connection before; or NULL */
	struct mg_demo *demo;           /* the cluster around `merganser demo`, or NULL */
	struct mg_line *line;           /* the editor; NULL when input is no terminal */
	const char *prompt;             /* "merganser" */

	enum mg_format format;
	enum mg_format format_before;   /* \x: what it goes back to */
	size_t rows_max;
	bool no_header;
	bool timer;                     /* the line after each result */
	bool quiet;
	FILE *out;                      /* stdout, or the file of -o and .output */
	bool out_is_pipe;
	bool holds_result;              /* out holds a Parquet file */
	bool once;                      /* .once: back to stdout after one statement */

	bool interactive;
	bool stop_at_error;             /* -c and -f */
	unsigned depth;                 /* of .read */
	bool quit;
	int exit_code;
	bool progress_shown;            /* a progress line stands on the terminal */
	int64_t started_ms;
	FILE *script;                   /* where statements are read from, or NULL */
	struct mg_shell_copy copy;
	struct mg_sb last;              /* the last statement, for \watch and \e */
};

/* ---- shell.c --------------------------------------------------------------------------------- */
int mg_shell_connect(struct mg_shell *shell, struct mg_error *err);
/* Close the connection; a signal that comes meanwhile finds none. */
void mg_shell_disconnect(struct mg_shell *shell);
/* Run all statements and meta commands of a text or file; returns the exit code so far. */
int mg_shell_run_text(struct mg_shell *shell, const char *text);
int mg_shell_run_file(struct mg_shell *shell, const char *path);    /* "-": stdin */
/* Read from the terminal until the end. */
void mg_shell_interact(struct mg_shell *shell);
void mg_shell_init(struct mg_shell *shell);
void mg_shell_fini(struct mg_shell *shell);
void mg_shell_banner(const struct mg_shell *shell);
/* Ctrl-C cancels what runs; mg_shell_interrupted tells and forgets. */
void mg_shell_catch_interrupts(struct mg_shell *shell);
bool mg_shell_interrupted(void);
bool mg_shell_is_interrupted(void);

/* ---- shell_run.c ----------------------------------------------------------------------------- */
/* Send one or more statements and show the answers; returns an exit code. */
int mg_shell_statement(struct mg_shell *shell, const char *sql, size_t len);
/* Run SQL of our own whose text is made by printf. */
int mg_shell_statementf(struct mg_shell *shell, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- shell_copy.c ---------------------------------------------------------------------------- */
int mg_shell_copy(struct mg_shell *shell, const char *text);
/* For mg_client_options.on_input, with the shell. */
int mg_shell_on_input(void *arg, size_t size_max, const void **bytes, size_t *size);
void mg_shell_copy_done(struct mg_shell *shell); /* after each statement */

/* ---- shell_meta.c ---------------------------------------------------------------------------- */
bool mg_shell_is_meta(const char *line);
int mg_shell_meta(struct mg_shell *shell, const char *line);
void mg_shell_set_output(struct mg_shell *shell, FILE *out, bool is_pipe);
/* Names of all meta commands, for completion. */
const char *mg_shell_meta_name(size_t index);

/* ---- shell_line.c ---------------------------------------------------------------------------- */
struct mg_line *mg_line_new(struct mg_shell *shell);
void mg_line_free(struct mg_line *line);
/* Next line, without its end, valid until the next call; NULL at the end of input.  *interrupted
 * after Ctrl-C: what was typed is thrown away. */
const char *mg_line_read(struct mg_line *line, bool continued, bool *interrupted);
void mg_line_remember(struct mg_line *line, const char *statement);
void mg_line_forget_names(struct mg_line *line);    /* ask the server again */
/* True when a statement may hold a secret and stays out of the history. */
bool mg_line_is_secret(const char *statement);

#endif
