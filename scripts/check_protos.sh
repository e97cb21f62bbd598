#!/usr/bin/env bash
# Fails where generated/ is not what protos/ makes, where the protos break buf's
# rules or its format, and where they break a consumer of the last release, or
# of main while there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
buf=.venv/bin/buf

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# What the tools say is of interest only where they fail.
told=$(scripts/generate_protos.sh "$fresh" 2>&1) || { echo "$told" >&2; exit 1; }
diff --recursive --unified --exclude=__pycache__ --exclude=py.typed generated "$fresh" ||
  { echo "generated/ is not what protos/ makes: run 'make proto'" >&2; exit 1; }

"$buf" lint
"$buf" format --diff --exit-code

release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)
against=${release:-main}
if git cat-file -e "$against:buf.yaml" 2>/dev/null; then
  git archive "$against" buf.yaml protos | tar -x -C "$fresh"
  "$buf" breaking --against "$fresh"
else
  echo "no protos at $against yet: nothing to break" >&2
fi
