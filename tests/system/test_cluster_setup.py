"""`setup_env_baobab.sh` on a cluster with a fake `module` command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT
from tests.support.programs import AS_ROOT

SCRIPT = ROOT / "setup_env_baobab.sh"
BASICS = [
    "bash",
    "sh",
    "cat",
    "cp",
    "cut",
    "dirname",
    "env",
    "grep",
    "ls",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "timeout",
    "touch",
    "tr",
    "ld",
    "as",
]
MODULE = """() {
  [ "$1" = load ] || return 2
  [ -d "$MODULE_TREE/$2" ] || { echo "Lmod has detected the following error: $2 is unknown" >&2; return 1; }
  PATH=$MODULE_TREE/$2/bin:$PATH
  export LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}dependency/1:$2/1.2.3
  touch $UNSET_VARIABLE_OF_A_MODULE/dev/null
}"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Create modules GCC, OpenMPI and Python from this machine's programs; returns their folder."""
    tree = tmp_path_factory.mktemp("modules")
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    programs = {
        "GCC": {name: shutil.which(name) for name in ("gcc", "cc", "g++", "c++")},
        "OpenMPI": {name: shutil.which(name) for name in ("mpicc", "mpiexec")},
        "Python": {"python3": python},
    }
    if missing := [name for by_name in programs.values() for name, program in by_name.items() if program is None]:
        pytest.skip(f"{missing[0]} is not installed")
    for module, by_name in programs.items():
        (tree / module / "bin").mkdir(parents=True)
        for name, program in by_name.items():
            script(tree / module / "bin" / name, f'exec "{program}" "$@"')
    script(tree / "OldPython" / "bin" / "python3", '[ "$1" = --version ] && echo Python 3.6.8; exit 1')
    return tree


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def set_up(tree, venv, modules=None, module=True, timeout=500, cwd=None, **variables):
    """Run the script with only basic programs on the PATH: no compilers, MPI or Python."""
    basics = tree / "basics"
    if not basics.exists():
        basics.mkdir()
        for name in BASICS:
            (basics / name).symlink_to(shutil.which(name))
    kept = ("PIP_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "http_", "https_", "LANG", "HOME", "TMP")
    env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    env |= {"PATH": str(basics), "VENV": str(venv), "MODULE_TREE": str(tree)} | AS_ROOT | variables
    if modules:
        env["MODULES"] = modules
    if module:
        env["BASH_FUNC_module%%"] = MODULE
    script = os.path.relpath(SCRIPT, cwd) if cwd else SCRIPT
    return subprocess.run(["bash", script], env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def fails_with(done, *words):
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    return True


@pytest.mark.timeout(1200)
def test_script_installs_an_environment_on_a_cluster(tree, tmp_path):
    """Installs against the modules' MPI and checks two workers; a second run only checks."""
    venv = tmp_path / "venv"
    # Python compiles the few modules that are used, and mpi4py's speed does not matter here.
    done = set_up(tree, venv, timeout=1100, PIP_NO_COMPILE="1", CFLAGS="-O0")
    assert done.returncode == 0, done.stderr[-500:]
    assert "modules: GCC/1.2.3 OpenMPI/1.2.3 Python/1.2.3\n" in done.stdout
    assert "\n2 workers, Open MPI v" in done.stdout
    cluster = yaml.safe_load(done.stdout.splitlines()[-1].split("spawner.py:")[1])
    assert cluster == {"modules": ["GCC/1.2.3", "OpenMPI/1.2.3", "Python/1.2.3"]}
    assert f"module load GCC/1.2.3 OpenMPI/1.2.3 Python/1.2.3 && source {venv}/bin/activate\n" in done.stdout

    python = venv / "bin" / "python"
    (mpi,) = (venv / "lib").glob("python3*/site-packages/mpi4py/MPI*.so")
    assert mpi.name.startswith("MPI.cpython")  # built from source; wheels contain one module per MPI implementation
    assert not (venv / "bin" / "mpiexec").exists()

    environment = os.environ | AS_ROOT
    train = ["--task=train", "--env_id=InvertedPendulum", "--num_iters=1", "--rollout_len=256", "--uuid=there"]
    subprocess.run(
        [shutil.which("mpiexec"), "-n", "2", python, ROOT / "main.py", *train, f"--data_dir={tmp_path}"],
        env=environment,
        timeout=500,
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "checkpoints" / "there" / "last.pt").exists()

    kept = (venv / "bin" / "python").lstat().st_ctime_ns
    again = set_up(tree, venv, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is up to date" in again.stdout
    assert "installing" not in again.stdout
    assert "\n2 workers, Open MPI v" in again.stdout
    assert (venv / "bin" / "python").lstat().st_ctime_ns == kept
    shutil.rmtree(venv)  # pytest would keep these gigabytes


def test_missing_module_is_an_error(tree, tmp_path):
    done = set_up(tree, tmp_path / "venv", modules="GCC/99 OpenMPI Python")
    assert fails_with(done, "module load GCC/99", "module spider GCC")
    assert not (tmp_path / "venv").exists()


def test_old_python_is_an_error(tree, tmp_path):
    done = set_up(tree, tmp_path / "venv", modules="GCC OpenMPI OldPython")
    assert fails_with(done, "Python 3.6.8 is too old", "3.11")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("modules", "missing"), [("GCC OpenMPI", "python3"), ("GCC Python", "mpicc")])
def test_program_that_no_module_provides_is_an_error(tree, tmp_path, modules, missing):
    assert fails_with(set_up(tree, tmp_path / "venv", modules=modules), f"there is no {missing}")


def test_missing_module_command_is_reported(tree, tmp_path):
    done = set_up(tree, tmp_path / "venv", module=False)
    assert "there are no environment modules here" in done.stdout
    assert fails_with(done, "there is no python3")


@pytest.mark.parametrize("name", ["thesis.tex", "pyvenv.cfg"])
def test_folder_that_the_script_has_not_created_is_kept(tree, tmp_path, name):
    """`VENV=$HOME` must not delete a home, nor another project's environment."""
    (tmp_path / name).write_text("years of work")
    assert fails_with(set_up(tree, tmp_path), "not made by this script", "VENV=")
    assert (tmp_path / name).read_text() == "years of work"


@pytest.mark.parametrize("broken", ["venv", "pip"])
def test_interrupted_installation_is_repeated(tree, tmp_path, broken):
    """A partial installation does not count as complete and does not prevent a new one."""
    venv = tmp_path / "venv"
    script(tree / broken / "bin" / "mpicc", "exit 0")
    script(
        tree / broken / "bin" / "python3",
        f"""case "$*" in
  *version*) echo Python 3.11.0;;
  "-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; [ {broken} != venv ] || exit 1;;
  "-m pip"*) exit 1;;
esac
exit 0""",
    )
    for _ in range(2):
        done = set_up(tree, venv, modules=broken)
        assert done.returncode == 1
        assert "not made by this script" not in done.stderr
        assert ("installing into" in done.stdout) == (broken == "pip")
        assert "in each new shell" not in done.stdout
