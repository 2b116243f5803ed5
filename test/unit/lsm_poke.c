/*
 * lsm_poke.c - DIR FROM TO: in the LSM tree of DIR, whose server is down, the first value that
 * holds FROM holds TO in its place.  All checksums are right: only a comparison shows it.
 */
#include "store/lsm.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static bool poke(struct mg_lsm_batch *batch, struct mg_str key, struct mg_str value,
                 const char *from, const char *to)
{
	size_t len = strlen(from);
	char *changed = mg_strndup(value.ptr, value.len);
	char *at = memmem(changed, value.len, from, len);

	if (at) {
		memcpy(at, to, len);
		mg_lsm_batch_put(batch, key, (struct mg_str){ changed, value.len });
	}
	mg_free(changed);
	return at != NULL;
}

int main(int argc, char **argv)
{
	struct mg_lsm *lsm = NULL;
	struct mg_error err = { 0 };
	struct mg_str key, value;
	bool found = false;

	if (argc != 4 || strlen(argv[2]) != strlen(argv[3])) {
		fprintf(stderr, "usage: lsm_poke DIR FROM TO, which are as long\n");
		return 2;
	}
	if (mg_lsm_open(&lsm, &(struct mg_lsm_options){ .dir = argv[1] }, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	struct mg_lsm_batch *batch = mg_lsm_batch_new(lsm);
	struct mg_lsm_iter *iter = mg_lsm_iter_open(lsm, (struct mg_str){ "", 0 },
	                                            (struct mg_str){ "", 0 });

	while (!found && mg_lsm_iter_next(iter, &key, &value)) {
		found = poke(batch, key, value, argv[2], argv[3]);
	}
	(void)mg_lsm_iter_close(iter, &err);
	if (found) {
		(void)mg_lsm_batch_write(batch, false, &err);
		(void)mg_lsm_flush(lsm, &err);
	}
	mg_lsm_batch_free(batch);
	mg_lsm_close(lsm);
	return found && !err.code ? 0 : 1;
}
