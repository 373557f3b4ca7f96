"""TensorBoard's files with two workers."""

import numpy as np

from helpers.metrics import metrics_of
from helpers.plots import read_progress
from tests.support.fakes import events_in

TINY = ("--task=train", "--env_id=CartPole-v1", "--num_envs=2", "--rollout_len=64", "--batch_size=32", "--no-compile")
TINY = (*TINY, "--save_frequency=2", "--eval_frequency=2", "--eval_episodes=1", "--epochs=1", "--uuid=run")


def check(logs):
    """Hold the events against progress.csv: the same numbers, no more and no fewer."""
    columns = read_progress(logs / "progress.csv")
    events = events_in(logs / "tensorboard")
    for name, metric in metrics_of("ppo").items():
        rows = zip(columns["timesteps"], columns[name].astype(np.float32), strict=True)
        wanted = [(int(step), value) for step, value in rows if not np.isnan(value)]
        assert events.pop(f"{metric.group}/{name}", []) == wanted, name
    assert not events
    return columns["iteration"].tolist()


def test_two_workers_write_once(milozero, tmp_path):
    result = milozero(*TINY, "--tensorboard", "--num_iters=2", workers=2)
    assert result.returncode == 0, result.stderr
    assert check(tmp_path / "data/logs/run") == [1, 2]
    assert len(list((tmp_path / "data/logs/run/tensorboard").iterdir())) == 1
