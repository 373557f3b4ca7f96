"""Setting up the environment, with fakes of Python and Debian's package manager; and a Python without packages."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT

# A Python of some version whose venv module makes an environment with the same Python, and a pip that logs its calls.
PYTHON = """#!/bin/sh
case "$*" in
  *version_info*) exit {too_old} ;;
  --version) echo "Python {version}" ;;
  "-m venv"*)
    echo "venv {version} $*" >>"$LOG"
    for target; do :; done
    case "$*" in *--clear*) rm -rf "$target" ;; esac
    mkdir -p "$target/bin" && cp "$0" "$target/bin/python"
    [ -z "$NO_PIP" ] || exit 1
    printf '#!/bin/sh\\necho pip "$@" >>"$LOG"\\n' >"$target/bin/pip"; chmod +x "$target/bin/pip" ;;
  "-m pip --version") [ -x "$(dirname "$0")/pip" ] ;;
esac
"""

# A package manager whose lock another one holds during the first calls.
APT = """#!/bin/sh
echo "apt-get $*" >>"$LOG"
[ "$(grep -c ^apt-get "$LOG")" -gt {busy} ] && exit
echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)" >&2; exit 100
"""


@pytest.fixture
def setup(tmp_path):
    """Return a function that runs setup_env.sh in a copy, with these Pythons, name → version."""
    root = tmp_path / "clone with spaces"
    (root / "helpers").mkdir(parents=True)
    for name in ("setup_env.sh", "helpers/apt_install.sh", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, root / name)

    def run(pythons, renders: bool | None = True, busy=0, **environment):
        programs = tmp_path / "programs"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        for name, version in pythons.items():
            too_old = int(tuple(map(int, version.split("."))) < (3, 11))
            (programs / name).write_text(PYTHON.format(version=version, too_old=too_old))
        if renders is not None:
            (programs / "ldconfig").write_text("#!/bin/sh\necho libOSMesa\n" if renders else "#!/bin/sh\n")
        (programs / "id").write_text("#!/bin/sh\necho 0\n")
        (programs / "apt-get").write_text(APT.format(busy=busy))
        for path in programs.iterdir():
            path.chmod(0o755)
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "LOG": str(log),
            "NO_PIP": "",
            "POLL_S": "0.01",
        } | environment
        script = [str(root / "setup_env.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=30)
        done.calls = log.read_text().splitlines() if log.exists() else []
        return done

    run.venv = root / ".venv"
    return run


OLD = dict.fromkeys(("python3", "python3.14", "python3.13", "python3.12", "python3.11"), "3.10")


def test_old_python_is_refused_and_leaves_nothing(setup):
    done = setup(OLD)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Python 3.10: MiloZero needs Python 3.11 or newer;")
    assert len(done.stderr.splitlines()) == 1
    assert done.calls == []
    assert not setup.venv.exists()


def test_newer_python_beside_an_old_one_is_used(setup):
    done = setup(OLD | {"python3.12": "3.12"})
    assert done.returncode == 0, done.stderr
    assert done.calls[0] == "venv 3.12 -m venv .venv"
    assert (setup.venv / ".installed").exists()
    again = setup(OLD | {"python3.12": "3.12"})
    assert (again.returncode, again.calls) == (0, [])


def test_ldconfig_is_found_outside_a_users_path(setup):
    done = setup({"python3": "3.12"}, renders=None)  # the fake PATH has no /sbin, like a user's on Debian
    assert (done.returncode, done.stderr) == (0, "")


def test_chosen_python_is_not_replaced(setup):
    done = setup({"python3": "3.12", "mine": "3.9"}, PYTHON="mine")
    assert done.returncode == 1
    assert "Python 3.9: MiloZero needs" in done.stderr
    assert setup({"python3": "3.9", "mine": "3.13"}, PYTHON="mine").calls[0].startswith("venv 3.13")


def test_environment_of_an_older_python_is_replaced(setup):
    (setup.venv / "bin").mkdir(parents=True)
    (setup.venv / "bin/python").write_text("#!/bin/sh\nexit 1\n")
    (setup.venv / "bin/python").chmod(0o755)
    (setup.venv / ".installed").write_text("old")
    done = setup(OLD | {"python3.11": "3.11"})
    assert done.returncode == 0, done.stderr
    assert done.calls[0] == "venv 3.11 -m venv --clear .venv"


def test_environment_without_pip_is_completed_by_the_next_try(setup):
    done = setup({"python3": "3.11"}, NO_PIP="yes")  # Debian without python3-venv
    assert done.returncode == 1
    assert done.stderr == "error: cannot create .venv; on Debian and Ubuntu, install python3-venv\n"
    (setup.venv / "mine").write_text("")
    assert setup({"python3": "3.11"}).calls[0] == "venv 3.11 -m venv .venv"
    assert (setup.venv / "mine").exists()


def test_busy_package_manager_is_waited_for(setup):
    done = setup({"python3": "3.11"}, renders=False, busy=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waiting for another package manager") == 2
    assert "could not install" not in done.stdout
    calls = [call.split()[4:] for call in done.calls if call.startswith("apt-get")]
    assert [call[0] for call in calls] == ["update", "update", "update", "install"]
    assert calls[-1][-4:] == ["libegl1", "libegl-mesa0", "libgl1-mesa-dri", "libgl1"]


def test_package_manager_that_fails_is_no_error(setup):
    done = setup({"python3": "3.11"}, renders=False, busy=10**6, LOCK_TIMEOUT_S="0")
    assert done.returncode == 0
    assert "could not install libegl1 libegl-mesa0 libgl1-mesa-dri libgl1; everything except videos" in done.stdout


@pytest.mark.parametrize("program", ["main.py", "spawner.py"])
@pytest.mark.parametrize("created", [True, False])
def test_python_without_the_packages_names_the_command_that_activates_one_with_them(tmp_path, program, created):
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "milozero").mkdir()
    shutil.copy(ROOT / "milozero/__init__.py", tmp_path / "milozero")
    (tmp_path / "milozero/helpers").symlink_to("../helpers")
    shutil.copy(ROOT / program, tmp_path)
    if created:
        (tmp_path / ".venv/bin").mkdir(parents=True)
        (tmp_path / ".venv/bin/activate").write_text("")
    bare = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('{program}', run_name='__main__')",
    ]
    done = subprocess.run(bare, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 2
    setup = "" if created else "run ./setup_env.sh, then "
    assert done.stderr.endswith(
        f"lacks torch, numpy, gymnasium, yaml; {setup}activate the environment: source .venv/bin/activate\n"
    )
    assert len(done.stderr.splitlines()) == 1
