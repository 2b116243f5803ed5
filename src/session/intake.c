/* intake.c - see intake.h. */
#include "session/intake.h"

#include "os/scratch.h"

#include <string.h>

bool mg_intake_is_wanted(const char *verb)
{
	return strcmp(verb, "COPY") == 0;
}

int mg_intake_take(struct mg_intake *intake, struct mg_sink *sink, const char *dir,
                   struct mg_error *err)
{
	bool more = true;
	int code = 0;

	if (!sink->input) {
		code = mg_error_set(err, MG_E_USAGE, "COPY FROM STDIN was sent without its rows");
		mg_error_hint(err, "Over HTTP they are the body of POST /db/execute?sql=COPY...; in the "
		                   "shell use \\copy, or end them with a line \\.");
		return code;
	}
	code = mg_scratch_open(&intake->file, dir, err);
	while (!code && more) {
		struct mg_buf *piece = NULL;
		uint64_t at = 0;

		code = sink->input(sink->arg, &piece, err);
		more = !code && piece;
		if (more) {
			code = mg_scratch_append(intake->file, piece->data, piece->size, &at, err);
			intake->input.size += piece->size;
		}
		mg_buf_unref(piece);
	}
	if (!code) {
		intake->input.fd = mg_scratch_fd(intake->file);
	}
	return code;
}

void mg_intake_fini(struct mg_intake *intake)
{
	mg_scratch_close(intake->file);
	*intake = (struct mg_intake){ 0 };
}
