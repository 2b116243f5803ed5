/*
 * params.h - values of a request put in the place of ?, ?1, $1 and $name.
 *
 * The text is read by our lexer, so a ? inside a string, a comment or a quoted name is none. Values
 * become literals that cannot end early: strings with doubled quotes, numbers checked digit by
 * digit, each set off by blanks.
 *
 * Pure; any thread.
 */
#ifndef MG_SESSION_PARAMS_H
#define MG_SESSION_PARAMS_H

#include "base/error.h"
#include "base/json.h"

/* params: an array for ? and $1, an object for $name, or NULL.  *out is sql itself when it has
 * none. JSON null, true, 12 and "text" are the literals of SQL; 1.5 is a DOUBLE; lists and objects
 * are LIST and STRUCT.  Fails: MG_E_USAGE for a value that is missing, left over or cannot be said
 * in SQL. */
int mg_params_bind(struct mg_arena *arena, struct mg_str sql, const struct mg_json *params,
                   struct mg_str *out, struct mg_error *err);

#endif
