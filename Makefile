# Two commands: `make demo` makes a market on the built-in exchange, `make test` runs every test.
# Both set .venv up first, from the hash-pinned lock; `make setup` does only that.
# Only make and Python 3.11 or newer are assumed; another interpreter: make setup PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
LOCK := requirements-dev.lock
STAMP := $(VENV)/.stamp

.PHONY: setup demo test check bench

setup: $(STAMP)
	@:

demo: $(STAMP)
	@$(VENV)/bin/python -m bot demo $(ARGS)

test: $(STAMP)
	@$(VENV)/bin/python -m pytest $(ARGS)

check: $(STAMP)
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/hadolint Dockerfile
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	@$(VENV)/bin/python -m pytest tests/test_tidy.py

bench: $(STAMP)
	@$(VENV)/bin/python tests/bench.py $(ARGS)

# uv comes first, by the hash that the lock states; it then installs the rest.
$(STAMP): $(LOCK) pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not there; name one with: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit((v < (3, 11) or v > (3, 14)) and "Python 3.11 to 3.14 is needed and $(PYTHON) is %d.%d; name another with: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" % v)'
	@echo "Setting up $(VENV), once ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@awk '/^[^ ]/ { wanted = /^uv==/ } wanted' $(LOCK) | $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r /dev/stdin
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r $(LOCK)
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@echo "Compiling the kernels, once ..." >&2
	@$(VENV)/bin/python -m bot.modes.warmup >&2
	@touch $@
