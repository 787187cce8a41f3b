install:
	pip install 'torch==2.13.0'
	pip install -e '.[dev]'

lint:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest -q -n auto

ci:
	.ci/run

.PHONY: install lint test ci
