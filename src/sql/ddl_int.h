/* ddl_int.h - what the files ddl*.c share. */
#ifndef MG_SQL_DDL_INT_H
#define MG_SQL_DDL_INT_H

#include "sql/cursor.h"
#include "sql/ddl.h"

/* (name, ...) */
int mg_ddl__take_names(struct mg_cursor *cursor, const char *what, const char ***out,
                       size_t *count);

/* ---- ddl_alter.c ---- */
/* Behind the word ALTER. */
int mg_ddl__parse_alter(struct mg_cursor *cursor, struct mg_ddl *ddl);

/* ---- ddl_comment.c ---- */
/* Behind the word COMMENT. */
int mg_ddl__parse_comment(struct mg_cursor *cursor, struct mg_ddl *ddl);

/* ---- ddl_object.c ---- */
/* The word for an object of the catalog, when one stands there: then kind, object and tag are set.
 */
bool mg_ddl__take_object(struct mg_cursor *cursor, struct mg_ddl *ddl);
/* Of its CREATE: the name and all that follows. */
int mg_ddl__parse_object(struct mg_cursor *cursor, struct mg_ddl *ddl);

#endif
