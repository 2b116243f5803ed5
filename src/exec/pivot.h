/*
 * pivot.h - PIVOT without the values of its columns, anywhere in a statement: they are asked for
 * first, then written into the text.
 */
#ifndef MG_EXEC_PIVOT_H
#define MG_EXEC_PIVOT_H

#include "exec/coordinator.h"

#define MG_PIVOT_VALUES_MAX 99999 /* as the engine: fewer than its pivot_limit */

/* *out: the statement with an IN list behind each ON expression, in arena; NULL when sql holds no
 * such PIVOT.  Asks by statements of the same client, so the wall stands before them as well.
 * Fails as they do; MG_E_LIMIT above MG_PIVOT_VALUES_MAX values. */
int mg_pivot_expand(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_run_settings *settings, struct mg_arena *arena,
                    struct mg_str sql, const char **out, struct mg_error *err);

#endif
