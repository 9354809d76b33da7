# make bench: ours and the peers in turn, medians and ratios, into build/bench.tsv.
#
# The peers are Python programs; PYTHON names an interpreter that has numpy, opencv-python-headless, torch and
# torchvision, and for the row crf pydensecrf, which otherwise stands alone. Without a PYTHON a virtual environment is
# made under build/ from the package index. Networks are compared on the same libtorch: ours is built against the one
# inside that torch package.

PYTHON ?=
BENCH_PYTHON = $(or $(PYTHON),$(CURDIR)/build/venv/bin/python3)
RUNS ?= 5

.PHONY: bench bench-here
bench: deps $(if $(PYTHON),,build/venv/.done)
	@torch=$$($(BENCH_PYTHON) -c 'import os, torch; print(os.path.dirname(torch.__file__))'); \
	$(MAKE) --no-print-directory LIBTORCH=$$torch -j$$(nproc) tools bench-programs; \
	$(MAKE) --no-print-directory LIBTORCH=$$torch PYTHON=$(BENCH_PYTHON) RUNS=$(RUNS) bench-here

bench-here:
	@mkdir -p build; B=$(CURDIR)/$(B) PYTHON=$(PYTHON) RUNS=$(RUNS) tests/bench/run $(NAMES) | tee build/bench.tsv

.PHONY: bench-programs
bench-programs: $(BENCH:%=$(B)/bench/%)

build/venv/.done:
	python3 -m venv build/venv
	build/venv/bin/pip install --quiet numpy opencv-python-headless torch torchvision
	touch $@
