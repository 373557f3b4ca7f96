"""The Python code of docs/getting_started.md works as written."""

import contextlib
import io
import re

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs/getting_started.md").read_text()
SHORT = (
    "--num_envs=4",
    "--rollout_len=64",
    "--num_iters=2",
    "--eval_frequency=1",
    "--eval_episodes=1",
    "--no-compile",
)


def test_results_are_read_in_python(milozero, tmp_path, monkeypatch):
    """With a shorter run and one episode."""
    code = re.search(r"```python\n(import csv\n.*?)```", PAGE, re.DOTALL)[1]
    trained = milozero("--task=train", "--env_id=HalfCheetah", "--uuid=first", "--eval_max_steps=20", *SHORT)
    assert trained.returncode == 0, trained.stderr
    assert milozero("--task=eval", "--model_path=data/checkpoints/first", "--num_trajs=1").returncode == 0
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, scope := {})
    curve, evaluation, episode = output.getvalue().splitlines()
    assert curve.startswith("{64: -")
    assert len(scope["curve"]) == 2
    assert evaluation.endswith(" ± 0 over 1 episodes")
    assert scope["results"]["env_id"] == scope["agent"].env_id == "HalfCheetah-v5"
    assert scope["total"] == pytest.approx(float(episode.removeprefix("return ")), abs=0.5)
