import pytest

from helpers.settings import parse
from orchestrator import cut_short, fresh_every


@pytest.mark.parametrize(
    ("flags", "every", "steps", "cure"),
    [
        (("--num_envs=64", "--save_frequency=100"), 97, 0, ""),  # 200,000 steps of MuJoCo, not 100 iterations
        (("--num_envs=64", "--save_frequency=4"), 4, 128, "a larger --save_frequency or fewer --num_envs"),
        (("--num_envs=512", "--save_frequency=100"), 97, 388, ": fewer --num_envs"),
    ],
)
@pytest.mark.parametrize("env_id", ["Hopper-v5", "dmc:walker-walk"])
def test_episodes_that_cannot_end_between_fresh_starts_are_told_with_what_helps(env_id, flags, every, steps, cure):
    config = parse([f"--env_id={env_id}", "--rollout_len=2048", *flags]).train
    assert fresh_every(config, {}) == every
    said = cut_short(config, {}, limit=1000)
    assert cure in said
    assert (f"every {steps} steps" in said) == bool(steps)
    assert cut_short(config, {}, limit=None) == ""


@pytest.mark.parametrize(
    ("task", "env_id"), [("mujoco", "HalfCheetah-v5"), ("mujoco", "Ant-v5"), ("dmc", "dmc:walker-walk")]
)
def test_recipes_let_episodes_end(task, env_id):
    config = parse([f"--config=tasks/train_{task}_ppo.yaml", f"--env_id={env_id}"]).train
    assert cut_short(config, {}, limit=1000) == ""
