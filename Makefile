# focalrepro: `make reproduce`, then read results/quick/README.md. `make help` lists the targets.
PROFILE ?= quick
SEEDS ?=
DEVICE ?= auto
REUSE ?=
PYTHON ?= python3
# Of one's own data; by = and not ?=, since the environment may have other things by these names.
DATA =
IMAGES =
VAL_DATA =
VAL_IMAGES =
NAME =
WEIGHTS =
RECIPE =
ABLATIONS =
quoted = '$(subst ','\'',$(1))'
GIVEN = $(if $(DATA),$(filter command%,$(origin PROFILE)),yes)
OWN = $(if $(GIVEN),--profile $(PROFILE)) $(if $(DATA),--data $(call quoted,$(DATA))) $(if $(NAME),--name $(call quoted,$(NAME))) $(if $(IMAGES),--images $(call quoted,$(IMAGES))) \
  $(if $(VAL_DATA),--val-data $(call quoted,$(VAL_DATA))) $(if $(VAL_IMAGES),--val-images $(call quoted,$(VAL_IMAGES))) \
  $(if $(WEIGHTS),--weights $(call quoted,$(WEIGHTS))) $(if $(RECIPE),--recipe $(RECIPE))
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help reproduce test lab status verify lint stress site site-check clean clean-runs
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | \
	  awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'
	@echo; echo "Options: PROFILE=quick|full-quick|coco-cpu|coco256  SEEDS=1  DEVICE=auto|cpu|cuda  REUSE=1 (take committed runs)  ABLATIONS=\"1a 1b\""
	@echo "Your own data: make reproduce DATA=train.json IMAGES=train/ [VAL_DATA=val.json VAL_IMAGES=val/] [NAME=mine]"
	@echo "               (DATA: a COCO JSON, YOLO's data.yaml, or a Pascal VOC folder)  [RECIPE=\"steps=1000\"] [YES=1]"

reproduce: $(READY)  ## train what is missing, execute the notebooks, write results/PROFILE
	@$(BIN)/focalrepro reproduce $(ABLATIONS) $(OWN) $(if $(SEEDS),--seeds $(SEEDS)) --device $(DEVICE) $(if $(filter-out 0 no false,$(REUSE)),--reuse,)

test: $(READY)  ## the test suite, every notebook included
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lab: $(READY)  ## JupyterLab on notebooks/
	@$(BIN)/jupyter lab --notebook-dir notebooks

status: $(READY)  ## what is done and missing in PROFILE
	@$(BIN)/focalrepro status --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS))

verify: $(READY)  ## every table and verdict of results/PROFILE again from its runs: what differs
	@$(BIN)/focalrepro verify --profile $(PROFILE)

lint: $(READY)  ## ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

stress: $(READY)  ## the long form of the tests of harm: 50 kills, 1,000 spoiled inputs of each kind; writes results/stress
	@$(BIN)/python tests/stress/stress.py

# The site has a lock and an environment of its own (400 MB, no torch), so that `make test` installs none of it.
site: .venv-site/.ready  ## pages and executed notebooks as a static site, build/site/index.html; no network needed
	@.venv-site/bin/python site/build.py

site-check: .venv-site/.ready  ## every page of the site in headless Chromium: console, requests, images, widths
	@CHROMIUM=$(CHROMIUM) .venv-site/bin/python site/check.py $(PICTURES)

clean:  ## remove the environment, generated data and caches; finished runs are kept
	rm -rf .venv .venv-site build *.egg-info .pytest_cache .ruff_cache data/cache data/synthetic* data/downloads

clean-runs:  ## remove this machine's finished runs too (data/runs)
	rm -rf data/runs

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Say which: make PYTHON=python3.12 …"; exit 1; }
	@echo "Setting up .venv: 5 GB of packages on Linux, a few minutes, once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-site/.ready: requirements-site.lock
	@$(PYTHON) -m venv .venv-site
	@.venv-site/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-site.lock
	@touch $@
