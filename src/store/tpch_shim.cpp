/*
 * tpch_shim.cpp - registers the TPC-H and TPC-DS generators, which DuckDB's C API cannot.
 *
 * Both extensions lie in the linked archives, but only C++ can start them.  No DuckDB C++ header is
 * needed: the two classes below are declared by name, with just the members called here.  Bound to
 * DuckDB 1.5.5, which mg_duck_open checks; duckdb.h of the same version is fetched with it.
 *
 * Thread: any, once per instance.
 */
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace duckdb {
class DatabaseInstance;

class ExtensionLoader {
  public:
	ExtensionLoader(DatabaseInstance &db, const std::string &extension_name);
	void FinalizeLoad();

  private:
	alignas(16) char body[1024]; /* more than the real one takes */
};
} // namespace duckdb

extern "C" void tpch_duckdb_cpp_init(duckdb::ExtensionLoader &loader);
extern "C" void tpcds_duckdb_cpp_init(duckdb::ExtensionLoader &loader);
extern "C" int mg_tpch_shim_register(void *database, char *message, size_t size);

static void load(duckdb::DatabaseInstance &db, const char *name,
                 void (*init)(duckdb::ExtensionLoader &))
{
	/* The destructor is not exported, so loaders stay: some hundred bytes an instance, reachable.
	 */
	static std::mutex lock;
	static auto &kept = *new std::vector<duckdb::ExtensionLoader *>;
	std::lock_guard<std::mutex> guard(lock);
	kept.push_back(new duckdb::ExtensionLoader(db, name));
	init(*kept.back());
	kept.back()->FinalizeLoad();
}

/* A duckdb_database points to a shared_ptr to DuckDB, whose first member is a shared_ptr to the
 * instance. */
int mg_tpch_shim_register(void *database, char *message, size_t size)
{
	try {
		auto &duck =
			*static_cast<std::shared_ptr<std::shared_ptr<duckdb::DatabaseInstance>> *>(database);
		load(**duck, "tpch", tpch_duckdb_cpp_init);
		load(**duck, "tpcds", tpcds_duckdb_cpp_init);
		return 0;
	} catch (const std::exception &e) {
		std::snprintf(message, size, "%s", e.what());
		return 1;
	}
}
