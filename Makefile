# Thin front of the build. `make` builds build/merganser; `make check` proves it.
#
#   make            build/merganser                 make check-all  every test, hours
#   make demo       a cluster with data, to look at make asan|tsan  tests under a sanitizer
#   make check      the gate                        make fuzz [T=10] [TARGET=name]
#   make bench      figures beside plain DuckDB     make sim [SEED=n]  histories of consensus
#   make chaos [FAULT=name] [WORKLOAD=name] [SECONDS=20] [SEED=n]      faults against real servers
#   make lint | fmt | clean

MAKEFLAGS += --no-print-directory
PYTHON := deps/cache/venv/bin/python
MESON := deps/cache/venv/bin/meson
DIR ?= build

.PHONY: build demo check check-all asan tsan sim chaos fuzz bench lint fmt clean

build:
	@deps/fetch
	@tools/build $(DIR) merganser

demo: build
	@build/merganser demo --workers 3 --scale-factor 0.1 --compare queries/tpch --strategy cut

check:
	@deps/fetch chaos
	@tools/build build
	@$(PYTHON) tools/check.py

check-all:
	@deps/fetch chaos
	@tools/build build
	@$(PYTHON) tools/check.py --all

asan tsan:
	@deps/fetch
	@tools/build build-$@
	@$(PYTHON) tools/check.py --sanitizer $@

fuzz:
	@deps/fetch fuzz
	@tools/build build-fuzz
	@$(PYTHON) tools/fuzz.py --seconds $(or $(T),10) $(TARGET)

sim:
	@deps/fetch
	@tools/build $(DIR) test/sim/sim
	@$(DIR)/test/sim/sim $(if $(SEED),--seed $(SEED) --trace,--seeds 10000)

chaos:
	@deps/fetch chaos
	@tools/build $(DIR) merganser test/chaos/wires
	@MG_BUILD=$(abspath $(DIR)) $(PYTHON) test/chaos/run.py $(if $(FAULT),--fault $(FAULT)) \
		$(if $(WORKLOAD),--workload $(WORKLOAD)) --seconds $(or $(SECONDS),20) $(if $(SEED),--seed $(SEED))

bench: build
	@$(PYTHON) bench/run.py $(BENCH)

lint:
	@deps/fetch lint
	@$(PYTHON) tools/tidy.py --format

fmt:
	@deps/fetch lint
	@$(PYTHON) tools/tidy.py --fix

clean:
	rm -rf build build-asan build-tsan build-fuzz
