#!/usr/bin/env bash
# Install what some tests need of the system: a real terminal multiplexer, a real Slurm, a real browser. Without, those
# are skipped.
set -euo pipefail
for line in "tmux slurm-wlm munge libpmix-dev" chromium; do
  read -ra packages <<< "$line"
  dpkg -s "${packages[@]}" >/dev/null 2>&1 && continue
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $line for the tests"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null ||
      echo "could not install them; the tests that need them are skipped"
  else
    echo "tests of studies, of Slurm and of reports need: sudo apt install $line (without, they are skipped)"
  fi
done
