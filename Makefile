# The only front door. Every target works as the first command on a machine that has Python 3.11 or newer and make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
export PYTHON
export UV_PYTHON_DOWNLOADS := never
# The suite starts hundreds of interpreters: none should compile what another one has compiled.
unexport PYTHONDONTWRITEBYTECODE

UV := .tools/bootstrap/bin/uv
BIN := .venv/bin
TRAFFIC ?= ../shared/traffic
TESTS ?= tests

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: env ## the main job in two minutes: a metered application, its spend, and an alert that fires (KEEP=1 leaves it up)
	@$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

.PHONY: test
test: env ## the whole suite with lint, types and import contracts; ends with what was skipped and why
	@$(BIN)/python -m examples.tools || echo "Tests that need the tools above are skipped."
	@$(BIN)/python -m pytest -n 2 --dist loadfile -rs $(TESTS)

.PHONY: test-312
test-312: .tools/envs/py312/.ready ## the suite on Python 3.12
	@.tools/envs/py312/bin/python -m pytest -n 2 --dist loadfile -rs $(TESTS)

.PHONY: lint
lint: env ## ruff, pyright and the import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/lint-imports

.PHONY: format
format: env ## ruff, repairing
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: traffic
traffic: env ## recorded traffic through the real clients, plugin on and off (TRAFFIC=directory or file)
	@$(BIN)/python -m tests.traffic $(TRAFFIC)

.PHONY: estimates
estimates: env ## error of the token estimates on held-back recorded calls, by provider
	@$(BIN)/python -m pytest -n 0 -rs -k held_back tests/test_estimator.py

.PHONY: caches
caches: env ## caches of LangChain (oldest and newest) and litellm, on and off
	@$(BIN)/python -m pytest -m "slow or not slow" -rs tests/test_caches.py

.PHONY: bench
bench: env ## cost of metering as ratios in one run; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

.PHONY: forecasts
forecasts: env ## what forecasts of budgets are worth, over synthetic families; writes benchmarks/FORECASTS.md
	@$(BIN)/python -m benchmarks.forecasts --write

.PHONY: false-pages
false-pages: env tools ## alerts in 90 simulated days of four ordinary workloads, time to detect; writes benchmarks/PAGES.md (20 min CPU)
	@nice -n 15 $(BIN)/python -m benchmarks.pages --write

.PHONY: matrix
matrix: env ## every way to call, on every supported version in turn; writes docs/compatibility.md (FAMILY=… runs some)
	@$(BIN)/python -m tests.matrix --every --write $(FAMILY)

.PHONY: newest
newest: env ## weekly: the caller matrix on the newest version of every client library there is today
	@$(BIN)/python -m tests.matrix --newest

.PHONY: interop
interop: env ## other instrumentations beside ours: one span, one event, one charge
	@$(BIN)/python -m pytest -m "slow or not slow" -rs -s tests/test_interop.py tests/test_interop_tree.py tests/test_bedrock_interop.py tests/test_google_interop.py tests/test_rest_interop.py

.PHONY: producers
producers: env ## every other producer of usage: its real package into the exporter, alone and all at once, also on recorded traffic
	@$(BIN)/python -m pytest -n 0 -m "slow or not slow" -rs tests/test_producers.py tests/test_producers_recorded.py tests/test_quarantine.py

.PHONY: frameworks
frameworks: env ## LangChain, LlamaIndex, OpenAI Agents, Pydantic AI, CrewAI, MCP: oldest and newest, what they tell of a call
	@$(BIN)/python -m pytest -m "slow or not slow" -rs -s tests/test_frameworks.py

.PHONY: concurrency
concurrency: env ## forked workers, a queue, 200 streams, threads: the ledger is what was served, to the token
	@$(BIN)/python -m pytest -m slow -rs -s tests/test_concurrency.py

.PHONY: chaos
chaos: env ## every function of ours made to raise in turn, over every kind of recorded call
	@$(BIN)/python -m pytest -m slow -rs -s tests/test_chaos.py

.PHONY: two-services
two-services: env ## a web front names the tenant, the worker behind it is charged: no LLM code in either
	@$(BIN)/python -m examples.two_services --python "$$(cd tests && ../$(BIN)/python -m environments)"

.PHONY: drill
drill: env ## kill -9 of exporters (and of their database) and of applications under load, a hundred times on each store
	@$(BIN)/python -m pytest -m slow -rs -s tests/test_crash.py tests/test_several_exporters.py tests/test_clickhouse.py tests/test_spool_crash.py

.PHONY: outage
outage: env ## the exporter ten minutes away at 200 calls a second, and full disks: what is lost, what a call waits
	@$(BIN)/python -m pytest -m "slow or not slow" -rs -s tests/test_spool_outage.py

.PHONY: collector
collector: .tools/collector/otelcol ## build the OpenTelemetry Collector that the examples need (needs Go 1.26)

.PHONY: collector-drill
collector-drill: env collector ## exporters and collectors killed under load, queues on disk between them; one exporter, then two on ClickHouse
	@$(BIN)/python -m pytest -n 0 -m "slow or not slow" -rs -s tests/test_collector.py tests/test_collector_balancing.py

.PHONY: deploy-check
deploy-check: env ## examples/deploy: Kubernetes objects by the schemas, the steps of the image, the unit (needs Go for two schemas)
	@$(BIN)/python -m pytest -n 0 -m "slow or not slow" -rs tests/test_deploy.py

.PHONY: e2e
e2e: env tools ## every class of alert on real Prometheus and Alertmanager with 35 days of history, received and read
	@nice -n 10 $(BIN)/python -m pytest -m slow -rs -s tests/test_e2e.py

.PHONY: fuzz
fuzz: env ## more than a million payloads that nobody should send (FUZZ_RUNS=… of them guided by coverage)
	@$(BIN)/python -m pytest -n 0 -m slow -rs -s tests/test_fuzz.py

.PHONY: stores
stores: env ## every store: its tests; ingest, size, month report beside the bare engine; writes benchmarks/STORES.md (EVENTS=… STORE=…)
	@$(BIN)/python -m pytest -m "slow or not slow" -k "not hundred" -rs tests/test_store*.py tests/test_reprice.py tests/test_clickhouse.py
	@$(BIN)/python -m benchmarks.stores $(if $(EVENTS),--events $(EVENTS)) $(if $(STORE),--store $(STORE))

.PHONY: dashboards
dashboards: env ## build the dashboards' JSON
	@$(BIN)/python -m dashboards

.PHONY: dashboards-types
dashboards-types: env ## the dashboards' JSON against Grafana's own types, of three major versions (needs node)
	@$(BIN)/python -m pytest -m slow -rs tests/test_dashboard_types.py

.PHONY: pictures
pictures: env ## the dashboards drawn by Grafana's own components in Chromium; writes docs/images (needs node)
	@WRITE_PICTURES=1 $(BIN)/python -m pytest -m slow -rs tests/test_dashboard_pictures.py

.PHONY: rules
rules: env tools ## check the alert rules and run their unit tests
	@$(BIN)/python -m pytest -m "slow or not slow" -rs tests/test_rules.py

.PHONY: prices
prices: env ## compile the price book anew from genai-prices and the facts
	@$(BIN)/python -m genai_meter_exporter.prices

.PHONY: tools
tools: env ## fetch what Debian packages (Prometheus, promtool, Alertmanager) into .tools
	@$(BIN)/python -m examples.tools

.PHONY: env
env: .venv/.ready ## the environment: a virtualenv with every extra, from the lock file

.PHONY: clean
clean: ## remove everything that make made
	@rm -rf .venv .tools dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): .ci/bootstrap .ci/find-python
	@.ci/bootstrap

.venv/.ready: $(UV) pyproject.toml uv.lock
	@$(UV) sync --quiet --frozen --all-extras --python "$$(.ci/find-python)"
	@touch $@

.tools/collector/otelcol: examples/collector/builder.yaml
	@go run go.opentelemetry.io/collector/cmd/builder@v0.161.0 --config $<
	@touch $@

.tools/envs/py312/.ready: $(UV) pyproject.toml uv.lock
	@UV_PROJECT_ENVIRONMENT=.tools/envs/py312 $(UV) sync --quiet --frozen --all-extras --python "$$(.ci/find-python 3.12)"
	@touch $@
