"""Saving changes nothing with two workers and with OpenSim: what tests/integration/test_saving.py leaves out."""

import pytest

from tests.integration.test_saving import check_saving_changes_nothing
from tests.support import ROOT
from tests.support.one_run import OFF_POLICY

DEMOS = (f"--expert_path={ROOT / 'data/demos/Hopper-v3'}", "--num_demos=2", "--demo_subsampling=5")


@pytest.mark.parametrize("algo", ["ppo", "gail", "airl", "bc", "dagger", "td3"])
def test_checkpoints_and_evaluations_do_not_change_what_is_learned(milozero, tmp_path, algo):
    flags = {
        "ppo": (),
        "gail": (*DEMOS, "--d_batch_size=32", "--d_absorbing", "--d_reward=unbiased"),
        "airl": (*DEMOS, "--d_batch_size=32", "--d_absorbing"),
        "bc": DEMOS,
        "td3": (*OFF_POLICY, "--learning_starts=64"),
        "dagger": ("--expert_model=data/checkpoints/expert", "--expert_iter_num=last"),
    }
    if algo == "dagger":
        teach = ("--task=train", "--env_id=Hopper", "--num_iters=1", "--rollout_len=128", "--no-compile")
        assert milozero(*teach, "--uuid=expert").returncode == 0
    env_id = "tests.support.user_envs:DrawsGlobally-v0" if algo == "ppo" else "Hopper"
    check_saving_changes_nothing(milozero, tmp_path, 2, (f"--algo={algo}", f"--env_id={env_id}", *flags[algo]))


def test_checkpoints_and_evaluations_do_not_change_what_opensim_learns(milozero, tmp_path):
    flags = ("--algo=ppo", "--env_id=OsimArm2D", "--env_kwargs=frame_skip=10", "--rollout_len=32", "--batch_size=32")
    check_saving_changes_nothing(milozero, tmp_path, 0, flags)
