"""Training runs for the benchmarks: start or resume them until they are finished, then evaluate them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run(*arguments: str, log: Path) -> None:
    """Run main.py and append its output to a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], check=True, stdout=file, stderr=file)


def install(library: str) -> str:
    """Return the Python of the environment of ``requirements-<library>.txt``; create it at the first call."""
    folder, packages = ROOT / f".venv-{library}", ROOT / f"requirements-{library}.txt"
    python, stamp = folder / "bin" / "python", folder / "installed"
    with _installing:
        if not stamp.exists() or stamp.read_text() != packages.read_text():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            # torch first and alone: otherwise a later package would fetch another build of it
            torch = next(line.split()[0] for line in packages.read_text().splitlines() if line.startswith("torch=="))
            for wanted in ([torch], ["-r", str(packages)]):
                subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
            stamp.write_text(packages.read_text())
    return str(python)


_installing = threading.Lock()


def update_page(page: Path, command: str, content: str) -> None:
    """Replace the part of a page that is marked as made by ``python benchmarks/<command>``."""
    mark = f"<!-- made by: python benchmarks/{command} -->\n"
    block = re.compile(f"(?<={re.escape(mark)}).*?(?=<!-- end -->)", re.DOTALL)
    page.write_text(block.sub(lambda _: content, page.read_text(), count=1))  # 1: an empty block would match twice


def finished(status: Path) -> bool:
    """Return whether a run is finished."""
    return status.exists() and json.loads(status.read_text())["state"] == "finished"


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write results as JSON, one row per line."""
    path.write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n")


def train(name: str, flags: Sequence[str], *, seed: int, data: Path) -> list[dict[str, str]]:
    """Train a policy, or resume its training, to the end; return the rows of ``progress.csv``.

    Args:
        name: name of the experiment.
        flags: training flags other than the name and seed.
        seed: training seed.
        data: folder of the runs.

    Raises:
        RuntimeError: If the run was stopped before its end.
        subprocess.CalledProcessError: If the run failed.
    """
    logs = data / "logs" / name
    if not finished(logs / "status.json"):
        options = ("--resume=auto", *flags, f"--data_dir={data}", f"--seed={seed}")
        run("--task=train", f"--uuid={name}", *options, log=data / f"{name}.txt")
        if not finished(logs / "status.json"):  # a run that is asked to stop saves a checkpoint and exits with 0
            raise RuntimeError(f"{name} was stopped before its end")
    return read_progress(data, name)


def read_progress(data: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a run's ``progress.csv``."""
    with (data / "logs" / name / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def train_and_evaluate(
    name: str, flags: Sequence[str], *, seed: int, eval_seed: int, episodes: int, data: Path
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Train a policy, or resume its training, and evaluate the last checkpoint.

    Args:
        name: name of the experiment.
        flags: training flags other than the name and seed.
        seed: training seed.
        eval_seed: seed of the evaluation episodes.
        episodes: number of evaluation episodes.
        data: folder of the runs.

    Returns:
        The evaluation's ``results.json`` and the rows of ``progress.csv``.

    Raises:
        RuntimeError: If the run was stopped before its end.
        subprocess.CalledProcessError: If the run failed.
    """
    progress = train(name, flags, seed=seed, data=data)
    model = f"--model_path={data}/checkpoints/{name}"
    # --episode_seeds=training: the stream of episodes that the results in the docs were measured with
    options = ("--iter_num=last", f"--num_trajs={episodes}", f"--seed={eval_seed}", "--episode_seeds=training")
    folder = data / "evaluations" / name / "last"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier start; otherwise, this one goes to last-2
    run("--task=eval", model, *options, f"--data_dir={data}", log=data / f"{name}.txt")
    return json.loads((folder / "results.json").read_text()), progress
