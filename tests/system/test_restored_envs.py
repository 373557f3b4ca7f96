"""Each environment that EnvPool steps follows from its seed, the number of its episodes and its current actions."""

import pytest

from tests.support.restored_envs import check_restored
from tests.support.simulator_parity import CASES


@pytest.mark.parametrize("env_id", dict.fromkeys(case.values[0] for case in CASES))
def test_restored_environments_continue_with_the_same_bits(env_id):
    """After 1,040 steps, all have ended an episode."""
    check_restored(env_id, 1, stop=2, steps=520, compared=1)
