/* assert.c - end the process where one of our own rules is broken, with place and text. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void mg_assert_fail(const char *text, const char *file, int line)
{
	fflush(stdout);
	fprintf(stderr, "merganser: assertion failed: %s (%s:%d)\n", text, file, line);
	fflush(stderr);
	abort();
}
