# The two commands that a newcomer needs, and a few more. Every chore itself is in xtask (`cargo x help`); only the set-up of a bare
# machine is a script, because it runs before anything can be compiled.

ARGS ?=

.PHONY: help demo test build bench setup

help:
	@echo 'make demo    a private Postgres, live claims, the gate, the lake, and the proof at the end   (ARGS="--seconds 20")'
	@echo 'make test    everything that CI runs: style, house rules, all tests, foreign readers'
	@echo 'make build   the optimised binary, at bin/lockgate'
	@echo 'make bench   the figures of the README'
	@echo 'make setup   only install what demo and test need (SKIP_SETUP=1 skips it everywhere)'
	@echo 'cargo x help lists the single chores.'

demo:
	@scripts/setup.sh demo
	@cargo x demo $(ARGS)

test:
	@scripts/setup.sh test
	@cargo x test $(ARGS)

build:
	@scripts/setup.sh build
	@cargo x build $(ARGS)

bench:
	@scripts/setup.sh test
	@cargo x bench $(ARGS)

setup:
	@scripts/setup.sh test
