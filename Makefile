# Two commands need nothing but Python 3.11 and pip: `make demo` and `make test`.
PYTHON ?= python3.11
# Folder with the data sets of the benchmarks, which are not part of the project.
DATA ?=
# One part of the benchmarks alone: banking77, banking77-5, banking77-10, clinc150-5, clinc150-10,
# sentiment, entities, xsid, tenants, fleet, engine or protocols.
ONLY ?=
BIN := .venv/bin
# Tests of times too short to share the cores with others: after them, one by one.
ALONE := $(addprefix tests/attacks/test_,cache_timing.py grpc_connections.py registry_kill.py \
		registry_restore.py registry_restore_kill.py server_bodies.py server_connections.py \
		server_objects.py server_requests.py server_uploads.py) \
	$(addprefix tests/integration/test_,load.py replicas.py)
# Minutes of exporting models, of fuzzing, races and downloads, and a user's whole day in a network
# namespace: in `make test-deploy`.
SLOW := $(addprefix tests/integration/test_,catalog_packages.py families.py folders.py layers.py \
		nothing_leaves.py races.py sentence_transformers.py) tests/attacks/test_api_fuzz.py
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Where it is set, each of the hundreds of processes that tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-deploy attacks check bench bench-peers bench-setfit lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/'

setup: .venv/.ready ## Make .venv with everything: serving, training, demo, development

.venv/.ready: pyproject.toml constraints.txt setup.py $(wildcard service/protos/*.proto)
	@echo "Setting up .venv (once; about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Headstock needs Python 3.11; call it with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet 'pip==26.3' # resolves and unpacks in half the time of 3.11's own
	@$(BIN)/pip install --quiet --no-compile --progress-bar on -c constraints.txt \
		-e '.[train,demo,plots,dev]'
	@touch $@

demo: setup ## Two tenants on one backbone, from sample data to a hot swap, in three minutes
	@$(BIN)/headstock demo

serve: setup ## Keep a server up with the sample tenants
	@$(BIN)/headstock demo --serve

test: check ## Lint, types and all tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder \
		--ignore=tests/deploy $(addprefix --ignore=,$(ALONE) $(SLOW))
	@$(BIN)/pytest $(ALONE)

test-deploy: setup ## Minutes of exporting and fuzzing, packages of the catalogue, others' clients, nginx and HAProxy
	@nginx -v 2>/dev/null && haproxy -v >/dev/null || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends nginx-light haproxy; }
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(SLOW)
	@$(BIN)/pytest -s tests/deploy

attacks: setup ## Attack real servers in every known way; writes the table of SECURITY.md
	@mkdir -p build
	@$(BIN)/pytest tests/attacks -o junit_family=xunit1 --junitxml=build/attacks.xml; status=$$?; \
		$(BIN)/python -m tools.attacks build/attacks.xml && exit $$status

check: setup ## Lint and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2

bench: setup ## Measure what the README states; make bench DATA=FOLDER [ONLY=PART], banking77/tidy.csv in it
	@$(BIN)/python -m benchmarks $(DATA) $(if $(ONLY),--only $(ONLY))

bench-peers: setup ## Measure what a user would run instead, each in an environment of its own
	@$(BIN)/python -m benchmarks.peers $(PEERS)

bench-setfit: setup ## Train SetFit beside headstock train, half an hour; make bench-setfit DATA=FOLDER
	@$(BIN)/python -m benchmarks.peers.setfit $(DATA) $(if $(MINUTES),--setfit-minutes $(MINUTES))

lock: ## Resolve all versions anew into constraints.txt and requirements-serving.txt
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade -e '.[train,demo,plots,dev]'
	@$(BIN)/python -m tools.lock

clean: ## Remove the environment and all local state
	@rm -rf .venv .headstock build *.egg-info service/protos/*_pb2.py service/protos/*_pb2.pyi
