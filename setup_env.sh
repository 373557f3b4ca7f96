#!/usr/bin/env bash
# Create .venv and install the packages pinned in requirements-dev.txt. A second run does nothing.
#   PYTHON=python3.12 ./setup_env.sh                                  # the Python to use, 3.11 or newer
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu ./setup_env.sh   # CPU-only torch; PyPI's build includes CUDA
#   SYSTEM_PACKAGES=no ./setup_env.sh                                 # install nothing outside .venv, even as root
set -euo pipefail
cd "$(dirname "$0")"
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
is_new() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local python
  for python in ${PYTHON:+"$PYTHON"} python3 python3.{14,13,12,11}; do
    if is_new "$python"; then echo "$python"; return; fi
    [ -z "${PYTHON:-}" ] || break  # do not replace the user's choice
  done
  fail "$("${PYTHON:-python3}" --version 2>&1 || true): MiloZero needs Python 3.11 or newer;" \
    "install it and choose it with PYTHON=python3.11 $0"
}

stamp=.venv/.installed
wanted=$(cat requirements.txt requirements-dev.txt requirements-opensim.txt setup_env.sh | sha256sum | cut -d' ' -f1)
if [ -f .venv/.made_for_cluster ]; then
  echo ".venv was created by setup_env_baobab.sh for this cluster's MPI; leaving it unchanged"
elif [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! is_new .venv/bin/python; then
  if ! is_new .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    # clear an environment of an older Python; complete one that lacks pip
    is_old=$([ ! -x .venv/bin/python ] || is_new .venv/bin/python || echo yes)
    "$python" -m venv ${is_old:+--clear} .venv || fail "cannot create .venv; on Debian and Ubuntu, install python3-venv"
  fi
  echo "installing into .venv (once, takes a few minutes)"
  # pip compiles modules on one core, so compileall does it
  export PIP_NO_COMPILE=1
  # torch alone first: otherwise a later package would fetch another build of it
  .venv/bin/pip install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep -o '^torch==[^ ]*' requirements.txt)"
  .venv/bin/pip install --quiet -r requirements-dev.txt
  .venv/bin/pip install --quiet --no-deps -r requirements-opensim.txt ||
    echo "could not install OpenSim; everything else works without it. To retry:" \
      ".venv/bin/pip install --no-deps -r requirements-opensim.txt"
  .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true  # some files are of newer Pythons
  # allow more workers than cores, which mpiexec refuses by default
  conf=.venv/etc/prte-mca-params.conf
  if [ -f "$conf" ] && ! grep -q '^rmaps_default_mapping_policy' "$conf"; then
    echo "rmaps_default_mapping_policy = :oversubscribe" >> "$conf"
  fi
  echo "$wanted" > "$stamp"
fi

# Headless rendering needs EGL with Mesa, or OSMesa.
PATH=$PATH:/sbin  # of ldconfig, which Debian leaves out for users other than root
if ! ldconfig -p | grep -q 'libEGL\.so\.1' || ! ldconfig -p | grep -q 'libEGL_mesa\.so\.0'; then
  if ! ldconfig -p | grep -q libOSMesa; then
    packages=(libegl1 libegl-mesa0 libgl1-mesa-dri libgl1)
    if [ "${SYSTEM_PACKAGES:-yes}" = yes ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "installing ${packages[*]} for rendering"
      helpers/apt_install.sh "${packages[@]}" 2>/dev/null ||
        echo "could not install ${packages[*]}; everything except videos works without them"
    else
      echo "to record videos, run: sudo apt install ${packages[*]} (everything else works without them)"
    fi
  fi
fi
