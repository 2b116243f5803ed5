/*
 * memory_shim.cpp - operator new, which DuckDB's small things come from.
 *
 * At the fence (os/limits.c) every allocation fails, also the few bytes in which one of DuckDB's
 * own threads wants to note that another one failed; nobody catches that exception, and the process
 * ends.  So small requests may use the reserve behind the fence; large ones fail, as they should.
 *
 * An aggregate that keeps millions of small things (mode, histogram) would use up the reserve in a
 * moment. So each thread gets a little of it and is then refused, once, which fails its statement:
 * destructors allocate too. Who handles an exception gets what there is.
 *
 * The other forms of new call this one; delete stays free().
 *
 * Not with sanitizers, which have a new of their own.
 *
 * Thread: any.
 */
#include <cstdlib>
#include <exception>
#include <new>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern "C" bool mg_mem_is_tight(void);
extern "C" void *mg_mem_small(std::size_t size, bool frugal);

static bool is_failing()
{
	return std::uncaught_exceptions() > 0 || std::current_exception() != nullptr;
}

void *operator new(std::size_t size)
{
	void *ptr = mg_mem_is_tight() ? nullptr : std::malloc(size ? size : 1);

	if (!ptr) {
		ptr = mg_mem_small(size, !is_failing());
	}
	if (!ptr) {
		throw std::bad_alloc();
	}
	return ptr;
}

#endif
