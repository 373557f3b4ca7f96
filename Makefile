# `make train` trains an agent, records a video and renders a report; `make test` runs the tests. Both create .venv on
# first use.
SHELL := bash
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
# Open MPI refuses to run as root unless both are set; containers and fresh machines run as root.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1

WORKERS ?= 2
STEPS ?= 1e6
ENV ?= Hopper
# environment modules use a variable of the same name
ifeq ($(origin ENV),environment)
ENV := Hopper
endif
SEED ?= 0
DATA ?= data
NAME := $(ENV)_$(shell date +%Y%m%d_%H%M%S).seed$(SEED)

PYTEST = python -m pytest -q --durations=25
# Process tests mostly wait, so run more pytest workers than there are cores ($(3) more). Timing-sensitive tests run alone
# afterwards.
PYTESTS = $$(python -c 'import os; print(len(os.sched_getaffinity(0)) + $(3))')
define run_tests
	status=0; \
	$(PYTEST) -n $(PYTESTS) --dist=loadgroup -m "not alone" --junitxml=build/$(1).xml $(2) || status=1; \
	$(PYTEST) -m alone --junitxml=build/$(1)-alone.xml $$(grep -rl pytest.mark.alone $(2)) || status=1; \
	exit $$status
endef

.NOTPARALLEL: # timing-sensitive tests must run alone
.PHONY: setup train test test-system test-all lint docs benchmark torture mutants
setup:
	@./setup_env.sh

train: setup
	python main.py --task=train --num_workers=$(WORKERS) --algo=ppo --env_id=$(ENV) --seed=$(SEED) \
	  --num_timesteps=$(STEPS) --uuid=$(NAME) --data_dir=$(DATA)
	python main.py --task=eval --model_path=$(DATA)/checkpoints/$(NAME) --iter_num=best --num_trajs=1 --record \
	  --data_dir=$(DATA)
	python main.py --task=eval --model_path=$(DATA)/checkpoints/$(NAME) --iter_num=last --num_trajs=10 --data_dir=$(DATA)
	python main.py --task=report --study=$(NAME) --data_dir=$(DATA)
	@echo "learning curve: $(DATA)/logs/$(NAME)/learning_curve.png"
	@echo "video:          $(DATA)/evaluations/$(NAME)/best/episode_000.mp4"

# Test every feature on at least one real path, in minutes. Needs no root and installs nothing outside .venv.
test: export SYSTEM_PACKAGES := no
test: setup
	$(call run_tests,test,tests/unit tests/cli tests/integration,1)

# System tests: Slurm, a browser, compiled updates, fuzzing, every README command. As root, installs missing packages.
test-system: setup
	tests/system_packages.sh
	$(call run_tests,test-system,tests/system,2)

test-all: test test-system

lint: setup
	./super_linter.sh

# Build the documentation site into site/; a broken link is an error.
docs: setup
	mkdocs build --strict

benchmark: setup
	pip install --quiet -r requirements-benchmark.txt
	python benchmarks/throughput.py

# Kill runs at random moments, resume them and compare the results. Takes hours on two cores; saves after each row.
torture: setup
	python benchmarks/torture.py

# Mutation testing: change one line at a time and check that a test fails. Half an hour on two cores; saves after each row.
mutants: setup
	python benchmarks/mutants.py
