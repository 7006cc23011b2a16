SHELL := bash
.DEFAULT_GOAL := help

# The tests mostly wait for the control plane: more of them at a time than there are cores.
export RUST_TEST_THREADS ?= 8

# The simulation is quicker to run and slower to build so. Not a profile of its own, for which all crates would be built once more.
QUICK := CARGO_PROFILE_DEV_OPT_LEVEL=2

.PHONY: help
help: ## Say what there is to make
	@echo 'Drydock: make TARGET, where TARGET is'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-17s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: programs ## See it work: a real control plane, a few hosts, a few leases; takes a minute once all is built
	cargo build --bin drydock --example demo
	@cargo run --quiet --example demo

.PHONY: bench
bench: programs ## Measure, as ratios in one run, and compare with the budgets
	cargo build --release --bin drydock --example bench
	@cargo run --release --quiet --example bench

# The output goes through cat so that make waits for the last control plane, which ends with the test that used it.
.PHONY: test
test: programs chart-programs ## Run all tests, those on the real control plane too
	set -o pipefail; cargo test --no-fail-fast | cat

.PHONY: simulate
simulate: ## Run the simulation for SEEDS=1..100, or as many as wanted, MINUTES=40 each; one that fails tells its seed and story
	SEEDS=$(or $(SEEDS),1..100) $(QUICK) cargo test --test simulation -- --nocapture nothing_goes_wrong

.PHONY: chaos
chaos: programs ## Kill and pause controllers, kube-apiserver and etcd for MINUTES=5 under many leases; SEED=… repeats a plan
	MINUTES=$(or $(MINUTES),5) SEED=$(SEED) cargo test --test chaos -- --nocapture nothing_goes_wrong

.PHONY: deliberate-bugs
deliberate-bugs: ## Make bugs on purpose, one at a time (BUG=part of a name), and see the simulation catch each
	$(QUICK) cargo test --features deliberate-bugs --test simulation -- --ignored --nocapture bugs

.PHONY: rights
rights: programs chart-programs ## Tell the stories, and see that the controller has no right that it did not use
	@logs=$$(mktemp -d); trap 'rm -rf "$$logs"' EXIT; export DRYDOCK_AUDIT=$$logs; \
	cargo test --test stories && cargo test --test chart -- --ignored --exact rights::the_controller_has_no_right_that_it_does_not_use

.PHONY: coverage
coverage: ## Measure the lines and branches of ROOM=src/lifecycle that tables and simulation reach; needs rustc's llvm-tools
	@tools/coverage/measure $(or $(ROOM),src/lifecycle)

.PHONY: lint
lint: ## Check format, lints, documentation and generated files
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --test simulation --features deliberate-bugs -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	cargo run --quiet -- crds --output-dir "$$fresh" || exit 1; \
	diff -r crds "$$fresh" || { echo 'crds/ is not what the types in src/api say: run make crds' >&2; exit 1; }
	@diff -r crds charts/drydock/files/crds || { echo 'the chart has other CRDs than crds/: run make crds' >&2; exit 1; }
	@tools/chart/render | diff install.yaml - || { echo 'install.yaml is not what charts/drydock says: run make install' >&2; exit 1; }
	tools/cargo/run deny check licenses bans sources

.PHONY: advisories
advisories: ## Check the crates for known vulnerabilities; needs the advisory database from the network
	tools/cargo/run deny check advisories

.PHONY: crds
crds: ## Write crds/, and the chart's copy, from the types in src/api
	cargo run --quiet -- crds --output-dir crds
	cargo run --quiet -- crds --output-dir charts/drydock/files/crds

.PHONY: install
install: ## Write install.yaml from charts/drydock
	tools/chart/render >install.yaml.new && mv install.yaml.new install.yaml

.PHONY: image
image: ## Build the image as an OCI archive from a static binary, and check it; TAG=… SOURCE=… BINARY=…; needs buildah and musl-tools
	@tools/image/build

.PHONY: sbom
sbom: ## Write the bill of materials of the binary, target/drydock.cdx.json: each crate, its version, digest and licence (CycloneDX)
	@tools/image/sbom

# A KUBECONFIG of the environment is not meant for tests: only one that is given here is.
.PHONY: e2e
e2e: ## See the chart work on a node, which this starts as root; or with KUBECONFIG=… IMAGE=… on a cluster that there is
	@CLUSTER='$(if $(filter command,$(origin KUBECONFIG)),$(KUBECONFIG))' IMAGE='$(IMAGE)' NEXT_IMAGE='$(NEXT_IMAGE)' tools/node/e2e

.PHONY: controlplane
controlplane: programs ## Start a real control plane without Drydock, and say how to use it; ^C ends it
	@cargo run --quiet --example dev -- controlplane

.PHONY: run
run: programs ## Start a real control plane with Drydock and its controller, and say how to use it; ^C ends it
	cargo build --bin drydock --example dev
	@cargo run --quiet --example dev -- run

# Found or built once, into a cache outside of this folder; says what it builds and how long that takes.
.PHONY: programs
programs:
	@tools/controlplane/programs >/dev/null

# helm, the Lua of Argo CD and the tool of Prometheus: what tests of the chart need.
.PHONY: chart-programs
chart-programs:
	@tools/controlplane/programs helm glua promtool >/dev/null
