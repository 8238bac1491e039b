# Works with GNU make and any POSIX sh. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Warnings of pip about its indexes are not ours; its errors are shown. The package itself needs no network.
PIP := $(RUN) -m pip install -qq --disable-pip-version-check --no-input
WORKERS ?= 2
QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help demo test smoke nightly mutants parity bench tables figures book lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed-test ## install into .venv and train a small language model (QUICK=1: only its mechanics)
	$(RUN) -m walkthroughs language/gpt $(if $(QUICK),--quick)

test: $(VENV)/installed-test ## install into .venv and run the whole suite
	$(RUN) -m pytest -n $(WORKERS)

smoke: $(VENV)/installed-test ## the tests that take less than ten seconds
	$(RUN) -m pytest tests/test_smoke.py tests/test_layers.py

nightly: $(VENV)/installed-test ## the whole suite with ten times more drawn examples, each night others
	HYPOTHESIS_PROFILE=nightly $(RUN) -m pytest -n $(WORKERS)

mutants: $(VENV)/installed-test ## break the code in some 14,800 ways, one at a time, and see that a test fails (some minutes)
	$(RUN) -m tests.mutation

parity: $(VENV)/installed-parity ## install PyTorch, JAX, transformers and diffusers into .venv and compare with them
	$(RUN) -m pytest tests/parity

bench: $(VENV)/installed-bench ## install the peers into .venv and measure against them; writes docs/performance.md (some minutes, in quiet)
	$(RUN) -m benchmarks $(if $(QUICK),--quick)

tables: $(VENV)/installed-test ## write docs/ops.md and docs/limits.md anew
	$(RUN) -m tests.tables

figures: $(VENV)/installed-test ## measure the numbers of docs/verification.md (some minutes)
	$(RUN) -m tests.figures

book: $(VENV)/installed-docs ## build the site in site/: every walkthrough in full, once, then its pages (20 minutes; QUICK=1: a few steps of each)
	$(RUN) -m book $(if $(QUICK),--quick)

lint: $(VENV)/installed-dev ## style, formatting, types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(VENV)/installed-dev ## sort the imports and format the code
	$(RUN) -m ruff check --select I --fix .
	$(RUN) -m ruff format .

clean: ## remove what these targets made
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says that its extras are installed; a change of pyproject.toml installs them again.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON) is missing or older than Python 3.11; name another one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed-test: EXTRAS := test,walkthroughs,fast
$(VENV)/installed-parity: EXTRAS := test,walkthroughs,fast,parity
$(VENV)/installed-bench: EXTRAS := bench
$(VENV)/installed-docs: EXTRAS := docs
$(VENV)/installed-dev: EXTRAS := dev
$(VENV)/installed-%: $(VENV)/created pyproject.toml
	@echo "installing tinygrad_notes[$(EXTRAS)] into $(VENV)"
	@$(PIP) -e ".[$(EXTRAS)]"
	@touch $@
