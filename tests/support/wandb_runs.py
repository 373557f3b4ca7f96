"""Runs for tests of Weights & Biases, and helpers to inspect them."""

import contextlib
import csv
import re
from pathlib import Path

from milozero.tracking import wandb as tracking
from milozero.tracking.tracker import TrackingConfig
from milozero.tracking.wandb import WandbTracker

SMALL = (
    "--env_id=InvertedPendulum",
    "--num_envs=2",
    "--rollout_len=64",
    "--batch_size=32",
    "--eval_frequency=2",
    "--eval_episodes=1",
    "--no-compile",
)
TRAIN = ("--task=train", "--wandb_project=p", "--wandb_entity=me", "--uuid=some.seed00", *SMALL)
QUICK_LIMITS = """
import milozero.tracking.wandb as w
w.INIT_TIMEOUT_S = w.FINISH_TIMEOUT_S = 4.0
w.FINISH_MARGIN_S = 2.0
"""


def only_run(server):
    (run,) = server.runs.values()
    return run


def read_column(data, name, metric):
    rows = csv.DictReader((data / f"logs/{name}/progress.csv").read_text().splitlines())
    return [float(row[metric]) for row in rows if row[metric]]


def find_services(process):
    """Return the process ids of the W&B services that a process or its descendants have started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, name, parent = re.match(r"(\d+) \((.*)\) \w (\d+)", stat.read_text(), re.DOTALL).groups()
            parents[int(pid)] = (name, int(parent))

    def descends(pid):
        return pid == process or (pid in parents and descends(parents[pid][1]))

    return [pid for pid, (name, _) in parents.items() if name == "wandb-core" and descends(pid)]


def make_tracker(data, files=()):
    tracking = TrackingConfig(wandb_project="p", wandb_entity="me")
    init = {"name": "n.seed00", "group": "n", "config": {"gamma": 0.9}}
    return WandbTracker(tracking, data, "abcd1234", files, **init)


def finish(tracker):
    tracker.close()
    tracker.wait()


def logged(caplog):
    return [record.message for record in caplog.records if record.name == tracking.__name__]
