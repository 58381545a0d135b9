# Two commands do everything: `make demo` and `make test`. Both install what they need first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed

.PHONY: demo quick test bench lint types layers check install clean

demo: $(INSTALLED)            ## the triage study, from cases to verdict and report, on the embedded model
	$(BIN)/steelyard demo triage

quick: $(INSTALLED)           ## the same with fewer cases and no LoRA
	$(BIN)/steelyard demo triage --quick

test: $(INSTALLED)            ## the whole test suite, model tests included
	$(BIN)/pytest

bench: $(INSTALLED)           ## speed and memory against peers and limits
	$(BIN)/python -m benchmarks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

check: test lint types layers

install: $(INSTALLED)

# torch first and pinned: asked for by a range, pip would take a build with gigabytes of GPU libraries.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[local,tune,peft,retrieval,postgres,guards,gepa,web,dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo-*
