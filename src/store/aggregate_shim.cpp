/*
 * aggregate_shim.cpp - aggregates of DuckDB's C API over one state.
 *
 * DuckDB 1.5.5 hands the rows of a window that is the whole partition, and of other single groups,
 * to an aggregate with a constant vector of states: one pointer for all rows.  Its C API passes
 * that on as if it were one pointer for each row, and who reads the second one crashes
 * (duckdb/duckdb#21537).  So the function's update is replaced by one that notes which it is.
 *
 * As in tpch_shim.cpp no header of DuckDB is needed: the pointer is looked for in the function's
 * memory, and a Vector begins with its kind.  Bound to DuckDB 1.5.5, which mg_duck_open checks;
 * test_science runs such windows.
 *
 * Thread: the note is the thread's that updates.
 */
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace duckdb {
class AggregateInputData;

class Vector {
  public:
	void Flatten(unsigned long count);

	uint8_t kind;
};

void CAPIAggregateUpdate(Vector *inputs, AggregateInputData &data, unsigned long input_count,
                         Vector &states, unsigned long count);
} // namespace duckdb

extern "C" bool mg_aggregate_shim_prepare(void *function);
extern "C" size_t mg_aggregate_shim_row(size_t row);

static const size_t function_bytes = 0x170; /* of an AggregateFunction */
static const uint8_t flat = 0, constant = 2;

static thread_local bool one_state;

static void update(duckdb::Vector *inputs, duckdb::AggregateInputData &data,
                   unsigned long input_count, duckdb::Vector &states, unsigned long count)
{
	one_state = states.kind == constant;
	if (!one_state && states.kind != flat) {
		states.Flatten(count);
	}
	duckdb::CAPIAggregateUpdate(inputs, data, input_count, states, count);
}

/* False: it is not what it was in DuckDB 1.5.5. */
bool mg_aggregate_shim_prepare(void *function)
{
	auto theirs = &duckdb::CAPIAggregateUpdate;
	auto ours = &update;
	auto bytes = static_cast<char *>(function);
	char *found = nullptr;
	size_t times = 0;

	for (size_t at = 0; at + sizeof theirs <= function_bytes; at += sizeof theirs) {
		if (std::memcmp(bytes + at, &theirs, sizeof theirs) == 0) {
			found = bytes + at;
			times++;
		}
	}
	if (times != 1) {
		return false;
	}
	std::memcpy(found, &ours, sizeof ours);
	return true;
}

/* Where the state of a row stands among those that an update is given. */
size_t mg_aggregate_shim_row(size_t row)
{
	return one_state ? 0 : row;
}
