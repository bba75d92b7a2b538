# Commands for users and developers. Each installs what is missing first.
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE :=
# npm and node, if the host has none (scripts/setup).
export PATH := $(PATH):$(CURDIR)/.venv-node/bin

.PHONY: run ocr test test-all lint pytest bench chaos mutants docs site swarm-assets env certificate test-compose help
.DEFAULT_GOAL := help

run: ## start everything on http://127.0.0.1:8000 (Ctrl-C to stop)
	@scripts/setup --then 'Starting OCR Tasks'
	@exec .venv/bin/ocr-tasks up

ocr: ## run OCR on one document: make ocr FILE=scan.pdf [OUT=out.pdf] [ARGS="--languages deu"]
	@test -n "$(FILE)" || { echo 'usage: make ocr FILE=scan.pdf [OUT=out.pdf] [ARGS="--languages deu"]' >&2; exit 2; }
	@scripts/setup
	@.venv/bin/ocr-tasks ocr "$(FILE)" $(if $(OUT),-o "$(OUT)") $(ARGS)

test: ## lint, types, import floors, and all tests except slow ones
	@scripts/setup --dev
	@$(MAKE) --no-print-directory -j2 pytest lint

test-all: ## everything in `make test`, and the slow tests: parity with OCRmyPDF, chaos, bombs, fuzzing
	@scripts/setup --dev
	$(PY) -m pytest -n 4 --dist loadgroup --no-loadscope-reorder --durations=15 -m ''
	@$(MAKE) --no-print-directory chaos

lint:
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/typos
	.venv/bin/python -m scripts.wording

pytest:
	$(PY) -m pytest -n 4 --dist loadgroup --no-loadscope-reorder --durations=15

env: ## create .env and secrets/ for docker-compose.yml
	@scripts/make-env

certificate: ## create a certificate for Redis, for workers on other hosts: make certificate HOST=10.0.0.5
	@test -n "$(HOST)" || { echo 'usage: make certificate HOST=10.0.0.5' >&2; exit 2; }
	@scripts/make-certificate "$(HOST)"

test-compose: ## build the image and test the stack in containers (needs Docker)
	@scripts/setup --dev
	@scripts/test-compose

bench: ## run all benchmarks, also of other programs, and write bench/RESULTS.md (an hour)
	@scripts/setup --dev
	@command -v wrk >/dev/null || { echo 'wrk is missing: apt-get install wrk' >&2; exit 1; }
	scripts/install-locked --add .venv requirements/bench.txt
	$(PY) -m bench

chaos: ## kill random processes 300 times, check every job, and update docs/explanation/reliability.md
	@scripts/setup --dev
	$(PY) -m tests.chaos --kills 300 --write

mutants: ## mutation testing of a module, shows changes that no test detects: make mutants MODULE=jobs/leases [MOST=60]
	@test -n "$(MODULE)" || { echo 'usage: make mutants MODULE=jobs/leases [MOST=60] [ONLY=acquire]' >&2; exit 2; }
	@scripts/setup --dev
	$(PY) -m scripts.mutants "$(MODULE)" $(or $(MOST),60) $(ONLY)

docs: ## update the generated reference pages
	@scripts/setup --dev
	$(PY) -m scripts.reference

site: ## build the documentation website in build/site (warnings are errors)
	@scripts/setup --dev
	.venv/bin/sphinx-build -q -E -W --keep-going -b html -c docs -d build/doctrees . build/site
	@echo "file://$(CURDIR)/build/site/index.html"

swarm-assets: ## install the OCR engine for browsers at /swarm (needs npm)
	@scripts/swarm-assets

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15
