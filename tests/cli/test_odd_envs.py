"""Environments as users bring them, from training to the evaluation of their checkpoints."""

import csv
import json

import pytest

from tests.support.odd_envs import Oddity, register_odd

SMALL = ("--num_envs=2", "--rollout_len=32", "--batch_size=16", "--epochs=1", "--no-compile", "--eval_episodes=2")
TRAIN = ("--task=train", "--env_id=Odd-v0", *SMALL, "--eval_frequency=1", "--seed=3", "--eval_max_steps=50")


def read_rows(tmp_path, name):
    """Return the rows of progress.csv, without times and the share of the budget."""
    with (tmp_path / "data/logs" / name / "progress.csv").open() as file:
        skipped = ("seconds", "steps_per_second", "time_left", "progress")
        return [{key: value for key, value in row.items() if key not in skipped} for row in csv.DictReader(file)]


@pytest.mark.parametrize("randomness", ["numpy", "random", "torch"])
def test_environment_with_global_generators_repeats_resumes_and_evaluates_exactly(milozero, tmp_path, randomness):
    train = (*TRAIN, "--lr_schedule=constant")  # so that a larger --num_iters does not change the schedule
    with register_odd(Oddity(randomness=randomness, reward="random")):
        for name, num_iters in (("one", 3), ("two", 2)):
            assert milozero(*train, f"--uuid={name}", f"--num_iters={num_iters}").returncode == 0
        resumed = milozero(*train, "--uuid=two", "--num_iters=3", "--resume")
        evaluated = milozero(
            "--task=eval",
            "--model_path=data/checkpoints/two",
            "--iter_num=last",
            "--num_trajs=2",
            "--episode_seeds=training",
        )
    assert (resumed.returncode, resumed.stderr, evaluated.returncode) == (0, "", 0)
    one, two = read_rows(tmp_path, "one"), read_rows(tmp_path, "two")
    assert one == two
    assert len({row["eval_return"] for row in one}) == 1  # its episodes have the same seeds in each evaluation
    [file] = (tmp_path / "data/evaluations/two").glob("*/results.json")
    assert json.loads(file.read_text())["return_mean"] == pytest.approx(float(two[-1]["eval_return"]), abs=1e-6)


def test_normalizing_wrapper_is_one_warning_before_training(milozero):
    with register_odd(Oddity(wrapper="NormalizeObservation", time_limit=9)):
        result = milozero(*TRAIN, "--num_iters=1", "--eval_frequency=0")
    assert result.returncode == 0
    [warning] = result.stderr.splitlines()
    assert warning.startswith("warning: Odd-v0: NormalizeObservation normalizes with running statistics")


def test_old_api_is_refused_before_anything_is_written(milozero, tmp_path):
    with register_odd(Oddity(api="old reset")):
        result = milozero(*TRAIN, "--num_iters=1")
    assert result.returncode == 2
    [error] = result.stderr.splitlines()
    assert error.startswith("error: Odd-v0: reset() returned ndarray of shape (3,)")
    assert not (tmp_path / "data").exists()


def test_evaluation_of_a_checkpoint_accepts_arrays_of_one_element(milozero, tmp_path):
    with register_odd(Oddity(reward="array", flags="array", info="shapes")):
        assert milozero(*TRAIN, "--num_iters=1", "--uuid=run").returncode == 0
        result = milozero("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=2")
    assert result.returncode == 0, result.stderr
    [file] = (tmp_path / "data/evaluations/run").glob("*/results.json")
    assert [episode["return"] for episode in json.loads(file.read_text())["episodes"]] == [15.0, 15.0]


def test_frames_are_recorded_or_refused_in_one_line(milozero, tmp_path):
    with register_odd(Oddity()):
        assert milozero(*TRAIN, "--num_iters=1", "--eval_frequency=0", "--uuid=run").returncode == 0
    expected = "it must return a uint8 array of shape (height, width, 3)"
    results = {
        "RGBA": (0, ""),
        "None": (2, f"error: cannot record: render() returned None; {expected}\n"),
        "None later": (1, f"error: render() returned None; {expected}\n"),
    }
    for picture, (code, message) in results.items():
        with register_odd(Oddity(picture=picture)):
            result = milozero("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=1", "--record")
        assert (result.returncode, result.stderr) == (code, message)
    names = sorted(path.name for path in (tmp_path / "data/evaluations/run").rglob("*"))
    assert names == ["best", "episode_000.mp4", "results.json"]  # of the first
