/*
 * error.c - the table of codes, and how an error is filled.
 *
 * A new code needs one line here and one in error.h; the static assertion keeps both in step.
 * The lowest-numbered code that has a SQLSTATE is the one a SQLSTATE from the wire is read as.
 */
#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct mg_code_info code_table[] = {
	[MG_OK] = { "ok", "00000", 200, MG_RETRY_NEVER },
	[MG_E_INTERNAL] = { "internal", "XX000", 500, MG_RETRY_NEVER },
	[MG_E_CORRUPT] = { "corrupt", "XX001", 500, MG_RETRY_NEVER },
	[MG_E_NOMEM] = { "out_of_memory", "53200", 429, MG_RETRY_SAFE },
	[MG_E_DISK_FULL] = { "disk_full", "53100", 507, MG_RETRY_SAFE },
	[MG_E_IO] = { "io", "58030", 500, MG_RETRY_NEVER },
	[MG_E_PROTOCOL] = { "protocol", "08P01", 400, MG_RETRY_NEVER },
	[MG_E_CONNECT] = { "connect", "08001", 503, MG_RETRY_SAFE },
	[MG_E_DISCONNECTED] = { "disconnected", "08006", 503, MG_RETRY_MAYBE },
	[MG_E_AUTH] = { "auth", "28P01", 401, MG_RETRY_NEVER },
	[MG_E_DENIED] = { "denied", "42501", 403, MG_RETRY_NEVER },
	[MG_E_SYNTAX] = { "syntax", "42601", 400, MG_RETRY_NEVER },
	[MG_E_NO_TABLE] = { "no_table", "42P01", 400, MG_RETRY_NEVER },
	[MG_E_NO_COLUMN] = { "no_column", "42703", 400, MG_RETRY_NEVER },
	[MG_E_NO_FUNCTION] = { "no_function", "42883", 400, MG_RETRY_NEVER },
	[MG_E_BIND] = { "bind", "42000", 400, MG_RETRY_NEVER },
	[MG_E_DATA] = { "data", "22000", 400, MG_RETRY_NEVER },
	[MG_E_CARDINALITY] = { "cardinality", "21000", 400, MG_RETRY_NEVER },
	[MG_E_DUPLICATE] = { "duplicate", "42P07", 409, MG_RETRY_NEVER },
	[MG_E_READ_ONLY] = { "read_only", "25006", 403, MG_RETRY_NEVER },
	[MG_E_UNSUPPORTED] = { "unsupported", "0A000", 501, MG_RETRY_NEVER },
	[MG_E_CANCELLED] = { "cancelled", "57014", 499, MG_RETRY_SAFE },
	[MG_E_TIMEOUT] = { "timeout", "57014", 504, MG_RETRY_SAFE },
	[MG_E_BUSY] = { "busy", "53300", 429, MG_RETRY_SAFE },
	[MG_E_SHUTDOWN] = { "shutdown", "57P01", 503, MG_RETRY_SAFE },
	[MG_E_UNAVAILABLE] = { "unavailable", "57P03", 503, MG_RETRY_SAFE },
	[MG_E_NODE] = { "node", "58000", 503, MG_RETRY_SAFE },
	[MG_E_UNKNOWN_OUTCOME] = { "unknown_outcome", "40003", 504, MG_RETRY_MAYBE },
	[MG_E_USAGE] = { "usage", "22023", 400, MG_RETRY_NEVER },
	[MG_E_NOT_FOUND] = { "not_found", "02000", 404, MG_RETRY_NEVER },
	[MG_E_LIMIT] = { "limit", "54000", 413, MG_RETRY_NEVER },
	[MG_E_CONFLICT] = { "conflict", "40001", 409, MG_RETRY_SAFE },
	[MG_E_TRANSACTION] = { "transaction", "25P02", 409, MG_RETRY_NEVER },
	[MG_E_GONE] = { "gone", "55000", 410, MG_RETRY_NEVER },
	[MG_E_KEY_REUSED] = { "key_reused", "22023", 422, MG_RETRY_NEVER },
	[MG_E_QUOTA] = { "quota", "53400", 507, MG_RETRY_NEVER },
};

static_assert(sizeof(code_table) / sizeof(code_table[0]) == MG_CODE_COUNT,
              "each code needs its line in the table");

const struct mg_code_info *mg_code_info(int code)
{
	if (code < 0 || code >= MG_CODE_COUNT) {
		code = MG_E_INTERNAL;
	}
	return &code_table[code];
}

void mg_error_clear(struct mg_error *err)
{
	if (err) {
		memset(err, 0, sizeof *err);
	}
}

/* vsnprintf that never leaves half of a UTF-8 character at a cut end. */
static void format_text(char *to, size_t cap, const char *fmt, va_list ap)
{
	int written = vsnprintf(to, cap, fmt, ap);
	if (written < 0) {
		to[0] = '\0';
		return;
	}
	if ((size_t)written < cap) {
		return;
	}
	size_t len = cap - 1;
	size_t start = len;
	while (start > 0 && len - start < 4 && ((unsigned char)to[start - 1] & 0xC0) == 0x80) {
		start--;
	}
	if (start > 0 && (unsigned char)to[start - 1] >= 0xC0) {
		unsigned char lead = (unsigned char)to[start - 1];
		size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
		if (len - (start - 1) < need) {
			to[start - 1] = '\0';
		}
	}
}

static void set_sqlstate(struct mg_error *err)
{
	memcpy(err->sqlstate, mg_code_info(err->code)->sqlstate, sizeof err->sqlstate);
}

int mg_error_set_at(struct mg_error *err, int code, const char *file, int line, const char *fmt,
                    ...)
{
	if (!err) {
		return code;
	}
	/* The arguments may point into err itself, so the text is made before err is cleared. */
	char message[sizeof err->message];
	va_list ap;
	va_start(ap, fmt);
	format_text(message, sizeof message, fmt, ap);
	va_end(ap);
	mg_error_clear(err);
	err->code = code;
	err->file = file;
	err->line = line;
	memcpy(err->message, message, sizeof message);
	set_sqlstate(err);
	return code;
}

void mg_error_detail(struct mg_error *err, const char *fmt, ...)
{
	if (!err) {
		return;
	}
	char text[sizeof err->detail];
	va_list ap;
	va_start(ap, fmt);
	format_text(text, sizeof text, fmt, ap);
	va_end(ap);
	memcpy(err->detail, text, sizeof text);
}

void mg_error_hint(struct mg_error *err, const char *fmt, ...)
{
	if (!err) {
		return;
	}
	char text[sizeof err->hint];
	va_list ap;
	va_start(ap, fmt);
	format_text(text, sizeof text, fmt, ap);
	va_end(ap);
	memcpy(err->hint, text, sizeof text);
}

/* Put "prefix: " in front of the message, cutting the message when both do not fit. */
static void prepend(struct mg_error *err, const char *prefix)
{
	char whole[sizeof err->message];
	size_t used = strnlen(prefix, sizeof whole - 1);
	memcpy(whole, prefix, used);
	size_t rest = strnlen(err->message, sizeof err->message - 1);
	if (used + 2 < sizeof whole) {
		memcpy(whole + used, ": ", 2);
		used += 2;
		if (rest > sizeof whole - 1 - used) {
			rest = sizeof whole - 1 - used;
			while (rest > 0 && ((unsigned char)err->message[rest] & 0xC0) == 0x80) {
				rest--;
			}
		}
		memcpy(whole + used, err->message, rest);
		used += rest;
	}
	whole[used] = '\0';
	memcpy(err->message, whole, used + 1);
}

static void rename_in(char *where, const char *text, const char *name)
{
	size_t len = strlen(text);

	for (char *at = strstr(where, text); at; at = strstr(at + strlen(name), text)) {
		memmove(at + strlen(name), at + len, strlen(at + len) + 1);
		memcpy(at, name, strlen(name));
	}
}

void mg_error_rename(struct mg_error *err, const char *text, const char *name)
{
	if (err) {
		rename_in(err->message, text, name);
		rename_in(err->detail, text, name);
		rename_in(err->hint, text, name);
	}
}

int mg_error_wrap(struct mg_error *err, const char *fmt, ...)
{
	if (!err) {
		return MG_E_INTERNAL;
	}
	char prefix[sizeof err->message];
	va_list ap;
	va_start(ap, fmt);
	format_text(prefix, sizeof prefix, fmt, ap);
	va_end(ap);
	prepend(err, prefix);
	return err->code;
}

static int code_of_errno(int errno_value)
{
	switch (errno_value) {
	case ENOMEM:
		return MG_E_NOMEM;
	case ENOSPC:
	case EDQUOT:
		return MG_E_DISK_FULL;
	case ENOENT:
		return MG_E_NOT_FOUND;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return MG_E_CONNECT;
	case ECONNRESET:
	case EPIPE:
		return MG_E_DISCONNECTED;
	case ETIMEDOUT:
		return MG_E_TIMEOUT;
	default:
		return MG_E_IO;
	}
}

int mg_error_errno(struct mg_error *err, int errno_value, const char *fmt, ...)
{
	int code = code_of_errno(errno_value);
	if (!err) {
		return code;
	}
	char text[sizeof err->message];
	va_list ap;
	va_start(ap, fmt);
	format_text(text, sizeof text, fmt, ap);
	va_end(ap);
	char reason[128];
	const char *why = strerror_r(errno_value, reason, sizeof reason); /* the GNU form */
	mg_error_set_at(err, code, __FILE__, __LINE__, "%s", why);
	prepend(err, text);
	return code;
}

int mg_code_from_sqlstate(const char *sqlstate)
{
	if (!sqlstate) {
		return MG_E_INTERNAL;
	}
	for (int code = 0; code < MG_CODE_COUNT; code++) {
		if (strcmp(code_table[code].sqlstate, sqlstate) == 0) {
			return code;
		}
	}
	return MG_E_INTERNAL;
}
