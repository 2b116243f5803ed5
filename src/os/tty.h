/* tty.h - the terminal.  Thread: main. */
#ifndef MG_OS_TTY_H
#define MG_OS_TTY_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

bool mg_tty_is(int fd);
unsigned mg_tty_columns(int fd); /* 80 when fd is no terminal */
/* Show prompt on the terminal and read a line without echo, even when stdin is redirected.  heap;
 * at most 1,024 bytes.  MG_E_UNAVAILABLE without a terminal. */
int mg_tty_password(const char *prompt, char **out, struct mg_error *err);

#endif
