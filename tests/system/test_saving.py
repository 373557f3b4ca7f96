"""Saving changes nothing, with two workers and with OpenSim; tests/cli/test_saving.py has the other cases."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from milozero.experiment import checkpoint
from tests.support import ROOT
from tests.support.one_run import OFF_POLICY, assert_equal, logged_rows
from tests.support.programs import AS_ROOT

SMALL = ("--task=train", "--num_iters=5", "--num_envs=2", "--rollout_len=64", "--batch_size=32", "--no-compile")
QUIET = ("--save_frequency=1000000000", "--eval_frequency=0", "--eval_episodes=0")
BUSY = ("--save_frequency=1", "--eval_frequency=2", "--eval_episodes=1", "--tensorboard")
DEMOS = (f"--expert_path={ROOT / 'data/demos/Hopper-v3'}", "--num_demos=2", "--demo_subsampling=5")
CASES = {
    "ppo": ("--algo=ppo", "--env_id=Hopper"),
    "user": ("--algo=ppo", "--env_id=tests.support.user_envs:DrawsGlobally-v0"),
    "gail": ("--algo=gail", "--env_id=Hopper", *DEMOS, "--d_batch_size=32", "--d_absorbing", "--d_reward=unbiased"),
    "airl": ("--algo=airl", "--env_id=Hopper", *DEMOS, "--d_batch_size=32", "--d_absorbing"),
    "bc": ("--algo=bc", "--env_id=Hopper", *DEMOS),
    "dagger": ("--algo=dagger", "--env_id=Hopper", "--expert_iter_num=last"),
    "td3": ("--algo=td3", "--env_id=Hopper", *OFF_POLICY, "--learning_starts=64"),
    "dac": ("--algo=dac", "--env_id=Hopper", *DEMOS, *OFF_POLICY, "--learning_starts=64", "--dac_agent=sac"),
}


def pair(case, data, flags):
    """Return the arguments of two runs, one of which is never saved or evaluated before its end."""
    return [
        [*SMALL, *flags, *options, f"--uuid={case}_{name}", f"--data_dir={data}"]
        for name, options in (("quiet", QUIET), ("busy", BUSY))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train all cases with two workers; return the parent of their data folder."""
    path = tmp_path_factory.mktemp("saving")
    expert = [*SMALL, "--env_id=Hopper", "--uuid=expert", "--num_iters=1", f"--data_dir={path / 'data'}"]
    own = {"dagger": (f"--expert_model={path / 'data/checkpoints/expert'}",)}
    runs = [argv for case, flags in CASES.items() for argv in pair(case, path / "data", (*flags, *own.get(case, ())))]
    (path / "runs.json").write_text(json.dumps([expert, *runs]))
    command = [shutil.which("mpiexec"), "-n", "2", sys.executable, "-m", "tests.support.in_turn", path / "runs.json"]
    subprocess.run(command, cwd=ROOT, env=os.environ | AS_ROOT, check=True, timeout=500)
    return path


def assert_saving_changed_nothing(folder, case):
    quiet, busy = (checkpoint.load(folder / f"data/checkpoints/{case}_{name}/last.pt") for name in ("quiet", "busy"))
    for content in (quiet, busy):
        for worker in content["workers"]:
            worker.pop("replay", None)  # how the buffer is divided into files depends on when it was saved
    for part in ("agent", "workers", "recent_episodes"):
        assert_equal(busy[part], quiet[part])
    rows = [logged_rows(folder, f"{case}_{name}") for name in ("quiet", "busy")]
    learned = [[{k: v for k, v in row.items() if "eval_return" not in k} for row in part] for part in rows]
    assert learned[0] == learned[1]
    assert len(learned[0]) == 5


@pytest.mark.xdist_group("saving")
@pytest.mark.parametrize("case", CASES)
def test_checkpoints_and_evaluations_do_not_change_what_two_workers_learn(folder, case):
    assert len(checkpoint.load(folder / f"data/checkpoints/{case}_busy/last.pt")["workers"]) == 2
    assert_saving_changed_nothing(folder, case)


def test_checkpoints_and_evaluations_do_not_change_what_opensim_learns(in_process, tmp_path):
    opensim = ("--env_id=OsimArm2D", "--env_kwargs=frame_skip=10", "--rollout_len=32")
    for argv in pair("opensim", tmp_path / "data", opensim):
        assert in_process(*argv).returncode == 0
    assert_saving_changed_nothing(tmp_path, "opensim")
