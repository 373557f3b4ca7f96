"""Training and evaluation simulate the same task: robots that walk, and Humanoid-v4; tests/system has all others."""

import pytest

from milozero.environments.pool import has_task
from tests.support.simulator_parity import CASES, COMMON, check, check_differs


@pytest.mark.parametrize(("env_id", "options"), [case for case in CASES if case.values[0] in COMMON])
def test_training_and_evaluation_simulate_the_same_task(env_id, options):
    check(env_id, options)


@pytest.mark.parametrize(
    ("env_id", "options"), [("Humanoid-v4", {}), ("HalfCheetah-v5", {"ctrl_cost_weight": 0.101})]
)
def test_differences_are_found(env_id, options, monkeypatch):
    """Without our EnvPool options, or with a slightly different one, the comparison fails."""
    check_differs(env_id, options, monkeypatch)


@pytest.mark.skipif(not has_task("Hopper-v5"), reason="EnvPool is not installed")
def test_cases_include_every_task_that_envpool_steps():
    ids = {case.values[0] for case in CASES}
    for name in ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d"):
        assert {f"{name}-v3", f"{name}-v4", f"{name}-v5"} <= ids
    for name in ("HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum", "Reacher"):
        assert {f"{name}-v2", f"{name}-v4", f"{name}-v5"} <= ids
    assert {"Acrobot-v1", "CartPole-v0", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0"} <= ids
    assert "Pendulum-v1" not in ids
    assert len([env_id for env_id in ids if env_id.startswith("dmc:")]) == 39
    lying = {case.values[0] for case in CASES if case.values[1]}
    assert {f"{name}-v{n}" for name in ("Ant", "Hopper", "Humanoid", "Walker2d") for n in (3, 4, 5)} == lying
