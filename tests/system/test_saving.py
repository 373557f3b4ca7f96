"""Saving changes nothing with two workers: the algorithms that tests/integration/test_saving.py leaves out."""

import pytest

from tests.integration.test_saving import DEMOS, check_saving_changes_nothing


@pytest.mark.parametrize("algo", ["airl", "bc", "dagger"])
def test_checkpoints_and_evaluations_do_not_change_what_is_learned(milozero, tmp_path, algo):
    flags = {
        "airl": (*DEMOS, "--d_batch_size=32", "--d_absorbing"),
        "bc": DEMOS,
        "dagger": ("--expert_model=data/checkpoints/expert", "--expert_iter_num=last"),
    }
    if algo == "dagger":
        teach = ("--task=train", "--env_id=Hopper", "--num_iters=1", "--rollout_len=128", "--no-compile")
        assert milozero(*teach, "--uuid=expert").returncode == 0
    check_saving_changes_nothing(milozero, tmp_path, 2, (f"--algo={algo}", "--env_id=Hopper", *flags[algo]))
