# The only front door. `make demo` and `make test` each work as the first command on a bare machine.
SHELL := /bin/bash
PYTHON ?= python3
UV := .tools/bootstrap/bin/uv
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never

.PHONY: env
env: .venv/.ready  ## the environment: a virtualenv with every extra, from the lock file

.tools/bootstrap/bin/uv:
	$(PYTHON) -m venv .tools/bootstrap
	.tools/bootstrap/bin/pip install --quiet uv==0.13.9

.venv/.ready: .tools/bootstrap/bin/uv pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --all-extras --python $(PYTHON)
	touch $@
