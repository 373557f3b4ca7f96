"""Ratios, verdicts and times of the throughput benchmarks."""

import pytest


def test_ratios_are_computed_within_a_repeat():
    from throughput import ratios

    speeds = {
        "MiloZero, 1 worker": [40.0, 20.0, 40.0],
        "MiloZero, 2 workers": [80.0, 40.0, 60.0],
        "SB3, 8 envs": [10.0, 5.0, 10.0],
        "SB3, 1 env": [5.0, 4.0, 20.0],
        "mj_step alone": [80.0, 40.0, 80.0],
        "CleanRL's style, 8 envs": [8.0, 4.0, 8.0],
        "MiloZero's rollouts": [60.0, 30.0, 60.0],
        "EnvPool alone, 16 envs": [60.0, 30.0, 60.0],
    }
    result = ratios(speeds)
    assert result["1 worker / SB3's better"] == 4.0
    assert result["2 workers / 1 worker"] == 2.0


def test_verdict_compares_with_a_lower_or_an_upper_bound():
    from throughput import verdict

    assert "reached" in verdict("2 workers / 1 worker", "Hopper-v5", 1.9)
    assert "MISSED" in verdict("2 workers / 1 worker", "Hopper-v5", 1.7)
    assert "reached" in verdict("main.py -h, s", "Hopper-v5", 0.3)
    assert "MISSED" in verdict("main.py -h, s", "Hopper-v5", 1.3)
    assert verdict("main.py -h, s", "Ant-v5", 1.3) == "1.30"


def test_stopwatch_excludes_nested_timed_calls():
    import time

    from profile_iteration import Stopwatch

    class Work:
        def inner(self):
            time.sleep(0.05)

        def outer(self):
            time.sleep(0.05)
            self.inner()

    watch, work = Stopwatch(), Work()
    watch.around(work, "inner", "in")
    watch.around(work, "outer", "out")
    work.outer()
    assert watch.seconds["in"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["out"] == pytest.approx(0.05, abs=0.02)


def test_imitation_speedups_are_ratios_within_a_repeat():
    import imitation_speed

    small, large = map(str, imitation_speed.SETTINGS)
    speeds = {small: {"milozero": [40.0, 20.0, 60.0], "imitation": [10.0, 10.0, 10.0]}}
    speeds[large] = {"milozero": [9.0] * 3, "imitation": [3.0] * 3}
    lines = imitation_speed.table(speeds).splitlines()
    assert lines[2].endswith("| 40 | 10 | 4.0 (4.0, 2.0, 6.0) | ≥ 3.5 |")
    assert lines[3].endswith("| 9 | 3 | 3.0 (3.0, 3.0, 3.0) | ≥ 2.3 |")
