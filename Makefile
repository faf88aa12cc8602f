# Everything a newcomer needs. `make demo` and `make test` set up what is missing first.

PYTHON ?= $(firstword $(shell command -v python3 python3.13 python3.12 python3.11 2>/dev/null) python3)
DATA ?= ../shared/faces/dev
OUT ?= out
SETUP_FLAGS ?=
HARD_LIGHT ?= subject_00 subject_03 subject_04

.DEFAULT_GOAL := help
.PHONY: help setup setup-blenders demo test bench extension extension-repo gui-test lock clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make the solver's environment and one with Blender as a module
	@$(PYTHON) tools/environments.py $(SETUP_FLAGS)

setup-blenders:  ## … and one for every other Blender whose Python is here (4.2, 4.5, 5.2)
	@$(PYTHON) tools/environments.py --all-blenders $(SETUP_FLAGS)

demo: setup  ## a public-domain portrait becomes out/demo/demo.blend and a picture of it
	@$(PYTHON) tools/demo.py

test: setup  ## style, types, and all tests
	@$(PYTHON) tools/run_tests.py

bench: setup  ## accuracy on synthetic heads in DATA, what more photos bring, the speed of one step, and of a batch
	.venv/solver/bin/python benchmarks/accuracy.py --data $(DATA) --out $(OUT)/bench
	.venv/solver/bin/python benchmarks/photos.py --data $(DATA) --out $(OUT)/photos
	.venv/solver/bin/python benchmarks/speed.py
	.venv/solver/bin/python benchmarks/facemodels.py --work $(OUT)/bench/models
	.venv/solver/bin/python benchmarks/gloss.py
	.venv/solver/bin/python benchmarks/engines.py --data $(DATA) --out $(OUT)/bench/engines \
		--subjects $(HARD_LIGHT) --write docs/rendering.md
	.venv/solver/bin/python benchmarks/true_shape.py --data $(DATA) --subjects $(HARD_LIGHT)
	.venv/solver/bin/python benchmarks/batch.py
	.venv/solver/bin/python benchmarks/multiview.py --method texture --data $(DATA)/multiview_00 --out $(OUT)/bench --perturbed
	.venv/solver/bin/python benchmarks/multiview.py --method gaussians --data $(DATA)/multiview_00 --out $(OUT)/bench
	.venv/solver/bin/python benchmarks/multiview.py --method mesh --data $(DATA)/multiview_00 --out $(OUT)/bench
	.venv/solver/bin/python benchmarks/remesh_fuzz.py

extension: setup  ## the zip that Blender installs, in out/; STORE=1: without the installer
	@$(PYTHON) tools/extension.py $(OUT) $(if $(STORE),--store)

extension-repo: setup  ## out/repository/: a static repository that Blender can be pointed at
	@$(PYTHON) tools/extension.py $(OUT) --repository

gui-test: extension  ## the panel in a real window; BLENDER=… names a Blender to be driven (docs/blender.md)
	@$(PYTHON) tools/gui_test.py --zip $(OUT) --out $(OUT)/gui $(if $(BLENDER),--blender $(BLENDER))

lock:  ## resolve the dependencies anew and rewrite requirements/
	@$(PYTHON) tools/lock.py

clean:  ## remove what runs and tests have left
	rm -rf $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -print0 | xargs -0 -r rm -rf

distclean: clean  ## … and the environments
	rm -rf .venv solver/*.egg-info
