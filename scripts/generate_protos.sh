#!/usr/bin/env bash
# Writes the Python code of protos/ into the folder $1, message classes, stubs
# and types, the proto's comments included. Same input, same bytes.
set -euo pipefail
out=$1
cd "$(dirname "$0")/.."
mkdir -p "$out"
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m grpc_tools.protoc --proto_path=protos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  studyai/v1/chat.proto
