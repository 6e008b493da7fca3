# The names of all jobs. Each one installs what it needs first (scripts/install.sh), quickly the second time.

export PATH := $(HOME)/.cargo/bin:$(PATH)
KILLS ?= 1000
ROUNDS ?= 50
SEEDS ?= 2000
TARGET ?= message

.PHONY: help demo test test-matrix test-spark check bench fault random sim fuzz doc deb page-test
help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

demo:            ## throw-away PostgreSQL, 100,000 rows, a workload, kill -9, proof of equality
	@scripts/demo.sh

test:            ## every test, on real servers
	@scripts/test.sh

test-matrix:     ## every test that touches PostgreSQL on 14, 15, 16, 17 and 18
	@scripts/matrix.sh $(MAJORS)

test-spark:      ## tables read and written by Apache Spark, 4 and 3.5: make test-spark SPARK=4
	@SPARK="$(SPARK)" scripts/spark.sh

check:           ## format, lints, house rules, dependencies
	@scripts/check.sh

bench:           ## measurements, beside the physical limit and a peer
	@benches/run.sh

fault:           ## the kill test in its long form: make fault KILLS=1000
	@KILLS=$(KILLS) scripts/fault.sh

random:          ## random tables, transactions and configurations, with kills: make random ROUNDS=50
	@ROUNDS=$(ROUNDS) scripts/random.sh

sim:             ## the coordinator under a seeded simulator: make sim SEEDS=2000
	@SEEDS=$(SEEDS) scripts/sim.sh

fuzz:            ## fuzz one decoder: make fuzz TARGET=message
	@scripts/fuzz.sh $(TARGET)

deb:             ## a Debian package of the release build
	@cargo build --release --locked --bin strandline && scripts/deb.sh

page-test:       ## the page in a headless Chromium (apt-get install chromium); pictures in target/page
	@scripts/install.sh test && cargo test --locked --test it -- --ignored page:: --nocapture

doc:             ## the library's documentation
	@cargo doc --locked --no-deps --document-private-items
