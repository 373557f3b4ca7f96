"""Saving changes nothing: checkpoints and evaluations have no effect on what is learned."""

import pytest

from milozero.environments import registered
from milozero.experiment import checkpoint
from tests.support import ROOT
from tests.support.one_run import OFF_POLICY, assert_equal, logged_rows

USERS = "tests.support.user_envs:"
DEMOS = (
    f"--expert_path={ROOT / 'data/demos/Hopper-v3'}",
    "--num_demos=2",
    "--demo_subsampling=5",
    "--d_batch_size=32",
)
SMALL = ("--task=train", "--num_iters=9", "--num_envs=3", "--rollout_len=96", "--batch_size=32")
ROUNDS = ("--train_freq=48", "--buffer_size=192")  # the replay buffer wraps around twice
QUIET = ("--save_frequency=1000000000", "--eval_frequency=0", "--eval_episodes=0")
BUSY = [
    ("--save_frequency=1", "--eval_frequency=0", "--eval_episodes=0", "--keep_checkpoints=1"),
    ("--save_frequency=7", "--eval_frequency=2", "--eval_episodes=2", "--tensorboard"),
    ("--save_frequency=50", "--eval_frequency=3", "--eval_episodes=1", "--wandb_project=p"),
]
CASES = {
    "ppo": ("--algo=ppo", "--env_id=Hopper"),
    "ppo, dmc": ("--algo=ppo", "--env_id=dmc:cartpole-swingup"),
    "ppo, discrete": ("--algo=ppo", "--env_id=CartPole"),
    "ppo, user": ("--algo=ppo", f"--env_id={USERS}Bounded-v0"),
    "ppo, global generators": ("--algo=ppo", f"--env_id={USERS}DrawsGlobally-v0"),
    "ppo, no time limit": ("--algo=ppo", f"--env_id={USERS}Endless-v0", "--eval_max_steps=50"),
    "ppo, one environment": ("--algo=ppo", f"--env_id={USERS}DrawsGlobally-v0", "--num_envs=1"),
    "gail, absorbing": ("--algo=gail", "--env_id=Hopper", *DEMOS, "--d_absorbing", "--d_reward=unbiased"),
    "airl, absorbing": ("--algo=airl", "--env_id=Hopper", *DEMOS, "--d_absorbing"),
    "dagger": (
        "--algo=dagger",
        "--env_id=Hopper",
        "--expert_model=data/checkpoints/expert",
        "--expert_iter_num=last",
    ),
    "sac": ("--algo=sac", "--env_id=Hopper", *OFF_POLICY, *ROUNDS),
    "dac": ("--algo=dac", "--env_id=Hopper", *DEMOS, *OFF_POLICY, *ROUNDS, "--d_update_ratio=0.3"),
    "sqil": ("--algo=sqil", "--env_id=Hopper", *DEMOS[:3], *OFF_POLICY, *ROUNDS),
    "td3, user": ("--algo=td3", f"--env_id={USERS}Bounded-v0", *OFF_POLICY, *ROUNDS),
    "bc": ("--algo=bc", "--env_id=Hopper", *DEMOS[:3]),
}


THOROUGH = ("ppo", "gail, absorbing", "airl, absorbing", "dagger", "sac")  # with all of `BUSY`


@pytest.mark.parametrize("case", CASES)
def test_checkpoints_and_evaluations_do_not_change_what_is_learned(milozero, tmp_path, case):
    flags = (*SMALL, *CASES[case], "--no-compile", *["--epochs=1"] * ("--train_freq=32" not in CASES[case]))
    if case == "dagger":
        teach = ("--task=train", "--env_id=Hopper", "--num_iters=1", "--rollout_len=128", "--no-compile")
        assert milozero(*teach, "--uuid=expert").returncode == 0
    ends = []
    for number, options in enumerate((QUIET, *BUSY[: 3 if case in THOROUGH else 2])):
        env = {"WANDB_API_KEY": "", "WANDB_MODE": "offline"}
        result = milozero(*flags, *options, f"--uuid=run{number}", env=env)
        assert result.returncode == 0, result.stderr
        content = checkpoint.load(tmp_path / f"data/checkpoints/run{number}/last.pt")
        rows = logged_rows(tmp_path, f"run{number}")
        learned = [{name: value for name, value in row.items() if "eval_return" not in name} for row in rows]
        for worker in content["workers"]:
            worker.pop("replay", None)  # how the buffer is divided into files depends on when it was saved
        state = [content[part] for part in ("agent", "workers", "recent_episodes")]
        ends.append((state, learned))
    for end in ends[1:]:
        assert_equal(end[0], ends[0][0])
        assert end[1] == ends[0][1]
        assert len(end[1]) == 9


def test_episodes_without_a_time_limit_are_truncated_and_restored(milozero, tmp_path, monkeypatch):
    """Killed after iteration 2 of 9, in the second episodes, which have 20 steps and span rollouts of 14."""
    monkeypatch.setattr(registered, "max_replay_steps", lambda kwargs: 60)
    flags = (*SMALL, "--epochs=1", "--no-compile", "--eval_episodes=0", "--rollout_len=42")
    flags += (f"--env_id={USERS}Endless-v0",)
    whole = milozero(*flags, "--uuid=whole")
    assert f"training truncates episodes of {USERS}Endless-v0 after 20 steps" in whole.stdout
    assert milozero(*flags, "--uuid=parts", "--save_frequency=2").returncode == 0
    for file in (tmp_path / "data/checkpoints/parts").glob("*.pt"):
        if file.name != "iter_2.pt":
            file.unlink()
    result = milozero(*flags, "--uuid=parts", "--resume")
    assert "restoring the environments: 21 steps of their current episodes" in result.stdout
    contents = [checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("whole", "parts")]
    assert_equal(*([content[part] for part in ("agent", "workers")] for content in contents))
    assert logged_rows(tmp_path, "parts") == logged_rows(tmp_path, "whole")
    assert {row["length_mean"] for row in logged_rows(tmp_path, "whole")} == {"", "20.0"}
