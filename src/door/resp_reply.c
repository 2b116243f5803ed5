/* resp_reply.c - see resp_reply.h. */
#include "door/resp_reply.h"

#include <inttypes.h>

static void add_head(struct mg_resp_out *out, char kind, int64_t number)
{
	char digits[24];
	size_t at = sizeof digits;
	uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	digits[--at] = '\n';
	digits[--at] = '\r';
	do {
		digits[--at] = (char)('0' + left % 10);
		left /= 10;
	} while (left);
	if (number < 0) {
		digits[--at] = '-';
	}
	mg_sb_add_char(&out->bytes, kind);
	mg_sb_add_len(&out->bytes, digits + at, sizeof digits - at);
}

void mg_resp_simple(struct mg_resp_out *out, const char *text)
{
	mg_sb_add_char(&out->bytes, '+');
	mg_sb_add(&out->bytes, text);
	mg_sb_add(&out->bytes, "\r\n");
}

void mg_resp_error(struct mg_resp_out *out, const char *fmt, ...)
{
	va_list ap;

	mg_sb_add_char(&out->bytes, '-');
	size_t begin = out->bytes.len;

	va_start(ap, fmt);
	mg_sb_addv(&out->bytes, fmt, ap);
	va_end(ap);
	for (size_t i = begin; i < out->bytes.len; i++) {
		if (out->bytes.ptr[i] == '\r' || out->bytes.ptr[i] == '\n') {
			out->bytes.ptr[i] = ' ';
		}
	}
	mg_sb_add(&out->bytes, "\r\n");
}

void mg_resp_number(struct mg_resp_out *out, int64_t number)
{
	add_head(out, ':', number);
}

void mg_resp_bulk(struct mg_resp_out *out, struct mg_str bytes)
{
	add_head(out, '$', (int64_t)bytes.len);
	mg_sb_add_len(&out->bytes, bytes.ptr, bytes.len);
	mg_sb_add_len(&out->bytes, "\r\n", 2);
}

void mg_resp_verbatim(struct mg_resp_out *out, struct mg_str text)
{
	if (!out->v3) {
		mg_resp_bulk(out, text);
		return;
	}
	add_head(out, '=', (int64_t)text.len + 4);
	mg_sb_add(&out->bytes, "txt:");
	mg_sb_add_len(&out->bytes, text.ptr, text.len);
	mg_sb_add_len(&out->bytes, "\r\n", 2);
}

void mg_resp_nil(struct mg_resp_out *out)
{
	mg_sb_add(&out->bytes, out->v3 ? "_\r\n" : "$-1\r\n");
}

void mg_resp_nil_array(struct mg_resp_out *out)
{
	mg_sb_add(&out->bytes, out->v3 ? "_\r\n" : "*-1\r\n");
}

void mg_resp_array(struct mg_resp_out *out, size_t count)
{
	add_head(out, '*', (int64_t)count);
}

void mg_resp_set(struct mg_resp_out *out, size_t count)
{
	add_head(out, out->v3 ? '~' : '*', (int64_t)count);
}

void mg_resp_map(struct mg_resp_out *out, size_t pairs)
{
	add_head(out, out->v3 ? '%' : '*', (int64_t)(out->v3 ? pairs : 2 * pairs));
}
