#!/usr/bin/env bash
# Install the packages that some tests need (tmux, Slurm, a browser, rendering). Without root, only list them.
set -euo pipefail
missing=()
for package in tmux slurm-wlm munge libpmix-dev chromium libegl1 libegl-mesa0 libgl1-mesa-dri libgl1; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} for the tests"
  if ! "$(dirname "$0")/../helpers/apt_install.sh" "${missing[@]}"; then
    [ -n "${CI:-}" ] && exit 1
    echo "could not install them; the tests that need them are skipped"
  fi
else
  echo "some tests are skipped; to run them: sudo apt install ${missing[*]}"
fi
