/*
 * log.h - one line per event on stderr or a file, logfmt or JSON: ts level node event key=value...
 *
 * Event names are stable ("worker.ready").  Texts are escaped; passwords are never passed here.
 * Thread: any.
 */
#ifndef MG_BASE_LOG_H
#define MG_BASE_LOG_H

#include <stdbool.h>

enum mg_log_level { MG_LOG_DEBUG, MG_LOG_INFO, MG_LOG_WARN, MG_LOG_ERROR, MG_LOG_OFF };

struct mg_log_options {
	enum mg_log_level level;
	bool json;
	const char *node; /* copied; NULL: "-" */
	const char *path; /* NULL: stderr */
};

int mg_log_open(const struct mg_log_options *options); /* 0, or errno of the file */
bool mg_log_level_parse(const char *text, enum mg_log_level *level);

/* mg_log(MG_LOG_INFO, "worker.ready", "worker=%s shards=%u", name, count): the format's
 * words of the form key=%x become fields; values with blanks are quoted, once. */
#define mg_log(level, event, ...) mg_log_write(level, event, "" __VA_ARGS__)
void mg_log_write(enum mg_log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
