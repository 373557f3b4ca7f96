"""Training and evaluation simulate the same dm_control tasks: each that EnvPool steps; its models load slowly."""

import pytest

from tests.support.simulator_parity import CASES, check, check_that_it_differs


@pytest.mark.parametrize(("env_id", "options"), [case for case in CASES if case.id.startswith("dmc:")])
def test_training_and_evaluation_simulate_the_same_task(env_id, options):
    check(env_id, options)


@pytest.mark.parametrize("env_id", ["dmc:finger-turn_easy", "dmc:cartpole-two_poles"])
def test_differences_are_found(env_id, monkeypatch):
    """What is left to dm_control is another task in EnvPool."""
    check_that_it_differs(env_id, {}, monkeypatch)
