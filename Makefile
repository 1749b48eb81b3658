# Every target sets itself up on a machine with Python 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPOSITORY ?= examples/models
SERVE_ARGS ?=

.PHONY: run test check bench conformance conformance-record descriptors docs clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make run     start the server on $(REPOSITORY)   (more options: SERVE_ARGS='--http-port 9000')"
	@echo "make test    run the tests"
	@echo "make check   formatting, lint, types, import layers, freshness of generated files"
	@echo "make bench   compare with a real Triton (downloads it once)"

$(VENV)/.run: setup.cfg setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.bench: $(VENV)/.run
	$(BIN)/pip install -q --disable-pip-version-check -e '.[bench]'
	touch $@

run: $(VENV)/.run
	$(BIN)/tensorhub serve --model-repository $(REPOSITORY) $(SERVE_ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/python -m tools.check

descriptors: $(VENV)/.test
	$(BIN)/python -m tools.compile_protos

docs: $(VENV)/.test
	$(BIN)/python -m tools.option_docs
	$(BIN)/python -m tools.protocol_docs

bench: $(VENV)/.bench
	$(BIN)/python -m tools.bench $(BENCH_ARGS)

conformance: $(VENV)/.test
	$(BIN)/python -m pytest tests/conformance

conformance-record: $(VENV)/.test
	$(BIN)/python -m tests.conformance.record

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
