#!/usr/bin/env bash
# Install Debian packages as root: helpers/apt_install.sh PACKAGE... Waits while another package manager holds a lock.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C  # BUSY matches English messages
BUSY="Could not get lock|is held by process|Unable to acquire|Unable to lock"
LOCK_TIMEOUT_S=${LOCK_TIMEOUT_S:-600}  # how long to wait
POLL_S=${POLL_S:-5}

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

apt update
apt install -y --no-install-recommends "$@"
