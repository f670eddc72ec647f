# Every target makes what it needs, from python3 alone; `make` lists them.

PYTHON ?= python3
BOOTSTRAP = $(PYTHON) tools/bootstrap.py
# `exec`: the command takes make's own child process, so that Ctrl-C and signals reach it and nothing in between.
RUNTIME = exec $(BOOTSTRAP) runtime --
DEV = exec $(BOOTSTRAP) dev --
MUTATION = exec $(BOOTSTRAP) mutation --
BENCH = exec $(BOOTSTRAP) bench --
LOCK = uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint types imports check services mutation bench bench-outage bench-endpoint bench-sagas bench-report lock wheel clean

help:
	@echo 'make demo       the coffee shop, on this machine; ARGS="..." goes to redrive demo'
	@echo 'make test       the quick tests; ARGS="..." goes to pytest'
	@echo 'make test-long  all tests, the long ones too'
	@echo 'make lint       style: ruff'
	@echo 'make types      types: mypy'
	@echo 'make imports    floors: import-linter'
	@echo 'make check      all of the above but the long tests'
	@echo 'make mutation   what the tests of the engine would not notice; over half an hour on two cores'
	@echo 'make services   a PostgreSQL on a free port until Ctrl-C; prints its address'
	@echo 'make bench      speed, beside others; ARGS="..." goes to benchmarks/run.py'
	@echo 'make bench-outage  what an outage costs, beside others; ARGS=--short shows that it runs'
	@echo 'make bench-endpoint  speed of the SQS endpoint, beside others; ARGS=--short shows that it runs'
	@echo 'make bench-sagas  speed of sagas, beside DBOS; ARGS=--short shows that it runs'
	@echo 'make bench-report  write what both kept into docs/'
	@echo 'make lock       pin what pyproject.toml asks for; ARGS=--upgrade takes the newest'
	@echo 'make wheel      the package, in dist/'
	@echo 'make clean      remove all that make has made'

demo:
	@$(RUNTIME) redrive demo $(ARGS)

test:
	@$(BOOTSTRAP) programs
	@$(DEV) pytest -n 2 --dist loadfile $(ARGS)

test-long:
	@$(BOOTSTRAP) programs
	@$(DEV) pytest -m "" --timeout 600 $(ARGS)

lint:
	@$(BOOTSTRAP) dev -- ruff check
	@$(DEV) ruff format --check

types:
	@$(DEV) mypy

imports:
	@$(DEV) lint-imports

check: lint types imports test

services:
	@$(BOOTSTRAP) programs
	@$(DEV) python -m tools.services

mutation:
	@$(BOOTSTRAP) mutation -- python -m tools.mutation.statements $(ARGS)
	@$(MUTATION) python -m tools.mutation.modules

bench:
	@$(BENCH) python benchmarks/run.py --json build/bench/bench.json $(ARGS)

bench-outage:
	@$(BOOTSTRAP) bench -- python benchmarks/outage.py --json build/bench/outage.json $(ARGS)
	@$(BENCH) python benchmarks/policies.py --json build/bench/policies.json $(ARGS)

bench-endpoint:
	@$(BENCH) python benchmarks/endpoint.py --json build/bench/endpoint.json $(ARGS)

bench-sagas:
	@$(BENCH) python benchmarks/sagas.py --json build/bench/sagas.json $(ARGS)

bench-report:
	@$(BENCH) python benchmarks/report.py $(wildcard $(addprefix build/bench/,bench.json outage.json policies.json endpoint.json sagas.json))

# The others are held to the versions of dev, so that one .venv serves them all.
lock:
	@$(BOOTSTRAP) dev -- $(LOCK) --group dev --output-file locks/dev.txt
	@$(BOOTSTRAP) dev -- $(LOCK) --group mutation --constraint locks/dev.txt --output-file locks/mutation.txt
	@$(BOOTSTRAP) dev -- $(LOCK) --group build --constraint locks/dev.txt --output-file locks/runtime.txt
	@$(BOOTSTRAP) dev -- $(LOCK) --group build --group bench --constraint locks/dev.txt --output-file locks/bench.txt
	@if grep -n '://' locks/*.txt; then echo 'a lock file names a host'; exit 1; fi

wheel:
	@rm -rf dist
	@$(DEV) hatchling build --target wheel

clean:
	rm -rf .venv dist build mutants .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
