install:
	pip install 'torch==2.13.0'
	pip install -e '.[dev]'

lint:
	ruff check .
	ruff format --check .
	mypy
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

test:
	pytest -q -n auto

# To look at while writing: mkdocs serve. The pictures: python docs/pictures.py
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

ci:
	.ci/run

# The oldest releases that pyproject.toml declares, for CI; after every change of a bound.
# What torch's build for GPUs needs beside it is left to pip, so that another build can take its place.
floors:
	uv pip compile pyproject.toml --extra dev --resolution lowest-direct --python-version 3.11 \
		--no-annotate --custom-compile-command 'make floors' --quiet \
		| grep -v -E '^(nvidia-|triton)' > .ci/floors.txt

.PHONY: install lint test docs ci floors
