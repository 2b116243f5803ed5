/* assert.h - mg_assert: always on, for our own mistakes only; never for bytes from outside. */
#ifndef MG_BASE_ASSERT_H
#define MG_BASE_ASSERT_H

_Noreturn void mg_assert_fail(const char *text, const char *file, int line);

#define mg_assert(condition) \
	((condition) ? (void)0 : mg_assert_fail(#condition, __FILE__, __LINE__))

#endif
