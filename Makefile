# make run · make test · make stop — everything else is a part of these.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CTXFS := $(BIN)/ctxfs --store .ctxfs
MOUNT := context
APT_RUN := fuse3 libfuse3-dev pkg-config gcc g++ git
APT_TEST := ripgrep vim attr acl libcap2-bin bubblewrap postgresql libfaketime
APT_PROGRAMS := stress-ng fio
APT_BROWSER := chromium
CRASH_ROUNDS ?= 200
VERSIONS_ROUNDS ?= $(CRASH_ROUNDS)
RACE_ROUNDS ?= 40
TEST_WORKERS ?= 2
FUZZ_SECONDS ?= 20
SHARED_SECONDS ?= 70
SHARED_ROUNDS ?= 300
SHARED_SEED ?= 1
AFS_SUITE ?=
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help run stop test test-long test-crash test-shared test-fuzz test-budget test-leaks test-mcp test-programs test-web test-wheel test-frameworks test-afs release image lint bench soak system system-test system-programs system-browser model pictures clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

run: system $(VENV)/.ready model ## Install what is missing, make a store, mount it at ./context
	@$(CTXFS) init
	@$(CTXFS) add docs --name ctxfs-docs
	@$(CTXFS) add "$$($(BIN)/python -c 'import os, sysconfig; print(os.path.realpath(sysconfig.get_path("stdlib")))')" \
	    --name python --exclude test --exclude tests --exclude site-packages --exclude dist-packages \
	    --exclude idlelib --exclude lib2to3
	@mountpoint -q $(MOUNT) && ls $(MOUNT) >/dev/null 2>&1 || $(CTXFS) mount $(MOUNT)
	@$(CTXFS) status --wait words >/dev/null
	@echo
	@sleep 3 # until the first chunks have shown how fast this machine embeds
	@echo "Mounted at ./$(MOUNT). Words are searchable; meaning follows ($(CTXFS) status --wait meaning):"
	@$(CTXFS) status | grep '^meaning'
	@echo "Five commands to try:"
	@echo
	@echo "  ls $(MOUNT)/knowledge"
	@echo "  ls '$(MOUNT)/search/what does ctxfs index'"
	@echo "  cat '$(MOUNT)/search/create a temporary file safely/01'*"
	@echo "  cat '$(MOUNT)/knowledge/python/.search/retry with a timeout/context@500.md'"
	@echo "  $(CTXFS) context 'parse command line arguments' --budget 1000"
	@echo
	@echo "make stop unmounts. To have ctxfs on the path in this shell:"
	@echo
	@echo "  export PATH=\"$(CURDIR)/$(BIN):\$$PATH\""

stop: ## Unmount ./context and end the daemon
	@if [ -x $(BIN)/ctxfs ] && [ -f .ctxfs/ctxfs.toml ]; then $(CTXFS) unmount --all; else echo "nothing is mounted"; fi

test: system system-test $(VENV)/.ready model ## Lint, types, layers, and the tests that are quick (seven minutes)
	@$(BIN)/python -m compileall -q ctxfs mounts mcp_server tools # once, not in each of a thousand processes
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test-long: system system-test $(VENV)/.ready model ## The tests that take longer: lives of mounts and daemons, tools, MCP clients (six minutes)
	@$(BIN)/python -m compileall -q ctxfs mounts mcp_server tools
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m long --ignore=tests/crash --ignore=tests/trust --ignore=tests/spec

test-crash: system system-test $(VENV)/.ready ## Kill, cut the power and kill again: 200 rounds (20 minutes)
	CTXFS_CRASH_ROUNDS=$(CRASH_ROUNDS) CTXFS_VERSIONS_ROUNDS=$(VERSIONS_ROUNDS) CTXFS_RACE_ROUNDS=$(RACE_ROUNDS) \
	    CTXFS_ACCEPT_ROUNDS=$(VERSIONS_ROUNDS) \
	    $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile \
	    $(addprefix tests/crash/test_,$(addsuffix .py,kill_accept kill_mount kill_versions kill_while_indexing race_versions))
	CTXFS_CRASH_ROUNDS=$(shell expr $(CRASH_ROUNDS) / 8) $(BIN)/python -m pytest tests/crash/test_power_cut.py

# A fault prints the arguments that replay it. The full run: make test-shared SHARED_ROUNDS=1000 SHARED_SECONDS=3600
test-shared: system system-test $(VENV)/.ready ## Random operations with faults on 2 to 4 nodes of a shared store (three minutes)
	$(BIN)/python -m tests.shared.checking --runs 1000 --seed $(SHARED_SEED) --rounds $(SHARED_ROUNDS) --seconds $(SHARED_SECONDS)
	$(BIN)/python -m tests.shared.checking --runs 1000 --seed $(SHARED_SEED) --rounds $(SHARED_ROUNDS) --seconds $(SHARED_SECONDS) --engine postgres

test-programs: system system-programs $(VENV)/.ready ## stress-ng, fio, git, SQLite, a compiler and pip inside a mount; handlers fuzzed (4 minutes)
	$(BIN)/python -m pytest -c pyproject.toml -o addopts="-q --strict-markers --strict-config" tests/programs
	CTXFS_REQUESTS=100000 $(BIN)/python -m pytest tests/posix/test_requests.py

test-fuzz: system system-test $(VENV)/.ready ## Frames, HTTP, formats, side-cars, requests, policies and .gitignore, damaged at random (two minutes)
	CTXFS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile \
	    $(addprefix tests/trust/test_,$(addsuffix .py,frames gitignore hostile_files hostile_remotes network_neighbours settings_and_queries))

# Counting is checked by tokenizers that others publish: the files of cl100k, o200k, Claude 2 and DeepSeek, from one wheel.
build/oracles/litellm: tests/oracle/oracles.txt | $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target build/oracles -r tests/oracle/oracles.txt
	@touch $@

test-budget: system $(VENV)/.ready build/oracles/litellm ## 10,000 random contexts counted by real tokenizers, and the same bytes from any index (5 minutes)
	$(BIN)/python -m pytest -c pyproject.toml -o addopts="-q --strict-markers --strict-config" tests/oracle

# Clients, servers and suites that others publish: Node and the npm packages of tests/peers, the Python client of the protocol's last
# version, and two servers in Python.
build/peers/.ready: tests/peers/package.json tests/peers/package-lock.json tests/peers/mcp1.txt tests/peers/servers.txt | $(VENV)/.ready
	@mkdir -p build/peers
	@cp tests/peers/package.json tests/peers/package-lock.json tests/peers/.npmrc build/peers/
	@cd build/peers && npm ci --no-fund --no-audit --loglevel=error
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target build/peers/mcp1 -r tests/peers/mcp1.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target build/peers/servers -r tests/peers/servers.txt
	@touch $@

test-mcp: system $(VENV)/.ready model ## Conformance suites, the inspector, other SDKs; servers that others publish, mounted (three minutes)
	@if command -v npm >/dev/null && (cd tests/peers && npm ping >/dev/null 2>&1); then \
	    $(MAKE) --no-print-directory build/peers/.ready && \
	    $(BIN)/python -m pytest -c pyproject.toml -o addopts="-q --strict-markers --strict-config" tests/peers; \
	else echo "test-mcp SKIPPED: there is no npm here, or its registry is out of reach; nothing was tested"; fi

build/frameworks/.ready: tests/frameworks/requirements.txt | $(VENV)/.ready
	@rm -rf build/frameworks && mkdir -p build/frameworks
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target build/frameworks -r tests/frameworks/requirements.txt
	@touch $@

test-frameworks: system $(VENV)/.ready model build/frameworks/.ready ## LangGraph, LangChain, LlamaIndex and the OpenAI Agents SDK over the tree (a minute)
	PYTHONPATH=build/frameworks $(BIN)/python -m pytest -c pyproject.toml -o addopts="-q --strict-markers --strict-config" tests/frameworks

# The conformance suite of AFS is not part of this repository: AFS_SUITE is the folder of it, with src, specs and fixtures.
build/afs/.ready: tests/afs/package.json tests/afs/package-lock.json | $(VENV)/.ready
	@mkdir -p build/afs
	@cp tests/afs/package.json tests/afs/package-lock.json tests/afs/.npmrc build/afs/
	@cd build/afs && npm ci --no-fund --no-audit --loglevel=error
	@touch $@

test-afs: system $(VENV)/.ready ## The conformance suite of AFS on /rpc; AFS_SUITE=DIR is where you have it (a minute)
	@if [ -z "$(AFS_SUITE)" ]; then echo "test-afs SKIPPED: AFS_SUITE names no suite; nothing was tested"; \
	elif ! command -v npm >/dev/null; then echo "test-afs SKIPPED: there is no npm here; nothing was tested"; \
	else $(MAKE) --no-print-directory build/afs/.ready && \
	    AFS_SUITE="$(abspath $(AFS_SUITE))" $(BIN)/python -m pytest -c pyproject.toml -o addopts="-q -s --strict-markers --strict-config" tests/afs; \
	fi

# The page of `ctxfs web` in a browser: the driver of Playwright for Debian's Chromium, and axe-core for accessibility.
build/browser/.ready: tests/web/browser/playwright.txt tests/web/browser/package.json tests/web/browser/package-lock.json | $(VENV)/.ready
	@mkdir -p build/browser
	@cp tests/web/browser/package.json tests/web/browser/package-lock.json tests/web/browser/.npmrc build/browser/
	@cd build/browser && npm ci --no-fund --no-audit --loglevel=error
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target build/browser/python -r tests/web/browser/playwright.txt
	@touch $@

test-web: system system-test system-browser $(VENV)/.ready model build/browser/.ready ## The page of `ctxfs web` in Chromium: screens, keys, small windows, attacks, accessibility (three minutes)
	PYTHONPATH=build/browser/python $(BIN)/python -m pytest -c pyproject.toml -o addopts="-q --strict-markers --strict-config" tests/web/browser

pictures: system system-browser $(VENV)/.ready model build/browser/.ready ## The pictures of docs/, taken from the page and from a terminal session (a minute)
	$(BIN)/python docs/session.py
	PYTHONPATH=build/browser/python $(BIN)/python docs/pictures.py

test-wheel: system $(VENV)/.ready model ## The files of a release, installed by pip, uv and pipx and used on Python 3.11, 3.12 and 3.13 (five minutes)
	$(BIN)/python -m pytest -c pyproject.toml -o addopts="-q -rs --strict-markers --strict-config" tests/install

test-leaks: system system-test $(VENV)/.ready model ## More than 2,000 tries to learn of what may not be seen, by six roles; attacks (four minutes)
	CTXFS_LEAK_ROLES=all $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m long tests/spec tests/trust

release: $(VENV)/.ready ## The wheel and the source distribution of a release in dist/; PROJECT_URL=… for the page of an index
	$(BIN)/python release/build.py --home "$(PROJECT_URL)"

# ENGINE is a command such as podman; IMAGE_OPTIONS are further options of release/image.py.
image: $(VENV)/.ready ## The container image, built by docker, podman or buildah, and tried: store, agents, page, mount (two minutes)
	$(BIN)/python release/image.py $(if $(ENGINE),--engine "$(ENGINE)") $(IMAGE_OPTIONS)

lint: $(VENV)/.ready ## Only ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What the mount is compared with, what plots, and a tree that is installed into it.
build/bench/.ready: benchmarks/filesystem.txt | $(VENV)/.ready
	@mkdir -p build/bench/wheels
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/filesystem.txt
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d build/bench/wheels sympy==1.14.0 networkx==3.5 pygments==2.19.2
	@touch $@

bench: system system-test $(VENV)/.ready model build/bench/.ready ## The mount, search, versions and indexing against native, on real files (45 minutes)
	$(BIN)/python -m benchmarks.filesystem
	$(BIN)/python -m benchmarks.loops
	$(BIN)/python -m benchmarks.many
	$(BIN)/python -m benchmarks.mount
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.versions
	$(BIN)/python -m benchmarks.following
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.policy --mount
	$(BIN)/python -m benchmarks.contexts
	$(BIN)/python -m benchmarks.groundedness

soak: system system-test $(VENV)/.ready ## Everything at once for twenty minutes: nothing may leak or be wrong
	$(BIN)/python -m benchmarks.soak

model: $(VENV)/.ready
	@$(BIN)/ctxfs model install

# A Debian package is installed only if it is missing; elsewhere the names are shown.
define install_packages
	@missing=""; \
	for name in $(1); do dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; done; \
	if [ -n "$$missing" ]; then \
	    if command -v apt-get >/dev/null; then \
	        echo "installing$$missing"; \
	        $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	    else echo "please install the equivalents of:$$missing"; fi; \
	fi
endef

system:
	$(call install_packages,$(APT_RUN) $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv) \
	    $(shell test -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || echo python3-dev))

system-test:
	$(call install_packages,$(APT_TEST))

system-programs:
	$(call install_packages,$(APT_PROGRAMS))

system-browser:
	$(call install_packages,$(APT_BROWSER))

$(VENV)/.ready: requirements.lock pyproject.toml setup.py ctxfs/fuse/transports/fastpath.c | system
	@echo "making $(VENV) (two packages are compiled: about a minute)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no ensurepip, so it cannot make an environment: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean: stop ## Unmount, then remove the environment and the demonstration store
	rm -rf $(VENV) .ctxfs
