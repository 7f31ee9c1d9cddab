# Everything below needs Python 3.11 or newer and nothing else set up.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo install test lint fix serve retrain pretrain bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Two stamps: what it takes to serve (no torch), and all of it.
$(VENV)/serve.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[serve]'
	@touch $@

$(VENV)/all.stamp: pyproject.toml | $(BIN)/python
	$(PIP) torch==2.13.0
	$(PIP) -e '.[serve,stream,batch,train,dev]'
	@touch $@ $(VENV)/serve.stamp

install: $(VENV)/all.stamp ## everything: serving, training, tests

demo: $(VENV)/serve.stamp ## sample replies through the real service (installs no torch)
	$(BIN)/tingxin demo

test: $(VENV)/all.stamp ## all tests
	$(BIN)/python -m pytest

lint: $(VENV)/all.stamp ## ruff, strict mypy, the corpus' validator
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/tingxin data check

fix: $(VENV)/all.stamp ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: $(VENV)/serve.stamp ## the service on 127.0.0.1:8000
	$(BIN)/tingxin serve

REAL ?= ../shared/real_dev.jsonl
CORPORA ?= ../shared/corpora
VECTORS ?= ../shared/vectors/char_200d.npz

retrain: $(VENV)/all.stamp ## from data/ and the shipped encoder to models/challenger
	$(BIN)/tingxin train --out models/challenger $(if $(wildcard $(REAL)),--real $(REAL)) --card models/MODEL_CARD.md

pretrain: $(VENV)/all.stamp ## from a folder of text (CORPORA=...) to models/encoder
	$(BIN)/tingxin pretrain $(CORPORA) --out models/encoder $(if $(wildcard $(VECTORS)),--vectors $(VECTORS))

bench: $(VENV)/all.stamp ## speed on this machine, alone and beside rivals
	$(PIP) -e '.[serve,stream,batch,train,dev,bench]'
	$(BIN)/python benchmarks/classify.py
	$(BIN)/python benchmarks/rivals.py

clean: ## remove the virtual environment and what runs left
	rm -rf $(VENV) models runs
