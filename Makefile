# Every target does all its own set-up; the first one to run makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS := $(VENV)/.runs

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak kill kernels conformance explore docs system-packages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.DELETE_ON_ERROR:

$(VENV)/bin/python:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(INSTALLED): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group test --group lint --group docs
	@touch $(RUNS) $@

# What the demo needs and no more: no linters, no tests, no documentation.
$(RUNS): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[html]'
	@touch $@

system-packages: ## what some tests run: redis, sqlite3, Chromium, a C compiler (Debian, as root; else says what is missing)
	@scripts/system-packages

demo: $(RUNS) ## record a real, unmodified program and show where its memory was written
	@$(BIN)/python scripts/demo.py

test: $(INSTALLED) system-packages ## the whole test suite
	$(BIN)/python -m pytest -q

lint: $(INSTALLED) ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## measure against floors in C, in the same run; figures in build/bench.json
	$(BIN)/python bench/run.py

soak: $(INSTALLED) ## writers against collects for minutes: SECONDS_=180
	$(BIN)/python soak/soak.py --seconds $(or $(SECONDS_),180)

kill: $(INSTALLED) ## 200 trackers killed at random moments: no target is harmed
	PAGEWATCH_KILL_ROUNDS=200 $(BIN)/python -m pytest -q tests/live/test_tracker_killed.py tests/live/test_attach_killed.py

kernels: $(INSTALLED) ## the tests inside other kernels, under emulation (as root on Debian; downloads are cached)
	@scripts/system-packages kernels
	$(BIN)/python kernels/run.py

conformance: $(INSTALLED) ## random histories on this kernel and on the model, compared: SEQUENCES=20000
	PYTHONPATH=tests $(BIN)/python -m conformance.run --sequences $(or $(SEQUENCES),20000)

explore: $(INSTALLED) ## every trace of a collect that two faulting writers race with, on the model: minutes
	$(BIN)/python -m pytest -q -m every_trace tests/unit/model

docs: $(INSTALLED) ## the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove what the targets made
	rm -rf build $(VENV)
