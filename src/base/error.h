/*
 * error.h - one error value for the whole program.
 *
 * Every function that can fail returns 0 or a positive MG_E_ code and fills a caller's
 * struct mg_error, which is of fixed size and never allocates.  The code decides SQLSTATE, HTTP
 * status and whether a retry is safe; the table lies in error.c.
 *
 * Thread: any; an mg_error belongs to whoever declared it.
 */
#ifndef MG_BASE_ERROR_H
#define MG_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum mg_code {
	MG_OK = 0,
	MG_E_INTERNAL,        /* XX000: our own mistake */
	MG_E_CORRUPT,         /* XX001: bytes on disk are not what was written */
	MG_E_NOMEM,           /* 53200: a memory budget or the machine's memory is used up */
	MG_E_DISK_FULL,       /* 53100 */
	MG_E_IO,              /* 58030: the system refused a file or socket operation */
	MG_E_PROTOCOL,        /* 08P01: bytes of a peer do not follow the protocol */
	MG_E_CONNECT,         /* 08001: cannot connect */
	MG_E_DISCONNECTED,    /* 08006: the connection was lost */
	MG_E_AUTH,            /* 28P01: wrong user or password */
	MG_E_DENIED,          /* 42501: known, but not allowed */
	MG_E_SYNTAX,          /* 42601 */
	MG_E_NO_TABLE,        /* 42P01 */
	MG_E_NO_COLUMN,       /* 42703 */
	MG_E_NO_FUNCTION,     /* 42883 */
	MG_E_BIND,            /* 42000: the statement has no meaning in this catalog */
	MG_E_DATA,            /* 22000: a value is out of range, ill-typed, divided by zero */
	MG_E_CARDINALITY,     /* 21000: more than one row from a scalar subquery */
	MG_E_DUPLICATE,       /* 42P07: the object is there already */
	MG_E_READ_ONLY,       /* 25006 */
	MG_E_UNSUPPORTED,     /* 0A000 */
	MG_E_CANCELLED,       /* 57014: by the user */
	MG_E_TIMEOUT,         /* 57014: by a limit */
	MG_E_BUSY,            /* 53300: a queue is full, try again */
	MG_E_SHUTDOWN,        /* 57P01 */
	MG_E_UNAVAILABLE,     /* 57P03: no node can serve it now */
	MG_E_NODE,            /* 58000: a node failed while it worked on a statement */
	MG_E_UNKNOWN_OUTCOME, /* 40003 */
	MG_E_USAGE,           /* 22023: a wrong flag, setting or parameter */
	MG_E_NOT_FOUND,       /* 02000: a file, node, query or user that is not there */
	MG_E_LIMIT,           /* 54000: larger than a fixed limit */
	MG_E_CONFLICT,        /* 40001: others changed the same meanwhile; run the transaction again */
	MG_E_TRANSACTION,     /* 25P02: not in this state of the transaction */
	MG_E_GONE,            /* 55000: it was there, and is not kept any more */
	MG_E_KEY_REUSED,      /* 22023: the key of a write was used for another one */
	MG_E_QUOTA,           /* 53400: more than somebody has allowed */
	MG_CODE_COUNT
};

enum mg_retry { MG_RETRY_NEVER, MG_RETRY_SAFE, MG_RETRY_MAYBE };

/* Which part of the system raised the error: told apart for the user (S50). */
enum mg_error_origin {
	MG_ORIGIN_NONE,
	MG_ORIGIN_PARSER,
	MG_ORIGIN_PLANNER,
	MG_ORIGIN_NODE,
	MG_ORIGIN_MERGE
};

struct mg_error {
	int code;         /* enum mg_code */
	char sqlstate[6]; /* from the code unless set by the caller */
	uint8_t origin;   /* enum mg_error_origin */
	uint32_t shard;   /* 0: none */
	char node[48];    /* name of the node that failed, or "" */
	const char *file; /* where it was set, for the log */
	int line;
	char message[768]; /* lower-case start, no full stop, names in double quotes */
	char detail[512];  /* sentences, or "" */
	char hint[256];    /* a sentence that says what to do, or "" */
};

/* What follows from a code. */
struct mg_code_info {
	const char *name; /* "no_table" */
	char sqlstate[6];
	int http_status;
	enum mg_retry retry;
};

const struct mg_code_info *mg_code_info(int code);

/* Empty err: no code, no text. */
void mg_error_clear(struct mg_error *err);

/* Set code and message (printf), clear detail and hint; returns code.  err may be NULL. */
#define mg_error_set(err, code, ...) mg_error_set_at(err, code, __FILE__, __LINE__, __VA_ARGS__)
int mg_error_set_at(struct mg_error *err, int code, const char *file, int line, const char *fmt,
                    ...) __attribute__((format(printf, 5, 6)));

/* Set detail or hint of an error that is set; err may be NULL. */
void mg_error_detail(struct mg_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void mg_error_hint(struct mg_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Put context in front of the message: "while reading shard 3: ..."; returns err's code. */
int mg_error_wrap(struct mg_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Wherever err speaks of text, it speaks of name, which is not longer; err NULL is fine. */
void mg_error_rename(struct mg_error *err, const char *text, const char *name);

/* Set code and message from errno_value, as "cannot open "x": No such file"; disk-full and
 * out-of-memory errnos choose their own code.  Returns the code. */
int mg_error_errno(struct mg_error *err, int errno_value, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Code for a SQLSTATE that came over the wire; MG_E_INTERNAL when unknown. */
int mg_code_from_sqlstate(const char *sqlstate);

#endif
