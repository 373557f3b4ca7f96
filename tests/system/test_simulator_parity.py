"""Training and evaluation simulate the same task, for each id that EnvPool steps."""

import pytest

from tests.support.simulator_parity import CASES, COMMON, check, check_differs


@pytest.mark.parametrize(("env_id", "options"), [case for case in CASES if case.values[0] not in COMMON])
def test_training_and_evaluation_simulate_the_same_task(env_id, options):
    check(env_id, options)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        # EnvPool simulates a different task for the ids that we leave to dm_control
        ("dmc:finger-turn_easy", {}),
        ("dmc:cartpole-two_poles", {}),
        # without our EnvPool options, or with a slightly different one
        ("Humanoid-v3", {}),
        ("Humanoid-v3", {"post_constraint": True}),  # changes the contact cost
        ("HumanoidStandup-v2", {}),
        ("HumanoidStandup-v4", {}),
        ("Ant-v3", {}),
        ("Hopper-v4", {"frame_skip": 5}),
        ("Swimmer-v3", {"reset_noise_scale": 0.11}),
        ("Walker2d-v4", {"forward_reward_weight": 1.001}),
        ("InvertedPendulum-v4", {"healthy_z_max": 0.25}),  # terminates later
        ("Pendulum-v1", {}),
    ],
)
def test_differences_are_found(env_id, options, monkeypatch):
    check_differs(env_id, options, monkeypatch)
