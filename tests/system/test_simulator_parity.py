"""Training and evaluation simulate the same task, for each id that EnvPool steps."""

import pytest

from tests.support.simulator_parity import CASES, COMMON, check, check_differs


@pytest.mark.parametrize(("env_id", "options"), [case for case in CASES if case.values[0] not in COMMON])
def test_training_and_evaluation_simulate_the_same_task(env_id, options):
    check(env_id, options)


@pytest.mark.parametrize("env_id", ["dmc:finger-turn_easy", "dmc:cartpole-two_poles"])
def test_differences_are_found(env_id, monkeypatch):
    """EnvPool simulates a different task for the ids that we leave to dm_control."""
    check_differs(env_id, {}, monkeypatch)
