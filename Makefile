# Everything a user or contributor runs. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# CPU builds of torch. With an NVIDIA GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Turns of each contestant in a benchmark; the published tables have 5, which takes half as long again.
ROUNDS ?= 3
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test clients cluster-test faults fuzz audit lint types format benchmark benchmark-long benchmark-iteration docs clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Set up .venv with pinned versions (CPU torch; see TORCH_INDEX in the Makefile for GPUs)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "al-engine needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
		{ echo "no virtual environment could be made; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (a minute or two)"
	@# torch alone first: from the CPU index where it answers, and without what only GPUs need
	@$(PIP) --no-deps --retries 0 --timeout 20 --extra-index-url $(TORCH_INDEX) torch
	@$(PIP) --editable '.[dev,clients,dask,ray,s3]'
	@touch $@

demo: install  ## Run examples/ethanol.yaml to a verdict in runs/ethanol
	@$(BIN)/al-engine run examples/ethanol.yaml --dir runs/ethanol || test $$? -eq 3
	@$(BIN)/al-engine status runs/ethanol

test: install  ## Run the whole test suite, on two cores (five processes: some tests mostly wait)
	@# each of hundreds of processes would compile the sources where byte code is not to be written, and threads would
	@# wait for each other; campaigns are started without the limit, as a user starts them
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder

clients: install  ## Run the force field longer in LAMMPS, OpenMM and i-PI: MD, path integrals, metadynamics (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/pytest --timeout 1800 tests/models/clients/long_runs.py

cluster-test: install  ## Run campaigns on a real Slurm, over several hosts, and with 8 workers (root; slurm-wlm, munge, faketime; minutes)
	@$(BIN)/pytest tests/cluster/slurm_runs.py tests/cluster/hosts_runs.py tests/cluster/worker_runs.py

faults: install  ## Kill campaigns 200 times at every commit point and inside every stage, resume, compare (half an hour)
	@$(BIN)/python tests/faults/many_kills.py --blows 200

fuzz: install  ## Feed the readers with rubbish for ten minutes
	@$(BIN)/python tests/faults/fuzz.py

audit:  ## Ask for known vulnerabilities of the pinned dependencies; needs pypi.org
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: install  ## Check style, and that imports point one way
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports

types: install  ## Check types
	@$(BIN)/mypy

format: install  ## Format the code
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

# What is measured is printed as JSON: a file of results is replaced only by one that is complete.
define measure
	@mkdir -p benchmarks/results
	@for name in $(1); do \
		echo "benchmarks/$$name.py"; \
		$(BIN)/python benchmarks/$$name.py --json --rounds $(ROUNDS) >benchmarks/results/$$name.json.tmp && \
		mv benchmarks/results/$$name.json.tmp benchmarks/results/$$name.json || exit 1; \
	done
endef

benchmark: install  ## Time models against mace-torch and NequIP, write benchmarks/results and its README's tables (half an hour)
	@$(BIN)/python benchmarks/peers.py --torch-index $(TORCH_INDEX)
	$(call measure,forces training members committee)
	@$(BIN)/python benchmarks/forces.py --profile
	@$(BIN)/python benchmarks/result_tables.py

benchmark-long: install  ## After `make benchmark`: MD beside ASE, time and memory against atoms and steps (half an hour)
	$(call measure,md scaling memory)
	@$(BIN)/python benchmarks/result_tables.py

benchmark-iteration: install  ## Time the stages of one iteration on C12F27N, three molecules; prints a table
	@$(BIN)/python benchmarks/iteration.py

docs: install  ## Write docs/config.md, the reference of all options, from the code
	@$(BIN)/python docs/generate.py

clean:  ## Remove .venv and caches; campaigns in runs/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
