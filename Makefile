# Two commands on a fresh machine: make demo, make test. Python 3.11 or newer is all they need.
PYTHON ?= python3
BIN := .venv/bin
CYTOSEG := $(BIN)/cytoseg
INSTALLED := .venv/.installed

.PHONY: docs fuzz demo demo-made demo-lbc test test-browser test-slow test-story check review browser clean

ifdef DATA
demo: demo-lbc
RECIPE ?= recipes/lbc.yaml
OVERRIDES ?= slides.folders=[$(DATA)/unlabeled]
else
demo: demo-made
RECIPE ?= recipes/quickstart.yaml
endif

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[app,openslide,parquet,pretrained,zarr,docs,dev]'
	touch $@

# The forest that evaluate would train is one of those that compare trains at the end.
demo-made: $(INSTALLED)
	$(CYTOSEG) slides generate data/made --n 8 --width 768 --height 768 --crops 3 --stain violet-olive --stain steel-coral
	$(CYTOSEG) label-import data/made/labelled --recipe $(RECIPE)
	$(CYTOSEG) train-interpreter $(RECIPE)
	$(CYTOSEG) evaluate $(RECIPE) --no-baseline
	$(CYTOSEG) predict $(RECIPE) data/made/slides/made_0_00.ome.tif data/made/slides/made_0_07.ome.tif
	$(CYTOSEG) report $(RECIPE)
	$(CYTOSEG) compare $(RECIPE) --quick
	@echo "The slides are made, of another seed and of two stains that no slide had which taught the base model. Table: runs/quickstart/compare"
	@echo "Pictures: runs/quickstart/evaluation/crops, runs/quickstart/predictions. Look at the result in a browser: make review"

demo-lbc: $(INSTALLED)
	$(CYTOSEG) label-import $(DATA)/train --recipe $(RECIPE) --slide-regex '^(\d+)_' --area outline '$(OVERRIDES)'
	$(CYTOSEG) label-import $(DATA)/test --recipe $(RECIPE) --slide-regex '^(\d+)_' '$(OVERRIDES)'
	$(CYTOSEG) train-interpreter $(RECIPE) '$(OVERRIDES)'
	$(CYTOSEG) evaluate $(RECIPE) --no-baseline '$(OVERRIDES)'
	$(CYTOSEG) predict $(RECIPE) $(firstword $(wildcard $(DATA)/unlabeled/*.jpg)) '$(OVERRIDES)'
	$(CYTOSEG) report $(RECIPE)
	$(CYTOSEG) compare $(RECIPE) --quick '$(OVERRIDES)'
	@echo "Table: runs/lbc/compare"
	@echo "Pictures: runs/lbc/evaluation/crops, runs/lbc/predictions. Look at the result in a browser: make review RECIPE=$(RECIPE)"

# Thousands of mutated files for each reader; `make test` tries a few.
fuzz: $(INSTALLED)
	CYTOSEG_FUZZ=2000 $(BIN)/python -m pytest tests/test_fuzz.py tests/test_fuzz_files.py tests/test_fuzz_run_files.py \
		tests/test_fuzz_checkpoints.py

review: $(INSTALLED)
	$(CYTOSEG) review $(RECIPE)

# Bytecode is kept also where Python is told to write none: else each worker rewrites all tests again, in ten seconds.
test test-browser test-slow test-story: export PYTHONDONTWRITEBYTECODE :=

# Files begin in their order; by the number of their tests, the few that take longest would come last, and one of two workers would wait.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The app in a headless Chromium.
test-browser: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'browser and not slow' tests/browser

# Whole runs whose parts have faster tests, and what reads real cells in CYTOSEG_DATA.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'slow and not gpu and not network'

# The whole job in a browser, from slides to a signed-off result; on every push.
test-story: $(INSTALLED)
	$(BIN)/python -m pytest -m 'slow or not slow' tests/browser/test_workbench_browser.py

# The site; every page and link is checked.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir .site

# The types of the app's own JavaScript; node comes with the dev extra.
TSC := .venv/tsc/node_modules/.bin/tsc
$(TSC): $(INSTALLED)
	$(BIN)/npm install --silent --no-audit --no-fund --prefix .venv/tsc typescript@7.0.2
	touch $@

check: $(INSTALLED) docs $(TSC)
	$(BIN)/ruff check
	$(BIN)/ruff check --preview --select PLW1514 cytoseg apps
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict cytoseg
	$(BIN)/typos
	$(BIN)/oxlint --deny-warnings --ignore-pattern 'vendor/**' apps/review
	$(TSC) --project apps/review/jsconfig.json

# The tests take any Chromium; on a busy machine the headless shell is twice as fast.
browser:
	command -v chromium-headless-shell >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium-headless-shell; } \
		|| command -v chromium >/dev/null || apt-get install -y -qq chromium

clean:
	rm -rf .venv runs data/made
