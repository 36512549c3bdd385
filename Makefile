# Everything that a person or CI does here. `make demo` and `make test` need only make and Python 3.11 with venv.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check -q
PINNED  = -c constraints.txt
# Which build of torch: the index that pytorch.org names for the CPU or for a CUDA version; empty: what pip finds by itself.
TORCH_INDEX ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve-demo test test-slow check format embedded-model measure methods-table evaluate clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --upgrade "pip>=25.1"
	$(if $(TORCH_INDEX),$(PIP) install $(PINNED) torch --index-url $(TORCH_INDEX))
	$(PIP) install $(PINNED) -e ".[demo]"
	touch $@

$(VENV)/.measure: $(VENV)/.installed
	$(PIP) install $(PINNED) --group measure
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) install $(PINNED) --group test
	touch $@

$(VENV)/.training: $(VENV)/.installed
	$(PIP) install $(PINNED) --group training
	touch $@

demo: $(VENV)/.installed  ## install, then inspect real photos offline
	$(BIN)/blemish demo --out demo-results

$(VENV)/.serve: $(VENV)/.installed
	$(PIP) install $(PINNED) -e ".[demo,serve]"
	touch $@

serve-demo: $(VENV)/.serve  ## a service with a simulated line; opens its page in the browser
	$(BIN)/blemish serve --demo --log warning

check: $(VENV)/.test  ## format, lint, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check  ## everything that must hold, under ten minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.test  ## what takes longer
	$(BIN)/python -m pytest -m slow

format: $(VENV)/.test  ## bring the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

training-cache/photos: $(VENV)/.training  ## photos of materials to train on, from a Debian package (1.4 GB to fetch)
	mkdir -p training-cache/0ad
	cd training-cache/0ad && apt-get download 0ad-data && dpkg-deb --fsys-tarfile 0ad-data_*.deb \
	  | tar -x --strip-components=7 ./usr/share/games/0ad/mods/public/public.zip
	$(BIN)/python -m recipes.embedded.photos training-cache/0ad/public.zip --out $@
	rm -r training-cache/0ad

embedded-model: $(VENV)/.training training-cache/photos  ## train the embedded model again, prompts and all (hours on two cores; resumes)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m recipes.embedded
	for method in faprompt dapo ensemble; do $(BIN)/python -m recipes.prompts $$method || exit 1; done

PUBLIC = $(if $(wildcard training-cache/public-sets),--public training-cache/public-sets)
SEEDS = $(patsubst %/model.safetensors,%,$(wildcard training-cache/seed-*/model.safetensors))

measure: $(VENV)/.measure  ## the tables of docs/embedded-model.md, on real images (DATA=folder; goes on where it was stopped)
	$(BIN)/python -m benchmarks.measure --data-root $(or $(DATA),../shared/data) --alternatives --peers --rows training-cache/measured $(PUBLIC)
	$(if $(SEEDS),$(BIN)/python -m benchmarks.measure --data-root $(or $(DATA),../shared/data) --seeds $(SEEDS) --rows training-cache/measured)

methods-table: $(VENV)/.measure  ## docs/methods-measured.md: every method, three seeds each (hours; goes on where it was stopped; MOST=100 images a row)
	$(BIN)/python -m benchmarks.methods_table --data-root $(or $(DATA),../shared/data) --cache training-cache/methods --most $(or $(MOST),100)

evaluate: $(VENV)/.measure  ## docs/benchmarks.md, on what there is below DATA=folder (goes on where it was stopped)
	$(BIN)/blemish evaluate $(or $(METHODS),ensemble faprompt dapo) --data elpv magnetic-tile hazelnut kvasir crackforest \
	  --data-root $(or $(DATA),../shared/data) --split all --typed --backbone embedded --out evaluation --markdown docs/benchmarks.md

clean:  ## remove what was made, the environment included
	rm -rf $(VENV) demo-results results dist build
