"""Environments that EnvPool steps follow from their seed, the number of their episodes and their current actions.

All of Gymnasium's tasks, and one of each domain of DeepMind Control.
"""

import pytest

from tests.support.restored_envs import check_restored
from tests.support.simulator_parity import CASES

IDS = {env_id.partition("-")[0] if "dmc:" in env_id else env_id: env_id for env_id in (c.values[0] for c in CASES)}


@pytest.mark.parametrize("env_id", IDS.values())
def test_restored_environments_continue_with_the_same_bits(env_id):
    """After 1,040 steps, all have ended an episode."""
    check_restored(env_id, 1, stop=2, steps=520, compared=1)
