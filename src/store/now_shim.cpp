/*
 * now_shim.cpp - the moment that now() tells inside of a transaction, which DuckDB's C API cannot
 * set: one transaction of ours is several of DuckDB's, in the engine and in the planning database.
 *
 * As in tpch_shim.cpp no header of DuckDB is needed: a duckdb_connection points to a Connection,
 * whose first member is a shared_ptr to its ClientContext, and a MetaTransaction begins with a
 * reference to that and its start in microseconds.  Bound to DuckDB 1.5.5, which mg_duck_open
 * checks; test_duck sees that now() follows.
 *
 * Thread: the connection's.
 */
#include <cstdint>
#include <exception>
#include <memory>

namespace duckdb {
class ClientContext;

class MetaTransaction {
  public:
	static MetaTransaction &Get(ClientContext &context);

	ClientContext &context;
	int64_t start_us;
};
} // namespace duckdb

extern "C" bool mg_now_shim_set(void *connection, int64_t us);

/* A transaction is open; false: it is not. */
bool mg_now_shim_set(void *connection, int64_t us)
{
	try {
		auto &context = **static_cast<std::shared_ptr<duckdb::ClientContext> *>(connection);
		auto &transaction = duckdb::MetaTransaction::Get(context);

		if (&transaction.context != &context) {
			return false;
		}
		transaction.start_us = us;
		return true;
	} catch (const std::exception &) {
		return false;
	}
}
