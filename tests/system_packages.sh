#!/usr/bin/env bash
# Install the packages that some tests need (tmux, Slurm, a browser, rendering). Without root, only list them.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C  # BUSY matches English messages
BUSY="Could not get lock|is held by process|Unable to acquire|Unable to lock"
LOCK_TIMEOUT_S=${LOCK_TIMEOUT_S:-600}  # how long to wait for another package manager's locks
POLL_S=${POLL_S:-5}

# Run apt-get; if another package manager holds a lock, wait and retry.
apt() {
  local deadline=$((SECONDS + LOCK_TIMEOUT_S)) output
  until output=$(apt-get -qq -o DPkg::Lock::Timeout=0 "$@" 2>&1); do
    if ! grep -qE "$BUSY" <<< "$output" || ((SECONDS >= deadline)); then
      echo "$output" >&2
      return 1
    fi
    echo "waiting for another package manager: $(grep -m1 -E "$BUSY" <<< "$output")"
    sleep "$POLL_S"
  done
}

missing=()
for package in tmux slurm-wlm munge libpmix-dev chromium libegl1 libegl-mesa0 libgl1-mesa-dri libgl1; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} for the tests"
  if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
    [ -n "${CI:-}" ] && exit 1
    echo "could not install them; the tests that need them are skipped"
  fi
else
  echo "some tests are skipped; to run them: sudo apt install ${missing[*]}"
fi
