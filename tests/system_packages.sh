#!/usr/bin/env bash
# Install what some tests need of the system: a real terminal multiplexer, a real Slurm. Without, those are skipped.
set -euo pipefail
packages="tmux slurm-wlm munge libpmix-dev"
dpkg -s $packages >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing $packages for the tests"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >/dev/null ||
    echo "could not install them; the tests that need them are skipped"
else
  echo "tests of studies and of Slurm need: sudo apt install $packages (without, they are skipped)"
fi
