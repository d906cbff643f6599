# Everything a contributor or CI runs. `make` alone lists it.
#
# Each target first brings .venv up to date. A stamp file inside .venv is written only when an
# install went through, so an interrupted one is taken up again by the next run, and one that is
# up to date costs nothing.

PYTHON ?= python3
JOBS ?= 2
RUN ?= runs/tiny
EVEN ?= runs/even
ADAPTER ?= runs/smollm2
BENCH ?= runs/bench
SOAK ?= runs/soak
CHAIN ?= runs/chain
PAPER ?= runs/paper
LOADTEST ?= runs/loadtest
MINUTES ?= 30
ARGS ?=

SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
PAGE_TOOLS := web/node_modules/.package-lock.json
OPENAI_JS := tests/e2e/openai_js/node_modules/.package-lock.json
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
# What the package is built from: a change to any of it installs again.
BUILT_FROM := pyproject.toml setup.py constraints.txt $(wildcard src/parathinker/engine/native/src/*)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test test-slow test-vllm lint format typecheck train-embedded embed train-even embed-nines even-tables train-smollm2 embed-smollm2 paper-tables sums-tables temperatures chain bench soak page page-check test-browser test-clients loadtest fuzz clean

help: ## List the targets
	@echo 'make TARGET, where TARGET is:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'PYTHON=python3.12 picks the Python for .venv; ARGS="-k graph" goes on to pytest;'
	@echo 'JOBS=8 runs that many tests at once; RUN=runs/other says where training writes.'

install: $(DEV) ## Make .venv with the package and all that development needs
	@echo 'Ready: $(BIN)/parathinker --help'

demo: $(BASE) ## Watch the embedded model think along eight paths
	@$(BIN)/parathinker ask --example --paths 8

test: $(DEV) ## Run the tests, the slow ones left out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m 'not slow' $(ARGS)

test-slow: $(DEV) ## Run the slow tests only
	$(BIN)/python -m pytest -m slow $(ARGS)

test-vllm: $(BASE) ## The vLLM backend's tests, in .venv-vllm with vLLM for CPUs (3.5 GB); ARGS="-k rounds"
	@python=$$($(BIN)/python scripts/vllm_environment.py) && \
	  "$$python" -m pytest tests/vllm $(ARGS)

lint: $(DEV) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## Put style and formatting right where that can be done by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(DEV) ## Check types (mypy, strict)
	$(BIN)/mypy

train-embedded: $(DEV) ## Train the embedded model into runs/tiny; picks up where it was stopped
	bash scripts/train_tiny.sh $(RUN)

embed: $(DEV) ## Put the model that train-embedded made into the package
	$(BIN)/python scripts/embed.py tiny $(RUN)/own-4/model

train-even: $(DEV) ## Train nines and its sequential rivals at equal compute; in runs/even, and goes on there
	bash scripts/train_even.sh $(EVEN)

embed-nines: $(DEV) ## Put the parallel model that train-even made into the package
	$(BIN)/python scripts/embed.py nines $(EVEN)/parallel/model

even-tables: $(DEV) ## Compare them on the products task, at equal budgets; in runs/even
	bash scripts/even_tables.sh $(EVEN)

train-smollm2: $(DEV) ## Train SmolLM2's adapter into runs/smollm2; picks up where it was stopped
	bash scripts/train_smollm2.sh $(ADAPTER)

embed-smollm2: $(DEV) ## Put the adapter that train-smollm2 made into the package
	$(BIN)/python scripts/embed.py smollm2-sums $(ADAPTER)/own/model

paper-tables: $(DEV) ## The paper's tables on the embedded model, and a sound run on SmolLM2; in runs/paper
	bash scripts/paper_tables.sh $(PAPER)

sums-tables: $(DEV) ## The same tables for smollm2-sums, its sequential rival trained first; in runs/sums
	bash scripts/sums_tables.sh

temperatures: $(DEV) ## The same comparison at temperatures 0 and 1; MODEL=nines for that model; in runs/temperatures
	bash scripts/temperatures.sh

chain: $(DEV) ## The whole chain, teacher to trained model, with kills on the way; in runs/chain
	@$(BIN)/python scripts/chain.py --output $(CHAIN) $(ARGS)

bench: $(DEV) ## Time the engine against its peers and the machine: tables and plots in runs/bench
	$(BIN)/python benchmarks/compare.py --output $(BENCH)
	$(BIN)/parathinker bench --model "$$($(BIN)/python benchmarks/smollm2.py)" \
	  --output $(BENCH)/engine $(ARGS)

soak: $(DEV) ## Half an hour of random load, cancellations and failures; report in runs/soak
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES) --report $(SOAK)/report.md

page: $(PAGE_TOOLS) ## Build the page of `parathinker serve` from web/ into the package; needs node
	npm --prefix web run build

page-check: $(PAGE_TOOLS) ## Check that page: types, unit tests, and that the built files are up to date
	npm --prefix web run build -- --logLevel warn --outDir ../build/page
	npm --prefix web test
	diff -r build/page src/parathinker/serving/page

test-browser: $(DEV) ## Try the page in Chromium, as a user would
	$(BIN)/python -m pytest -m e2e tests/e2e $(ARGS)

test-clients: $(DEV) $(OPENAI_JS) ## Try OpenAI's clients, Python's and npm's, on a server; needs node
	$(BIN)/python -m pytest -k client tests/serving/test_server.py tests/e2e/test_openai_js.py $(ARGS)

loadtest: $(DEV) ## 64 streaming clients for two minutes, figures in runs/loadtest; ARGS="--clients 8"
	$(BIN)/python benchmarks/load_test.py --json $(LOADTEST)/figures.json $(ARGS)

fuzz: $(DEV) ## Requests that the OpenAPI schema allows, and others, for some minutes: no 5xx
	$(BIN)/python benchmarks/fuzz.py $(ARGS)

clean: ## Delete caches and build outputs; .venv and runs/ stay
	rm -rf build dist .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv that was left half-made has no working pip: make it anew.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "ParaThinker needs Python 3.10 or newer, and '$(PYTHON)' is not."; \
	  echo 'Name another one: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making $(VENV) with $$($(PYTHON) -V)"; \
	  $(PYTHON) -m venv --clear $(VENV); }
endef

# pip says a great deal or nothing at all; this keeps one line for each download, and its errors.
define pip_install
	@echo "Installing $(1)"
	@set -o pipefail; \
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  -c constraints.txt -e '$(2)' | while IFS= read -r line; do case "$$line" in \
	    *.metadata*) ;; \
	    *Downloading\ *) echo "  $${line#"$${line%%[! ]*}"}" ;; \
	    'Installing collected packages: '*) \
	      names=($${line#*: }); echo "  Unpacking $${#names[@]} packages" ;; \
	  esac; done
endef

$(BASE): $(BUILT_FROM)
	$(make_venv)
	$(call pip_install,ParaThinker and what it runs on: a minute or two the first time,.)
	@touch $@

$(DEV): $(BUILT_FROM)
	$(make_venv)
	$(call pip_install,ParaThinker with its training and development tools: a few minutes the first time,.[dev])
	@touch $(BASE) $@

$(PAGE_TOOLS): web/package-lock.json
	npm --prefix web ci --no-audit --no-fund

$(OPENAI_JS): tests/e2e/openai_js/package-lock.json
	npm --prefix tests/e2e/openai_js ci --no-audit --no-fund
