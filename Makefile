# Windlass: `make demo` shows it, `make test` tests it; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help tools build demo test test-rust test-contracts test-page test-deploy page lint analyse fuzz format figures idle bench bench-baseline bench-broker bench-chain curve profile bench-proof soak chaos gas clean

# Arguments of the demo, for example: make demo ARGS="--devices 200 --rate 10 --settlement batch"
ARGS ?=
# What is fuzzed, each in turn without a name, and for how long.
TARGET ?=
SECONDS ?= 60
# Of the fault matrix: how many, or which one.
SEEDS ?=
# Of the soak: how long, and how many readings a second.
MINUTES ?=
RATE ?=
SEED ?=
# Of the benches, in this order.
AREAS ?= small proof broker chain
WINDLASS := target/release/windlass

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

tools: ## install what tests and demo need, at pinned versions
	@tools/install.sh test

build: ## build the release binaries
	cargo build --release --locked -p windlass -p windlass-scanner

demo: ## node, contracts, broker, scanners; ends with a verified proof
	@tools/install.sh demo
	cargo build --release --locked -p windlass
	$(WINDLASS) demo $(ARGS)

test: tools test-contracts test-page test-deploy test-rust ## every test

test-rust:
	cargo build --locked -p windlass -p windlass-scanner
	cargo test --workspace --locked

test-contracts:
	contracts/bin/forge test
	contracts/tools/artifacts --check
	node tests/js/vectors.mjs
	node tests/js/proofs.mjs

test-page:
	node crates/http/web/pack.mjs --check

test-deploy: tools ## unit, images, manifests: checked, and run as far as it goes without them
	python3 -m unittest discover -s tools
	tools/plots.py --check
	node grafana/build.mjs --check
	promtool check config deploy/prometheus.yml
	promtool check config deploy/compose/prometheus.yml
	promtool check rules deploy/prometheus/rules.yml
	promtool test rules deploy/prometheus/rules.test.yml
	cargo build --locked -p windlass -p windlass-scanner
	tools/.venv/bin/python tools/check-deploy.py

lint: tools ## formatting, clippy, contract formatting, dependency rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	contracts/bin/forge fmt --check
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not here; tests/stories/layers.rs checks the walls between the crates"; fi
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run tools/*.sh deploy/*.sh tests/clients/*.sh contracts/bin/* contracts/tools/foundry contracts/tools/analyse; \
	else echo "shellcheck is not here; the shell scripts are only parsed"; \
	for s in .ci/run tools/*.sh deploy/*.sh tests/clients/*.sh contracts/tools/analyse; do bash -n "$$s"; done; fi

analyse: tools ## slither over the contracts; fails on a finding without an answer
	contracts/tools/analyse

fuzz: ## libFuzzer on the MQTT front and the payloads: make fuzz [TARGET=after_connect] [SECONDS=60]
	@tools/fuzz.sh "$(TARGET)" "$(SECONDS)"

page: tools ## build the web page anew from its sources, into crates/http/web/dist
	node crates/http/web/pack.mjs

format: ## format Rust and Solidity
	cargo fmt --all
	contracts/bin/forge fmt

figures: build ## print the figures that the documents quote
	@tools/install.sh demo
	for s in anchor batch direct; do echo "== 50 devices x 1/s, $$s"; \
	  $(WINDLASS) demo --devices 50 --rate 1 --seconds 30 --settlement $$s --proof target/figures.windlass.json; done
	echo "== 200 devices x 10/s, anchor"
	$(WINDLASS) demo --devices 200 --rate 10 --seconds 30 --proof target/figures.windlass.json
	tools/idle.sh

idle: build ## print start-up time and idle memory of the service
	tools/idle.sh

bench: tools build ## all figures beside their reference runs in one table, checked: make bench [AREAS="small broker"]
	for area in $(AREAS); do \
	  rm -f "$${CARGO_TARGET_DIR:-target}/bench/$$area.json"; \
	  cargo bench --locked -p windlass-tests --bench $$area; \
	done
	tools/bench.py collect
	tools/bench.py check

bench-baseline: ## make the figures of the last make bench the ones to check against
	tools/bench.py baseline

bench-broker: tools build ## print the broker's figures beside mosquitto's and rumqttd's: make bench-broker [ARGS=latency]
	cargo bench --locked -p windlass-tests --bench broker -- $(ARGS)

bench-chain: tools build ## print the chain side's figures: make bench-chain [ARGS=direct]
	cargo bench --locked -p windlass-tests --bench chain -- $(ARGS)

curve: tools build ## measure how the cost grows with devices and rate; renews docs/scaling.md
	cargo bench --locked -p windlass-tests --bench chain -- curve
	tools/plots.py

profile: tools build ## print where the time of a reading goes: by stage, system calls, allocations; renews docs/performance.md
	cargo bench --locked -p windlass-tests --bench chain -- profile

bench-proof: ## print the figures of trees, proofs and signatures
	cargo bench --locked -p windlass-tests --bench proof

soak: tools build ## load with faults for a long time, audited: make soak [MINUTES=30] [SEED=1] [RATE=2000]
	MINUTES=$(MINUTES) SEED=$(SEED) RATE=$(RATE) cargo bench --locked -p windlass-tests --bench soak

chaos: tools build ## run the seeded fault matrix: make chaos SEEDS=200, or one seed again: make chaos SEED=17
	SEEDS=$(SEEDS) SEED=$(SEED) cargo test --release --locked -p windlass-tests --test chaos

gas: tools ## print the committed gas snapshot after checking it
	contracts/bin/forge test --match-contract Gas
	cat contracts/snapshots/*.json

clean: ## remove what was built
	cargo clean
	rm -rf contracts/out contracts/cache
