#!/usr/bin/env bash
# Say which files should be reworked: formatting, flake8's rules, trailing commas, docstrings, newer syntax, types.
# With --fix, repair what can be repaired.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/ruff ] && PATH="$PWD/.venv/bin:$PATH"
command -v ruff >/dev/null || { echo "ruff is missing; run: pip install -r requirements-dev.txt" >&2; exit 2; }
if [ "${1:-}" = "--fix" ]; then
  ruff check --fix --quiet . || true
  ruff format --quiet .
fi
status=0
ruff format --check . || status=1
ruff check . || status=1
mypy || status=1
exit $status
