# make run    starts a development server, on a machine with nothing but python3, pip, node, make, apt
# make test   installs what the tests need, and runs them all
# make help   lists the rest

PYTHON ?= python3
VENV ?= .venv
# test processes side by side
JOBS ?= 2

bin := $(VENV)/bin
trial := $(bin)/python -m twisted.trial
clients := tests/clients/node_modules/.installed
peers := benchmarks/peers/node_modules/.installed
# in compat mode only does an editable install let twistd find the plugin
install := $(bin)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat

dotted = $(subst /,.,$(patsubst %.py,%,$(patsubst %/__init__.py,%,$(1))))
packages := $(call dotted,$(wildcard tests/*/__init__.py))
unit := $(call dotted,$(wildcard tests/test_*.py)) \
	$(filter-out tests.clients tests.faults tests.attacks tests.load,$(packages))
integration := tests.ingress $(call dotted,$(wildcard tests/clients/test_http*.py tests/clients/test_publish*.py))
websocket := tests.wire tests.transport tests.conformance tests.clients
load := tests.load
connection := tests.faults tests.attacks $(call dotted,$(wildcard tests/clients/test_recover*.py))
# the rows of the fault plan take long: `make test` runs those that tests/faults/test_rows.py names
faults := $(call dotted,$(wildcard tests/faults/rows_*.py)) \
	$(filter-out tests.faults.test_rows,$(call dotted,$(wildcard tests/faults/test_*.py))) \
	tests.attacks tests.broker.test_relay_chaos $(call dotted,$(wildcard tests/clients/test_recover*.py)) \
	tests.clients.test_http_described
# short or full
FAULTS ?= short

.PHONY: help run test test-unit test-integration test-websocket test-load test-connection
.PHONY: bench bench-self bench-observed bench-offered coverage faults fuzz audit lint style types docs pictures
.PHONY: soak proto clean

help:
	@echo 'run               start a development server, print its address and a token'
	@echo 'test              install what the tests need, run them all'
	@echo 'test-unit         all but the tests with real clients, faults and load'
	@echo 'test-integration  what other services call'
	@echo 'test-websocket    protocols and transports, with real clients'
	@echo 'test-load         many connections'
	@echo 'test-connection   cuts, recovery, faults'
	@echo 'bench             the service beside its peers, measured; CELLS=growth: how costs grow'
	@echo 'bench-self        the working tree beside another commit (COMMIT=…)'
	@echo 'bench-observed    what /metrics and a console cost that look at the service'
	@echo 'bench-offered     5,000 publications a second by another service, over HTTP and gRPC'
	@echo 'soak              memory over 100,000 connections and ten minutes of traffic'
	@echo 'faults            all rows of the fault plan; at length with FAULTS=full (hours), a part with ROWS=…'
	@echo 'fuzz              every decoder, guided by coverage, SECONDS (300) each; keeps the corpus'
	@echo 'audit             known vulnerabilities of the packages that are installed'
	@echo 'coverage          lines and branches that the unit tests reach'
	@echo 'lint types        ruff; mypy'
	@echo 'style             let ruff rewrite what it can'
	@echo 'docs              write docs/settings.rst anew'
	@echo 'pictures          take docs/pictures anew; look at them'
	@echo 'proto             write realtime/v1 anew, from proto/'
	@echo 'clean             remove what was installed and made here'

run: $(VENV)/.run
	$(bin)/twistd --nodaemon --pidfile= realtime

test: $(VENV)/.test $(clients) tools
	$(trial) -j$(JOBS) tests

test-unit: $(VENV)/.test tools
	$(trial) -j$(JOBS) $(unit)

test-integration: $(VENV)/.test $(clients) tools
	$(trial) -j$(JOBS) $(integration)

test-websocket: $(VENV)/.test $(clients) tools
	$(trial) -j$(JOBS) $(websocket)

test-load: $(VENV)/.test $(clients) tools
	$(trial) $(load)

test-connection: $(VENV)/.test $(clients) tools
	$(trial) -j$(JOBS) $(connection)

# CELLS: others than the usual ones, such as growth
bench: $(VENV)/.test $(VENV)/.bench $(peers) tools
	$(bin)/python -m benchmarks.run --repetitions 5 $(CELLS)

# clients that come and go, 100,000 times, and ten minutes of mixed traffic: is memory kept?
soak: $(VENV)/.test tools
	$(bin)/python -m benchmarks.soak

# the working tree beside another commit: COMMIT=…
bench-self: $(VENV)/.test tools
	$(bin)/python -m benchmarks.run --repetitions 5 --against $(or $(COMMIT),HEAD~1)

bench-observed: $(VENV)/.test
	$(bin)/python -m benchmarks.observed

# publications offered over HTTP and gRPC: OFFER='http --rate 2000 --redis --receipts'
bench-offered: $(VENV)/.test tools
	$(bin)/python -m benchmarks.offered $(OFFER)

# all rows of the fault plan: ROWS=tests.faults.rows_available for some of them; the dice are FAULTS_SEED
faults: $(VENV)/.test $(clients) tools
	FAULTS=$(FAULTS) $(if $(filter full,$(FAULTS)),RUBBISH=10000 FLOOD=20) $(trial) $(or $(ROWS),$(faults))

SECONDS ?= 300
DECODERS ?= engine socketio plain wamp request api payloads tokens texts redis port frames grpc

fuzz: $(VENV)/.test $(VENV)/.fuzz
	for decoder in $(DECODERS); do $(bin)/python -m tests.fuzz $$decoder $(SECONDS) || exit 1; done

# fails by what is needed to run, and says what is known of what only the tests need
audit: $(VENV)/.audit
	$(bin)/python -m tests.audit

coverage: $(VENV)/.test tools
	$(bin)/coverage run --branch --source realtime -m twisted.trial $(unit)
	$(bin)/coverage report --show-missing --skip-covered

lint: $(VENV)/.test
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types: $(VENV)/.test
	$(bin)/mypy

style: $(VENV)/.test
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

docs: $(VENV)/.run
	$(bin)/realtime settings --rst > docs/settings.rst

pictures: $(VENV)/.test $(clients) tools
	$(trial) tests.clients.pictures

# the code of proto/, which is kept beside it
proto: $(VENV)/.test
	$(bin)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. proto/realtime/v1/*.proto

clean:
	rm -rf $(VENV) tests/clients/node_modules benchmarks/peers/node_modules build dist *.egg-info _trial_temp* .coverage .hypothesis
	rm -rf .mypy_cache .ruff_cache twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@.ci/need 'command -v $(PYTHON)' python3
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	@.ci/need '$(PYTHON) -c "import venv, ensurepip"' python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/pip setup.cfg setup.py pyproject.toml realtime/native/send_loop.c
	$(install) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(install) --editable '.[test,dev]'
	@touch $@

$(VENV)/.fuzz $(VENV)/.audit $(VENV)/.bench: $(VENV)/.%: $(VENV)/.run
	$(install) --editable '.[$*]'
	@touch $@

.PHONY: tools
tools:
	@.ci/need 'command -v redis-server' redis-server
	@.ci/need 'command -v chromium' chromium
	@.ci/need 'command -v cc' gcc libc6-dev
	@.ci/need 'command -v promtool' prometheus
	@.ci/need 'command -v haproxy' haproxy

%/node_modules/.installed: %/package.json
	@.ci/need 'command -v node' nodejs
	@.ci/need 'command -v npm' npm
	cd $* && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
