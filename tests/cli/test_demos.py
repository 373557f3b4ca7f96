"""Demonstrations on the command line."""

import h5py
import numpy as np
import pytest

from milozero.demonstrations import dataset as demos
from tests.support import ROOT

SHIPPED = ROOT / "data/demos/Hopper-v3"


def test_shipped_demonstrations_are_summarized(milozero):
    result = milozero("--task=demos", f"--expert_path={SHIPPED}", "--num_demos=3")
    assert (result.returncode, result.stderr) == (0, "")
    assert "episodes:      3, " in result.stdout
    assert "env_id:        Hopper-v3" in result.stdout
    assert "(11,)" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--task=demos needs --expert_path"),
        (("--expert_path=nowhere",), "no such folder or file"),
        (("--expert_path=broken.npz",), "cannot read"),
        (("--expert_path=truncated",), "cannot read the demonstration truncated/a.h5"),
        (("--expert_path=without",), "lacks acs"),
        (("--expert_path=nan",), "contains a NaN"),
        (("--expert_path=empty",), "no demonstrations (*.h5) found"),
        (("--expert_path=broken.npz", "--seed=1"), "--seed has no effect"),
        ((f"--expert_path={SHIPPED}", "--num_demos=99"), "contains 16"),
        ((f"--expert_path={SHIPPED}", "--num_demos=-1"), "at least 0"),
    ],
)
def test_invalid_demonstrations_are_a_one_line_error(milozero, tmp_path, flags, message):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    content = sorted(SHIPPED.iterdir())[0].read_bytes()
    for name in ("truncated", "without", "nan", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "truncated/a.h5").write_bytes(content[:20_000])
    for name in ("without", "nan"):
        (tmp_path / name / "a.h5").write_bytes(content)
        with h5py.File(tmp_path / name / "a.h5", "a") as file:
            if name == "nan":
                file["obs1"][3, 0] = np.nan
            else:
                del file["acs"]
    result = milozero("--task=demos", *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_training_shows_the_return_of_the_expert_and_the_flags_it_ignores(milozero, tmp_path):
    (episode,) = demos.read_demos(str(SHIPPED), 1)
    rewards = np.broadcast_to(episode.rewards, (2, len(episode)))
    obs = np.broadcast_to(episode.obs[:-1], (2, *episode.obs[:-1].shape))
    acs = np.broadcast_to(episode.actions, (2, *episode.actions.shape))
    np.savez(tmp_path / "expert.npz", obs=obs, acs=acs, rews=rewards)
    flags = ("--env_id=Hopper-v3", "--num_iters=1", "--num_envs=2", "--rollout_len=64", "--eval_episodes=1")
    result = milozero("--task=train", *flags, "--expert_path=expert.npz", "--demo_subsampling=20")
    assert result.returncode == 0, result.stderr
    assert f"demonstrations: 2\nexpert return (target): {episode.rewards[:-1].sum():.1f}\n" in result.stdout
    assert "ppo ignores expert_path, demo_subsampling (used by bc, gail, airl, dac, sqil, iq)" in result.stdout
    assert "d_perception_stack" not in result.stdout  # it was not given


@pytest.mark.parametrize(("algo", "more"), [("gail", ("--d_perception_stack=mlp_16",)), ("bc", ("--bc_patience=1",))])
def test_imitation_agent_is_evaluated_without_demonstrations(milozero, tmp_path, algo, more):
    flags = ("--env_id=Hopper-v3", "--num_iters=2", "--num_envs=2", "--rollout_len=256", "--eval_episodes=1")
    learn = ("--algo", algo, f"--expert_path={SHIPPED}", "--num_demos=2", "--uuid=run", "--no-compile")
    result = milozero("--task=train", *flags, *learn, *more)
    assert result.returncode == 0, result.stderr
    assert " ignores " not in result.stdout
    result = milozero("--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1")
    assert result.returncode == 0, result.stderr


def test_imitation_without_demonstrations_is_a_one_line_error(milozero):
    result = milozero("--task=train", "--algo=gail")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--algo=gail learns from demonstrations: --expert_path=" in result.stderr
