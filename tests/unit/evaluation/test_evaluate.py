"""The folder and the progress bar of an evaluation."""

import contextlib
import io
import re
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import rich

from milozero.evaluation.evaluate import create_folder, describe_episodes, evaluate_checkpoint
from milozero.experiment.settings import EvalConfig
from milozero.helpers.comm import Comm
from milozero.helpers.errors import RunError, UserError
from milozero.helpers.logging import log_to_terminal
from tests.support import user_envs


class Pushing:
    """An agent whose CartPole episodes are short."""

    def predict(self, obs):
        return 1


class Still:
    def predict(self, obs):
        return np.zeros(2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(monkeypatch):
    """Return a function that evaluates one episode and returns what was printed."""

    def evaluate(output, folder):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", output)
        make, config = (lambda mode: gymnasium.make("CartPole-v1")), EvalConfig(num_trajs=1)
        with log_to_terminal():
            evaluate_checkpoint(Pushing(), make, config, 0, folder, {}, Comm())
        return output.getvalue()

    return evaluate


def test_terminal_shows_the_progress_of_an_episode(printed, tmp_path):
    rich.get_console()  # rich keeps its first console, here of an output that is no terminal
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", printed(Terminal(), tmp_path))
    assert re.search(r"episode 0 ━+ +-1/500 steps", text)


def test_interrupted_evaluation_reports_the_finished_episodes(tmp_path, caplog):
    steps = iter(range(25))  # two episodes of ten steps
    watchdog = SimpleNamespace(
        should_interrupt=lambda: next(steps, None) is None,
        start_iteration=lambda number: None,
        agree_to_stop=lambda: "execution_time of 5 s used up",
        limit_closing=lambda exit_code: None,
    )

    def evaluate(folder):
        config, agent = EvalConfig(num_trajs=5, save_traj=True), Still()
        make = lambda mode: user_envs.Bounded()  # noqa: E731
        return evaluate_checkpoint(agent, make, config, 0, folder, {}, Comm(), None, watchdog)

    assert len(evaluate(tmp_path / "some")["episodes"]) == 2
    assert "evaluation stopped after 2 of 5 episodes: execution_time of 5 s used up" in caplog.text
    assert len(list((tmp_path / "some").glob("*.h5"))) == 2
    with pytest.raises(RunError, match="stopped before an episode ended: execution_time of 5 s used up"):
        evaluate(tmp_path / "none")
    assert not (tmp_path / "none/results.json").exists()


def test_redirected_output_has_only_the_results(printed, tmp_path):
    text = printed(io.StringIO(), tmp_path)
    assert text.startswith("episode   0: return ")
    assert len(text.splitlines()) == 1


def test_each_evaluation_has_its_own_folder(tmp_path):
    names = [create_folder(tmp_path / "run", *how).name for how in (["best"], ["best"], ["best", "x"], ["best"])]
    assert names == ["best", "best-2", "x", "best-3"]
    with pytest.raises(UserError, match="run/x already exists; choose another name"):
        create_folder(tmp_path / "run", "best", "x")


def test_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    for name in ("dangling", "file"):
        with pytest.raises(UserError, match=f"cannot write to .*{name}"):
            create_folder(tmp_path / name, "best")


@pytest.mark.parametrize(
    ("declared", "dt", "fps"), [({"render_fps": 12.5}, 0.1, 12), ({"render_fps": None}, None, 30), ({}, 0.02, 50)]
)
def test_video_has_the_frame_rate_of_the_environment(monkeypatch, tmp_path, declared, dt, fps):
    rates = []

    def write_nothing(path, fps):
        rates.append(fps)
        return contextlib.nullcontext(lambda frame: None)

    monkeypatch.setattr("milozero.evaluation.evaluate.write_video", write_nothing)
    env = user_envs.Bounded()
    env.metadata, env.dt, env.render = declared, dt, lambda: np.zeros((64, 64, 3), np.uint8)
    evaluate_checkpoint(Still(), lambda _: env, EvalConfig(num_trajs=1, record=True), 0, tmp_path, {}, Comm())
    assert rates == [fps]


def test_users_render_error_is_shown_as_it_is(tmp_path):
    env = user_envs.Bounded()
    env.render = lambda: {}["picture"]
    with pytest.raises(UserError, match=r"cannot record: render\(\) failed: KeyError: 'picture'") as caught:
        evaluate_checkpoint(Still(), lambda _: env, EvalConfig(num_trajs=1, record=True), 0, tmp_path, {}, Comm())
    assert "libegl" not in str(caught.value)


@pytest.mark.parametrize(
    ("episode_seeds", "seed", "expected"),
    [
        ("training", 3, "the episodes"),
        ("training", 4, "new episodes, not those"),
        ("test", 3, "new episodes, not those"),
    ],
)
def test_only_the_episodes_of_trainings_seed_select_the_best_checkpoint(episode_seeds, seed, expected):
    config = EvalConfig(episode_seeds=episode_seeds)
    message = describe_episodes(config, seed, is_run_seed=seed == 3, stochastic=False)
    assert message == f"deterministic actions on {expected} of the evaluations during training (seed {seed})"
