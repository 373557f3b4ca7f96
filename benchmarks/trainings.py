"""Training runs of the benchmarks: gone on with until they are finished, then played."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, log: Path) -> None:
    """Run main.py to its end; what it says goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], check=True, stdout=file, stderr=file)


def finished(status: Path) -> bool:
    """Return whether a run came to its end."""
    return status.exists() and json.loads(status.read_text())["state"] == "finished"


def train_and_play(
    name: str, flags: Sequence[str], *, seed: int, play_seed: int, episodes: int, data: Path
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Train a policy, or go on training it, and play the last one.

    Args:
        name: of the experiment.
        flags: of its training, besides its name and seed.
        seed: of its training.
        play_seed: of the episodes.
        episodes: to play.
        data: folder of the runs.

    Returns:
        What the episodes came to, and the rows of ``progress.csv``.

    Raises:
        RuntimeError: where the run was stopped before its end.
        subprocess.CalledProcessError: where it failed.
    """
    log, logs, common = data / f"{name}.txt", data / "logs" / name, f"--data_dir={data}"
    if not finished(logs / "status.json"):
        run("--task=train", f"--uuid={name}", "--resume=auto", *flags, common, f"--seed={seed}", log=log)
        if not finished(logs / "status.json"):  # asked to stop, a run saves itself and exits with 0
            raise RuntimeError(f"{name} was stopped before its end")
    model = f"--model_path={data}/checkpoints/{name}"
    playing = ("--iter_num=last", f"--num_trajs={episodes}", f"--seed={play_seed}")
    run("--task=eval", model, *playing, common, log=log)
    played = json.loads((data / "evaluations" / name / "last" / "results.json").read_text())
    with (logs / "progress.csv").open() as file:
        return played, list(csv.DictReader(file))
