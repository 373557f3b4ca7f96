"""Writes logs like those of real runs, without training."""

import json
import socket
import time

import numpy as np
import yaml

from milozero.experiment.command_line import parse

HEADER = "iteration,timesteps,return_mean,policy_loss,eval_return,seconds"


def log_run(
    data, name, env_id="Hopper-v5", seed=0, evaluations=(), training=(), state="finished", expert=None, **settings
):
    """Write the logs of a run with 1000 steps per iteration and an evaluation every second one; return their folder.

    If `training` is longer than twice the `evaluations`, the last iterations have no evaluations. `expert` is the
    mean return of the demonstrations.
    """
    argv = [f"--{key}={value}" for key, value in settings.items()]
    flat = parse(["--task=train", f"--env_id={env_id}", f"--seed={seed}", *argv]).flat()
    metadata = {
        "env_id": env_id,
        "uuid": name,
        "num_workers": int(settings.get("num_workers", 1)),
        "git_sha": "abc1234",
    }
    if expert is not None:
        metadata["expert_return"] = expert
    training = list(training) or [value / 2 for value in evaluations for _ in (0, 1)]
    rows = []
    for i, value in enumerate(training, start=1):
        evaluated = evaluations[i // 2 - 1] if i % 2 == 0 and i // 2 <= len(evaluations) else ""
        rows.append(f"{i},{i * 1000},{value},0.5,{evaluated},{i * 2.0}")
    logs = data / "logs" / name
    logs.mkdir(parents=True)
    metadata |= {"command": f"main.py {name}", "run_id": name}
    (logs / "config.yaml").write_text(yaml.safe_dump(flat | metadata))
    (logs / "progress.csv").write_bytes("".join(f"{line}\r\n" for line in [HEADER, *rows]).encode())
    (logs / "log.txt").write_text("some messages\n")
    write_status(logs, state, iteration=len(rows), timesteps=len(rows) * 1000)
    return logs


def write_status(logs, state, reason="", host=None, when=None, **counters):
    """Write the status file of a run."""
    written = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(when))
    content = {"state": state, "reason": reason, "time": written, "host": host or socket.gethostname(), **counters}
    (logs / "status.json").write_text(json.dumps(content))


def write_study(data):
    """Write a study of two environments with three trials of three seeds; one run failed and has an invalid video."""
    rng = np.random.default_rng(0)
    for env_id in ("Ant-v5", "Hopper-v5"):
        for trial, p_lr in enumerate((1e-5, 1e-3, 1e-2)):
            for seed in range(3):
                returns = 1000 * (trial + 1) * (1 - np.exp(-np.arange(20) / 5)) + rng.normal(0, 40, 20)
                name = f"w.{env_id}.trial{trial:03}.seed{seed:02}"
                folder = log_run(data, name, env_id, seed, list(returns), p_lr=p_lr)
    write_status(folder, "failed", "a loss is NaN, with <evidence>")
    video = data / "evaluations" / folder.name / "best" / "episode_000.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"not a video")
