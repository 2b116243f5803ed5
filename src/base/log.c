/*
 * log.c - events as lines.
 *
 * The caller's format "worker=%s shards=%u" is split at blanks in front of words of the form key=;
 * what follows the "=" up to the next such word is the value, blanks included.  Text in front of
 * the first key becomes the field "message".  The split is decided by the format alone: a mark is
 * put in front of each key before the values are filled in, so a value such as "a b=1" cannot
 * forge a field.  Quotes that the format has around a whole value are left out: a value gets its
 * quotes here, when it needs some.  Each line is one write(2), so lines of threads and processes do
 * not mix.
 *
 * Limit: the fields of a line are cut at 4,096 bytes, a format at 512.
 */
#include "base/log.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 4096
#define FORMAT_MAX 512
#define MARK '\x1f'

/* lock guards all below but level, which is only a hint and read without it. */
static struct {
	pthread_mutex_t lock;
	atomic_int level;
	bool json;
	char *node;
	int fd;
} sink = { .lock = PTHREAD_MUTEX_INITIALIZER, .level = MG_LOG_INFO, .fd = STDERR_FILENO };

static const char *const level_names[] = { "debug", "info", "warn", "error", "off" };

bool mg_log_level_parse(const char *text, enum mg_log_level *level)
{
	for (int i = MG_LOG_DEBUG; i <= MG_LOG_OFF; i++) {
		if (mg_text_eq_nocase(text, level_names[i])) {
			*level = (enum mg_log_level)i;
			return true;
		}
	}
	return false;
}

int mg_log_open(const struct mg_log_options *options)
{
	int fd = STDERR_FILENO;
	if (options->path) {
		fd = open(options->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		if (fd < 0) {
			return errno;
		}
	}
	pthread_mutex_lock(&sink.lock);
	if (sink.fd != STDERR_FILENO) {
		close(sink.fd);
	}
	sink.fd = fd;
	sink.json = options->json;
	mg_free(sink.node);
	sink.node = options->node ? mg_strdup(options->node) : NULL;
	atomic_store(&sink.level, (int)options->level);
	pthread_mutex_unlock(&sink.lock);
	return 0;
}

/* Length of "key=" at p, or 0. */
static size_t key_length(const char *p)
{
	size_t len = 0;
	while ((p[len] >= 'a' && p[len] <= 'z') || (p[len] >= 'A' && p[len] <= 'Z') || p[len] == '_' ||
	       p[len] == '.' || (len > 0 && p[len] >= '0' && p[len] <= '9')) {
		len++;
	}
	return len > 0 && p[len] == '=' ? len + 1 : 0;
}

static bool needs_quotes(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7F) {
			return true;
		}
	}
	return len == 0;
}

static void add_field(struct mg_sb *line, bool json, const char *key, size_t key_len,
                      const char *value, size_t len)
{
	if (line->len > 0) {
		mg_sb_add_char(line, json ? ',' : ' ');
	}
	if (json) {
		mg_sb_add_json(line, key, key_len);
		mg_sb_add_char(line, ':');
		mg_sb_add_json(line, value, len);
		return;
	}
	mg_sb_add_len(line, key, key_len);
	mg_sb_add_char(line, '=');
	if (needs_quotes(value, len)) {
		mg_sb_add_json(line, value, len);
	} else {
		mg_sb_add_len(line, value, len);
	}
}

/* Copy fmt with a mark in place of the blank in front of each key=, and key="value" without its
 * quotes, which add_field() would quote once more. */
static void mark_keys(char *to, size_t cap, const char *fmt)
{
	size_t used = 0;
	size_t key = key_length(fmt);
	bool quoted = false;
	if (key > 0) {
		to[used++] = MARK;
	}
	while (*fmt && used + 1 < cap) {
		if (key > 0) {
			for (; key > 0 && used + 1 < cap; key--) {
				to[used++] = *fmt++;
			}
			key = 0;
			quoted = *fmt == '"';
			fmt += quoted;
		} else if (quoted && *fmt == '"' && (fmt[1] == ' ' || !fmt[1])) {
			quoted = false;
			fmt++;
		} else {
			key = *fmt == ' ' && !quoted ? key_length(fmt + 1) : 0;
			to[used++] = key > 0 ? MARK : *fmt;
			fmt++;
		}
	}
	to[used] = '\0';
}

static void add_text_fields(struct mg_sb *line, bool json, const char *text)
{
	const char *at = text;
	while (*at) {
		size_t key = *at == MARK ? key_length(at + 1) : 0;
		at += *at == MARK ? 1 : 0;
		const char *value = at + key;
		size_t len = strcspn(value, "\x1f");
		if (key) {
			add_field(line, json, at, key - 1, value, len);
		} else if (len) {
			add_field(line, json, "message", 7, value, len);
		}
		at = value + len;
	}
}

static void add_time(struct mg_sb *line, bool json)
{
	struct timespec now;
	struct tm parts;
	char text[32];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
	int more = snprintf(text + len, sizeof text - len, ".%03dZ", (int)(now.tv_nsec / 1000000));
	add_field(line, json, "ts", 2, text, len + (size_t)(more > 0 ? more : 0));
}

static void write_line(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t done = write(fd, text, len);
		if (done < 0) {
			if (errno == EINTR) {
				continue;
			}
			return; /* Nobody is left to be told. */
		}
		text += done;
		len -= (size_t)done;
	}
}

void mg_log_write(enum mg_log_level level, const char *event, const char *fmt, ...)
{
	if ((int)level < atomic_load_explicit(&sink.level, memory_order_relaxed)) {
		return;
	}
	char marked[FORMAT_MAX];
	char text[TEXT_MAX];
	va_list ap;
	mark_keys(marked, sizeof marked, fmt);
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, marked, ap);
	va_end(ap);

	struct mg_sb fields = { 0 };
	struct mg_sb line = { 0 };
	pthread_mutex_lock(&sink.lock);
	bool json = sink.json;
	const char *node = sink.node ? sink.node : "-";
	add_time(&fields, json);
	add_field(&fields, json, "level", 5, level_names[level], strlen(level_names[level]));
	add_field(&fields, json, "node", 4, node, strlen(node));
	add_field(&fields, json, "event", 5, event, strlen(event));
	add_text_fields(&fields, json, text);
	mg_sb_addf(&line, json ? "{%s}\n" : "%s\n", mg_sb_text(&fields));
	write_line(sink.fd, line.ptr, line.len);
	pthread_mutex_unlock(&sink.lock);
	mg_sb_fini(&fields);
	mg_sb_fini(&line);
}
