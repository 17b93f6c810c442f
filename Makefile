# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format typecheck check lock bench bench-model clean

PYTHON := .venv/bin/python
SOURCES := components pipeline schemas serving kubeflow tests examples bench scripts setup.py
# Tests of serving take the time and run alone; the others run in so many processes, each with a TensorFlow of its own.
TEST_PROCESSES ?= 2
# Bytecode must be written: importing tfx without it takes 30 s instead of 10.
unexport PYTHONDONTWRITEBYTECODE
export TF_CPP_MIN_LOG_LEVEL ?= 2
export TF_ENABLE_ONEDNN_OPTS ?= 1

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup:  ## Install everything that requirements.lock pins into .venv.
	@scripts/setup

demo: setup  ## Run the pipeline on the bundled corpus, serve the model and tag text over gRPC.
	@$(PYTHON) -m examples.demo

test: setup  ## Lint, type check and run every test.
	@$(MAKE) --no-print-directory lint typecheck
	$(PYTHON) -m pytest --ignore=tests/serving --numprocesses=$(TEST_PROCESSES) --dist=loadfile
	$(PYTHON) -m pytest tests/serving

lint: setup  ## Check style with ruff.
	$(PYTHON) -m ruff check $(wildcard $(SOURCES))
	$(PYTHON) -m ruff format --check $(wildcard $(SOURCES))

format: setup  ## Let ruff mend style.
	$(PYTHON) -m ruff check --fix $(wildcard $(SOURCES))
	$(PYTHON) -m ruff format $(wildcard $(SOURCES))

typecheck: setup  ## Check types with mypy.
	$(PYTHON) -m mypy

lock:  ## Resolve requirements.in into requirements.lock (needs a package index).
	@scripts/lock

.venv-peer/.complete: bench/requirements-peer.txt
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install -r bench/requirements-peer.txt
	touch $@

bench: setup .venv-peer/.complete  ## Measure serving: make bench MODEL=VERSION_FOLDER TEXTS=FILE [ENCODER=FOLDER].
	@test -n "$(MODEL)" -a -n "$(TEXTS)" || { echo "make bench MODEL=output/serving/ner/VERSION TEXTS=test.conll \
	[ENCODER=FOLDER in Hugging Face layout, for the peer]"; exit 2; }
	$(PYTHON) -m bench.serving_load --model $(MODEL) --texts $(TEXTS) $(if $(ENCODER),--encoder $(ENCODER))
	$(PYTHON) -m bench.serving_swaps --model $(MODEL) --texts $(TEXTS)
	$(PYTHON) -m bench.warmup --model $(MODEL) --texts $(TEXTS)
	$(PYTHON) -m bench.serving_hostile --model $(MODEL)

bench-model: setup .venv-peer/.complete  ## Measure the bare model: speed against PyTorch and the seed, memory.
	$(PYTHON) -m bench.model_speed
	$(PYTHON) -m bench.model_memory

clean:  ## Remove what runs and tests leave; .venv stays.
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
