# The entrance to everything that is done with this repository. The work itself is in scripts and crates; this names it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test suites fuzz bench-cli bench-enforcer bench-generator bench-webhook deps cluster cluster-down cluster-load cluster-status images

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## from an open cluster to namespaces that are born closed, on a real Kubernetes
	@tests/demo

test: ## every test; RINGFENCE_SKIP_ROOT=1 leaves out what needs root
	@tests/run

suites: ## what others test NetworkPolicy with: Kubernetes's own end-to-end tests, and Cyclonus
	@tests/suites/run

fuzz: ## look for what breaks: each fuzz target for FUZZ_SECONDS (300), and 100,000 random clusters
	@fuzz/night

bench-generator: ## measure the generator on a real API server, among 10,000 namespaces; figures also go to target/bench/results.jsonl
	@cargo bench -q -p ringfence-generator --bench onboarding

bench-cli: ## measure the command line and the rules behind it on 10,000 pods; figures also go to target/bench/results.jsonl
	@cargo bench -q -p ringfence-netpol --bench rules
	@cargo bench -q -p ringfence-cli --bench whole_process

bench-enforcer: ## measure the enforcer: packets, other firewalls beside it, a large cluster, births of pods; figures also go to target/bench/results.jsonl
	@tests/bench-enforcer

bench-webhook: ## measure the webhook among 10,000 pods, alone and behind a real API server; figures also go to target/bench/results.jsonl
	@cargo bench -q -p ringfence-webhook --bench admission

deps: ## install the system packages that are missing (Debian, Ubuntu)
	@tests/cluster/deps

cluster: ## bring up a two-node Kubernetes, or find it up; prints its kubeconfig (CNI=ptp|bridge)
	@tests/cluster/up

cluster-down: ## take that cluster down and leave nothing behind
	@tests/cluster/down

cluster-load: ## give both nodes an image: make cluster-load TAR=target/images/webhook.tar
	@tests/cluster/load $(TAR)

cluster-status: ## say what the cluster is doing
	@tests/cluster/status

images: ## build the product's images into target/images/*.tar
	@deploy/images
