PYTHON ?= .venv/bin/python

.PHONY: check test bench

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n auto

bench:
	$(PYTHON) -m pytest bench
