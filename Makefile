# Every target sets up what it needs on a fresh machine: .venv with the pinned versions of constraints.txt.
#
#   make quickstart   from text to a small model that talks          make check      format, lint, types
#   make test         everything that is quick, and `check`          make bench      speed beside transformers
#   make test-slow    the long tests                                 make docs       regenerate the generated pages
#   make site         the documentation, to be read in a browser without a network: build/site/index.html
#   make site-serve   the same on 127.0.0.1:8001, built again whenever a page changes
#   make bench-data   every stage of curation beside other tools, on the texts of TEXTS=FOLDER
#   make llama        llama.cpp for the tests that compare with it: compiles for several minutes
#   make llama-server its server, for benchmarks/serving.py: about ten minutes
#   make dist         wheel and sdist in dist/, checked       make audit      known holes in the pins, and what is inside
#   make extras       the wheel with each extra alone, by pip, from the package index
#   make floor        the lowest versions that pyproject.toml allows, in an environment of their own: 5.6 GB
#
# PYTHON=python3.12 chooses the interpreter. TORCH_INDEX=URL is a further package index for torch, for example the one with
# CPU-only builds: README.md, "Install".

PYTHON ?= python3
TORCH_INDEX ?=
QUICKSTART ?=
BENCH ?= 60M
RESULTS := benchmarks/results
WORKERS ?= 2
SLOW_WORKERS ?= 3
SLOW ?= tests
TEXTS ?= ../shared/data/corpora
TOKENIZER ?= ../shared/data/tokenizers/neox/20B_tokenizer.json
export NO_MKDOCS_2_WARNING := 1
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BASE := $(VENV)/.base-installed
DEV := $(VENV)/.dev-installed
LLAMA := $(VENV)/.llama-installed
LLAMA_SERVER := build/llama.cpp/bin/llama-server
PEERS := .venv-peers
PACKAGE := .venv-package
FLOOR := .venv-floor
DOLMA := .venv-dolma

.PHONY: quickstart test quick-tests doctests test-slow slow-groups llama llama-server check style types
.PHONY: bench bench-data docs site site-serve
.PHONY: package-tools dist audit extras floor
.DELETE_ON_ERROR:

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, and $(PYTHON) is older or absent" >&2; \
		     echo "hint: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 3; }
	@echo "setting up $(VENV): torch first, then the package (several minutes where nothing is cached)" >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch setuptools
	$(PIP) --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(DEV): $(BASE)
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

$(LLAMA): $(DEV)  # without what reads images and what its own programs share: 74 files to compile instead of 178
	@echo "building llama.cpp (about three minutes on two cores)" >&2
	@mkdir -p build/llama.cpp && echo 'set(LLAMA_BUILD_COMMON OFF)' > build/llama.cpp/library.cmake
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/build/llama.cpp/library.cmake $(CMAKE_ARGS)" \
		$(PIP) llama-cpp-python
	@touch $@

llama: $(LLAMA)

$(LLAMA_SERVER): $(DEV)
	@echo "building llama.cpp's server from the source in llama-cpp-python (about ten minutes on two cores)" >&2
	mkdir -p build/llama.cpp/source
	$(BIN)/python -m pip download --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--no-binary llama-cpp-python -d build/llama.cpp llama-cpp-python
	tar xzf build/llama.cpp/llama_cpp_python-*.tar.gz --strip-components 1 -C build/llama.cpp/source
	cmake -S build/llama.cpp/source/vendor/llama.cpp -B build/llama.cpp -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF
	cmake --build build/llama.cpp --target llama-server -j 2

llama-server: $(LLAMA_SERVER)

quickstart: $(BASE)
	$(BIN)/mamba-slm quickstart $(QUICKSTART)

test: style  # then all at once: pyright is one process that takes minutes, in which no core may be idle
	@$(MAKE) --no-print-directory -j 2 quick-tests types doctests

quick-tests: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow" --durations=10 tests

doctests: $(DEV)
	$(BIN)/python -m pytest --doctest-modules src

test-slow: $(LLAMA) slow-groups

slow-groups: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(SLOW_WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "slow and not alone" --timeout=1800 --durations=25 $(SLOW)
	$(BIN)/python -m pytest -m "slow and alone" --timeout=1800 $(SLOW) || [ $$? -eq 5 ]  # 5: none of them is

check: style types

style: $(DEV)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: $(DEV)
	$(BIN)/pyright

bench: $(LLAMA)
	$(BIN)/mamba-slm bench $(BENCH) --startup --out $(RESULTS)/startup.json
	$(BIN)/mamba-slm bench $(BENCH) --train-lengths 1024,4096,8192 --lengths 2048 --out $(RESULTS)/transformers.json
	$(BIN)/mamba-slm bench $(BENCH) --tasks prefill --lengths 512,1024,2048,4096,8192 --peers none --ours bf16,int8 \
		--engines onnx-int8,llama.cpp-q8_0 --out $(RESULTS)/engines.json
	$(BIN)/mamba-slm bench $(BENCH) --tasks decode --lengths 512 --batches 1,8,32 --peers granite \
		--ours bf16,int8,int4 --onnx --out $(RESULTS)/decoding.json
	$(BIN)/mamba-slm bench $(BENCH) --crossover --budget 720 --out $(RESULTS)/crossover.json
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/page.py

$(PEERS)/.installed: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

$(DOLMA)/.installed: benchmarks/peers-dolma.txt
	$(PYTHON) -m venv $(DOLMA)
	$(DOLMA)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers-dolma.txt
	@touch $@

$(PACKAGE)/.installed: deploy/package/tools.txt
	$(PYTHON) -m venv $(PACKAGE)
	$(PACKAGE)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/package/tools.txt
	@touch $@

package-tools: $(PACKAGE)/.installed

dist: package-tools
	rm -rf dist
	$(PACKAGE)/bin/python deploy/package/build.py dist
	$(PACKAGE)/bin/python -m twine check --strict dist/*

extras: $(DEV) package-tools
	MAMBA_SLM_EXTRAS=pip $(BIN)/python -m pytest -m slow --timeout=3600 tests/packaging/test_extras.py

$(FLOOR)/.installed: pyproject.toml package-tools
	$(PYTHON) -m venv $(FLOOR)
	$(PACKAGE)/bin/uv pip install --quiet --python $(FLOOR)/bin/python --resolution lowest-direct --index-strategy unsafe-best-match \
		-e '.[data,hf,finetune,eval,serve,dashboard,gguf,onnx,grammar,bnb]' -r deploy/package/floor-tests.txt
	@touch $@

floor: $(FLOOR)/.installed
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest -n 0 -o filterwarnings=default @deploy/package/floor.txt

audit: $(DEV) package-tools
	mkdir -p build/audit
	$(PACKAGE)/bin/cyclonedx-py environment $(BIN)/python --of JSON -o build/audit/sbom.cdx.json
	$(PACKAGE)/bin/python deploy/package/audit.py

bench-data: $(DEV) $(PEERS)/.installed $(DOLMA)/.installed
	$(BIN)/python benchmarks/data.py $(TEXTS) --tokenizer $(TOKENIZER) \
		--peers $(PEERS)/bin/python --dolma $(DOLMA)/bin/python

docs: $(DEV)
	$(BIN)/python -m mamba_slm.cli.reference docs/reference
	$(BIN)/python -m mamba_slm.training.published_page docs/reference/published-runs.md
	$(BIN)/python -m pytest -q tests/conformance --write-table
	$(BIN)/python benchmarks/figures.py
	$(BIN)/python tests/origins/page.py docs/from-the-original.md
	$(BIN)/python tests/origins/roadmap_page.py docs/roadmap.md
	$(BIN)/python recipes/tour_page.py

site: $(DEV)
	$(BIN)/mkdocs build  # with --quiet it counts no warnings, and is not strict

site-serve: $(DEV)
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001
