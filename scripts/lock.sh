#!/usr/bin/env bash
# Resolves pyproject.toml into the lock files: what runs, what runs in containers, what checks, what measures.
# Hashes of every file, no index's address: install from any mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install --quiet 'uv>=0.13'
compile=(.venv/bin/uv pip compile pyproject.toml clients/python/pyproject.toml --universal --generate-hashes
  --no-emit-index-url --no-header --quiet --python-version 3.11 --extra local --extra cli "$@")
"${compile[@]}" --group pyproject.toml:build --output-file requirements/run.lock
# For images, each service by itself: neither the other's libraries nor the embedded model nor the command.
for service in engine gateway; do
  .venv/bin/uv pip compile "requirements/$service.in" --universal --generate-hashes --no-emit-index-url --no-header --quiet \
    --python-version 3.11 --group pyproject.toml:build --constraint requirements/run.lock --output-file "requirements/$service.lock"
done
"${compile[@]}" --group pyproject.toml:build --group pyproject.toml:dev --constraint requirements/run.lock --output-file requirements/dev.lock
"${compile[@]}" --group pyproject.toml:build --group pyproject.toml:bench --constraint requirements/run.lock --output-file requirements/bench.lock
