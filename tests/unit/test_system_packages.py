"""tests/system_packages.sh with a fake apt-get, dpkg and id."""

import os
import subprocess

import pytest

from tests.support import ROOT

PACKAGES = "tmux slurm-wlm munge libpmix-dev chromium libegl1 libegl-mesa0 libgl1-mesa-dri libgl1"
LOCKED = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)"
APT = """#!/bin/sh
echo "$@" >>{log}
if [ "$(wc -l <{log})" -le {busy} ]; then echo "{message}" >&2; exit 100; fi
"""


@pytest.fixture
def install(tmp_path):
    def run(message=LOCKED, busy=0, user=0, **environment):
        log = tmp_path / "log"
        programs = {"apt-get": APT.format(log=log, busy=busy, message=message), "dpkg": "#!/bin/sh\nexit 1\n"}
        programs["id"] = f"#!/bin/sh\necho {user}\n"
        for name, text in programs.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "POLL_S": "0.01"} | environment
        script = ROOT / "tests" / "system_packages.sh"
        done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=30)
        return done, log.read_text().splitlines() if log.exists() else []

    return run


def test_script_waits_for_a_busy_package_manager(install):
    done, calls = install(busy=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waiting for another package manager: E: Could not get lock") == 2
    assert [call.split()[3] for call in calls] == ["update", "update", "update", "install"]
    assert calls[-1].endswith(PACKAGES)


def test_package_manager_that_stays_busy_fails_after_a_while(install):
    done, calls = install(busy=10**6, LOCK_TIMEOUT_S="0", CI="true")
    assert done.returncode == 1
    assert LOCKED in done.stderr
    assert len(calls) == 1


@pytest.mark.parametrize("ci", ["true", ""])
def test_other_failure_is_shown_immediately_and_fails_ci(install, ci):
    done, calls = install(message="E: Unable to locate package tmux", busy=10**6, CI=ci)
    assert done.returncode == bool(ci)
    assert ("the tests that need them are skipped" in done.stdout) == (not ci)
    assert "Unable to locate package tmux" in done.stderr
    assert len(calls) == 1


def test_user_without_root_gets_the_install_command(install):
    done, calls = install(user=1000)
    assert done.returncode == 0
    assert f"sudo apt install {PACKAGES}" in done.stdout
    assert calls == []
