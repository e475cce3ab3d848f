# The commands of the project; `make help` lists them. Everything is installed into .venv, nothing outside of it, but for
# what only the tests drive: AsyncAPI's parser, in tests/asyncapi, and the programs that `make test` fetches from Debian
# where it runs as root.

# The first Python of 3.11 or newer that can make virtual environments; `make PYTHON=/path/to/python` takes another.
PYTHON ?= $(shell .ci/python)
VENV ?= .venv
SECONDS ?=
MINUTES ?=

# What is installed is named by its content: a new checkout with the same two files installs nothing again.
pins := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
runtime := $(VENV)/.zeroloop-runtime-$(pins)
dev := $(VENV)/.zeroloop-dev-$(pins)
bin := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test chaos soak-live test-pythons tools bench fuzz soak lint format schema constraints clean docs reference screenshots mutants release audit floods

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(bin)/python:
	@test -n "$(PYTHON)" || { echo "No Python of 3.11 or newer with venv found: install python3 and python3-venv, or give PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(runtime): | $(bin)/python
	$(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dashboard,simulation]'
	@rm -f $(VENV)/.zeroloop-*
	@touch $@

$(dev): | $(bin)/python
	$(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.zeroloop-*
	@touch $@ $(runtime)

demo: $(runtime) ## a whole hall on this computer; SECONDS=120 ends it by itself
	@$(bin)/zeroloop demo $(if $(SECONDS),--seconds $(SECONDS))

tools: ## the programs that the tests drive: as root from Debian, else what is missing
	@.ci/tools

test: $(dev) tools ## the tests, on this Python; what takes long is left to make chaos
	$(bin)/python -m pytest --numprocesses 6 --dist worksteal $(ARGS)

chaos: $(dev) tools ## every outage with the product's defaults, and all who break the contract; writes docs/faults.md
	$(bin)/python -m tests.chaos $(ARGS)

soak-live: $(dev) tools ## a thousand channels on a real broker; MINUTES=60
	$(bin)/python -m tests.chaos.soak --minutes $(or $(MINUTES),60)

screenshots: $(dev) tools ## the documents' pictures of the page, taken in a browser of the demo; a quarter of an hour
	$(bin)/python -m pytest -q tests/page/test_pictures.py --pictures

test-pythons: ## the unit tests on every other Python of 3.11 or newer that is found
	@.ci/test-pythons

bench: $(dev) tools ## the benchmarks, as a table; ARGS=--full runs the halls in virtual time whole, for hours
	$(bin)/python -m tests.benchmarks $(ARGS)

fuzz: $(dev) ## hostile bytes for every parser; MINUTES=5 says for how long
	@$(bin)/python -c "import atheris" 2>/dev/null || $(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(bin)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

soak: $(dev) ## random halls, servers and brokers under random faults, looking for what may never happen; MINUTES=60
	$(bin)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

floods: $(dev) tools ## rogue clients at full speed beside a loop, as a table; root
	$(bin)/python -m tests.floods $(STEPS)

lint: $(dev) ## ruff, mypy and the layers
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports

format: $(dev) ## what ruff can mend by itself
	$(bin)/ruff check --fix-only .
	$(bin)/ruff format .

mutants: $(dev) ## small changes to the code that power depends on: do the tests notice?
	@$(bin)/mutmut --version >/dev/null 2>&1 || $(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	$(bin)/python -m tests.mutants

release: ## wheel, source archive, SBOM with licences and checksums, in dist/
	@.ci/release

audit: ## the pinned releases against the known vulnerabilities
	@.ci/audit

schema: $(dev) ## JSON Schemas, AsyncAPI document and manual page, made again from models and commands
	$(bin)/zeroloop schema
	$(bin)/zeroloop schema --asyncapi
	$(bin)/zeroloop schema --asyncapi --out docs/reference/asyncapi.html
	$(bin)/zeroloop man --out docs/reference/zeroloop.1

reference: $(dev) ## docs/reference, made again from the code
	$(bin)/python docs/reference/make_reference.py

docs: $(dev) ## the documents as a site, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --quiet

constraints: $(dev) ## constraints.txt, made again from what is installed
	$(bin)/python .ci/constraints.py > constraints.new
	mv constraints.new constraints.txt

clean: ## everything that was made here, .venv included
	rm -rf $(VENV) .venv-3.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist site mutants tests/asyncapi/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
