"""The best trial of a sweep as a task file."""

import shlex

import pytest

from milozero import spawner
from milozero.experiment.command_line import parse
from milozero.reports import recipes
from milozero.reports.runs import read_runs
from milozero.reports.scores import build_study
from tests.support import runs as logs


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """The best of two trials on CartPole, whose task file has been written beside the report."""
    monkeypatch.chdir(tmp_path)
    for number, clip_range in enumerate((0.2, 0.1)):  # the first is the default
        settings = {"clip_range": clip_range, "num_timesteps": 7000, "p_lr": 0.01, "num_workers": 1}
        evaluations = [1.0, 100.0 - 90 * number]
        logs.log_run(tmp_path / "data", f"s.trial{number:03}.seed00", "CartPole-v1", 0, evaluations, **settings)
    study = build_study(read_runs(tmp_path / "data", "s"))
    (found,) = recipes.find_best_trials(study, tmp_path / "data", tmp_path / "data/reports/s")
    path = tmp_path / f"data/reports/s.{found.suffix}"
    path.parent.mkdir()
    path.write_text(found.text)
    return found, path


def test_task_file_has_the_settings_of_the_best_trial(trial):
    found, path = trial
    assert "# Trial 000, the best of 2 on CartPole-v1: final evaluation return 100.0 (IQM, 1 seed)" in found.text
    settings = parse(["--task=train", f"--config={path}"])
    assert (settings.agent.clip_range, settings.agent.p_lr, settings.train.num_timesteps) == (0.2, 0.01, 7000)
    assert "clip_range: 0.2" in found.text  # drawn, although it is the default
    assert "seed" not in found.text.replace("seeds", "").partition("algo:")[2]


def test_command_runs_it_longer(trial, tmp_path):
    words = shlex.split(trial[0].command)
    assert words[:2] == ["python", "spawner.py"]
    assert "--config=data/reports/s.best.CartPole-v1.yaml" in words
    assert words[-2:] == ["--set", "num_timesteps=28000"]
    assert spawner.main([*words[2:], "--no-deploy_now"]) == 0
    assert len(list((tmp_path / "data/spawn/s_best").glob("*.sh"))) == recipes.BEST_SEEDS


def test_names_cannot_break_the_task_file(tmp_path):
    for number in (0, 1):
        folder = logs.log_run(tmp_path, f"s.trial{number:03}", evaluations=[1.0, 2.0], clip_range=0.1 + number / 10)
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace("Hopper-v5", '"a\\nalgo: sac"'))
    (found,) = recipes.find_best_trials(build_study(read_runs(tmp_path, "s")), tmp_path, tmp_path / "s")
    assert found.suffix == "best.a_algo_sac.yaml"
    assert [line for line in found.text.splitlines() if line.startswith("algo")] == ["algo: ppo"]
