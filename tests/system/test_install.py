"""`pip install .` works outside the checkout, even if the user has modules named like our folders."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.support import ROOT
from tests.support.one_run import TRAINED

PROGRAM = """
import helpers, environments  # the user's modules
import milozero

agent = milozero.load_agent("data/checkpoints/run")
print(helpers.MINE, environments.MINE, agent.env_id, agent.predict([0.0] * agent.observation_size))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel and unpack it; returns its folder."""
    folder = tmp_path_factory.mktemp("installed")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if not name.startswith(("data/", "tests/", "benchmarks/")):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target, follow_symlinks=False)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    done = subprocess.run([*build, folder / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("milozero-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True
    )


def test_package_contains_every_module_under_one_name(installed):
    ours = {path.relative_to(ROOT) for path in (ROOT / "milozero").glob("*") if path.name != "__pycache__"}
    assert {path.name for path in installed.iterdir() if "dist-info" not in path.name} == {"milozero"}
    assert {f"milozero/{path.name}" for path in (installed / "milozero").iterdir()} == set(map(str, ours))
    entry = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert "milozero = milozero.main:cli" in entry


def test_installed_package_trains_and_its_agent_works_in_a_user_program(installed, tmp_path):
    (tmp_path / "helpers.py").write_text("MINE = 'my helpers'\n")
    (tmp_path / "environments.py").write_text("MINE = 'my environments'\n")
    command = "import sys; from milozero.main import cli; sys.argv[0] = 'milozero'; cli()"
    trained = run(installed, tmp_path, "-c", command, *TRAINED)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run(installed, tmp_path, "program.py")
    assert done.stdout.startswith("my helpers my environments CartPole-v1 "), done.stderr
