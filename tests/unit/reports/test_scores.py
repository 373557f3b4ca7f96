"""Score tables, aggregates and curves of a report."""

import numpy as np
import pytest

from milozero.reports import scores
from milozero.reports.runs import EVALUATION, ITERATIONS, STEPS, TIME, TRAINING, read_runs
from tests.support import runs as logs


def study(tmp_path, name="s"):
    return scores.build_study(read_runs(tmp_path, name))


def test_row_matches_numbers_worked_by_hand(tmp_path):
    for seed, last in enumerate((1.0, 2.0, 3.0, 4.0, 90.0)):
        logs.log_run(tmp_path, f"s.{seed}", seed=seed, evaluations=[100.0, last])
    logs.write_status(tmp_path / "logs/s.0", "stopped")
    (row,) = scores.score_rows(study(tmp_path))
    assert (row.iqm, row.mean, row.median, row.best) == (3, 20, 3, 100)
    assert (row.unfinished, len(row.scores)) == (1, 5)
    assert row.interval[0] < 3 < row.interval[1]


def test_runs_without_evaluations_do_not_count_if_others_have_them(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[5.0])
    logs.log_run(tmp_path, "s.1", seed=1, training=[7.0])
    grouped = study(tmp_path)
    assert grouped.score_column("Hopper-v5") == EVALUATION
    assert scores.score_rows(grouped)[0].scores.tolist() == [5]


def test_environment_without_evaluations_is_scored_by_training_returns(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[5.0])
    logs.log_run(tmp_path, "s.1", "Ant-v5", training=[7.0, 8.0])
    grouped = study(tmp_path)
    assert grouped.score_column("Ant-v5") == TRAINING
    assert [row.iqm for row in scores.score_rows(grouped)] == [8, 5]


def test_aggregate_matches_numbers_worked_by_hand(tmp_path):
    """The normalized scores of slow are 0 and 0.5 on Ant and 0 on Hopper, those of fast 1 on both."""
    for env_id, p_lr, last in (
        ("Ant-v5", 0.1, 0.0),
        ("Ant-v5", 0.1, 50.0),
        ("Ant-v5", 0.2, 100.0),
        ("Hopper-v5", 0.1, -3.0),
        ("Hopper-v5", 0.2, 3.0),
    ):
        logs.log_run(tmp_path, f"s.{env_id}.{p_lr}.{last}", env_id, p_lr=p_lr, evaluations=[last])
    logs.log_run(tmp_path, "s.third", "Ant-v5", p_lr=0.3, evaluations=[50.0])
    grouped = study(tmp_path)
    (fast, slow), incomplete = scores.aggregate_scores(grouped, scores.score_rows(grouped))
    assert (fast.method.label, fast.iqm, fast.runs) == ("ppo p_lr=0.2", 1, 2)
    assert np.isnan(fast.interval).all()
    assert (slow.method.label, slow.iqm, slow.mean) == ("ppo p_lr=0.1", pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert np.isnan(slow.interval).all()  # one and two seeds
    assert [method.label for method in incomplete] == ["ppo p_lr=0.3"]


def test_one_environment_or_one_method_has_no_aggregate(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[5.0])
    logs.log_run(tmp_path, "s.1", evaluations=[6.0], p_lr=1)
    assert scores.aggregate_scores(study(tmp_path), scores.score_rows(study(tmp_path))) == ([], [])
    logs.log_run(tmp_path, "t.0", evaluations=[5.0])
    logs.log_run(tmp_path, "t.1", "Ant-v5", evaluations=[6.0])
    assert scores.aggregate_scores(study(tmp_path, "t"), scores.score_rows(study(tmp_path, "t"))) == ([], [])


def test_mean_curve_ends_with_the_shortest_seed(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[0.0, 10.0, 20.0])
    logs.log_run(tmp_path, "s.1", seed=1, evaluations=[2.0, 12.0])
    (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION)
    assert (curve.steps[0], curve.steps[-1]) == (2000, 4000)
    assert (curve.mean[0], curve.mean[-1]) == (1, 11)
    assert curve.shortest.name == "s.1"
    assert np.isnan(curve.interval).all()
    logs.log_run(tmp_path, "s.2", seed=2, evaluations=[4.0, 14.0])
    (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION)
    assert curve.interval[:, 0].tolist() == [0, 4]


def test_interval_needs_three_seeds_of_each_environment(tmp_path):
    for env_id in ("Ant-v5", "Hopper-v5"):
        for p_lr in (0.1, 0.2):
            for seed in range(3):
                logs.log_run(tmp_path, f"s.{env_id}.{p_lr}.{seed}", env_id, seed, [p_lr + seed], p_lr=p_lr)
    grouped = study(tmp_path)
    aggregates, _ = scores.aggregate_scores(grouped, scores.score_rows(grouped))
    assert np.isfinite([aggregate.interval for aggregate in aggregates]).all()


def test_measured_points_are_at_steps_that_all_seeds_share(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[0.0, 10.0, 20.0])
    logs.log_run(tmp_path, "s.1", seed=1, evaluations=[2.0, 12.0])
    (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION)
    steps, values = curve.measured
    assert (steps.tolist(), values.tolist()) == ([2000, 4000], [1, 11])


def test_only_training_returns_are_smoothed(tmp_path):
    noise = [float(10 * (k % 2)) for k in range(200)]
    logs.log_run(tmp_path, "s.0", evaluations=noise[::2], training=noise)
    (training,) = scores.build_curves(study(tmp_path), "Hopper-v5", TRAINING)
    assert training.smoothed
    assert np.ptp(training.mean[10:-10]) < 2
    assert np.ptp(training.seeds[0][1][1]) == 10
    (evaluation,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION)
    assert not evaluation.smoothed


def test_single_measurement_is_a_point(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[5.0])
    (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION)
    assert (curve.steps.tolist(), curve.mean.tolist(), curve.shortest) == ([2000], [5], None)


def test_swept_settings_are_those_that_differ_between_trials(tmp_path):
    for trial, (clip, gamma) in enumerate([(0.1, 0.9), (0.2, 0.9)]):
        logs.log_run(tmp_path, f"s.trial{trial:03}", evaluations=[1.0], clip_range=clip, gamma=gamma)
    assert scores.find_swept_settings(scores.find_trials(study(tmp_path))) == ["clip_range"]
    logs.log_run(tmp_path, "s.plain", evaluations=[1.0], gamma=0.5)
    trials = scores.find_trials(study(tmp_path))
    assert (len(trials), scores.find_swept_settings(trials)) == (2, ["clip_range"])
    logs.log_run(tmp_path, "one.trial000", evaluations=[1.0])
    assert scores.find_trials(study(tmp_path, "one")) == []


def test_runs_without_metrics_have_no_rows(tmp_path):
    logs.log_run(tmp_path, "s.0")
    grouped = study(tmp_path)
    assert (scores.score_rows(grouped), scores.build_curves(grouped, "Hopper-v5", TRAINING)) == ([], [])


def test_curves_over_time_and_iterations_use_the_columns_of_the_log(tmp_path):
    logs.log_run(tmp_path, "s.0", evaluations=[0.0, 10.0, 20.0])
    for axis, ends in ((STEPS, (2000, 6000)), (TIME, (4, 12)), (ITERATIONS, (2, 6))):
        (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION, axis)
        assert (curve.axis, curve.steps[0], curve.steps[-1], curve.mean[-1]) == (axis, *ends, 20)


def test_seeds_of_different_speed_are_averaged_at_the_same_iteration(tmp_path):
    """The second seed begins when the first has ended."""
    logs.log_run(tmp_path, "s.0", evaluations=[0.0, 10.0])
    folder = logs.log_run(tmp_path, "s.1", seed=1, evaluations=[2.0, 14.0])
    rows = (folder / "progress.csv").read_text().splitlines()
    rows[1:] = [f"{row.rpartition(',')[0]},{100 + 10 * i}" for i, row in enumerate(rows[1:], start=1)]
    (folder / "progress.csv").write_text("\n".join([*rows, ""]))
    (curve,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION, TIME)
    assert [values.tolist() for values in curve.measured] == [[(4 + 120) / 2, (8 + 140) / 2], [1, 12]]
    assert (curve.steps[0], curve.steps[-1], curve.mean[-1]) == (62, 74, 12)
    assert [steps.tolist() for _, (steps, _) in curve.seeds] == [[4, 8], [120, 140]]


def test_cloning_has_no_environment_steps(tmp_path):
    """Beside other methods, it is level over steps, at its final score; otherwise it is over iterations."""
    for seed, last in enumerate((4.0, 6.0, 8.0)):
        logs.log_run(tmp_path, f"s.bc.{seed}", seed=seed, algo="bc", expert_path="x", evaluations=[0.0, last])
    (alone,) = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION, STEPS)
    assert (alone.axis, alone.is_level, alone.steps[-1]) == (ITERATIONS, False, 4)
    logs.log_run(tmp_path, "s.ppo", evaluations=[1.0, 2.0])
    level, other = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION, STEPS)
    assert (level.method.label, level.is_level, level.mean.tolist()) == ("bc", True, [6])
    assert level.interval.tolist() == [[4], [8]]
    assert (other.is_level, other.steps[-1]) == (False, 4000)
    over_time = scores.build_curves(study(tmp_path), "Hopper-v5", EVALUATION, TIME)
    assert [curve.is_level for curve in over_time] == [False, False]
