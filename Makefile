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

# To preview the site: mkdocs serve. To regenerate the pictures: python docs/pictures.py
docs:
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

ci:
	.ci/run

# Write the oldest releases that pyproject.toml declares to .ci/floors.txt. Run this after every change of a bound.
# The CUDA packages of torch are left to pip, so that the CPU build can be used instead.
floors:
	uv pip compile pyproject.toml --extra dev --resolution lowest-direct --python-version 3.11 \
		--no-annotate --custom-compile-command 'make floors' --quiet \
		| grep -v -E '^(nvidia-|triton)' > .ci/floors.txt

.PHONY: install lint test docs ci floors
