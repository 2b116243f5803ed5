/*
 * memory_shim.cpp - operator new, which DuckDB's small things come from.
 *
 * At the fence (os/limits.c) every allocation fails, also the few bytes in which one of DuckDB's
 * own threads wants to note that another one failed; that exception nobody catches, and the process
 * ends.  So small requests may use the reserve behind the fence; large ones fail, as they should.
 * The other forms of new call this one; delete stays free().
 *
 * Not with sanitizers, which have a new of their own.
 *
 * Thread: any.
 */
#include <cstdlib>
#include <new>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern "C" void *mg_mem_small(std::size_t size);

void *operator new(std::size_t size)
{
	void *ptr = mg_mem_small(size);

	if (!ptr) {
		throw std::bad_alloc();
	}
	return ptr;
}

#endif
