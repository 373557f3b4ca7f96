# Two commands: `make train` and `make test`. Each makes .venv first, once.
SHELL := bash
PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
# Open MPI refuses to run as root unless told twice; containers and fresh machines are root.
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1

WORKERS ?= 2
STEPS ?= 1e6
ENV ?= Hopper
# environment modules have a variable of this name
ifeq ($(origin ENV),environment)
ENV := Hopper
endif
SEED ?= 0
DATA ?= data
NAME := $(ENV)_$(shell date +%Y%m%d_%H%M%S).seed$(SEED)

.PHONY: setup train test lint docs benchmark torture
setup:
	@./setup_env.sh

train: setup
	mpiexec -n $(WORKERS) python main.py --task=train --algo=ppo --env_id=$(ENV) --seed=$(SEED) \
	  --num_timesteps=$(STEPS) --uuid=$(NAME) --data_dir=$(DATA)
	python main.py --task=eval --model_path=$(DATA)/checkpoints/$(NAME) --iter_num=best --num_trajs=1 --record \
	  --data_dir=$(DATA)
	python main.py --task=eval --model_path=$(DATA)/checkpoints/$(NAME) --iter_num=last --num_trajs=10 --data_dir=$(DATA)
	@echo "learning curve: $(DATA)/logs/$(NAME)/learning_curve.png"
	@echo "video:          $(DATA)/evaluations/$(NAME)/best/episode_000.mp4"

test: setup
	@tests/system_packages.sh
	python -m pytest

lint: setup
	./super_linter.sh

# The documentation as a site, into site/; a broken link is an error.
docs: setup
	mkdocs build --strict

benchmark: setup
	pip install --quiet -r requirements-benchmark.txt
	python benchmarks/throughput.py

# Kill runs at random moments, resume them, compare; hours on two cores, each row kept as it is done.
torture: setup
	python benchmarks/torture.py
