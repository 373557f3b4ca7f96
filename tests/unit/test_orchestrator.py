"""The training loop, with fakes."""

from types import SimpleNamespace

import numpy as np
import pytest

from milozero import orchestrator
from milozero.agents.rollout import obs_checksum
from milozero.helpers.comm import Comm


@pytest.mark.parametrize(("rank", "restored", "warns"), [(0, False, True), (1, False, False), (0, True, False)])
def test_first_worker_warns_if_a_replay_does_not_restore_the_environments(caplog, rank, restored, warns):
    comm, obs = Comm(), np.arange(6.0).reshape(2, 3)
    comm.rank = rank
    last_obs = obs_checksum(obs if restored else obs + 1)
    watchdog = SimpleNamespace(start_iteration=lambda _: None, agree_to_stop=lambda: "")
    log = SimpleNamespace(actions=[0, 0], last_obs=last_obs, start=4)
    rollouts = iter([SimpleNamespace(obs=obs[None])] * 2)
    assert orchestrator.replay(SimpleNamespace(replay_log=log, comm=comm, watchdog=watchdog), rollouts) == ""
    assert ("not restored exactly" in caplog.text) == warns
