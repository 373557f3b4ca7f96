"""Environments with uncommon action and observation spaces, from training to evaluation and imitation."""

import re

import numpy as np
import pytest

from milozero.demonstrations.dataset import read_demos
from milozero.evaluation.loading import load_agent
from tests.support.user_envs import CHECKED_SPACES

MODULE = "tests.support.user_envs"
SHORT = ("--num_envs=2", "--rollout_len=64", "--num_iters=2", "--epochs=1", "--no-compile", "--eval_episodes=1")
TARGET = ("--task=train", f"--env_id={MODULE}:Target-v0", *SHORT)
IMITATION = ("--num_iters=60", "--batch_size=32", "--p_lr=3e-2", "--bc_loss=mse", "--lr_schedule=constant")


def call(milozero, *flags):
    result = milozero(*flags)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("env_id", CHECKED_SPACES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_uncommon_spaces_are_trained_evaluated_and_imitated(milozero, tmp_path, env_id):
    train = ("--task=train", f"--env_id={MODULE}:{env_id}", *SHORT)
    call(milozero, *train, "--uuid=expert")
    model = f"--model_path={tmp_path}/data/checkpoints/expert"
    call(milozero, "--task=eval", model, "--num_trajs=6", "--save_traj", "--eval_name=demos")
    observation_space, action_space = CHECKED_SPACES[env_id]
    folder = tmp_path / "data/evaluations/expert/demos"
    episodes = read_demos(str(folder), 0)
    assert all(action_space.contains(action) for action in episodes[0].actions)
    agent = load_agent(tmp_path / "data/checkpoints/expert")
    first = agent.predict(observation_space.sample()) if observation_space.dtype == np.float32 else None
    assert first is None or action_space.contains(first)
    np.testing.assert_array_equal(agent.predict(episodes[0].obs[:-1]), episodes[0].actions)
    demos = (f"--expert_path={folder}", "--batch_size=32", "--d_batch_size=32", "--no-d_state_only")
    call(milozero, *train, "--algo=airl", *demos, "--bc_pretrain_epochs=1", "--uuid=airl")


def test_demonstrations_checkpoints_and_experts_keep_the_units_of_the_environment(milozero, tmp_path):
    """The expert acts at 173 in [100, 300]; the policy's outputs are near 0."""
    obs, rewards = np.random.default_rng(0).uniform(-1, 1, (64, 1)), np.ones(64)
    fields = {"obs0": obs, "obs1": obs, "acs": np.full((64, 1), 173.0), "env_rews": rewards, "dones1": rewards > 0}
    np.savez(tmp_path / "demos.npz", **fields, ep_lens=np.ones(64, int))
    demos = f"--expert_path={tmp_path}/demos.npz"
    call(milozero, *TARGET, *IMITATION, "--algo=bc", demos, "--bc_validation=0", "--uuid=bc")
    bc = load_agent(tmp_path / "data/checkpoints/bc")
    assert bc.predict(np.zeros(1)) == pytest.approx([173], abs=1)
    assert bc.agent.predict(np.zeros(1)) == pytest.approx([-0.27], abs=0.01)
    call(milozero, *TARGET, *IMITATION, "--algo=dagger", "--expert_model=data/checkpoints/bc", "--uuid=dagger")
    assert load_agent(tmp_path / "data/checkpoints/dagger").predict(np.zeros(1)) == pytest.approx([173], abs=3)
    result = call(milozero, "--task=eval", "--model_path=data/checkpoints/dagger", "--num_trajs=2", "--save_traj")
    (folder,) = re.findall(r"trajectories: +(\S+)/", result.stdout)
    assert read_demos(folder, 1)[0].actions == pytest.approx(173, abs=3)


@pytest.mark.parametrize("algo", ["gail", "airl"])
def test_discriminator_sees_policy_and_expert_in_the_same_units(milozero, monkeypatch, tmp_path, algo):
    from milozero.agents.adversarial import AdversarialAgent

    seen = []
    encode = AdversarialAgent.encode_actions
    monkeypatch.setattr(AdversarialAgent, "encode_actions", lambda *args: seen.append(encode(*args)) or seen[-1])
    fields = {"obs": np.zeros((8, 9, 1)), "acs": np.full((8, 9, 1), 290.0), "rews": np.ones((8, 9))}
    np.savez(tmp_path / "demos.npz", **fields)
    flags = (f"--algo={algo}", f"--expert_path={tmp_path}/demos.npz", "--no-d_state_only", "--d_batch_size=32")
    call(milozero, *TARGET, *flags)
    assert all(np.abs(actions).max() <= 1 for actions in seen)
    experts = [actions for actions in seen if np.allclose(actions, 0.9)]
    assert len(experts) >= 2


def test_combinations_of_actions_are_discrete_to_an_algorithm(milozero):
    train = ("--task=train", f"--env_id={MODULE}:Choices-v0", *SHORT)
    result = milozero(*train, "--rpo_alpha=0.1")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--rpo_alpha=0.1 needs continuous actions" in result.stderr


def test_observation_of_another_size_is_an_error(trained):
    agent = load_agent(trained / "checkpoints/run")
    with pytest.raises(ValueError, match=r"expected observations of 4 numbers, not shape \(5,\)"):
        agent.predict(np.zeros(5))
    assert agent.predict(np.zeros((2, 2))) in (0, 1)


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ("observation_space=Box(0, 1, (0,)), action_space=Discrete(2)", "is empty; return a constant instead"),
        ("observation_space=Box(0, 1, (2,)), action_space=MultiDiscrete([50, 50])", "more than 1,024 combinations"),
    ],
)
def test_unsupported_space_is_refused_before_anything_is_written(milozero, monkeypatch, tmp_path, spaces, message):
    lines = [
        "import gymnasium",
        "from gymnasium.spaces import *",
        "from tests.support.user_envs import Checked",
        f"gymnasium.register('Refused-v0', Checked, kwargs=dict({spaces}))",
    ]
    (tmp_path / "refused.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "refused", raising=False)
    result = milozero("--task=train", "--env_id=refused:Refused-v0", *SHORT)
    assert result.returncode == 2
    assert re.fullmatch(rf".*Refused-v0: .*{message}.*\n", result.stderr)
    assert not (tmp_path / "data").exists()
