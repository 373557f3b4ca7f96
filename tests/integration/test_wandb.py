"""The real Weights & Biases client with a local server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import readme
from tests.support.wandb_runs import TRAIN, only_run, read_column


def test_run_and_its_files_are_uploaded_and_can_be_evaluated_from_there(server, milozero, in_process, tmp_path):
    result = milozero(*TRAIN, "--num_iters=4", "--save_frequency=2", env=server.environment, workers=2)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "--num_envs" not in line] == []  # episodes are truncated
    run = only_run(server)
    data = tmp_path / "data"
    assert (run.display_name, run.group, run.state) == ("some.seed00", "some", "finished")
    assert [row["_step"] for row in run.history] == read_column(data, "some.seed00", "timesteps")
    assert run.rows("policy_loss") == read_column(data, "some.seed00", "policy_loss")
    assert run.rows("eval_return") == read_column(data, "some.seed00", "eval_return")
    assert run.config["num_iters"] == {"value": 4}
    for name in ("best.pt", "last.pt", "config.yaml"):
        assert run.files[f"some.seed00/{name}"] == (data / f"checkpoints/some.seed00/{name}").read_bytes()

    # The README's command, with the name of the run.
    other_data = tmp_path / "elsewhere"
    start = "python main.py --task=eval --wandb_project=SOME_NAME --wandb_run_path"
    _python, _main, *flags = readme.command(start, "$WANDB_RUN_PATH", "me/p/some.seed00")
    assert "--wandb_download_replace" in flags
    result = in_process(*flags, data=other_data, env=server.environment)
    assert result.returncode == 0, result.stderr
    downloaded = other_data / "downloads/me/p/some.seed00/best.pt"
    assert downloaded.read_bytes() == run.files["some.seed00/best.pt"]
    results = json.loads((other_data / "evaluations/some.seed00/best/results.json").read_text())
    assert len(results["episodes"]) == 16
    (evaluation,) = (run for key, run in server.runs.items() if key[1] == "SOME_NAME")
    assert evaluation.rows("return_mean") == [results["return_mean"]]
    assert json.loads(evaluation.files["best/results.json"]) == results


@pytest.mark.usefixtures("run")
def test_evaluation_logs_its_videos(server, in_process, tmp_path):
    flags = ("--model_path=data/checkpoints/run", "--iter_num=last", "--num_trajs=2", "--record")
    result = in_process("--task=eval", *flags, "--wandb_project=p", env=server.environment | {"DISPLAY": ""})
    assert result.returncode == 0, result.stderr
    videos = [content for name, content in only_run(server).files.items() if name.endswith(".mp4")]
    written = [path.read_bytes() for path in sorted(tmp_path.glob("data/evaluations/*/last/*.mp4"))]
    assert len(written) == 2
    assert sorted(videos) == sorted(written)


def test_resumed_run_is_the_same_run(server, in_process, tmp_path):
    assert in_process(*TRAIN, "--num_iters=2", env=server.environment).returncode == 0
    assert in_process(*TRAIN, "--num_iters=5", "--resume", env=server.environment).returncode == 0
    assert [row["_step"] for row in only_run(server).history] == read_column(
        tmp_path / "data", "some.seed00", "timesteps"
    )
    assert only_run(server).state == "finished"


def test_without_a_key_no_request_is_made_and_sync_uploads_the_run(server, in_process, tmp_path):
    """Also for a resumed run, which has two folders. The server would record a request."""
    no_key = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "", "HOME": str(tmp_path)}
    for length in ("--num_iters=2", "--num_iters=3"):
        assert in_process(*TRAIN, length, "--resume=auto", env=no_key).returncode == 0
    assert server.requests == []
    folders = sorted((tmp_path / "data/wandb").glob("offline-run-*"))
    assert len(folders) == 2
    environment = os.environ | server.environment
    subprocess.run(
        [Path(sys.executable).parent / "wandb", "sync", *folders],
        env=environment,
        check=True,
        timeout=500,
        cwd=tmp_path,
    )
    run = only_run(server)
    assert run.rows("policy_loss") == read_column(tmp_path / "data", "some.seed00", "policy_loss")
    assert run.files["some.seed00/last.pt"] == (tmp_path / "data/checkpoints/some.seed00/last.pt").read_bytes()


@pytest.mark.usefixtures("run")
def test_evaluation_reports_a_wrong_key(server, in_process):
    flags = ("--model_path=data/checkpoints/run", "--iter_num=last", "--num_trajs=1")
    wrong = server.environment | {"WANDB_API_KEY": "f" * 40}
    result = in_process("--task=eval", *flags, "--wandb_project=p", env=wrong)
    assert result.returncode == 0
    assert re.fullmatch("warning: Weights & Biases: .*not logged in.*kept offline.*wandb sync.*\n", result.stderr)
