# Everything a developer runs. Needs Rust, Node, Python and Java; whatever else is needed goes into target/ and .tools/.

SHELL := /bin/sh
.DEFAULT_GOAL := help

CARGO ?= cargo
NPM ?= npm
PYTHON ?= python3
# The profile that `make up` builds: `dev` is ready soonest and its ciphers and compressors are optimised all the same.
PROFILE ?= dev
# The profile that is measured against the peers.
BENCH_PROFILE ?= release
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
# Which figures `make bench` takes; all of them when empty.
FIGURES ?=
DOCUMENTS ?= 5000
RUNS ?= 1
NEXTEST_FLAGS ?=
# Two tests a core: many wait for a server, or for the clock.
SLOTS := $(shell echo $$((2 * $$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2))))
# Eleven functions link the same SDKs: for the tests one program stands for all, beside two of the real ones.
TEST_BINS := firebackup bootstrap api backup-chunk

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
profile_dir = $(TARGET_DIR)/$(if $(filter dev,$(1)),debug,$(1))
export PATH := $(CURDIR)/.tools/bin:$(PATH)
export CARGO
export STACK REGION PARAMETERS KEEP_DATA ARCHITECTURE ENDPOINT CODE OIDC_CLIENT_SECRET_FILE

.PHONY: help
help: ## Show this list
	@echo "FireBackup: back up Firestore, and put it back exactly"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(CURDIR)/Makefile

.PHONY: up
up: ## Build firebackup, serve it with a demo project on a local Firestore emulator, and take a first backup
	@[ -x $(call profile_dir,$(PROFILE))/firebackup ] || \
		echo "Building firebackup for the first time: this takes a few minutes, the next time seconds."
	@$(CARGO) build --locked --profile $(PROFILE) --workspace --bin firebackup
	@$(call profile_dir,$(PROFILE))/firebackup serve --demo

# The documentation tests come first, so that the runner's own summary of the suite closes the output.
.PHONY: test
test: target/auth/.installed target/client/.installed target/oauth/.installed target/schemathesis/.installed target/webhooks/.installed target/ministack/.installed target/sam/.installed ## Run every test (installs the Auth emulator, a local AWS and more at first use)
	$(CARGO) build --locked --workspace --lib --tests $(foreach bin,$(TEST_BINS),--bin $(bin))
	scripts/fuzz-corpus $(TARGET_DIR)/fuzz
	@scripts/emulator-classes $(TARGET_DIR)/emulator || echo "emulators are started without a file of their classes" >&2
	$(CARGO) test --locked --workspace --doc
	@if scripts/install-tool cargo-nextest; then \
		export JAVA_TOOL_OPTIONS="$$JAVA_TOOL_OPTIONS $$(cat $(TARGET_DIR)/emulator/options 2>/dev/null)"; \
		set -x; $(CARGO) nextest run --locked --workspace --test-threads $(SLOTS) $(NEXTEST_FLAGS); \
	else \
		echo "cargo-nextest could not be installed: cargo's own runner is used" >&2; \
		set -x; $(CARGO) test --locked --workspace --lib --bins --tests --no-fail-fast; \
	fi

.PHONY: lint
lint: ## Check format, lints, dependencies (bans, licences, sources, advisories) and documentation
	$(CARGO) fmt --all --check
	scripts/check-dependencies
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: bench
bench: ## Measure the engine (FIGURES="engine lookup memory serve api capture follow emulator"; api needs wrk)
	$(CARGO) bench --locked --workspace --bench figures -- $(FIGURES)

.PHONY: bench-peers
bench-peers: target/peers/.installed ## Measure firebackup against other tools (DOCUMENTS=5000 RUNS=1)
	$(CARGO) build --locked --profile $(BENCH_PROFILE) --workspace --bin firebackup
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tests/peers/bench.py --peers target/peers \
		--firebackup $(call profile_dir,$(BENCH_PROFILE))/firebackup --documents $(DOCUMENTS) --runs $(RUNS)

.PHONY: package
package: target/cargo-lambda/.installed ## Build the zips of every function, and start each once (ARCHITECTURE=x86_64)
	scripts/package
	$(PYTHON) scripts/smoke-functions

.PHONY: deploy
deploy: target/sam/.installed ## Deploy the stack on AWS (STACK=firebackup REGION=… PARAMETERS="Monitoring=full")
	@target/sam/venv/bin/python scripts/deploy --check
	@$(MAKE) package
	@target/sam/venv/bin/python scripts/deploy

.PHONY: destroy
destroy: target/sam/.installed ## Delete the stack; its data stays unless KEEP_DATA=no (STACK=firebackup REGION=…)
	@target/sam/venv/bin/python scripts/destroy

.PHONY: deploy-local
deploy-local: target/sam/.installed target/ministack/.installed package ## Deploy the same stack onto a local AWS
	@target/sam/venv/bin/python scripts/deploy-local

.PHONY: cost
cost: ## What a backup and an idle month cost on AWS, from docs/cost-inputs.json
	@$(PYTHON) scripts/cost-model

.PHONY: fuzz
fuzz: ## Fuzz every reader of hostile bytes (FUZZ_SECONDS=60 each; needs the nightly toolchain)
	@scripts/fuzz $(FUZZ_SECONDS)

.PHONY: locks
locks: ## Write the npm lock files anew, without the address of any registry
	@for folder in tests/auth tests/client tests/oauth tests/peers tests/webhooks; do \
		(cd $$folder && $(NPM) install --package-lock-only --ignore-scripts --no-audit --no-fund && \
		sed '/^ *"resolved": /d' package-lock.json >package-lock.json.new && \
		mv package-lock.json.new package-lock.json) || exit 1; \
	done

.PHONY: clean-tools
clean-tools: ## Remove what was installed for tests, lints and measurements
	rm -rf .tools target/auth target/cargo-lambda target/client target/ministack target/oauth target/peers target/sam \
		target/schemathesis target/webhooks

# The Auth emulator that the integration tests start. No package's own install script runs.
target/auth/.installed: tests/auth/package.json tests/auth/package-lock.json
	@echo "Installing the Firebase Auth emulator into target/auth (about 310 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@cd $(@D) && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The OpenID Connect issuer that the tests of sign-in start.
target/oauth/.installed: tests/oauth/package.json tests/oauth/package-lock.json
	@echo "Installing oauth2-mock-server, an OpenID Connect issuer, into target/oauth (about 6 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@cd $(@D) && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The reference library that the tests of webhooks prove signatures with.
target/webhooks/.installed: tests/webhooks/package.json tests/webhooks/package-lock.json
	@echo "Installing standardwebhooks, which proves signatures of webhooks, into target/webhooks (under 1 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@cd $(@D) && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

# What makes a client of the API out of docs/openapi.json, and the compiler that looks at it.
target/client/.installed: tests/client/package.json tests/client/package-lock.json
	@echo "Installing openapi-typescript and TypeScript into target/client (about 45 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@cd $(@D) && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

# What sends the API requests that nobody thought of.
target/schemathesis/.installed: tests/schemathesis/requirements.txt
	@echo "Installing schemathesis into target/schemathesis (about 95 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@$(PYTHON) -m venv --clear $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@

# The local AWS that the tests start, and the checker of templates.
target/ministack/.installed: tests/ministack/requirements.txt
	@echo "Installing ministack, a local AWS, into target/ministack (about 260 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@$(PYTHON) -m venv --clear $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@

# sam and cfn-lint. Not beside ministack: the two want different versions of boto3.
target/sam/.installed: infra/requirements.txt
	@echo "Installing sam and cfn-lint into target/sam (about 340 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@$(PYTHON) -m venv --clear $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@

target/cargo-lambda/.installed: infra/package-requirements.txt
	@echo "Installing cargo-lambda and Zig into target/cargo-lambda (about 470 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/requirements.txt
	@$(PYTHON) -m venv --clear $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@

target/peers/.installed: tests/peers/package.json tests/peers/package-lock.json tests/peers/requirements.txt
	@echo "Installing the tools to compare with into target/peers (about 300 MB)"
	@mkdir -p $(@D) && cp $^ $(@D)/
	@cd $(@D) && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@$(PYTHON) -m venv --clear $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(@D)/requirements.txt
	@touch $@
