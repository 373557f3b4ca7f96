#!/usr/bin/env bash
# List the files to rework, and why: formatting, flake8's rules, trailing commas, docstrings, outdated syntax, types, imports
# that violate the layers, shell scripts. With --fix, first fix what can be fixed automatically.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/ruff ] && PATH="$PWD/.venv/bin:$PATH"
for tool in ruff mypy lint-imports shellcheck; do
  command -v $tool >/dev/null || { echo "error: $tool is missing; run: pip install -r requirements-dev.txt" >&2; exit 2; }
done
case "${1:-}" in
  "") ;;
  --fix)
    ruff check --fix --quiet . >/dev/null || true
    ruff format --quiet . 2>/dev/null || true  # files that it cannot parse are listed below
    ;;
  *)
    echo "usage: ./super_linter.sh [--fix]" >&2
    exit 2
    ;;
esac

# Golden files, which tests compare with, are not formatted.
prune=(-path './.*' -o -path ./data -o -path './venv*' -o -path ./site -o -name golden)
mapfile -t scripts < <(find . -mindepth 1 \( "${prune[@]}" \) -prune -o -name '*.sh' -printf '%P\n' | sort)
[ -f .ci/run ] && scripts+=(.ci/run)
found=$(mktemp)
trap 'rm -f "$found"' EXIT
status=0
ruff format --check --output-format=concise . | tee -a "$found" || status=1
ruff check --output-format=concise . | tee -a "$found" || status=1
mypy | tee -a "$found" || status=1
[ ! -d milozero ] || lint-imports --no-logo || status=1
[ ${#scripts[@]} = 0 ] || shellcheck --format=gcc "${scripts[@]}" | tee -a "$found" || status=1
if [ $status != 0 ]; then
  echo
  echo "files to rework (./super_linter.sh --fix fixes what it can):"
  grep -oE '^[^:]+:[0-9]+:' "$found" | cut -d: -f1 | sort | uniq -c | while read -r times file; do echo "  $file ($times)"; done
fi
exit $status
